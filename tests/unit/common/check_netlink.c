/*
 * Attributes of hostile messages, and a listener that loses notifications. What the listener hears
 * in ordinary life is seen by the tests of local_routes.
 */
#include <check.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/net/netlink.h"
#include "tests/unit/common/loop_support.h"

struct nested_message {
    struct nlmsghdr header;
    struct rtgenmsg general;
    uint8_t padding[3];
    struct rtattr number;
    uint32_t value;
    struct rtattr nest;
    struct rtattr inner;
    uint8_t octets[8];
};

static struct nested_message nested_message(void)
{
    return (struct nested_message){
        .header = {.nlmsg_len = sizeof(struct nested_message)},
        .number = {.rta_type = 7, .rta_len = RTA_LENGTH(4)},
        .value = 4711,
        .nest = {.rta_type = 8 | NLA_F_NESTED, .rta_len = RTA_LENGTH(RTA_LENGTH(8))},
        .inner = {.rta_type = 9, .rta_len = RTA_LENGTH(8)},
        .octets = {1, 2, 3, 4, 5, 6, 7, 8},
    };
}

#define HEADER sizeof(struct rtgenmsg)

START_TEST(attributes_are_found)
{
    const struct nested_message message = nested_message();
    const struct rtattr *nest = netlink_find(&message.header, HEADER, 8, 1);
    uint32_t value = 0;

    ck_assert(netlink_u32(&message.header, HEADER, 7, &value));
    ck_assert_uint_eq(value, 4711);
    ck_assert_ptr_eq(nest, &message.nest);
    ck_assert_ptr_eq(netlink_find_within(nest, 0, 9, 8), &message.inner);
    /* Too short, not there, at the wrong level. */
    ck_assert_ptr_null(netlink_find_within(nest, 0, 9, 9));
    ck_assert_ptr_null(netlink_find_within(nest, 0, 7, 0));
    ck_assert_ptr_null(netlink_find(&message.header, HEADER, 9, 0));
    ck_assert_ptr_null(netlink_find(&message.header, HEADER, 7, 5));
    ck_assert(!netlink_u32(&message.header, HEADER, 6, &value));
    ck_assert_uint_eq(value, 4711);
}
END_TEST

START_TEST(addresses_are_what_the_kernel_says)
{
    static const uint8_t mapped[16] = {[10] = 0xff, 0xff, 192, 0, 2, 1};
    struct {
        struct rtattr attribute;
        uint8_t octets[16];
    } v6 = {.attribute = {.rta_len = RTA_LENGTH(16)}};
    struct ip_address address;

    memcpy(v6.octets, mapped, sizeof(mapped));
    address = netlink_address(AF_INET6, &v6.attribute);
    ck_assert_uint_eq(address.family, IP_V6);
    ck_assert_mem_eq(address.bytes, mapped, 16);
    address = netlink_address(AF_INET, &v6.attribute);
    ck_assert_uint_eq(address.family, IP_V4);
    ck_assert_mem_eq(address.bytes, mapped, 4);
    ck_assert_uint_eq(address.scope_id, 0);
}
END_TEST

/* Every truncation in memory of exactly that size, so that AddressSanitizer sees a step too far. */
START_TEST(nothing_is_read_beyond_the_message)
{
    const struct nested_message whole = nested_message();

    for (uint32_t length = sizeof(struct nlmsghdr); length < sizeof(whole); length++) {
        struct nlmsghdr *cut = malloc(length);
        uint32_t value;

        ck_assert_ptr_nonnull(cut);
        memcpy(cut, &whole, length);
        cut->nlmsg_len = length;
        ck_assert_ptr_null(netlink_find(cut, HEADER, 8, 1));
        ck_assert_msg(netlink_u32(cut, HEADER, 7, &value) ==
                          (length >= offsetof(struct nested_message, nest)),
                      "length %u", length);
        free(cut);
    }
}
END_TEST

START_TEST(lengths_that_lie_end_the_search)
{
    for (unsigned length = 0; length < 256; length++) {
        struct nested_message message = nested_message();
        const struct rtattr *nest;

        /* The first one: what follows is found only where it says the truth. */
        message.number.rta_len = (unsigned short)length;
        nest = netlink_find(&message.header, HEADER, 8, 1);
        ck_assert_msg(nest == NULL || RTA_ALIGN(length) == RTA_LENGTH(4), "length %u", length);
        /* The inner one, longer than its nest. */
        message = nested_message();
        message.inner.rta_len = (unsigned short)length;
        ck_assert_msg((netlink_find_within(&message.nest, 0, 9, 0) != NULL) ==
                          (length >= sizeof(struct rtattr) && length <= RTA_LENGTH(8)),
                      "length %u", length);
        message = nested_message();
        message.nest.rta_len = (unsigned short)(length % sizeof(struct rtattr));
        ck_assert_ptr_null(netlink_find_within(&message.nest, 0, 9, 0));
    }
}
END_TEST

struct ear {
    struct test_loop test;
    struct netlink_listener *listener;
    unsigned messages, losses, turns;
    unsigned messages_after_loss;
    bool close_on_message, close_on_loss;
};

static void on_message(void *user, const struct nlmsghdr *message)
{
    struct ear *ear = user;

    ck_assert_uint_ge(message->nlmsg_len, sizeof(*message));
    ear->messages++;
    ear->messages_after_loss++;
    if (ear->close_on_message)
        netlink_listener_close(ear->listener);
}

static void on_lost(void *user)
{
    struct ear *ear = user;

    ear->losses++;
    ear->messages_after_loss = 0;
    if (ear->close_on_loss)
        netlink_listener_close(ear->listener);
}

static void on_turn(void *user)
{
    struct ear *ear = user;

    ear->turns++;
}

static void run(const char *command)
{
    ck_assert_msg(system(command) == 0, "failed: %s", command);
}

/* Each test is a process of its own (Check forks), so the namespace goes with it. */
static bool ear_open(struct ear *ear)
{
    static const int groups[] = {RTNLGRP_LINK, RTNLGRP_IPV4_ROUTE};
    static const struct netlink_listener_ops ops = {
        .message = on_message, .lost = on_lost, .turn = on_turn};

    memset(ear, 0, sizeof(*ear));
    if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0) {
        fprintf(stderr, "skipped: no network namespace here (%s)\n", strerror(errno));
        return false;
    }
    test_loop_start(&ear->test);
    ck_assert_int_eq(netlink_listen(&ear->listener, &ear->test.loop, groups, 2, &ops, ear), 0);
    return true;
}

static void ear_close(struct ear *ear)
{
    netlink_listener_close(ear->listener);
    netlink_listener_close(NULL);
    test_loop_finish(&ear->test);
}

/* More notifications than the socket's buffer holds, while nobody reads. */
static void overflow(void)
{
    FILE *batch = popen("ip -batch -", "w");

    ck_assert_ptr_nonnull(batch);
    for (int i = 0; i < 6000; i++)
        fprintf(batch, "route add 10.%d.%d.0/24 dev lo\n", i / 250, i % 250);
    ck_assert_int_eq(pclose(batch), 0);
}

START_TEST(a_loss_is_told_at_once_and_when_the_socket_is_empty)
{
    struct ear ear;

    if (!ear_open(&ear))
        return;
    run("ip link set lo up");
    TEST_RUN_UNTIL(&ear.test, ear.messages > 0);
    ck_assert_uint_eq(ear.losses, 0);
    overflow();
    TEST_RUN_UNTIL(&ear.test, ear.losses == 1);
    TEST_RUN_UNTIL(&ear.test, ear.losses == 2);
    ck_assert_uint_eq(ear.messages_after_loss, 0);
    ck_assert_uint_gt(ear.messages, NETLINK_DATAGRAMS_PER_TURN);
    ck_assert_uint_ge(ear.turns, ear.messages / NETLINK_DATAGRAMS_PER_TURN);
    /* And the following goes on. */
    run("ip route add 192.0.2.0/24 dev lo");
    TEST_RUN_UNTIL(&ear.test, ear.messages_after_loss > 0);
    ck_assert_uint_eq(ear.losses, 2);
    ear_close(&ear);
}
END_TEST

START_TEST(may_be_closed_from_its_callbacks)
{
    struct ear ear;

    if (!ear_open(&ear))
        return;
    ear.close_on_message = true;
    run("ip link set lo up && ip link set lo down");
    TEST_RUN_UNTIL(&ear.test, ear.messages > 0);
    test_turns(&ear.test, 3);
    ck_assert_uint_eq(ear.messages, 1);
    ck_assert_uint_eq(ear.turns, 0);
    test_loop_finish(&ear.test);
}
END_TEST

START_TEST(may_be_closed_when_something_was_lost)
{
    struct ear ear;

    if (!ear_open(&ear))
        return;
    ear.close_on_loss = true;
    run("ip link set lo up");
    TEST_RUN_UNTIL(&ear.test, ear.messages > 0);
    overflow();
    TEST_RUN_UNTIL(&ear.test, ear.losses > 0);
    test_turns(&ear.test, 3);
    ck_assert_uint_eq(ear.losses, 1);
    test_loop_finish(&ear.test);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("netlink");
    TCase *tcase = tcase_create("netlink");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_add_test(tcase, attributes_are_found);
    tcase_add_test(tcase, addresses_are_what_the_kernel_says);
    tcase_add_test(tcase, nothing_is_read_beyond_the_message);
    tcase_add_test(tcase, lengths_that_lie_end_the_search);
    tcase_add_test(tcase, a_loss_is_told_at_once_and_when_the_socket_is_empty);
    tcase_add_test(tcase, may_be_closed_from_its_callbacks);
    tcase_add_test(tcase, may_be_closed_when_something_was_lost);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
