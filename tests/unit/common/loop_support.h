/*
 * What the tests of things on a uv_loop share: a loop with a time limit, waiting for a condition,
 * and the proof that nothing was left behind: no handle, no descriptor.
 */
#ifndef SOCKST_TESTS_UNIT_COMMON_LOOP_SUPPORT_H
#define SOCKST_TESTS_UNIT_COMMON_LOOP_SUPPORT_H

#include <check.h>
#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#define TEST_LIMIT_MS 20000
#define TEST_TICK_MS 10 /* a turn of the loop takes no longer, whatever became true in it */

struct test_loop {
    uv_loop_t loop;
    uv_timer_t limit;
    uint64_t limit_ms; /* loop time */
    bool timed_out;
    size_t descriptors; /* before the loop was made */
};

static inline size_t test_count_descriptors(void)
{
    DIR *directory = opendir("/proc/self/fd");
    ck_assert_ptr_nonnull(directory);
    size_t count = 0;
    while (readdir(directory) != NULL) {
        count++;
    }
    closedir(directory);
    return count;
}

static inline void test_on_limit(uv_timer_t *timer)
{
    struct test_loop *test = timer->data;
    test->timed_out = uv_now(&test->loop) >= test->limit_ms;
}

static inline void test_loop_start(struct test_loop *test)
{
    /* libuv keeps a pipe of its own from its first loop on. */
    ck_assert_int_eq(uv_loop_init(&test->loop), 0);
    ck_assert_int_eq(uv_loop_close(&test->loop), 0);
    test->descriptors = test_count_descriptors();
    test->timed_out = false;
    ck_assert_int_eq(uv_loop_init(&test->loop), 0);
    uv_timer_init(&test->loop, &test->limit);
    test->limit.data = test;
    test->limit_ms = uv_now(&test->loop) + TEST_LIMIT_MS;
    uv_timer_start(&test->limit, test_on_limit, TEST_TICK_MS, TEST_TICK_MS);
}

/* Runs what is left, which must end by itself, and checks that nothing remains. */
static inline void test_loop_finish(struct test_loop *test)
{
    uv_unref((uv_handle_t *)&test->limit);
    while (uv_loop_alive(&test->loop)) {
        uv_run(&test->loop, UV_RUN_ONCE);
        ck_assert_msg(!test->timed_out, "the loop does not come to its end");
    }
    uv_close((uv_handle_t *)&test->limit, NULL);
    uv_run(&test->loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&test->loop), 0);
    ck_assert_uint_eq(test_count_descriptors(), test->descriptors);
}

#define TEST_RUN_UNTIL(test, condition)                                                            \
    do {                                                                                           \
        while (!(condition)) {                                                                     \
            uv_run(&(test)->loop, UV_RUN_ONCE);                                                    \
            ck_assert_msg(!(test)->timed_out, "never came true: %s", #condition);                  \
        }                                                                                          \
    } while (0)

/* What is ready now and what follows from it at once: AF_UNIX delivers within the call that writes.
 */
static inline void test_turns(struct test_loop *test, unsigned turns)
{
    for (unsigned i = 0; i < turns; i++) {
        uv_run(&test->loop, UV_RUN_NOWAIT);
    }
}

static inline void test_socketpair(int pair[2])
{
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
}

#endif
