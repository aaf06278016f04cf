/*
 * sockst as a user calls it: whole transfers, forwarded ports, datagrams, and what it says when
 * something is wrong.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/n1.h"
#include "proto/ptcl.h"
#include "tests/harness/daemons.h"
#include "tests/harness/sockets.h"
#include "tests/harness/traffic.h"
#include "tests/harness/wait.h"

#define TRANSFER (UINT64_C(100) * 1000 * 1000)
#define TRANSFER_MS 120000

static struct lab *lab;
static struct daemons daemons;

static void setup(void)
{
    lab = lab_new();
    daemons = daemons_start(lab, NULL);
}

static void teardown(void)
{
    daemons_stop(&daemons);
    lab_free(lab);
}

/* A shell on the client's host with the proxy in its environment; $S is sockst. */
static struct process *shell(const char *command)
{
    char text[1024];
    snprintf(text, sizeof(text), "cd %s; export SOCKST_PROXY=socks5t://%s; S=%s; %s",
             lab_directory(lab), LAB_RELAY_V4, program_sockst(), command);
    const struct process_spec spec = {.name = "sockst", .argv = {"sh", "-c", text}};
    return process_start(lab, LAB_CLIENT, &spec);
}

/* Runs it to its end, which must be this status; its standard error has the text, if not NULL. */
static void check_shell(const char *command, int status, const char *said)
{
    struct process *process = shell(command);
    const int got = process_wait(process, TRANSFER_MS);
    ck_assert_msg(got == status, "exit status %d, expected %d, of: %s\n%s", got, status, command,
                  process_log(process));
    if (said != NULL) {
        ck_assert_msg(strstr(process_log(process), said) != NULL, "%s: no \"%s\" in: %s", command,
                      said, process_log(process));
    }
    process_free(process);
}

static void write_pattern(const char *name, uint64_t seed, uint64_t octets)
{
    uint8_t chunk[65536];
    struct pattern pattern = pattern_start(seed);
    FILE *file = fopen(lab_path(lab, name), "we");
    ck_assert_ptr_nonnull(file);
    while (octets > 0) {
        const size_t now = octets < sizeof(chunk) ? (size_t)octets : sizeof(chunk);
        pattern_next(&pattern, chunk, now);
        ck_assert_uint_eq(fwrite(chunk, 1, now, file), now);
        octets -= now;
    }
    ck_assert_int_eq(fclose(file), 0);
}

static uint64_t hash_file(const char *name, uint64_t *octets)
{
    uint8_t chunk[65536];
    uint64_t hash = PATTERN_HASH_START;
    FILE *file = fopen(lab_path(lab, name), "re");
    ck_assert_ptr_nonnull(file);
    *octets = 0;
    for (size_t length; (length = fread(chunk, 1, sizeof(chunk), file)) > 0; *octets += length) {
        hash = pattern_hash_more(hash, chunk, length);
    }
    fclose(file);
    return hash;
}

/* ---- connect -----------------------------------------------------------------------------------
 */

/* N1-END-010, N1-END-030 */
START_TEST(an_upload_by_a_program_that_exits_at_once_is_complete)
{
    static const char *const ways[] = {"cat upload | $S connect 10.77.2.2 %u",
                                       "$S connect 10.77.2.2 %u < upload"};
    char command[128];
    write_pattern("upload", 1, TRANSFER);
    const uint64_t expected = pattern_hash(1, TRANSFER);
    for (int round = 0; round < 5; round++) {
        struct server *sink = server_sink(lab, SOCK_STREAM);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(command, sizeof(command), ways[round % 2], server_endpoint(sink).port);
#pragma GCC diagnostic pop
        check_shell(command, 0, NULL);
        WAIT_UNTIL(server_seen(sink).ended == 1, PATIENCE_MS);
        const struct server_seen seen = server_seen(sink);
        ck_assert_uint_eq(seen.octets, TRANSFER);
        ck_assert_uint_eq(seen.hash, expected);
        ck_assert_uint_eq(seen.reset, 0);
        server_free(sink);
    }
}
END_TEST

/* N1-END-010, N1-LIFE-040: the client's end comes first, at once */
START_TEST(a_download_is_complete)
{
    const struct server_spec spec = {.kind = SERVER_SOURCE,
                                     .type = SOCK_STREAM,
                                     .address = at(LAB_TARGET_V4, 7000),
                                     .octets = TRANSFER,
                                     .seed = 2};
    uint64_t octets;
    server_start(lab, LAB_TARGET, &spec);
    check_shell("$S connect 10.77.2.2 7000 < /dev/null > download", 0, NULL);
    ck_assert_uint_eq(hash_file("download", &octets), pattern_hash(2, TRANSFER));
    ck_assert_uint_eq(octets, TRANSFER);
    check_shell("$S connect 10.77.2.2 7000 < /dev/null | cat > download", 0, NULL);
    ck_assert_uint_eq(hash_file("download", &octets), pattern_hash(2, TRANSFER));
}
END_TEST

/* N1-END-010, N1-DST-040: both directions at a time, client IPv4, target IPv6 */
START_TEST(an_echo_is_complete)
{
    const struct server_spec spec = {
        .kind = SERVER_ECHO, .type = SOCK_STREAM, .address = at(LAB_TARGET_V6, 7000)};
    const uint64_t length = 20 * 1000 * 1000 + 7;
    uint64_t octets;
    server_start(lab, LAB_TARGET, &spec);
    write_pattern("upload", 3, length);
    check_shell("$S -v connect fd77:2::2 7000 < upload > download", 0,
                "sent 20000007 octets, received 20000007");
    ck_assert_uint_eq(hash_file("download", &octets), pattern_hash(3, length));
}
END_TEST

/* A transfer that stands, with the test as its target. */
static struct process *stand(int *target)
{
    struct endpoint local;
    char command[128];
    const int listener = socket_listen(lab, LAB_TARGET, at(LAB_TARGET_V4, 0), &local);
    snprintf(command, sizeof(command), "exec $S connect 10.77.2.2 %u < /dev/zero", local.port);
    struct process *process = shell(command);
    char octets[1000];
    *target = socket_accept(listener, PATIENCE_MS, NULL);
    socket_receive_all(*target, octets, sizeof(octets), PATIENCE_MS);
    close(listener);
    return process;
}

/* N1-END-040, N1-END-050, N1-REP-040 */
START_TEST(a_transfer_that_is_cut_off_is_a_failure)
{
    int target;
    struct process *process = stand(&target);
    json_t *relays = daemons_relayctl(&daemons, "relays", NULL);
    const char *id = relay_text(json_array_get(relays, 0), "id");
    ck_assert_int_eq(daemons_relayctl_status(&daemons, NULL, "close", id, NULL), 0);
    json_decref(relays);
    ck_assert_int_eq(process_wait(process, PATIENCE_MS), 1);
    close(target);

    process = stand(&target);
    socket_abort_on_close(target);
    close(target);
    ck_assert_int_eq(process_wait(process, PATIENCE_MS), 1);

    process = stand(&target);
    process_signal(process, SIGINT);
    ck_assert_int_eq(process_wait(process, PATIENCE_MS), 128 + SIGINT);
    ck_assert_int_eq(socket_wait_end(target, PATIENCE_MS), SOCKET_RST);
    close(target);

    process = stand(&target);
    process_kill(daemons.relayd_tcp);
    process_free(daemons.relayd_tcp);
    daemons.relayd_tcp = NULL;
    ck_assert_int_eq(process_wait(process, PATIENCE_MS), 1);
    ck_assert_uint_eq(process_log_count(process, "sockst: "), 1);
    close(target);
}
END_TEST

/* ---- forward -----------------------------------------------------------------------------------
 */

/* Starts it on a free port of the client's loopback and reads where that is. */
static struct process *forward(const char *ptcl, struct endpoint to, struct endpoint *local)
{
    char command[256];
    snprintf(command, sizeof(command), "exec $S forward %s 127.0.0.1:0 %s", ptcl, show(to));
    struct process *process = shell(command);
    WAIT_UNTIL(process_log_has(process, "sockst: listening on 127.0.0.1:", NULL), PATIENCE_MS);
    const char *port = strstr(process_log(process), "127.0.0.1:") + strlen("127.0.0.1:");
    *local = at("127.0.0.1", (uint16_t)strtoul(port, NULL, 10));
    return process;
}

#define PEERS 5

/* N1-LIFE-010, N1-END-010: each connection has an association of its own */
START_TEST(forward_tcp_serves_several_at_a_time)
{
    struct endpoint local;
    int fds[PEERS];
    char text[16];
    struct server *echo = server_echo(lab, SOCK_STREAM);
    struct process *process = forward("tcp", server_endpoint(echo), &local);
    for (int i = 0; i < PEERS; i++) {
        fds[i] = lab_socket(lab, LAB_CLIENT, AF_INET, SOCK_STREAM, 0);
        ck_assert_int_eq(socket_connect(fds[i], local, PATIENCE_MS), 0);
    }
    for (int i = PEERS - 1; i >= 0; i--) {
        snprintf(text, sizeof(text), "peer %d", i);
        socket_send(fds[i], text, 6);
        socket_receive_all(fds[i], text, 6, PATIENCE_MS);
        ck_assert_int_eq(text[5], '0' + i);
    }
    ck_assert_uint_eq(daemons_relay_count(&daemons), PEERS);
    for (int i = 0; i < PEERS - 1; i++) {
        shutdown(fds[i], SHUT_WR);
        ck_assert_int_eq(socket_wait_end(fds[i], PATIENCE_MS), SOCKET_FIN);
        close(fds[i]);
    }
    WAIT_UNTIL(daemons_relay_count(&daemons) == 1, PATIENCE_MS);
    process_stop(process); /* exit status 0 */
    WAIT_UNTIL(daemons_relay_count(&daemons) == 0, PATIENCE_MS);
    ck_assert_int_ne(socket_wait_end(fds[PEERS - 1], PATIENCE_MS), SOCKET_OPEN);
    close(fds[PEERS - 1]);
}
END_TEST

/* N1-REP-020: what the server refuses ends the connection that asked, and no other */
START_TEST(forward_tcp_goes_on_after_a_refusal)
{
    struct endpoint local, free_port;
    const int listener = socket_listen(lab, LAB_TARGET, at(LAB_TARGET_V4, 0), &free_port);
    close(listener);
    struct process *process = forward("tcp", free_port, &local);
    for (int i = 0; i < 2; i++) {
        const int fd = lab_socket(lab, LAB_CLIENT, AF_INET, SOCK_STREAM, 0);
        /* The end may come before connect() has looked. */
        const int result = socket_connect(fd, local, PATIENCE_MS);
        if (result != -ECONNRESET) {
            ck_assert_int_eq(result, 0);
            ck_assert_int_ne(socket_wait_end(fd, PATIENCE_MS), SOCKET_OPEN);
        }
        close(fd);
    }
    WAIT_UNTIL(process_log_count(process, "(X'05')") == 2, PATIENCE_MS);
    process_stop(process);
}
END_TEST

/* N1-LIFE-050 */
START_TEST(forward_udp_serves_several_peers)
{
    struct endpoint local;
    int fds[PEERS];
    char text[16];
    struct server *echo = server_echo(lab, SOCK_DGRAM);
    struct process *process = forward("udp", server_endpoint(echo), &local);
    for (int i = 0; i < PEERS; i++) {
        fds[i] = socket_bound(lab, LAB_CLIENT, SOCK_DGRAM, at("127.0.0.1", 0), NULL);
        ck_assert_int_eq(socket_connect(fds[i], local, PATIENCE_MS), 0);
        for (int j = 0; j < 3; j++) { /* kept until the association stands */
            snprintf(text, sizeof(text), "%d of %d", j, i);
            socket_send(fds[i], text, 6);
        }
    }
    for (int i = 0; i < PEERS; i++) {
        for (int j = 0; j < 3; j++) {
            char expected[16];
            snprintf(expected, sizeof(expected), "%d of %d", j, i);
            ck_assert_int_eq(socket_receive(fds[i], text, sizeof(text), PATIENCE_MS), 6);
            ck_assert_mem_eq(text, expected, 6);
        }
        close(fds[i]);
    }
    ck_assert_uint_eq(daemons_relay_count(&daemons), PEERS);
    process_stop(process);
    WAIT_UNTIL(daemons_relay_count(&daemons) == 0, PATIENCE_MS);
}
END_TEST

/* ---- udp ---------------------------------------------------------------------------------------
 */

/* N1-REQ-010 */
START_TEST(udp_exchanges_datagrams)
{
    char command[160];
    struct server *echo = server_echo(lab, SOCK_DGRAM), *sink = server_sink(lab, SOCK_DGRAM);
    snprintf(command, sizeof(command),
             "printf 'one\\n\\nthree\\n' | $S udp --lines --count 3 10.77.2.2 %u > answers",
             server_endpoint(echo).port);
    check_shell(command, 0, NULL);
    check_shell("test \"$(cat answers)\" = \"$(printf 'one\\n\\nthree\\n')\"", 0, NULL);
    ck_assert_uint_eq(server_seen(echo).messages, 3);
    snprintf(command, sizeof(command),
             "head -c 65507 /dev/zero | dd bs=65507 iflag=fullblock status=none |"
             " $S udp --timeout 0.3 10.77.2.2 %u",
             server_endpoint(sink).port);
    check_shell(command, 0, NULL);
    WAIT_UNTIL(server_seen(sink).octets == 65507, PATIENCE_MS);
    snprintf(command, sizeof(command), "echo x | $S udp --count 1 --timeout 0.2 10.77.2.2 %u",
             server_endpoint(sink).port);
    check_shell(command, 1, "0 of 1 answers came in time");
}
END_TEST

/* ---- probe -------------------------------------------------------------------------------------
 */

/* reply_if_not: -1 where there are no reply codes. */
static void check_rows(const json_t *rows, const bool *supported, int reply_if_not)
{
    size_t index;
    const json_t *row;
    ck_assert_uint_gt(json_array_size(rows), 0);
    json_array_foreach(rows, index, row)
    {
        const json_int_t number = json_integer_value(json_object_get(row, "number"));
        const json_t *answer = json_object_get(row, "supported");
        ck_assert_msg(json_is_boolean(answer) && json_is_true(answer) == supported[number],
                      "%s: %s", json_string_value(json_object_get(row, "name")),
                      json_is_true(answer) ? "supported" : "not supported");
        if (reply_if_not < 0) {
            ck_assert(json_is_null(json_object_get(row, "reply")));
        } else if (!supported[number]) {
            ck_assert_int_eq(json_integer_value(json_object_get(row, "reply")), reply_if_not);
        }
    }
}

/* N1-METH-030, N1-REQ-030, N1-PTCL-010 */
START_TEST(probe_says_what_is_offered)
{
    static const bool methods[256] = {[N1_METHOD_NONE] = true};
    static const bool commands[256] = {[N1_CMD_CONNECT] = true,
                                       [N1_CMD_BIND] = true,
                                       [N1_CMD_UDP_ASSOCIATE] = true,
                                       [N1_CMD_TRANSPARENT] = true};
    static const bool ptcls[256] = {[PTCL_TCP] = true, [PTCL_UDP] = true};
    struct process *process = shell("$S --json probe");
    json_error_t error;
    ck_assert_int_eq(process_wait(process, 2 * PATIENCE_MS), 0);
    json_t *whole = json_loads(process_output(process), 0, &error);
    ck_assert_msg(whole != NULL, "%s in: %s", error.text, process_output(process));
    ck_assert_str_eq(json_string_value(json_object_get(whole, "proxy")), LAB_RELAY_V4 ":1080");
    check_rows(json_object_get(whole, "methods"), methods, -1);
    check_rows(json_object_get(whole, "commands"), commands, N1_REP_COMMAND_NOT_SUPPORTED);
    check_rows(json_object_get(whole, "ptcls"), ptcls, N1_REP_PTCL_NOT_SUPPORTED);
    json_decref(whole);
    check_shell(
        "$S probe > table && grep -Eq '^ptcl +17 +udp +yes' table &&"
        " grep -Eq '^command +1 .* yes ' table",
        0, NULL);
    /* a relay that a question opened goes with its control connection */
    WAIT_UNTIL(daemons_relay_count(&daemons) == 0, PATIENCE_MS);
}
END_TEST

/* ---- what may be wrong -------------------------------------------------------------------------
 */

struct failure {
    const char *command;
    int status;
    const char *said;
};

/* N1-REP-020, N1-METH-050 */
START_TEST(failures_have_their_exit_status_and_words)
{
    static const struct failure failures[] = {
        {"$S", 2, NULL},
        {"$S nonsense 2>&1 | grep -q . && $S nonsense", 2, NULL},
        {"$S connect 10.77.2.2", 2, NULL},
        {"$S connect 10.77.2.2 0", 2, NULL},
        {"$S connect 10.77.2.2 65536", 2, NULL},
        {"$S connect 10.77.2.2 80x", 2, NULL},
        {"$S connect 10.77.2.2 80 81", 2, NULL},
        {"$S --proxy http://10.77.1.1 connect 10.77.2.2 80", 2, NULL},
        {"$S --count -1 udp 10.77.2.2 80", 2, NULL},
        {"$S forward sctp 127.0.0.1:0 10.77.2.2:80", 2, NULL},
        {"$S --proxy socks5t://10.77.1.1:9 connect 10.77.2.2 80", 3, "sockst: "},
        {"$S --proxy socks5t://10.77.1.1:9 probe", 3, "sockst: "},
        {"$S --proxy socks5t://192.0.2.1 udp 10.77.2.2 80", 3, "sockst: "},
        {"$S connect 127.0.0.1 80", 4,
         "sockst: the server refused: Connection not allowed by ruleset (X'02')"},
        {"$S connect 10.77.2.2 9", 4, "sockst: the server refused: Connection refused (X'05')"},
        {"$S connect 10.99.0.1 9", 4, "sockst: the server refused: Network unreachable (X'03')"},
        {"$S udp 10.99.0.1 9", 4, "(X'03')"},
        {"$S --proxy socks5t://10.77.1.1:7001 connect 10.77.2.2 80", 5, "sockst: "},
        {"$S --proxy socks5t://10.77.1.1:7001 probe", 5, "sockst: "},
        {"$S --help | grep -q connect", 0, NULL},
        {"$S --version | grep -q sockst", 0, NULL},
    };
    const struct server_spec nonsense = {.kind = SERVER_SOURCE,
                                         .type = SOCK_STREAM,
                                         .address = at(LAB_RELAY_V4, 7001),
                                         .octets = 100,
                                         .seed = 1};
    server_start(lab, LAB_RELAY, &nonsense);
    for (size_t i = 0; i < sizeof(failures) / sizeof(failures[0]); i++) {
        check_shell(failures[i].command, failures[i].status, failures[i].said);
    }
}
END_TEST

/* N1-BND-010: a BND that cannot be reached from here */
START_TEST(a_relay_that_cannot_be_reached_is_told_apart)
{
    daemons_stop(&daemons);
    daemons = daemons_start(
        lab, &(struct daemons_options){
                 .relayd = {"bind: {addresses: auto, advertise: {10.77.1.1: 10.99.0.9}}"}});
    struct server *echo = server_echo(lab, SOCK_STREAM);
    char command[128];
    snprintf(command, sizeof(command), "$S --connect-timeout 2 connect 10.77.2.2 %u",
             server_endpoint(echo).port);
    check_shell(command, 6, "sockst: ");
    WAIT_UNTIL(daemons_relay_count(&daemons) == 0, PATIENCE_MS);
}
END_TEST

int main(void)
{
    lab_require();
    Suite *suite = suite_create("upload");
    TCase *tcase = tcase_create("sockst");
    tcase_set_timeout(tcase, 240);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, an_upload_by_a_program_that_exits_at_once_is_complete);
    tcase_add_test(tcase, a_download_is_complete);
    tcase_add_test(tcase, an_echo_is_complete);
    tcase_add_test(tcase, a_transfer_that_is_cut_off_is_a_failure);
    tcase_add_test(tcase, forward_tcp_serves_several_at_a_time);
    tcase_add_test(tcase, forward_tcp_goes_on_after_a_refusal);
    tcase_add_test(tcase, forward_udp_serves_several_peers);
    tcase_add_test(tcase, udp_exchanges_datagrams);
    tcase_add_test(tcase, probe_says_what_is_offered);
    tcase_add_test(tcase, failures_have_their_exit_status_and_words);
    tcase_add_test(tcase, a_relay_that_cannot_be_reached_is_told_apart);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
