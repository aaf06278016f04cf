/*
 * What the flows of datagrams share: BND, learning S's port, idle time, limits, counters, and the
 * end. It is the first member of such a flow.
 *
 * BND has two sockets. The sink holds its port against everybody else and swallows what strangers
 * send; the data socket, connected to S, shares the port.
 *
 *   WAITING ──first datagram of S──▶ ACTIVE
 *      │                               │
 *      └──────── ended ────────────────┴──▶ ENDED ──close()──▶ CLOSING ──last handle──▶ (freed)
 *
 * close() leads from every state to CLOSING. Where S's port is to be learnt, the sink takes
 * datagrams of S's address at first, and the data socket is connected when the first one has told
 * the port.
 */
#ifndef SOCKST_RELAYD_DATAGRAM_FLOW_H
#define SOCKST_RELAYD_DATAGRAM_FLOW_H

#include "relayd/plane/socket/flow.h"
#include "relayd/plane/socket/stranger_filter.h"
#include "relayd/plane/socket/udp_runs.h"
#include "relayd/plane/socket/watched_socket.h"

struct datagram_flow;

struct datagram_flow_ops {
    /* S's datagrams are in the batch (udp_batch_message()), for this callback. Returns false when
     * that ended the flow. */
    bool (*from_client)(struct datagram_flow *flow);
    /* Lets go of everything that is the flow's own but its memory; what has a handle is closed with
     * datagram_flow_closed. Called at the end and again at close. */
    void (*release)(struct datagram_flow *flow);
};

enum datagram_state {
    DATAGRAM_ST_WAITING,
    DATAGRAM_ST_ACTIVE,
    DATAGRAM_ST_ENDED,
    DATAGRAM_ST_CLOSING
};

struct datagram_flow {
    const struct datagram_flow_ops *ops;
    struct socket_plane *plane;
    struct relay *relay;
    struct watched_socket sink, data;
    struct udp_direction up, down;
    uv_timer_t timer;
    uint64_t last_ms;
    uint64_t unreachable_told_ms; /* 0: never */
    struct drop_counter drops;
    struct endpoint bound; /* port 0: none drawn */
    enum datagram_state state;
    unsigned handles; /* whose close callback is still to come */
};

/* A zeroed flow of `size` octets, which becomes relay->flow; NULL when out of memory. It frees
 * itself after close(). */
struct datagram_flow *datagram_flow_new(struct socket_plane *plane, struct relay *relay,
                                        const struct datagram_flow_ops *ops, size_t size);
/* Makes BND's sockets. Returns 0 or -errno: the caller fails. */
int datagram_flow_open_bound(struct datagram_flow *flow);
/* Takes `fd` over (negative: is returned as it is), ready for batches. Returns 0 or -errno. */
int datagram_flow_open_socket(struct datagram_flow *flow, struct watched_socket *socket, int fd);
/* Everything is there: tells the relay. */
void datagram_flow_opened(struct datagram_flow *flow);
/* Instead: lets go and tells the relay why. */
void datagram_flow_fail(struct datagram_flow *flow, int error, const char *what);
/* It is over. The last thing that callers do: the flow may be closing when this returns. */
void datagram_flow_end(struct datagram_flow *flow, enum n2_reason reason);

/* There was traffic: the idle time begins anew. */
void datagram_flow_touch(struct datagram_flow *flow);
/* Octets that may still pass, for udp_runs_begin(). */
uint64_t datagram_flow_allowance(const struct datagram_flow *flow);
/* After udp_runs_flush(). Returns false when that ended the flow. */
bool datagram_flow_sent(struct datagram_flow *flow, const struct udp_runs_result *result);
/* Tells the peer, at most once a second. */
void datagram_flow_unreachable(struct datagram_flow *flow);

/* The close callback of each handle that belongs to the flow (handle->data). */
void datagram_flow_closed(uv_handle_t *handle);

/* As in struct flow_ops. */
void datagram_flow_close(struct socket_plane *plane, struct relay *relay, bool abort);
void datagram_flow_counters(const struct relay *relay, struct n2_counters *out, uint64_t *idle_ms);
uint64_t datagram_flow_drops(const struct relay *relay);

#endif
