/*
 * The log of a daemon with an event loop: lines leave together, a reader that is slow, full or gone
 * holds nobody up, and what it misses is counted and told.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/log/log.h"
#include "common/log/log_loop.h"
#include "common/log/sink.h"

#define PIPE_OCTETS 65536

/* Standard error is something else while a test runs; Check forks, so it is gone with the test. */
static int reader = -1;
static uv_loop_t loop;
static uv_timer_t tick; /* so that a turn of the loop always ends */
static char *got;       /* everything that was read */
static size_t got_length;

static void on_tick(uv_timer_t *timer)
{
    (void)timer;
}

static void use(int write_end)
{
    ck_assert_int_eq(dup2(write_end, STDERR_FILENO), STDERR_FILENO);
    close(write_end);
}

static void setup(void)
{
    int pair[2];

    unsetenv("JOURNAL_STREAM");
    got = calloc(1, 16 * LOG_SINK_SIZE);
    got_length = 0;
    ck_assert_int_eq(pipe2(pair, O_CLOEXEC), 0);
    ck_assert_int_eq(fcntl(pair[1], F_SETPIPE_SZ, PIPE_OCTETS), PIPE_OCTETS);
    ck_assert_int_eq(fcntl(pair[0], F_SETFL, O_NONBLOCK), 0);
    use(pair[1]);
    reader = pair[0];
    log_setup("t", LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    uv_timer_init(&loop, &tick);
    uv_timer_start(&tick, on_tick, 5, 5);
    log_loop_start(&loop);
}

static void teardown(void)
{
    log_loop_stop();
    log_loop_stop();
    uv_close((uv_handle_t *)&tick, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
    free(got);
}

static void turn(void)
{
    uv_run(&loop, UV_RUN_ONCE);
}

/* Reads up to `most` octets that are there. */
static void read_some(size_t most)
{
    while (most > 0) {
        ssize_t n = read(reader, got + got_length, most < 4096 ? most : 4096);
        if (n <= 0) {
            return;
        }
        got_length += (size_t)n;
        most -= (size_t)n;
    }
}

/* A line of about 200 octets. */
static void log_line(unsigned number)
{
    LOG(LOG_LEVEL_INFO, "line", LOG_U("number", number),
        LOG_S("text",
              "0123456789012345678901234567890123456789012345678901234567890123456789"
              "01234567890123456789012345678901234567890123456789012345678901234567"));
}

static unsigned lines(const char *what)
{
    unsigned count = 0;

    for (const char *at = got; (at = strstr(at, what)) != NULL; at++) {
        count++;
    }
    return count;
}

/* Each line is whole, and their numbers go up. Returns the last one. */
static unsigned check_order(void)
{
    unsigned last = 0, number;

    for (char *at = got, *next; *at != '\0'; at = next + 1) {
        next = strchr(at, '\n');
        ck_assert_msg(next != NULL, "half a line at the end");
        const char *event = strstr(at, " line number=");
        if (event == NULL || event > next) {
            continue;
        }
        ck_assert_int_eq(sscanf(event, " line number=%u", &number), 1);
        ck_assert_msg(strncmp(next - 7, "1234567", 7) == 0, "line %u is cut", number);
        ck_assert_uint_gt(number, last);
        last = number;
    }
    return last;
}

/* Has this line come, whole, as the last one? */
static bool is_last(unsigned number)
{
    char text[32];
    size_t start = got_length > 300 ? got_length - 300 : 0;

    snprintf(text, sizeof(text), " line number=%u ", number);
    return got_length > 0 && got[got_length - 1] == '\n' && strstr(got + start, text) != NULL;
}

START_TEST(lines_leave_at_the_end_of_the_turn)
{
    LOG(LOG_LEVEL_INFO, "first", LOG_U("n", 1));
    LOG(LOG_LEVEL_INFO, "second", LOG_U("n", 2));
    read_some(PIPE_OCTETS);
    ck_assert_uint_eq(got_length, 0);
    turn();
    read_some(PIPE_OCTETS);
    ck_assert_ptr_nonnull(strstr(got, " first n=1\n"));
    ck_assert_ptr_nonnull(strstr(got, " second n=2\n"));
}
END_TEST

START_TEST(notices_do_not_wait)
{
    LOG(LOG_LEVEL_INFO, "first", LOG_U("n", 1));
    LOG((enum log_level)_i, "second", LOG_U("n", 2));
    read_some(PIPE_OCTETS);
    const char *first = strstr(got, " first "), *second = strstr(got, " second ");
    ck_assert(first != NULL && second != NULL && first < second);
}
END_TEST

START_TEST(a_slow_reader_gets_everything_that_is_kept)
{
    const unsigned count = 4000; /* more than the pipe takes, less than is kept */

    uint64_t begin = uv_hrtime();
    for (unsigned i = 1; i <= count; i++) {
        log_line(i);
    }
    ck_assert_msg(uv_hrtime() - begin < 2000000000u, "a full pipe holds the program up");
    turn();
    while (!is_last(count)) {
        turn();
        read_some(20000);
    }
    ck_assert_uint_eq(lines(" line number="), count);
    ck_assert_uint_eq(check_order(), count);
    ck_assert_uint_eq(log_lost(), 0);
}
END_TEST

START_TEST(what_a_reader_misses_is_counted_and_told)
{
    const unsigned count = 20000;
    unsigned number = 0, told = 0;

    for (unsigned round = 0; round < 5; round++) {
        for (unsigned i = 0; i < count / 5; i++) {
            log_line(++number);
        }
        turn();
        read_some(30000);
    }
    uint64_t lost = log_lost();
    ck_assert_uint_gt(lost, 0);
    read_some(SIZE_MAX);
    for (unsigned i = 0; i < 200; i++) {
        turn();
        read_some(SIZE_MAX);
    }
    log_line(++number); /* there is room again: it is told first */
    turn();
    read_some(SIZE_MAX);
    ck_assert_uint_eq(check_order(), number);
    ck_assert_uint_eq(log_lost(), lost);
    ck_assert_uint_eq(lines(" line number=") + lost, count + 1);
    for (const char *at = got; (at = strstr(at, "log-lines-lost lines=")) != NULL; at++) {
        unsigned part;
        ck_assert_int_eq(sscanf(at, "log-lines-lost lines=%u", &part), 1);
        told += part;
    }
    ck_assert_uint_eq(told, lost);
}
END_TEST

START_TEST(a_reader_that_has_gone_costs_nothing_else)
{
    close(reader);
    for (unsigned i = 1; i <= 10000; i++) {
        log_line(i);
    }
    turn();
    ck_assert_uint_eq(log_lost(), 10000);
    reader = open("/dev/null", O_RDWR | O_CLOEXEC);
}
END_TEST

START_TEST(a_socket_takes_parts_of_lines)
{
    int pair[2], small = 4096;

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    ck_assert_int_eq(setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
    ck_assert_int_eq(fcntl(pair[0], F_SETFL, O_NONBLOCK), 0);
    use(pair[1]);
    reader = pair[0];
    for (unsigned i = 1; i <= 2000; i++) {
        log_line(i);
    }
    while (!is_last(2000)) {
        turn();
        read_some(3001);
    }
    ck_assert_uint_eq(check_order(), 2000);
    ck_assert_uint_eq(log_lost(), 0);
}
END_TEST

START_TEST(what_is_kept_leaves_at_the_end)
{
    log_line(1);
    log_loop_stop();
    log_line(2);
    read_some(PIPE_OCTETS);
    ck_assert_uint_eq(check_order(), 2);
    ck_assert_uint_eq(lines(" line number="), 2);
}
END_TEST

/* The loop waits no longer than it has to, and lives no longer for the log's sake. */
START_TEST(nothing_to_write_keeps_no_loop)
{
    uv_timer_stop(&tick);
    log_line(1);
    ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log_loop");
    TCase *tcase = tcase_create("log_loop");
    SRunner *runner = srunner_create(suite);

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, lines_leave_at_the_end_of_the_turn);
    tcase_add_loop_test(tcase, notices_do_not_wait, LOG_LEVEL_ERROR, LOG_LEVEL_INFO);
    tcase_add_test(tcase, a_slow_reader_gets_everything_that_is_kept);
    tcase_add_test(tcase, what_a_reader_misses_is_counted_and_told);
    tcase_add_test(tcase, a_reader_that_has_gone_costs_nothing_else);
    tcase_add_test(tcase, a_socket_takes_parts_of_lines);
    tcase_add_test(tcase, what_is_kept_leaves_at_the_end);
    tcase_add_test(tcase, nothing_to_write_keeps_no_loop);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
