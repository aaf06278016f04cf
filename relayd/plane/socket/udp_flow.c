/*
 * The UDP flow of TRANSPARENT: a datagram flow with one target, to which its egress socket is
 * connected.
 */
#include <errno.h>

#include "common/net/sockaddr.h"
#include "relayd/plane/socket/datagram_flow.h"
#include "relayd/plane/socket/sockets.h"
#include "relayd/plane/socket/udp_batch.h"

struct udp_flow {
    struct datagram_flow base; /* first */
    struct watched_socket egress;
};

static void on_egress(uv_poll_t *poll, int status, int events);

/* ---- datagrams ---------------------------------------------------------------------------------
 */

/* Sends on what was just received. Returns false when that ended the flow. */
static bool forward(struct udp_flow *flow, struct udp_direction *direction, int to)
{
    struct udp_runs_result result;
    const struct udp_message *message;

    datagram_flow_touch(&flow->base);
    udp_runs_begin(flow->base.plane, direction, datagram_flow_allowance(&flow->base));
    for (unsigned i = 0; (message = udp_batch_message(i)) != NULL; i++) {
        const struct udp_datagrams datagrams = {
            .octets = message->octets, .length = message->length, .size = message->size};
        if (!udp_runs_add(to, &datagrams))
            break;
    }
    udp_runs_flush(&result);
    /* A client that has gone is told by its control connection. */
    if (result.error < 0 && direction == &flow->base.up)
        datagram_flow_unreachable(&flow->base);
    return datagram_flow_sent(&flow->base, &result);
}

static bool udp_flow_from_client(struct datagram_flow *base)
{
    struct udp_flow *flow = (struct udp_flow *)base;

    return forward(flow, &flow->base.up, flow->egress.fd);
}

static void on_egress(uv_poll_t *poll, int status, int events)
{
    struct udp_flow *flow = poll->data;

    (void)events;
    watched_socket_reported(&flow->egress, status);
    const int n = udp_batch_receive(flow->egress.fd);
    if (n > 0 && !forward(flow, &flow->base.down, flow->base.data.fd))
        return;
    if (n < 0 && n != -EAGAIN && n != -EINTR)
        datagram_flow_unreachable(&flow->base);
    watched_socket_want(&flow->egress, UV_READABLE, on_egress);
}

/* ---- life --------------------------------------------------------------------------------------
 */

static void udp_flow_release(struct datagram_flow *base)
{
    struct udp_flow *flow = (struct udp_flow *)base;

    watched_socket_close(&flow->egress, false, datagram_flow_closed);
}

static const struct datagram_flow_ops udp_datagram_ops = {
    .from_client = udp_flow_from_client,
    .release = udp_flow_release,
};

static int open_egress(struct udp_flow *flow)
{
    struct datagram_flow *base = &flow->base;
    bool in_progress;
    const int rc = datagram_flow_open_socket(
        base, &flow->egress,
        sockets_open_egress(base->plane, base->relay, &base->relay->destination, &in_progress));

    if (rc < 0)
        return rc;
    watched_socket_want(&flow->egress, UV_READABLE, on_egress);
    return endpoint_local(flow->egress.fd, &base->relay->egress);
}

static void udp_flow_open(struct socket_plane *plane, struct relay *relay)
{
    struct udp_flow *flow =
        (struct udp_flow *)datagram_flow_new(plane, relay, &udp_datagram_ops, sizeof(*flow));

    if (flow == NULL) {
        relay_open_failed(relay, N2_ERROR_GENERAL, "out of memory");
        return;
    }
    watched_socket_init(&flow->egress);
    int rc = datagram_flow_open_bound(&flow->base);
    if (rc < 0) {
        datagram_flow_fail(&flow->base, rc, "BND");
        return;
    }
    rc = open_egress(flow);
    if (rc < 0) {
        datagram_flow_fail(&flow->base, rc, "the way to the destination");
        return;
    }
    datagram_flow_opened(&flow->base);
}

const struct flow_ops udp_flow_ops = {
    .open = udp_flow_open,
    .close = datagram_flow_close,
    .counters = datagram_flow_counters,
    .drops = datagram_flow_drops,
};
