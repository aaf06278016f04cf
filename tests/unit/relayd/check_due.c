/*
 * Which peers a notification concerns. PLANE-WAY-050, -170.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/net/netlink.h"
#include "relayd/plane/bpf/due.h"

static struct due *due;
static char text[4096];

static void setup(void)
{
    due = calloc(1, sizeof(*due));
    ck_assert_ptr_nonnull(due);
}

static void teardown(void)
{
    free(due);
}

static void add(const char *prefix)
{
    struct ip_prefix parsed;

    ck_assert_msg(ip_prefix_parse(prefix, &parsed) == 0, "%s", prefix);
    due_add(due, &parsed);
}

static const char *sealed(void)
{
    char one[PREFIX_TEXT_MAX];
    size_t used = 0;

    due_seal(due);
    text[0] = '\0';
    for (size_t i = 0; i < due->count && used < sizeof(text); i++)
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s ",
                                 ip_prefix_format(&due->items[i], one, sizeof(one)));
    return text;
}

#define EVERYTHING "0.0.0.0/0 ::/0 "

START_TEST(prefixes_are_put_in_order_and_none_is_within_another)
{
    add("2001:db8::/32");
    add("10.1.0.0/16");
    add("10.0.0.0/24");
    add("10.1.2.0/24");
    add("10.1.2.0/24");
    add("10.0.0.0/8");
    add("2001:db8::1");
    add("9.0.0.1");
    add("11.0.0.0/9");
    ck_assert_str_eq(sealed(), "9.0.0.1/32 10.0.0.0/8 11.0.0.0/9 2001:db8::/32 ");
}
END_TEST

START_TEST(nothing_is_nothing)
{
    ck_assert_str_eq(sealed(), "");
}
END_TEST

START_TEST(a_family_is_all_its_peers)
{
    add("10.0.0.0/8");
    add("2001:db8::/32");
    due_add_family(due, IP_V4);
    ck_assert_str_eq(sealed(), "0.0.0.0/0 2001:db8::/32 ");
    due_add_all(due);
    ck_assert_str_eq(sealed(), EVERYTHING);
}
END_TEST

START_TEST(too_many_are_everything)
{
    char prefix[32];
    unsigned i;

    for (i = 0; i < DUE_MAX; i++) {
        snprintf(prefix, sizeof(prefix), "10.%u.%u.0/24", i / 256, i % 256);
        add(prefix);
    }
    ck_assert_uint_eq(due->count, DUE_MAX);
    add("10.0.0.0/24"); /* one that is there already counts as well */
    ck_assert_str_eq(sealed(), EVERYTHING);
}
END_TEST

START_TEST(a_few_that_come_often_are_a_few)
{
    for (unsigned i = 0; i < 10 * DUE_MAX; i++)
        add(i % 2 == 0 ? "10.0.0.0/24" : "10.0.1.0/24");
    ck_assert_str_eq(sealed(), "10.0.0.0/24 10.0.1.0/24 ");
}
END_TEST

/* One message of the kernel, as large as it says. */
struct message {
    struct nlmsghdr header;
    struct rtmsg route; /* the family is the first octet of every header */
    struct rtattr destination;
    uint8_t address[16];
};

static struct message message_of(uint16_t type, uint8_t family, uint8_t length)
{
    return (struct message){
        .header = {.nlmsg_len = sizeof(struct message), .nlmsg_type = type},
        .route = {.rtm_family = family, .rtm_dst_len = length, .rtm_type = RTN_UNICAST},
        .destination = {.rta_type = RTA_DST, .rta_len = RTA_LENGTH(16)},
        .address = {192, 0, 2},
    };
}

static const char *made_due(const struct message *message)
{
    due->count = 0;
    due_add_message(due, &message->header);
    return sealed();
}

START_TEST(a_route_concerns_its_prefix)
{
    static const uint16_t types[] = {RTM_NEWROUTE, RTM_DELROUTE};

    for (size_t i = 0; i < 2; i++) {
        struct message message = message_of(types[i], AF_INET, 24);

        ck_assert_str_eq(made_due(&message), "192.0.2.0/24 ");
        message = message_of(types[i], AF_INET6, 40);
        ck_assert_str_eq(made_due(&message), "c000:200::/40 ");
        message = message_of(types[i], AF_INET, 0);
        message.destination.rta_type = RTA_TABLE;
        ck_assert_str_eq(made_due(&message), "0.0.0.0/0 ");
        /* What the kernel has cached, and other families. */
        message = message_of(types[i], AF_INET, 32);
        message.route.rtm_flags = RTM_F_CLONED;
        ck_assert_str_eq(made_due(&message), "");
        message = message_of(types[i], RTNL_FAMILY_IPMR, 32);
        ck_assert_str_eq(made_due(&message), "");
    }
}
END_TEST

START_TEST(other_messages_concern_a_family)
{
    for (uint16_t type = RTM_BASE; type < RTM_MAX; type++) {
        struct message message = message_of(type, AF_INET, 24);
        const bool family = type == RTM_NEWRULE || type == RTM_DELRULE || type == RTM_NEWADDR ||
                            type == RTM_DELADDR;
        const bool nexthop = type == RTM_NEWNEXTHOP || type == RTM_DELNEXTHOP;

        if (type == RTM_NEWROUTE || type == RTM_DELROUTE)
            continue;
        ck_assert_msg(strcmp(made_due(&message), family    ? "0.0.0.0/0 "
                                                 : nexthop ? EVERYTHING
                                                           : "") == 0,
                      "type %u: %s", type, text);
        message.route.rtm_family = AF_INET6;
        ck_assert_msg(strcmp(made_due(&message), family    ? "::/0 "
                                                 : nexthop ? EVERYTHING
                                                           : "") == 0,
                      "type %u: %s", type, text);
        message.route.rtm_family = AF_BRIDGE;
        ck_assert_str_eq(made_due(&message), nexthop ? EVERYTHING : "");
    }
}
END_TEST

/* Every truncation in memory of exactly that size, every length of the attribute and the prefix. */
START_TEST(a_malformed_route_concerns_its_family)
{
    struct message message = message_of(RTM_NEWROUTE, AF_INET6, 32);

    for (uint32_t length = sizeof(struct nlmsghdr); length < sizeof(message); length++) {
        struct nlmsghdr *cut = malloc(length);

        ck_assert_ptr_nonnull(cut);
        memcpy(cut, &message, length);
        cut->nlmsg_len = length;
        due->count = 0;
        due_add_message(due, cut);
        ck_assert_str_eq(sealed(), length > sizeof(struct nlmsghdr) ? "::/0 " : "");
        free(cut);
    }
    for (unsigned length = 0; length < 256; length++) {
        message = message_of(RTM_DELROUTE, AF_INET, 32);
        message.destination.rta_len = (unsigned short)length;
        ck_assert_msg(strcmp(made_due(&message), length >= RTA_LENGTH(4) && length <= RTA_LENGTH(16)
                                                     ? "192.0.2.0/32 "
                                                     : "0.0.0.0/0 ") == 0,
                      "length %u: %s", length, text);
        message = message_of(RTM_DELROUTE, AF_INET, (uint8_t)length);
        if (length > 32)
            ck_assert_str_eq(made_due(&message), "0.0.0.0/0 ");
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("due");
    TCase *tcase = tcase_create("due");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, prefixes_are_put_in_order_and_none_is_within_another);
    tcase_add_test(tcase, nothing_is_nothing);
    tcase_add_test(tcase, a_family_is_all_its_peers);
    tcase_add_test(tcase, too_many_are_everything);
    tcase_add_test(tcase, a_few_that_come_often_are_a_few);
    tcase_add_test(tcase, a_route_concerns_its_prefix);
    tcase_add_test(tcase, other_messages_concern_a_family);
    tcase_add_test(tcase, a_malformed_route_concerns_its_family);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
