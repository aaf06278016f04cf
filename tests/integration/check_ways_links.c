/*
 * Ways and hops follow the kernel's links and neighbours.
 */
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/net/sockaddr.h"
#include "tests/harness/sockets.h"
#include "tests/integration/ways_lab.h"

static struct ways_lab w;

static void setup(void)
{
    ways_lab_open(&w);
}

static void teardown(void)
{
    ways_lab_close(&w);
}

#define RELAY(...) lab_run(w.lab, LAB_RELAY, __VA_ARGS__)
#define TARGET(...) lab_run(w.lab, LAB_TARGET, __VA_ARGS__)

static uint32_t state_of(const struct way *way)
{
    return hop_of(&w, way)->state;
}

START_TEST(a_neighbour_s_address_is_followed)
{
    struct way *way = way_to(&w, LAB_TARGET_V4, NULL);
    const uint16_t row = way->hop;

    RELAY("ip neigh replace " LAB_TARGET_V4 " lladdr 02:00:00:00:00:01 dev " LAB_TO_TARGET);
    WAYS_UNTIL(&w, is_direct(&w, way, "02:00:00:00:00:01"));
    RELAY("ip neigh replace " LAB_TARGET_V4 " lladdr 06:05:04:03:02:01 dev " LAB_TO_TARGET);
    WAYS_UNTIL(&w, is_direct(&w, way, "06:05:04:03:02:01"));
    RELAY("ip neigh replace " LAB_TARGET_V4 " dev " LAB_TO_TARGET " nud failed");
    WAYS_UNTIL(&w, state_of(way) == BPF_HOP_ASK);
    RELAY("ip neigh replace " LAB_TARGET_V4 " lladdr 02:00:00:00:00:01 dev " LAB_TO_TARGET
          " nud stale");
    WAYS_UNTIL(&w, is_direct(&w, way, "02:00:00:00:00:01"));
    RELAY("ip neigh del " LAB_TARGET_V4 " dev " LAB_TO_TARGET);
    WAYS_UNTIL(&w, state_of(way) == BPF_HOP_ASK);
    /* Others' neighbours, and those that the host only answers for. */
    RELAY("ip neigh add proxy " LAB_TARGET_V4 " dev " LAB_TO_TARGET
          " && "
          "ip neigh add " LAB_TARGET_V4 " lladdr 02:00:00:00:00:09 dev " LAB_TO_CLIENT);
    ways_lab_settle(&w);
    ck_assert_uint_eq(state_of(way), BPF_HOP_ASK);
    /* None of it changes the way. */
    ck_assert_uint_eq(way->hop, row);
    ck_assert_uint_eq(w.changes, 0);
    ways_put(w.ways, way);
}
END_TEST

START_TEST(a_neighbour_that_is_known_before_the_way_is_direct_at_once)
{
    RELAY("ip neigh add " LAB_TARGET_V4 " lladdr 02:00:00:00:00:01 dev " LAB_TO_TARGET
          " && ip neigh add " LAB_TARGET_V6 " lladdr 02:00:00:00:00:02 dev " LAB_TO_TARGET
          " nud stale");
    struct way *v4 = way_to(&w, LAB_TARGET_V4, NULL), *v6 = way_to(&w, LAB_TARGET_V6, NULL);

    ck_assert(is_direct(&w, v4, "02:00:00:00:00:01"));
    ck_assert(is_direct(&w, v6, "02:00:00:00:00:02"));
    ways_put(w.ways, v4);
    ways_put(w.ways, v6);
}
END_TEST

/* The next hop's card is exchanged: it tells the link, and the kernel's entry changes. */
START_TEST(a_host_is_replaced_by_another)
{
    struct way *v4 = way_to(&w, LAB_TARGET_V4, NULL), *v6 = way_to(&w, LAB_TARGET_V6, NULL);

    disturb(&w, LAB_TARGET_V4);
    disturb(&w, LAB_TARGET_V6);
    const char *old = mac_of(&w, LAB_TARGET, LAB_TO_RELAY);
    WAYS_UNTIL(&w, is_direct(&w, v4, old) && is_direct(&w, v6, old));
    TARGET(
        "sysctl -qw net.ipv4.conf.relay0.arp_notify=1 net.ipv6.conf.relay0.ndisc_notify=1 && "
        "ip link set relay0 address 02:77:00:00:00:77");
    WAYS_UNTIL(&w, is_direct(&w, v4, "02:77:00:00:00:77"));
    WAYS_UNTIL(&w, is_direct(&w, v6, "02:77:00:00:00:77"));
    ck_assert_uint_eq(w.changes, 0);
    ways_put(w.ways, v4);
    ways_put(w.ways, v6);
}
END_TEST

START_TEST(a_host_that_vanishes_is_asked_for)
{
    struct way *way = way_to(&w, LAB_TARGET_V4_2, NULL);

    RELAY(
        "sysctl -qw net.ipv4.neigh.target0.retrans_time_ms=50 "
        "net.ipv4.neigh.target0.delay_first_probe_time=0 "
        "net.ipv4.neigh.target0.base_reachable_time_ms=100");
    disturb(&w, LAB_TARGET_V4_2);
    WAYS_UNTIL(&w, state_of(way) == BPF_HOP_DIRECT);
    TARGET("ip address del " LAB_TARGET_V4_2 "/24 dev relay0");
    WAYS_UNTIL(&w, (disturb(&w, LAB_TARGET_V4_2), state_of(way) == BPF_HOP_ASK));
    TARGET("ip address add " LAB_TARGET_V4_2 "/24 dev relay0");
    WAYS_UNTIL(&w, (disturb(&w, LAB_TARGET_V4_2), state_of(way) == BPF_HOP_DIRECT));
    ways_put(w.ways, way);
}
END_TEST

START_TEST(our_own_address_is_followed)
{
    RELAY("ip neigh add " LAB_TARGET_V4 " lladdr 02:00:00:00:00:01 dev " LAB_TO_TARGET);
    struct way *way = way_to(&w, LAB_TARGET_V4, NULL);

    ck_assert(is_direct(&w, way, "02:00:00:00:00:01"));
    /* The kernel forgets its neighbours there with it. */
    RELAY("ip link set " LAB_TO_TARGET " address 02:66:00:00:00:66");
    WAYS_UNTIL(&w, state_of(way) == BPF_HOP_ASK);
    RELAY("ip neigh add " LAB_TARGET_V4 " lladdr 02:00:00:00:00:01 dev " LAB_TO_TARGET);
    ck_assert_str_eq(mac_of(&w, LAB_RELAY, LAB_TO_TARGET), "02:66:00:00:00:66");
    WAYS_UNTIL(&w, is_direct(&w, way, "02:00:00:00:00:01"));
    ways_put(w.ways, way);
}
END_TEST

START_TEST(a_link_goes_down_and_comes_up)
{
    struct way *way = way_to(&w, LAB_TARGET_V4, NULL), *other = way_to(&w, LAB_CLIENT_V4, NULL);
    const uint16_t row = way->hop;

    RELAY("ip link set " LAB_TO_TARGET " down");
    WAYS_UNTIL(&w, w.hops[row].state == BPF_HOP_DOWN);
    WAYS_UNTIL(&w, way->interface == 0);
    ck_assert(leads(&w, other, LAB_TO_CLIENT, LAB_CLIENT_V4));
    RELAY("ip link set " LAB_TO_TARGET " up");
    WAYS_UNTIL(&w, leads(&w, way, LAB_TO_TARGET, LAB_TARGET_V4));
    ck_assert_uint_eq(state_of(way), BPF_HOP_ASK);
    disturb(&w, LAB_TARGET_V4);
    WAYS_UNTIL(&w, is_direct(&w, way, mac_of(&w, LAB_TARGET, LAB_TO_RELAY)));
    ways_put(w.ways, way);
    ways_put(w.ways, other);
}
END_TEST

/* Before any way is asked for again: the hop is what the packets see. */
START_TEST(a_hop_is_down_in_the_turn_that_hears_of_it)
{
    struct way *way = way_to(&w, LAB_TARGET_V4, NULL);

    ways_lab_settle(&w);
    const uint64_t asked = figure(&w, "ways_asked_again");
    RELAY("ip link set " LAB_TO_TARGET " down");
    while (state_of(way) != BPF_HOP_DOWN) {
        ck_assert_uint_eq(figure(&w, "ways_asked_again"), asked);
        ways_lab_turn(&w);
    }
    ck_assert_uint_eq(figure(&w, "ways_asked_again"), asked);
    ck_assert_uint_eq(figure(&w, "hops_down"), 1);
    ways_put(w.ways, way);
}
END_TEST

START_TEST(a_cable_is_pulled)
{
    struct way *way = way_to(&w, LAB_TARGET_V4, NULL);

    disturb(&w, LAB_TARGET_V4);
    WAYS_UNTIL(&w, state_of(way) == BPF_HOP_DIRECT);
    TARGET("ip link set relay0 down");
    WAYS_UNTIL(&w, state_of(way) == BPF_HOP_DOWN);
    TARGET("ip link set relay0 up");
    WAYS_UNTIL(&w, state_of(way) != BPF_HOP_DOWN);
    ways_put(w.ways, way);
}
END_TEST

START_TEST(a_device_is_deleted_and_made_again)
{
    static const char make[] =
        "ip link add eth9 index %u type veth peer name eth8 && ip link set eth8 up && "
        "ip link set eth9 up && ip address add 192.0.2.1/24 dev eth9";

    for (unsigned same = 0; same < 2; same++) {
        RELAY(make, 900);
        ways_lab_settle(&w); /* the number may be that of one that has gone */
        struct way *way = way_to(&w, "192.0.2.2", NULL);
        const uint16_t row = way->hop;

        ck_assert_uint_eq(way->interface, 900);
        RELAY("ip link del eth9");
        WAYS_UNTIL(&w, w.hops[row].state == BPF_HOP_DOWN);
        WAYS_UNTIL(&w, way->interface == 0);
        RELAY(make, same ? 900 : 901);
        WAYS_UNTIL(&w, way->interface == (same ? 900u : 901u));
        ck_assert_uint_eq(state_of(way), BPF_HOP_ASK);
        if (same) {
            ck_assert_uint_eq(way->hop, row);
        } else {
            ck_assert_uint_ne(way->hop, row);
            ck_assert_uint_eq(w.hops[row].state, BPF_HOP_DOWN);
        }
        ways_put(w.ways, way);
        RELAY("ip link del eth9");
        ways_lab_settle(&w);
    }
}
END_TEST

START_TEST(the_mtu_is_the_route_s_or_the_device_s)
{
    RELAY("ip route add 192.0.2.0/24 via " LAB_TARGET_V4
          " mtu 1400 && "
          "ip route add 2001:db8::/64 via " LAB_TARGET_V6
          " mtu 1350 && "
          "ip route add 198.51.100.0/24 via " LAB_TARGET_V4 " mtu 9000");
    struct way *route = way_to(&w, "192.0.2.1", NULL), *v6 = way_to(&w, "2001:db8::1", NULL);
    struct way *high = way_to(&w, "198.51.100.1", NULL);
    struct way *device = way_to(&w, LAB_TARGET_V4, NULL);

    ck_assert_uint_eq(hop_of(&w, route)->mtu, 1400);
    ck_assert_uint_eq(hop_of(&w, v6)->mtu, 1350);
    ck_assert_uint_eq(hop_of(&w, high)->mtu, 1500);
    ck_assert_uint_eq(hop_of(&w, device)->mtu, 1500);
    ck_assert_uint_eq(high->hop, device->hop);
    RELAY("ip link set " LAB_TO_TARGET " mtu 1300");
    WAYS_UNTIL(&w, hop_of(&w, route)->mtu == 1300 && hop_of(&w, device)->mtu == 1300);
    WAYS_UNTIL(&w, hop_of(&w, v6)->mtu == 1300);
    RELAY("ip link set " LAB_TO_TARGET " mtu 1500");
    WAYS_UNTIL(&w, hop_of(&w, route)->mtu == 1400 && hop_of(&w, device)->mtu == 1500);
    RELAY("ip route change 192.0.2.0/24 via " LAB_TARGET_V4 " mtu 1450");
    WAYS_UNTIL(&w, hop_of(&w, route)->mtu == 1450);
    ways_put(w.ways, route);
    ways_put(w.ways, v6);
    ways_put(w.ways, high);
    ways_put(w.ways, device);
}
END_TEST

START_TEST(ipv6_may_have_an_mtu_of_its_own)
{
    RELAY("sysctl -qw net.ipv6.conf." LAB_TO_TARGET ".mtu=1280");
    struct way *v6 = way_to(&w, LAB_TARGET_V6, NULL), *v4 = way_to(&w, LAB_TARGET_V4, NULL);

    ck_assert_uint_eq(hop_of(&w, v6)->mtu, 1280);
    ck_assert_uint_eq(hop_of(&w, v4)->mtu, 1500);
    ways_put(w.ways, v6);
    ways_put(w.ways, v4);
}
END_TEST

/* "Fragmentation needed" from the target about a datagram that the relay host is made to send. */
static void teach_path_mtu(uint16_t mtu)
{
    struct {
        struct icmphdr icmp;
        struct iphdr ip;
        struct udphdr udp;
    } error = {.icmp = {.type = ICMP_DEST_UNREACH, .code = ICMP_FRAG_NEEDED},
               .ip = {.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_UDP}};
    struct endpoint local, to = at("192.0.2.1", 9);
    const int fd = socket_bound(w.lab, LAB_RELAY, SOCK_DGRAM, at(LAB_EGRESS_V4, 0), &local);
    const int raw = lab_socket(w.lab, LAB_TARGET, AF_INET, SOCK_RAW, IPPROTO_ICMP);
    uint32_t sum = 0;

    ck_assert_int_eq(socket_connect(fd, to, PATIENCE_MS), 0);
    error.icmp.un.frag.mtu = htons(mtu);
    error.ip.tot_len = htons(1500);
    memcpy(&error.ip.saddr, local.address.bytes, 4);
    memcpy(&error.ip.daddr, to.address.bytes, 4);
    error.udp.source = htons(local.port);
    error.udp.dest = htons(to.port);
    for (size_t i = 0; i < sizeof(error); i += 2) {
        uint16_t word;
        memcpy(&word, (char *)&error + i, 2);
        sum += word;
    }
    sum = (sum & 0xffff) + (sum >> 16);
    error.icmp.checksum = (uint16_t) ~(sum + (sum >> 16));
    socket_send_to(raw, at(LAB_EGRESS_V4, 0), &error, sizeof(error));
    RELAY(
        "for i in $(seq 100); do ip route get 192.0.2.1 | grep -q 'mtu %u' && exit 0; "
        "sleep 0.05; done; exit 1",
        mtu);
    close(fd);
    close(raw);
}

START_TEST(what_the_host_has_learnt_for_itself_does_not_count)
{
    RELAY("ip route add 192.0.2.0/24 via " LAB_TARGET_V4 " mtu 1400");
    teach_path_mtu(1000);
    struct way *way = way_to(&w, "192.0.2.1", NULL);

    ck_assert_uint_eq(hop_of(&w, way)->mtu, 1400);
    ways_refresh(w.ways);
    ways_lab_settle(&w);
    ck_assert_uint_eq(hop_of(&w, way)->mtu, 1400);
    ways_put(w.ways, way);
}
END_TEST

START_TEST(a_tun_device_is_bare)
{
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI, .ifr_name = "tun9"};
    int fds[2];
    const int pid = (int)getpid();

    if (access("/dev/net/tun", R_OK | W_OK) != 0) {
        printf("not tested: no /dev/net/tun\n");
        return;
    }
    /* Made here, for the relay host's namespace: held by a descriptor. */
    fds[0] = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(fds[0], 0);
    ck_assert_int_eq(ioctl(fds[0], TUNSETIFF, &request), 0);
    char command[128];
    snprintf(command, sizeof(command), "ip link set tun9 netns /proc/%d/fd/%d", pid,
             lab_netns(w.lab, LAB_RELAY));
    ck_assert_int_eq(system(command), 0);
    RELAY(
        "ip address add 192.0.2.1/24 dev tun9 && ip link set tun9 up mtu 1400 && "
        "ip route add 198.51.100.0/24 via 192.0.2.9");
    struct way *one = way_to(&w, "192.0.2.2", NULL), *other = way_to(&w, "198.51.100.2", NULL);
    ck_assert_ptr_null(one->problem);
    ck_assert_uint_eq(state_of(one), BPF_HOP_BARE);
    ck_assert_uint_eq(hop_of(&w, one)->mtu, 1400);
    ck_assert_uint_eq(one->interface, index_of(&w, LAB_RELAY, "tun9"));
    /* Whoever is behind it: the same hop. */
    ck_assert_uint_eq(one->hop, other->hop);
    ck_assert_uint_eq(figure(&w, "hops_bare"), 1);
    close(fds[0]);
    WAYS_UNTIL(&w, w.hops[1].state == BPF_HOP_DOWN && one->interface == 0);
    ways_put(w.ways, one);
    ways_put(w.ways, other);
}
END_TEST

/* Upper devices are Ethernet like any other. */
START_TEST(devices_upon_devices)
{
    static const struct {
        const char *name, *make;
    } kinds[] = {
        {"vlan", "ip link add link " LAB_TO_TARGET " name upper9 type vlan id 7"},
        {"macvlan", "ip link add link " LAB_TO_TARGET " name upper9 type macvlan mode bridge"},
        {"bridge",
         "ip link add upper9 type bridge && ip link set " LAB_TO_STRANGER " master upper9"},
        {"bond", "ip link add upper9 type bond mode active-backup && ip link set " LAB_TO_STRANGER
                 " down && ip link set " LAB_TO_STRANGER " master upper9"},
    };

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (!can(&w, "%s", kinds[i].make)) {
            continue;
        }
        RELAY(
            "ip link set upper9 up && ip address add 192.0.2.1/24 dev upper9 && "
            "ip neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev upper9");
        struct way *way = way_to(&w, "192.0.2.2", NULL);
        ck_assert_msg(leads(&w, way, "upper9", "192.0.2.2"), "%s", kinds[i].name);
        WAYS_UNTIL(&w, is_direct(&w, way, "02:00:00:00:00:02"));
        /* A port that leaves a bridge is not the bridge that goes. */
        RELAY("ip link set " LAB_TO_STRANGER " nomaster");
        ways_lab_settle(&w);
        ck_assert_uint_ne(way->interface, 0);
        RELAY("ip link del upper9");
        WAYS_UNTIL(&w, way->interface == 0);
        ways_put(w.ways, way);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ways_links");
    TCase *tcase = tcase_create("ways_links");
    SRunner *runner = srunner_create(suite);
    int failed;

    lab_require();
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_neighbour_s_address_is_followed);
    tcase_add_test(tcase, a_neighbour_that_is_known_before_the_way_is_direct_at_once);
    tcase_add_test(tcase, a_host_is_replaced_by_another);
    tcase_add_test(tcase, a_host_that_vanishes_is_asked_for);
    tcase_add_test(tcase, our_own_address_is_followed);
    tcase_add_test(tcase, a_link_goes_down_and_comes_up);
    tcase_add_test(tcase, a_hop_is_down_in_the_turn_that_hears_of_it);
    tcase_add_test(tcase, a_cable_is_pulled);
    tcase_add_test(tcase, a_device_is_deleted_and_made_again);
    tcase_add_test(tcase, the_mtu_is_the_route_s_or_the_device_s);
    tcase_add_test(tcase, ipv6_may_have_an_mtu_of_its_own);
    tcase_add_test(tcase, what_the_host_has_learnt_for_itself_does_not_count);
    tcase_add_test(tcase, a_tun_device_is_bare);
    tcase_add_test(tcase, devices_upon_devices);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
