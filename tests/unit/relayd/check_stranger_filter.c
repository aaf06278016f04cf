#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/net/sockaddr.h"
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

/* One of the two at `at`: the trap or the listener, as relayd makes them. */
static int make_listener(const struct endpoint *at, const struct endpoint *trap_for)
{
    struct sockaddr_storage address;
    const socklen_t length = endpoint_to_sockaddr(at, &address);
    const int fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)), 0);
    if (trap_for != NULL) {
        ck_assert_int_eq(stranger_filter_trap(fd, &at->address), 0);
        ck_assert_int_eq(stranger_filter_sort(fd, trap_for), 0);
    }
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, length), 0);
    ck_assert_int_eq(listen(fd, 4), 0);
    return fd;
}

/* A port of the relay that nobody has. */
static struct endpoint free_port(bool v6)
{
    const int fd = party_socket(PARTY_RELAY, v6, SOCK_STREAM, 0);
    const struct endpoint name = socket_name(fd);

    close(fd);
    return name;
}

/* A segment that belongs to no connection: TCP_REPAIR makes one that the other side never heard of,
 * and leaving it sends an ACK. */
static void send_stray_ack(int fd, const struct endpoint *to)
{
    const int on = 1, off = 0;

    ck_assert_int_eq(setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on)), 0);
    ck_assert_int_eq(connect_to(fd, to), 0);
    ck_assert_int_eq(setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &off, sizeof(off)), 0);
}

/* A stranger hears nothing, whatever it sends; S gets through to the listener of the same port. */
START_TEST(test_tcp_group)
{
    const bool v6 = _i == 1;
    const int source = party_socket(PARTY_CLIENT, v6, SOCK_STREAM, 0);
    const int stranger = party_socket(PARTY_STRANGER, v6, SOCK_STREAM, socket_name(source).port);
    const int wrong_port = party_socket(PARTY_CLIENT, v6, SOCK_STREAM, 0);
    const int stray = party_socket(PARTY_STRANGER, v6, SOCK_STREAM, 0);
    const struct endpoint to = free_port(v6), from = socket_name(source);
    const struct endpoint names[] = {socket_name(stranger), socket_name(wrong_port),
                                     socket_name(stray)};
    const int trap = make_listener(&to, &from), listener = make_listener(&to, NULL);

    for (size_t i = 0; i < 3; i++) {
        const int capture = capture_open();
        set_blocking(stranger, false);
        set_blocking(wrong_port, false);
        if (i == 2)
            send_stray_ack(stray, &to);
        else
            ck_assert_int_eq(connect_to(i == 0 ? stranger : wrong_port, &to), -EINPROGRESS);
        ck_assert_uint_eq(drops(trap), i + 1);
        ck_assert_uint_eq(capture_count_to(capture, &names[i]), 0);
        close(capture);
    }
    ck_assert_int_eq(connect_to(source, &to), 0);
    ck_assert_uint_eq(drops(trap), 3);
    const int accepted = accept(listener, NULL, NULL);
    ck_assert_int_ge(accepted, 0);

    /* Without the listener S is a stranger, too, and its connection goes on. */
    char octet;
    close(listener);
    ck_assert_int_eq(send(source, "x", 1, 0), 1);
    ck_assert_int_eq(recv(accepted, &octet, 1, 0), 1);
    const int closing[] = {trap, source, stranger, wrong_port, stray, accepted};
    for (size_t i = 0; i < sizeof(closing) / sizeof(closing[0]); i++)
        close(closing[i]);
}
END_TEST

/* Where S may come from any port, its address alone counts. */
START_TEST(test_tcp_group_any_port)
{
    const bool v6 = _i == 1;
    const int source = party_socket(PARTY_CLIENT, v6, SOCK_STREAM, 0);
    const int stranger = party_socket(PARTY_STRANGER, v6, SOCK_STREAM, 0);
    const struct endpoint to = free_port(v6), from = {.address = party_address(PARTY_CLIENT, v6)};
    const int trap = make_listener(&to, &from), listener = make_listener(&to, NULL);

    set_blocking(stranger, false);
    ck_assert_int_eq(connect_to(stranger, &to), -EINPROGRESS);
    ck_assert_uint_eq(drops(trap), 1);
    ck_assert_int_eq(connect_to(source, &to), 0);
    ck_assert_uint_eq(drops(trap), 1);
    close(trap);
    close(listener);
    close(source);
    close(stranger);
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
    ck_assert_int_eq(stranger_filter_sort(-1, &source), -EBADF);
    ck_assert_int_eq(stranger_filter_sort(0, &none), -EAFNOSUPPORT);
    ck_assert_int_eq(stranger_filter_trap(-1, &source.address), -EBADF);
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
    tcase_add_loop_test(tests, test_tcp_group, 0, 2);
    tcase_add_loop_test(tests, test_tcp_group_any_port, 0, 2);
    tcase_add_loop_test(tests, test_capture_sees_answers, 0, 2);
    tcase_add_test(tests, test_errors);
    suite_add_tcase(suite, tests);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
