#include <stdalign.h>
#include <string.h>

#include "proto/n2.pb-c.h"
#include "proto/n2_table.h"

#define ENCODE_SCRATCH 8192 /* generated structures of the largest message, several times over */

static enum n2_result refuse(const char **problem, const char *what, enum n2_result result)
{
    if (problem)
        *problem = what;
    return result;
}

enum n2_result n2_decode(const uint8_t *payload, size_t length, struct arena *arena,
                         struct n2_message *out, const char **problem)
{
    int bodies = length <= N2_PAYLOAD_MAX
                     ? pb_count_fields(payload, length, N2_BODY_FIRST, N2_BODY_LAST)
                     : -1;

    if (bodies < 0)
        return refuse(problem, "payload", N2_E_SYNTAX);
    if (bodies != 1)
        return refuse(problem, "body", N2_E_FIELD);
    ProtobufCMessage *unpacked =
        pb_unpack(&sockst__n2__envelope__descriptor, arena, payload, length);

    if (!unpacked)
        return refuse(problem, "payload", N2_E_SYNTAX);
    const Sockst__N2__Envelope *envelope = (const Sockst__N2__Envelope *)unpacked;
    unsigned number = (unsigned)envelope->body_case;

    if (number < N2_BODY_FIRST || number > N2_BODY_LAST)
        return refuse(problem, "body", N2_E_FIELD);
    if (envelope->fd_count > 1)
        return refuse(problem, "fd_count", N2_E_FIELD);
    memset(out, 0, sizeof(*out));
    out->type = (enum n2_type)(number - N2_BODY_FIRST + 1);
    out->transaction = envelope->transaction;
    out->fd_count = (uint8_t)envelope->fd_count;
    /* Every member of the union is a pointer to a message. */
    const char *path = pb_to_plain(&n2_row(out->type)->body, &envelope->hello->base, out);

    if (path || (path = n2_check(out)))
        return refuse(problem, path, N2_E_FIELD);
    if (out->type == N2_HELLO_ACK) { /* bits of a later minor version mean nothing to us */
        out->hello.planes &= 1u << N2_PLANE_SOCKET | 1u << N2_PLANE_BPF;
        out->hello.families &= N2_FAMILY_V4 | N2_FAMILY_V6;
    }
    return N2_OK;
}

size_t n2_encode(const struct n2_message *message, uint8_t *out, size_t size)
{
    alignas(max_align_t) uint8_t memory[ENCODE_SCRATCH];
    struct arena scratch;

    if (n2_check(message))
        return 0;
    arena_init(&scratch, memory, sizeof(memory));
    ProtobufCMessage *body = pb_from_plain(&n2_row(message->type)->body, message, &scratch);

    if (!body)
        return 0;
    Sockst__N2__Envelope envelope = SOCKST__N2__ENVELOPE__INIT;

    envelope.has_transaction = message->transaction != 0;
    envelope.transaction = message->transaction;
    envelope.has_fd_count = message->fd_count != 0;
    envelope.fd_count = message->fd_count;
    envelope.body_case = (Sockst__N2__Envelope__BodyCase)(N2_BODY_FIRST + message->type - 1);
    envelope.hello = (Sockst__N2__Hello *)body;
    return pb_pack_frame(&envelope.base, N2_PAYLOAD_MAX, out, size);
}

bool n2_text_is_valid(const char *text, size_t max)
{
    size_t length = strnlen(text, max + 1);

    return length <= max && pb_text_is_valid((const uint8_t *)text, length);
}
