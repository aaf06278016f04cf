#include "common/log/log_loop.h"

#include <stdbool.h>

#include "common/log/sink.h"

/* When a reader that takes no more is tried again. */
#define RETRY_MS 10

static struct {
    uv_prepare_t turn; /* before the loop waits */
    uv_timer_t retry;
    bool started;
} log_loop;

static void on_retry(uv_timer_t *timer)
{
    (void)timer; /* it only ends the loop's wait: on_turn() comes next */
}

static void on_turn(uv_prepare_t *turn)
{
    (void)turn;
    if (!log_sink_flush())
        uv_timer_start(&log_loop.retry, on_retry, RETRY_MS, 0);
}

void log_loop_start(uv_loop_t *loop)
{
    uv_prepare_init(loop, &log_loop.turn); /* none of these can fail */
    uv_timer_init(loop, &log_loop.retry);
    uv_prepare_start(&log_loop.turn, on_turn);
    uv_unref((uv_handle_t *)&log_loop.turn);
    uv_unref((uv_handle_t *)&log_loop.retry);
    log_sink_batch(true);
    log_loop.started = true;
}

void log_loop_stop(void)
{
    if (!log_loop.started)
        return;
    log_loop.started = false;
    log_sink_batch(false);
    uv_close((uv_handle_t *)&log_loop.turn, NULL);
    uv_close((uv_handle_t *)&log_loop.retry, NULL);
}
