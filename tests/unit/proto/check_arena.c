#include <check.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#include "proto/arena.h"

#define BLOCK 256

START_TEST(hands_out_aligned_and_disjoint_memory)
{
    /* The block itself may start at any address. */
    alignas(max_align_t) uint8_t block[BLOCK + 16];
    struct arena arena;

    for (size_t offset = 0; offset < 16; offset++) {
        uint8_t *last_end = block + offset;
        void *memory;

        arena_init(&arena, block + offset, BLOCK);
        for (size_t size = 1; (memory = arena_alloc(&arena, size)); size += 3) {
            ck_assert_uint_eq((uintptr_t)memory % alignof(max_align_t), 0);
            ck_assert((uint8_t *)memory >= last_end);
            memset(memory, 0xa5, size);
            last_end = (uint8_t *)memory + size;
            ck_assert(last_end <= block + offset + BLOCK);
        }
    }
}
END_TEST

START_TEST(refuses_what_does_not_fit)
{
    alignas(max_align_t) uint8_t block[BLOCK];
    struct arena arena;

    arena_init(&arena, block, sizeof(block));
    ck_assert_ptr_null(arena_alloc(&arena, BLOCK + 1));
    ck_assert_ptr_null(arena_alloc(&arena, SIZE_MAX));
    ck_assert_ptr_null(arena_alloc(&arena, SIZE_MAX - 15));
    ck_assert_ptr_eq(arena_alloc(&arena, BLOCK), block);
    ck_assert_uint_eq(arena.used, BLOCK);
    ck_assert_ptr_null(arena_alloc(&arena, 1));
}
END_TEST

START_TEST(a_refusal_takes_nothing)
{
    alignas(max_align_t) uint8_t block[BLOCK];
    struct arena arena;

    arena_init(&arena, block, sizeof(block));
    ck_assert_ptr_nonnull(arena_alloc(&arena, 1));
    ck_assert_ptr_null(arena_alloc(&arena, BLOCK - 15));
    ck_assert_uint_eq(arena.used, 1);
    ck_assert_ptr_nonnull(arena_alloc(&arena, BLOCK - 16));
}
END_TEST

START_TEST(reset_gives_everything_back)
{
    alignas(max_align_t) uint8_t block[BLOCK];
    struct arena arena;

    arena_init(&arena, block, sizeof(block));
    for (int i = 0; i < 1000; i++) {
        ck_assert_ptr_eq(arena_alloc(&arena, BLOCK), block);
        arena_reset(&arena);
    }
}
END_TEST

START_TEST(an_arena_of_nothing)
{
    struct arena arena;

    arena_init(&arena, NULL, 0);
    ck_assert_ptr_null(arena_alloc(&arena, 1));
    arena_init(&arena, NULL, BLOCK);
    ck_assert_ptr_null(arena_alloc(&arena, 1));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("arena");
    TCase *tcase = tcase_create("arena");

    tcase_add_test(tcase, hands_out_aligned_and_disjoint_memory);
    tcase_add_test(tcase, refuses_what_does_not_fit);
    tcase_add_test(tcase, a_refusal_takes_nothing);
    tcase_add_test(tcase, reset_gives_everything_back);
    tcase_add_test(tcase, an_arena_of_nothing);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);

    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);

    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
