/*
 * Protobuf written by hand, for messages that no encoder makes. Bounded by the buffer: what does
 * not fit is a failed test.
 */
#ifndef SOCKST_TESTS_UNIT_PROTO_RAW_H
#define SOCKST_TESTS_UNIT_PROTO_RAW_H

#include <stddef.h>
#include <stdint.h>

struct raw {
    size_t length;
    uint8_t data[80 * 1024];
};

void raw_varint(struct raw *raw, uint64_t value);
/* A field of wire type 0. */
void raw_number(struct raw *raw, uint32_t field, uint64_t value);
/* A field of wire type 2; `data` may be NULL when `length` is 0. */
void raw_bytes(struct raw *raw, uint32_t field, const void *data, size_t length);

#endif
