#include "relayd/plane/bpf/deadlines.h"

#include <string.h>

#include "relayd/plane/bpf/flow.h"

/* 2^32 milliseconds are a whole number of ticks, and those of turns: both wrap together. */
#define TICKS (UINT32_MAX / DEADLINES_TICK_MS + 1)
#define TICK_MASK (TICKS - 1)
#define BUCKET(tick) ((tick) % DEADLINES_BUCKETS)

_Static_assert(TICKS % DEADLINES_BUCKETS == 0, "the wheel turns evenly");

void deadlines_init(struct deadlines *deadlines, struct flow *flows)
{
    memset(deadlines, 0, sizeof(*deadlines));
    deadlines->flows = flows;
    for (uint32_t i = 0; i < DEADLINES_BUCKETS; i++)
        flow_list_init(&deadlines->buckets[i]);
}

/* How many ticks `to` is after `from`. */
static uint32_t distance(uint32_t from, uint32_t to)
{
    return (to - from) & TICK_MASK;
}

static void insert(struct deadlines *deadlines, uint32_t flow)
{
    const uint32_t bucket = BUCKET(deadlines->flows[flow].due);

    flow_list_append(&deadlines->buckets[bucket], deadlines->flows, flow);
    deadlines->used[bucket / 64] |= UINT64_C(1) << bucket % 64;
}

static void take_out(struct deadlines *deadlines, uint32_t flow)
{
    const uint32_t bucket = BUCKET(deadlines->flows[flow].due);
    struct flow_list *list = &deadlines->buckets[bucket];

    flow_list_remove(list, deadlines->flows, flow);
    if (list->count == 0)
        deadlines->used[bucket / 64] &= ~(UINT64_C(1) << bucket % 64);
}

void deadlines_set(struct deadlines *deadlines, uint32_t flow, uint32_t now_ms, uint64_t delay_ms)
{
    const uint32_t delay =
        delay_ms < DEADLINES_DISTANCE_MAX_MS ? (uint32_t)delay_ms : DEADLINES_DISTANCE_MAX_MS;

    deadlines_clear(deadlines, flow);
    if (deadlines->count == 0) { /* nothing is left of the time before */
        deadlines->tick = now_ms / DEADLINES_TICK_MS;
        deadlines->started = false;
    }
    /* The tick in which the time lies has passed when the next one begins. */
    deadlines->flows[flow].due = ((now_ms + delay) / DEADLINES_TICK_MS + 1) & TICK_MASK;
    deadlines->flows[flow].has_deadline = true;
    deadlines->count++;
    insert(deadlines, flow);
}

void deadlines_clear(struct deadlines *deadlines, uint32_t flow)
{
    if (!deadlines->flows[flow].has_deadline)
        return;
    deadlines->flows[flow].has_deadline = false;
    deadlines->count--;
    take_out(deadlines, flow);
}

/* Ticks from `from` on to the first bucket that is not empty; DEADLINES_BUCKETS: all are. */
static uint32_t empty_ticks(const struct deadlines *deadlines, uint32_t from)
{
    uint32_t passed = 0;

    while (passed < DEADLINES_BUCKETS) {
        const uint32_t bucket = BUCKET(from + passed);
        const uint64_t word = deadlines->used[bucket / 64] >> bucket % 64;
        if (word != 0)
            return passed + (uint32_t)__builtin_ctzll(word);
        passed += 64 - bucket % 64;
    }
    return DEADLINES_BUCKETS;
}

static void next_tick(struct deadlines *deadlines)
{
    deadlines->tick = (deadlines->tick + 1) & TICK_MASK;
    deadlines->started = false;
}

/* Looks at the bucket of `tick`: one that has passed, or FLOW_NONE when its turn is over or the
 * budget is used up. */
static uint32_t look(struct deadlines *deadlines, uint32_t *budget)
{
    struct flow_list *list = &deadlines->buckets[BUCKET(deadlines->tick)];

    if (!deadlines->started) {
        deadlines->started = true;
        deadlines->left = list->count;
    }
    while (deadlines->left != 0 && list->count != 0 && *budget != 0) {
        const uint32_t flow = list->first;
        deadlines->left--;
        --*budget;
        if (deadlines->flows[flow].due == deadlines->tick) {
            deadlines_clear(deadlines, flow);
            return flow;
        }
        take_out(deadlines, flow); /* of another turn */
        insert(deadlines, flow);
    }
    if (list->count == 0)
        deadlines->left = 0;
    return FLOW_NONE;
}

uint32_t deadlines_take(struct deadlines *deadlines, uint32_t now_ms, uint32_t *budget)
{
    const uint32_t now = now_ms / DEADLINES_TICK_MS;

    while (deadlines->count != 0 && distance(deadlines->tick, now) <= TICKS / 2) {
        const uint32_t flow = look(deadlines, budget);
        if (flow != FLOW_NONE)
            return flow;
        if (deadlines->left != 0)
            return FLOW_NONE; /* the budget */
        if (deadlines->tick == now)
            return FLOW_NONE;
        next_tick(deadlines);
        const uint32_t empty = empty_ticks(deadlines, deadlines->tick);
        const uint32_t behind = distance(deadlines->tick, now);
        deadlines->tick = (deadlines->tick + (empty < behind ? empty : behind)) & TICK_MASK;
    }
    return FLOW_NONE;
}

uint32_t deadlines_wait_ms(const struct deadlines *deadlines, uint32_t now_ms)
{
    if (deadlines->count == 0)
        return UINT32_MAX;
    if (deadlines->started && deadlines->left != 0)
        return 0;
    /* The bucket of `tick` itself has had its look. */
    const uint32_t from = (deadlines->tick + (deadlines->started ? 1 : 0)) & TICK_MASK;
    const uint32_t at = (from + empty_ticks(deadlines, from)) & TICK_MASK;
    const uint32_t wait_ms = at * DEADLINES_TICK_MS - now_ms;
    return wait_ms <= UINT32_MAX / 2 ? wait_ms : 0;
}
