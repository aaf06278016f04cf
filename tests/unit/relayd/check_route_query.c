/*
 * What is understood of the kernel's answer to a question for a route. PLANE-WAY-060, -170.
 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/net/netlink.h"
#include "relayd/plane/bpf/route_query.h"
#include "tests/unit/relayd/fake_kernel.h"

static _Alignas(8) char buffer[512];

static struct ip_address address(const char *text)
{
    struct ip_address parsed = {0};

    ck_assert_msg(ip_address_parse(text, &parsed) == 0, "%s", text);
    return parsed;
}

static struct nlmsghdr *answer_start(uint8_t family, uint8_t type)
{
    struct nlmsghdr *message = (struct nlmsghdr *)buffer;

    memset(buffer, 0, sizeof(buffer));
    message->nlmsg_type = RTM_NEWROUTE;
    message->nlmsg_len = NLMSG_SPACE(sizeof(struct rtmsg));
    *(struct rtmsg *)NLMSG_DATA(message) = (struct rtmsg){.rtm_family = family, .rtm_type = type};
    message_add(message, RTA_OIF, &(uint32_t){5}, 4);
    return message;
}

static void add_mtu(struct nlmsghdr *message, uint32_t mtu)
{
    struct {
        struct rtattr attribute;
        uint32_t value;
    } nest = {{.rta_type = RTAX_MTU, .rta_len = RTA_LENGTH(4)}, mtu};

    message_add(message, RTA_METRICS, &nest, sizeof(nest));
}

static struct route_answer parse(const struct nlmsghdr *message, const struct route_query *query)
{
    struct route_answer answer;

    ck_assert(route_answer_parse(message, query, &answer));
    ck_assert_int_eq(answer.error, 0);
    ck_assert_uint_eq(answer.interface, 5);
    return answer;
}

START_TEST(the_whole_answer)
{
    const struct route_query query = {.peer = address("192.0.2.1")};
    struct nlmsghdr *message = answer_start(AF_INET, RTN_UNICAST);
    const struct ip_address gateway = address("10.0.0.1"), local = address("10.0.0.2");
    struct route_answer answer;

    message_add(message, RTA_GATEWAY, gateway.bytes, 4);
    message_add(message, RTA_PREFSRC, local.bytes, 4);
    add_mtu(message, 1400);
    answer = parse(message, &query);
    ck_assert(ip_address_equal(&answer.gateway, &gateway));
    ck_assert(ip_address_equal(&answer.local, &local));
    ck_assert_uint_eq(answer.mtu, 1400);
    ck_assert(!answer.learnt);
    ck_assert(!answer.encapsulates);
    ck_assert_ptr_null(route_answer_problem(&answer));
}
END_TEST

START_TEST(the_source_that_was_asked_for_stays)
{
    const struct route_query query = {.peer = address("192.0.2.1"), .local = address("10.0.0.9")};
    struct nlmsghdr *message = answer_start(AF_INET, RTN_UNICAST);
    const struct ip_address other = address("10.0.0.2");
    struct route_answer answer;

    message_add(message, RTA_PREFSRC, other.bytes, 4);
    answer = parse(message, &query);
    ck_assert(ip_address_equal(&answer.local, &query.local));
    ck_assert_uint_eq(answer.gateway.family, IP_NONE);
}
END_TEST

START_TEST(a_link_local_source_has_the_interface)
{
    const struct route_query query = {.peer = address("fe80::1%5")};
    struct nlmsghdr *message = answer_start(AF_INET6, RTN_UNICAST);
    const struct ip_address local = address("fe80::2");
    struct route_answer answer;

    message_add(message, RTA_PREFSRC, local.bytes, 16);
    answer = parse(message, &query);
    ck_assert_uint_eq(answer.local.scope_id, 5);
}
END_TEST

START_TEST(a_gateway_of_the_other_family)
{
    const struct route_query query = {.peer = address("192.0.2.1")};
    const struct ip_address v6 = address("2001:db8::1"), v4 = address("10.0.0.1");
    uint8_t via[2 + 16] = {0};
    struct route_answer answer;
    struct nlmsghdr *message;

    memcpy(via, &(uint16_t){AF_INET6}, 2);
    memcpy(via + 2, v6.bytes, 16);
    message = answer_start(AF_INET, RTN_UNICAST);
    message_add(message, RTA_VIA, via, sizeof(via));
    answer = parse(message, &query);
    ck_assert(ip_address_equal(&answer.gateway, &v6));
    memcpy(via, &(uint16_t){AF_INET}, 2);
    memcpy(via + 2, v4.bytes, 4);
    message = answer_start(AF_INET, RTN_UNICAST);
    message_add(message, RTA_VIA, via, 2 + 4);
    answer = parse(message, &query);
    ck_assert(ip_address_equal(&answer.gateway, &v4));
    /* Cut short, and of a family that nobody knows: no answer, rather than "on the link". */
    message = answer_start(AF_INET, RTN_UNICAST);
    message_add(message, RTA_VIA, via, 2 + 3);
    ck_assert(!route_answer_parse(message, &query, &answer));
    memcpy(via, &(uint16_t){AF_INET6}, 2);
    message = answer_start(AF_INET, RTN_UNICAST);
    message_add(message, RTA_VIA, via, 2 + 15);
    ck_assert(!route_answer_parse(message, &query, &answer));
    memcpy(via, &(uint16_t){AF_UNIX}, 2);
    message = answer_start(AF_INET, RTN_UNICAST);
    message_add(message, RTA_VIA, via, sizeof(via));
    ck_assert(!route_answer_parse(message, &query, &answer));
}
END_TEST

START_TEST(a_learnt_mtu_is_told_from_the_route_s)
{
    const struct rta_cacheinfo forgotten = {.rta_expires = 1000}, kept = {.rta_used = 1};
    struct route_query query = {.peer = address("192.0.2.1")};
    struct nlmsghdr *message = answer_start(AF_INET, RTN_UNICAST);

    message_add(message, RTA_CACHEINFO, &kept, sizeof(kept));
    add_mtu(message, 1400);
    ck_assert(!parse(message, &query).learnt);
    message = answer_start(AF_INET, RTN_UNICAST);
    message_add(message, RTA_CACHEINFO, &forgotten, sizeof(forgotten));
    add_mtu(message, 1400);
    ck_assert(parse(message, &query).learnt);
    /* IPv6: a route of a router advertisement ends as well, and has learnt nothing. */
    query.peer = address("2001:db8::1");
    message = answer_start(AF_INET6, RTN_UNICAST);
    message_add(message, RTA_CACHEINFO, &forgotten, sizeof(forgotten));
    add_mtu(message, 1400);
    ck_assert(!parse(message, &query).learnt);
    ((struct rtmsg *)NLMSG_DATA(message))->rtm_flags = RTM_F_CLONED;
    ck_assert(parse(message, &query).learnt);
}
END_TEST

START_TEST(what_keeps_packets_from_the_peer)
{
    static const struct {
        int error;
        const char *text;
    } errors[] = {{-ENETUNREACH, "no route"},
                  {-EHOSTUNREACH, "unreachable"},
                  {-EINVAL, "blackhole"},
                  {-EACCES, "prohibits"},
                  {-EOPNOTSUPP, "no route"}};
    static const char *const types[] = {
        [RTN_UNSPEC] = "unreachable",  [RTN_UNICAST] = NULL,
        [RTN_LOCAL] = "this host",     [RTN_BROADCAST] = "broadcast",
        [RTN_ANYCAST] = "this host",   [RTN_MULTICAST] = "multicast",
        [RTN_BLACKHOLE] = "blackhole", [RTN_UNREACHABLE] = "unreachable",
        [RTN_PROHIBIT] = "prohibits",  [RTN_THROW] = "unreachable"};
    struct route_answer answer;

    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        answer = (struct route_answer){.error = errors[i].error};
        ck_assert_ptr_nonnull(strstr(route_answer_problem(&answer), errors[i].text));
    }
    for (uint8_t type = 0; type < sizeof(types) / sizeof(types[0]); type++) {
        answer = (struct route_answer){.type = type, .interface = 5};
        if (types[type] == NULL)
            ck_assert_ptr_null(route_answer_problem(&answer));
        else
            ck_assert_ptr_nonnull(strstr(route_answer_problem(&answer), types[type]));
    }
    answer = (struct route_answer){.type = RTN_UNICAST};
    ck_assert_ptr_nonnull(strstr(route_answer_problem(&answer), "no route"));
    answer = (struct route_answer){.type = RTN_UNICAST, .interface = 5, .encapsulates = true};
    ck_assert_ptr_nonnull(strstr(route_answer_problem(&answer), "encapsulates"));
}
END_TEST

START_TEST(another_message_is_no_answer)
{
    const struct route_query query = {.peer = address("192.0.2.1")};
    struct route_answer answer;

    ck_assert(!route_answer_parse(answer_start(AF_INET6, RTN_UNICAST), &query, &answer));
    struct nlmsghdr *message = answer_start(AF_INET, RTN_UNICAST);
    message->nlmsg_type = RTM_DELROUTE;
    ck_assert(!route_answer_parse(message, &query, &answer));
}
END_TEST

/* Every truncation in memory of exactly that size; every length of each attribute. */
START_TEST(malformed_answers_are_survived)
{
    const struct route_query query = {.peer = address("192.0.2.1")};
    struct nlmsghdr *message = answer_start(AF_INET, RTN_UNICAST);
    const struct rta_cacheinfo cache = {.rta_expires = 1000};
    uint8_t via[2 + 16] = {AF_INET6};
    struct route_answer answer;

    message_add(message, RTA_VIA, via, sizeof(via));
    message_add(message, RTA_CACHEINFO, &cache, sizeof(cache));
    add_mtu(message, 1400);
    message_add(message, RTA_PREFSRC, query.peer.bytes, 4);
    const uint32_t whole = message->nlmsg_len;
    for (uint32_t length = sizeof(struct nlmsghdr); length <= whole; length++) {
        struct nlmsghdr *cut = malloc(length);

        ck_assert_ptr_nonnull(cut);
        memcpy(cut, message, length);
        cut->nlmsg_len = length;
        ck_assert_msg(route_answer_parse(cut, &query, &answer) ==
                          (length >= NLMSG_LENGTH(sizeof(struct rtmsg))),
                      "length %u", length);
        free(cut);
    }
    for (char *at = buffer + NLMSG_SPACE(sizeof(struct rtmsg)); at < buffer + whole;) {
        struct rtattr *attribute = (struct rtattr *)at;
        const uint16_t right = attribute->rta_len;

        for (uint16_t length = 0; length < whole + 16; length++) {
            attribute->rta_len = length;
            if (route_answer_parse(message, &query, &answer))
                ck_assert(answer.mtu == 1400 || answer.mtu == 0);
        }
        attribute->rta_len = right;
        at += RTA_ALIGN(right);
    }
}
END_TEST

START_TEST(several_are_asked_in_one_go)
{

    const struct route_query queries[2] = {{.peer = address("192.0.2.1")},
                                           {.peer = address("2001:db8::1")}};
    struct route_answer answers[2];
    struct kernel *kernel;

    fake_kernel_reset();
    fake_kernel.mtu = 1300;
    ck_assert_int_eq(kernel_open(&kernel), 0);
    route_query(kernel, queries, 2, answers);
    ck_assert_uint_eq(fake_kernel.routes, 2);
    ck_assert_uint_eq(answers[0].mtu, 1300);
    ck_assert_uint_eq(answers[1].mtu, 1300);
    fake_kernel.silent = true;
    route_query(kernel, queries, 2, answers);
    ck_assert_int_eq(answers[0].error, KERNEL_SILENT);
    ck_assert_int_eq(answers[1].error, KERNEL_SILENT);
    kernel_close(kernel);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("route_query");
    TCase *tcase = tcase_create("route_query");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_add_test(tcase, the_whole_answer);
    tcase_add_test(tcase, the_source_that_was_asked_for_stays);
    tcase_add_test(tcase, a_link_local_source_has_the_interface);
    tcase_add_test(tcase, a_gateway_of_the_other_family);
    tcase_add_test(tcase, a_learnt_mtu_is_told_from_the_route_s);
    tcase_add_test(tcase, what_keeps_packets_from_the_peer);
    tcase_add_test(tcase, another_message_is_no_answer);
    tcase_add_test(tcase, malformed_answers_are_survived);
    tcase_add_test(tcase, several_are_asked_in_one_go);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
