/*
 * Which interfaces the program is attached to, and that it follows them. PLANE-ATTACH-050, -060.
 */
#include <check.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log/log.h"
#include "common/system/privileges.h"
#include "relayd/plane/bpf/interfaces.h"

static uv_loop_t loop;
static struct program *program;
static struct interfaces *interfaces;
static struct relayd_config config;
static unsigned changes;

static void command(const char *text)
{
    ck_assert_msg(system(text) == 0, "%s", text);
}

static void load(enum attach_mode mode)
{
    const struct program_config wanted = {
        .protocol = IPPROTO_UDP, .mode = mode, .slots = 2, .endpoints = 2, .instance = "udp"};
    const char *why = NULL;
    const int r = program_load(&program, &wanted, &why);

    ck_assert_msg(r == 0, "%s: %s", strerror(-r), why);
}

static void setup(void)
{
    log_setup("check", LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
    ck_assert_msg(unshare(CLONE_NEWNET) == 0, "unshare: %s", strerror(errno));
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    command("ip link set lo up");
    command("ip link add ether0 type veth peer name ether1");
    command("ip tuntap add bare0 mode tun");
    command("ip tuntap add tap0 mode tap");
    changes = 0;
    interfaces = NULL;
    program = NULL;
}

static void teardown(void)
{
    interfaces_close(interfaces);
    program_free(program);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
    config_free(relayd_schema, &config);
}

static void on_changed(void *user)
{
    ck_assert_ptr_eq(user, &changes);
    changes++;
}

static int open_interfaces(const char *names)
{
    struct config_error error;
    char text[128];

    snprintf(text, sizeof(text), "interfaces: %s", names);
    ck_assert_msg(config_load_text(relayd_schema, &config, sizeof(config), "test", text,
                                   strlen(text), &error) == 0,
                  "%s", error.text);
    return interfaces_open(&interfaces, &loop, &config, program, on_changed, &changes);
}

static bool has(const char *name)
{
    const uint32_t index = if_nametoindex(name);
    const bool attached = index != 0 && interfaces_has(interfaces, index);

    ck_assert_int_eq(attached, index != 0 && program_is_attached(program, index));
    return attached;
}

static void on_tick(uv_timer_t *timer)
{
    (void)timer;
}

/* The kernel has told before the command returned. */
static void turn(void)
{
    static uv_timer_t timer;

    uv_timer_init(&loop, &timer);
    uv_timer_start(&timer, on_tick, 10000, 0);
    for (int i = 0; i < 3; i++)
        uv_run(&loop, UV_RUN_NOWAIT);
    uv_close((uv_handle_t *)&timer, NULL);
    uv_run(&loop, UV_RUN_NOWAIT);
}

static bool warns_of(const char *text)
{
    struct admin_status status = {0};

    interfaces_status(interfaces, &status);
    for (size_t i = 0; i < status.warning_count; i++)
        if (strstr(status.warnings[i], text) != NULL)
            return true;
    return false;
}

static unsigned warnings(void)
{
    struct admin_status status = {0};

    interfaces_status(interfaces, &status);
    return status.warning_count;
}

/* UINT64_MAX: there is none of that name. */
static uint64_t counter(const char *name)
{
    struct admin_status status = {0};

    interfaces_status(interfaces, &status);
    for (size_t i = 0; i < status.counter_count; i++)
        if (strcmp(status.counters[i].name, name) == 0)
            return status.counters[i].value;
    return UINT64_MAX;
}

/* ---- which ----------------------------------------------------------------------------------- */

START_TEST(all_that_are_suitable)
{
    load(ATTACH_AUTO);
    ck_assert_int_eq(open_interfaces("auto"), 0);
    ck_assert(has("ether0") && has("ether1") && has("tap0") && has("bare0"));
    ck_assert(!has("lo"));
    ck_assert_uint_eq(warnings(), 0);
    ck_assert_uint_eq(counter("bpf_interfaces"), 4);
    ck_assert_uint_eq(counter("bpf_interface_bare0"), if_nametoindex("bare0"));
    ck_assert_uint_eq(counter("bpf_interface_lo"), UINT64_MAX);
    ck_assert_uint_eq(changes, 0);
}
END_TEST

START_TEST(those_that_are_named)
{
    load(ATTACH_AUTO);
    ck_assert_int_eq(open_interfaces("[ether1, later0, lo]"), 0);
    ck_assert(has("ether1") && !has("ether0") && !has("tap0") && !has("bare0") && !has("lo"));
    ck_assert(warns_of("later0 is not there"));
    ck_assert(warns_of("lo is of a kind"));
    ck_assert_uint_eq(warnings(), 2);
    command("ip link add later0 type bridge");
    turn();
    ck_assert(has("later0"));
    ck_assert_uint_eq(changes, 1);
    ck_assert_uint_eq(warnings(), 1);
}
END_TEST

/* It may come. */
START_TEST(none_of_those_that_are_named_is_there)
{
    load(ATTACH_AUTO);
    ck_assert_int_eq(open_interfaces("[later0]"), 0);
    ck_assert_uint_eq(counter("bpf_interfaces"), 0);
}
END_TEST

START_TEST(nothing_can_be_attached)
{
    load(ATTACH_CLSACT);
    ck_assert_int_eq(privileges_drop(), 0);
    ck_assert_int_eq(open_interfaces("[ether0, later0]"), -EPERM);
    config_free(relayd_schema, &config);
    config = (struct relayd_config){0};
    ck_assert_int_eq(open_interfaces("auto"), -EPERM);
}
END_TEST

START_TEST(ports_are_left_alone)
{
    command("ip link add bridge0 type bridge");
    command("ip link set ether0 master bridge0");
    load(ATTACH_AUTO);
    ck_assert_int_eq(open_interfaces(_i == 0 ? "auto" : "[ether0, ether1, bridge0]"), 0);
    ck_assert(has("bridge0") && has("ether1") && !has("ether0"));
    ck_assert_int_eq(warns_of("ether0 is a port of another one"), _i == 1);
    command("ip link set ether1 master bridge0");
    turn();
    ck_assert(!has("ether1"));
    ck_assert_uint_eq(changes, 1);
    command("ip link set ether0 nomaster");
    turn();
    ck_assert(has("ether0"));
    ck_assert_uint_eq(changes, 2);
}
END_TEST

/* ---- they come and go ------------------------------------------------------------------------ */

START_TEST(an_interface_comes_back)
{
    load(ATTACH_TCX);
    ck_assert_int_eq(open_interfaces("[ether0, bare0]"), 0);
    /* The commands below have capabilities, the object under test has not. */
    FILE *shell = popen("exec sh", "w");
    ck_assert_ptr_nonnull(shell);
    ck_assert_int_eq(privileges_drop(), 0);
    for (unsigned round = 1; round <= 3; round++) {
        fputs("ip link delete ether0\n", shell);
        fflush(shell);
        while (!warns_of("ether0 is not there"))
            turn();
        ck_assert(!has("ether0") && has("bare0"));
        ck_assert_uint_eq(changes, 2 * round - 1);
        fputs("ip link add ether0 type veth peer name ether1\n", shell);
        fflush(shell);
        while (!has("ether0"))
            turn();
        ck_assert_uint_eq(changes, 2 * round);
        ck_assert_uint_eq(warnings(), 0);
    }
    ck_assert_int_eq(pclose(shell), 0);
}
END_TEST

START_TEST(a_stub_cannot_come_back)
{
    load(ATTACH_CLSACT);
    ck_assert_int_eq(open_interfaces("auto"), 0);
    ck_assert(has("ether0"));
    FILE *shell = popen("exec sh", "w");
    ck_assert_ptr_nonnull(shell);
    ck_assert_int_eq(privileges_drop(), 0);
    fputs(
        "ip link delete ether0; ip link add ether0 type veth peer name ether1\n"
        "ip link add last0 type bridge\n",
        shell);
    ck_assert_int_eq(pclose(shell), 0);
    turn();
    ck_assert(!has("ether0") && !has("last0") && has("bare0"));
    ck_assert(warns_of("not attached to ether0 (Operation not permitted)"));
    ck_assert(warns_of("until relayd is started again"));
    ck_assert_uint_ge(changes, 1);
}
END_TEST

START_TEST(a_new_name_is_judged_anew)
{
    load(ATTACH_AUTO);
    ck_assert_int_eq(open_interfaces("[wan0]"), 0);
    ck_assert(!has("ether0"));
    command("ip link set ether0 name wan0");
    turn();
    ck_assert(has("wan0"));
    command("ip link set wan0 name ether0");
    turn();
    ck_assert(!has("ether0"));
    ck_assert_uint_eq(changes, 2);
}
END_TEST

/* More than the socket holds while the loop stands still: everything is read again. */
START_TEST(lost_notifications_are_made_up_for)
{
    load(ATTACH_AUTO);
    ck_assert_int_eq(open_interfaces("auto"), 0);
    const uint32_t index = if_nametoindex("ether0");
    char line[160];

    command(
        "for i in $(seq 4000); do echo link set bare0 txqueuelen $((i + 1)); done "
        "| ip -batch -");
    snprintf(line, sizeof(line),
             "ip link delete ether0 && ip link add ether0 index %u type veth peer name ether1 && "
             "ip link delete tap0 && ip link add last0 type bridge",
             index);
    command(line);
    for (int i = 0; i < 200; i++)
        turn();
    ck_assert(has("ether0") && has("ether1") && has("last0") && has("bare0"));
    ck_assert_uint_eq(counter("bpf_interfaces"), 4);
    ck_assert_uint_eq(counter("bpf_interface_tap0"), UINT64_MAX);
    ck_assert_uint_ge(changes, 1);
}
END_TEST

START_TEST(closed_it_is_attached_nowhere)
{
    load(ATTACH_AUTO);
    ck_assert_int_eq(open_interfaces("auto"), 0);
    interfaces_close(interfaces);
    interfaces = NULL;
    ck_assert(!program_is_attached(program, if_nametoindex("ether0")));
    ck_assert_uint_eq(changes, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("interfaces");
    TCase *tcase = tcase_create("interfaces");

    if (geteuid() != 0) {
        fprintf(stderr, "skipped: needs root\n");
        return 77;
    }
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, all_that_are_suitable);
    tcase_add_test(tcase, those_that_are_named);
    tcase_add_test(tcase, none_of_those_that_are_named_is_there);
    tcase_add_test(tcase, nothing_can_be_attached);
    tcase_add_loop_test(tcase, ports_are_left_alone, 0, 2);
    tcase_add_test(tcase, an_interface_comes_back);
    tcase_add_test(tcase, a_stub_cannot_come_back);
    tcase_add_test(tcase, a_new_name_is_judged_anew);
    tcase_add_test(tcase, lost_notifications_are_made_up_for);
    tcase_add_test(tcase, closed_it_is_attached_nowhere);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
