#include <errno.h>
#include <string.h>

#include "common/client/sockst.h"
#include "tests/unit/client/suite.h"

START_TEST(urls_that_are_understood)
{
    static const struct {
        const char *url, *host;
        uint16_t port;
        const char *user, *password; /* NULL: none */
    } rows[] = {
        {"socks5t://127.0.0.1", "127.0.0.1", 1080, NULL, NULL},
        {"socks5t://127.0.0.1/", "127.0.0.1", 1080, NULL, NULL},
        {"socks5t://proxy.example:1", "proxy.example", 1, NULL, NULL},
        {"socks5t://[2001:db8::1]", "2001:db8::1", 1080, NULL, NULL},
        {"socks5t://[fe80::1%eth0]:65535", "fe80::1%eth0", 65535, NULL, NULL},
        {"socks5t://alice@h", "h", 1080, "alice", ""},
        {"socks5t://alice:@h", "h", 1080, "alice", ""},
        {"socks5t://alice:pw@h:80", "h", 80, "alice", "pw"},
        {"socks5t://a%3Ab:p%40%2f%25@h", "h", 1080, "a:b", "p@/%"},
        {"socks5t://a:p@ss:word@h", "h", 1080, "a", "p@ss:word"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct sockst_proxy proxy;
        const char *why = NULL;
        ck_assert_msg(sockst_proxy_parse(rows[i].url, &proxy, &why) == 0, "%s: %s", rows[i].url,
                      why);
        ck_assert_str_eq(proxy.host, rows[i].host);
        ck_assert_uint_eq(proxy.port, rows[i].port);
        ck_assert(proxy.has_user == (rows[i].user != NULL));
        if (rows[i].user == NULL)
            continue;
        ck_assert_str_eq(proxy.userpass.user, rows[i].user);
        ck_assert_str_eq(proxy.userpass.password, rows[i].password);
        ck_assert_uint_eq(proxy.userpass.user_length, strlen(rows[i].user));
        ck_assert_uint_eq(proxy.userpass.password_length, strlen(rows[i].password));
    }
}
END_TEST

START_TEST(urls_that_are_refused)
{
    static const char *const urls[] = {
        "",
        "127.0.0.1",
        "socks5://h",
        "SOCKS5T://h",
        "socks5t:/h",
        "socks5t://",
        "socks5t:///",
        "socks5t://:80",
        "socks5t://h:",
        "socks5t://h:0",
        "socks5t://h:65536",
        "socks5t://h:80x",
        "socks5t://h:-1",
        "socks5t://h/x",
        "socks5t://[::1",
        "socks5t://[::1]x",
        "socks5t://[h]",
        "socks5t://[]",
        "socks5t://::1",
        "socks5t://a b",
        "socks5t://@h",
        "socks5t://:pw@h",
        "socks5t://a%@h",
        "socks5t://a%4@h",
        "socks5t://a%zz@h",
        "socks5t://a..b",
        "socks5t://h:99999999999999999999",
    };
    for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        struct sockst_proxy proxy = {.port = 4711};
        const char *why = NULL;
        ck_assert_msg(sockst_proxy_parse(urls[i], &proxy, &why) == -EINVAL, "'%s' is taken",
                      urls[i]);
        ck_assert_ptr_nonnull(why);
        ck_assert_uint_eq(proxy.port, 4711);
    }
}
END_TEST

START_TEST(lengths_have_their_limits)
{
    char url[4096] = "socks5t://";
    struct sockst_proxy proxy;
    const char *why;
    size_t start = strlen(url);
    memset(url + start, 'u', 255);
    strcpy(url + start + 255, "@h");
    ck_assert_int_eq(sockst_proxy_parse(url, &proxy, &why), 0);
    ck_assert_uint_eq(proxy.userpass.user_length, 255);
    memset(url + start, 'u', 256);
    strcpy(url + start + 256, "@h");
    ck_assert_int_eq(sockst_proxy_parse(url, &proxy, &why), -EINVAL);
    memset(url + start, 'h', 256);
    url[start + 256] = '\0';
    ck_assert_int_eq(sockst_proxy_parse(url, &proxy, &why), -EINVAL);
    memset(url + start, 'h', 4000);
    url[start + 4000] = '\0';
    ck_assert_int_eq(sockst_proxy_parse(url, &proxy, &why), -EINVAL);
}
END_TEST

START_TEST(numeric_hosts_are_resolved)
{
    struct endpoint endpoints[SOCKST_PROXY_ADDRESSES_MAX];
    struct sockst_failure failure;
    struct sockst_proxy proxy;
    const char *why;
    char text[ENDPOINT_TEXT_MAX];
    ck_assert_int_eq(sockst_proxy_parse("socks5t://[2001:db8::1]:7", &proxy, &why), 0);
    ck_assert_int_eq(sockst_proxy_resolve(&proxy, endpoints, 8, &failure), 1);
    ck_assert_str_eq(endpoint_format(&endpoints[0], text, sizeof(text)), "[2001:db8::1]:7");
    ck_assert_int_eq(sockst_proxy_parse("socks5t://300.1.1.1.invalid", &proxy, &why), 0);
    ck_assert_int_eq(sockst_proxy_resolve(&proxy, endpoints, 8, &failure), -1);
    ck_assert_int_eq(failure.error, SOCKST_E_PROXY);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("proxy");
    tcase_add_test(tcase, urls_that_are_understood);
    tcase_add_test(tcase, urls_that_are_refused);
    tcase_add_test(tcase, lengths_have_their_limits);
    tcase_add_test(tcase, numeric_hosts_are_resolved);
    return run_tests(tcase);
}
