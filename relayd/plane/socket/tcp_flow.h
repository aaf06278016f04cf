/*
 * What the kinds of TCP relays have in common: how a flow waits, streams, and ends. What differs is
 * how its two connections come about:
 *
 *   kind          target             client
 *   TRANSPARENT   dialled            comes to BND
 *   CONNECT       dialled            handed over
 *   BIND          comes to BND       handed over
 *
 *   DIALLING ──reached──▶ WAITING ──the client is there──▶ STREAMING
 *       │                   ▲  │                                │
 *       │  LISTENING ─came──┘  │                                │
 *       │      │               │                                │
 *       └──────┴── failed ─────┴───────────── ended ────────────┴──▶ ENDED ──close()──▶ CLOSING
 *
 * close() leads from every state to CLOSING, and after the last close callback of a handle the flow
 * is freed. Whatever ends the flow closes both connections in the same call; the trap beside the
 * listener, which drops everything, stays until close(), so that strangers do not hear anything
 * while the relay lives.
 */
#ifndef SOCKST_RELAYD_TCP_FLOW_H
#define SOCKST_RELAYD_TCP_FLOW_H

#include "relayd/plane/socket/flow.h"
#include "relayd/plane/socket/tcp_dial.h"
#include "relayd/plane/socket/tcp_listener.h"
#include "relayd/plane/socket/tcp_pump.h"

enum tcp_state {
    TCP_ST_DIALLING,
    TCP_ST_LISTENING,
    TCP_ST_WAITING,
    TCP_ST_STREAMING,
    TCP_ST_ENDED,
    TCP_ST_CLOSING
};

struct tcp_flow {
    struct socket_plane *plane;
    struct relay *relay;
    struct tcp_pump pump;
    struct tcp_listener listener; /* of BND; closed where the kind has none */
    struct tcp_dial *dial;        /* while DIALLING */
    uv_timer_t timer;
    uint64_t state_since_ms;
    enum tcp_state state;
    unsigned handles; /* whose close callback is still to come */
};

/* A flow for the relay, in `state`; NULL when out of memory, which the relay has been told. */
struct tcp_flow *tcp_flow_new(struct socket_plane *plane, struct relay *relay,
                              enum tcp_state state);

/* Opens BND for `expected` (tcp_listener.h). Returns true, or false when the flow has failed. */
bool tcp_flow_listen(struct tcp_flow *flow, const struct endpoint *expected, tcp_listener_cb *came);
/* Dials; when one is reached the flow is WAITING and open. The last thing that its callers do. */
void tcp_flow_dial(struct tcp_flow *flow, const struct endpoint *candidates, size_t count);

/* Moves on, and starts the state's time-out. */
void tcp_flow_set_state(struct tcp_flow *flow, enum tcp_state state);
/* Takes a connection over, also on failure. Returns 0 or -errno. */
int tcp_flow_take_client(struct tcp_flow *flow, int fd);
int tcp_flow_take_target(struct tcp_flow *flow, int fd);
/* For the callback of the listener: it pauses. */
void tcp_flow_listener_paused(struct tcp_flow *flow);
/* Both connections are there. The last thing that its callers do. */
void tcp_flow_stream(struct tcp_flow *flow, const uint8_t *early, size_t length);

/* The order cannot be carried out; `what` was tried. The last thing that its callers do. */
void tcp_flow_fail(struct tcp_flow *flow, int error, const char *what);
/* The flow is over. The last thing that its callers do. */
void tcp_flow_end(struct tcp_flow *flow, enum n2_reason reason);
/* The same, N2_REASON_ERROR, with the cause for the log. */
void tcp_flow_end_by_error(struct tcp_flow *flow, const char *what, int error);

/* ---- for struct flow_ops ---- */

void tcp_flow_close(struct socket_plane *plane, struct relay *relay, bool abort);
void tcp_flow_counters(const struct relay *relay, struct n2_counters *out, uint64_t *idle_ms);
uint64_t tcp_flow_drops(const struct relay *relay);
/* CONNECT and BIND, while WAITING: checks what is handed over and streams. */
void tcp_flow_attach(struct socket_plane *plane, struct relay *relay, int fd, const uint8_t *early,
                     size_t length);

#endif
