/*
 * When something happens by itself: one timer for all deadlines, for flows that have settled and
 * for tombstones whose time is over; rows that are deleted together before the loop waits; passes
 * over all flows. Each does a bounded amount of work in a turn of the loop.
 */
#include "relayd/plane/bpf/flow.h"
#include "relayd/plane/bpf/plane_parts.h"

/* Flows that are looked at, settled or evicted in one turn. The last flow of a port closes its
 * socket, which takes long: hence the time as well, looked at once for each stride. */
#define TURN_BUDGET 2048
#define TURN_NS 4000000
#define TURN_STRIDE 16
#define PASS_SLICE 4096
/* So that a timer serves many. */
#define ROUND_UP_MS 5

static void on_timer(uv_timer_t *timer);

uint32_t turns_now_ms(const struct bpf_plane *plane)
{
    return (uint32_t)(uv_now(plane->loop) - plane->started_ms);
}

void turns_within(struct bpf_plane *plane, uint32_t delay_ms)
{
    const uint64_t at_ms = uv_now(plane->loop) + delay_ms;

    if (at_ms >= plane->timer_at_ms)
        return;
    plane->timer_at_ms = at_ms;
    uv_timer_start(&plane->timer, on_timer, delay_ms, 0);
}

void turns_set_deadline(struct bpf_plane *plane, uint32_t flow, uint64_t delay_ms)
{
    const uint32_t now_ms = turns_now_ms(plane);

    if (delay_ms == UINT64_MAX) {
        deadlines_clear(&plane->deadlines, flow);
        return;
    }
    deadlines_set(&plane->deadlines, flow, now_ms, delay_ms);
    turns_within(plane, deadlines_wait_ms(&plane->deadlines, now_ms));
}

/* ---- the timer ---------------------------------------------------------------------------------
 */

static void pass_deadlines(struct bpf_plane *plane, uint32_t *budget)
{
    const uint32_t now_ms = turns_now_ms(plane);
    uint32_t flow;

    while ((flow = deadlines_take(&plane->deadlines, now_ms, budget)) != FLOW_NONE)
        flow_deadline(plane, flow);
}

/* One flow less; none where the turn has been long. */
static void spend(uint32_t *budget, uint64_t end_ns)
{
    --*budget;
    if (*budget % TURN_STRIDE == 0 && uv_hrtime() >= end_ns)
        *budget = 0;
}

static void expire_tombstones(struct bpf_plane *plane, uint32_t *budget, uint64_t end_ns)
{
    const uint32_t now_ms = turns_now_ms(plane);
    uint32_t flow;

    while (*budget != 0 && (flow = slots_expired(&plane->slots, now_ms)) != FLOW_NONE) {
        flow_evict(plane, flow);
        spend(budget, end_ns);
    }
}

static uint32_t settled_wait_ms(const struct bpf_plane *plane)
{
    if (plane->closing.first == FLOW_NONE)
        return UINT32_MAX;
    const uint32_t age_ms = turns_now_ms(plane) - plane->flows[plane->closing.first].since_ms;
    return age_ms <= FLOW_SETTLE_MS ? FLOW_SETTLE_MS + 1 - age_ms : 0;
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static void on_timer(uv_timer_t *timer)
{
    struct bpf_plane *plane = timer->data;
    const uint32_t now_ms = turns_now_ms(plane);
    const uint64_t end_ns = uv_hrtime() + TURN_NS;
    uint32_t budget = TURN_BUDGET;

    plane->timer_at_ms = UINT64_MAX;
    while (budget != 0 && flow_settle_one(plane))
        spend(&budget, end_ns);
    pass_deadlines(plane, &budget);
    expire_tombstones(plane, &budget, end_ns);
    uint32_t wait_ms =
        smaller(settled_wait_ms(plane), deadlines_wait_ms(&plane->deadlines, now_ms));
    wait_ms = smaller(wait_ms, slots_wait_ms(&plane->slots, now_ms));
    if (budget == 0)
        turns_within(plane, 1); /* a timer of 0 ms comes again in the same turn */
    else if (wait_ms != UINT32_MAX)
        turns_within(plane, wait_ms < ROUND_UP_MS ? ROUND_UP_MS : wait_ms);
}

/* ---- rows --------------------------------------------------------------------------------------
 */

static void before_waiting(uv_prepare_t *prepare)
{
    struct bpf_plane *plane = prepare->data;

    rows_flush(&plane->rows);
    uv_prepare_stop(prepare);
}

void turns_rows_pending(struct bpf_plane *plane)
{
    uv_prepare_start(&plane->before, before_waiting);
}

/* ---- passes ------------------------------------------------------------------------------------
 */

static void visit(struct bpf_plane *plane, uint32_t flow)
{
    if ((plane->pass_bits & PASS_WAYS) != 0)
        flow_follow_ways(plane, flow);
    if ((plane->pass_bits & PASS_FLAGS) != 0)
        flow_look(plane, flow);
}

static void begin_pass(struct bpf_plane *plane)
{
    plane->pass_bits = plane->pass_wanted;
    plane->pass_wanted = 0;
    plane->pass_next = 0;
}

static void on_pass(uv_idle_t *idle)
{
    struct bpf_plane *plane = idle->data;

    for (unsigned i = 0; i < PASS_SLICE && plane->pass_next < plane->slots.fresh; i++) {
        const uint32_t flow = plane->pass_next++;
        if (flow_is_open(&plane->flows[flow]))
            visit(plane, flow);
    }
    if (plane->pass_next < plane->slots.fresh)
        return;
    plane->pass_bits = 0;
    if (plane->pass_wanted != 0)
        begin_pass(plane);
    else
        uv_idle_stop(idle);
}

void turns_pass(struct bpf_plane *plane, unsigned bits)
{
    plane->pass_wanted |= bits;
    if (plane->pass_bits != 0)
        return; /* after the one that runs: that may be past what has changed */
    begin_pass(plane);
    uv_idle_start(&plane->pass, on_pass);
}

/* ---- life --------------------------------------------------------------------------------------
 */

int turns_start(struct bpf_plane *plane)
{
    plane->started_ms = uv_now(plane->loop);
    plane->timer_at_ms = UINT64_MAX;
    uv_timer_init(plane->loop, &plane->timer); /* none of these can fail */
    uv_prepare_init(plane->loop, &plane->before);
    uv_idle_init(plane->loop, &plane->pass);
    plane->timer.data = plane;
    plane->before.data = plane;
    plane->pass.data = plane;
    plane->has_handles = true;
    plane->handles = 3;
    return 0;
}

void turns_stop(struct bpf_plane *plane, uv_close_cb closed)
{
    uv_close((uv_handle_t *)&plane->timer, closed);
    uv_close((uv_handle_t *)&plane->before, closed);
    uv_close((uv_handle_t *)&plane->pass, closed);
}
