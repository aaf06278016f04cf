/*
 * Packets that the kernel's program does not carry itself, or must not: fragments and options,
 * which relayd's sockets relay; strangers, and senders that are not who they say. proto/PLANE.md
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/ptcl.h"
#include "tests/harness/capture.h"
#include "tests/harness/craft.h"
#include "tests/harness/daemons.h"
#include "tests/harness/n1_client.h"
#include "tests/harness/traffic.h"
#include "tests/harness/wait.h"

#define DATAGRAM_MAX 65507
#define STRANGERS 50

static struct lab *lab;
static struct daemons daemons;

static void setup(void)
{
    const struct daemons_options options = {.relayd = {"plane: bpf"}};

    lab = lab_new();
    daemons = daemons_start(lab, &options);
}

static void teardown(void)
{
    daemons_stop(&daemons);
    lab_free(lab);
}

static struct association associate(int type, bool v6)
{
    const struct server_spec spec = {
        .kind = SERVER_ECHO, .type = type, .address = at(v6 ? LAB_TARGET_V6 : LAB_TARGET_V4, 0)};
    struct server *echo = server_start(lab, LAB_TARGET, &spec);

    return type == SOCK_STREAM ? association_tcp(lab, server_endpoint(echo))
                               : association_udp(lab, server_endpoint(echo));
}

/* ---- what relayd's sockets relay ---------------------------------------------------------------
 */

static void check_echo_of(const struct association *association, size_t length, uint64_t seed)
{
    static uint8_t sent[DATAGRAM_MAX], got[DATAGRAM_MAX + 1];
    struct pattern pattern = pattern_start(seed);

    pattern_next(&pattern, sent, length);
    ck_assert_int_eq(send(association->data, sent, length, 0), (ssize_t)length);
    ck_assert_int_eq(socket_receive(association->data, got, sizeof(got), PATIENCE_MS),
                     (ssize_t)length);
    ck_assert_mem_eq(got, sent, length);
}

/* PLANE-FRAG-010: datagrams that go through in fragments, there and back, and whole ones between
 * them, each counted once. */
START_TEST(fragmented_datagrams_arrive)
{
    static const size_t sizes[] = {DATAGRAM_MAX, 100, 1473, 9000, 1, 40000, DATAGRAM_MAX};
    struct association association = associate(SOCK_DGRAM, _i != 0);
    uint64_t octets = 0;

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        check_echo_of(&association, sizes[i], i);
        octets += sizes[i];
    }
    json_t *relay = daemons_relay_at(&daemons, association.bound);
    ck_assert_uint_eq(relay_number(relay, "up_bytes"), octets);
    ck_assert_uint_eq(relay_number(relay, "down_bytes"), octets);
    ck_assert_uint_eq(relay_number(relay, "up_packets"), 7);
    ck_assert_uint_eq(relay_number(relay, "down_packets"), 7);
    ck_assert_str_eq(relay_text(relay, "plane"), "bpf");
    json_decref(relay);
    ck_assert_uint_eq(daemons_counter(&daemons, "udp", "bpf_slow_datagrams"), 10);
    association_close(&association);
}
END_TEST

static void add_options(int fd, bool v6)
{
    static const uint8_t router_alert[] = {148, 4, 0, 0};
    static const uint8_t padding[8] = {0, 0, 1, 4, 0, 0, 0, 0};

    if (v6)
        ck_assert_int_eq(setsockopt(fd, IPPROTO_IPV6, IPV6_DSTOPTS, padding, sizeof(padding)), 0);
    else
        ck_assert_int_eq(setsockopt(fd, IPPROTO_IP, IP_OPTIONS, router_alert, sizeof(router_alert)),
                         0);
}

/* PLANE-FRAG-030 */
START_TEST(datagrams_with_options_arrive)
{
    struct association association = associate(SOCK_DGRAM, _i != 0);

    add_options(association.data, _i != 0);
    for (int i = 0; i < 5; i++)
        association_check_echo(&association);
    ck_assert_uint_eq(daemons_counter(&daemons, "udp", "bpf_options"), 5);
    ck_assert_uint_eq(daemons_counter(&daemons, "udp", "bpf_slow_datagrams"), 5);
    association_close(&association);
}
END_TEST

/* PLANE-FRAG-020: no connection comes about, and the counter says why. */
START_TEST(segments_with_options_are_counted)
{
    const struct server_spec spec = {.kind = SERVER_ECHO,
                                     .type = SOCK_STREAM,
                                     .address = at(_i != 0 ? LAB_TARGET_V6 : LAB_TARGET_V4, 0)};
    struct server *echo = server_start(lab, LAB_TARGET, &spec);
    const struct association_spec wanted = {
        .ptcl = PTCL_TCP,
        .source = at(_i != 0 ? LAB_CLIENT_V6 : LAB_CLIENT_V4, 0),
        .destination = server_endpoint(echo),
    };
    struct association association = association_open(lab, &wanted);

    add_options(association.data, _i != 0);
    ck_assert_int_eq(socket_connect(association.data, association.bound, 1500), -ETIMEDOUT);
    ck_assert_uint_ge(daemons_counter(&daemons, "tcp", "bpf_tcp_left"), 1);
    ck_assert_uint_eq(server_seen(echo).connections, 0);
    association_close(&association);
}
END_TEST

/* ---- who is not heard --------------------------------------------------------------------------
 */

/* A packet from wherever, put on the wire by a host that may lie. */
static void send_crafted(enum lab_place place, const struct craft *spec)
{
    static uint8_t packet[CRAFT_MAX];
    const bool v6 = spec->source.address.family == IP_V6;
    const size_t length = craft_build(spec, packet, sizeof(packet));
    const int fd = lab_socket(lab, place, v6 ? AF_INET6 : AF_INET, SOCK_RAW, IPPROTO_RAW);
    struct endpoint to = spec->destination;

    to.port = 0;
    socket_send_to(fd, to, packet, length);
    close(fd);
}

static struct craft packet_of(uint8_t protocol, struct endpoint from, struct endpoint to)
{
    return (struct craft){.source = from,
                          .destination = to,
                          .protocol = protocol,
                          .tcp_flags = CRAFT_SYN,
                          .sequence = 1,
                          .length = protocol == IPPROTO_UDP ? 4 : 0};
}

/* PLANE-STRANGER-010: not a packet in answer, to BND and to the egress port; and each is counted.
 * Bits: TCP, IPv6. */
START_TEST(strangers_hear_nothing)
{
    const bool tcp = (_i & 1) != 0, v6 = (_i & 2) != 0;
    const uint8_t protocol = tcp ? IPPROTO_TCP : IPPROTO_UDP;
    struct association association = associate(tcp ? SOCK_STREAM : SOCK_DGRAM, v6);
    struct capture *at_stranger = capture_start(lab, LAB_STRANGER, LAB_TO_RELAY);
    struct capture *at_client = capture_start(lab, LAB_CLIENT, LAB_TO_RELAY);
    const struct endpoint wrong_host = at(v6 ? LAB_STRANGER_V6 : LAB_STRANGER_V4, 4000);
    const struct endpoint wrong_port = at(v6 ? LAB_CLIENT_V6_2 : LAB_CLIENT_V4_2, 4000);
    const struct packet_match to_stranger = {.destination = wrong_host, .protocol = protocol},
                              to_client = {.destination = wrong_port};

    association_check_echo(&association);
    for (int i = 0; i < STRANGERS; i++) {
        const struct craft one = packet_of(protocol, wrong_host, association.bound);
        const struct craft other = packet_of(protocol, wrong_port, association.bound);
        send_crafted(LAB_STRANGER, &one);
        send_crafted(LAB_CLIENT, &other);
    }
    WAIT_UNTIL(daemons_relay_number(&daemons, association.bound, "drops") == 2 * STRANGERS,
               PATIENCE_MS);
    association_check_echo(&association);
    ck_assert_uint_eq(capture_count(at_stranger, &to_stranger), 0);
    ck_assert_uint_eq(capture_count(at_client, &to_client), 0);
    ck_assert_uint_eq(daemons_relay_number(&daemons, association.bound, "drops"), 2 * STRANGERS);
    association_close(&association);
}
END_TEST

/* PLANE-SPOOF-010: S's address and port, from another interface than S's; DST's likewise. */
START_TEST(who_comes_from_elsewhere_is_not_believed)
{
    const bool tcp = (_i & 1) != 0, v6 = (_i & 2) != 0;
    const uint8_t protocol = tcp ? IPPROTO_TCP : IPPROTO_UDP;
    struct association association = associate(tcp ? SOCK_STREAM : SOCK_DGRAM, v6);
    struct capture *at_target = capture_start(lab, LAB_TARGET, LAB_TO_RELAY);
    struct capture *at_client = capture_start(lab, LAB_CLIENT, LAB_TO_RELAY);
    const struct packet_match pings = {.protocol = protocol, .only_incoming = true};
    json_t *relay = daemons_relay_at(&daemons, association.bound);
    struct endpoint egress;
    size_t target, client;

    ck_assert_int_eq(endpoint_parse(relay_text(relay, "egress"), &egress), 0);
    json_decref(relay);
    association_check_echo(&association);
    target = capture_count(at_target, &pings);
    client = capture_count(at_client, &pings);
    lab_run(lab, LAB_STRANGER,
            "ip route replace 10.77.2.0/24 via 10.77.3.1 && ip route replace fd77:2::/64 via "
            "fd77:3::1");
    for (int i = 0; i < STRANGERS; i++) {
        const struct craft up = packet_of(protocol, association.source, association.bound);
        const struct craft down = packet_of(protocol, association.destination, egress);
        send_crafted(LAB_STRANGER, &up);
        send_crafted(LAB_STRANGER, &down);
    }
    WAIT_UNTIL(daemons_counter(&daemons, tcp ? "tcp" : "udp", "bpf_spoofed") == 2 * STRANGERS,
               PATIENCE_MS);
    ck_assert_uint_eq(capture_count(at_target, &pings), target);
    ck_assert_uint_eq(capture_count(at_client, &pings), client);
    association_check_echo(&association);
    association_close(&association);
}
END_TEST

int main(void)
{
    lab_require();
    TCase *packets = tcase_create("packets");
    tcase_set_timeout(packets, 60);
    tcase_add_checked_fixture(packets, setup, teardown);
    tcase_add_loop_test(packets, fragmented_datagrams_arrive, 0, 2);
    tcase_add_loop_test(packets, datagrams_with_options_arrive, 0, 2);
    tcase_add_loop_test(packets, segments_with_options_are_counted, 0, 2);
    tcase_add_loop_test(packets, strangers_hear_nothing, 0, 4);
    tcase_add_loop_test(packets, who_comes_from_elsewhere_is_not_believed, 0, 4);
    Suite *suite = suite_create("bpf_packets");
    suite_add_tcase(suite, packets);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
