/*
 * What comes before the request: the choice of a method (RFC 1928 section 3) and user name and
 * password (RFC 1929).
 */
#include "proto/n1.h"
#include "proto/wire.h"

enum n1_result n1_methods_decode(const uint8_t *data, size_t length, struct n1_methods *out,
                                 size_t *consumed)
{
    struct wire_reader reader = {.data = data, .length = length};
    *out = (struct n1_methods){0};
    uint8_t version = wire_read_u8(&reader);
    if (reader.truncated)
        return N1_NEED_MORE;
    if (version != N1_VERSION)
        return N1_E_VERSION;
    out->count = wire_read_u8(&reader);
    if (reader.truncated)
        return N1_NEED_MORE;
    if (out->count == 0)
        return N1_E_METHODS;
    wire_read_bytes(&reader, out->methods, out->count);
    if (reader.truncated)
        return N1_NEED_MORE;
    *consumed = reader.used;
    return N1_OK;
}

size_t n1_methods_encode(const struct n1_methods *methods, uint8_t *out, size_t size)
{
    struct wire_writer writer = {.data = out, .size = size, .failed = methods->count == 0};
    wire_write_u8(&writer, N1_VERSION);
    wire_write_u8(&writer, methods->count);
    wire_write_bytes(&writer, methods->methods, methods->count);
    return wire_written(&writer);
}

/* The two answers of this phase have one form: a version and a value. */
static enum n1_result answer_decode(uint8_t expected, const uint8_t *data, size_t length,
                                    uint8_t *value, size_t *consumed)
{
    struct wire_reader reader = {.data = data, .length = length};
    uint8_t version = wire_read_u8(&reader);
    if (reader.truncated)
        return N1_NEED_MORE;
    if (version != expected)
        return N1_E_VERSION;
    uint8_t read = wire_read_u8(&reader);
    if (reader.truncated)
        return N1_NEED_MORE;
    *value = read;
    *consumed = reader.used;
    return N1_OK;
}

static size_t answer_encode(uint8_t version, uint8_t value, uint8_t *out, size_t size)
{
    struct wire_writer writer = {.data = out, .size = size};
    wire_write_u8(&writer, version);
    wire_write_u8(&writer, value);
    return wire_written(&writer);
}

enum n1_result n1_method_decode(const uint8_t *data, size_t length, uint8_t *method,
                                size_t *consumed)
{
    return answer_decode(N1_VERSION, data, length, method, consumed);
}

size_t n1_method_encode(uint8_t method, uint8_t *out, size_t size)
{
    return answer_encode(N1_VERSION, method, out, size);
}

enum n1_result n1_userpass_decode(const uint8_t *data, size_t length, struct n1_userpass *out,
                                  size_t *consumed)
{
    struct wire_reader reader = {.data = data, .length = length};
    *out = (struct n1_userpass){0};
    uint8_t version = wire_read_u8(&reader);
    if (reader.truncated)
        return N1_NEED_MORE;
    if (version != N1_USERPASS_VERSION)
        return N1_E_VERSION;
    out->user_length = wire_read_u8(&reader);
    if (reader.truncated)
        return N1_NEED_MORE;
    if (out->user_length == 0)
        return N1_E_MALFORMED;
    wire_read_bytes(&reader, out->user, out->user_length);
    out->password_length = wire_read_u8(&reader);
    wire_read_bytes(&reader, out->password, out->password_length);
    if (reader.truncated)
        return N1_NEED_MORE;
    *consumed = reader.used;
    return N1_OK;
}

size_t n1_userpass_encode(const struct n1_userpass *userpass, uint8_t *out, size_t size)
{
    struct wire_writer writer = {.data = out, .size = size, .failed = userpass->user_length == 0};
    wire_write_u8(&writer, N1_USERPASS_VERSION);
    wire_write_u8(&writer, userpass->user_length);
    wire_write_bytes(&writer, userpass->user, userpass->user_length);
    wire_write_u8(&writer, userpass->password_length);
    wire_write_bytes(&writer, userpass->password, userpass->password_length);
    return wire_written(&writer);
}

enum n1_result n1_userpass_status_decode(const uint8_t *data, size_t length, uint8_t *status,
                                         size_t *consumed)
{
    return answer_decode(N1_USERPASS_VERSION, data, length, status, consumed);
}

size_t n1_userpass_status_encode(uint8_t status, uint8_t *out, size_t size)
{
    return answer_encode(N1_USERPASS_VERSION, status, out, size);
}
