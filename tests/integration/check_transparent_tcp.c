/*
 * TCP associations from end to end: addresses, octets on the wire, S and BND, and failures to
 * dial.
 */
#include <errno.h>
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

static struct server *echo_at(const char *address)
{
    const struct server_spec spec = {
        .kind = SERVER_ECHO, .type = SOCK_STREAM, .address = at(address, 0)};
    return server_start(lab, LAB_TARGET, &spec);
}

/* One association that carries a text there and back. */
static struct association check_echo(const struct association_spec *spec)
{
    struct association association = association_open(lab, spec);
    char text[5];
    association_connect(&association);
    socket_send(association.data, "hello", 5);
    socket_receive_all(association.data, text, 5, PATIENCE_MS);
    ck_assert_mem_eq(text, "hello", 5);
    return association;
}

/* Both directions end in order, and N1 after them. */
static void finish(struct association *association)
{
    shutdown(association->data, SHUT_WR);
    ck_assert_int_eq(socket_wait_end(association->data, PATIENCE_MS), SOCKET_FIN);
    ck_assert_int_eq(socket_wait_end(association->control, PATIENCE_MS), SOCKET_FIN);
    association_close(association);
}

/* ---- addresses and octets ----------------------------------------------------------------------
 */

struct route {
    const char *source, *target, *bound, *egress;
};

static const struct route routes[] = {
    {LAB_CLIENT_V4, LAB_TARGET_V4, LAB_RELAY_V4, LAB_EGRESS_V4},
    {LAB_CLIENT_V6, LAB_TARGET_V6, LAB_RELAY_V6, LAB_EGRESS_V6},
    {LAB_CLIENT_V4, LAB_TARGET_V6, LAB_RELAY_V4, LAB_EGRESS_V6},
    {LAB_CLIENT_V6, LAB_TARGET_V4, LAB_RELAY_V6, LAB_EGRESS_V4},
};

/* The request must not appear on the target's wire, and nothing must be added on either. */
static void check_wire(struct capture *capture, const struct packet_match *match,
                       const uint8_t *expected, size_t length)
{
    uint8_t octets[8192];
    ck_assert_uint_eq(capture_stream(capture, match, octets, sizeof(octets)), length);
    ck_assert_mem_eq(octets, expected, length);
}

static void check_route(const struct route *route)
{
    uint8_t sent[4000], received[4000];
    struct pattern pattern = pattern_start(7);
    pattern_next(&pattern, sent, sizeof(sent));
    struct server *echo = echo_at(route->target);
    struct capture *at_client = capture_start(lab, LAB_CLIENT, LAB_TO_RELAY);
    struct capture *at_target = capture_start(lab, LAB_TARGET, LAB_TO_RELAY);
    const struct association_spec spec = {
        .ptcl = PTCL_TCP, .source = at(route->source, 0), .destination = server_endpoint(echo)};
    struct association association = association_open(lab, &spec);
    association_connect(&association);
    socket_send(association.data, sent, sizeof(sent));
    socket_receive_all(association.data, received, sizeof(received), PATIENCE_MS);
    ck_assert_mem_eq(received, sent, sizeof(sent));

    const struct endpoint peer = server_seen(echo).peer;
    ck_assert_msg(same_address(association.bound, at(route->bound, 0)), "BND is %s",
                  show(association.bound));
    ck_assert_msg(same_address(peer, at(route->egress, 0)), "the target sees %s", show(peer));
    json_t *relay = daemons_relay_at(&daemons, association.bound);
    ck_assert_ptr_nonnull(relay);
    ck_assert_str_eq(relay_text(relay, "source"), show(association.source));
    ck_assert_str_eq(relay_text(relay, "destination"), show(association.destination));
    ck_assert_str_eq(relay_text(relay, "egress"), show(peer));
    ck_assert_str_eq(relay_text(relay, "ptcl"), "tcp");
    ck_assert_uint_eq(relay_number(relay, "up_bytes"), sizeof(sent));
    ck_assert_uint_eq(relay_number(relay, "down_bytes"), sizeof(sent));
    json_decref(relay);
    finish(&association);

    const struct packet_match wires[] = {{.protocol = IPPROTO_TCP, .destination = spec.source},
                                         {.protocol = IPPROTO_TCP, .source = spec.source},
                                         {.protocol = IPPROTO_TCP, .source = peer},
                                         {.protocol = IPPROTO_TCP, .destination = peer}};
    struct packet_match down = wires[0], up = wires[1];
    up.destination = down.source = association.bound;
    check_wire(at_client, &up, sent, sizeof(sent));
    check_wire(at_client, &down, sent, sizeof(sent));
    check_wire(at_target, &wires[2], sent, sizeof(sent));
    check_wire(at_target, &wires[3], sent, sizeof(sent));
}

/* N1-REQ-010, N1-DST-040, N1-BND-010, N1-LIFE-010, N1-END-010 */
START_TEST(every_pair_of_families_is_relayed_octet_by_octet)
{
    start(NULL);
    check_route(&routes[_i]);
}
END_TEST

/* N1-BND-010 */
START_TEST(bnd_is_the_local_address_of_the_control_connection)
{
    static const char *const servers[] = {"10.77.3.1", LAB_RELAY_V4};
    struct server *echo = server_echo(lab, SOCK_STREAM);
    start(NULL);
    for (size_t i = 0; i < 2; i++) {
        const struct association_spec spec = {.place = LAB_STRANGER,
                                              .ptcl = PTCL_TCP,
                                              .server = at(servers[i], 1080),
                                              .source = at(LAB_STRANGER_V4, 0),
                                              .destination = server_endpoint(echo)};
        struct association association = check_echo(&spec);
        ck_assert(same_address(association.bound, at(servers[i], 0)));
        finish(&association);
    }
}
END_TEST

/* N1-BND-010: where N1's address is not one of bind.addresses */
START_TEST(bnd_is_else_the_first_of_the_family_and_advertised)
{
    struct server *echo = server_echo(lab, SOCK_STREAM);
    const struct association_spec spec = {.ptcl = PTCL_TCP, .destination = server_endpoint(echo)};
    start(&(struct daemons_options){
        .relayd = {"bind: {addresses: ['fd77:1::1', 10.77.3.1, 10.77.1.1], ports: 20000-20100,"
                   " advertise: {10.77.1.1: 203.0.113.9}}"}});
    struct association association = association_open(lab, &spec);
    ck_assert_msg(same_address(association.bound, at("203.0.113.9", 0)), "BND %s",
                  show(association.bound));
    /* The translation that makes the one of the other is not in this lab. */
    association.bound = at(LAB_RELAY_V4, association.bound.port);
    association_connect(&association);
    socket_send(association.data, "x", 1);
    finish(&association);

    struct association_spec elsewhere = spec;
    elsewhere.place = LAB_STRANGER;
    elsewhere.source = at(LAB_STRANGER_V6, 0);
    elsewhere.server = at("fd77:3::1", 1080);
    association = association_open(lab, &elsewhere);
    ck_assert_msg(same_address(association.bound, at(LAB_RELAY_V6, 0)), "BND %s",
                  show(association.bound));
    association_close(&association);
}
END_TEST

/* N2-RELAY-040, N1-BND-010 */
START_TEST(ports_come_from_the_range_in_no_order)
{
    enum { RELAYS = 40 };
    struct association associations[RELAYS];
    struct server *echo = server_echo(lab, SOCK_STREAM);
    const struct association_spec spec = {.ptcl = PTCL_TCP, .destination = server_endpoint(echo)};
    bool used[64] = {false};
    unsigned successors = 0;
    start(&(struct daemons_options){.relayd = {"bind: {addresses: auto, ports: [30000-30039]}"}});
    for (size_t i = 0; i < RELAYS; i++) {
        associations[i] = association_open(lab, &spec);
        const uint16_t port = associations[i].bound.port;
        ck_assert_msg(port >= 30000 && port < 30000 + RELAYS && !used[port - 30000], "port %u",
                      port);
        used[port - 30000] = true;
        successors += i > 0 && port == associations[i - 1].bound.port + 1;
    }
    ck_assert_msg(successors < RELAYS / 4, "%u ports follow their predecessor", successors);
    struct association more;
    ck_assert_int_eq(association_try(lab, &spec, &more), N1_REP_GENERAL_FAILURE);
    association_close(&associations[11]);
    WAIT_UNTIL(daemons_relay_count(&daemons) == RELAYS - 1, PATIENCE_MS);
    associations[11] = check_echo(&spec);
    for (size_t i = 0; i < RELAYS; i++) {
        association_close(&associations[i]);
    }
    WAIT_UNTIL(daemons_relay_count(&daemons) == 0, PATIENCE_MS);
}
END_TEST

/* ---- S -----------------------------------------------------------------------------------------
 */

/* N1-SRC-010 */
START_TEST(a_source_of_zeros_is_the_peer)
{
    static const char *const zeros[] = {"0.0.0.0", "::"};
    static const char *const peers[] = {LAB_CLIENT_V4, LAB_CLIENT_V6};
    struct server *echo = server_echo(lab, SOCK_STREAM);
    start(NULL);
    for (size_t i = 0; i < 2; i++) {
        const struct association_spec spec = {
            .ptcl = PTCL_TCP, .source = at(zeros[i], 0), .destination = server_endpoint(echo)};
        struct association association = check_echo(&spec);
        json_t *relay = daemons_relay_at(&daemons, association.bound);
        ck_assert_ptr_nonnull(relay);
        ck_assert_str_eq(relay_text(relay, "source"), show(at(peers[i], association.source.port)));
        json_decref(relay);
        finish(&association);
    }
}
END_TEST

/* N1-SRC-010: the zeros of one family over a connection of the other */
START_TEST(zeros_of_the_other_family_are_the_peer_too)
{
    struct server *echo = server_echo(lab, SOCK_STREAM);
    const struct n1_question question = {.ptcl = PTCL_TCP,
                                         .server = at(LAB_RELAY_V6, 1080),
                                         .source = at("0.0.0.0", 4711),
                                         .destination = server_endpoint(echo)};
    struct endpoint bound;
    int control;
    start(NULL);
    ck_assert_int_eq(n1_ask(lab, &question, &control, &bound), N1_REP_SUCCEEDED);
    ck_assert(same_address(bound, at(LAB_RELAY_V6, 0)));
    json_t *relay = daemons_relay_at(&daemons, bound);
    ck_assert_str_eq(relay_text(relay, "source"), show(at(LAB_CLIENT_V6, 4711)));
    json_decref(relay);
    close(control);
}
END_TEST

/* ::ffff:a.b.c.d, ATYP before it and the port behind. */
static size_t put_mapped(uint8_t *out, struct endpoint endpoint)
{
    memset(out, 0, 19);
    out[0] = N1_ATYP_V6;
    out[11] = out[12] = 0xff;
    memcpy(out + 13, endpoint.address.bytes, 4);
    out[17] = (uint8_t)(endpoint.port >> 8);
    out[18] = (uint8_t)endpoint.port;
    return 19;
}

/* N1-ADDR-020 */
START_TEST(mapped_addresses_are_those_that_they_map)
{
    static const char *const destinations[] = {LAB_TARGET_V4, "127.0.0.1", LAB_TARGET_V4_2};
    static const int codes[] = {N1_REP_SUCCEEDED, N1_REP_NOT_ALLOWED, N1_REP_NOT_ALLOWED};
    const struct server_spec spec = {
        .kind = SERVER_ECHO, .type = SOCK_STREAM, .address = at(LAB_TARGET_V4, 8080)};
    server_start(lab, LAB_TARGET, &spec);
    start(&(struct daemons_options){
        .socksd = {"rules: [{action: deny, to: 10.77.2.3}, {action: allow}]"}});
    for (size_t i = 0; i < 3; i++) {
        uint8_t octets[64] = {N1_VERSION, N1_CMD_TRANSPARENT, 0};
        struct endpoint bound;
        size_t length = 3 + put_mapped(octets + 3, at(destinations[i], 8080));
        octets[length++] = PTCL_TCP;
        length += put_mapped(octets + length, at(LAB_CLIENT_V4, 4711));
        const int control = n1_connect_ready(lab, LAB_CLIENT, at(LAB_RELAY_V4, 1080));
        socket_send(control, octets, length);
        ck_assert_int_eq(n1_read_reply(control, PATIENCE_MS, &bound), codes[i]);
        if (codes[i] == N1_REP_SUCCEEDED) {
            ck_assert(same_address(bound, at(LAB_RELAY_V4, 0)));
            json_t *relay = daemons_relay_at(&daemons, bound);
            ck_assert_str_eq(relay_text(relay, "destination"), "10.77.2.2:8080");
            ck_assert_str_eq(relay_text(relay, "source"), "10.77.1.2:4711");
            json_decref(relay);
        }
        close(control);
    }
}
END_TEST

/* N1-SRC-020 */
START_TEST(a_foreign_source_is_refused)
{
    struct server *echo = server_echo(lab, SOCK_STREAM);
    struct association_spec spec = {
        .ptcl = PTCL_TCP, .source = at(LAB_CLIENT_V4_2, 0), .destination = server_endpoint(echo)};
    struct association association;
    start(NULL);
    ck_assert_int_eq(association_try(lab, &spec, &association), N1_REP_NOT_ALLOWED);
    spec.source = at(LAB_CLIENT_V6, 0);
    spec.server = at(LAB_RELAY_V4, 1080);
    ck_assert_int_eq(association_try(lab, &spec, &association), N1_REP_NOT_ALLOWED);
    ck_assert_uint_eq(daemons_relay_count(&daemons), 0);
}
END_TEST

/* N1-SRC-020 */
START_TEST(a_rule_may_allow_a_foreign_source)
{
    struct server *echo = server_echo(lab, SOCK_STREAM);
    struct association_spec spec = {
        .ptcl = PTCL_TCP, .source = at(LAB_CLIENT_V4_2, 0), .destination = server_endpoint(echo)};
    struct n1_question question = {.ptcl = PTCL_TCP, .destination = server_endpoint(echo)};
    struct association association;
    int control;
    start(&(struct daemons_options){
        .socksd = {"rules: [{action: allow, to: 10.77.2.2, foreign-source: true},"
                   " {action: allow}]"}});
    association = check_echo(&spec);
    finish(&association);
    spec.source = at(LAB_CLIENT_V6, 0);
    spec.server = at(LAB_RELAY_V4, 1080);
    association = check_echo(&spec);
    ck_assert(same_address(association.bound, at(LAB_RELAY_V6, 0)));
    finish(&association);
    /* The deny floor holds for S too, and another rule's destinations are another's. */
    static const char *const floor[] = {"127.0.0.1",  "224.0.0.1", "255.255.255.255",
                                        LAB_RELAY_V4, "::1",       "ff02::1"};
    for (size_t i = 0; i < sizeof(floor) / sizeof(floor[0]); i++) {
        question.source = at(floor[i], 5000);
        const int code = n1_ask(lab, &question, &control, NULL);
        ck_assert_msg(code == N1_REP_NOT_ALLOWED, "S %s: %d", floor[i], code);
    }
    question.source = at(LAB_CLIENT_V4_2, 5000);
    question.destination = at(LAB_TARGET_V4_2, 80);
    ck_assert_int_eq(n1_ask(lab, &question, &control, NULL), N1_REP_NOT_ALLOWED);
}
END_TEST

/* N1-SRC-030, N1-PTCL-030 */
START_TEST(ports_of_zero_are_refused)
{
    start(NULL);
    static const uint8_t ptcls[] = {PTCL_TCP, PTCL_UDP};
    for (size_t i = 0; i < 2; i++) {
        struct n1_question question = {
            .ptcl = ptcls[i], .source = at(LAB_CLIENT_V4, 0), .destination = at(LAB_TARGET_V4, 80)};
        int control;
        ck_assert_int_eq(n1_ask(lab, &question, &control, NULL), N1_REP_GENERAL_FAILURE);
        question.source.port = 5000;
        question.destination.port = 0;
        ck_assert_int_eq(n1_ask(lab, &question, &control, NULL), N1_REP_GENERAL_FAILURE);
    }
}
END_TEST

/* N1-SRC-030, N1-LIFE-030 */
START_TEST(the_source_port_is_learnt_where_that_is_configured)
{
    struct server *echo = server_echo(lab, SOCK_STREAM);
    const struct n1_question question = {
        .ptcl = PTCL_TCP, .source = at(LAB_CLIENT_V4, 0), .destination = server_endpoint(echo)};
    struct endpoint bound, local;
    int control;
    char text[2];
    start(&(struct daemons_options){.socksd = {"transparent: {learn-source-port: true}"}});
    ck_assert_int_eq(n1_ask(lab, &question, &control, &bound), N1_REP_SUCCEEDED);
    const int stranger = socket_bound(lab, LAB_CLIENT, SOCK_STREAM, at(LAB_CLIENT_V4_2, 0), NULL);
    ck_assert_int_eq(socket_connect(stranger, bound, 100), -ETIMEDOUT);
    const int first = socket_bound(lab, LAB_CLIENT, SOCK_STREAM, at(LAB_CLIENT_V4, 0), &local);
    ck_assert_int_eq(socket_connect(first, bound, PATIENCE_MS), 0);
    socket_send(first, "hi", 2);
    socket_receive_all(first, text, 2, PATIENCE_MS);
    json_t *relay = daemons_relay_at(&daemons, bound);
    ck_assert_str_eq(relay_text(relay, "source"), show(local));
    json_decref(relay);
    const int second = socket_bound(lab, LAB_CLIENT, SOCK_STREAM, at(LAB_CLIENT_V4, 0), NULL);
    ck_assert_int_eq(socket_connect(second, bound, 300), -ETIMEDOUT);
    socket_send(first, "ho", 2);
    socket_receive_all(first, text, 2, PATIENCE_MS);
    close(second);
    close(stranger);
    close(first);
    close(control);
}
END_TEST

/* ---- what dialling says ------------------------------------------------------------------------
 */

/* N1-REP-010, N1-REP-020, N1-REP-030 */
START_TEST(what_dialling_says_is_the_reply)
{
    struct association association;
    struct association_spec spec = {.ptcl = PTCL_TCP};
    static const char *const targets[] = {LAB_TARGET_V4, LAB_TARGET_V6};
    start(NULL);
    lab_run(lab, LAB_RELAY,
            "for f in 4 6; do"
            " echo 50 > /proc/sys/net/ipv$f/neigh/target0/retrans_time_ms; done");
    for (size_t i = 0; i < 2; i++) {
        spec.destination = at(targets[i], 9); /* nobody listens */
        ck_assert_int_eq(association_try(lab, &spec, &association), N1_REP_REFUSED);
    }
    spec.destination = at("10.99.0.1", 80);
    ck_assert_int_eq(association_try(lab, &spec, &association), N1_REP_NETWORK_UNREACHABLE);
    spec.destination = at("2001:db8::1", 80);
    ck_assert_int_eq(association_try(lab, &spec, &association), N1_REP_NETWORK_UNREACHABLE);
    /* Neighbours that nobody is. */
    spec.destination = at("10.77.2.99", 80);
    ck_assert_int_eq(association_try(lab, &spec, &association), N1_REP_HOST_UNREACHABLE);
    spec.destination = at("fd77:2::99", 80);
    ck_assert_int_eq(association_try(lab, &spec, &association), N1_REP_HOST_UNREACHABLE);
    ck_assert_uint_eq(daemons_relay_count(&daemons), 0);
}
END_TEST

/* N1-REP-020, N1-REP-030, N2-TRANS-050 */
START_TEST(a_silent_host_reads_06_after_the_connect_timeout)
{
    const struct association_spec spec = {.ptcl = PTCL_TCP, .destination = at("10.77.2.99", 80)};
    struct association association;
    start(&(struct daemons_options){.relayd = {"tcp: {connect-timeout: 700ms}"}});
    lab_run(lab, LAB_RELAY,
            "ip neigh add 10.77.2.99 lladdr 02:00:00:00:00:99 dev target0 nud permanent");
    const int64_t begun = now_ms();
    ck_assert_int_eq(association_try(lab, &spec, &association), N1_REP_TTL_EXPIRED);
    const int64_t took = now_ms() - begun;
    ck_assert_msg(took >= 650 && took < 5000, "after %lld ms", (long long)took);
    ck_assert_uint_eq(daemons_relay_count(&daemons), 0);
    ck_assert_uint_eq(proc_sockets_to(process_pid(daemons.relayd_tcp), spec.destination), 0);
}
END_TEST

int main(void)
{
    lab_require();
    Suite *suite = suite_create("transparent-tcp");
    TCase *tcase = tcase_create("associations");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, every_pair_of_families_is_relayed_octet_by_octet, 0,
                        (int)(sizeof(routes) / sizeof(routes[0])));
    tcase_add_test(tcase, bnd_is_the_local_address_of_the_control_connection);
    tcase_add_test(tcase, bnd_is_else_the_first_of_the_family_and_advertised);
    tcase_add_test(tcase, ports_come_from_the_range_in_no_order);
    tcase_add_test(tcase, a_source_of_zeros_is_the_peer);
    tcase_add_test(tcase, zeros_of_the_other_family_are_the_peer_too);
    tcase_add_test(tcase, mapped_addresses_are_those_that_they_map);
    tcase_add_test(tcase, a_foreign_source_is_refused);
    tcase_add_test(tcase, a_rule_may_allow_a_foreign_source);
    tcase_add_test(tcase, ports_of_zero_are_refused);
    tcase_add_test(tcase, the_source_port_is_learnt_where_that_is_configured);
    tcase_add_test(tcase, what_dialling_says_is_the_reply);
    tcase_add_test(tcase, a_silent_host_reads_06_after_the_connect_timeout);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
