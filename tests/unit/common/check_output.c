#include <check.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "common/output/output.h"

static const struct output_column columns[] = {{.key = "id"},
                                               {.key = "bytes", .right = true},
                                               {.key = "age_ms", .json_only = true},
                                               {.key = "user"}};

static char *text;
static size_t text_length;
static FILE *memory;

static struct output *begin(enum output_format format, bool single)
{
    struct output *output;

    memory = open_memstream(&text, &text_length);
    ck_assert_ptr_nonnull(memory);
    output = output_new(format, memory, single);
    ck_assert_ptr_nonnull(output);
    output_begin(output, columns, sizeof(columns) / sizeof(columns[0]));
    return output;
}

static void end(struct output *output)
{
    ck_assert_int_eq(output_end(output), 0);
    output_free(output);
    fclose(memory);
}

static void write_record(struct output *output, const char *id, const char *user)
{
    static const char *const list[] = {"a", "b c"};
    const struct endpoint endpoint = {.address = {.family = IP_V4, .bytes = {192, 0, 2, 1}},
                                      .port = 80};
    const struct endpoint none = {0};

    output_record(output);
    output_string(output, "id", id);
    output_duration(output, "age_ms", 3720000);
    output_size(output, "bytes", 1288490189);
    output_string(output, "user", user);
    output_bool(output, "yes", true);
    output_bool(output, "no", false);
    output_endpoint(output, "source", &endpoint);
    output_endpoint(output, "none", &none);
    output_strings(output, "list", list, 2);
    output_strings(output, "empty", NULL, 0);
    output_counters_begin(output, "counters");
    output_uint(output, "id", 1); /* not the column of that name */
    output_uint(output, "two", UINT64_MAX / 4);
    output_counters_end(output);
    output_uint(output, "last", 0);
    output_record_end(output);
}

static void check_json_record(json_t *record, const char *id, const char *user)
{
    json_t *counters = json_object_get(record, "counters");

    ck_assert_str_eq(json_string_value(json_object_get(record, "id")), id);
    ck_assert_int_eq(json_integer_value(json_object_get(record, "age_ms")), 3720000);
    ck_assert_int_eq(json_integer_value(json_object_get(record, "bytes")), 1288490189);
    if (user)
        ck_assert_str_eq(json_string_value(json_object_get(record, "user")), user);
    else
        ck_assert(json_is_null(json_object_get(record, "user")));
    ck_assert(json_is_true(json_object_get(record, "yes")));
    ck_assert(json_is_false(json_object_get(record, "no")));
    ck_assert_str_eq(json_string_value(json_object_get(record, "source")), "192.0.2.1:80");
    ck_assert(json_is_null(json_object_get(record, "none")));
    ck_assert_uint_eq(json_array_size(json_object_get(record, "list")), 2);
    ck_assert(json_is_array(json_object_get(record, "empty")));
    ck_assert_uint_eq(json_object_size(counters), 2);
    ck_assert_int_eq(json_integer_value(json_object_get(counters, "two")),
                     (json_int_t)(UINT64_MAX / 4));
    ck_assert_int_eq(json_integer_value(json_object_get(record, "last")), 0);
    ck_assert_uint_eq(json_object_size(record), 12);
}

START_TEST(json_is_an_array)
{
    struct output *output = begin(OUTPUT_JSON, false);
    json_t *array;

    write_record(output, "tcp:1", "alice \"quoted\"\n\x1b");
    write_record(output, "tcp:2", NULL);
    end(output);
    array = json_loads(text, 0, NULL);
    ck_assert_msg(array, "no JSON: %s", text);
    ck_assert_uint_eq(json_array_size(array), 2);
    check_json_record(json_array_get(array, 0), "tcp:1", "alice \"quoted\"\n\x1b");
    check_json_record(json_array_get(array, 1), "tcp:2", NULL);
    json_decref(array);
    free(text);
}
END_TEST

START_TEST(json_of_nothing)
{
    json_t *value;

    end(begin(OUTPUT_JSON, false));
    value = json_loads(text, 0, NULL);
    ck_assert(json_is_array(value) && json_array_size(value) == 0);
    json_decref(value);
    free(text);
    end(begin(OUTPUT_JSON, true));
    ck_assert_str_eq(text, "null\n");
    free(text);
}
END_TEST

START_TEST(json_of_one)
{
    struct output *output = begin(OUTPUT_JSON, true);
    json_t *value;

    write_record(output, "tcp:1", "x");
    end(output);
    value = json_loads(text, 0, NULL);
    ck_assert_msg(json_is_object(value), "no object: %s", text);
    check_json_record(value, "tcp:1", "x");
    json_decref(value);
    free(text);
}
END_TEST

START_TEST(json_survives_octets_that_are_no_text)
{
    struct output *output = begin(OUTPUT_JSON, true);
    json_t *value;

    output_record(output);
    output_string(output, "user",
                  "a\xff"
                  "b\xc3");
    output_record_end(output);
    end(output);
    value = json_loads(text, 0, NULL);
    ck_assert_msg(value, "no JSON: %s", text);
    ck_assert_str_eq(json_string_value(json_object_get(value, "user")),
                     "a\xef\xbf\xbd"
                     "b\xef\xbf\xbd");
    json_decref(value);
    free(text);
}
END_TEST

START_TEST(tables_show_their_columns)
{
    struct output *output = begin(OUTPUT_TABLE, false);

    write_record(output, "tcp:1", "alice");
    write_record(output, "tcp:1000", NULL);
    end(output);
    ck_assert_str_eq(text,
                     "id         bytes user\n"
                     "tcp:1    1.2 GiB alice\n"
                     "tcp:1000 1.2 GiB -\n");
    free(text);
}
END_TEST

START_TEST(an_empty_table_has_a_heading)
{
    end(begin(OUTPUT_TABLE, false));
    ck_assert_str_eq(text, "id bytes user\n");
    free(text);
}
END_TEST

START_TEST(wide_values_stay_whole_in_a_pipe)
{
    struct output *output = begin(OUTPUT_TABLE, false);
    char wide[301];

    memset(wide, 'w', sizeof(wide) - 1);
    wide[sizeof(wide) - 1] = '\0';
    write_record(output, wide, wide);
    end(output);
    ck_assert_msg(strstr(text, wide), "cut: %s", text);
    ck_assert_ptr_nonnull(strstr(strstr(text, wide) + 1, wide));
    free(text);
}
END_TEST

START_TEST(long_tables_come_in_parts)
{
    struct output *output = begin(OUTPUT_TABLE, false);
    size_t lines = 0, headings = 0;

    for (unsigned i = 0; i < OUTPUT_TABLE_MAX + 1; i++) {
        char id[16];

        snprintf(id, sizeof(id), "tcp:%u", i);
        output_record(output);
        output_string(output, "id", id);
        output_record_end(output);
    }
    end(output);
    for (const char *line = text; *line; line = strchr(line, '\n') + 1) {
        lines += strncmp(line, "tcp:", 4) == 0;
        headings += strncmp(line, "id", 2) == 0;
    }
    ck_assert_uint_eq(lines, OUTPUT_TABLE_MAX + 1);
    ck_assert_uint_eq(headings, 1);
    free(text);
}
END_TEST

START_TEST(nothing_acts_on_the_terminal)
{
    static const enum output_format formats[] = {OUTPUT_TABLE, OUTPUT_LINES, OUTPUT_JSON};

    for (size_t i = 0; i < 3; i++) {
        struct output *output = begin(formats[i], false);

        output_record(output);
        output_string(output, "user", "a\x1b[31m\x07\r\nb");
        output_record_end(output);
        end(output);
        for (const char *at = text; *at; at++)
            ck_assert_msg(*at == '\n' || ((unsigned char)*at >= 0x20 && *at != 0x7f),
                          "format %zu: octet %02x", i, (unsigned)*at);
        ck_assert_msg(!strstr(text, "\nb"), "format %zu: a line of its own", i);
        free(text);
    }
}
END_TEST

START_TEST(lines_show_everything)
{
    struct output *output = begin(OUTPUT_LINES, true);

    write_record(output, "tcp:1", NULL);
    output_record(output);
    output_string(output, "id", "tcp:2");
    output_record_end(output);
    end(output);
    ck_assert_str_eq(text,
                     "id: tcp:1\nage_ms: 1h02m\nbytes: 1.2 GiB\nuser: -\nyes: yes\nno: no\n"
                     "source: 192.0.2.1:80\nnone: -\nlist: a, b c\nempty: -\n"
                     "counters.id: 1\ncounters.two: 4611686018427387903\nlast: 0\n"
                     "\nid: tcp:2\n");
    free(text);
}
END_TEST

START_TEST(durations_and_sizes)
{
    static const struct {
        uint64_t value;
        const char *duration, *size;
    } rows[] = {
        {0, "0ms", "0 B"},
        {999, "999ms", "999 B"},
        {1000, "1s", "1000 B"},
        {1023, "1s", "1023 B"},
        {1024, "1s", "1.0 KiB"},
        {59999, "59s", "58.6 KiB"},
        {60000, "1m00s", "58.6 KiB"},
        {3599999, "59m59s", "3.4 MiB"},
        {3600000, "1h00m", "3.4 MiB"},
        {86399999, "23h59m", "82.4 MiB"},
        {86400000, "1d00h", "82.4 MiB"},
        {1048575, "17m28s", "1.0 MiB"},
        {UINT64_MAX, "213503982334d14h", "16.0 EiB"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct output *output = begin(OUTPUT_LINES, true);
        char expected[128];

        output_record(output);
        output_duration(output, "d", rows[i].value);
        output_size(output, "s", rows[i].value);
        output_record_end(output);
        end(output);
        snprintf(expected, sizeof(expected), "d: %s\ns: %s\n", rows[i].duration, rows[i].size);
        ck_assert_str_eq(text, expected);
        free(text);
    }
}
END_TEST

START_TEST(long_lists_are_cut_for_people_only)
{
    static const char *values[2000];
    struct output *output;
    json_t *value;

    for (size_t i = 0; i < 2000; i++)
        values[i] = "item";
    output = begin(OUTPUT_LINES, true);
    output_record(output);
    output_strings(output, "list", values, 2000);
    output_record_end(output);
    end(output);
    ck_assert_uint_le(text_length, 4200);
    ck_assert_str_eq(text + text_length - 4, "...\n");
    free(text);
    output = begin(OUTPUT_JSON, true);
    output_record(output);
    output_strings(output, "list", values, 2000);
    output_record_end(output);
    end(output);
    value = json_loads(text, 0, NULL);
    ck_assert_uint_eq(json_array_size(json_object_get(value, "list")), 2000);
    json_decref(value);
    free(text);
}
END_TEST

START_TEST(a_failed_write_is_told)
{
    static const enum output_format formats[] = {OUTPUT_TABLE, OUTPUT_LINES, OUTPUT_JSON};

    for (size_t i = 0; i < 3; i++) {
        FILE *full = fopen("/dev/full", "w");
        struct output *output = output_new(formats[i], full, false);

        ck_assert_ptr_nonnull(full);
        output_begin(output, columns, sizeof(columns) / sizeof(columns[0]));
        for (int record = 0; record < 2000; record++) /* more than stdio's buffer */
            write_record(output, "tcp:1", "x");
        ck_assert_int_eq(output_end(output), -EIO);
        output_free(output);
        fclose(full);
    }
    output_free(NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("output");
    TCase *tcase = tcase_create("output");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_set_timeout(tcase, 30);
    tcase_add_test(tcase, json_is_an_array);
    tcase_add_test(tcase, json_of_nothing);
    tcase_add_test(tcase, json_of_one);
    tcase_add_test(tcase, json_survives_octets_that_are_no_text);
    tcase_add_test(tcase, tables_show_their_columns);
    tcase_add_test(tcase, an_empty_table_has_a_heading);
    tcase_add_test(tcase, wide_values_stay_whole_in_a_pipe);
    tcase_add_test(tcase, long_tables_come_in_parts);
    tcase_add_test(tcase, nothing_acts_on_the_terminal);
    tcase_add_test(tcase, lines_show_everything);
    tcase_add_test(tcase, durations_and_sizes);
    tcase_add_test(tcase, long_lists_are_cut_for_people_only);
    tcase_add_test(tcase, a_failed_write_is_told);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
