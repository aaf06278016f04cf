/*
 * The N2 decoder over any payload, and the framing over any bytes. What must hold:
 * - the arena is never overrun, and an answer is given;
 * - what was decoded can be encoded, and decodes and encodes to the same bytes again.
 */
#include <string.h>

#include "proto/frame.h"
#include "proto/n2.h"
#include "tests/fuzz/fuzz.h"

static void check_round_trip(const struct n2_message *message, struct arena *arena)
{
    uint8_t first[FRAME_HEADER + N2_PAYLOAD_MAX], second[FRAME_HEADER + N2_PAYLOAD_MAX];
    struct n2_message again;
    size_t length = n2_encode(message, first, sizeof(first));

    FUZZ_CHECK(length > FRAME_HEADER);
    FUZZ_CHECK(n2_encode(message, second, length - 1) == 0);
    FUZZ_CHECK(n2_decode(first + FRAME_HEADER, length - FRAME_HEADER, arena, &again, NULL) ==
               N2_OK);
    FUZZ_CHECK(n2_encode(&again, second, sizeof(second)) == length);
    FUZZ_CHECK(memcmp(first, second, length) == 0);
}

static void check_frames(const uint8_t *data, size_t size)
{
    const uint8_t *payload;
    size_t length, missing;

    while (frame_decode(data, size, &payload, &length, &missing) == FRAME_OK) {
        FUZZ_CHECK(length > 0 && length <= FRAME_PAYLOAD_MAX);
        FUZZ_CHECK(payload == data + FRAME_HEADER && length <= size - FRAME_HEADER);
        data += FRAME_HEADER + length;
        size -= FRAME_HEADER + length;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t memory[N2_ARENA_SIZE];
    struct n2_message message;
    struct arena arena;
    const char *problem = NULL;

    check_frames(data, size);
    arena_init(&arena, memory, sizeof(memory));
    enum n2_result result = n2_decode(data, size, &arena, &message, &problem);

    FUZZ_CHECK(arena.used <= arena.size);
    if (result == N2_OK)
        check_round_trip(&message, &arena);
    else
        FUZZ_CHECK(problem != NULL);
    return 0;
}
