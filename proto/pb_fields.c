#include "proto/pb_fields.h"

#include <string.h>

#define AT(base, offset) ((void *)((uint8_t *)(base) + (offset)))
#define CONST_AT(base, offset) ((const void *)((const uint8_t *)(base) + (offset)))

#define ADDRESS_WIRE_MAX (16 + 4)
#define ENDPOINT_WIRE_MAX (ADDRESS_WIRE_MAX + 2)

/* ---- values ---------------------------------------------------------------------------------- */

bool pb_text_is_valid(const uint8_t *text, size_t length)
{
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};

    for (size_t i = 0; i < length;) {
        uint8_t lead = text[i];
        size_t octets = lead < 0x80             ? 1
                        : (lead & 0xe0) == 0xc0 ? 2
                        : (lead & 0xf0) == 0xe0 ? 3
                        : (lead & 0xf8) == 0xf0 ? 4
                                                : 0;
        if (octets == 0 || octets > length - i)
            return false;
        uint32_t code = octets == 1 ? lead : lead & (0x7fu >> octets);

        for (size_t k = 1; k < octets; k++) {
            if ((text[i + k] & 0xc0) != 0x80)
                return false;
            code = code << 6 | (text[i + k] & 0x3fu);
        }
        bool control = code < 0x20 || (code >= 0x7f && code < 0xa0);
        bool surrogate = code >= 0xd800 && code < 0xe000;

        if (control || surrogate || code > 0x10ffff || (octets > 1 && code < smallest[octets]))
            return false;
        i += octets;
    }
    return true;
}

static bool address_from_wire(const ProtobufCBinaryData *wire, struct ip_address *out)
{
    if (wire->len == 4) {
        *out = ip_address_v4(wire->data);
        return true;
    }
    if (wire->len != 16 && wire->len != ADDRESS_WIRE_MAX)
        return false;
    *out = ip_address_v6(wire->data);
    if (out->family != IP_V6) /* IPv4-mapped: one address, one spelling */
        return false;
    if (wire->len == 16)
        return true;
    const uint8_t *scope = wire->data + 16;

    out->scope_id = (uint32_t)scope[0] << 24 | (uint32_t)scope[1] << 16 | (uint32_t)scope[2] << 8 |
                    (uint32_t)scope[3];
    return out->scope_id != 0 && ip_address_is_link_local_v6(out);
}

static bool endpoint_from_wire(const ProtobufCBinaryData *wire, struct endpoint *out)
{
    if (wire->len < 2)
        return false;
    ProtobufCBinaryData address = {.len = wire->len - 2, .data = wire->data};

    if (!address_from_wire(&address, &out->address))
        return false;
    out->port = (uint16_t)(wire->data[wire->len - 2] << 8 | wire->data[wire->len - 1]);
    return true;
}

/* Octets written into `out` (ADDRESS_WIRE_MAX), 0 when the address has no wire form. */
static size_t address_to_wire(const struct ip_address *address, uint8_t *out)
{
    size_t size = ip_address_size(address);

    if (size == 0)
        return 0;
    memcpy(out, address->bytes, size);
    if (address->scope_id == 0)
        return size;
    if (!ip_address_is_link_local_v6(address))
        return 0;
    out[size] = (uint8_t)(address->scope_id >> 24);
    out[size + 1] = (uint8_t)(address->scope_id >> 16);
    out[size + 2] = (uint8_t)(address->scope_id >> 8);
    out[size + 3] = (uint8_t)address->scope_id;
    return size + 4;
}

static bool endpoint_to_binary(const struct endpoint *endpoint, bool with_port, struct arena *arena,
                               ProtobufCBinaryData *out)
{
    uint8_t *wire = arena_alloc(arena, ENDPOINT_WIRE_MAX);
    size_t size = wire ? address_to_wire(&endpoint->address, wire) : 0;

    if (size == 0)
        return false;
    if (with_port) {
        wire[size++] = (uint8_t)(endpoint->port >> 8);
        wire[size++] = (uint8_t)endpoint->port;
    }
    *out = (ProtobufCBinaryData){.len = size, .data = wire};
    return true;
}

static bool address_to_binary(const struct ip_address *address, struct arena *arena,
                              ProtobufCBinaryData *out)
{
    struct endpoint endpoint = {.address = *address};

    return endpoint_to_binary(&endpoint, false, arena, out);
}

/* ---- numbers of any width -------------------------------------------------------------------- */

static uint64_t load(const void *from, size_t width)
{
    uint64_t value = 0;

    switch (width) {
    case sizeof(uint8_t):
        return *(const uint8_t *)from;
    case sizeof(uint16_t): {
        uint16_t narrow;
        memcpy(&narrow, from, sizeof(narrow));
        return narrow;
    }
    case sizeof(uint32_t): {
        uint32_t narrow;
        memcpy(&narrow, from, sizeof(narrow));
        return narrow;
    }
    default:
        memcpy(&value, from, sizeof(value));
        return value;
    }
}

static void store(void *to, size_t width, uint64_t value)
{
    uint8_t octet = (uint8_t)value;
    uint16_t half = (uint16_t)value;
    uint32_t word = (uint32_t)value;

    if (width == sizeof(octet))
        memcpy(to, &octet, sizeof(octet));
    else if (width == sizeof(half))
        memcpy(to, &half, sizeof(half));
    else if (width == sizeof(word))
        memcpy(to, &word, sizeof(word));
    else
        memcpy(to, &value, sizeof(value));
}

/* Octets of the generated member of a number: uint64_t, or uint32_t, int (enumerations),
 * protobuf_c_boolean. */
static size_t generated_width(const ProtobufCFieldDescriptor *field)
{
    return field->type == PROTOBUF_C_TYPE_UINT64 ? sizeof(uint64_t) : sizeof(uint32_t);
}

/* Width of the count beside a plain array. */
static size_t count_width(enum pb_kind kind)
{
    switch (kind) {
    case PB_ADDRESSES:
    case PB_ENDPOINTS:
        return sizeof(uint8_t);
    case PB_BYTES:
        return sizeof(uint16_t);
    default:
        return sizeof(uint32_t);
    }
}

/* ---- to plain -------------------------------------------------------------------------------- */

static bool is_present(const ProtobufCFieldDescriptor *field, const ProtobufCMessage *from)
{
    if (field->label == PROTOBUF_C_LABEL_REPEATED)
        return *(const size_t *)CONST_AT(from, field->quantifier_offset) > 0;
    if (field->type == PROTOBUF_C_TYPE_MESSAGE)
        return *(ProtobufCMessage *const *)CONST_AT(from, field->offset) != NULL;
    return *(const protobuf_c_boolean *)CONST_AT(from, field->quantifier_offset) != 0;
}

static bool text_to_plain(const ProtobufCBinaryData *wire, uint64_t min, uint64_t max, char *out)
{
    if (wire->len < min || wire->len > max || !pb_text_is_valid(wire->data, wire->len))
        return false;
    if (wire->len > 0) /* empty bytes have a NULL pointer */
        memcpy(out, wire->data, wire->len);
    out[wire->len] = '\0';
    return true;
}

static bool element_to_plain(const struct pb_field *row, const void *array, size_t i, void *out,
                             const char **problem)
{
    const ProtobufCBinaryData *binary = array;

    switch (row->kind) {
    case PB_ADDRESSES:
        return address_from_wire(&binary[i], (struct ip_address *)out + i);
    case PB_ENDPOINTS:
        return endpoint_from_wire(&binary[i], (struct endpoint *)out + i);
    case PB_TEXTS:
        return text_to_plain(&binary[i], 0, row->width - 1u, AT(out, i * row->width));
    default:
        *problem = pb_to_plain(row->message, ((ProtobufCMessage *const *)array)[i],
                               AT(out, i * row->width));
        return !*problem;
    }
}

static const char *array_to_plain(const struct pb_field *row, const ProtobufCFieldDescriptor *field,
                                  const ProtobufCMessage *from, void *plain)
{
    const void *array = *(void *const *)CONST_AT(from, field->offset);
    size_t count = *(const size_t *)CONST_AT(from, field->quantifier_offset);
    const char *problem = NULL;

    if (count > row->max)
        return row->path;
    for (size_t i = 0; i < count; i++) {
        if (!element_to_plain(row, array, i, AT(plain, row->offset), &problem))
            return problem ? problem : row->path;
    }
    store(AT(plain, row->count_offset), count_width(row->kind), count);
    return NULL;
}

static bool scalar_to_plain(const struct pb_field *row, const ProtobufCFieldDescriptor *field,
                            const ProtobufCMessage *from, void *plain)
{
    const void *member = CONST_AT(from, field->offset);
    const ProtobufCBinaryData *binary = member;
    void *out = AT(plain, row->offset);
    uint64_t number;

    switch (row->kind) {
    case PB_NUMBER:
        number = load(member, generated_width(field));
        if (number < row->min || number > row->max)
            return false;
        store(out, row->width, number);
        return true;
    case PB_TEXT:
        return text_to_plain(binary, row->min, row->max, out);
    case PB_BYTES:
        if (binary->len > row->max)
            return false;
        if (binary->len > 0)
            memcpy(out, binary->data, binary->len);
        store(AT(plain, row->count_offset), count_width(row->kind), binary->len);
        return true;
    case PB_ADDRESS:
        return address_from_wire(binary, out);
    default:
        return endpoint_from_wire(binary, out);
    }
}

const char *pb_to_plain(const struct pb_message *message, const ProtobufCMessage *from, void *plain)
{
    for (size_t i = 0; i < message->count; i++) {
        const struct pb_field *row = &message->fields[i];
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        const char *problem = NULL;

        if (!is_present(field, from)) {
            if (row->required)
                return row->path;
            continue;
        }
        if (field->label == PROTOBUF_C_LABEL_REPEATED)
            problem = array_to_plain(row, field, from, plain);
        else if (row->kind == PB_MESSAGE)
            problem =
                pb_to_plain(row->message, *(ProtobufCMessage *const *)CONST_AT(from, field->offset),
                            AT(plain, row->offset));
        else if (!scalar_to_plain(row, field, from, plain))
            problem = row->path;
        if (problem)
            return problem;
    }
    return NULL;
}

/* ---- from plain ------------------------------------------------------------------------------ */

static bool text_from_plain(const char *text, uint64_t min, uint64_t max, ProtobufCBinaryData *out)
{
    size_t length = strnlen(text, max + 1);

    *out = (ProtobufCBinaryData){.len = length, .data = (uint8_t *)text};
    return length >= min && length <= max && pb_text_is_valid(out->data, length);
}

static size_t element_size(const struct pb_field *row)
{
    return row->kind == PB_MESSAGES ? sizeof(ProtobufCMessage *) : sizeof(ProtobufCBinaryData);
}

static bool element_from_plain(const struct pb_field *row, const void *from, size_t i, void *array,
                               struct arena *arena)
{
    ProtobufCBinaryData *binary = array;
    ProtobufCMessage **message = array;

    switch (row->kind) {
    case PB_ADDRESSES:
        return address_to_binary((const struct ip_address *)from + i, arena, &binary[i]);
    case PB_ENDPOINTS:
        return endpoint_to_binary((const struct endpoint *)from + i, true, arena, &binary[i]);
    case PB_TEXTS:
        return text_from_plain(CONST_AT(from, i * row->width), 0, row->width - 1u, &binary[i]);
    default:
        message[i] = pb_from_plain(row->message, CONST_AT(from, i * row->width), arena);
        return message[i] != NULL;
    }
}

static bool array_from_plain(const struct pb_field *row, const ProtobufCFieldDescriptor *field,
                             const void *plain, ProtobufCMessage *to, struct arena *arena)
{
    uint64_t count = load(CONST_AT(plain, row->count_offset), count_width(row->kind));

    if (count == 0)
        return true;
    void *array = count <= row->max ? arena_alloc(arena, count * element_size(row)) : NULL;

    if (!array)
        return false;
    for (size_t i = 0; i < count; i++) {
        if (!element_from_plain(row, CONST_AT(plain, row->offset), i, array, arena))
            return false;
    }
    *(void **)AT(to, field->offset) = array;
    *(size_t *)AT(to, field->quantifier_offset) = count;
    return true;
}

/* Fills the generated member; *present says whether it is worth sending. False: not valid. */
static bool scalar_from_plain(const struct pb_field *row, const ProtobufCFieldDescriptor *field,
                              const void *plain, ProtobufCMessage *to, struct arena *arena,
                              bool *present)
{
    const void *value = CONST_AT(plain, row->offset);
    ProtobufCBinaryData *binary = AT(to, field->offset);
    uint64_t number;

    switch (row->kind) {
    case PB_NUMBER:
        number = load(value, row->width);
        *present = number != 0;
        store(binary, generated_width(field), number);
        return (number >= row->min || (!row->required && number == 0)) && number <= row->max;
    case PB_TEXT:
        if (!text_from_plain(value, row->min, row->max, binary))
            return false;
        *present = binary->len > 0;
        return true;
    case PB_BYTES:
        number = load(CONST_AT(plain, row->count_offset), count_width(row->kind));
        *present = number > 0;
        *binary = (ProtobufCBinaryData){.len = number, .data = (uint8_t *)value};
        return number <= row->max;
    case PB_ADDRESS:
        *present = ((const struct ip_address *)value)->family != IP_NONE;
        return !*present || address_to_binary(value, arena, binary);
    default:
        *present = ((const struct endpoint *)value)->address.family != IP_NONE;
        return !*present || endpoint_to_binary(value, true, arena, binary);
    }
}

static bool field_from_plain(const struct pb_field *row, const ProtobufCFieldDescriptor *field,
                             const void *plain, ProtobufCMessage *to, struct arena *arena)
{
    bool present = false;

    if (field->label == PROTOBUF_C_LABEL_REPEATED)
        return array_from_plain(row, field, plain, to, arena);
    if (row->kind == PB_MESSAGE) {
        ProtobufCMessage *part = pb_from_plain(row->message, CONST_AT(plain, row->offset), arena);

        *(ProtobufCMessage **)AT(to, field->offset) = part;
        return part != NULL;
    }
    if (!scalar_from_plain(row, field, plain, to, arena, &present))
        return false;
    /* A required number is sent even when it is 0; a required text, address or endpoint cannot be
     * empty. */
    if (row->required && row->kind == PB_NUMBER)
        present = true;
    *(protobuf_c_boolean *)AT(to, field->quantifier_offset) = present;
    return present || !row->required;
}

ProtobufCMessage *pb_from_plain(const struct pb_message *message, const void *plain,
                                struct arena *arena)
{
    ProtobufCMessage *to = arena_alloc(arena, message->descriptor->sizeof_message);

    if (!to)
        return NULL;
    protobuf_c_message_init(message->descriptor, to);
    for (size_t i = 0; i < message->count; i++) {
        if (!field_from_plain(&message->fields[i], &message->descriptor->fields[i], plain, to,
                              arena))
            return NULL;
    }
    return to;
}
