/*
 * Transports: what a relayd of one PTCL has to know about its protocol. A further protocol is a
 * further row (and, if its sockets are of a new kind, a further set of flow operations in the
 * socket plane).
 */
#ifndef SOCKST_RELAYD_TRANSPORT_H
#define SOCKST_RELAYD_TRANSPORT_H

#include <stdbool.h>

#include "proto/n2.h"
#include "proto/ptcl.h"

struct flow_ops; /* relayd/plane/socket/flow.h */

struct transport {
    uint8_t ptcl;
    int socket_type;        /* SOCK_STREAM, SOCK_DGRAM; 0: no socket plane */
    int socket_protocol;    /* IPPROTO_… */
    bool stateful;          /* has a connection that begins and ends by itself */
    unsigned fds_per_relay; /* on the socket plane, for the fd budget */
    /* The socket plane's operations by kind of relay; NULL: not served. */
    const struct flow_ops *flows[N2_KIND_END];
};

/* The row, or NULL when relayd cannot serve the protocol. */
const struct transport *transport_by_ptcl(uint8_t ptcl);

#endif
