/*
 * BIND: the peer that is expected, both replies, and every way in which the wait may end.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/ptcl.h"
#include "tests/unit/socksd/requests.h"

static struct fixture f;
static struct fake_relayd *const relayd = &f.fake[0];

static const struct fake_dns_record records[] = {
    {"ftp.example.org", "2001:db8::21"},
    {"ftp.example.org", "127.0.0.1"},
    {"ftp.example.org", "192.0.2.21"},
    {"ftp.example.org", "192.0.2.22"},
    {NULL, NULL},
};

static void setup(void)
{
    fixture_init(&f);
    f.records = records;
}

static void teardown(void)
{
    fixture_stop(&f);
}

#define PEER "192.0.2.21:20"

/* A BIND that waits for its peer. */
static int bound_for(const char *destination)
{
    int fd = client_classic(&f, N1_CMD_BIND, destination);
    client_expect_reply(&f, fd, 0, BOUND);
    return fd;
}

static void expect_order(const char *destination)
{
    char text[ENDPOINT_TEXT_MAX];
    ck_assert_int_eq(relayd->last_order.kind, N2_KIND_BIND);
    ck_assert_uint_eq(relayd->last_order.ptcl, PTCL_TCP);
    ck_assert_uint_eq(relayd->last_order.destination_count, 1);
    ck_assert_str_eq(endpoint_format(&relayd->last_order.destinations[0], text, sizeof(text)),
                     destination);
}

static void expect_refusal(const char *destination, uint8_t code)
{
    int fd = client_classic(&f, N1_CMD_BIND, destination);
    client_expect_reply(&f, fd, code, NULL);
    client_expect_end(&f, fd);
    close(fd);
}

/* ---- the order ------------------------------------------------------------------------------- */

/* N1-BIND-010, N1-BIND-030 */
START_TEST(test_expected_peers)
{
    fixture_start(&f);
    int fd = bound_for(PEER);
    const struct endpoint client = client_endpoint(fd);
    expect_order(PEER);
    ck_assert(endpoint_equal(&relayd->last_order.source, &client));
    close(fd);
    close(bound_for("192.0.2.21:0"));
    expect_order("192.0.2.21:0");
    close(bound_for("0.0.0.0:0"));
    expect_order("0.0.0.0:0");
    close(bound_for("[::]:0"));
    expect_order("[::]:0");
    /* of a name the first that is allowed, of the client's family if there is one */
    close(bound_for("ftp.example.org:21"));
    expect_order("192.0.2.21:21");
}
END_TEST

START_TEST(test_refusals)
{
    fixture_start(&f);
    expect_refusal("127.0.0.1:20", N1_REP_NOT_ALLOWED);
    expect_refusal("nobody.example.org:20", N1_REP_HOST_UNREACHABLE);
    ck_assert_uint_eq(relayd->orders, 0);
    relayd->answer = FAKE_FAILS;
    relayd->error = N2_ERROR_GENERAL;
    expect_refusal(PEER, N1_REP_GENERAL_FAILURE);
}
END_TEST

/* N1-BIND-020: "Anybody" is more than what a rule for some allows. */
START_TEST(test_any_peer_needs_a_rule_for_all)
{
    f.rules[0].to = (struct config_list)LIST(char *, "192.0.2.0/24");
    fixture_start(&f);
    expect_refusal("0.0.0.0:0", N1_REP_NOT_ALLOWED);
    expect_refusal("[::]:0", N1_REP_NOT_ALLOWED);
    close(bound_for(PEER));
}
END_TEST

/* ---- the peer comes -------------------------------------------------------------------------- */

/* N1-BIND-040, N1-HAND-010 */
START_TEST(test_both_replies_and_handing_over)
{
    fixture_start(&f);
    int fd = bound_for(PEER);
    client_send(fd, "ear", 3);
    client_expect_silence(&f, fd);
    client_send(fd, "ly", 2);
    WAIT_FOR(&f, f.set.others->handshake->length == 5);
    ck_assert_uint_eq(relayd->attached_count, 0);
    ck_assert_uint_eq(COUNT(&f, COUNTER_RELAYS_OPEN), 1);
    fake_relayd_send_connected(relayd, 1, "192.0.2.21:40021");
    client_expect_reply(&f, fd, 0, "192.0.2.21:40021");
    WAIT_FOR(&f, relayd->attached_count == 1);
    const struct fake_attached *attached = &relayd->attached[0];
    ck_assert_uint_eq(attached->relay, 1);
    ck_assert_uint_eq(attached->early_length, 5);
    ck_assert_mem_eq(attached->early, "early", 5);
    client_send(attached->fd, "down", 4);
    client_expect(&f, fd, "down", 4);
    close(fd);
    fixture_settle(&f);
    ck_assert_uint_eq(relayd->closes, 0);
    fake_relayd_send_closed(relayd, 1, N2_REASON_FINISHED);
    WAIT_FOR(&f, f.set.count == 0);
}
END_TEST

/* More than fits is left to the kernel, and to relayd. */
START_TEST(test_early_data_is_bounded)
{
    static char early[N2_EARLY_DATA_MAX + 1000];
    fixture_start(&f);
    for (size_t i = 0; i < sizeof(early); i++)
        early[i] = (char)(i * 3 + i / 256);
    int fd = bound_for(PEER);
    client_send(fd, early, sizeof(early));
    WAIT_FOR(&f, f.set.others->handshake->length == N2_EARLY_DATA_MAX);
    fake_relayd_send_connected(relayd, 1, PEER);
    client_expect_reply(&f, fd, 0, PEER);
    WAIT_FOR(&f, relayd->attached_count == 1);
    ck_assert_uint_eq(relayd->attached[0].early_length, N2_EARLY_DATA_MAX);
    ck_assert_mem_eq(relayd->attached[0].early, early, N2_EARLY_DATA_MAX);
    for (size_t at = N2_EARLY_DATA_MAX; at < sizeof(early); at += 500)
        client_expect(&f, relayd->attached[0].fd, early + at, 500);
    close(fd);
}
END_TEST

/* N1-BIND-020: Where anybody was awaited, the rules see who has come. */
START_TEST(test_peer_is_judged)
{
    f.config.rules.count = 2;
    f.rules[0] = (struct rule_config){.action = RULE_DENY, .to = LIST(char *, "192.0.2.66/32")};
    f.rules[1] = (struct rule_config){.action = RULE_ALLOW};
    relayd->keeps_closed = true;
    fixture_start(&f);
    int fd = bound_for("0.0.0.0:0");
    fake_relayd_send_connected(relayd, 1, "192.0.2.66:1");
    client_expect_reply(&f, fd, N1_REP_NOT_ALLOWED, NULL);
    client_expect_end(&f, fd);
    WAIT_FOR(&f, relayd->closes == 1);
    ck_assert_int_eq(relayd->last_close.reason, N2_REASON_POLICY);
    close(fd);
    fixture_settle(&f);
    ck_assert_uint_eq(f.set.count, 1); /* its record has still to be written */
    fake_relayd_send_closed(relayd, 1, N2_REASON_POLICY);
    WAIT_FOR(&f, f.set.count == 0);
    fd = bound_for("0.0.0.0:0");
    fake_relayd_send_connected(relayd, 2, "192.0.2.67:1");
    client_expect_reply(&f, fd, 0, "192.0.2.67:1");
    WAIT_FOR(&f, relayd->attached_count == 1);
    close(fd);
}
END_TEST

/* ---- it does not ----------------------------------------------------------------------------- */

/* N1-BIND-040 */
START_TEST(test_nobody_comes)
{
    fixture_start(&f);
    int fd = bound_for(PEER);
    fake_relayd_send_closed(relayd, 1, N2_REASON_ACCEPT_TIMEOUT);
    client_expect_reply(&f, fd, N1_REP_TTL_EXPIRED, NULL);
    client_expect_end(&f, fd);
    ck_assert_uint_eq(COUNT(&f, COUNTER_RELAYS_OPEN), 0);
    close(fd);
}
END_TEST

/* N1-BIND-040 */
START_TEST(test_relay_is_closed_while_waiting)
{
    fixture_start(&f);
    int fd = bound_for(PEER);
    fake_relayd_send_closed(relayd, 1, N2_REASON_ADMIN);
    client_expect_reply(&f, fd, N1_REP_GENERAL_FAILURE, NULL);
    client_expect_end(&f, fd);
    close(fd);
}
END_TEST

START_TEST(test_n2_loss_while_waiting)
{
    fixture_start(&f);
    int fd = bound_for(PEER);
    fake_relayd_drop_links(relayd);
    client_expect_reply(&f, fd, N1_REP_GENERAL_FAILURE, NULL);
    client_expect_end(&f, fd);
    close(fd);
}
END_TEST

/* While nobody has come the control connection holds the relay, as everywhere. */
static void client_ends(bool reset)
{
    const struct linger abort_it = {.l_onoff = 1, .l_linger = 0};
    relayd->keeps_closed = true;
    fixture_start(&f);
    int fd = bound_for(PEER);
    if (reset)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &abort_it, sizeof(abort_it));
    close(fd);
    WAIT_FOR(&f, relayd->closes == 1);
    ck_assert_int_eq(relayd->last_close.reason, N2_REASON_CONTROL_CLOSED);
    /* the peer came at that very moment: nobody is there to be told, and nothing is wrong */
    fake_relayd_send_connected(relayd, 1, PEER);
    fixture_settle(&f);
    ck_assert_uint_eq(fake_relayd_connected(relayd), 1);
    ck_assert_uint_eq(relayd->attached_count, 0);
    fake_relayd_send_closed(relayd, 1, N2_REASON_CONTROL_CLOSED);
    WAIT_FOR(&f, f.set.count == 0);
}

/* N1-BIND-050 */
START_TEST(test_fin_while_waiting)
{
    client_ends(false);
}
END_TEST

/* N1-BIND-050 */
START_TEST(test_reset_while_waiting)
{
    client_ends(true);
}
END_TEST

START_TEST(test_stop_while_waiting)
{
    fixture_start(&f);
    int fd = bound_for(PEER);
    session_set_stop(&f.set);
    WAIT_FOR(&f, relayd->closes == 1);
    ck_assert_int_eq(relayd->last_close.reason, N2_REASON_SHUTDOWN);
    WAIT_FOR(&f, f.set.count == 0);
    close(fd);
}
END_TEST

/* ---- relayd's faults ------------------------------------------------------------------------- */

/* N2-BIND-030 */
START_TEST(test_connected_for_a_dead_session)
{
    fixture_start(&f);
    fake_relayd_send_connected(relayd, 99, PEER);
    WAIT_FOR(&f, relayd->closes == 1);
    ck_assert_uint_eq(relayd->last_close.relay, 99);
    ck_assert_uint_eq(COUNT(&f, COUNTER_N2_UNKNOWN_RELAYS), 1);
    ck_assert_uint_eq(fake_relayd_connected(relayd), 1);
}
END_TEST

/* N2-BIND-030 */
START_TEST(test_connected_twice_ends_n2)
{
    fixture_start(&f);
    int fd = bound_for(PEER);
    fake_relayd_send_connected(relayd, 1, PEER);
    WAIT_FOR(&f, relayd->attached_count == 1);
    ck_assert_uint_eq(COUNT(&f, COUNTER_N2_LOSSES), 0);
    fake_relayd_send_connected(relayd, 1, PEER);
    WAIT_FOR(&f, COUNT(&f, COUNTER_N2_LOSSES) == 1);
    close(fd);
}
END_TEST

/* N2-BIND-030 */
START_TEST(test_peer_without_an_address_ends_n2)
{
    fixture_start(&f);
    int fd = bound_for(PEER);
    fake_relayd_send_connected(relayd, 1, "0.0.0.0:20");
    client_expect_reply(&f, fd, N1_REP_GENERAL_FAILURE, NULL);
    ck_assert_uint_eq(COUNT(&f, COUNTER_N2_LOSSES), 1);
    close(fd);
}
END_TEST

static Suite *bind_suite(void)
{
    Suite *suite = suite_create("bind");
    TCase *tests = tcase_create("bind");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, test_expected_peers);
    tcase_add_test(tests, test_refusals);
    tcase_add_test(tests, test_any_peer_needs_a_rule_for_all);
    tcase_add_test(tests, test_both_replies_and_handing_over);
    tcase_add_test(tests, test_early_data_is_bounded);
    tcase_add_test(tests, test_peer_is_judged);
    tcase_add_test(tests, test_nobody_comes);
    tcase_add_test(tests, test_relay_is_closed_while_waiting);
    tcase_add_test(tests, test_n2_loss_while_waiting);
    tcase_add_test(tests, test_fin_while_waiting);
    tcase_add_test(tests, test_reset_while_waiting);
    tcase_add_test(tests, test_stop_while_waiting);
    tcase_add_test(tests, test_connected_for_a_dead_session);
    tcase_add_test(tests, test_connected_twice_ends_n2);
    tcase_add_test(tests, test_peer_without_an_address_ends_n2);
    suite_add_tcase(suite, tests);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(bind_suite());
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
