/*
 * TRANSPARENT: BND listens for S alone, DST is dialled; the client comes when it has its reply.
 */
#include <errno.h>

#include "relayd/plane/socket/tcp_flow.h"

static void on_client_came(struct tcp_listener *listener, int fd, const struct endpoint *peer)
{
    struct relay *relay = listener->relay;
    struct tcp_flow *flow = relay->flow;

    if (fd < 0) {
        tcp_flow_listener_paused(flow);
        return;
    }
    relay->source.port = peer->port;
    const int rc = tcp_flow_take_client(flow, fd);
    if (rc < 0)
        tcp_flow_end_by_error(flow, "client", rc);
    else
        tcp_flow_stream(flow, NULL, 0);
}

static void tcp_transparent_open(struct socket_plane *plane, struct relay *relay)
{
    struct tcp_flow *flow = tcp_flow_new(plane, relay, TCP_ST_DIALLING);

    if (flow == NULL)
        return;
    if (relay->source.port == 0 && !relay->learn_source_port) {
        tcp_flow_fail(flow, -EINVAL, "S");
        return;
    }
    if (tcp_flow_listen(flow, &relay->source, on_client_came))
        tcp_flow_dial(flow, &relay->destination, 1);
}

const struct flow_ops tcp_transparent_flow_ops = {
    .open = tcp_transparent_open,
    .close = tcp_flow_close,
    .counters = tcp_flow_counters,
    .drops = tcp_flow_drops,
};
