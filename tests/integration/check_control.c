/*
 * The control connection: it holds the association, and nothing else does. What operators see of
 * that, and what the daemons may do.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/ptcl.h"
#include "tests/harness/daemons.h"
#include "tests/harness/n1_client.h"
#include "tests/harness/proc.h"
#include "tests/harness/traffic.h"
#include "tests/harness/wait.h"

#define ROUNDS 5
#define SOCKETS_MAX 64

static struct lab *lab;
static struct daemons daemons;

static void setup(void)
{
    lab = lab_new();
    daemons = (struct daemons){.lab = lab};
}

static void teardown(void)
{
    daemons_stop(&daemons);
    lab_free(lab);
}

static void start(const char *socksd_override)
{
    const struct daemons_options options = {.socksd = {socksd_override}};
    daemons = daemons_start(lab, &options);
}

static pid_t relayd_of(uint8_t ptcl)
{
    return process_pid(ptcl == PTCL_TCP ? daemons.relayd_tcp : daemons.relayd_udp);
}

static struct association open_to(const struct server *server, uint8_t ptcl)
{
    struct association association = ptcl == PTCL_TCP
                                         ? association_tcp(lab, server_endpoint(server))
                                         : association_udp(lab, server_endpoint(server));
    char octet;
    socket_send(association.data, "x", 1);
    socket_receive_all(association.data, &octet, 1, PATIENCE_MS);
    return association;
}

/* The relay's listener or sink, its connection to the client, its connection to the target. */
static bool has_sockets(const struct association *association)
{
    const pid_t pid = relayd_of(association->ptcl);
    return proc_sockets_at(pid, association->bound) != 0 ||
           proc_sockets_to(pid, association->destination) != 0;
}

/* Is BND as if there had never been a relay? */
static void check_dead(const struct association *association)
{
    char octet;
    const bool tcp = association->ptcl == PTCL_TCP;
    const int fd =
        socket_bound(lab, LAB_CLIENT, tcp ? SOCK_STREAM : SOCK_DGRAM, at(LAB_CLIENT_V4, 0), NULL);
    int rc = socket_connect(fd, association->bound, PATIENCE_MS);
    if (!tcp) {
        ck_assert_int_eq(rc, 0);
        socket_send(fd, "x", 1);
        rc = (int)socket_receive(fd, &octet, 1, PATIENCE_MS);
    }
    ck_assert_msg(rc == -ECONNREFUSED, "BND: %s", strerror(-rc));
    close(fd);
}

/* ---- its end -----------------------------------------------------------------------------------
 */

enum way { BY_FIN, BY_RST, BY_DEATH, WAYS };
static const char *const way_names[WAYS] = {"FIN", "RST", "death of the client"};

/* A process that holds copies of both sockets, the only ones once the test has closed its own. */
static pid_t holder(const struct association *association)
{
    const pid_t child = lab_fork(lab, LAB_CLIENT);
    if (child == 0) {
        (void)association;
        for (;;) {
            pause();
        }
    }
    return child;
}

/* The relay's own among relayd's sockets; returns their number. */
static size_t relay_sockets(const struct association *association, struct proc_socket *out)
{
    struct proc_socket all[SOCKETS_MAX];
    const size_t total = proc_sockets(relayd_of(association->ptcl), all, SOCKETS_MAX);
    size_t count = 0;
    ck_assert_uint_le(total, SOCKETS_MAX);
    for (size_t i = 0; i < total; i++) {
        if (same_endpoint(all[i].local, association->bound) ||
            same_endpoint(all[i].remote, association->destination)) {
            out[count++] = all[i];
        }
    }
    return count;
}

/* Ends the control connection in one of the ways; returns how long the sockets lived on. */
static int64_t end_in_us(struct association *association, enum way way)
{
    struct proc_socket sockets[SOCKETS_MAX];
    const size_t count = relay_sockets(association, sockets);
    const pid_t relayd = relayd_of(association->ptcl);
    pid_t child = 0;
    ck_assert_uint_eq(count, 3); /* BND's own, the client's, the target's */
    if (way == BY_DEATH) {
        child = holder(association);
        association_close(association);
        ck_assert_uint_eq(daemons_relay_count(&daemons), 1);
    }
    if (way == BY_RST) {
        socket_abort_on_close(association->control);
    }
    const int64_t begun = now_us();
    if (way == BY_DEATH) {
        kill(child, SIGKILL);
    } else {
        close(association->control);
        association->control = -1;
    }
    WAIT_UNTIL(!proc_holds(relayd, sockets, count), PATIENCE_MS);
    const int64_t took = now_us() - begun;
    ck_assert(!has_sockets(association));
    if (child != 0) {
        waitpid(child, NULL, 0);
    }
    return took;
}

/* N1-LIFE-010 */
START_TEST(the_relay_ends_with_it_at_once)
{
    const enum way way = (enum way)(_i / 2);
    const uint8_t ptcl = _i % 2 == 0 ? PTCL_TCP : PTCL_UDP;
    int64_t best = INT64_MAX, worst = 0;
    start(NULL);
    struct server *echo = server_echo(lab, ptcl == PTCL_TCP ? SOCK_STREAM : SOCK_DGRAM);
    for (uint64_t round = 1; round <= ROUNDS; round++) {
        struct association association = open_to(echo, ptcl);
        ck_assert(has_sockets(&association));
        const int64_t took = end_in_us(&association, way);
        best = took < best ? took : best;
        worst = took > worst ? took : worst;
        check_dead(&association);
        WAIT_UNTIL(daemons_relay_count(&daemons) == 0, PATIENCE_MS);
        WAIT_UNTIL(server_seen(echo).reset + server_seen(echo).ended ==
                       (ptcl == PTCL_TCP ? round : 0),
                   PATIENCE_MS);
        association_close(&association);
    }
    printf("%s, %s: the relay's sockets are gone after %.1f to %.1f ms\n",
           ptcl == PTCL_TCP ? "TCP" : "UDP", way_names[way], (double)best / 1000,
           (double)worst / 1000);
    ck_assert_msg(best < (built_with_sanitizer() ? 250000 : 50000), "%lld us", (long long)best);
}
END_TEST

/* N1-LIFE-010: a client host that vanishes */
START_TEST(keepalive_finds_out_that_a_client_has_vanished)
{
    start("keepalive: {idle: 1s, interval: 1s, count: 3}");
    struct server *echo = server_echo(lab, SOCK_STREAM);
    struct association association = open_to(echo, PTCL_TCP);
    /* A silent client that is there is kept. */
    ck_assert_int_eq(socket_wait_end(association.control, 3500), SOCKET_OPEN);
    ck_assert(has_sockets(&association));
    const int64_t begun = now_ms();
    lab_run(lab, LAB_CLIENT, "ip link set relay0 down");
    WAIT_UNTIL(!has_sockets(&association), PATIENCE_MS);
    ck_assert_int_ge(now_ms() - begun, 500);
    WAIT_UNTIL(server_seen(echo).reset == 1, PATIENCE_MS);
    association_close(&association);
}
END_TEST

/* N2-TRANS-040, N2-TRANS-045 */
START_TEST(a_client_that_leaves_while_the_target_is_dialled_leaves_nothing)
{
    uint8_t octets[N1_REQUEST_MAX];
    const struct endpoint silent = at("10.77.2.99", 80);
    daemons =
        daemons_start(lab, &(struct daemons_options){.relayd = {"tcp: {connect-timeout: 60s}"}});
    lab_run(lab, LAB_RELAY,
            "ip neigh add 10.77.2.99 lladdr 02:00:00:00:00:99 dev target0 nud permanent");
    const size_t length = n1_transparent_bytes(PTCL_TCP, at(LAB_CLIENT_V4, 4711), silent, octets);
    for (int i = 0; i < 2; i++) {
        const int control = n1_connect_ready(lab, LAB_CLIENT, at(LAB_RELAY_V4, 1080));
        socket_send(control, octets, length);
        WAIT_UNTIL(proc_sockets_to(relayd_of(PTCL_TCP), silent) == 1, PATIENCE_MS);
        if (i == 0) {
            socket_abort_on_close(control);
        }
        close(control);
        WAIT_UNTIL(proc_sockets_to(relayd_of(PTCL_TCP), silent) == 0, PATIENCE_MS);
        WAIT_UNTIL(daemons_relay_count(&daemons) == 0, PATIENCE_MS);
    }
}
END_TEST

/* ---- its octets --------------------------------------------------------------------------------
 */

static void check_alive(const struct association *association)
{
    char octet;
    socket_send(association->data, "y", 1);
    socket_receive_all(association->data, &octet, 1, PATIENCE_MS);
    ck_assert_int_eq(octet, 'y');
}

/* N1-CONN-040, N1-DST-030, N1-REP-010 */
START_TEST(octets_behind_the_request_mean_nothing)
{
    uint8_t octets[1024] = {0};
    start(NULL);
    struct server *echo = server_echo(lab, SOCK_STREAM);
    struct association association = open_to(echo, PTCL_TCP);
    socket_send(association.control, octets, sizeof(octets));
    const size_t length =
        n1_transparent_bytes(PTCL_TCP, association.source, at(LAB_TARGET_V4_2, 80), octets);
    socket_send(association.control, octets, length);
    check_alive(&association);
    ck_assert_int_eq(socket_receive(association.control, octets, 1, 200), -ETIMEDOUT);
    json_t *relay = daemons_relay_at(&daemons, association.bound);
    ck_assert_ptr_nonnull(relay);
    ck_assert_str_eq(relay_text(relay, "destination"), show(association.destination));
    json_decref(relay);
    /* The end is seen behind them. */
    socket_send(association.control, octets, sizeof(octets));
    shutdown(association.control, SHUT_WR);
    ck_assert_int_eq(socket_wait_end(association.data, PATIENCE_MS), SOCKET_RST);
    association_close(&association);
}
END_TEST

/* N1-CONN-040 */
START_TEST(a_flood_of_them_ends_the_association)
{
    static const uint8_t octets[1024 * 1024];
    start(NULL);
    struct server *echo = server_echo(lab, SOCK_STREAM);
    struct association association = open_to(echo, PTCL_TCP);
    for (size_t sent = 0; sent < sizeof(octets);) {
        const ssize_t rc = send(association.control, octets, sizeof(octets) - sent, MSG_NOSIGNAL);
        if (rc <= 0) {
            break; /* closed already */
        }
        sent += (size_t)rc;
    }
    ck_assert_int_eq(socket_wait_end(association.data, PATIENCE_MS), SOCKET_RST);
    ck_assert_int_ne(socket_wait_end(association.control, PATIENCE_MS), SOCKET_OPEN);
    WAIT_UNTIL(daemons_relay_count(&daemons) == 0, PATIENCE_MS);
    association_close(&association);
}
END_TEST

/* N1-CONN-040: the limit is one of a second, not of a life */
START_TEST(a_trickle_of_them_does_not)
{
    static const uint8_t octets[24 * 1024];
    start(NULL);
    struct server *echo = server_echo(lab, SOCK_STREAM);
    struct association association = open_to(echo, PTCL_TCP);
    for (int i = 0; i < 4; i++) {
        socket_send(association.control, octets, sizeof(octets));
        ck_assert_int_eq(socket_wait_end(association.control, 1000), SOCKET_OPEN);
    }
    check_alive(&association);
    association_close(&association);
}
END_TEST

/* ---- operators ---------------------------------------------------------------------------------
 */

/* N1-END-020, N2-RELAY-010, ADMIN-REQ-040 */
START_TEST(an_operator_may_close_a_relay)
{
    static const uint8_t ptcls[] = {PTCL_TCP, PTCL_UDP};
    start(NULL);
    for (size_t i = 0; i < 2; i++) {
        struct server *echo = server_echo(lab, ptcls[i] == PTCL_TCP ? SOCK_STREAM : SOCK_DGRAM);
        struct association closed = open_to(echo, ptcls[i]), other = open_to(echo, ptcls[i]);
        json_t *relay = daemons_relay_at(&daemons, closed.bound);
        ck_assert_int_eq(
            daemons_relayctl_status(&daemons, NULL, "close", relay_text(relay, "id"), NULL), 0);
        ck_assert_int_eq(socket_wait_end(closed.control, PATIENCE_MS), SOCKET_FIN);
        WAIT_UNTIL(!has_sockets(&closed) || proc_sockets_at(relayd_of(ptcls[i]), closed.bound) == 0,
                   PATIENCE_MS);
        if (ptcls[i] == PTCL_TCP) {
            ck_assert_int_eq(socket_wait_end(closed.data, PATIENCE_MS), SOCKET_RST);
            WAIT_UNTIL(server_seen(echo).reset == 1, PATIENCE_MS);
        }
        check_alive(&other);
        ck_assert_int_ne(
            daemons_relayctl_status(&daemons, NULL, "close", relay_text(relay, "id"), NULL), 0);
        json_decref(relay);
        association_close(&closed);
        association_close(&other);
        WAIT_UNTIL(daemons_relay_count(&daemons) == 0, PATIENCE_MS);
    }
    ck_assert_uint_eq(process_log_count(daemons.socksd, "reason=admin"), 2);
}
END_TEST

static const char *field(const char *name, const char *value)
{
    static char texts[8][160];
    static size_t next;
    char *text = texts[next++ % 8];
    snprintf(text, sizeof(texts[0]), " %s=%s", name, value);
    return text;
}

/* One record, and in it everything that is known of the association. */
static void check_record(const struct association *association, struct endpoint egress,
                         const char *id, const char *reason, const char *octets)
{
    struct process *log = daemons.socksd;
    const char *ptcl = association->ptcl == PTCL_TCP ? "tcp" : "udp";
    const char *relay = field("relay", id);
    WAIT_UNTIL(process_log_has(log, " access ", relay, NULL), PATIENCE_MS);
    ck_assert_uint_eq(process_log_count(log, relay), 1);
    ck_assert(process_log_has(log, " access ", relay, field("ptcl", ptcl),
                              field("command", "transparent"),
                              field("source", show(association->source)),
                              field("destination", show(association->destination)), NULL));
    ck_assert(process_log_has(log, " access ", relay, field("bound", show(association->bound)),
                              field("egress", show(egress)), field("plane", "socket"),
                              field("rule", "office"), " session=", " client=10.77.1.2:", NULL));
    ck_assert(process_log_has(log, " access ", relay, field("up_bytes", octets),
                              field("down_bytes", octets), field("reason", reason),
                              field("drops", "0"),
                              " duration_ms=", " up_packets=", " down_packets=", NULL));
}

/* N2-RELAY-010: the final counters */
START_TEST(each_relay_leaves_one_record)
{
    static const uint8_t ptcls[] = {PTCL_TCP, PTCL_UDP};
    start("rules: [{name: office, action: allow}]");
    for (size_t i = 0; i < 2; i++) {
        const bool tcp = ptcls[i] == PTCL_TCP;
        char octets[1234] = {0};
        struct server *echo = server_echo(lab, tcp ? SOCK_STREAM : SOCK_DGRAM);
        struct association association = open_to(echo, ptcls[i]);
        socket_send(association.data, octets, sizeof(octets));
        socket_receive_all(association.data, octets, sizeof(octets), PATIENCE_MS);
        json_t *relay = daemons_relay_at(&daemons, association.bound);
        if (tcp) {
            shutdown(association.data, SHUT_WR);
            ck_assert_int_eq(socket_wait_end(association.control, PATIENCE_MS), SOCKET_FIN);
        } else {
            close(association.control);
            association.control = -1;
        }
        check_record(&association, server_seen(echo).peer, relay_text(relay, "id"),
                     tcp ? "finished" : "control-closed", "1235");
        json_decref(relay);
        association_close(&association);
    }
}
END_TEST

/* ---- what the daemons may do -------------------------------------------------------------------
 */

/* Every socket of socksd is a listener or a control connection. */
static void check_socksd_sockets(size_t least)
{
    struct proc_socket sockets[SOCKETS_MAX];
    const size_t count = proc_sockets(process_pid(daemons.socksd), sockets, SOCKETS_MAX);
    ck_assert_uint_le(count, SOCKETS_MAX);
    ck_assert_uint_ge(count, least);
    for (size_t i = 0; i < count; i++) {
        ck_assert_msg(sockets[i].protocol == IPPROTO_TCP && sockets[i].local.port == 1080,
                      "socksd has a socket from %s to %s", show(sockets[i].local),
                      show(sockets[i].remote));
    }
}

/* N2-RELAY-020: architecture: socksd decides, relayd connects */
START_TEST(socksd_has_no_socket_to_a_target)
{
    uint8_t octets[N1_REQUEST_MAX];
    const struct endpoint silent = at("10.77.2.99", 80);
    start(NULL);
    lab_run(lab, LAB_RELAY,
            "ip neigh add 10.77.2.99 lladdr 02:00:00:00:00:99 dev target0 nud permanent");
    struct server *stream = server_echo(lab, SOCK_STREAM),
                  *datagrams = server_echo(lab, SOCK_DGRAM);
    struct association tcp = open_to(stream, PTCL_TCP), udp = open_to(datagrams, PTCL_UDP);
    check_socksd_sockets(3);
    ck_assert_uint_eq(proc_sockets_to(relayd_of(PTCL_TCP), tcp.destination), 1);
    const int control = n1_connect_ready(lab, LAB_CLIENT, at(LAB_RELAY_V4, 1080));
    const size_t length = n1_transparent_bytes(PTCL_TCP, at(LAB_CLIENT_V4, 4711), silent, octets);
    socket_send(control, octets, length);
    WAIT_UNTIL(proc_sockets_to(relayd_of(PTCL_TCP), silent) == 1, PATIENCE_MS);
    check_socksd_sockets(4);
    close(control);
    association_close(&tcp);
    association_close(&udp);
}
END_TEST

/* N2-PEER-010: what an owned daemon could do is bounded by more than its code */
START_TEST(the_daemons_have_no_privilege)
{
    start(NULL);
    struct process *const all[] = {daemons.socksd, daemons.relayd_tcp, daemons.relayd_udp};
    for (size_t i = 0; i < 3; i++) {
        const pid_t pid = process_pid(all[i]);
        ck_assert_msg(proc_has_no_capability(pid), "daemon %zu has capabilities", i);
        ck_assert_str_eq(proc_status(pid, "CapBnd"), "0000000000000000");
        ck_assert_str_eq(proc_status(pid, "NoNewPrivs"), "1");
        if (!built_with_sanitizer()) {
            ck_assert_str_eq(proc_status(pid, "Seccomp"), "2");
        }
    }
}
END_TEST

int main(void)
{
    lab_require();
    Suite *suite = suite_create("control");
    TCase *tcase = tcase_create("control connection");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, the_relay_ends_with_it_at_once, 0, 2 * WAYS);
    tcase_add_test(tcase, keepalive_finds_out_that_a_client_has_vanished);
    tcase_add_test(tcase, a_client_that_leaves_while_the_target_is_dialled_leaves_nothing);
    tcase_add_test(tcase, octets_behind_the_request_mean_nothing);
    tcase_add_test(tcase, a_flood_of_them_ends_the_association);
    tcase_add_test(tcase, a_trickle_of_them_does_not);
    tcase_add_test(tcase, an_operator_may_close_a_relay);
    tcase_add_test(tcase, each_relay_leaves_one_record);
    tcase_add_test(tcase, socksd_has_no_socket_to_a_target);
    tcase_add_test(tcase, the_daemons_have_no_privilege);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
