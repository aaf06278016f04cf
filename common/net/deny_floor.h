/*
 * The deny floor: destinations that no relay reaches, whatever the rules or N2 say: the host's own
 * local, broadcast, anycast and multicast routes, loopback, link-local, multicast, 0/8, 240/4, the
 * unspecified address, and whatever of these an IPv6 address embeds (64:ff9b::/96, 2002::/16,
 * ::/96). Only relayd's own configuration opens parts of it.
 *
 * Both daemons judge with this one function.
 */
#ifndef SOCKST_COMMON_NET_DENY_FLOOR_H
#define SOCKST_COMMON_NET_DENY_FLOOR_H

#include "common/net/local_routes.h"
#include "common/net/prefix.h"

struct deny_floor {
    const struct local_routes *routes; /* borrowed; NULL: the constant part alone */
    const struct ip_prefix *open;      /* borrowed: exceptions; NULL when open_count is 0 */
    size_t open_count;
};

/*
 * Returns NULL when the address may be reached, otherwise a constant text that says why not
 * ("loopback", "link-local", "local to this host", "embeds a forbidden IPv4 address", …).
 *
 * An embedded address is judged whole: an exception for it, or for the IPv6 address itself, opens
 * it. IP_NONE is never reachable.
 */
const char *deny_floor_judge(const struct deny_floor *floor, const struct ip_address *address);

#endif
