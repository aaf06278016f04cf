#include "proto/arena.h"

#include <stdalign.h>

#define ALIGNMENT alignof(max_align_t)

void arena_init(struct arena *arena, void *memory, size_t size)
{
    arena->memory = memory;
    arena->size = memory ? size : 0;
    arena->used = 0;
}

void arena_reset(struct arena *arena)
{
    arena->used = 0;
}

void *arena_alloc(struct arena *arena, size_t size)
{
    /* The block may start anywhere: what counts is the address that is handed out. */
    uintptr_t next = (uintptr_t)arena->memory + arena->used;
    size_t padding = (ALIGNMENT - next % ALIGNMENT) % ALIGNMENT;
    size_t left = arena->size - arena->used;

    if (padding > left || size > left - padding)
        return NULL;
    arena->used += padding + size;
    return arena->memory + (arena->used - size);
}
