/*
 * Those who wait for a token bucket to fill: one timer for all of them, which runs while there are
 * some. Whoever waits is looked at each THROTTLE_INTERVAL_MS.
 */
#ifndef SOCKST_RELAYD_THROTTLE_H
#define SOCKST_RELAYD_THROTTLE_H

#include <stdbool.h>
#include <sys/queue.h>
#include <uv.h>

#define THROTTLE_INTERVAL_MS 20

/* Part of who waits; zeroed, it does not. */
struct throttled {
    TAILQ_ENTRY(throttled) next;
    bool waits;
    /* Time has passed: it does not wait any more, and may wait again. Others may leave meanwhile.
     */
    void (*resume)(struct throttled *throttled);
};

struct throttle {
    uv_timer_t timer;
    TAILQ_HEAD(throttled_list, throttled) waiting;
    struct throttled mark; /* the end of a turn */
};

void throttle_init(struct throttle *throttle, uv_loop_t *loop);

/* With ->resume set. Idempotent. */
void throttle_wait(struct throttle *throttle, struct throttled *throttled);
/* Idempotent. */
void throttle_leave(struct throttle *throttle, struct throttled *throttled);

/* Nobody waits any more. Memory goes with `closed`, which is called with the timer's handle. */
void throttle_close(struct throttle *throttle, uv_close_cb closed);

#endif
