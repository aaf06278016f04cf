/*
 * BIND from end to end: both replies, whose connection is taken, and how the wait ends (N1-BIND,
 * N1-HAND).
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/harness/classic.h"
#include "tests/harness/daemons.h"
#include "tests/harness/proc.h"
#include "tests/harness/traffic.h"
#include "tests/harness/wait.h"

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

static void start(const struct daemons_options *options)
{
    daemons = daemons_start(lab, options);
}

/* The first reply's connection and BND. */
static int bind_for(struct endpoint expected, struct endpoint *bound)
{
    const struct classic_spec spec = {.command = N1_CMD_BIND, .destination = expected};
    int fd;
    const int code = classic_try(lab, &spec, &fd, bound);
    ck_assert_msg(code == N1_REP_SUCCEEDED, "BIND for %s: %02X", show(expected), (unsigned)code);
    ck_assert_uint_ne(bound->port, 0);
    ck_assert(!ip_address_is_unspecified(&bound->address));
    return fd;
}

/* A socket of the target's place on this address, and what connecting to BND says. */
static int connect_from(const char *address, struct endpoint bound, int timeout_ms, int *result)
{
    const int fd = socket_bound(lab, LAB_TARGET, SOCK_STREAM, at(address, 0), NULL);
    *result = socket_connect(fd, bound, timeout_ms);
    return fd;
}

static void check_both_ways(int client, int peer)
{
    char text[5];
    socket_send(client, "hello", 5);
    socket_receive_all(peer, text, 5, PATIENCE_MS);
    ck_assert_mem_eq(text, "hello", 5);
    socket_send(peer, "world", 5);
    socket_receive_all(client, text, 5, PATIENCE_MS);
    ck_assert_mem_eq(text, "world", 5);
}

static void finish(int client, int peer)
{
    shutdown(peer, SHUT_WR);
    ck_assert_int_eq(socket_wait_end(client, PATIENCE_MS), SOCKET_FIN);
    socket_send(client, "tail", 4); /* half-close */
    shutdown(client, SHUT_WR);
    char tail[4];
    socket_receive_all(peer, tail, 4, PATIENCE_MS);
    ck_assert_int_eq(socket_wait_end(peer, PATIENCE_MS), SOCKET_FIN);
    close(client);
    close(peer);
    WAIT_UNTIL(daemons_relay_count(&daemons) == 0, PATIENCE_MS);
}

/* N1-BIND-010, -030, -040 */
START_TEST(the_peer_connects_and_is_told)
{
    static const struct {
        const char *expected, *from, *bound;
    } cases[] = {{LAB_TARGET_V4, LAB_TARGET_V4, LAB_EGRESS_V4},
                 {LAB_TARGET_V6, LAB_TARGET_V6, LAB_EGRESS_V6},
                 {"0.0.0.0", LAB_TARGET_V4_2, NULL}};
    start(NULL);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct endpoint bound, told;
        int result;
        const int client = bind_for(at(cases[i].expected, 0), &bound);
        if (cases[i].bound != NULL) {
            ck_assert_msg(same_address(bound, at(cases[i].bound, 0)), "BND is %s", show(bound));
        }
        const int peer = connect_from(cases[i].from, bound, PATIENCE_MS, &result);
        ck_assert_msg(result == 0, "%s: %s", show(bound), strerror(-result));
        ck_assert_int_eq(n1_read_reply(client, PATIENCE_MS, &told), N1_REP_SUCCEEDED);
        ck_assert_msg(same_endpoint(told, socket_local(peer)), "told %s, is %s", show(told),
                      show(socket_local(peer)));
        check_both_ways(client, peer);
        finish(client, peer);
    }
}
END_TEST

/* What either side says before the second reply is kept. */
START_TEST(early_data_is_not_lost)
{
    struct endpoint bound;
    int result;
    char text[5];
    start(NULL);
    const int client = bind_for(at(LAB_TARGET_V4, 0), &bound);
    socket_send(client, "early", 5);
    const int peer = connect_from(LAB_TARGET_V4, bound, PATIENCE_MS, &result);
    ck_assert_int_eq(result, 0);
    socket_send(peer, "first", 5);
    ck_assert_int_eq(n1_read_reply(client, PATIENCE_MS, NULL), N1_REP_SUCCEEDED);
    socket_receive_all(client, text, 5, PATIENCE_MS);
    ck_assert_mem_eq(text, "first", 5);
    socket_receive_all(peer, text, 5, PATIENCE_MS);
    ck_assert_mem_eq(text, "early", 5);
    finish(client, peer);
}
END_TEST

/* N1-BIND-010: a stranger gets no answer, and the wait goes on. */
START_TEST(strangers_are_not_taken)
{
    struct endpoint bound;
    int result;
    start(NULL);
    const int client = bind_for(at(LAB_TARGET_V4, 0), &bound);
    const int stranger = connect_from(LAB_TARGET_V4_2, bound, 500, &result);
    ck_assert_int_eq(result, -ETIMEDOUT);
    close(stranger);
    const int peer = connect_from(LAB_TARGET_V4, bound, PATIENCE_MS, &result);
    ck_assert_int_eq(result, 0);
    ck_assert_int_eq(n1_read_reply(client, PATIENCE_MS, NULL), N1_REP_SUCCEEDED);
    check_both_ways(client, peer);
    /* One connection and no more. */
    const int second = connect_from(LAB_TARGET_V4, bound, 500, &result);
    ck_assert_int_lt(result, 0);
    close(second);
    finish(client, peer);
}
END_TEST

/* N1-BIND-040 */
START_TEST(nobody_comes)
{
    struct endpoint bound;
    start(&(struct daemons_options){.relayd = {"tcp: {bind-timeout: 500ms}"}});
    const int64_t begun = now_ms();
    const int client = bind_for(at(LAB_TARGET_V4, 0), &bound);
    ck_assert_int_eq(n1_read_reply(client, PATIENCE_MS, NULL), N1_REP_TTL_EXPIRED);
    ck_assert_int_ge(now_ms() - begun, 450);
    ck_assert_int_eq(socket_wait_end(client, PATIENCE_MS), SOCKET_FIN);
    close(client);
    WAIT_UNTIL(daemons_relay_count(&daemons) == 0, PATIENCE_MS);
    ck_assert_uint_eq(proc_sockets_at(process_pid(daemons.relayd_tcp), bound), 0);
}
END_TEST

/* N1-BIND-050 */
START_TEST(the_clients_end_closes_bnd)
{
    start(NULL);
    for (int reset = 0; reset < 2; reset++) {
        struct endpoint bound;
        const int client = bind_for(at(LAB_TARGET_V4, 0), &bound);
        ck_assert_uint_ne(proc_sockets_at(process_pid(daemons.relayd_tcp), bound), 0);
        if (reset != 0) {
            socket_abort_on_close(client);
        }
        close(client);
        WAIT_UNTIL(proc_sockets_at(process_pid(daemons.relayd_tcp), bound) == 0, PATIENCE_MS);
        WAIT_UNTIL(daemons_relay_count(&daemons) == 0, PATIENCE_MS);
    }
}
END_TEST

/* N1-BIND-020 */
START_TEST(rules_decide_who_may_be_expected_and_come)
{
    const struct classic_spec denied = {.command = N1_CMD_BIND,
                                        .destination = at(LAB_TARGET_V4_2, 0)},
                              any = {.command = N1_CMD_BIND, .destination = at("0.0.0.0", 0)};
    struct endpoint bound;
    int fd, result;
    start(&(struct daemons_options){
        .socksd = {"rules: [{action: allow, commands: [bind], to: [10.77.2.2, 0.0.0.0]}]"}});
    ck_assert_int_eq(classic_try(lab, &denied, &fd, NULL), N1_REP_NOT_ALLOWED);
    /* Anybody is expected; who comes is judged again. */
    ck_assert_int_eq(classic_try(lab, &any, &fd, &bound), N1_REP_SUCCEEDED);
    const int peer = connect_from(LAB_TARGET_V4_2, bound, PATIENCE_MS, &result);
    ck_assert_int_eq(n1_read_reply(fd, PATIENCE_MS, NULL), N1_REP_NOT_ALLOWED);
    /* The connection stood for a moment at most. */
    ck_assert(result == -ECONNRESET || socket_wait_end(peer, PATIENCE_MS) == SOCKET_RST);
    close(peer);
    close(fd);
}
END_TEST

int main(void)
{
    lab_require();
    Suite *suite = suite_create("classic-bind");
    TCase *tcase = tcase_create("bind");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, the_peer_connects_and_is_told);
    tcase_add_test(tcase, early_data_is_not_lost);
    tcase_add_test(tcase, strangers_are_not_taken);
    tcase_add_test(tcase, nobody_comes);
    tcase_add_test(tcase, the_clients_end_closes_bnd);
    tcase_add_test(tcase, rules_decide_who_may_be_expected_and_come);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
