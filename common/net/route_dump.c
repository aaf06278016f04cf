#include "common/net/route_dump.h"

#include <errno.h>
#include <linux/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/net/netlink.h"

#define DUMP_ATTEMPTS 5
#define DUMP_BUFFER_SIZE 65536
#define DUMP_TIMEOUT_S 2 /* the kernel answers at once; this only guards against surprises */

/* The interfaces that are loopback ones: what addresses need to know of the links. */
struct loopback_links {
    uint32_t items[64];
    size_t count;
};

struct dump {
    int fd;
    uint32_t sequence;
    struct route_snapshot *snapshot;
    struct loopback_links loopbacks;
};

typedef int message_handler(struct dump *dump, const struct nlmsghdr *message);

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
    const struct rtattr *destination;
    struct ip_prefix prefix = {0};
    size_t size;

    if (message->nlmsg_len < NLMSG_LENGTH(sizeof(*route)))
        return false;
    if (route->rtm_family != AF_INET && route->rtm_family != AF_INET6)
        return false;
    if (route->rtm_type != RTN_LOCAL && route->rtm_type != RTN_BROADCAST &&
        route->rtm_type != RTN_ANYCAST && route->rtm_type != RTN_MULTICAST)
        return false;
    size = route->rtm_family == AF_INET ? 4 : 16;
    if (route->rtm_dst_len > size * 8 || (route->rtm_flags & RTM_F_CLONED))
        return false;
    if (is_interception(message, route))
        return false;
    prefix.address.family = route->rtm_family == AF_INET ? IP_V4 : IP_V6;
    destination = netlink_find(message, sizeof(*route), RTA_DST, size);
    if (destination)
        prefix.address = netlink_address(route->rtm_family, destination);
    else if (route->rtm_dst_len != 0)
        return false;
    prefix.length = route->rtm_dst_len;
    *out = prefix;
    return true;
}

static int on_route(struct dump *dump, const struct nlmsghdr *message)
{
    struct ip_prefix prefix;

    if (message->nlmsg_type != RTM_NEWROUTE || !route_message_prefix(message, &prefix))
        return 0;
    return route_set_add(&dump->snapshot->routes, &prefix);
}

static int on_link(struct dump *dump, const struct nlmsghdr *message)
{
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

static int on_address(struct dump *dump, const struct nlmsghdr *message)
{
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

static int open_socket(void)
{
    static const struct timeval timeout = {.tv_sec = DUMP_TIMEOUT_S};
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    int on = 1, fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

    if (fd < 0)
        return -errno;
    /* With strict checking the kernel filters by type: a full Internet table stays in there. */
    (void)setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof(on));
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0 ||
        connect(fd, (struct sockaddr *)&kernel, sizeof(kernel)) < 0) {
        int r = -errno;

        close(fd);
        return r;
    }
    return fd;
}

/* The end of a dump carries an error of its own. */
static int done_code(const struct nlmsghdr *message)
{
    int code = 0;

    if (message->nlmsg_len >= NLMSG_LENGTH(sizeof(code)))
        memcpy(&code, NLMSG_DATA(message), sizeof(code));
    return code < 0 ? code : 0;
}

/* One datagram of a dump. Returns 1 while more follows, 0 at its end, -EAGAIN when interrupted. */
static int handle_datagram(struct dump *dump, const char *buffer, size_t length,
                           message_handler *handler, bool *interrupted)
{
    const struct nlmsghdr *message = (const struct nlmsghdr *)buffer;
    unsigned left = (unsigned)length;

    for (; NLMSG_OK(message, left); message = NLMSG_NEXT(message, left)) {
        int r;

        if (message->nlmsg_seq != dump->sequence)
            continue;
        if (message->nlmsg_flags & NLM_F_DUMP_INTR)
            *interrupted = true;
        if (message->nlmsg_type == NLMSG_DONE)
            return *interrupted ? -EAGAIN : done_code(message);
        if (message->nlmsg_type == NLMSG_ERROR) {
            const struct nlmsgerr *error = NLMSG_DATA(message);

            return message->nlmsg_len >= NLMSG_LENGTH(sizeof(*error)) && error->error < 0
                       ? error->error
                       : -EPROTO;
        }
        r = handler(dump, message);
        if (r < 0)
            return r;
    }
    return 1;
}

static int dump_table(struct dump *dump, struct nlmsghdr *request, message_handler *handler)
{
    static _Alignas(struct nlmsghdr) char buffer[DUMP_BUFFER_SIZE];
    bool interrupted = false;
    int r = 1;

    request->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    request->nlmsg_seq = ++dump->sequence;
    if (send(dump->fd, request, request->nlmsg_len, 0) < 0)
        return -errno;
    while (r == 1) {
        ssize_t length = recv(dump->fd, buffer, sizeof(buffer), MSG_TRUNC);

        if (length < 0 && errno == EINTR)
            continue;
        if (length < 0)
            return errno == EAGAIN ? -ETIMEDOUT : -errno;
        if ((size_t)length > sizeof(buffer))
            return -EMSGSIZE;
        r = handle_datagram(dump, buffer, (size_t)length, handler, &interrupted);
    }
    return r;
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

        r = dump_table(dump, &request.header, on_route);
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

    return dump_table(dump, &request.header, on_link);
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

    return dump_table(dump, &request.header, on_address);
}

static int compare_addresses(const void *left, const void *right)
{
    const struct host_address *a = left, *b = right;

    if (a->interface != b->interface)
        return a->interface < b->interface ? -1 : 1;
    return a->order < b->order ? -1 : a->order > b->order;
}

static int read_once(int fd, uint32_t *sequence, struct route_snapshot *out)
{
    struct dump dump = {.fd = fd, .sequence = *sequence, .snapshot = out};
    int r = dump_links(&dump);

    if (r == 0)
        r = dump_addresses(&dump);
    if (r == 0)
        r = dump_routes(&dump, AF_INET);
    if (r == 0)
        r = dump_routes(&dump, AF_INET6);
    *sequence = dump.sequence;
    if (r < 0)
        return r;
    route_set_seal(&out->routes);
    if (out->address_count > 0)
        qsort(out->addresses, out->address_count, sizeof(*out->addresses), compare_addresses);
    return 0;
}

int route_snapshot_read(struct route_snapshot *out)
{
    uint32_t sequence = 0;
    int r = -EAGAIN, fd = open_socket();

    memset(out, 0, sizeof(*out));
    if (fd < 0)
        return fd;
    for (int attempt = 0; attempt < DUMP_ATTEMPTS && r == -EAGAIN; attempt++) {
        route_snapshot_clear(out);
        r = read_once(fd, &sequence, out);
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
