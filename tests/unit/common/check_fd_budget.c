#include <check.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/system/fd_budget.h"

static char logged[4096];

/* Standard error as a pipe: what was logged since. */
static int capture(void)
{
    int pair[2];

    ck_assert_int_eq(pipe2(pair, O_CLOEXEC | O_NONBLOCK), 0);
    ck_assert_int_eq(dup2(pair[1], STDERR_FILENO), STDERR_FILENO);
    close(pair[1]);
    return pair[0];
}

static const char *captured(int reader)
{
    ssize_t length = read(reader, logged, sizeof(logged) - 1);

    logged[length > 0 ? length : 0] = '\0';
    return logged;
}

static void set_limit(rlim_t soft, rlim_t hard)
{
    const struct rlimit limit = {.rlim_cur = soft, .rlim_max = hard};

    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

START_TEST(the_soft_limit_is_raised)
{
    struct rlimit limit;

    set_limit(128, 500);
    ck_assert_uint_eq(fd_budget_setup(), 500);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    ck_assert_uint_eq(limit.rlim_cur, 500);
}
END_TEST

START_TEST(wishes_are_clamped_with_a_warning)
{
    int reader = capture();

    set_limit(500, 500);
    fd_budget_setup();
    ck_assert_uint_eq(fd_budget_clamp("limits.relays", 100, 4), 100);
    ck_assert_uint_eq(fd_budget_clamp("limits.relays", (500 - FD_RESERVE) / 4, 4), 109);
    ck_assert_uint_eq(fd_budget_clamp("limits.relays", 10, 0), 10);
    ck_assert_str_eq(captured(reader), "");
    ck_assert_uint_eq(fd_budget_clamp("limits.relays", 110, 4), 109);
    ck_assert_ptr_nonnull(strstr(captured(reader),
                                 " warning limit-clamped option=limits.relays "
                                 "wanted=110 granted=109 fd_limit=500\n"));
    ck_assert_uint_eq(fd_budget_clamp("x", UINT64_MAX, UINT64_MAX), 0);
}
END_TEST

START_TEST(the_reserve_stays_free)
{
    set_limit(500, 500);
    fd_budget_setup();
    ck_assert(!fd_budget_allows(-1));
    ck_assert(fd_budget_allows(0));
    ck_assert(fd_budget_allows(500 - FD_RESERVE - 1));
    ck_assert(!fd_budget_allows(500 - FD_RESERVE));
    ck_assert(!fd_budget_allows(499));
}
END_TEST

START_TEST(a_limit_below_the_reserve_allows_nothing)
{
    capture();
    set_limit(FD_RESERVE, FD_RESERVE);
    fd_budget_setup();
    ck_assert_uint_eq(fd_budget_clamp("x", 5, 1), 0);
    ck_assert(!fd_budget_allows(0));
}
END_TEST

START_TEST(it_works_without_setup)
{
    set_limit(300, 500);
    ck_assert(fd_budget_allows(300 - FD_RESERVE - 1));
    ck_assert(!fd_budget_allows(300 - FD_RESERVE));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fd_budget");
    TCase *tcase = tcase_create("fd_budget");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_add_test(tcase, the_soft_limit_is_raised);
    tcase_add_test(tcase, wishes_are_clamped_with_a_warning);
    tcase_add_test(tcase, the_reserve_stays_free);
    tcase_add_test(tcase, a_limit_below_the_reserve_allows_nothing);
    tcase_add_test(tcase, it_works_without_setup);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
