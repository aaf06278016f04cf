/*
 * CONNECT: the candidates of DST are dialled; socksd, which has answered the client, hands its
 * connection over.
 */
#include "relayd/plane/socket/tcp_flow.h"

static void tcp_connect_open(struct socket_plane *plane, struct relay *relay)
{
    struct tcp_flow *flow = tcp_flow_new(plane, relay, TCP_ST_DIALLING);

    if (flow != NULL)
        tcp_flow_dial(flow, relay->order->candidates, relay->order->candidate_count);
}

const struct flow_ops tcp_connect_flow_ops = {
    .open = tcp_connect_open,
    .close = tcp_flow_close,
    .counters = tcp_flow_counters,
    .drops = tcp_flow_drops,
    .attach = tcp_flow_attach,
};
