/*
 * Programs of others over relays of the BPF plane, and connections over bad links.
 * proto/PLANE.md
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/ptcl.h"
#include "tests/harness/daemons.h"
#include "tests/harness/disorder.h"
#include "tests/harness/n1_client.h"
#include "tests/harness/process.h"
#include "tests/harness/traffic.h"
#include "tests/harness/wait.h"

#define MIB (UINT64_C(1024) * 1024)
#define PROGRAM_MS 60000
#define QUIC_DATAGRAM 1350
#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

static struct lab *lab;
static struct daemons daemons;

static void setup(void)
{
    const struct daemons_options options = {.relayd = {"plane: bpf"}};

    lab = lab_new();
    daemons = daemons_start(lab, &options);
}

static void teardown(void)
{
    daemons_stop(&daemons);
    lab_free(lab);
}

static bool installed(const char *program)
{
    char command[64];

    snprintf(command, sizeof(command), "command -v %s >/dev/null", program);
    if (system(command) == 0)
        return true;
    printf("skipped: %s is not installed\n", program);
    return false;
}

/* Every connection, or datagram's sender, gets an association of its own. */
static void forward(const char *ptcl, uint16_t port)
{
    char local[32], to[32], proxy[64];
    struct process *process;

    snprintf(local, sizeof(local), "127.0.0.1:%u", port);
    snprintf(to, sizeof(to), "%s:%u", LAB_TARGET_V4, port);
    snprintf(proxy, sizeof(proxy), "socks5t://%s", LAB_RELAY_V4);
    const struct process_spec spec = {
        .name = ptcl, .argv = {program_sockst(), "--proxy", proxy, "forward", ptcl, local, to}};
    process = process_start(lab, LAB_CLIENT, &spec);
    WAIT_UNTIL(process_log_has(process, "sockst: listening on 127.0.0.1:", NULL), PATIENCE_MS);
}

/* ---- programs ----------------------------------------------------------------------------------
 */

static void iperf3(const char *options)
{
    int status;
    const struct process_spec server = {
        .name = "iperf3-server", .argv = {"iperf3", "-s", "-1", "-p", "5201", "--forceflush"}};
    char command[256];
    struct process *listener = process_start(lab, LAB_TARGET, &server), *client;

    WAIT_UNTIL(strstr(process_output(listener), "Server listening") != NULL, PATIENCE_MS);
    snprintf(command, sizeof(command), "iperf3 -c 127.0.0.1 -p 5201 -t 1 %s", options);
    const struct process_spec spec = {.name = "iperf3-client", .argv = {"sh", "-c", command}};
    client = process_run(lab, LAB_CLIENT, &spec, PROGRAM_MS, &status);
    ck_assert_msg(status == 0, "%s: %d\n%s%s", command, status, process_output(client),
                  process_log(client));
    ck_assert_int_eq(process_wait(listener, PATIENCE_MS), 0);
}

/* PLANE-PATH-100: a connection of control beside streams in both directions, and datagrams. */
START_TEST(iperf3_measures)
{
    if (!installed("iperf3"))
        return;
    forward("tcp", 5201);
    forward("udp", 5201);
    iperf3("");
    iperf3("-R");
    iperf3("-P 4");
    iperf3("-u -b 50M -l 1200");
    iperf3("-u -b 50M -l 1200 -R");
    ck_assert_uint_ge(daemons_counter(&daemons, "tcp", "bpf_opened"), 11);
    ck_assert_uint_ge(daemons_counter(&daemons, "udp", "bpf_opened"), 2);
}
END_TEST

/* PLANE-PATH-100 */
START_TEST(a_gibibyte_is_downloaded)
{
    int status;
    const char *directory = lab_directory(lab);
    char command[512];

    if (!installed("nginx") || !installed("curl"))
        return;
    lab_write_file(
        lab, "nginx.conf",
        "daemon off; error_log stderr; pid nginx.pid; events {}\n"
        "http { access_log off; sendfile on; server { listen 10.77.2.2:8080; root .; } }\n");
    lab_run(lab, LAB_TARGET, "head -c 1073741824 /dev/urandom >%s/file && chmod 644 %s/file",
            directory, directory);
    snprintf(command, sizeof(command), "exec nginx -p %s -c nginx.conf -e stderr", directory);
    const struct process_spec server = {.name = "nginx", .argv = {"sh", "-c", command}};
    struct process *nginx = process_start(lab, LAB_TARGET, &server);
    forward("tcp", 8080);
    snprintf(command, sizeof(command),
             "set -e; a=$(sha256sum <%s/file); b=$(curl -sS --retry 5 --retry-connrefused "
             "http://127.0.0.1:8080/file | sha256sum); rm %s/file; test \"$a\" = \"$b\"",
             directory, directory);
    const struct process_spec client = {.name = "curl", .argv = {"sh", "-c", command}};
    struct process *curl = process_run(lab, LAB_CLIENT, &client, PROGRAM_MS, &status);
    ck_assert_msg(status == 0, "%d: %s", status, process_log(curl));
    ck_assert_uint_ge(daemons_counter(&daemons, "tcp", "bpf_opened"), 1);
    process_signal(nginx, 15);
}
END_TEST

/* PLANE-PATH-100: as QUIC sends them, many in flight, none of which may be fragmented. */
START_TEST(datagrams_of_quic_s_size)
{
    const struct server_spec spec = {.kind = SERVER_ECHO,
                                     .type = SOCK_DGRAM,
                                     .address = at(_i != 0 ? LAB_TARGET_V6 : LAB_TARGET_V4, 0)};
    struct server *echo = server_start(lab, LAB_TARGET, &spec);
    struct association association = association_udp(lab, server_endpoint(echo));
    uint8_t datagram[QUIC_DATAGRAM], got[2048];

    for (uint32_t window = 0; window < 100; window++) {
        uint32_t missing = 0;
        for (uint32_t i = 0; i < 16; i++) {
            memset(datagram, (int)i, sizeof(datagram));
            ck_assert_int_eq(send(association.data, datagram, sizeof(datagram), 0), QUIC_DATAGRAM);
            missing |= 1u << i;
        }
        while (missing != 0) { /* in whatever order */
            ck_assert_int_eq(socket_receive(association.data, got, sizeof(got), PATIENCE_MS),
                             QUIC_DATAGRAM);
            ck_assert_uint_lt(got[0], 16);
            ck_assert_uint_ne(missing & 1u << got[0], 0);
            missing &= ~(1u << got[0]);
        }
    }
    ck_assert_uint_eq(daemons_relay_number(&daemons, association.bound, "down_packets"), 1600);
    association_close(&association);
}
END_TEST

/* PLANE-PATH-100: options of TCP are the ends' affair. The target speaks plain TCP. */
START_TEST(mptcp_falls_back)
{
    const struct server_spec spec = {
        .kind = SERVER_ECHO, .type = SOCK_STREAM, .address = at(LAB_TARGET_V4, 0)};
    struct server *echo = server_start(lab, LAB_TARGET, &spec);
    const int fd = lab_socket(lab, LAB_CLIENT, AF_INET, SOCK_STREAM, IPPROTO_MPTCP);
    const struct n1_question question = {
        .ptcl = PTCL_TCP, .source = at(LAB_CLIENT_V4, 45000), .destination = server_endpoint(echo)};
    const struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons(45000)};
    struct endpoint bound;
    char text[5] = {0};
    int control;

    ck_assert_int_eq(bind(fd, (const struct sockaddr *)&own, sizeof(own)), 0);
    ck_assert_int_eq(n1_ask(lab, &question, &control, &bound), N1_REP_SUCCEEDED);
    ck_assert_int_eq(socket_connect(fd, bound, PATIENCE_MS), 0);
    socket_send(fd, "mptcp", 5);
    socket_receive_all(fd, text, 5, PATIENCE_MS);
    ck_assert_mem_eq(text, "mptcp", 5);
    close(fd);
    close(control);
}
END_TEST

/* ---- bad links ---------------------------------------------------------------------------------
 */

/* Packets as they would be on a cable, not super-packets, of which there are too few. */
static void bad_link(enum lab_place place)
{
    lab_run(lab, place, "ethtool -K %s tso off gso off >/dev/null", LAB_TO_RELAY);
    disorder_start(lab, place, LAB_TO_RELAY);
}

/* PLANE-PATH-110: 1 % lost and 2 % overtaken on both links, with timestamps, SACK and windows of
 * megabytes. */
START_TEST(streams_survive_bad_links)
{
    const bool v6 = _i != 0;
    const struct server_spec spec = {.kind = SERVER_SOURCE,
                                     .type = SOCK_STREAM,
                                     .address = at(v6 ? LAB_TARGET_V6 : LAB_TARGET_V4, 0),
                                     .octets = 2 * MIB + 7,
                                     .seed = 21};
    uint64_t hash;

    bad_link(LAB_CLIENT);
    bad_link(LAB_TARGET);
    lab_run(lab, LAB_TARGET,
            "test $(sysctl -n net.ipv4.tcp_sack) = 1 &&"
            "test $(sysctl -n net.ipv4.tcp_timestamps) = 1 &&"
            "test $(sysctl -n net.ipv4.tcp_window_scaling) = 1");
    struct server *source = server_start(lab, LAB_TARGET, &spec);
    struct association association = association_tcp(lab, server_endpoint(source));
    ck_assert_uint_eq(stream_receive_to_end(association.data, &hash), spec.octets);
    ck_assert_uint_eq(hash, pattern_hash(21, spec.octets));
    stream_send_pattern(association.data, 22, 2 * MIB + 9);
    shutdown(association.data, SHUT_WR);
    WAIT_UNTIL(server_seen(source).ended == 1, PROGRAM_MS / 2);
    ck_assert_uint_eq(server_seen(source).hash, pattern_hash(22, 2 * MIB + 9));
    /* The links were bad: segments came again. */
    lab_run(lab, LAB_TARGET, "test $(nstat -asz TcpRetransSegs | awk 'NR > 1 { print $2 }') -gt 0");
    ck_assert_uint_eq(daemons_counter(&daemons, "tcp", "bpf_malformed"), 0);
    association_close(&association);
}
END_TEST

int main(void)
{
    lab_require();
    TCase *programs = tcase_create("programs");
    tcase_set_timeout(programs, 120);
    tcase_add_checked_fixture(programs, setup, teardown);
    tcase_add_test(programs, iperf3_measures);
    tcase_add_test(programs, a_gibibyte_is_downloaded);
    tcase_add_loop_test(programs, datagrams_of_quic_s_size, 0, 2);
    tcase_add_test(programs, mptcp_falls_back);
    tcase_add_loop_test(programs, streams_survive_bad_links, 0, 2);
    Suite *suite = suite_create("bpf_programs");
    suite_add_tcase(suite, programs);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
