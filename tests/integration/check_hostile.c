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
#include "tests/integration/hostile.h"

#define CONNECTIONS 400
#define OCTETS_MAX 1500
#define NOBODY 65534

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

static void say_to_relayd(bool up, const void *data, size_t length, const int *fds, size_t fd_count)
{
    const char *path = lab_path(lab, "n2/tcp.sock");
    const int n2 = up ? n2_client_open(path) : n2_client_connect(path);
    n2_client_send_fds(n2, data, length, fds, fd_count);
    n2_client_expect_end(n2, PATIENCE_MS);
    close(n2);
}

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
        for (size_t i = 0; i < BAD_FRAMES; i++, count++) {
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
            const size_t which = i / 4 % (BAD_FRAMES);
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
    tcase_add_checked_fixture(tcase, hostile_setup, hostile_teardown);
    tcase_add_test(tcase, noise_on_n1_is_refused);
    tcase_add_test(tcase, a_flood_behind_a_request_ends_it);
    tcase_add_test(tcase, an_owned_socksd_is_hung_up_on);
    tcase_add_test(tcase, descriptors_that_nobody_asked_for_are_closed);
    tcase_add_test(tcase, noise_on_n2_is_refused);
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
