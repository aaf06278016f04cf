#include "tests/unit/relayd/bpf/suite.h"

#include <netinet/in.h>
#include <stdio.h>

#include "tests/unit/relayd/bpf/program_fixture.h"

#define EXIT_SKIPPED 77

TCase *bench_case(const char *name, int protocol)
{
    TCase *tests = tcase_create(name);

    tcase_add_unchecked_fixture(tests, protocol == IPPROTO_TCP ? bench_setup_tcp : bench_setup_udp,
                                bench_teardown);
    return tests;
}

int bench_main(Suite *(*suite)(void))
{
    const char *obstacle = bench_obstacle();
    int failed;

    if (obstacle != NULL) {
        printf("skipped: %s\n", obstacle);
        return EXIT_SKIPPED;
    }
    SRunner *runner = srunner_create(suite());
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
