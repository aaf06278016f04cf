/*
 * The wheel of deadlines.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "relayd/plane/bpf/deadlines.h"
#include "relayd/plane/bpf/flow.h"

#define FLOWS 100000
#define LATE_MS DEADLINES_TICK_MS

static struct flow *flows;
static struct deadlines wheel;
static uint32_t start_ms;

static void setup(void)
{
    flows = calloc(FLOWS, sizeof(*flows));
    ck_assert_ptr_nonnull(flows);
    deadlines_init(&wheel, flows);
    start_ms = 0;
}

static void teardown(void)
{
    free(flows);
}

static uint32_t take(uint32_t now_ms)
{
    uint32_t budget = UINT32_MAX;

    return deadlines_take(&wheel, now_ms, &budget);
}

/* Goes through time as the plane does; returns when the flow was given, which must be alone. */
static uint32_t run_until(uint32_t flow, uint32_t from_ms)
{
    uint32_t now_ms = from_ms, taken;

    for (unsigned turns = 0; (taken = take(now_ms)) == FLOW_NONE; turns++) {
        const uint32_t wait_ms = deadlines_wait_ms(&wheel, now_ms);
        ck_assert_uint_ne(wait_ms, UINT32_MAX);
        ck_assert_uint_lt(turns, 10000);
        now_ms += wait_ms > 0 ? wait_ms : 1;
    }
    ck_assert_uint_eq(taken, flow);
    return now_ms;
}

static const uint32_t delays[] = {0,     1,      63,     64,     65,      1000,     10000,
                                  60000, 262143, 262144, 262145, 1000000, 86399999, 86400000};

static const uint32_t starts[] = {0, 1, 12345, UINT32_MAX - 100, UINT32_MAX - 300000, 1u << 31};

START_TEST(it_passes_in_time)
{
    for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
        for (size_t j = 0; j < sizeof(delays) / sizeof(delays[0]); j++) {
            deadlines_set(&wheel, 7, starts[i], delays[j]);
            ck_assert_uint_eq(take(starts[i]), FLOW_NONE);
            const uint32_t after_ms = run_until(7, starts[i]) - starts[i];
            ck_assert_msg(after_ms > delays[j] && after_ms <= delays[j] + LATE_MS,
                          "start %u: %u ms instead of %u", starts[i], after_ms, delays[j]);
            ck_assert_uint_eq(deadlines_wait_ms(&wheel, starts[i]), UINT32_MAX);
        }
    }
}
END_TEST

START_TEST(one_that_is_too_far_off_comes_early)
{
    deadlines_set(&wheel, 1, 5000, UINT64_MAX - 1);
    const uint32_t after_ms = run_until(1, 5000) - 5000;
    ck_assert_uint_gt(after_ms, DEADLINES_DISTANCE_MAX_MS);
    ck_assert_uint_le(after_ms, DEADLINES_DISTANCE_MAX_MS + LATE_MS);
}
END_TEST

START_TEST(it_is_replaced_and_cleared)
{
    deadlines_set(&wheel, 1, 0, 1000);
    deadlines_set(&wheel, 1, 0, 50000);
    ck_assert_uint_eq(take(40000), FLOW_NONE);
    deadlines_set(&wheel, 2, 40000, 100);
    deadlines_clear(&wheel, 1);
    deadlines_clear(&wheel, 1);
    ck_assert_uint_eq(run_until(2, 40000) / 1000, 40);
    ck_assert_uint_eq(take(1000000), FLOW_NONE);
    ck_assert_uint_eq(wheel.count, 0);
}
END_TEST

/* Each at its time, none twice, none left, however the loop sleeps. */
START_TEST(many_pass_each_in_its_time)
{
    static uint32_t due_ms[FLOWS];
    uint32_t now_ms = 777, left = FLOWS, flow, state = 1;

    for (uint32_t i = 0; i < FLOWS; i++) {
        state = state * 1664525 + 1013904223;
        due_ms[i] = state >> 12; /* up to four turns of the wheel */
        deadlines_set(&wheel, i, now_ms, due_ms[i]);
        due_ms[i] += now_ms;
    }
    while (left != 0) {
        uint32_t budget = 500;
        while ((flow = deadlines_take(&wheel, now_ms, &budget)) != FLOW_NONE) {
            if (due_ms[flow] == 0 || now_ms <= due_ms[flow])
                ck_abort_msg("%u at %u: due at %u, or twice", flow, now_ms, due_ms[flow]);
            due_ms[flow] = 0;
            left--;
        }
        if (budget != 0) {
            for (uint32_t i = 0; i < FLOWS; i += 997)
                if (due_ms[i] != 0 && now_ms > due_ms[i] + LATE_MS + 100)
                    ck_abort_msg("%u: due at %u, still there at %u", i, due_ms[i], now_ms);
            state = state * 1664525 + 1013904223;
            now_ms += state >> 25; /* at most 128 ms */
        }
    }
    ck_assert_uint_eq(wheel.count, 0);
}
END_TEST

START_TEST(the_budget_bounds_a_turn)
{
    unsigned taken = 0;

    for (uint32_t i = 0; i < 1000; i++)
        deadlines_set(&wheel, i, 0, 10);
    uint32_t budget = 100;
    while (deadlines_take(&wheel, 1000, &budget) != FLOW_NONE)
        taken++;
    ck_assert_uint_eq(taken, 100);
    ck_assert_uint_eq(budget, 0);
    ck_assert_uint_eq(deadlines_wait_ms(&wheel, 1000), 0);
    while (take(1000) != FLOW_NONE)
        taken++;
    ck_assert_uint_eq(taken, 1000);
}
END_TEST

/* What happens between two looks at one bucket: others of it go, and come. */
START_TEST(a_bucket_may_change_while_it_is_looked_at)
{
    uint32_t budget = 1;

    for (uint32_t i = 0; i < 10; i++)
        deadlines_set(&wheel, i, 0, 10);
    ck_assert_uint_eq(deadlines_take(&wheel, 100, &budget), 0);
    deadlines_clear(&wheel, 1);
    deadlines_clear(&wheel, 9);
    deadlines_set(&wheel, 0, 100, DEADLINES_TICK_MS * (DEADLINES_BUCKETS - 1)); /* same bucket */
    for (uint32_t i = 2; i < 9; i++)
        ck_assert_uint_eq(take(100), i);
    ck_assert_uint_eq(take(100), FLOW_NONE);
    ck_assert_uint_eq(wheel.count, 1);
    ck_assert_uint_gt(run_until(0, 100), 100 + DEADLINES_TICK_MS * (DEADLINES_BUCKETS - 1));
}
END_TEST

/* Sleeping for longer than a turn of the wheel. */
START_TEST(nothing_is_lost_in_a_long_sleep)
{
    for (uint32_t i = 0; i < 100; i++)
        deadlines_set(&wheel, i, 0, i * 10000);
    for (uint32_t i = 0; i < 100; i++)
        ck_assert_uint_ne(take(2000000), FLOW_NONE);
    ck_assert_uint_eq(take(2000000), FLOW_NONE);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bpf_deadlines");
    TCase *tcase = tcase_create("wheel");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, it_passes_in_time);
    tcase_add_test(tcase, one_that_is_too_far_off_comes_early);
    tcase_add_test(tcase, it_is_replaced_and_cleared);
    tcase_add_test(tcase, many_pass_each_in_its_time);
    tcase_add_test(tcase, the_budget_bounds_a_turn);
    tcase_add_test(tcase, a_bucket_may_change_while_it_is_looked_at);
    tcase_add_test(tcase, nothing_is_lost_in_a_long_sleep);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
