#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "relayd/plane/port_pool.h"

static struct random_source seeded(uint64_t seed)
{
    struct random_source random;

    ck_assert_int_eq(random_source_init(&random, seed), 0);
    return random;
}

static struct port_pool *pool_of(uint16_t first, uint16_t last)
{
    const struct port_range range = {first, last};
    struct port_pool *pool;

    ck_assert_int_eq(port_pool_new(&pool, &range, 1), 0);
    return pool;
}

START_TEST(test_each_port_once)
{
    struct random_source random = seeded(1);
    struct port_pool *pool = pool_of(20000, 59999);
    bool *seen = calloc(65536, sizeof(*seen));

    ck_assert_uint_eq(port_pool_free_ports(pool), 40000);
    for (unsigned i = 0; i < 40000; i++) {
        const uint16_t port = port_pool_draw(pool, &random);
        /* Check's own assertions cost more than all of this, also when they hold. */
        if (port < 20000 || port > 59999 || seen[port] ||
            port_pool_free_ports(pool) != 40000 - i - 1)
            ck_abort_msg("draw %u: port %u, %s, %zu are left", i, port,
                         seen[port] ? "again" : "for the first time",
                         (size_t)port_pool_free_ports(pool));
        seen[port] = true;
    }
    ck_assert_uint_eq(port_pool_draw(pool, &random), 0);
    port_pool_return(pool, 20005);
    ck_assert_uint_eq(port_pool_draw(pool, &random), 20005);
    ck_assert_uint_eq(port_pool_draw(pool, &random), 0);
    free(seen);
    port_pool_free(pool);
}
END_TEST

START_TEST(test_overlapping_ranges_and_port_zero)
{
    const struct port_range ranges[] = {{0, 3}, {2, 5}, {65535, 65535}};
    struct random_source random = seeded(1);
    struct port_pool *pool;
    unsigned seen = 0;

    ck_assert_int_eq(port_pool_new(&pool, ranges, 3), 0);
    ck_assert_uint_eq(port_pool_free_ports(pool), 6);
    for (uint16_t port; (port = port_pool_draw(pool, &random)) != 0; seen++)
        ck_assert(port <= 5 || port == 65535);
    ck_assert_uint_eq(seen, 6);
    port_pool_free(pool);
}
END_TEST

START_TEST(test_empty)
{
    struct random_source random = seeded(1);
    struct port_pool *pool;

    ck_assert_int_eq(port_pool_new(&pool, NULL, 0), 0);
    ck_assert_uint_eq(port_pool_draw(pool, &random), 0);
    ck_assert_uint_eq(port_pool_free_ports(pool), 0);
    port_pool_free(pool);
    ck_assert_ptr_null(port_pool_free(NULL));
}
END_TEST

/* Of 1000 ports a quarter rests: a port that comes back is not given out during the next 250
 * returns. */
START_TEST(test_returned_ports_rest)
{
    struct random_source random = seeded(_i + 1);
    struct port_pool *pool = pool_of(1000, 1999);
    unsigned since_return[2000];

    for (unsigned i = 0; i < 2000; i++)
        since_return[i] = 1000;
    for (unsigned i = 0; i < 20000; i++) {
        const uint16_t port = port_pool_draw(pool, &random);
        if (since_return[port] < 250)
            ck_abort_msg("port %u rested for %u returns only", port, since_return[port]);
        for (unsigned j = 1000; j < 2000; j++)
            since_return[j]++;
        since_return[port] = 0;
        port_pool_return(pool, port);
        ck_assert_uint_eq(port_pool_free_ports(pool), 1000);
    }
    port_pool_free(pool);
}
END_TEST

/* When nothing else is left a resting port is better than none. */
START_TEST(test_resting_ports_are_the_last_resort)
{
    struct random_source random = seeded(1);
    struct port_pool *pool = pool_of(7, 7);

    for (unsigned i = 0; i < 3; i++) {
        ck_assert_uint_eq(port_pool_draw(pool, &random), 7);
        ck_assert_uint_eq(port_pool_draw(pool, &random), 0);
        port_pool_return(pool, 7);
    }
    port_pool_free(pool);
}
END_TEST

START_TEST(test_foreign_returns_are_ignored)
{
    struct random_source random = seeded(1);
    struct port_pool *pool = pool_of(10, 19);
    const uint16_t port = port_pool_draw(pool, &random);

    port_pool_return(pool, 5000);                 /* not of the pool */
    port_pool_return(pool, port == 10 ? 11 : 10); /* not in use */
    ck_assert_uint_eq(port_pool_free_ports(pool), 9);
    port_pool_return(pool, port);
    port_pool_return(pool, port); /* twice */
    ck_assert_uint_eq(port_pool_free_ports(pool), 10);
    port_pool_free(pool);
}
END_TEST

/* First draws over many seeds: each of ten ports about equally often, within six standard
 * deviations. */
START_TEST(test_draws_are_uniform)
{
    unsigned hits[10] = {0};

    for (unsigned seed = 1; seed <= 10000; seed++) {
        struct random_source random = seeded(seed);
        struct port_pool *pool = pool_of(100, 109);
        hits[port_pool_draw(pool, &random) - 100]++;
        port_pool_free(pool);
    }
    for (unsigned i = 0; i < 10; i++) {
        ck_assert_msg(hits[i] > 820 && hits[i] < 1180, "port %u was drawn %u times of 10000",
                      100 + i, hits[i]);
    }
}
END_TEST

START_TEST(test_random_bounds)
{
    struct random_source random = seeded(3);
    bool low = false, high = false;

    for (unsigned i = 0; i < 1000; i++)
        ck_assert_uint_eq(random_source_below(&random, 1), 0);
    for (unsigned i = 0; i < 1000; i++) {
        const uint32_t drawn = random_source_below(&random, 3);
        ck_assert_uint_lt(drawn, 3);
        low |= drawn == 0;
        high |= drawn == 2;
    }
    ck_assert(low && high);
    /* Equal keys, equal numbers. */
    struct random_source a = seeded(9), b = seeded(9), c = seeded(10);
    unsigned differences = 0;
    for (unsigned i = 0; i < 100; i++) {
        const uint32_t of_a = random_source_below(&a, UINT32_MAX);
        ck_assert_uint_eq(of_a, random_source_below(&b, UINT32_MAX));
        differences += of_a != random_source_below(&c, UINT32_MAX);
    }
    ck_assert_uint_gt(differences, 90);
}
END_TEST

/* The published test vector of SipHash-2-4 for the message 00 … 07 under the key 00 … 0f. */
START_TEST(test_random_is_siphash)
{
    struct random_source random = {.key = {0x0706050403020100, 0x0f0e0d0c0b0a0908},
                                   .counter = 0x0706050403020100};

    ck_assert_uint_eq(random_source_below(&random, 0x80000000u), 0x9a932462u >> 1);
}
END_TEST

START_TEST(test_two_processes_differ)
{
    struct random_source a = seeded(0), b = seeded(0);

    ck_assert_mem_ne(a.key, b.key, sizeof(a.key));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("port_pool");
    TCase *tests = tcase_create("port_pool");
    SRunner *runner = srunner_create(suite);

    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, test_each_port_once);
    tcase_add_test(tests, test_overlapping_ranges_and_port_zero);
    tcase_add_test(tests, test_empty);
    tcase_add_loop_test(tests, test_returned_ports_rest, 0, 3);
    tcase_add_test(tests, test_resting_ports_are_the_last_resort);
    tcase_add_test(tests, test_foreign_returns_are_ignored);
    tcase_add_test(tests, test_draws_are_uniform);
    tcase_add_test(tests, test_random_bounds);
    tcase_add_test(tests, test_random_is_siphash);
    tcase_add_test(tests, test_two_processes_differ);
    suite_add_tcase(suite, tests);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
