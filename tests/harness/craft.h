/*
 * Packets as nobody's IP stack would send them: every field can be chosen, the lengths and
 * checksums too, where they are not to be right. Pure: a description in, octets out.
 */
#ifndef SOCKST_TESTS_HARNESS_CRAFT_H
#define SOCKST_TESTS_HARNESS_CRAFT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/endpoint.h"

#define CRAFT_MAX 65600 /* the largest IPv6 packet, and some more */
#define CRAFT_EXTENSIONS_MAX 4

#define CRAFT_FIN 0x01
#define CRAFT_SYN 0x02
#define CRAFT_RST 0x04
#define CRAFT_PSH 0x08
#define CRAFT_ACK 0x10
#define CRAFT_URG 0x20

/* IPv4's field of fragments, in host order: flags, and the offset in units of eight octets. */
#define CRAFT_DF 0x4000
#define CRAFT_MF 0x2000

/* Checksums that are not right. */
#define CRAFT_BAD_HEADER 0x01   /* of IPv4's header */
#define CRAFT_BAD_CHECKSUM 0x02 /* of the transport */
#define CRAFT_NO_CHECKSUM 0x04  /* zero: UDP over IPv4 may have none */

/* An IPv6 extension header; the builder chains them. The body is what follows the two octets of
 * next header and length, for a fragment header (type 44) too: offset and flags, identification. */
struct craft_extension {
    uint8_t type;
    const void *body;
    size_t length; /* with the two octets a multiple of eight, or the length octet is rounded down
                    */
};

struct craft {
    struct endpoint source, destination; /* of one family, which is the packet's */
    uint8_t protocol;                    /* IPPROTO_TCP, _UDP, _ICMP, _ICMPV6, or any other */
    uint8_t ttl;                         /* 0: 64; see `ttl_zero` */
    bool ttl_zero;
    uint8_t tos;           /* or traffic class */
    uint16_t id, fragment; /* IPv4 */
    const void *options;   /* IPv4, padded with zeroes to a multiple of four */
    size_t options_length;
    struct craft_extension extensions[CRAFT_EXTENSIONS_MAX]; /* IPv6; a type 0 with no body ends */

    uint8_t tcp_flags; /* CRAFT_SYN … */
    uint32_t sequence, acknowledgment;
    uint16_t window;         /* 0: 65535 */
    const void *tcp_options; /* padded with zeroes to a multiple of four */
    size_t tcp_options_length;

    uint8_t icmp_type, icmp_code;
    uint32_t icmp_rest; /* the second word: unused, MTU, identifier and sequence number */

    const void *data; /* what follows the transport header, or the IP header of other protocols;
                         NULL: `length` octets of a pattern */
    size_t length;

    unsigned wrong;         /* CRAFT_BAD_HEADER … */
    uint16_t total_length;  /* instead of the true one: IPv4's total, IPv6's payload length */
    uint16_t udp_length;    /* instead of the true one */
    uint8_t header_words;   /* instead of IPv4's true header length */
    uint8_t tcp_data_words; /* instead of TCP's true data offset */
};

/* Builds the packet from its IP header on. Returns its length; aborts where `size` is too small. */
size_t craft_build(const struct craft *spec, uint8_t *out, size_t size);

/* The two halves of a TCP or UDP conversation: a packet of the reverse direction without content.
 */
struct craft craft_reply(const struct craft *spec);

/*
 * Cuts a packet without options or extension headers into fragments of at most `mtu` octets, and
 * calls `each` for one after the other.
 */
typedef void (*craft_fragment_cb)(void *user, const uint8_t *fragment, size_t length);
void craft_fragments(const uint8_t *packet, size_t length, size_t mtu, uint32_t id,
                     craft_fragment_cb each, void *user);

#endif
