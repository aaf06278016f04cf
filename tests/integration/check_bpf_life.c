/*
 * How relays of the BPF plane live and end, between real hosts: half-close, time-outs, resets,
 * tombstones, limits, and the peers that order them.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/ptcl.h"
#include "tests/harness/capture.h"
#include "tests/harness/daemons.h"
#include "tests/harness/n1_client.h"
#include "tests/harness/n2_client.h"
#include "tests/harness/traffic.h"
#include "tests/harness/wait.h"

#define PLANE_BPF_ALONE "plane: bpf"

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
    const struct daemons_options options = {.relayd = {PLANE_BPF_ALONE, relayd_override}};
    daemons = daemons_start(lab, &options);
}

static void open_pair(void)
{
    struct association_spec spec = {.ptcl = PTCL_TCP};
    listener = socket_listen(lab, LAB_TARGET, at(LAB_TARGET_V4, 0), &spec.destination);
    association = association_open(lab, &spec);
}

static void connect_pair(void)
{
    open_pair();
    association_connect(&association);
    target = socket_accept(listener, PATIENCE_MS, NULL);
}

static void close_pair(void)
{
    association_close(&association);
    close(target);
    close(listener);
}

static void expect(int fd, const char *text)
{
    char got[64];
    const size_t length = strlen(text);
    socket_receive_all(fd, got, length, PATIENCE_MS);
    ck_assert_mem_eq(got, text, length);
}

/* N1 has ended in order, and the record says why. */
static void check_ended(const char *reason)
{
    char field[64];
    snprintf(field, sizeof(field), "reason=%s", reason);
    ck_assert_int_eq(socket_wait_end(association.control, PATIENCE_MS), SOCKET_FIN);
    WAIT_UNTIL(process_log_has(daemons.socksd, "access", field, NULL), PATIENCE_MS);
    ck_assert_uint_eq(daemons_relay_count(&daemons), 0);
}

static bool told(const char *event)
{
    char field[64];
    snprintf(field, sizeof(field), "what=%s", event);
    return process_log_has(daemons.socksd, "relay-event", field, NULL);
}

/* Everything that is sent to the target's host is dropped there. */
static void silence_target(void)
{
    lab_run(lab, LAB_TARGET,
            "nft 'add table inet quiet; add chain inet quiet in { type filter hook input priority "
            "0; }; add rule inet quiet in tcp dport 1-65535 drop'");
}

/* ---- half-close --------------------------------------------------------------------------------
 */

/* PLANE-LIFE-040, PLANE-LIFE-050 */
START_TEST(the_client_may_end_first)
{
    uint64_t hash;
    start(NULL);
    connect_pair();
    stream_send_pattern(association.data, 1, 50000);
    shutdown(association.data, SHUT_WR);
    ck_assert_uint_eq(stream_receive_to_end(target, &hash), 50000);
    ck_assert_uint_eq(hash, pattern_hash(1, 50000));
    for (int i = 0; i < 3; i++) {
        socket_send(target, "later", 5);
        expect(association.data, "later");
        ck_assert_uint_eq(daemons_relay_count(&daemons), 1);
    }
    stream_send_pattern(target, 2, 50000);
    const int64_t before = now_ms();
    shutdown(target, SHUT_WR);
    ck_assert_uint_eq(stream_receive_to_end(association.data, &hash), 50000);
    ck_assert_uint_eq(hash, pattern_hash(2, 50000));
    check_ended("finished");
    ck_assert_int_ge(now_ms() - before, 900);
    ck_assert_int_le(now_ms() - before, 4500);
    close_pair();
}
END_TEST

/* PLANE-LIFE-040, PLANE-LIFE-050 */
START_TEST(the_target_may_end_first)
{
    uint64_t hash;
    start(NULL);
    connect_pair();
    shutdown(target, SHUT_WR);
    ck_assert_int_eq(socket_wait_end(association.data, PATIENCE_MS), SOCKET_FIN);
    WAIT_UNTIL(told("target-fin"), PATIENCE_MS);
    stream_send_pattern(association.data, 4, 50000);
    shutdown(association.data, SHUT_WR);
    ck_assert_uint_eq(stream_receive_to_end(target, &hash), 50000);
    ck_assert_uint_eq(hash, pattern_hash(4, 50000));
    check_ended("finished");
    close_pair();
}
END_TEST

/* PLANE-LIFE-040 */
START_TEST(a_half_closed_connection_that_is_silent)
{
    start("tcp: {fin-timeout: 3s}");
    connect_pair();
    shutdown(target, SHUT_WR);
    WAIT_UNTIL(told("target-fin"), PATIENCE_MS);
    const int64_t until = now_ms() + 5000;
    while (now_ms() < until) { /* traffic keeps it */
        socket_send(association.data, "x", 1);
        expect(target, "x");
        poll(NULL, 0, 100);
    }
    const int64_t before = now_ms();
    check_ended("fin-timeout");
    ck_assert_int_ge(now_ms() - before, 2500);
    close_pair();
}
END_TEST

/* ---- beginnings that fail ----------------------------------------------------------------------
 */

/* PLANE-LIFE-010 */
START_TEST(a_closed_port_answers_the_client_itself)
{
    start(NULL);
    const struct association_spec spec = {.ptcl = PTCL_TCP, .destination = at(LAB_TARGET_V4, 9)};
    struct capture *capture = capture_start(lab, LAB_TARGET, LAB_TO_RELAY);
    const struct packet_match tcp = {.protocol = IPPROTO_TCP};
    association = association_open(lab, &spec);
    ck_assert_uint_eq(capture_count(capture, &tcp), 0);
    ck_assert_int_eq(socket_connect(association.data, association.bound, PATIENCE_MS),
                     -ECONNREFUSED);
    WAIT_UNTIL(told("target-rst"), PATIENCE_MS);
    check_ended("target-reset");
    association_close(&association);
}
END_TEST

/* PLANE-LIFE-020, PLANE-LIFE-080 */
START_TEST(a_client_that_does_not_come)
{
    start("tcp: {accept-timeout: 1s}");
    open_pair();
    json_t *relay = daemons_relay_at(&daemons, association.bound);
    ck_assert_ptr_nonnull(relay);
    ck_assert_str_eq(relay_text(relay, "state"), "waiting");
    ck_assert_str_eq(relay_text(relay, "plane"), "bpf");
    json_decref(relay);
    check_ended("accept-timeout");
    close_pair();
}
END_TEST

/* PLANE-LIFE-030 */
START_TEST(a_target_that_does_not_answer)
{
    start("tcp: {connect-timeout: 1500ms}");
    open_pair();
    silence_target();
    const int64_t before = now_ms();
    ck_assert_int_eq(socket_connect(association.data, association.bound, 300), -ETIMEDOUT);
    check_ended("error");
    ck_assert_int_ge(now_ms() - before, 1400);
    ck_assert(told("target-unreachable"));
    close_pair();
}
END_TEST

/* PLANE-LIFE-080 */
START_TEST(active_with_the_first_packet)
{
    start(NULL);
    connect_pair();
    json_t *relay = NULL;
    WAIT_UNTIL((json_decref(relay), relay = daemons_relay_at(&daemons, association.bound),
                strcmp(relay_text(relay, "state"), "active") == 0),
               PATIENCE_MS);
    json_decref(relay);
    close_pair();
}
END_TEST

/* ---- resets and tombstones ---------------------------------------------------------------------
 */

/* PLANE-LIFE-060 */
START_TEST(resets_pass)
{
    start(NULL);
    connect_pair();
    socket_abort_on_close(association.data);
    close(association.data);
    association.data = -1;
    ck_assert_int_eq(socket_wait_end(target, PATIENCE_MS), SOCKET_RST);
    check_ended("client-reset");
    close_pair();
    connect_pair();
    socket_abort_on_close(target);
    close(target);
    ck_assert_int_eq(socket_wait_end(association.data, PATIENCE_MS), SOCKET_RST);
    check_ended("target-reset");
    ck_assert(told("target-rst"));
    target = -1;
    close_pair();
}
END_TEST

/* PLANE-SLOT-030 */
START_TEST(a_connection_that_is_cut_is_reset_at_both_ends)
{
    start(NULL);
    connect_pair();
    socket_send(association.data, "x", 1);
    expect(target, "x");
    close(association.control);
    association.control = -1;
    WAIT_UNTIL(daemons_relay_count(&daemons) == 0, PATIENCE_MS);
    ck_assert_uint_eq(daemons_counter(&daemons, "tcp", "bpf_tombstones"), 1);
    socket_send(association.data, "y", 1);
    ck_assert_int_eq(socket_wait_end(association.data, PATIENCE_MS), SOCKET_RST);
    socket_send(target, "z", 1);
    ck_assert_int_eq(socket_wait_end(target, PATIENCE_MS), SOCKET_RST);
    ck_assert_uint_ge(daemons_counter(&daemons, "tcp", "bpf_tombstone"), 2);
    close_pair();
}
END_TEST

/* PLANE-LIFE-050: the client's stack says so */
START_TEST(a_late_fin_is_acknowledged)
{
    start(NULL);
    connect_pair();
    shutdown(target, SHUT_WR);
    ck_assert_int_eq(socket_wait_end(association.data, PATIENCE_MS), SOCKET_FIN);
    /* The acknowledgment of the client's FIN is lost. */
    lab_run(lab, LAB_CLIENT,
            "nft 'add table inet lossy; add chain inet lossy in { type filter hook input priority "
            "0; }; add rule inet lossy in tcp sport %u drop'",
            association.bound.port);
    shutdown(association.data, SHUT_WR);
    ck_assert_int_eq(socket_wait_end(target, PATIENCE_MS), SOCKET_FIN);
    lab_run(lab, LAB_CLIENT, "nft flush ruleset");
    struct tcp_info info = {.tcpi_state = 0};
    socklen_t length = sizeof(info);
    WAIT_UNTIL(getsockopt(association.data, IPPROTO_TCP, TCP_INFO, &info, &length) == 0 &&
                   (info.tcpi_state == TCP_CLOSE || info.tcpi_state == TCP_TIME_WAIT),
               3000);
    check_ended("finished");
    close_pair();
}
END_TEST

/* ---- datagrams ---------------------------------------------------------------------------------
 */

/* PLANE-LIFE-070 */
START_TEST(idle_datagrams)
{
    start("udp: {idle-timeout: 3s}");
    struct server *echo = server_echo(lab, SOCK_DGRAM);
    association = association_udp(lab, server_endpoint(echo));
    const int64_t until = now_ms() + 5000;
    while (now_ms() < until) {
        association_check_echo(&association);
        poll(NULL, 0, 200);
    }
    const int64_t before = now_ms();
    check_ended("idle-timeout");
    ck_assert_int_ge(now_ms() - before, 2000);
    association_close(&association);
}
END_TEST

/* PLANE-LIFE-130 */
START_TEST(datagrams_to_a_closed_port)
{
    char octet;
    start(NULL);
    association = association_udp(lab, at(LAB_TARGET_V4, 9));
    socket_send(association.data, "x", 1);
    ck_assert_int_eq(socket_receive(association.data, &octet, 1, PATIENCE_MS), -ECONNREFUSED);
    WAIT_UNTIL(told("target-unreachable"), PATIENCE_MS);
    ck_assert_uint_eq(daemons_relay_count(&daemons), 1);
    association_close(&association);
}
END_TEST

/* ---- orders of a peer --------------------------------------------------------------------------
 */

static struct endpoint opened_at(int n2, uint64_t number, uint16_t s, struct endpoint destination,
                                 const struct n2_limits *limits)
{
    struct n2_message order = n2_client_order(number, PTCL_UDP, at(LAB_CLIENT_V4, s), destination);
    if (limits != NULL)
        order.open_relay.limits = *limits;
    const struct n2_message answer = n2_client_ask(n2, &order);
    ck_assert_int_eq(answer.type, N2_RELAY_OPENED);
    ck_assert_int_eq(answer.relay_opened.plane, N2_PLANE_BPF);
    return answer.relay_opened.bound;
}

static int client_at(uint16_t s, struct endpoint bound)
{
    const int fd = socket_bound(lab, LAB_CLIENT, SOCK_DGRAM, at(LAB_CLIENT_V4, s), NULL);
    ck_assert_int_eq(socket_connect(fd, bound, 0), 0);
    return fd;
}

/* PLANE-LIMIT-010, PLANE-LIFE-090 */
START_TEST(the_limit_of_octets)
{
    static const uint8_t octets[100];
    struct n2_message closed;
    const struct daemons_options options = {.relayd = {PLANE_BPF_ALONE}, .no_socksd = true};
    daemons = daemons_start(lab, &options);
    struct server *sink = server_sink(lab, SOCK_DGRAM);
    const int n2 = n2_client_open(lab_path(lab, "n2/udp.sock"));
    const struct n2_limits limits = {.max_bytes = 1050};
    const struct endpoint bound = opened_at(n2, 1, 5001, server_endpoint(sink), &limits);
    const int fd = client_at(5001, bound);
    for (int i = 0; i < 12; i++)
        socket_send(fd, octets, sizeof(octets));
    ck_assert(n2_client_receive(n2, &closed, PATIENCE_MS));
    ck_assert_int_eq(closed.type, N2_RELAY_CLOSED);
    ck_assert_int_eq(closed.relay_closed.reason, N2_REASON_LIMIT);
    ck_assert_uint_eq(closed.relay_closed.counters.up_bytes, 1000);
    ck_assert_uint_eq(closed.relay_closed.counters.up_packets, 10);
    WAIT_UNTIL(server_seen(sink).octets == 1000, PATIENCE_MS);
    close(fd);
    close(n2);
}
END_TEST

/* PLANE-LIMIT-020, N2-LIMIT-010 */
START_TEST(the_rate_of_octets)
{
    static const uint8_t octets[1000];
    const struct n2_limits limits = {.bytes_per_second = 100000};
    const struct daemons_options options = {.relayd = {PLANE_BPF_ALONE}, .no_socksd = true};
    daemons = daemons_start(lab, &options);
    struct server *echo = server_echo(lab, SOCK_DGRAM);
    const int n2 = n2_client_open(lab_path(lab, "n2/udp.sock"));
    const int fd = client_at(5001, opened_at(n2, 1, 5001, server_endpoint(echo), &limits));
    const int64_t before = now_ms();
    for (int i = 0; i < 300; i++)
        socket_send(fd, octets, sizeof(octets));
    /* Each is carried or counted. */
    WAIT_UNTIL(server_seen(echo).messages + daemons_counter(&daemons, "udp", "bpf_rate") >= 300,
               PATIENCE_MS);
    const uint64_t first = server_seen(echo).messages;
    ck_assert_uint_ge(first, 100);
    ck_assert_int_le((int64_t)first, 100 + (now_ms() - before) / 10 + 1);
    /* The echo's direction has a bucket of its own; what the socket buffer holds is read. */
    for (int i = 0; i < 50; i++)
        ck_assert_int_eq(socket_receive(fd, (uint8_t[1000]){0}, 1000, PATIENCE_MS), 1000);
    /* Time brings more. */
    WAIT_UNTIL((socket_send(fd, octets, sizeof(octets)), server_seen(echo).messages > first),
               PATIENCE_MS);
    close(fd);
    close(n2);
}
END_TEST

/* PLANE-LIFE-110 */
START_TEST(a_lost_peer_takes_its_relays_along)
{
    const struct daemons_options options = {.relayd = {PLANE_BPF_ALONE}, .no_socksd = true};
    daemons = daemons_start(lab, &options);
    struct server *sinks[2];
    int n2[2], clients[2];
    for (int i = 0; i < 2; i++) /* first: what they inherit would stay open */
        sinks[i] = server_sink(lab, SOCK_DGRAM);
    for (uint16_t i = 0; i < 2; i++) {
        n2[i] = n2_client_open(lab_path(lab, "n2/udp.sock"));
        for (uint16_t j = 0; j < 100; j++)
            (void)opened_at(n2[i], 100 + j, (uint16_t)(7000 + 100 * i + j),
                            server_endpoint(sinks[i]), NULL);
        const uint16_t s = (uint16_t)(5000 + i);
        clients[i] = client_at(s, opened_at(n2[i], 1, s, server_endpoint(sinks[i]), NULL));
        socket_send(clients[i], "x", 1);
        WAIT_UNTIL(server_seen(sinks[i]).octets == 1, PATIENCE_MS);
    }
    close(n2[0]);
    WAIT_UNTIL(daemons_relay_count(&daemons) == 101, PATIENCE_MS);
    socket_send(clients[0], "y", 1);
    socket_send(clients[1], "y", 1);
    WAIT_UNTIL(server_seen(sinks[1]).octets == 2, PATIENCE_MS);
    ck_assert_uint_eq(server_seen(sinks[0]).octets, 1);
    WAIT_UNTIL(daemons_counter(&daemons, "udp", "bpf_rows") == 202, PATIENCE_MS);
    close(n2[1]);
    WAIT_UNTIL(daemons_counter(&daemons, "udp", "bpf_rows") == 0, PATIENCE_MS);
    WAIT_UNTIL(daemons_counter(&daemons, "udp", "bpf_bound_ports") == 0, PATIENCE_MS);
    close(clients[0]);
    close(clients[1]);
}
END_TEST

/* PLANE-LIFE-090: closed while packets are under way, again and again */
START_TEST(counters_are_exact)
{
    const struct daemons_options options = {.relayd = {PLANE_BPF_ALONE}, .no_socksd = true};
    daemons = daemons_start(lab, &options);
    const int n2 = n2_client_open(lab_path(lab, "n2/udp.sock"));
    struct server *sink = server_sink(lab, SOCK_DGRAM);
    uint64_t octets = 0, messages = 0;
    for (uint16_t i = 1; i <= 20; i++) {
        static const uint8_t data[333];
        struct n2_message order =
            n2_client_order(i, PTCL_UDP, at(LAB_CLIENT_V4, 5000 + i), server_endpoint(sink));
        const struct n2_message answer = n2_client_ask(n2, &order);
        ck_assert_int_eq(answer.type, N2_RELAY_OPENED);
        const int fd = client_at((uint16_t)(5000 + i), answer.relay_opened.bound);
        const struct n2_message end = {.type = N2_CLOSE_RELAY,
                                       .close_relay = {.relay = answer.relay_opened.relay,
                                                       .reason = N2_REASON_CONTROL_CLOSED}};
        struct n2_message closed;
        for (int j = 0; j < 200; j++) {
            if (j == 100)
                n2_client_send(n2, &end);
            socket_send(fd, data, sizeof(data));
        }
        ck_assert(n2_client_receive(n2, &closed, PATIENCE_MS));
        ck_assert_int_eq(closed.type, N2_RELAY_CLOSED);
        octets += closed.relay_closed.counters.up_bytes;
        messages += closed.relay_closed.counters.up_packets;
        ck_assert_uint_eq(closed.relay_closed.counters.up_bytes,
                          333 * closed.relay_closed.counters.up_packets);
        WAIT_UNTIL(server_seen(sink).messages >= messages, PATIENCE_MS);
        ck_assert_uint_eq(server_seen(sink).messages, messages);
        ck_assert_uint_eq(server_seen(sink).octets, octets);
        close(fd);
    }
    ck_assert_uint_ge(messages, 20 * 100);
    ck_assert_uint_ge(daemons_counter(&daemons, "udp", "bpf_strangers") +
                          daemons_counter(&daemons, "udp", "bpf_closed"),
                      1);
    close(n2);
}
END_TEST

int main(void)
{
    lab_require();
    const TTest *const tests[] = {the_client_may_end_first,
                                  the_target_may_end_first,
                                  a_half_closed_connection_that_is_silent,
                                  a_closed_port_answers_the_client_itself,
                                  a_client_that_does_not_come,
                                  a_target_that_does_not_answer,
                                  active_with_the_first_packet,
                                  resets_pass,
                                  a_connection_that_is_cut_is_reset_at_both_ends,
                                  a_late_fin_is_acknowledged,
                                  idle_datagrams,
                                  datagrams_to_a_closed_port,
                                  the_limit_of_octets,
                                  the_rate_of_octets,
                                  a_lost_peer_takes_its_relays_along,
                                  counters_are_exact};
    Suite *suite = suite_create("bpf_life");
    TCase *tcase = tcase_create("life");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, setup, teardown);
    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
        tcase_add_test(tcase, tests[i]);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
