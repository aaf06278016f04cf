/*
 * How a TCP association lives and ends: half-close, back-pressure, time-outs, resets.
 */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/ptcl.h"
#include "tests/harness/daemons.h"
#include "tests/harness/n1_client.h"
#include "tests/harness/proc.h"
#include "tests/harness/traffic.h"
#include "tests/harness/wait.h"

#define MIB (UINT64_C(1024) * 1024)

static struct lab *lab;
static struct daemons daemons;

/* One association with the test itself as its target. */
static int listener = -1, target = -1;
static struct association association;

static void setup(void)
{
    lab = lab_new();
    daemons = (struct daemons){.lab = lab};
}

static void teardown(void)
{
    daemons_stop(&daemons);
    lab_free(lab);
}

static void start(const char *relayd_override)
{
    const struct daemons_options options = {.relayd = {relayd_override}};
    daemons = daemons_start(lab, &options);
}

/* Opened, dialled, not yet connected to BND. */
static void open_pair(void)
{
    struct association_spec spec = {.ptcl = PTCL_TCP};
    listener = socket_listen(lab, LAB_TARGET, at(LAB_TARGET_V4, 0), &spec.destination);
    association = association_open(lab, &spec);
    target = socket_accept(listener, PATIENCE_MS, NULL);
}

static void connect_pair(void)
{
    open_pair();
    association_connect(&association);
}

static void close_pair(void)
{
    association_close(&association);
    close(target);
    close(listener);
}

/* The relay is gone, N1 has ended in order, and the record says why. */
static void check_ended(const char *reason)
{
    char field[64];
    snprintf(field, sizeof(field), "reason=%s", reason);
    ck_assert_int_eq(socket_wait_end(association.control, PATIENCE_MS), SOCKET_FIN);
    WAIT_UNTIL(process_log_has(daemons.socksd, "access", field, NULL), PATIENCE_MS);
    ck_assert_uint_eq(daemons_relay_count(&daemons), 0);
    ck_assert_uint_eq(proc_sockets_at(process_pid(daemons.relayd_tcp), association.bound), 0);
    ck_assert_uint_eq(proc_sockets_to(process_pid(daemons.relayd_tcp), socket_local(listener)), 0);
}

static void expect(int fd, const char *text)
{
    char got[64];
    const size_t length = strlen(text);
    socket_receive_all(fd, got, length, PATIENCE_MS);
    ck_assert_mem_eq(got, text, length);
}

/* ---- half-close --------------------------------------------------------------------------------
 */

/* N1-LIFE-040, N1-END-010 */
START_TEST(the_client_may_end_first)
{
    uint64_t hash;
    start(NULL);
    connect_pair();
    stream_send_pattern(association.data, 1, 50000);
    shutdown(association.data, SHUT_WR);
    ck_assert_uint_eq(stream_receive_to_end(target, &hash), 50000);
    ck_assert_uint_eq(hash, pattern_hash(1, 50000));
    /* The other direction goes on, for more than one turn. */
    for (int i = 0; i < 3; i++) {
        socket_send(target, "later", 5);
        expect(association.data, "later");
        ck_assert_uint_eq(daemons_relay_count(&daemons), 1);
    }
    stream_send_pattern(target, 2, 50000);
    shutdown(target, SHUT_WR);
    ck_assert_uint_eq(stream_receive_to_end(association.data, &hash), 50000);
    ck_assert_uint_eq(hash, pattern_hash(2, 50000));
    check_ended("finished");
    close_pair();
}
END_TEST

/* N1-LIFE-040, N1-END-010 */
START_TEST(the_target_may_end_first)
{
    const struct server_spec spec = {.kind = SERVER_SOURCE,
                                     .type = SOCK_STREAM,
                                     .address = at(LAB_TARGET_V4, 0),
                                     .octets = 8 * MIB + 1,
                                     .seed = 3};
    struct server *source = server_start(lab, LAB_TARGET, &spec);
    uint64_t hash;
    start(NULL);
    association = association_tcp(lab, server_endpoint(source));
    ck_assert_uint_eq(stream_receive_to_end(association.data, &hash), spec.octets);
    ck_assert_uint_eq(hash, pattern_hash(3, spec.octets));
    WAIT_UNTIL(process_log_has(daemons.socksd, "relay-event", "what=target-fin", NULL),
               PATIENCE_MS);
    stream_send_pattern(association.data, 4, 8 * MIB + 3);
    shutdown(association.data, SHUT_WR);
    ck_assert_int_eq(socket_wait_end(association.control, PATIENCE_MS), SOCKET_FIN);
    WAIT_UNTIL(server_seen(source).ended == 1, PATIENCE_MS);
    ck_assert_uint_eq(server_seen(source).octets, 8 * MIB + 3);
    ck_assert_uint_eq(server_seen(source).hash, pattern_hash(4, 8 * MIB + 3));
    ck_assert(process_log_has(daemons.socksd, "access", "reason=finished", NULL));
    association_close(&association);
}
END_TEST

/* N1-LIFE-040, N2-RELAY-050: greeting and FIN of a target that does not wait for the client */
START_TEST(what_the_target_sent_before_the_client_came_is_kept)
{
    uint64_t hash;
    start(NULL);
    open_pair();
    socket_send(target, "greeting", 8);
    shutdown(target, SHUT_WR);
    WAIT_UNTIL(process_log_has(daemons.socksd, "relay-event", "what=target-fin", NULL),
               PATIENCE_MS);
    association_connect(&association);
    expect(association.data, "greeting");
    ck_assert_int_eq(socket_wait_end(association.data, PATIENCE_MS), SOCKET_FIN);
    socket_send(association.data, "answer", 6);
    shutdown(association.data, SHUT_WR);
    ck_assert_uint_eq(stream_receive_to_end(target, &hash), 6);
    check_ended("finished");
    close_pair();
}
END_TEST

/* ---- back-pressure -----------------------------------------------------------------------------
 */

/* Writes until nothing more is taken for a while; returns the octets. */
static uint64_t fill(int fd, struct pattern *pattern)
{
    uint8_t chunk[16384];
    uint64_t sent = 0;
    size_t left = 0;
    while (wait_fd(fd, POLLOUT, 300)) {
        if (left == 0) {
            pattern_next(pattern, chunk, sizeof(chunk));
            left = sizeof(chunk);
        }
        const ssize_t rc =
            send(fd, chunk + sizeof(chunk) - left, left, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (rc > 0) {
            sent += (uint64_t)rc;
            left -= (size_t)rc;
        }
        ck_assert_msg(sent < 64 * MIB, "no end of what is taken for a target that does not read");
    }
    return sent;
}

static void check_back_pressure(int from, int to)
{
    struct pattern pattern = pattern_start(5);
    const uint64_t before = proc_rss_kib(process_pid(daemons.relayd_tcp));
    const uint64_t sent = fill(from, &pattern);
    const uint64_t after = proc_rss_kib(process_pid(daemons.relayd_tcp));
    ck_assert_uint_gt(sent, 0);
    if (!built_with_sanitizer()) {
        ck_assert_msg(after < before + 4096, "relayd grew from %llu to %llu KiB",
                      (unsigned long long)before, (unsigned long long)after);
    }
    shutdown(from, SHUT_WR);
    uint64_t hash;
    ck_assert_uint_eq(stream_receive_to_end(to, &hash), sent);
    ck_assert_uint_eq(hash, pattern_hash(5, sent));
}

/* N1-LIFE-040: a slow receiver slows its sender down, and nothing is lost */
START_TEST(a_slow_receiver_slows_down_its_sender)
{
    start(NULL);
    connect_pair();
    check_back_pressure(association.data, target);
    check_back_pressure(target, association.data);
    check_ended("finished");
    close_pair();
}
END_TEST

/* N1-END-010: a reset is noticed also while nothing is read from that side */
START_TEST(a_reset_is_noticed_behind_back_pressure)
{
    struct pattern pattern = pattern_start(6);
    start(NULL);
    connect_pair();
    fill(association.data, &pattern);
    socket_abort_on_close(association.data);
    close(association.data);
    association.data = -1;
    check_ended("client-reset");
    ck_assert_int_eq(socket_wait_end(target, PATIENCE_MS), SOCKET_RST);
    close_pair();
}
END_TEST

/* ---- resets ------------------------------------------------------------------------------------
 */

/* N1-END-010, N1-REP-040 */
START_TEST(a_reset_of_the_target_is_passed_on)
{
    start(NULL);
    connect_pair();
    socket_send(association.data, "x", 1);
    expect(target, "x");
    socket_abort_on_close(target);
    close(target);
    target = -1;
    ck_assert_int_eq(socket_wait_end(association.data, PATIENCE_MS), SOCKET_RST);
    /* No octet on N1 before its end. */
    char octet;
    ck_assert_int_eq(socket_receive(association.control, &octet, 1, PATIENCE_MS), 0);
    check_ended("target-reset");
    ck_assert(process_log_has(daemons.socksd, "relay-event", "what=target-rst", NULL));
    close_pair();
}
END_TEST

/* N1-END-010 */
START_TEST(a_reset_of_the_client_is_passed_on)
{
    start(NULL);
    connect_pair();
    socket_send(association.data, "x", 1);
    expect(target, "x");
    socket_abort_on_close(association.data);
    close(association.data);
    association.data = -1;
    ck_assert_int_eq(socket_wait_end(target, PATIENCE_MS), SOCKET_RST);
    check_ended("client-reset");
    close_pair();
}
END_TEST

/* N1-END-010: also before the client has come */
START_TEST(a_reset_of_the_target_ends_a_relay_that_waits)
{
    start(NULL);
    open_pair();
    socket_abort_on_close(target);
    close(target);
    target = -1;
    check_ended("target-reset");
    ck_assert_int_eq(socket_connect(association.data, association.bound, PATIENCE_MS),
                     -ECONNREFUSED);
    close_pair();
}
END_TEST

/* Both ends read ECONNRESET in 100 ms: the best of several, others may want the processor. */
static void check_abort(void (*end_control)(void))
{
    int64_t best = INT64_MAX;
    start(NULL);
    for (int i = 0; i < 5; i++) {
        connect_pair();
        socket_send(association.data, "x", 1);
        expect(target, "x");
        const int64_t begun = now_us();
        end_control();
        ck_assert_int_eq(socket_wait_end(association.data, PATIENCE_MS), SOCKET_RST);
        ck_assert_int_eq(socket_wait_end(target, PATIENCE_MS), SOCKET_RST);
        const int64_t took = now_us() - begun;
        best = took < best ? took : best;
        close_pair();
    }
    ck_assert_msg(best < (built_with_sanitizer() ? 500000 : 100000), "%lld us", (long long)best);
    WAIT_UNTIL(process_log_count(daemons.socksd, "reason=control-closed") == 5, PATIENCE_MS);
}

static void close_control(void)
{
    close(association.control);
    association.control = -1;
}

static void half_close_control(void)
{
    shutdown(association.control, SHUT_WR);
}

/* N1-END-020, N1-LIFE-010 */
START_TEST(the_end_of_the_control_connection_resets_both_sides)
{
    check_abort(close_control);
}
END_TEST

/* N1-LIFE-020 */
START_TEST(a_half_closed_control_connection_is_a_closed_one)
{
    check_abort(half_close_control);
}
END_TEST

/* N1-END-020: an operator who stops the daemon */
START_TEST(a_stopped_daemon_resets_both_sides)
{
    start(NULL);
    connect_pair();
    process_stop(daemons.relayd_tcp);
    daemons.relayd_tcp = NULL;
    ck_assert_int_eq(socket_wait_end(association.data, PATIENCE_MS), SOCKET_RST);
    ck_assert_int_eq(socket_wait_end(target, PATIENCE_MS), SOCKET_RST);
    ck_assert_int_eq(socket_wait_end(association.control, PATIENCE_MS), SOCKET_FIN);
    close_pair();
}
END_TEST

/* ---- time-outs ---------------------------------------------------------------------------------
 */

/* N1-LIFE-030 */
START_TEST(a_client_that_does_not_come_is_not_waited_for)
{
    start("tcp: {accept-timeout: 2s}");
    const int64_t begun = now_ms();
    open_pair();
    ck_assert_int_eq(socket_wait_end(association.control, 300), SOCKET_OPEN);
    check_ended("accept-timeout");
    ck_assert_int_ge(now_ms() - begun, 1990);
    ck_assert_int_eq(socket_wait_end(target, PATIENCE_MS), SOCKET_RST);
    ck_assert_int_eq(socket_connect(association.data, association.bound, PATIENCE_MS),
                     -ECONNREFUSED);
    close_pair();
}
END_TEST

/* N1-LIFE-040 */
START_TEST(a_half_closed_connection_is_cut_when_it_is_silent)
{
    start("tcp: {fin-timeout: 600ms}");
    connect_pair();
    const int64_t begun = now_ms();
    shutdown(_i == 0 ? association.data : target, SHUT_WR);
    ck_assert_int_eq(socket_wait_end(_i == 0 ? target : association.data, PATIENCE_MS), SOCKET_FIN);
    check_ended("fin-timeout");
    ck_assert_int_ge(now_ms() - begun, 590);
    close_pair();
}
END_TEST

/* N1-LIFE-040 */
START_TEST(a_half_closed_connection_lives_while_octets_come)
{
    start("tcp: {fin-timeout: 2s}");
    connect_pair();
    shutdown(association.data, SHUT_WR);
    const int64_t begun = now_ms();
    while (now_ms() - begun < 3000) {
        socket_send(target, "x", 1);
        expect(association.data, "x");
        ck_assert_int_eq(socket_wait_end(association.control, 200), SOCKET_OPEN);
    }
    shutdown(target, SHUT_WR);
    check_ended("finished");
    close_pair();
}
END_TEST

/* N1-LIFE-040: an open connection has no such limit */
START_TEST(an_open_connection_may_be_silent)
{
    start("tcp: {fin-timeout: 2s, accept-timeout: 2s, connect-timeout: 2s}");
    connect_pair();
    ck_assert_int_eq(socket_wait_end(association.control, 3000), SOCKET_OPEN);
    socket_send(association.data, "x", 1);
    expect(target, "x");
    close_pair();
}
END_TEST

int main(void)
{
    lab_require();
    Suite *suite = suite_create("tcp-life");
    TCase *tcase = tcase_create("life and end");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, the_client_may_end_first);
    tcase_add_test(tcase, the_target_may_end_first);
    tcase_add_test(tcase, what_the_target_sent_before_the_client_came_is_kept);
    tcase_add_test(tcase, a_slow_receiver_slows_down_its_sender);
    tcase_add_test(tcase, a_reset_is_noticed_behind_back_pressure);
    tcase_add_test(tcase, a_reset_of_the_target_is_passed_on);
    tcase_add_test(tcase, a_reset_of_the_client_is_passed_on);
    tcase_add_test(tcase, a_reset_of_the_target_ends_a_relay_that_waits);
    tcase_add_test(tcase, the_end_of_the_control_connection_resets_both_sides);
    tcase_add_test(tcase, a_half_closed_control_connection_is_a_closed_one);
    tcase_add_test(tcase, a_stopped_daemon_resets_both_sides);
    tcase_add_test(tcase, a_client_that_does_not_come_is_not_waited_for);
    tcase_add_loop_test(tcase, a_half_closed_connection_is_cut_when_it_is_silent, 0, 2);
    tcase_add_test(tcase, a_half_closed_connection_lives_while_octets_come);
    tcase_add_test(tcase, an_open_connection_may_be_silent);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
