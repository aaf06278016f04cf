/*
 * Both decoders of the admin protocol over any payload. What must hold: as in fuzz_n2.c.
 */
#include <string.h>

#include "proto/admin.h"
#include "proto/frame.h"
#include "tests/fuzz/fuzz.h"

#define FRAME_SIZE (FRAME_HEADER + ADMIN_PAYLOAD_MAX)

static uint8_t memory[ADMIN_ARENA_SIZE];
static struct arena arena;

static void check_request(const struct admin_request *request)
{
    uint8_t first[FRAME_SIZE], second[FRAME_SIZE];
    struct admin_request again;
    size_t length = admin_request_encode(request, first, sizeof(first));

    FUZZ_CHECK(length > FRAME_HEADER);
    FUZZ_CHECK(admin_request_encode(request, second, length - 1) == 0);
    FUZZ_CHECK(admin_request_decode(first + FRAME_HEADER, length - FRAME_HEADER, &arena, &again,
                                    NULL) == N2_OK);
    FUZZ_CHECK(admin_request_encode(&again, second, sizeof(second)) == length);
    FUZZ_CHECK(memcmp(first, second, length) == 0);
}

static void check_answer(const struct admin_answer *answer)
{
    uint8_t first[FRAME_SIZE], second[FRAME_SIZE];
    struct admin_answer again;
    size_t length = admin_answer_encode(answer, first, sizeof(first));

    FUZZ_CHECK(length > FRAME_HEADER);
    FUZZ_CHECK(admin_answer_encode(answer, second, length - 1) == 0);
    FUZZ_CHECK(admin_answer_decode(first + FRAME_HEADER, length - FRAME_HEADER, &arena, &again,
                                   NULL) == N2_OK);
    FUZZ_CHECK(admin_answer_encode(&again, second, sizeof(second)) == length);
    FUZZ_CHECK(memcmp(first, second, length) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct admin_request request;
    struct admin_answer answer;
    const char *problem = NULL;

    arena_init(&arena, memory, sizeof(memory));
    if (admin_request_decode(data, size, &arena, &request, &problem) == N2_OK)
        check_request(&request);
    else
        FUZZ_CHECK(problem != NULL);
    problem = NULL;
    if (admin_answer_decode(data, size, &arena, &answer, &problem) == N2_OK)
        check_answer(&answer);
    else
        FUZZ_CHECK(problem != NULL);
    FUZZ_CHECK(arena.used <= arena.size);
    return 0;
}
