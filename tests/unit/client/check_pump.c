/* Octets through every kind of descriptor: splice and buffer, small socket buffers, ends and
 * errors. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/client/command/pump.h"
#include "tests/unit/client/suite.h"

#define AMOUNT (300 * 1024) /* more than a pipe or a buffer holds */

static uint8_t octet_at(size_t offset)
{
    return (uint8_t)(offset * 2654435761U >> 13);
}

static void socket_pair(int out[2], int type)
{
    int small = 4096;
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | type, 0, out), 0);
    for (int i = 0; i < 2; i++) {
        setsockopt(out[i], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
        setsockopt(out[i], SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    }
}

/* Feeds AMOUNT octets into `feed`, drains `drain` and runs the pump, until it is done. */
static void transfer(struct pump *pump, int feed, int drain)
{
    size_t fed = 0, drained = 0;
    fcntl(feed, F_SETFL, O_NONBLOCK);
    fcntl(drain, F_SETFL, O_NONBLOCK);
    for (;;) {
        uint8_t block[5000];
        if (fed < AMOUNT) {
            size_t count = AMOUNT - fed < sizeof(block) ? AMOUNT - fed : sizeof(block);
            for (size_t i = 0; i < count; i++)
                block[i] = octet_at(fed + i);
            ssize_t written = write(feed, block, count);
            fed += written > 0 ? (size_t)written : 0;
            if (fed == AMOUNT)
                close(feed);
        }
        enum pump_state state = pump_run(pump);
        ck_assert_int_le(state, PUMP_DONE);
        ssize_t got = read(drain, block, sizeof(block));
        size_t wrong = 0;
        for (ssize_t i = 0; i < got; i++)
            wrong += block[i] != octet_at(drained + (size_t)i);
        ck_assert_uint_eq(wrong, 0);
        drained += got > 0 ? (size_t)got : 0;
        if (state == PUMP_DONE && drained == AMOUNT)
            break;
    }
    ck_assert_uint_eq(pump->moved, AMOUNT);
}

START_TEST(between_sockets)
{
    for (int i = 0; i < 2; i++) {
        int in[2], out[2];
        struct pump pump;
        socket_pair(in, SOCK_NONBLOCK);
        socket_pair(out, i == 0 ? SOCK_NONBLOCK : 0);
        ck_assert_int_eq(pump_init(&pump, in[1], out[0]), 0);
        ck_assert((pump.buffer == NULL) == (i == 0)); /* splice only where it cannot block */
        transfer(&pump, in[0], out[1]);
        pump_free(&pump);
        pump_free(&pump);
        close(in[1]);
        close(out[0]);
        close(out[1]);
    }
}
END_TEST

START_TEST(from_a_pipe_and_to_a_pipe)
{
    int in[2], out[2];
    struct pump pump;
    ck_assert_int_eq(pipe2(in, O_NONBLOCK), 0);
    ck_assert_int_eq(pipe2(out, O_NONBLOCK), 0);
    ck_assert_int_eq(pump_init(&pump, in[0], out[1]), 0);
    transfer(&pump, in[1], out[0]);
    pump_free(&pump);
    close(in[0]);
    close(out[0]);
    close(out[1]);
}
END_TEST

START_TEST(to_a_file_that_cannot_be_spliced)
{
    int in[2];
    struct pump pump;
    char path[] = "/tmp/check_pump.XXXXXX";
    int file = mkstemp(path);
    int reader = open(path, O_RDONLY);
    int append = open(path, O_WRONLY | O_APPEND);
    ck_assert_int_ge(append, 0);
    unlink(path);
    socket_pair(in, SOCK_NONBLOCK);
    ck_assert_int_eq(pump_init(&pump, in[1], append), 0);
    ck_assert_ptr_null(pump.buffer);
    transfer(&pump, in[0], reader);
    ck_assert_ptr_nonnull(pump.buffer); /* it fell back, and nothing was lost */
    pump_free(&pump);
    close(in[1]);
    close(file);
    close(reader);
    close(append);
}
END_TEST

START_TEST(an_empty_input_is_done_at_once)
{
    int in[2], out[2];
    struct pump pump;
    socket_pair(in, SOCK_NONBLOCK);
    socket_pair(out, SOCK_NONBLOCK);
    ck_assert_int_eq(pump_init(&pump, in[1], out[0]), 0);
    ck_assert_int_eq(pump_run(&pump), PUMP_WANT_IN);
    close(in[0]);
    ck_assert_int_eq(pump_run(&pump), PUMP_DONE);
    ck_assert_int_eq(pump_run(&pump), PUMP_DONE);
    ck_assert_uint_eq(pump.moved, 0);
    pump_free(&pump);
    close(in[1]);
    close(out[0]);
    close(out[1]);
}
END_TEST

START_TEST(a_reader_that_is_gone_is_an_error_of_the_output)
{
    for (int i = 0; i < 2; i++) {
        int in[2], out[2];
        struct pump pump;
        socket_pair(in, SOCK_NONBLOCK);
        socket_pair(out, i == 0 ? SOCK_NONBLOCK : 0);
        ck_assert_int_eq(pump_init(&pump, in[1], out[0]), 0);
        close(out[1]);
        ck_assert_int_eq(write(in[0], "x", 1), 1);
        ck_assert_int_eq(pump_run(&pump), PUMP_E_OUT);
        ck_assert_int_eq(pump.error, EPIPE);
        ck_assert_int_eq(pump_run(&pump), PUMP_E_OUT);
        pump_free(&pump);
        close(in[0]);
        close(in[1]);
        close(out[0]);
    }
}
END_TEST

START_TEST(a_zeroed_pump_may_be_freed)
{
    struct pump pump = {0};
    pump_free(&pump);
    ck_assert_int_ne(fcntl(STDIN_FILENO, F_GETFD), -1); /* and closes nothing */
}
END_TEST

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    TCase *tcase = tcase_create("pump");
    tcase_add_test(tcase, between_sockets);
    tcase_add_test(tcase, from_a_pipe_and_to_a_pipe);
    tcase_add_test(tcase, to_a_file_that_cannot_be_spliced);
    tcase_add_test(tcase, an_empty_input_is_done_at_once);
    tcase_add_test(tcase, a_reader_that_is_gone_is_an_error_of_the_output);
    tcase_add_test(tcase, a_zeroed_pump_may_be_freed);
    return run_tests(tcase);
}
