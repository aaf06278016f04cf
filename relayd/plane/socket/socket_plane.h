/*
 * The socket plane: always there, without privilege, on any kernel. BND and egress are sockets;
 * strangers are dropped by socket filters in the kernel; TCP moves by splice(2), UDP in batches
 * with GRO and GSO.
 */
#ifndef SOCKST_RELAYD_SOCKET_PLANE_H
#define SOCKST_RELAYD_SOCKET_PLANE_H

#include "relayd/plane/endpoints.h"
#include "relayd/plane/plane.h"
#include "relayd/plane/socket/pipe_pool.h"
#include "relayd/plane/socket/throttle.h"

/* Of all UDP ASSOCIATE flows: datagrams of clients (or to them) that went no further. */
struct associate_figures {
    uint64_t malformed;      /* no header, RSV, unknown ATYP, a name that is none, port 0 */
    uint64_t denied;         /* a verdict said no */
    uint64_t unanswered;     /* no verdict came, or there was no room to wait for it */
    uint64_t fragment_drops; /* out of order, too late, too large, not wanted */
    uint64_t unsolicited;    /* from an address that the client has not sent to */
    uint64_t held_octets;    /* now: waiting for a verdict or for further fragments */
    uint64_t destinations;   /* now: remembered, of all relays */
};
/* Bounds held_octets. */
#define ASSOCIATE_HELD_MAX (64 * 1024 * 1024)

/* What the flows of one plane share. Private to the plane's own files. */
struct socket_plane {
    struct plane base;
    uv_loop_t *loop;
    const struct relayd_config *config;
    struct endpoints *endpoints;
    struct pipe_pool *pipes;
    struct throttle throttle; /* streams that are at their rate */
    uint32_t flows;           /* open ones, … */
    uint32_t flows_max;       /* … and as many as there are descriptors for */
    uint64_t flows_refused;   /* for want of them */
    bool gso_disabled; /* sticky: the kernel has refused UDP_SEGMENT with EIO, or is known to mangle
                          it */
    uint64_t tcp_copies;      /* times that octets were copied for want of a pipe */
    uint64_t clients_refused; /* descriptors that were no connection of the relay's client */
    uint64_t udp_rate_drops;  /* datagrams above limits.bytes_per_second */
    uint64_t udp_send_drops;  /* datagrams that a full send buffer or the kernel refused */
    struct associate_figures associate;
};

/* Everything is borrowed and has to outlive the plane, which carries up to `relays_max` relays.
 * Returns 0 or -errno. SIGPIPE is ignored from then on: splice(2) knows no MSG_NOSIGNAL. */
int socket_plane_new(struct plane **out, uv_loop_t *loop, const struct relayd_config *config,
                     struct endpoints *endpoints, uint32_t relays_max);

/* Tells the log (event "relay-socket-error", rate-limited) why a relay will end with
 * N2_REASON_ERROR. `error`: errno, either sign. */
void socket_plane_log_error(const struct relay *relay, const char *what, int error);

/* UDP_SEGMENT is not used any more, and the log says so. */
void socket_plane_disable_gso(struct socket_plane *plane, int error);

/* The errno of an opening as N2 tells it. */
enum n2_error socket_plane_error(int error);

#endif
