/*
 * What a path does to the packets of a relay that the kernel carries: smaller MTUs on it, TTLs that
 * end on it, the errors that come back. proto/PLANE.md
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/ptcl.h"
#include "tests/harness/capture.h"
#include "tests/harness/daemons.h"
#include "tests/harness/far_network.h"
#include "tests/harness/n1_client.h"
#include "tests/harness/process.h"
#include "tests/harness/traffic.h"
#include "tests/harness/wait.h"

#define MIB (UINT64_C(1024) * 1024)
#define NEAR_MTU 1320 /* of the relay host's own link to the target, where a test wants it */

static struct lab *lab;
static struct daemons daemons;

static void setup(void)
{
    const struct daemons_options options = {.relayd = {"plane: bpf"}};

    lab = lab_new();
    far_network_add(lab);
    daemons = daemons_start(lab, &options);
}

static void teardown(void)
{
    daemons_stop(&daemons);
    lab_free(lab);
}

static int path_mtu(int fd, bool v6)
{
    int mtu = 0;
    socklen_t size = sizeof(mtu);

    ck_assert_int_eq(
        getsockopt(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_MTU : IP_MTU, &mtu, &size), 0);
    return mtu;
}

static void never_fragment(int fd, bool v6)
{
    const int wanted = v6 ? IPV6_PMTUDISC_DO : IP_PMTUDISC_DO;

    ck_assert_int_eq(setsockopt(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP,
                                v6 ? IPV6_MTU_DISCOVER : IP_MTU_DISCOVER, &wanted, sizeof(wanted)),
                     0);
}

/* DST behind the router, or on the relay host's own link. */
static struct endpoint target_address(bool far, bool v6)
{
    if (far)
        return at(v6 ? FAR_TARGET_V6 : FAR_TARGET_V4, 0);
    return at(v6 ? LAB_TARGET_V6 : LAB_TARGET_V4, 0);
}

static int narrow(bool far)
{
    if (far)
        return FAR_MTU;
    lab_run(lab, LAB_RELAY, "ip link set %s mtu %d", LAB_TO_TARGET, NEAR_MTU);
    return NEAR_MTU;
}

/* PLANE-PATH-010: a stream whose packets are too big for the path. Bits: IPv6, behind a router. */
START_TEST(a_stream_learns_the_path_s_mtu)
{
    const bool v6 = (_i & 1) != 0, far = (_i & 2) != 0;
    const struct server_spec spec = {
        .kind = SERVER_SINK, .type = SOCK_STREAM, .address = target_address(far, v6)};
    struct server *sink = server_start(lab, LAB_TARGET, &spec);
    struct association association = association_tcp(lab, server_endpoint(sink));
    const int mtu = narrow(far);

    /* Until relayd has heard of the new MTU of its link, packets get through. */
    const int64_t end = now_ms() + PATIENCE_MS;
    struct pattern pattern = pattern_start(7);
    uint64_t octets = 0;
    while (octets < 4 * MIB || (path_mtu(association.data, v6) != mtu && now_ms() < end)) {
        uint8_t chunk[16384];
        pattern_next(&pattern, chunk, sizeof(chunk));
        socket_send(association.data, chunk, sizeof(chunk));
        octets += sizeof(chunk);
    }
    ck_assert_int_eq(path_mtu(association.data, v6), mtu);
    shutdown(association.data, SHUT_WR);
    WAIT_UNTIL(server_seen(sink).ended == 1, PATIENCE_MS);
    ck_assert_uint_eq(server_seen(sink).octets, octets);
    ck_assert_uint_eq(server_seen(sink).hash, pattern_hash(7, octets));
    ck_assert_uint_ge(daemons_counter(&daemons, "tcp", far ? "bpf_icmp" : "bpf_too_big"), 1);
    association_close(&association);
}
END_TEST

/* The same for datagrams, whose sender is told. */
START_TEST(a_sender_of_datagrams_learns_the_path_s_mtu)
{
    const bool v6 = (_i & 1) != 0, far = (_i & 2) != 0;
    const struct server_spec spec = {
        .kind = SERVER_ECHO, .type = SOCK_DGRAM, .address = target_address(far, v6)};
    struct server *echo = server_start(lab, LAB_TARGET, &spec);
    struct association association = association_udp(lab, server_endpoint(echo));
    const int mtu = narrow(far), headers = (v6 ? 40 : 20) + 8;
    char datagram[1500] = {0};

    never_fragment(association.data, v6);
    association_check_echo(&association);
    ck_assert_int_eq(path_mtu(association.data, v6), 1500);
    /* Again and again: relayd may not have heard yet of the new MTU of its link. */
    WAIT_UNTIL(send(association.data, datagram, (size_t)(1500 - headers), 0) < 0 ||
                   path_mtu(association.data, v6) == mtu,
               PATIENCE_MS);
    ck_assert_int_eq(path_mtu(association.data, v6), mtu);
    /* What fits comes back, when the error and what came before it have been read. */
    WAIT_UNTIL(send(association.data, datagram, (size_t)(mtu - headers), 0) > 0, PATIENCE_MS);
    WAIT_UNTIL(socket_receive(association.data, datagram, sizeof(datagram), 100) == mtu - headers,
               PATIENCE_MS);
    ck_assert_uint_ge(daemons_counter(&daemons, "udp", far ? "bpf_icmp" : "bpf_too_big"), 1);
    association_close(&association);
}
END_TEST

/* PLANE-PATH-020: the relay is one hop, the router another, and the target tells that it is the
 * end. */
START_TEST(traceroute_counts_the_hops)
{
    const bool v6 = _i != 0;
    const struct n1_question question = {.server = at(v6 ? LAB_RELAY_V6 : LAB_RELAY_V4, 1080),
                                         .ptcl = PTCL_UDP,
                                         .source = at(v6 ? LAB_CLIENT_V6 : LAB_CLIENT_V4, 40000),
                                         .destination =
                                             at(v6 ? FAR_TARGET_V6 : FAR_TARGET_V4, 33434)};
    const char *relay = v6 ? LAB_RELAY_V6 : LAB_RELAY_V4;
    struct endpoint bound;
    int control;

    ck_assert_int_eq(n1_ask(lab, &question, &control, &bound), N1_REP_SUCCEEDED);
    lab_run(lab, LAB_CLIENT,
            "traceroute -%c -n -q 1 -N 1 -m 6 -w 5 -U -p %u --sport=40000 -s %s %s >%s/trace",
            v6 ? '6' : '4', bound.port, v6 ? LAB_CLIENT_V6 : LAB_CLIENT_V4, relay,
            lab_directory(lab));
    /* Three lines, each with the relay's address: it hides who is behind it, not how far. */
    lab_run(lab, LAB_CLIENT,
            "test $(tail -n +2 %s/trace | grep -c ' %s ') = 3 &&"
            "test $(tail -n +2 %s/trace | wc -l) = 3",
            lab_directory(lab), relay, lab_directory(lab));
    ck_assert_uint_eq(daemons_counter(&daemons, "udp", "bpf_ttl"), 1);
    ck_assert_uint_eq(daemons_counter(&daemons, "udp", "bpf_icmp"), 2);
    close(control);
}
END_TEST

/* PLANE-PATH-030: who sends to a closed port hears of it, and the relay goes on. */
START_TEST(a_closed_port_is_told_to_the_client)
{
    const bool v6 = _i != 0;
    struct association association =
        association_udp(lab, at(v6 ? FAR_TARGET_V6 : FAR_TARGET_V4, 9));
    char octet;

    ck_assert_int_eq(send(association.data, "x", 1, 0), 1);
    ck_assert_int_eq(socket_receive(association.data, &octet, 1, PATIENCE_MS), -ECONNREFUSED);
    ck_assert_uint_eq(daemons_relay_count(&daemons), 1);
    ck_assert_int_eq(send(association.data, "y", 1, 0), 1);
    ck_assert_int_eq(socket_receive(association.data, &octet, 1, PATIENCE_MS), -ECONNREFUSED);
    association_close(&association);
}
END_TEST

int main(void)
{
    lab_require();
    TCase *path = tcase_create("path");
    tcase_set_timeout(path, 60);
    tcase_add_checked_fixture(path, setup, teardown);
    tcase_add_loop_test(path, a_stream_learns_the_path_s_mtu, 0, 4);
    tcase_add_loop_test(path, a_sender_of_datagrams_learns_the_path_s_mtu, 0, 4);
    tcase_add_loop_test(path, traceroute_counts_the_hops, 0, 2);
    tcase_add_loop_test(path, a_closed_port_is_told_to_the_client, 0, 2);
    Suite *suite = suite_create("bpf_path");
    suite_add_tcase(suite, path);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
