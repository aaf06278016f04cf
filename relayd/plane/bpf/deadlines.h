/*
 * Deadlines of flows: a wheel of lists, so that setting one, taking one away and finding those that
 * have passed cost the same for ten flows and for a million. One that is further off than a turn of
 * the wheel is looked at once in each turn.
 *
 * Time is in milliseconds since the plane was made (struct bpf_plane) and wraps; no deadline is
 * further off than half of that range.
 */
#ifndef SOCKST_RELAYD_BPF_DEADLINES_H
#define SOCKST_RELAYD_BPF_DEADLINES_H

#include <stdbool.h>
#include <stdint.h>

#include "relayd/plane/bpf/flow_list.h"

#define DEADLINES_TICK_MS 64
#define DEADLINES_BUCKETS 4096 /* a turn takes 262 s */
/* Deadlines are kept within this distance: who sets one looks again when it has passed. */
#define DEADLINES_DISTANCE_MAX_MS (24u * 3600 * 1000)

struct deadlines {
    struct flow *flows; /* borrowed */
    uint32_t tick;      /* all before it have been dealt with */
    uint32_t left;      /* of the bucket of `tick`, still to be looked at */
    uint32_t count;     /* deadlines that are set */
    bool started;       /* `left` is valid */
    struct flow_list buckets[DEADLINES_BUCKETS];
    uint64_t used[DEADLINES_BUCKETS / 64]; /* buckets that are not empty */
};

/* Borrows `flows`. Nothing is set. */
void deadlines_init(struct deadlines *deadlines, struct flow *flows);
/* It passes after `delay_ms`, late by a tick at most. Replaces one that is set. */
void deadlines_set(struct deadlines *deadlines, uint32_t flow, uint32_t now_ms, uint64_t delay_ms);
/* Idempotent. */
void deadlines_clear(struct deadlines *deadlines, uint32_t flow);
/*
 * One whose deadline has passed; it is cleared. FLOW_NONE: there is none now, or *budget, from
 * which every look at a flow takes one, is used up: then there may be more.
 */
uint32_t deadlines_take(struct deadlines *deadlines, uint32_t now_ms, uint32_t *budget);
/* How long there is nothing to take; UINT32_MAX: no deadline is set. */
uint32_t deadlines_wait_ms(const struct deadlines *deadlines, uint32_t now_ms);

#endif
