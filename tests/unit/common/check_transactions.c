#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/ipc/transactions.h"
#include "tests/unit/common/loop_support.h"

#define MANY 10000

static struct test_loop test;
static struct transactions *waiting;
static uint64_t expired[MANY];
static size_t expired_count;
static void (*act)(const struct transaction *transaction);

static void on_expired(const struct transaction *transaction, void *user)
{
    ck_assert_ptr_eq(user, &test);
    ck_assert_ptr_null(transactions_find(waiting, transaction->id));
    ck_assert_uint_lt(expired_count, MANY);
    expired[expired_count++] = transaction->id;
    if (act != NULL) {
        act(transaction);
    }
}

static void setup(uint32_t max)
{
    act = NULL;
    expired_count = 0;
    test_loop_start(&test);
    ck_assert_int_eq(transactions_open(&waiting, &test.loop, max, on_expired, &test), 0);
}

static void finish(void)
{
    transactions_close(waiting);
    test_loop_finish(&test);
}

static uint64_t add(unsigned type, uint32_t deadline_ms)
{
    struct transaction transaction = {.type = type, .user = &expired_count};
    ck_assert_int_eq(transactions_add(waiting, &transaction, deadline_ms), 0);
    return transaction.id;
}

START_TEST(ids_are_never_zero_and_never_used_twice)
{
    setup(10);
    uint64_t last = 0;
    for (int i = 0; i < 100; i++) {
        uint64_t id = add(1, 0);
        ck_assert_uint_gt(id, last);
        last = id;
        ck_assert(transactions_remove(waiting, id, NULL));
    }
    finish();
}
END_TEST

START_TEST(found_and_removed_once)
{
    struct transaction out;
    setup(10);
    uint64_t a = add(3, 0), b = add(4, 0);
    ck_assert_uint_eq(transactions_count(waiting), 2);
    ck_assert_uint_eq(transactions_find(waiting, a)->type, 3);
    ck_assert(transactions_remove(waiting, b, &out));
    ck_assert_uint_eq(out.type, 4);
    ck_assert_ptr_eq(out.user, &expired_count);
    ck_assert(!transactions_remove(waiting, b, &out));
    ck_assert_ptr_null(transactions_find(waiting, b));
    ck_assert_ptr_null(transactions_find(waiting, 0));
    ck_assert_ptr_null(transactions_find(waiting, UINT64_MAX));
    ck_assert_ptr_nonnull(transactions_find(waiting, a));
    finish();
}
END_TEST

START_TEST(at_most_max_wait)
{
    struct transaction one_more = {.type = 1};
    setup(3);
    uint64_t first = add(1, 0);
    add(1, 1000);
    add(1, 0);
    ck_assert_int_eq(transactions_add(waiting, &one_more, 5), -EAGAIN);
    ck_assert_uint_eq(transactions_count(waiting), 3);
    ck_assert(transactions_remove(waiting, first, NULL));
    ck_assert_int_eq(transactions_add(waiting, &one_more, 5), 0);
    finish();
}
END_TEST

/* A generator of our own: the same numbers everywhere. */
static uint32_t next_random(void)
{
    static uint32_t state = 12345;
    state = state * 1664525u + 1013904223u;
    return state >> 8;
}

START_TEST(ten_thousand_in_the_order_of_their_deadlines)
{
    static uint64_t ids[MANY];
    static uint32_t deadlines[MANY + 1];
    setup(MANY);
    for (size_t i = 0; i < MANY; i++) {
        uint32_t deadline = 1000 + next_random() % 100000;
        ids[i] = add(1, deadline);
        ck_assert_uint_le(ids[i], MANY);
        deadlines[ids[i]] = deadline;
    }
    size_t removed = 0;
    for (size_t i = 0; i < MANY; i++) {
        if (next_random() % 2 == 0) {
            ck_assert(transactions_remove(waiting, ids[i], NULL));
            deadlines[ids[i]] = 0;
            removed++;
        }
    }
    ck_assert_uint_eq(transactions_count(waiting), MANY - removed);
    struct transaction transaction;
    uint32_t last = 0;
    while (transactions_pop(waiting, &transaction)) {
        ck_assert_uint_ge(deadlines[transaction.id], last);
        last = deadlines[transaction.id];
        removed++;
    }
    ck_assert_uint_eq(removed, MANY);
    finish();
}
END_TEST

START_TEST(deadlines_pass_in_their_order)
{
    setup(10);
    add(1, 0); /* none */
    uint64_t c = add(1, 30), a = add(1, 5), b = add(1, 15);
    uint64_t start = uv_now(&test.loop);
    TEST_RUN_UNTIL(&test, expired_count == 3);
    ck_assert_uint_ge(uv_now(&test.loop) - start, 30);
    ck_assert_uint_eq(expired[0], a);
    ck_assert_uint_eq(expired[1], b);
    ck_assert_uint_eq(expired[2], c);
    ck_assert_uint_eq(transactions_count(waiting), 1);
    finish();
}
END_TEST

START_TEST(not_before_the_deadline)
{
    setup(10);
    uint64_t start = uv_now(&test.loop);
    add(1, 25);
    TEST_RUN_UNTIL(&test, expired_count == 1);
    ck_assert_uint_ge(uv_now(&test.loop) - start, 25);
    finish();
}
END_TEST

START_TEST(an_earlier_one_moves_the_timer)
{
    setup(10);
    add(1, 1000000);
    uint64_t soon = add(1, 5);
    TEST_RUN_UNTIL(&test, expired_count == 1);
    ck_assert_uint_eq(expired[0], soon);
    finish();
}
END_TEST

START_TEST(removal_of_the_earliest_keeps_the_others)
{
    setup(10);
    uint64_t first = add(1, 5), second = add(1, 20);
    ck_assert(transactions_remove(waiting, first, NULL));
    TEST_RUN_UNTIL(&test, expired_count == 1);
    ck_assert_uint_eq(expired[0], second);
    finish();
}
END_TEST

static void add_another(const struct transaction *transaction)
{
    if (transaction->type == 1) {
        add(2, 1);
    }
}

START_TEST(added_while_another_expires)
{
    setup(10);
    act = add_another;
    add(1, 1);
    TEST_RUN_UNTIL(&test, expired_count == 2);
    finish();
}
END_TEST

static void close_all(const struct transaction *transaction)
{
    (void)transaction;
    transactions_close(waiting);
}

START_TEST(closed_while_one_expires)
{
    setup(MANY);
    act = close_all;
    for (int i = 0; i < 100; i++) {
        add(1, 1);
    }
    TEST_RUN_UNTIL(&test, expired_count > 0);
    test_loop_finish(&test);
    ck_assert_uint_eq(expired_count, 1);
}
END_TEST

START_TEST(closed_with_many_waiting)
{
    setup(MANY);
    for (uint32_t i = 0; i < MANY; i++) {
        add(1, i);
    }
    finish();
    ck_assert_uint_eq(expired_count, 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("transactions");
    TCase *c = tcase_create("transactions");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, ids_are_never_zero_and_never_used_twice);
    tcase_add_test(c, found_and_removed_once);
    tcase_add_test(c, at_most_max_wait);
    tcase_add_test(c, ten_thousand_in_the_order_of_their_deadlines);
    tcase_add_test(c, deadlines_pass_in_their_order);
    tcase_add_test(c, not_before_the_deadline);
    tcase_add_test(c, an_earlier_one_moves_the_timer);
    tcase_add_test(c, removal_of_the_earliest_keeps_the_others);
    tcase_add_test(c, added_while_another_expires);
    tcase_add_test(c, closed_while_one_expires);
    tcase_add_test(c, closed_with_many_waiting);
    suite_add_tcase(s, c);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
