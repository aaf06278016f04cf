#include "relayd/plane/bpf/route_query.h"

#include <errno.h>
#include <string.h>

#include "common/net/netlink.h"
#include "common/net/sockaddr.h"

#define HEADER sizeof(struct rtmsg)

static void take_via(const struct rtattr *attribute, struct route_answer *out)
{
    const struct rtvia *via = RTA_DATA(attribute);
    const size_t size = RTA_PAYLOAD(attribute) - sizeof(*via);

    if (via->rtvia_family == AF_INET && size >= 4)
        out->gateway = ip_address_v4(via->rtvia_addr);
    else if (via->rtvia_family == AF_INET6 && size >= 16) {
        out->gateway.family = IP_V6;
        memcpy(out->gateway.bytes, via->rtvia_addr, 16);
    }
}

static bool take_gateway(const struct nlmsghdr *message, const struct rtmsg *route,
                         struct route_answer *out)
{
    const size_t size = route->rtm_family == AF_INET ? 4 : 16;
    const struct rtattr *gateway = netlink_find(message, HEADER, RTA_GATEWAY, size);
    const struct rtattr *via = netlink_find(message, HEADER, RTA_VIA, sizeof(struct rtvia));

    if (gateway)
        out->gateway = netlink_address(route->rtm_family, gateway);
    else if (via)
        take_via(via, out);
    return !via || gateway || out->gateway.family != IP_NONE;
}

/* IPv4 says when the MTU will be forgotten; IPv6 that the route is a copy made for it. */
static bool is_learnt(const struct nlmsghdr *message, const struct rtmsg *route)
{
    const struct rtattr *attribute =
        netlink_find(message, HEADER, RTA_CACHEINFO, sizeof(struct rta_cacheinfo));
    struct rta_cacheinfo cache = {0};

    if (route->rtm_family == AF_INET6)
        return route->rtm_flags & RTM_F_CLONED;
    if (attribute)
        memcpy(&cache, RTA_DATA(attribute), sizeof(cache));
    return cache.rta_expires != 0;
}

static void take_mtu(const struct nlmsghdr *message, struct route_answer *out)
{
    const struct rtattr *metrics = netlink_find(message, HEADER, RTA_METRICS, 0);
    const struct rtattr *mtu = metrics ? netlink_find_within(metrics, 0, RTAX_MTU, 4) : NULL;

    if (mtu)
        memcpy(&out->mtu, RTA_DATA(mtu), sizeof(out->mtu));
}

bool route_answer_parse(const struct nlmsghdr *message, const struct route_query *query,
                        struct route_answer *out)
{
    const struct rtmsg *route = NLMSG_DATA(message);
    const struct rtattr *source;

    memset(out, 0, sizeof(*out));
    if (message->nlmsg_type != RTM_NEWROUTE || message->nlmsg_len < NLMSG_LENGTH(HEADER) ||
        route->rtm_family != ip_address_af(&query->peer))
        return false;
    out->type = route->rtm_type;
    out->encapsulates = netlink_find(message, HEADER, RTA_ENCAP_TYPE, 0) != NULL;
    netlink_u32(message, HEADER, RTA_OIF, &out->interface);
    take_mtu(message, out);
    out->learnt = out->mtu != 0 && is_learnt(message, route);
    out->local = query->local;
    source = netlink_find(message, HEADER, RTA_PREFSRC, ip_address_size(&query->peer));
    if (source && query->local.family == IP_NONE) {
        out->local = netlink_address(route->rtm_family, source);
        if (ip_address_is_link_local_v6(&out->local))
            out->local.scope_id = out->interface;
    }
    return take_gateway(message, route, out);
}

const char *route_answer_problem(const struct route_answer *answer)
{
    static const char blackhole[] = "a blackhole route, or our address is not this host's";
    static const char unreachable[] = "a route says that the peer is unreachable";
    static const char no_route[] = "no route to the peer from our address";
    static const char prohibited[] = "a route prohibits the peer";

    switch (answer->error) {
    case 0:
        break;
    case -EINVAL:
        return blackhole;
    case -EHOSTUNREACH:
        return unreachable;
    case -EACCES:
        return prohibited;
    default: /* -ENETUNREACH, -EOPNOTSUPP (no IPv6 here), … */
        return no_route;
    }
    switch (answer->type) {
    case RTN_UNICAST:
        if (answer->encapsulates)
            return "the route encapsulates";
        return answer->interface == 0 ? no_route : NULL;
    case RTN_LOCAL:
    case RTN_ANYCAST:
        return "the peer is this host";
    case RTN_BROADCAST:
    case RTN_MULTICAST:
        return "the peer is a broadcast or multicast address";
    case RTN_BLACKHOLE:
        return blackhole;
    case RTN_PROHIBIT:
        return prohibited;
    default: /* RTN_UNREACHABLE, and what no output route is */
        return unreachable;
    }
}

/* `flags`: RTM_F_FIB_MATCH asks for the route as it was configured. */
static void make_question(struct kernel_question *question, const struct route_query *query,
                          unsigned flags)
{
    const size_t size = ip_address_size(&query->peer);
    const uint8_t bits = (uint8_t)(size * 8);
    struct rtmsg route = {.rtm_family = (uint8_t)ip_address_af(&query->peer),
                          .rtm_dst_len = bits,
                          .rtm_src_len = query->local.family == IP_NONE ? 0 : bits,
                          .rtm_flags = flags};

    kernel_question(question, RTM_GETROUTE, &route, sizeof(route));
    kernel_question_add(question, RTA_DST, query->peer.bytes, size);
    if (query->local.family != IP_NONE)
        kernel_question_add(question, RTA_SRC, query->local.bytes, size);
    if (query->peer.scope_id != 0)
        kernel_question_add(question, RTA_OIF, &query->peer.scope_id, 4);
    if (query->protocol != 0)
        kernel_question_add(question, RTA_IP_PROTO, &query->protocol, 1);
}

struct batch {
    const struct route_query *queries;
    struct route_answer *answers;
};

static void on_answer(void *user, size_t index, int error, const struct nlmsghdr *message)
{
    const struct batch *batch = user;
    struct route_answer *answer = &batch->answers[index];

    if (message != NULL && !route_answer_parse(message, &batch->queries[index], answer))
        error = KERNEL_SILENT;
    if (error != 0)
        *answer = (struct route_answer){.error = error};
}

static void on_own_mtu(void *user, size_t index, int error, const struct nlmsghdr *message)
{
    const struct batch *batch = user;
    struct route_answer own;

    (void)error;
    batch->answers[index].mtu = 0;
    if (message != NULL && route_answer_parse(message, &batch->queries[index], &own))
        batch->answers[index].mtu = own.mtu;
}

void route_query(struct kernel *kernel, const struct route_query *queries, size_t count,
                 struct route_answer *answers)
{
    struct kernel_question questions[KERNEL_BATCH];
    struct batch batch = {.queries = queries, .answers = answers};

    for (size_t i = 0; i < count; i++)
        make_question(&questions[i], &queries[i], 0);
    kernel_ask(kernel, questions, count, on_answer, &batch);
    for (size_t i = 0; i < count; i++) {
        struct batch one = {.queries = &queries[i], .answers = &answers[i]};

        if (answers[i].error != 0 || !answers[i].learnt)
            continue;
        make_question(&questions[0], &queries[i], RTM_F_FIB_MATCH);
        kernel_ask(kernel, questions, 1, on_own_mtu, &one);
    }
}
