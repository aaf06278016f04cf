/*
 * A relayd that is somebody else's: whatever it says, it harms the sessions of its own relays
 * alone.
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
    for (size_t i = 0; i < BAD_FRAMES; i++, count++) {
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

int main(void)
{
    lab_require();
    Suite *suite = suite_create("owned-relayd");
    TCase *tcase = tcase_create("owned-relayd");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, hostile_setup, hostile_teardown);
    tcase_add_test(tcase, an_owned_relayd_is_hung_up_on);
    tcase_add_test(tcase, lies_of_an_owned_relayd_harm_its_own_relays_alone);
    tcase_add_test(tcase, a_relayd_of_another_kind_is_not_used);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
