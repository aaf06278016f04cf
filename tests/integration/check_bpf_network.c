/*
 * What happens to the network under relays that the kernel carries: routes and next hops change,
 * links go down, VLANs, other rules on the host. proto/PLANE.md
 */
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
#define ELSEWHERE_V4 "10.77.9.9" /* an address of the target's, behind either of its links */
#define ELSEWHERE_V6 "fd77:9::9"
#define VLAN_RELAY_V4 "10.77.5.1"
#define VLAN_TARGET_V4 "10.77.5.2"
#define VLAN_TARGET_V6 "fd77:5::2"

static struct lab *lab;
static struct daemons daemons;

static void start(void)
{
    const struct daemons_options options = {.relayd = {"plane: bpf"}};

    daemons = daemons_start(lab, &options);
}

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

static struct server *echo_at(const char *address, int type)
{
    const struct server_spec spec = {.kind = SERVER_ECHO, .type = type, .address = at(address, 0)};

    return server_start(lab, LAB_TARGET, &spec);
}

static struct association associate(const struct server *server, bool tcp)
{
    return tcp ? association_tcp(lab, server_endpoint(server))
               : association_udp(lab, server_endpoint(server));
}

/* One octet there and back; datagrams are sent again and again, streams do that themselves. */
static bool echoes(const struct association *association)
{
    char octet = 'e';

    if (send(association->data, &octet, 1, MSG_DONTWAIT) != 1)
        return false;
    return socket_receive(association->data, &octet, 1,
                          association->ptcl == PTCL_TCP ? 3000 : 50) == 1;
}

/* ---- routes and next hops ----------------------------------------------------------------------
 */

static void add_elsewhere(void)
{
    far_network_add(lab);
    lab_run(lab, LAB_TARGET,
            "ip address add " ELSEWHERE_V4 "/32 dev lo && ip address add " ELSEWHERE_V6
            "/128 dev lo nodad");
    lab_run(lab, LAB_RELAY,
            "ip route add " ELSEWHERE_V4 " via " LAB_TARGET_V4 " && ip route add " ELSEWHERE_V6
            " via " LAB_TARGET_V6);
    lab_run(lab, LAB_STRANGER,
            "ip route add " ELSEWHERE_V4 " via " FAR_TARGET_V4 " && ip route add " ELSEWHERE_V6
            " via " FAR_TARGET_V6
            " && ip route add 10.77.2.1 via 10.77.3.1 && ip route add fd77:2::1 via fd77:3::1");
}

/* Both directions move: the target answers by the way that it was asked. */
static void reroute(void)
{
    lab_run(lab, LAB_RELAY,
            "ip route replace " ELSEWHERE_V4
            " via 10.77.3.2"
            " && ip route replace " ELSEWHERE_V6 " via fd77:3::2");
    lab_run(lab, LAB_TARGET,
            "ip route add " LAB_EGRESS_V4 " via " FAR_ROUTER_V4 " && ip route add " LAB_EGRESS_V6
            " via fd77:4::1");
}

/* PLANE-PATH-040: while the flow runs, and with the egress address that it had. Bits: TCP, IPv6. */
START_TEST(a_route_changes_under_a_relay)
{
    const bool tcp = (_i & 1) != 0, v6 = (_i & 2) != 0;
    struct capture *capture;
    struct packet_match match = {.source = at(v6 ? LAB_EGRESS_V6 : LAB_EGRESS_V4, 0),
                                 .protocol = tcp ? IPPROTO_TCP : IPPROTO_UDP};

    add_elsewhere();
    start();
    struct server *echo = echo_at(v6 ? ELSEWHERE_V6 : ELSEWHERE_V4, tcp ? SOCK_STREAM : SOCK_DGRAM);
    struct association association = associate(echo, tcp);
    association_check_echo(&association);
    capture = capture_start(lab, LAB_STRANGER, LAB_TO_RELAY);
    reroute();
    WAIT_UNTIL(echoes(&association), PATIENCE_MS);
    WAIT_UNTIL(echoes(&association) && capture_count(capture, &match) > 0, PATIENCE_MS);
    association_close(&association);
}
END_TEST

/* PLANE-PATH-050: the target is another machine now. The neighbour table finds out by itself, in
 * the time that it is told to take for that. */
START_TEST(a_next_hop_gets_another_address)
{
    const bool v6 = _i != 0;

    lab_run(lab, LAB_RELAY,
            "for f in ipv4 ipv6; do sysctl -qw net.$f.neigh.target0.delay_first_probe_time=1"
            " net.$f.neigh.target0.retrans_time_ms=100"
            " net.$f.neigh.target0.base_reachable_time_ms=500; done");
    start();
    struct server *echo = echo_at(v6 ? LAB_TARGET_V6 : LAB_TARGET_V4, SOCK_DGRAM);
    struct association association = associate(echo, false);
    association_check_echo(&association);
    lab_run(lab, LAB_TARGET,
            "sysctl -qw net.ipv4.conf.relay0.arp_notify=0 net.ipv6.conf.relay0.ndisc_notify=0 &&"
            "ip link set relay0 address 02:00:00:00:77:02");
    WAIT_UNTIL(echoes(&association), 2 * PATIENCE_MS);
    association_check_echo(&association);
    association_close(&association);
}
END_TEST

/* PLANE-PATH-050 */
START_TEST(a_neighbour_is_forgotten)
{
    const bool tcp = (_i & 1) != 0;

    start();
    struct server *echo = echo_at(LAB_TARGET_V4, tcp ? SOCK_STREAM : SOCK_DGRAM);
    struct association association = associate(echo, tcp);
    for (int i = 0; i < 20; i++) {
        lab_run(lab, LAB_RELAY, "ip neigh flush dev target0; ip neigh flush dev client0");
        association_check_echo(&association);
    }
    association_close(&association);
}
END_TEST

/* PLANE-PATH-060 */
START_TEST(a_link_goes_down_and_up)
{
    const bool tcp = (_i & 1) != 0;

    start();
    struct server *echo = echo_at(LAB_TARGET_V4, tcp ? SOCK_STREAM : SOCK_DGRAM);
    struct association association = associate(echo, tcp);
    association_check_echo(&association);
    for (int i = 0; i < 3; i++) {
        lab_run(lab, LAB_RELAY, "ip link set target0 down && ip link set target0 up");
        WAIT_UNTIL(echoes(&association), PATIENCE_MS);
    }
    ck_assert_uint_eq(daemons_relay_count(&daemons), 1);
    association_close(&association);
}
END_TEST

static bool kernel_has_vlans(void)
{
    static int result = -1;

    if (result < 0) {
        lab_run(lab, LAB_STRANGER,
                "ip link add link relay0 name tagged0 type vlan id 100 2>/dev/null;"
                "ip link show tagged0 >%s/vlan 2>/dev/null || rm -f %s/vlan",
                lab_directory(lab), lab_directory(lab));
        result = access(lab_path(lab, "vlan"), F_OK) == 0;
    }
    return result;
}

/* PLANE-PATH-070: the program is on the VLAN's device, and leaves the tagged packets on the device
 * below alone. */
START_TEST(vlan_devices_are_interfaces_like_others)
{
    const bool tcp = (_i & 1) != 0, v6 = (_i & 2) != 0;

    if (!kernel_has_vlans()) {
        printf("skipped: this kernel has no VLAN devices\n");
        return;
    }
    lab_run(lab, LAB_RELAY,
            "ip link add link target0 name tagged0 type vlan id 100 && ip link set tagged0 up &&"
            "ip address add " VLAN_RELAY_V4
            "/24 dev tagged0 &&"
            "ip address add fd77:5::1/64 dev tagged0 nodad");
    lab_run(lab, LAB_TARGET,
            "ip link add link relay0 name tagged0 type vlan id 100 && ip link set tagged0 up &&"
            "ip address add " VLAN_TARGET_V4
            "/24 dev tagged0 &&"
            "ip address add " VLAN_TARGET_V6 "/64 dev tagged0 nodad");
    start();
    struct server *echo =
        echo_at(v6 ? VLAN_TARGET_V6 : VLAN_TARGET_V4, tcp ? SOCK_STREAM : SOCK_DGRAM);
    struct association association = associate(echo, tcp);
    association_check_echo(&association);
    if (tcp) {
        static uint8_t back[MIB / 4];
        stream_send_pattern(association.data, 5, sizeof(back));
        socket_receive_all(association.data, back, sizeof(back), PATIENCE_MS);
        ck_assert_uint_eq(pattern_hash_more(PATTERN_HASH_START, back, sizeof(back)),
                          pattern_hash(5, sizeof(back)));
    }
    association_close(&association);
}
END_TEST

/* ---- the host's own rules ----------------------------------------------------------------------
 */

/* PLANE-PATH-080: rules that drop, NAT and connection tracking do not meet relayed packets; what is
 * the host's own does meet them. */
START_TEST(the_host_s_rules_do_not_meet_relayed_packets)
{
    lab_run(lab, LAB_RELAY,
            "nft -f - <<'.'\n"
            "table inet host {\n"
            "  chain in { type filter hook prerouting priority -300; policy accept;\n"
            "    iifname \"client0\" tcp dport 1080 accept\n"
            "    meta l4proto { tcp, udp } counter drop;\n"
            "  }\n"
            "  chain track { type filter hook forward priority 0; ct state new counter accept; }\n"
            "}\n"
            "table ip nat { chain post { type nat hook postrouting priority 100; masquerade; }; }\n"
            ".");
    start();
    for (int i = 0; i < 2; i++) {
        struct server *echo = echo_at(LAB_TARGET_V4, i == 0 ? SOCK_DGRAM : SOCK_STREAM);
        struct association association = associate(echo, i != 0);
        association_check_echo(&association);
        association_close(&association);
    }
    lab_run(lab, LAB_RELAY,
            "nft list table inet host >&2;"
            "nft list chain inet host in | grep -q 'packets 0 bytes 0 drop'");
}
END_TEST

int main(void)
{
    lab_require();
    TCase *network = tcase_create("network");
    tcase_set_timeout(network, 60);
    tcase_add_checked_fixture(network, setup, teardown);
    tcase_add_loop_test(network, a_route_changes_under_a_relay, 0, 4);
    tcase_add_loop_test(network, a_next_hop_gets_another_address, 0, 2);
    tcase_add_loop_test(network, a_neighbour_is_forgotten, 0, 2);
    tcase_add_loop_test(network, a_link_goes_down_and_up, 0, 2);
    tcase_add_loop_test(network, vlan_devices_are_interfaces_like_others, 0, 4);
    tcase_add_test(network, the_host_s_rules_do_not_meet_relayed_packets);
    Suite *suite = suite_create("bpf_network");
    suite_add_tcase(suite, network);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
