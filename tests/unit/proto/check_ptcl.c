#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/ptcl.h"

/* N1-PTCL-030 */
START_TEST(rows_are_found_by_number_and_name)
{
    static const struct {
        uint8_t number;
        const char *name;
        enum ptcl_ports ports;
    } rows[] = {
        {1, "icmp", PTCL_ECHO_ID},    {6, "tcp", PTCL_PORTS},          {17, "udp", PTCL_PORTS},
        {33, "dccp", PTCL_PORTS},     {47, "gre", PTCL_NO_PORTS},      {50, "esp", PTCL_NO_PORTS},
        {51, "ah", PTCL_NO_PORTS},    {58, "ipv6-icmp", PTCL_ECHO_ID}, {132, "sctp", PTCL_PORTS},
        {136, "udplite", PTCL_PORTS},
    };
    size_t count = sizeof(rows) / sizeof(rows[0]);
    for (size_t i = 0; i < count; i++) {
        char number[4], text[9];
        const struct ptcl *row = ptcl_by_number(rows[i].number);
        ck_assert_ptr_nonnull(row);
        ck_assert_str_eq(row->name, rows[i].name);
        ck_assert_int_eq(row->ports, rows[i].ports);
        snprintf(number, sizeof(number), "%u", rows[i].number);
        ck_assert_ptr_eq(ptcl_by_name(rows[i].name), row);
        ck_assert_ptr_eq(ptcl_by_name(number), row);
        ck_assert_ptr_eq(ptcl_at(i), row);
        ck_assert_str_eq(ptcl_format(rows[i].number, text), rows[i].name);
    }
    ck_assert_ptr_null(ptcl_at(count));
}
END_TEST

START_TEST(others_are_not_found)
{
    static const char *const names[] = {"",    "TCP", "tcp ", " tcp", "06", "6 ", "+6",
                                        "0x6", "256", "262",  "0",    "2",  "tc"};
    char text[9];
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        ck_assert_msg(ptcl_by_name(names[i]) == NULL, "'%s' is found", names[i]);
    ck_assert_ptr_null(ptcl_by_number(0));
    ck_assert_ptr_null(ptcl_by_number(255));
    ck_assert_str_eq(ptcl_format(255, text), "ptcl-255");
    ck_assert_str_eq(ptcl_format(0, text), "ptcl-0");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ptcl");
    TCase *tcase = tcase_create("ptcl");
    tcase_add_test(tcase, rows_are_found_by_number_and_name);
    tcase_add_test(tcase, others_are_not_found);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
