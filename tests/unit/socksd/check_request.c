/*
 * The octets of method lists and requests: every malformed one, and the order of judgement. Each
 * request is sent in one segment with the method list, and again an octet at a time: the answer
 * must be the same.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/ptcl.h"
#include "tests/unit/socksd/requests.h"

static struct fixture f;

static void setup(void)
{
    fixture_init(&f);
}

static void teardown(void)
{
    fixture_stop(&f);
}

/* ---- the method list ------------------------------------------------------------------------- */

START_TEST(test_method_lists)
{
    static const struct {
        const char *bytes;
        size_t length;
        const char *answer; /* NULL: closed without one */
    } cases[] = {
        {"\x04\x01\x00", 3, NULL},
        {"\x00", 1, NULL},
        {"GET / HTTP/1.1\r\n\r\n", 18, NULL},
        {"\x05\x00", 2, NULL},
        {"\x05\x01\x02", 3, "\x05\xff"},
        {"\x05\x02\x01\x02", 4, "\x05\xff"},
        {"\x05\x01\xff", 3, "\x05\xff"},
        {"\x05\x01\x00", 3, "\x05\x00"},
        {"\x05\x03\x02\x01\x00", 5, "\x05\x00"},
    };
    fixture_start(&f);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int fd = client_connect(&f);
        client_send(fd, cases[i].bytes, cases[i].length);
        if (cases[i].answer)
            client_expect(&f, fd, cases[i].answer, 2);
        if (!cases[i].answer || cases[i].answer[1] != 0)
            client_expect_end(&f, fd);
        close(fd);
    }
    ck_assert_uint_eq(COUNT(&f, COUNTER_BAD_VERSIONS), 3);
    ck_assert_uint_eq(COUNT(&f, COUNTER_BAD_METHOD_LISTS), 1);
    ck_assert_uint_eq(COUNT(&f, COUNTER_AUTH_UNACCEPTABLE), 3);
    ck_assert_uint_eq(COUNT(&f, COUNTER_AUTH_NONE), 2);
}
END_TEST

/* The reply must not be lost in a RST because octets of the client were left unread. */
START_TEST(test_reply_survives_unread_octets)
{
    char junk[4096] = {5, 1, 2};
    fixture_start(&f);
    int fd = client_connect(&f);
    client_send(fd, junk, sizeof(junk));
    WAIT_FOR(&f, f.set.others);
    client_send(fd, junk, sizeof(junk));
    fixture_settle(&f);
    char answer[2];
    ck_assert_int_eq(recv(fd, answer, sizeof(answer), 0), 2);
    ck_assert_mem_eq(answer, "\x05\xff", 2);
    ck_assert_int_eq(recv(fd, answer, sizeof(answer), 0), 0); /* FIN, not RST */
    close(fd);
}
END_TEST

/* ---- malformed requests ---------------------------------------------------------------------- */

START_TEST(test_malformed_requests)
{
    fixture_start(&f);
    ask_both_ways(&f, BYTES(4, 4, 0, V4_TARGET, 6, V4_SOURCE), CLOSES);
    ask_both_ways(&f, BYTES(5, 0, 0, V4_TARGET, 6, V4_SOURCE), N1_REP_COMMAND_NOT_SUPPORTED);
    ask_both_ways(&f, BYTES(5, 5, 0, V4_TARGET, 6, V4_SOURCE), N1_REP_COMMAND_NOT_SUPPORTED);
    ask_both_ways(&f, BYTES(5, 255, 0, V4_TARGET, 6, V4_SOURCE), N1_REP_COMMAND_NOT_SUPPORTED);
    ask_both_ways(&f, BYTES(5, 4, 1, V4_TARGET, 6, V4_SOURCE), N1_REP_GENERAL_FAILURE);
    ask_both_ways(&f, BYTES(5, 4, 0, 0, 192, 0, 2, 80, 0, 80, 6, V4_SOURCE),
                  N1_REP_ATYP_NOT_SUPPORTED);
    ask_both_ways(&f, BYTES(5, 4, 0, 2, 192, 0, 2, 80, 0, 80, 6, V4_SOURCE),
                  N1_REP_ATYP_NOT_SUPPORTED);
    ask_both_ways(&f, BYTES(5, 4, 0, V4_TARGET, 6, 2, 0, 0, 0, 0, 0x9c, 0x40),
                  N1_REP_ATYP_NOT_SUPPORTED);
    ask_both_ways(&f, BYTES(5, 4, 0, V4_TARGET, 0, V4_SOURCE), N1_REP_PTCL_NOT_SUPPORTED);
    ask_both_ways(&f, BYTES(5, 4, 0, V4_TARGET, 17, V4_SOURCE), N1_REP_PTCL_NOT_SUPPORTED);
    ask_both_ways(&f, BYTES(5, 4, 0, V4_TARGET, 200, V4_SOURCE), N1_REP_PTCL_NOT_SUPPORTED);
    ask_both_ways(&f, BYTES(5, 4, 0, V4_TARGET, 6, V4_SOURCE), N1_REP_SUCCEEDED);
    ck_assert_uint_eq(f.fake[0].orders, 2);
    ck_assert_uint_eq(COUNT(&f, COUNTER_REQUESTS_OTHER), 6);
}
END_TEST

/* RFC 1928's own commands end with DST.PORT, and are judged octet by octet too. */
START_TEST(test_classic_commands)
{
    fixture_start(&f);
    for (uint8_t command = N1_CMD_CONNECT; command <= N1_CMD_BIND; command++) {
        ask_both_ways(&f, BYTES(5, command, 0, V4_TARGET), N1_REP_SUCCEEDED);
        ask_both_ways(&f, BYTES(5, command, 1, V4_TARGET), N1_REP_GENERAL_FAILURE);
        ask_both_ways(&f, BYTES(5, command, 0, 2, 192, 0, 2, 80, 0, 80), N1_REP_ATYP_NOT_SUPPORTED);
        ask_both_ways(&f, BYTES(5, command, 0, 3, 3, 'a', 0, 'b', 0, 80), N1_REP_GENERAL_FAILURE);
    }
    ck_assert_uint_eq(f.fake[0].orders, 4);
    ck_assert_uint_eq(COUNT(&f, COUNTER_REQUESTS_CONNECT), 8);
    ck_assert_uint_eq(COUNT(&f, COUNTER_REQUESTS_BIND), 8);
}
END_TEST

/* N1-REQ-030: A command whose protocol nobody relays is not served, as if it had no row. */
START_TEST(test_command_without_a_relay_daemon)
{
    fixture_start(&f);
    ask_both_ways(&f, BYTES(5, 3, 0, V4_TARGET), N1_REP_COMMAND_NOT_SUPPORTED);
    ask_at_once(&f, BYTES(5, 3), N1_REP_COMMAND_NOT_SUPPORTED);
    ck_assert_uint_eq(COUNT(&f, COUNTER_REQUESTS_UDP_ASSOCIATE), 3);
}
END_TEST

/* One that is configured, but cannot be reached now, is another matter. */
START_TEST(test_command_whose_relay_daemon_is_lost)
{
    fixture_start(&f);
    fake_relayd_stop(&f.fake[0]);
    WAIT_FOR(&f, COUNT(&f, COUNTER_N2_CONNECTED) == 0);
    ask_both_ways(&f, BYTES(5, 1, 0, V4_TARGET), N1_REP_GENERAL_FAILURE);
    ask_both_ways(&f, BYTES(5, 2, 0, V4_TARGET), N1_REP_GENERAL_FAILURE);
}
END_TEST

/* Of several faults the first in the order of judgement answers. */
START_TEST(test_order_of_judgement)
{
    fixture_start(&f);
    ask_both_ways(&f, BYTES(5, 9, 1, 2, 0),
                  N1_REP_COMMAND_NOT_SUPPORTED); /* CMD before RSV, ATYP */
    ask_both_ways(&f, BYTES(5, 3, 1, 2, 0), N1_REP_COMMAND_NOT_SUPPORTED); /* also of a known one */
    ask_both_ways(&f, BYTES(5, 1, 1, 2, 0), N1_REP_GENERAL_FAILURE);
    ask_both_ways(&f, BYTES(5, 1, 0, 3, 1, 'x', 0, 0),
                  N1_REP_GENERAL_FAILURE);                           /* form before DNS */
    ask_both_ways(&f, BYTES(5, 4, 1, 2, 0), N1_REP_GENERAL_FAILURE); /* RSV before ATYP */
    ask_both_ways(&f, BYTES(5, 4, 0, V4_TARGET, 99, 7, 0),
                  N1_REP_ATYP_NOT_SUPPORTED); /* S.ATYP before PTCL */
    /* PTCL before S (foreign, and port 0) */
    ask_both_ways(&f, BYTES(5, 4, 0, V4_TARGET, 99, 1, 192, 0, 2, 9, 0, 0),
                  N1_REP_PTCL_NOT_SUPPORTED);
    /* S before rules on the name and before DST's form */
    ask_both_ways(&f, BYTES(5, 4, 0, 3, 1, 'x', 0, 0, 6, 1, 192, 0, 2, 9, 0, 80),
                  N1_REP_NOT_ALLOWED);
    ask_both_ways(&f, BYTES(5, 4, 0, 3, 1, 'x', 0, 80, 6, 1, 0, 0, 0, 0, 0, 0),
                  N1_REP_GENERAL_FAILURE);
    ck_assert_uint_eq(f.fake[0].orders, 0);
    ck_assert_uint_eq(f.dns.queries, 0);
}
END_TEST

START_TEST(test_truncated_requests_wait)
{
    uint8_t request[N1_REQUEST_MAX];
    const size_t length =
        request_encode(request, sizeof(request), PTCL_TCP, "a.example.org:80", "0.0.0.0:40000");
    fixture_start(&f);
    for (size_t i = 0; i < length; i++) {
        int fd = client_connect(&f);
        client_greet(&f, fd);
        client_send(fd, request, i);
        client_expect_silence(&f, fd);
        close(fd);
        WAIT_FOR(&f, f.set.count == 0);
    }
    ck_assert_uint_eq(f.fake[0].orders, 0);
    ck_assert_uint_eq(f.dns.queries, 0);
}
END_TEST

/* Every other value of CMD, RSV, ATYP and S.ATYP, judged at its octet: nothing behind it is waited
 * for. */
START_TEST(test_every_other_octet)
{
    fixture_start(&f);
    for (unsigned value = 0; value < 256; value++) {
        const uint8_t octet = (uint8_t)value;
        if (octet == 0 || octet == N1_CMD_UDP_ASSOCIATE || octet > N1_CMD_TRANSPARENT)
            ask_at_once(&f, BYTES(5, octet), N1_REP_COMMAND_NOT_SUPPORTED);
        if (octet != 0) {
            ask_at_once(&f, BYTES(5, 4, octet), N1_REP_GENERAL_FAILURE);
            ask_at_once(&f, BYTES(5, 1, octet), N1_REP_GENERAL_FAILURE);
        }
        if (octet == 1 || octet == 3 || octet == 4)
            continue;
        ask_at_once(&f, BYTES(5, 1, 0, octet), N1_REP_ATYP_NOT_SUPPORTED);
        ask_at_once(&f, BYTES(5, 4, 0, octet), N1_REP_ATYP_NOT_SUPPORTED);
        ask_at_once(&f, BYTES(5, 4, 0, V4_TARGET, 6, octet), N1_REP_ATYP_NOT_SUPPORTED);
    }
    for (unsigned ptcl = 0; ptcl < 256; ptcl++)
        if (ptcl != PTCL_TCP)
            ask_at_once(&f, BYTES(5, 4, 0, V4_TARGET, (uint8_t)ptcl, V4_SOURCE),
                        N1_REP_PTCL_NOT_SUPPORTED);
}
END_TEST

/* What follows the request in the same segment is discarded, and the client's FIN is still seen. */
START_TEST(test_octets_behind_the_request)
{
    uint8_t all[3 + N1_REQUEST_MAX + 4096] = {5, 1, 0};
    fixture_start(&f);
    const size_t length = request_encode(all + 3, N1_REQUEST_MAX, PTCL_TCP, TARGET, OWN_SOURCE);
    int fd = client_connect(&f);
    client_send(fd, all, 3 + length + 4096);
    client_expect(&f, fd, "\x05\x00", 2);
    client_expect(&f, fd, "\x05\x00\0\x01\x7f\0\0\x01\x4e\x20", 10);
    client_expect_silence(&f, fd);
    shutdown(fd, SHUT_WR);
    WAIT_FOR(&f, f.fake[0].closes == 1);
    close(fd);
}
END_TEST

static Suite *request_suite(void)
{
    Suite *suite = suite_create("request");
    TCase *tests = tcase_create("request");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, test_method_lists);
    tcase_add_test(tests, test_reply_survives_unread_octets);
    tcase_add_test(tests, test_malformed_requests);
    tcase_add_test(tests, test_classic_commands);
    tcase_add_test(tests, test_command_without_a_relay_daemon);
    tcase_add_test(tests, test_command_whose_relay_daemon_is_lost);
    tcase_add_test(tests, test_order_of_judgement);
    tcase_add_test(tests, test_truncated_requests_wait);
    tcase_add_test(tests, test_every_other_octet);
    tcase_add_test(tests, test_octets_behind_the_request);
    suite_add_tcase(suite, tests);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(request_suite());
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
