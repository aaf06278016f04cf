#include "relayd/plane/socket/datagram_flow.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/net/sockaddr.h"
#include "relayd/plane/socket/sockets.h"
#include "relayd/plane/socket/udp_batch.h"

/* TARGET_UNREACHABLE is told at most once in this time. */
#define UNREACHABLE_INTERVAL_MS 1000

static void on_timer(uv_timer_t *timer);
static void on_sink(uv_poll_t *poll, int status, int events);
static void on_data(uv_poll_t *poll, int status, int events);

/* ---- counters ----------------------------------------------------------------------------------
 */

static void fill_counters(const struct datagram_flow *flow, struct n2_counters *out)
{
    *out = (struct n2_counters){
        .up_packets = flow->up.packets,
        .up_bytes = flow->up.bytes,
        .down_packets = flow->down.packets,
        .down_bytes = flow->down.bytes,
        .drops = flow->drops.total,
    };
}

void datagram_flow_counters(const struct relay *relay, struct n2_counters *out, uint64_t *idle_ms)
{
    struct datagram_flow *flow = relay->flow;

    *idle_ms = 0;
    memset(out, 0, sizeof(*out));
    if (flow == NULL)
        return;
    drop_counter_update(&flow->drops, flow->sink.fd);
    fill_counters(flow, out);
    *idle_ms = uv_now(flow->plane->loop) - flow->last_ms;
}

uint64_t datagram_flow_drops(const struct relay *relay)
{
    struct datagram_flow *flow = relay->flow;

    return flow != NULL ? drop_counter_update(&flow->drops, flow->sink.fd) : 0;
}

/* ---- closing -----------------------------------------------------------------------------------
 */

void datagram_flow_closed(uv_handle_t *handle)
{
    struct datagram_flow *flow = handle->data;
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

static void close_sockets(struct datagram_flow *flow)
{
    drop_counter_update(&flow->drops, flow->sink.fd);
    flow->ops->release(flow);
    watched_socket_close(&flow->data, false, datagram_flow_closed);
    watched_socket_close(&flow->sink, false, datagram_flow_closed);
    sockets_return_bound(flow->plane, &flow->bound);
}

void datagram_flow_fail(struct datagram_flow *flow, int error, const char *what)
{
    char text[N2_TEXT_MAX + 1];

    snprintf(text, sizeof(text), "%s: %s", what, strerror(-error));
    close_sockets(flow);
    flow->state = DATAGRAM_ST_ENDED;
    relay_open_failed(flow->relay, socket_plane_error(-error), text);
}

/* The sink stays until close(): strangers are not to hear anything. */
void datagram_flow_end(struct datagram_flow *flow, enum n2_reason reason)
{
    flow->ops->release(flow);
    watched_socket_close(&flow->data, false, datagram_flow_closed);
    watched_socket_want(&flow->sink, 0, on_sink);
    (void)stranger_filter_drop_all(flow->sink.fd);
    uv_timer_stop(&flow->timer);
    flow->state = DATAGRAM_ST_ENDED;
    relay_ended(flow->relay, reason);
}

void datagram_flow_close(struct socket_plane *plane, struct relay *relay, bool abort)
{
    struct datagram_flow *flow = relay->flow;
    const struct n2_counters none = {0};

    (void)plane;
    (void)abort; /* datagrams have no end that could be told */
    if (flow == NULL) {
        relay_plane_closed(relay, &none);
        return;
    }
    if (flow->state == DATAGRAM_ST_CLOSING)
        return;
    close_sockets(flow);
    flow->state = DATAGRAM_ST_CLOSING;
    uv_close((uv_handle_t *)&flow->timer, datagram_flow_closed);
}

/* ---- time --------------------------------------------------------------------------------------
 */

static uint64_t idle_limit_ms(const struct datagram_flow *flow)
{
    const uint64_t configured = flow->plane->config->udp.idle_timeout_ms;
    const uint64_t ordered = flow->relay->limits.idle_ms;

    if (configured == 0 || ordered == 0)
        return configured | ordered;
    return configured < ordered ? configured : ordered;
}

/* Traffic only moves last_ms; the timer finds that out when it fires and sleeps on. */
static void arm_timer(struct datagram_flow *flow)
{
    const uint64_t limit_ms = idle_limit_ms(flow);
    const uint64_t idle_ms = uv_now(flow->plane->loop) - flow->last_ms;

    if (limit_ms != 0)
        uv_timer_start(&flow->timer, on_timer, limit_ms > idle_ms ? limit_ms - idle_ms : 0, 0);
}

static void on_timer(uv_timer_t *timer)
{
    struct datagram_flow *flow = timer->data;

    if (uv_now(flow->plane->loop) - flow->last_ms >= idle_limit_ms(flow))
        datagram_flow_end(flow, N2_REASON_IDLE_TIMEOUT);
    else
        arm_timer(flow);
}

/* ---- datagrams ---------------------------------------------------------------------------------
 */

void datagram_flow_unreachable(struct datagram_flow *flow)
{
    const uint64_t now_ms = uv_now(flow->plane->loop);

    if (flow->unreachable_told_ms != 0 &&
        now_ms - flow->unreachable_told_ms < UNREACHABLE_INTERVAL_MS)
        return;
    flow->unreachable_told_ms = now_ms != 0 ? now_ms : 1;
    relay_notify(flow->relay, N2_EVENT_TARGET_UNREACHABLE, 0);
}

void datagram_flow_touch(struct datagram_flow *flow)
{
    flow->last_ms = uv_now(flow->plane->loop);
}

uint64_t datagram_flow_allowance(const struct datagram_flow *flow)
{
    const uint64_t max = flow->relay->limits.max_bytes;
    const uint64_t used = flow->up.bytes + flow->down.bytes;

    if (max == 0)
        return UINT64_MAX;
    return max > used ? max - used : 0;
}

bool datagram_flow_sent(struct datagram_flow *flow, const struct udp_runs_result *result)
{
    if (!result->over_limit && datagram_flow_allowance(flow) != 0)
        return true;
    datagram_flow_end(flow, N2_REASON_LIMIT);
    return false;
}

static void client_arrived(struct datagram_flow *flow)
{
    if (flow->state != DATAGRAM_ST_WAITING)
        return;
    flow->state = DATAGRAM_ST_ACTIVE;
    relay_client_arrived(flow->relay);
}

static void on_data(uv_poll_t *poll, int status, int events)
{
    struct datagram_flow *flow = poll->data;

    (void)events;
    watched_socket_reported(&flow->data, status);
    if (udp_batch_receive(flow->data.fd) > 0) {
        client_arrived(flow);
        if (!flow->ops->from_client(flow))
            return;
    }
    watched_socket_want(&flow->data, UV_READABLE, on_data);
}

/* ---- opening -----------------------------------------------------------------------------------
 */

/* Bound without SO_REUSEPORT: the kernel refuses a port that anybody has. */
static int make_sink(struct socket_plane *plane, const struct relay *relay,
                     const struct endpoint *bound)
{
    struct sockaddr_storage address;
    const socklen_t length = endpoint_to_sockaddr(bound, &address);
    const int fd =
        sockets_new(plane, &bound->address, SOCK_DGRAM, relay_transport(relay)->socket_protocol);

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

static void set_buffers(const struct datagram_flow *flow, int fd)
{
    const uint64_t octets = flow->plane->config->udp.receive_buffer;
    const int size = octets < INT32_MAX ? (int)octets : INT32_MAX;

    if (size == 0)
        return;
    /* The kernel clamps both to rmem_max and wmem_max. */
    (void)sockets_set(fd, SOL_SOCKET, SO_RCVBUF, size);
    (void)sockets_set(fd, SOL_SOCKET, SO_SNDBUF, size);
}

static int watch(struct datagram_flow *flow, struct watched_socket *socket, int fd)
{
    if (fd < 0)
        return fd;
    const int rc = watched_socket_open(socket, flow->plane->loop, fd, flow);
    if (rc == 0)
        flow->handles++;
    return rc;
}

int datagram_flow_open_socket(struct datagram_flow *flow, struct watched_socket *socket, int fd)
{
    const int rc = watch(flow, socket, fd);

    if (rc < 0)
        return rc;
    udp_batch_prepare(fd);
    set_buffers(flow, fd);
    return 0;
}

/* Binds the data socket beside the sink and connects it to S. SO_REUSEPORT, which SO_REUSEADDR is
 * not, is for sockets of one user alone, and there for this moment alone: nobody can join. From
 * bind() until it is connected the data socket gets some of what comes for BND, whoever sent it:
 * its filter keeps what S sends and drops the rest. Returns 0 or -errno. */
static int connect_data(struct datagram_flow *flow)
{
    struct sockaddr_storage bound, source;
    const socklen_t bound_length = endpoint_to_sockaddr(&flow->bound, &bound);
    const socklen_t source_length = endpoint_to_sockaddr(&flow->relay->source, &source);
    const int sink = flow->sink.fd, data = flow->data.fd;
    int rc = stranger_filter_accept(data, &flow->relay->source);

    if (rc == 0)
        rc = sockets_set(sink, SOL_SOCKET, SO_REUSEPORT, 1);
    if (rc == 0)
        rc = sockets_set(data, SOL_SOCKET, SO_REUSEPORT, 1);
    if (rc == 0 && (bind(data, (struct sockaddr *)&bound, bound_length) < 0 ||
                    connect(data, (struct sockaddr *)&source, source_length) < 0))
        rc = -errno;
    if (rc == 0)
        rc = sockets_set(sink, SOL_SOCKET, SO_REUSEPORT, 0);
    if (rc == 0)
        rc = sockets_set(data, SOL_SOCKET, SO_REUSEPORT, 0);
    if (rc < 0)
        return rc;
    watched_socket_want(&flow->data, UV_READABLE, on_data);
    return 0;
}

/* Sends on what waits in the sink from the port that was learnt; what other ports sent is a
 * stranger's. Returns false when that ended the flow. */
static bool drain_sink(struct datagram_flow *flow)
{
    struct endpoint from;

    while (udp_batch_receive_one(flow->sink.fd) > 0) {
        const struct sockaddr *source = (const struct sockaddr *)udp_batch_message(0)->source;
        if (endpoint_from_sockaddr(source, &from) != 0 || from.port != flow->relay->source.port)
            flow->drops.total++;
        else if (!flow->ops->from_client(flow))
            return false;
    }
    return true;
}

/* S's port is known: the data socket takes over, and what the sink has comes before it. The data
 * socket keeps its filter, since strangers know BND already. */
static void learn_port(struct datagram_flow *flow, uint16_t port)
{
    uint32_t strangers = 0;

    flow->relay->source.port = port;
    /* The sink goes on taking them until the data socket is there, so that none is lost between the
     * two. */
    int rc = connect_data(flow);
    if (rc == 0)
        rc = stranger_filter_drop_all(flow->sink.fd);
    if (rc == 0)
        rc = stranger_filter_read_drops(flow->data.fd, &strangers);
    if (rc < 0) {
        socket_plane_log_error(flow->relay, "client", rc);
        datagram_flow_end(flow, N2_REASON_ERROR);
        return;
    }
    flow->drops.total += strangers; /* that came while the data socket was not connected */
    client_arrived(flow);
    /* Another processor may still be at a packet that it took for the sink. */
    if (drain_sink(flow))
        watched_socket_want(&flow->sink, UV_READABLE, on_sink);
}

/* The first datagram of S's address: its port is S's from now on. */
static void on_sink(uv_poll_t *poll, int status, int events)
{
    struct datagram_flow *flow = poll->data;
    struct sockaddr_storage address;
    struct endpoint from;
    socklen_t length = sizeof(address);

    (void)events;
    watched_socket_reported(&flow->sink, status);
    if (flow->relay->source.port == 0) {
        const ssize_t n = recvfrom(flow->sink.fd, NULL, 0, MSG_PEEK | MSG_DONTWAIT,
                                   (struct sockaddr *)&address, &length);
        if (n >= 0 && endpoint_from_sockaddr((struct sockaddr *)&address, &from) == 0 &&
            from.port != 0) {
            learn_port(flow, from.port);
            return;
        }
        /* Nothing there, or nothing that can be answered. */
        if (n >= 0 && recv(flow->sink.fd, NULL, 0, MSG_DONTWAIT) >= 0)
            flow->drops.total++;
    } else if (!drain_sink(flow)) {
        return;
    }
    watched_socket_want(&flow->sink, UV_READABLE, on_sink);
}

struct datagram_flow *datagram_flow_new(struct socket_plane *plane, struct relay *relay,
                                        const struct datagram_flow_ops *ops, size_t size)
{
    struct datagram_flow *flow = calloc(1, size);

    relay->flow = flow;
    if (flow == NULL)
        return NULL;
    flow->ops = ops;
    flow->plane = plane;
    flow->relay = relay;
    watched_socket_init(&flow->sink);
    watched_socket_init(&flow->data);
    /* Never fails, so that from here on there is always a handle whose close callback frees the
     * flow. */
    uv_timer_init(plane->loop, &flow->timer);
    flow->timer.data = flow;
    flow->handles = 1;
    flow->last_ms = uv_now(plane->loop);
    token_bucket_init(&flow->up.bucket, relay->limits.bytes_per_second, flow->last_ms);
    token_bucket_init(&flow->down.bucket, relay->limits.bytes_per_second, flow->last_ms);
    plane->flows++;
    return flow;
}

int datagram_flow_open_bound(struct datagram_flow *flow)
{
    const struct relay *relay = flow->relay;

    if (relay->source.port == 0 && !relay->learn_source_port)
        return -EINVAL;
    int rc =
        watch(flow, &flow->sink, sockets_open_bound(flow->plane, relay, make_sink, &flow->bound));
    /* Made now even if it is connected later: then there is a descriptor for it. */
    if (rc == 0)
        rc = datagram_flow_open_socket(flow, &flow->data,
                                       sockets_new(flow->plane, &flow->bound.address, SOCK_DGRAM,
                                                   relay_transport(relay)->socket_protocol));
    if (rc == 0 && relay->source.port != 0)
        rc = connect_data(flow);
    if (rc == 0 && relay->source.port != 0)
        rc = stranger_filter_detach(flow->data.fd);
    else if (rc == 0)
        watched_socket_want(&flow->sink, UV_READABLE, on_sink);
    /* A port or an address that is refused here is no rule's denial. */
    return rc == -EACCES || rc == -EPERM ? -EADDRNOTAVAIL : rc;
}

void datagram_flow_opened(struct datagram_flow *flow)
{
    flow->relay->bound = flow->bound;
    arm_timer(flow);
    relay_opened(flow->relay);
}
