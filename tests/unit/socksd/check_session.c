/*
 * Sessions over real sockets: what each octet, each answer of relayd and each loss leads to.
 */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/ptcl.h"
#include "tests/unit/socksd/session_fixture.h"

static struct fixture f;

static void setup(void)
{
    fixture_init(&f);
}

static void teardown(void)
{
    fixture_stop(&f);
}

/* ---- the relay's life ------------------------------------------------------------------------ */

/* N2-TRANS-040, N2-TRANS-045: before anything else, a relay that opens for a session that is gone
 * must not live. */
START_TEST(test_stray_relay_is_closed)
{
    uint8_t request[N1_REQUEST_MAX];
    f.fake[0].answer = FAKE_HOLDS;
    fixture_start(&f);
    int fd = client_connect(&f);
    client_greet(&f, fd);
    client_send(fd, request,
                request_encode(request, sizeof(request), PTCL_TCP, TARGET, OWN_SOURCE));
    WAIT_FOR(&f, f.fake[0].held_count == 1);
    close(fd);
    WAIT_FOR(&f, f.set.count == 0 && f.fake[0].cancels == 1);
    ck_assert_uint_eq(f.fake[0].last_cancelled, f.fake[0].held[0].transaction);
    ck_assert_uint_eq(f.fake[0].closes, 0);
    f.fake[0].next_relay = 77;
    f.fake[0].answer = FAKE_OPENS;
    fake_relayd_answer_held(&f.fake[0]);
    WAIT_FOR(&f, f.fake[0].closes == 1);
    ck_assert_uint_eq(f.fake[0].last_close.relay, 77);
    ck_assert_uint_eq(COUNT(&f, COUNTER_N2_STRAY_RELAYS), 1);
    ck_assert_uint_eq(COUNT(&f, COUNTER_N2_STRAY_ANSWERS), 1);
    ck_assert_uint_eq(COUNT(&f, COUNTER_RELAYS_OPENED), 0);
}
END_TEST

START_TEST(test_stray_failure_is_dropped)
{
    uint8_t request[N1_REQUEST_MAX];
    f.fake[0].answer = FAKE_HOLDS;
    fixture_start(&f);
    int fd = client_connect(&f);
    client_greet(&f, fd);
    client_send(fd, request,
                request_encode(request, sizeof(request), PTCL_TCP, TARGET, OWN_SOURCE));
    WAIT_FOR(&f, f.fake[0].held_count == 1);
    close(fd);
    WAIT_FOR(&f, f.set.count == 0);
    f.fake[0].answer = FAKE_FAILS;
    fake_relayd_answer_held(&f.fake[0]);
    WAIT_FOR(&f, COUNT(&f, COUNTER_N2_STRAY_ANSWERS) == 1);
    ck_assert_uint_eq(f.fake[0].closes, 0);
    ck_assert_uint_eq(fake_relayd_connected(&f.fake[0]), 1);
}
END_TEST

START_TEST(test_order_carries_the_request)
{
    fixture_start(&f);
    int fd = client_connect(&f);
    client_ask(&f, fd, PTCL_TCP, TARGET, OWN_SOURCE, N1_REP_SUCCEEDED);
    const struct n2_open_relay *order = &f.fake[0].last_order;
    char text[ENDPOINT_TEXT_MAX];
    ck_assert_int_eq(order->kind, N2_KIND_TRANSPARENT);
    ck_assert_uint_eq(order->ptcl, PTCL_TCP);
    ck_assert_str_eq(endpoint_format(&order->source, text, sizeof(text)), "127.0.0.1:40000");
    ck_assert(!order->learn_source_port);
    ck_assert_uint_eq(order->destination_count, 1);
    ck_assert_str_eq(endpoint_format(&order->destinations[0], text, sizeof(text)), TARGET);
    ck_assert_str_eq(ip_address_format(&order->bound_hint, text, sizeof(text)), "127.0.0.1");
    ck_assert_str_eq(order->rule, "rule-1");
    ck_assert_uint_eq(COUNT(&f, COUNTER_RELAYS_OPEN), 1);
    close(fd);
}
END_TEST

/* The draft, section 4: the relay ends when the control connection does. */
static void end_by_client(bool reset)
{
    fixture_start(&f);
    int fd = client_connect(&f);
    client_ask(&f, fd, PTCL_TCP, TARGET, OWN_SOURCE, N1_REP_SUCCEEDED);
    const struct linger abort_it = {.l_onoff = 1, .l_linger = 0};
    if (reset)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &abort_it, sizeof(abort_it));
    close(fd);
    WAIT_FOR(&f, f.fake[0].closes == 1);
    ck_assert_uint_eq(f.fake[0].last_close.relay, 1);
    ck_assert_int_eq(f.fake[0].last_close.reason, N2_REASON_CONTROL_CLOSED);
    WAIT_FOR(&f, f.set.count == 0);
}

START_TEST(test_fin_of_client_closes_relay)
{
    end_by_client(false);
}
END_TEST

START_TEST(test_reset_of_client_closes_relay)
{
    end_by_client(true);
}
END_TEST

/* The session waits for the counters of its record; meanwhile the client's descriptor is gone. */
START_TEST(test_record_waits_for_relay_closed)
{
    f.fake[0].keeps_closed = true;
    fixture_start(&f);
    int fd = client_connect(&f);
    client_ask(&f, fd, PTCL_TCP, TARGET, OWN_SOURCE, N1_REP_SUCCEEDED);
    close(fd);
    WAIT_FOR(&f, f.fake[0].closes == 1);
    fixture_settle(&f);
    ck_assert_uint_eq(f.set.count, 1);
    fake_relayd_send_closed(&f.fake[0], 1, N2_REASON_CONTROL_CLOSED);
    WAIT_FOR(&f, f.set.count == 0);
}
END_TEST

START_TEST(test_relay_closed_ends_control_connection)
{
    fixture_start(&f);
    int fd = client_connect(&f);
    client_ask(&f, fd, PTCL_TCP, TARGET, OWN_SOURCE, N1_REP_SUCCEEDED);
    fake_relayd_send_closed(&f.fake[0], 1, N2_REASON_FINISHED);
    client_expect_end(&f, fd);
    close(fd);
    WAIT_FOR(&f, f.set.count == 0);
    ck_assert_uint_eq(f.fake[0].closes, 0);
}
END_TEST

START_TEST(test_messages_about_unknown_relays_are_counted)
{
    fixture_start(&f);
    fake_relayd_send_closed(&f.fake[0], 99, N2_REASON_FINISHED);
    WAIT_FOR(&f, COUNT(&f, COUNTER_N2_UNKNOWN_RELAYS) == 1);
    ck_assert_uint_eq(fake_relayd_connected(&f.fake[0]), 1);
}
END_TEST

START_TEST(test_events_of_relays_are_taken)
{
    fixture_start(&f);
    int fd = client_connect(&f);
    client_ask(&f, fd, PTCL_TCP, TARGET, OWN_SOURCE, N1_REP_SUCCEEDED);
    const struct n2_message event = {.type = N2_RELAY_EVENT,
                                     .relay_event = {1, N2_EVENT_TARGET_FIN, 0}};
    fake_relayd_send(&f.fake[0], &event);
    client_expect_silence(&f, fd);
    ck_assert_uint_eq(COUNT(&f, COUNTER_N2_UNKNOWN_RELAYS), 0);
    close(fd);
}
END_TEST

/* A relayd that gives one number to two relays would mix up two clients. */
START_TEST(test_relay_number_given_twice_ends_n2)
{
    fixture_start(&f);
    int first = client_connect(&f), second = client_connect(&f);
    client_ask(&f, first, PTCL_TCP, TARGET, OWN_SOURCE, N1_REP_SUCCEEDED);
    f.fake[0].next_relay = 1;
    client_ask(&f, second, PTCL_TCP, TARGET, OWN_SOURCE, N1_REP_GENERAL_FAILURE);
    client_expect_end(&f, first);
    ck_assert_uint_eq(COUNT(&f, COUNTER_N2_LOSSES), 1);
    close(first);
    close(second);
}
END_TEST

/* ---- N2 -------------------------------------------------------------------------------------- */

START_TEST(test_n2_loss_closes_control_connections)
{
    enum { CLIENTS = 200 };
    int fds[CLIENTS];
    fixture_start(&f);
    for (int i = 0; i < CLIENTS; i++) {
        fds[i] = client_connect(&f);
        client_ask(&f, fds[i], PTCL_TCP, TARGET, OWN_SOURCE, N1_REP_SUCCEEDED);
    }
    fake_relayd_drop_links(&f.fake[0]);
    for (int i = 0; i < CLIENTS; i++) {
        client_expect_end(&f, fds[i]);
        close(fds[i]);
    }
    ck_assert_uint_eq(COUNT(&f, COUNTER_RELAYS_LOST), CLIENTS);
    WAIT_FOR(&f, f.set.count == 0);
    /* The daemon comes back by itself. */
    WAIT_FOR(&f, COUNT(&f, COUNTER_N2_CONNECTED) == 1);
    int fd = client_connect(&f);
    client_ask(&f, fd, PTCL_TCP, TARGET, OWN_SOURCE, N1_REP_SUCCEEDED);
    close(fd);
}
END_TEST

START_TEST(test_n2_loss_before_the_answer)
{
    uint8_t request[N1_REQUEST_MAX];
    f.fake[0].answer = FAKE_HOLDS;
    fixture_start(&f);
    int fd = client_connect(&f);
    client_greet(&f, fd);
    client_send(fd, request,
                request_encode(request, sizeof(request), PTCL_TCP, TARGET, OWN_SOURCE));
    WAIT_FOR(&f, f.fake[0].held_count == 1);
    fake_relayd_drop_links(&f.fake[0]);
    client_expect(&f, fd, "\x05\x01\0\x01\0\0\0\0\0\0", 10);
    client_expect_end(&f, fd);
    close(fd);
}
END_TEST

START_TEST(test_failover_to_another_daemon)
{
    uint8_t request[N1_REQUEST_MAX];
    f.fakes = 2;
    f.fake[0].answer = f.fake[1].answer = FAKE_HOLDS;
    fixture_start(&f);
    int fd = client_connect(&f);
    client_greet(&f, fd);
    client_send(fd, request,
                request_encode(request, sizeof(request), PTCL_TCP, TARGET, OWN_SOURCE));
    WAIT_FOR(&f, f.fake[0].held_count + f.fake[1].held_count == 1);
    const int first = f.fake[0].held_count == 1 ? 0 : 1;
    fake_relayd_stop(&f.fake[first]);
    WAIT_FOR(&f, f.fake[!first].held_count == 1);
    f.fake[!first].answer = FAKE_OPENS;
    fake_relayd_answer_held(&f.fake[!first]);
    client_expect(&f, fd, "\x05\x00\0\x01\x7f\0\0\x01\x4e\x20", 10);
    ck_assert_uint_eq(COUNT(&f, COUNTER_N2_FAILOVERS), 1);
    close(fd);
}
END_TEST

START_TEST(test_draining_daemon_is_avoided)
{
    f.fakes = 2;
    f.fake[0].answer = FAKE_FAILS;
    f.fake[0].error = N2_ERROR_DRAINING;
    fixture_start(&f);
    for (int i = 0; i < 4; i++) {
        int fd = client_connect(&f);
        client_ask(&f, fd, PTCL_TCP, TARGET, OWN_SOURCE, N1_REP_SUCCEEDED);
        close(fd);
    }
    ck_assert_uint_le(f.fake[0].orders, 1);
    ck_assert_uint_eq(f.fake[1].orders, 4);
}
END_TEST

START_TEST(test_least_loaded_first)
{
    enum { CLIENTS = 10 };
    int fds[CLIENTS];
    f.fakes = 2;
    fixture_start(&f);
    for (int i = 0; i < CLIENTS; i++) {
        fds[i] = client_connect(&f);
        client_ask(&f, fds[i], PTCL_TCP, TARGET, OWN_SOURCE, N1_REP_SUCCEEDED);
    }
    ck_assert_uint_eq(f.fake[0].orders, CLIENTS / 2);
    ck_assert_uint_eq(f.fake[1].orders, CLIENTS / 2);
    for (int i = 0; i < CLIENTS; i++)
        close(fds[i]);
}
END_TEST

START_TEST(test_order_without_an_answer)
{
    f.config.limits.relay_timeout_ms = 50;
    f.fake[0].answer = FAKE_HOLDS;
    fixture_start(&f);
    int fd = client_connect(&f);
    client_ask(&f, fd, PTCL_TCP, TARGET, OWN_SOURCE, N1_REP_GENERAL_FAILURE);
    ck_assert_uint_eq(COUNT(&f, COUNTER_N2_TIMEOUTS), 1);
    /* It opens after all: nobody has it. */
    f.fake[0].answer = FAKE_OPENS;
    fake_relayd_answer_held(&f.fake[0]);
    WAIT_FOR(&f, f.fake[0].closes == 1);
    close(fd);
}
END_TEST

START_TEST(test_daemon_not_reachable)
{
    fixture_start(&f);
    fake_relayd_stop(&f.fake[0]);
    WAIT_FOR(&f, COUNT(&f, COUNTER_N2_CONNECTED) == 0);
    int fd = client_connect(&f);
    client_ask(&f, fd, PTCL_TCP, TARGET, OWN_SOURCE, N1_REP_GENERAL_FAILURE);
    close(fd);
}
END_TEST

START_TEST(test_daemon_of_another_ptcl_is_refused)
{
    fixture_start(&f);
    fake_relayd_drop_links(&f.fake[0]);
    f.fake[0].ptcl = PTCL_UDP;
    WAIT_FOR(&f, COUNT(&f, COUNTER_N2_REFUSED_PEERS) == 1);
    ck_assert_uint_eq(COUNT(&f, COUNTER_N2_CONNECTED), 0);
    int fd = client_connect(&f);
    client_ask(&f, fd, PTCL_TCP, TARGET, OWN_SOURCE, N1_REP_GENERAL_FAILURE);
    close(fd);
}
END_TEST

static void asks_socksd(enum n2_type type)
{
    struct n2_message message = {.type = type};
    fixture_start(&f);
    int fd = client_connect(&f);
    client_ask(&f, fd, PTCL_TCP, TARGET, OWN_SOURCE, N1_REP_SUCCEEDED);
    message.relay_connected.relay = 1;
    message.relay_connected.peer = f.fake[0].bound;
    fake_relayd_send(&f.fake[0], &message);
    WAIT_FOR(&f, COUNT(&f, COUNTER_N2_LOSSES) == 1);
    client_expect_end(&f, fd);
    close(fd);
}

START_TEST(test_unpermitted_message_ends_n2)
{
    asks_socksd(N2_RELAY_CONNECTED);
}
END_TEST

/* Above the high mark, clients that have not reached their relay are not read; below the low mark
 * they are again. */
START_TEST(test_congestion_pauses_new_clients)
{
    uint8_t request[N1_REQUEST_MAX];
    f.link.high_mark = 1;
    f.link.low_mark = 1;
    fixture_start(&f);
    int waiting = client_connect(&f);
    int fd = client_connect(&f);
    client_greet(&f, fd);
    fixture_settle(&f);
    client_send(fd, request,
                request_encode(request, sizeof(request), PTCL_TCP, TARGET, OWN_SOURCE));
    WAIT_FOR(&f, COUNT(&f, COUNTER_READ_PAUSES) > 0);
    client_expect(&f, fd, "\x05\x00\0\x01\x7f\0\0\x01\x4e\x20", 10);
    client_greet(&f, waiting);
    close(fd);
    close(waiting);
}
END_TEST

/* ---- time and amount ------------------------------------------------------------------------- */

START_TEST(test_handshake_timeout)
{
    f.config.limits.handshake_timeout_ms = 50;
    fixture_start(&f);
    int silent = client_connect(&f), slow = client_connect(&f), asked = client_connect(&f);
    client_greet(&f, slow);
    client_send(slow, "\x05\x04", 2);
    client_ask(&f, asked, PTCL_TCP, TARGET, OWN_SOURCE, N1_REP_SUCCEEDED);
    client_expect_end(&f, silent);
    client_expect_end(&f, slow);
    ck_assert_uint_eq(COUNT(&f, COUNTER_HANDSHAKE_TIMEOUTS), 2);
    client_expect_silence(&f, asked);
    close(silent);
    close(slow);
    close(asked);
}
END_TEST

/* After the answer the client may send what it likes, up to a limit; nothing of it is kept. */
START_TEST(test_octets_after_success_are_discarded)
{
    char junk[1024] = {0};
    fixture_start(&f);
    int fd = client_connect(&f);
    client_ask(&f, fd, PTCL_TCP, TARGET, OWN_SOURCE, N1_REP_SUCCEEDED);
    for (int i = 0; i < 32; i++) {
        client_send(fd, junk, sizeof(junk));
        fixture_settle(&f);
    }
    client_expect_silence(&f, fd);
    ck_assert_uint_eq(f.fake[0].closes, 0);
    close(fd);
    WAIT_FOR(&f, f.fake[0].closes == 1);
}
END_TEST

START_TEST(test_flood_closes)
{
    static char junk[SESSION_FLOOD_BYTES + 1];
    size_t sent = 0;
    fixture_start(&f);
    int fd = client_connect(&f);
    client_ask(&f, fd, PTCL_TCP, TARGET, OWN_SOURCE, N1_REP_SUCCEEDED);
    while (sent < sizeof(junk)) {
        const ssize_t n = send(fd, junk + sent, sizeof(junk) - sent, MSG_NOSIGNAL);
        sent += n > 0 ? (size_t)n : 0;
        uv_run(&f.loop, UV_RUN_NOWAIT);
    }
    WAIT_FOR(&f, f.fake[0].closes == 1);
    ck_assert_uint_eq(COUNT(&f, COUNTER_FLOODS), 1);
    client_expect_end(&f, fd);
    close(fd);
}
END_TEST

START_TEST(test_limit_of_sessions)
{
    f.config.limits.sessions = 2;
    fixture_start(&f);
    int first = client_connect(&f), second = client_connect(&f), third = client_connect(&f);
    client_expect_end(&f, third);
    client_greet(&f, first);
    client_greet(&f, second);
    ck_assert_uint_eq(COUNT(&f, COUNTER_SESSIONS_REFUSED_LIMIT), 1);
    close(first);
    WAIT_FOR(&f, f.set.count == 1);
    int fourth = client_connect(&f);
    client_greet(&f, fourth);
    close(second);
    close(third);
    close(fourth);
}
END_TEST

START_TEST(test_limit_of_an_address)
{
    f.config.limits.sessions_per_address = 1;
    fixture_start(&f);
    int first = client_connect(&f), second = client_connect(&f);
    client_expect_end(&f, second);
    client_greet(&f, first);
    ck_assert_uint_eq(COUNT(&f, COUNTER_SESSIONS_REFUSED_ADDRESS_LIMIT), 1);
    close(first);
    WAIT_FOR(&f, f.set.count == 0);
    int third = client_connect(&f);
    client_greet(&f, third);
    close(second);
    close(third);
}
END_TEST

/* ---- stopping -------------------------------------------------------------------------------- */

START_TEST(test_stop_closes_relays_and_waits_for_them)
{
    f.fake[0].keeps_closed = true;
    fixture_start(&f);
    int relaying = client_connect(&f), young = client_connect(&f);
    client_ask(&f, relaying, PTCL_TCP, TARGET, OWN_SOURCE, N1_REP_SUCCEEDED);
    session_set_stop(&f.set);
    WAIT_FOR(&f, f.fake[0].closes == 1);
    ck_assert_int_eq(f.fake[0].last_close.reason, N2_REASON_SHUTDOWN);
    client_expect_end(&f, relaying);
    client_expect_end(&f, young);
    fixture_settle(&f);
    ck_assert_uint_eq(f.set.count, 1);
    int late = client_connect(&f);
    client_expect_end(&f, late);
    fake_relayd_send_closed(&f.fake[0], 1, N2_REASON_SHUTDOWN);
    WAIT_FOR(&f, f.set.count == 0);
    close(relaying);
    close(young);
    close(late);
}
END_TEST

START_TEST(test_a_relaying_session_is_small)
{
    fixture_start(&f);
    int fd = client_connect(&f);
    client_ask(&f, fd, PTCL_TCP, TARGET, OWN_SOURCE, N1_REP_SUCCEEDED);
    ck_assert_ptr_null(f.set.handshaking);
    ck_assert_ptr_nonnull(f.set.others);
    ck_assert_ptr_null(f.set.others->handshake);
    close(fd);
}
END_TEST

static Suite *session_suite(void)
{
    Suite *suite = suite_create("session");
    TCase *relay = tcase_create("relay");
    tcase_add_checked_fixture(relay, setup, teardown);
    tcase_set_timeout(relay, 60);
    tcase_add_test(relay, test_stray_relay_is_closed);
    tcase_add_test(relay, test_stray_failure_is_dropped);
    tcase_add_test(relay, test_order_carries_the_request);
    tcase_add_test(relay, test_fin_of_client_closes_relay);
    tcase_add_test(relay, test_reset_of_client_closes_relay);
    tcase_add_test(relay, test_record_waits_for_relay_closed);
    tcase_add_test(relay, test_relay_closed_ends_control_connection);
    tcase_add_test(relay, test_messages_about_unknown_relays_are_counted);
    tcase_add_test(relay, test_events_of_relays_are_taken);
    tcase_add_test(relay, test_relay_number_given_twice_ends_n2);
    tcase_add_test(relay, test_n2_loss_closes_control_connections);
    tcase_add_test(relay, test_n2_loss_before_the_answer);
    tcase_add_test(relay, test_failover_to_another_daemon);
    tcase_add_test(relay, test_draining_daemon_is_avoided);
    tcase_add_test(relay, test_least_loaded_first);
    tcase_add_test(relay, test_order_without_an_answer);
    tcase_add_test(relay, test_daemon_not_reachable);
    tcase_add_test(relay, test_daemon_of_another_ptcl_is_refused);
    tcase_add_test(relay, test_unpermitted_message_ends_n2);
    tcase_add_test(relay, test_congestion_pauses_new_clients);
    suite_add_tcase(suite, relay);
    TCase *limits = tcase_create("limits");
    tcase_add_checked_fixture(limits, setup, teardown);
    tcase_set_timeout(limits, 60);
    tcase_add_test(limits, test_handshake_timeout);
    tcase_add_test(limits, test_octets_after_success_are_discarded);
    tcase_add_test(limits, test_flood_closes);
    tcase_add_test(limits, test_limit_of_sessions);
    tcase_add_test(limits, test_limit_of_an_address);
    tcase_add_test(limits, test_stop_closes_relays_and_waits_for_them);
    tcase_add_test(limits, test_a_relaying_session_is_small);
    suite_add_tcase(suite, limits);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(session_suite());
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
