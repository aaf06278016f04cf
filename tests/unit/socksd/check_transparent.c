/*
 * TRANSPARENT: S, DST, names, rules, the deny floor, and what relayd says.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/net/sockaddr.h"
#include "proto/ptcl.h"
#include "tests/unit/socksd/requests.h"

static struct fixture f;

static void setup(void)
{
    fixture_init(&f);
}

static void teardown(void)
{
    fixture_stop(&f);
}

/* ---- S --------------------------------------------------------------------------------------- */

START_TEST(test_source_zero_is_the_peer)
{
    char text[ENDPOINT_TEXT_MAX];
    fixture_start(&f);
    ask(&f, PTCL_TCP, TARGET, "0.0.0.0:40000", N1_REP_SUCCEEDED);
    ck_assert_str_eq(endpoint_format(&f.fake[0].last_order.source, text, sizeof(text)),
                     "127.0.0.1:40000");
    ask(&f, PTCL_TCP, TARGET, "[::]:40001", N1_REP_SUCCEEDED);
    ck_assert_str_eq(endpoint_format(&f.fake[0].last_order.source, text, sizeof(text)),
                     "127.0.0.1:40001");
    ask(&f, PTCL_TCP, TARGET, "127.0.0.1:40002", N1_REP_SUCCEEDED);
    ck_assert_str_eq(endpoint_format(&f.fake[0].last_order.source, text, sizeof(text)),
                     "127.0.0.1:40002");
}
END_TEST

/* ::ffff:127.0.0.1 is 127.0.0.1, as S and as DST. */
START_TEST(test_mapped_addresses_are_ipv4)
{
    fixture_start(&f);
    ask_both_ways(&f,
                  BYTES(5, 4, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 192, 0, 2, 80, 0, 80, 6,
                        4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 127, 0, 0, 1, 0x9c, 0x40),
                  N1_REP_SUCCEEDED);
    ck_assert_uint_eq(f.fake[0].last_order.source.address.family, IP_V4);
    ck_assert_uint_eq(f.fake[0].last_order.destinations[0].address.family, IP_V4);
    /* … so that the deny floor sees through it */
    ask_both_ways(&f,
                  BYTES(5, 4, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 127, 0, 0, 1, 0, 80, 6,
                        V4_SOURCE),
                  N1_REP_NOT_ALLOWED);
}
END_TEST

START_TEST(test_foreign_source_needs_a_rule)
{
    fixture_start(&f);
    ask(&f, PTCL_TCP, TARGET, "192.0.2.9:40000", N1_REP_NOT_ALLOWED);
    ask(&f, PTCL_TCP, TARGET, "[2001:db8::9]:40000", N1_REP_NOT_ALLOWED);
    ck_assert_uint_eq(COUNT(&f, COUNTER_DENIED_SOURCE), 4);
    ck_assert_uint_eq(f.fake[0].orders, 0);
}
END_TEST

START_TEST(test_foreign_source_by_rule)
{
    char text[ENDPOINT_TEXT_MAX];
    f.config.rules.count = 2;
    f.rules[0] = (struct rule_config){.action = RULE_ALLOW, .to = LIST(char *, "192.0.2.80/32")};
    f.rules[1] = (struct rule_config){.action = RULE_ALLOW, .foreign_source = true};
    fixture_start(&f);
    /* the rule that matches must say so, not just any */
    ask(&f, PTCL_TCP, "192.0.2.80:80", "192.0.2.9:40000", N1_REP_NOT_ALLOWED);
    ask(&f, PTCL_TCP, "192.0.2.81:80", "192.0.2.9:40000", N1_REP_SUCCEEDED);
    ck_assert_str_eq(endpoint_format(&f.fake[0].last_order.source, text, sizeof(text)),
                     "192.0.2.9:40000");
    ck_assert_str_eq(f.fake[0].last_order.rule, "rule-2");
    /* not even a rule aims traffic at multicast or loopback */
    ask(&f, PTCL_TCP, "192.0.2.81:80", "224.0.0.1:40000", N1_REP_NOT_ALLOWED);
    ask(&f, PTCL_TCP, "192.0.2.81:80", "127.0.0.2:40000", N1_REP_NOT_ALLOWED);
    ask(&f, PTCL_TCP, "192.0.2.81:80", "255.255.255.255:40000", N1_REP_NOT_ALLOWED);
}
END_TEST

START_TEST(test_source_port_zero)
{
    fixture_start(&f);
    ask(&f, PTCL_TCP, TARGET, "0.0.0.0:0", N1_REP_GENERAL_FAILURE);
    f.config.transparent.learn_source_port = true;
    ask(&f, PTCL_TCP, TARGET, "0.0.0.0:0", N1_REP_SUCCEEDED);
    ck_assert(f.fake[0].last_order.learn_source_port);
    ck_assert_uint_eq(f.fake[0].last_order.source.port, 0);
    ask(&f, PTCL_TCP, TARGET, "0.0.0.0:40000", N1_REP_SUCCEEDED);
    ck_assert(!f.fake[0].last_order.learn_source_port);
}
END_TEST

static const struct fake_dns_record records[] = {
    {"me.example.org", "192.0.2.7"},
    {"me.example.org", "127.0.0.1"},
    {"other.example.org", "192.0.2.7"},
    {"www.example.org", "2001:db8::80"},
    {"www.example.org", "192.0.2.80"},
    {"six.example.org", "2001:db8::81"},
    {"inner.example.org", "127.0.0.1"},
    {"inner.example.org", "10.0.0.1"},
    {"rebound.example.org", "127.0.0.1"},
    {"rebound.example.org", "192.0.2.82"},
    {"mapped.example.org", "::ffff:127.0.0.1"},
    {NULL, NULL},
};

START_TEST(test_source_by_name)
{
    char text[ENDPOINT_TEXT_MAX];
    f.records = records;
    fixture_start(&f);
    ask(&f, PTCL_TCP, TARGET, "me.example.org:40000", N1_REP_SUCCEEDED);
    ck_assert_str_eq(endpoint_format(&f.fake[0].last_order.source, text, sizeof(text)),
                     "127.0.0.1:40000");
    ask(&f, PTCL_TCP, TARGET, "other.example.org:40000", N1_REP_NOT_ALLOWED);
    ask(&f, PTCL_TCP, TARGET, "nobody.example.org:40000", N1_REP_GENERAL_FAILURE);
    ask_both_ways(&f, BYTES(5, 4, 0, V4_TARGET, 6, 3, 3, 'a', 0, 'b', 0x9c, 0x40),
                  N1_REP_GENERAL_FAILURE);
    ask_both_ways(&f, BYTES(5, 4, 0, V4_TARGET, 6, 3, 0, 0x9c, 0x40), N1_REP_GENERAL_FAILURE);
}
END_TEST

/* ---- DST ------------------------------------------------------------------------------------- */

START_TEST(test_names_of_destinations)
{
    char text[ENDPOINT_TEXT_MAX];
    f.records = records;
    fixture_start(&f);
    ask(&f, PTCL_TCP, "www.example.org:80", OWN_SOURCE, N1_REP_SUCCEEDED); /* family of S first */
    ck_assert_str_eq(endpoint_format(&f.fake[0].last_order.destinations[0], text, sizeof(text)),
                     "192.0.2.80:80");
    ask(&f, PTCL_TCP, "WWW.Example.org.:80", OWN_SOURCE, N1_REP_SUCCEEDED);
    ask(&f, PTCL_TCP, "six.example.org:80", OWN_SOURCE,
        N1_REP_SUCCEEDED); /* only the other one is there */
    ck_assert_str_eq(endpoint_format(&f.fake[0].last_order.destinations[0], text, sizeof(text)),
                     "[2001:db8::81]:80");
    ask(&f, PTCL_TCP, "nobody.example.org:80", OWN_SOURCE, N1_REP_HOST_UNREACHABLE);
    ask(&f, PTCL_TCP, "mapped.example.org:80", OWN_SOURCE, N1_REP_NOT_ALLOWED);
    ck_assert_uint_eq(COUNT(&f, COUNTER_RESOLVER_FAILURES), 2);
    ck_assert_uint_eq(COUNT(&f, COUNTER_RESOLVER_IN_FLIGHT), 0);
}
END_TEST

START_TEST(test_invalid_names)
{
    fixture_start(&f);
    ask_both_ways(&f, BYTES(5, 4, 0, 3, 0, 0, 80, 6, V4_SOURCE), N1_REP_GENERAL_FAILURE);
    ask_both_ways(&f, BYTES(5, 4, 0, 3, 3, 'a', 0, 'b', 0, 80, 6, V4_SOURCE),
                  N1_REP_GENERAL_FAILURE);
    ask_both_ways(&f, BYTES(5, 4, 0, 3, 3, 'a', '\n', 'b', 0, 80, 6, V4_SOURCE),
                  N1_REP_GENERAL_FAILURE);
    ask_both_ways(&f, BYTES(5, 4, 0, 3, 4, 'a', '.', '.', 'b', 0, 80, 6, V4_SOURCE),
                  N1_REP_GENERAL_FAILURE);
    ask_both_ways(&f, BYTES(5, 4, 0, 3, 2, '.', 'b', 0, 80, 6, V4_SOURCE), N1_REP_GENERAL_FAILURE);
    ask_both_ways(&f, BYTES(5, 4, 0, 3, 2, 'a', 0xff, 0, 80, 6, V4_SOURCE), N1_REP_GENERAL_FAILURE);
    ck_assert_uint_eq(f.dns.queries, 0);
}
END_TEST

START_TEST(test_destination_port_zero)
{
    fixture_start(&f);
    ask(&f, PTCL_TCP, "192.0.2.80:0", OWN_SOURCE, N1_REP_GENERAL_FAILURE);
    ask(&f, PTCL_TCP, "www.example.org:0", OWN_SOURCE, N1_REP_GENERAL_FAILURE);
    ck_assert_uint_eq(f.dns.queries, 0);
}
END_TEST

/* Stands before the C library's: c-ares calls it too. */
static unsigned foreign_connects;

int connect(int fd, __CONST_SOCKADDR_ARG address, socklen_t length)
{
    const struct sockaddr *to = address.__sockaddr__;
    struct endpoint endpoint;
    struct ip_prefix loopback;

    if (endpoint_from_sockaddr(to, &endpoint) == 0) {
        ck_assert_int_eq(ip_prefix_parse("127.0.0.0/8", &loopback), 0);
        foreign_connects += !ip_prefix_contains(&loopback, &endpoint.address);
    }
    return (int)syscall(SYS_connect, fd, to, length);
}

/* Not even to find out which address is the nearest, as resolvers like to do. */
START_TEST(test_no_socket_to_a_target)
{
    f.records = records;
    fixture_start(&f);
    ask(&f, PTCL_TCP, "www.example.org:80", OWN_SOURCE, N1_REP_SUCCEEDED);
    ck_assert_uint_eq(foreign_connects, 0);
}
END_TEST

/* A name is not looked up when no address could make it allowed. */
START_TEST(test_rules_on_names)
{
    f.records = records;
    f.config.rules.count = 3;
    f.rules[0] = (struct rule_config){.action = RULE_DENY, .to = LIST(char *, "six.example.org")};
    f.rules[1] = (struct rule_config){.action = RULE_ALLOW, .to = LIST(char *, ".example.org")};
    f.rules[2] = (struct rule_config){.action = RULE_DENY};
    fixture_start(&f);
    ask(&f, PTCL_TCP, "six.example.org:80", OWN_SOURCE, N1_REP_NOT_ALLOWED);
    ask(&f, PTCL_TCP, "www.example.com:80", OWN_SOURCE, N1_REP_NOT_ALLOWED);
    ask(&f, PTCL_TCP, "wwwexample.org:80", OWN_SOURCE, N1_REP_NOT_ALLOWED);
    ck_assert_uint_eq(f.dns.queries, 0);
    ask(&f, PTCL_TCP, "www.example.org:80", OWN_SOURCE, N1_REP_SUCCEEDED);
    ask(&f, PTCL_TCP, "192.0.2.80:80", OWN_SOURCE, N1_REP_NOT_ALLOWED); /* asked for by address */
    ck_assert_uint_eq(COUNT(&f, COUNTER_DENIED_RULE), 8);
}
END_TEST

/* Rules and floor see the address that will be used. */
START_TEST(test_rules_on_addresses_of_names)
{
    char text[ENDPOINT_TEXT_MAX];
    f.records = records;
    f.config.rules.count = 2;
    f.rules[0] = (struct rule_config){.action = RULE_DENY, .to = LIST(char *, "10.0.0.0/8")};
    f.rules[1] = (struct rule_config){.action = RULE_ALLOW};
    fixture_start(&f);
    ask(&f, PTCL_TCP, "inner.example.org:80", OWN_SOURCE, N1_REP_NOT_ALLOWED);
    ask(&f, PTCL_TCP, "rebound.example.org:80", OWN_SOURCE, N1_REP_SUCCEEDED);
    ck_assert_str_eq(endpoint_format(&f.fake[0].last_order.destinations[0], text, sizeof(text)),
                     "192.0.2.82:80");
    ask(&f, PTCL_TCP, "10.1.2.3:80", OWN_SOURCE, N1_REP_NOT_ALLOWED);
    ck_assert_uint_eq(f.fake[0].orders, 2);
}
END_TEST

START_TEST(test_deny_floor)
{
    static const char *const forbidden[] = {
        "127.0.0.1:80",         "0.0.0.0:80",    "0.1.2.3:80",         "169.254.1.1:80",
        "224.0.0.1:80",         "240.0.0.1:80",  "[::1]:80",           "[::]:80",
        "[fe80::1]:80",         "[ff02::1]:80",  "255.255.255.255:80", "[2002:7f00:1::]:80",
        "[64:ff9b::7f00:1]:80", "[::7f00:1]:80",
    };
    static struct ip_prefix open;
    fixture_start(&f);
    for (size_t i = 0; i < sizeof(forbidden) / sizeof(forbidden[0]); i++)
        ask(&f, PTCL_TCP, forbidden[i], OWN_SOURCE, N1_REP_NOT_ALLOWED);
    ck_assert_uint_eq(f.fake[0].orders, 0);
    ck_assert_uint_eq(COUNT(&f, COUNTER_DENIED_FLOOR),
                      2 * sizeof(forbidden) / sizeof(forbidden[0]));
    ck_assert_int_eq(ip_prefix_parse("127.0.0.0/8", &open), 0);
    f.floor = (struct deny_floor){.open = &open, .open_count = 1};
    ask(&f, PTCL_TCP, "127.0.0.1:80", OWN_SOURCE, N1_REP_SUCCEEDED);
}
END_TEST

START_TEST(test_what_relayd_says)
{
    static const struct {
        enum n2_error error;
        int reply;
    } cases[] = {
        {N2_ERROR_GENERAL, N1_REP_GENERAL_FAILURE},
        {N2_ERROR_NOT_ALLOWED, N1_REP_NOT_ALLOWED},
        {N2_ERROR_NETWORK_UNREACHABLE, N1_REP_NETWORK_UNREACHABLE},
        {N2_ERROR_HOST_UNREACHABLE, N1_REP_HOST_UNREACHABLE},
        {N2_ERROR_REFUSED, N1_REP_REFUSED},
        {N2_ERROR_TIMED_OUT, N1_REP_TTL_EXPIRED},
        {N2_ERROR_UNSUPPORTED, N1_REP_GENERAL_FAILURE},
        {N2_ERROR_DRAINING,
         N1_REP_GENERAL_FAILURE}, /* the last: the daemon is avoided from here on */
    };
    f.fake[0].answer = FAKE_FAILS;
    fixture_start(&f);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        f.fake[0].error = cases[i].error;
        ask(&f, PTCL_TCP, TARGET, OWN_SOURCE, cases[i].reply);
    }
    ck_assert_uint_eq(sizeof(cases) / sizeof(cases[0]), N2_ERROR_END - 1);
}
END_TEST

/* ---- the resolver ---------------------------------------------------------------------------- */

START_TEST(test_resolver_timeout)
{
    f.config.resolver.timeout_ms = 100;
    fixture_start(&f);
    f.dns.silent = true;
    ask(&f, PTCL_TCP, "www.example.org:80", OWN_SOURCE, N1_REP_HOST_UNREACHABLE);
    ck_assert_uint_ge(COUNT(&f, COUNTER_RESOLVER_TIMEOUTS), 2);
}
END_TEST

START_TEST(test_resolver_is_bounded)
{
    uint8_t request[N1_REQUEST_MAX];
    f.config.resolver.queries = 1;
    f.records = records;
    fixture_start(&f);
    f.dns.silent = true;
    int fd = client_connect(&f);
    client_greet(&f, fd);
    client_send(
        fd, request,
        request_encode(request, sizeof(request), PTCL_TCP, "www.example.org:80", OWN_SOURCE));
    WAIT_FOR(&f, COUNT(&f, COUNTER_RESOLVER_IN_FLIGHT) == 1);
    ask(&f, PTCL_TCP, "six.example.org:80", OWN_SOURCE, N1_REP_GENERAL_FAILURE);
    ck_assert_uint_eq(COUNT(&f, COUNTER_RESOLVER_REFUSED), 2);
    close(fd);
}
END_TEST

/* A session that dies takes its look-up along, whatever c-ares does with it. */
START_TEST(test_look_up_of_a_dead_session)
{
    uint8_t request[N1_REQUEST_MAX];
    f.config.resolver.timeout_ms = 200;
    fixture_start(&f);
    f.dns.silent = true;
    int fd = client_connect(&f);
    client_greet(&f, fd);
    client_send(
        fd, request,
        request_encode(request, sizeof(request), PTCL_TCP, "www.example.org:80", OWN_SOURCE));
    WAIT_FOR(&f, f.dns.queries > 0);
    close(fd);
    WAIT_FOR(&f, f.set.count == 0);
    WAIT_FOR(&f, COUNT(&f, COUNTER_RESOLVER_IN_FLIGHT) == 0);
    ck_assert_uint_eq(f.fake[0].orders, 0);
}
END_TEST

/* N1-NAME-040: Clients of one address that ask and leave do not use up the resolver for others. */
START_TEST(test_abandoned_look_ups_have_their_share)
{
    uint8_t request[N1_REQUEST_MAX];
    struct endpoint other;
    ck_assert_int_eq(endpoint_parse("192.0.2.9:50000", &other), 0);
    f.config.resolver.queries = 4;
    f.config.resolver.queries_per_address = 3;
    f.records = records;
    fixture_start(&f);
    f.dns.silent = true;
    for (unsigned i = 1; i <= 3; i++) {
        int fd = client_connect(&f);
        client_greet(&f, fd);
        client_send(
            fd, request,
            request_encode(request, sizeof(request), PTCL_TCP, "www.example.org:80", OWN_SOURCE));
        WAIT_FOR(&f, COUNT(&f, COUNTER_RESOLVER_IN_FLIGHT) == i);
        close(fd);
    }
    WAIT_FOR(&f, f.set.count == 0);
    ck_assert_uint_eq(COUNT(&f, COUNTER_RESOLVER_IN_FLIGHT), 3);
    ask(&f, PTCL_TCP, "six.example.org:80", OWN_SOURCE, N1_REP_GENERAL_FAILURE);
    ck_assert_uint_eq(COUNT(&f, COUNTER_RESOLVER_REFUSED_ADDRESS_LIMIT), 2);
    ck_assert_uint_eq(COUNT(&f, COUNTER_RESOLVER_REFUSED), 0);

    f.dns.silent = false;
    int fd = client_connect_as(&f, &other);
    client_ask(&f, fd, PTCL_TCP, "www.example.org:80", OWN_SOURCE, N1_REP_SUCCEEDED);
    close(fd);
    WAIT_FOR(&f, COUNT(&f, COUNTER_RESOLVER_IN_FLIGHT) == 0);
    ask(&f, PTCL_TCP, "www.example.org:80", OWN_SOURCE, N1_REP_SUCCEEDED);
}
END_TEST

/* ---- IPv6 ------------------------------------------------------------------------------------ */

START_TEST(test_client_over_ipv6)
{
    char text[ENDPOINT_TEXT_MAX];
    f.listen_address = "[::1]:0";
    f.records = records;
    ck_assert_int_eq(endpoint_parse("[2001:db8::1]:20000", &f.fake[0].bound), 0);
    fixture_start(&f);
    uint8_t request[N1_REQUEST_MAX], expected[22] = {5, 0, 0, 4, 0x20, 0x01, 0x0d, 0xb8};
    expected[19] = 1;
    expected[20] = 20000 >> 8;
    expected[21] = 20000 & 0xff;
    int fd = client_connect(&f);
    client_greet(&f, fd);
    client_send(
        fd, request,
        request_encode(request, sizeof(request), PTCL_TCP, "www.example.org:80", "[::]:40000"));
    client_expect(&f, fd, expected, sizeof(expected));
    ck_assert_str_eq(endpoint_format(&f.fake[0].last_order.source, text, sizeof(text)),
                     "[::1]:40000");
    ck_assert_str_eq(endpoint_format(&f.fake[0].last_order.destinations[0], text, sizeof(text)),
                     "[2001:db8::80]:80");
    ck_assert_str_eq(ip_address_format(&f.fake[0].last_order.bound_hint, text, sizeof(text)),
                     "::1");
    close(fd);
}
END_TEST

/* A link-local S lives on the interface of the control connection, and BND is asked for there. */
/* N1-SRC-050 */
START_TEST(test_link_local_source)
{
    char text[ENDPOINT_TEXT_MAX];
    struct endpoint peer;
    uint8_t all[3 + N1_REQUEST_MAX] = {5, 1, 0};
    int fd;
    ck_assert_int_eq(endpoint_parse("[fe80::7%3]:50000", &peer), 0);
    f.listen_address = "[::1]:0";
    ck_assert_int_eq(endpoint_parse("[2001:db8::1]:20000", &f.fake[0].bound), 0);
    fixture_start(&f);
    for (int i = 0; i < 3; i++) {
        static const struct {
            const char *source;
            uint8_t reply;
        } cases[] = {{"[fe80::7]:40000", 0}, {"[::]:40000", 0}, {"[fe80::8]:40000", 2}};
        fd = client_connect_as(&f, &peer);
        const size_t length =
            request_encode(all + 3, sizeof(all) - 3, PTCL_TCP, TARGET, cases[i].source);
        client_send(fd, all, 3 + length);
        client_expect(&f, fd, (const uint8_t[]){5, 0, 5, cases[i].reply}, 4);
        if (cases[i].reply == 0)
            ck_assert_str_eq(endpoint_format(&f.fake[0].last_order.source, text, sizeof(text)),
                             "[fe80::7%3]:40000");
        close(fd);
    }
    ck_assert_uint_eq(f.fake[0].orders, 2);
}
END_TEST

/* A name that is an address in text form is judged like one. */
START_TEST(test_name_that_is_an_address)
{
    char text[ENDPOINT_TEXT_MAX];
    fixture_start(&f);
    ask_both_ways(
        &f, BYTES(5, 4, 0, 3, 9, '1', '2', '7', '.', '0', '.', '0', '.', '1', 0, 80, 6, V4_SOURCE),
        N1_REP_NOT_ALLOWED);
    ask_both_ways(
        &f, BYTES(5, 4, 0, 3, 9, '1', '9', '2', '.', '0', '.', '2', '.', '7', 0, 80, 6, V4_SOURCE),
        N1_REP_SUCCEEDED);
    ck_assert_str_eq(endpoint_format(&f.fake[0].last_order.destinations[0], text, sizeof(text)),
                     "192.0.2.7:80");
}
END_TEST

static Suite *transparent_suite(void)
{
    Suite *suite = suite_create("transparent");
    TCase *tests = tcase_create("transparent");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, test_source_zero_is_the_peer);
    tcase_add_test(tests, test_mapped_addresses_are_ipv4);
    tcase_add_test(tests, test_foreign_source_needs_a_rule);
    tcase_add_test(tests, test_foreign_source_by_rule);
    tcase_add_test(tests, test_source_port_zero);
    tcase_add_test(tests, test_source_by_name);
    tcase_add_test(tests, test_names_of_destinations);
    tcase_add_test(tests, test_invalid_names);
    tcase_add_test(tests, test_destination_port_zero);
    tcase_add_test(tests, test_no_socket_to_a_target);
    tcase_add_test(tests, test_rules_on_names);
    tcase_add_test(tests, test_rules_on_addresses_of_names);
    tcase_add_test(tests, test_deny_floor);
    tcase_add_test(tests, test_what_relayd_says);
    tcase_add_test(tests, test_resolver_timeout);
    tcase_add_test(tests, test_resolver_is_bounded);
    tcase_add_test(tests, test_look_up_of_a_dead_session);
    tcase_add_test(tests, test_abandoned_look_ups_have_their_share);
    tcase_add_test(tests, test_client_over_ipv6);
    tcase_add_test(tests, test_link_local_source);
    tcase_add_test(tests, test_name_that_is_an_address);
    suite_add_tcase(suite, tests);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(transparent_suite());
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
