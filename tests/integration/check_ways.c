/*
 * Ways follow the kernel's routes.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

static void ck_local(const struct way *way, const char *expected)
{
    const struct endpoint local = {.address = way->local};

    ck_assert_msg(same_address(local, at(expected, 0)), "local is %s, not %s", show(local),
                  expected);
}

static void ck_problem(const struct way *way, const char *expected)
{
    ck_assert_msg(way->problem != NULL, "no problem; expected: %s", expected);
    ck_assert_msg(strstr(way->problem, expected) != NULL, "%s; expected: %s", way->problem,
                  expected);
    ck_assert_uint_eq(way->interface, 0);
    ck_assert_uint_eq(way->hop, 0);
}

START_TEST(a_peer_on_the_link)
{
    struct way *v4 = way_to(&w, LAB_CLIENT_V4, NULL), *v6 = way_to(&w, LAB_TARGET_V6, NULL);

    ck_assert(leads(&w, v4, LAB_TO_CLIENT, LAB_CLIENT_V4));
    ck_assert(leads(&w, v6, LAB_TO_TARGET, LAB_TARGET_V6));
    ck_local(v4, LAB_RELAY_V4);
    ck_local(v6, LAB_EGRESS_V6);
    ck_assert_uint_eq(hop_of(&w, v4)->mtu, 1500);
    ck_assert_uint_eq(hop_of(&w, v4)->state, BPF_HOP_ASK);
    ck_assert_uint_eq(w.hops[0].state, BPF_HOP_DOWN);
    disturb(&w, LAB_CLIENT_V4);
    disturb(&w, LAB_TARGET_V6);
    const char *client = mac_of(&w, LAB_CLIENT, LAB_TO_RELAY);
    const char *target = mac_of(&w, LAB_TARGET, LAB_TO_RELAY);
    WAYS_UNTIL(&w, is_direct(&w, v4, client) && is_direct(&w, v6, target));
    /* What a neighbour does is no change of a way. */
    ck_assert_uint_eq(w.changes, 0);
    ways_put(w.ways, v4);
    ways_put(w.ways, v6);
}
END_TEST

START_TEST(one_way_for_all_who_want_the_same)
{
    struct way *one = way_to(&w, LAB_CLIENT_V4, NULL), *same = way_to(&w, LAB_CLIENT_V4, NULL);
    struct way *other = way_to(&w, LAB_CLIENT_V4, LAB_RELAY_V4);

    ck_assert_ptr_eq(one, same);
    ck_assert_ptr_ne(one, other);
    ck_assert_uint_eq(one->hop, other->hop);
    ck_assert_uint_eq(figure(&w, "ways"), 2);
    ck_assert_uint_eq(figure(&w, "hops_ask"), 1);
    ways_put(w.ways, one);
    ck_assert_uint_eq(figure(&w, "ways"), 2);
    ways_put(w.ways, same);
    ways_put(w.ways, other);
    ways_put(w.ways, NULL);
    ck_assert_uint_eq(figure(&w, "ways"), 0);
    ck_assert_uint_eq(figure(&w, "hops_ask"), 0);
}
END_TEST

START_TEST(addresses_that_make_no_way_are_refused)
{
    const struct ip_address none = {0}, v4 = at(LAB_CLIENT_V4, 0).address;
    const struct ip_address v6 = at(LAB_RELAY_V6, 0).address;
    struct way *way;

    ck_assert_int_eq(ways_get(w.ways, &none, &none, &way), -EINVAL);
    ck_assert_int_eq(ways_get(w.ways, &v4, &v6, &way), -EINVAL);
}
END_TEST

START_TEST(gateways_of_both_families)
{
    RELAY("ip route add 192.0.2.0/24 via " LAB_TARGET_V4
          " && "
          "ip route add 198.51.100.0/24 via inet6 " LAB_TARGET_V6 " dev " LAB_TO_TARGET
          " && "
          "ip route add 2001:db8::/32 via " LAB_TARGET_V6_2);
    struct way *v4 = way_to(&w, "192.0.2.1", NULL), *twin = way_to(&w, "192.0.2.2", NULL);
    struct way *mixed = way_to(&w, "198.51.100.1", NULL), *v6 = way_to(&w, "2001:db8::1", NULL);

    ck_assert(leads(&w, v4, LAB_TO_TARGET, LAB_TARGET_V4));
    ck_assert(leads(&w, mixed, LAB_TO_TARGET, LAB_TARGET_V6));
    ck_assert(leads(&w, v6, LAB_TO_TARGET, LAB_TARGET_V6_2));
    ck_assert_uint_eq(v4->hop, twin->hop);
    ck_assert_uint_ne(v4->hop, mixed->hop);
    ck_local(mixed, LAB_EGRESS_V4);
    disturb(&w, "198.51.100.1");
    WAYS_UNTIL(&w, is_direct(&w, mixed, mac_of(&w, LAB_TARGET, LAB_TO_RELAY)));
    ways_put(w.ways, v4);
    ways_put(w.ways, twin);
    ways_put(w.ways, mixed);
    ways_put(w.ways, v6);
}
END_TEST

START_TEST(a_route_s_preferred_source_is_our_address)
{
    RELAY("ip address add 10.77.2.9/32 dev " LAB_TO_TARGET
          " && "
          "ip route add 192.0.2.0/24 via " LAB_TARGET_V4 " src 10.77.2.9");
    struct way *way = way_to(&w, "192.0.2.1", NULL);
    struct way *asked = way_to(&w, "192.0.2.1", LAB_EGRESS_V4);

    ck_local(way, "10.77.2.9");
    ck_local(asked, LAB_EGRESS_V4);
    /* The kernel takes such a route away without a word when its source goes. */
    RELAY("ip route add 192.0.2.0/24 via " LAB_STRANGER_V4
          " metric 9 && "
          "ip address del 10.77.2.9/32 dev " LAB_TO_TARGET);
    WAYS_UNTIL(&w, leads(&w, way, LAB_TO_STRANGER, LAB_STRANGER_V4));
    ck_local(way, "10.77.3.1");
    ways_put(w.ways, way);
    ways_put(w.ways, asked);
}
END_TEST

START_TEST(the_default_route_changes_under_a_way)
{
    RELAY("ip route add default via " LAB_TARGET_V4
          " && ip -6 route add default via " LAB_TARGET_V6);
    struct way *v4 = way_to(&w, "192.0.2.1", NULL), *v6 = way_to(&w, "2001:db8::1", NULL);

    const uint16_t old = v4->hop;
    RELAY("ip route replace default via " LAB_STRANGER_V4
          " && ip -6 route replace default via " LAB_STRANGER_V6);
    WAYS_UNTIL(&w, leads(&w, v4, LAB_TO_STRANGER, LAB_STRANGER_V4));
    WAYS_UNTIL(&w, leads(&w, v6, LAB_TO_STRANGER, LAB_STRANGER_V6));
    ck_assert_uint_gt(w.changes, 0);
    /* Slots that still have the old hop's number go on to the old gateway. */
    ck_assert_uint_ne(v4->hop, old);
    ck_assert_uint_eq(w.hops[old].state, BPF_HOP_ASK);
    ck_assert_uint_eq(w.hops[old].interface, index_of(&w, LAB_RELAY, LAB_TO_TARGET));
    /* And a route that flaps gives the same row back. */
    RELAY("ip route replace default via " LAB_TARGET_V4);
    WAYS_UNTIL(&w, v4->hop == old);
    /* No route any more: the way stays, without an interface. */
    RELAY("ip route del default");
    WAYS_UNTIL(&w, v4->interface == 0);
    ck_problem(v4, "no route to the peer");
    ck_assert_uint_eq(figure(&w, "ways_unusable"), 1);
    RELAY("ip route add default via " LAB_TARGET_V4);
    WAYS_UNTIL(&w, leads(&w, v4, LAB_TO_TARGET, LAB_TARGET_V4));
    ck_assert_uint_eq(figure(&w, "ways_unusable"), 0);
    ways_put(w.ways, v4);
    ways_put(w.ways, v6);
}
END_TEST

START_TEST(a_more_specific_route_concerns_its_peers_alone)
{
    RELAY("ip route add 192.0.2.0/24 via " LAB_TARGET_V4);
    struct way *in = way_to(&w, "192.0.2.1", NULL), *out = way_to(&w, "192.0.2.200", NULL);

    ways_lab_settle(&w);
    const uint64_t asked = figure(&w, "ways_asked_again");
    w.changes = 0;
    RELAY("ip route add 192.0.2.0/28 via " LAB_STRANGER_V4);
    WAYS_UNTIL(&w, leads(&w, in, LAB_TO_STRANGER, LAB_STRANGER_V4));
    ways_lab_settle(&w);
    ck_assert_uint_eq(figure(&w, "ways_asked_again"), asked + 1);
    ck_assert_uint_eq(w.changes, 1);
    RELAY("ip route del 192.0.2.0/28");
    WAYS_UNTIL(&w, leads(&w, in, LAB_TO_TARGET, LAB_TARGET_V4));
    ck_assert(leads(&w, out, LAB_TO_TARGET, LAB_TARGET_V4));
    ways_lab_settle(&w);
    ck_assert_uint_eq(figure(&w, "ways_asked_again"), asked + 2);
    /* One for nobody is not asked about. */
    RELAY("ip route add 203.0.113.0/24 via " LAB_STRANGER_V4);
    ways_lab_settle(&w);
    ck_assert_uint_eq(figure(&w, "ways_asked_again"), asked + 2);
    ck_assert_uint_eq(w.changes, 2);
    ways_put(w.ways, in);
    ways_put(w.ways, out);
}
END_TEST

START_TEST(routes_that_lead_nowhere)
{
    static const struct {
        const char *route, *peer, *problem;
    } cases[] = {{"unreachable 192.0.2.1", "192.0.2.1", "unreachable"},
                 {"blackhole 192.0.2.2", "192.0.2.2", "blackhole"},
                 {"prohibit 192.0.2.3", "192.0.2.3", "prohibits"},
                 {"unreachable 2001:db8::1", "2001:db8::1", "unreachable"},
                 {"blackhole 2001:db8::2", "2001:db8::2", "blackhole"},
                 {"prohibit 2001:db8::3", "2001:db8::3", "prohibits"}};
    struct way *ways[6];

    RELAY("ip route add 192.0.2.0/24 via " LAB_TARGET_V4
          " && ip route add 2001:db8::/64 via " LAB_TARGET_V6);
    for (size_t i = 0; i < 6; i++) {
        RELAY("ip route add %s", cases[i].route);
        ways[i] = way_to(&w, cases[i].peer, NULL);
        ck_problem(ways[i], cases[i].problem);
    }
    for (size_t i = 0; i < 6; i++) {
        RELAY("ip route del %s", cases[i].route);
        WAYS_UNTIL(&w, leads(&w, ways[i], LAB_TO_TARGET, i < 3 ? LAB_TARGET_V4 : LAB_TARGET_V6));
        RELAY("ip route add %s", cases[i].route);
        WAYS_UNTIL(&w, ways[i]->interface == 0);
        ck_problem(ways[i], cases[i].problem);
        ways_put(w.ways, ways[i]);
    }
}
END_TEST

START_TEST(peers_that_are_no_peers)
{
    static const struct {
        const char *peer, *problem;
    } cases[] = {{LAB_RELAY_V4, "this host"},     {LAB_EGRESS_V6, "this host"},
                 {"127.0.0.1", "this host"},      {"::1", "this host"},
                 {"0.0.0.0", "this host"},        {"10.77.1.255", "broadcast"},
                 {"255.255.255.255", "no route"}, {"ff02::1", "multicast"},
                 {"192.0.2.1", "no route"},       {"2001:db8::1", "no route"},
                 {"fe80::1", "link-local"}};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct way *way = way_to(&w, cases[i].peer, NULL);
        ck_problem(way, cases[i].problem);
        ways_put(w.ways, way);
    }
    /* An address that becomes the host's own, and goes again. */
    struct way *way = way_to(&w, LAB_CLIENT_V4_2, NULL);
    RELAY("ip address add " LAB_CLIENT_V4_2 "/32 dev lo");
    WAYS_UNTIL(&w, way->interface == 0);
    ck_problem(way, "this host");
    RELAY("ip address del " LAB_CLIENT_V4_2 "/32 dev lo");
    WAYS_UNTIL(&w, leads(&w, way, LAB_TO_CLIENT, LAB_CLIENT_V4_2));
    ways_put(w.ways, way);
}
END_TEST

START_TEST(a_source_that_is_not_ours)
{
    struct way *way = way_to(&w, LAB_CLIENT_V4, "10.77.1.77");

    ck_problem(way, "our address");
    RELAY("ip address add 10.77.1.77/32 dev lo");
    WAYS_UNTIL(&w, leads(&w, way, LAB_TO_CLIENT, LAB_CLIENT_V4));
    ways_put(w.ways, way);
}
END_TEST

START_TEST(link_local_peers_carry_their_interface)
{
    char peer[64];
    const uint32_t client = index_of(&w, LAB_RELAY, LAB_TO_CLIENT);
    const uint32_t target = index_of(&w, LAB_RELAY, LAB_TO_TARGET);
    struct way *ways[2];

    for (int i = 0; i < 2; i++) {
        snprintf(peer, sizeof(peer), "fe80::9%%%u", i == 0 ? client : target);
        ways[i] = way_to(&w, peer, NULL);
        ck_assert_ptr_null(ways[i]->problem);
        ck_assert_uint_eq(ways[i]->interface, i == 0 ? client : target);
        ck_assert_uint_eq(ways[i]->local.scope_id, ways[i]->interface);
    }
    ck_assert_uint_ne(ways[0]->hop, ways[1]->hop);
    struct way *gone = way_to(&w, "fe80::9%4711", NULL);
    ck_problem(gone, "no route");
    ways_put(w.ways, gone);
    ways_put(w.ways, ways[0]);
    ways_put(w.ways, ways[1]);
}
END_TEST

START_TEST(rules_by_source_and_protocol)
{
    RELAY("ip route add default via " LAB_TARGET_V4);
    struct way *one = way_to(&w, "192.0.2.1", LAB_EGRESS_V4);
    struct way *other = way_to(&w, "192.0.2.1", "10.77.3.1");

    ck_assert(leads(&w, other, LAB_TO_TARGET, LAB_TARGET_V4));
    RELAY("ip route add default via " LAB_STRANGER_V4
          " table 100 && "
          "ip rule add from 10.77.3.1 lookup 100");
    WAYS_UNTIL(&w, leads(&w, other, LAB_TO_STRANGER, LAB_STRANGER_V4));
    ck_assert(leads(&w, one, LAB_TO_TARGET, LAB_TARGET_V4));
    RELAY("ip rule del from 10.77.3.1 lookup 100");
    WAYS_UNTIL(&w, leads(&w, other, LAB_TO_TARGET, LAB_TARGET_V4));
    /* These ways are TCP's. */
    RELAY("ip rule add ipproto udp lookup 100");
    ways_lab_settle(&w);
    ck_assert(leads(&w, one, LAB_TO_TARGET, LAB_TARGET_V4));
    RELAY("ip rule add ipproto tcp lookup 100");
    WAYS_UNTIL(&w, leads(&w, one, LAB_TO_STRANGER, LAB_STRANGER_V4));
    ways_put(w.ways, one);
    ways_put(w.ways, other);
}
END_TEST

START_TEST(a_nexthop_object_is_replaced)
{
    RELAY("ip nexthop add id 1 via " LAB_TARGET_V4 " dev " LAB_TO_TARGET
          " && sysctl -qw net.ipv4.nexthop_compat_mode=0 && ip route add 192.0.2.0/24 nhid 1");
    struct way *way = way_to(&w, "192.0.2.1", NULL);

    ck_assert(leads(&w, way, LAB_TO_TARGET, LAB_TARGET_V4));
    RELAY("ip nexthop replace id 1 via " LAB_STRANGER_V4 " dev " LAB_TO_STRANGER);
    WAYS_UNTIL(&w, leads(&w, way, LAB_TO_STRANGER, LAB_STRANGER_V4));
    ways_put(w.ways, way);
}
END_TEST

START_TEST(of_several_next_hops_the_kernel_chooses)
{
    struct way *ways[64];
    unsigned target = 0, stranger = 0;

    RELAY("ip route add 192.0.2.0/24 nexthop via " LAB_TARGET_V4 " nexthop via " LAB_STRANGER_V4);
    for (unsigned i = 0; i < 64; i++) {
        char peer[32];
        snprintf(peer, sizeof(peer), "192.0.2.%u", i + 1);
        ways[i] = way_to(&w, peer, NULL);
        target += leads(&w, ways[i], LAB_TO_TARGET, LAB_TARGET_V4);
        stranger += leads(&w, ways[i], LAB_TO_STRANGER, LAB_STRANGER_V4);
    }
    ck_assert_uint_eq(target + stranger, 64);
    ck_assert_uint_gt(target, 0);
    ck_assert_uint_gt(stranger, 0);
    /* One of them goes: all take the other. */
    RELAY("ip link set " LAB_TO_STRANGER " down");
    for (unsigned i = 0; i < 64; i++) {
        WAYS_UNTIL(&w, leads(&w, ways[i], LAB_TO_TARGET, LAB_TARGET_V4));
        ways_put(w.ways, ways[i]);
    }
}
END_TEST

START_TEST(a_route_that_encapsulates_is_none_for_us)
{
    if (!can(&w, "ip route add 192.0.2.0/24 encap ip id 5 dst 10.0.0.1 via " LAB_TARGET_V4)) {
        return;
    }
    struct way *way = way_to(&w, "192.0.2.1", NULL);
    ck_problem(way, "encapsulates");
    ways_put(w.ways, way);
}
END_TEST

START_TEST(no_way_where_the_program_is_not_attached)
{
    struct way *way = way_to(&w, LAB_TARGET_V4, NULL);

    ck_assert_ptr_null(way->problem);
    w.detached = index_of(&w, LAB_RELAY, LAB_TO_TARGET);
    ways_refresh(w.ways);
    WAYS_UNTIL(&w, way->interface == 0);
    ck_problem(way, "no attached interface");
    ck_assert_uint_eq(w.changes, 1);
    w.detached = 0;
    ways_refresh(w.ways);
    WAYS_UNTIL(&w, leads(&w, way, LAB_TO_TARGET, LAB_TARGET_V4));
    ck_assert_uint_eq(w.changes, 2);
    ways_put(w.ways, way);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ways");
    TCase *tcase = tcase_create("ways");
    SRunner *runner = srunner_create(suite);
    int failed;

    lab_require();
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_peer_on_the_link);
    tcase_add_test(tcase, one_way_for_all_who_want_the_same);
    tcase_add_test(tcase, addresses_that_make_no_way_are_refused);
    tcase_add_test(tcase, gateways_of_both_families);
    tcase_add_test(tcase, a_route_s_preferred_source_is_our_address);
    tcase_add_test(tcase, the_default_route_changes_under_a_way);
    tcase_add_test(tcase, a_more_specific_route_concerns_its_peers_alone);
    tcase_add_test(tcase, routes_that_lead_nowhere);
    tcase_add_test(tcase, peers_that_are_no_peers);
    tcase_add_test(tcase, a_source_that_is_not_ours);
    tcase_add_test(tcase, link_local_peers_carry_their_interface);
    tcase_add_test(tcase, rules_by_source_and_protocol);
    tcase_add_test(tcase, a_nexthop_object_is_replaced);
    tcase_add_test(tcase, of_several_next_hops_the_kernel_chooses);
    tcase_add_test(tcase, a_route_that_encapsulates_is_none_for_us);
    tcase_add_test(tcase, no_way_where_the_program_is_not_attached);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
