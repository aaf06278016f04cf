#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "relayd/plane/endpoints.h"
#include "tests/unit/relayd/private_network.h"

static const struct ip_address none = {.family = IP_NONE};
static struct relayd_config config;
static struct port_range bind_range = {20000, 20009};

static void setup(void)
{
    memset(&config, 0, sizeof(config));
    config.bind.ports = (struct config_list){&bind_range, 1};
}

static struct ip_address ip(const char *text)
{
    struct ip_address address;

    ck_assert_msg(ip_address_parse(text, &address) == 0, "%s", text);
    return address;
}

static struct endpoints *make(const struct local_routes *routes)
{
    struct endpoints *endpoints;

    ck_assert_int_eq(endpoints_new(&endpoints, &config, routes, 1), 0);
    return endpoints;
}

#define EXPECT_ADDRESS(got, wanted_text)                                                           \
    do {                                                                                           \
        char text_[ENDPOINT_TEXT_MAX];                                                             \
        ck_assert_str_eq(ip_address_format(&(got), text_, sizeof(text_)), wanted_text);            \
    } while (0)

static void expect_bound(const struct endpoints *endpoints, const char *source, const char *hint,
                         const char *wanted)
{
    const struct ip_address from = ip(source), hinted = hint != NULL ? ip(hint) : none;
    struct ip_address bound;
    const int rc = endpoints_choose_bound(endpoints, &from, &hinted, &bound);

    if (wanted == NULL) {
        ck_assert_int_eq(rc, -EADDRNOTAVAIL);
        return;
    }
    ck_assert_int_eq(rc, 0);
    EXPECT_ADDRESS(bound, wanted);
}

START_TEST(test_bound_of_configured_addresses)
{
    struct ip_address addresses[] = {ip("127.0.0.9"), ip("169.254.1.1"), ip("192.0.2.1"),
                                     ip("192.0.2.2"), ip("fe80::1%2"),   ip("2001:db8::1")};

    config.bind.addresses = (struct config_list){addresses, 6};
    struct endpoints *endpoints = make(NULL);
    /* The address on which the client came, where it is one of ours. */
    expect_bound(endpoints, "198.51.100.1", "192.0.2.2", "192.0.2.2");
    expect_bound(endpoints, "198.51.100.1", "127.0.0.9", "127.0.0.9");
    /* Otherwise the first of the family that is neither loopback nor link-local. */
    expect_bound(endpoints, "198.51.100.1", "192.0.2.3", "192.0.2.1");
    expect_bound(endpoints, "198.51.100.1", NULL, "192.0.2.1");
    expect_bound(endpoints, "2001:db8::5", NULL, "2001:db8::1");
    /* A hint of the other family is none. */
    expect_bound(endpoints, "2001:db8::5", "192.0.2.1", "2001:db8::1");
    /* Link-local: its link's address or none. */
    expect_bound(endpoints, "fe80::5%2", "fe80::1%2", "fe80::1%2");
    expect_bound(endpoints, "fe80::5%2", NULL, NULL);
    expect_bound(endpoints, "fe80::5%2", "fe80::1%3", NULL);
    expect_bound(endpoints, "198.51.100.1", "0.0.0.0", "192.0.2.1");
    endpoints_free(endpoints);
}
END_TEST

START_TEST(test_bound_none_of_family)
{
    struct ip_address address = ip("192.0.2.1"), loopback = ip("127.0.0.1");

    config.bind.addresses = (struct config_list){&address, 1};
    struct endpoints *endpoints = make(NULL);
    expect_bound(endpoints, "2001:db8::5", NULL, NULL);
    endpoints_free(endpoints);
    /* Loopback serves those alone who are on this host. */
    config.bind.addresses = (struct config_list){&loopback, 1};
    endpoints = make(NULL);
    expect_bound(endpoints, "192.0.2.5", NULL, NULL);
    expect_bound(endpoints, "127.0.0.5", NULL, "127.0.0.1");
    endpoints_free(endpoints);
}
END_TEST

START_TEST(test_bound_of_the_hosts_own)
{
    struct local_routes *routes;
    uv_loop_t loop;

    private_network_enter();
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    ck_assert_int_eq(local_routes_open(&routes, &loop, NULL, NULL), 0);
    struct endpoints *endpoints = make(routes);
    expect_bound(endpoints, "fd00::1", "fd00::2", "fd00::2");
    expect_bound(endpoints, "127.0.0.1", "127.0.0.1", "127.0.0.1");
    /* All of 127/8 is this host. */
    expect_bound(endpoints, "127.0.0.1", "127.0.0.2", "127.0.0.2");
    /* N2 is no friend: addresses that are local routes but no addresses, and foreign ones. */
    expect_bound(endpoints, "127.0.0.1", "192.0.2.77", "127.0.0.1");
    expect_bound(endpoints, "192.0.2.5", "224.0.0.1", NULL);
    expect_bound(endpoints, "192.0.2.5", "255.255.255.255", NULL);
    expect_bound(endpoints, "192.0.2.5", "0.0.0.0", NULL);
    endpoints_free(endpoints);
    local_routes_close(routes);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
}
END_TEST

static void expect_egress(const struct endpoints *endpoints, const char *destination,
                          const char *hint, const char *wanted)
{
    const struct ip_address to = ip(destination), hinted = hint != NULL ? ip(hint) : none;
    struct ip_address egress;
    const int rc = endpoints_choose_egress(endpoints, &to, &hinted, &egress);

    if (wanted == NULL) {
        ck_assert_int_eq(rc, -EADDRNOTAVAIL);
        return;
    }
    ck_assert_int_eq(rc, 0);
    EXPECT_ADDRESS(egress, wanted);
}

START_TEST(test_egress)
{
    struct ip_address addresses[] = {ip("192.0.2.1"), ip("192.0.2.2"), ip("2001:db8::1")};
    struct endpoints *endpoints = make(NULL);

    expect_egress(endpoints, "198.51.100.1", NULL, "-");
    expect_egress(endpoints, "198.51.100.1", "192.0.2.1", NULL);
    endpoints_free(endpoints);
    config.egress.addresses = (struct config_list){addresses, 3};
    endpoints = make(NULL);
    expect_egress(endpoints, "198.51.100.1", NULL, "192.0.2.1");
    expect_egress(endpoints, "198.51.100.1", "192.0.2.2", "192.0.2.2");
    expect_egress(endpoints, "198.51.100.1", "192.0.2.3", NULL);
    expect_egress(endpoints, "198.51.100.1", "2001:db8::1", NULL);
    expect_egress(endpoints, "2001:db8:1::1", NULL, "2001:db8::1");
    endpoints_free(endpoints);
    /* What the operator did not name is not used. */
    config.egress.addresses.count = 2;
    endpoints = make(NULL);
    expect_egress(endpoints, "2001:db8:1::1", NULL, NULL);
    endpoints_free(endpoints);
}
END_TEST

static void expect_for_peer(const struct endpoints *endpoints, const char *peer, const char *client,
                            const char *hint, const char *wanted)
{
    const struct ip_address who = ip(peer), from = ip(client),
                            hinted = hint != NULL ? ip(hint) : none;
    struct ip_address address;
    const int rc = endpoints_choose_for_peer(endpoints, &who, &from, &hinted, &none, &address);

    if (wanted == NULL) {
        ck_assert_int_eq(rc, -EADDRNOTAVAIL);
        return;
    }
    ck_assert_int_eq(rc, 0);
    EXPECT_ADDRESS(address, wanted);
}

/* N2-BIND-010 */
START_TEST(test_for_a_peer)
{
    struct ip_address addresses[] = {ip("127.0.0.9"), ip("169.254.1.1"), ip("192.0.2.1"),
                                     ip("192.0.2.2"), ip("::1"),         ip("2001:db8::1")};
    struct ip_address egress[] = {ip("203.0.113.1")};

    config.bind.addresses = (struct config_list){addresses, 6};
    struct endpoints *endpoints = make(NULL);
    /* One that is named: the kernel chooses. */
    expect_for_peer(endpoints, "198.51.100.1", "10.0.0.1", "192.0.2.1", "-");
    /* Anybody: not where the client came, not loopback, as far as there is a choice. */
    expect_for_peer(endpoints, "0.0.0.0", "10.0.0.1", NULL, "192.0.2.1");
    expect_for_peer(endpoints, "0.0.0.0", "10.0.0.1", "192.0.2.1", "192.0.2.2");
    expect_for_peer(endpoints, "0.0.0.0", "10.0.0.1", "192.0.2.2", "192.0.2.1");
    expect_for_peer(endpoints, "::", "10.0.0.1", "2001:db8::1", "2001:db8::1");
    expect_for_peer(endpoints, "::", "10.0.0.1", "2001:db8::2", "2001:db8::1");
    endpoints_free(endpoints);
    config.bind.addresses.count = 1;
    endpoints = make(NULL);
    expect_for_peer(endpoints, "0.0.0.0", "10.0.0.1", NULL, NULL);
    expect_for_peer(endpoints, "0.0.0.0", "127.0.0.1", "127.0.0.9", "127.0.0.9");
    expect_for_peer(endpoints, "::", "::1", NULL, NULL);
    endpoints_free(endpoints);
    /* The address from which targets are reached comes first, and what is not named is not used. */
    config.bind.addresses.count = 6;
    config.egress.addresses = (struct config_list){egress, 1};
    endpoints = make(NULL);
    expect_for_peer(endpoints, "198.51.100.1", "10.0.0.1", NULL, "203.0.113.1");
    expect_for_peer(endpoints, "0.0.0.0", "10.0.0.1", NULL, "203.0.113.1");
    expect_for_peer(endpoints, "::", "10.0.0.1", NULL, NULL);
    endpoints_free(endpoints);
}
END_TEST

START_TEST(test_egress_ports)
{
    struct port_range ranges[] = {{40000, 40001}, {50000, 50000}};
    bool seen[3] = {false};
    struct endpoints *endpoints = make(NULL);

    ck_assert_uint_eq(endpoints_random_egress_port(endpoints), 0);
    endpoints_free(endpoints);
    config.egress.ports = (struct config_list){ranges, 2};
    endpoints = make(NULL);
    for (unsigned i = 0; i < 200; i++) {
        const uint16_t port = endpoints_random_egress_port(endpoints);
        ck_assert(port == 40000 || port == 40001 || port == 50000);
        seen[port == 50000 ? 2 : port - 40000] = true;
    }
    ck_assert(seen[0] && seen[1] && seen[2]);
    endpoints_free(endpoints);
}
END_TEST

struct pools {
    unsigned count;
    uint32_t free_ports;
};

static void count_pool(const struct ip_address *address, uint32_t free_ports, void *user)
{
    struct pools *pools = user;

    (void)address;
    pools->count++;
    pools->free_ports += free_ports;
}

START_TEST(test_a_pool_for_each_address)
{
    struct ip_address addresses[] = {ip("192.0.2.1"), ip("192.0.2.1"), ip("2001:db8::1")};
    const struct ip_address other = ip("192.0.2.9");
    struct pools pools = {0};

    config.bind.addresses = (struct config_list){addresses, 3};
    struct endpoints *endpoints = make(NULL);
    for (unsigned i = 0; i < 10; i++)
        ck_assert_uint_ne(endpoints_draw_port(endpoints, &addresses[0]), 0);
    ck_assert_uint_eq(endpoints_draw_port(endpoints, &addresses[0]), 0);
    ck_assert_uint_eq(endpoints_free_ports(endpoints, &addresses[0]), 0);
    ck_assert_uint_eq(endpoints_free_ports(endpoints, &addresses[2]), 10);
    endpoints_return_port(endpoints, &addresses[0], 20003);
    endpoints_return_port(endpoints, &other, 20003);
    ck_assert_uint_eq(endpoints_free_ports(endpoints, &addresses[0]), 1);
    endpoints_each_pool(endpoints, count_pool, &pools);
    ck_assert_uint_eq(pools.count, 2);
    ck_assert_uint_eq(pools.free_ports, 11);
    endpoints_free(endpoints);
}
END_TEST

/* `addresses: auto`: a pool is made when it is first drawn from; there is a maximum, and one that
 * is not in use makes room. */
START_TEST(test_pools_made_on_demand_are_bounded)
{
    struct endpoints *endpoints = make(NULL);
    struct ip_address address = ip("10.0.0.0"), first = address;
    uint16_t first_port = 0;

    for (unsigned i = 0; i <= ENDPOINTS_POOLS_MAX; i++) {
        address.bytes[2] = (uint8_t)(i >> 8);
        address.bytes[3] = (uint8_t)i;
        ck_assert_uint_eq(endpoints_free_ports(endpoints, &address), 0);
        const uint16_t port = endpoints_draw_port(endpoints, &address);
        if (i < ENDPOINTS_POOLS_MAX)
            ck_assert_uint_ne(port, 0);
        else
            ck_assert_uint_eq(port, 0);
        if (i == 0)
            first_port = port;
    }
    endpoints_return_port(endpoints, &first, first_port);
    ck_assert_uint_ne(endpoints_draw_port(endpoints, &address), 0);
    ck_assert_uint_eq(endpoints_free_ports(endpoints, &address), 9);
    ck_assert_uint_eq(endpoints_free_ports(endpoints, &first), 0);
    endpoints_free(endpoints);
}
END_TEST

START_TEST(test_too_many_configured)
{
    const size_t count = ENDPOINTS_POOLS_MAX + 1;
    struct ip_address *addresses = calloc(count, sizeof(*addresses));
    struct endpoints *endpoints;

    for (size_t i = 0; i < count; i++) {
        addresses[i] = ip("10.0.0.0");
        addresses[i].bytes[2] = (uint8_t)(i >> 8);
        addresses[i].bytes[3] = (uint8_t)i;
    }
    config.bind.addresses = (struct config_list){addresses, count};
    ck_assert_int_eq(endpoints_new(&endpoints, &config, NULL, 1), -E2BIG);
    free(addresses);
    endpoints_free(NULL);
}
END_TEST

START_TEST(test_advertised)
{
    struct config_address_pair pairs[] = {{ip("10.0.0.5"), ip("203.0.113.9")},
                                          {ip("10.0.0.6"), ip("203.0.113.10")}};
    const struct endpoint bound = {.address = ip("10.0.0.6"), .port = 20001},
                          other = {.address = ip("10.0.0.7"), .port = 20002};

    config.bind.advertise = (struct config_list){pairs, 2};
    struct endpoints *endpoints = make(NULL);
    struct endpoint told = endpoints_advertised(endpoints, &bound);
    EXPECT_ADDRESS(told.address, "203.0.113.10");
    ck_assert_uint_eq(told.port, 20001);
    told = endpoints_advertised(endpoints, &other);
    ck_assert(endpoint_equal(&told, &other));
    endpoints_free(endpoints);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("endpoints");
    TCase *tests = tcase_create("endpoints");
    SRunner *runner = srunner_create(suite);

    tcase_add_checked_fixture(tests, setup, NULL);
    tcase_add_test(tests, test_bound_of_configured_addresses);
    tcase_add_test(tests, test_bound_none_of_family);
    tcase_add_test(tests, test_bound_of_the_hosts_own);
    tcase_add_test(tests, test_egress);
    tcase_add_test(tests, test_for_a_peer);
    tcase_add_test(tests, test_egress_ports);
    tcase_add_test(tests, test_a_pool_for_each_address);
    tcase_add_test(tests, test_pools_made_on_demand_are_bounded);
    tcase_add_test(tests, test_too_many_configured);
    tcase_add_test(tests, test_advertised);
    suite_add_tcase(suite, tests);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
