/*
 * What relayd may do: everything it needs at start, nothing afterwards, and what it does without
 * the BPF plane. PLANE-CAP-010, PLANE-ATTACH-070.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/ptcl.h"
#include "tests/harness/daemons.h"
#include "tests/harness/n2_client.h"
#include "tests/harness/proc.h"
#include "tests/harness/sockets.h"
#include "tests/harness/traffic.h"
#include "tests/harness/wait.h"

#define NOBODY 65534
#define UNIT_CAPABILITIES "+net_admin,+net_raw,+bpf,+perfmon" /* as the unit gives them */

static struct lab *lab;
static struct daemons daemons;

static void setup(void)
{
    lab = lab_new();
    memset(&daemons, 0, sizeof(daemons));
}

static void teardown(void)
{
    daemons_stop(&daemons);
    lab_free(lab);
}

static const char *const modes[] = {"tcx", "clsact"};

/* relayd for UDP in the lab; as root, or as nobody with (or without) ambient capabilities. */
enum who { ROOT, AMBIENT, NOBODY_AT_ALL };

static bool start(enum who who, const char *mode, const char *plane)
{
    const struct daemons_options options = {.relayd = {plane}};
    const char *const program[] = {
        program_relayd(), "-c", lab_path(lab, "relayd.yaml"), "--ptcl", "udp", "--attach", mode};
    struct process_spec spec = {.name = "relayd-udp"};
    size_t count = 0;

    daemons_write_config(&daemons, lab, &options);
    ck_assert_int_eq(chown(daemons.n2, NOBODY, NOBODY), 0);
    ck_assert_int_eq(chown(daemons.admin, NOBODY, NOBODY), 0);
    if (who == AMBIENT) {
        const char *const wrapper[] = {"setpriv",
                                       "--reuid=65534",
                                       "--regid=65534",
                                       "--clear-groups",
                                       "--inh-caps=" UNIT_CAPABILITIES,
                                       "--ambient-caps=" UNIT_CAPABILITIES,
                                       "--"};
        for (size_t i = 0; i < sizeof(wrapper) / sizeof(wrapper[0]); i++)
            spec.argv[count++] = wrapper[i];
    } else if (who == NOBODY_AT_ALL) {
        spec.uid = spec.gid = NOBODY;
    }
    for (size_t i = 0; i < sizeof(program) / sizeof(program[0]); i++)
        spec.argv[count++] = program[i];
    return process_try_start(lab, LAB_RELAY, &spec, &daemons.relayd_udp);
}

static struct n2_message order_relay(int n2, const struct server *server)
{
    const struct n2_message order =
        n2_client_order(1, PTCL_UDP, at(LAB_CLIENT_V4, 4242), server_endpoint(server));

    return n2_client_ask(n2, &order);
}

static int open_n2(void)
{
    char path[160];

    snprintf(path, sizeof(path), "%s/udp.sock", daemons.n2);
    return n2_client_open(path);
}

static void check_datagram(struct endpoint bound)
{
    const int fd = socket_bound(lab, LAB_CLIENT, SOCK_DGRAM, at(LAB_CLIENT_V4, 4242), NULL);
    char answer[8];

    socket_send_to(fd, bound, "there?", 6);
    ck_assert_int_eq(socket_receive(fd, answer, sizeof(answer), PATIENCE_MS), 6);
    close(fd);
}

/* What holds when it is ready. */
static void check_no_capability(enum who who)
{
    const pid_t pid = process_pid(daemons.relayd_udp);

    ck_assert_str_eq(proc_status(pid, "CapPrm"), "0000000000000000");
    ck_assert_str_eq(proc_status(pid, "CapEff"), "0000000000000000");
    ck_assert_str_eq(proc_status(pid, "CapInh"), "0000000000000000");
    ck_assert_str_eq(proc_status(pid, "CapAmb"), "0000000000000000");
    ck_assert_str_eq(proc_status(pid, "NoNewPrivs"), "1");
    if (who == ROOT)
        ck_assert_str_eq(proc_status(pid, "CapBnd"), "0000000000000000");
    if (!built_with_sanitizer())
        ck_assert_str_eq(proc_status(pid, "Seccomp"), "2");
}

/* And the kernel carries packets. */
START_TEST(ready_it_has_no_capability)
{
    const enum who who = _i / 2 == 0 ? ROOT : AMBIENT;

    ck_assert_msg(start(who, modes[_i % 2], "plane: bpf"), "%s", process_log(daemons.relayd_udp));
    check_no_capability(who);
    struct server *echo = server_echo(lab, SOCK_DGRAM);
    const int n2 = open_n2();
    const struct n2_message opened = order_relay(n2, echo);
    ck_assert_int_eq(opened.type, N2_RELAY_OPENED);
    ck_assert_int_eq(opened.relay_opened.plane, N2_PLANE_BPF);
    check_datagram(opened.relay_opened.bound);
    check_no_capability(who);
    close(n2);
}
END_TEST

static bool status_has(const char *text)
{
    json_t *status = daemons_relayctl(&daemons, "status", NULL);
    char *shown = json_dumps(status, 0);
    const bool has = strstr(shown, text) != NULL;

    free(shown);
    json_decref(status);
    return has;
}

START_TEST(without_permission_sockets_carry_all)
{
    ck_assert(start(NOBODY_AT_ALL, "auto", "plane: auto"));
    check_no_capability(NOBODY_AT_ALL);
    struct server *echo = server_echo(lab, SOCK_DGRAM);
    const int n2 = open_n2();
    const struct n2_message opened = order_relay(n2, echo);
    ck_assert_int_eq(opened.type, N2_RELAY_OPENED);
    ck_assert_int_eq(opened.relay_opened.plane, N2_PLANE_SOCKET);
    ck_assert_str_eq(opened.relay_opened.plane_reason, "CAP_BPF is missing");
    check_datagram(opened.relay_opened.bound);
    ck_assert_uint_eq(process_log_count(daemons.relayd_udp, "no-bpf-plane"), 1);
    ck_assert(process_log_has(daemons.relayd_udp, "no-bpf-plane", "CAP_BPF is missing", NULL));
    ck_assert(status_has("the BPF plane is not used: CAP_BPF is missing"));
    close(n2);
}
END_TEST

START_TEST(without_permission_plane_bpf_does_not_start)
{
    ck_assert(!start(NOBODY_AT_ALL, "auto", "plane: bpf"));
    ck_assert_int_eq(process_wait(daemons.relayd_udp, PATIENCE_MS), EXIT_FAILURE);
    ck_assert(process_log_has(daemons.relayd_udp, "error start-failed", "BPF plane",
                              "CAP_BPF is missing", NULL));
    process_free(daemons.relayd_udp);
    daemons.relayd_udp = NULL;
}
END_TEST

START_TEST(plane_socket_wants_no_permission)
{
    ck_assert(start(_i == 0 ? ROOT : NOBODY_AT_ALL, "auto", "plane: socket"));
    ck_assert_uint_eq(process_log_count(daemons.relayd_udp, "no-bpf-plane"), 0);
    ck_assert(!status_has("the BPF plane is not used"));
    ck_assert(!status_has("bpf_slots"));
}
END_TEST

int main(void)
{
    lab_require();
    Suite *suite = suite_create("capabilities");
    TCase *tcase = tcase_create("capabilities");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, ready_it_has_no_capability, 0, 4);
    tcase_add_test(tcase, without_permission_sockets_carry_all);
    tcase_add_test(tcase, without_permission_plane_bpf_does_not_start);
    tcase_add_loop_test(tcase, plane_socket_wants_no_permission, 0, 2);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
