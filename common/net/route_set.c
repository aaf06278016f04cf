#include "common/net/route_set.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int compare_prefixes(const void *left, const void *right)
{
    const struct ip_prefix *a = left, *b = right;

    if (a->address.family != b->address.family)
        return a->address.family < b->address.family ? -1 : 1;
    if (a->length != b->length)
        return a->length < b->length ? -1 : 1;
    return memcmp(a->address.bytes, b->address.bytes, sizeof(a->address.bytes));
}

static void note_length(struct route_set *set, const struct ip_prefix *prefix)
{
    uint64_t bit = UINT64_C(1) << (prefix->length % 64);

    if (prefix->address.family == IP_V4)
        set->lengths_v4 |= bit;
    else
        set->lengths_v6[prefix->length / 64] |= bit;
}

static int reserve_one(struct route_set *set)
{
    size_t capacity = set->capacity ? set->capacity * 2 : 64;
    struct ip_prefix *items;

    if (set->count < set->capacity)
        return 0;
    if (set->count >= ROUTE_SET_MAX)
        return -E2BIG;
    items = reallocarray(set->items, capacity, sizeof(*items));
    if (!items)
        return -ENOMEM;
    set->items = items;
    set->capacity = capacity;
    return 0;
}

int route_set_add(struct route_set *set, const struct ip_prefix *prefix)
{
    int r = reserve_one(set);

    if (r < 0)
        return r;
    set->items[set->count++] = *prefix;
    note_length(set, prefix);
    return 0;
}

void route_set_seal(struct route_set *set)
{
    size_t kept = 0;

    if (set->count > 0)
        qsort(set->items, set->count, sizeof(*set->items), compare_prefixes);
    for (size_t i = 0; i < set->count; i++)
        if (kept == 0 || compare_prefixes(&set->items[kept - 1], &set->items[i]) != 0)
            set->items[kept++] = set->items[i];
    set->count = kept;
}

/* The first position whose prefix is not less than the key. */
static size_t lower_bound(const struct route_set *set, const struct ip_prefix *key)
{
    size_t low = 0, high = set->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (compare_prefixes(&set->items[middle], key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool has_exactly(const struct route_set *set, const struct ip_prefix *key, size_t position)
{
    return position < set->count && compare_prefixes(&set->items[position], key) == 0;
}

int route_set_insert(struct route_set *set, const struct ip_prefix *prefix)
{
    size_t position = lower_bound(set, prefix);
    int r;

    if (has_exactly(set, prefix, position))
        return 0;
    r = reserve_one(set);
    if (r < 0)
        return r;
    memmove(&set->items[position + 1], &set->items[position],
            (set->count - position) * sizeof(*set->items));
    set->items[position] = *prefix;
    set->count++;
    note_length(set, prefix);
    return 1;
}

static bool length_occurs(const struct route_set *set, uint8_t family, unsigned length)
{
    uint64_t word = family == IP_V4 ? set->lengths_v4 : set->lengths_v6[length / 64];

    return word >> (length % 64) & 1;
}

bool route_set_contains(const struct route_set *set, const struct ip_address *address)
{
    struct ip_prefix key = {.address = *address};
    size_t size = ip_address_size(address);

    /* From the longest to the shortest, so that each step only clears further bits of the key. */
    for (int length = (int)size * 8; length >= 0 && size > 0; length--) {
        if ((size_t)length < size * 8)
            key.address.bytes[length / 8] &= (uint8_t) ~(0x80u >> (length % 8));
        if (!length_occurs(set, address->family, (unsigned)length))
            continue;
        key.length = (uint8_t)length;
        if (has_exactly(set, &key, lower_bound(set, &key)))
            return true;
    }
    return false;
}

bool route_set_equal(const struct route_set *a, const struct route_set *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (compare_prefixes(&a->items[i], &b->items[i]) != 0)
            return false;
    return true;
}

void route_set_clear(struct route_set *set)
{
    free(set->items);
    memset(set, 0, sizeof(*set));
}
