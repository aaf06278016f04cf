/*
 * The peers whose ways are due to be asked for again: a set of prefixes. Filled from the kernel's
 * notifications, then sealed and walked.
 */
#ifndef SOCKST_RELAYD_BPF_DUE_H
#define SOCKST_RELAYD_BPF_DUE_H

#include <linux/netlink.h>

#include "common/net/prefix.h"

/* More become the whole family. */
#define DUE_MAX 2048

/* Zeroed: empty. */
struct due {
    size_t count;
    struct ip_prefix items[DUE_MAX];
};

/* Only before due_seal(). */
void due_add(struct due *due, const struct ip_prefix *prefix);
void due_add_family(struct due *due, uint8_t family); /* IP_V4, IP_V6 */
void due_add_all(struct due *due);

/*
 * What a notification about routes, rules, addresses or nexthop objects makes due. A route concerns
 * the peers in its prefix; one that is malformed, and everything else, its whole family. Other
 * notifications: nothing.
 */
void due_add_message(struct due *due, const struct nlmsghdr *message);

/* Afterwards the prefixes are in ascending order (IPv4 first) and none lies within another. */
void due_seal(struct due *due);

#endif
