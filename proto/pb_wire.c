
#include "proto/frame.h"
#include "proto/pb_fields.h"

/* A varint at *at, which is moved past it. */
static bool read_varint(const uint8_t *data, size_t length, size_t *at, uint64_t *out)
{
    uint64_t value = 0;

    for (unsigned shift = 0; shift < 70; shift += 7) {
        if (*at == length)
            return false;
        uint8_t octet = data[(*at)++];

        value |= shift < 64 ? (uint64_t)(octet & 0x7f) << shift : 0;
        if (!(octet & 0x80)) {
            *out = value;
            return true;
        }
    }
    return false;
}

/* Moves *at past the value of a field. Groups (wire types 3 and 4) are not used and not accepted.
 */
static bool skip_value(const uint8_t *data, size_t length, size_t *at, unsigned wire_type)
{
    uint64_t size = 0;

    switch (wire_type) {
    case 0:
        return read_varint(data, length, at, &size);
    case 1:
        size = 8;
        break;
    case 2:
        if (!read_varint(data, length, at, &size))
            return false;
        break;
    case 5:
        size = 4;
        break;
    default:
        return false;
    }
    if (size > length - *at)
        return false;
    *at += (size_t)size;
    return true;
}

int pb_count_fields(const uint8_t *data, size_t length, uint32_t first, uint32_t last)
{
    int count = 0;

    for (size_t at = 0; at < length;) {
        uint64_t key;

        if (!read_varint(data, length, &at, &key) || key > UINT32_MAX || key >> 3 == 0)
            return -1;
        if (!skip_value(data, length, &at, key & 7))
            return -1;
        if (key >> 3 >= first && key >> 3 <= last)
            count++;
    }
    return count;
}

static void *scratch_alloc(void *arena, size_t size)
{
    return arena_alloc(arena, size);
}

static void scratch_free(void *arena, void *pointer)
{
    (void)arena; /* taken back all at once */
    (void)pointer;
}

ProtobufCMessage *pb_unpack(const ProtobufCMessageDescriptor *descriptor, struct arena *arena,
                            const uint8_t *data, size_t length)
{
    ProtobufCAllocator allocator = {scratch_alloc, scratch_free, arena};

    arena_reset(arena);
    return protobuf_c_message_unpack(descriptor, &allocator, length, data);
}

size_t pb_pack_frame(const ProtobufCMessage *message, size_t max_payload, uint8_t *out, size_t size)
{
    size_t length = protobuf_c_message_get_packed_size(message);

    if (length == 0 || length > max_payload || size < FRAME_HEADER || length > size - FRAME_HEADER)
        return 0;
    frame_header_encode(length, out);
    return FRAME_HEADER + protobuf_c_message_pack(message, out + FRAME_HEADER);
}
