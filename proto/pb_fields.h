/*
 * Between the generated protobuf-c structures and the plain structs of n2.h and admin.h: one table
 * of rows a message, used in both directions, so that what is decoded and what is encoded cannot
 * diverge and every field is validated by construction. Private to proto/.
 *
 * Row i of a message describes field i of its descriptor (fields are sorted by number).
 */
#ifndef SOCKST_PROTO_PB_FIELDS_H
#define SOCKST_PROTO_PB_FIELDS_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>

#include "proto/arena.h"
#include "proto/endpoint.h"

enum pb_kind {
    PB_NUMBER,    /* integer, enumeration or bool of `width` octets; min … max */
    PB_TEXT,      /* char[max + 1]; UTF-8 without control characters, min … max octets */
    PB_BYTES,     /* uint8_t[max], count in a uint16_t */
    PB_ADDRESS,   /* struct ip_address */
    PB_ENDPOINT,  /* struct endpoint */
    PB_ADDRESSES, /* struct ip_address[max], count in a uint8_t */
    PB_ENDPOINTS, /* struct endpoint[max], count in a uint8_t */
    PB_TEXTS,     /* char[max][width], count in a uint32_t */
    PB_MESSAGE,   /* an embedded struct, described by `message` */
    PB_MESSAGES,  /* struct[max] of `width` octets each, count in a uint32_t */
};

struct pb_message;

struct pb_field {
    const char *path; /* "open_relay.source": named when the field is refused */
    enum pb_kind kind;
    bool required; /* has to be present (an absent number is not taken for 0) */
    uint16_t width;
    size_t offset, count_offset; /* in the plain struct */
    uint64_t min, max;
    const struct pb_message *message;
};

struct pb_message {
    const ProtobufCMessageDescriptor *descriptor;
    const struct pb_field *fields;
    size_t count;
};

/* The width of a member, and where it is. */
#define PB_WIDTH(type, member) sizeof(((type *)0)->member)
#define PB_AT(type, member) offsetof(type, member)

#define PB_NUMBER_ROW(text, must, type, member, low, high)                                         \
    {                                                                                              \
        .path = (text), .kind = PB_NUMBER, .required = (must), .width = PB_WIDTH(type, member),    \
        .offset = PB_AT(type, member), .min = (low), .max = (high)                                 \
    }
#define PB_TEXT_ROW(text, type, member, low)                                                       \
    {                                                                                              \
        .path = (text), .kind = PB_TEXT, .required = (low) > 0, .offset = PB_AT(type, member),     \
        .min = (low), .max = PB_WIDTH(type, member) - 1                                            \
    }
#define PB_PLAIN_ROW(text, what, must, type, member)                                               \
    {                                                                                              \
        .path = (text), .kind = (what), .required = (must), .offset = PB_AT(type, member)          \
    }
#define PB_MESSAGE_ROW(text, must, type, member, table)                                            \
    {                                                                                              \
        .path = (text), .kind = PB_MESSAGE, .required = (must), .width = PB_WIDTH(type, member),   \
        .offset = PB_AT(type, member), .message = &(table)                                         \
    }
#define PB_ARRAY_ROW(text, what, type, member, counter, table)                                     \
    {                                                                                              \
        .path = (text), .kind = (what), .width = PB_WIDTH(type, member[0]),                        \
        .offset = PB_AT(type, member), .count_offset = PB_AT(type, counter),                       \
        .max = PB_WIDTH(type, member) / PB_WIDTH(type, member[0]), .message = (table)              \
    }
#define PB_TABLE(rows, generated)                                                                  \
    {                                                                                              \
        .descriptor = &(generated), .fields = (rows), .count = sizeof(rows) / sizeof((rows)[0])    \
    }

/*
 * How many fields with a number in [first, last] does the message have at its top level? Two
 * members of a oneof cannot be told after unpacking (the last one wins). Returns the number, or -1
 * when it is not protobuf.
 */
int pb_count_fields(const uint8_t *data, size_t length, uint32_t first, uint32_t last);

/* Unpacks into `arena`, which is reset; NULL when it is not protobuf or does not fit. Nothing has
 * to be released. */
ProtobufCMessage *pb_unpack(const ProtobufCMessageDescriptor *descriptor, struct arena *arena,
                            const uint8_t *data, size_t length);

/* Checks an unpacked message and fills `plain`, whose described members are zero. NULL, or the path
 * of the field refused. */
const char *pb_to_plain(const struct pb_message *message, const ProtobufCMessage *from,
                        void *plain);

/*
 * Builds the generated structure of `plain` in `arena`; texts and bytes are borrowed from `plain`.
 * Returns NULL when a field is not valid or the arena is used up.
 */
ProtobufCMessage *pb_from_plain(const struct pb_message *message, const void *plain,
                                struct arena *arena);

/* Writes a whole frame. Returns its octets, or 0 when it would be empty or larger than
 * `max_payload` or `size`. */
size_t pb_pack_frame(const ProtobufCMessage *message, size_t max_payload, uint8_t *out,
                     size_t size);

/* UTF-8 (RFC 3629) without control characters (U+0000-001F, U+007F-009F). */
bool pb_text_is_valid(const uint8_t *text, size_t length);

#endif
