/*
 * The TCP flow: a listener on BND that only S can reach, a connection to DST, and a stream for each
 * direction.
 *
 *   CONNECTING ──connected──▶ WAITING ──accepted──▶ STREAMING
 *        │                       │                      │
 *        └─────── failed ────────┴───── ended ──────────┴──▶ ENDED ──close()──▶ CLOSING ──last
 * handle──▶ (freed)
 *
 * close() leads from every state to CLOSING. Whatever ends the flow closes both connections in the
 * same call; the trap beside the listener, which drops everything, stays until close(), so that
 * strangers do not hear anything while the relay lives.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/net/sockaddr.h"
#include "relayd/plane/socket/flow.h"
#include "relayd/plane/socket/sockets.h"
#include "relayd/plane/socket/stranger_filter.h"
#include "relayd/plane/socket/tcp_listener.h"
#include "relayd/plane/socket/tcp_segments.h"
#include "relayd/plane/socket/tcp_stream.h"
#include "relayd/plane/socket/watched_socket.h"

/* Out of descriptors for the client's connection: try again after this. */
#define ACCEPT_RETRY_MS 100

enum tcp_state {
    TCP_ST_CONNECTING,
    TCP_ST_WAITING,
    TCP_ST_STREAMING,
    TCP_ST_ENDED,
    TCP_ST_CLOSING
};

struct tcp_flow {
    struct socket_plane *plane;
    struct relay *relay;
    struct watched_socket listener, client, target;
    int trap; /* what strangers hear: nothing; -1: none */
    struct tcp_stream up, down;
    uv_timer_t timer;
    uint64_t state_since_ms, last_ms;
    uint64_t up_packets, down_packets; /* of connections that are closed already */
    struct drop_counter drops;
    struct endpoint bound; /* port 0: none drawn */
    enum tcp_state state;
    unsigned handles;                    /* whose close callback is still to come */
    bool client_hung_up, target_hung_up; /* no more to be watched for */
    bool fin_told;
    bool accept_paused;
};

static void on_listener(uv_poll_t *poll, int status, int events);
static void on_client(uv_poll_t *poll, int status, int events);
static void on_target(uv_poll_t *poll, int status, int events);
static void arm_timer(struct tcp_flow *flow);

/* ---- counters ----------------------------------------------------------------------------------
 */

static void sample(struct tcp_flow *flow)
{
    flow->up_packets = tcp_data_segments_in(flow->client.fd, flow->up_packets);
    flow->down_packets = tcp_data_segments_in(flow->target.fd, flow->down_packets);
    drop_counter_update(&flow->drops, flow->trap);
}

static void fill_counters(const struct tcp_flow *flow, struct n2_counters *out)
{
    *out = (struct n2_counters){
        .up_packets = flow->up_packets,
        .up_bytes = flow->up.bytes,
        .down_packets = flow->down_packets,
        .down_bytes = flow->down.bytes,
        .drops = flow->drops.total,
    };
}

static void tcp_flow_counters(const struct relay *relay, struct n2_counters *out, uint64_t *idle_ms)
{
    struct tcp_flow *flow = relay->flow;

    *idle_ms = 0;
    memset(out, 0, sizeof(*out));
    if (flow == NULL)
        return;
    sample(flow);
    fill_counters(flow, out);
    *idle_ms = uv_now(flow->plane->loop) - flow->last_ms;
}

static uint64_t tcp_flow_drops(const struct relay *relay)
{
    struct tcp_flow *flow = relay->flow;

    return flow != NULL ? drop_counter_update(&flow->drops, flow->trap) : 0;
}

/* ---- closing -----------------------------------------------------------------------------------
 */

static void on_handle_closed(struct tcp_flow *flow)
{
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

static void on_closed(uv_handle_t *handle)
{
    on_handle_closed(handle->data);
}

static void set_state(struct tcp_flow *flow, enum tcp_state state)
{
    flow->state = state;
    flow->state_since_ms = uv_now(flow->plane->loop);
    arm_timer(flow);
}

/* The connections go at once, kernel and all; only memory waits for libuv. */
static void close_connections(struct tcp_flow *flow, bool abort_client, bool abort_target)
{
    sample(flow);
    watched_socket_close(&flow->client, abort_client, on_closed);
    watched_socket_close(&flow->target, abort_target, on_closed);
    tcp_stream_release(&flow->up, flow->plane);
    tcp_stream_release(&flow->down, flow->plane);
}

static void close_bound(struct tcp_flow *flow)
{
    watched_socket_close(&flow->listener, false, on_closed);
    if (flow->trap >= 0)
        close(flow->trap);
    flow->trap = -1;
    sockets_return_bound(flow->plane, &flow->bound);
}

static void fail(struct tcp_flow *flow, int error, const char *what)
{
    char text[N2_TEXT_MAX + 1];

    snprintf(text, sizeof(text), "%s: %s", what, strerror(-error));
    close_connections(flow, false, false);
    close_bound(flow);
    set_state(flow, TCP_ST_ENDED);
    relay_open_failed(flow->relay, socket_plane_error(-error), text);
}

/* The last thing that its callers do: the flow may be closing when it returns. */
static void end(struct tcp_flow *flow, enum n2_reason reason)
{
    /* In order means that both FINs were passed on: close() goes on sending what is still queued.
     * Anything else is a reset for both, except for the side that the reset came from, where there
     * is nothing left to reset. */
    const bool abort = reason != N2_REASON_FINISHED;

    close_connections(flow, abort, abort);
    set_state(flow, TCP_ST_ENDED);
    relay_ended(flow->relay, reason);
}

static void tcp_flow_close(struct socket_plane *plane, struct relay *relay, bool abort)
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
    close_connections(flow, abort, abort);
    close_bound(flow);
    set_state(flow, TCP_ST_CLOSING);
    uv_close((uv_handle_t *)&flow->timer, on_closed);
}

/* ---- time --------------------------------------------------------------------------------------
 */

static bool is_half_closed(const struct tcp_flow *flow)
{
    return flow->up.finished || flow->down.finished;
}

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
    case TCP_ST_CONNECTING:
        return config->tcp.connect_timeout_ms;
    case TCP_ST_WAITING:
        return config->tcp.accept_timeout_ms;
    case TCP_ST_STREAMING:
        *since_ms = flow->last_ms;
        return is_half_closed(flow) ? shorter_limit(idle_ms, config->tcp.fin_timeout_ms) : idle_ms;
    case TCP_ST_ENDED:
    case TCP_ST_CLOSING:
        break;
    }
    return 0;
}

static void on_time_limit(struct tcp_flow *flow)
{
    const uint64_t idle_ms = flow->relay->limits.idle_ms;
    const uint64_t idle_for_ms = uv_now(flow->plane->loop) - flow->last_ms;

    switch (flow->state) {
    case TCP_ST_CONNECTING:
        fail(flow, -ETIMEDOUT, "connect to the destination");
        break;
    case TCP_ST_WAITING:
        end(flow, N2_REASON_ACCEPT_TIMEOUT);
        break;
    case TCP_ST_STREAMING:
        end(flow, idle_ms != 0 && idle_for_ms >= idle_ms ? N2_REASON_IDLE_TIMEOUT
                                                         : N2_REASON_FIN_TIMEOUT);
        break;
    case TCP_ST_ENDED:
    case TCP_ST_CLOSING:
        break;
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct tcp_flow *flow = timer->data;
    uint64_t since_ms;
    const uint64_t limit_ms = time_limit(flow, &since_ms);

    if (flow->accept_paused) {
        flow->accept_paused = false;
        watched_socket_want(&flow->listener, UV_READABLE, on_listener);
    }
    if (limit_ms != 0 && uv_now(flow->plane->loop) - since_ms >= limit_ms)
        on_time_limit(flow);
    else
        arm_timer(flow);
}

/* Traffic only moves last_ms; the timer finds that out when it fires and sleeps on. */
static void arm_timer(struct tcp_flow *flow)
{
    uint64_t since_ms;
    const uint64_t limit_ms = time_limit(flow, &since_ms);
    const uint64_t passed_ms = uv_now(flow->plane->loop) - since_ms;
    uint64_t sleep_ms = limit_ms > passed_ms ? limit_ms - passed_ms : 0;

    if (flow->accept_paused && (limit_ms == 0 || sleep_ms > ACCEPT_RETRY_MS))
        sleep_ms = ACCEPT_RETRY_MS;
    if (limit_ms == 0 && !flow->accept_paused)
        uv_timer_stop(&flow->timer);
    else
        uv_timer_start(&flow->timer, on_timer, sleep_ms, 0);
}

/* ---- streaming ---------------------------------------------------------------------------------
 */

/* Octets that the order's limit still lets in. */
static uint64_t allowance(const struct tcp_flow *flow)
{
    const uint64_t max = flow->relay->limits.max_bytes;
    const uint64_t used = flow->up.bytes + flow->up.in_pipe + flow->down.bytes + flow->down.in_pipe;

    if (max == 0)
        return UINT64_MAX;
    return max > used ? max - used : 0;
}

static int interest_in(const struct tcp_flow *flow, const struct tcp_stream *from,
                       const struct tcp_stream *to, bool hung_up)
{
    int interest = 0;

    if (!from->finished && !from->blocked && allowance(flow) != 0)
        interest |= UV_READABLE;
    if (to->blocked)
        interest |= UV_WRITABLE;
    /* Tells of a reset while back-pressure keeps us from reading. */
    if (!hung_up)
        interest |= UV_DISCONNECT;
    return interest;
}

static void update_interest(struct tcp_flow *flow)
{
    if (flow->state == TCP_ST_WAITING) {
        /* What the target sends before the client has come stays in the kernel's queue. */
        watched_socket_want(&flow->target, flow->target_hung_up ? 0 : UV_DISCONNECT, on_target);
    } else if (flow->state == TCP_ST_STREAMING) {
        watched_socket_want(&flow->client,
                            interest_in(flow, &flow->up, &flow->down, flow->client_hung_up),
                            on_client);
        watched_socket_want(&flow->target,
                            interest_in(flow, &flow->down, &flow->up, flow->target_hung_up),
                            on_target);
    }
}

static void tell_target_fin(struct tcp_flow *flow)
{
    if (flow->fin_told)
        return;
    flow->fin_told = true;
    relay_notify(flow->relay, N2_EVENT_TARGET_FIN, 0);
}

static void connection_failed(struct tcp_flow *flow, const struct watched_socket *socket, int error)
{
    const bool reset = error == -ECONNRESET || error == -EPIPE;

    if (socket == &flow->target)
        relay_notify(flow->relay, reset ? N2_EVENT_TARGET_RST : N2_EVENT_TARGET_UNREACHABLE, 0);
    if (reset) {
        end(flow, socket == &flow->target ? N2_REASON_TARGET_RESET : N2_REASON_CLIENT_RESET);
        return;
    }
    socket_plane_log_error(flow->relay, socket == &flow->target ? "target" : "client", error);
    end(flow, N2_REASON_ERROR);
}

/* Returns false when that ended the flow. */
static bool pump(struct tcp_flow *flow, struct tcp_stream *stream, bool readable)
{
    struct watched_socket *sender = stream == &flow->up ? &flow->client : &flow->target;
    struct watched_socket *receiver = stream == &flow->up ? &flow->target : &flow->client;
    const uint64_t before = stream->bytes + stream->in_pipe;
    int error = 0;
    const enum tcp_stream_result result = tcp_stream_pump(
        stream, flow->plane, sender->fd, receiver->fd, readable, allowance(flow), &error);

    if (stream->bytes + stream->in_pipe != before || result == TCP_STREAM_FINISHED)
        flow->last_ms = uv_now(flow->plane->loop);
    switch (result) {
    case TCP_STREAM_E_SENDER:
        connection_failed(flow, sender, error);
        return false;
    case TCP_STREAM_E_RECEIVER:
        connection_failed(flow, receiver, error);
        return false;
    case TCP_STREAM_FINISHED:
        if (stream == &flow->down)
            tell_target_fin(flow);
        if (flow->up.finished && flow->down.finished) {
            end(flow, N2_REASON_FINISHED);
            return false;
        }
        arm_timer(flow);
        break;
    case TCP_STREAM_OK:
        break;
    }
    if (flow->relay->limits.max_bytes != 0 &&
        flow->up.bytes + flow->down.bytes >= flow->relay->limits.max_bytes) {
        end(flow, N2_REASON_LIMIT);
        return false;
    }
    return true;
}

/* One of the connections is ready, or has an error (`failed`), which waits behind the data that
 * came before it. */
static void on_connection(struct tcp_flow *flow, struct watched_socket *socket, bool failed,
                          int events)
{
    const bool is_client = socket == &flow->client;
    struct tcp_stream *from = is_client ? &flow->up : &flow->down;
    struct tcp_stream *to = is_client ? &flow->down : &flow->up;
    const uint64_t before = from->bytes;

    if (flow->state == TCP_ST_STREAMING) {
        if ((events & UV_WRITABLE) != 0 && to->blocked && !pump(flow, to, false))
            return;
        if ((failed || (events & UV_READABLE) != 0) && !from->blocked && !from->finished &&
            !pump(flow, from, true))
            return;
    }
    if (failed && (from->bytes == before || from->blocked)) {
        const int error = sockets_take_error(socket->fd);
        if (error < 0) {
            connection_failed(flow, socket, error);
            return;
        }
    }
    update_interest(flow);
}

static void on_client(uv_poll_t *poll, int status, int events)
{
    struct tcp_flow *flow = poll->data;

    watched_socket_reported(&flow->client, status);
    if (status < 0 || (events & UV_DISCONNECT) != 0)
        flow->client_hung_up = true;
    on_connection(flow, &flow->client, status < 0, events);
}

/* ---- opening -----------------------------------------------------------------------------------
 */

static int open_listener(struct tcp_flow *flow)
{
    const int fd = sockets_open_bound(flow->plane, flow->relay, tcp_listener_make, &flow->bound);

    if (fd < 0)
        return fd;
    const int rc = watched_socket_open(&flow->listener, flow->plane->loop, fd, flow);
    if (rc < 0)
        return rc;
    flow->handles++;
    flow->trap = tcp_listener_open(flow->plane, flow->relay, fd, &flow->bound);
    return flow->trap < 0 ? flow->trap : 0;
}

static void set_options(int fd)
{
    /* What one side has sent is not to wait here. */
    (void)sockets_set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    /* Urgent data becomes an octet of the stream, where it would otherwise be lost. */
    (void)sockets_set(fd, SOL_SOCKET, SO_OOBINLINE, 1);
}

static void on_connected(struct tcp_flow *flow)
{
    struct relay *relay = flow->relay;
    const int rc = endpoint_local(flow->target.fd, &relay->egress);

    if (rc < 0) {
        fail(flow, rc, "egress");
        return;
    }
    set_options(flow->target.fd);
    relay->bound = flow->bound;
    set_state(flow, TCP_ST_WAITING);
    watched_socket_want(&flow->listener, UV_READABLE, on_listener);
    update_interest(flow);
    relay_opened(relay);
}

static void on_target(uv_poll_t *poll, int status, int events)
{
    struct tcp_flow *flow = poll->data;

    watched_socket_reported(&flow->target, status);
    if (flow->state == TCP_ST_CONNECTING) {
        const int error = sockets_take_error(flow->target.fd);
        if (error < 0)
            fail(flow, error, "connect to the destination");
        else
            on_connected(flow);
        return;
    }
    if (status < 0 || (events & UV_DISCONNECT) != 0)
        flow->target_hung_up = true;
    if (status >= 0 && (events & UV_DISCONNECT) != 0)
        tell_target_fin(flow);
    on_connection(flow, &flow->target, status < 0, events);
}

static void accept_failed(struct tcp_flow *flow, int error)
{
    if (error == -EAGAIN || error == -EINTR || error == -ECONNABORTED)
        return;
    /* Out of descriptors or memory: the connection stays in the queue and would be reported
     * without end. */
    flow->accept_paused = true;
    watched_socket_want(&flow->listener, 0, on_listener);
    arm_timer(flow);
}

static void on_listener(uv_poll_t *poll, int status, int events)
{
    struct tcp_flow *flow = poll->data;
    struct relay *relay = flow->relay;
    struct endpoint peer;

    (void)events;
    watched_socket_reported(&flow->listener, status);
    if (flow->state != TCP_ST_WAITING)
        return;
    const int fd = tcp_listener_accept(flow->plane, relay, flow->listener.fd, &peer);
    if (fd < 0) {
        accept_failed(flow, fd);
        return;
    }
    /* Others of S, where its port is learnt, may wait in the queue: they are reset. */
    watched_socket_close(&flow->listener, false, on_closed);
    set_options(fd);
    const int rc = watched_socket_open(&flow->client, flow->plane->loop, fd, flow);
    if (rc < 0) {
        socket_plane_log_error(relay, "client", rc);
        end(flow, N2_REASON_ERROR);
        return;
    }
    flow->handles++;
    relay->source.port = peer.port;
    flow->last_ms = uv_now(flow->plane->loop);
    set_state(flow, TCP_ST_STREAMING);
    relay_client_arrived(relay);
    update_interest(flow);
}

static struct tcp_flow *tcp_flow_new(struct socket_plane *plane, struct relay *relay)
{
    struct tcp_flow *flow = calloc(1, sizeof(*flow));

    relay->flow = flow;
    if (flow == NULL)
        return NULL;
    flow->plane = plane;
    flow->relay = relay;
    flow->trap = -1;
    watched_socket_init(&flow->listener);
    watched_socket_init(&flow->client);
    watched_socket_init(&flow->target);
    /* Never fails, so that from here on there is always a handle whose close callback frees the
     * flow. */
    uv_timer_init(plane->loop, &flow->timer);
    flow->timer.data = flow;
    flow->handles = 1;
    flow->last_ms = uv_now(plane->loop);
    plane->flows++;
    return flow;
}

static void tcp_flow_open(struct socket_plane *plane, struct relay *relay)
{
    struct tcp_flow *flow = tcp_flow_new(plane, relay);
    bool in_progress;
    int rc;

    if (flow == NULL) {
        relay_open_failed(relay, N2_ERROR_GENERAL, "out of memory");
        return;
    }
    set_state(flow, TCP_ST_CONNECTING);
    rc = relay->source.port == 0 && !relay->learn_source_port ? -EINVAL : open_listener(flow);
    if (rc < 0) {
        fail(flow, rc == -EACCES || rc == -EPERM ? -EADDRNOTAVAIL : rc, "BND");
        return;
    }
    const int fd = sockets_open_egress(plane, relay, &in_progress);
    rc = fd >= 0 ? watched_socket_open(&flow->target, plane->loop, fd, flow) : fd;
    if (rc < 0) {
        fail(flow, rc, "connect to the destination");
        return;
    }
    flow->handles++;
    if (in_progress)
        watched_socket_want(&flow->target, UV_WRITABLE, on_target);
    else
        on_connected(flow);
}

const struct flow_ops tcp_flow_ops = {
    .open = tcp_flow_open,
    .close = tcp_flow_close,
    .counters = tcp_flow_counters,
    .drops = tcp_flow_drops,
};
