/*
 * A set of prefixes that answers "is this address in one of them?" quickly, with thousands of
 * prefixes: a sorted array and one binary search for each prefix length that occurs (a host's
 * tables use four or five).
 *
 * Add prefixes with route_set_add(), then route_set_seal() before the first look-up.
 */
#ifndef SOCKST_COMMON_NET_ROUTE_SET_H
#define SOCKST_COMMON_NET_ROUTE_SET_H

#include "common/net/prefix.h"

#define ROUTE_SET_MAX (1u << 20) /* prefixes */

struct route_set {
    struct ip_prefix *items; /* owned; sorted, without duplicates, once sealed */
    size_t count, capacity;
    uint64_t lengths_v4;    /* bit n: a prefix of length n exists */
    uint64_t lengths_v6[3]; /* bit n % 64 of word n / 64 */
};

/* An empty set is all zero. Returns 0, -ENOMEM, or -E2BIG above ROUTE_SET_MAX. */
int route_set_add(struct route_set *set, const struct ip_prefix *prefix);

/* Sorts and removes duplicates. */
void route_set_seal(struct route_set *set);

/*
 * Adds one prefix to a sealed set, which stays sealed. Returns 1, 0 when it was there already, or
 * an error of route_set_add().
 */
int route_set_insert(struct route_set *set, const struct ip_prefix *prefix);

bool route_set_contains(const struct route_set *set, const struct ip_address *address);
bool route_set_equal(const struct route_set *a, const struct route_set *b);

/* Releases the memory; the set is empty afterwards. */
void route_set_clear(struct route_set *set);

#endif
