/*
 * Ethernet frames made octet by octet, with every checksum computed from scratch, and the judge of
 * those that come back. Knows nothing of how the program computes.
 */
#ifndef SOCKST_TESTS_BPF_CRAFTED_H
#define SOCKST_TESTS_BPF_CRAFTED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/endpoint.h"

#define FRAME_MAX 4096
#define LINK_HEADER 14

#define FLAG_FIN 0x01
#define FLAG_SYN 0x02
#define FLAG_RST 0x04
#define FLAG_PSH 0x08
#define FLAG_ACK 0x10
#define FLAG_URG 0x20

struct frame {
    uint8_t octets[FRAME_MAX];
    size_t length;
};

/* A TCP segment or UDP datagram. What is 0 has a sensible value instead: TTL 64, no options … */
struct packet_spec {
    struct endpoint source, destination; /* of one family */
    uint8_t protocol;
    uint8_t ttl;
    size_t payload; /* octets, a pattern that depends on `seed` */
    uint32_t seed;
    uint8_t destination_mac[6], source_mac[6];
    /* UDP */
    bool no_checksum;
    /* TCP */
    uint8_t flags;
    uint32_t sequence, acknowledgment;
    size_t tcp_options; /* octets, a multiple of 4 */
    /* Oddities */
    uint16_t fragment; /* IPv4: flags and offset */
    const uint8_t
        *between;          /* IPv4 options, or IPv6 extension headers (the last one's first octet */
    size_t between_length; /* is filled in), borrowed; a multiple of 4 or 8 */
    uint8_t between_next;  /* IPv6: protocol number of the first extension header */
    size_t padding;        /* octets behind the IP packet */
};

void craft(struct frame *frame, const struct packet_spec *spec);

/* An ICMP error. */
struct error_spec {
    struct ip_address source, destination;
    uint8_t ttl; /* 0: 64 */
    uint8_t type, code;
    uint32_t rest; /* what follows the checksum, in host byte order: MTU */
    uint8_t destination_mac[6], source_mac[6];
    const uint8_t *quoted; /* from its IP header on; borrowed */
    size_t quoted_length;
};
void craft_error(struct frame *frame, const struct error_spec *spec);

/* The frame from its IP header on. */
static inline const uint8_t *frame_ip(const struct frame *frame)
{
    return frame->octets + LINK_HEADER;
}

/* What is wrong with lengths and checksums, or NULL. `headers_only`: the L4 header's length says
 * more than there is (a quoted packet). A UDP checksum of 0 over IPv4 is none. */
const char *frame_fault(const struct frame *frame);

/* Recomputes what a change has made wrong: the IPv4 header's checksum, and that of TCP, UDP or ICMP
 * where the packet is whole and has no options. */
void frame_mend(struct frame *frame);

struct endpoint endpoint_of(const char *text);

#endif
