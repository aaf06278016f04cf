/*
 * Replies: RFC 1928 section 6, with the draft's code 09 (section 3.2).
 */
#include "proto/n1_host.h"

static const char *const texts[] = {
    [N1_REP_SUCCEEDED] = "Succeeded",
    [N1_REP_GENERAL_FAILURE] = "General SOCKS server failure",
    [N1_REP_NOT_ALLOWED] = "Connection not allowed by ruleset",
    [N1_REP_NETWORK_UNREACHABLE] = "Network unreachable",
    [N1_REP_HOST_UNREACHABLE] = "Host unreachable",
    [N1_REP_REFUSED] = "Connection refused",
    [N1_REP_TTL_EXPIRED] = "TTL expired",
    [N1_REP_COMMAND_NOT_SUPPORTED] = "Command not supported",
    [N1_REP_ATYP_NOT_SUPPORTED] = "Address type not supported",
    [N1_REP_PTCL_NOT_SUPPORTED] = "PTCL type not supported",
};

const char *n1_reply_text(uint8_t code)
{
    return code < sizeof(texts) / sizeof(texts[0]) ? texts[code] : "Unassigned reply code";
}

int n1_result_reply(enum n1_result result)
{
    switch (result) {
    case N1_E_COMMAND:
        return N1_REP_COMMAND_NOT_SUPPORTED;
    case N1_E_RSV:
    case N1_E_MALFORMED:
        return N1_REP_GENERAL_FAILURE;
    case N1_E_ATYP:
    case N1_E_SOURCE_ATYP:
        return N1_REP_ATYP_NOT_SUPPORTED;
    case N1_OK:
    case N1_NEED_MORE:
    case N1_E_VERSION:
    case N1_E_METHODS:
        break;
    }
    return -1;
}

size_t n1_reply_encode(uint8_t code, const struct endpoint *bound, uint8_t *out, size_t size)
{
    static const struct endpoint nothing = {.address.family = IP_V4};
    struct wire_writer writer = {.data = out, .size = size};
    if (code == N1_REP_SUCCEEDED && bound == NULL)
        return 0;
    struct n1_host host = n1_host_from_endpoint(code == N1_REP_SUCCEEDED ? bound : &nothing);
    wire_write_u8(&writer, N1_VERSION);
    wire_write_u8(&writer, code);
    wire_write_u8(&writer, 0);
    n1_host_write(&writer, &host);
    return wire_written(&writer);
}

enum n1_result n1_reply_decode(const uint8_t *data, size_t length, struct n1_reply *out,
                               size_t *consumed)
{
    struct wire_reader reader = {.data = data, .length = length};
    *out = (struct n1_reply){0};
    uint8_t version = wire_read_u8(&reader);
    if (reader.truncated)
        return N1_NEED_MORE;
    if (version != N1_VERSION)
        return N1_E_VERSION;
    out->code = wire_read_u8(&reader);
    uint8_t reserved = wire_read_u8(&reader);
    if (reader.truncated)
        return N1_NEED_MORE;
    if (reserved != 0)
        return N1_E_RSV;
    enum n1_result result = n1_host_read(&reader, &out->bound);
    if (result != N1_OK)
        return result;
    /* A failure's BND means nothing and is not judged. */
    if (out->code == N1_REP_SUCCEEDED && out->bound.atyp == N1_ATYP_DOMAIN &&
        !n1_name_is_valid(out->bound.name, out->bound.name_length))
        return N1_E_MALFORMED;
    *consumed = reader.used;
    return N1_OK;
}
