/*
 * What the kernel tells: hints of the program, each of which makes one flow be looked at; when some
 * were lost, all of them. And the datagrams that the program leaves to relayd.
 */
#include <arpa/inet.h>

#include "common/log/log.h"
#include "relayd/plane/bpf/flow.h"
#include "relayd/plane/bpf/plane_parts.h"
#include "relayd/plane/bpf/slot.h"

#define NS_PER_SECOND UINT64_C(1000000000)

/* ---- hints -------------------------------------------------------------------------------------
 */

static void on_event(void *user, const struct bpf_event *event)
{
    struct bpf_plane *plane = user;

    if (event->slot < plane->slots.fresh &&
        plane->tables.slots[event->slot].generation == event->generation)
        flow_look(plane, event->slot);
}

static void on_events_lost(void *user)
{
    struct bpf_plane *plane = user;

    plane->count.sweeps++;
    turns_pass(plane, PASS_FLAGS);
}

/* Shared by several relays, strangers are nobody's: they are only counted. */
static void on_stranger(void *user, const struct bpf_stranger_event *event)
{
    struct bpf_plane *plane = user;
    const uint32_t index = event->row < plane->tables.endpoint_count
                               ? held_ports_only_user(plane->ports, event->row)
                               : FLOW_NONE;

    if (index != FLOW_NONE && flow_is_open(&plane->flows[index]))
        relay_strangers(plane->flows[index].relay, flow_drops(plane, &plane->flows[index]));
}

static void on_strangers_lost(void *user)
{
    (void)user; /* a flood goes on and is told again */
}

static void on_answer(void *user, const struct bpf_answer *answer)
{
    struct bpf_plane *plane = user;

    answers_send(plane->answers, answer);
}

const struct program_ops hints_ops = {
    .event = on_event,
    .events_lost = on_events_lost,
    .stranger = on_stranger,
    .strangers_lost = on_strangers_lost,
    .answer = on_answer,
};

/* ---- datagrams ---------------------------------------------------------------------------------
 */

static struct bpf_flow_key key_of(const struct endpoint *peer, const struct endpoint *local)
{
    struct bpf_flow_key key = {.source_port = htons(peer->port),
                               .destination_port = htons(local->port)};

    slot_put_address(key.source, &peer->address);
    slot_put_address(key.destination, &local->address);
    return key;
}

static bool is_alive(const struct bpf_plane *plane, uint32_t index, const struct bpf_flow *row)
{
    const struct bpf_slot *slot;

    if (index >= plane->slots.fresh)
        return false;
    slot = &plane->tables.slots[index];
    return slot->generation == row->generation && slot->state == BPF_SLOT_OPEN &&
           flow_is_open(&plane->flows[index]) &&
           slot->epoch == plane->tables.globals->peers[slot->peer];
}

/* limits.max_bytes as the program judges it: what goes beyond is dropped, and ends the relay. */
static bool is_within_limit(struct bpf_plane *plane, uint32_t index, uint32_t octets)
{
    const struct bpf_slot *slot = &plane->tables.slots[index];
    const uint64_t used = __atomic_load_n(&slot->from[BPF_CLIENT].bytes, __ATOMIC_RELAXED) +
                          __atomic_load_n(&slot->from[BPF_TARGET].bytes, __ATOMIC_RELAXED);

    if (slot->max_bytes == 0 || used + octets <= slot->max_bytes)
        return true;
    plane->flows[index].limit_reached = true;
    flow_look(plane, index);
    return false;
}

/* limits.bytes_per_second, out of the same bucket as the program (relayd/bpf/flow.bpf.h). */
static bool is_within_rate(struct bpf_direction *from, uint64_t per_second, uint32_t octets)
{
    const uint64_t now_ns = BPF_RATE_CLOCK_START + uv_hrtime();
    const uint64_t filled_ns = BPF_BURST_OCTETS * NS_PER_SECOND / per_second;
    const uint64_t burst_ns = filled_ns > BPF_BURST_NS ? filled_ns : BPF_BURST_NS;
    const uint64_t cost_ns = octets * NS_PER_SECOND / per_second;
    __u64 paid_ns = __atomic_load_n(&from->paid_ns, __ATOMIC_RELAXED);

    if (paid_ns + burst_ns < now_ns) { /* the bucket is full */
        const uint64_t full_ns = now_ns - burst_ns;
        (void)__atomic_compare_exchange_n(&from->paid_ns, &paid_ns, full_ns, false,
                                          __ATOMIC_RELAXED, __ATOMIC_RELAXED);
        paid_ns = full_ns;
    }
    if (paid_ns + cost_ns > now_ns)
        return false;
    __atomic_fetch_add(&from->paid_ns, cost_ns, __ATOMIC_RELAXED);
    return true;
}

static bool is_within_limits(struct bpf_plane *plane, uint32_t index, enum bpf_end from,
                             uint32_t octets)
{
    struct bpf_slot *slot = &plane->tables.slots[index];

    if (is_within_limit(plane, index, octets) &&
        (slot->bytes_per_second == 0 ||
         is_within_rate(&slot->from[from], slot->bytes_per_second, octets)))
        return true;
    plane->count.slow_limited++;
    return false;
}

static bool slow_find(void *user, const struct endpoint *peer, const struct endpoint *local,
                      uint32_t octets, struct slow_path_way *out)
{
    struct bpf_plane *plane = user;
    const struct bpf_flow_key key = key_of(peer, local);
    struct bpf_flow row;

    if (!rows_find(&plane->rows, &key, &row))
        return false;
    const uint32_t index = row.slot & ~BPF_FLOW_FROM_TARGET;
    const enum bpf_end from = (row.slot & BPF_FLOW_FROM_TARGET) != 0 ? BPF_TARGET : BPF_CLIENT;
    if (!is_alive(plane, index, &row) || !is_within_limits(plane, index, from, octets))
        return false;
    const struct flow *flow = &plane->flows[index];
    out->fd = held_ports_fd(plane->ports, flow->held[slot_other(from)]);
    out->peer = from == BPF_CLIENT ? flow->relay->destination : flow->relay->source;
    plane->slow_slot = index;
    plane->slow_end = from;
    return true;
}

static void slow_sent(void *user, uint32_t octets, int error)
{
    struct bpf_plane *plane = user;
    struct bpf_direction *from = &plane->tables.slots[plane->slow_slot].from[plane->slow_end];

    if (error < 0) {
        plane->count.slow_failed++;
        return;
    }
    plane->count.slow_packets++;
    /* The program counts there, too. */
    __atomic_fetch_add(&from->packets, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&from->bytes, octets, __ATOMIC_RELAXED);
    __atomic_store_n(&from->last_ns, uv_hrtime(), __ATOMIC_RELAXED);
    if ((__atomic_fetch_or(&from->seen, BPF_SEEN_PACKET, __ATOMIC_RELAXED) & BPF_SEEN_PACKET) == 0)
        flow_look(plane, plane->slow_slot);
}

const struct slow_path_ops hints_slow_path = {.find = slow_find, .sent = slow_sent};
