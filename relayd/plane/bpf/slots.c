#include "relayd/plane/bpf/slots.h"

#include <string.h>

#include "relayd/plane/bpf/flow.h"

void slots_init(struct slots *slots, struct bpf_slot *rows, struct flow *flows, uint32_t count,
                uint32_t relays)
{
    *slots = (struct slots){.rows = rows, .flows = flows, .count = count};
    slots->spare = relays < count ? (count - relays) / 2 : 0;
    flow_list_init(&slots->resting);
    flow_list_init(&slots->tombstones);
}

static bool has_passed(const struct slots *slots, uint32_t index, uint32_t now_ms, uint32_t time_ms)
{
    return now_ms - slots->flows[index].since_ms >= time_ms;
}

static bool has_rested(const struct slots *slots, uint32_t now_ms)
{
    return slots->resting.first != FLOW_NONE &&
           has_passed(slots, slots->resting.first, now_ms, SLOTS_REST_MS);
}

bool slots_have_one(const struct slots *slots, uint32_t now_ms)
{
    return slots->fresh < slots->count || has_rested(slots, now_ms);
}

/* Those that rested come first: their memory is there already. */
static uint32_t pick(struct slots *slots, uint32_t now_ms)
{
    const uint32_t rested = slots->resting.first;

    if (has_rested(slots, now_ms)) {
        flow_list_remove(&slots->resting, slots->flows, rested);
        return rested;
    }
    return slots->fresh < slots->count ? slots->fresh++ : FLOW_NONE;
}

uint32_t slots_take(struct slots *slots, uint32_t now_ms)
{
    const uint32_t index = pick(slots, now_ms);

    if (index == FLOW_NONE)
        return FLOW_NONE;
    struct bpf_slot *row = &slots->rows[index];
    const uint32_t generation = row->generation + 1;
    memset(row, 0, sizeof(*row));
    row->generation = generation;
    memset(&slots->flows[index], 0, sizeof(slots->flows[index]));
    slots->in_use++;
    return index;
}

void slots_rest(struct slots *slots, uint32_t index, uint32_t now_ms)
{
    slots->flows[index].state = FLOW_ST_RESTING;
    slots->flows[index].since_ms = now_ms;
    flow_list_append(&slots->resting, slots->flows, index);
    slots->in_use--;
}

void slots_bury(struct slots *slots, uint32_t index, uint32_t now_ms)
{
    slots->flows[index].state = FLOW_ST_TOMBSTONE;
    slots->flows[index].since_ms = now_ms;
    flow_list_append(&slots->tombstones, slots->flows, index);
}

/* What tombstones have not got. */
static uint32_t left(const struct slots *slots)
{
    return slots->count - slots->fresh + slots->resting.count;
}

uint32_t slots_oldest(const struct slots *slots)
{
    return slots->tombstones.first;
}

uint32_t slots_expired(const struct slots *slots, uint32_t now_ms)
{
    const uint32_t oldest = slots->tombstones.first;

    if (oldest == FLOW_NONE)
        return FLOW_NONE;
    return left(slots) < slots->spare || has_passed(slots, oldest, now_ms, SLOTS_TOMBSTONE_MS)
               ? oldest
               : FLOW_NONE;
}

void slots_exhume(struct slots *slots, uint32_t index)
{
    flow_list_remove(&slots->tombstones, slots->flows, index);
}

uint32_t slots_wait_ms(const struct slots *slots, uint32_t now_ms)
{
    const uint32_t oldest = slots->tombstones.first;

    if (oldest == FLOW_NONE)
        return UINT32_MAX;
    if (left(slots) < slots->spare)
        return 0;
    const uint32_t age_ms = now_ms - slots->flows[oldest].since_ms;
    return age_ms < SLOTS_TOMBSTONE_MS ? SLOTS_TOMBSTONE_MS - age_ms : 0;
}
