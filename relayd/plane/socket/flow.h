/*
 * One flow of the socket plane: the operations that differ between stream and datagram protocols. A
 * transport's row names them.
 */
#ifndef SOCKST_RELAYD_FLOW_H
#define SOCKST_RELAYD_FLOW_H

#include "relayd/plane/plane.h"

struct socket_plane;

/* As the operations of a plane (relayd/plane/plane.h). relay->flow is NULL where memory did not
 * suffice for a flow: close, counters and drops cope with that. */
struct flow_ops {
    void (*open)(struct socket_plane *plane, struct relay *relay); /* sets relay->flow */
    void (*close)(struct socket_plane *plane, struct relay *relay, bool abort);
    void (*counters)(const struct relay *relay, struct n2_counters *out, uint64_t *idle_ms);
    uint64_t (*drops)(const struct relay *relay);
    void (*attach)(struct socket_plane *plane, struct relay *relay, int fd, const uint8_t *early,
                   size_t length); /* NULL where no client is handed over */
};

extern const struct flow_ops tcp_transparent_flow_ops;
extern const struct flow_ops tcp_connect_flow_ops;
extern const struct flow_ops tcp_bind_flow_ops;
extern const struct flow_ops udp_flow_ops;
extern const struct flow_ops udp_associate_ops;

#endif
