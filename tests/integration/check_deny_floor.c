/*
 * The deny floor as an attacker meets it: who has taken over socksd and speaks N2, and who asks
 * over N1, with every class of address and every spelling of it.
 */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/frame.h"
#include "proto/ptcl.h"
#include "tests/harness/capture.h"
#include "tests/harness/daemons.h"
#include "tests/harness/n1_client.h"
#include "tests/harness/n2_client.h"
#include "tests/harness/traffic.h"
#include "tests/harness/wait.h"

static const char *const forbidden[] = {
    /* constant */
    "127.0.0.1", "127.0.0.0", "127.255.255.255", "127.1.2.3", "::1",              //
    "0.0.0.0", "0.1.2.3", "0.255.255.255", "::",                                  //
    "169.254.0.1", "169.254.169.254", "169.254.255.255",                          //
    "fe80::1", "febf:ffff::1", "fe80::1%1",                                       //
    "224.0.0.1", "239.255.255.255", "ff00::", "ff02::1", "ff0e::1234", "ffff::1", //
    "240.0.0.0", "250.1.2.3", "255.255.255.254", "255.255.255.255",               //
    /* this host's */
    LAB_RELAY_V4, LAB_RELAY_V6, LAB_EGRESS_V4, LAB_EGRESS_V6, "10.77.3.1", "fd77:3::1", //
    "10.77.1.255", "10.77.2.255", "10.77.3.255",                                        //
    /* embedded: NAT64, 6to4, IPv4-compatible */
    "64:ff9b::7f00:1", "64:ff9b::a4d:101", "64:ff9b::", "64:ff9b::e000:1", "64:ff9b::ffff:ffff",
    "64:ff9b::a9fe:a9fe",                                                    //
    "2002:7f00:1::", "2002:a4d:201::1", "2002:e000:1::", "2002:f000::1",     //
    "::127.0.0.1", "::10.77.1.1", "::224.0.0.1", "::255.255.255.255", "::2", //
};
#define FORBIDDEN (sizeof(forbidden) / sizeof(forbidden[0]))

static const char *const interfaces[] = {"lo", LAB_TO_CLIENT, LAB_TO_TARGET, LAB_TO_STRANGER};
#define INTERFACES (sizeof(interfaces) / sizeof(interfaces[0]))

static struct lab *lab;
static struct daemons daemons;
static struct capture *captures[INTERFACES];
static uint64_t number;

static void setup(void)
{
    lab = lab_new();
    daemons = (struct daemons){.lab = lab};
    number = 0;
    /* An IPv6 default route, so that nothing is refused for want of one. */
    lab_run(lab, LAB_RELAY, "ip -6 route add default via %s && ip route add default via %s",
            LAB_TARGET_V6, LAB_TARGET_V4);
}

static void teardown(void)
{
    daemons_stop(&daemons);
    lab_free(lab);
}

static void listen_in(void)
{
    for (size_t i = 0; i < INTERFACES; i++) {
        captures[i] = capture_start(lab, LAB_RELAY, interfaces[i]);
    }
}

/* What the relay host sent of this protocol, on whatever interface. */
static size_t sent(uint8_t protocol)
{
    const struct packet_match match = {.protocol = protocol, .only_outgoing = true};
    size_t count = 0;
    for (size_t i = 0; i < INTERFACES; i++) {
        count += capture_count(captures[i], &match);
    }
    return count;
}

static const char *n2_path(uint8_t ptcl)
{
    return lab_path(lab, ptcl == PTCL_TCP ? "n2/tcp.sock" : "n2/udp.sock");
}

/* RelayOpened: 0. */
static int order(int n2, uint8_t ptcl, const char *address, uint16_t port)
{
    const struct n2_message message =
        n2_client_order(++number, ptcl, at(LAB_CLIENT_V4, 4000), at(address, port));
    const struct n2_message answer = n2_client_ask(n2, &message);
    return answer.type == N2_RELAY_OPENED ? 0 : (int)answer.relay_failed.error;
}

static int ask(uint8_t ptcl, const char *address, uint16_t port)
{
    const struct n1_question question = {
        .ptcl = ptcl, .source = at(LAB_CLIENT_V4, 4000), .destination = at(address, port)};
    int control;
    const int code = n1_ask(lab, &question, &control, NULL);
    if (control >= 0) {
        close(control);
    }
    return code;
}

/* N2-RELAY-020 */
START_TEST(an_owned_socksd_reaches_no_address_of_the_floor)
{
    const uint8_t ptcl = _i == 0 ? PTCL_TCP : PTCL_UDP;
    const uint8_t protocol = _i == 0 ? IPPROTO_TCP : IPPROTO_UDP;
    daemons = daemons_start(lab, &(struct daemons_options){.no_socksd = true});
    struct server *echo = server_echo(lab, _i == 0 ? SOCK_STREAM : SOCK_DGRAM);
    listen_in();
    const int n2 = n2_client_open(n2_path(ptcl));
    for (size_t i = 0; i < FORBIDDEN; i++) {
        const int error = order(n2, ptcl, forbidden[i], 80);
        ck_assert_msg(error == N2_ERROR_NOT_ALLOWED, "%s: %d", forbidden[i], error);
    }
    ck_assert_uint_eq(daemons_relay_count(&daemons), 0);
    ck_assert_uint_eq(
        daemons_counter(&daemons, _i == 0 ? "tcp" : "udp", "relays_failed_not_allowed"), FORBIDDEN);
    ck_assert_uint_eq(sent(protocol), 0);

    /* The same order to an honest target, which shows that the test can see one. */
    ck_assert_int_eq(order(n2, ptcl, LAB_TARGET_V4, server_endpoint(echo).port), 0);
    ck_assert_uint_eq(daemons_relay_count(&daemons), 1);
    ck_assert(ptcl == PTCL_UDP || sent(protocol) > 0);
    close(n2);
    WAIT_UNTIL(daemons_relay_count(&daemons) == 0, PATIENCE_MS);
}
END_TEST

/* N2-RELAY-020: a router is also its subnets' anycast address */
START_TEST(anycast_addresses_of_this_host_are_forbidden)
{
    static const char *const anycast[] = {"fd77:1::", "fd77:2::", "fd77:3::"};
    lab_run(lab, LAB_RELAY, "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding");
    daemons = daemons_start(lab, NULL);
    const int n2 = n2_client_open(n2_path(PTCL_UDP));
    for (size_t i = 0; i < 3; i++) {
        ck_assert_int_eq(order(n2, PTCL_UDP, anycast[i], 53), N2_ERROR_NOT_ALLOWED);
        ck_assert_int_eq(ask(PTCL_UDP, anycast[i], 53), N1_REP_NOT_ALLOWED);
    }
    close(n2);
}
END_TEST

/* An address of 16 octets in a frame or request, replaced by one that the encoders do not write. */
static void put_mapped(uint8_t *data, size_t length, const char *v4)
{
    const struct ip_address stand_in = at("2001:db8::5050:5050", 0).address;
    const struct ip_address inner = at(v4, 0).address;
    uint8_t *place = memmem(data, length, stand_in.bytes, 16);
    ck_assert_ptr_nonnull(place);
    memset(place, 0, 10);
    memset(place + 10, 0xff, 2);
    memcpy(place + 12, inner.bytes, 4);
}

/* N2-RELAY-020, N2-FIELD-050: over N2 a mapped address is no address at all */
START_TEST(a_mapped_address_ends_the_link)
{
    static const char *const inner[] = {"127.0.0.1", LAB_RELAY_V4, "224.0.0.1", LAB_TARGET_V4};
    daemons = daemons_start(lab, &(struct daemons_options){.no_socksd = true});
    listen_in();
    for (size_t i = 0; i < sizeof(inner) / sizeof(inner[0]); i++) {
        uint8_t frame[FRAME_HEADER + N2_PAYLOAD_MAX];
        const struct n2_message message =
            n2_client_order(1, PTCL_TCP, at(LAB_CLIENT_V4, 4000), at("2001:db8::5050:5050", 80));
        const size_t length = n2_encode(&message, frame, sizeof(frame));
        put_mapped(frame, length, inner[i]);
        const int n2 = n2_client_open(n2_path(PTCL_TCP));
        socket_send(n2, frame, length);
        n2_client_expect_end(n2, PATIENCE_MS);
        close(n2);
    }
    ck_assert_uint_eq(daemons_counter(&daemons, "tcp", "orders"), 0);
    ck_assert_uint_eq(daemons_counter(&daemons, "tcp", "n2_bad_messages"), 4);
    ck_assert_uint_eq(sent(IPPROTO_TCP), 0);
}
END_TEST

/* N1-DST-050, N1-SRC-020, N1-ORD-010: socksd has the floor too, and says 02 without asking relayd
 */
START_TEST(a_client_reaches_no_address_of_the_floor)
{
    const uint8_t ptcl = _i == 0 ? PTCL_TCP : PTCL_UDP;
    daemons = daemons_start(lab, &(struct daemons_options){
                                     .socksd = {"rules: [{action: allow, to: [0.0.0.0/0, '::/0']},"
                                                " {action: allow}]"}});
    for (size_t i = 0; i < FORBIDDEN; i++) {
        if (strchr(forbidden[i], '%') == NULL) { /* N1 has no room for a scope */
            const int code = ask(ptcl, forbidden[i], 80);
            ck_assert_msg(code == N1_REP_NOT_ALLOWED, "%s: reply %d", forbidden[i], code);
        }
    }
    ck_assert_uint_eq(daemons_counter(&daemons, "tcp", "orders"), 0);
    ck_assert_uint_eq(daemons_counter(&daemons, "udp", "orders"), 0);
    ck_assert_uint_eq(daemons_counter(&daemons, "socksd", "denied_floor"), FORBIDDEN - 1);
}
END_TEST

/* N1-ADDR-020, N1-DST-050 */
START_TEST(a_mapped_address_is_the_address_it_means)
{
    static const struct {
        const char *inner;
        int code;
    } rows[] = {{"127.0.0.1", N1_REP_NOT_ALLOWED},   {LAB_RELAY_V4, N1_REP_NOT_ALLOWED},
                {"0.0.0.0", N1_REP_NOT_ALLOWED},     {"255.255.255.255", N1_REP_NOT_ALLOWED},
                {"169.254.1.1", N1_REP_NOT_ALLOWED}, {LAB_TARGET_V4_2, N1_REP_NOT_ALLOWED},
                {LAB_TARGET_V4, N1_REP_SUCCEEDED}};
    struct server *echo = server_echo(lab, SOCK_STREAM);
    daemons = daemons_start(
        lab, &(struct daemons_options){.socksd = {"rules: [{action: deny, to: 10.77.2.3/32},"
                                                  " {action: allow}]"}});
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint8_t request[N1_REQUEST_MAX];
        const size_t length =
            n1_transparent_bytes(PTCL_TCP, at(LAB_CLIENT_V4, 4000),
                                 at("2001:db8::5050:5050", server_endpoint(echo).port), request);
        put_mapped(request, length, rows[i].inner);
        const int control = n1_connect_ready(lab, LAB_CLIENT, at(LAB_RELAY_V4, 1080));
        socket_send(control, request, length);
        const int code = n1_read_reply(control, PATIENCE_MS, NULL);
        ck_assert_msg(code == rows[i].code, "::ffff:%s: reply %d", rows[i].inner, code);
        close(control);
    }
}
END_TEST

/* ---- exceptions --------------------------------------------------------------------------------
 */

/* N2-RELAY-020 */
START_TEST(open_opens_exactly_its_part)
{
    daemons = daemons_start(
        lab, &(struct daemons_options){
                 .no_socksd = true,
                 .relayd = {"deny-floor: {open: [127.0.0.2/32, 10.77.2.1/32, 'fd77:3::1/128']}"}});
    static const char *const opened[] = {"127.0.0.2", LAB_EGRESS_V4, "fd77:3::1"};
    const int n2 = n2_client_open(n2_path(PTCL_TCP));
    for (size_t i = 0; i < 3; i++) {
        const int error = order(n2, PTCL_TCP, opened[i], 9);
        ck_assert_msg(error == N2_ERROR_REFUSED, "%s: %d", opened[i], error);
    }
    for (size_t i = 0; i < FORBIDDEN; i++) {
        if (strcmp(forbidden[i], LAB_EGRESS_V4) != 0 && strcmp(forbidden[i], "fd77:3::1") != 0 &&
            strcmp(forbidden[i], "2002:a4d:201::1") != 0) { /* embeds 10.77.2.1 */
            const int error = order(n2, PTCL_TCP, forbidden[i], 9);
            ck_assert_msg(error == N2_ERROR_NOT_ALLOWED, "%s: %d", forbidden[i], error);
        }
    }
    close(n2);
}
END_TEST

/* N2-RELAY-020: "none for the unspecified addresses" */
START_TEST(nothing_opens_the_unspecified_addresses)
{
    static const char *const unspecified[] = {"0.0.0.0", "::"};
    daemons = daemons_start(
        lab, &(struct daemons_options){.no_socksd = true,
                                       .relayd = {"deny-floor: {open: [0.0.0.0/0, '::/0']}"}});
    for (int udp = 0; udp < 2; udp++) {
        const int n2 = n2_client_open(n2_path(udp ? PTCL_UDP : PTCL_TCP));
        for (size_t i = 0; i < 2; i++) {
            const int error = order(n2, udp ? PTCL_UDP : PTCL_TCP, unspecified[i], 9);
            ck_assert_msg(error == N2_ERROR_NOT_ALLOWED, "%s: %d", unspecified[i], error);
        }
        close(n2);
    }
}
END_TEST

/* N1-DST-050, N2-RELAY-020: it takes both configurations to open a part */
START_TEST(each_daemon_judges_by_its_own_configuration)
{
    const bool at_socksd = (_i & 1) != 0, at_relayd = (_i & 2) != 0;
    static const char opens[] = "deny-floor: {open: [127.0.0.0/8]}";
    const struct server_spec spec = {
        .kind = SERVER_ECHO, .type = SOCK_STREAM, .address = at("127.0.0.1", 0)};
    struct server *echo = server_start(lab, LAB_RELAY, &spec);
    daemons = daemons_start(lab, &(struct daemons_options){.socksd = {at_socksd ? opens : NULL},
                                                           .relayd = {at_relayd ? opens : NULL}});
    const int code = ask(PTCL_TCP, "127.0.0.1", server_endpoint(echo).port);
    ck_assert_int_eq(code, at_socksd && at_relayd ? N1_REP_SUCCEEDED : N1_REP_NOT_ALLOWED);
    ck_assert_uint_eq(daemons_counter(&daemons, "socksd", "denied_floor"), at_socksd ? 0 : 1);
    ck_assert_uint_eq(daemons_counter(&daemons, "tcp", "orders"), at_socksd ? 1 : 0);
    ck_assert_int_eq(ask(PTCL_TCP, "::1", 80), N1_REP_NOT_ALLOWED);
}
END_TEST

/* ---- the host changes --------------------------------------------------------------------------
 */

/* The kernel installs an IPv6 address from a work queue, some time after `ip` has returned. */
static void add_address(const char *address, const char *device)
{
    const bool v6 = strchr(address, ':') != NULL;
    lab_run(lab, LAB_RELAY, "ip address add %s%s dev %s%s", address, v6 ? "/128" : "/32", device,
            v6 ? " nodad" : "");
    lab_run(lab, LAB_RELAY,
            "until ip %s route show table local exact %s | grep -q .; do sleep 0.01; done",
            v6 ? "-6" : "-4", address);
}

/* A daemon that answers has in that turn of its loop also read what the kernel told before. */
static void wait_for_a_turn_of_everybody(void)
{
    ck_assert_uint_ne(daemons_counter(&daemons, "socksd", "n2_connected"), UINT64_MAX);
    ck_assert_uint_ne(daemons_counter(&daemons, "udp", "orders"), UINT64_MAX);
}

/* N2-RELAY-020, N1-DST-050: no order passes that comes in a later turn of the loop than the
 * kernel's notification */
START_TEST(a_new_address_is_forbidden_at_once)
{
    static const char *const added[] = {"10.77.2.9", "fd77:2::9"};
    daemons = daemons_start(lab, NULL);
    const int n2 = n2_client_open(n2_path(PTCL_UDP));
    for (size_t round = 0; round < 3; round++) {
        for (size_t i = 0; i < 2; i++) {
            const char *device = round == 1 ? LAB_TO_CLIENT : LAB_TO_TARGET;
            ck_assert_int_eq(order(n2, PTCL_UDP, added[i], 53), 0);
            ck_assert_int_eq(ask(PTCL_UDP, added[i], 53), N1_REP_SUCCEEDED);
            add_address(added[i], device);
            wait_for_a_turn_of_everybody();
            const int error = order(n2, PTCL_UDP, added[i], 53);
            ck_assert_msg(error == N2_ERROR_NOT_ALLOWED, "%s: %d", added[i], error);
            ck_assert_int_eq(ask(PTCL_UDP, added[i], 53), N1_REP_NOT_ALLOWED);
            lab_run(lab, LAB_RELAY, "ip address del %s%s dev %s", added[i], i == 1 ? "/128" : "/32",
                    device);
            WAIT_UNTIL(order(n2, PTCL_UDP, added[i], 53) == 0, PATIENCE_MS);
            WAIT_UNTIL(ask(PTCL_UDP, added[i], 53) == N1_REP_SUCCEEDED, PATIENCE_MS);
        }
    }
    close(n2);
}
END_TEST

int main(void)
{
    lab_require();
    Suite *suite = suite_create("deny floor");
    TCase *tcase = tcase_create("floor");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, an_owned_socksd_reaches_no_address_of_the_floor, 0, 2);
    tcase_add_test(tcase, anycast_addresses_of_this_host_are_forbidden);
    tcase_add_test(tcase, a_mapped_address_ends_the_link);
    tcase_add_loop_test(tcase, a_client_reaches_no_address_of_the_floor, 0, 2);
    tcase_add_test(tcase, a_mapped_address_is_the_address_it_means);
    tcase_add_test(tcase, open_opens_exactly_its_part);
    tcase_add_test(tcase, nothing_opens_the_unspecified_addresses);
    tcase_add_loop_test(tcase, each_daemon_judges_by_its_own_configuration, 0, 4);
    tcase_add_test(tcase, a_new_address_is_forbidden_at_once);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
