/*
 * Reads the kernel's route, address and interface tables by rtnetlink, and understands single
 * messages of them. No loop, no state: the object that follows the tables is local_routes.
 */
#ifndef SOCKST_COMMON_NET_ROUTE_DUMP_H
#define SOCKST_COMMON_NET_ROUTE_DUMP_H

#include <linux/netlink.h>

#include "common/net/route_set.h"

#define HOST_ADDRESS_MAX (1u << 20)
#define HOST_LINK_MAX (1u << 16)

struct host_address {
    struct ip_address address;
    uint32_t interface;
    uint32_t order; /* of arrival, to sort stably */
    bool loopback;
};

/* What the tables said at one moment. Zeroed: empty. */
struct route_snapshot {
    struct route_set routes;        /* sealed */
    struct host_address *addresses; /* owned, by interface index, then in the kernel's order */
    size_t address_count, address_capacity;
};

/*
 * Reads all three tables. Returns 0; or -errno (-E2BIG above the maxima, -EAGAIN when the tables
 * changed under every one of several attempts) with *out empty.
 */
int route_snapshot_read(struct route_snapshot *out);

/*
 * Takes the prefix of an RTM_NEWROUTE or RTM_DELROUTE message whose type is local, broadcast,
 * anycast or multicast. False for every other message, also a malformed one, and for a default
 * route of a table that only a policy rule reaches (transparent proxies have one).
 */
bool route_message_prefix(const struct nlmsghdr *message, struct ip_prefix *out);

bool route_snapshot_equal(const struct route_snapshot *a, const struct route_snapshot *b);
void route_snapshot_clear(struct route_snapshot *snapshot);

#endif
