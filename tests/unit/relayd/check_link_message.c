/*
 * What is understood of RTM_NEWLINK and RTM_DELLINK, hostile ones included.
 */
#include <check.h>
#include <linux/if.h>
#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/ipv6.h>
#include <stdlib.h>
#include <string.h>

#include "common/net/netlink.h"
#include "relayd/plane/bpf/link_message.h"

static const uint8_t mac[6] = {2, 0, 0, 0, 0, 7};

/* One message of the kernel, as large as it says. */
struct message {
    struct nlmsghdr header;
    struct ifinfomsg link;
    struct rtattr mtu;
    uint32_t mtu_value;
    struct rtattr address;
    uint8_t octets[8];
    struct rtattr nest; /* IFLA_AF_SPEC, or IFLA_PROTINFO */
    struct rtattr family;
    struct rtattr settings;
    uint32_t values[DEVCONF_MTU6 + 2];
};

static struct message ethernet(void)
{
    struct message message = {
        .header = {.nlmsg_len = sizeof(message), .nlmsg_type = RTM_NEWLINK},
        .link = {.ifi_type = ARPHRD_ETHER, .ifi_index = 5, .ifi_flags = IFF_UP | IFF_LOWER_UP},
        .mtu = {.rta_type = IFLA_MTU, .rta_len = RTA_LENGTH(4)},
        .mtu_value = 1500,
        .address = {.rta_type = IFLA_ADDRESS, .rta_len = RTA_LENGTH(6)},
        .nest = {.rta_type = IFLA_AF_SPEC,
                 .rta_len = sizeof(message) - offsetof(struct message, nest)},
        .family = {.rta_type = AF_INET6,
                   .rta_len = sizeof(message) - offsetof(struct message, family)},
        .settings = {.rta_type = IFLA_INET6_CONF,
                     .rta_len = sizeof(message) - offsetof(struct message, settings)},
    };

    memcpy(message.octets, mac, sizeof(mac));
    message.values[DEVCONF_MTU6] = 1400;
    return message;
}

static struct link_message parse(const struct message *message)
{
    struct link_message link;

    ck_assert(link_message_parse(&message->header, &link));
    ck_assert_uint_eq(link.interface, 5);
    return link;
}

START_TEST(an_interface_is_described)
{
    const struct message message = ethernet();
    const struct link_message link = parse(&message);

    ck_assert(!link.gone);
    ck_assert(link.up);
    ck_assert_uint_eq(link.layer, LINK_ETHERNET);
    ck_assert_mem_eq(link.mac, mac, 6);
    ck_assert_uint_eq(link.mtu, 1500);
    ck_assert_uint_eq(link.mtu_v6, 1400);
}
END_TEST

START_TEST(up_needs_both_the_operator_and_a_carrier)
{
    struct message message = ethernet();

    message.link.ifi_flags = IFF_UP;
    ck_assert(!parse(&message).up);
    message.link.ifi_flags = IFF_LOWER_UP;
    ck_assert(!parse(&message).up);
}
END_TEST

START_TEST(an_ipv6_mtu_that_says_nothing_is_the_interface_s)
{
    struct message message = ethernet();

    message.values[DEVCONF_MTU6] = 9000;
    ck_assert_uint_eq(parse(&message).mtu_v6, 1500);
    message.values[DEVCONF_MTU6] = 0;
    ck_assert_uint_eq(parse(&message).mtu_v6, 1500);
    message = ethernet();
    message.settings.rta_len = RTA_LENGTH(4 * DEVCONF_MTU6); /* an older kernel's array */
    ck_assert_uint_eq(parse(&message).mtu_v6, 1500);
}
END_TEST

/* RTNLGRP_IPV6_IFINFO: a router has advertised another MTU. */
START_TEST(an_ipv6_message_brings_the_ipv6_mtu)
{
    struct message message = ethernet();

    message.link.ifi_family = AF_INET6;
    message.nest.rta_type = IFLA_PROTINFO;
    /* The settings are the nest's own there. */
    message.family.rta_type = IFLA_INET6_CONF;
    memset(&message.settings, 0, sizeof(message.settings));
    memset(message.values, 0, sizeof(message.values));
    memcpy((uint32_t *)RTA_DATA(&message.family) + DEVCONF_MTU6, &(uint32_t){1300}, 4);
    ck_assert_uint_eq(parse(&message).mtu_v6, 1300);
    ck_assert_uint_eq(parse(&message).layer, LINK_ETHERNET);
}
END_TEST

START_TEST(an_interface_goes)
{
    struct message message = ethernet();
    struct link_message link;

    message.header.nlmsg_type = RTM_DELLINK;
    ck_assert(parse(&message).gone);
    /* Gone from a bridge, or IPv6 gone from it. */
    message.link.ifi_family = AF_BRIDGE;
    ck_assert(!link_message_parse(&message.header, &link));
    message.link.ifi_family = AF_INET6;
    ck_assert(!link_message_parse(&message.header, &link));
}
END_TEST

START_TEST(others_are_left_alone)
{
    struct message message = ethernet();
    struct link_message link;

    message.link.ifi_family = AF_BRIDGE;
    ck_assert(!link_message_parse(&message.header, &link));
    for (int index = -1; index <= 0; index++) {
        message = ethernet();
        message.link.ifi_index = index;
        ck_assert(!link_message_parse(&message.header, &link));
    }
    for (uint16_t type = 0; type < 128; type++) {
        message = ethernet();
        message.header.nlmsg_type = type;
        ck_assert_msg(link_message_parse(&message.header, &link) ==
                          (type == RTM_NEWLINK || type == RTM_DELLINK),
                      "type %u", type);
    }
}
END_TEST

START_TEST(link_layers_are_told_apart)
{
    static const struct {
        uint16_t hardware;
        size_t length;
        enum link_layer layer;
    } cases[] = {{ARPHRD_ETHER, 6, LINK_ETHERNET},  {ARPHRD_ETHER, 8, LINK_OTHER},
                 {ARPHRD_ETHER, 0, LINK_OTHER},     {ARPHRD_NONE, 0, LINK_BARE},
                 {ARPHRD_PPP, 0, LINK_BARE},        {ARPHRD_RAWIP, 0, LINK_BARE},
                 {ARPHRD_IPGRE, 4, LINK_BARE},      {ARPHRD_TUNNEL6, 16, LINK_BARE},
                 {ARPHRD_LOOPBACK, 6, LINK_OTHER},  {ARPHRD_INFINIBAND, 20, LINK_OTHER},
                 {ARPHRD_IEEE802154, 8, LINK_OTHER}};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct message message = ethernet();

        ck_assert_uint_eq(link_layer_of(cases[i].hardware, cases[i].length), cases[i].layer);
        message.link.ifi_type = cases[i].hardware;
        message.address.rta_len = (unsigned short)RTA_LENGTH(cases[i].length);
        if (cases[i].length > sizeof(message.octets))
            continue;
        ck_assert_msg(parse(&message).layer == cases[i].layer, "hardware %u", cases[i].hardware);
    }
}
END_TEST

/* Every truncation in memory of exactly that size; every length of an attribute. */
START_TEST(malformed_messages_are_survived)
{
    const struct message whole = ethernet();
    struct link_message link;

    for (uint32_t length = sizeof(struct nlmsghdr); length <= sizeof(whole); length++) {
        struct nlmsghdr *cut = malloc(length);

        ck_assert_ptr_nonnull(cut);
        memcpy(cut, &whole, length);
        cut->nlmsg_len = length;
        ck_assert_msg(link_message_parse(cut, &link) ==
                          (length >= offsetof(struct message, address)),
                      "length %u", length);
        free(cut);
    }
    for (unsigned length = 0; length < 300; length++) {
        struct rtattr *attributes[5];
        struct message message;

        for (size_t i = 0; i < 5; i++) {
            message = whole;
            attributes[0] = &message.mtu;
            attributes[1] = &message.address;
            attributes[2] = &message.nest;
            attributes[3] = &message.family;
            attributes[4] = &message.settings;
            attributes[i]->rta_len = (unsigned short)length;
            if (link_message_parse(&message.header, &link))
                ck_assert_uint_le(link.mtu_v6, link.mtu);
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("link_message");
    TCase *tcase = tcase_create("link_message");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_add_test(tcase, an_interface_is_described);
    tcase_add_test(tcase, up_needs_both_the_operator_and_a_carrier);
    tcase_add_test(tcase, an_ipv6_mtu_that_says_nothing_is_the_interface_s);
    tcase_add_test(tcase, an_ipv6_message_brings_the_ipv6_mtu);
    tcase_add_test(tcase, an_interface_goes);
    tcase_add_test(tcase, others_are_left_alone);
    tcase_add_test(tcase, link_layers_are_told_apart);
    tcase_add_test(tcase, malformed_messages_are_survived);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
