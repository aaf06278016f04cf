#include "relayd/guard.h"

#include <errno.h>
#include <stdlib.h>

#include "common/log/log.h"

struct guard {
    uv_timer_t timer;
    struct relay_context *context;
    uint64_t limit; /* packets in a second */
    enum guard_action action;
    uint64_t sweep_at_ms; /* when this sweep began */
    uint64_t cursor;
};

/* A stranger decides how often a flood begins. */
static struct log_limit floods = LOG_LIMIT_INIT(20, 1000);

/* The relay may be gone when this returns. */
static void guard_flood(const struct guard *guard, struct relay *relay, uint64_t rate)
{
    relayd_metrics_add(guard->context->metrics, RELAYD_FLOODS, 1);
    LOG_LIMITED(&floods, LOG_LEVEL_WARNING, "wrong-source-flood", LOG_U("relay", relay->id),
                LOG_E("bound", &relay->bound), LOG_E("source", &relay->source),
                LOG_U("packets_per_second", rate),
                LOG_S("action", guard->action == GUARD_CLOSE ? "close" : "event"));
    relay_notify(relay, N2_EVENT_WRONG_SOURCE_FLOOD, rate);
    if (guard->action == GUARD_CLOSE) {
        relay_close(relay, N2_REASON_GUARD);
    }
}

/* The relay may be gone when this returns. */
static void guard_look(const struct guard *guard, struct relay *relay)
{
    if (relay->state != RELAY_ST_WAITING && relay->state != RELAY_ST_ACTIVE) {
        return;
    }
    uint64_t now = uv_now(guard->context->loop);
    uint64_t drops = relay->plane->ops->drops(relay->plane, relay);
    /* Less than a whole second counts as one: a handful of packets right after the start is no
     * flood. */
    uint32_t since = (uint32_t)now - relay->guard_at_ms;
    uint64_t elapsed = since < GUARD_INTERVAL_MS ? GUARD_INTERVAL_MS : since;
    uint64_t difference = drops > relay->guard_drops ? drops - relay->guard_drops : 0;
    uint64_t rate = difference / elapsed * 1000 + difference % elapsed * 1000 / elapsed;
    bool was_flooding = relay->flooding;

    relay->guard_drops = drops;
    relay->guard_at_ms = (uint32_t)now;
    relay->flooding = rate > guard->limit;
    if (relay->flooding && !was_flooding) {
        guard_flood(guard, relay, rate);
    }
}

static void guard_tick(uv_timer_t *timer)
{
    struct guard *guard = timer->data;
    uint64_t now = uv_now(guard->context->loop);

    if (guard->cursor == 0) {
        guard->sweep_at_ms = now;
    }
    for (int i = 0; i < GUARD_SLICE; i++) {
        struct relay *relay = relay_table_next(guard->context->table, &guard->cursor);
        if (relay == NULL) {
            uint64_t next = guard->sweep_at_ms + GUARD_INTERVAL_MS;
            guard->cursor = 0;
            uv_timer_start(timer, guard_tick, next > now ? next - now : 1, 0);
            return;
        }
        guard_look(guard, relay);
    }
    uv_timer_start(timer, guard_tick, 1, 0);
}

int guard_start(struct guard **out, const struct relayd_config *config,
                struct relay_context *context)
{
    *out = NULL;
    if (config->guard.wrong_source_per_second == 0) {
        return 0;
    }
    struct guard *guard = calloc(1, sizeof(*guard));
    if (guard == NULL) {
        return -ENOMEM;
    }
    guard->context = context;
    guard->limit = config->guard.wrong_source_per_second;
    guard->action = (enum guard_action)config->guard.action;
    uv_timer_init(context->loop, &guard->timer);
    guard->timer.data = guard;
    uv_timer_start(&guard->timer, guard_tick, GUARD_INTERVAL_MS, 0);
    *out = guard;
    return 0;
}

static void guard_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void guard_stop(struct guard *guard)
{
    if (guard != NULL) {
        uv_close((uv_handle_t *)&guard->timer, guard_closed);
    }
}
