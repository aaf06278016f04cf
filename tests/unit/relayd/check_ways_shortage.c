/*
 * Ways when something is short: answers of the kernel, rows for hops. PLANE-WAY-160.
 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "common/keyed_hash.h"
#include "relayd/plane/bpf/hops.h"
#include "relayd/plane/bpf/ways.h"
#include "tests/unit/common/loop_support.h"
#include "tests/unit/relayd/fake_kernel.h"

static struct test_loop test;
static struct bpf_hop *rows;
static struct ways *ways;
static unsigned changes;

static bool attached(void *user, uint32_t interface)
{
    (void)user;
    return interface == 5;
}

static void changed(void *user)
{
    (void)user;
    changes++;
}

static void setup(void)
{
    struct ways_config config = {.attached = attached, .changed = changed};

    ck_assert_int_eq(keyed_hash_setup(), 0);
    fake_kernel_reset();
    test_loop_start(&test);
    rows = calloc(BPF_HOPS_MAX, sizeof(*rows));
    ck_assert_ptr_nonnull(rows);
    config.loop = &test.loop;
    config.hops = rows;
    ck_assert_int_eq(ways_open(&ways, &config), 0);
    changes = 0;
}

static void teardown(void)
{
    ways_close(ways);
    ways_close(NULL);
    test_loop_finish(&test);
    free(rows);
}

static struct ip_address address(unsigned number)
{
    const uint8_t octets[4] = {10, (uint8_t)(number >> 16), (uint8_t)(number >> 8),
                               (uint8_t)number};

    return ip_address_v4(octets);
}

static int get(unsigned number, struct way **out)
{
    const struct ip_address peer = address(number), none = {0};

    return ways_get(ways, &peer, &none, out);
}

START_TEST(a_question_without_an_answer_changes_nothing_at_first)
{
    struct way *way, *other;
    unsigned asked;

    ck_assert_int_eq(get(1, &way), 0);
    fake_kernel.silent = true;
    ck_assert_int_eq(get(2, &other), KERNEL_SILENT);
    asked = fake_kernel.routes;
    ways_refresh(ways);
    TEST_RUN_UNTIL(&test, fake_kernel.routes == asked + 3);
    ck_assert_uint_eq(way->interface, 5);
    ck_assert_ptr_null(way->problem);
    ck_assert_uint_eq(changes, 0);
    /* It is due until it is answered. */
    fake_kernel.interface = 6;
    fake_kernel.silent = false;
    TEST_RUN_UNTIL(&test, way->interface == 0);
    ck_assert_ptr_nonnull(strstr(way->problem, "no attached interface"));
    ck_assert_uint_eq(changes, 1);
    ways_put(ways, way);
}
END_TEST

START_TEST(a_kernel_that_stays_silent)
{
    struct way *way;

    ck_assert_int_eq(get(1, &way), 0);
    fake_kernel.silent = true;
    ways_refresh(ways);
    TEST_RUN_UNTIL(&test, way->interface == 0);
    ck_assert_uint_eq(fake_kernel.routes, 1 + 6);
    ck_assert_uint_eq(way->hop, 0);
    ck_assert_ptr_nonnull(strstr(way->problem, "does not answer"));
    fake_kernel.silent = false;
    TEST_RUN_UNTIL(&test, way->interface == 5);
    ck_assert_ptr_null(way->problem);
    ck_assert_uint_ne(way->hop, 0);
    ways_put(ways, way);
}
END_TEST

START_TEST(a_full_table_refuses_new_ways)
{
    struct way **all = calloc(BPF_HOPS_MAX, sizeof(struct way *)), *way;

    ck_assert_ptr_nonnull(all);
    for (unsigned i = 1; i < BPF_HOPS_MAX; i++)
        ck_assert_int_eq(get(i, &all[i]), 0);
    ck_assert_int_eq(get(BPF_HOPS_MAX, &way), -ENOSPC);
    /* Where it needs no row it is served. */
    fake_kernel.gateway = address(7);
    ck_assert_int_eq(get(BPF_HOPS_MAX, &way), 0);
    ck_assert_uint_eq(way->hop, all[7]->hop);
    ways_put(ways, way);
    for (unsigned i = 1; i < BPF_HOPS_MAX; i++)
        ways_put(ways, all[i]);
    free(all);
}
END_TEST

#define MANY 40000u

static unsigned usable(struct way *const *all, uint32_t mtu)
{
    unsigned count = 0;

    for (unsigned i = 0; i < MANY; i++)
        count += all[i]->interface == 5 && rows[all[i]->hop].mtu == mtu;
    return count;
}

/* All want another row at once, while the old ones have to rest. */
START_TEST(ways_wait_for_room_in_the_table)
{
    struct way **all = calloc(MANY, sizeof(struct way *));
    bool waited = false;

    ck_assert_ptr_nonnull(all);
    for (unsigned i = 0; i < MANY; i++)
        ck_assert_int_eq(get(i, &all[i]), 0);
    ck_assert_uint_eq(usable(all, 1500), MANY);
    fake_kernel.mtu = 1400;
    ways_refresh(ways);
    while (usable(all, 1400) < MANY) {
        uv_run(&test.loop, UV_RUN_ONCE);
        ck_assert(!test.timed_out);
        if (all[MANY - 1]->problem != NULL) {
            ck_assert_ptr_nonnull(strstr(all[MANY - 1]->problem, "hops is full"));
            waited = true;
        }
    }
    ck_assert(waited);
    for (unsigned i = 0; i < MANY; i++)
        ways_put(ways, all[i]);
    free(all);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ways_shortage");
    TCase *tcase = tcase_create("ways_shortage");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_question_without_an_answer_changes_nothing_at_first);
    tcase_add_test(tcase, a_kernel_that_stays_silent);
    tcase_add_test(tcase, a_full_table_refuses_new_ways);
    tcase_add_test(tcase, ways_wait_for_room_in_the_table);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
