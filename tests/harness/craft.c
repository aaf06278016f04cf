#include "tests/harness/craft.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/harness/packet_check.h"

#define V4_HEADER 20
#define V6_HEADER 40
#define TCP_HEADER 20
#define UDP_HEADER 8
#define ICMP_HEADER 8
#define FRAGMENT_HEADER 8

/* Programs other than tests build packets, too: no ck_assert. */
static void require(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "craft: %s\n", what);
        abort();
    }
}

struct builder {
    uint8_t *data;
    size_t length, size;
};

static uint8_t *grow(struct builder *builder, size_t octets)
{
    uint8_t *at = builder->data + builder->length;
    require(octets <= builder->size - builder->length, "the packet does not fit");
    memset(at, 0, octets);
    builder->length += octets;
    return at;
}

static void put16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static void put32(uint8_t *at, uint32_t value)
{
    put16(at, value >> 16);
    put16(at + 2, value);
}

static size_t padded(size_t length)
{
    return (length + 3) / 4 * 4;
}

static void copy(uint8_t *to, const void *from, size_t length)
{
    if (length != 0) {
        memcpy(to, from, length);
    }
}

/* ---- building -------------------------------------------------------------------------------- */

static void put_v4(struct builder *builder, const struct craft *spec)
{
    const size_t header = V4_HEADER + padded(spec->options_length);
    uint8_t *data = grow(builder, header);
    data[0] = (uint8_t)(0x40 | (spec->header_words != 0 ? spec->header_words : header / 4));
    data[1] = spec->tos;
    put16(data + 4, spec->id);
    put16(data + 6, spec->fragment);
    data[9] = spec->protocol;
    memcpy(data + 12, spec->source.address.bytes, 4);
    memcpy(data + 16, spec->destination.address.bytes, 4);
    copy(data + V4_HEADER, spec->options, spec->options_length);
}

static void put_v6(struct builder *builder, const struct craft *spec)
{
    uint8_t *data = grow(builder, V6_HEADER);
    uint8_t *next = data + 6;
    data[0] = (uint8_t)(0x60 | spec->tos >> 4);
    data[1] = (uint8_t)(spec->tos << 4);
    memcpy(data + 8, spec->source.address.bytes, 16);
    memcpy(data + 24, spec->destination.address.bytes, 16);
    for (size_t i = 0; i < CRAFT_EXTENSIONS_MAX; i++) {
        const struct craft_extension *extension = &spec->extensions[i];
        if (extension->body == NULL) {
            break;
        }
        uint8_t *header = grow(builder, extension->length + 2);
        *next = extension->type;
        next = header;
        if (extension->type != IPPROTO_FRAGMENT) {
            header[1] = (uint8_t)((extension->length + 2) / 8 - 1);
        }
        copy(header + 2, extension->body, extension->length);
    }
    *next = spec->protocol;
}

static void put_transport(struct builder *builder, const struct craft *spec)
{
    uint8_t *header;
    switch (spec->protocol) {
    case IPPROTO_TCP: {
        const size_t length = TCP_HEADER + padded(spec->tcp_options_length);
        header = grow(builder, length);
        put32(header + 4, spec->sequence);
        put32(header + 8, spec->acknowledgment);
        header[12] =
            (uint8_t)((spec->tcp_data_words != 0 ? spec->tcp_data_words : length / 4) << 4);
        header[13] = spec->tcp_flags;
        put16(header + 14, spec->window != 0 ? spec->window : 65535);
        copy(header + TCP_HEADER, spec->tcp_options, spec->tcp_options_length);
        break;
    }
    case IPPROTO_UDP:
        header = grow(builder, UDP_HEADER);
        put16(header + 4,
              spec->udp_length != 0 ? spec->udp_length : (uint32_t)(UDP_HEADER + spec->length));
        break;
    case IPPROTO_ICMP:
    case IPPROTO_ICMPV6:
        header = grow(builder, ICMP_HEADER);
        header[0] = spec->icmp_type;
        header[1] = spec->icmp_code;
        put32(header + 4, spec->icmp_rest);
        return;
    default:
        return;
    }
    put16(header, spec->source.port);
    put16(header + 2, spec->destination.port);
}

static void put_data(struct builder *builder, const struct craft *spec)
{
    uint8_t *data = grow(builder, spec->length);
    if (spec->data != NULL) {
        copy(data, spec->data, spec->length);
        return;
    }
    for (size_t i = 0; i < spec->length; i++) {
        data[i] = (uint8_t)(i * 7 + i / 251);
    }
}

static void put_checksum(const struct builder *builder, const struct craft *spec, size_t header)
{
    const size_t place = packet_checksum_place(spec->protocol);
    const size_t length = builder->length - header;
    if (place == 0 || (spec->wrong & CRAFT_NO_CHECKSUM) != 0) {
        return;
    }
    const uint32_t pseudo = spec->protocol == IPPROTO_ICMP
                                ? 0
                                : packet_pseudo_header(builder->data, spec->protocol, length);
    uint16_t sum = packet_checksum(pseudo, builder->data + header, length);
    if (spec->protocol == IPPROTO_UDP && sum == 0) {
        sum = 0xffff;
    }
    put16(builder->data + header + place, (spec->wrong & CRAFT_BAD_CHECKSUM) != 0 ? sum ^ 1u : sum);
}

size_t craft_build(const struct craft *spec, uint8_t *out, size_t size)
{
    const bool v6 = spec->source.address.family == IP_V6;
    struct builder builder = {.data = out, .size = size};
    require(spec->source.address.family == spec->destination.address.family, "two families");
    if (v6) {
        put_v6(&builder, spec);
    } else {
        put_v4(&builder, spec);
    }
    const size_t header = builder.length;
    put_transport(&builder, spec);
    put_data(&builder, spec);
    out[v6 ? 7 : 8] = spec->ttl_zero ? 0 : spec->ttl != 0 ? spec->ttl : 64;
    const size_t length = builder.length - (v6 ? V6_HEADER : 0);
    put16(out + (v6 ? 4 : 2), spec->total_length != 0 ? spec->total_length : (uint32_t)length);
    put_checksum(&builder, spec, header);
    if (!v6) {
        const uint16_t sum = packet_checksum(0, out, header);
        put16(out + 10, (spec->wrong & CRAFT_BAD_HEADER) != 0 ? sum ^ 1u : sum);
    }
    return builder.length;
}

struct craft craft_reply(const struct craft *spec)
{
    return (struct craft){
        .source = spec->destination, .destination = spec->source, .protocol = spec->protocol};
}

/* ---- fragments ------------------------------------------------------------------------------- */

static size_t fragment_v4(const uint8_t *packet, size_t offset, size_t length, bool last,
                          uint32_t id, uint8_t *out)
{
    memcpy(out, packet, V4_HEADER);
    memcpy(out + V4_HEADER, packet + V4_HEADER + offset, length);
    put16(out + 2, (uint32_t)(V4_HEADER + length));
    put16(out + 4, id);
    put16(out + 6, (uint32_t)(offset / 8) | (last ? 0 : CRAFT_MF));
    put16(out + 10, 0);
    put16(out + 10, packet_checksum(0, out, V4_HEADER));
    return V4_HEADER + length;
}

static size_t fragment_v6(const uint8_t *packet, size_t offset, size_t length, bool last,
                          uint32_t id, uint8_t *out)
{
    uint8_t *header = out + V6_HEADER;
    memcpy(out, packet, V6_HEADER);
    put16(out + 4, (uint32_t)(FRAGMENT_HEADER + length));
    out[6] = IPPROTO_FRAGMENT;
    header[0] = packet[6];
    header[1] = 0;
    put16(header + 2, (uint32_t)offset | (last ? 0 : 1));
    put32(header + 4, id);
    memcpy(header + FRAGMENT_HEADER, packet + V6_HEADER + offset, length);
    return V6_HEADER + FRAGMENT_HEADER + length;
}

void craft_fragments(const uint8_t *packet, size_t length, size_t mtu, uint32_t id,
                     craft_fragment_cb each, void *user)
{
    static uint8_t fragment[CRAFT_MAX];
    const bool v6 = packet[0] >> 4 == 6;
    const size_t header = v6 ? V6_HEADER : V4_HEADER;
    const size_t piece = (mtu - header - (v6 ? FRAGMENT_HEADER : 0)) / 8 * 8;
    require(v6 || packet[0] == 0x45, "fragments of a packet with options");
    require(mtu <= sizeof(fragment), "the MTU is too large");
    for (size_t offset = 0; offset < length - header; offset += piece) {
        const size_t left = length - header - offset;
        const size_t taken = left < piece ? left : piece;
        const size_t cut = v6 ? fragment_v6(packet, offset, taken, taken == left, id, fragment)
                              : fragment_v4(packet, offset, taken, taken == left, id, fragment);
        each(user, fragment, cut);
    }
}
