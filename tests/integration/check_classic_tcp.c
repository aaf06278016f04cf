/*
 * CONNECT from end to end: what dialling says, data that comes early, late, slowly and after one
 * end has closed, and where the sockets are (N1-CONNECT, N1-HAND, N1-CONN-010, -060).
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/harness/classic.h"
#include "tests/harness/daemons.h"
#include "tests/harness/nameserver.h"
#include "tests/harness/proc.h"
#include "tests/harness/traffic.h"
#include "tests/harness/wait.h"

#define MIB (1024 * 1024)
#define TRANSFER (100 * (uint64_t)MIB)

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

static struct server *server_at(enum server_kind kind, const char *address, uint64_t octets)
{
    const struct server_spec spec = {
        .kind = kind, .type = SOCK_STREAM, .address = at(address, 0), .octets = octets, .seed = 3};
    return server_start(lab, LAB_TARGET, &spec);
}

static void check_echo(int fd)
{
    char text[5];
    socket_send(fd, "hello", 5);
    socket_receive_all(fd, text, 5, PATIENCE_MS);
    ck_assert_mem_eq(text, "hello", 5);
}

/* Both directions end in order. */
static void finish(int fd)
{
    shutdown(fd, SHUT_WR);
    ck_assert_int_eq(socket_wait_end(fd, PATIENCE_MS), SOCKET_FIN);
    close(fd);
    WAIT_UNTIL(daemons_relay_count(&daemons) == 0, PATIENCE_MS);
}

static int try_connect(struct endpoint destination)
{
    const struct classic_spec spec = {.command = N1_CMD_CONNECT, .destination = destination};
    int fd;
    const int code = classic_try(lab, &spec, &fd, NULL);
    if (fd >= 0) {
        close(fd);
    }
    return code;
}

static int try_connect_name(const char *name, uint16_t port)
{
    const struct classic_spec spec = {
        .command = N1_CMD_CONNECT, .destination = {.port = port}, .name = name};
    int fd;
    const int code = classic_try(lab, &spec, &fd, NULL);
    if (fd >= 0) {
        close(fd);
    }
    return code;
}

/* ---- addresses and replies ---------------------------------------------------------------------
 */

/* N1-CONNECT-030: BND is what the target sees. */
START_TEST(every_pair_of_families_is_connected)
{
    static const char *const targets[] = {LAB_TARGET_V4, LAB_TARGET_V6};
    start(NULL);
    for (int i = 0; i < 4; i++) {
        struct server *echo = server_at(SERVER_ECHO, targets[i % 2], 0);
        const struct classic_spec spec = {.command = N1_CMD_CONNECT,
                                          .destination = server_endpoint(echo),
                                          .server_v6 = i / 2 != 0};
        struct endpoint bound;
        int fd;
        ck_assert_int_eq(classic_try(lab, &spec, &fd, &bound), N1_REP_SUCCEEDED);
        check_echo(fd);
        const struct endpoint peer = server_seen(echo).peer;
        ck_assert_msg(same_endpoint(bound, peer), "BND is %s, the target sees %s", show(bound),
                      show(peer));
        finish(fd);
    }
}
END_TEST

/* N1-CONNECT-020, N1-CONNECT-050, N1-REP-020: each its own code. */
START_TEST(what_dialling_says_is_the_reply)
{
    static const char *const targets[] = {LAB_TARGET_V4, LAB_TARGET_V6};
    start(&(struct daemons_options){.socksd = {NAMESERVER_RESOLVER,
                                               "rules: [{action: deny, to: [10.77.2.3]},"
                                               " {action: deny, to: ['forbidden.lab.test']},"
                                               " {action: allow}]"},
                                    .relayd = {"tcp: {connect-timeout: 2s}"}});
    struct process *nameserver = nameserver_start(lab, (const char *const[]){NULL});
    lab_run(lab, LAB_RELAY,
            "for f in 4 6; do echo 50 > /proc/sys/net/ipv$f/neigh/target0/retrans_time_ms; done;"
            " ip neigh add 10.77.2.98 lladdr 02:00:00:00:00:98 dev target0 nud permanent");
    for (size_t i = 0; i < 2; i++) {
        ck_assert_int_eq(try_connect(at(targets[i], 9)), N1_REP_REFUSED);
    }
    ck_assert_int_eq(try_connect(at("10.99.0.1", 80)), N1_REP_NETWORK_UNREACHABLE);
    ck_assert_int_eq(try_connect(at("2001:db8::1", 80)), N1_REP_NETWORK_UNREACHABLE);
    ck_assert_int_eq(try_connect(at("10.77.2.99", 80)), N1_REP_HOST_UNREACHABLE);
    ck_assert_int_eq(try_connect(at("10.77.2.98", 80)), N1_REP_TTL_EXPIRED);
    ck_assert_int_eq(try_connect(at(LAB_TARGET_V4_2, 80)), N1_REP_NOT_ALLOWED);
    ck_assert_int_eq(try_connect(at("127.0.0.1", 80)), N1_REP_NOT_ALLOWED);
    ck_assert_int_eq(try_connect(at(LAB_TARGET_V4, 0)), N1_REP_GENERAL_FAILURE);
    ck_assert_int_eq(try_connect_name("nobody.lab.test", 80), N1_REP_HOST_UNREACHABLE);
    ck_assert_int_eq(try_connect_name("forbidden.lab.test", 80), N1_REP_NOT_ALLOWED);
    ck_assert(nameserver_was_asked(nameserver, "nobody.lab.test"));
    ck_assert(!nameserver_was_asked(nameserver, "forbidden.lab.test"));
    ck_assert_uint_eq(daemons_relay_count(&daemons), 0);
}
END_TEST

/* Names with NUL, as in N1-NAME-020: nobody is asked. */
START_TEST(malformed_names_read_01)
{
    static const uint8_t request[] = {5,   1,   0,   3,   13,  'w', 'w', 'w', '.', 'l',
                                      'a', 'b', '.', 't', 'e', 0,   't', 's', 0,   80};
    struct endpoint bound;
    start(NULL);
    uint8_t octets[sizeof(request)];
    memcpy(octets, request, sizeof(request));
    octets[4] = sizeof(request) - 7;
    const int fd = n1_connect_ready(lab, LAB_CLIENT, at(LAB_RELAY_V4, 1080));
    socket_send(fd, octets, sizeof(octets));
    ck_assert_int_eq(n1_read_reply(fd, PATIENCE_MS, &bound), N1_REP_GENERAL_FAILURE);
    ck_assert_int_eq(socket_wait_end(fd, PATIENCE_MS), SOCKET_FIN);
    close(fd);
}
END_TEST

/* Happy Eyeballs: an address that nobody answers is no obstacle. */
START_TEST(a_dead_first_address_costs_a_moment)
{
    const uint16_t port = server_endpoint(server_at(SERVER_ECHO, LAB_TARGET_V4, 0)).port;
    const struct classic_spec spec = {
        .command = N1_CMD_CONNECT, .destination = {.port = port}, .name = "both.lab.test"};
    struct endpoint bound;
    int fd;
    nameserver_start(lab, (const char *const[]){"both.lab.test. AAAA fd77:2::98",
                                                "both.lab.test. A " LAB_TARGET_V4, NULL});
    start(&(struct daemons_options){.socksd = {NAMESERVER_RESOLVER}});
    lab_run(lab, LAB_RELAY,
            "ip neigh add fd77:2::98 lladdr 02:00:00:00:00:98 dev target0 nud permanent");
    const int64_t begun = now_ms();
    ck_assert_int_eq(classic_try(lab, &spec, &fd, &bound), N1_REP_SUCCEEDED);
    const int64_t took = now_ms() - begun;
    ck_assert_msg(took >= 200 && took < 3000, "after %lld ms", (long long)took);
    ck_assert(same_address(bound, at(LAB_EGRESS_V4, 0)));
    check_echo(fd);
    /* The loser is closed. */
    ck_assert_uint_eq(proc_sockets_to(process_pid(daemons.relayd_tcp), at("fd77:2::98", port)), 0);
    finish(fd);
}
END_TEST

/* ---- early data, and every boundary -------------------------------------------------------------
 */

/* Method list and request, and `payload` octets of the pattern 5 behind them. */
static size_t everything(struct endpoint to, uint8_t *out, size_t payload)
{
    static const uint8_t methods[] = {N1_VERSION, 1, N1_METHOD_NONE};
    struct pattern pattern = pattern_start(5);
    memcpy(out, methods, sizeof(methods));
    const size_t length = sizeof(methods) + classic_bytes(N1_CMD_CONNECT, to, out + 3);
    pattern_next(&pattern, out + length, payload);
    return length + payload;
}

/* Both answers, then the payload comes back from the echo server, then the end. */
static void check_answers(int fd, size_t payload)
{
    uint8_t answer[2];
    uint64_t hash;
    socket_receive_all(fd, answer, sizeof(answer), PATIENCE_MS);
    ck_assert_uint_eq(answer[1], N1_METHOD_NONE);
    ck_assert_int_eq(n1_read_reply(fd, PATIENCE_MS, NULL), N1_REP_SUCCEEDED);
    shutdown(fd, SHUT_WR);
    ck_assert_uint_eq(stream_receive_to_end(fd, &hash), payload);
    ck_assert_uint_eq(hash, pattern_hash(5, payload));
    close(fd);
}

/* N1-CONN-060 */
START_TEST(early_data_is_the_first_that_the_target_reads)
{
    static const size_t amounts[] = {0, 1, 4095, 4096, 4097, 12288, 200000};
    static uint8_t octets[3 + N1_REQUEST_MAX + 200000];
    start(NULL);
    const struct endpoint to = server_endpoint(server_at(SERVER_ECHO, LAB_TARGET_V4, 0));
    for (size_t i = 0; i < sizeof(amounts) / sizeof(amounts[0]); i++) {
        const size_t length = everything(to, octets, amounts[i]);
        const int fd = n1_connect(lab, LAB_CLIENT, at(LAB_RELAY_V4, 1080));
        socket_send(fd, octets, length);
        check_answers(fd, amounts[i]);
    }
}
END_TEST

/* N1-CONN-010: cut in two at every place, and in pieces of one octet. */
START_TEST(the_handshake_may_be_cut_anywhere)
{
    uint8_t octets[3 + N1_REQUEST_MAX + 20];
    start(NULL);
    const struct endpoint to = server_endpoint(server_at(SERVER_ECHO, LAB_TARGET_V4, 0));
    const size_t length = everything(to, octets, 20);
    for (size_t cut = 1; cut < length; cut++) {
        const int fd = n1_connect(lab, LAB_CLIENT, at(LAB_RELAY_V4, 1080));
        /* The last octet of the first piece goes alone and is acknowledged before the rest follows.
         */
        socket_send(fd, octets, cut - 1);
        ck_assert_uint_eq(socket_send_slowly(fd, octets + cut - 1, 1), 1);
        socket_send(fd, octets + cut, length - cut);
        check_answers(fd, 20);
    }
    const int fd = n1_connect(lab, LAB_CLIENT, at(LAB_RELAY_V4, 1080));
    ck_assert_uint_eq(socket_send_slowly(fd, octets, length), length);
    check_answers(fd, 20);
}
END_TEST

/* N1-CONNECT-040: `printf … | nc -N` sends FIN right behind its data. */
START_TEST(fin_behind_early_data_is_no_end_of_the_request)
{
    uint8_t octets[3 + N1_REQUEST_MAX + 1000];
    uint8_t answer[2];
    uint64_t hash;
    start(NULL);
    struct server *echo = server_at(SERVER_ECHO, LAB_TARGET_V4, 0);
    const size_t length = everything(server_endpoint(echo), octets, 1000);
    const int fd = n1_connect(lab, LAB_CLIENT, at(LAB_RELAY_V4, 1080));
    socket_send(fd, octets, length);
    shutdown(fd, SHUT_WR);
    socket_receive_all(fd, answer, sizeof(answer), PATIENCE_MS);
    ck_assert_int_eq(n1_read_reply(fd, PATIENCE_MS, NULL), N1_REP_SUCCEEDED);
    ck_assert_uint_eq(stream_receive_to_end(fd, &hash), 1000);
    ck_assert_uint_eq(hash, pattern_hash(5, 1000));
    ck_assert_uint_eq(server_seen(echo).ended, 1);
    close(fd);
}
END_TEST

/* ---- transfers ---------------------------------------------------------------------------------
 */

START_TEST(the_client_ends_first_and_downloads)
{
    uint64_t hash;
    start(NULL);
    struct server *source = server_at(SERVER_SOURCE, LAB_TARGET_V4, TRANSFER);
    const int fd = classic_connect(lab, server_endpoint(source));
    shutdown(fd, SHUT_WR);
    WAIT_UNTIL(server_seen(source).ended == 1, PATIENCE_MS);
    ck_assert_uint_eq(stream_receive_to_end(fd, &hash), TRANSFER);
    ck_assert_uint_eq(hash, pattern_hash(3, TRANSFER));
    close(fd);
    WAIT_UNTIL(daemons_relay_count(&daemons) == 0, PATIENCE_MS);
}
END_TEST

START_TEST(the_target_ends_first_and_the_client_uploads)
{
    uint64_t hash;
    start(NULL);
    struct server *source = server_at(SERVER_SOURCE, LAB_TARGET_V4, 10);
    const int fd = classic_connect(lab, server_endpoint(source));
    ck_assert_uint_eq(stream_receive_to_end(fd, &hash), 10);
    stream_send_pattern(fd, 4, TRANSFER);
    close(fd); /* at once: the tail is in socket buffers and pipes */
    WAIT_UNTIL(server_seen(source).ended == 1, PATIENCE_MS);
    ck_assert_uint_eq(server_seen(source).octets, TRANSFER);
    ck_assert_uint_eq(server_seen(source).hash, pattern_hash(4, TRANSFER));
    WAIT_UNTIL(daemons_relay_count(&daemons) == 0, PATIENCE_MS);
}
END_TEST

/* Reads in small steps with pauses, from a small window. Returns the octets. */
static uint64_t receive_slowly(int fd, uint64_t *hash)
{
    uint8_t octets[32768];
    uint64_t total = 0;
    ssize_t got;
    *hash = PATTERN_HASH_START;
    while ((got = socket_receive(fd, octets, sizeof(octets), PATIENCE_MS)) > 0) {
        *hash = pattern_hash_more(*hash, octets, (size_t)got);
        total += (uint64_t)got;
        wait_tick();
    }
    ck_assert_int_eq(got, 0);
    return total;
}

static void shrink_window(int fd)
{
    const int size = 4096;
    ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)), 0);
}

START_TEST(a_slow_client_loses_nothing)
{
    uint64_t hash;
    start(NULL);
    const uint64_t amount = 8 * MIB;
    const int fd =
        classic_connect(lab, server_endpoint(server_at(SERVER_SOURCE, LAB_TARGET_V4, amount)));
    shrink_window(fd);
    shutdown(fd, SHUT_WR);
    ck_assert_uint_eq(receive_slowly(fd, &hash), amount);
    ck_assert_uint_eq(hash, pattern_hash(3, amount));
    close(fd);
}
END_TEST

START_TEST(a_slow_target_loses_nothing)
{
    uint64_t hash;
    struct endpoint local;
    const uint64_t amount = 8 * MIB;
    start(NULL);
    const int listener = socket_listen(lab, LAB_TARGET, at(LAB_TARGET_V4, 0), &local);
    shrink_window(listener);
    const int fd = classic_connect(lab, local);
    const int target = socket_accept(listener, PATIENCE_MS, NULL);
    const pid_t sender = lab_fork(lab, LAB_CLIENT);
    if (sender == 0) {
        stream_send_pattern(fd, 6, amount);
        close(fd);
        _exit(0);
    }
    close(fd);
    ck_assert_uint_eq(receive_slowly(target, &hash), amount);
    ck_assert_uint_eq(hash, pattern_hash(6, amount));
    close(target);
    close(listener);
}
END_TEST

/* ---- ends ---------------------------------------------------------------------------------------
 */

/* Whoever resets, the other one is reset: neither takes a part for the whole. */
START_TEST(a_reset_is_passed_on)
{
    struct endpoint local;
    start(NULL);
    const int listener = socket_listen(lab, LAB_TARGET, at(LAB_TARGET_V4, 0), &local);
    for (int i = 0; i < 2; i++) {
        int ends[2];
        ends[0] = classic_connect(lab, local);
        ends[1] = socket_accept(listener, PATIENCE_MS, NULL);
        socket_send(ends[i], "x", 1);
        socket_abort_on_close(ends[i]);
        close(ends[i]);
        ck_assert_int_eq(socket_wait_end(ends[1 - i], PATIENCE_MS), SOCKET_RST);
        close(ends[1 - i]);
        WAIT_UNTIL(daemons_relay_count(&daemons) == 0, PATIENCE_MS);
    }
    close(listener);
}
END_TEST

/* N1-HAND-010: socksd has no socket of the client's and none of the target's. */
START_TEST(socksd_holds_no_data_socket)
{
    start(NULL);
    struct server *echo = server_at(SERVER_ECHO, LAB_TARGET_V4, 0);
    const pid_t socksd = process_pid(daemons.socksd);
    finish(classic_connect(lab, server_endpoint(echo))); /* whatever is opened once is open */
    const unsigned before = proc_fd_count_at_rest(socksd);
    int fds[10];
    for (size_t i = 0; i < 10; i++) {
        fds[i] = classic_connect(lab, server_endpoint(echo));
        check_echo(fds[i]);
    }
    WAIT_UNTIL(proc_fd_count(socksd) == before, PATIENCE_MS);
    ck_assert_uint_eq(proc_sockets_to(socksd, at(LAB_CLIENT_V4, 0)), 0);
    ck_assert_uint_eq(proc_sockets_to(socksd, at(LAB_TARGET_V4, 0)), 0);
    ck_assert_uint_eq(proc_sockets_to(process_pid(daemons.relayd_tcp), at(LAB_CLIENT_V4, 0)), 10);
    ck_assert_uint_eq(proc_sockets_to(process_pid(daemons.relayd_tcp), at(LAB_TARGET_V4, 0)), 10);
    for (size_t i = 0; i < 10; i++) {
        shutdown(fds[i], SHUT_WR);
        ck_assert_int_eq(socket_wait_end(fds[i], PATIENCE_MS), SOCKET_FIN);
        close(fds[i]);
    }
}
END_TEST

/* N1-HAND-010, N1-UDP-050: so it is with BIND once the peer has come; of a UDP association socksd
 * has the control connection and nothing else. */
START_TEST(socksd_holds_no_data_socket_of_the_others)
{
    const struct classic_spec bind = {.command = N1_CMD_BIND, .destination = at(LAB_TARGET_V4, 0)};
    struct endpoint bound;
    int client;
    start(NULL);
    const struct endpoint echo = server_endpoint(server_echo(lab, SOCK_DGRAM));
    const pid_t socksd = process_pid(daemons.socksd);
    /* Whatever is opened once is open. */
    finish(classic_connect(lab, server_endpoint(server_at(SERVER_ECHO, LAB_TARGET_V4, 0))));
    const unsigned before = proc_fd_count_at_rest(socksd);
    ck_assert_int_eq(classic_try(lab, &bind, &client, &bound), N1_REP_SUCCEEDED);
    const int peer = socket_bound(lab, LAB_TARGET, SOCK_STREAM, at(LAB_TARGET_V4, 0), NULL);
    ck_assert_int_eq(socket_connect(peer, bound, PATIENCE_MS), 0);
    ck_assert_int_eq(n1_read_reply(client, PATIENCE_MS, NULL), N1_REP_SUCCEEDED);
    WAIT_UNTIL(proc_fd_count(socksd) == before, PATIENCE_MS);
    ck_assert_uint_eq(proc_sockets_to(socksd, at(LAB_CLIENT_V4, 0)), 0);

    struct classic_udp udp = classic_associate(lab, at("0.0.0.0", 0));
    classic_check_echo(&udp, echo, "hello", 5);
    ck_assert_uint_eq(proc_fd_count_at_rest(socksd), before + 1);
    ck_assert_uint_eq(proc_sockets_to(socksd, socket_local(udp.control)), 1);
    ck_assert_uint_eq(proc_sockets_to(socksd, at(LAB_TARGET_V4, 0)), 0);
    ck_assert_uint_eq(proc_sockets_at(socksd, at(LAB_RELAY_V4, udp.bound.port)), 0);
    classic_udp_close(&udp);
    close(client);
    close(peer);
}
END_TEST

/* What operators see and can do. */
START_TEST(relayctl_knows_the_kinds)
{
    static const char *const kinds[] = {"connect", "bind", "udp-associate", "transparent"};
    const struct classic_spec bind = {.command = N1_CMD_BIND, .destination = at(LAB_TARGET_V4, 0)};
    int bound;
    start(NULL);
    struct server *echo = server_at(SERVER_ECHO, LAB_TARGET_V4, 0);
    const int connected = classic_connect(lab, server_endpoint(echo));
    check_echo(connected);
    ck_assert_int_eq(classic_try(lab, &bind, &bound, NULL), N1_REP_SUCCEEDED);
    struct classic_udp udp = classic_associate(lab, at("0.0.0.0", 0));
    struct association association = association_tcp(lab, server_endpoint(echo));
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        char filter[32];
        snprintf(filter, sizeof(filter), "kind=%s", kinds[i]);
        json_t *relays = daemons_relayctl(&daemons, "relays", filter, NULL);
        ck_assert_uint_eq(json_array_size(relays), 1);
        const json_t *relay = json_array_get(relays, 0);
        ck_assert_str_eq(relay_text(relay, "kind"), kinds[i]);
        if (i == 0) {
            ck_assert_str_eq(relay_text(relay, "destination"), show(server_endpoint(echo)));
            ck_assert_str_eq(relay_text(relay, "source"), show(socket_local(connected)));
            ck_assert_uint_eq(relay_number(relay, "up_bytes"), 5);
            ck_assert_int_eq(
                daemons_relayctl_status(&daemons, NULL, "close", relay_text(relay, "id"), NULL), 0);
            ck_assert_int_eq(socket_wait_end(connected, PATIENCE_MS), SOCKET_RST);
        }
        if (i == 2) {
            ck_assert(json_is_null(json_object_get(relay, "destination")));
        }
        json_decref(relays);
    }
    close(connected);
    close(bound);
    classic_udp_close(&udp);
    association_close(&association);
    WAIT_UNTIL(daemons_relay_count(&daemons) == 0, PATIENCE_MS);
}
END_TEST

/* A relay daemon's end is the end of its connections; socksd goes on with the next one. */
START_TEST(the_daemons_end_is_the_connections_end)
{
    start(NULL);
    struct server *echo = server_at(SERVER_ECHO, LAB_TARGET_V4, 0);
    const int fd = classic_connect(lab, server_endpoint(echo));
    check_echo(fd);
    process_kill(daemons.relayd_tcp);
    ck_assert_int_ne(socket_wait_end(fd, PATIENCE_MS), SOCKET_OPEN);
    close(fd);
    process_free(daemons.relayd_tcp);
    daemons_start_relayd(&daemons, "tcp");
    daemons_wait_connected(&daemons);
    finish(classic_connect(lab, server_endpoint(echo)));
}
END_TEST

int main(void)
{
    lab_require();
    Suite *suite = suite_create("classic-tcp");
    TCase *tcase = tcase_create("connect");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, every_pair_of_families_is_connected);
    tcase_add_test(tcase, what_dialling_says_is_the_reply);
    tcase_add_test(tcase, malformed_names_read_01);
    tcase_add_test(tcase, a_dead_first_address_costs_a_moment);
    tcase_add_test(tcase, early_data_is_the_first_that_the_target_reads);
    tcase_add_test(tcase, the_handshake_may_be_cut_anywhere);
    tcase_add_test(tcase, fin_behind_early_data_is_no_end_of_the_request);
    tcase_add_test(tcase, the_client_ends_first_and_downloads);
    tcase_add_test(tcase, the_target_ends_first_and_the_client_uploads);
    tcase_add_test(tcase, a_slow_client_loses_nothing);
    tcase_add_test(tcase, a_slow_target_loses_nothing);
    tcase_add_test(tcase, a_reset_is_passed_on);
    tcase_add_test(tcase, socksd_holds_no_data_socket);
    tcase_add_test(tcase, socksd_holds_no_data_socket_of_the_others);
    tcase_add_test(tcase, relayctl_knows_the_kinds);
    tcase_add_test(tcase, the_daemons_end_is_the_connections_end);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
