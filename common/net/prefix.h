/*
 * Address prefixes and port ranges.
 */
#ifndef SOCKST_COMMON_NET_PREFIX_H
#define SOCKST_COMMON_NET_PREFIX_H

#include "proto/endpoint.h"

struct ip_prefix {
    struct ip_address address; /* bits below the length are zero */
    uint8_t length;            /* 0 … 32 or 128 */
};

struct port_range {
    uint16_t first, last; /* inclusive; first ≤ last */
};

#define PREFIX_TEXT_MAX 56

/* "10.0.0.0/8", "2001:db8::/32", or an address (its full length). Host bits set, trailing junk: -EINVAL. */
int ip_prefix_parse(const char *text, struct ip_prefix *out);
const char *ip_prefix_format(const struct ip_prefix *prefix, char *text, size_t size);
/* Families never match each other. The scope is ignored. */
bool ip_prefix_contains(const struct ip_prefix *prefix, const struct ip_address *address);

/* "80" or "1-65535". Returns 0 or -EINVAL. */
int port_range_parse(const char *text, struct port_range *out);
bool port_range_contains(const struct port_range *range, uint16_t port);

#endif
