/*
 * The table of relays: ids (N2-ID-010), its maximum, and a cursor that lives while relays come and
 * go (ADMIN-TABLE-030).
 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "relayd/relay/table.h"

static struct relay_table *make(uint32_t max)
{
    struct relay_table *table = NULL;
    ck_assert_int_eq(relay_table_new(&table, max), 0);
    return table;
}

static void clear(struct relay_table *table)
{
    uint64_t cursor = 0;
    struct relay *relay;
    while ((relay = relay_table_next(table, &cursor)) != NULL) {
        relay_table_remove(table, relay);
    }
    relay_table_free(table);
}

START_TEST(maxima_are_judged)
{
    struct relay_table *table = NULL;

    ck_assert_int_eq(relay_table_new(&table, 0), -EINVAL);
    ck_assert_int_eq(relay_table_new(&table, RELAY_TABLE_MAX + 1), -EINVAL);
    ck_assert_ptr_null(table);
    relay_table_free(NULL);
    table = make(RELAY_TABLE_MAX);
    ck_assert_uint_eq(relay_table_max(table), RELAY_TABLE_MAX);
    relay_table_free(table);
}
END_TEST

/* _i: the maximum */
START_TEST(a_full_table_takes_no_more)
{
    struct relay_table *table = make((uint32_t)_i);
    struct relay *relay = NULL;

    for (int i = 0; i < _i; i++) {
        ck_assert(!relay_table_is_full(table));
        relay = relay_table_add(table);
        ck_assert_ptr_nonnull(relay);
    }
    ck_assert(relay_table_is_full(table));
    ck_assert_ptr_null(relay_table_add(table));
    ck_assert_uint_eq(relay_table_count(table), (uint32_t)_i);
    uint64_t id = relay->id;
    relay_table_remove(table, relay);
    ck_assert_ptr_null(relay_table_find(table, id));
    relay = relay_table_add(table);
    ck_assert_ptr_nonnull(relay);
    ck_assert_uint_gt(relay->id, id);
    clear(table);
}
END_TEST

START_TEST(a_new_relay_is_zero_but_for_its_id)
{
    struct relay_table *table = make(4);
    struct relay *relay = relay_table_add(table);
    struct relay zero = {.id = relay->id};

    ck_assert_mem_eq(relay, &zero, sizeof(zero));
    ck_assert_uint_ne(relay->id, 0); /* N2-FIELD-090 */
    clear(table);
}
END_TEST

START_TEST(ids_grow_and_are_never_used_again)
{
    struct relay_table *table = make(8);
    struct relay *held[8] = {NULL};
    uint64_t last = 0;

    for (unsigned i = 0; i < 10000; i++) {
        unsigned place = (i * 7 + i / 13) % 8;
        if (held[place] != NULL) {
            uint64_t gone = held[place]->id;
            relay_table_remove(table, held[place]);
            ck_assert_ptr_null(relay_table_find(table, gone));
        }
        held[place] = relay_table_add(table);
        ck_assert_ptr_nonnull(held[place]);
        ck_assert_uint_gt(held[place]->id, last);
        last = held[place]->id;
        for (unsigned k = 0; k < 8; k++) {
            if (held[k] != NULL) {
                ck_assert_ptr_eq(relay_table_find(table, held[k]->id), held[k]);
            }
        }
    }
    clear(table);
}
END_TEST

START_TEST(what_was_never_given_is_not_found)
{
    struct relay_table *table = make(4);
    struct relay *relay = relay_table_add(table);

    ck_assert_ptr_null(relay_table_find(table, 0));
    ck_assert_ptr_null(relay_table_find(table, relay->id + 1));
    ck_assert_ptr_null(relay_table_find(table, relay->id + 8)); /* the same slot */
    ck_assert_ptr_null(relay_table_find(table, relay->id + (1ull << 32)));
    ck_assert_ptr_null(relay_table_find(table, UINT64_MAX));
    ck_assert_ptr_eq(relay_table_find(table, relay->id), relay);
    clear(table);
}
END_TEST

START_TEST(a_cursor_meets_each_relay_once)
{
    struct relay_table *table = make(1000);
    static uint8_t met[4096];
    uint64_t cursor = 0, count = 0;
    struct relay *relay;

    memset(met, 0, sizeof(met));
    ck_assert_ptr_null(relay_table_next(table, &cursor));
    cursor = 0;
    for (int i = 0; i < 1000; i++) {
        ck_assert_ptr_nonnull(relay_table_add(table));
    }
    while ((relay = relay_table_next(table, &cursor)) != NULL) {
        ck_assert_uint_eq(met[relay->id]++, 0);
        count++;
    }
    ck_assert_uint_eq(count, 1000);
    ck_assert_ptr_null(relay_table_next(table, &cursor)); /* stays at the end */
    clear(table);
}
END_TEST

/* Half of the relays stay; others come and go between any two steps. */
START_TEST(a_cursor_lives_while_the_table_changes)
{
    struct relay_table *table = make(600);
    static uint8_t met[65536], stays[65536];
    struct relay *comers[300] = {NULL};
    uint64_t cursor = 0;
    struct relay *relay;
    unsigned step = 0;

    memset(met, 0, sizeof(met));
    memset(stays, 0, sizeof(stays));
    srand((unsigned)_i + 1);
    for (int i = 0; i < 600; i++) {
        relay = relay_table_add(table);
        if (i % 2 == 0) {
            stays[relay->id] = 1;
        } else {
            comers[i / 2] = relay;
        }
    }
    while ((relay = relay_table_next(table, &cursor)) != NULL) {
        ck_assert_uint_lt(relay->id, sizeof(met));
        ck_assert_msg(met[relay->id]++ == 0, "relay %llu met twice", (unsigned long long)relay->id);
        ck_assert_ptr_eq(relay_table_find(table, relay->id), relay);
        for (int i = 0; i < 3; i++) {
            int place = rand() % 300;
            if (comers[place] != NULL) {
                relay_table_remove(table, comers[place]);
                comers[place] = NULL;
            } else {
                comers[place] = relay_table_add(table);
            }
        }
        ck_assert_uint_lt(step++, 10000); /* it ends, whatever comes */
    }
    for (uint64_t id = 0; id < sizeof(stays); id++) {
        ck_assert_msg(!stays[id] || met[id] == 1, "relay %llu was missed", (unsigned long long)id);
    }
    clear(table);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("relay_table");
    TCase *tcase = tcase_create("relay_table");

    tcase_add_test(tcase, maxima_are_judged);
    tcase_add_loop_test(tcase, a_full_table_takes_no_more, 1, 10);
    tcase_add_test(tcase, a_new_relay_is_zero_but_for_its_id);
    tcase_add_test(tcase, ids_grow_and_are_never_used_again);
    tcase_add_test(tcase, what_was_never_given_is_not_found);
    tcase_add_test(tcase, a_cursor_meets_each_relay_once);
    tcase_add_loop_test(tcase, a_cursor_lives_while_the_table_changes, 0, 10);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(suite());
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
