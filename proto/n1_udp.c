/*
 * The header of each datagram of UDP ASSOCIATE: RFC 1928 section 7.
 */
#include "proto/n1_host.h"

enum n1_result n1_udp_header_decode(const uint8_t *data, size_t length, struct n1_udp_header *out,
                                    size_t *consumed)
{
    struct wire_reader reader = {.data = data, .length = length};
    *out = (struct n1_udp_header){0};
    uint16_t reserved = wire_read_u16(&reader);
    if (reader.truncated)
        return N1_NEED_MORE;
    if (reserved != 0)
        return N1_E_RSV;
    out->fragment = wire_read_u8(&reader);
    enum n1_result result = n1_host_read(&reader, &out->destination);
    if (result == N1_OK)
        *consumed = reader.used;
    return result;
}

enum n1_result n1_udp_header_measure(const uint8_t *data, size_t length, uint8_t *fragment,
                                     size_t *consumed)
{
    struct wire_reader reader = {.data = data, .length = length};
    const uint16_t reserved = wire_read_u16(&reader);

    if (reader.truncated)
        return N1_NEED_MORE;
    if (reserved != 0)
        return N1_E_RSV;
    *fragment = wire_read_u8(&reader);
    const uint8_t atyp = wire_read_u8(&reader);
    if (reader.truncated)
        return N1_NEED_MORE;
    if (atyp == N1_ATYP_V4)
        wire_take(&reader, 4);
    else if (atyp == N1_ATYP_V6)
        wire_take(&reader, 16);
    else if (atyp == N1_ATYP_DOMAIN)
        wire_take(&reader, wire_read_u8(&reader));
    else
        return N1_E_ATYP;
    wire_take(&reader, 2);
    if (reader.truncated)
        return N1_NEED_MORE;
    *consumed = reader.used;
    return N1_OK;
}

size_t n1_udp_header_encode(const struct n1_udp_header *header, uint8_t *out, size_t size)
{
    struct wire_writer writer = {.data = out, .size = size};
    wire_write_u16(&writer, 0);
    wire_write_u8(&writer, header->fragment);
    n1_host_write(&writer, &header->destination);
    return wire_written(&writer);
}
