/*
 * The small ones: the keyed hash, the table of clients, the counters, the back-off.
 */
#include <stdlib.h>
#include <string.h>

#include <check.h>

#include "common/keyed_hash.h"
#include "proto/n1.h"
#include "socksd/client_table.h"
#include "socksd/counters.h"
#include "socksd/relays/relay_daemon.h"

/* The vectors of the reference implementation: key 00 … 0f, message 00 01 02 … */
START_TEST(test_siphash_vectors)
{
    static const struct {
        size_t length;
        uint64_t hash;
    } vectors[] = {
        {0, UINT64_C(0x726fdb47dd0e0e31)}, {1, UINT64_C(0x74f839c593dc67fd)},
        {2, UINT64_C(0x0d6c8009d9a94f5a)}, {7, UINT64_C(0xab0200f58b01d137)},
        {8, UINT64_C(0x93f5f5799a932462)}, {15, UINT64_C(0xa129ca6149be45e5)},
    };
    uint8_t key[16], message[64];
    for (uint8_t i = 0; i < 64; i++)
        message[i] = i;
    memcpy(key, message, sizeof(key));
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++)
        ck_assert_uint_eq(siphash_2_4(key, message, vectors[i].length), vectors[i].hash);
}
END_TEST

START_TEST(test_key_differs_each_time)
{
    ck_assert_int_eq(keyed_hash_setup(), 0);
    const uint64_t first = keyed_hash("key", 3);
    ck_assert_uint_eq(keyed_hash("key", 3), first);
    ck_assert_int_eq(keyed_hash_setup(), 0);
    ck_assert_uint_ne(keyed_hash("key", 3), first);
}
END_TEST

START_TEST(test_clients_are_counted_by_address)
{
    struct client_table table = {.limit = 2};
    struct ip_address a, b, c;
    bool refused;
    ck_assert_int_eq(ip_address_parse("192.0.2.1", &a), 0);
    ck_assert_int_eq(ip_address_parse("fe80::1%1", &b), 0);
    ck_assert_int_eq(ip_address_parse("fe80::1%2", &c), 0);
    struct client *first = client_enter(&table, &a, &refused);
    ck_assert_ptr_nonnull(first);
    ck_assert_ptr_eq(client_enter(&table, &a, &refused), first);
    ck_assert_ptr_null(client_enter(&table, &a, &refused));
    ck_assert(refused);
    struct client *second = client_enter(&table, &b, &refused),
                  *third = client_enter(&table, &c, &refused);
    ck_assert_ptr_nonnull(second);
    ck_assert_ptr_ne(second, third); /* another link */
    client_leave(&table, first);
    ck_assert_ptr_eq(client_enter(&table, &a, &refused), first);
    client_leave(&table, first);
    client_leave(&table, first);
    client_leave(&table, second);
    client_leave(&table, third);
    client_leave(&table, NULL);
    ck_assert_ptr_null(table.clients);
}
END_TEST

START_TEST(test_addresses_do_not_stay)
{
    struct client_table table = {.limit = 1};
    struct client *clients[5000];
    bool refused;
    for (uint32_t i = 0; i < 5000; i++) {
        const uint8_t bytes[4] = {10, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i};
        const struct ip_address address = ip_address_v4(bytes);
        clients[i] = client_enter(&table, &address, &refused);
        ck_assert_ptr_nonnull(clients[i]);
    }
    for (uint32_t i = 0; i < 5000; i++)
        client_leave(&table, clients[i]);
    ck_assert_ptr_null(table.clients);
}
END_TEST

START_TEST(test_every_counter_has_a_name)
{
    struct counters counters;
    counters_init(&counters);
    for (size_t i = 0; i < COUNTER_END; i++) {
        ck_assert_ptr_nonnull(counters.rows[i].name);
        ck_assert_ptr_nonnull(counters.rows[i].help);
        for (size_t j = 0; j < i; j++)
            ck_assert_str_ne(counters.rows[i].name, counters.rows[j].name);
    }
    ck_assert_int_eq(counter_of_reply(N1_REP_PTCL_NOT_SUPPORTED), COUNTER_REPLIES_09);
    ck_assert_int_eq(counter_of_reply(200), COUNTER_REPLIES_01);
    ck_assert_int_eq(counter_of_command(N1_CMD_BIND), COUNTER_REQUESTS_BIND);
    ck_assert_int_eq(counter_of_command(0), COUNTER_REQUESTS_OTHER);
}
END_TEST

START_TEST(test_backoff)
{
    static const uint64_t expected[] = {100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000};
    for (unsigned i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        const uint64_t low = relay_backoff_ms(i + 1, 0);
        ck_assert_uint_eq(low, expected[i] - expected[i] / 5);
        bool differs = false;
        for (uint32_t random = 0; random < 10000; random += 7) {
            const uint64_t delay = relay_backoff_ms(i + 1, random);
            ck_assert_uint_ge(delay, expected[i] - expected[i] / 5);
            ck_assert_uint_le(delay, expected[i] + expected[i] / 5);
            differs = differs || delay != low;
        }
        ck_assert(differs);
    }
    ck_assert_uint_le(relay_backoff_ms(4000000000u, UINT32_MAX), 6000);
}
END_TEST

static Suite *tables_suite(void)
{
    Suite *suite = suite_create("tables");
    TCase *tests = tcase_create("tables");
    tcase_add_test(tests, test_siphash_vectors);
    tcase_add_test(tests, test_key_differs_each_time);
    tcase_add_test(tests, test_clients_are_counted_by_address);
    tcase_add_test(tests, test_addresses_do_not_stay);
    tcase_add_test(tests, test_every_counter_has_a_name);
    tcase_add_test(tests, test_backoff);
    suite_add_tcase(suite, tests);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(tables_suite());
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
