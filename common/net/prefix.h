/*
 * Address prefixes and port ranges.
 */
#ifndef SOCKST_COMMON_NET_PREFIX_H
#define SOCKST_COMMON_NET_PREFIX_H

#include "proto/endpoint.h"

struct ip_prefix {
    struct ip_address address; /* bits below the length are zero; no scope */
    uint8_t length;            /* 0 … 32 or 128 */
};

struct port_range {
    uint16_t first, last; /* inclusive; 1 ≤ first ≤ last */
};

#define PREFIX_TEXT_MAX 56

/*
 * Parses "10.0.0.0/8", "2001:db8::/32", or an address alone (its full length). Host bits that are
 * set, a scope, an IPv4-mapped prefix with a length, trailing junk: -EINVAL, and *out stays as it
 * was. Returns 0 otherwise.
 */
int ip_prefix_parse(const char *text, struct ip_prefix *out);

/* Writes "address/length" (always terminated, at most `size` octets) and returns `text`. */
const char *ip_prefix_format(const struct ip_prefix *prefix, char *text, size_t size);

/* Does the address lie within the prefix? Families never match each other; the scope is ignored. */
bool ip_prefix_contains(const struct ip_prefix *prefix, const struct ip_address *address);

/*
 * Parses "80" or "1-65535". Port 0 is no port. Returns 0; or -EINVAL, and *out stays as it was.
 */
int port_range_parse(const char *text, struct port_range *out);

bool port_range_contains(const struct port_range *range, uint16_t port);

#endif
