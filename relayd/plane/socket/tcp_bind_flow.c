/*
 * BIND: BND listens for the peer that the client expects, who becomes the target; then socksd hands
 * the client's connection over.
 */
#include "relayd/plane/socket/tcp_flow.h"

static void on_peer_came(struct tcp_listener *listener, int fd, const struct endpoint *peer)
{
    struct relay *relay = listener->relay;
    struct tcp_flow *flow = relay->flow;

    if (fd < 0) {
        tcp_flow_listener_paused(flow);
        return;
    }
    relay->destination = *peer;
    const int rc = tcp_flow_take_target(flow, fd);
    if (rc < 0) {
        tcp_flow_end_by_error(flow, "peer", rc);
        return;
    }
    tcp_flow_set_state(flow, TCP_ST_WAITING);
    tcp_pump_watch_target(&flow->pump);
    relay_peer_connected(relay);
}

/* An address by which the peer can reach us. */
static int choose_address(struct socket_plane *plane, const struct relay *relay,
                          struct ip_address *out)
{
    const struct ip_address *peer = &relay->destination.address;
    const int rc =
        endpoints_choose_for_peer(plane->endpoints, peer, &relay->source.address,
                                  &relay->order->bound_hint, &relay->order->egress_hint, out);

    return rc == 0 && out->family == IP_NONE ? sockets_route_source(plane, peer, out) : rc;
}

static void tcp_bind_open(struct socket_plane *plane, struct relay *relay)
{
    const struct endpoint expected = {.address = relay->destination.address};
    struct tcp_flow *flow = tcp_flow_new(plane, relay, TCP_ST_LISTENING);

    if (flow == NULL)
        return;
    const int rc = choose_address(plane, relay, &flow->listener.bound.address);
    if (rc < 0) {
        tcp_flow_fail(flow, rc, "an address for the peer");
        return;
    }
    if (!tcp_flow_listen(flow, &expected, on_peer_came))
        return;
    relay->bound = relay->egress = flow->listener.bound;
    tcp_listener_watch(&flow->listener);
    relay_opened(relay);
}

const struct flow_ops tcp_bind_flow_ops = {
    .open = tcp_bind_open,
    .close = tcp_flow_close,
    .counters = tcp_flow_counters,
    .drops = tcp_flow_drops,
    .attach = tcp_flow_attach,
};
