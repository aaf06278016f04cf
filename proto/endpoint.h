/*
 * Addresses as the protocols see them: an IP address, and an endpoint (address and port).
 *
 * Values, not objects: copied freely, nothing to release. An IPv4-mapped IPv6 address
 * (::ffff:a.b.c.d) never exists as such: ip_address_v6() turns it into the IPv4 address
 * that it means, so that no rule can be walked around by writing an address differently.
 */
#ifndef SOCKST_PROTO_ENDPOINT_H
#define SOCKST_PROTO_ENDPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum ip_family {
    IP_NONE = 0, /* no address at all: a zeroed struct */
    IP_V4 = 4,
    IP_V6 = 6,
};

struct ip_address {
    uint8_t family;    /* enum ip_family */
    uint8_t bytes[16]; /* network byte order; IPv4 uses the first four, the rest is zero */
    uint32_t scope_id; /* interface index of an IPv6 link-local address, otherwise 0 */
};

struct endpoint {
    struct ip_address address;
    uint16_t port; /* host byte order */
};

/* "[" + address + "%" + scope + "]:" + port + NUL, rounded up. */
#define ENDPOINT_TEXT_MAX 80

/* An IPv4 address from 4 bytes in network byte order. */
struct ip_address ip_address_v4(const uint8_t bytes[4]);

/* An IPv6 address from 16 bytes in network byte order; an IPv4-mapped one becomes IPv4. */
struct ip_address ip_address_v6(const uint8_t bytes[16]);

/* Octets in the address: 4, 16, or 0 for IP_NONE. */
size_t ip_address_size(const struct ip_address *address);

/* Same family, octets and scope. */
bool ip_address_equal(const struct ip_address *a, const struct ip_address *b);

/* 0.0.0.0 or ::. False for IP_NONE. */
bool ip_address_is_unspecified(const struct ip_address *address);

/* fe80::/10. */
bool ip_address_is_link_local_v6(const struct ip_address *address);

bool endpoint_equal(const struct endpoint *a, const struct endpoint *b);

/*
 * Parses "192.0.2.1", "2001:db8::1" or "fe80::1%3" (numeric scope only; names of interfaces
 * belong to whoever may ask the kernel). The whole text must match.
 * Returns 0, or -EINVAL and leaves *out alone.
 */
int ip_address_parse(const char *text, struct ip_address *out);

/* Parses "192.0.2.1:80" or "[2001:db8::1]:80". Returns 0 or -EINVAL. */
int endpoint_parse(const char *text, struct endpoint *out);

/* Writes the text form into `text` (always terminated; at most `size` octets) and returns it.
 * IP_NONE is written as "-". */
const char *ip_address_format(const struct ip_address *address, char *text, size_t size);

/* "address:port", IPv6 in brackets. Returns `text`. */
const char *endpoint_format(const struct endpoint *endpoint, char *text, size_t size);

#endif
