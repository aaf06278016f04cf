#include "relayd/plane/bpf/flow.h"

#include <string.h>

#include "common/log/log.h"
#include "relayd/plane/bpf/plane_parts.h"
#include "relayd/plane/bpf/slot.h"

bool flow_is_open(const struct flow *flow)
{
    switch ((enum flow_state)flow->state) {
    case FLOW_ST_WAITING:
    case FLOW_ST_CONNECTING:
    case FLOW_ST_ESTABLISHED:
    case FLOW_ST_HALF_CLOSED:
    case FLOW_ST_LINGER:
        return true;
    case FLOW_ST_FREE:
    case FLOW_ST_CLOSING:
    case FLOW_ST_TOMBSTONE:
    case FLOW_ST_RESTING:
        break;
    }
    return false;
}

/* ---- counters ----------------------------------------------------------------------------------
 */

static struct bpf_slot *slot_of(const struct bpf_plane *plane, uint32_t index)
{
    return &plane->tables.slots[index];
}

static uint32_t index_of(const struct bpf_plane *plane, const struct flow *flow)
{
    return (uint32_t)(flow - plane->flows);
}

uint64_t flow_drops(const struct bpf_plane *plane, const struct flow *flow)
{
    /* A closed one has left its port. */
    if (!flow_is_open(flow) && flow->state != FLOW_ST_CLOSING)
        return flow->drops;
    return flow->drops +
           held_ports_strangers(plane->ports, flow->held[BPF_CLIENT], index_of(plane, flow));
}

/* Milliseconds since the last packet, or since the opening. */
static uint64_t quiet_ms(const struct bpf_plane *plane, const struct flow *flow)
{
    const uint64_t now_ms = uv_now(plane->loop);
    uint64_t last_ms = slot_last_ms(slot_of(plane, index_of(plane, flow)));

    if (last_ms < flow->relay->opened_at_ms)
        last_ms = flow->relay->opened_at_ms;
    return last_ms < now_ms ? now_ms - last_ms : 0; /* the loop's time may lag behind */
}

void flow_counters(const struct bpf_plane *plane, const struct flow *flow, struct n2_counters *out,
                   uint64_t *idle_ms)
{
    const struct bpf_direction *from = slot_of(plane, index_of(plane, flow))->from;

    *out = (struct n2_counters){
        .up_packets = __atomic_load_n(&from[BPF_CLIENT].packets, __ATOMIC_RELAXED),
        .up_bytes = __atomic_load_n(&from[BPF_CLIENT].bytes, __ATOMIC_RELAXED),
        .down_packets = __atomic_load_n(&from[BPF_TARGET].packets, __ATOMIC_RELAXED),
        .down_bytes = __atomic_load_n(&from[BPF_TARGET].bytes, __ATOMIC_RELAXED),
        .drops = flow_drops(plane, flow),
    };
    *idle_ms = quiet_ms(plane, flow);
}

/* ---- time --------------------------------------------------------------------------------------
 */

static uint64_t shorter(uint64_t a_ms, uint64_t b_ms)
{
    return a_ms < b_ms ? a_ms : b_ms;
}

/* What is left of a limit (0: none) after `passed_ms`. */
static uint64_t left_of(uint64_t limit_ms, uint64_t passed_ms)
{
    if (limit_ms == 0)
        return UINT64_MAX;
    return limit_ms > passed_ms ? limit_ms - passed_ms : 0;
}

static uint64_t idle_limit_ms(const struct bpf_plane *plane, const struct flow *flow)
{
    const uint64_t ordered = flow->relay->limits.idle_ms;
    const uint64_t configured = plane->transport->stateful ? 0 : plane->config->udp.idle_timeout_ms;

    if (configured == 0 || ordered == 0)
        return configured | ordered;
    return shorter(configured, ordered);
}

static bool both_fins_acknowledged(const struct bpf_plane *plane, const struct flow *flow)
{
    const struct bpf_slot *slot = slot_of(plane, index_of(plane, flow));

    return (slot_seen(slot, BPF_CLIENT) & slot_seen(slot, BPF_TARGET) & BPF_SEEN_FIN_ACKED) != 0;
}

static uint64_t linger_left_ms(const struct bpf_plane *plane, const struct flow *flow,
                               uint64_t in_state_ms)
{
    const uint64_t left_ms = left_of(FLOW_LINGER_MAX_MS, in_state_ms);

    if (!both_fins_acknowledged(plane, flow))
        return left_ms;
    return shorter(left_ms, left_of(FLOW_LINGER_QUIET_MS, quiet_ms(plane, flow)));
}

/* How long the flow may still remain as it is; UINT64_MAX: for ever, 0: it ends for *reason. */
static uint64_t time_left_ms(const struct bpf_plane *plane, const struct flow *flow,
                             enum n2_reason *reason)
{
    const struct relayd_config *config = plane->config;
    const uint64_t in_state_ms = turns_now_ms(plane) - flow->since_ms;
    const uint64_t idle_ms = left_of(idle_limit_ms(plane, flow), quiet_ms(plane, flow));
    uint64_t fin_ms;

    *reason = N2_REASON_IDLE_TIMEOUT;
    switch ((enum flow_state)flow->state) {
    case FLOW_ST_WAITING:
        if (!plane->transport->stateful)
            return idle_ms;
        *reason = N2_REASON_ACCEPT_TIMEOUT;
        return left_of(config->tcp.accept_timeout_ms, in_state_ms);
    case FLOW_ST_CONNECTING:
        *reason = N2_REASON_ERROR;
        return left_of(config->tcp.connect_timeout_ms, in_state_ms);
    case FLOW_ST_ESTABLISHED:
        return idle_ms;
    case FLOW_ST_HALF_CLOSED:
        fin_ms = left_of(config->tcp.fin_timeout_ms, quiet_ms(plane, flow));
        if (idle_ms != 0)
            *reason = N2_REASON_FIN_TIMEOUT;
        return shorter(fin_ms, idle_ms);
    case FLOW_ST_LINGER:
        *reason = N2_REASON_FINISHED;
        return linger_left_ms(plane, flow, in_state_ms);
    case FLOW_ST_FREE:
    case FLOW_ST_CLOSING:
    case FLOW_ST_TOMBSTONE:
    case FLOW_ST_RESTING:
        break;
    }
    return UINT64_MAX;
}

static uint64_t way_left_ms(const struct bpf_plane *plane, const struct flow *flow)
{
    return flow->way_is_lost ? left_of(FLOW_WAY_LOST_MS, turns_now_ms(plane) - flow->way_lost_ms)
                             : UINT64_MAX;
}

static void arm(struct bpf_plane *plane, uint32_t index)
{
    const struct flow *flow = &plane->flows[index];
    enum n2_reason reason;

    turns_set_deadline(plane, index,
                       shorter(time_left_ms(plane, flow, &reason), way_left_ms(plane, flow)));
}

static void set_state(struct bpf_plane *plane, uint32_t index, enum flow_state state)
{
    plane->flows[index].state = (uint8_t)state;
    plane->flows[index].since_ms = turns_now_ms(plane);
}

/* The target's host never answered: the socket plane says the same of a connection that times out.
 */
static void tell_unanswered(const struct bpf_plane *plane, struct relay *relay)
{
    static struct log_limit unanswered = LOG_LIMIT_INIT(100, 1000);

    LOG_LIMITED(&unanswered, LOG_LEVEL_WARNING, "relay-unanswered", LOG_U("relay", relay->id),
                LOG_E("destination", &relay->destination),
                LOG_U("connect_timeout_ms", plane->config->tcp.connect_timeout_ms));
    relay_notify(relay, N2_EVENT_TARGET_UNREACHABLE, 0);
}

void flow_deadline(struct bpf_plane *plane, uint32_t index)
{
    struct flow *flow = &plane->flows[index];
    enum n2_reason reason;

    if (time_left_ms(plane, flow, &reason) == 0) {
        if (flow->state == FLOW_ST_CONNECTING)
            tell_unanswered(plane, flow->relay);
        relay_ended(flow->relay, reason);
    } else if (way_left_ms(plane, flow) == 0) {
        plane->count.ways_lost++;
        relay_ended(flow->relay, N2_REASON_PLANE_LOST);
    } else {
        arm(plane, index);
    }
}

/* ---- what the program has seen -----------------------------------------------------------------
 */

/* Does it end the flow, and why? 0: it goes on. */
static enum n2_reason judge_end(const struct flow *flow, uint32_t client, uint32_t target)
{
    if (((client | target) & BPF_SEEN_LIMIT) != 0 || flow->limit_reached)
        return N2_REASON_LIMIT;
    if ((client & BPF_SEEN_RST) != 0)
        return N2_REASON_CLIENT_RESET;
    return (target & BPF_SEEN_RST) != 0 ? N2_REASON_TARGET_RESET : 0;
}

static enum flow_state judge_state(const struct bpf_plane *plane, uint32_t client, uint32_t target)
{
    if ((client & BPF_SEEN_PACKET) == 0)
        return FLOW_ST_WAITING;
    if (!plane->transport->stateful)
        return FLOW_ST_ESTABLISHED;
    if ((target & BPF_SEEN_SYN) == 0)
        return FLOW_ST_CONNECTING;
    if ((client & target & BPF_SEEN_FIN) != 0)
        return FLOW_ST_LINGER;
    return ((client | target) & BPF_SEEN_FIN) != 0 ? FLOW_ST_HALF_CLOSED : FLOW_ST_ESTABLISHED;
}

static void tell_news(struct flow *flow, uint32_t client, uint32_t target)
{
    /* About what the client sent: the target's host, or a router before it, has refused it. */
    if ((client & BPF_SEEN_UNREACHABLE) != 0 && !flow->unreachable_told) {
        flow->unreachable_told = true;
        relay_notify(flow->relay, N2_EVENT_TARGET_UNREACHABLE, 0);
    }
    if ((target & BPF_SEEN_FIN) != 0 && !flow->fin_told) {
        flow->fin_told = true;
        relay_notify(flow->relay, N2_EVENT_TARGET_FIN, 0);
    }
}

void flow_look(struct bpf_plane *plane, uint32_t index)
{
    struct flow *flow = &plane->flows[index];

    if (!flow_is_open(flow))
        return;
    const struct bpf_slot *slot = slot_of(plane, index);
    const uint32_t client = slot_seen(slot, BPF_CLIENT), target = slot_seen(slot, BPF_TARGET);
    const enum flow_state state = judge_state(plane, client, target);
    const enum n2_reason reason = judge_end(flow, client, target);

    if (flow->state == FLOW_ST_WAITING && state != FLOW_ST_WAITING)
        relay_client_arrived(flow->relay);
    tell_news(flow, client, target);
    if (state != (enum flow_state)flow->state)
        set_state(plane, index, state);
    if (reason == N2_REASON_TARGET_RESET)
        relay_notify(flow->relay, N2_EVENT_TARGET_RST, 0);
    if (reason != 0)
        relay_ended(flow->relay, reason);
    else
        arm(plane, index);
}

/* ---- ways --------------------------------------------------------------------------------------
 */

static bool follow_way(struct bpf_side *side, const struct way *way)
{
    const bool usable = way->problem == NULL && way->interface != 0;
    const uint32_t interface = usable ? way->interface : 0;
    const uint16_t hop = usable ? way->hop : 0;

    if (side->interface != interface)
        __atomic_store_n(&side->interface, interface, __ATOMIC_RELAXED);
    if (side->hop != hop)
        __atomic_store_n(&side->hop, hop, __ATOMIC_RELAXED);
    return usable;
}

void flow_follow_ways(struct bpf_plane *plane, uint32_t index)
{
    struct flow *flow = &plane->flows[index];
    struct bpf_slot *slot = slot_of(plane, index);
    bool usable = true;

    for (int end = BPF_CLIENT; end < BPF_ENDS; end++)
        usable = follow_way(&slot->side[end], flow->way[end]) && usable;
    if (usable != flow->way_is_lost)
        return;
    flow->way_is_lost = !usable;
    flow->way_lost_ms = turns_now_ms(plane);
    arm(plane, index);
}

/* ---- beginning and end -------------------------------------------------------------------------
 */

void flow_start(struct bpf_plane *plane, uint32_t index)
{
    set_state(plane, index, FLOW_ST_WAITING);
    arm(plane, index);
}

/* Only what somebody may still speak of has to be answered, or kept from others. */
static bool leaves_tombstone(const struct bpf_plane *plane, const struct bpf_slot *slot)
{
    return plane->transport->stateful && (slot_seen(slot, BPF_CLIENT) & BPF_SEEN_PACKET) != 0;
}

static void remove_rows(struct bpf_plane *plane, uint32_t index)
{
    const struct bpf_slot *slot = slot_of(plane, index);

    if (!rows_remove(&plane->rows, slot)) {
        rows_flush(&plane->rows);
        (void)rows_remove(&plane->rows, slot);
    }
    turns_rows_pending(plane);
}

static void put_ways(struct bpf_plane *plane, struct flow *flow)
{
    for (int end = BPF_CLIENT; end < BPF_ENDS; end++) {
        ways_put(plane->ways, flow->way[end]);
        flow->way[end] = NULL;
    }
}

void flow_close(struct bpf_plane *plane, struct relay *relay)
{
    struct flow *flow = relay->flow;
    const struct n2_counters none = {0};

    if (flow == NULL) { /* it never was open */
        relay_plane_closed(relay, &none);
        return;
    }
    const uint32_t index = index_of(plane, flow);
    struct bpf_slot *slot = slot_of(plane, index);
    if (!flow_is_open(flow))
        return;
    const bool tombstone = leaves_tombstone(plane, slot);
    slot_set_state(slot, tombstone ? BPF_SLOT_TOMBSTONE : BPF_SLOT_FREE);
    deadlines_clear(&plane->deadlines, index);
    put_ways(plane, flow);
    if (!tombstone)
        remove_rows(plane, index);
    flow->state = FLOW_ST_CLOSING;
    /* By the clock: the loop's time may lag behind. */
    flow->since_ms = (uint32_t)(uv_hrtime() / 1000000 - plane->started_ms);
    flow_list_append(&plane->closing, plane->flows, index);
    turns_within(plane, FLOW_SETTLE_MS + 1);
}

static void leave_ports(struct bpf_plane *plane, uint32_t index)
{
    for (int end = BPF_CLIENT; end < BPF_ENDS; end++)
        held_ports_leave(plane->ports, plane->flows[index].held[end], index);
}

bool flow_settle_one(struct bpf_plane *plane)
{
    const uint32_t index = plane->closing.first;
    struct n2_counters counters;
    uint64_t idle_ms;

    if (index == FLOW_NONE)
        return false;
    struct flow *flow = &plane->flows[index];
    const uint32_t now_ms = turns_now_ms(plane);
    if ((int32_t)(now_ms - flow->since_ms) <= FLOW_SETTLE_MS)
        return false;
    struct relay *relay = flow->relay;
    flow_list_remove(&plane->closing, plane->flows, index);
    flow_counters(plane, flow, &counters, &idle_ms);
    flow->relay = NULL;
    if (slot_of(plane, index)->state == BPF_SLOT_TOMBSTONE) {
        slots_bury(&plane->slots, index, now_ms);
    } else {
        leave_ports(plane, index);
        slots_rest(&plane->slots, index, now_ms);
    }
    relay->flow = NULL;
    relay_plane_closed(relay, &counters);
    return true;
}

void flow_evict(struct bpf_plane *plane, uint32_t index)
{
    const uint32_t now_ms = turns_now_ms(plane);

    if (now_ms - plane->flows[index].since_ms < SLOTS_TOMBSTONE_MS)
        plane->count.evicted++;
    slot_set_state(slot_of(plane, index), BPF_SLOT_FREE);
    remove_rows(plane, index);
    slots_exhume(&plane->slots, index);
    leave_ports(plane, index);
    slots_rest(&plane->slots, index, now_ms);
}
