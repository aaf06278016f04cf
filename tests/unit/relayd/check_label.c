/*
 * Texts that relays share: kept once, as long as somebody holds them.
 */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "relayd/relay/label.h"

START_TEST(equal_texts_are_one_label)
{
    struct label_table table = {0};
    char text[] = "alice";
    struct label *first = label_get(&table, text);
    text[0] = 'A'; /* it was copied */
    struct label *second = label_get(&table, "alice");

    ck_assert_ptr_eq(first, second);
    ck_assert_str_eq(label_text(first), "alice");
    ck_assert_uint_eq(table.count, 1);
    label_put(&table, first);
    ck_assert_uint_eq(table.count, 1);
    ck_assert_str_eq(label_text(second), "alice");
    label_put(&table, second);
    ck_assert_uint_eq(table.count, 0);
    ck_assert_ptr_null(table.root);
}
END_TEST

START_TEST(different_texts_are_not)
{
    struct label_table table = {0};
    static const char *const texts[] = {"", "a", "A", "aa", "alice", "alice ", "\xc3\xa4"};
    enum { COUNT = sizeof(texts) / sizeof(texts[0]) };
    struct label *labels[COUNT];

    for (size_t i = 0; i < COUNT; i++) {
        labels[i] = label_get(&table, texts[i]);
        for (size_t k = 0; k < i; k++) {
            ck_assert_ptr_ne(labels[k], labels[i]);
        }
    }
    ck_assert_uint_eq(table.count, COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        ck_assert_str_eq(label_text(labels[i]), texts[i]);
        label_put(&table, labels[i]);
    }
    ck_assert_uint_eq(table.count, 0);
}
END_TEST

START_TEST(no_label_has_no_text)
{
    struct label_table table = {0};
    ck_assert_str_eq(label_text(NULL), "");
    label_put(&table, NULL);
}
END_TEST

START_TEST(many_come_and_go)
{
    struct label_table table = {0};
    static struct label *labels[5000];
    char text[32];

    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 5000; i++) {
            snprintf(text, sizeof(text), "user-%d", i % 2500);
            labels[i] = label_get(&table, text);
        }
        ck_assert_uint_eq(table.count, 2500);
        for (int i = 4999; i >= 0; i--) {
            snprintf(text, sizeof(text), "user-%d", i % 2500);
            ck_assert_str_eq(label_text(labels[i]), text);
            label_put(&table, labels[i]);
        }
        ck_assert_uint_eq(table.count, 0);
        ck_assert_ptr_null(table.root);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("label");
    TCase *tcase = tcase_create("label");

    tcase_add_test(tcase, equal_texts_are_one_label);
    tcase_add_test(tcase, different_texts_are_not);
    tcase_add_test(tcase, no_label_has_no_text);
    tcase_add_test(tcase, many_come_and_go);
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
