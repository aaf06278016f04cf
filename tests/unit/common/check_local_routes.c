#include <check.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/net/deny_floor.h"
#include "common/net/local_routes.h"
#include "common/net/route_dump.h"
#include "common/net/route_set.h"

#define WAIT_MS 5000

static struct ip_address parse(const char *text)
{
    struct ip_address address = {0};

    ck_assert_msg(ip_address_parse(text, &address) == 0, "%s", text);
    return address;
}

/* Each test is a process of its own (Check forks), so the namespace goes with it. */
static bool enter_namespace(void)
{
    if (unshare(CLONE_NEWNET) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0)
        return true;
    fprintf(stderr, "skipped: no network namespace here (%s)\n", strerror(errno));
    return false;
}

static void run(const char *command)
{
    ck_assert_msg(system(command) == 0, "failed: %s", command);
}

struct watch {
    uv_loop_t loop;
    uv_timer_t limit;
    struct local_routes *routes;
    int changes;
    bool timed_out, close_on_change;
};

static void on_changed(void *user)
{
    struct watch *watch = user;

    watch->changes++;
    if (watch->close_on_change)
        local_routes_close(watch->routes);
    uv_stop(&watch->loop);
}

static void on_limit(uv_timer_t *timer)
{
    struct watch *watch = timer->data;

    watch->timed_out = true;
    uv_stop(&watch->loop);
}

static void watch_open(struct watch *watch)
{
    memset(watch, 0, sizeof(*watch));
    ck_assert_int_eq(uv_loop_init(&watch->loop), 0);
    uv_timer_init(&watch->loop, &watch->limit);
    watch->limit.data = watch;
    ck_assert_int_eq(local_routes_open(&watch->routes, &watch->loop, on_changed, watch), 0);
}

static void watch_close(struct watch *watch)
{
    local_routes_close(watch->routes);
    local_routes_close(NULL);
    uv_close((uv_handle_t *)&watch->limit, NULL);
    uv_run(&watch->loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&watch->loop), 0);
}

static bool contains(struct watch *watch, const char *text)
{
    struct ip_address address = parse(text);

    return local_routes_contain(watch->routes, &address);
}

static void wait_until(struct watch *watch, const char *text, bool wanted)
{
    watch->timed_out = false;
    uv_timer_start(&watch->limit, on_limit, WAIT_MS, 0);
    while (contains(watch, text) != wanted && !watch->timed_out)
        uv_run(&watch->loop, UV_RUN_DEFAULT);
    uv_timer_stop(&watch->limit);
    ck_assert_msg(!watch->timed_out, "%s: still not %s", text, wanted ? "local" : "away");
}

START_TEST(set_finds_and_misses)
{
    struct route_set set = {0};
    struct ip_prefix prefix;
    struct ip_address address;

    for (int i = 0; i < 3000; i++) {
        char text[64];

        snprintf(text, sizeof(text), "10.%d.%d.1", i / 250, i % 250);
        ck_assert_int_eq(ip_prefix_parse(text, &prefix), 0);
        ck_assert_int_eq(route_set_add(&set, &prefix), 0);
        ck_assert_int_eq(route_set_add(&set, &prefix), 0);
    }
    route_set_seal(&set);
    ck_assert_uint_eq(set.count, 3000);
    address = parse("10.3.7.1");
    ck_assert(route_set_contains(&set, &address));
    address = parse("10.3.7.2");
    ck_assert(!route_set_contains(&set, &address));
    ck_assert_int_eq(ip_prefix_parse("172.16.0.0/12", &prefix), 0);
    ck_assert_int_eq(route_set_insert(&set, &prefix), 1);
    ck_assert_int_eq(route_set_insert(&set, &prefix), 0);
    address = parse("172.31.255.255");
    ck_assert(route_set_contains(&set, &address));
    address = parse("172.32.0.0");
    ck_assert(!route_set_contains(&set, &address));
    address = parse("ac10::1");
    ck_assert(!route_set_contains(&set, &address));
    address = (struct ip_address){0};
    ck_assert(!route_set_contains(&set, &address));
    route_set_clear(&set);
    ck_assert(!route_set_contains(&set, &address));
}
END_TEST

START_TEST(set_knows_extreme_lengths)
{
    struct route_set set = {0};
    struct ip_prefix prefix;
    struct ip_address address;

    ck_assert_int_eq(ip_prefix_parse("::/0", &prefix), 0);
    ck_assert_int_eq(route_set_insert(&set, &prefix), 1);
    address = parse("ffff:ffff::ffff");
    ck_assert(route_set_contains(&set, &address));
    address = parse("1.2.3.4");
    ck_assert(!route_set_contains(&set, &address));
    ck_assert_int_eq(ip_prefix_parse("0.0.0.0/0", &prefix), 0);
    ck_assert_int_eq(route_set_insert(&set, &prefix), 1);
    ck_assert(route_set_contains(&set, &address));
    route_set_clear(&set);
    ck_assert_int_eq(ip_prefix_parse("2001:db8::1/128", &prefix), 0);
    ck_assert_int_eq(route_set_insert(&set, &prefix), 1);
    address = parse("2001:db8::1");
    ck_assert(route_set_contains(&set, &address));
    address = parse("2001:db8::");
    ck_assert(!route_set_contains(&set, &address));
    route_set_clear(&set);
}
END_TEST

START_TEST(works_in_a_bare_namespace)
{
    struct watch watch;

    if (!enter_namespace())
        return;
    watch_open(&watch);
    ck_assert(!contains(&watch, "127.0.0.1"));
    ck_assert(!contains(&watch, "192.0.2.1"));
    watch_close(&watch);
}
END_TEST

START_TEST(reads_what_is_there)
{
    const struct deny_floor *floor;
    struct watch watch;
    struct ip_address address;

    if (!enter_namespace())
        return;
    run("ip link set lo up && ip link add d0 type veth peer name p0 && ip link set p0 up && ip "
        "link set d0 up && "
        "ip address add 192.0.2.1/24 broadcast 192.0.2.255 dev d0 && "
        "ip address add 2001:db8::1/64 dev d0 nodad && "
        "ip route add local 198.51.100.0/24 dev lo table 77 && "
        "ip route add local default dev lo table 78 && "
        "ip -6 route add local default dev lo table 78 && "
        "ip route add broadcast 203.0.113.255 dev d0 && "
        "ip -6 route add anycast 2001:db8:a::/64 dev d0 && "
        "ip route add 203.0.113.0/24 dev d0 && "
        /* from a work queue of the kernel */
        "until ip -6 route show table local exact 2001:db8::1 | grep -q .; do sleep 0.01; done");
    watch_open(&watch);
    ck_assert(contains(&watch, "127.0.0.1"));
    ck_assert(contains(&watch, "127.9.9.9"));
    ck_assert(contains(&watch, "::1"));
    ck_assert(contains(&watch, "192.0.2.1"));
    ck_assert(contains(&watch, "192.0.2.255"));
    ck_assert(!contains(&watch, "192.0.2.2"));
    ck_assert(contains(&watch, "2001:db8::1"));
    ck_assert(!contains(&watch, "2001:db8::2"));
    ck_assert(contains(&watch, "ff02::1"));
    ck_assert_msg(contains(&watch, "198.51.100.9"), "a local route in another table");
    ck_assert_msg(!contains(&watch, "203.0.113.1"), "a unicast route is not local");
    ck_assert_msg(contains(&watch, "203.0.113.255"), "a broadcast route");
    ck_assert_msg(contains(&watch, "2001:db8:a::77"), "an anycast route");
    ck_assert_msg(!contains(&watch, "8.8.8.8"), "a proxy's table makes nothing ours");
    ck_assert(!contains(&watch, "2001:db8:b::1"));

    floor = &(struct deny_floor){.routes = watch.routes};
    address = parse("192.0.2.1");
    ck_assert_str_eq(deny_floor_judge(floor, &address), "local to this host");
    address = parse("2002:c000:201::9");
    ck_assert_str_eq(deny_floor_judge(floor, &address), "embeds a forbidden IPv4 address");
    address = parse("64:ff9b::192.0.2.1");
    ck_assert_str_eq(deny_floor_judge(floor, &address), "embeds a forbidden IPv4 address");
    address = parse("192.0.2.2");
    ck_assert_ptr_null(deny_floor_judge(floor, &address));
    watch_close(&watch);
}
END_TEST

START_TEST(follows_changes)
{
    struct watch watch;

    if (!enter_namespace())
        return;
    run("ip link add d0 type veth peer name p0 && ip link set p0 up && ip link set d0 up");
    watch_open(&watch);
    run("ip address add 192.0.2.1/24 dev d0");
    wait_until(&watch, "192.0.2.1", true);
    run("ip address add 2001:db8::1/64 dev d0 nodad");
    wait_until(&watch, "2001:db8::1", true);
    run("ip address del 192.0.2.1/24 dev d0");
    wait_until(&watch, "192.0.2.1", false);
    ck_assert(contains(&watch, "2001:db8::1"));
    run("ip link set lo up");
    wait_until(&watch, "127.0.0.1", true);
    run("ip link del d0");
    wait_until(&watch, "2001:db8::1", false);
    ck_assert_int_ge(watch.changes, 5);
    watch_close(&watch);
}
END_TEST

START_TEST(changes_of_no_consequence_are_not_reported)
{
    struct watch watch;

    if (!enter_namespace())
        return;
    /* Without link-local addresses, whose probing for duplicates ends some time later. */
    run("ip link add d0 type veth peer name p0 && ip link set d0 addrgenmode none && "
        "ip link set p0 addrgenmode none && ip link set p0 up && ip link set d0 up && "
        "ip address add 192.0.2.1/24 dev d0");
    watch_open(&watch);
    /* What the set-up left behind settles first. */
    uv_timer_start(&watch.limit, on_limit, 1000, 0);
    while (!watch.timed_out)
        uv_run(&watch.loop, UV_RUN_DEFAULT);
    watch.changes = 0;
    watch.timed_out = false;
    run("ip link set d0 mtu 1400 && ip link set d0 mtu 1500 && "
        "ip route add 198.51.100.0/24 dev d0 && ip route del 198.51.100.0/24 dev d0");
    uv_timer_start(&watch.limit, on_limit, 1000, 0);
    while (!watch.timed_out)
        uv_run(&watch.loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(watch.changes, 0);
    /* Another address of the same number is a change. */
    run("ip address add 192.0.2.9/32 dev d0 && ip address del 192.0.2.1/24 dev d0");
    wait_until(&watch, "192.0.2.1", false);
    ck_assert(contains(&watch, "192.0.2.9"));
    ck_assert_int_gt(watch.changes, 0);
    watch_close(&watch);
}
END_TEST

START_TEST(a_default_local_route_of_the_main_table_counts)
{
    struct watch watch;

    if (!enter_namespace())
        return;
    run("ip link set lo up && ip route add local default dev lo");
    watch_open(&watch);
    ck_assert(contains(&watch, "8.8.8.8"));
    watch_close(&watch);
}
END_TEST

/* One message of the kernel, as large as it says. */
struct message {
    struct nlmsghdr header;
    struct rtmsg route;
    struct rtattr destination;
    uint8_t address[16];
    struct rtattr table;
    uint32_t table_number;
};

static struct message local_route(uint8_t family, uint8_t length)
{
    struct message message = {
        .header = {.nlmsg_len = sizeof(message), .nlmsg_type = RTM_NEWROUTE},
        .route = {.rtm_family = family,
                  .rtm_dst_len = length,
                  .rtm_type = RTN_LOCAL,
                  .rtm_table = RT_TABLE_LOCAL},
        .destination = {.rta_type = RTA_DST,
                        .rta_len = sizeof(struct rtattr) + sizeof(message.address)},
        .address = {192, 0, 2, 1},
        .table = {.rta_type = RTA_TABLE, .rta_len = sizeof(struct rtattr) + sizeof(uint32_t)},
        .table_number = RT_TABLE_LOCAL,
    };

    return message;
}

START_TEST(messages_are_judged)
{
    struct message message = local_route(AF_INET, 32);
    struct ip_prefix prefix;
    char text[PREFIX_TEXT_MAX];

    ck_assert(route_message_prefix(&message.header, &prefix));
    ck_assert_str_eq(ip_prefix_format(&prefix, text, sizeof(text)), "192.0.2.1/32");
    for (unsigned type = 0; type < 12; type++) {
        bool ours = type == RTN_LOCAL || type == RTN_BROADCAST || type == RTN_ANYCAST ||
                    type == RTN_MULTICAST;

        message.route.rtm_type = (uint8_t)type;
        ck_assert_msg(route_message_prefix(&message.header, &prefix) == ours, "type %u", type);
    }
    message = local_route(AF_INET, 33);
    ck_assert(!route_message_prefix(&message.header, &prefix));
    message = local_route(AF_INET6, 129);
    ck_assert(!route_message_prefix(&message.header, &prefix));
    message = local_route(AF_PACKET, 32);
    ck_assert(!route_message_prefix(&message.header, &prefix));
    message = local_route(AF_INET, 32);
    message.route.rtm_flags = RTM_F_CLONED;
    ck_assert(!route_message_prefix(&message.header, &prefix));
    /* no destination: the default route, if that is what the length says */
    message = local_route(AF_INET, 0);
    message.destination.rta_type = RTA_PREFSRC;
    ck_assert(route_message_prefix(&message.header, &prefix));
    ck_assert_uint_eq(prefix.length, 0);
    message.table_number = 1000;
    ck_assert(!route_message_prefix(&message.header, &prefix));
    message.route.rtm_dst_len = 8;
    ck_assert(!route_message_prefix(&message.header, &prefix));
}
END_TEST

START_TEST(malformed_messages_are_refused)
{
    struct message message = local_route(AF_INET6, 128);
    struct ip_prefix prefix;

    ck_assert(route_message_prefix(&message.header, &prefix));
    /* Every truncation, in memory of exactly that size. */
    for (uint32_t length = sizeof(struct nlmsghdr); length < sizeof(message); length++) {
        struct nlmsghdr *cut = malloc(length);
        bool whole = length >= offsetof(struct message, table);

        ck_assert_ptr_nonnull(cut);
        memcpy(cut, &message, length);
        cut->nlmsg_len = length;
        ck_assert_msg(route_message_prefix(cut, &prefix) == whole, "length %u", length);
        free(cut);
    }
    for (unsigned length = 0; length < 64; length++) {
        message = local_route(AF_INET6, 128);
        message.destination.rta_len = (unsigned short)length;
        if (length < sizeof(struct rtattr) + 16)
            ck_assert_msg(!route_message_prefix(&message.header, &prefix), "length %u", length);
    }
}
END_TEST

START_TEST(a_flood_of_changes_is_survived)
{
    struct watch watch;
    FILE *batch;

    if (!enter_namespace())
        return;
    run("ip link add d0 type veth peer name p0 && ip link set p0 up && ip link set d0 up");
    watch_open(&watch);
    /* More notifications than the socket's buffer holds, without the loop reading any. */
    batch = popen("ip -batch -", "w");
    ck_assert_ptr_nonnull(batch);
    for (int i = 0; i < 3000; i++)
        fprintf(batch, "address add 10.%d.%d.1/32 dev d0\n", i / 250, i % 250);
    fprintf(batch, "address add 192.0.2.7/32 dev d0\n");
    ck_assert_int_eq(pclose(batch), 0);
    wait_until(&watch, "192.0.2.7", true);
    wait_until(&watch, "10.11.249.1", true);
    ck_assert(contains(&watch, "10.0.0.1"));
    ck_assert(!contains(&watch, "10.0.0.2"));
    watch_close(&watch);
}
END_TEST

/*
 * What is lost says nothing about us, but the one that matters is lost with it. The tables are read
 * again while the socket still holds most of the flood, and the kernel drops the next notification
 * without another error.
 */
START_TEST(a_lost_notification_is_made_up_for)
{
    struct watch watch;
    FILE *batch;

    if (!enter_namespace())
        return;
    run("ip link set lo up && ip link add d0 type veth peer name p0 && "
        "ip link set d0 addrgenmode none && ip link set p0 addrgenmode none && "
        "ip link set p0 up && ip link set d0 up");
    watch_open(&watch);
    batch = popen("ip -batch -", "w");
    ck_assert_ptr_nonnull(batch);
    for (int i = 0; i < 4000; i++)
        fprintf(batch, "route add 10.%d.%d.0/24 dev d0\n", i / 250, i % 250);
    fprintf(batch, "route add local 203.0.113.7 dev lo\n");
    ck_assert_int_eq(pclose(batch), 0);
    /* So long ago that the loop's next turn may read them again. */
    for (uint64_t opened = uv_now(&watch.loop); uv_now(&watch.loop) < opened + 300;) {
        usleep(10000);
        uv_update_time(&watch.loop);
    }
    wait_until(&watch, "203.0.113.7", true);
    ck_assert(!contains(&watch, "10.0.1.1"));
    /* And the following goes on. */
    run("ip route add local 203.0.113.8 dev lo");
    wait_until(&watch, "203.0.113.8", true);
    watch_close(&watch);
}
END_TEST

START_TEST(a_new_route_counts_before_the_tables_are_read_again)
{
    struct watch watch;

    if (!enter_namespace())
        return;
    run("ip link set lo up");
    watch_open(&watch);
    run("ip route add local 203.0.113.7 dev lo && ip route del local 203.0.113.7 dev lo");
    /* One turn: the notifications, not yet the timer that they start. */
    uv_timer_start(&watch.limit, on_limit, WAIT_MS, 0);
    uv_run(&watch.loop, UV_RUN_NOWAIT);
    ck_assert(contains(&watch, "203.0.113.7"));
    ck_assert_int_eq(watch.changes, 1);
    wait_until(&watch, "203.0.113.7", false);
    ck_assert_int_eq(watch.changes, 2);
    watch_close(&watch);
}
END_TEST

struct seen {
    char text[1024];
};

static void on_address(const struct ip_address *address, bool loopback, void *user)
{
    struct seen *seen = user;
    char text[ENDPOINT_TEXT_MAX];
    size_t used = strlen(seen->text);

    snprintf(seen->text + used, sizeof(seen->text) - used, "%s%s ",
             ip_address_format(address, text, sizeof(text)), loopback ? "(lo)" : "");
}

START_TEST(lists_addresses_by_interface)
{
    struct seen seen = {0};
    struct watch watch;

    if (!enter_namespace())
        return;
    run("ip link set lo up && ip link add d0 index 40 type veth peer name d1 index 41 && "
        "ip link set d0 addrgenmode none && ip link set d1 addrgenmode none && "
        "ip link set d0 up && ip link set d1 up && "
        "ip address add 198.51.100.1/24 dev d1 && ip address add 192.0.2.1/24 dev d0 && "
        "ip address add fe80::9/64 dev d0 nodad && "
        "ip address add 203.0.113.1 peer 203.0.113.2 dev d1");
    watch_open(&watch);
    local_routes_each_address(watch.routes, on_address, &seen);
    ck_assert_str_eq(seen.text,
                     "127.0.0.1(lo) ::1(lo) 192.0.2.1 fe80::9%40 198.51.100.1 "
                     "203.0.113.1 ");
    watch_close(&watch);
}
END_TEST

START_TEST(may_be_closed_from_its_callback)
{
    struct watch watch;

    if (!enter_namespace())
        return;
    watch_open(&watch);
    watch.close_on_change = true;
    run("ip link set lo up");
    uv_timer_start(&watch.limit, on_limit, WAIT_MS, 0);
    uv_run(&watch.loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(watch.changes, 1);
    watch.routes = NULL;
    watch_close(&watch);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("local_routes");
    TCase *tcase = tcase_create("local_routes");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_set_timeout(tcase, 30);
    tcase_add_test(tcase, set_finds_and_misses);
    tcase_add_test(tcase, set_knows_extreme_lengths);
    tcase_add_test(tcase, works_in_a_bare_namespace);
    tcase_add_test(tcase, reads_what_is_there);
    tcase_add_test(tcase, follows_changes);
    tcase_add_test(tcase, changes_of_no_consequence_are_not_reported);
    tcase_add_test(tcase, a_default_local_route_of_the_main_table_counts);
    tcase_add_test(tcase, messages_are_judged);
    tcase_add_test(tcase, malformed_messages_are_refused);
    tcase_add_test(tcase, a_flood_of_changes_is_survived);
    tcase_add_test(tcase, a_lost_notification_is_made_up_for);
    tcase_add_test(tcase, a_new_route_counts_before_the_tables_are_read_again);
    tcase_add_test(tcase, lists_addresses_by_interface);
    tcase_add_test(tcase, may_be_closed_from_its_callback);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
