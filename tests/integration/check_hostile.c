/*
 * Octets that nobody should send, on every socket of the daemons: they are refused and counted, the
 * daemon lives, its honest users notice nothing, and the next request is served. The seeds are
 * fixed: what fails once fails again.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/ipc/peer.h"
#include "proto/admin.h"
#include "proto/frame.h"
#include "proto/ptcl.h"
#include "tests/harness/daemons.h"
#include "tests/harness/n1_client.h"
#include "tests/harness/n2_client.h"
#include "tests/harness/proc.h"
#include "tests/harness/traffic.h"
#include "tests/harness/wait.h"

#define CONNECTIONS 400
#define OCTETS_MAX 1500
#define NOBODY 65534

static struct lab *lab;
static struct daemons daemons;
static struct server *tcp, *udp;
static struct pattern randomness;

static void setup(void)
{
    lab = lab_new();
    tcp = server_echo(lab, SOCK_STREAM);
    udp = server_echo(lab, SOCK_DGRAM);
    daemons = (struct daemons){.lab = lab};
    randomness = pattern_start(20260101);
}

static void teardown(void)
{
    daemons_stop(&daemons);
    lab_free(lab);
}

static size_t below(size_t bound)
{
    uint32_t value;
    pattern_next(&randomness, &value, sizeof(value));
    return value % bound;
}

/* Up to three octets are changed, and perhaps the end is cut off. */
static size_t mutate(uint8_t *data, size_t length)
{
    for (size_t left = 1 + below(3); left > 0; left--) {
        data[below(length)] = (uint8_t)below(256);
    }
    return below(4) == 0 ? 1 + below(length) : length;
}

static void check_echo(const struct association *association)
{
    char text[4];
    socket_send(association->data, "ping", 4);
    if (association->ptcl == PTCL_TCP) {
        socket_receive_all(association->data, text, 4, PATIENCE_MS);
    } else {
        ck_assert_int_eq(socket_receive(association->data, text, 4, PATIENCE_MS), 4);
    }
    ck_assert_mem_eq(text, "ping", 4);
}

static void check_served(void)
{
    struct association one = association_tcp(lab, server_endpoint(tcp));
    struct association other = association_udp(lab, server_endpoint(udp));
    check_echo(&one);
    check_echo(&other);
    association_close(&one);
    association_close(&other);
}

/* Descriptors as before, and memory bounded. */
static void check_unharmed(struct process *process, unsigned fds, uint64_t rss)
{
    const pid_t pid = process_pid(process);
    ck_assert(process_is_alive(process));
    WAIT_UNTIL(proc_fd_count(pid) <= fds, PATIENCE_MS);
    ck_assert_msg(built_with_sanitizer() || proc_rss_kib(pid) <= rss + 2048,
                  "%u KiB resident, before %u", (unsigned)proc_rss_kib(pid), (unsigned)rss);
}

/* ---- N1 ----------------------------------------------------------------------------------------
 */

/* Says it, ends its side, and waits for the other's end. */
static void say_to_socksd(const uint8_t *octets, size_t length)
{
    const int fd = n1_connect(lab, LAB_CLIENT, at(LAB_RELAY_V4, 1080));
    if (send(fd, octets, length, MSG_NOSIGNAL) == (ssize_t)length) {
        shutdown(fd, SHUT_WR);
    }
    ck_assert_int_ne(socket_wait_end(fd, PATIENCE_MS), SOCKET_OPEN);
    close(fd);
}

static size_t n1_mutation(uint8_t *out)
{
    memcpy(out, "\x05\x01\x00", 3);
    const uint8_t ptcl = below(2) == 0 ? PTCL_TCP : PTCL_UDP;
    const struct endpoint source = at(LAB_CLIENT_V4, 4000), target = server_endpoint(tcp);
    const size_t length = 3 + (below(2) == 0 ? n1_transparent_bytes(ptcl, source, target, out + 3)
                                             : n1_transparent_name_bytes(ptcl, source, "127.0.0.1",
                                                                         target.port, out + 3));
    return mutate(out, length);
}

/* N1-CONN-010, N1-CONN-050, N1-METH-010, N1-REQ-010 */
START_TEST(noise_on_n1_is_refused)
{
    daemons = daemons_start(
        lab, &(struct daemons_options){.socksd = {"resolver: {servers: ['127.0.0.1:9'], timeout: "
                                                  "200ms}"}});
    struct association honest = association_tcp(lab, server_endpoint(tcp));
    check_served();
    const unsigned fds = proc_fd_count(process_pid(daemons.socksd));
    const uint64_t rss = proc_rss_kib(process_pid(daemons.socksd));
    const uint64_t bad = daemons_counter(&daemons, "socksd", "bad_versions");
    for (size_t i = 0; i < CONNECTIONS; i++) {
        uint8_t octets[OCTETS_MAX];
        size_t length = 1 + below(sizeof(octets));
        pattern_next(&randomness, octets, length);
        if (i % 4 == 1) {
            memcpy(octets, "\x05\x01\x00\x05\x04\x00", length < 6 ? length : 6);
        } else if (i % 4 >= 2) {
            length = n1_mutation(octets);
        }
        say_to_socksd(octets, length);
    }
    ck_assert_uint_ge(daemons_counter(&daemons, "socksd", "bad_versions"), bad + CONNECTIONS / 5);
    check_echo(&honest);
    check_served();
    WAIT_UNTIL(daemons_relay_count(&daemons) == 1, PATIENCE_MS);
    check_unharmed(daemons.socksd, fds, rss);
    association_close(&honest);
}
END_TEST

/* N1-CONN-040: a client that floods its control connection is the only one that suffers */
START_TEST(a_flood_behind_a_request_ends_it)
{
    static uint8_t flood[1024 * 1024];
    daemons = daemons_start(lab, NULL);
    struct association honest = association_udp(lab, server_endpoint(udp));
    struct association association = association_udp(lab, server_endpoint(udp));
    size_t sent = 0;
    while (sent < sizeof(flood)) {
        const ssize_t got = send(association.control, flood, sizeof(flood) - sent, MSG_NOSIGNAL);
        if (got <= 0) {
            break;
        }
        sent += (size_t)got;
    }
    ck_assert_int_ne(socket_wait_end(association.control, PATIENCE_MS), SOCKET_OPEN);
    WAIT_UNTIL(daemons_relay_count(&daemons) == 1, PATIENCE_MS);
    ck_assert_uint_eq(daemons_counter(&daemons, "socksd", "floods"), 1);
    check_echo(&honest);
    association_close(&honest);
    association_close(&association);
}
END_TEST

/* ---- N2, towards relayd ------------------------------------------------------------------------
 */

static struct endpoint client(void)
{
    return at(LAB_CLIENT_V4, 4000);
}

/* A frame of this type; those of the wrong side too. Returns 0 for what cannot be encoded. */
static size_t frame_of(enum n2_type type, uint8_t *out, size_t size)
{
    struct n2_message m = {.type = type};
    const struct endpoint target = server_endpoint(tcp);
    if (type == N2_HELLO || type == N2_HELLO_ACK) {
        m = n2_client_hello();
        m.type = type;
        if (type == N2_HELLO_ACK) {
            m.hello.ptcl = PTCL_TCP;
            m.hello.planes = 1u << N2_PLANE_SOCKET;
            m.hello.families = N2_FAMILY_V4;
            m.hello.capacity = 10;
            strcpy(m.hello.instance, "tcp");
        }
    } else if (type == N2_OPEN_RELAY) {
        m = n2_client_order(7, PTCL_TCP, client(), target);
    } else if (type == N2_RELAY_OPENED) {
        m.transaction = 7;
        m.relay_opened = (struct n2_relay_opened){.association = 7,
                                                  .relay = 5,
                                                  .bound = target,
                                                  .egress = target,
                                                  .plane = N2_PLANE_SOCKET};
    } else if (type == N2_RELAY_FAILED) {
        m.transaction = 7;
        m.relay_failed = (struct n2_relay_failed){.association = 7, .error = N2_ERROR_REFUSED};
    } else if (type == N2_ATTACH_CLIENT) {
        m.fd_count = 1;
        m.attach_client.relay = 5;
    } else if (type == N2_RELAY_CONNECTED) {
        m.relay_connected = (struct n2_relay_connected){.relay = 5, .peer = target};
    } else if (type == N2_AUTHORIZE) {
        m.transaction = 7;
        m.authorize = (struct n2_authorize){.relay = 5, .address = target.address, .port = 53};
    } else if (type == N2_RELAY_STATS) {
        m.relay_stats.relay = 5;
    } else if (type == N2_RELAY_CLOSED) {
        m.relay_closed =
            (struct n2_relay_closed){.relay = 5, .association = 7, .reason = N2_REASON_FINISHED};
    } else if (type == N2_RELAY_EVENT) {
        m.relay_event = (struct n2_relay_event){.relay = 5, .event = N2_EVENT_TARGET_FIN};
    } else {
        return 0;
    }
    return n2_encode(&m, out, size);
}

/* Says it on a connection of its own, after Hello if `up`, and is hung up on. */
static void say_to_relayd(bool up, const void *data, size_t length, const int *fds, size_t fd_count)
{
    const char *path = lab_path(lab, "n2/tcp.sock");
    const int n2 = up ? n2_client_open(path) : n2_client_connect(path);
    n2_client_send_fds(n2, data, length, fds, fd_count);
    n2_client_expect_end(n2, PATIENCE_MS);
    close(n2);
}

static const struct {
    const char *octets;
    size_t length;
} bad_frames[] = {
    {"\0\0\0\0", 4},                                         /* a length of 0 */
    {"\0\1\0\1", 4},                                         /* above the maximum */
    {"\377\377\377\377", 4},                                 /* far above */
    {"\0\0\0\1\377", 5},                                     /* not protobuf */
    {"\0\0\0\2\010\1", 6},                                   /* no body */
    {"\0\0\0\12\377\377\377\377\377\377\377\377\377\1", 14}, /* a tag without end */
};

/* N2-FRAME-020, N2-FRAME-030, N2-HELLO-010, N2-STATE-010, N2-FIELD-010 */
START_TEST(an_owned_socksd_is_hung_up_on)
{
    static uint8_t large[FRAME_HEADER + N2_PAYLOAD_MAX + 1] = {0, 0, (N2_PAYLOAD_MAX + 1) >> 8, 1};
    static const enum n2_type wrong[] = {
        N2_HELLO,     N2_HELLO_ACK,   N2_RELAY_OPENED, N2_RELAY_FAILED, N2_RELAY_CONNECTED,
        N2_AUTHORIZE, N2_RELAY_STATS, N2_RELAY_CLOSED, N2_RELAY_EVENT,  N2_ATTACH_CLIENT};
    uint8_t frame[FRAME_HEADER + N2_PAYLOAD_MAX];
    daemons = daemons_start(lab, NULL);
    struct association honest = association_tcp(lab, server_endpoint(tcp));
    const unsigned before = proc_fd_count(process_pid(daemons.relayd_tcp));
    const uint64_t rss = proc_rss_kib(process_pid(daemons.relayd_tcp));
    size_t count = 0;
    for (int up = 0; up < 2; up++) {
        for (size_t i = 0; i < sizeof(bad_frames) / sizeof(bad_frames[0]); i++, count++) {
            say_to_relayd(up, bad_frames[i].octets, bad_frames[i].length, NULL, 0);
        }
        say_to_relayd(up, large, sizeof(large), NULL, 0);
        count++;
    }
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++, count++) {
        const size_t length = frame_of(wrong[i], frame, sizeof(frame));
        ck_assert_uint_gt(length, 0);
        say_to_relayd(true, frame, length, NULL, 0);
    }
    say_to_relayd(false, frame, frame_of(N2_OPEN_RELAY, frame, sizeof(frame)), NULL, 0);
    count++;
    WAIT_UNTIL(daemons_counter(&daemons, "tcp", "n2_lost") == count, PATIENCE_MS);
    const uint64_t bad = daemons_counter(&daemons, "tcp", "n2_bad_messages");
    ck_assert_msg(bad == count, "%u of %u violations were counted", (unsigned)bad, (unsigned)count);
    ck_assert_uint_eq(daemons_counter(&daemons, "tcp", "orders"), 1);
    check_echo(&honest);
    check_served();
    WAIT_UNTIL(daemons_relay_count(&daemons) == 1, PATIENCE_MS);
    check_unharmed(daemons.relayd_tcp, before + 4, rss); /* a pipe or two that are kept */
    association_close(&honest);
}
END_TEST

/* N2-FD-010, N2-FD-020, N2-FD-030 */
START_TEST(descriptors_that_nobody_asked_for_are_closed)
{
    uint8_t frame[FRAME_HEADER + N2_PAYLOAD_MAX];
    daemons = daemons_start(lab, NULL);
    check_served();
    WAIT_UNTIL(daemons_relay_count(&daemons) == 0, PATIENCE_MS);
    const unsigned before = proc_fd_count(process_pid(daemons.relayd_tcp));
    int fds[4];
    for (size_t i = 0; i < 4; i++) {
        fds[i] = dup(STDIN_FILENO);
    }
    for (size_t round = 0; round < 20; round++) {
        const struct n2_message ping = {.type = N2_PING, .nonce = round};
        const size_t length = n2_encode(&ping, frame, sizeof(frame));
        for (size_t count = 1; count <= 4; count++) {
            say_to_relayd(true, frame, length, fds, count);
            say_to_relayd(true, bad_frames[round % 6].octets, bad_frames[round % 6].length, fds,
                          count);
        }
        /* Only the beginning of a frame, and EOF. */
        const int n2 = n2_client_open(lab_path(lab, "n2/tcp.sock"));
        n2_client_send_fds(n2, frame, 3, fds, 2);
        shutdown(n2, SHUT_WR);
        n2_client_expect_end(n2, PATIENCE_MS);
        close(n2);
    }
    WAIT_UNTIL(proc_fd_count(process_pid(daemons.relayd_tcp)) <= before, PATIENCE_MS);
    check_served();
    for (size_t i = 0; i < 4; i++) {
        close(fds[i]);
    }
}
END_TEST

/* N2-FRAME-040, N2-FRAME-050, N2-FIELD-010, N2-EOF-010 */
START_TEST(noise_on_n2_is_refused)
{
    daemons = daemons_start(lab, NULL);
    struct association honest = association_tcp(lab, server_endpoint(tcp));
    check_served();
    const unsigned before = proc_fd_count(process_pid(daemons.relayd_tcp));
    const uint64_t rss = proc_rss_kib(process_pid(daemons.relayd_tcp));
    for (size_t i = 0; i < CONNECTIONS; i++) {
        uint8_t octets[FRAME_HEADER + N2_PAYLOAD_MAX];
        size_t length = 8 + below(3000);
        if (i % 2 == 0) {
            pattern_next(&randomness, octets, length);
            frame_header_encode(1 + below(length), octets);
        } else {
            length = frame_of(i % 8 == 1 ? N2_HELLO : N2_OPEN_RELAY, octets, sizeof(octets));
            length = mutate(octets, length);
        }
        const char *path = lab_path(lab, "n2/tcp.sock");
        const int n2 = i % 8 == 1 ? n2_client_connect(path) : n2_client_open(path);
        n2_client_send_fds(n2, octets, length, NULL, 0);
        shutdown(n2, SHUT_WR);
        n2_client_expect_end(n2, PATIENCE_MS);
        close(n2);
    }
    ck_assert_uint_ge(daemons_counter(&daemons, "tcp", "n2_bad_messages"), CONNECTIONS / 4);
    check_echo(&honest);
    check_served();
    WAIT_UNTIL(daemons_relay_count(&daemons) == 1, PATIENCE_MS);
    check_unharmed(daemons.relayd_tcp, before + 4, rss);
    association_close(&honest);
}
END_TEST

/* ---- N2, towards socksd ------------------------------------------------------------------------
 */

static int listener;

static struct n2_message hello_ack(void)
{
    struct n2_message message = n2_client_hello();
    message.type = N2_HELLO_ACK;
    message.hello.ptcl = PTCL_TCP;
    message.hello.planes = 1u << N2_PLANE_SOCKET;
    message.hello.families = N2_FAMILY_V4 | N2_FAMILY_V6;
    message.hello.capacity = 10;
    strcpy(message.hello.instance, "tcp");
    return message;
}

/* The next connection of socksd, after its Hello. */
static int accept_socksd(void)
{
    struct n2_message hello;
    ck_assert(wait_fd(listener, POLLIN, PATIENCE_MS));
    const int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert(n2_client_receive(fd, &hello, PATIENCE_MS));
    ck_assert_int_eq(hello.type, N2_HELLO);
    return fd;
}

static int accept_socksd_up(void)
{
    const struct n2_message message = hello_ack();
    const int fd = accept_socksd();
    n2_client_send(fd, &message);
    return fd;
}

/* socksd and a real relayd for UDP; the test itself is the one for TCP. */
static void start_with_fake(void)
{
    daemons_write_config(&daemons, lab, NULL);
    listener = unix_listen(lab_path(lab, "n2/tcp.sock"), 0600);
    ck_assert_int_ge(listener, 0);
    daemons_start_relayd(&daemons, "udp");
    daemons_start_socksd(&daemons);
}

static void check_udp(void)
{
    WAIT_UNTIL(daemons_counter(&daemons, "socksd", "n2_connected") >= 1, PATIENCE_MS);
    struct association association = association_udp(lab, server_endpoint(udp));
    check_echo(&association);
    association_close(&association);
}

/* N2-FRAME-020, N2-FRAME-030, N2-HELLO-010, N2-STATE-010, N2-FD-020, N2-FD-030 */
START_TEST(an_owned_relayd_is_hung_up_on)
{
    static const enum n2_type wrong[] = {N2_HELLO, N2_HELLO_ACK, N2_OPEN_RELAY, N2_ATTACH_CLIENT};
    uint8_t frame[FRAME_HEADER + N2_PAYLOAD_MAX];
    const int extra = STDIN_FILENO;
    start_with_fake();
    int fd = accept_socksd_up();
    check_udp();
    const unsigned before = proc_fd_count(process_pid(daemons.socksd));
    const uint64_t rss = proc_rss_kib(process_pid(daemons.socksd));
    size_t count = 0;
    for (size_t i = 0; i < sizeof(bad_frames) / sizeof(bad_frames[0]); i++, count++) {
        n2_client_send_fds(fd, bad_frames[i].octets, bad_frames[i].length, &extra, i % 2);
        n2_client_expect_end(fd, PATIENCE_MS);
        close(fd);
        fd = accept_socksd_up();
    }
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++, count++) {
        const size_t length = frame_of(wrong[i], frame, sizeof(frame));
        n2_client_send_fds(fd, frame, length, NULL, 0);
        n2_client_expect_end(fd, PATIENCE_MS);
        close(fd);
        fd = accept_socksd_up();
    }
    for (size_t i = 0; i < 40; i++, count++) {
        size_t length = 8 + below(500);
        pattern_next(&randomness, frame, length);
        frame_header_encode(1 + below(length - 4), frame);
        if (i % 2 == 1) {
            length = frame_of(N2_RELAY_OPENED, frame, sizeof(frame));
            length = mutate(frame, length);
        }
        n2_client_send_fds(fd, frame, length, NULL, 0);
        shutdown(fd, SHUT_WR);
        n2_client_expect_end(fd, PATIENCE_MS);
        close(fd);
        fd = accept_socksd_up();
    }
    /* A descriptor behind HelloAck is an end before the link was up. */
    WAIT_UNTIL(daemons_counter(&daemons, "socksd", "n2_losses") +
                       daemons_counter(&daemons, "socksd", "n2_connect_failures") ==
                   count,
               PATIENCE_MS);
    check_udp();
    WAIT_UNTIL(daemons_counter(&daemons, "socksd", "sessions_active") == 0, PATIENCE_MS);
    check_unharmed(daemons.socksd, before, rss);
    close(fd);
}
END_TEST

/* Asks over N1 and takes the order; the client's connection is in *control. */
static struct n2_message take_order(int n2, int *control)
{
    uint8_t request[N1_REQUEST_MAX];
    struct n2_message order;
    const size_t length = n1_transparent_bytes(PTCL_TCP, client(), server_endpoint(tcp), request);
    *control = n1_connect_ready(lab, LAB_CLIENT, at(LAB_RELAY_V4, 1080));
    socket_send(*control, request, length);
    ck_assert(n2_client_receive(n2, &order, PATIENCE_MS));
    ck_assert_int_eq(order.type, N2_OPEN_RELAY);
    return order;
}

static struct n2_message opened(const struct n2_message *order, uint64_t relay, const char *bound)
{
    struct n2_message message = {.type = N2_RELAY_OPENED, .transaction = order->transaction};
    message.relay_opened = (struct n2_relay_opened){.association = order->open_relay.association,
                                                    .relay = relay,
                                                    .bound = at(bound, 20000),
                                                    .egress = at(LAB_EGRESS_V4, 30000),
                                                    .plane = N2_PLANE_SOCKET};
    return message;
}

/* N2-TRANS-030, N2-ID-030, N2-PING-030, N1-BND-010, N2-RELAY-050 */
START_TEST(lies_of_an_owned_relayd_harm_its_own_relays_alone)
{
    int control, other;
    start_with_fake();
    int fd = accept_socksd_up();
    WAIT_UNTIL(daemons_counter(&daemons, "socksd", "n2_connected") == 2, PATIENCE_MS);

    /* About relays and orders that do not exist: counted, and nothing else. */
    struct n2_message message = {.type = N2_RELAY_CLOSED};
    message.relay_closed =
        (struct n2_relay_closed){.relay = 99, .association = 9, .reason = N2_REASON_FINISHED};
    n2_client_send(fd, &message);
    message = (struct n2_message){.type = N2_PONG, .nonce = 5};
    n2_client_send(fd, &message);
    message = (struct n2_message){.type = N2_RELAY_FAILED, .transaction = 4711};
    message.relay_failed.error = N2_ERROR_REFUSED;
    n2_client_send(fd, &message);
    WAIT_UNTIL(daemons_counter(&daemons, "socksd", "n2_stray_answers") == 1, PATIENCE_MS);
    ck_assert_uint_eq(daemons_counter(&daemons, "socksd", "n2_unknown_relays"), 1);
    ck_assert_uint_eq(daemons_counter(&daemons, "socksd", "n2_losses"), 0);

    /* A relay that is opened twice. */
    struct n2_message order = take_order(fd, &control);
    message = opened(&order, 7, LAB_RELAY_V4);
    n2_client_send(fd, &message);
    ck_assert_int_eq(n1_read_reply(control, PATIENCE_MS, NULL), N1_REP_SUCCEEDED);
    order = take_order(fd, &other);
    message = opened(&order, 7, LAB_RELAY_V4);
    n2_client_send(fd, &message);
    ck_assert_int_eq(n1_read_reply(other, PATIENCE_MS, NULL), N1_REP_GENERAL_FAILURE);
    ck_assert_int_ne(socket_wait_end(control, PATIENCE_MS), SOCKET_OPEN);
    n2_client_expect_end(fd, PATIENCE_MS);
    close(fd);
    close(control);
    close(other);

    /* A BND that nobody can send to. */
    fd = accept_socksd_up();
    WAIT_UNTIL(daemons_counter(&daemons, "socksd", "n2_connected") == 2, PATIENCE_MS);
    order = take_order(fd, &control);
    message = opened(&order, 1, "0.0.0.0");
    n2_client_send(fd, &message);
    ck_assert_int_eq(n1_read_reply(control, PATIENCE_MS, NULL), N1_REP_GENERAL_FAILURE);
    n2_client_expect_end(fd, PATIENCE_MS);
    close(fd);
    close(control);
    check_udp();
}
END_TEST

/* N2-HELLO-010, N2-HELLO-020, N2-HELLO-050 */
START_TEST(a_relayd_of_another_kind_is_not_used)
{
    int control;
    start_with_fake();
    for (int i = 0; i < 3; i++) {
        struct n2_message message = hello_ack();
        const int fd = accept_socksd();
        if (i == 0) {
            message.hello.ptcl = PTCL_UDP;
        } else if (i == 1) {
            message.hello.major = 2;
        } else {
            message = (struct n2_message){.type = N2_PING, .nonce = 1};
        }
        n2_client_send(fd, &message);
        n2_client_expect_end(fd, PATIENCE_MS);
        close(fd);
    }
    const struct n1_question question = {
        .ptcl = PTCL_TCP, .source = client(), .destination = server_endpoint(tcp)};
    ck_assert_int_eq(n1_ask(lab, &question, &control, NULL), N1_REP_GENERAL_FAILURE);
    check_udp();
    ck_assert_uint_eq(daemons_counter(&daemons, "socksd", "n2_connected"), 1);
}
END_TEST

/* ---- the admin sockets -------------------------------------------------------------------------
 */

static void say_to_admin(const char *path, const void *data, size_t length, const int *fds,
                         size_t fd_count)
{
    const int fd = n2_client_connect(path);
    n2_client_send_fds(fd, data, length, fds, fd_count);
    shutdown(fd, SHUT_WR);
    n2_client_expect_end(fd, PATIENCE_MS);
    close(fd);
}

static size_t admin_request(uint8_t *out, size_t size)
{
    struct admin_request request = {.version = ADMIN_VERSION,
                                    .type = (enum admin_request_type)(1 + below(4))};
    request.relay = request.type == ADMIN_SHOW || request.type == ADMIN_CLOSE ? 4711 : 0;
    return admin_request_encode(&request, out, size);
}

static void noise_on_admin(const char *path)
{
    const int extra = STDIN_FILENO;
    for (size_t i = 0; i < CONNECTIONS; i++) {
        uint8_t octets[OCTETS_MAX];
        size_t length = 5 + below(sizeof(octets) - 5);
        if (i % 4 == 0) {
            const size_t which = i / 4 % (sizeof(bad_frames) / sizeof(bad_frames[0]));
            say_to_admin(path, bad_frames[which].octets, bad_frames[which].length, &extra,
                         i % 8 / 4);
            continue;
        }
        if (i % 4 == 1) {
            pattern_next(&randomness, octets, length);
            frame_header_encode(1 + below(length), octets);
        } else {
            length = mutate(octets, admin_request(octets, sizeof(octets)));
        }
        say_to_admin(path, octets, length, &extra, i % 4 == 3 && i % 8 > 4);
    }
}

/* ADMIN-FRAME-020, ADMIN-FRAME-040, ADMIN-CONN-030, ADMIN-REQ-020, ADMIN-VERSION-010 */
START_TEST(noise_on_the_admin_sockets_is_refused)
{
    daemons = daemons_start(lab, NULL);
    struct process *const all[] = {daemons.socksd, daemons.relayd_tcp};
    static const char *const paths[] = {"admin/socksd.sock", "admin/tcp.sock"};
    static const char *const names[] = {"socksd", "tcp"};
    struct association honest = association_tcp(lab, server_endpoint(tcp));
    check_served();
    WAIT_UNTIL(daemons_relay_count(&daemons) == 1, PATIENCE_MS);
    for (size_t i = 0; i < 2; i++) {
        const unsigned fds = proc_fd_count(process_pid(all[i]));
        const uint64_t rss = proc_rss_kib(process_pid(all[i]));
        noise_on_admin(lab_path(lab, paths[i]));
        check_echo(&honest);
        check_unharmed(all[i], fds, rss);
        ck_assert_uint_ge(daemons_counter(&daemons, names[i], "admin_bad_requests"),
                          CONNECTIONS / 4);
    }
    check_served();
    association_close(&honest);
}
END_TEST

/* ---- strangers on this host --------------------------------------------------------------------
 */

/* In a child that is nobody: connects, and reads EOF without an octet. */
static void check_nobody_is_refused(const char *name)
{
    const char *path = lab_path(lab, name);
    ck_assert_int_eq(chmod(path, 0777), 0);
    const pid_t child = lab_fork(lab, LAB_RELAY);
    if (child == 0) {
        char octet;
        if (setresgid(NOBODY, NOBODY, NOBODY) != 0 || setresuid(NOBODY, NOBODY, NOBODY) != 0) {
            _exit(3);
        }
        const int fd = unix_connect(path);
        if (fd < 0 || !wait_fd(fd, POLLIN, PATIENCE_MS)) {
            _exit(2);
        }
        _exit(read(fd, &octet, 1) == 0 ? 0 : 1);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(status == 0, "%s: status %#x", name, (unsigned)status);
}

/* N2-PEER-010, ADMIN-PEER-010 */
START_TEST(another_user_is_refused_on_every_socket)
{
    daemons = daemons_start(lab, NULL);
    static const char *const sockets[] = {"n2/tcp.sock", "n2/udp.sock", "admin/tcp.sock",
                                          "admin/udp.sock", "admin/socksd.sock"};
    for (size_t i = 0; i < sizeof(sockets) / sizeof(sockets[0]); i++) {
        check_nobody_is_refused(sockets[i]);
    }
    ck_assert_uint_eq(daemons_counter(&daemons, "tcp", "n2_refused"), 1);
    ck_assert_uint_eq(daemons_counter(&daemons, "udp", "n2_refused"), 1);
    ck_assert_uint_eq(daemons_counter(&daemons, "tcp", "admin_refused"), 1);
    ck_assert_uint_eq(daemons_counter(&daemons, "socksd", "admin_refused"), 1);
    check_served();
}
END_TEST

/* N2-PEER-020 */
START_TEST(a_listener_of_another_user_gets_no_hello)
{
    daemons_write_config(&daemons, lab, NULL);
    ck_assert_int_eq(chmod(daemons.n2, 0777), 0);
    const char *path = lab_path(lab, "n2/tcp.sock");
    const pid_t child = lab_fork(lab, LAB_RELAY);
    if (child == 0) {
        char octet;
        if (setresgid(NOBODY, NOBODY, NOBODY) != 0 || setresuid(NOBODY, NOBODY, NOBODY) != 0) {
            _exit(3);
        }
        const int fd = unix_listen(path, 0777);
        if (fd < 0 || !wait_fd(fd, POLLIN, PATIENCE_MS)) {
            _exit(2);
        }
        const int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        wait_fd(peer, POLLIN, PATIENCE_MS);
        _exit(read(peer, &octet, 1) == 0 ? 0 : 1);
    }
    WAIT_UNTIL(access(path, F_OK) == 0, PATIENCE_MS);
    daemons_start_socksd(&daemons);
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(status == 0, "status %#x", (unsigned)status);
    ck_assert_uint_ge(daemons_counter(&daemons, "socksd", "n2_refused_peers"), 1);
    ck_assert_uint_eq(daemons_counter(&daemons, "socksd", "n2_connected"), 0);
}
END_TEST

int main(void)
{
    lab_require();
    Suite *suite = suite_create("hostile");
    TCase *tcase = tcase_create("hostile");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, noise_on_n1_is_refused);
    tcase_add_test(tcase, a_flood_behind_a_request_ends_it);
    tcase_add_test(tcase, an_owned_socksd_is_hung_up_on);
    tcase_add_test(tcase, descriptors_that_nobody_asked_for_are_closed);
    tcase_add_test(tcase, noise_on_n2_is_refused);
    tcase_add_test(tcase, an_owned_relayd_is_hung_up_on);
    tcase_add_test(tcase, lies_of_an_owned_relayd_harm_its_own_relays_alone);
    tcase_add_test(tcase, a_relayd_of_another_kind_is_not_used);
    tcase_add_test(tcase, noise_on_the_admin_sockets_is_refused);
    tcase_add_test(tcase, another_user_is_refused_on_every_socket);
    tcase_add_test(tcase, a_listener_of_another_user_gets_no_hello);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
