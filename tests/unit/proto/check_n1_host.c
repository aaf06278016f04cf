/* Names and hosts: N1-NAME-010, N1-NAME-020, N1-NAME-030. */
#include <errno.h>

#include "tests/unit/proto/n1_arrival.h"

static bool valid(const char *name)
{
    return n1_name_is_valid(name, strlen(name));
}

/* Labels of 63 octets, `length` in all. */
static void long_name(char *out, size_t length)
{
    memset(out, 'a', length);
    for (size_t i = 63; i < length; i += 64)
        out[i] = '.';
    out[length] = '\0';
}

START_TEST(names_that_may_be_looked_up)
{
    static const char *const names[] = {"a",
                                        "a.",
                                        "www.example.org",
                                        "www.example.org.",
                                        "xn--bcher-kva.example",
                                        "_srv._tcp.example",
                                        "127.0.0.1",
                                        "!~",
                                        "a-b.c"};
    char name[300];
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        ck_assert_msg(valid(names[i]), "'%s' is refused", names[i]);
    memset(name, 'x', 63);
    name[63] = '\0';
    ck_assert(valid(name));
    long_name(name, 253);
    ck_assert(valid(name));
    strcat(name, ".");
    ck_assert(valid(name));
}
END_TEST

START_TEST(names_that_are_malformed)
{
    static const char *const names[] = {"",   ".",    "..",   ".a",   "a..b",  "a..",  "a b", " a",
                                        "a ", "a\tb", "a\nb", "\x7f", "a\x80", "\xff", "\x01"};
    char name[300];
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        ck_assert_msg(!valid(names[i]), "'%s' is taken", names[i]);
    ck_assert(!n1_name_is_valid("good.example\0.evil", 18));
    ck_assert(!n1_name_is_valid("a\0", 2));
    ck_assert(!n1_name_is_valid("\0", 1));
    memset(name, 'x', 64);
    name[64] = '\0';
    ck_assert(!valid(name));
    long_name(name, 254);
    ck_assert(!valid(name));
    long_name(name, 255);
    ck_assert(!valid(name));
    long_name(name, 253);
    strcat(name, "..");
    ck_assert(!valid(name));
}
END_TEST

START_TEST(every_octet_is_judged)
{
    for (unsigned octet = 0; octet < 256; octet++) {
        char name[3] = {'a', (char)octet, 'b'};
        ck_assert_msg(n1_name_is_valid(name, 3) == (octet > 0x20 && octet < 0x7f), "octet %u",
                      octet);
    }
}
END_TEST

START_TEST(a_host_from_a_name)
{
    struct n1_host host = {.port = 9};
    char name[300];
    ck_assert_int_eq(n1_host_from_name("example.org", 80, &host), 0);
    ck_assert_uint_eq(host.atyp, N1_ATYP_DOMAIN);
    ck_assert_uint_eq(host.name_length, 11);
    ck_assert_str_eq(host.name, "example.org");
    ck_assert_uint_eq(host.port, 80);
    ck_assert_int_eq(n1_host_from_name("a..b", 81, &host), -EINVAL);
    ck_assert_uint_eq(host.port, 80);
    long_name(name, 255);
    ck_assert_int_eq(n1_host_from_name(name, 1, &host), -EINVAL);
    memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    ck_assert_int_eq(n1_host_from_name(name, 1, &host), -EINVAL);
}
END_TEST

START_TEST(a_host_from_an_endpoint)
{
    struct endpoint endpoint = {.port = 5};
    ck_assert_uint_eq(n1_host_from_endpoint(&endpoint).atyp, 0);
    ck_assert_int_eq(endpoint_parse("192.0.2.1:80", &endpoint), 0);
    struct n1_host host = n1_host_from_endpoint(&endpoint);
    ck_assert_uint_eq(host.atyp, N1_ATYP_V4);
    ck_assert_uint_eq(host.port, 80);
    ck_assert(ip_address_equal(&host.address, &endpoint.address));
    ck_assert_int_eq(endpoint_parse("[2001:db8::1]:80", &endpoint), 0);
    ck_assert_uint_eq(n1_host_from_endpoint(&endpoint).atyp, N1_ATYP_V6);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("host");
    tcase_add_test(tcase, names_that_may_be_looked_up);
    tcase_add_test(tcase, names_that_are_malformed);
    tcase_add_test(tcase, every_octet_is_judged);
    tcase_add_test(tcase, a_host_from_a_name);
    tcase_add_test(tcase, a_host_from_an_endpoint);
    return run_tests(tcase);
}
