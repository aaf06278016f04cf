/*
 * What is left when something dies, stops or runs out: nothing, and the next request is served.
 */
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
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

#define MANY 1000
#define ROUNDS_MAX 10 /* a machine that is busy with something else makes times longer only */

static struct lab *lab;
static struct daemons daemons;
static struct association associations[MANY];

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

/* A daemon was killed: its object, and the socket file that relayctl would ask. */
static void bury(struct process **process, const char *socket)
{
    process_free(*process);
    *process = NULL;
    unlink(lab_path(lab, socket));
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

/* The code of a TCP request, without the client's socket. */
static int ask_tcp(struct endpoint target, int *control)
{
    const struct n1_question question = {
        .ptcl = PTCL_TCP, .source = at(LAB_CLIENT_V4, 4000), .destination = target};
    return n1_ask(lab, &question, control, NULL);
}

/* ---- kill -9 -----------------------------------------------------------------------------------
 */

/* Until every control connection has ended. */
static int64_t time_to_end_us(int64_t start)
{
    for (size_t i = 0; i < MANY; i++) {
        ck_assert_int_ne(socket_wait_end(associations[i].control, PATIENCE_MS), SOCKET_OPEN);
    }
    return now_us() - start;
}

/* N2-EOF-020, N1-END-050, N1-PTCL-020 */
START_TEST(a_killed_relayd_ends_its_thousand_control_connections)
{
    struct server *udp = server_echo(lab, SOCK_DGRAM), *tcp = server_echo(lab, SOCK_STREAM);
    const int64_t limit_us = built_with_sanitizer() ? 2000000 : 100000;
    int64_t best_us = INT64_MAX;
    unsigned rounds = 0;
    daemons = daemons_start(
        lab, &(struct daemons_options){.socksd = {"limits: {sessions-per-address: 4000}"}});
    struct association other = association_tcp(lab, server_endpoint(tcp));
    while (rounds < 2 || (best_us >= limit_us && rounds < ROUNDS_MAX)) {
        rounds++;
        for (size_t i = 0; i < MANY; i++) {
            associations[i] = association_udp(lab, server_endpoint(udp));
        }
        association_check_echo(&associations[MANY - 1]);
        const int64_t start = now_us();
        process_signal(daemons.relayd_udp, SIGKILL);
        const int64_t took_us = time_to_end_us(start);
        best_us = took_us < best_us ? took_us : best_us;
        process_wait(daemons.relayd_udp, PATIENCE_MS);
        bury(&daemons.relayd_udp, "admin/udp.sock");
        for (size_t i = 0; i < MANY; i++) {
            association_close(&associations[i]);
        }
        /* The other protocol's relays stay, and a restarted relayd serves the next request. */
        association_check_echo(&other);
        daemons_start_relayd(&daemons, "udp");
        WAIT_UNTIL(daemons_counter(&daemons, "socksd", "n2_connected") == 2, PATIENCE_MS);
        check_one(NULL, udp);
    }
    printf("%d control connections closed within %.1f ms of SIGKILL (best of %u)\n", MANY,
           (double)best_us / 1000, rounds);
    ck_assert_msg(best_us < limit_us, "%d ms to close %d control connections",
                  (int)(best_us / 1000), MANY);
    ck_assert_uint_eq(daemons_counter(&daemons, "socksd", "relays_lost"), rounds * MANY);
    ck_assert(process_log_has(daemons.socksd, "access", "counters=unknown", NULL));
    association_close(&other);
}
END_TEST

/* N2-EOF-020: the back-off is bounded, however long the daemon was away */
START_TEST(a_relayd_that_was_away_for_long_is_found_again)
{
    struct server *udp = server_echo(lab, SOCK_DGRAM);
    daemons = daemons_start(lab, NULL);
    process_kill(daemons.relayd_udp);
    bury(&daemons.relayd_udp, "admin/udp.sock");
    WAIT_UNTIL(daemons_counter(&daemons, "socksd", "n2_connect_failures") >= 5, PATIENCE_MS);
    daemons_start_relayd(&daemons, "udp");
    WAIT_UNTIL(daemons_counter(&daemons, "socksd", "n2_connected") == 2, PATIENCE_MS);
    check_one(NULL, udp);
}
END_TEST

/* N2-EOF-010, N2-EOF-030, N1-LIFE-010 */
START_TEST(a_killed_socksd_leaves_no_relay)
{
    struct server *udp = server_echo(lab, SOCK_DGRAM), *tcp = server_echo(lab, SOCK_STREAM);
    daemons = daemons_start(lab, NULL);
    check_one(tcp, udp);
    WAIT_UNTIL(daemons_relay_count(&daemons) == 0, PATIENCE_MS);
    const pid_t pids[] = {process_pid(daemons.relayd_tcp), process_pid(daemons.relayd_udp)};
    const unsigned before[] = {proc_fd_count(pids[0]), proc_fd_count(pids[1])};
    for (size_t i = 0; i < 20; i++) {
        associations[i] = i % 2 == 0 ? association_tcp(lab, server_endpoint(tcp))
                                     : association_udp(lab, server_endpoint(udp));
        association_check_echo(&associations[i]);
    }
    const struct association_spec waiting = {.ptcl = PTCL_TCP, .destination = server_endpoint(tcp)};
    associations[20] = association_open(lab, &waiting); /* its client has not come to BND */
    process_kill(daemons.socksd);
    bury(&daemons.socksd, "admin/socksd.sock");
    WAIT_UNTIL(daemons_relay_count(&daemons) == 0, PATIENCE_MS);
    for (size_t i = 0; i <= 20; i++) {
        const pid_t pid = pids[i % 2];
        ck_assert_uint_eq(proc_sockets_at(pid, associations[i].bound), 0);
    }
    ck_assert_int_eq(socket_wait_end(associations[0].data, PATIENCE_MS), SOCKET_RST);
    ck_assert_int_ne(socket_connect(associations[20].data, associations[20].bound, 1000), 0);
    /* One less each: the connection of socksd. */
    WAIT_UNTIL(proc_fd_count(pids[0]) < before[0], PATIENCE_MS);
    WAIT_UNTIL(proc_fd_count(pids[1]) < before[1], PATIENCE_MS);
    ck_assert_uint_eq(proc_sockets_to(pids[0], server_endpoint(tcp)), 0);
    ck_assert_uint_eq(daemons_counter(&daemons, "tcp", "relays_closed_peer_lost"), 11);
    ck_assert_uint_eq(daemons_counter(&daemons, "udp", "relays_closed_peer_lost"), 10);
    daemons_start_socksd(&daemons);
    daemons_wait_connected(&daemons);
    check_one(tcp, udp);
    for (size_t i = 0; i <= 20; i++) {
        association_close(&associations[i]);
    }
}
END_TEST

/* ---- SIGSTOP -----------------------------------------------------------------------------------
 */

/* N2-TRANS-050, N2-TRANS-030, N2-TRANS-040 */
START_TEST(a_stopped_relayd_is_not_waited_for)
{
    struct server *tcp = server_echo(lab, SOCK_STREAM);
    int control;
    daemons =
        daemons_start(lab, &(struct daemons_options){.socksd = {"limits: {relay-timeout: 1s}"}});
    process_signal(daemons.relayd_tcp, SIGSTOP);
    const int64_t start = now_ms();
    ck_assert_int_eq(ask_tcp(server_endpoint(tcp), &control), N1_REP_GENERAL_FAILURE);
    const int64_t took = now_ms() - start;
    ck_assert_msg(took >= 900 && took < 3000, "after %d ms", (int)took);
    process_signal(daemons.relayd_tcp, SIGCONT);
    /* It opens what nobody waits for any more, is told so, and serves the next. */
    WAIT_UNTIL(daemons_counter(&daemons, "socksd", "n2_stray_answers") == 1, PATIENCE_MS);
    WAIT_UNTIL(daemons_relay_count(&daemons) == 0, PATIENCE_MS);
    check_one(tcp, NULL);
    ck_assert_uint_eq(daemons_counter(&daemons, "socksd", "n2_timeouts"), 1);
    ck_assert_uint_eq(daemons_counter(&daemons, "socksd", "n2_losses"), 0);
}
END_TEST

/* ---- two for one protocol ----------------------------------------------------------------------
 */

static struct process *start_second(void)
{
    const struct process_spec spec = {.name = "relayd-tcp-2",
                                      .argv = {program_relayd(), "-c", lab_path(lab, "relayd.yaml"),
                                               "--ptcl", "tcp", "--instance", "tcp-2"},
                                      .ready = true};
    return process_start(lab, LAB_RELAY, &spec);
}

static size_t count_of(const char *instance)
{
    json_t *relays = daemons_relayctl(&daemons, "relays", NULL), *relay;
    size_t index, count = 0;
    json_array_foreach(relays, index, relay)
    {
        const char *id = relay_text(relay, "id");
        count += strncmp(id, instance, strlen(instance)) == 0 && id[strlen(instance)] == ':';
    }
    json_decref(relays);
    return count;
}

/* N2-EOF-020, N2-HELLO-060 */
START_TEST(two_relayds_share_a_protocol_and_stand_in_for_each_other)
{
    enum { RELAYS = 20 };
    char relays[512];
    struct server *tcp = server_echo(lab, SOCK_STREAM);
    snprintf(relays, sizeof(relays),
             "relays: [{ptcl: tcp, socket: %s/n2/tcp.sock}, {ptcl: tcp, socket: %s/n2/tcp-2.sock}]",
             lab_directory(lab), lab_directory(lab));
    daemons_write_config(&daemons, lab, &(struct daemons_options){.socksd = {relays}});
    daemons_start_relayd(&daemons, "tcp");
    struct process *second = start_second();
    daemons_start_socksd(&daemons);
    WAIT_UNTIL(daemons_counter(&daemons, "socksd", "n2_connected") == 2, PATIENCE_MS);
    for (size_t i = 0; i < RELAYS; i++) {
        associations[i] = association_tcp(lab, server_endpoint(tcp));
    }
    ck_assert_uint_eq(count_of("tcp"), RELAYS / 2);
    ck_assert_uint_eq(count_of("tcp-2"), RELAYS / 2);

    process_kill(second);
    bury(&second, "admin/tcp-2.sock");
    size_t ended = 0;
    WAIT_UNTIL(daemons_counter(&daemons, "socksd", "n2_connected") == 1, PATIENCE_MS);
    for (size_t i = 0; i < RELAYS; i++) {
        ended += socket_wait_end(associations[i].control, i == 0 ? 500 : 0) != SOCKET_OPEN;
    }
    ck_assert_uint_eq(ended, RELAYS / 2);
    ck_assert_uint_eq(count_of("tcp"), RELAYS / 2);
    check_one(tcp, NULL);
    /* It comes back, is the least loaded one, and gets the next. */
    second = start_second();
    WAIT_UNTIL(daemons_counter(&daemons, "socksd", "n2_connected") == 2, PATIENCE_MS);
    struct association next = association_tcp(lab, server_endpoint(tcp));
    ck_assert_uint_eq(count_of("tcp-2"), 1);
    association_close(&next);
    for (size_t i = 0; i < RELAYS; i++) {
        association_close(&associations[i]);
    }
    process_stop(second);
}
END_TEST

/* ---- SIGTERM -----------------------------------------------------------------------------------
 */

/* N2-RELAY-010, N1-END-020 */
START_TEST(a_stopped_relayd_tells_its_last_counters)
{
    struct server *udp = server_echo(lab, SOCK_DGRAM), *tcp = server_echo(lab, SOCK_STREAM);
    daemons = daemons_start(lab, NULL);
    struct association one = association_tcp(lab, server_endpoint(tcp));
    struct association other = association_udp(lab, server_endpoint(udp));
    association_check_echo(&one);
    association_check_echo(&other);
    process_stop(daemons.relayd_tcp);
    ck_assert(
        process_log_has(daemons.relayd_tcp, "relay-closed", "reason=shutdown", "up_bytes=4", NULL));
    ck_assert_int_ne(socket_wait_end(one.control, PATIENCE_MS), SOCKET_OPEN);
    ck_assert_int_eq(socket_wait_end(one.data, PATIENCE_MS), SOCKET_RST);
    ck_assert_int_eq(access(lab_path(lab, "n2/tcp.sock"), F_OK), -1);
    ck_assert_int_eq(access(lab_path(lab, "admin/tcp.sock"), F_OK), -1);
    WAIT_UNTIL(
        process_log_has(daemons.socksd, "access", "reason=shutdown", "up_bytes=4", "tcp", NULL),
        PATIENCE_MS);
    process_free(daemons.relayd_tcp);
    daemons.relayd_tcp = NULL;
    association_check_echo(&other);
    association_close(&one);
    association_close(&other);
}
END_TEST

/* N2-RELAY-010, N1-LIFE-010 */
START_TEST(a_stopped_socksd_ends_everything_and_says_so)
{
    struct server *udp = server_echo(lab, SOCK_DGRAM), *tcp = server_echo(lab, SOCK_STREAM);
    daemons = daemons_start(lab, NULL);
    for (size_t i = 0; i < 20; i++) {
        associations[i] = i % 2 == 0 ? association_tcp(lab, server_endpoint(tcp))
                                     : association_udp(lab, server_endpoint(udp));
        association_check_echo(&associations[i]);
    }
    const int waiting = n1_connect_ready(lab, LAB_CLIENT, at(LAB_RELAY_V4, 1080));
    const int64_t start = now_ms();
    process_stop(daemons.socksd);
    const int64_t took = now_ms() - start;
    ck_assert_msg(took < 3000, "%d ms to stop", (int)took);
    ck_assert_uint_eq(process_log_count(daemons.socksd, " access "), 20);
    ck_assert_uint_eq(process_log_count(daemons.socksd, "counters=unknown"), 0);
    ck_assert(process_log_has(daemons.socksd, " access ", "up_bytes=4", "down_bytes=4", NULL));
    ck_assert_int_eq(access(lab_path(lab, "admin/socksd.sock"), F_OK), -1);
    process_free(daemons.socksd);
    daemons.socksd = NULL;
    ck_assert_uint_eq(daemons_relay_count(&daemons), 0);
    ck_assert_int_ne(socket_wait_end(waiting, PATIENCE_MS), SOCKET_OPEN);
    for (size_t i = 0; i < 20; i++) {
        ck_assert_int_ne(socket_wait_end(associations[i].control, PATIENCE_MS), SOCKET_OPEN);
        association_close(&associations[i]);
    }
    close(waiting);
}
END_TEST

int main(void)
{
    lab_require();
    Suite *suite = suite_create("failures");
    TCase *tcase = tcase_create("failures");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_killed_relayd_ends_its_thousand_control_connections);
    tcase_add_test(tcase, a_relayd_that_was_away_for_long_is_found_again);
    tcase_add_test(tcase, a_killed_socksd_leaves_no_relay);
    tcase_add_test(tcase, a_stopped_relayd_is_not_waited_for);
    tcase_add_test(tcase, two_relayds_share_a_protocol_and_stand_in_for_each_other);
    tcase_add_test(tcase, a_stopped_relayd_tells_its_last_counters);
    tcase_add_test(tcase, a_stopped_socksd_ends_everything_and_says_so);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
