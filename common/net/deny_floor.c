#include "common/net/deny_floor.h"

#include <string.h>

struct floor_row {
    struct ip_prefix prefix;
    const char *reason;
};

#define V4(a, b, length_)                                                                          \
    {                                                                                              \
        .address = {.family = IP_V4, .bytes = {(a), (b)}}, .length = (length_)                     \
    }
#define V6(length_, ...)                                                                           \
    {                                                                                              \
        .address = {.family = IP_V6, .bytes = {__VA_ARGS__}}, .length = (length_)                  \
    }

/* The first row that matches gives the reason. */
static const struct floor_row constant_rows[] = {
    {V4(127, 0, 8), "loopback"},
    {V4(0, 0, 8), "unspecified"},
    {V4(169, 254, 16), "link-local"},
    {V4(224, 0, 4), "multicast"},
    {{.address = {.family = IP_V4, .bytes = {255, 255, 255, 255}}, .length = 32}, "broadcast"},
    {V4(240, 0, 4), "reserved"},
    {V6(128, [15] = 1), "loopback"},
    {V6(128, 0), "unspecified"},
    {V6(10, 0xfe, 0x80), "link-local"},
    {V6(8, 0xff), "multicast"},
};

struct embedding {
    struct ip_prefix prefix;
    uint8_t offset; /* of the IPv4 address's first octet */
};

static const struct embedding embeddings[] = {
    {V6(96, 0x00, 0x64, 0xff, 0x9b), 12}, /* RFC 6052: NAT64 */
    {V6(16, 0x20, 0x02), 2},              /* RFC 3056: 6to4 */
    {V6(96, 0), 12},                      /* RFC 4291 2.5.5.1: IPv4-compatible */
    /* IPv4-mapped: ip_address_v6() makes none, but a floor does not trust its callers. */
    {V6(96, [10] = 0xff, [11] = 0xff), 12},
};

static bool is_open(const struct deny_floor *floor, const struct ip_address *address)
{
    for (size_t i = 0; i < floor->open_count; i++)
        if (ip_prefix_contains(&floor->open[i], address))
            return true;
    return false;
}

/* The address itself, without what it embeds. */
static const char *judge_plain(const struct deny_floor *floor, const struct ip_address *address)
{
    for (size_t i = 0; i < sizeof(constant_rows) / sizeof(constant_rows[0]); i++)
        if (ip_prefix_contains(&constant_rows[i].prefix, address))
            return constant_rows[i].reason;
    if (floor->routes && local_routes_contain(floor->routes, address))
        return "local to this host";
    return NULL;
}

const char *deny_floor_judge(const struct deny_floor *floor, const struct ip_address *address)
{
    const char *reason;

    if (address->family != IP_V4 && address->family != IP_V6)
        return "no address";
    if (is_open(floor, address))
        return NULL;
    reason = judge_plain(floor, address);
    if (reason || address->family == IP_V4)
        return reason;
    for (size_t i = 0; i < sizeof(embeddings) / sizeof(embeddings[0]); i++) {
        struct ip_address inner;

        if (!ip_prefix_contains(&embeddings[i].prefix, address))
            continue;
        inner = ip_address_v4(address->bytes + embeddings[i].offset);
        if (!is_open(floor, &inner) && judge_plain(floor, &inner))
            return "embeds a forbidden IPv4 address";
    }
    return NULL;
}
