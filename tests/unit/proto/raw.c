#include "raw.h"

#include <stdlib.h>
#include <string.h>

void raw_varint(struct raw *raw, uint64_t value)
{
    do {
        if (raw->length == sizeof(raw->data))
            abort();
        raw->data[raw->length++] = (uint8_t)((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
        value >>= 7;
    } while (value > 0);
}

void raw_number(struct raw *raw, uint32_t field, uint64_t value)
{
    raw_varint(raw, (uint64_t)field << 3);
    raw_varint(raw, value);
}

void raw_bytes(struct raw *raw, uint32_t field, const void *data, size_t length)
{
    raw_varint(raw, (uint64_t)field << 3 | 2);
    raw_varint(raw, length);
    if (length > sizeof(raw->data) - raw->length)
        abort();
    if (length > 0)
        memcpy(raw->data + raw->length, data, length);
    raw->length += length;
}
