#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/endpoint.h"

static struct ip_address address_of(const char *text)
{
    struct ip_address address = {0};
    ck_assert_msg(ip_address_parse(text, &address) == 0, "%s is refused", text);
    return address;
}

START_TEST(addresses_survive_text)
{
    static const char *const texts[] = {
        "0.0.0.0",     "192.0.2.1", "255.255.255.255",    "::",      "::1",
        "2001:db8::1", "fe80::1%3", "fe80::1%4294967295", "ff02::1", "64:ff9b::c000:201",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        char text[ENDPOINT_TEXT_MAX];
        struct ip_address address = address_of(texts[i]);
        ck_assert_str_eq(ip_address_format(&address, text, sizeof(text)), texts[i]);
    }
}
END_TEST

START_TEST(other_text_is_no_address)
{
    static const char *const texts[] = {
        "",
        " ",
        "1",
        "1.2.3",
        "1.2.3.4.5",
        "256.1.1.1",
        "01.2.3.4",
        "1.2.3.4 ",
        " 1.2.3.4",
        "1.2.3.4x",
        ":",
        ":::",
        "1:2:3:4:5:6:7:8:9",
        "::1%1",
        "fe80::1%",
        "fe80::1%0",
        "fe80::1%01",
        "fe80::1%eth0",
        "fe80::1%4294967296",
        "fe80::1% 1",
        "1.2.3.4%1",
        "[::1]",
        "12345::",
        "::ffff:1.2.3.4%1",
        "1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc:dddd",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct ip_address address = {.family = 99};
        ck_assert_msg(ip_address_parse(texts[i], &address) == -EINVAL, "'%s' is taken", texts[i]);
        ck_assert_uint_eq(address.family, 99);
    }
}
END_TEST

/* N1-ADDR-020 */
START_TEST(ipv4_mapped_is_ipv4)
{
    uint8_t mapped[16] = {[10] = 0xff, [11] = 0xff, 192, 0, 2, 1};
    struct ip_address v4 = address_of("192.0.2.1");
    struct ip_address from_bytes = ip_address_v6(mapped);
    struct ip_address from_text = address_of("::ffff:192.0.2.1");
    ck_assert(ip_address_equal(&v4, &from_bytes));
    ck_assert(ip_address_equal(&v4, &from_text));
    ck_assert_mem_eq(v4.bytes, from_bytes.bytes, sizeof(v4.bytes));
    mapped[9] = 1; /* no longer mapped */
    ck_assert_uint_eq(ip_address_v6(mapped).family, IP_V6);
    struct ip_address compatible = address_of("::192.0.2.1");
    ck_assert_uint_eq(compatible.family, IP_V6);
}
END_TEST

START_TEST(equality_sees_everything)
{
    static const char *const texts[] = {"0.0.0.0", "192.0.2.1", "192.0.2.2", "::",
                                        "fe80::1", "fe80::1%1", "fe80::1%2", "2001:db8::1"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        for (size_t j = 0; j < sizeof(texts) / sizeof(texts[0]); j++) {
            struct endpoint a = {.address = address_of(texts[i]), .port = 1};
            struct endpoint b = {.address = address_of(texts[j]), .port = 1};
            ck_assert(ip_address_equal(&a.address, &b.address) == (i == j));
            ck_assert(endpoint_equal(&a, &b) == (i == j));
            b.port = 2;
            ck_assert(!endpoint_equal(&a, &b));
        }
    }
}
END_TEST

START_TEST(kinds_of_addresses)
{
    static const struct {
        const char *text;
        bool unspecified, link_local;
        size_t size;
    } rows[] = {
        {"0.0.0.0", true, false, 4},      {"0.0.0.1", false, false, 4},
        {"169.254.0.1", false, false, 4}, {"::", true, false, 16},
        {"::1", false, false, 16},        {"fe80::", false, true, 16},
        {"febf::1", false, true, 16},     {"fec0::1", false, false, 16},
        {"fe7f::1", false, false, 16},    {"ff02::1", false, false, 16},
    };
    struct ip_address none = {0};
    ck_assert(!ip_address_is_unspecified(&none));
    ck_assert(!ip_address_is_link_local_v6(&none));
    ck_assert_uint_eq(ip_address_size(&none), 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct ip_address address = address_of(rows[i].text);
        ck_assert(ip_address_is_unspecified(&address) == rows[i].unspecified);
        ck_assert(ip_address_is_link_local_v6(&address) == rows[i].link_local);
        ck_assert_uint_eq(ip_address_size(&address), rows[i].size);
    }
}
END_TEST

START_TEST(endpoints_survive_text)
{
    static const char *const texts[] = {"192.0.2.1:80", "0.0.0.0:0", "[::]:65535",
                                        "[2001:db8::1]:80", "[fe80::1%7]:1"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        char text[ENDPOINT_TEXT_MAX];
        struct endpoint endpoint;
        ck_assert_int_eq(endpoint_parse(texts[i], &endpoint), 0);
        ck_assert_str_eq(endpoint_format(&endpoint, text, sizeof(text)), texts[i]);
    }
}
END_TEST

START_TEST(other_text_is_no_endpoint)
{
    static const char *const texts[] = {
        "",
        ":",
        ":80",
        "192.0.2.1",
        "192.0.2.1:",
        "192.0.2.1:65536",
        "192.0.2.1:080",
        "192.0.2.1:+1",
        "192.0.2.1:-1",
        "192.0.2.1:8x",
        "192.0.2.1: 80",
        "::1:80",
        "[::1]",
        "[::1]80",
        "[::1]:",
        "[::1:80",
        "[192.0.2.1]:80",
        "[]:80",
        "example.org:80",
        "2001:db8::1",
        "192.0.2.1:80:80",
        "192.0.2.1:99999999999999999999999999",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct endpoint endpoint = {.port = 4711};
        ck_assert_msg(endpoint_parse(texts[i], &endpoint) == -EINVAL, "'%s' is taken", texts[i]);
        ck_assert_uint_eq(endpoint.port, 4711);
    }
}
END_TEST

START_TEST(text_never_overflows)
{
    struct endpoint longest = {.port = 65535};
    struct endpoint none = {.port = 80};
    char text[ENDPOINT_TEXT_MAX];
    ck_assert_int_eq(
        endpoint_parse("[fe80:1111:2222:3333:4444:5555:6666:7777%4294967295]:65535", &longest), 0);
    endpoint_format(&longest, text, sizeof(text));
    ck_assert_str_eq(text, "[fe80:1111:2222:3333:4444:5555:6666:7777%4294967295]:65535");
    for (size_t size = 1; size < strlen(text) + 1; size++) {
        char *block = malloc(size);
        endpoint_format(&longest, block, size);
        ck_assert_uint_eq(strlen(block), size - 1);
        ck_assert(strncmp(block, text, size - 1) == 0);
        free(block);
    }
    ck_assert_str_eq(endpoint_format(&none, text, sizeof(text)), "-");
    ck_assert_str_eq(ip_address_format(&none.address, text, sizeof(text)), "-");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("endpoint");
    TCase *tcase = tcase_create("endpoint");
    tcase_add_test(tcase, addresses_survive_text);
    tcase_add_test(tcase, other_text_is_no_address);
    tcase_add_test(tcase, ipv4_mapped_is_ipv4);
    tcase_add_test(tcase, equality_sees_everything);
    tcase_add_test(tcase, kinds_of_addresses);
    tcase_add_test(tcase, endpoints_survive_text);
    tcase_add_test(tcase, other_text_is_no_endpoint);
    tcase_add_test(tcase, text_never_overflows);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
