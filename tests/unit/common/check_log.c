#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/log/line.h"
#include "common/log/log.h"
#include "common/log/utf8.h"

/* Standard error is a pipe while a test runs; Check forks, so it is gone with the test. */
static int reader = -1;
static char got[65536];

static void capture(void)
{
    int pair[2];

    ck_assert_int_eq(pipe2(pair, O_CLOEXEC | O_NONBLOCK), 0);
    ck_assert_int_eq(dup2(pair[1], STDERR_FILENO), STDERR_FILENO);
    close(pair[1]);
    reader = pair[0];
    unsetenv("JOURNAL_STREAM");
}

static const char *captured(void)
{
    ssize_t length = read(reader, got, sizeof(got) - 1);

    got[length > 0 ? length : 0] = '\0';
    return got;
}

/* What follows "time level " in a text line. */
static const char *captured_event(void)
{
    const char *text = captured();

    text = strchr(text, ' ');
    ck_assert_ptr_nonnull(text);
    text = strchr(text + 1, ' ');
    ck_assert_ptr_nonnull(text);
    return text + 1;
}

START_TEST(text_lines)
{
    const struct endpoint bound = {.address = {.family = IP_V4, .bytes = {192, 0, 2, 1}},
                                   .port = 20000};
    const char *text;
    unsigned year, month, day, hour, minute, second, ms;
    int used = 0;

    capture();
    log_setup("t", LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    LOG(LOG_LEVEL_INFO, "relay-opened", LOG_U("relay", 7), LOG_E("bound", &bound));
    text = captured();
    ck_assert_int_eq(sscanf(text, "%4u-%2u-%2uT%2u:%2u:%2u.%3uZ%n", &year, &month, &day, &hour,
                            &minute, &second, &ms, &used),
                     7);
    ck_assert_int_eq(used, 24);
    ck_assert_str_eq(text + used, " info relay-opened relay=7 bound=192.0.2.1:20000\n");
}
END_TEST

START_TEST(every_kind_of_field)
{
    const struct endpoint endpoint = {.address = {.family = IP_V6, .bytes = {[15] = 9}},
                                      .port = 53};
    const struct endpoint none = {0};

    capture();
    log_setup("t", LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    LOG(LOG_LEVEL_ERROR, "x", LOG_S("s", "v"), LOG_S("left_out", NULL), LOG_U("u", UINT64_MAX),
        LOG_I("i", INT64_MIN), LOG_E("e", &endpoint), LOG_E("none", &none),
        LOG_A("a", &endpoint.address), LOG_A("none", &none.address), LOG_ERRNO(-ECONNREFUSED));
    ck_assert_str_eq(captured_event(),
                     "x s=v u=18446744073709551615 i=-9223372036854775808 e=[::9]:53 a=::9 "
                     "error=ECONNREFUSED\n");
    LOG(LOG_LEVEL_ERROR, "x", LOG_ERRNO(0), LOG_ERRNO(EPERM), LOG_ERRNO(54321));
    ck_assert_str_eq(captured_event(), "x error=EPERM error=54321\n");
}
END_TEST

static const struct {
    const char *value, *text, *json;
} escapes[] = {
    {"plain", "plain", "plain"},
    {"", "\"\"", ""},
    {"two words", "\"two words\"", "two words"},
    {"a=b", "\"a=b\"", "a=b"},
    {"say \"hi\"", "\"say \\\"hi\\\"\"", "say \"hi\""},
    {"back\\slash", "\"back\\\\slash\"", "back\\slash"},
    {"line\nrelay-opened relay=1", "\"line\\nrelay-opened relay=1\"", "line\nrelay-opened relay=1"},
    {"\x1b[31m", "\"\\x1b[31m\"", "\x1b[31m"},
    {"\t\r\x7f", "\"\\t\\r\\x7f\"", "\t\r\x7f"},
    {"gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f"},
    {"\xf0\x9f\x90\xa7", "\xf0\x9f\x90\xa7", "\xf0\x9f\x90\xa7"},
    {"\xff\xfe", "\"\\xff\\xfe\"", "\xef\xbf\xbd\xef\xbf\xbd"},
    {"\xc3", "\"\\xc3\"", "\xef\xbf\xbd"},
    {"\xc0\xaf", "\"\\xc0\\xaf\"", "\xef\xbf\xbd\xef\xbf\xbd"},
    {"\xed\xa0\x80", "\"\\xed\\xa0\\x80\"", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
    {"\xc2\x9b", "\"\\xc2\\x9b\"", "\xc2\x9b"},
    {"\xe2\x80\xae"
     "abc",
     "\"\\xe2\\x80\\xae"
     "abc\"",
     "\xe2\x80\xae"
     "abc"},
};

START_TEST(values_are_escaped_in_text)
{
    char expected[256];

    capture();
    log_setup("t", LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    LOG(LOG_LEVEL_INFO, "x", LOG_S("v", escapes[_i].value), LOG_U("n", 1));
    snprintf(expected, sizeof(expected), "x v=%s n=1\n", escapes[_i].text);
    ck_assert_str_eq(captured_event(), expected);
}
END_TEST

START_TEST(values_are_escaped_in_json)
{
    json_t *object;

    capture();
    log_setup("prog", LOG_LEVEL_DEBUG, LOG_FORMAT_JSON);
    LOG(LOG_LEVEL_DEBUG, "x", LOG_S("v", escapes[_i].value), LOG_U("n", 18), LOG_I("i", -3));
    object = json_loads(captured(), 0, NULL);
    ck_assert_msg(object, "no JSON: %s", got);
    ck_assert_str_eq(json_string_value(json_object_get(object, "v")), escapes[_i].json);
    ck_assert_str_eq(json_string_value(json_object_get(object, "event")), "x");
    ck_assert_str_eq(json_string_value(json_object_get(object, "level")), "debug");
    ck_assert_str_eq(json_string_value(json_object_get(object, "program")), "prog");
    ck_assert_int_eq(json_integer_value(json_object_get(object, "n")), 18);
    ck_assert_int_eq(json_integer_value(json_object_get(object, "i")), -3);
    ck_assert_uint_eq(json_string_length(json_object_get(object, "time")), 24);
    ck_assert_ptr_eq(strchr(got, '\n'), got + strlen(got) - 1);
    json_decref(object);
}
END_TEST

START_TEST(long_values_are_cut_whole)
{
    static const char character[] = "\xe2\x82\xac"; /* three octets: never aligned with the cut */
    char value[3 * LOG_VALUE_MAX + 1] = "";
    json_t *object;

    for (size_t i = 0; i + 3 < sizeof(value); i += 3)
        memcpy(value + i, character, 3);
    capture();
    for (int format = LOG_FORMAT_TEXT; format <= LOG_FORMAT_JSON; format++) {
        log_setup("t", LOG_LEVEL_INFO, (enum log_format)format);
        LOG(LOG_LEVEL_INFO, "x", LOG_S("v", value), LOG_S("w", value), LOG_S("y", value),
            LOG_S("z", value));
        captured();
        ck_assert_uint_le(strlen(got), LOG_LINE_MAX);
        ck_assert_int_eq(got[strlen(got) - 1], '\n');
        ck_assert_ptr_null(strstr(got, "\\x"));
        ck_assert_ptr_null(strstr(got, "fffd"));
        ck_assert_ptr_nonnull(strstr(got, "\xe2\x80\xa6"));
    }
    object = json_loads(got, 0, NULL);
    ck_assert_ptr_nonnull(object);
    ck_assert(json_is_true(json_object_get(object, "cut")));
    ck_assert_ptr_nonnull(json_object_get(object, "y"));
    ck_assert_ptr_null(json_object_get(object, "z"));
    json_decref(object);
    ck_assert_uint_eq(log_lost(), 0);
}
END_TEST

/* Every size of the memory: nothing beyond it is touched, and JSON stays JSON. */
START_TEST(lines_never_overrun)
{
    const struct log_field fields[] = {LOG_S("first", "a \"quoted\" value\n"),
                                       LOG_S("second", "\xff\xff\x1b"), LOG_U("third", 12345)};
    const struct log_event event = {.level = LOG_LEVEL_INFO,
                                    .program = "p",
                                    .name = "event",
                                    .fields = fields,
                                    .count = 3,
                                    .suppressed = 9};

    for (size_t size = 24; size < 256; size++) {
        char text[512];
        struct line line = {.text = text, .size = size};

        memset(text, '#', sizeof(text));
        line_event_text(&line, &event);
        ck_assert_uint_le(line.used, size);
        for (size_t i = line.used; i < sizeof(text); i++)
            if (i >= size)
                ck_assert_int_eq(text[i], '#');
    }
    for (size_t size = 120; size < 300; size++) {
        char text[512];
        struct line line = {.text = text, .size = size};
        json_t *object;

        line_event_json(&line, &event, "2026-01-02T03:04:05.678Z");
        ck_assert_uint_le(line.used, size);
        object = json_loadb(text, line.used, 0, NULL);
        ck_assert_msg(object, "size %zu: %.*s", size, (int)line.used, text);
        json_decref(object);
    }
}
END_TEST

static int evaluations;

static uint64_t evaluate(void)
{
    return (uint64_t)++evaluations;
}

START_TEST(levels_filter_before_evaluation)
{
    capture();
    log_setup("t", LOG_LEVEL_WARNING, LOG_FORMAT_TEXT);
    LOG(LOG_LEVEL_NOTICE, "quiet", LOG_U("n", evaluate()));
    ck_assert_int_eq(evaluations, 0);
    ck_assert_str_eq(captured(), "");
    LOG(LOG_LEVEL_WARNING, "loud", LOG_U("n", evaluate()));
    ck_assert_str_eq(captured_event(), "loud n=1\n");
}
END_TEST

static void set_journal_stream(unsigned long inode_offset)
{
    struct stat status;
    char value[64];

    ck_assert_int_eq(fstat(STDERR_FILENO, &status), 0);
    snprintf(value, sizeof(value), "%lu:%lu", (unsigned long)status.st_dev,
             (unsigned long)status.st_ino + inode_offset);
    setenv("JOURNAL_STREAM", value, 1);
}

START_TEST(the_journal_gets_priorities)
{
    static const struct {
        enum log_level level;
        const char *line;
    } rows[] = {{LOG_LEVEL_ERROR, "<3>x n=1\n"},
                {LOG_LEVEL_WARNING, "<4>x n=1\n"},
                {LOG_LEVEL_NOTICE, "<5>x n=1\n"},
                {LOG_LEVEL_INFO, "<6>x n=1\n"},
                {LOG_LEVEL_DEBUG, "<7>x n=1\n"}};

    capture();
    set_journal_stream(0);
    log_setup("t", LOG_LEVEL_DEBUG, LOG_FORMAT_TEXT);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        LOG(rows[i].level, "x", LOG_U("n", 1));
        ck_assert_str_eq(captured(), rows[i].line);
    }
    log_setup("t", LOG_LEVEL_DEBUG, LOG_FORMAT_JSON);
    LOG(LOG_LEVEL_ERROR, "x", LOG_U("n", 1));
    ck_assert_int_eq(strncmp(captured(), "<3>{\"time\":", 11), 0);
}
END_TEST

START_TEST(another_files_journal_stream_does_not_count)
{
    capture();
    set_journal_stream(1);
    log_setup("t", LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    LOG(LOG_LEVEL_INFO, "x", LOG_U("n", 1));
    ck_assert_str_eq(captured_event(), "x n=1\n");
}
END_TEST

START_TEST(limits_count_what_they_suppress)
{
    struct log_limit limit = LOG_LIMIT_INIT(2, 60000);
    struct log_limit unlimited = LOG_LIMIT_INIT(1, 0);

    capture();
    log_setup("t", LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    for (unsigned i = 0; i < 5; i++)
        LOG_LIMITED(&limit, LOG_LEVEL_INFO, "x", LOG_U("n", i));
    captured();
    ck_assert_ptr_nonnull(strstr(got, "n=1\n"));
    ck_assert_ptr_null(strstr(got, "n=2"));
    ck_assert_ptr_null(strstr(got, "suppressed"));
    /* The window passes. */
    limit.window_ms -= 60000;
    LOG_LIMITED(&limit, LOG_LEVEL_INFO, "x", LOG_U("n", 9));
    ck_assert_str_eq(captured_event(), "x n=9 suppressed=3\n");
    LOG_LIMITED(&limit, LOG_LEVEL_INFO, "x", LOG_U("n", 10));
    ck_assert_str_eq(captured_event(), "x n=10\n");
    for (unsigned i = 0; i < 3; i++) {
        LOG_LIMITED(&unlimited, LOG_LEVEL_INFO, "x", LOG_U("n", i));
        ck_assert_ptr_nonnull(strstr(captured_event(), "x n="));
    }
    /* A level that is off does not use up the limit. */
    limit = (struct log_limit)LOG_LIMIT_INIT(1, 60000);
    LOG_LIMITED(&limit, LOG_LEVEL_DEBUG, "x", LOG_U("n", 1));
    ck_assert_uint_eq(limit.used, 0);
}
END_TEST

START_TEST(a_full_pipe_loses_lines_quickly)
{
    struct timespec begin, end;
    uint64_t lost;
    char filling[4096] = {0};

    capture();
    log_setup("t", LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    /* The description is shared: make writing block again, as it would in a daemon. */
    while (write(STDERR_FILENO, filling, sizeof(filling)) > 0)
        ;
    ck_assert_int_eq(fcntl(STDERR_FILENO, F_SETFL, 0), 0);
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (int i = 0; i < 1000; i++)
        LOG(LOG_LEVEL_INFO, "x", LOG_U("n", 1));
    clock_gettime(CLOCK_MONOTONIC, &end);
    lost = log_lost();
    ck_assert_uint_eq(lost, 1000);
    ck_assert_msg(end.tv_sec - begin.tv_sec < 5, "a full pipe holds the program up");
    while (read(reader, got, sizeof(got)) > 0)
        ;
    LOG(LOG_LEVEL_INFO, "again", LOG_U("n", 1));
    ck_assert_str_eq(captured_event(), "again n=1\n");
    ck_assert_uint_eq(log_lost(), lost);
}
END_TEST

START_TEST(a_broken_pipe_is_no_end)
{
    struct sigaction action;

    capture();
    log_setup("t", LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    ck_assert_int_eq(sigaction(SIGPIPE, NULL, &action), 0);
    ck_assert(action.sa_handler == SIG_IGN);
    close(reader);
    errno = 7;
    LOG(LOG_LEVEL_INFO, "x", LOG_U("n", 1));
    ck_assert_uint_eq(log_lost(), 1);
    ck_assert_int_eq(errno, 7);
    close(STDERR_FILENO);
    LOG(LOG_LEVEL_INFO, "x", LOG_U("n", 1));
    ck_assert_uint_eq(log_lost(), 2);
}
END_TEST

START_TEST(stderr_may_be_a_socket)
{
    int pair[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    ck_assert_int_eq(dup2(pair[1], STDERR_FILENO), STDERR_FILENO);
    close(pair[1]);
    reader = pair[0];
    log_setup("t", LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    LOG(LOG_LEVEL_INFO, "x", LOG_U("n", 1));
    ck_assert_str_eq(captured_event(), "x n=1\n");
    /* Nobody reads: lines are lost, the program goes on. */
    for (int i = 0; i < 5000; i++)
        LOG(LOG_LEVEL_INFO, "x", LOG_U("n", 1));
    ck_assert_uint_gt(log_lost(), 0);
}
END_TEST

/* journald's socket, in a mount namespace of our own. -1 where that is not permitted. */
static int become_journald(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd;

    strcpy(address.sun_path, "/run/systemd/journal/socket");
    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("none", "/run", "tmpfs", 0, NULL) < 0) {
        printf("skipped: no mount namespace here (%s)\n", strerror(errno));
        return -1;
    }
    ck_assert_int_eq(mkdir("/run/systemd", 0755), 0);
    ck_assert_int_eq(mkdir("/run/systemd/journal", 0755), 0);
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

START_TEST(the_journal_gets_fields)
{
    char value[LOG_VALUE_MAX + 1];
    int journald = become_journald();
    ssize_t length;

    if (journald < 0)
        return;
    capture();
    log_setup("relayd", LOG_LEVEL_INFO, LOG_FORMAT_JOURNAL);
    LOG(LOG_LEVEL_WARNING, "check-log", LOG_S("some-key", "two words"), LOG_S("none", NULL),
        LOG_U("n", 18), LOG_ERRNO(-EPERM));
    length = recv(journald, got, sizeof(got) - 1, 0);
    ck_assert_int_gt(length, 0);
    got[length] = '\0';
    ck_assert_str_eq(got,
                     "PRIORITY=4\n"
                     "MESSAGE=check-log some-key=\"two words\" n=18 error=EPERM\n"
                     "SYSLOG_IDENTIFIER=relayd\nSOCKST_EVENT=check-log\n"
                     "SOCKST_SOME_KEY=two words\nSOCKST_N=18\nSOCKST_ERROR=EPERM\n");
    /* Values that together exceed the entry: whole fields are left out, and it still arrives. */
    memset(value, 'v', sizeof(value) - 1);
    value[sizeof(value) - 1] = '\0';
    LOG(LOG_LEVEL_INFO, "x", LOG_S("a", value), LOG_S("b", value), LOG_S("c", value),
        LOG_S("d", value), LOG_S("e", value), LOG_S("f", value), LOG_S("g", value),
        LOG_S("h", value), LOG_S("i", "i"));
    length = recv(journald, got, sizeof(got) - 1, 0);
    ck_assert_int_gt(length, 0);
    got[length] = '\0';
    ck_assert_ptr_nonnull(strstr(got, "\nSOCKST_D=vvv"));
    ck_assert_ptr_null(strstr(got, "\nSOCKST_H=vvv"));
    ck_assert_ptr_nonnull(strstr(got, "\nSOCKST_I=i\n"));
    ck_assert_uint_eq(log_lost(), 0);
}
END_TEST

START_TEST(journal_format_is_harmless_without_a_journal)
{
    capture();
    log_setup("t", LOG_LEVEL_INFO, LOG_FORMAT_JOURNAL);
    LOG(LOG_LEVEL_INFO, "check-log", LOG_S("some-key", "a\nb"), LOG_U("n", 1));
    ck_assert_str_eq(captured(), "");
}
END_TEST

START_TEST(utf8_boundaries)
{
    static const struct {
        const char *text;
        size_t length;
        uint32_t code;
    } rows[] = {
        {"A", 1, 'A'},
        {"\x7f", 1, 0x7f},
        {"\xc2\x80", 2, 0x80},
        {"\xdf\xbf", 2, 0x7ff},
        {"\xe0\xa0\x80", 3, 0x800},
        {"\xed\x9f\xbf", 3, 0xd7ff},
        {"\xee\x80\x80", 3, 0xe000},
        {"\xef\xbf\xbf", 3, 0xffff},
        {"\xf0\x90\x80\x80", 4, 0x10000},
        {"\xf4\x8f\xbf\xbf", 4, 0x10ffff},
        {"\x80", 0, 0},
        {"\xc1\xbf", 0, 0},
        {"\xe0\x9f\xbf", 0, 0},
        {"\xed\xa0\x80", 0, 0},
        {"\xf0\x8f\xbf\xbf", 0, 0},
        {"\xf4\x90\x80\x80", 0, 0},
        {"\xf5\x80\x80\x80", 0, 0},
        {"\xe2\x28\xa1", 0, 0},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint32_t code = 0;

        ck_assert_uint_eq(utf8_next(rows[i].text, strlen(rows[i].text), &code), rows[i].length);
        ck_assert_uint_eq(code, rows[i].code);
        /* every truncation */
        for (size_t left = 1; left < rows[i].length; left++)
            ck_assert_uint_eq(utf8_next(rows[i].text, left, &code), 0);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log");
    TCase *tcase = tcase_create("log");
    SRunner *runner = srunner_create(suite);
    const int escape_count = (int)(sizeof(escapes) / sizeof(escapes[0]));
    int failed;

    tcase_set_timeout(tcase, 30);
    tcase_add_test(tcase, text_lines);
    tcase_add_test(tcase, every_kind_of_field);
    tcase_add_loop_test(tcase, values_are_escaped_in_text, 0, escape_count);
    tcase_add_loop_test(tcase, values_are_escaped_in_json, 0, escape_count);
    tcase_add_test(tcase, long_values_are_cut_whole);
    tcase_add_test(tcase, lines_never_overrun);
    tcase_add_test(tcase, levels_filter_before_evaluation);
    tcase_add_test(tcase, the_journal_gets_priorities);
    tcase_add_test(tcase, another_files_journal_stream_does_not_count);
    tcase_add_test(tcase, limits_count_what_they_suppress);
    tcase_add_test(tcase, a_full_pipe_loses_lines_quickly);
    tcase_add_test(tcase, a_broken_pipe_is_no_end);
    tcase_add_test(tcase, stderr_may_be_a_socket);
    tcase_add_test(tcase, the_journal_gets_fields);
    tcase_add_test(tcase, journal_format_is_harmless_without_a_journal);
    tcase_add_test(tcase, utf8_boundaries);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
