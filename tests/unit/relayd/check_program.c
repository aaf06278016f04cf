/*
 * The kernel's part of the BPF plane as relayd holds it: loaded, attached in both ways, without
 * capabilities, and gone. PLANE-ATTACH-010, -040, -050, PLANE-CAP-010, -030.
 */
#include <bpf/bpf.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/log/log.h"
#include "common/system/privileges.h"
#include "proto/n2.h"
#include "relayd/plane/bpf/program.h"
#include "relayd/plane/bpf/stub.h"
#include "relayd/plane/bpf/support.h"

static struct program *program;
static const char *why;

/* ---- a network of the test's own ------------------------------------------------------------- */

static void command(const char *text)
{
    ck_assert_msg(system(text) == 0, "%s", text);
}

static uint32_t index_of(const char *name)
{
    const uint32_t index = if_nametoindex(name);

    ck_assert_msg(index != 0, "no interface %s", name);
    return index;
}

static void setup(void)
{
    ck_assert_msg(unshare(CLONE_NEWNET) == 0, "unshare: %s", strerror(errno));
    log_setup("check", LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    command("ip link add ether0 type veth peer name ether1");
    command("ip tuntap add bare0 mode tun");
    program = NULL;
    why = NULL;
}

static void teardown(void)
{
    program_free(program);
}

static int load(enum attach_mode mode, const char *instance)
{
    const struct program_config config = {
        .protocol = IPPROTO_UDP, .mode = mode, .slots = 100, .endpoints = 50, .instance = instance};

    return program_load(&program, &config, &why);
}

static void must_load(enum attach_mode mode, const char *instance)
{
    const int r = load(mode, instance);

    ck_assert_msg(r == 0, "%s: %s", strerror(-r), why);
}

/* Filters of clsact at the interface's ingress whose line has the text. */
static unsigned filters(const char *interface, const char *text)
{
    char line[512];
    unsigned count = 0;

    snprintf(line, sizeof(line), "tc filter show dev %s ingress", interface);
    FILE *output = popen(line, "r");
    ck_assert_ptr_nonnull(output);
    while (fgets(line, sizeof(line), output) != NULL)
        count += strstr(line, text) != NULL;
    pclose(output);
    return count;
}

/* ---- loading --------------------------------------------------------------------------------- */

START_TEST(tables_are_as_large_as_they_were_ordered)
{
    must_load(ATTACH_AUTO, "udp");
    const struct bpf_tables *tables = program_tables(program);
    const struct bpf_flow_key key = {.source_port = 7};
    struct bpf_flow flow = {.slot = 99, .generation = 3}, found = {0};
    const struct bpf_endpoint_key endpoint = {.port = 9};
    uint32_t row = 49;

    ck_assert_uint_eq(tables->slot_count, 100);
    ck_assert_uint_eq(tables->endpoint_count, 50);
    ck_assert_uint_ne(tables->mark, 0);
    /* Each row can be reached, and is empty. */
    for (uint32_t i = 0; i < 100; i++)
        ck_assert_uint_eq(tables->slots[i].generation++, 0);
    for (uint32_t i = 0; i < BPF_HOPS_MAX; i++)
        ck_assert_uint_eq(tables->hops[i].mtu++, 0);
    for (uint32_t i = 0; i < 50; i++)
        ck_assert_uint_eq(tables->strangers[i].packets++, 0);
    ck_assert_uint_eq(tables->globals->peers[BPF_PEERS_MAX - 1], 0);
    ck_assert_uint_eq(tables->globals->events_lost, 0);
    ck_assert_int_eq(bpf_map_update_elem(tables->flows_fd, &key, &flow, BPF_NOEXIST), 0);
    ck_assert_int_eq(bpf_map_lookup_elem(tables->flows_fd, &key, &found), 0);
    ck_assert_uint_eq(found.slot, 99);
    ck_assert_int_eq(bpf_map_update_elem(tables->endpoints_fd, &endpoint, &row, BPF_NOEXIST), 0);
}
END_TEST

START_TEST(two_programs_have_marks_of_their_own)
{
    must_load(ATTACH_AUTO, "udp");
    const uint32_t mark = program_tables(program)->mark;
    program_free(program);
    must_load(ATTACH_AUTO, "udp");
    ck_assert_uint_ne(program_tables(program)->mark, mark);
}
END_TEST

START_TEST(nothing_is_counted_yet)
{
    uint64_t counts[BPF_COUNT_END];

    must_load(ATTACH_AUTO, "udp");
    memset(counts, 0xff, sizeof(counts));
    program_counters(program, counts);
    for (size_t i = 0; i < BPF_COUNT_END; i++)
        ck_assert_uint_eq(counts[i], 0);
}
END_TEST

static void lay_down(cap_value_t capability)
{
    const cap_value_t values[] = {capability, CAP_SYS_ADMIN};
    cap_t capabilities = cap_get_proc();

    ck_assert_int_eq(cap_set_flag(capabilities, CAP_EFFECTIVE, 2, values, CAP_CLEAR), 0);
    ck_assert_int_eq(cap_set_proc(capabilities), 0);
    cap_free(capabilities);
}

START_TEST(a_missing_capability_is_named)
{
    static const struct {
        cap_value_t capability;
        const char *why;
    } cases[] = {
        {CAP_BPF, "CAP_BPF is missing"},
        {CAP_PERFMON, "CAP_PERFMON is missing"},
        {CAP_NET_ADMIN, "CAP_NET_ADMIN is missing"},
    };

    lay_down(cases[_i].capability);
    ck_assert_int_eq(load(ATTACH_AUTO, "udp"), -EPERM);
    ck_assert_str_eq(why, cases[_i].why);
}
END_TEST

/* Its own words on standard error are for level debug alone. */
START_TEST(a_failure_is_quiet_and_explained)
{
    /* Above the kernel's limit, and above what its interface can express. */
    static const uint32_t slots[] = {1u << 29, UINT32_MAX};
    const struct program_config config = {
        .protocol = IPPROTO_TCP, .slots = slots[_i], .endpoints = 1, .instance = "tcp"};
    const int standard_error = dup(2), text = memfd_create("stderr", MFD_CLOEXEC);

    ck_assert_int_eq(dup2(text, 2), 2);
    const int r = program_load(&program, &config, &why);
    ck_assert_int_eq(dup2(standard_error, 2), 2);
    ck_assert_int_eq(r, -E2BIG);
    ck_assert_str_eq(why, "its tables are larger than the kernel allows");
    ck_assert_int_eq(lseek(text, 0, SEEK_END), 0);
}
END_TEST

START_TEST(libbpf_speaks_through_the_log)
{
    char said[65536] = "";
    const struct program_config config = {
        .protocol = IPPROTO_TCP, .slots = 1u << 29, .endpoints = 1, .instance = "tcp"};
    const int standard_error = dup(2), text = memfd_create("stderr", MFD_CLOEXEC);

    log_setup("check", LOG_LEVEL_DEBUG, LOG_FORMAT_TEXT);
    ck_assert_int_eq(dup2(text, 2), 2);
    ck_assert_int_lt(program_load(&program, &config, &why), 0);
    ck_assert_int_eq(dup2(standard_error, 2), 2);
    ck_assert_int_gt(pread(text, said, sizeof(said) - 1, 0), 0);
    unsigned lines = 0;
    char *state = NULL;
    for (char *line = strtok_r(said, "\n", &state); line; line = strtok_r(NULL, "\n", &state)) {
        ck_assert_msg(strstr(line, " debug libbpf text=") != NULL, "%s", line);
        lines++;
    }
    ck_assert_uint_gt(lines, 0);
}
END_TEST

START_TEST(reasons_fit_where_they_are_shown)
{
    static const int errors[] = {EPERM, ENOMEM, E2BIG, ENOSYS, EMFILE, EINVAL, EACCES};

    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
        ck_assert_uint_le(strlen(support_explain(-errors[i])), N2_LABEL_MAX);
    ck_assert_str_eq(support_explain(-ENOMEM), "there is no memory for its tables");
}
END_TEST

static bool kernel_is_at_least(unsigned major, unsigned minor)
{
    struct utsname name;
    unsigned is_major = 0, is_minor = 0;

    ck_assert_int_eq(uname(&name), 0);
    ck_assert_int_eq(sscanf(name.release, "%u.%u", &is_major, &is_minor), 2);
    return is_major > major || (is_major == major && is_minor >= minor);
}

/* Stable branches have it as well, but these kernels in any case. */
START_TEST(the_flag_of_ipv6_checksums_is_found)
{
    const uint32_t flag = support_csum_ipv6_flag();

    ck_assert_msg(flag == 0x80 || (flag == 0 && !kernel_is_at_least(6, 16)), "%#x", flag);
}
END_TEST

/* ---- attaching ------------------------------------------------------------------------------- */

static const enum attach_mode modes[] = {ATTACH_TCX, ATTACH_CLSACT};

/* Forced, or chosen. */
static void must_load_mode(int which)
{
    if (modes[which] == ATTACH_TCX && !kernel_is_at_least(6, 6)) {
        ck_assert_int_eq(load(ATTACH_TCX, "udp"), -EOPNOTSUPP);
        ck_assert_str_eq(why, "the kernel has no TCX (Linux 6.6)");
        exit(0);
    }
    must_load(modes[which], "udp");
    ck_assert_int_eq(program_mode(program), modes[which]);
}

START_TEST(tcx_is_chosen_where_there_is_tcx)
{
    must_load(ATTACH_AUTO, "udp");
    ck_assert_int_eq(program_mode(program), kernel_is_at_least(6, 6) ? ATTACH_TCX : ATTACH_CLSACT);
}
END_TEST

START_TEST(it_is_attached_and_detached)
{
    const uint32_t ether = index_of("ether0"), bare = index_of("bare0");

    must_load_mode(_i);
    ck_assert(!program_is_attached(program, ether));
    for (int again = 0; again < 2; again++) {
        ck_assert_int_eq(program_attach(program, ether, false), 0);
        ck_assert_int_eq(program_attach(program, bare, true), 0);
    }
    ck_assert(program_is_attached(program, ether) && program_is_attached(program, bare));
    ck_assert_uint_eq(filters("ether0", "sockst.udp"), modes[_i] == ATTACH_CLSACT);
    ck_assert_uint_eq(filters("bare0", "sockst.udp"), modes[_i] == ATTACH_CLSACT);
    for (int again = 0; again < 2; again++)
        program_detach(program, ether);
    ck_assert(!program_is_attached(program, ether) && program_is_attached(program, bare));
    ck_assert_uint_eq(filters("ether0", "sockst.udp"), 0);
    ck_assert_int_eq(program_attach(program, ether, false), 0);
    program_free(program);
    program = NULL;
    ck_assert_uint_eq(filters("ether0", "sockst.udp") + filters("bare0", "sockst.udp"), 0);
}
END_TEST

START_TEST(what_is_no_interface_is_refused)
{
    must_load_mode(_i);
    const int r = program_attach(program, 4711, false);
    ck_assert_msg(r == -ENODEV || r == -EINVAL, "%d", r);
    ck_assert(!program_is_attached(program, 4711));
    program_detach(program, 4711);
}
END_TEST

/* With the same index, and nobody has said that it was away. */
START_TEST(an_interface_that_came_back_is_attached_again)
{
    char line[128];
    const uint32_t index = index_of("ether0");

    must_load_mode(_i);
    ck_assert_int_eq(program_attach(program, index, false), 0);
    command("ip link delete ether0");
    snprintf(line, sizeof(line), "ip link add ether0 index %u type veth peer name ether1", index);
    command(line);
    ck_assert_int_eq(privileges_drop(), 0);
    const int r = program_attach(program, index, false);
    ck_assert_int_eq(r, modes[_i] == ATTACH_TCX ? 0 : -EPERM);
    ck_assert_int_eq(program_is_attached(program, index), r == 0);
}
END_TEST

START_TEST(a_new_interface_without_capabilities)
{
    must_load_mode(_i);
    const uint32_t index = index_of("ether1");
    ck_assert_int_eq(privileges_drop(), 0);
    ck_assert(privileges_none_left());
    ck_assert_int_eq(program_attach(program, index, false), modes[_i] == ATTACH_TCX ? 0 : -EPERM);
    ck_assert_int_eq(program_is_attached(program, index), modes[_i] == ATTACH_TCX);
}
END_TEST

/* Everything that is done at run time. */
START_TEST(tables_need_no_capability)
{
    struct bpf_flow_key key = {.source_port = 7};
    struct bpf_flow flow = {.slot = 1};
    uint64_t counts[BPF_COUNT_END];

    must_load(ATTACH_AUTO, "udp");
    const struct bpf_tables *tables = program_tables(program);
    ck_assert_int_eq(privileges_drop(), 0);
    ck_assert_int_eq(bpf_map_update_elem(tables->flows_fd, &key, &flow, BPF_NOEXIST), 0);
    ck_assert_int_eq(bpf_map_update_elem(tables->flows_fd, &key, &flow, BPF_NOEXIST), -EEXIST);
    ck_assert_int_eq(bpf_map_lookup_elem(tables->flows_fd, &key, &flow), 0);
    ck_assert_int_eq(bpf_map_delete_elem(tables->flows_fd, &key), 0);
    tables->slots[5].generation = 1;
    program_counters(program, counts);
    ck_assert_uint_eq(counts[BPF_COUNT_STALE], 0);
}
END_TEST

/* ---- stubs ----------------------------------------------------------------------------------- */

START_TEST(names_of_stubs)
{
    static const struct {
        const char *instance, *name;
    } cases[] = {
        {"tcp", "sockst.tcp"},    {"tcp-2", "sockst.tcp.2"}, {"udp-1234", "sockst.udp.1234"},
        {"tcp-12345", "sockst_"}, {"tcp-12346", "sockst_"},
    };
    char name[STUB_NAME_SIZE], before[STUB_NAME_SIZE] = "";

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        stub_name(cases[i].instance, name);
        ck_assert_uint_lt(strlen(name), STUB_NAME_SIZE);
        if (cases[i].name[6] == '.')
            ck_assert_str_eq(name, cases[i].name);
        else
            ck_assert_uint_eq(strspn(name + 7, "0123456789abcdef"), 8);
        ck_assert_str_ne(name, before);
        memcpy(before, name, sizeof(name));
    }
}
END_TEST

/* As a process that was killed leaves them: nobody had the capability to remove them. */
static void leave_stubs(const char *instance)
{
    const pid_t pid = fork();
    int status;

    if (pid == 0) {
        if (load(ATTACH_CLSACT, instance) < 0 ||
            program_attach(program, index_of("ether0"), false) < 0 ||
            program_attach(program, index_of("bare0"), true) < 0)
            _exit(1);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
}

START_TEST(stubs_are_removed_by_whose_they_are)
{
    command("tc qdisc add dev ether0 clsact");
    command("tc filter add dev ether0 ingress bpf bytecode '1,6 0 0 0,'");
    leave_stubs("tcp");
    leave_stubs("tcp-2");
    leave_stubs("tcp");
    ck_assert_uint_eq(filters("ether0", "sockst.tcp:["), 2);
    ck_assert_uint_eq(filters("ether0", "sockst.tcp.2:["), 1);
    ck_assert_int_eq(program_remove_stubs("tcp-3"), 0);
    ck_assert_int_eq(program_remove_stubs("tcp"), 4);
    ck_assert_uint_eq(filters("ether0", "sockst.tcp:["), 0);
    ck_assert_uint_eq(filters("ether0", "sockst.tcp.2:["), 1);
    ck_assert_uint_eq(filters("bare0", "sockst.tcp.2:["), 1);
    ck_assert_int_eq(program_remove_stubs("tcp-2"), 2);
    ck_assert_int_eq(program_remove_stubs("tcp-2"), 0);
    ck_assert_uint_eq(filters("ether0", "bytecode"), 1);
}
END_TEST

START_TEST(stubs_are_not_removed_without_permission)
{
    leave_stubs("tcp");
    ck_assert_int_eq(privileges_drop(), 0);
    ck_assert_int_eq(program_remove_stubs("udp"), 0); /* there is none */
    ck_assert_int_eq(program_remove_stubs("tcp"), -EPERM);
}
END_TEST

/* clsact is not the only one that holds filters of ingress. */
START_TEST(an_ingress_qdisc_that_is_there_will_do)
{
    command("tc qdisc add dev ether0 ingress");
    must_load(ATTACH_CLSACT, "udp");
    ck_assert_int_eq(program_attach(program, index_of("ether0"), false), 0);
    ck_assert_uint_eq(filters("ether0", "sockst.udp:["), 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("program");
    TCase *tcase = tcase_create("program");

    if (geteuid() != 0) {
        fprintf(stderr, "skipped: needs root\n");
        return 77;
    }
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, tables_are_as_large_as_they_were_ordered);
    tcase_add_test(tcase, two_programs_have_marks_of_their_own);
    tcase_add_test(tcase, nothing_is_counted_yet);
    tcase_add_loop_test(tcase, a_missing_capability_is_named, 0, 3);
    tcase_add_loop_test(tcase, a_failure_is_quiet_and_explained, 0, 2);
    tcase_add_test(tcase, libbpf_speaks_through_the_log);
    tcase_add_test(tcase, reasons_fit_where_they_are_shown);
    tcase_add_test(tcase, the_flag_of_ipv6_checksums_is_found);
    tcase_add_test(tcase, tcx_is_chosen_where_there_is_tcx);
    tcase_add_loop_test(tcase, it_is_attached_and_detached, 0, 2);
    tcase_add_loop_test(tcase, what_is_no_interface_is_refused, 0, 2);
    tcase_add_loop_test(tcase, an_interface_that_came_back_is_attached_again, 0, 2);
    tcase_add_loop_test(tcase, a_new_interface_without_capabilities, 0, 2);
    tcase_add_test(tcase, tables_need_no_capability);
    tcase_add_test(tcase, names_of_stubs);
    tcase_add_test(tcase, stubs_are_removed_by_whose_they_are);
    tcase_add_test(tcase, stubs_are_not_removed_without_permission);
    tcase_add_test(tcase, an_ingress_qdisc_that_is_there_will_do);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
