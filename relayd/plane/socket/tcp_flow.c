#include "relayd/plane/socket/tcp_flow.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/net/sockaddr.h"
#include "relayd/plane/socket/handed_over.h"
#include "relayd/plane/socket/tcp_segments.h"

static void arm_timer(struct tcp_flow *flow);

/* ---- counters ----------------------------------------------------------------------------------
 */

static void fill_counters(const struct tcp_flow *flow, struct n2_counters *out)
{
    tcp_pump_counters(&flow->pump, out);
    out->drops = flow->listener.drops.total;
}

void tcp_flow_counters(const struct relay *relay, struct n2_counters *out, uint64_t *idle_ms)
{
    struct tcp_flow *flow = relay->flow;

    *idle_ms = 0;
    memset(out, 0, sizeof(*out));
    if (flow == NULL)
        return;
    tcp_pump_sample(&flow->pump);
    (void)tcp_listener_drops(&flow->listener);
    fill_counters(flow, out);
    *idle_ms = uv_now(flow->plane->loop) - flow->pump.last_ms;
}

uint64_t tcp_flow_drops(const struct relay *relay)
{
    struct tcp_flow *flow = relay->flow;

    return flow != NULL ? tcp_listener_drops(&flow->listener) : 0;
}

/* ---- closing -----------------------------------------------------------------------------------
 */

static void on_closed(uv_handle_t *handle)
{
    struct tcp_flow *flow = handle->data;
    struct relay *relay = flow->relay;
    struct n2_counters counters;

    if (--flow->handles != 0)
        return;
    fill_counters(flow, &counters);
    flow->plane->flows--;
    free(flow);
    relay->flow = NULL;
    relay_plane_closed(relay, &counters);
}

void tcp_flow_set_state(struct tcp_flow *flow, enum tcp_state state)
{
    flow->state = state;
    flow->state_since_ms = uv_now(flow->plane->loop);
    arm_timer(flow);
}

static void close_connections(struct tcp_flow *flow, bool abort)
{
    tcp_dial_cancel(flow->dial);
    flow->dial = NULL;
    tcp_pump_close(&flow->pump, abort);
}

static void fail_as(struct tcp_flow *flow, enum n2_error error, const char *text)
{
    close_connections(flow, false);
    tcp_listener_close(&flow->listener);
    tcp_flow_set_state(flow, TCP_ST_ENDED);
    relay_open_failed(flow->relay, error, text);
}

void tcp_flow_fail(struct tcp_flow *flow, int error, const char *what)
{
    char text[N2_TEXT_MAX + 1];

    snprintf(text, sizeof(text), "%s: %s", what, strerror(-error));
    fail_as(flow, socket_plane_error(-error), text);
}

void tcp_flow_end(struct tcp_flow *flow, enum n2_reason reason)
{
    /* In order means that both FINs were passed on: close() goes on sending what is still queued.
     * Anything else is a reset for both, except for the side that the reset came from, where there
     * is nothing left to reset. */
    close_connections(flow, reason != N2_REASON_FINISHED);
    tcp_flow_set_state(flow, TCP_ST_ENDED);
    relay_ended(flow->relay, reason);
}

void tcp_flow_end_by_error(struct tcp_flow *flow, const char *what, int error)
{
    socket_plane_log_error(flow->relay, what, error);
    tcp_flow_end(flow, N2_REASON_ERROR);
}

void tcp_flow_close(struct socket_plane *plane, struct relay *relay, bool abort)
{
    struct tcp_flow *flow = relay->flow;
    const struct n2_counters none = {0};

    (void)plane;
    if (flow == NULL) {
        relay_plane_closed(relay, &none);
        return;
    }
    if (flow->state == TCP_ST_CLOSING)
        return;
    close_connections(flow, abort);
    tcp_listener_close(&flow->listener);
    tcp_flow_set_state(flow, TCP_ST_CLOSING);
    uv_close((uv_handle_t *)&flow->timer, on_closed);
}

/* ---- time --------------------------------------------------------------------------------------
 */

static uint64_t shorter_limit(uint64_t a_ms, uint64_t b_ms)
{
    if (a_ms == 0 || b_ms == 0)
        return a_ms | b_ms;
    return a_ms < b_ms ? a_ms : b_ms;
}

/* How long the flow may remain as it is, and since when; 0: for ever. */
static uint64_t time_limit(const struct tcp_flow *flow, uint64_t *since_ms)
{
    const struct relayd_config *config = flow->plane->config;
    const uint64_t idle_ms = flow->relay->limits.idle_ms;

    *since_ms = flow->state_since_ms;
    switch (flow->state) {
    case TCP_ST_LISTENING:
        return config->tcp.bind_timeout_ms;
    case TCP_ST_WAITING:
        return config->tcp.accept_timeout_ms;
    case TCP_ST_STREAMING:
        *since_ms = flow->pump.last_ms;
        return tcp_pump_is_half_closed(&flow->pump)
                   ? shorter_limit(idle_ms, config->tcp.fin_timeout_ms)
                   : idle_ms;
    case TCP_ST_DIALLING: /* the dial sees to it */
    case TCP_ST_ENDED:
    case TCP_ST_CLOSING:
        break;
    }
    return 0;
}

static void on_time_limit(struct tcp_flow *flow)
{
    const uint64_t idle_ms = flow->relay->limits.idle_ms;
    const uint64_t idle_for_ms = uv_now(flow->plane->loop) - flow->pump.last_ms;

    if (flow->state != TCP_ST_STREAMING)
        tcp_flow_end(flow, N2_REASON_ACCEPT_TIMEOUT);
    else if (idle_ms != 0 && idle_for_ms >= idle_ms)
        tcp_flow_end(flow, N2_REASON_IDLE_TIMEOUT);
    else
        tcp_flow_end(flow, N2_REASON_FIN_TIMEOUT);
}

/* What a slow peer has not read yet is with the kernel, megabytes of it: it would be lost with the
 * connection. */
static bool goes_on(struct tcp_flow *flow)
{
    return flow->state == TCP_ST_STREAMING && tcp_pump_still_delivers(&flow->pump);
}

static void on_timer(uv_timer_t *timer)
{
    struct tcp_flow *flow = timer->data;
    uint64_t since_ms;
    const uint64_t limit_ms = time_limit(flow, &since_ms);

    tcp_listener_resume(&flow->listener);
    if (limit_ms != 0 && uv_now(flow->plane->loop) - since_ms >= limit_ms && !goes_on(flow))
        on_time_limit(flow);
    else
        arm_timer(flow);
}

/* Traffic only moves last_ms; the timer finds that out when it fires and sleeps on. */
static void arm_timer(struct tcp_flow *flow)
{
    const bool retry = flow->listener.paused;
    uint64_t since_ms;
    const uint64_t limit_ms = time_limit(flow, &since_ms);
    const uint64_t passed_ms = uv_now(flow->plane->loop) - since_ms;
    uint64_t sleep_ms = limit_ms > passed_ms ? limit_ms - passed_ms : 0;

    if (retry && (limit_ms == 0 || sleep_ms > TCP_LISTENER_RETRY_MS))
        sleep_ms = TCP_LISTENER_RETRY_MS;
    if (limit_ms == 0 && !retry)
        uv_timer_stop(&flow->timer);
    else
        uv_timer_start(&flow->timer, on_timer, sleep_ms, 0);
}

void tcp_flow_listener_paused(struct tcp_flow *flow)
{
    arm_timer(flow);
}

/* ---- connections -------------------------------------------------------------------------------
 */

static void on_pump_ended(struct tcp_pump *pump, enum n2_reason reason)
{
    tcp_flow_end(pump->owner, reason);
}

static void on_half_closed(struct tcp_pump *pump)
{
    arm_timer(pump->owner);
}

static const struct tcp_pump_ops pump_ops = {
    .ended = on_pump_ended,
    .half_closed = on_half_closed,
    .closed = on_closed,
};

struct tcp_flow *tcp_flow_new(struct socket_plane *plane, struct relay *relay, enum tcp_state state)
{
    struct tcp_flow *flow = calloc(1, sizeof(*flow));

    relay->flow = flow;
    if (flow == NULL) {
        relay_open_failed(relay, N2_ERROR_GENERAL, "out of memory");
        return NULL;
    }
    flow->plane = plane;
    flow->relay = relay;
    tcp_pump_init(&flow->pump, plane, relay, &pump_ops, flow);
    tcp_listener_init(&flow->listener, plane, relay);
    /* Never fails, so that from here on there is always a handle whose close callback frees the
     * flow. */
    uv_timer_init(plane->loop, &flow->timer);
    flow->timer.data = flow;
    flow->handles = 1;
    plane->flows++;
    tcp_flow_set_state(flow, state);
    return flow;
}

bool tcp_flow_listen(struct tcp_flow *flow, const struct endpoint *expected, tcp_listener_cb *came)
{
    const int rc = tcp_listener_open(&flow->listener, expected, came, flow, on_closed);

    if (flow->listener.socket.has_handle)
        flow->handles++;
    if (rc < 0)
        tcp_flow_fail(flow, rc == -EACCES || rc == -EPERM ? -EADDRNOTAVAIL : rc, "BND");
    return rc == 0;
}

int tcp_flow_take_client(struct tcp_flow *flow, int fd)
{
    const int rc = tcp_pump_take_client(&flow->pump, fd);

    if (rc == 0)
        flow->handles++;
    return rc;
}

int tcp_flow_take_target(struct tcp_flow *flow, int fd)
{
    const int rc = tcp_pump_take_target(&flow->pump, fd);

    if (rc == 0)
        flow->handles++;
    return rc == 0 ? endpoint_local(fd, &flow->relay->egress) : rc;
}

static void on_dialled(void *owner, const struct tcp_dial_result *result)
{
    struct tcp_flow *flow = owner;
    struct relay *relay = flow->relay;

    flow->dial = NULL;
    if (result->fd < 0) {
        fail_as(flow, result->error, result->text);
        return;
    }
    const int rc = tcp_flow_take_target(flow, result->fd);
    if (rc < 0) {
        tcp_flow_fail(flow, rc, "egress");
        return;
    }
    relay->destination = result->destination;
    relay->bound = relay->kind == N2_KIND_TRANSPARENT ? flow->listener.bound : relay->egress;
    tcp_flow_set_state(flow, TCP_ST_WAITING);
    tcp_listener_watch(&flow->listener);
    tcp_pump_watch_target(&flow->pump);
    relay_opened(relay);
}

void tcp_flow_dial(struct tcp_flow *flow, const struct endpoint *candidates, size_t count)
{
    const int rc =
        tcp_dial_start(&flow->dial, flow->plane, flow->relay, candidates, count, on_dialled, flow);

    if (rc < 0)
        tcp_flow_fail(flow, rc, "dial");
}

void tcp_flow_stream(struct tcp_flow *flow, const uint8_t *early, size_t length)
{
    flow->pump.last_ms = uv_now(flow->plane->loop);
    tcp_flow_set_state(flow, TCP_ST_STREAMING);
    relay_client_arrived(flow->relay);
    tcp_pump_start(&flow->pump, early, length);
}

void tcp_flow_attach(struct socket_plane *plane, struct relay *relay, int fd, const uint8_t *early,
                     size_t length)
{
    struct tcp_flow *flow = relay->flow;
    int rc = handed_over_check(fd, &relay->source);

    if (rc < 0) {
        close(fd);
        if (rc == -ECONNRESET) {
            tcp_flow_end(flow, N2_REASON_CLIENT_RESET);
        } else {
            plane->clients_refused++;
            tcp_flow_end_by_error(flow, "descriptor of the client", rc);
        }
        return;
    }
    /* What it has brought so far was socksd's, except for the early octets. */
    const uint64_t segments = tcp_data_segments_in(fd, 0);
    flow->pump.client_before = segments > 0 && length > 0 ? segments - 1 : segments;
    rc = tcp_flow_take_client(flow, fd);
    if (rc < 0)
        tcp_flow_end_by_error(flow, "client", rc);
    else
        tcp_flow_stream(flow, early, length);
}
