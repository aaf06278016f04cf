#include "tests/harness/packet_check.h"

#include <netinet/in.h>
#include <stdbool.h>

#define V4_HEADER 20
#define V6_HEADER 40
#define TCP_HEADER 20
#define UDP_HEADER 8

static uint16_t get16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

uint16_t packet_checksum(uint32_t sum, const void *data, size_t length)
{
    const uint8_t *octets = data;
    uint64_t wide = sum;
    for (size_t i = 0; i < length; i++) {
        wide += (uint64_t)octets[i] << (i % 2 == 0 ? 8 : 0);
    }
    while (wide >> 16 != 0) {
        wide = (wide & 0xffff) + (wide >> 16);
    }
    return (uint16_t)~wide;
}

uint32_t packet_pseudo_header(const uint8_t *packet, uint8_t protocol, size_t length)
{
    const bool v6 = packet[0] >> 4 == 6;
    const uint16_t addresses = packet_checksum(0, packet + (v6 ? 8 : 12), v6 ? 32 : 8);
    return (uint32_t)(uint16_t)~addresses + protocol + (uint32_t)(length >> 16) +
           (uint32_t)(length & 0xffff);
}

size_t packet_checksum_place(uint8_t protocol)
{
    switch (protocol) {
    case IPPROTO_TCP:
        return 16;
    case IPPROTO_UDP:
        return 6;
    case IPPROTO_ICMP:
    case IPPROTO_ICMPV6:
        return 2;
    default:
        return 0;
    }
}

static const char *transport_problem(const uint8_t *packet, size_t header, size_t length,
                                     uint8_t protocol)
{
    static const char *const names[] = {[IPPROTO_TCP] = "TCP checksum",
                                        [IPPROTO_UDP] = "UDP checksum",
                                        [IPPROTO_ICMP] = "ICMP checksum",
                                        [IPPROTO_ICMPV6] = "ICMPv6 checksum"};
    const size_t place = packet_checksum_place(protocol);
    const uint8_t *at = packet + header;
    const size_t left = length - header;
    if (place == 0) {
        return NULL;
    }
    if (left < (protocol == IPPROTO_TCP ? TCP_HEADER : UDP_HEADER)) {
        return "transport header";
    }
    if (protocol == IPPROTO_TCP && (at[12] >> 4 < 5 || (size_t)(at[12] >> 4) * 4 > left)) {
        return "TCP data offset";
    }
    if (protocol == IPPROTO_UDP && get16(at + 4) != left) {
        return "UDP length";
    }
    if (protocol == IPPROTO_UDP && get16(at + 6) == 0) {
        return packet[0] >> 4 == 6 ? "UDP without checksum" : NULL;
    }
    const uint32_t pseudo =
        protocol == IPPROTO_ICMP ? 0 : packet_pseudo_header(packet, protocol, left);
    return packet_checksum(pseudo, at, left) != 0 ? names[protocol] : NULL;
}

static const char *problem_v6(const uint8_t *packet, size_t length)
{
    uint8_t next = packet[6];
    size_t at = V6_HEADER;
    if (V6_HEADER + (size_t)get16(packet + 4) != length) {
        return "IPv6 payload length";
    }
    while (next == IPPROTO_HOPOPTS || next == IPPROTO_DSTOPTS || next == IPPROTO_ROUTING ||
           next == IPPROTO_FRAGMENT) {
        if (length - at < 8) {
            return "extension header";
        }
        if (next == IPPROTO_FRAGMENT && (get16(packet + at + 2) & 0xfff9) != 0) {
            return NULL;
        }
        const size_t size = next == IPPROTO_FRAGMENT ? 8 : (size_t)(packet[at + 1] + 1) * 8;
        if (size > length - at) {
            return "extension header";
        }
        next = packet[at];
        at += size;
    }
    return transport_problem(packet, at, length, next);
}

const char *packet_problem(const uint8_t *packet, size_t length)
{
    if (length >= V6_HEADER && packet[0] >> 4 == 6) {
        return problem_v6(packet, length);
    }
    if (length < V4_HEADER || packet[0] >> 4 != 4) {
        return "IP version";
    }
    const size_t header = (size_t)(packet[0] & 15) * 4;
    if (header < V4_HEADER || header > length || get16(packet + 2) != length) {
        return "IPv4 length";
    }
    if (packet_checksum(0, packet, header) != 0) {
        return "IPv4 header checksum";
    }
    if ((get16(packet + 6) & 0x3fff) != 0) {
        return NULL; /* a fragment */
    }
    return transport_problem(packet, header, length, packet[9]);
}
