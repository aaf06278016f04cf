#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/system/fd_budget.h"
#include "relayd/plane/socket/pipe_pool.h"
#include "tests/unit/relayd/private_network.h"

#define MEBIBYTE ((size_t)1024 * 1024)

static struct pipe_pool *make(size_t size)
{
    struct pipe_pool *pool;

    ck_assert_int_eq(pipe_pool_new(&pool, size), 0);
    return pool;
}

static struct pipe_pool_figures figures(const struct pipe_pool *pool)
{
    struct pipe_pool_figures out;

    pipe_pool_figures(pool, &out);
    return out;
}

START_TEST(test_take_and_give)
{
    const unsigned fds = count_fds();
    struct pipe_pool *pool = make(MEBIBYTE);
    struct pipe_ends pipe, again;

    ck_assert_uint_eq(figures(pool).open, 0);
    ck_assert_int_eq(pipe_pool_take(pool, 0, &pipe), 0);
    ck_assert_uint_eq(pipe.size, MEBIBYTE);
    ck_assert_int_eq(fcntl(pipe.read_fd, F_GETPIPE_SZ), (int)MEBIBYTE);
    ck_assert_int_ne(fcntl(pipe.read_fd, F_GETFL) & O_NONBLOCK, 0);
    ck_assert_int_ne(fcntl(pipe.read_fd, F_GETFD) & FD_CLOEXEC, 0);
    pipe_pool_give(pool, &pipe);
    ck_assert_uint_eq(figures(pool).open, 1);
    ck_assert_uint_eq(figures(pool).idle, 1);
    ck_assert_int_eq(pipe_pool_take(pool, 0, &again), 0);
    ck_assert_int_eq(again.read_fd, pipe.read_fd);
    pipe_pool_discard(pool, &again);
    ck_assert_uint_eq(figures(pool).open, 0);
    ck_assert_uint_eq(figures(pool).shrunk, 0);
    ck_assert_uint_eq(figures(pool).refused, 0);
    ck_assert_ptr_null(pipe_pool_free(pool));
    ck_assert_uint_eq(count_fds(), fds);
}
END_TEST

START_TEST(test_idle_ones_are_bounded)
{
    const unsigned fds = count_fds(), count = PIPE_POOL_IDLE_MAX + 5;
    struct pipe_pool *pool = make(PIPE_SIZE_MIN);
    struct pipe_ends pipes[PIPE_POOL_IDLE_MAX + 5];

    for (unsigned i = 0; i < count; i++)
        ck_assert_int_eq(pipe_pool_take(pool, 0, &pipes[i]), 0);
    ck_assert_uint_eq(figures(pool).open, count);
    for (unsigned i = 0; i < count; i++)
        pipe_pool_give(pool, &pipes[i]);
    ck_assert_uint_eq(figures(pool).open, PIPE_POOL_IDLE_MAX);
    ck_assert_uint_eq(figures(pool).idle, PIPE_POOL_IDLE_MAX);
    ck_assert_uint_eq(count_fds(), fds + 2 * PIPE_POOL_IDLE_MAX);
    ck_assert_uint_eq(pipe_pool_trim(pool), 2 * PIPE_POOL_IDLE_MAX);
    ck_assert_uint_eq(pipe_pool_trim(pool), 0);
    ck_assert_uint_eq(count_fds(), fds);
    pipe_pool_free(pool);
}
END_TEST

START_TEST(test_open_ones_are_bounded)
{
    const struct rlimit many = {4096, 4096};
    struct pipe_pool *pool = make(4096);
    struct pipe_ends *pipes = calloc(PIPE_POOL_OPEN_MAX, sizeof(*pipes)), more;

    (void)setrlimit(RLIMIT_NOFILE, &many);
    for (unsigned i = 0; i < PIPE_POOL_OPEN_MAX; i++)
        ck_assert_int_eq(pipe_pool_take(pool, 0, &pipes[i]), 0);
    ck_assert_int_eq(pipe_pool_take(pool, 0, &more), -ENOSPC);
    ck_assert_uint_eq(figures(pool).refused, 1);
    pipe_pool_give(pool, &pipes[0]);
    ck_assert_int_eq(pipe_pool_take(pool, 0, &pipes[0]), 0);
    for (unsigned i = 0; i < PIPE_POOL_OPEN_MAX; i++)
        pipe_pool_discard(pool, &pipes[i]);
    free(pipes);
    pipe_pool_free(pool);
}
END_TEST

/* Out of descriptors: refused, not asked for again at once, asked for again later. */
START_TEST(test_out_of_descriptors)
{
    struct pipe_pool *pool = make(PIPE_SIZE_MIN);
    struct pipe_ends pipe;
    struct rlimit limit;

    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    const struct rlimit none = {0, limit.rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    ck_assert_int_eq(pipe_pool_take(pool, 1000, &pipe), -EMFILE);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    ck_assert_int_eq(pipe_pool_take(pool, 1001, &pipe), -ENOSPC);
    ck_assert_uint_eq(figures(pool).refused, 2);
    ck_assert_int_eq(pipe_pool_take(pool, 2000, &pipe), 0);
    pipe_pool_give(pool, &pipe);
    ck_assert_uint_eq(figures(pool).open, 1);
    pipe_pool_free(pool);
}
END_TEST

/* The last descriptors are not for pipes. */
START_TEST(test_reserve)
{
    struct pipe_pool *pool = make(PIPE_SIZE_MIN);
    struct pipe_ends pipes[FD_RESERVE], more;
    struct rlimit limit;
    unsigned count = 0;

    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = FD_RESERVE + 40;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    while (count < FD_RESERVE && pipe_pool_take(pool, 0, &pipes[count]) == 0) {
        ck_assert_int_lt(pipes[count].write_fd, 40);
        count++;
    }
    ck_assert_uint_gt(count, 10);
    ck_assert_uint_lt(count, 20);
    ck_assert_int_eq(pipe_pool_take(pool, 1000, &more), -ENOSPC);
    ck_assert_uint_eq(figures(pool).open, count);
    while (count != 0)
        pipe_pool_discard(pool, &pipes[--count]);
    pipe_pool_free(pool);
}
END_TEST

/* An ordinary user gets full pipes up to fs.pipe-user-pages-soft, then smaller ones, then useless
 * ones. */
START_TEST(test_shrunken_pipes)
{
    const struct rlimit many = {4096, 4096};
    struct pipe_pool *pool = make(MEBIBYTE);
    struct pipe_ends *pipes = calloc(PIPE_POOL_OPEN_MAX, sizeof(*pipes));
    unsigned count = 0;
    int rc = 0;

    (void)setrlimit(RLIMIT_NOFILE, &many);
    ck_assert_int_eq(setuid(54321), 0);
    while (count < PIPE_POOL_OPEN_MAX &&
           (rc = pipe_pool_take(pool, 1000 * count, &pipes[count])) == 0) {
        ck_assert_uint_ge(pipes[count].size, PIPE_SIZE_MIN);
        count++;
    }
    ck_assert_uint_gt(count, 0);
    ck_assert_uint_eq(pipes[0].size, MEBIBYTE);
    if (count < PIPE_POOL_OPEN_MAX) {
        ck_assert_int_eq(rc, -ENOSPC);
        ck_assert_uint_gt(figures(pool).shrunk, 0);
        ck_assert_uint_eq(figures(pool).refused, 1);
        ck_assert_uint_eq(figures(pool).open, count);
    }
    for (unsigned i = 0; i < count; i++)
        pipe_pool_discard(pool, &pipes[i]);
    free(pipes);
    pipe_pool_free(pool);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pipe_pool");
    TCase *tests = tcase_create("pipe_pool");
    SRunner *runner = srunner_create(suite);

    tcase_add_test(tests, test_take_and_give);
    tcase_add_test(tests, test_idle_ones_are_bounded);
    tcase_add_test(tests, test_open_ones_are_bounded);
    tcase_add_test(tests, test_out_of_descriptors);
    tcase_add_test(tests, test_reserve);
    if (geteuid() == 0)
        tcase_add_test(tests, test_shrunken_pipes);
    suite_add_tcase(suite, tests);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
