/*
 * The lab keeps what lab.h promises: the tests that stand on it are worth as much as this one.
 */
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/harness/capture.h"
#include "tests/harness/craft.h"
#include "tests/harness/lab.h"
#include "tests/harness/netstat.h"
#include "tests/harness/packet_check.h"
#include "tests/harness/proc.h"
#include "tests/harness/process.h"
#include "tests/harness/sockets.h"
#include "tests/harness/traffic.h"
#include "tests/harness/wait.h"
#include "tests/harness/wire.h"

static struct lab *lab;

static void setup(void)
{
    lab = lab_new();
}

static void teardown(void)
{
    lab_free(lab);
}

static int connect_from(enum lab_place place, struct endpoint to, int *result)
{
    const int domain = to.address.family == IP_V4 ? AF_INET : AF_INET6;
    const int fd = lab_socket(lab, place, domain, SOCK_STREAM, 0);
    *result = socket_connect(fd, to, PATIENCE_MS);
    return fd;
}

START_TEST(client_and_target_have_no_route_to_each_other)
{
    static const char *const targets[] = {LAB_TARGET_V4, LAB_TARGET_V6, LAB_EGRESS_V4,
                                          LAB_EGRESS_V6};
    static const char *const clients[] = {LAB_CLIENT_V4, LAB_CLIENT_V6};
    int result;
    for (size_t i = 0; i < 4; i++) {
        close(connect_from(LAB_CLIENT, at(targets[i], 80), &result));
        ck_assert_int_eq(result, -ENETUNREACH);
    }
    for (size_t i = 0; i < 2; i++) {
        close(connect_from(LAB_TARGET, at(clients[i], 80), &result));
        ck_assert_int_eq(result, -ENETUNREACH);
    }
}
END_TEST

START_TEST(neighbours_reach_each_other)
{
    static const struct {
        enum lab_place from, to;
        const char *address;
    } pairs[] = {
        {LAB_CLIENT, LAB_RELAY, LAB_RELAY_V4},   {LAB_CLIENT, LAB_RELAY, LAB_RELAY_V6},
        {LAB_RELAY, LAB_TARGET, LAB_TARGET_V4},  {LAB_RELAY, LAB_TARGET, LAB_TARGET_V6},
        {LAB_TARGET, LAB_RELAY, LAB_EGRESS_V4},  {LAB_TARGET, LAB_RELAY, LAB_EGRESS_V6},
        {LAB_STRANGER, LAB_RELAY, LAB_RELAY_V4}, {LAB_STRANGER, LAB_RELAY, LAB_RELAY_V6},
    };
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        struct endpoint local;
        int result;
        const int listener = socket_listen(lab, pairs[i].to, at(pairs[i].address, 0), &local);
        const int fd = connect_from(pairs[i].from, local, &result);
        ck_assert_msg(result == 0, "%s: %s", show(local), strerror(-result));
        close(socket_accept(listener, PATIENCE_MS, NULL));
        ck_assert_int_eq(socket_wait_end(fd, PATIENCE_MS), SOCKET_FIN);
        close(fd);
        close(listener);
    }
}
END_TEST

START_TEST(capture_sees_both_directions_and_only_them)
{
    struct capture *capture = capture_start(lab, LAB_RELAY, LAB_TO_CLIENT);
    struct capture *elsewhere = capture_start(lab, LAB_RELAY, LAB_TO_TARGET);
    struct endpoint bound, client;
    const int server = socket_bound(lab, LAB_RELAY, SOCK_DGRAM, at(LAB_RELAY_V4, 0), &bound);
    const int fd = socket_bound(lab, LAB_CLIENT, SOCK_DGRAM, at(LAB_CLIENT_V4, 0), &client);
    char text[16];
    struct endpoint from;
    socket_send_to(fd, bound, "question", 8);
    ck_assert_int_eq(socket_receive_from(server, text, sizeof(text), PATIENCE_MS, &from), 8);
    ck_assert_str_eq(show(from), show(client));
    socket_send_to(server, from, "answer", 6);
    ck_assert_int_eq(socket_receive(fd, text, sizeof(text), PATIENCE_MS), 6);

    const struct packet_match in = {
        .protocol = IPPROTO_UDP, .destination = bound, .only_incoming = true};
    const struct packet_match out = {
        .protocol = IPPROTO_UDP, .source = bound, .only_outgoing = true};
    struct packet packet;
    WAIT_UNTIL(capture_count(capture, &in) == 1 && capture_count(capture, &out) == 1, PATIENCE_MS);
    ck_assert(capture_get(capture, &in, 0, &packet));
    ck_assert_uint_eq(packet.length, 8);
    ck_assert_mem_eq(packet.payload, "question", 8);
    ck_assert(capture_contains(capture, &out, "answer", 6));
    ck_assert(!capture_contains(capture, &in, "answer", 6));
    ck_assert_uint_eq(capture_payload(capture, &out), 6);
    ck_assert_uint_eq(capture_count(elsewhere, &in), 0);
    close(server);
    close(fd);
}
END_TEST

START_TEST(servers_echo_hash_and_send)
{
    struct server *echo = server_echo(lab, SOCK_STREAM), *sink = server_sink(lab, SOCK_STREAM);
    const struct server_spec spec = {.kind = SERVER_SOURCE,
                                     .type = SOCK_STREAM,
                                     .address = at(LAB_TARGET_V6, 0),
                                     .octets = 300001,
                                     .seed = 5};
    struct server *source = server_start(lab, LAB_TARGET, &spec);
    uint64_t hash;
    char text[5];
    int result, fd = connect_from(LAB_RELAY, server_endpoint(echo), &result);
    ck_assert_int_eq(result, 0);
    socket_send(fd, "hello", 5);
    socket_receive_all(fd, text, 5, PATIENCE_MS);
    ck_assert_mem_eq(text, "hello", 5);
    close(fd);

    fd = connect_from(LAB_RELAY, server_endpoint(sink), &result);
    ck_assert_int_eq(result, 0);
    stream_send_pattern(fd, 9, 200003);
    close(fd);
    WAIT_UNTIL(server_seen(sink).ended == 1, PATIENCE_MS);
    ck_assert_uint_eq(server_seen(sink).octets, 200003);
    ck_assert(server_seen(sink).hash == pattern_hash(9, 200003));
    ck_assert_uint_eq(server_seen(sink).connections, 1);

    fd = connect_from(LAB_RELAY, server_endpoint(source), &result);
    ck_assert_int_eq(result, 0);
    ck_assert_uint_eq(stream_receive_to_end(fd, &hash), 300001);
    ck_assert(hash == pattern_hash(5, 300001));
    ck_assert(hash != pattern_hash(6, 300001));
    close(fd);

    fd = connect_from(LAB_RELAY, server_endpoint(echo), &result);
    socket_abort_on_close(fd);
    WAIT_UNTIL(server_seen(echo).connections == 2, PATIENCE_MS);
    close(fd);
    WAIT_UNTIL(server_seen(echo).reset == 1, PATIENCE_MS);
}
END_TEST

START_TEST(processes_run_in_their_place_and_are_told_apart)
{
    int status;
    const struct process_spec show_links = {.name = "links", .argv = {"ip", "-o", "link"}};
    struct process *links = process_run(lab, LAB_RELAY, &show_links, PATIENCE_MS, &status);
    ck_assert_int_eq(status, 0);
    ck_assert_ptr_nonnull(strstr(process_output(links), LAB_TO_STRANGER));

    const struct process_spec ready = {
        .name = "ready",
        .argv = {"sh", "-c", "echo out; echo 'a=1 b=2' >&2; echo READY >&3; exec sleep 600"},
        .ready = true};
    struct process *process = process_start(lab, LAB_TARGET, &ready);
    ck_assert_str_eq(process_output(process), "out\n");
    ck_assert(process_log_has(process, "a=1", "b=2", NULL));
    ck_assert(!process_log_has(process, "a=1", "c=", NULL));
    ck_assert_uint_eq(process_log_count(process, "="), 1);
    /* The shell is on its way to becoming sleep, which opens its libraries. */
    WAIT_UNTIL(proc_fd_count(process_pid(process)) == 4, PATIENCE_MS);
    ck_assert(process_is_alive(process));
    process_kill(process);
    ck_assert_int_eq(process_wait(process, 0), 128 + SIGKILL);

    const struct process_spec dies = {.name = "dies", .argv = {"sh", "-c", "exit 3"}};
    ck_assert(!process_try_start(lab, LAB_TARGET, &dies, &process));
    ck_assert_int_eq(process_wait(process, PATIENCE_MS), 3);
}
END_TEST

START_TEST(proc_shows_sockets_of_the_process_only)
{
    struct server *echo = server_echo(lab, SOCK_STREAM);
    int result;
    const int fd = connect_from(LAB_RELAY, server_endpoint(echo), &result);
    ck_assert_int_eq(result, 0);
    const struct endpoint mine = socket_local(fd);
    char text[256];
    snprintf(text, sizeof(text), "exec 4<>/dev/tcp/%s/%u; echo READY >&3; sleep 600", LAB_TARGET_V4,
             server_endpoint(echo).port);
    const struct process_spec spec = {.name = "bash", .argv = {"bash", "-c", text}, .ready = true};
    struct process *process = process_start(lab, LAB_RELAY, &spec);
    ck_assert_uint_eq(proc_sockets_to(process_pid(process), server_endpoint(echo)), 1);
    ck_assert_uint_eq(proc_sockets_at(process_pid(process), mine), 0);
    ck_assert_uint_eq(proc_sockets_to(process_pid(process), at(LAB_TARGET_V4, 0)), 1);
    ck_assert_uint_gt(proc_rss_kib(process_pid(process)), 100);
    close(fd);
}
END_TEST

/* What a test leaves behind when it dies without a word. */
START_TEST(nothing_outlives_a_dead_test)
{
    int ends[2];
    struct {
        pid_t process;
        char directory[64];
    } left = {0};
    ck_assert_int_eq(pipe(ends), 0);
    const pid_t test = fork();
    if (test == 0) {
        ck_assert_ptr_nonnull(freopen("/dev/null", "w", stderr));
        struct lab *doomed = lab_new();
        const struct process_spec spec = {.name = "sleep", .argv = {"sleep", "600"}};
        left.process = process_pid(process_start(doomed, LAB_TARGET, &spec));
        strncpy(left.directory, lab_directory(doomed), sizeof(left.directory) - 1);
        if (access(left.directory, F_OK) != 0) {
            left.directory[0] = '\0';
        }
        ck_assert_int_eq(write(ends[1], &left, sizeof(left)), sizeof(left));
        raise(SIGKILL);
    }
    ck_assert_int_eq(read(ends[0], &left, sizeof(left)), sizeof(left));
    ck_assert_str_ne(left.directory, ""); /* it was there; it may be gone by now */
    ck_assert_int_eq(waitpid(test, NULL, 0), test);
    WAIT_UNTIL(kill(left.process, 0) != 0 && errno == ESRCH, PATIENCE_MS);
    WAIT_UNTIL(access(left.directory, F_OK) != 0, PATIENCE_MS);
}
END_TEST

static const char *problem_of(const struct craft *craft)
{
    static uint8_t packet[CRAFT_MAX];
    return packet_problem(packet, craft_build(craft, packet, sizeof(packet)));
}

/* Every octet of a packet counts, and a packet that is right has no problem. */
START_TEST(packets_are_judged)
{
    static const uint8_t protocols[] = {IPPROTO_TCP, IPPROTO_TCP,  IPPROTO_UDP,
                                        IPPROTO_UDP, IPPROTO_ICMP, IPPROTO_ICMPV6};
    for (unsigned i = 0; i < 6; i++) {
        const bool v6 = i % 2 == 1;
        struct craft craft = {.source = at(v6 ? LAB_CLIENT_V6 : LAB_CLIENT_V4, 1000),
                              .destination = at(v6 ? LAB_RELAY_V6 : LAB_RELAY_V4, 2000),
                              .protocol = protocols[i],
                              .length = 101};
        uint8_t packet[256];
        ck_assert_ptr_null(problem_of(&craft));
        const size_t length = craft_build(&craft, packet, sizeof(packet));
        for (size_t place = v6 ? 8 : 0; place < length; place++) {
            packet[place] ^= 0x10;
            ck_assert_msg(packet_problem(packet, length) != NULL, "octet %zu of %u", place, i);
            packet[place] ^= 0x10;
        }
        ck_assert_ptr_nonnull(packet_problem(packet, length - 1));
        craft.wrong = CRAFT_BAD_CHECKSUM;
        ck_assert_ptr_nonnull(problem_of(&craft));
        craft.wrong = 0;
        craft.total_length = 50;
        ck_assert_ptr_nonnull(problem_of(&craft));
    }
}
END_TEST

/* What is put on a wire arrives as it is, and the receiver's kernel counts what is wrong with it.
 */
START_TEST(wires_carry_what_they_are_given)
{
    struct wire wire = wire_to_relay(lab, LAB_CLIENT);
    struct capture *capture = capture_start(lab, LAB_RELAY, LAB_TO_CLIENT);
    struct endpoint local;
    const int bound = socket_bound(lab, LAB_RELAY, SOCK_DGRAM, at(LAB_RELAY_V4, 0), &local);
    struct craft craft = {.source = at(LAB_CLIENT_V4_2, 1234),
                          .destination = local,
                          .protocol = IPPROTO_UDP,
                          .ttl = 7,
                          .data = "wire",
                          .length = 4};
    const struct packet_match match = {.source = craft.source, .destination = local};
    struct packet packet;
    char text[5] = {0};
    wire_send_craft(&wire, &craft);
    ck_assert_int_eq(socket_receive(bound, text, 4, PATIENCE_MS), 4);
    ck_assert_str_eq(text, "wire");
    ck_assert(capture_get(capture, &match, 0, &packet));
    ck_assert_uint_eq(packet.data[8], 7);
    ck_assert_uint_eq(netstat_checksum_errors(lab, LAB_RELAY), 0);
    craft.wrong = CRAFT_BAD_CHECKSUM;
    wire_send_craft(&wire, &craft);
    WAIT_UNTIL(netstat_checksum_errors(lab, LAB_RELAY) == 1, PATIENCE_MS);
    ck_assert_uint_eq(netstat_counter(lab, LAB_RELAY, "Udp:InDatagrams"), 1);
    ck_assert_uint_eq(netstat_counter(lab, LAB_RELAY, "Udp6InDatagrams"), 0);
    craft.wrong = 0;
    craft.length = 0;
    wire.vlan = 9;
    wire_send_craft(&wire, &craft);
    wire.vlan = 0;
    wire.destination[5] ^= 1;
    wire_send_craft(&wire, &craft);
    ck_assert_uint_eq(netstat_counter(lab, LAB_RELAY, "Udp:InDatagrams"), 1);
    close(bound);
    wire_close(&wire);
}
END_TEST

int main(void)
{
    lab_require();
    Suite *suite = suite_create("lab");
    TCase *tcase = tcase_create("lab");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, client_and_target_have_no_route_to_each_other);
    tcase_add_test(tcase, neighbours_reach_each_other);
    tcase_add_test(tcase, capture_sees_both_directions_and_only_them);
    tcase_add_test(tcase, servers_echo_hash_and_send);
    tcase_add_test(tcase, processes_run_in_their_place_and_are_told_apart);
    tcase_add_test(tcase, proc_shows_sockets_of_the_process_only);
    tcase_add_test(tcase, packets_are_judged);
    tcase_add_test(tcase, wires_carry_what_they_are_given);
    tcase_add_test(tcase, nothing_outlives_a_dead_test);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
