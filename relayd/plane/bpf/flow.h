/*
 * One relay on the BPF plane, as relayd remembers it beside the slot of the same index: what the
 * program does not need to know. Flows lie in an array that is as long as `slots`, so that one
 * costs no allocation.
 *
 *   FREE ─open─▶ WAITING ─client's first packet─▶ CONNECTING ─SYN of the target─▶ ESTABLISHED
 *                   │                                                        │         │
 *                   └────────────────────── UDP ─────────────────────────────┘   a FIN ▼
 *                                                                                 HALF_CLOSED
 *                                                                             the other ▼
 *                                                                                    LINGER
 *
 *   WAITING      until the client's first packet; TCP: at most tcp.accept-timeout
 *   CONNECTING   TCP: the client's SYN was carried; at most tcp.connect-timeout
 *   ESTABLISHED  limits.idle (UDP: udp.idle-timeout as well) ends it
 *   HALF_CLOSED  and tcp.fin-timeout without traffic
 *   LINGER       so that the last FIN can be sent again and be acknowledged
 *
 * From each of these close() leads on, by itself (a reset, a time that has passed, a limit) or from
 * outside:
 *
 *   ─close()─▶ CLOSING ─20 ms─▶ the relay hears its final counters ─▶ RESTING ─1 s─▶ FREE
 *                                          └─▶ TOMBSTONE ─60 s, or evicted─▶ RESTING
 *
 * A TCP flow that carried anything leaves a tombstone: its rows stay, what still comes is answered
 * with RST, and its addresses are not used again meanwhile.
 */
#ifndef SOCKST_RELAYD_BPF_FLOW_H
#define SOCKST_RELAYD_BPF_FLOW_H

#include <stdbool.h>

#include "relayd/bpf/abi.h"
#include "relayd/plane/bpf/flow_list.h"
#include "relayd/relay/relay.h"

struct bpf_plane;
struct way;

enum flow_state {
    FLOW_ST_FREE, /* zero */
    FLOW_ST_WAITING,
    FLOW_ST_CONNECTING,
    FLOW_ST_ESTABLISHED,
    FLOW_ST_HALF_CLOSED,
    FLOW_ST_LINGER,
    FLOW_ST_CLOSING,
    FLOW_ST_TOMBSTONE,
    FLOW_ST_RESTING,
};

/* LINGER: after so long without a packet when both FINs are acknowledged, and after so long in any
 * case; the client keeps its control connection for 5 s (N1-END-010). */
#define FLOW_LINGER_QUIET_MS 1000
#define FLOW_LINGER_MAX_MS 4000
/* A way that cannot be used for so long ends its relays. */
#define FLOW_WAY_LOST_MS 10000
/* From the last change of a row to the final counters: no program runs so long. */
#define FLOW_SETTLE_MS 20

struct flow {
    struct relay *relay; /* until relay_plane_closed() */
    struct way *way[BPF_ENDS];
    uint64_t drops;          /* of strangers, while it was the only user of its BND, up to the time
                                that held_ports.c keeps */
    uint32_t held[BPF_ENDS]; /* its ports, until its rows are deleted */
    struct flow_link link;   /* in a list of deadlines, of closing ones, of slots.h */
    uint32_t due;            /* deadlines.h */
    uint32_t since_ms;       /* in this state */
    uint32_t way_lost_ms;    /* when a way was found not to be usable; way_is_lost */
    uint8_t state;           /* enum flow_state */
    bool has_deadline : 1;
    bool way_is_lost : 1;
    bool fin_told : 1, unreachable_told : 1;
    bool limit_reached : 1; /* by datagrams that relayd sends on itself */
};

_Static_assert(sizeof(struct flow) <= 64, "a flow is 64 octets of a relay's 1024");

/* The state is one in which packets are carried. */
bool flow_is_open(const struct flow *flow);

/* Judges what the program has noted, and arms the deadline. The flow may be closing when this
 * returns. Nothing happens to one that is not open. */
void flow_look(struct bpf_plane *plane, uint32_t index);
/* Its deadline has passed: ends it, or sets the next. */
void flow_deadline(struct bpf_plane *plane, uint32_t index);
/* Its ways may have changed: writes what the slot needs. */
void flow_follow_ways(struct bpf_plane *plane, uint32_t index);

/* The first state of a flow whose rows are written. */
void flow_start(struct bpf_plane *plane, uint32_t index);
/* As plane->ops->close. */
void flow_close(struct bpf_plane *plane, struct relay *relay);
/* The next of `closing` that has settled, if any: tells its relay the final counters. Returns false
 * when there is none (any more). */
bool flow_settle_one(struct bpf_plane *plane);
/* Deletes the rows of a tombstone; its slot rests. */
void flow_evict(struct bpf_plane *plane, uint32_t index);

/* Counters as they are now, and milliseconds since the last packet, or since the opening. */
void flow_counters(const struct bpf_plane *plane, const struct flow *flow, struct n2_counters *out,
                   uint64_t *idle_ms);
uint64_t flow_drops(const struct bpf_plane *plane, const struct flow *flow);

#endif
