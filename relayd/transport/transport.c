#include "relayd/transport/transport.h"

#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>

#include "relayd/plane/socket/flow.h"

static const struct transport transports[] = {
    {
        .ptcl = PTCL_TCP,
        .socket_type = SOCK_STREAM,
        .socket_protocol = IPPROTO_TCP,
        .stateful = true,
        /* Listener or client, trap, target. Pipes live on what is left, without one data is copied;
         * and so do further attempts to dial. */
        .fds_per_relay = 3,
        .flows =
            {
                [N2_KIND_TRANSPARENT] = &tcp_transparent_flow_ops,
                [N2_KIND_CONNECT] = &tcp_connect_flow_ops,
                [N2_KIND_BIND] = &tcp_bind_flow_ops,
            },
    },
    {
        .ptcl = PTCL_UDP,
        .socket_type = SOCK_DGRAM,
        .socket_protocol = IPPROTO_UDP,
        .stateful = false,
        /* Towards the client, the sink of strangers, towards the target; an association with
         * targets of both families has a fourth. */
        .fds_per_relay = 4,
        .flows =
            {[N2_KIND_TRANSPARENT] = &udp_flow_ops, [N2_KIND_UDP_ASSOCIATE] = &udp_associate_ops},
    },
};

const struct transport *transport_by_ptcl(uint8_t ptcl)
{
    for (size_t i = 0; i < sizeof(transports) / sizeof(transports[0]); i++) {
        if (transports[i].ptcl == ptcl) {
            return &transports[i];
        }
    }
    return NULL;
}
