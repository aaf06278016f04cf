#include "common/net/route_dump.h"

#include <errno.h>
#include <linux/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/net/netlink.h"
#include "common/net/netlink_dump.h"

#define DUMP_ATTEMPTS 5

/* The interfaces that are loopback ones: what addresses need to know of the links. */
struct loopback_links {
    uint32_t items[64];
    size_t count;
};

struct dump {
    int fd;
    struct route_snapshot *snapshot;
    struct loopback_links loopbacks;
};

static uint32_t route_table(const struct nlmsghdr *message, const struct rtmsg *route)
{
    uint32_t table = route->rtm_table;

    netlink_u32(message, sizeof(*route), RTA_TABLE, &table);
    return table;
}

/*
 * "local default" in a table of its own, reached by a rule for marked packets only: how transparent
 * proxies get at other people's packets. It does not make the whole Internet ours.
 */
static bool is_interception(const struct nlmsghdr *message, const struct rtmsg *route)
{
    uint32_t table = route_table(message, route);

    return route->rtm_dst_len == 0 && table != RT_TABLE_LOCAL && table != RT_TABLE_MAIN &&
           table != RT_TABLE_DEFAULT;
}

bool route_message_prefix(const struct nlmsghdr *message, struct ip_prefix *out)
{
    const struct rtmsg *route = NLMSG_DATA(message);
    struct ip_prefix prefix;

    if (!netlink_route_prefix(message, &prefix))
        return false;
    if (route->rtm_type != RTN_LOCAL && route->rtm_type != RTN_BROADCAST &&
        route->rtm_type != RTN_ANYCAST && route->rtm_type != RTN_MULTICAST)
        return false;
    if ((route->rtm_flags & RTM_F_CLONED) || is_interception(message, route))
        return false;
    *out = prefix;
    return true;
}

static int on_route(void *user, const struct nlmsghdr *message)
{
    struct dump *dump = user;
    struct ip_prefix prefix;

    if (message->nlmsg_type != RTM_NEWROUTE || !route_message_prefix(message, &prefix))
        return 0;
    return route_set_add(&dump->snapshot->routes, &prefix);
}

static int on_link(void *user, const struct nlmsghdr *message)
{
    struct dump *dump = user;
    const struct ifinfomsg *link = NLMSG_DATA(message);
    struct loopback_links *loopbacks = &dump->loopbacks;

    if (message->nlmsg_type != RTM_NEWLINK || message->nlmsg_len < NLMSG_LENGTH(sizeof(*link)) ||
        !(link->ifi_flags & IFF_LOOPBACK))
        return 0;
    if (loopbacks->count < sizeof(loopbacks->items) / sizeof(loopbacks->items[0]))
        loopbacks->items[loopbacks->count++] = (uint32_t)link->ifi_index;
    return 0;
}

static bool is_loopback(const struct loopback_links *loopbacks, uint32_t interface)
{
    for (size_t i = 0; i < loopbacks->count; i++)
        if (loopbacks->items[i] == interface)
            return true;
    return false;
}

static int append_address(struct route_snapshot *snapshot, const struct host_address *address)
{
    if (snapshot->address_count == snapshot->address_capacity) {
        size_t capacity = snapshot->address_capacity ? snapshot->address_capacity * 2 : 16;
        struct host_address *addresses;

        if (snapshot->address_count >= HOST_ADDRESS_MAX)
            return -E2BIG;
        addresses = reallocarray(snapshot->addresses, capacity, sizeof(*addresses));
        if (!addresses)
            return -ENOMEM;
        snapshot->addresses = addresses;
        snapshot->address_capacity = capacity;
    }
    snapshot->addresses[snapshot->address_count] = *address;
    snapshot->addresses[snapshot->address_count].order = (uint32_t)snapshot->address_count;
    snapshot->address_count++;
    return 0;
}

static int on_address(void *user, const struct nlmsghdr *message)
{
    struct dump *dump = user;
    const struct ifaddrmsg *header = NLMSG_DATA(message);
    const struct rtattr *attribute;
    struct host_address host = {0};
    uint32_t flags;
    size_t size;

    if (message->nlmsg_type != RTM_NEWADDR || message->nlmsg_len < NLMSG_LENGTH(sizeof(*header)) ||
        (header->ifa_family != AF_INET && header->ifa_family != AF_INET6))
        return 0;
    flags = header->ifa_flags;
    netlink_u32(message, sizeof(*header), IFA_FLAGS, &flags);
    if ((flags & IFA_F_DADFAILED) || ((flags & IFA_F_TENTATIVE) && !(flags & IFA_F_OPTIMISTIC)))
        return 0;
    size = header->ifa_family == AF_INET ? 4 : 16;
    /* With a peer, IFA_ADDRESS is the peer's and IFA_LOCAL ours; IPv6 without one has no LOCAL. */
    attribute = netlink_find(message, sizeof(*header), IFA_LOCAL, size);
    if (!attribute)
        attribute = netlink_find(message, sizeof(*header), IFA_ADDRESS, size);
    if (!attribute)
        return 0;
    host.address = netlink_address(header->ifa_family, attribute);
    host.interface = header->ifa_index;
    if (ip_address_is_link_local_v6(&host.address))
        host.address.scope_id = header->ifa_index;
    host.loopback = is_loopback(&dump->loopbacks, header->ifa_index);
    return append_address(dump->snapshot, &host);
}

static int dump_routes(struct dump *dump, uint8_t family)
{
    static const uint8_t types[] = {RTN_LOCAL, RTN_BROADCAST, RTN_ANYCAST, RTN_MULTICAST};
    int r = 0;

    for (size_t i = 0; i < sizeof(types) && r == 0; i++) {
        struct {
            struct nlmsghdr header;
            struct rtmsg route;
        } request = {
            .header = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct rtmsg)), .nlmsg_type = RTM_GETROUTE},
            .route = {.rtm_family = family, .rtm_type = types[i]},
        };

        r = netlink_dump(dump->fd, &request.header, on_route, dump);
    }
    /* A kernel without IPv6 says so; it then has no IPv6 route either. */
    return r == -EAFNOSUPPORT || r == -EOPNOTSUPP ? 0 : r;
}

static int dump_links(struct dump *dump)
{
    struct {
        struct nlmsghdr header;
        struct ifinfomsg link;
    } request = {
        .header = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg)), .nlmsg_type = RTM_GETLINK},
        .link = {.ifi_family = AF_UNSPEC},
    };

    return netlink_dump(dump->fd, &request.header, on_link, dump);
}

static int dump_addresses(struct dump *dump)
{
    struct {
        struct nlmsghdr header;
        struct ifaddrmsg address;
    } request = {
        .header = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct ifaddrmsg)), .nlmsg_type = RTM_GETADDR},
        .address = {.ifa_family = AF_UNSPEC},
    };

    return netlink_dump(dump->fd, &request.header, on_address, dump);
}

static int compare_addresses(const void *left, const void *right)
{
    const struct host_address *a = left, *b = right;

    if (a->interface != b->interface)
        return a->interface < b->interface ? -1 : 1;
    return a->order < b->order ? -1 : a->order > b->order;
}

static int read_once(int fd, struct route_snapshot *out)
{
    struct dump dump = {.fd = fd, .snapshot = out};
    int r = dump_links(&dump);

    if (r == 0)
        r = dump_addresses(&dump);
    if (r == 0)
        r = dump_routes(&dump, AF_INET);
    if (r == 0)
        r = dump_routes(&dump, AF_INET6);
    if (r < 0)
        return r;
    route_set_seal(&out->routes);
    if (out->address_count > 0)
        qsort(out->addresses, out->address_count, sizeof(*out->addresses), compare_addresses);
    return 0;
}

int route_snapshot_read(struct route_snapshot *out)
{
    int r = -EAGAIN, fd = netlink_dump_open();

    memset(out, 0, sizeof(*out));
    if (fd < 0)
        return fd;
    for (int attempt = 0; attempt < DUMP_ATTEMPTS && r == -EAGAIN; attempt++) {
        route_snapshot_clear(out);
        r = read_once(fd, out);
    }
    if (r < 0)
        route_snapshot_clear(out);
    close(fd);
    return r;
}

bool route_snapshot_equal(const struct route_snapshot *a, const struct route_snapshot *b)
{
    if (a->address_count != b->address_count || !route_set_equal(&a->routes, &b->routes))
        return false;
    for (size_t i = 0; i < a->address_count; i++)
        if (!ip_address_equal(&a->addresses[i].address, &b->addresses[i].address) ||
            a->addresses[i].interface != b->addresses[i].interface ||
            a->addresses[i].loopback != b->addresses[i].loopback)
            return false;
    return true;
}

void route_snapshot_clear(struct route_snapshot *snapshot)
{
    route_set_clear(&snapshot->routes);
    free(snapshot->addresses);
    memset(snapshot, 0, sizeof(*snapshot));
}
