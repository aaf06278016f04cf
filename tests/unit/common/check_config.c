/* What loads, and what it means. What does not load: check_config_errors.c. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/unit/common/sample_schema.h"

static struct sample config;
static struct config_error error;

static void load(const char *text)
{
    int r =
        config_load_text(sample_schema, &config, sizeof(config), "t", text, strlen(text), &error);

    ck_assert_msg(r == 0, "%s\n%s", error.text, text);
}

static void release(void)
{
    config_free(sample_schema, &config);
    config_free(sample_schema, &config);
}

static const char *address_text(const struct ip_address *address)
{
    static char text[ENDPOINT_TEXT_MAX];

    return ip_address_format(address, text, sizeof(text));
}

static void check_defaults(void)
{
    ck_assert(config.on);
    ck_assert(!config.off);
    ck_assert_uint_eq(config.number, 42);
    ck_assert_uint_eq(config.wide, 0);
    ck_assert_uint_eq(config.delay, 10000);
    ck_assert_uint_eq(config.room, 65536);
    ck_assert_uint_eq(config.speed, 10000000);
    ck_assert_int_eq(config.color, SAMPLE_GREEN);
    ck_assert_str_eq(config.name, "anna");
    ck_assert_ptr_null(config.nothing);
    ck_assert_str_eq(address_text(&config.address), "127.0.0.1");
    ck_assert_int_eq(config.prefix.address.family, IP_NONE);
    ck_assert_uint_eq(config.range.first, 20000);
    ck_assert_uint_eq(config.range.last, 59999);
    ck_assert_uint_eq(config.section.words.count, 2);
    ck_assert_str_eq(((char **)config.section.words.items)[1], "udp");
    ck_assert_uint_eq(config.section.automatic.count, 0);
    ck_assert_ptr_null(config.section.automatic.items);
    ck_assert_uint_eq(config.section.two.count, 1);
    ck_assert_uint_eq(config.section.inner.deep, 7);
    ck_assert_uint_eq(config.listen.count, 0);
    ck_assert_uint_eq(config.pairs.count, 0);
}

START_TEST(empty_files_are_all_defaults)
{
    static const char *const texts[] = {"",           "\n\n",        "# only a comment\n",
                                        "---\n",      "---\n...\n",  "{}\n",
                                        "section:\n", "section: {}", "section: {inner: }",
                                        "rules:\n",   "null\n",      "\xef\xbb\xbf# mark\n"};

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        load(texts[i]);
        check_defaults();
        release();
    }
}
END_TEST

START_TEST(every_type_loads)
{
    load(
        "on: false\n"
        "off: true\n"
        "number: 0\n"
        "wide: 18446744073709551615\n"
        "limited: 20\n"
        "delay: 1h\n"
        "room: 3GiB\n"
        "speed: 800kbit\n"
        "color: blue\n"
        "name: \"two words\"\n"
        "nothing: something\n"
        "bounded: 'eight888'\n"
        "address: \"2001:db8::1\"\n"
        "prefix: 10.0.0.0/8\n"
        "range: 443\n"
        "section: {words: single, automatic: [192.0.2.1, \"::1\"], delays: [0, 5m], two: [2, 4],\n"
        "          inner: {deep: 9}}\n"
        "pairs: {10.0.0.5: 203.0.113.9, \"::1\": \"2001:db8::2\"}\n");
    ck_assert(!config.on);
    ck_assert(config.off);
    ck_assert_uint_eq(config.number, 0);
    ck_assert_uint_eq(config.wide, UINT64_MAX);
    ck_assert_uint_eq(config.limited, 20);
    ck_assert_uint_eq(config.delay, 3600000);
    ck_assert_uint_eq(config.room, UINT64_C(3) << 30);
    ck_assert_uint_eq(config.speed, 800000);
    ck_assert_int_eq(config.color, SAMPLE_BLUE);
    ck_assert_str_eq(config.name, "two words");
    ck_assert_str_eq(config.nothing, "something");
    ck_assert_str_eq(config.bounded, "eight888");
    ck_assert_str_eq(address_text(&config.address), "2001:db8::1");
    ck_assert_uint_eq(config.prefix.length, 8);
    ck_assert_uint_eq(config.range.first, 443);
    ck_assert_uint_eq(config.range.last, 443);
    ck_assert_uint_eq(config.section.words.count, 1);
    ck_assert_str_eq(((char **)config.section.words.items)[0], "single");
    ck_assert_uint_eq(config.section.automatic.count, 2);
    ck_assert_uint_eq(((uint64_t *)config.section.delays.items)[1], 300000);
    ck_assert_uint_eq(((uint64_t *)config.section.two.items)[1], 4);
    ck_assert_uint_eq(config.section.inner.deep, 9);
    ck_assert_uint_eq(config.pairs.count, 2);
    ck_assert_str_eq(address_text(&((struct config_address_pair *)config.pairs.items)[0].value),
                     "203.0.113.9");
    release();
    ck_assert_ptr_null(config.name);
    ck_assert_ptr_null(config.pairs.items);
}
END_TEST

START_TEST(values_with_units)
{
    static const struct {
        const char *text;
        uint64_t delay, room, speed;
    } rows[] = {
        {"{delay: 0, room: 0, speed: 0}", 0, 0, 0},
        {"{delay: 500ms, room: 512, speed: 1Gbit}", 500, 512, 1000000000},
        {"{delay: 60m, room: 1KiB, speed: 500bit}", 3600000, 1024, 500},
        {"{delay: 1s, room: 4MiB, speed: 1kbit}", 1000, 4 << 20, 1000},
        {"{delay: 0s, room: 0GiB, speed: 0Mbit}", 0, 0, 0},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        load(rows[i].text);
        ck_assert_uint_eq(config.delay, rows[i].delay);
        ck_assert_uint_eq(config.room, rows[i].room);
        ck_assert_uint_eq(config.speed, rows[i].speed);
        release();
    }
}
END_TEST

START_TEST(records_load)
{
    const struct sample_listen *listen;
    const struct sample_rule *rules;
    const struct sample_nested *nested;

    load(
        "listen:\n"
        "  - {address: \"::\", port: 1081, tls: {certificate: /a, key: null}}\n"
        "  - address: 127.0.0.1\n"
        "rules:\n"
        "  - action: red\n"
        "    users: [alice, bob]\n"
        "    colors: [green, blue]\n"
        "  - {action: blue, ports: [80, 443-445], from: 10.0.0.0/8,\n"
        "     nested: [{}, {name: x}]}\n");
    listen = config.listen.items;
    ck_assert_uint_eq(config.listen.count, 2);
    ck_assert_uint_eq(listen[0].origin.line, 2);
    ck_assert_uint_eq(listen[0].origin.column, 5);
    ck_assert_uint_eq(listen[0].port, 1081);
    ck_assert_str_eq(listen[0].tls.certificate, "/a");
    ck_assert_ptr_null(listen[0].tls.key);
    ck_assert_uint_eq(listen[1].origin.line, 3);
    ck_assert_uint_eq(listen[1].port, 1080);
    ck_assert_ptr_null(listen[1].tls.certificate);
    rules = config.rules.items;
    ck_assert_uint_eq(config.rules.count, 2);
    ck_assert_int_eq(rules[0].action, SAMPLE_RED);
    ck_assert_uint_eq(rules[0].from.count, 2);
    ck_assert_uint_eq(rules[0].users.count, 2);
    ck_assert_uint_eq(rules[0].ports.count, 1);
    ck_assert_int_eq(((int *)rules[0].colors.items)[1], SAMPLE_BLUE);
    ck_assert_uint_eq(rules[0].nested.count, 0);
    ck_assert_int_eq(rules[1].action, SAMPLE_BLUE);
    ck_assert_uint_eq(rules[1].ports.count, 2);
    ck_assert_uint_eq(((struct port_range *)rules[1].ports.items)[1].last, 445);
    ck_assert_uint_eq(rules[1].nested.count, 2);
    nested = rules[1].nested.items;
    ck_assert_str_eq(nested[0].name, "nobody");
    ck_assert_uint_eq(nested[0].origin.line, 9);
    ck_assert_uint_eq(nested[0].origin.column, 15);
    ck_assert_str_eq(nested[1].name, "x");
    release();
}
END_TEST

START_TEST(an_empty_list_is_not_the_default)
{
    load("section: {words: [], automatic: auto}\nrules: [{action: red, from: [], ports: }]\n");
    ck_assert_uint_eq(config.section.words.count, 0);
    ck_assert_uint_eq(config.section.automatic.count, 0);
    ck_assert_uint_eq(((struct sample_rule *)config.rules.items)[0].from.count, 0);
    ck_assert_uint_eq(((struct sample_rule *)config.rules.items)[0].ports.count, 0);
    release();
}
END_TEST

static char *print(void)
{
    char *text = NULL;
    size_t length = 0;
    FILE *memory = open_memstream(&text, &length);

    ck_assert_ptr_nonnull(memory);
    config_print(sample_schema, &config, memory);
    fclose(memory);
    return text;
}

START_TEST(printing_round_trips)
{
    static const char *const texts[] = {
        "",
        "{on: false, wide: 18446744073709551615, delay: 90s, room: 1536, speed: 1500bit}",
        "name: \"a \\\"quoted\\\" \\\\ text\\n\\t\\x1b\\u202e\\uFFFE\\U0001F427 "
        "gr\xc3\xbc\xc3\x9f: # - [\"\n",
        "{name: 'null', nothing: '~', bounded: 'true', prefix: '::/0', range: 7-9}",
        "{section: {words: [], automatic: [\"fe80::1%3\"], delays: [1ms, 2h, 90m], two: [2]}}",
        "{listen: [{address: \"::\", tls: {certificate: 'a b'}}, {address: 1.2.3.4, port: 1}],"
        " rules: [{action: green, users: ['', x], colors: [red, blue],"
        " nested: [{name: a}, {name: \"\"}]}], pairs: {1.2.3.4: 5.6.7.8, \"::9\": 9.9.9.9}}",
    };

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        char *first, *second;

        load(texts[i]);
        first = print();
        release();
        load(first);
        second = print();
        release();
        ck_assert_str_eq(first, second);
        free(first);
        free(second);
    }
}
END_TEST

START_TEST(strings_survive_printing)
{
    static const char expected[] = "a \"q\" \\ \n\t\x1b\xe2\x80\xae\xef\xbf\xbe\xf0\x9f\x90\xa7 #";
    char *text;

    load("name: \"a \\\"q\\\" \\\\ \\n\\t\\x1b\\u202e\\uFFFE\\U0001F427 #\"\n");
    ck_assert_str_eq(config.name, expected);
    text = print();
    release();
    load(text);
    ck_assert_str_eq(config.name, expected);
    release();
    free(text);
}
END_TEST

START_TEST(help_names_every_option)
{
    static const char *const parts[] = {
        "on (true or false; default true; reloadable)\n    On by default.\n",
        "wide (number; default 0)\n",
        "limited (number, 10 to 20; default 10)\n",
        "delay (duration, 0 to 1h; default 10s)\n",
        "color (red | green | blue; default green)\n",
        "nothing (text; default null)\n",
        "bounded (text, at most 8 octets; default x)\n",
        "section.automatic (list of address, or auto; default auto)\n",
        "section.inner.deep (number; default 7)\n",
        "section.two (list of number, at most 2 items; default [4])\n",
        "listen (list of records; default empty)\n",
        "listen[].address (address; required)\n",
        "listen[].tls.key (text; default null)\n",
        "rules[].nested[].name (text; default nobody)\n",
        "pairs (mapping from address to address; default empty)\n",
    };
    char *text = NULL;
    size_t length = 0;
    FILE *memory = open_memstream(&text, &length);

    config_help(sample_schema, memory);
    fclose(memory);
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        ck_assert_msg(strstr(text, parts[i]), "no \"%s\" in:\n%s", parts[i], text);
    free(text);
}
END_TEST

START_TEST(files_load)
{
    char path[] = "/tmp/check_config.XXXXXX";
    int fd = mkstemp(path);
    static const char text[] = "number: 77\n";

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    ck_assert_int_eq(config_load_file(sample_schema, &config, sizeof(config), path, &error), 0);
    ck_assert_uint_eq(config.number, 77);
    release();
    /* standard input, a byte at a time is the kernel's business; from a pipe at least */
    ck_assert_int_eq(lseek(fd, 0, SEEK_SET), 0);
    ck_assert_int_eq(dup2(fd, STDIN_FILENO), STDIN_FILENO);
    ck_assert_int_eq(config_load_file(sample_schema, &config, sizeof(config), "-", &error), 0);
    ck_assert_uint_eq(config.number, 77);
    release();
    close(fd);
    unlink(path);
    ck_assert_int_eq(config_load_file(sample_schema, &config, sizeof(config), path, &error),
                     -ENOENT);
    ck_assert_ptr_nonnull(strstr(error.text, path));
    ck_assert_ptr_nonnull(strstr(error.text, "No such file"));
    ck_assert_int_eq(config_load_file(sample_schema, &config, sizeof(config), "/", &error),
                     -EISDIR);
    ck_assert_int_eq(config_load_file(sample_schema, &config, sizeof(config), "/dev/zero", &error),
                     -EFBIG);
}
END_TEST

START_TEST(the_sample_schema_is_sound)
{
    char why[256] = "";

    ck_assert_msg(config_schema_check(sample_schema, why, sizeof(why)), "%s", why);
}
END_TEST

static const struct config_keyword no_zero[] = {{"one", 1}, {NULL, 0}};
static const struct config_option nobody[] = {{0}};
static const struct config_option outside[] = {
    {.name = "b", .type = CONFIG_UINT, .offset = 8, .help = "x"}, {0}};
static const struct config_option endless[] = {
    {.name = "e", .type = CONFIG_SECTION, .children = endless, .help = "x"}, {0}};

static const struct {
    struct config_option option;
    const char *why;
} unsound[] = {
    {{.name = "a", .type = CONFIG_UINT}, "a: no help"},
    {{.name = "A", .type = CONFIG_UINT, .help = "x"}, "A: a name is lower case"},
    {{.name = "a_b", .type = CONFIG_UINT, .help = "x"}, "a_b: a name is lower case"},
    {{.name = "a", .type = CONFIG_ENUM, .help = "x"}, "a: words are for enums"},
    {{.name = "a", .type = CONFIG_SECTION, .help = "x"}, "a: children are for"},
    {{.name = "a", .type = CONFIG_UINT, .standard = "1x", .help = "x"}, "is no whole number"},
    {{.name = "a", .type = CONFIG_UINT, .standard = "9", .max = 8, .help = "x"}, "above 8"},
    {{.name = "a", .type = CONFIG_UINT, .min = 9, .max = 8, .help = "x"}, "min is above max"},
    {{.name = "a", .type = CONFIG_LIST, .element = CONFIG_UINT, .standard = "[1", .help = "x"},
     "bad default"},
    {{.name = "a", .type = CONFIG_LIST, .element = CONFIG_LIST, .help = "x"}, "must be a scalar"},
    {{.name = "a", .type = CONFIG_UINT, .flags = CONFIG_AUTO, .help = "x"}, "auto is for lists"},
    {{.name = "a", .type = CONFIG_UINT, .flags = CONFIG_REQUIRED, .standard = "1", .help = "x"},
     "required, and yet"},
    {{.name = "a", .type = CONFIG_ENUM, .values = no_zero, .help = "x"}, "no word for 0"},
    {{.name = "a", .type = CONFIG_SECTION, .children = nobody, .help = "x"}, "no children"},
    {{.name = "a", .type = CONFIG_RECORDS, .children = outside, .help = "x"}, "a record size"},
    {{.name = "a", .type = CONFIG_RECORDS, .children = outside, .record_size = 8, .help = "x"},
     "b: lies outside its record"},
    {{.name = "a", .type = CONFIG_SECTION, .children = outside, .standard = "{}", .help = "x"},
     "belongs to the children"},
    {{.name = "a", .type = CONFIG_SECTION, .children = endless, .help = "x"}, "nested too deep"},
};

START_TEST(unsound_schemas_are_found)
{
    const struct config_option table[] = {unsound[_i].option, {0}};
    char why[256] = "";

    ck_assert(!config_schema_check(table, why, sizeof(why)));
    ck_assert_msg(strstr(why, unsound[_i].why), "expected \"%s\", got \"%s\"", unsound[_i].why,
                  why);
}
END_TEST

START_TEST(a_table_has_a_largest_size)
{
    static struct config_option table[CONFIG_OPTIONS_MAX + 2];
    static char names[CONFIG_OPTIONS_MAX + 1][8];
    char why[256] = "";

    for (size_t i = 0; i <= CONFIG_OPTIONS_MAX; i++) {
        snprintf(names[i], sizeof(names[i]), "n%zu", i);
        table[i] = (struct config_option){.name = names[i], .type = CONFIG_UINT, .help = "x"};
    }
    ck_assert(!config_schema_check(table, why, sizeof(why)));
    ck_assert_str_eq(why, "n64: more than 64 options in one table");
    table[CONFIG_OPTIONS_MAX].name = NULL;
    ck_assert_msg(config_schema_check(table, why, sizeof(why)), "%s", why);
}
END_TEST

START_TEST(twins_are_found)
{
    const struct config_option table[] = {
        {.name = "a", .type = CONFIG_UINT, .help = "x"},
        {.name = "a", .type = CONFIG_BOOL, .offset = 8, .help = "x"},
        {0}};
    char why[256] = "";

    ck_assert(!config_schema_check(table, why, sizeof(why)));
    ck_assert_str_eq(why, "a: named twice");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("config");
    TCase *tcase = tcase_create("config");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_add_test(tcase, empty_files_are_all_defaults);
    tcase_add_test(tcase, every_type_loads);
    tcase_add_test(tcase, values_with_units);
    tcase_add_test(tcase, records_load);
    tcase_add_test(tcase, an_empty_list_is_not_the_default);
    tcase_add_test(tcase, printing_round_trips);
    tcase_add_test(tcase, strings_survive_printing);
    tcase_add_test(tcase, help_names_every_option);
    tcase_add_test(tcase, files_load);
    tcase_add_test(tcase, the_sample_schema_is_sound);
    tcase_add_loop_test(tcase, unsound_schemas_are_found, 0,
                        (int)(sizeof(unsound) / sizeof(unsound[0])));
    tcase_add_test(tcase, a_table_has_a_largest_size);
    tcase_add_test(tcase, twins_are_found);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
