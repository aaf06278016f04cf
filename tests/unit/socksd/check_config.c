/*
 * socksd.yaml: the schema, the embedded default, the example, and errors with their place.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <check.h>

#include "common/log/log.h"
#include "proto/n1.h"
#include "socksd/auth/auth.h"
#include "socksd/command/command.h"
#include "socksd/config.h"

static struct socksd_config config;
static struct config_error error;

static void teardown(void)
{
    socksd_config_free(&config);
}

START_TEST(test_schema_is_sound)
{
    char why[256] = "";
    ck_assert_msg(config_schema_check(socksd_schema, why, sizeof(why)), "%s", why);
}
END_TEST

START_TEST(test_default_configuration)
{
    ck_assert_msg(socksd_config_load(&config, NULL, &error) == 0, "%s", error.text);
    const struct listen_config *listen_at = config.listen.items;
    const struct relay_config *relays = config.relays.items;
    const struct rule_config *rules = config.rules.items;
    char text[ENDPOINT_TEXT_MAX];
    ck_assert_uint_eq(config.listen.count, 1);
    ck_assert_str_eq(ip_address_format(&listen_at->address, text, sizeof(text)), "127.0.0.1");
    ck_assert_uint_eq(listen_at->port, 1080);
    ck_assert_uint_eq(config.relays.count, 2);
    ck_assert_str_eq(relays[0].ptcl, "tcp");
    ck_assert_str_eq(relays[0].socket, "/run/sockst/n2/tcp.sock");
    ck_assert_str_eq(relays[1].ptcl, "udp");
    ck_assert_uint_eq(config.rules.count, 1);
    ck_assert_int_eq(rules->action, RULE_ALLOW);
    ck_assert_uint_eq(rules->from.count, 2);
    ck_assert_uint_eq(config.auth.methods.count, 1);
    ck_assert_int_eq(*(int *)config.auth.methods.items, N1_METHOD_NONE);
    ck_assert_str_eq(config.relays_user, "relayd");
    ck_assert_uint_eq(config.limits.sessions, 100000);
    ck_assert_uint_eq(config.limits.sessions_per_address, 1000);
    ck_assert_uint_eq(config.limits.handshake_timeout_ms, 10000);
    ck_assert_uint_eq(config.keepalive.idle_ms, 30000);
    ck_assert_uint_eq(config.keepalive.interval_ms, 10000);
    ck_assert_uint_eq(config.keepalive.count, 3);
    ck_assert(!config.transparent.learn_source_port);
    ck_assert_int_eq(config.log.level, LOG_LEVEL_INFO);
    ck_assert_str_eq(config.admin.socket, "/run/sockst/admin/socksd.sock");
}
END_TEST

static char *printed(void)
{
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);
    ck_assert_ptr_nonnull(to);
    config_print(socksd_schema, &config, to);
    fclose(to);
    return text;
}

static void round_trip(void)
{
    char *first = printed();
    socksd_config_free(&config);
    ck_assert_msg(socksd_config_load_text(&config, "printed", first, &error) == 0, "%s",
                  error.text);
    char *second = printed();
    ck_assert_str_eq(first, second);
    free(first);
    free(second);
}

START_TEST(test_printed_configuration_is_the_same)
{
    ck_assert_int_eq(socksd_config_load(&config, NULL, &error), 0);
    round_trip();
}
END_TEST

START_TEST(test_example_file)
{
    ck_assert_msg(socksd_config_load(&config, EXAMPLE, &error) == 0, "%s", error.text);
    ck_assert_uint_ge(config.rules.count, 2);
    round_trip();
}
END_TEST

static char *read_whole(const char *path)
{
    char *text = NULL;
    size_t size = 0;
    FILE *from = fopen(path, "r");
    ck_assert_ptr_nonnull(from);
    ck_assert_int_gt(getdelim(&text, &size, '\0', from), 0);
    fclose(from);
    return text;
}

/* Records are described by their own keys (_name_), everything else by its path
 * (*limits.sessions*). */
static void expect_described(const char *manual, const struct config_option *option,
                             const char *prefix)
{
    char name[128], word[132];
    for (; option->name; option++) {
        snprintf(name, sizeof(name), "%s%s%s", prefix, *prefix ? "." : "", option->name);
        if (option->type == CONFIG_SECTION) {
            expect_described(manual, option->children, name);
            continue;
        }
        snprintf(word, sizeof(word), "*%s*", name);
        ck_assert_msg(strstr(manual, word), "socksd.yaml(5) says nothing of %s", name);
        for (const struct config_option *child = option->children; child && child->name; child++) {
            snprintf(word, sizeof(word), "_%s_", child->name);
            ck_assert_msg(strstr(manual, word), "socksd.yaml(5) says nothing of %s.%s", name,
                          child->name);
        }
    }
}

START_TEST(test_manual_describes_every_option)
{
    char *manual = read_whole(MANUAL);
    expect_described(manual, socksd_schema, "");
    free(manual);
}
END_TEST

#define RELAYS "relays: [{ptcl: tcp, socket: /x}]\n"

START_TEST(test_everything_set)
{
    static const char text[] = RELAYS
        "listen: [{address: \"::\", port: 1}, {address: 0.0.0.0}]\n"
        "auth: {methods: none}\n"
        "relays-user: nobody\n"
        "rules: [{name: r, action: deny, from: 10.0.0.1, commands: [bind, udp-associate], ptcl: "
        "17,\n"
        "  to: [.x, 10.0.0.0/8], ports: [1, 2-3], foreign-source: true}]\n"
        "deny-floor: {open: [127.0.0.0/8]}\n"
        "limits: {sessions: 1, sessions-per-address: 2, handshake-timeout: 1s, relay-timeout: 2s}\n"
        "transparent: {learn-source-port: true}\n"
        "keepalive: {idle: 1s, interval: 2s, count: 4}\n"
        "resolver: {servers: [127.0.0.1, \"[::1]:5353\"], timeout: 1s, tries: 1, queries: 3}\n"
        "log: {level: debug, format: json}\n"
        "admin: {socket: /y, group: g}\n";
    ck_assert_msg(socksd_config_load_text(&config, "test", text, &error) == 0, "%s", error.text);
    const struct rule_config *rule = config.rules.items;
    ck_assert_str_eq(rule->name, "r");
    ck_assert(rule->foreign_source);
    ck_assert_uint_eq(rule->commands.count, 2);
    ck_assert_int_eq(((int *)rule->commands.items)[1], N1_CMD_UDP_ASSOCIATE);
    ck_assert_uint_eq(((struct port_range *)rule->ports.items)[1].last, 3);
    ck_assert_uint_eq(config.deny_floor.open.count, 1);
    ck_assert_uint_eq(config.limits.relay_timeout_ms, 2000);
    ck_assert(config.transparent.learn_source_port);
    ck_assert_uint_eq(config.resolver.servers.count, 2);
    ck_assert_str_eq(config.admin.group, "g");
    round_trip();
}
END_TEST

/* N2-PEER-030, ADMIN-PEER-020: a socket is the path of a file, and nothing else */
START_TEST(test_errors_have_a_place)
{
    static const struct {
        const char *text, *begins, *contains;
    } cases[] = {
        {"listen: []\n", "test:1:1: ", "relays"},
        {RELAYS "nonsense: 1\n", "test:2:1: ", "nonsense"},
        {RELAYS "tls: {}\n", "test:2:1: ", "tls"},
        {RELAYS "metrics: {port: 1}\n", "test:2:1: ", "metrics"},
        {RELAYS "listen:\n  - {address: 127.0.0.1, port: 1080abc}\n", "test:3:32: ", "1080abc"},
        {RELAYS "listen:\n  - {address: 127.0.0.1, port: 70000}\n", "test:3:32: ", "65535"},
        {RELAYS "listen:\n  - {address: 127.0.0.1, port: 0}\n", "test:3:32: ", "port"},
        {RELAYS "listen:\n  - {port: 1080}\n", "test:3:5: ", "address"},
        {RELAYS "listen:\n  - {address: localhost}\n", "test:3:15: ", "localhost"},
        {RELAYS "auth: {methods: []}\n", "test:2:17: ", "methods"},
        {RELAYS "auth: {methods: [userpass]}\n", "test:2:18: ", "userpass"},
        {RELAYS "auth: {users-file: /x}\n", "test:2:8: ", "users-file"},
        {RELAYS "rules:\n  - {action: permit}\n", "test:3:14: ", "permit"},
        {RELAYS "rules:\n  - {to: 10.0.0.0/8}\n", "test:3:5: ", "action"},
        {RELAYS "rules:\n  - {action: allow, to: [10.0.0.1/8]}\n", "test:3:26: ", "10.0.0.1/8"},
        {RELAYS "rules:\n  - {action: allow, to: \"*.example\"}\n", "test:3:25: ", "*.example"},
        {RELAYS "rules:\n  - {action: allow, ports: 3-2}\n", "test:3:28: ", "3-2"},
        {RELAYS "rules:\n  - {action: allow, ptcl: [nonsense]}\n", "test:3:28: ", "nonsense"},
        {RELAYS "rules:\n  - {action: allow, users: [a]}\n", "test:3:21: ", "users"},
        {RELAYS "rules:\n  - {action: allow, name: \"a b\"}\n", "test:3:27: ", "name"},
        {RELAYS "rules:\n  - {action: allow, name: x}\n  - {action: deny, name: x}\n",
         "test:4:5: ", "twice"},
        {"relays:\n  - {ptcl: tcp, socket: /x}\n  - {ptcl: udp, socket: /x}\n",
         "test:3:5: ", "twice"},
        {"relays: [{ptcl: quic, socket: /x}]\n", "test:1:17: ", "quic"},
        {"relays: [{ptcl: tcp, socket: x}]\n", "test:1:30: ", "absolute"},
        {RELAYS "limits: {sessions: 0}\n", "test:2:20: ", "sessions"},
        {RELAYS "limits: {handshake-timeout: 10}\n", "test:2:29: ", "handshake-timeout"},
        {RELAYS "resolver: {servers: [nonsense]}\n", "test:2:22: ", "nonsense"},
        {RELAYS "resolver: {servers: [\"127.0.0.1:0\"]}\n", "test:2:22: ", "127.0.0.1:0"},
        {RELAYS "log: {level: loud}\n", "test:2:14: ", "loud"},
        {RELAYS RELAYS, "test:2:1: ", "relays"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        memset(&error, 0, sizeof(error));
        const int rc = socksd_config_load_text(&config, "test", cases[i].text, &error);
        ck_assert_msg(rc < 0, "taken: %s", cases[i].text);
        ck_assert_msg(strncmp(error.text, cases[i].begins, strlen(cases[i].begins)) == 0 &&
                          strstr(error.text, cases[i].contains),
                      "expected \"%s…%s…\", got \"%s\" for\n%s", cases[i].begins, cases[i].contains,
                      error.text, cases[i].text);
    }
}
END_TEST

/* The keywords of the configuration and the tables of the code name the same things. */
START_TEST(test_methods_and_commands_have_rows)
{
    ck_assert_int_eq(socksd_config_load(&config, NULL, &error), 0);
    const struct auth_method *method = auth_method_by_number(N1_METHOD_NONE);
    ck_assert_ptr_nonnull(method);
    ck_assert_str_eq(method->name, "none");
    ck_assert_ptr_null(auth_method_by_number(N1_METHOD_USERPASS));
    ck_assert_ptr_null(auth_method_by_number(N1_METHOD_UNACCEPTABLE));
    for (unsigned number = 0; number < 256; number++) {
        const struct command *command = command_by_number((uint8_t)number);
        const char *name = n1_command_name((uint8_t)number);
        ck_assert((command != NULL) == (name != NULL));
        if (command)
            ck_assert_str_eq(command->name, name);
    }
}
END_TEST

/* The configuration decides, not the client's order. */
START_TEST(test_choice_of_method)
{
    int wanted[] = {N1_METHOD_USERPASS, N1_METHOD_NONE};
    const struct config_list none = {wanted + 1, 1}, both = {wanted, 2};
    struct n1_methods offered = {.count = 3, .methods = {1, 2, 0}};
    ck_assert_ptr_eq(auth_choose(&none, &offered), &auth_none);
    ck_assert_ptr_null(
        auth_choose(&both, &offered)); /* the first that both have decides, and it has no row */
    offered.count = 2;
    ck_assert_ptr_null(auth_choose(&none, &offered));
    memset(offered.methods, 0xff, 255);
    offered.count = 255;
    ck_assert_ptr_null(auth_choose(&none, &offered));
    offered.methods[254] = 0;
    ck_assert_ptr_eq(auth_choose(&none, &offered), &auth_none);
}
END_TEST

static Suite *config_suite(void)
{
    Suite *suite = suite_create("config");
    TCase *tests = tcase_create("config");
    tcase_add_checked_fixture(tests, NULL, teardown);
    tcase_add_test(tests, test_schema_is_sound);
    tcase_add_test(tests, test_default_configuration);
    tcase_add_test(tests, test_printed_configuration_is_the_same);
    tcase_add_test(tests, test_example_file);
    tcase_add_test(tests, test_manual_describes_every_option);
    tcase_add_test(tests, test_everything_set);
    tcase_add_test(tests, test_errors_have_a_place);
    tcase_add_test(tests, test_methods_and_commands_have_rows);
    tcase_add_test(tests, test_choice_of_method);
    suite_add_tcase(suite, tests);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(config_suite());
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
