#include "relayd/plane/socket/throttle.h"

#include <assert.h>

/* Each that waits now, once; those who wait again come behind the mark. */
static void on_timer(uv_timer_t *timer)
{
    struct throttle *throttle = timer->data;
    struct throttled *throttled;

    TAILQ_INSERT_TAIL(&throttle->waiting, &throttle->mark, next);
    while ((throttled = TAILQ_FIRST(&throttle->waiting)) != &throttle->mark) {
        throttle_leave(throttle, throttled);
        throttled->resume(throttled);
    }
    TAILQ_REMOVE(&throttle->waiting, &throttle->mark, next);
    if (TAILQ_EMPTY(&throttle->waiting))
        uv_timer_stop(timer);
}

void throttle_init(struct throttle *throttle, uv_loop_t *loop)
{
    uv_timer_init(loop, &throttle->timer); /* never fails */
    throttle->timer.data = throttle;
    TAILQ_INIT(&throttle->waiting);
}

void throttle_wait(struct throttle *throttle, struct throttled *throttled)
{
    if (throttled->waits)
        return;
    throttled->waits = true;
    TAILQ_INSERT_TAIL(&throttle->waiting, throttled, next);
    if (!uv_is_active((uv_handle_t *)&throttle->timer))
        uv_timer_start(&throttle->timer, on_timer, THROTTLE_INTERVAL_MS, THROTTLE_INTERVAL_MS);
}

void throttle_leave(struct throttle *throttle, struct throttled *throttled)
{
    if (!throttled->waits)
        return;
    throttled->waits = false;
    TAILQ_REMOVE(&throttle->waiting, throttled, next);
}

void throttle_close(struct throttle *throttle, uv_close_cb closed)
{
    assert(TAILQ_EMPTY(&throttle->waiting));
    uv_close((uv_handle_t *)&throttle->timer, closed);
}
