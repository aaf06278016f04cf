/*
 * Many ways, many changes, and changes that nobody heard of.
 * CHECK_WAYS in the environment: how many ways, instead of 10 000.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/net/netlink.h"
#include "tests/integration/ways_lab.h"

/* Of processor time, in one turn: a slice and what belongs to it takes a little more than 1 ms. */
#define LONGEST_TURN_US 5000
#define FLAPS 20

static struct ways_lab w;
static struct way **ways;
static size_t count;

static void setup(void)
{
    const char *wanted = getenv("CHECK_WAYS");

    ways_lab_open(&w);
    lab_run(w.lab, LAB_RELAY, "ip route add default via " LAB_TARGET_V4);
    count = wanted != NULL ? strtoul(wanted, NULL, 10) : 10000;
    ways = calloc(count, sizeof(*ways));
    ck_assert_ptr_nonnull(ways);
}

static void teardown(void)
{
    for (size_t i = 0; i < count; i++) {
        ways_put(w.ways, ways[i]);
    }
    free(ways);
    ways_lab_close(&w);
}

static void open_ways(void)
{
    const struct ip_address none = {0};
    const int64_t began = now_us();

    for (size_t i = 0; i < count; i++) {
        const uint8_t octets[4] = {10, (uint8_t)(100 + (i >> 16)), (uint8_t)(i >> 8), (uint8_t)i};
        const struct ip_address peer = ip_address_v4(octets);
        ck_assert_int_eq(ways_get(w.ways, &peer, &none, &ways[i]), 0);
    }
    printf("%zu ways: %.1f us each\n", count, (double)(now_us() - began) / (double)count);
}

static bool all_lead(const char *interface)
{
    const uint32_t wanted = index_of(&w, LAB_RELAY, interface);

    for (size_t i = 0; i < count; i++) {
        if (ways[i]->interface != wanted || ways[i]->hop == 0) {
            return false;
        }
    }
    return true;
}

static void ck_turns(const char *what)
{
    printf("%s: the longest turn took %lld us of processor time\n", what,
           (long long)w.longest_turn_us);
    if (!built_with_sanitizer()) {
        ck_assert_int_lt(w.longest_turn_us, LONGEST_TURN_US);
    }
    w.longest_turn_us = 0;
}

START_TEST(a_default_route_that_flaps)
{
    open_ways();
    w.longest_turn_us = 0;
    for (int i = 0; i < FLAPS; i++) {
        lab_run(w.lab, LAB_RELAY, "ip route replace default via %s",
                i % 2 == 0 ? LAB_STRANGER_V4 : LAB_TARGET_V4);
        for (int turn = 0; turn < 5; turn++) {
            ways_lab_turn(&w);
        }
    }
    lab_run(w.lab, LAB_RELAY, "ip route replace default via " LAB_STRANGER_V4);
    const int64_t began = now_us();
    WAYS_UNTIL(&w, figure(&w, "ways_asked_again") > 0 && all_lead(LAB_TO_STRANGER));
    printf("all ways have followed after %lld ms\n", (long long)(now_us() - began) / 1000);
    ck_turns("flaps");
    /* Told once for each turn at most, and no more than one pass for each flap. */
    ck_assert_uint_le(figure(&w, "ways_asked_again"), (FLAPS + 2) * count);
    /* Both hops, whatever the number of ways. */
    ck_assert_uint_eq(figure(&w, "hops_ask") + figure(&w, "hops_direct"), 1);
}
END_TEST

START_TEST(thousands_of_routes_change)
{
    char batch[64];

    open_ways();
    ways_lab_settle(&w);
    const uint64_t asked = figure(&w, "ways_asked_again");
    FILE *file = fopen(lab_path(w.lab, "routes"), "we");
    ck_assert_ptr_nonnull(file);
    /* Half of them concern a way each; the rest nobody. */
    for (unsigned i = 0; i < 5000; i++) {
        fprintf(file, "route add 10.%u.%u.%u/32 via " LAB_STRANGER_V4 "\n", i % 2 ? 100 : 200,
                i >> 8 & 255, i & 255);
    }
    fclose(file);
    w.longest_turn_us = 0;
    snprintf(batch, sizeof(batch), "ip -batch %s &", lab_path(w.lab, "routes"));
    lab_run(w.lab, LAB_RELAY, "%s", batch);
    const uint32_t wanted = index_of(&w, LAB_RELAY, LAB_TO_STRANGER);
    WAYS_UNTIL(&w, ways[4999]->interface == wanted);
    ways_lab_settle(&w);
    for (size_t i = 0; i < 5000; i++) {
        ck_assert_msg((ways[i]->interface == wanted) == (i % 2 == 1), "way %zu", i);
    }
    ck_turns("routes");
    printf("%llu questions\n", (unsigned long long)(figure(&w, "ways_asked_again") - asked));
    /* With many more ways the last pass was so long ago only that the whole family is due. */
    if (figure(&w, "ways_losses") == 0 && count <= 10000) {
        ck_assert_uint_ge(figure(&w, "ways_asked_again"), asked + 2500);
        ck_assert_uint_lt(figure(&w, "ways_asked_again"), asked + 5000);
    }
}
END_TEST

/* The one socket of this process that is subscribed to something. */
static int find_listener(void)
{
    for (int fd = 3; fd < 256; fd++) {
        uint32_t groups[4] = {0};
        socklen_t length = sizeof(groups);
        int domain;

        if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &(socklen_t){sizeof(domain)}) == 0 &&
            domain == AF_NETLINK &&
            getsockopt(fd, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, groups, &length) == 0 &&
            groups[0] != 0) {
            return fd;
        }
    }
    ck_abort_msg("no subscribed socket");
}

START_TEST(what_was_lost_is_asked_for)
{
    const int size = 2048;
    struct way *near = way_to(&w, LAB_TARGET_V6, NULL), *client = way_to(&w, LAB_CLIENT_V4, NULL);

    lab_run(w.lab, LAB_RELAY,
            "ip neigh add " LAB_TARGET_V6 " lladdr 02:00:00:00:00:01 dev " LAB_TO_TARGET);
    WAYS_UNTIL(&w, is_direct(&w, near, "02:00:00:00:00:01"));
    open_ways();
    ways_lab_settle(&w);
    ck_assert_int_eq(setsockopt(find_listener(), SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)), 0);
    ck_assert_uint_eq(figure(&w, "ways_losses"), 0);
    /* The noise fills the buffer; what matters comes when there is no room for it. */
    lab_run(w.lab, LAB_RELAY,
            "for i in $(seq 40); do ip route add 203.0.113.$i dev " LAB_TO_TARGET
            "; done; "
            "ip neigh replace " LAB_TARGET_V6 " lladdr 02:00:00:00:00:02 dev " LAB_TO_TARGET
            "; ip link set " LAB_TO_CLIENT
            " down; "
            "ip route replace default via " LAB_STRANGER_V4);
    WAYS_UNTIL(&w, figure(&w, "ways_losses") > 0);
    WAYS_UNTIL(&w, is_direct(&w, near, "02:00:00:00:00:02"));
    WAYS_UNTIL(&w, leads(&w, client, LAB_TO_STRANGER, LAB_STRANGER_V4));
    WAYS_UNTIL(&w, all_lead(LAB_TO_STRANGER));
    ck_turns("after a loss");
    ways_put(w.ways, near);
    ways_put(w.ways, client);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ways_load");
    TCase *tcase = tcase_create("ways_load");
    SRunner *runner = srunner_create(suite);
    int failed;

    lab_require();
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_default_route_that_flaps);
    tcase_add_test(tcase, thousands_of_routes_change);
    tcase_add_test(tcase, what_was_lost_is_asked_for);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
