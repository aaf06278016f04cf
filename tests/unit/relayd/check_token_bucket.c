/*
 * Token buckets: what limits.bytes_per_second lets through (N2-LIMIT-010).
 */
#include <check.h>
#include <stdlib.h>

#include "relayd/plane/socket/token_bucket.h"

#define START_MS 123456789

START_TEST(without_a_rate_everything_passes)
{
    struct token_bucket bucket;

    token_bucket_init(&bucket, 0, START_MS);
    ck_assert_uint_eq(token_bucket_content(&bucket, START_MS), UINT64_MAX);
    token_bucket_take(&bucket, UINT64_MAX);
    ck_assert_uint_eq(token_bucket_content(&bucket, START_MS), UINT64_MAX);
    ck_assert(token_bucket_is_ready(&bucket, START_MS));
}
END_TEST

START_TEST(it_holds_a_second_and_at_least_64_kib)
{
    static const uint64_t rates[] = {1, 999, 65536, 65537, 10000000};
    const uint64_t rate = rates[_i];
    struct token_bucket bucket;
    const uint64_t most = rate > 65536 ? rate : 65536;

    token_bucket_init(&bucket, rate, START_MS);
    ck_assert_uint_eq(token_bucket_content(&bucket, START_MS), most);
    token_bucket_take(&bucket, most);
    ck_assert_uint_eq(token_bucket_content(&bucket, START_MS), 0);
    ck_assert(!token_bucket_is_ready(&bucket, START_MS));
    ck_assert_uint_eq(token_bucket_content(&bucket, START_MS + 1000), rate);
    ck_assert_uint_eq(token_bucket_content(&bucket, START_MS + 365ull * 86400000), most);
}
END_TEST

/* Looked at each millisecond it brings exactly as much as looked at once. */
START_TEST(nothing_is_lost_by_looking)
{
    struct token_bucket bucket;

    token_bucket_init(&bucket, 1234567, START_MS);
    token_bucket_take(&bucket, 1234567);
    for (uint64_t ms = 1; ms < 1000; ms++)
        ck_assert_uint_eq(token_bucket_content(&bucket, START_MS + ms), 1234567 * ms / 1000);
    for (uint64_t ms = 1; ms <= 1000; ms++)
        token_bucket_take(&bucket, token_bucket_content(&bucket, START_MS + 1000 + ms));
    ck_assert_uint_eq(token_bucket_content(&bucket, START_MS + 3000), 1234567);
}
END_TEST

START_TEST(a_slow_one_is_ready_for_little)
{
    struct token_bucket bucket;

    token_bucket_init(&bucket, 100, START_MS);
    token_bucket_take(&bucket, 65536);
    ck_assert(!token_bucket_is_ready(&bucket, START_MS + 100));
    ck_assert(token_bucket_is_ready(&bucket, START_MS + 110));
    token_bucket_init(&bucket, 1000000, START_MS);
    token_bucket_take(&bucket, 1000000);
    ck_assert(!token_bucket_is_ready(&bucket, START_MS + 1));
    ck_assert(token_bucket_is_ready(&bucket, START_MS + 2));
}
END_TEST

/* A peer may order any number. */
START_TEST(any_rate_is_sound)
{
    struct token_bucket bucket;

    token_bucket_init(&bucket, UINT64_MAX, START_MS);
    const uint64_t most = token_bucket_content(&bucket, START_MS);
    ck_assert_uint_ge(most, 1ull << 40);
    token_bucket_take(&bucket, most);
    ck_assert_uint_eq(token_bucket_content(&bucket, UINT64_MAX), most);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("token_bucket");
    TCase *tests = tcase_create("token_bucket");
    SRunner *runner = srunner_create(suite);

    tcase_add_test(tests, without_a_rate_everything_passes);
    tcase_add_loop_test(tests, it_holds_a_second_and_at_least_64_kib, 0, 5);
    tcase_add_test(tests, nothing_is_lost_by_looking);
    tcase_add_test(tests, a_slow_one_is_ready_for_little);
    tcase_add_test(tests, any_rate_is_sound);
    suite_add_tcase(suite, tests);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
