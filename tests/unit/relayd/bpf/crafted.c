#include "tests/unit/relayd/bpf/crafted.h"

#include <check.h>
#include <netinet/in.h>
#include <string.h>

#define IPV4_HEADER 20
#define IPV6_HEADER 40

static void put16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static void put32(uint8_t *at, uint32_t value)
{
    put16(at, value >> 16);
    put16(at + 2, value & 0xffff);
}

static uint32_t get16(const uint8_t *at)
{
    return (uint32_t)at[0] << 8 | at[1];
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* RFC 1071, the slow way. */
static uint32_t sum(const uint8_t *octets, size_t length, uint32_t start)
{
    uint32_t total = start;

    for (size_t i = 0; i < length; i++) {
        total += i % 2 == 0 ? (uint32_t)octets[i] << 8 : octets[i];
        total = (total & 0xffff) + (total >> 16);
    }
    return total;
}

static bool is_v6(const uint8_t *ip)
{
    return ip[0] >> 4 == 6;
}

static size_t address_length(const uint8_t *ip)
{
    return is_v6(ip) ? 32 : 8;
}

static const uint8_t *addresses(const uint8_t *ip)
{
    return ip + (is_v6(ip) ? 8 : 12);
}

/* The sum of an L4 checksum: pseudo header and all that follows, the checksum's own field too. */
static uint32_t l4_sum(const uint8_t *ip, const uint8_t *l4, size_t length, uint8_t protocol)
{
    uint32_t total = (uint32_t)length + protocol;

    if (protocol == IPPROTO_ICMP)
        return sum(l4, length, 0);
    total = (total & 0xffff) + (total >> 16);
    return sum(l4, length, sum(addresses(ip), address_length(ip), total));
}

static size_t checksum_place(uint8_t protocol)
{
    return protocol == IPPROTO_TCP ? 16 : protocol == IPPROTO_UDP ? 6 : 2;
}

static void put_l4_checksum(const uint8_t *ip, uint8_t *l4, size_t length, uint8_t protocol)
{
    uint8_t *place = l4 + checksum_place(protocol);

    put16(place, 0);
    const uint32_t check = ~l4_sum(ip, l4, length, protocol) & 0xffff;
    put16(place, check == 0 && protocol == IPPROTO_UDP ? 0xffff : check);
}

static void put_header_checksum(uint8_t *ip)
{
    put16(ip + 10, 0);
    put16(ip + 10, ~sum(ip, (ip[0] & 15u) * 4, 0));
}

struct link {
    const uint8_t *destination_mac, *source_mac;
};

static uint8_t *put_link(struct frame *frame, struct link link, bool v6)
{
    memset(frame, 0, sizeof(*frame));
    memcpy(frame->octets, link.destination_mac, 6);
    memcpy(frame->octets + 6, link.source_mac, 6);
    put16(frame->octets + 12, v6 ? 0x86dd : 0x0800);
    return frame->octets + LINK_HEADER;
}

struct ip_spec {
    const struct ip_address *source, *destination;
    uint8_t protocol, ttl;
    uint16_t fragment;
    size_t header, payload;
};

static void put_ip(uint8_t *ip, const struct ip_spec *spec)
{
    const size_t size = ip_address_size(spec->source);
    uint8_t *address = ip + (size == 16 ? 8 : 12);

    ck_assert_uint_eq(spec->source->family, spec->destination->family);
    if (size == 16) {
        ip[0] = 0x60;
        ip[1] = 0x21; /* traffic class and flow label are not the relay's business */
        ip[3] = 0x77;
        put16(ip + 4, (uint32_t)(spec->header + spec->payload - IPV6_HEADER));
        ip[6] = spec->protocol;
        ip[7] = spec->ttl == 0 ? 64 : spec->ttl;
    } else {
        ip[0] = (uint8_t)(0x40 | spec->header / 4);
        ip[1] = 0x2e;
        put16(ip + 2, (uint32_t)(spec->header + spec->payload));
        put16(ip + 4, 0x1234);
        put16(ip + 6, spec->fragment);
        ip[8] = spec->ttl == 0 ? 64 : spec->ttl;
        ip[9] = spec->protocol;
    }
    memcpy(address, spec->source->bytes, size);
    memcpy(address + size, spec->destination->bytes, size);
    if (size == 4)
        put_header_checksum(ip);
}

/* IPv6: the last extension header leads on to `protocol`. */
static void put_between(uint8_t *at, const struct packet_spec *spec, bool v6)
{
    size_t header = 0, length = 0;

    if (spec->between_length == 0)
        return;
    memcpy(at, spec->between, spec->between_length);
    if (!v6)
        return;
    for (uint8_t next = spec->between_next; header + length < spec->between_length;
         next = at[header]) {
        header += length;
        length = next == IPPROTO_FRAGMENT ? 8 : (at[header + 1] + 1u) * 8u;
    }
    at[header] = spec->protocol;
}

static void put_l4(uint8_t *l4, const struct packet_spec *spec, size_t header)
{
    put16(l4, spec->source.port);
    put16(l4 + 2, spec->destination.port);
    for (size_t i = 0; i < spec->payload; i++)
        l4[header + i] = (uint8_t)((spec->seed + i) * 2654435761u >> 13);
    if (spec->protocol == IPPROTO_UDP) {
        put16(l4 + 4, (uint32_t)(header + spec->payload));
        return;
    }
    put32(l4 + 4, spec->sequence);
    put32(l4 + 8, spec->acknowledgment);
    l4[12] = (uint8_t)(header / 4 << 4);
    l4[13] = spec->flags;
    put16(l4 + 14, 0x4321);
    memset(l4 + 20, 1, header - 20);
}

void craft(struct frame *frame, const struct packet_spec *spec)
{
    const bool v6 = spec->source.address.family == IP_V6;
    const size_t own = v6 ? IPV6_HEADER : IPV4_HEADER;
    const size_t l4_header = spec->protocol == IPPROTO_TCP ? 20 + spec->tcp_options : 8;
    const struct ip_spec ip_spec = {
        .source = &spec->source.address,
        .destination = &spec->destination.address,
        .protocol = v6 && spec->between_length > 0 ? spec->between_next : spec->protocol,
        .ttl = spec->ttl,
        .fragment = spec->fragment,
        .header = own + spec->between_length,
        .payload = l4_header + spec->payload,
    };
    uint8_t *ip = put_link(frame, (struct link){spec->destination_mac, spec->source_mac}, v6);

    ck_assert_uint_le(LINK_HEADER + ip_spec.header + ip_spec.payload + spec->padding, FRAME_MAX);
    put_between(ip + own, spec, v6);
    put_ip(ip, &ip_spec);
    put_l4(ip + ip_spec.header, spec, l4_header);
    if (!spec->no_checksum)
        put_l4_checksum(ip, ip + ip_spec.header, ip_spec.payload, spec->protocol);
    frame->length = LINK_HEADER + ip_spec.header + ip_spec.payload + spec->padding;
    memset(ip + ip_spec.header + ip_spec.payload, 0xee, spec->padding);
}

void craft_error(struct frame *frame, const struct error_spec *spec)
{
    const bool v6 = spec->source.family == IP_V6;
    const struct ip_spec ip_spec = {
        .source = &spec->source,
        .destination = &spec->destination,
        .protocol = v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP,
        .ttl = spec->ttl,
        .header = v6 ? IPV6_HEADER : IPV4_HEADER,
        .payload = 8 + spec->quoted_length,
    };
    uint8_t *ip = put_link(frame, (struct link){spec->destination_mac, spec->source_mac}, v6);
    uint8_t *icmp = ip + ip_spec.header;

    put_ip(ip, &ip_spec);
    icmp[0] = spec->type;
    icmp[1] = spec->code;
    put32(icmp + 4, spec->rest);
    memcpy(icmp + 8, spec->quoted, spec->quoted_length);
    put_l4_checksum(ip, icmp, ip_spec.payload, ip_spec.protocol);
    frame->length = LINK_HEADER + ip_spec.header + ip_spec.payload;
}

/* ---- the judge ------------------------------------------------------------------------------- */

struct layout {
    const uint8_t *ip, *l4;
    size_t l4_length;
    uint8_t protocol;
};

/* Finds the L4 header of a packet without options and extension headers; an error, or NULL. */
static const char *find_l4(const struct frame *frame, struct layout *out)
{
    const uint8_t *ip = frame->octets + LINK_HEADER;
    const size_t room = frame->length - LINK_HEADER;
    size_t header, length;

    if (frame->length < LINK_HEADER + IPV4_HEADER)
        return "no IP header";
    if (get16(frame->octets + 12) != (is_v6(ip) ? 0x86dd : 0x0800))
        return "the link-layer header is of another protocol";
    if (is_v6(ip)) {
        header = IPV6_HEADER;
        length = room < header ? 0 : header + get16(ip + 4);
        out->protocol = ip[6];
    } else {
        header = (ip[0] & 15u) * 4;
        length = get16(ip + 2);
        out->protocol = ip[9];
        if (header != IPV4_HEADER)
            return "IPv4 with options";
    }
    if (length < header || length > room)
        return "the IP length is wrong";
    out->ip = ip;
    out->l4 = ip + header;
    out->l4_length = length - header;
    return NULL;
}

static const char *udp_fault(const struct layout *at)
{
    if (at->l4_length < 8 || get16(at->l4 + 4) < 8 || get16(at->l4 + 4) > at->l4_length)
        return "the UDP length is wrong";
    if (get16(at->l4 + 6) == 0)
        return is_v6(at->ip) ? "UDP without a checksum over IPv6" : NULL;
    return l4_sum(at->ip, at->l4, get16(at->l4 + 4), IPPROTO_UDP) == 0xffff
               ? NULL
               : "the UDP checksum is wrong";
}

static const char *tcp_fault(const struct layout *at)
{
    if (at->l4_length < 20 || at->l4[12] >> 4 < 5 || (at->l4[12] >> 4) * 4u > at->l4_length)
        return "the TCP header's length is wrong";
    return l4_sum(at->ip, at->l4, at->l4_length, IPPROTO_TCP) == 0xffff
               ? NULL
               : "the TCP checksum is wrong";
}

const char *frame_fault(const struct frame *frame)
{
    struct layout at;
    const char *fault = find_l4(frame, &at);

    if (fault != NULL)
        return fault;
    if (!is_v6(at.ip) && sum(at.ip, IPV4_HEADER, 0) != 0xffff)
        return "the IPv4 header's checksum is wrong";
    switch (at.protocol) {
    case IPPROTO_UDP:
        return udp_fault(&at);
    case IPPROTO_TCP:
        return tcp_fault(&at);
    case IPPROTO_ICMP:
    case IPPROTO_ICMPV6:
        return l4_sum(at.ip, at.l4, at.l4_length, at.protocol) == 0xffff
                   ? NULL
                   : "the ICMP checksum is wrong";
    default:
        return "another protocol";
    }
}

void frame_mend(struct frame *frame)
{
    uint8_t *ip = frame->octets + LINK_HEADER;
    struct layout at;

    if (!is_v6(ip) && frame->length >= LINK_HEADER + (ip[0] & 15u) * 4 && (ip[0] & 15u) >= 5)
        put_header_checksum(ip);
    if (find_l4(frame, &at) != NULL || at.l4_length < checksum_place(at.protocol) + 2)
        return;
    uint8_t *l4 = frame->octets + (at.l4 - frame->octets);
    const size_t length =
        at.protocol == IPPROTO_UDP ? smaller(get16(at.l4 + 4), at.l4_length) : at.l4_length;
    if (length >= checksum_place(at.protocol) + 2)
        put_l4_checksum(at.ip, l4, length, at.protocol);
}

struct endpoint endpoint_of(const char *text)
{
    struct endpoint endpoint;

    ck_assert_msg(endpoint_parse(text, &endpoint) == 0, "endpoint \"%s\"", text);
    return endpoint;
}
