/*
 * Every N1 decoder over the same bytes. What must hold:
 * - an answer does not depend on how the bytes arrive: it is N1_NEED_MORE up to some length and the
 * same from there on;
 * - what was decoded and can be encoded again decodes to the same, and encodes to the same bytes.
 */
#include <stdbool.h>
#include <string.h>

#include "proto/n1.h"
#include "tests/fuzz/fuzz.h"

union message {
    struct n1_methods methods;
    struct n1_userpass userpass;
    struct n1_request request;
    struct n1_reply reply;
    uint8_t value;
};

struct codec {
    enum n1_result (*decode)(const uint8_t *data, size_t length, union message *out, size_t *used);
    size_t (*encode)(const union message *message, uint8_t *out, size_t size);
    size_t maximum;
};

static enum n1_result decode_methods(const uint8_t *data, size_t length, union message *out,
                                     size_t *used)
{
    return n1_methods_decode(data, length, &out->methods, used);
}

static size_t encode_methods(const union message *message, uint8_t *out, size_t size)
{
    return n1_methods_encode(&message->methods, out, size);
}

static enum n1_result decode_userpass(const uint8_t *data, size_t length, union message *out,
                                      size_t *used)
{
    return n1_userpass_decode(data, length, &out->userpass, used);
}

static size_t encode_userpass(const union message *message, uint8_t *out, size_t size)
{
    return n1_userpass_encode(&message->userpass, out, size);
}

static enum n1_result decode_request(const uint8_t *data, size_t length, union message *out,
                                     size_t *used)
{
    return n1_request_decode(data, length, &out->request, used);
}

static size_t encode_request(const union message *message, uint8_t *out, size_t size)
{
    return n1_request_encode(&message->request, out, size);
}

static enum n1_result decode_reply(const uint8_t *data, size_t length, union message *out,
                                   size_t *used)
{
    return n1_reply_decode(data, length, &out->reply, used);
}

/* The encoder belongs to the server, which writes addresses only and gives failures no BND. */
static size_t encode_reply(const union message *message, uint8_t *out, size_t size)
{
    const struct n1_host *bound = &message->reply.bound;
    struct endpoint endpoint = {.address = bound->address, .port = bound->port};
    return n1_reply_encode(message->reply.code, &endpoint, out, size);
}

static enum n1_result decode_method(const uint8_t *data, size_t length, union message *out,
                                    size_t *used)
{
    return n1_method_decode(data, length, &out->value, used);
}

static size_t encode_method(const union message *message, uint8_t *out, size_t size)
{
    return n1_method_encode(message->value, out, size);
}

static enum n1_result decode_status(const uint8_t *data, size_t length, union message *out,
                                    size_t *used)
{
    return n1_userpass_status_decode(data, length, &out->value, used);
}

static size_t encode_status(const union message *message, uint8_t *out, size_t size)
{
    return n1_userpass_status_encode(message->value, out, size);
}

static const struct codec codecs[] = {
    {decode_methods, encode_methods, N1_METHODS_MAX},
    {decode_userpass, encode_userpass, N1_USERPASS_MAX},
    {decode_request, encode_request, N1_REQUEST_MAX},
    {decode_reply, encode_reply, N1_REPLY_MAX},
    {decode_method, encode_method, 2},
    {decode_status, encode_status, 2},
};

static void check_arrival(const struct codec *codec, const uint8_t *data, size_t size,
                          enum n1_result final, size_t final_used)
{
    union message message;
    bool decided = false;
    for (size_t length = 0; length <= size && length <= codec->maximum; length++) {
        size_t used = 0;
        enum n1_result result = codec->decode(data, length, &message, &used);
        if (result == N1_NEED_MORE) {
            FUZZ_CHECK(!decided);
            continue;
        }
        FUZZ_CHECK(result == final && used == final_used);
        decided = true;
    }
    /* A buffer of the named maximum is always enough. */
    FUZZ_CHECK(decided || size < codec->maximum);
}

static void check_round_trip(const struct codec *codec, const union message *message)
{
    uint8_t first[N1_REQUEST_MAX], second[N1_REQUEST_MAX];
    union message again;
    size_t used;
    size_t length = codec->encode(message, first, sizeof(first));
    if (length == 0)
        return;
    FUZZ_CHECK(length <= codec->maximum);
    FUZZ_CHECK(codec->encode(message, second, length - 1) == 0);
    FUZZ_CHECK(codec->decode(first, length, &again, &used) == N1_OK);
    FUZZ_CHECK(used == length);
    FUZZ_CHECK(codec->encode(&again, second, sizeof(second)) == length);
    FUZZ_CHECK(memcmp(first, second, length) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < sizeof(codecs) / sizeof(codecs[0]); i++) {
        union message message = {0};
        size_t used = 0;
        enum n1_result result = codecs[i].decode(data, size, &message, &used);
        FUZZ_CHECK(used <= size);
        check_arrival(&codecs[i], data, size, result, used);
        if (result == N1_OK)
            check_round_trip(&codecs[i], &message);
    }
    return 0;
}
