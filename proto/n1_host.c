#include "proto/n1_host.h"

#include <errno.h>

#define NAME_OCTETS_MAX 253 /* without the final dot; RFC 1035 section 2.3.4 */
#define LABEL_OCTETS_MAX 63

bool n1_name_is_valid(const char *name, size_t length)
{
    size_t label = 0;
    if (length != 0 && name[length - 1] == '.')
        length--;
    if (length == 0 || length > NAME_OCTETS_MAX)
        return false;
    for (size_t i = 0; i < length; i++) {
        if (name[i] == '.') {
            if (label == 0)
                return false;
            label = 0;
        } else if (name[i] <= 0x20 || name[i] > 0x7e || ++label > LABEL_OCTETS_MAX) {
            return false; /* where char is signed, octets above 0x7f are below 0x20 */
        }
    }
    return label != 0;
}

struct n1_host n1_host_from_endpoint(const struct endpoint *endpoint)
{
    struct n1_host host = {.address = endpoint->address, .port = endpoint->port};
    if (endpoint->address.family == IP_V4)
        host.atyp = N1_ATYP_V4;
    else if (endpoint->address.family == IP_V6)
        host.atyp = N1_ATYP_V6;
    return host;
}

int n1_host_from_name(const char *name, uint16_t port, struct n1_host *out)
{
    size_t length = strnlen(name, N1_NAME_MAX + 1);
    if (length > N1_NAME_MAX || !n1_name_is_valid(name, length))
        return -EINVAL;
    *out = (struct n1_host){.atyp = N1_ATYP_DOMAIN, .name_length = (uint8_t)length, .port = port};
    memcpy(out->name, name, length);
    return 0;
}

static void read_name(struct wire_reader *reader, struct n1_host *host)
{
    host->name_length = wire_read_u8(reader);
    wire_read_bytes(reader, host->name, host->name_length);
    host->name[host->name_length] = '\0';
}

static void read_address(struct wire_reader *reader, struct n1_host *host)
{
    uint8_t bytes[16] = {0};
    if (host->atyp == N1_ATYP_V4) {
        wire_read_bytes(reader, bytes, 4);
        host->address = ip_address_v4(bytes);
        return;
    }
    wire_read_bytes(reader, bytes, 16);
    host->address = ip_address_v6(bytes);
    if (host->address.family == IP_V4)
        host->atyp = N1_ATYP_V4; /* IPv4-mapped: N1-ADDR-020 */
}

enum n1_result n1_host_read(struct wire_reader *reader, struct n1_host *host)
{
    *host = (struct n1_host){0};
    host->atyp = wire_read_u8(reader);
    if (reader->truncated)
        return N1_NEED_MORE;
    switch (host->atyp) {
    case N1_ATYP_V4:
    case N1_ATYP_V6:
        read_address(reader, host);
        break;
    case N1_ATYP_DOMAIN:
        read_name(reader, host);
        break;
    default:
        return N1_E_ATYP;
    }
    host->port = wire_read_u16(reader);
    return reader->truncated ? N1_NEED_MORE : N1_OK;
}

static bool host_is_valid(const struct n1_host *host)
{
    switch (host->atyp) {
    case N1_ATYP_V4:
        return host->address.family == IP_V4;
    case N1_ATYP_V6:
        return host->address.family == IP_V6;
    case N1_ATYP_DOMAIN:
        return n1_name_is_valid(host->name, host->name_length);
    default:
        return false;
    }
}

void n1_host_write(struct wire_writer *writer, const struct n1_host *host)
{
    if (!host_is_valid(host)) {
        wire_fail(writer);
        return;
    }
    wire_write_u8(writer, host->atyp);
    if (host->atyp == N1_ATYP_DOMAIN) {
        wire_write_u8(writer, host->name_length);
        wire_write_bytes(writer, host->name, host->name_length);
    } else {
        wire_write_bytes(writer, host->address.bytes, ip_address_size(&host->address));
    }
    wire_write_u16(writer, host->port);
}
