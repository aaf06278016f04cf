/*
 * A bounded heap for one unpacked message: memory is handed out from one caller-owned block and
 * taken back all at once. Unpacking hostile protobuf through it cannot allocate more than the block
 * (200 KB of input was seen to ask for 16 MB).
 */
#ifndef SOCKST_PROTO_ARENA_H
#define SOCKST_PROTO_ARENA_H

#include <stddef.h>
#include <stdint.h>

struct arena {
    uint8_t *memory; /* borrowed */
    size_t size;
    size_t used;
};

/* Uses `memory` (borrowed, `size` octets) from its start. */
void arena_init(struct arena *arena, void *memory, size_t size);

/* Forgets everything handed out. */
void arena_reset(struct arena *arena);

/* `size` octets aligned for any type, or NULL when the block is used up. */
void *arena_alloc(struct arena *arena, size_t size);

#endif
