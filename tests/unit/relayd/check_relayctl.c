/*
 * relayctl against daemons that answer well, badly, or not at all (ADMIN.md, section 6).
 */
#include <check.h>
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "admin_fake.h"
#include "relayd/ctl/ctl.h"
#include "relayd/ctl/daemons.h"

#define FAKES_MAX 4
#define RELAYS ADMIN_FAKE_RELAYS

static char directory[] = "/tmp/check_relayctl.XXXXXX";
static char template_directory[sizeof(directory)];
static pid_t fakes[FAKES_MAX];
static size_t fake_count;
static char *out, *err;
static size_t out_size, err_size;

static void start_fake(const char *name, const char *instance, enum behaviour behaviour)
{
    ck_assert_uint_lt(fake_count, FAKES_MAX);
    fakes[fake_count++] = admin_fake_start(directory, name, instance, behaviour);
}

static void setup(void)
{
    strcpy(directory, template_directory);
    ck_assert_ptr_nonnull(mkdtemp(directory));
    fake_count = 0;
    out = err = NULL;
}

static void teardown(void)
{
    struct daemons daemons;

    for (size_t i = 0; i < fake_count; i++) {
        kill(fakes[i], SIGKILL);
        waitpid(fakes[i], NULL, 0);
    }
    if (daemons_list(&daemons, directory) == 0) {
        for (size_t i = 0; i < daemons.count; i++)
            unlink(daemons.paths[i]);
        daemons_free(&daemons);
    }
    rmdir(directory);
    free(out);
    free(err);
}

/* ---- running relayctl ------------------------------------------------------------------------ */

/* Words separated by spaces, after "relayctl --dir DIRECTORY". */
static int run(const char *words)
{
    char text[1024], *argv[32] = {"relayctl", "--dir", directory};
    int argc = 3;

    ck_assert_uint_lt(strlen(words), sizeof(text));
    strcpy(text, words);
    for (char *save, *word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save))
        argv[argc++] = word;
    free(out);
    free(err);
    out = err = NULL;
    FILE *to = open_memstream(&out, &out_size), *errors = open_memstream(&err, &err_size);
    int status = ctl_run(argc, argv, to, errors);

    fclose(to);
    fclose(errors);
    return status;
}

static json_t *parse_output(void)
{
    json_error_t error;
    json_t *json = json_loads(out, JSON_REJECT_DUPLICATES, &error);

    ck_assert_msg(json != NULL, "%s in: %s", error.text, out);
    return json;
}

static size_t relays_printed(void)
{
    json_t *relays = parse_output();
    size_t count = json_array_size(relays);

    ck_assert(json_is_array(relays));
    json_decref(relays);
    return count;
}

#define expect_run(words, status)                                                                  \
    do {                                                                                           \
        int got = run(words);                                                                      \
        ck_assert_msg(got == (status), "relayctl %s: expected %d, got %d: %s", (words), (status),  \
                      got, err);                                                                   \
        ck_assert_msg((got != CTL_OK) == (err[0] != '\0'), "relayctl %s: message: \"%s\"",         \
                      (words), err);                                                               \
    } while (0)

START_TEST(json_has_every_key_of_a_relay)
{
    static const char *const texts[][2] = {
        {"id", "tcp:1"},         {"kind", "transparent"},
        {"ptcl", "tcp"},         {"state", "active"},
        {"plane", "socket"},     {"source", "192.0.2.1:1000"},
        {"user", "alice \"A\""}, {"destination", "[2001:db8::1]:80"},
        {"daemon", "relayd@tcp"}};
    static const struct {
        const char *key;
        json_int_t value;
    } numbers[] = {{"age_ms", 60000},   {"idle_ms", 0},    {"up_packets", 1}, {"up_bytes", 2},
                   {"down_packets", 3}, {"down_bytes", 4}, {"drops", 5}};
    static const char *const nothing[] = {"plane_reason", "bound", "egress", "rule"};

    start_fake("tcp", "tcp", GOOD);
    expect_run("--json relays", CTL_OK);
    json_t *relays = parse_output();
    json_t *relay = json_array_get(relays, 0);

    ck_assert_uint_eq(json_array_size(relays), RELAYS);
    ck_assert_uint_eq(json_object_size(relay), 20);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        ck_assert_str_eq(json_string_value(json_object_get(relay, texts[i][0])), texts[i][1]);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        ck_assert_int_eq(json_integer_value(json_object_get(relay, numbers[i].key)),
                         numbers[i].value);
    for (size_t i = 0; i < sizeof(nothing) / sizeof(nothing[0]); i++)
        ck_assert(json_is_null(json_object_get(relay, nothing[i])));
    json_decref(relays);
}
END_TEST

START_TEST(tables_span_every_daemon)
{
    start_fake("tcp", "tcp", GOOD);
    start_fake("udp", "udp", BYTEWISE);
    start_fake("socksd", "", SOCKSD);
    expect_run("relays", CTL_OK);
    ck_assert_ptr_nonnull(strstr(out, "tcp:3"));
    ck_assert_ptr_nonnull(strstr(out, "udp:1"));
    expect_run("relays --json", CTL_OK);
    ck_assert_uint_eq(relays_printed(), 2 * RELAYS);
}
END_TEST

START_TEST(status_of_every_daemon)
{
    start_fake("tcp", "tcp", GOOD);
    start_fake("socksd", "", SOCKSD);
    expect_run("--json status", CTL_OK);
    json_t *all = parse_output(), *first = json_array_get(all, 0), *second = json_array_get(all, 1);

    ck_assert_uint_eq(json_array_size(all), 2);
    ck_assert_str_eq(json_string_value(json_object_get(first, "daemon")), "socksd");
    ck_assert(json_is_null(json_object_get(first, "instance")));
    ck_assert(json_is_null(json_object_get(first, "ptcl")));
    ck_assert_str_eq(json_string_value(json_object_get(second, "instance")), "tcp");
    ck_assert_int_eq(
        json_integer_value(json_object_get(json_object_get(second, "counters"), "relays_opened")),
        7);
    ck_assert_str_eq(json_string_value(json_array_get(json_object_get(second, "warnings"), 0)),
                     "limits.relays was lowered");
    ck_assert(
        json_is_integer(json_object_get(json_object_get(second, "counters"), "relays_failed")));
    json_decref(all);
    expect_run("status", CTL_OK);
    ck_assert_ptr_nonnull(strstr(out, "relays_opened: 7"));
    ck_assert_ptr_null(strstr(out, "relays_failed"));
}
END_TEST

START_TEST(filters_are_sent)
{
    start_fake("tcp", "tcp", GOOD);
    expect_run(
        "--json relays kind=transparent plane=socket source=192.0.2.1 "
        "destination=2001:db8::1",
        CTL_OK);
    ck_assert_uint_eq(relays_printed(), RELAYS);
    static const char *const others[] = {"kind=connect", "plane=bpf", "source=192.0.2.2",
                                         "destination=192.0.2.1", "user=bob"};

    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        char words[80];

        snprintf(words, sizeof(words), "--json relays %s", others[i]);
        expect_run(words, CTL_OK);
        ck_assert_uint_eq(relays_printed(), 0);
    }
}
END_TEST

START_TEST(usage_errors)
{
    static const char *const wrong[] = {
        "",
        "nothing",
        "status x",
        "show",
        "show tcp:1 tcp:2",
        "close",
        "--nothing status",
        "--timeout 0 status",
        "--timeout -1 status",
        "--timeout 1x status",
        "--timeout 3601 status",
        "status --timeout",
        "relays kind=",
        "relays kind=nothing",
        "relays plane=fast",
        "relays source=name",
        "relays source=192.0.2.1:80",
        "relays user=",
        "relays user=a user=b",
        "relays source=192.0.2.1 source=192.0.2.1",
        "relays alice",
        /* ADMIN-CLIENT-010 */
        "show 1",
        "show :1",
        "show tcp:",
        "show tcp:0",
        "show tcp:01",
        "show tcp:-1",
        "show tcp:+1",
        "show tcp:1x",
        "show tcp:18446744073709551616",
        "show ../x:1",
        "show a/b:1",
        "show .hidden:1",
        "show tcp:1:2",
        "close t\tcp:1",
        "show 0123456789012345678901234567890123456789012345678901234567890123:1",
    };

    start_fake("tcp", "tcp", GOOD);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        expect_run(wrong[i], CTL_USAGE);
        ck_assert_str_eq(out, "");
    }
}
END_TEST

START_TEST(help_and_version)
{
    expect_run("--help", CTL_OK);
    ck_assert_ptr_nonnull(strstr(out, "usage: relayctl"));
    expect_run("--version", CTL_OK);
    ck_assert_str_eq(out, "relayctl " SOCKST_VERSION "\n");
}
END_TEST

START_TEST(one_relay)
{
    start_fake("tcp", "tcp", GOOD);
    expect_run("show tcp:2", CTL_OK);
    ck_assert_ptr_nonnull(strstr(out, "id: tcp:2\n"));
    ck_assert_ptr_nonnull(strstr(out, "rule: -\n"));
    expect_run("--json show tcp:3", CTL_OK);
    json_t *relay = parse_output();

    ck_assert_str_eq(json_string_value(json_object_get(relay, "id")), "tcp:3");
    json_decref(relay);
    expect_run("close tcp:2", CTL_OK);
    ck_assert_str_eq(out, "");
    expect_run("--json close tcp:2", CTL_OK);
    json_decref(parse_output());
    expect_run("show tcp:4", CTL_FAILED);
    ck_assert_ptr_nonnull(strstr(err, "no such relay"));
    expect_run("close tcp:18446744073709551615", CTL_FAILED);
    ck_assert_str_eq(out, "");
}
END_TEST

START_TEST(an_instance_is_found_by_its_status)
{
    start_fake("other-name", "tcp", GOOD);
    start_fake("socksd", "", SOCKSD);
    expect_run("show tcp:1", CTL_OK);
    expect_run("show udp:1", CTL_FAILED);
    ck_assert_ptr_nonnull(strstr(err, "no such instance"));
}
END_TEST

START_TEST(a_bad_daemon_does_not_hide_the_good_one) /* ADMIN-CLIENT-020, ADMIN-END-010 */
{
    static const enum behaviour bad[] = {HANGS_UP,     CUT_OFF,      NO_END,
                                         MISCOUNTS,    GARBAGE,      ENDLESS_LENGTH,
                                         OTHER_RECORD, STATUS_AGAIN, SILENT};
    enum behaviour behaviour = bad[_i];

    start_fake("bad", "bad", behaviour);
    start_fake("tcp", "tcp", GOOD);
    expect_run("--json --timeout 1 relays", CTL_UNREACHABLE);
    ck_assert_ptr_nonnull(strstr(err, "bad.sock: "));
    ck_assert_ptr_null(strstr(err, "tcp.sock: "));
    bool whole_records = behaviour == CUT_OFF || behaviour == NO_END || behaviour == MISCOUNTS;

    ck_assert_uint_eq(relays_printed(), whole_records ? 2 * RELAYS : RELAYS);
}
END_TEST

START_TEST(a_bad_daemon_in_status) /* ADMIN-CLIENT-020, ADMIN-CLIENT-030 */
{
    static const enum behaviour bad[] = {HANGS_UP, ENDLESS_LENGTH, OTHER_RECORD, SILENT};

    start_fake("bad", "bad", bad[_i]);
    start_fake("tcp", "tcp", GOOD);
    expect_run("--json --timeout 1 status", CTL_UNREACHABLE);
    ck_assert_ptr_nonnull(strstr(err, "bad.sock: "));
    ck_assert_uint_eq(relays_printed(), 1);
}
END_TEST

START_TEST(a_bad_daemon_in_show) /* ADMIN-CLIENT-020 */
{
    static const enum behaviour bad[] = {HANGS_UP,     GARBAGE,     ENDLESS_LENGTH,
                                         OTHER_RECORD, OTHER_RELAY, TERMINAL};

    start_fake("tcp", "tcp", bad[_i]);
    expect_run("--timeout 1 show tcp:1", CTL_UNREACHABLE);
    ck_assert_str_eq(out, "");
    ck_assert_ptr_null(strchr(err, '\x1b'));
}
END_TEST

START_TEST(sockets_without_a_daemon) /* ADMIN-CLIENT-020 */
{
    close(admin_fake_listen(directory, "dead"));
    start_fake("tcp", "tcp", GOOD);
    expect_run("--json relays", CTL_UNREACHABLE);
    ck_assert_ptr_nonnull(strstr(err, "dead.sock: Connection refused"));
    ck_assert_uint_eq(relays_printed(), RELAYS);
    expect_run("show dead:1", CTL_UNREACHABLE);
}
END_TEST

START_TEST(an_empty_or_missing_directory)
{
    expect_run("--json relays", CTL_UNREACHABLE);
    ck_assert_uint_eq(relays_printed(), 0);
    expect_run("--json status", CTL_UNREACHABLE);
    expect_run("show tcp:1", CTL_FAILED);
    expect_run("--dir /nonexistent status", CTL_UNREACHABLE);
    expect_run("--dir /nonexistent show tcp:1", CTL_UNREACHABLE);
}
END_TEST

START_TEST(the_environment_names_the_directory)
{
    char *argv[] = {"relayctl", "--json", "relays", NULL};

    start_fake("tcp", "tcp", GOOD);
    setenv("SOCKST_ADMIN_DIR", directory, 1);
    FILE *to = open_memstream(&out, &out_size), *errors = open_memstream(&err, &err_size);
    int status = ctl_run(3, argv, to, errors);

    fclose(to);
    fclose(errors);
    unsetenv("SOCKST_ADMIN_DIR");
    ck_assert_int_eq(status, CTL_OK);
    ck_assert_uint_eq(relays_printed(), RELAYS);
}
END_TEST

START_TEST(output_that_cannot_be_written)
{
    char *argv[] = {"relayctl", "--dir", directory, "--json", "relays", NULL};
    FILE *full = fopen("/dev/full", "w"), *errors = open_memstream(&err, &err_size);

    start_fake("tcp", "tcp", GOOD);
    ck_assert_int_eq(ctl_run(5, argv, full, errors), CTL_FAILED);
    fclose(full);
    fclose(errors);
    ck_assert_ptr_nonnull(strstr(err, "could not be written"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("relayctl");
    TCase *tcase = tcase_create("relayctl");

    strcpy(template_directory, directory);
    signal(SIGPIPE, SIG_IGN);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, json_has_every_key_of_a_relay);
    tcase_add_test(tcase, tables_span_every_daemon);
    tcase_add_test(tcase, status_of_every_daemon);
    tcase_add_test(tcase, filters_are_sent);
    tcase_add_test(tcase, usage_errors);
    tcase_add_test(tcase, help_and_version);
    tcase_add_test(tcase, one_relay);
    tcase_add_test(tcase, an_instance_is_found_by_its_status);
    tcase_add_loop_test(tcase, a_bad_daemon_does_not_hide_the_good_one, 0, 9);
    tcase_add_loop_test(tcase, a_bad_daemon_in_status, 0, 4);
    tcase_add_loop_test(tcase, a_bad_daemon_in_show, 0, 6);
    tcase_add_test(tcase, sockets_without_a_daemon);
    tcase_add_test(tcase, an_empty_or_missing_directory);
    tcase_add_test(tcase, the_environment_names_the_directory);
    tcase_add_test(tcase, output_that_cannot_be_written);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);

    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);

    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
