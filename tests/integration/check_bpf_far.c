/*
 * Ends of a relay behind routers: what the target learns of the client's path, TCP's traceroute,
 * and datagrams that relayd's own sockets send over narrower links. proto/PLANE.md
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
#include "tests/harness/traffic.h"
#include "tests/harness/wait.h"

#define MIB (UINT64_C(1024) * 1024)
#define NEAR_MTU 1320

static struct lab *lab;
static struct daemons daemons;

static void setup(void)
{
    const struct daemons_options options = {.relayd = {"plane: bpf"}};

    lab = lab_new();
    far_network_add(lab);
    far_network_add_client(lab);
    daemons = daemons_start(lab, &options);
}

static void teardown(void)
{
    daemons_stop(&daemons);
    lab_free(lab);
}

/* From the client's address behind the router, or from that on the relay host's own link. */
static struct association_spec specification(uint8_t ptcl, bool far, bool v6,
                                             struct endpoint destination)
{
    struct association_spec spec = {.ptcl = ptcl, .destination = destination};

    if (far) {
        spec.server = at(v6 ? FAR_RELAY_V6 : FAR_RELAY_V4, 1080);
        spec.source = at(v6 ? FAR_CLIENT_V6 : FAR_CLIENT_V4, 0);
    } else {
        spec.source = at(v6 ? LAB_CLIENT_V6 : LAB_CLIENT_V4, 0);
    }
    return spec;
}

static int path_mtu(int fd, bool v6)
{
    int mtu = 0;
    socklen_t size = sizeof(mtu);

    ck_assert_int_eq(
        getsockopt(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_MTU : IP_MTU, &mtu, &size), 0);
    return mtu;
}

/* ---- the way to the client ---------------------------------------------------------------------
 */

/* PLANE-PATH-010: the target sends more than the client's path takes. The client's interface knows
 * nothing of it, so TCP has not agreed on smaller segments. Bits: IPv6, behind a router. */
START_TEST(the_target_learns_the_client_s_mtu)
{
    const bool v6 = (_i & 1) != 0, far = (_i & 2) != 0;
    const int mtu = far ? FAR_MTU : NEAR_MTU;
    struct endpoint local;
    const int listener =
        socket_listen(lab, LAB_TARGET, at(v6 ? LAB_TARGET_V6 : LAB_TARGET_V4, 0), &local);
    const struct association_spec spec = specification(PTCL_TCP, far, v6, local);
    struct association association = association_open(lab, &spec);
    static uint8_t sent[16384], got[16384];

    association_connect(&association);
    const int fd = socket_accept(listener, PATIENCE_MS, NULL);
    ck_assert_int_eq(path_mtu(fd, v6), 1500);
    if (!far)
        lab_run(lab, LAB_RELAY, "ip link set %s mtu %d", LAB_TO_CLIENT, mtu);
    /* Again and again: until relayd has heard of its link's MTU, packets get through. */
    struct pattern pattern = pattern_start(11);
    const int64_t end = now_ms() + PATIENCE_MS;
    for (uint64_t octets = 0; octets < MIB || path_mtu(fd, v6) != mtu; octets += sizeof(sent)) {
        ck_assert_msg(now_ms() < end, "the path's MTU is %d", path_mtu(fd, v6));
        pattern_next(&pattern, sent, sizeof(sent));
        socket_send(fd, sent, sizeof(sent));
        socket_receive_all(association.data, got, sizeof(got), PATIENCE_MS);
        ck_assert_mem_eq(got, sent, sizeof(got));
    }
    ck_assert_uint_ge(daemons_counter(&daemons, "tcp", far ? "bpf_icmp" : "bpf_too_big"), 1);
    close(fd);
    close(listener);
    association_close(&association);
}
END_TEST

/* The same for datagrams that must not be fragmented. */
START_TEST(the_target_s_datagrams_learn_it)
{
    const bool v6 = (_i & 1) != 0, far = (_i & 2) != 0;
    const int mtu = far ? FAR_MTU : NEAR_MTU, headers = (v6 ? 40 : 20) + 8;
    const int never = v6 ? IPV6_PMTUDISC_DO : IP_PMTUDISC_DO;
    struct endpoint local, egress;
    const int fd = socket_bound(lab, LAB_TARGET, SOCK_DGRAM,
                                at(v6 ? LAB_TARGET_V6 : LAB_TARGET_V4, 0), &local);
    const struct association_spec spec = specification(PTCL_UDP, far, v6, local);
    struct association association = association_open(lab, &spec);
    static char datagram[1500];

    socket_send(association.data, "x", 1);
    ck_assert_int_eq(socket_receive_from(fd, datagram, 1, PATIENCE_MS, &egress), 1);
    ck_assert_int_eq(socket_connect(fd, egress, PATIENCE_MS), 0);
    ck_assert_int_eq(setsockopt(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP,
                                v6 ? IPV6_MTU_DISCOVER : IP_MTU_DISCOVER, &never, sizeof(never)),
                     0);
    if (!far)
        lab_run(lab, LAB_RELAY, "ip link set %s mtu %d", LAB_TO_CLIENT, mtu);
    WAIT_UNTIL(send(fd, datagram, (size_t)(1500 - headers), 0) < 0 || path_mtu(fd, v6) == mtu,
               PATIENCE_MS);
    ck_assert_int_eq(path_mtu(fd, v6), mtu);
    WAIT_UNTIL(send(fd, datagram, (size_t)(mtu - headers), 0) > 0, PATIENCE_MS);
    WAIT_UNTIL(socket_receive(association.data, datagram, sizeof(datagram), 100) == mtu - headers,
               PATIENCE_MS);
    close(fd);
    association_close(&association);
}
END_TEST

/* ---- traceroute over TCP -----------------------------------------------------------------------
 */

/* PLANE-PATH-020: SYNs with TTLs that end at the relay, at the router, at the target. */
START_TEST(traceroute_by_tcp)
{
    const bool v6 = _i != 0;
    struct endpoint local;
    const int listener =
        socket_listen(lab, LAB_TARGET, at(v6 ? FAR_TARGET_V6 : FAR_TARGET_V4, 0), &local);
    const char *relay = v6 ? LAB_RELAY_V6 : LAB_RELAY_V4,
               *client = v6 ? LAB_CLIENT_V6 : LAB_CLIENT_V4;
    const struct n1_question question = {.server = at(relay, 1080),
                                         .ptcl = PTCL_TCP,
                                         .source = at(client, 40000),
                                         .destination = local};
    struct endpoint bound;
    int control;

    ck_assert_int_eq(n1_ask(lab, &question, &control, &bound), N1_REP_SUCCEEDED);
    lab_run(lab, LAB_CLIENT,
            "traceroute -%c -n -q 1 -N 1 -m 6 -w 5 -T -p %u --sport=40000 -s %s %s >%s/trace",
            v6 ? '6' : '4', bound.port, client, relay, lab_directory(lab));
    lab_run(lab, LAB_CLIENT,
            "test $(tail -n +2 %s/trace | grep -c ' %s ') = 3 &&"
            "test $(tail -n +2 %s/trace | wc -l) = 3",
            lab_directory(lab), relay, lab_directory(lab));
    ck_assert_uint_eq(daemons_counter(&daemons, "tcp", "bpf_ttl"), 1);
    ck_assert_uint_eq(daemons_counter(&daemons, "tcp", "bpf_icmp"), 1);
    close(control);
    close(listener);
}
END_TEST

/* ---- fragments over narrower links -------------------------------------------------------------
 */

static uint8_t sent[65536], got[65536];

/* PLANE-FRAG-150: relayd's own fragments are too large for the path. With IPv4 the router cuts
 * them; with IPv6 the kernel has to learn it, from an error that the program must leave alone. */
START_TEST(fragments_fit_the_path)
{
    static const size_t sizes[] = {1453, 9000, 65507};
    const bool v6 = _i != 0;
    struct endpoint local, egress;
    const int fd = socket_bound(lab, LAB_TARGET, SOCK_DGRAM,
                                at(v6 ? FAR_TARGET_V6 : FAR_TARGET_V4, 0), &local);
    struct association association = association_udp(lab, local);

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        const ssize_t size = (ssize_t)sizes[i];
        struct pattern pattern = pattern_start(i);
        pattern_next(&pattern, sent, sizes[i]);
        /* What is under way when the path is learnt is lost, and a datagram in one piece is the
         * client's affair: it is told. */
        const int64_t end = now_ms() + PATIENCE_MS;
        do {
            ck_assert_msg(now_ms() < end, "%zu octets do not arrive", sizes[i]);
            ck_assert(send(association.data, sent, sizes[i], 0) == size || errno == EMSGSIZE);
        } while (socket_receive_from(fd, got, sizeof(got), 200, &egress) != size);
        ck_assert_mem_eq(got, sent, sizes[i]);
    }
    close(fd);
    association_close(&association);
}
END_TEST

/* PLANE-MTU-030: a datagram that fits the client's link and not the target's, and may be cut. */
START_TEST(a_datagram_that_may_be_cut_is_cut)
{
    struct endpoint local, egress;
    const int fd = socket_bound(lab, LAB_TARGET, SOCK_DGRAM, at(LAB_TARGET_V4, 0), &local);
    struct association association = association_udp(lab, local);
    const int never_df = IP_PMTUDISC_DONT;
    const struct packet_match match = {.protocol = IPPROTO_UDP, .only_incoming = true};

    ck_assert_int_eq(
        setsockopt(association.data, IPPROTO_IP, IP_MTU_DISCOVER, &never_df, sizeof(never_df)), 0);
    lab_run(lab, LAB_RELAY, "ip link set %s mtu %d", LAB_TO_TARGET, NEAR_MTU);
    struct capture *capture = capture_start(lab, LAB_TARGET, LAB_TO_RELAY);
    memset(sent, 'm', 1472);
    WAIT_UNTIL((socket_send(association.data, sent, 1472),
                daemons_counter(&daemons, "udp", "bpf_too_big") > 0),
               PATIENCE_MS);
    while (socket_receive_from(fd, got, sizeof(got), 300, &egress) == 1472)
        ck_assert_mem_eq(got, sent, 1472);
    const size_t before = capture_count(capture, &match);
    socket_send(association.data, sent, 1472);
    ck_assert_int_eq(socket_receive_from(fd, got, sizeof(got), PATIENCE_MS, &egress), 1472);
    ck_assert_mem_eq(got, sent, 1472);
    ck_assert_uint_eq(capture_count(capture, &match), before + 2);
    close(fd);
    association_close(&association);
}
END_TEST

int main(void)
{
    lab_require();
    TCase *far = tcase_create("far");
    tcase_set_timeout(far, 60);
    tcase_add_checked_fixture(far, setup, teardown);
    tcase_add_loop_test(far, the_target_learns_the_client_s_mtu, 0, 4);
    tcase_add_loop_test(far, the_target_s_datagrams_learn_it, 0, 4);
    tcase_add_loop_test(far, traceroute_by_tcp, 0, 2);
    tcase_add_loop_test(far, fragments_fit_the_path, 0, 2);
    tcase_add_test(far, a_datagram_that_may_be_cut_is_cut);
    Suite *suite = suite_create("bpf_far");
    suite_add_tcase(suite, far);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
