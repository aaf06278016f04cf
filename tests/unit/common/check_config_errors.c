/* What does not load, and what the operator is told. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "common/system/sanitizer.h"
#include "tests/unit/common/sample_schema.h"

/* Of the processor's time, which others on the machine do not use up. */
#define QUICKLY_MS (SOCKST_SANITIZED ? 10000 : 1500)

static struct sample config;
static struct config_error error;

static int load(const char *text, size_t length)
{
    return config_load_text(sample_schema, &config, sizeof(config), "t.yaml", text, length, &error);
}

static void check_nothing_left(void)
{
    static const struct sample zero;

    ck_assert_mem_eq(&config, &zero, sizeof(config));
}

static const struct {
    const char *text, *error;
} cases[] = {
    /* keys */
    {"nmber: 1\n", "t.yaml:1:1: unknown key \"nmber\"; did you mean \"number\"?"},
    {"on: true\nsection:\n  wrods: [a]\n",
     "t.yaml:3:3: section: unknown key \"wrods\"; did you mean \"words\"?"},
    {"rules: [{action: red, form: []}]\n",
     "t.yaml:1:23: rules[0]: unknown key \"form\"; did you mean \"from\"?"},
    {"completely-different: 1\n", "t.yaml:1:1: unknown key \"completely-different\""},
    {"Number: 1\n", "t.yaml:1:1: unknown key \"Number\"; did you mean \"number\"?"},
    {"\"a\\tb\": 1\n", "t.yaml:1:1: unknown key \"a?b\""},
    {"<<: {on: true}\n", "t.yaml:1:1: unknown key \"<<\""},
    {"number: 1\non: true\nnumber: 2\n", "t.yaml:3:1: number: given twice"},
    {"section: {inner: {}, inner: {}}\n", "t.yaml:1:22: section.inner: given twice"},
    {"? [a]\n: 1\n", "t.yaml:1:3: a key must be a single word"},
    {"pairs: {1.2.3.4: 5.6.7.8, 1.2.3.4: 5.6.7.9}\n",
     "t.yaml:1:27: pairs: \"1.2.3.4\" is given twice"},
    {"pairs: {\"::ffff:1.2.3.4\": 5.6.7.8, 1.2.3.4: 5.6.7.9}\n",
     "t.yaml:1:36: pairs: \"1.2.3.4\" is given twice"},
    /* numbers */
    {"number: 1080abc\n", "t.yaml:1:9: number: \"1080abc\" is no whole number"},
    {"number: 010\n", "t.yaml:1:9: number: 010 has a leading zero"},
    {"number: 00\n", "t.yaml:1:9: number: 00 has a leading zero"},
    {"number: 0x10\n", "t.yaml:1:9: number: \"0x10\" is no whole number"},
    {"number: -1\n", "t.yaml:1:9: number: \"-1\" is no whole number"},
    {"number: +1\n", "t.yaml:1:9: number: \"+1\" is no whole number"},
    {"number: 1.5\n", "t.yaml:1:9: number: \"1.5\" is no whole number"},
    {"number: 1e3\n", "t.yaml:1:9: number: \"1e3\" is no whole number"},
    {"number: 1_000\n", "t.yaml:1:9: number: \"1_000\" is no whole number"},
    {"number: 1 2\n", "t.yaml:1:9: number: \"1 2\" is no whole number"},
    {"number: \"1\"\n", "t.yaml:1:9: number: number is expected here, not a text in quotes"},
    {"number: 18446744073709551616\n", "t.yaml:1:9: number: 18446744073709551616 is too large"},
    {"number: 99999999999999999999999\n",
     "t.yaml:1:9: number: 99999999999999999999999 is too large"},
    {"number:\n", "t.yaml:1:8: number: has no value"},
    {"number: null\n", "t.yaml:1:9: number: must not be null"},
    {"number: [1]\n", "t.yaml:1:9: number: number is expected here, not a list"},
    {"number: {a: 1}\n", "t.yaml:1:9: number: number is expected here, not a mapping"},
    {"limited: 8\n", "t.yaml:1:10: limited: 8 is below 10"},
    {"limited: 22\n", "t.yaml:1:10: limited: 22 is above 20"},
    {"limited: 11\n", "t.yaml:1:10: limited: 11 is odd"},
    {"on: yes\n", "t.yaml:1:5: on: \"yes\" is neither true nor false"},
    {"on: True\n", "t.yaml:1:5: on: \"True\" is neither true nor false"},
    {"on: maybe\n", "t.yaml:1:5: on: \"maybe\" is neither true nor false"},
    {"on: 'true'\n", "t.yaml:1:5: on: true or false is expected here, not a text in quotes"},
    /* units */
    {"delay: 10\n", "t.yaml:1:8: delay: 10 needs a unit: ms, s, m or h"},
    {"delay: 10sec\n", "t.yaml:1:8: delay: 10sec needs a unit: ms, s, m or h"},
    {"delay: 10 s\n", "t.yaml:1:8: delay: 10 s needs a unit: ms, s, m or h"},
    {"delay: 1.5s\n", "t.yaml:1:8: delay: 1.5s needs a unit: ms, s, m or h"},
    {"delay: s\n", "t.yaml:1:8: delay: \"s\" is no duration"},
    {"delay: 2h\n", "t.yaml:1:8: delay: 2h is above 1h"},
    {"delay: 9223372036854775807h\n", "t.yaml:1:8: delay: 9223372036854775807h is too large"},
    {"room: 4KB\n", "t.yaml:1:7: room: 4KB needs a unit: KiB, MiB or GiB"},
    {"room: 9999999999999GiB\n", "t.yaml:1:7: room: 9999999999999GiB is too large"},
    {"speed: 10\n", "t.yaml:1:8: speed: 10 needs a unit: bit, kbit, Mbit or Gbit"},
    {"speed: 10mbit\n", "t.yaml:1:8: speed: 10mbit needs a unit: bit, kbit, Mbit or Gbit"},
    /* words, texts, addresses */
    {"color: pink\n", "t.yaml:1:8: color: \"pink\" is not one of: red, green, blue"},
    {"color: Red\n", "t.yaml:1:8: color: \"Red\" is not one of: red, green, blue"},
    {"name: null\n", "t.yaml:1:7: name: must not be null"},
    {"name:\n", "t.yaml:1:6: name: has no value"},
    {"bounded: \"\"\n", "t.yaml:1:10: bounded: must not be empty"},
    {"bounded: ninechars\n", "t.yaml:1:10: bounded: longer than 8 octets"},
    {"address: localhost\n", "t.yaml:1:10: address: \"localhost\" is no IP address"},
    {"address: 10.0.0.0/8\n", "t.yaml:1:10: address: \"10.0.0.0/8\" is no IP address"},
    {"prefix: 10.0.0.1/8\n",
     "t.yaml:1:9: prefix: \"10.0.0.1/8\" is no prefix (or has bits behind its length)"},
    {"prefix: x\n", "t.yaml:1:9: prefix: \"x\" is no address or prefix"},
    {"range: 0\n", "t.yaml:1:8: range: \"0\" is no port or port range within 1-65535"},
    {"range: 90-80\n", "t.yaml:1:8: range: \"90-80\" is no port or port range within 1-65535"},
    {"pairs: {a: 1.2.3.4}\n", "t.yaml:1:9: pairs: \"a\" is no IP address"},
    {"pairs: {1.2.3.4: }\n", "t.yaml:1:18: pairs: \"\" is no IP address"},
    {"pairs: {1.2.3.4: [1.2.3.4]}\n",
     "t.yaml:1:18: pairs: an address is expected here, not a list"},
    /* kinds */
    {"section: 5\n", "t.yaml:1:10: section: a mapping is expected here, not a single value"},
    {"section: [a]\n", "t.yaml:1:10: section: a mapping is expected here, not a list"},
    {"listen: {address: 1.2.3.4}\n", "t.yaml:1:9: listen: a list is expected here, not a mapping"},
    {"listen: [5]\n", "t.yaml:1:10: listen[0]: a mapping is expected here, not a single value"},
    {"listen: [null]\n", "t.yaml:1:10: listen[0]: a mapping is expected here, not a single value"},
    {"section: {words: {a: b}}\n",
     "t.yaml:1:18: section.words: a list is expected here, not a mapping"},
    {"section: {words: [a, [b]]}\n",
     "t.yaml:1:22: section.words[1]: text is expected here, not a list"},
    {"section: {words: [a, null]}\n", "t.yaml:1:22: section.words[1]: must not be null"},
    {"section: {words: [a, ]}\n", NULL}, /* a trailing comma is YAML's own */
    {"pairs: [1.2.3.4]\n",
     "t.yaml:1:8: pairs: a mapping from address to address is expected here, not a list"},
    {"section: {two: []}\n", "t.yaml:1:16: section.two: needs at least 1 item"},
    {"section: {two: [2, 4, 6]}\n", "t.yaml:1:23: section.two[2]: more than 2 items"},
    {"section: {two: [2, 3]}\n", "t.yaml:1:20: section.two[1]: 3 is odd"},
    {"section: {words: auto}\n", NULL}, /* a word like any other where auto means nothing */
    {"section: {automatic: 'auto'}\n", "t.yaml:1:22: section.automatic: \"auto\" is no IP address"},
    {"- 1\n", "t.yaml:1:1: a mapping is expected here, not a list"},
    {"word\n", "t.yaml:1:1: a mapping is expected here, not a single value"},
    /* what must be given */
    {"listen:\n  - {port: 80}\n", "t.yaml:2:5: listen[0].address: is missing"},
    {"rules:\n  - action: red\n  - users: [a]\n", "t.yaml:3:5: rules[1].action: is missing"},
    {"listen: [{address: null}]\n", "t.yaml:1:20: listen[0].address: must not be null"},
    {"listen: [{address: \"::\", port: 70000}]\n",
     "t.yaml:1:32: listen[0].port: 70000 is above 65535"},
    /* parts of YAML that are not allowed */
    {"name: &x a\n", "t.yaml:1:7: name: anchors are not allowed"},
    {"section: &x {}\n", "t.yaml:1:10: section: anchors are not allowed"},
    {"listen: &x []\n", "t.yaml:1:9: listen: anchors are not allowed"},
    {"name: *x\n", "t.yaml:1:7: name: aliases are not allowed"},
    {"*x : 1\n", "t.yaml:1:1: aliases are not allowed"},
    {"number: !!str 5\n", "t.yaml:1:9: number: tags are not allowed"},
    {"number: ! 5\n", "t.yaml:1:9: number: tags are not allowed"},
    {"section: !!map {}\n", "t.yaml:1:10: section: tags are not allowed"},
    {"%YAML 1.1\n---\non: true\n", "t.yaml:1:1: directives are not allowed"},
    {"%TAG ! tag:x,2000:\n---\non: true\n", "t.yaml:1:1: directives are not allowed"},
    {"on: true\n---\non: false\n", "t.yaml:2:1: a second document is not allowed"},
    {"name: \"a\\0b\"\n", "t.yaml:1:7: name: a NUL character"},
    {"name: \"\\0\"\n", "t.yaml:1:7: name: a NUL character"},
    /* not YAML */
    {"section:\n\twords: [a]\n", "t.yaml:2:1: a tab: YAML indents with spaces"},
    {"name: b: c\n", "t.yaml:1:8: mapping values are not allowed in this context"},
    {"name: [a\n", NULL},
    {"name: \xff\n", "t.yaml:1:7: not UTF-8"},
    {"on: true\n# \xc3\xbc\xc3\xbc\xc3\n", "t.yaml:2:5: not UTF-8"},
    {"on: true\n# \xed\xa0\x80\n", "t.yaml:2:3: not UTF-8"},
    {"on: true\nname: a\x01\n", "t.yaml:2:8: control characters are not allowed"},
    {"name: \xc3\xbc\nnumber: x\n", "t.yaml:2:9: number: \"x\" is no whole number"},
    {"{name: \xc3\xbc\xc3\xbc, number: x}\n", "t.yaml:1:20: number: \"x\" is no whole number"},
};

START_TEST(errors_say_where_and_why)
{
    int r = load(cases[_i].text, strlen(cases[_i].text));

    if (!cases[_i].error && r == 0) {
        config_free(sample_schema, &config);
        return;
    }
    ck_assert_msg(r == -EINVAL, "accepted (%d): %s", r, cases[_i].text);
    if (cases[_i].error)
        ck_assert_str_eq(error.text, cases[_i].error);
    else
        ck_assert_int_eq(strncmp(error.text, "t.yaml:", 7), 0);
    check_nothing_left();
}
END_TEST

START_TEST(a_nul_octet_is_refused)
{
    static const char text[] = "on: true\nnumber: 1\0 2\n";

    ck_assert_int_eq(load(text, sizeof(text) - 1), -EINVAL);
    ck_assert_str_eq(error.text, "t.yaml:2:10: a NUL character");
    /* UTF-16 does not get as far as being guessed. */
    ck_assert_int_eq(load("\xff\xfe"
                          "a\0",
                          4),
                     -EINVAL);
    ck_assert_str_eq(error.text, "t.yaml:1:1: not UTF-8");
}
END_TEST

static uint64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static const struct {
    const char *name, *begin, *part;
    size_t count;
    int result;
    const char *error; /* part of it */
} floods[] = {
    {"flow lists", "section: {words: ", "[", 200000, -EINVAL, "text is expected"},
    {"flow lists alone", "", "[", 200000, -EINVAL, "a mapping is expected"},
    {"flow lists on lines", "", "[\n", 200000, -EINVAL, "a mapping is expected"},
    {"flow mappings", "", "{section: ", 200000, -EINVAL, "unknown key"},
    {"flow mapping keys", "", "{", 200000, -EINVAL, "a key must be"},
    {"block lists", "listen:\n", "- ", 200000, -EINVAL, "a mapping is expected"},
    {"question marks", "", "? ", 200000, -EINVAL, "a key must be"},
    {"anchors", "name: ", "&", 200000, -EINVAL, ""},
    {"a long key", "", "k", 200000, -EINVAL, ""},
    {"a long text", "name: ", "k", 200000, -EINVAL, "longer than 4096"},
    {"a long number", "number: ", "9", 200000, -EINVAL, "is too large"},
    {"many items", "section: {words: [", "a,", 70000, -EINVAL, "more than 65536"},
    {"many records", "rules: [", "{action: red},", 70000, -EINVAL, "more than 65536"},
    {"many nested records", "rules: [{action: red, nested: [", "{},", 70000, -EINVAL,
     "more than 65536"},
    {"too much", "# ", "x", CONFIG_SIZE_MAX, -EFBIG, "larger than 4194304"},
    {"spaces", "on: true\n", " ", 4000000, 0, NULL},
    {"comments", "on: true\n", "#\n", 1000000, 0, NULL},
};

START_TEST(floods_are_refused_quickly)
{
    size_t begin = strlen(floods[_i].begin), part = strlen(floods[_i].part);
    size_t length = begin + part * floods[_i].count;
    char *text = malloc(length);
    uint64_t started = now_ms(), took;
    int r;

    ck_assert_ptr_nonnull(text);
    memcpy(text, floods[_i].begin, begin);
    for (size_t i = 0; i < floods[_i].count; i++)
        memcpy(text + begin + i * part, floods[_i].part, part);
    r = load(text, length);
    took = now_ms() - started;
    free(text);
    ck_assert_msg(r == floods[_i].result, "%s: %d: %s", floods[_i].name, r, error.text);
    if (r == 0) {
        config_free(sample_schema, &config);
    } else {
        check_nothing_left();
        ck_assert_msg(strstr(error.text, floods[_i].error), "%s: %s", floods[_i].name, error.text);
    }
    ck_assert_msg(took < QUICKLY_MS, "%s: %lu ms", floods[_i].name, (unsigned long)took);
}
END_TEST

/* The schema of a list within itself: only depth stops it. */
START_TEST(depth_is_limited)
{
    static struct config_option tables[20][2];
    struct nest {
        struct config_list list;
    } nest;
    char text[512] = "";

    for (size_t i = 0; i < 20; i++) {
        tables[i][0] = (struct config_option){.name = "l",
                                              .type = CONFIG_RECORDS,
                                              .children = tables[i < 19 ? i + 1 : i],
                                              .record_size = sizeof(struct nest),
                                              .help = "x"};
    }
    for (size_t i = 0; i < 15; i++)
        strcat(text, i == 0 ? "{l: " : "[{l: ");
    ck_assert_int_eq(
        config_load_text(tables[0], &nest, sizeof(nest), "t", text, strlen(text), &error), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error.text, "nested deeper than 16"));
    ck_assert_uint_eq(nest.list.count, 0);
}
END_TEST

static const char full_text[] =
    "on: false\nwide: 18446744073709551615\ndelay: 1h\nroom: 3GiB\nspeed: 800kbit\n"
    "color: blue\nname: \"two \\\"words\\\"\"\naddress: \"2001:db8::1\"\nprefix: 10.0.0.0/8\n"
    "section: {words: [a, 'b'], automatic: [192.0.2.1], delays: [0, 5m], inner: {deep: 9}}\n"
    "listen:\n  - {address: \"::\", tls: {certificate: /a, key: null}}\n"
    "rules:\n  - {action: red, from: [10.0.0.0/8], users: [x], nested: [{name: y}]}\n"
    "pairs: {10.0.0.5: 203.0.113.9}\n";

/* Every truncation and every octet changed: loads or fails, and never keeps anything. */
START_TEST(truncations_and_changes_are_survived)
{
    size_t length = strlen(full_text);
    char text[sizeof(full_text)];

    ck_assert_msg(load(full_text, length) == 0, "%s", error.text);
    config_free(sample_schema, &config);
    for (size_t cut = 0; cut < length; cut++) {
        if (load(full_text, cut) == 0)
            config_free(sample_schema, &config);
        ck_assert_ptr_null(config.name);
        ck_assert_ptr_null(config.rules.items);
    }
    for (size_t at = 0; at < length; at++) {
        static const char changes[] = "\0\t\n :-[]{},&*!%\"'#0x\xff";

        for (size_t i = 0; i < sizeof(changes) - 1; i++) {
            memcpy(text, full_text, sizeof(text));
            text[at] = changes[i];
            if (load(text, length) == 0)
                config_free(sample_schema, &config);
            ck_assert_ptr_null(config.name);
            ck_assert_ptr_null(config.rules.items);
        }
    }
}
END_TEST

START_TEST(long_paths_and_names_fit)
{
    char name[1024], key[3000];

    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    ck_assert_int_eq(
        config_load_text(sample_schema, &config, sizeof(config), name, "x: 1", 4, &error), -EINVAL);
    ck_assert_uint_eq(strlen(error.text), sizeof(error.text) - 1);
    memset(key, 'k', sizeof(key));
    memcpy(key, "\"", 1);
    memcpy(key + sizeof(key) - 5, "\": 1\n", 5);
    ck_assert_int_eq(load(key, sizeof(key)), -EINVAL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("config_errors");
    TCase *tcase = tcase_create("config_errors");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, errors_say_where_and_why, 0,
                        (int)(sizeof(cases) / sizeof(cases[0])));
    tcase_add_test(tcase, a_nul_octet_is_refused);
    tcase_add_loop_test(tcase, floods_are_refused_quickly, 0,
                        (int)(sizeof(floods) / sizeof(floods[0])));
    tcase_add_test(tcase, depth_is_limited);
    tcase_add_test(tcase, truncations_and_changes_are_survived);
    tcase_add_test(tcase, long_paths_and_names_fit);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
