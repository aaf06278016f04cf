#include "relayd/guard.h"

#include <errno.h>
#include <stdlib.h>

#include "common/log/log.h"

#define WATCHED_MIN 64

struct guard {
    uv_timer_t timer; /* runs while there is something to look at */
    struct relay_context *context;
    uint64_t limit; /* packets in a second */
    enum guard_action action;
    struct relay **watched; /* in no order; each knows its place */
    uint32_t count, room;
    uint32_t next; /* of the sweep, which goes from the last one to the first; 0: at its end */
    uint64_t sweep_at_ms; /* when it began */
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

/*
 * Judges what came since the last time. `drops`: all strangers so far. The relay may be gone when
 * this returns.
 */
static void guard_judge(const struct guard *guard, struct relay *relay, uint64_t drops)
{
    uint32_t now = (uint32_t)uv_now(guard->context->loop);
    uint32_t since = now - relay->guard_at_ms;
    /* Less than a whole second counts as one: a handful of packets right after the start is no
     * flood. */
    uint64_t elapsed = since < GUARD_INTERVAL_MS ? GUARD_INTERVAL_MS : since;
    int32_t difference = (int32_t)((uint32_t)drops - relay->guard_drops);
    uint64_t rate = difference > 0 ? (uint64_t)difference * 1000 / elapsed : 0;
    bool was_flooding = relay->flooding;

    relay->guard_drops = (uint32_t)drops;
    relay->guard_at_ms = now;
    relay->flooding = rate > guard->limit;
    if (relay->flooding && !was_flooding) {
        guard_flood(guard, relay, rate);
    }
}

static bool relay_is_open(const struct relay *relay)
{
    return relay->state == RELAY_ST_WAITING || relay->state == RELAY_ST_ACTIVE;
}

/* ---- planes that tell ----------------------------------------------------------------------- */

void relay_strangers(struct relay *relay, uint64_t total)
{
    const struct relay_context *context = relay->peer->context;
    const struct guard *guard = context->guard;

    if (guard == NULL || !relay_is_open(relay)) {
        return;
    }
    uint32_t since = (uint32_t)uv_now(context->loop) - relay->guard_at_ms;
    uint32_t difference = (uint32_t)total - relay->guard_drops;
    /* They tell several times in a second: what came since the last judgement is left to add up,
     * until it is enough or the second is over. */
    if (since < GUARD_INTERVAL_MS && (relay->flooding || difference <= guard->limit)) {
        return;
    }
    guard_judge(guard, relay, total);
}

/* ---- planes that are asked ------------------------------------------------------------------ */

static void guard_tick(uv_timer_t *timer)
{
    struct guard *guard = timer->data;
    uint64_t now = uv_now(guard->context->loop);

    if (guard->next == 0) {
        guard->sweep_at_ms = now;
        guard->next = guard->count;
    }
    for (int i = 0; i < GUARD_SLICE && guard->next > 0; i++) {
        struct relay *relay = guard->watched[--guard->next];
        if (relay_is_open(relay)) {
            guard_judge(guard, relay, relay->plane->ops->drops(relay->plane, relay));
        }
    }
    if (guard->next > 0) {
        uv_timer_start(timer, guard_tick, 1, 0);
    } else if (guard->count > 0) {
        uint64_t at = guard->sweep_at_ms + GUARD_INTERVAL_MS;
        uv_timer_start(timer, guard_tick, at > now ? at - now : 1, 0);
    }
}

int guard_watch(struct guard *guard, struct relay *relay)
{
    if (guard == NULL || relay->plane->ops->tells_strangers) {
        return 0;
    }
    if (guard->count == guard->room) {
        uint32_t room = guard->room == 0 ? WATCHED_MIN : guard->room * 2;
        struct relay **watched = realloc(guard->watched, room * sizeof(struct relay *));
        if (watched == NULL) {
            return -ENOMEM;
        }
        guard->watched = watched;
        guard->room = room;
    }
    relay->watched = true;
    relay->guard_place = guard->count;
    guard->watched[guard->count++] = relay;
    if (!uv_is_active((uv_handle_t *)&guard->timer)) {
        uv_timer_start(&guard->timer, guard_tick, GUARD_INTERVAL_MS, 0);
    }
    return 0;
}

void guard_unwatch(struct guard *guard, struct relay *relay)
{
    if (guard == NULL || !relay->watched) {
        return;
    }
    /* The last one takes its place. It has been looked at in this sweep, and is once more if that
     * place is still to come: none is left out. */
    struct relay *last = guard->watched[--guard->count];
    guard->watched[relay->guard_place] = last;
    last->guard_place = relay->guard_place;
    relay->watched = false;
    if (guard->next > guard->count) {
        guard->next = guard->count;
    }
}

/* ---- lifecycle ------------------------------------------------------------------------------ */

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
    context->guard = guard;
    *out = guard;
    return 0;
}

static void guard_closed(uv_handle_t *handle)
{
    struct guard *guard = handle->data;

    free(guard->watched);
    free(guard);
}

void guard_stop(struct guard *guard)
{
    if (guard != NULL) {
        guard->context->guard = NULL;
        uv_close((uv_handle_t *)&guard->timer, guard_closed);
    }
}
