/*
 * What runs out: ports, descriptors, sessions, time. The answer is a refusal, and service resumes.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "proto/ptcl.h"
#include "tests/harness/daemons.h"
#include "tests/harness/n1_client.h"
#include "tests/harness/n2_client.h"
#include "tests/harness/proc.h"
#include "tests/harness/traffic.h"
#include "tests/harness/wait.h"

static struct lab *lab;
static struct daemons daemons;
static struct association associations[3];

static void setup(void)
{
    struct rlimit limit;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    lab = lab_new();
    daemons = (struct daemons){.lab = lab};
}

static void teardown(void)
{
    daemons_stop(&daemons);
    lab_free(lab);
}

static void check_one(struct server *tcp, struct server *udp)
{
    if (tcp != NULL) {
        struct association association = association_tcp(lab, server_endpoint(tcp));
        association_check_echo(&association);
        association_close(&association);
    }
    if (udp != NULL) {
        struct association association = association_udp(lab, server_endpoint(udp));
        association_check_echo(&association);
        association_close(&association);
    }
}

/* CPU time of a process in clock ticks (10 ms). */
static uint64_t cpu_ticks(pid_t pid)
{
    char path[64], text[1024];
    unsigned long long user = 0, system = 0;
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    ck_assert_ptr_nonnull(file);
    ck_assert_ptr_nonnull(fgets(text, sizeof(text), file));
    fclose(file);
    const char *after = strrchr(text, ')');
    ck_assert_int_eq(
        sscanf(after, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user, &system),
        2);
    return user + system;
}

/* For one second the process does next to nothing. */
static void check_idle(pid_t pid, const char *what)
{
    const uint64_t before = cpu_ticks(pid);
    const int64_t end = now_ms() + 1000;
    while (now_ms() < end) {
        wait_tick();
    }
    const uint64_t used = cpu_ticks(pid) - before;
    ck_assert_msg(used <= 20, "%s: %u ticks of 10 ms in a second", what, (unsigned)used);
}

/* ---- exhaustion --------------------------------------------------------------------------------
 */

/* N2-RELAY-040, N1-REP-020 */
START_TEST(out_of_ports_is_01_until_a_relay_has_ended)
{
    struct server *udp = server_echo(lab, SOCK_DGRAM);
    const struct association_spec spec = {.ptcl = PTCL_UDP, .destination = server_endpoint(udp)};
    struct association more;
    daemons = daemons_start(
        lab, &(struct daemons_options){.relayd = {"bind: {addresses: auto, ports: 30000-30002}"}});
    for (size_t i = 0; i < 3; i++) {
        associations[i] = association_open(lab, &spec);
    }
    for (size_t i = 0; i < 20; i++) {
        ck_assert_int_eq(association_try(lab, &spec, &more), N1_REP_GENERAL_FAILURE);
    }
    for (size_t round = 0; round < 10; round++) {
        association_close(&associations[round % 3]);
        WAIT_UNTIL(daemons_relay_count(&daemons) == 2, PATIENCE_MS);
        associations[round % 3] = association_open(lab, &spec);
        association_check_echo(&associations[round % 3]);
        ck_assert_int_eq(association_try(lab, &spec, &more), N1_REP_GENERAL_FAILURE);
    }
    for (size_t i = 0; i < 3; i++) {
        association_close(&associations[i]);
    }
}
END_TEST

/* The process may open `more` - 1 descriptors, whatever the numbers of those that it has; 0
 * restores its limit. */
static void limit_descriptors(pid_t pid, unsigned more)
{
    struct rlimit limit;
    static rlim_t before;
    ck_assert_int_eq(prlimit(pid, RLIMIT_NOFILE, NULL, &limit), 0);
    before = before == 0 ? limit.rlim_cur : before;
    if (more > 0) {
        proc_fd_count_at_rest(pid);
    }
    limit.rlim_cur = more == 0 ? before : 0;
    for (unsigned free = 0; more > 0; limit.rlim_cur++) {
        char path[64];
        snprintf(path, sizeof(path), "/proc/%d/fd/%lu", (int)pid, (unsigned long)limit.rlim_cur);
        if (faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) != 0 && ++free == more) {
            break;
        }
    }
    ck_assert_int_eq(prlimit(pid, RLIMIT_NOFILE, &limit, NULL), 0);
}

/* Closing idle pipes makes room for a relay or two; after those nothing but 01 is answered. */
static void check_runs_out(const struct association_spec *spec)
{
    enum { ATTEMPTS = 12 };
    struct association opened[ATTEMPTS];
    int code = 0;
    for (size_t n = 0; n < ATTEMPTS; n++) {
        code = association_try(lab, spec, &opened[n]);
        ck_assert_msg(code == N1_REP_GENERAL_FAILURE || (n < 4 && code == N1_REP_SUCCEEDED),
                      "attempt %u: reply %d", (unsigned)n, code);
    }
    ck_assert_int_eq(code, N1_REP_GENERAL_FAILURE);
    for (size_t n = 0; n < ATTEMPTS; n++) {
        association_close(&opened[n]);
    }
}

/* Two connections, of which the second was answered after the first: by then the process has seen
 * the end of those that were there before, relayctl's. Afterwards it has what it had without. */
static void close_both(pid_t pid, int first, int second)
{
    const unsigned with = proc_fd_count(pid);
    close(first);
    close(second);
    WAIT_UNTIL(proc_fd_count(pid) <= with - 2, PATIENCE_MS);
}

/* N2-RELAY-040, N1-REP-020 */
START_TEST(a_relayd_without_descriptors_answers_01_and_recovers)
{
    struct server *tcp = server_echo(lab, SOCK_STREAM), *udp = server_echo(lab, SOCK_DGRAM);
    daemons = daemons_start(lab, NULL);
    check_one(tcp, udp);
    WAIT_UNTIL(daemons_relay_count(&daemons) == 0, PATIENCE_MS);
    struct process *const relayds[] = {daemons.relayd_tcp, daemons.relayd_udp};
    for (size_t i = 0; i < 2; i++) {
        const pid_t pid = process_pid(relayds[i]);
        const struct association_spec spec = {.ptcl = i == 0 ? PTCL_TCP : PTCL_UDP,
                                              .destination = server_endpoint(i == 0 ? tcp : udp)};
        const char *const n2_name = i == 0 ? "n2/tcp.sock" : "n2/udp.sock";
        const int first = n2_client_open(lab_path(lab, n2_name));
        close_both(pid, first, n2_client_open(lab_path(lab, n2_name)));
        const unsigned before = proc_fd_count(pid);
        for (unsigned left = 1; left < 3; left++) {
            limit_descriptors(pid, left);
            check_runs_out(&spec);
            WAIT_UNTIL(proc_fd_count(pid) <= before, PATIENCE_MS);
        }
        /* Callers that cannot be accepted must not make it spin. */
        limit_descriptors(pid, 1);
        const int n2 = n2_client_connect(lab_path(lab, n2_name));
        const int admin =
            n2_client_connect(lab_path(lab, i == 0 ? "admin/tcp.sock" : "admin/udp.sock"));
        check_idle(pid, "relayd without descriptors");
        limit_descriptors(pid, 0);
        close(n2);
        close(admin);
        check_one(tcp, udp);
    }
    WAIT_UNTIL(daemons_relay_count(&daemons) == 0, PATIENCE_MS);
}
END_TEST

/* N1-REP-020 */
START_TEST(a_socksd_without_descriptors_lets_clients_wait_and_recovers)
{
    enum { WAITING = 20 };
    struct server *tcp = server_echo(lab, SOCK_STREAM);
    int waiting[WAITING];
    uint8_t answer[2];
    daemons = daemons_start(lab, NULL);
    struct association association = association_tcp(lab, server_endpoint(tcp));
    const pid_t pid = process_pid(daemons.socksd);
    const int first = n1_connect_ready(lab, LAB_CLIENT, at(LAB_RELAY_V4, 1080));
    close_both(pid, first, n1_connect_ready(lab, LAB_CLIENT, at(LAB_RELAY_V4, 1080)));
    limit_descriptors(pid, 1);
    for (size_t i = 0; i < WAITING; i++) {
        waiting[i] = n1_connect(lab, LAB_CLIENT, at(LAB_RELAY_V4, 1080));
        socket_send(waiting[i], "\x05\x01\x00", 3);
    }
    const int admin = n2_client_connect(lab_path(lab, "admin/socksd.sock"));
    check_idle(pid, "socksd without descriptors");
    for (size_t i = 0; i < WAITING; i++) {
        ck_assert_int_eq(socket_receive(waiting[i], answer, 2, 0), -ETIMEDOUT);
    }
    association_check_echo(&association); /* relays need nothing of it */
    limit_descriptors(pid, 0);
    for (size_t i = 0; i < WAITING; i++) {
        socket_receive_all(waiting[i], answer, 2, PATIENCE_MS);
        close(waiting[i]);
    }
    close(admin);
    association_close(&association);
    check_one(tcp, NULL);
    ck_assert_uint_gt(daemons_counter(&daemons, "socksd", "accept_pauses"), 0);
}
END_TEST

/* ---- limits ------------------------------------------------------------------------------------
 */

/* N1-CONN-030 */
START_TEST(a_slow_client_is_closed_at_the_time_out_and_not_before)
{
    uint8_t octets[3 + N1_REQUEST_MAX] = {5, 1, 0};
    int fds[sizeof(octets)];
    daemons = daemons_start(
        lab, &(struct daemons_options){.socksd = {"limits: {handshake-timeout: 1s}"}});
    const size_t length = 3 + n1_transparent_bytes(PTCL_TCP, at(LAB_CLIENT_V4, 4000),
                                                   at(LAB_TARGET_V4, 80), &octets[3]);
    const int64_t start = now_ms();
    for (size_t i = 0; i < length; i++) {
        fds[i] = n1_connect(lab, LAB_CLIENT, at(LAB_RELAY_V4, 1080));
        if (i > 0) {
            socket_send(fds[i], octets, i);
        }
    }
    /* One that keeps sending is no better. */
    const int dripping = n1_connect(lab, LAB_CLIENT, at(LAB_RELAY_V4, 1080));
    const int64_t opened = now_ms();
    for (size_t i = 0; !wait_fd(dripping, POLLRDHUP, 150); i++) {
        ck_assert_uint_lt(i, length);
        if (send(dripping, &octets[i], 1, MSG_NOSIGNAL) != 1) {
            break; /* closed in this moment */
        }
    }
    for (size_t i = 0; i < length; i++) {
        ck_assert_msg(socket_wait_end(fds[i], PATIENCE_MS) != SOCKET_OPEN, "after %zu octets", i);
        close(fds[i]);
    }
    const int64_t now = now_ms();
    ck_assert_msg(now - opened >= 900 && now - start < 6000, "closed after %d ms",
                  (int)(now - start));
    ck_assert_uint_eq(daemons_counter(&daemons, "socksd", "handshake_timeouts"), length + 1);
    close(dripping);
}
END_TEST

static int connect_from(const char *address)
{
    const int fd = socket_bound(lab, LAB_CLIENT, SOCK_STREAM, at(address, 0), NULL);
    ck_assert_int_eq(socket_connect(fd, at(LAB_RELAY_V4, 1080), PATIENCE_MS), 0);
    return fd;
}

static bool is_served(int fd)
{
    uint8_t answer[2];
    send(fd, "\x05\x01\x00", 3, MSG_NOSIGNAL);
    const ssize_t got = socket_receive(fd, answer, 2, PATIENCE_MS);
    ck_assert_int_ne(got, -ETIMEDOUT);
    return got > 0;
}

/* N1-CONN-030: limits.sessions and limits.sessions-per-address; see section 14 of N1.md */
START_TEST(sessions_have_limits)
{
    int fds[5];
    daemons = daemons_start(lab, &(struct daemons_options){
                                     .socksd = {"limits: {sessions: 4, sessions-per-address: 3}"}});
    for (size_t round = 0; round < 3; round++) {
        for (size_t i = 0; i < 4; i++) {
            fds[i] = connect_from(LAB_CLIENT_V4);
            ck_assert_int_eq(is_served(fds[i]), i < 3);
        }
        close(fds[3]);
        fds[3] = connect_from(LAB_CLIENT_V4_2);
        ck_assert(is_served(fds[3]));
        fds[4] = connect_from(LAB_CLIENT_V4_2);
        ck_assert(!is_served(fds[4]));
        for (size_t i = 0; i < 5; i++) {
            close(fds[i]);
        }
        WAIT_UNTIL(daemons_counter(&daemons, "socksd", "sessions_active") == 0, PATIENCE_MS);
    }
    ck_assert_uint_eq(daemons_counter(&daemons, "socksd", "sessions_refused_address_limit"), 3);
    ck_assert_uint_eq(daemons_counter(&daemons, "socksd", "sessions_refused_limit"), 3);
}
END_TEST

int main(void)
{
    lab_require();
    Suite *suite = suite_create("exhaustion");
    TCase *tcase = tcase_create("exhaustion");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, out_of_ports_is_01_until_a_relay_has_ended);
    tcase_add_test(tcase, a_relayd_without_descriptors_answers_01_and_recovers);
    tcase_add_test(tcase, a_socksd_without_descriptors_lets_clients_wait_and_recovers);
    tcase_add_test(tcase, a_slow_client_is_closed_at_the_time_out_and_not_before);
    tcase_add_test(tcase, sessions_have_limits);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
