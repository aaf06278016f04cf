/*
 * One TCP and one UDP association from end to end: the shortest proof that the product works, and
 * the pattern for the other integration tests.
 */
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/ptcl.h"
#include "tests/harness/capture.h"
#include "tests/harness/daemons.h"
#include "tests/harness/n1_client.h"
#include "tests/harness/proc.h"
#include "tests/harness/traffic.h"
#include "tests/harness/wait.h"

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

/* The addresses that the draft promises: the client talks to BND, the target to the relay. */
static void check_addresses(const struct association *association, const struct server *server,
                            const char *bound, const char *egress)
{
    const struct endpoint peer = server_seen(server).peer;
    ck_assert(same_address(association->bound, at(bound, 0)));
    ck_assert_msg(same_address(peer, at(egress, 0)), "the target sees %s, expected %s", show(peer),
                  egress);
    json_t *relay = daemons_relay_at(&daemons, association->bound);
    ck_assert_msg(relay != NULL, "no relay at %s", show(association->bound));
    ck_assert_str_eq(relay_text(relay, "source"), show(association->source));
    ck_assert_str_eq(relay_text(relay, "destination"), show(association->destination));
    ck_assert_str_eq(relay_text(relay, "egress"), show(peer));
    json_decref(relay);
}

static void check_tcp(const char *target, const char *bound, const char *egress)
{
    const struct server_spec spec = {
        .kind = SERVER_ECHO, .type = SOCK_STREAM, .address = at(target, 0)};
    struct server *echo = server_start(lab, LAB_TARGET, &spec);
    struct association association = association_tcp(lab, server_endpoint(echo));
    char text[5];
    socket_send(association.data, "hello", 5);
    socket_receive_all(association.data, text, 5, PATIENCE_MS);
    ck_assert_mem_eq(text, "hello", 5);
    check_addresses(&association, echo, bound, egress);
    ck_assert_uint_eq(daemons_relay_number(&daemons, association.bound, "up_bytes"), 5);
    ck_assert_uint_eq(daemons_relay_number(&daemons, association.bound, "down_bytes"), 5);

    /* Both directions close: the relay and with it the control connection end. */
    shutdown(association.data, SHUT_WR);
    ck_assert_int_eq(socket_wait_end(association.data, PATIENCE_MS), SOCKET_FIN);
    ck_assert_int_eq(socket_wait_end(association.control, PATIENCE_MS), SOCKET_FIN);
    WAIT_UNTIL(daemons_relay_count(&daemons) == 0, PATIENCE_MS);
    association_close(&association);
    ck_assert_uint_eq(proc_sockets_to(process_pid(daemons.relayd_tcp), server_endpoint(echo)), 0);
}

START_TEST(tcp_v4)
{
    check_tcp(LAB_TARGET_V4, LAB_RELAY_V4, LAB_EGRESS_V4);
}
END_TEST

START_TEST(tcp_v6)
{
    check_tcp(LAB_TARGET_V6, LAB_RELAY_V6, LAB_EGRESS_V6);
}
END_TEST

static void check_udp(const char *target, const char *bound, const char *egress)
{
    const struct server_spec spec = {
        .kind = SERVER_ECHO, .type = SOCK_DGRAM, .address = at(target, 0)};
    struct server *echo = server_start(lab, LAB_TARGET, &spec);
    struct capture *capture = capture_start(lab, LAB_CLIENT, LAB_TO_RELAY);
    struct association association = association_udp(lab, server_endpoint(echo));
    char text[16];
    socket_send(association.data, "question", 8);
    ck_assert_int_eq(socket_receive(association.data, text, sizeof(text), PATIENCE_MS), 8);
    ck_assert_mem_eq(text, "question", 8);
    check_addresses(&association, echo, bound, egress);

    /* Plain datagrams: what is on the wire is what was sent, no header of SOCKS before it. */
    struct packet packet;
    const struct packet_match up = {.protocol = IPPROTO_UDP, .destination = association.bound};
    ck_assert(capture_get(capture, &up, 0, &packet));
    ck_assert_uint_eq(packet.length, 8);
    ck_assert_mem_eq(packet.payload, "question", 8);

    close(association.control);
    association.control = -1;
    WAIT_UNTIL(daemons_relay_count(&daemons) == 0, PATIENCE_MS);
    association_close(&association);
}

START_TEST(udp_v4)
{
    check_udp(LAB_TARGET_V4, LAB_RELAY_V4, LAB_EGRESS_V4);
}
END_TEST

START_TEST(udp_v6)
{
    check_udp(LAB_TARGET_V6, LAB_RELAY_V6, LAB_EGRESS_V6);
}
END_TEST

/* "No packet at all in answer", and the drop is counted. */
START_TEST(a_stranger_is_not_answered)
{
    struct server *echo = server_echo(lab, SOCK_DGRAM);
    struct capture *capture = capture_start(lab, LAB_STRANGER, LAB_TO_RELAY);
    struct association association = association_udp(lab, server_endpoint(echo));
    const int fd = socket_bound(lab, LAB_STRANGER, SOCK_DGRAM, at(LAB_STRANGER_V4, 0), NULL);
    socket_send_to(fd, association.bound, "knock", 5);
    WAIT_UNTIL(daemons_relay_number(&daemons, association.bound, "drops") == 1, PATIENCE_MS);
    const struct packet_match answer = {.source = association.bound};
    const struct packet_match icmp = {.protocol = IPPROTO_ICMP};
    ck_assert_uint_eq(capture_count(capture, &answer), 0);
    ck_assert_uint_eq(capture_count(capture, &icmp), 0);
    ck_assert_uint_eq(server_seen(echo).messages, 0);
    close(fd);
    association_close(&association);
}
END_TEST

int main(void)
{
    lab_require();
    Suite *suite = suite_create("smoke");
    TCase *tcase = tcase_create("associations");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, tcp_v4);
    tcase_add_test(tcase, tcp_v6);
    tcase_add_test(tcase, udp_v4);
    tcase_add_test(tcase, udp_v6);
    tcase_add_test(tcase, a_stranger_is_not_answered);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
