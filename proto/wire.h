/*
 * A bounded reader and writer of network-order fields. Errors stick: after the first read behind
 * the end (or write behind the size) every further one is harmless, so that a codec may read a run
 * of fields and look at the flag once. A field that was not there reads as zero: judge a value only
 * after the flag.
 */
#ifndef SOCKST_PROTO_WIRE_H
#define SOCKST_PROTO_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct wire_reader {
    const uint8_t *data; /* borrowed */
    size_t length;
    size_t used;
    bool truncated; /* a field was not there */
};

struct wire_writer {
    uint8_t *data; /* borrowed */
    size_t size;
    size_t used;
    bool failed; /* too small, or wire_fail() */
};

/* Takes `size` octets, which stay where they are; NULL when they are not there. */
static inline const uint8_t *wire_take(struct wire_reader *reader, size_t size)
{
    if (reader->truncated || size > reader->length - reader->used) {
        reader->truncated = true;
        return NULL;
    }
    const uint8_t *start = reader->data + reader->used;
    reader->used += size;
    return start;
}

static inline uint8_t wire_read_u8(struct wire_reader *reader)
{
    const uint8_t *at = wire_take(reader, 1);
    return at != NULL ? at[0] : 0;
}

static inline uint16_t wire_read_u16(struct wire_reader *reader)
{
    const uint8_t *at = wire_take(reader, 2);
    return at != NULL ? (uint16_t)(at[0] * 256U + at[1]) : 0;
}

/* Copies `size` octets to `out`, or nothing at all. */
static inline void wire_read_bytes(struct wire_reader *reader, void *out, size_t size)
{
    const uint8_t *at = wire_take(reader, size);
    if (at != NULL && size != 0)
        memcpy(out, at, size);
}

/* Makes the whole message invalid. */
static inline void wire_fail(struct wire_writer *writer)
{
    writer->failed = true;
}

static inline void wire_write_bytes(struct wire_writer *writer, const void *bytes, size_t size)
{
    if (writer->failed || size > writer->size - writer->used) {
        writer->failed = true;
        return;
    }
    if (size != 0)
        memcpy(writer->data + writer->used, bytes, size);
    writer->used += size;
}

static inline void wire_write_u8(struct wire_writer *writer, uint8_t value)
{
    wire_write_bytes(writer, &value, 1);
}

static inline void wire_write_u16(struct wire_writer *writer, uint16_t value)
{
    const uint8_t bytes[2] = {(uint8_t)(value >> 8), (uint8_t)value};
    wire_write_bytes(writer, bytes, sizeof(bytes));
}

/* Octets of the message, or 0 if it could not be written whole. */
static inline size_t wire_written(const struct wire_writer *writer)
{
    return writer->failed ? 0 : writer->used;
}

#endif
