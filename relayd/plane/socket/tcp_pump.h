/*
 * The two connections of a TCP relay, to its client and to its target, and a stream in each
 * direction. Either connection may be there first; nothing is read before tcp_pump_start().
 *
 * The pump is part of a flow, which closes it; it tells the flow when it is over.
 */
#ifndef SOCKST_RELAYD_TCP_PUMP_H
#define SOCKST_RELAYD_TCP_PUMP_H

#include "relayd/plane/socket/tcp_stream.h"
#include "relayd/plane/socket/watched_socket.h"

struct tcp_pump;

struct tcp_pump_ops {
    /* It is over; both connections are still open. The last thing that happens in a call: the pump
     * may be closed inside. */
    void (*ended)(struct tcp_pump *pump, enum n2_reason reason);
    /* One direction has ended. */
    void (*half_closed)(struct tcp_pump *pump);
    /* For the handles of the connections; their data is the owner. */
    uv_close_cb closed;
};

struct tcp_pump {
    struct socket_plane *plane;
    struct relay *relay;
    const struct tcp_pump_ops *ops;
    void *owner;
    struct watched_socket client, target;
    struct tcp_stream up, down;
    struct throttled throttled;        /* waits for one of their buckets */
    uint64_t last_ms;                  /* when something was moved last */
    uint64_t up_packets, down_packets; /* as of the last look */
    uint64_t acknowledged;             /* by both, as of the last look */
    uint64_t client_before;            /* packets that the client's connection had before it came */
    bool started;
    bool client_hung_up, target_hung_up; /* no more to be watched for */
    bool fin_told;
};

void tcp_pump_init(struct tcp_pump *pump, struct socket_plane *plane, struct relay *relay,
                   const struct tcp_pump_ops *ops, void *owner);

/* A connection is there; consumes `fd`, also on failure. There is one more handle then. Returns 0
 * or -errno. */
int tcp_pump_take_client(struct tcp_pump *pump, int fd);
int tcp_pump_take_target(struct tcp_pump *pump, int fd);

/* Before the start: sees the target end, while what it sends stays with the kernel. */
void tcp_pump_watch_target(struct tcp_pump *pump);

/* Both connections are there. `early` octets of the client come before what is read from it. May
 * end the pump. */
void tcp_pump_start(struct tcp_pump *pump, const uint8_t *early, size_t length);

bool tcp_pump_is_half_closed(const struct tcp_pump *pump);
/* Nothing was moved for long: has a peer taken some of what the kernel still has for it since the
 * last look? Then that was the last move. */
bool tcp_pump_still_delivers(struct tcp_pump *pump);
/* Looks at what the kernel has counted. */
void tcp_pump_sample(struct tcp_pump *pump);
/* As of the last look; drops are not the pump's. */
void tcp_pump_counters(const struct tcp_pump *pump, struct n2_counters *out);

/* The connections go at once, kernel and all; only memory waits for libuv. Idempotent. */
void tcp_pump_close(struct tcp_pump *pump, bool abort);

#endif
