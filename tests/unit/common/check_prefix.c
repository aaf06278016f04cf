#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/net/prefix.h"

START_TEST(prefixes_parse_and_print)
{
    static const struct {
        const char *text, *printed;
    } rows[] = {
        {"10.0.0.0/8", "10.0.0.0/8"},       {"0.0.0.0/0", "0.0.0.0/0"},
        {"192.0.2.1", "192.0.2.1/32"},      {"192.0.2.1/32", "192.0.2.1/32"},
        {"2001:db8::/32", "2001:db8::/32"}, {"::/0", "::/0"},
        {"2001:db8::1", "2001:db8::1/128"}, {"128.0.0.0/1", "128.0.0.0/1"},
        {"fe80::/10", "fe80::/10"},         {"::ffff:192.0.2.1", "192.0.2.1/32"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[PREFIX_TEXT_MAX];
        struct ip_prefix prefix;

        ck_assert_msg(ip_prefix_parse(rows[i].text, &prefix) == 0, "%s refused", rows[i].text);
        ck_assert_str_eq(ip_prefix_format(&prefix, text, sizeof(text)), rows[i].printed);
    }
}
END_TEST

START_TEST(bad_prefixes_are_refused)
{
    static const char too_long[] =
        "1111111111222222222233333333334444444444"
        "1111111111222222222233333333334444444444/1";
    static const char *const rows[] = {
        "",
        "/",
        "/8",
        "10.0.0.0/",
        "10.0.0.0/33",
        "10.0.0.1/8",
        "10.0.0.0/08",
        "10.0.0.0/+8",
        "10.0.0.0/8 ",
        " 10.0.0.0/8",
        "10.0.0.0/8x",
        "10.0.0.0/-1",
        "::/129",
        "2001:db8::1/64",
        "fe80::1%3",
        "fe80::%3/10",
        "10.0.0/8",
        "10.0.0.0/8/8",
        "::ffff:10.0.0.0/104",
        "::ffff:10.0.0.0/8",
        "128.0.0.0/0",
        "10.0.0.0/99999999999999999999",
        "localhost",
        too_long,
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct ip_prefix prefix, before;

        memset(&prefix, 0xa5, sizeof(prefix));
        before = prefix;
        ck_assert_msg(ip_prefix_parse(rows[i], &prefix) == -EINVAL, "\"%s\" accepted", rows[i]);
        ck_assert_mem_eq(&prefix, &before, sizeof(prefix));
    }
}
END_TEST

START_TEST(prefixes_contain)
{
    static const struct {
        const char *prefix, *address;
        bool inside;
    } rows[] = {
        {"10.0.0.0/8", "10.255.255.255", true},
        {"10.0.0.0/8", "11.0.0.0", false},
        {"10.0.0.0/8", "9.255.255.255", false},
        {"0.0.0.0/0", "255.1.2.3", true},
        {"0.0.0.0/0", "::1", false},
        {"::/0", "1.2.3.4", false},
        {"::/0", "ffff::", true},
        {"192.0.2.64/26", "192.0.2.127", true},
        {"192.0.2.64/26", "192.0.2.128", false},
        {"192.0.2.1/32", "192.0.2.1", true},
        {"192.0.2.1/32", "192.0.2.0", false},
        {"2001:db8::/33", "2001:db8:7fff::1", true},
        {"2001:db8::/33", "2001:db8:8000::1", false},
        {"fe80::/10", "fe80::1%3", true},
        {"2001:db8::1", "2001:db8::1", true},
        {"2001:db8::1", "2001:db8::2", false},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct ip_prefix prefix;
        struct ip_address address;

        ck_assert_int_eq(ip_prefix_parse(rows[i].prefix, &prefix), 0);
        ck_assert_int_eq(ip_address_parse(rows[i].address, &address), 0);
        ck_assert_msg(ip_prefix_contains(&prefix, &address) == rows[i].inside, "%s in %s: not %d",
                      rows[i].address, rows[i].prefix, rows[i].inside);
    }
}
END_TEST

START_TEST(nothing_contains_no_address)
{
    struct ip_prefix none = {0}, all;
    struct ip_address address = {0};

    ck_assert(!ip_prefix_contains(&none, &address));
    ck_assert_int_eq(ip_prefix_parse("0.0.0.0/0", &all), 0);
    ck_assert(!ip_prefix_contains(&all, &address));
}
END_TEST

START_TEST(printing_never_overruns)
{
    struct ip_prefix prefix;
    char full[PREFIX_TEXT_MAX];

    ck_assert_int_eq(ip_prefix_parse("2001:db8:1111:2222:3333:4444:5555:6666", &prefix), 0);
    ip_prefix_format(&prefix, full, sizeof(full));
    for (size_t size = 0; size <= strlen(full) + 1; size++) {
        char text[PREFIX_TEXT_MAX];

        memset(text, '#', sizeof(text));
        ip_prefix_format(&prefix, text, size);
        for (size_t i = size; i < sizeof(text); i++)
            ck_assert_int_eq(text[i], '#');
        if (size > 0)
            ck_assert_uint_eq(strlen(text), size - 1);
    }
}
END_TEST

START_TEST(port_ranges)
{
    static const struct {
        const char *text;
        uint16_t first, last;
    } good[] = {{"80", 80, 80}, {"1-65535", 1, 65535}, {"7-7", 7, 7}, {"65535", 65535, 65535}};
    static const char *const bad[] = {
        "",  "0",   "0-80", "65536",  "1-65536", "80-79", "080",  "80-", "-80",
        "-", "80 ", "+80",  "80-+90", "8a",      "1-2-3", "0x50", "1–2", "99999999999999999999"};

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct port_range range;

        ck_assert_msg(port_range_parse(good[i].text, &range) == 0, "%s refused", good[i].text);
        ck_assert_uint_eq(range.first, good[i].first);
        ck_assert_uint_eq(range.last, good[i].last);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct port_range range = {3, 4};

        ck_assert_msg(port_range_parse(bad[i], &range) == -EINVAL, "\"%s\" accepted", bad[i]);
        ck_assert(range.first == 3 && range.last == 4);
    }
}
END_TEST

START_TEST(port_ranges_contain)
{
    const struct port_range range = {.first = 10, .last = 20};

    ck_assert(!port_range_contains(&range, 9));
    ck_assert(port_range_contains(&range, 10));
    ck_assert(port_range_contains(&range, 20));
    ck_assert(!port_range_contains(&range, 21));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("prefix");
    TCase *tcase = tcase_create("prefix");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_add_test(tcase, prefixes_parse_and_print);
    tcase_add_test(tcase, bad_prefixes_are_refused);
    tcase_add_test(tcase, prefixes_contain);
    tcase_add_test(tcase, nothing_contains_no_address);
    tcase_add_test(tcase, printing_never_overruns);
    tcase_add_test(tcase, port_ranges);
    tcase_add_test(tcase, port_ranges_contain);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
