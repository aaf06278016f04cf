/*
 * The UDP flow: three sockets. The sink holds BND's port against everybody else and swallows what
 * strangers send; the data socket, connected to S, shares the port; the egress socket is connected
 * to DST.
 *
 *   WAITING ──first datagram of S──▶ ACTIVE
 *      │                               │
 *      └──────── ended ────────────────┴──▶ ENDED ──close()──▶ CLOSING ──last handle──▶ (freed)
 *
 * close() leads from every state to CLOSING. Where S's port is to be learnt, the sink takes
 * datagrams of S's address at first, and the data socket is connected when the first one has told
 * the port.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/net/sockaddr.h"
#include "relayd/plane/socket/flow.h"
#include "relayd/plane/socket/sockets.h"
#include "relayd/plane/socket/stranger_filter.h"
#include "relayd/plane/socket/udp_batch.h"
#include "relayd/plane/socket/watched_socket.h"

/* TARGET_UNREACHABLE is told at most once in this time. */
#define UNREACHABLE_INTERVAL_MS 1000

enum udp_state { UDP_ST_WAITING, UDP_ST_ACTIVE, UDP_ST_ENDED, UDP_ST_CLOSING };

struct udp_flow {
    struct socket_plane *plane;
    struct relay *relay;
    struct watched_socket sink, data, egress;
    struct udp_direction up, down;
    uv_timer_t timer;
    uint64_t last_ms;
    uint64_t unreachable_told_ms; /* 0: never */
    struct drop_counter drops;
    struct endpoint bound; /* port 0: none drawn */
    enum udp_state state;
    unsigned handles; /* whose close callback is still to come */
};

static void on_timer(uv_timer_t *timer);
static void on_sink(uv_poll_t *poll, int status, int events);
static void on_data(uv_poll_t *poll, int status, int events);
static void on_egress(uv_poll_t *poll, int status, int events);

/* ---- counters ----------------------------------------------------------------------------------
 */

static void fill_counters(const struct udp_flow *flow, struct n2_counters *out)
{
    *out = (struct n2_counters){
        .up_packets = flow->up.packets,
        .up_bytes = flow->up.bytes,
        .down_packets = flow->down.packets,
        .down_bytes = flow->down.bytes,
        .drops = flow->drops.total,
    };
}

static void udp_flow_counters(const struct relay *relay, struct n2_counters *out, uint64_t *idle_ms)
{
    struct udp_flow *flow = relay->flow;

    *idle_ms = 0;
    memset(out, 0, sizeof(*out));
    if (flow == NULL)
        return;
    drop_counter_update(&flow->drops, flow->sink.fd);
    fill_counters(flow, out);
    *idle_ms = uv_now(flow->plane->loop) - flow->last_ms;
}

static uint64_t udp_flow_drops(const struct relay *relay)
{
    struct udp_flow *flow = relay->flow;

    return flow != NULL ? drop_counter_update(&flow->drops, flow->sink.fd) : 0;
}

/* ---- closing -----------------------------------------------------------------------------------
 */

static void on_closed(uv_handle_t *handle)
{
    struct udp_flow *flow = handle->data;
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

static void close_sockets(struct udp_flow *flow)
{
    drop_counter_update(&flow->drops, flow->sink.fd);
    watched_socket_close(&flow->egress, false, on_closed);
    watched_socket_close(&flow->data, false, on_closed);
    watched_socket_close(&flow->sink, false, on_closed);
    sockets_return_bound(flow->plane, &flow->bound);
}

static void fail(struct udp_flow *flow, int error, const char *what)
{
    char text[N2_TEXT_MAX + 1];

    snprintf(text, sizeof(text), "%s: %s", what, strerror(-error));
    close_sockets(flow);
    flow->state = UDP_ST_ENDED;
    relay_open_failed(flow->relay, socket_plane_error(-error), text);
}

/* The last thing that its callers do: the flow may be closing when it returns. The sink stays until
 * close(): strangers are not to hear anything. */
static void end(struct udp_flow *flow, enum n2_reason reason)
{
    watched_socket_close(&flow->egress, false, on_closed);
    watched_socket_close(&flow->data, false, on_closed);
    watched_socket_want(&flow->sink, 0, on_sink);
    (void)stranger_filter_drop_all(flow->sink.fd);
    uv_timer_stop(&flow->timer);
    flow->state = UDP_ST_ENDED;
    relay_ended(flow->relay, reason);
}

static void udp_flow_close(struct socket_plane *plane, struct relay *relay, bool abort)
{
    struct udp_flow *flow = relay->flow;
    const struct n2_counters none = {0};

    (void)plane;
    (void)abort; /* datagrams have no end that could be told */
    if (flow == NULL) {
        relay_plane_closed(relay, &none);
        return;
    }
    if (flow->state == UDP_ST_CLOSING)
        return;
    close_sockets(flow);
    flow->state = UDP_ST_CLOSING;
    uv_close((uv_handle_t *)&flow->timer, on_closed);
}

/* ---- time --------------------------------------------------------------------------------------
 */

static uint64_t idle_limit_ms(const struct udp_flow *flow)
{
    const uint64_t configured = flow->plane->config->udp.idle_timeout_ms;
    const uint64_t ordered = flow->relay->limits.idle_ms;

    if (configured == 0 || ordered == 0)
        return configured | ordered;
    return configured < ordered ? configured : ordered;
}

/* Traffic only moves last_ms; the timer finds that out when it fires and sleeps on. */
static void arm_timer(struct udp_flow *flow)
{
    const uint64_t limit_ms = idle_limit_ms(flow);
    const uint64_t idle_ms = uv_now(flow->plane->loop) - flow->last_ms;

    if (limit_ms != 0)
        uv_timer_start(&flow->timer, on_timer, limit_ms > idle_ms ? limit_ms - idle_ms : 0, 0);
}

static void on_timer(uv_timer_t *timer)
{
    struct udp_flow *flow = timer->data;

    if (uv_now(flow->plane->loop) - flow->last_ms >= idle_limit_ms(flow))
        end(flow, N2_REASON_IDLE_TIMEOUT);
    else
        arm_timer(flow);
}

/* ---- datagrams ---------------------------------------------------------------------------------
 */

static void target_unreachable(struct udp_flow *flow)
{
    const uint64_t now_ms = uv_now(flow->plane->loop);

    if (flow->unreachable_told_ms != 0 &&
        now_ms - flow->unreachable_told_ms < UNREACHABLE_INTERVAL_MS)
        return;
    flow->unreachable_told_ms = now_ms != 0 ? now_ms : 1;
    relay_notify(flow->relay, N2_EVENT_TARGET_UNREACHABLE, 0);
}

static uint64_t allowance(const struct udp_flow *flow)
{
    const uint64_t max = flow->relay->limits.max_bytes;
    const uint64_t used = flow->up.bytes + flow->down.bytes;

    if (max == 0)
        return UINT64_MAX;
    return max > used ? max - used : 0;
}

/* Sends on what was just received. Returns false when that ended the flow. */
static bool forward(struct udp_flow *flow, struct udp_direction *direction, int to)
{
    struct udp_batch_result result;

    flow->last_ms = uv_now(flow->plane->loop);
    udp_batch_send(flow->plane, to, direction, allowance(flow), &result);
    /* A client that has gone is told by its control connection. */
    if (result.error < 0 && direction == &flow->up)
        target_unreachable(flow);
    if (result.over_limit || allowance(flow) == 0) {
        end(flow, N2_REASON_LIMIT);
        return false;
    }
    return true;
}

static void client_arrived(struct udp_flow *flow)
{
    if (flow->state != UDP_ST_WAITING)
        return;
    flow->state = UDP_ST_ACTIVE;
    relay_client_arrived(flow->relay);
}

static void on_data(uv_poll_t *poll, int status, int events)
{
    struct udp_flow *flow = poll->data;

    (void)events;
    watched_socket_reported(&flow->data, status);
    if (udp_batch_receive(flow->data.fd) > 0) {
        client_arrived(flow);
        if (!forward(flow, &flow->up, flow->egress.fd))
            return;
    }
    watched_socket_want(&flow->data, UV_READABLE, on_data);
}

static void on_egress(uv_poll_t *poll, int status, int events)
{
    struct udp_flow *flow = poll->data;

    (void)events;
    watched_socket_reported(&flow->egress, status);
    const int n = udp_batch_receive(flow->egress.fd);
    if (n > 0 && !forward(flow, &flow->down, flow->data.fd))
        return;
    if (n < 0 && n != -EAGAIN && n != -EINTR)
        target_unreachable(flow);
    watched_socket_want(&flow->egress, UV_READABLE, on_egress);
}

/* ---- opening -----------------------------------------------------------------------------------
 */

/* Bound without SO_REUSEADDR: the kernel refuses a port that anybody has. */
static int make_sink(struct socket_plane *plane, const struct relay *relay,
                     const struct endpoint *bound)
{
    struct sockaddr_storage address;
    const socklen_t length = endpoint_to_sockaddr(bound, &address);
    const int fd =
        sockets_new(plane, &bound->address, SOCK_DGRAM, relay->transport->socket_protocol);

    if (fd < 0)
        return fd;
    /* The filter comes first: from bind() on packets may come. */
    int rc = relay->source.port == 0 ? stranger_filter_accept(fd, &relay->source)
                                     : stranger_filter_drop_all(fd);
    if (rc == 0 && bind(fd, (struct sockaddr *)&address, length) < 0)
        rc = -errno;
    if (rc < 0) {
        close(fd);
        return rc;
    }
    return fd;
}

static void set_buffers(const struct udp_flow *flow, int fd)
{
    const uint64_t octets = flow->plane->config->udp.receive_buffer;
    const int size = octets < INT32_MAX ? (int)octets : INT32_MAX;

    if (size == 0)
        return;
    /* The kernel clamps both to rmem_max and wmem_max. */
    (void)sockets_set(fd, SOL_SOCKET, SO_RCVBUF, size);
    (void)sockets_set(fd, SOL_SOCKET, SO_SNDBUF, size);
}

static int open_socket(struct udp_flow *flow, struct watched_socket *socket, int fd)
{
    if (fd < 0)
        return fd;
    const int rc = watched_socket_open(socket, flow->plane->loop, fd, flow);
    if (rc == 0)
        flow->handles++;
    return rc;
}

/* Binds the data socket beside the sink and connects it to S. SO_REUSEADDR is there for this moment
 * alone: afterwards nobody can join. Until it is connected the data socket would take anybody's
 * datagrams, so it, too, drops everything. Returns 0 or -errno. */
static int connect_data(struct udp_flow *flow)
{
    struct sockaddr_storage bound, source;
    const socklen_t bound_length = endpoint_to_sockaddr(&flow->bound, &bound);
    const socklen_t source_length = endpoint_to_sockaddr(&flow->relay->source, &source);
    const int sink = flow->sink.fd, data = flow->data.fd;
    int rc = stranger_filter_drop_all(data);

    if (rc == 0)
        rc = sockets_set(sink, SOL_SOCKET, SO_REUSEADDR, 1);
    if (rc == 0)
        rc = sockets_set(data, SOL_SOCKET, SO_REUSEADDR, 1);
    if (rc == 0 && (bind(data, (struct sockaddr *)&bound, bound_length) < 0 ||
                    connect(data, (struct sockaddr *)&source, source_length) < 0))
        rc = -errno;
    if (rc == 0)
        rc = sockets_set(sink, SOL_SOCKET, SO_REUSEADDR, 0);
    if (rc == 0)
        rc = sockets_set(data, SOL_SOCKET, SO_REUSEADDR, 0);
    if (rc == 0)
        rc = stranger_filter_detach(data);
    if (rc < 0)
        return rc;
    watched_socket_want(&flow->data, UV_READABLE, on_data);
    return 0;
}

/* Sends on what waits in the sink from the port that was learnt; what other ports sent is a
 * stranger's. Returns false when that ended the flow. */
static bool drain_sink(struct udp_flow *flow)
{
    struct sockaddr_storage address;
    struct endpoint from;

    while (udp_batch_receive_one(flow->sink.fd, &address) > 0) {
        if (endpoint_from_sockaddr((struct sockaddr *)&address, &from) != 0 ||
            from.port != flow->relay->source.port)
            flow->drops.total++;
        else if (!forward(flow, &flow->up, flow->egress.fd))
            return false;
    }
    return true;
}

/* The first datagram of S's address: its port is S's from now on. */
static void on_sink(uv_poll_t *poll, int status, int events)
{
    struct udp_flow *flow = poll->data;
    struct sockaddr_storage address;
    struct endpoint from;
    socklen_t length = sizeof(address);

    (void)events;
    watched_socket_reported(&flow->sink, status);
    const ssize_t n = recvfrom(flow->sink.fd, NULL, 0, MSG_PEEK | MSG_DONTWAIT,
                               (struct sockaddr *)&address, &length);
    if (n < 0 || endpoint_from_sockaddr((struct sockaddr *)&address, &from) != 0 ||
        from.port == 0) {
        /* Nothing there, or nothing that can be answered. */
        if (n >= 0)
            (void)recv(flow->sink.fd, NULL, 0, MSG_DONTWAIT);
        watched_socket_want(&flow->sink, UV_READABLE, on_sink);
        return;
    }
    flow->relay->source.port = from.port;
    /* The sink goes on taking them until the data socket is there, so that none is lost between the
     * two. */
    int rc = connect_data(flow);
    if (rc == 0)
        rc = stranger_filter_drop_all(flow->sink.fd);
    if (rc < 0) {
        socket_plane_log_error(flow->relay, "client", rc);
        end(flow, N2_REASON_ERROR);
        return;
    }
    watched_socket_want(&flow->sink, 0, on_sink);
    client_arrived(flow);
    (void)drain_sink(flow);
}

static struct udp_flow *udp_flow_new(struct socket_plane *plane, struct relay *relay)
{
    struct udp_flow *flow = calloc(1, sizeof(*flow));

    relay->flow = flow;
    if (flow == NULL)
        return NULL;
    flow->plane = plane;
    flow->relay = relay;
    watched_socket_init(&flow->sink);
    watched_socket_init(&flow->data);
    watched_socket_init(&flow->egress);
    /* Never fails, so that from here on there is always a handle whose close callback frees the
     * flow. */
    uv_timer_init(plane->loop, &flow->timer);
    flow->timer.data = flow;
    flow->handles = 1;
    flow->last_ms = uv_now(plane->loop);
    plane->flows++;
    return flow;
}

static int open_bound(struct udp_flow *flow)
{
    const struct relay *relay = flow->relay;
    int rc = open_socket(flow, &flow->sink,
                         sockets_open_bound(flow->plane, relay, make_sink, &flow->bound));

    /* Made now even if it is connected later: then there is a descriptor for it. */
    if (rc == 0)
        rc = open_socket(flow, &flow->data,
                         sockets_new(flow->plane, &flow->bound.address, SOCK_DGRAM,
                                     relay->transport->socket_protocol));
    if (rc < 0)
        return rc;
    udp_batch_prepare(flow->data.fd);
    set_buffers(flow, flow->data.fd);
    if (relay->source.port != 0)
        return connect_data(flow);
    watched_socket_want(&flow->sink, UV_READABLE, on_sink);
    return 0;
}

static int open_egress(struct udp_flow *flow)
{
    bool in_progress;
    const int rc = open_socket(flow, &flow->egress,
                               sockets_open_egress(flow->plane, flow->relay, &in_progress));

    if (rc < 0)
        return rc;
    udp_batch_prepare(flow->egress.fd);
    set_buffers(flow, flow->egress.fd);
    watched_socket_want(&flow->egress, UV_READABLE, on_egress);
    return endpoint_local(flow->egress.fd, &flow->relay->egress);
}

static void udp_flow_open(struct socket_plane *plane, struct relay *relay)
{
    struct udp_flow *flow = udp_flow_new(plane, relay);

    if (flow == NULL) {
        relay_open_failed(relay, N2_ERROR_GENERAL, "out of memory");
        return;
    }
    int rc = relay->source.port == 0 && !relay->learn_source_port ? -EINVAL : open_bound(flow);
    if (rc < 0) {
        fail(flow, rc == -EACCES || rc == -EPERM ? -EADDRNOTAVAIL : rc, "BND");
        return;
    }
    rc = open_egress(flow);
    if (rc < 0) {
        fail(flow, rc, "the way to the destination");
        return;
    }
    relay->bound = flow->bound;
    arm_timer(flow);
    relay_opened(relay);
}

const struct flow_ops udp_flow_ops = {
    .open = udp_flow_open,
    .close = udp_flow_close,
    .counters = udp_flow_counters,
    .drops = udp_flow_drops,
};
