/*
 * Every packet that leaves a relay, as the receivers' hardware would see it: all lengths and
 * checksums are looked at, and the receivers' kernels have nothing to complain of. proto/PLANE.md
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "proto/ptcl.h"
#include "tests/harness/capture.h"
#include "tests/harness/daemons.h"
#include "tests/harness/links.h"
#include "tests/harness/n1_client.h"
#include "tests/harness/netstat.h"
#include "tests/harness/packet_check.h"
#include "tests/harness/traffic.h"
#include "tests/harness/wait.h"
#include "tests/harness/wire.h"

#define MIB (UINT64_C(1024) * 1024)
#define SEGMENT 1200
#define SEGMENTS 20

static struct lab *lab;
static struct daemons daemons;
static struct capture *at_client, *at_target;
static bool v6;

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

static void start(void)
{
    const struct daemons_options options = {.relayd = {"plane: bpf"}};

    daemons = daemons_start(lab, &options);
    at_client = capture_start(lab, LAB_CLIENT, LAB_TO_RELAY);
    at_target = capture_start(lab, LAB_TARGET, LAB_TO_RELAY);
}

static struct endpoint target_address(void)
{
    return at(v6 ? LAB_TARGET_V6 : LAB_TARGET_V4, 0);
}

/* ---- traffic of every kind ---------------------------------------------------------------------
 */

static void stream_down(void)
{
    const struct server_spec spec = {.kind = SERVER_SOURCE,
                                     .type = SOCK_STREAM,
                                     .address = target_address(),
                                     .octets = 2 * MIB + 1,
                                     .seed = 3};
    struct association association =
        association_tcp(lab, server_endpoint(server_start(lab, LAB_TARGET, &spec)));
    uint64_t hash;

    ck_assert_uint_eq(stream_receive_to_end(association.data, &hash), spec.octets);
    ck_assert_uint_eq(hash, pattern_hash(spec.seed, spec.octets));
    association_close(&association);
}

static void stream_up(void)
{
    const struct server_spec spec = {
        .kind = SERVER_SINK, .type = SOCK_STREAM, .address = target_address()};
    struct server *sink = server_start(lab, LAB_TARGET, &spec);
    struct association association = association_tcp(lab, server_endpoint(sink));

    stream_send_pattern(association.data, 4, 2 * MIB + 3);
    shutdown(association.data, SHUT_WR);
    WAIT_UNTIL(server_seen(sink).ended == 1, PATIENCE_MS);
    ck_assert_uint_eq(server_seen(sink).hash, pattern_hash(4, 2 * MIB + 3));
    association_close(&association);
}

static void check_echo_of(const struct association *association, size_t length)
{
    static uint8_t sent[65536], got[65536];
    struct pattern pattern = pattern_start(length);

    pattern_next(&pattern, sent, length);
    ck_assert_int_eq(send(association->data, sent, length, 0), (ssize_t)length);
    ck_assert_int_eq(socket_receive(association->data, got, sizeof(got), PATIENCE_MS),
                     (ssize_t)length);
    ck_assert_mem_eq(got, sent, length);
}

/* One super-datagram, which goes through the relay whole where the hardware cuts it. */
static void send_segments(const struct association *association)
{
    static uint8_t data[SEGMENT * SEGMENTS], got[SEGMENT + 1];
    const int size = SEGMENT, none = 0;
    struct pattern pattern = pattern_start(77);

    pattern_next(&pattern, data, sizeof(data));
    ck_assert_int_eq(setsockopt(association->data, SOL_UDP, UDP_SEGMENT, &size, sizeof(size)), 0);
    ck_assert_int_eq(send(association->data, data, sizeof(data), 0), (ssize_t)sizeof(data));
    for (unsigned i = 0; i < SEGMENTS; i++) {
        ck_assert_int_eq(socket_receive(association->data, got, sizeof(got), PATIENCE_MS), SEGMENT);
        ck_assert_mem_eq(got, data + (size_t)i * SEGMENT, SEGMENT);
    }
    ck_assert_int_eq(setsockopt(association->data, SOL_UDP, UDP_SEGMENT, &none, sizeof(none)), 0);
}

static void datagrams(void)
{
    const struct server_spec spec = {
        .kind = SERVER_ECHO, .type = SOCK_DGRAM, .address = target_address()};
    struct association association =
        association_udp(lab, server_endpoint(server_start(lab, LAB_TARGET, &spec)));
    const int on = 1, off = 0;

    for (size_t length = 1; length < 1400; length += length < 40 ? 1 : 97)
        check_echo_of(&association, length);
    check_echo_of(&association, 9001); /* in fragments */
    send_segments(&association);
    if (!v6) { /* without a checksum: it stays so */
        ck_assert_int_eq(setsockopt(association.data, SOL_SOCKET, SO_NO_CHECK, &on, sizeof(on)), 0);
        check_echo_of(&association, 100);
        ck_assert_int_eq(setsockopt(association.data, SOL_SOCKET, SO_NO_CHECK, &off, sizeof(off)),
                         0);
    }
    association_close(&association);
}

static void errors(void)
{
    struct association association =
        association_udp(lab, at(v6 ? LAB_TARGET_V6 : LAB_TARGET_V4, 9));
    const size_t lengths[] = {0, 1, 2, 3, 100, 1101};
    static uint8_t data[1101];
    char octet;

    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        ck_assert_int_eq(send(association.data, data, lengths[i], 0), (ssize_t)lengths[i]);
        ck_assert_int_eq(socket_receive(association.data, &octet, 1, PATIENCE_MS), -ECONNREFUSED);
    }
    association_close(&association);
}

/* ---- what is looked at -------------------------------------------------------------------------
 */

struct verdict {
    size_t tcp, udp, icmp;
    const char *problem;
    size_t problems;
};

static bool judge(const struct packet *packet, void *user)
{
    struct verdict *verdict = user;

    if (packet->outgoing || packet->protocol == 0)
        return false;
    verdict->tcp += packet->protocol == IPPROTO_TCP;
    verdict->udp += packet->protocol == IPPROTO_UDP;
    verdict->icmp += packet->protocol == IPPROTO_ICMP ||
                     (packet->protocol == IPPROTO_ICMPV6 && packet->payload[0] < 128);
    const char *problem = packet_problem(packet->data, packet->data_length);
    if (problem != NULL) {
        verdict->problem = problem;
        verdict->problems++;
    }
    return false;
}

static struct verdict judge_all(struct capture *capture)
{
    struct verdict verdict = {0};

    capture_count_if(capture, judge, &verdict);
    return verdict;
}

/* With software at the relay's end of a link, what the capture shows is what was on the wire. */
static void check_wires(void)
{
    const struct verdict client = judge_all(at_client), target = judge_all(at_target);

    ck_assert_msg(client.problems == 0, "%zu packets to the client: %s", client.problems,
                  client.problem);
    ck_assert_msg(target.problems == 0, "%zu packets to the target: %s", target.problems,
                  target.problem);
    ck_assert_uint_gt(client.tcp, 2 * MIB / 1500);
    ck_assert_uint_gt(target.tcp, 2 * MIB / 1500);
    ck_assert_uint_gt(client.udp, 60);
    ck_assert_uint_gt(target.udp, 60);
    ck_assert_uint_ge(client.icmp, 6);
}

/* PLANE-PATH-090, PLANE-CSUM-010, -020, PLANE-ICMP-020. Bits: software instead of offloads at the
 * relay host, at the ends; IPv6. */
START_TEST(every_packet_is_right)
{
    const bool relay_in_software = (_i & 1) != 0, ends_in_software = (_i & 2) != 0;

    v6 = (_i & 4) != 0;
    if (relay_in_software) {
        link_offloads_off(lab, LAB_RELAY, LAB_TO_CLIENT);
        link_offloads_off(lab, LAB_RELAY, LAB_TO_TARGET);
    }
    if (ends_in_software) {
        link_offloads_off(lab, LAB_CLIENT, LAB_TO_RELAY);
        link_offloads_off(lab, LAB_TARGET, LAB_TO_RELAY);
    }
    start();
    stream_down();
    stream_up();
    datagrams();
    errors();
    if (relay_in_software)
        check_wires();
    ck_assert_uint_eq(netstat_checksum_errors(lab, LAB_CLIENT), 0);
    ck_assert_uint_eq(netstat_checksum_errors(lab, LAB_TARGET), 0);
    ck_assert_uint_eq(daemons_counter(&daemons, "tcp", "bpf_failed"), 0);
    ck_assert_uint_eq(daemons_counter(&daemons, "udp", "bpf_failed"), 0);
}
END_TEST

/* PLANE-CSUM-010: what was damaged before the relay is found by who receives it. Bits: TCP, IPv6.
 */
START_TEST(a_wrong_checksum_stays_wrong)
{
    const bool tcp = (_i & 1) != 0;

    v6 = (_i & 2) != 0;
    start();
    const struct server_spec spec = {
        .kind = SERVER_ECHO, .type = tcp ? SOCK_STREAM : SOCK_DGRAM, .address = target_address()};
    const struct endpoint echo = server_endpoint(server_start(lab, LAB_TARGET, &spec));
    struct association association = tcp ? association_tcp(lab, echo) : association_udp(lab, echo);
    struct wire wire = wire_to_relay(lab, LAB_CLIENT);
    const struct craft damaged = {.source = association.source,
                                  .destination = association.bound,
                                  .protocol = tcp ? IPPROTO_TCP : IPPROTO_UDP,
                                  .tcp_flags = CRAFT_ACK,
                                  .length = 100,
                                  .wrong = CRAFT_BAD_CHECKSUM};

    association_check_echo(&association);
    ck_assert_uint_eq(netstat_checksum_errors(lab, LAB_TARGET), 0);
    for (unsigned i = 1; i <= 10; i++) {
        wire_send_craft(&wire, &damaged);
        WAIT_UNTIL(netstat_checksum_errors(lab, LAB_TARGET) == i, PATIENCE_MS);
    }
    association_check_echo(&association);
    wire_close(&wire);
    association_close(&association);
}
END_TEST

int main(void)
{
    lab_require();
    TCase *checksums = tcase_create("checksums");
    tcase_set_timeout(checksums, 120);
    tcase_add_checked_fixture(checksums, setup, teardown);
    tcase_add_loop_test(checksums, every_packet_is_right, 0, 8);
    tcase_add_loop_test(checksums, a_wrong_checksum_stays_wrong, 0, 4);
    Suite *suite = suite_create("bpf_checksums");
    suite_add_tcase(suite, checksums);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
