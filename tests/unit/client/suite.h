/* One program, one suite. */
#ifndef SOCKST_TESTS_CLIENT_SUITE_H
#define SOCKST_TESTS_CLIENT_SUITE_H

#include <check.h>
#include <stdlib.h>

static inline int run_tests(TCase *tcase)
{
    Suite *suite = suite_create("client");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#endif
