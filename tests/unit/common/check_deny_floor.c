#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/net/deny_floor.h"

static const char *judge(const struct deny_floor *floor, const char *text)
{
    struct ip_address address;

    ck_assert_msg(ip_address_parse(text, &address) == 0, "%s", text);
    return deny_floor_judge(floor, &address);
}

#define EMBEDS "embeds a forbidden IPv4 address"

static const struct floor_case {
    const char *address, *reason; /* NULL: may be reached */
} floor_cases[] = {
    {"126.255.255.255", NULL},
    {"127.0.0.0", "loopback"},
    {"127.0.0.1", "loopback"},
    {"127.255.255.255", "loopback"},
    {"128.0.0.0", NULL},
    {"0.0.0.0", "unspecified"},
    {"0.255.255.255", "unspecified"},
    {"1.0.0.0", NULL},
    {"169.253.255.255", NULL},
    {"169.254.0.0", "link-local"},
    {"169.254.169.254", "link-local"},
    {"169.254.255.255", "link-local"},
    {"169.255.0.0", NULL},
    {"223.255.255.255", NULL},
    {"224.0.0.0", "multicast"},
    {"239.255.255.255", "multicast"},
    {"240.0.0.0", "reserved"},
    {"255.255.255.254", "reserved"},
    {"255.255.255.255", "broadcast"},
    {"10.0.0.1", NULL},
    {"192.168.1.1", NULL},
    {"::", "unspecified"},
    {"::1", "loopback"},
    {"2001:db8::1", NULL},
    {"fe7f:ffff::1", NULL},
    {"fe80::1", "link-local"},
    {"fe80::1%4", "link-local"},
    {"febf:ffff::1", "link-local"},
    {"fec0::1", NULL},
    {"fd00::1", NULL},
    {"feff::1", NULL},
    {"ff00::", "multicast"},
    {"ff02::1", "multicast"},
    {"::ffff:127.0.0.1", "loopback"},
    {"::ffff:192.0.2.1", NULL},
    /* embedded */
    {"64:ff9b::127.0.0.1", EMBEDS},
    {"64:ff9b::169.254.169.254", EMBEDS},
    {"64:ff9b::0.0.0.1", EMBEDS},
    {"64:ff9b::255.255.255.255", EMBEDS},
    {"64:ff9b::224.0.0.1", EMBEDS},
    {"64:ff9b::192.0.2.1", NULL},
    {"64:ff9b:0:0:0:1:7f00:1", NULL}, /* not in the /96 */
    {"2002:7f00:1::", EMBEDS},
    {"2002:7f00:1:1234::5678", EMBEDS},
    {"2002:a9fe:a9fe::1", EMBEDS},
    {"2002:c000:201::1", NULL},
    {"2003:7f00:1::", NULL},
    {"::127.0.0.1", EMBEDS},
    {"::240.0.0.1", EMBEDS},
    {"::2", EMBEDS}, /* 0.0.0.2 */
    {"::192.0.2.1", NULL},
    {"::1:0:127.0.0.1", NULL}, /* not in the /96 */
};

START_TEST(constant_part)
{
    const struct floor_case *row = &floor_cases[_i];
    const struct deny_floor floor = {0};
    const char *reason = judge(&floor, row->address);

    if (row->reason)
        ck_assert_msg(reason && strcmp(reason, row->reason) == 0, "%s: expected %s, got %s",
                      row->address, row->reason, reason ? reason : "(open)");
    else
        ck_assert_msg(!reason, "%s: expected open, got %s", row->address, reason);
}
END_TEST

START_TEST(no_address_is_never_reachable)
{
    const struct ip_prefix open = {.address = {.family = IP_NONE}, .length = 0};
    const struct deny_floor floor = {.open = &open, .open_count = 1};
    const struct ip_address none = {0}, odd = {.family = 9};

    ck_assert_ptr_nonnull(deny_floor_judge(&floor, &none));
    ck_assert_ptr_nonnull(deny_floor_judge(&floor, &odd));
}
END_TEST

START_TEST(a_mapped_address_in_disguise)
{
    struct ip_address address = {.family = IP_V6,
                                 .bytes = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1}};
    const struct deny_floor floor = {0};

    ck_assert_str_eq(deny_floor_judge(&floor, &address), EMBEDS);
    address.bytes[12] = 9;
    ck_assert_ptr_null(deny_floor_judge(&floor, &address));
}
END_TEST

START_TEST(exceptions_open)
{
    struct ip_prefix open[2];
    const struct deny_floor floor = {.open = open, .open_count = 2};

    ck_assert_int_eq(ip_prefix_parse("127.0.0.0/30", &open[0]), 0);
    ck_assert_int_eq(ip_prefix_parse("64:ff9b::a9fe:0/120", &open[1]), 0);
    ck_assert_ptr_null(judge(&floor, "127.0.0.1"));
    ck_assert_str_eq(judge(&floor, "127.0.0.4"), "loopback");
    /* the embedded address is open, or the IPv6 address itself */
    ck_assert_ptr_null(judge(&floor, "64:ff9b::127.0.0.1"));
    ck_assert_ptr_null(judge(&floor, "2002:7f00:1::1"));
    ck_assert_str_eq(judge(&floor, "2002:7f00:4::1"), EMBEDS);
    ck_assert_ptr_null(judge(&floor, "64:ff9b::169.254.0.9"));
    ck_assert_str_eq(judge(&floor, "64:ff9b::169.254.1.9"), EMBEDS);
    ck_assert_str_eq(judge(&floor, "169.254.0.9"), "link-local");
    ck_assert_str_eq(judge(&floor, "::1"), "loopback");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("deny_floor");
    TCase *tcase = tcase_create("deny_floor");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_add_loop_test(tcase, constant_part, 0,
                        (int)(sizeof(floor_cases) / sizeof(floor_cases[0])));
    tcase_add_test(tcase, no_address_is_never_reachable);
    tcase_add_test(tcase, a_mapped_address_in_disguise);
    tcase_add_test(tcase, exceptions_open);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
