#include <check.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "relayd/plane/socket/stranger_filter.h"
#include "tests/unit/relayd/private_network.h"

static int send_to(int fd, const struct endpoint *to)
{
    ck_assert_int_eq(connect_to(fd, to), 0);
    return send(fd, "x", 1, 0) == 1 ? 0 : -errno;
}

/* How many datagrams wait. */
static unsigned drain(int fd)
{
    char octet;
    unsigned count = 0;

    while (recv(fd, &octet, 1, MSG_DONTWAIT) >= 0)
        count++;
    return count;
}

static uint32_t drops(int fd)
{
    uint32_t count = 0;

    ck_assert_int_eq(stranger_filter_read_drops(fd, &count), 0);
    return count;
}

/* Loop index: IPv4, IPv6. */
START_TEST(test_udp_source)
{
    const bool v6 = _i == 1;
    const int bound = party_socket(PARTY_RELAY, v6, SOCK_DGRAM, 0);
    const int source = party_socket(PARTY_CLIENT, v6, SOCK_DGRAM, 0);
    const int wrong_port = party_socket(PARTY_CLIENT, v6, SOCK_DGRAM, 0);
    const int stranger = party_socket(PARTY_STRANGER, v6, SOCK_DGRAM, socket_name(source).port);
    const struct endpoint to = socket_name(bound), from = socket_name(source);

    ck_assert_int_eq(stranger_filter_accept(bound, &from), 0);
    ck_assert_int_eq(send_to(wrong_port, &to), 0);
    ck_assert_int_eq(send_to(stranger, &to), 0);
    ck_assert_uint_eq(drain(bound), 0);
    ck_assert_uint_eq(drops(bound), 2);
    ck_assert_int_eq(send_to(source, &to), 0);
    ck_assert_uint_eq(drain(bound), 1);
    ck_assert_uint_eq(drops(bound), 2);
    close(bound);
    close(source);
    close(wrong_port);
    close(stranger);
}
END_TEST

START_TEST(test_udp_any_port)
{
    const bool v6 = _i == 1;
    const int bound = party_socket(PARTY_RELAY, v6, SOCK_DGRAM, 0);
    const int source = party_socket(PARTY_CLIENT, v6, SOCK_DGRAM, 0);
    const int stranger = party_socket(PARTY_STRANGER, v6, SOCK_DGRAM, 0);
    const struct endpoint to = socket_name(bound),
                          from = {.address = party_address(PARTY_CLIENT, v6), .port = 0};

    ck_assert_int_eq(stranger_filter_accept(bound, &from), 0);
    ck_assert_int_eq(send_to(stranger, &to), 0);
    ck_assert_int_eq(send_to(source, &to), 0);
    ck_assert_uint_eq(drain(bound), 1);
    ck_assert_uint_eq(drops(bound), 1);
    close(bound);
    close(source);
    close(stranger);
}
END_TEST

START_TEST(test_drop_all_and_detach)
{
    const bool v6 = _i == 1;
    const int bound = party_socket(PARTY_RELAY, v6, SOCK_DGRAM, 0);
    const int source = party_socket(PARTY_CLIENT, v6, SOCK_DGRAM, 0);
    const struct endpoint to = socket_name(bound);
    struct drop_counter counter = {0};

    ck_assert_int_eq(stranger_filter_detach(bound), 0); /* none there */
    ck_assert_int_eq(stranger_filter_drop_all(bound), 0);
    for (unsigned i = 0; i < 1000; i++)
        ck_assert_int_eq(send_to(source, &to), 0);
    ck_assert_uint_eq(drain(bound), 0);
    ck_assert_uint_eq(drop_counter_update(&counter, bound), 1000);
    ck_assert_int_eq(stranger_filter_detach(bound), 0);
    ck_assert_int_eq(send_to(source, &to), 0);
    ck_assert_uint_eq(drain(bound), 1);
    ck_assert_uint_eq(drop_counter_update(&counter, bound), 1000);
    ck_assert_uint_eq(drop_counter_update(&counter, -1), 1000);
    close(bound);
    close(source);
}
END_TEST

/* The kernel's counter has 32 bits. */
START_TEST(test_drop_counter_wraps)
{
    const int bound = party_socket(PARTY_RELAY, false, SOCK_DGRAM, 0);
    const int source = party_socket(PARTY_CLIENT, false, SOCK_DGRAM, 0);
    const struct endpoint to = socket_name(bound);
    struct drop_counter counter = {.total = 7, .last = UINT32_MAX};

    ck_assert_int_eq(stranger_filter_drop_all(bound), 0);
    ck_assert_int_eq(send_to(source, &to), 0);
    ck_assert_uint_eq(drop_counter_update(&counter, bound), 9);
    close(bound);
    close(source);
}
END_TEST

/* A stranger's connect hears nothing; S's succeeds, on the same listener. */
START_TEST(test_tcp)
{
    const bool v6 = _i == 1;
    const int listener = party_socket(PARTY_RELAY, v6, SOCK_STREAM, 0);
    const int source = party_socket(PARTY_CLIENT, v6, SOCK_STREAM, 0);
    const int stranger = party_socket(PARTY_STRANGER, v6, SOCK_STREAM, 0);
    const int wrong_port = party_socket(PARTY_CLIENT, v6, SOCK_STREAM, 0);
    const struct endpoint to = socket_name(listener), from = socket_name(source);
    const int capture = capture_open();

    ck_assert_int_eq(stranger_filter_accept(listener, &from), 0);
    ck_assert_int_eq(listen(listener, 1), 0);
    set_blocking(stranger, false);
    set_blocking(wrong_port, false);
    ck_assert_int_eq(connect_to(stranger, &to), -EINPROGRESS);
    ck_assert_int_eq(connect_to(wrong_port, &to), -EINPROGRESS);
    ck_assert_uint_eq(drops(listener), 2);
    ck_assert_int_eq(connect_to(source, &to), 0);
    ck_assert_uint_eq(drops(listener), 2);
    const struct endpoint strangers_name = socket_name(stranger), wrong = socket_name(wrong_port);
    ck_assert_uint_eq(capture_count_to(capture, &strangers_name), 0);
    close(capture);
    /* Neither has been refused. */
    struct pollfd waiting[] = {{.fd = stranger, .events = POLLOUT},
                               {.fd = wrong_port, .events = POLLOUT}};
    ck_assert_int_eq(poll(waiting, 2, 0), 0);
    ck_assert_uint_ne(wrong.port, from.port);
    close(listener);
    close(source);
    close(stranger);
    close(wrong_port);
}
END_TEST

/* The capture can see an answer: without a filter the same connect hears one. */
START_TEST(test_capture_sees_answers)
{
    const bool v6 = _i == 1;
    const int closed = party_socket(PARTY_RELAY, v6, SOCK_STREAM, 0);
    const int stranger = party_socket(PARTY_STRANGER, v6, SOCK_STREAM, 0);
    const struct endpoint to = socket_name(closed), name = socket_name(stranger);
    const int capture = capture_open();

    ck_assert_int_eq(connect_to(stranger, &to), -ECONNREFUSED);
    ck_assert_uint_eq(capture_count_to(capture, &name), 1);
    close(capture);
    close(closed);
    close(stranger);
}
END_TEST

START_TEST(test_errors)
{
    const struct endpoint none = {.port = 1}, source = {.address = party_address(1, false)};
    uint32_t count;

    ck_assert_int_eq(stranger_filter_accept(0, &none), -EAFNOSUPPORT);
    ck_assert_int_eq(stranger_filter_accept(-1, &source), -EBADF);
    ck_assert_int_eq(stranger_filter_drop_all(-1), -EBADF);
    ck_assert_int_eq(stranger_filter_detach(-1), -EBADF);
    ck_assert_int_eq(stranger_filter_read_drops(-1, &count), -EBADF);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("stranger_filter");
    TCase *tests = tcase_create("stranger_filter");
    SRunner *runner = srunner_create(suite);

    tcase_add_checked_fixture(tests, private_network_enter, NULL);
    tcase_add_loop_test(tests, test_udp_source, 0, 2);
    tcase_add_loop_test(tests, test_udp_any_port, 0, 2);
    tcase_add_loop_test(tests, test_drop_all_and_detach, 0, 2);
    tcase_add_test(tests, test_drop_counter_wraps);
    tcase_add_loop_test(tests, test_tcp, 0, 2);
    tcase_add_loop_test(tests, test_capture_sees_answers, 0, 2);
    tcase_add_test(tests, test_errors);
    suite_add_tcase(suite, tests);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
