#include "relayd/plane/socket/tcp_pump.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

#include "relayd/plane/socket/sockets.h"
#include "relayd/plane/socket/tcp_segments.h"

/* How soon a host that has vanished is noticed, where no control connection tells (N1 has the same
 * figures). */
#define KEEPALIVE_IDLE_S 30
#define KEEPALIVE_INTERVAL_S 10
#define KEEPALIVE_PROBES 3

static void on_client(uv_poll_t *poll, int status, int events);
static void on_target(uv_poll_t *poll, int status, int events);
static void on_resume(struct throttled *throttled);

#define PUMP_OF(poll, member)                                                                      \
    ((struct tcp_pump *)((char *)(poll)-offsetof(struct tcp_pump, member.poll)))

/* ---- lifecycle ---------------------------------------------------------------------------------
 */

void tcp_pump_init(struct tcp_pump *pump, struct socket_plane *plane, struct relay *relay,
                   const struct tcp_pump_ops *ops, void *owner)
{
    memset(pump, 0, sizeof(*pump));
    pump->plane = plane;
    pump->relay = relay;
    pump->ops = ops;
    pump->owner = owner;
    pump->last_ms = uv_now(plane->loop);
    pump->throttled.resume = on_resume;
    watched_socket_init(&pump->client);
    watched_socket_init(&pump->target);
}

/* None of them can be missing but on a Unix socket, which needs none. */
static void set_options(const struct tcp_pump *pump, int fd)
{
    /* What one side has sent is not to wait here. */
    (void)sockets_set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    /* Urgent data becomes an octet of the stream, where it would otherwise be lost. */
    (void)sockets_set(fd, SOL_SOCKET, SO_OOBINLINE, 1);
    if (pump->relay->kind == N2_KIND_TRANSPARENT)
        return; /* N1 tells that the client has vanished */
    (void)sockets_set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    (void)sockets_set(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S);
    (void)sockets_set(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S);
    (void)sockets_set(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES);
}

int tcp_pump_take_client(struct tcp_pump *pump, int fd)
{
    set_options(pump, fd);
    return watched_socket_open(&pump->client, pump->plane->loop, fd, pump->owner);
}

int tcp_pump_take_target(struct tcp_pump *pump, int fd)
{
    set_options(pump, fd);
    return watched_socket_open(&pump->target, pump->plane->loop, fd, pump->owner);
}

void tcp_pump_close(struct tcp_pump *pump, bool abort)
{
    tcp_pump_sample(pump);
    throttle_leave(&pump->plane->throttle, &pump->throttled);
    watched_socket_close(&pump->client, abort, pump->ops->closed);
    watched_socket_close(&pump->target, abort, pump->ops->closed);
    tcp_stream_release(&pump->up, pump->plane);
    tcp_stream_release(&pump->down, pump->plane);
}

/* ---- counters ----------------------------------------------------------------------------------
 */

void tcp_pump_sample(struct tcp_pump *pump)
{
    const uint64_t before = pump->client_before;

    pump->up_packets = tcp_data_segments_in(pump->client.fd, pump->up_packets + before) - before;
    pump->down_packets = tcp_data_segments_in(pump->target.fd, pump->down_packets);
}

void tcp_pump_counters(const struct tcp_pump *pump, struct n2_counters *out)
{
    *out = (struct n2_counters){
        .up_packets = pump->up_packets,
        .up_bytes = pump->up.bytes,
        .down_packets = pump->down_packets,
        .down_bytes = pump->down.bytes,
    };
}

bool tcp_pump_is_half_closed(const struct tcp_pump *pump)
{
    return pump->up.finished || pump->down.finished;
}

bool tcp_pump_still_delivers(struct tcp_pump *pump)
{
    const uint64_t acknowledged =
        tcp_octets_acknowledged(pump->client.fd) + tcp_octets_acknowledged(pump->target.fd);
    const bool delivers = acknowledged != 0 && acknowledged != pump->acknowledged;

    pump->acknowledged = acknowledged;
    if (delivers)
        pump->last_ms = uv_now(pump->plane->loop);
    return delivers;
}

/* Octets that limits.max_bytes still lets in. */
static uint64_t allowance(const struct tcp_pump *pump)
{
    const uint64_t max = pump->relay->limits.max_bytes;
    const uint64_t used = pump->up.bytes + pump->up.in_pipe + pump->down.bytes + pump->down.in_pipe;

    if (max == 0)
        return UINT64_MAX;
    return max > used ? max - used : 0;
}

/* ---- what to wait for --------------------------------------------------------------------------
 */

/* Reads no more until there is something in the bucket: the sender feels it as back-pressure. */
static bool is_throttled(struct tcp_pump *pump, struct tcp_stream *from)
{
    if (token_bucket_is_ready(&from->bucket, uv_now(pump->plane->loop)))
        return false;
    throttle_wait(&pump->plane->throttle, &pump->throttled);
    return true;
}

static int interest_in(struct tcp_pump *pump, struct tcp_stream *from, const struct tcp_stream *to,
                       bool hung_up)
{
    int interest = 0;

    if (!from->finished && !from->blocked && allowance(pump) != 0 && !is_throttled(pump, from))
        interest |= UV_READABLE;
    if (to->blocked)
        interest |= UV_WRITABLE;
    /* Tells of a reset while back-pressure keeps us from reading. */
    if (!hung_up)
        interest |= UV_DISCONNECT;
    return interest;
}

static void update_interest(struct tcp_pump *pump)
{
    if (!pump->started) {
        watched_socket_want(&pump->target, pump->target_hung_up ? 0 : UV_DISCONNECT, on_target);
        return;
    }
    watched_socket_want(&pump->client,
                        interest_in(pump, &pump->up, &pump->down, pump->client_hung_up), on_client);
    watched_socket_want(&pump->target,
                        interest_in(pump, &pump->down, &pump->up, pump->target_hung_up), on_target);
}

static void on_resume(struct throttled *throttled)
{
    update_interest((struct tcp_pump *)((char *)throttled - offsetof(struct tcp_pump, throttled)));
}

void tcp_pump_watch_target(struct tcp_pump *pump)
{
    update_interest(pump);
}

/* ---- moving ------------------------------------------------------------------------------------
 */

static void tell_target_fin(struct tcp_pump *pump)
{
    if (pump->fin_told)
        return;
    pump->fin_told = true;
    relay_notify(pump->relay, N2_EVENT_TARGET_FIN, 0);
}

static void connection_failed(struct tcp_pump *pump, const struct watched_socket *socket, int error)
{
    const bool reset = error == -ECONNRESET || error == -EPIPE;
    const bool target = socket == &pump->target;

    if (target)
        relay_notify(pump->relay, reset ? N2_EVENT_TARGET_RST : N2_EVENT_TARGET_UNREACHABLE, 0);
    if (!reset)
        socket_plane_log_error(pump->relay, target ? "target" : "client", error);
    if (!reset)
        pump->ops->ended(pump, N2_REASON_ERROR);
    else
        pump->ops->ended(pump, target ? N2_REASON_TARGET_RESET : N2_REASON_CLIENT_RESET);
}

/* What has become of a stream. Returns false when that ended the pump. */
static bool judge(struct tcp_pump *pump, const struct tcp_stream *stream,
                  enum tcp_stream_result result, int error)
{
    const struct n2_limits *limits = &pump->relay->limits;
    const bool up = stream == &pump->up;

    switch (result) {
    case TCP_STREAM_E_SENDER:
        connection_failed(pump, up ? &pump->client : &pump->target, error);
        return false;
    case TCP_STREAM_E_RECEIVER:
        connection_failed(pump, up ? &pump->target : &pump->client, error);
        return false;
    case TCP_STREAM_FINISHED:
        if (!up)
            tell_target_fin(pump);
        if (pump->up.finished && pump->down.finished) {
            pump->ops->ended(pump, N2_REASON_FINISHED);
            return false;
        }
        pump->ops->half_closed(pump);
        break;
    case TCP_STREAM_OK:
        break;
    }
    if (limits->max_bytes != 0 && pump->up.bytes + pump->down.bytes >= limits->max_bytes) {
        pump->ops->ended(pump, N2_REASON_LIMIT);
        return false;
    }
    return true;
}

/* Returns false when that ended the pump. */
static bool move(struct tcp_pump *pump, struct tcp_stream *stream, bool readable)
{
    const bool up = stream == &pump->up;
    const int sender = up ? pump->client.fd : pump->target.fd;
    const int receiver = up ? pump->target.fd : pump->client.fd;
    const uint64_t before = stream->bytes + stream->in_pipe;
    const uint64_t now_ms = uv_now(pump->plane->loop);
    const uint64_t in_total = allowance(pump);
    const uint64_t in_time = token_bucket_content(&stream->bucket, now_ms);
    int error = 0;
    const enum tcp_stream_result result =
        tcp_stream_pump(stream, pump->plane, sender, receiver, readable,
                        in_total < in_time ? in_total : in_time, &error);
    const uint64_t read = stream->bytes + stream->in_pipe - before;

    token_bucket_take(&stream->bucket, read);
    if (read != 0 || result == TCP_STREAM_FINISHED)
        pump->last_ms = now_ms;
    return judge(pump, stream, result, error);
}

void tcp_pump_start(struct tcp_pump *pump, const uint8_t *early, size_t length)
{
    const uint64_t most = allowance(pump);

    pump->started = true;
    pump->last_ms = uv_now(pump->plane->loop);
    token_bucket_init(&pump->up.bucket, pump->relay->limits.bytes_per_second, pump->last_ms);
    token_bucket_init(&pump->down.bucket, pump->relay->limits.bytes_per_second, pump->last_ms);
    if (length > most)
        length = (size_t)most;
    if (length != 0) {
        int error = 0;
        token_bucket_take(&pump->up.bucket, length); /* it is full, and they are few */
        const enum tcp_stream_result result =
            tcp_stream_push(&pump->up, pump->plane, pump->target.fd, early, length, &error);
        if (!judge(pump, &pump->up, result, error))
            return;
    }
    update_interest(pump);
}

/* One of the connections is ready, or has an error (`failed`), which waits behind the data that
 * came before it. */
static void on_connection(struct tcp_pump *pump, struct watched_socket *socket, bool failed,
                          int events)
{
    const bool is_client = socket == &pump->client;
    struct tcp_stream *from = is_client ? &pump->up : &pump->down;
    struct tcp_stream *to = is_client ? &pump->down : &pump->up;
    const uint64_t before = from->bytes;

    if (pump->started) {
        if ((events & UV_WRITABLE) != 0 && to->blocked && !move(pump, to, false))
            return;
        if ((failed || (events & UV_READABLE) != 0) && !from->blocked && !from->finished &&
            !move(pump, from, true))
            return;
    }
    if (failed && (from->bytes == before || from->blocked)) {
        const int error = sockets_take_error(socket->fd);
        if (error < 0) {
            connection_failed(pump, socket, error);
            return;
        }
    }
    update_interest(pump);
}

static void on_client(uv_poll_t *poll, int status, int events)
{
    struct tcp_pump *pump = PUMP_OF(poll, client);

    watched_socket_reported(&pump->client, status);
    if (status < 0 || (events & UV_DISCONNECT) != 0)
        pump->client_hung_up = true;
    on_connection(pump, &pump->client, status < 0, events);
}

static void on_target(uv_poll_t *poll, int status, int events)
{
    struct tcp_pump *pump = PUMP_OF(poll, target);

    watched_socket_reported(&pump->target, status);
    if (status < 0 || (events & UV_DISCONNECT) != 0)
        pump->target_hung_up = true;
    if (status >= 0 && (events & UV_DISCONNECT) != 0)
        tell_target_fin(pump);
    on_connection(pump, &pump->target, status < 0, events);
}
