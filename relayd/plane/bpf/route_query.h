/*
 * The kernel's answer to "how do you get there?" (RTM_GETROUTE).
 */
#ifndef SOCKST_RELAYD_BPF_ROUTE_QUERY_H
#define SOCKST_RELAYD_BPF_ROUTE_QUERY_H

#include <stdbool.h>

#include "proto/endpoint.h"
#include "relayd/plane/bpf/kernel.h"

struct route_query {
    struct ip_address peer;  /* a link-local IPv6 one with its scope */
    struct ip_address local; /* the source; IP_NONE: the kernel's choice */
    uint8_t protocol;        /* IPPROTO_TCP, IPPROTO_UDP; 0: any. Policy rules may ask for it */
};

struct route_answer {
    int error;          /* of the kernel, -errno or KERNEL_SILENT; then nothing below is set */
    uint8_t type;       /* RTN_UNICAST, RTN_LOCAL, … */
    bool encapsulates;  /* the route puts a header of its own before the packet (MPLS, SRv6, …) */
    bool learnt;        /* `mtu` is a path MTU that the host has learnt for its own packets */
    uint32_t interface; /* index; 0: none */
    uint32_t mtu;       /* of the route; 0: it has none of its own */
    struct ip_address gateway; /* IP_NONE: the peer is on the link. Scope 0 */
    struct ip_address local;   /* the one asked for, or the kernel's choice, or IP_NONE */
};

/*
 * Asks up to KERNEL_BATCH queries. A path MTU that the host has learnt is replaced by the route's
 * own MTU: it would never be asked for again when it ends, and the hosts that it concerns learn
 * it by themselves.
 */
void route_query(struct kernel *kernel, const struct route_query *queries, size_t count,
                 struct route_answer *answers);

/* An RTM_NEWROUTE that answers `query`; false: malformed, and *out is anything. Pure. */
bool route_answer_parse(const struct nlmsghdr *message, const struct route_query *query,
                        struct route_answer *out);

/* Static text where no packet can be redirected along the route, or where the kernel has refused to
 * give one; else NULL. Must not be KERNEL_SILENT. */
const char *route_answer_problem(const struct route_answer *answer);

#endif
