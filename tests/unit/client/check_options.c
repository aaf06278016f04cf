#include <errno.h>
#include <string.h>

#include "common/client/command/options.h"
#include "proto/ptcl.h"
#include "tests/unit/client/suite.h"

#define ARGUMENTS_MAX 16

/* Parses a command line that is written with spaces. */
static int parse(const char *line, const char *environment, struct options *out, char *why)
{
    static char text[1024];
    char *argv[ARGUMENTS_MAX + 1] = {(char[]){"sockst"}};
    int argc = 1;
    ck_assert_uint_lt(strlen(line), sizeof(text));
    strcpy(text, line);
    for (char *word = strtok(text, " "); word != NULL; word = strtok(NULL, " "))
        argv[argc++] = word;
    why[0] = '\0';
    return options_parse(argc, argv, environment, out, why);
}

static struct options good(const char *line)
{
    struct options options;
    char why[OPTIONS_WHY_MAX];
    ck_assert_msg(parse(line, NULL, &options, why) == 0, "%s: %s", line, why);
    return options;
}

START_TEST(defaults)
{
    struct options options = good("probe");
    ck_assert_int_eq(options.command, COMMAND_PROBE);
    ck_assert_str_eq(options.proxy.host, "127.0.0.1");
    ck_assert_uint_eq(options.proxy.port, 1080);
    ck_assert(!options.json && !options.verbose && !options.lines);
    ck_assert_uint_eq(options.connect_timeout_ms, 30000);
    ck_assert_uint_eq(options.timeout_ms, 5000);
    ck_assert_uint_eq(options.idle_ms, 120000);
    ck_assert_uint_eq(options.max, 256);
    ck_assert_uint_eq(options.count, 0);
}
END_TEST

START_TEST(the_proxy_comes_from_the_option_then_the_environment)
{
    struct options options;
    char why[OPTIONS_WHY_MAX];
    ck_assert_int_eq(parse("probe", "socks5t://env:7", &options, why), 0);
    ck_assert_str_eq(options.proxy.host, "env");
    ck_assert_int_eq(parse("--proxy socks5t://opt:8 probe", "socks5t://env:7", &options, why), 0);
    ck_assert_str_eq(options.proxy.host, "opt");
    ck_assert_int_eq(parse("--proxy=socks5t://opt:8 probe", "nonsense", &options, why), 0);
    ck_assert_int_eq(parse("probe", "socks5t://u:secret@h:x", &options, why), -EINVAL);
    ck_assert_ptr_null(strstr(why, "secret"));
}
END_TEST

START_TEST(options_stand_anywhere)
{
    struct options options =
        good("udp --count 3 192.0.2.1 --timeout 0.25 53 --lines -v --connect-timeout 1");
    ck_assert_int_eq(options.command, COMMAND_UDP);
    ck_assert_uint_eq(options.count, 3);
    ck_assert_uint_eq(options.timeout_ms, 250);
    ck_assert_uint_eq(options.connect_timeout_ms, 1000);
    ck_assert(options.lines && options.verbose);
    ck_assert_uint_eq(options.destination.port, 53);
    options = good("--json -- probe");
    ck_assert(options.json);
    ck_assert_int_eq(good("--help nonsense").command, COMMAND_HELP);
    ck_assert_int_eq(good("--version").command, COMMAND_VERSION);
    ck_assert_int_eq(good("-h").command, COMMAND_HELP);
    ck_assert_int_eq(good("-V").command, COMMAND_VERSION);
}
END_TEST

START_TEST(classic_is_asked_for)
{
    ck_assert(!good("connect h 80").classic);
    ck_assert(good("--classic connect h 80").classic);
    ck_assert(good("udp h 53 --classic").classic);
    ck_assert(good("forward --classic tcp 127.0.0.1:0 h:1").classic);
}
END_TEST

START_TEST(bind_expects_somebody_or_anybody)
{
    struct options options = good("bind 192.0.2.1");
    ck_assert_int_eq(options.command, COMMAND_BIND);
    ck_assert_uint_eq(options.destination.port, 0);
    options = good("bind [2001:db8::1] 20");
    ck_assert_uint_eq(options.destination.atyp, N1_ATYP_V6);
    ck_assert_uint_eq(options.destination.port, 20);
    options = good("bind 0.0.0.0 0");
    ck_assert(ip_address_is_unspecified(&options.destination.address));
    static const char *const wrong[] = {"bind", "bind h 1 2", "bind h 65536", "bind h x",
                                        "bind a..b"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        char why[OPTIONS_WHY_MAX];
        ck_assert_msg(parse(wrong[i], NULL, &options, why) == -EINVAL, "%s", wrong[i]);
        ck_assert_uint_ne(strlen(why), 0);
    }
}
END_TEST

START_TEST(names_go_to_the_server_as_names)
{
    struct options options = good("connect www.example.org 443");
    ck_assert_uint_eq(options.destination.atyp, N1_ATYP_DOMAIN);
    ck_assert_str_eq(options.destination.name, "www.example.org");
    ck_assert_uint_eq(options.destination.port, 443);
    ck_assert_uint_eq(good("connect 192.0.2.1 1").destination.atyp, N1_ATYP_V4);
    ck_assert_uint_eq(good("connect 2001:db8::1 1").destination.atyp, N1_ATYP_V6);
    ck_assert_uint_eq(good("connect [2001:db8::1] 65535").destination.atyp, N1_ATYP_V6);
    ck_assert_uint_eq(good("connect ::ffff:192.0.2.1 1").destination.atyp, N1_ATYP_V4);
}
END_TEST

START_TEST(forwards)
{
    struct options options = good("forward tcp 127.0.0.1:8080 www.example.org:80");
    char text[ENDPOINT_TEXT_MAX];
    ck_assert_int_eq(options.command, COMMAND_FORWARD);
    ck_assert_uint_eq(options.ptcl, PTCL_TCP);
    ck_assert_str_eq(endpoint_format(&options.local, text, sizeof(text)), "127.0.0.1:8080");
    ck_assert_str_eq(options.destination.name, "www.example.org");
    options = good("forward udp [::1]:0 [2001:db8::1]:53 --idle 2.5 --max 7");
    ck_assert_uint_eq(options.ptcl, PTCL_UDP);
    ck_assert_uint_eq(options.local.port, 0);
    ck_assert_uint_eq(options.destination.atyp, N1_ATYP_V6);
    ck_assert_uint_eq(options.idle_ms, 2500);
    ck_assert_uint_eq(options.max, 7);
    ck_assert_uint_eq(good("forward 17 127.0.0.1:0 a:1").ptcl, PTCL_UDP);
}
END_TEST

START_TEST(everything_else_is_refused_with_a_line)
{
    static const char *const lines[] = {
        "",
        "dance",
        "connect",
        "connect h",
        "connect h 80 x",
        "udp h",
        "probe x",
        "forward tcp 127.0.0.1:1",
        "connect h 0",
        "connect h 65536",
        "connect h 080",
        "connect h -1",
        "connect h http",
        "connect a..b 80",
        "connect fe80::1%1 80",
        "connect 1:2 80",
        "connect [h] 80",
        "forward icmp 127.0.0.1:1 h:1",
        "forward sctp 127.0.0.1:1 h:1",
        "forward tcp 8080 h:1",
        "forward tcp localhost:1 h:1",
        "forward tcp 127.0.0.1:1 h",
        "forward tcp 127.0.0.1:1 h:",
        "forward tcp 127.0.0.1:1 :1",
        "forward tcp 127.0.0.1:1 2001:db8::1:1",
        "forward tcp 127.0.0.1:1 h:0",
        "--nonsense probe",
        "--proxy",
        "--count 0 udp h 1",
        "--count x udp h 1",
        "--timeout -1 udp h 1",
        "--timeout 1.2345 udp h 1",
        "--timeout . udp h 1",
        "--timeout 86401 udp h 1",
        "--max 0 forward tcp 127.0.0.1:1 h:1",
        "--max 5000 forward tcp 127.0.0.1:1 h:1",
        "--json connect h 1",
        "-x probe",
        "--proxy http://h probe",
        "--idle 1s forward udp 127.0.0.1:1 h:1",
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        struct options options;
        char why[OPTIONS_WHY_MAX];
        ck_assert_msg(parse(lines[i], NULL, &options, why) == -EINVAL, "'%s' is taken", lines[i]);
        ck_assert_uint_ne(strlen(why), 0);
        ck_assert_ptr_null(strchr(why, '\n'));
    }
}
END_TEST

START_TEST(overlong_arguments_are_refused)
{
    char line[900] = "connect ";
    struct options options;
    char why[OPTIONS_WHY_MAX];
    memset(line + 8, 'h', 800);
    strcpy(line + 808, " 80");
    ck_assert_int_eq(parse(line, NULL, &options, why), -EINVAL);
    ck_assert_uint_lt(strlen(why), OPTIONS_WHY_MAX);
    strcpy(line, "forward tcp 127.0.0.1:1 ");
    memset(line + 24, 'h', 800);
    strcpy(line + 824, ":80");
    ck_assert_int_eq(parse(line, NULL, &options, why), -EINVAL);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("options");
    tcase_add_test(tcase, defaults);
    tcase_add_test(tcase, the_proxy_comes_from_the_option_then_the_environment);
    tcase_add_test(tcase, options_stand_anywhere);
    tcase_add_test(tcase, classic_is_asked_for);
    tcase_add_test(tcase, bind_expects_somebody_or_anybody);
    tcase_add_test(tcase, names_go_to_the_server_as_names);
    tcase_add_test(tcase, forwards);
    tcase_add_test(tcase, everything_else_is_refused_with_a_line);
    tcase_add_test(tcase, overlong_arguments_are_refused);
    return run_tests(tcase);
}
