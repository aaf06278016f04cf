/*
 * relayd.yaml and the command line.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "relayd/config.h"
#include "relayd/options.h"
#include "relayd/plane/bpf/program.h"
#include "relayd/plane/socket/flow.h"

/* The rows of the transports name them; nothing is relayed here. */
const struct flow_ops tcp_transparent_flow_ops, tcp_connect_flow_ops, tcp_bind_flow_ops;
const struct flow_ops udp_flow_ops;

static struct relayd_config config;
static struct config_error error;

static int load(const char *text)
{
    return config_load_text(relayd_schema, &config, sizeof(config), "relayd.yaml", text,
                            strlen(text), &error);
}

static void good(const char *text)
{
    ck_assert_msg(load(text) == 0, "%s: %s", text, error.text);
}

static void bad(const char *text, const char *expected)
{
    ck_assert_msg(load(text) < 0, "taken: %s", text);
    ck_assert_msg(strstr(error.text, expected) != NULL, "%s: expected \"%s\" in \"%s\"", text,
                  expected, error.text);
    config_free(relayd_schema, &config);
}

/* ---- the file ------------------------------------------------------------------------------- */

START_TEST(defaults)
{
    good("{}");
    ck_assert_str_eq(config.n2.directory, "/run/sockst/n2");
    ck_assert_uint_eq(config.n2.allow_users.count, 1);
    ck_assert_str_eq(((char **)config.n2.allow_users.items)[0], "socksd");
    ck_assert_str_eq(config.admin.directory, "/run/sockst/admin");
    ck_assert_ptr_null(config.admin.group);
    ck_assert_int_eq(config.plane, PLANE_AUTO);
    ck_assert_uint_eq(config.interfaces.count, 0);
    ck_assert_uint_eq(config.bind.addresses.count, 0);
    ck_assert_uint_eq(config.bind.advertise.count, 0);
    ck_assert_uint_eq(config.bind.ports.count, 1);
    const struct port_range *range = config.bind.ports.items;
    ck_assert_uint_eq(range->first, 20000);
    ck_assert_uint_eq(range->last, 59999);
    ck_assert_uint_eq(config.egress.addresses.count, 0);
    ck_assert_uint_eq(config.egress.ports.count, 0);
    ck_assert_uint_eq(config.tcp.connect_timeout_ms, 10000);
    ck_assert_uint_eq(config.tcp.accept_timeout_ms, 10000);
    ck_assert_uint_eq(config.tcp.bind_timeout_ms, 60000);
    ck_assert_uint_eq(config.tcp.fin_timeout_ms, 60000);
    ck_assert_uint_eq(config.tcp.pipe_size, 1 << 20);
    ck_assert_uint_eq(config.udp.idle_timeout_ms, 0);
    ck_assert_uint_eq(config.udp.receive_buffer, 0);
    ck_assert_uint_eq(config.guard.wrong_source_per_second, 1000);
    ck_assert_int_eq(config.guard.action, GUARD_EVENT);
    ck_assert_uint_eq(config.deny_floor.open.count, 0);
    ck_assert_uint_eq(config.limits.relays, 100000);
    ck_assert_int_eq(config.log.level, LOG_LEVEL_INFO);
    ck_assert_int_eq(config.log.format, LOG_FORMAT_TEXT);
    config_free(relayd_schema, &config);
}
END_TEST

static const char everything[] =
    "n2: {directory: /n2, allow-users: [socksd, \"1000\"]}\n"
    "admin: {directory: /admin, group: operators}\n"
    "plane: bpf\n"
    "interfaces: [eth0, wwan0.5]\n"
    "bind:\n"
    "  addresses: [192.0.2.1, \"2001:db8::1\"]\n"
    "  advertise: {10.0.0.5: 203.0.113.9}\n"
    "  ports: [1000-1999, 3000]\n"
    "egress: {addresses: [198.51.100.1], ports: 20000-59999}\n"
    "tcp: {connect-timeout: 5s, accept-timeout: 500ms,"
    " fin-timeout: 2m, pipe-size: 64KiB}\n"
    "udp: {idle-timeout: 30s, receive-buffer: 4MiB}\n"
    "guard: {wrong-source-per-second: 5, action: close}\n"
    "deny-floor: {open: [127.0.0.0/8, \"::1\"]}\n"
    "limits: {relays: 7}\n"
    "log: {level: debug, format: json}\n";

static void check_everything(void)
{
    const struct port_range *ports = config.bind.ports.items;
    const struct config_address_pair *pair = config.bind.advertise.items;
    const struct ip_prefix *open = config.deny_floor.open.items;
    char text[ENDPOINT_TEXT_MAX];

    ck_assert_str_eq(config.n2.directory, "/n2");
    ck_assert_uint_eq(config.n2.allow_users.count, 2);
    ck_assert_str_eq(((char **)config.n2.allow_users.items)[1], "1000");
    ck_assert_str_eq(config.admin.directory, "/admin");
    ck_assert_str_eq(config.admin.group, "operators");
    ck_assert_int_eq(config.plane, PLANE_BPF);
    ck_assert_uint_eq(config.interfaces.count, 2);
    ck_assert_str_eq(((char **)config.interfaces.items)[0], "eth0");
    ck_assert_str_eq(((char **)config.interfaces.items)[1], "wwan0.5");
    ck_assert_uint_eq(config.bind.addresses.count, 2);
    ck_assert_str_eq(
        ip_address_format((struct ip_address *)config.bind.addresses.items + 1, text, sizeof(text)),
        "2001:db8::1");
    ck_assert_uint_eq(config.bind.advertise.count, 1);
    ck_assert_str_eq(ip_address_format(&pair->key, text, sizeof(text)), "10.0.0.5");
    ck_assert_str_eq(ip_address_format(&pair->value, text, sizeof(text)), "203.0.113.9");
    ck_assert_uint_eq(config.bind.ports.count, 2);
    ck_assert_uint_eq(ports[0].last, 1999);
    ck_assert_uint_eq(ports[1].first, 3000);
    ck_assert_uint_eq(config.egress.addresses.count, 1);
    ck_assert_uint_eq(config.egress.ports.count, 1);
    ck_assert_uint_eq(config.tcp.connect_timeout_ms, 5000);
    ck_assert_uint_eq(config.tcp.accept_timeout_ms, 500);
    ck_assert_uint_eq(config.tcp.fin_timeout_ms, 120000);
    ck_assert_uint_eq(config.tcp.pipe_size, 65536);
    ck_assert_uint_eq(config.udp.idle_timeout_ms, 30000);
    ck_assert_uint_eq(config.udp.receive_buffer, 4 << 20);
    ck_assert_uint_eq(config.guard.wrong_source_per_second, 5);
    ck_assert_int_eq(config.guard.action, GUARD_CLOSE);
    ck_assert_uint_eq(config.deny_floor.open.count, 2);
    ck_assert_uint_eq(open[0].length, 8);
    ck_assert_uint_eq(open[1].length, 128);
    ck_assert_uint_eq(config.limits.relays, 7);
    ck_assert_int_eq(config.log.level, LOG_LEVEL_DEBUG);
    ck_assert_int_eq(config.log.format, LOG_FORMAT_JSON);
}

START_TEST(every_key)
{
    good(everything);
    check_everything();
    config_free(relayd_schema, &config);
}
END_TEST

START_TEST(printed_and_loaded_again_it_is_the_same)
{
    char *first = NULL, *second = NULL;
    size_t first_length, second_length;

    good(_i == 0 ? "{}" : everything);
    FILE *file = open_memstream(&first, &first_length);
    config_print(relayd_schema, &config, file);
    fclose(file);
    config_free(relayd_schema, &config);
    good(first);
    if (_i == 1) {
        check_everything();
    }
    file = open_memstream(&second, &second_length);
    config_print(relayd_schema, &config, file);
    fclose(file);
    config_free(relayd_schema, &config);
    ck_assert_str_eq(first, second);
    free(first);
    free(second);
}
END_TEST

START_TEST(errors_say_where_and_why)
{
    bad("bind: {ports: 70000}", "relayd.yaml:1:");
    bad("limits: {relays: 0}", "limits.relays");
    bad("limits: {relays: 1000001}", "limits.relays");
    bad("limits: {relays: 10x}", "limits.relays");
    bad("n2: {directory: n2}", "absolute");
    bad("admin: {directory: \"\"}", "absolute");
    bad("n2: {allow-users: [\"\"]}", "allow-users");
    bad("plane: xdp", "plane");
    bad("interfaces: [\"\"]", "interfaces");
    bad("interfaces: [eth/0]", "interfaces");
    bad("interfaces: [\"eth 0\"]", "interfaces");
    bad("interfaces: [\"eth0:1\"]", "interfaces");
    bad("interfaces: [..]", "interfaces");
    bad("interfaces: [an-interface-016]", "interfaces");
    bad("metrics: {port: 1}", "metrics");
    bad("bind: {ports: 0-5}", ".ports");
    bad("bind: {ports: []}", "bind.ports");
    bad("egress: {ports: 0}", ".ports");
    bad("bind: {addresses: [192.0.2.300]}", "bind.addresses");
    bad("tcp: {fin-timeout: 0}", "tcp.fin-timeout");
    bad("tcp: {accept-timeout: 10}", "tcp.accept-timeout");
    bad("tcp: {pipe-size: 1KiB}", "tcp.pipe-size");
    bad("guard: {action: kill}", "guard.action");
    bad("deny-floor: {open: [127.0.0.1/8]}", "deny-floor.open");
    bad("log: {level: loud}", "log.level");
    bad("log: {level: info}\nlog: {level: info}", "relayd.yaml:2:");
}
END_TEST

START_TEST(interfaces_may_be_one_or_all)
{
    good("interfaces: eth0");
    ck_assert_uint_eq(config.interfaces.count, 1);
    config_free(relayd_schema, &config);
    good("interfaces: auto");
    ck_assert_uint_eq(config.interfaces.count, 0);
    config_free(relayd_schema, &config);
    good("interfaces: []");
    ck_assert_uint_eq(config.interfaces.count, 0);
    config_free(relayd_schema, &config);
    good("interfaces: [interface-of-15]");
    ck_assert_uint_eq(config.interfaces.count, 1);
    config_free(relayd_schema, &config);
}
END_TEST

START_TEST(the_schema_is_sound)
{
    char why[256] = "";
    ck_assert_msg(config_schema_check(relayd_schema, why, sizeof(why)), "%s", why);
}
END_TEST

START_TEST(every_option_is_explained)
{
    char *text = NULL;
    size_t length;
    FILE *file = open_memstream(&text, &length);

    config_help(relayd_schema, file);
    fclose(file);
    for (const struct config_option *section = relayd_schema; section->name != NULL; section++) {
        ck_assert_msg(section->help != NULL && strstr(text, section->name) != NULL, "%s",
                      section->name);
        for (const struct config_option *option = section->children;
             option != NULL && option->name != NULL; option++) {
            ck_assert_msg(option->help != NULL && strstr(text, option->help) != NULL, "%s.%s",
                          section->name, option->name);
        }
    }
    free(text);
}
END_TEST

static char *read_whole(const char *name)
{
    char path[4096], *text = NULL;
    size_t length;

    snprintf(path, sizeof(path), "%s/%s", SOURCE_ROOT, name);
    FILE *from = fopen(path, "r");
    ck_assert_msg(from != NULL, "%s: %s", path, strerror(errno));
    FILE *to = open_memstream(&text, &length);
    for (int octet = fgetc(from); octet != EOF; octet = fgetc(from)) {
        fputc(octet, to);
    }
    fclose(from);
    fclose(to);
    return text;
}

/* Name and help of each, with the underscores and stars that the manual's language escapes. */
static void in_manual(const char *manual, const char *section, const struct config_option *option)
{
    char key[128], help[1024];
    size_t length = 0;

    snprintf(key, sizeof(key), "*%s%s%s*: ", section, section[0] == '\0' ? "" : ".", option->name);
    ck_assert_msg(strstr(manual, key) != NULL, "relayd.yaml(5) has no %s", key);
    for (const char *at = option->help; *at != '\0'; at++) {
        if (*at == '_' || *at == '*') {
            help[length++] = '\\';
        }
        help[length++] = *at;
    }
    help[length] = '\0';
    ck_assert_msg(strstr(manual, help) != NULL, "relayd.yaml(5) explains %s otherwise", key);
}

START_TEST(the_manual_has_every_option)
{
    char *manual = read_whole("deploy/man/relayd.yaml.5.scd");

    for (const struct config_option *section = relayd_schema; section->name != NULL; section++) {
        if (section->type != CONFIG_SECTION) {
            in_manual(manual, "", section);
            continue;
        }
        for (const struct config_option *option = section->children; option->name != NULL;
             option++) {
            in_manual(manual, section->name, option);
        }
    }
    free(manual);
}
END_TEST

START_TEST(the_example_is_right)
{
    char *example = read_whole("deploy/examples/relayd.yaml");

    good(example);
    ck_assert_str_eq(config.admin.group, "sockst-admin");
    config_free(relayd_schema, &config);
    free(example);
}
END_TEST

/* ---- the command line ----------------------------------------------------------------------- */

static int parse(struct options *options, const char *line)
{
    static char copy[512];
    char *arguments[16], *state = NULL;
    int count = 0;

    snprintf(copy, sizeof(copy), "relayd %s", line);
    for (char *word = strtok_r(copy, " ", &state); word != NULL;
         word = strtok_r(NULL, " ", &state)) {
        arguments[count++] = word;
    }
    arguments[count] = NULL;
    return options_parse(options, count, arguments);
}

START_TEST(options_that_are_right)
{
    struct options options;

    ck_assert_int_eq(parse(&options, "--ptcl tcp"), 0);
    ck_assert_int_eq(options.action, OPTIONS_RUN);
    ck_assert_uint_eq(options.transport->ptcl, PTCL_TCP);
    ck_assert_str_eq(options.instance, "tcp");
    ck_assert_ptr_null(options.config);
    ck_assert_int_eq(options.plane, -1);
    ck_assert_int_eq(options.attach, ATTACH_AUTO);
    ck_assert_int_eq(options.ready_fd, -1);

    ck_assert_int_eq(parse(&options, "-c - --ptcl 17 --instance a-1 --plane socket --ready-fd 5"),
                     0);
    ck_assert_str_eq(options.config, "-");
    ck_assert_uint_eq(options.transport->ptcl, PTCL_UDP);
    ck_assert_str_eq(options.instance, "a-1");
    ck_assert_int_eq(options.plane, PLANE_SOCKET);
    ck_assert_int_eq(options.ready_fd, 5);

    ck_assert_int_eq(parse(&options, "--instance udp-2"), 0); /* as the units do */
    ck_assert_uint_eq(options.transport->ptcl, PTCL_UDP);
    ck_assert_int_eq(parse(&options, "--instance udp --ptcl tcp"), 0); /* --ptcl decides */
    ck_assert_uint_eq(options.transport->ptcl, PTCL_TCP);

    ck_assert_int_eq(parse(&options, "--ptcl tcp --plane bpf --attach clsact"), 0);
    ck_assert_int_eq(options.plane, PLANE_BPF);
    ck_assert_int_eq(options.attach, ATTACH_CLSACT);
    ck_assert_int_eq(parse(&options, "--ptcl tcp --plane auto --attach tcx"), 0);
    ck_assert_int_eq(options.plane, PLANE_AUTO);
    ck_assert_int_eq(options.attach, ATTACH_TCX);
    ck_assert_int_eq(parse(&options, "--ptcl tcp --attach auto"), 0);
    ck_assert_int_eq(options.attach, ATTACH_AUTO);

    ck_assert_int_eq(parse(&options, "--detach --instance tcp-2"), 0); /* as the units do */
    ck_assert_int_eq(options.action, OPTIONS_DETACH);
    ck_assert_str_eq(options.instance, "tcp-2");
    ck_assert_int_eq(parse(&options, "--detach --ptcl udp"), 0);
    ck_assert_int_eq(options.action, OPTIONS_DETACH);
    ck_assert_str_eq(options.instance, "udp");

    ck_assert_int_eq(parse(&options, "--config x.yaml --check"), 0);
    ck_assert_int_eq(options.action, OPTIONS_CHECK);
    ck_assert_str_eq(options.config, "x.yaml");
    ck_assert_int_eq(parse(&options, "--print-config"), 0);
    ck_assert_int_eq(options.action, OPTIONS_PRINT_CONFIG);
    ck_assert_int_eq(parse(&options, "--help-config"), 0);
    ck_assert_int_eq(options.action, OPTIONS_HELP_CONFIG);
    ck_assert_int_eq(parse(&options, "--version"), 0);
    ck_assert_int_eq(options.action, OPTIONS_VERSION);
    ck_assert_int_eq(parse(&options, "--help"), 0);
    ck_assert_int_eq(options.action, OPTIONS_HELP);
}
END_TEST

START_TEST(options_that_are_wrong)
{
    static const char *const lines[] = {
        "",
        "--ptcl nothing",
        "--ptcl 300",
        "--ptcl icmp", /* not served yet */
        "--ptcl",
        "--ptcl tcp --instance TCP",
        "--ptcl tcp --instance ../x",
        "--ptcl tcp --instance a.b",
        "--ptcl tcp --instance socksd",
        "--ptcl tcp --instance=",
        "--instance mine",
        "--ptcl 6 --instance 0123456789012345678901234567890123456789012345678901234567890123",
        "--ptcl tcp --plane xdp",
        "--ptcl tcp --plane",
        "--ptcl tcp --attach xdp",
        "--ptcl tcp --attach",
        "--detach",
        "--ptcl tcp --ready-fd -1",
        "--ptcl tcp --ready-fd 3x",
        "--ptcl tcp --ready-fd 99999999999999999999",
        "--ptcl tcp extra",
        "--nonsense",
        "-x",
    };
    struct options options;

    ck_assert_ptr_nonnull(freopen("/dev/null", "w", stderr)); /* the messages are right */
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        ck_assert_msg(parse(&options, lines[i]) == -EINVAL, "taken: %s", lines[i]);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("relayd_config");
    TCase *tcase = tcase_create("relayd_config");

    tcase_add_test(tcase, defaults);
    tcase_add_test(tcase, every_key);
    tcase_add_loop_test(tcase, printed_and_loaded_again_it_is_the_same, 0, 2);
    tcase_add_test(tcase, errors_say_where_and_why);
    tcase_add_test(tcase, interfaces_may_be_one_or_all);
    tcase_add_test(tcase, the_schema_is_sound);
    tcase_add_test(tcase, every_option_is_explained);
    tcase_add_test(tcase, the_manual_has_every_option);
    tcase_add_test(tcase, the_example_is_right);
    tcase_add_test(tcase, options_that_are_right);
    tcase_add_test(tcase, options_that_are_wrong);
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
