#include "relayd/plane/bpf/due.h"

#include <stdlib.h>
#include <string.h>

#include "common/net/netlink.h"

static bool covers(const struct ip_prefix *outer, const struct ip_prefix *inner)
{
    return outer->length <= inner->length && ip_prefix_contains(outer, &inner->address);
}

static int compare(const void *left, const void *right)
{
    const struct ip_prefix *a = left, *b = right;
    int order;

    if (a->address.family != b->address.family)
        return a->address.family < b->address.family ? -1 : 1;
    order = memcmp(a->address.bytes, b->address.bytes, sizeof(a->address.bytes));
    if (order != 0)
        return order;
    return a->length < b->length ? -1 : a->length > b->length;
}

void due_seal(struct due *due)
{
    size_t kept = 0;

    if (due->count > 0)
        qsort(due->items, due->count, sizeof(due->items[0]), compare);
    for (size_t i = 0; i < due->count; i++)
        if (kept == 0 || !covers(&due->items[kept - 1], &due->items[i]))
            due->items[kept++] = due->items[i];
    due->count = kept;
}

void due_add(struct due *due, const struct ip_prefix *prefix)
{
    /* The same one again, as when a route is replaced. */
    if (due->count > 0 && covers(&due->items[due->count - 1], prefix))
        return;
    if (due->count == DUE_MAX) {
        due_seal(due);
        if (due->count > DUE_MAX / 2) {
            due->count = 0;
            due_add_all(due);
            return;
        }
    }
    due->items[due->count++] = *prefix;
}

void due_add_family(struct due *due, uint8_t family)
{
    const struct ip_prefix everything = {.address = {.family = family}};

    due_add(due, &everything);
}

void due_add_all(struct due *due)
{
    due_add_family(due, IP_V4);
    due_add_family(due, IP_V6);
}

/* The family is the first octet of all these headers. */
static void add_family_of(struct due *due, const struct nlmsghdr *message)
{
    const uint8_t *family = NLMSG_DATA(message);

    if (message->nlmsg_len <= NLMSG_HDRLEN)
        return;
    if (*family == AF_INET)
        due_add_family(due, IP_V4);
    else if (*family == AF_INET6)
        due_add_family(due, IP_V6);
}

static void add_route(struct due *due, const struct nlmsghdr *message)
{
    const struct rtmsg *route = NLMSG_DATA(message);
    struct ip_prefix prefix;

    if (message->nlmsg_len >= NLMSG_LENGTH(sizeof(*route)) && (route->rtm_flags & RTM_F_CLONED))
        return;
    if (netlink_route_prefix(message, &prefix))
        due_add(due, &prefix);
    else
        add_family_of(due, message);
}

void due_add_message(struct due *due, const struct nlmsghdr *message)
{
    switch (message->nlmsg_type) {
    case RTM_NEWROUTE:
    case RTM_DELROUTE:
        add_route(due, message);
        break;
    case RTM_NEWRULE:
    case RTM_DELRULE:
    case RTM_NEWADDR:
    case RTM_DELADDR:
        add_family_of(due, message);
        break;
    case RTM_NEWNEXTHOP:
    case RTM_DELNEXTHOP:
        due_add_all(due);
        break;
    default:
        break;
    }
}
