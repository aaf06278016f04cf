/*
 * Requests: RFC 1928 section 4 and the draft's extended request (section 3.1).
 */
#include "proto/n1_host.h"

static const char *const command_names[] = {
    [N1_CMD_CONNECT] = "connect",
    [N1_CMD_BIND] = "bind",
    [N1_CMD_UDP_ASSOCIATE] = "udp-associate",
    [N1_CMD_TRANSPARENT] = "transparent",
};

const char *n1_command_name(uint8_t command)
{
    return command < sizeof(command_names) / sizeof(command_names[0]) ? command_names[command]
                                                                      : NULL;
}

/* VER, CMD and RSV, each judged as soon as it is there. */
static enum n1_result read_head(struct wire_reader *reader, struct n1_request *out)
{
    uint8_t version = wire_read_u8(reader);
    if (reader->truncated)
        return N1_NEED_MORE;
    if (version != N1_VERSION)
        return N1_E_VERSION;
    out->command = wire_read_u8(reader);
    if (reader->truncated)
        return N1_NEED_MORE;
    if (n1_command_name(out->command) == NULL)
        return N1_E_COMMAND;
    uint8_t reserved = wire_read_u8(reader);
    if (reader->truncated)
        return N1_NEED_MORE;
    return reserved == 0 ? N1_OK : N1_E_RSV;
}

/* PTCL and S. PTCL is judged by whoever knows which ones are served. */
static enum n1_result read_extension(struct wire_reader *reader, struct n1_request *out)
{
    out->ptcl = wire_read_u8(reader);
    enum n1_result result = n1_host_read(reader, &out->source);
    return result == N1_E_ATYP ? N1_E_SOURCE_ATYP : result;
}

enum n1_result n1_request_decode(const uint8_t *data, size_t length, struct n1_request *out,
                                 size_t *consumed)
{
    struct wire_reader reader = {.data = data, .length = length};
    *out = (struct n1_request){0};
    enum n1_result result = read_head(&reader, out);
    if (result == N1_OK)
        result = n1_host_read(&reader, &out->destination);
    if (result == N1_OK && out->command == N1_CMD_TRANSPARENT)
        result = read_extension(&reader, out);
    if (result == N1_OK)
        *consumed = reader.used;
    return result;
}

size_t n1_request_encode(const struct n1_request *request, uint8_t *out, size_t size)
{
    struct wire_writer writer = {.data = out, .size = size};
    if (n1_command_name(request->command) == NULL)
        return 0;
    wire_write_u8(&writer, N1_VERSION);
    wire_write_u8(&writer, request->command);
    wire_write_u8(&writer, 0);
    n1_host_write(&writer, &request->destination);
    if (request->command == N1_CMD_TRANSPARENT) {
        wire_write_u8(&writer, request->ptcl);
        n1_host_write(&writer, &request->source);
    }
    return wire_written(&writer);
}
