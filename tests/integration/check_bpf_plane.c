/*
 * The BPF plane between real hosts: what it carries, what it refuses, and how relays share ports.
 */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/ptcl.h"
#include "tests/harness/capture.h"
#include "tests/harness/classic.h"
#include "tests/harness/daemons.h"
#include "tests/harness/n1_client.h"
#include "tests/harness/n2_client.h"
#include "tests/harness/traffic.h"
#include "tests/harness/wait.h"

#define MIB (UINT64_C(1024) * 1024)

static struct lab *lab;
static struct daemons daemons;

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

static void start(const char *plane, const char *override, const char *another)
{
    const struct daemons_options options = {.relayd = {plane, override, another}};
    daemons = daemons_start(lab, &options);
}

/* relayd alone, ordered by the test. */
static int start_for_orders(const char *ptcl, const char *override, const char *another)
{
    char name[32];
    const struct daemons_options options = {.relayd = {"plane: bpf", override, another},
                                            .no_socksd = true};
    daemons = daemons_start(lab, &options);
    snprintf(name, sizeof(name), "n2/%s.sock", ptcl);
    return n2_client_open(lab_path(lab, name));
}

static struct endpoint target_at(bool v6)
{
    return at(v6 ? LAB_TARGET_V6 : LAB_TARGET_V4, 0);
}

/* The relay's record says who carries it, and why. */
static void check_plane(const struct association *association, const char *plane,
                        const char *reason)
{
    json_t *relay = daemons_relay_at(&daemons, association->bound);
    ck_assert_ptr_nonnull(relay);
    ck_assert_str_eq(relay_text(relay, "plane"), plane);
    ck_assert_str_eq(relay_text(relay, "plane_reason"), reason);
    json_decref(relay);
}

/* ---- what is carried ---------------------------------------------------------------------------
 */

/* PLANE-LIFE-090: an echo of both protocols and families, with counters */
START_TEST(an_echo_is_carried)
{
    const bool tcp = (_i & 1) != 0, v6 = (_i & 2) != 0;
    const struct server_spec spec = {
        .kind = SERVER_ECHO, .type = tcp ? SOCK_STREAM : SOCK_DGRAM, .address = target_at(v6)};
    struct server *echo = server_start(lab, LAB_TARGET, &spec);
    start("plane: bpf", NULL, NULL);
    struct association association = tcp ? association_tcp(lab, server_endpoint(echo))
                                         : association_udp(lab, server_endpoint(echo));
    for (int i = 0; i < 5; i++)
        association_check_echo(&association);
    check_plane(&association, "bpf", "configured");
    json_t *relay = daemons_relay_at(&daemons, association.bound);
    ck_assert_uint_eq(relay_number(relay, "up_bytes"), 20);
    ck_assert_uint_eq(relay_number(relay, "down_bytes"), 20);
    ck_assert_uint_ge(relay_number(relay, "up_packets"), 5);
    if (!tcp)
        ck_assert_uint_eq(relay_number(relay, "down_packets"), 5);
    ck_assert_uint_eq(relay_number(relay, "drops"), 0);
    ck_assert_str_eq(relay_text(relay, "state"), "active");
    json_decref(relay);
    association_close(&association);
    WAIT_UNTIL(daemons_relay_count(&daemons) == 0, PATIENCE_MS);
}
END_TEST

START_TEST(streams_arrive_whole)
{
    const bool v6 = _i != 0;
    const struct server_spec spec = {.kind = SERVER_SOURCE,
                                     .type = SOCK_STREAM,
                                     .address = target_at(v6),
                                     .octets = 20 * MIB + 1,
                                     .seed = 3};
    struct server *source = server_start(lab, LAB_TARGET, &spec);
    uint64_t hash;
    start("plane: bpf", NULL, NULL);
    struct association association = association_tcp(lab, server_endpoint(source));
    ck_assert_uint_eq(stream_receive_to_end(association.data, &hash), spec.octets);
    ck_assert_uint_eq(hash, pattern_hash(3, spec.octets));
    stream_send_pattern(association.data, 4, 20 * MIB + 3);
    shutdown(association.data, SHUT_WR);
    WAIT_UNTIL(server_seen(source).ended == 1, PATIENCE_MS);
    ck_assert_uint_eq(server_seen(source).octets, 20 * MIB + 3);
    ck_assert_uint_eq(server_seen(source).hash, pattern_hash(4, 20 * MIB + 3));
    json_t *relay = daemons_relay_at(&daemons, association.bound);
    ck_assert_ptr_nonnull(relay); /* lingers */
    ck_assert_uint_ge(relay_number(relay, "up_bytes"), 20 * MIB + 3);
    ck_assert_uint_ge(relay_number(relay, "down_bytes"), 20 * MIB + 1);
    json_decref(relay);
    ck_assert_int_eq(socket_wait_end(association.control, PATIENCE_MS), SOCKET_FIN);
    association_close(&association);
}
END_TEST

/* ---- what is not -------------------------------------------------------------------------------
 */

/* PLANE-SLOT-070: with `plane: auto` sockets carry the rest, and say why */
START_TEST(the_rest_is_carried_by_sockets)
{
    struct server *echo = server_echo(lab, SOCK_STREAM);
    start("plane: auto", "interfaces: [client0, target0]", NULL);
    struct association association = association_tcp(lab, server_endpoint(echo));
    association_check_echo(&association);
    check_plane(&association, "bpf", "preferred");
    association_close(&association);

    /* S behind an interface without the program. */
    const struct association_spec spec = {.ptcl = PTCL_TCP,
                                          .place = LAB_STRANGER,
                                          .server = at(LAB_RELAY_V4, 1080),
                                          .source = at(LAB_STRANGER_V4, 0),
                                          .destination = server_endpoint(echo)};
    association = association_open(lab, &spec);
    association_connect(&association);
    association_check_echo(&association);
    check_plane(&association, "socket", "S: no attached interface leads there");
    association_close(&association);

    /* S on this host. */
    const struct association_spec local = {.ptcl = PTCL_TCP,
                                           .place = LAB_RELAY,
                                           .server = at(LAB_RELAY_V4, 1080),
                                           .source = at(LAB_RELAY_V4, 0),
                                           .destination = server_endpoint(echo)};
    association = association_open(lab, &local);
    association_connect(&association);
    association_check_echo(&association);
    check_plane(&association, "socket", "S: the peer is this host");
    association_close(&association);
}
END_TEST

/* PLANE-SLOT-070: with `plane: bpf` it is refused */
START_TEST(or_refused)
{
    struct n2_message order, answer;
    const int n2 = start_for_orders("tcp", "interfaces: [client0, target0]", NULL);
    const struct {
        struct endpoint source, destination;
        const char *text;
    } orders[] = {
        {at(LAB_STRANGER_V4, 5000), at(LAB_TARGET_V4, 80), "S: no attached interface leads there"},
        {at(LAB_CLIENT_V4, 5000), at(LAB_STRANGER_V4, 80),
         "DST: no attached interface leads there"},
        {at(LAB_CLIENT_V4, 5000), at(LAB_TARGET_V6, 80), "S and DST are of different families"},
        {at(LAB_RELAY_V4, 5000), at(LAB_TARGET_V4, 80), "S: the peer is this host"},
    };
    for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
        order = n2_client_order(i + 1, PTCL_TCP, orders[i].source, orders[i].destination);
        answer = n2_client_ask(n2, &order);
        ck_assert_int_eq(answer.type, N2_RELAY_FAILED);
        ck_assert_int_eq(answer.relay_failed.error, N2_ERROR_UNSUPPORTED);
        ck_assert_str_eq(answer.relay_failed.text, orders[i].text);
    }
    order = n2_client_order(10, PTCL_TCP, at(LAB_CLIENT_V4, 0), at(LAB_TARGET_V4, 80));
    order.open_relay.learn_source_port = true;
    answer = n2_client_ask(n2, &order);
    ck_assert_int_eq(answer.type, N2_RELAY_FAILED);
    ck_assert_str_eq(answer.relay_failed.text, "the port of S is to be learnt");
    order = n2_client_order(11, PTCL_TCP, at(LAB_CLIENT_V4, 5000), at(LAB_TARGET_V4, 80));
    order.open_relay.kind = N2_KIND_CONNECT;
    answer = n2_client_ask(n2, &order);
    ck_assert_int_eq(answer.type, N2_RELAY_FAILED);
    ck_assert_str_eq(answer.relay_failed.text, "the kernel carries TRANSPARENT alone");
    order = n2_client_order(12, PTCL_TCP, at(LAB_CLIENT_V4, 5000), at(LAB_TARGET_V4, 80));
    ck_assert_int_eq(n2_client_ask(n2, &order).type, N2_RELAY_OPENED);
    close(n2);
}
END_TEST

/* ---- ports -------------------------------------------------------------------------------------
 */

#define MANY 30

/* PLANE-SLOT-020, PLANE-SLOT-010 */
START_TEST(relays_share_ports_and_keep_apart)
{
    struct server *sinks[3];
    int clients[MANY];
    char text[16];
    const int n2 = start_for_orders("udp", "bind: {addresses: auto, ports: 20000-20001}",
                                    "egress: {addresses: auto, ports: 30000-30015}");
    for (size_t i = 0; i < 3; i++)
        sinks[i] = server_start(lab, LAB_TARGET,
                                &(struct server_spec){.kind = SERVER_ECHO,
                                                      .type = SOCK_DGRAM,
                                                      .address = at(LAB_TARGET_V4, 0)});
    for (uint16_t i = 0; i < MANY; i++) {
        const struct n2_message order = n2_client_order(
            i + 1U, PTCL_UDP, at(LAB_CLIENT_V4, 5000 + i), server_endpoint(sinks[i % 3]));
        const struct n2_message answer = n2_client_ask(n2, &order);
        ck_assert_msg(answer.type == N2_RELAY_OPENED, "%s", answer.relay_failed.text);
        clients[i] = socket_bound(lab, LAB_CLIENT, SOCK_DGRAM, at(LAB_CLIENT_V4, 5000 + i), NULL);
        ck_assert_int_eq(socket_connect(clients[i], answer.relay_opened.bound, 0), 0);
    }
    ck_assert_uint_eq(daemons_counter(&daemons, "udp", "bpf_bound_ports"), 2);
    for (int i = 0; i < MANY; i++) {
        snprintf(text, sizeof(text), "client %d", i);
        socket_send(clients[i], text, strlen(text));
    }
    for (int i = 0; i < MANY; i++) {
        char got[64];
        snprintf(text, sizeof(text), "client %d", i);
        const ssize_t length = socket_receive(clients[i], got, sizeof(got), PATIENCE_MS);
        ck_assert_int_eq(length, (ssize_t)strlen(text));
        ck_assert_mem_eq(got, text, strlen(text));
        ck_assert_int_eq(socket_receive(clients[i], got, sizeof(got), 0), -ETIMEDOUT);
        close(clients[i]);
    }
    close(n2);
}
END_TEST

/* PLANE-SLOT-020 */
START_TEST(pairs_of_egress_and_destination_are_unique)
{
    const int n2 = start_for_orders("tcp", "egress: {addresses: auto, ports: 30000-30002}", NULL);
    struct n2_message order, answer;
    for (uint64_t i = 1; i <= 3; i++) {
        order = n2_client_order(i, PTCL_TCP, at(LAB_CLIENT_V4, (uint16_t)(5000 + i)),
                                at(LAB_TARGET_V4, 80));
        ck_assert_int_eq(n2_client_ask(n2, &order).type, N2_RELAY_OPENED);
    }
    order = n2_client_order(4, PTCL_TCP, at(LAB_CLIENT_V4, 5004), at(LAB_TARGET_V4, 80));
    answer = n2_client_ask(n2, &order);
    ck_assert_int_eq(answer.type, N2_RELAY_FAILED);
    ck_assert_int_eq(answer.relay_failed.error, N2_ERROR_GENERAL);
    ck_assert_str_eq(answer.relay_failed.text, "egress: no port is left");
    ck_assert_uint_eq(daemons_counter(&daemons, "tcp", "bpf_open_failed"), 1);
    order = n2_client_order(5, PTCL_TCP, at(LAB_CLIENT_V4, 5004), at(LAB_TARGET_V4, 81));
    ck_assert_int_eq(n2_client_ask(n2, &order).type, N2_RELAY_OPENED);
    close(n2);
}
END_TEST

/* PLANE-SLOT-040: one egress port, one target, one connection after the other */
START_TEST(a_tombstone_is_not_in_the_way)
{
    struct server *echo = server_echo(lab, SOCK_STREAM);
    start("plane: bpf", "egress: {addresses: auto, ports: 30000-30000}", NULL);
    for (int i = 0; i < 5; i++) {
        struct association association = association_tcp(lab, server_endpoint(echo));
        association_check_echo(&association);
        ck_assert_uint_eq(server_seen(echo).peer.port, 30000);
        association_close(&association);
        WAIT_UNTIL(daemons_relay_count(&daemons) == 0, PATIENCE_MS);
        WAIT_UNTIL(server_seen(echo).ended + server_seen(echo).reset == (uint64_t)i + 1,
                   PATIENCE_MS);
    }
    ck_assert_uint_eq(daemons_counter(&daemons, "tcp", "bpf_tombstones"), 1);
    ck_assert_uint_eq(daemons_counter(&daemons, "tcp", "bpf_tombstones_evicted"), 4);
}
END_TEST

/* PLANE-SLOT-060 */
START_TEST(a_full_table_refuses_and_recovers)
{
    const int n2 = start_for_orders("udp", "limits: {relays: 3}", NULL);
    struct n2_message answer, closed;
    uint64_t relay = 0;
    for (uint16_t i = 1; i <= 4; i++) {
        const struct n2_message order =
            n2_client_order(i, PTCL_UDP, at(LAB_CLIENT_V4, 5000 + i), at(LAB_TARGET_V4, 80));
        answer = n2_client_ask(n2, &order);
        ck_assert_int_eq(answer.type, i <= 3 ? N2_RELAY_OPENED : N2_RELAY_FAILED);
        if (i <= 3)
            relay = answer.relay_opened.relay;
    }
    ck_assert_int_eq(answer.relay_failed.error, N2_ERROR_GENERAL);
    const struct n2_message end = {
        .type = N2_CLOSE_RELAY,
        .close_relay = {.relay = relay, .reason = N2_REASON_CONTROL_CLOSED}};
    n2_client_send(n2, &end);
    ck_assert(n2_client_receive(n2, &closed, PATIENCE_MS));
    ck_assert_int_eq(closed.type, N2_RELAY_CLOSED);
    const struct n2_message order =
        n2_client_order(10, PTCL_UDP, at(LAB_CLIENT_V4, 6000), at(LAB_TARGET_V4, 80));
    ck_assert_int_eq(n2_client_ask(n2, &order).type, N2_RELAY_OPENED);
    close(n2);
}
END_TEST

/* ---- strangers ---------------------------------------------------------------------------------
 */

static void flood(const struct association *association, unsigned packets)
{
    const int fd = socket_bound(lab, LAB_STRANGER, SOCK_DGRAM, at(LAB_STRANGER_V4, 0), NULL);
    for (unsigned i = 0; i < packets; i++)
        socket_send_to(fd, association->bound, "x", 1);
    close(fd);
}

/* PLANE-SLOT-080 */
START_TEST(strangers_are_counted_and_the_guard_hears_of_them)
{
    const bool closes = _i != 0;
    struct server *echo = server_echo(lab, SOCK_DGRAM);
    start("plane: bpf",
          closes ? "guard: {wrong-source-per-second: 100, action: close}"
                 : "guard: {wrong-source-per-second: 100, action: event}",
          NULL);
    struct association association = association_udp(lab, server_endpoint(echo));
    association_check_echo(&association);
    struct capture *capture = capture_start(lab, LAB_STRANGER, LAB_TO_RELAY);
    flood(&association, 50);
    WAIT_UNTIL(daemons_relay_number(&daemons, association.bound, "drops") == 50, PATIENCE_MS);
    ck_assert(!process_log_has(daemons.relayd_udp, "wrong-source-flood", NULL));
    flood(&association, 1000);
    WAIT_UNTIL(
        (flood(&association, 1), process_log_has(daemons.relayd_udp, "wrong-source-flood", NULL)),
        PATIENCE_MS);
    if (closes) {
        ck_assert_int_eq(socket_wait_end(association.control, PATIENCE_MS), SOCKET_FIN);
    } else {
        association_check_echo(&association);
        ck_assert_uint_gt(daemons_relay_number(&daemons, association.bound, "drops"), 1050);
    }
    ck_assert_uint_eq(capture_count(capture, &(struct packet_match){.protocol = IPPROTO_ICMP}), 0);
    ck_assert_uint_eq(capture_count(capture, &(struct packet_match){.protocol = IPPROTO_UDP,
                                                                    .only_incoming = true}),
                      0);
    association_close(&association);
}
END_TEST

int main(void)
{
    lab_require();
    Suite *suite = suite_create("bpf_plane");
    TCase *tcase = tcase_create("plane");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, an_echo_is_carried, 0, 4);
    tcase_add_loop_test(tcase, streams_arrive_whole, 0, 2);
    tcase_add_test(tcase, the_rest_is_carried_by_sockets);
    tcase_add_test(tcase, or_refused);
    tcase_add_test(tcase, relays_share_ports_and_keep_apart);
    tcase_add_test(tcase, pairs_of_egress_and_destination_are_unique);
    tcase_add_test(tcase, a_tombstone_is_not_in_the_way);
    tcase_add_test(tcase, a_full_table_refuses_and_recovers);
    tcase_add_loop_test(tcase, strangers_are_counted_and_the_guard_hears_of_them, 0, 2);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
