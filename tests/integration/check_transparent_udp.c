/*
 * UDP associations from end to end: addresses, sizes, bursts, order, and what else may arrive.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/ptcl.h"
#include "tests/harness/capture.h"
#include "tests/harness/daemons.h"
#include "tests/harness/n1_client.h"
#include "tests/harness/nameserver.h"
#include "tests/harness/traffic.h"
#include "tests/harness/wait.h"

#define DATAGRAM_MAX 65507

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

/* An association with the test itself as its target. */
struct pair {
    struct association association;
    int target;
    struct endpoint egress; /* known after the first datagram */
};

struct route {
    const char *source, *target, *bound, *egress;
};

static const struct route routes[] = {
    {LAB_CLIENT_V4, LAB_TARGET_V4, LAB_RELAY_V4, LAB_EGRESS_V4},
    {LAB_CLIENT_V6, LAB_TARGET_V6, LAB_RELAY_V6, LAB_EGRESS_V6},
    {LAB_CLIENT_V4, LAB_TARGET_V6, LAB_RELAY_V4, LAB_EGRESS_V6},
    {LAB_CLIENT_V6, LAB_TARGET_V4, LAB_RELAY_V6, LAB_EGRESS_V4},
};

static void expect_from(int fd, const char *text, struct endpoint *from)
{
    char got[64];
    const ssize_t length = socket_receive_from(fd, got, sizeof(got), PATIENCE_MS, from);
    ck_assert_int_eq(length, (ssize_t)strlen(text));
    ck_assert_mem_eq(got, text, strlen(text));
}

static struct pair pair_open(const struct route *route)
{
    struct pair pair;
    struct association_spec spec = {.ptcl = PTCL_UDP, .source = at(route->source, 0)};
    pair.target =
        socket_bound(lab, LAB_TARGET, SOCK_DGRAM, at(route->target, 0), &spec.destination);
    pair.association = association_open(lab, &spec);
    socket_send(pair.association.data, "first", 5);
    expect_from(pair.target, "first", &pair.egress);
    return pair;
}

static void pair_close(struct pair *pair)
{
    association_close(&pair->association);
    close(pair->target);
}

/* ---- addresses and sizes -----------------------------------------------------------------------
 */

static void check_datagram(const struct pair *pair, size_t length, bool up)
{
    static uint8_t sent[DATAGRAM_MAX], received[65536];
    struct pattern pattern = pattern_start(length);
    const int from = up ? pair->association.data : pair->target;
    const int to = up ? pair->target : pair->association.data;
    pattern_next(&pattern, sent, length);
    if (up) {
        ck_assert_int_eq(send(from, sent, length, 0), (ssize_t)length);
    } else {
        socket_send_to(from, pair->egress, sent, length);
    }
    const ssize_t got = socket_receive(to, received, sizeof(received), PATIENCE_MS);
    ck_assert_msg(got == (ssize_t)length, "%zu octets %s: %zd", length, up ? "up" : "down", got);
    ck_assert_mem_eq(received, sent, length);
}

/* N1-REQ-010, N1-DST-040, N1-BND-010, N2-RELAY-050 */
START_TEST(every_size_passes_between_every_pair_of_families)
{
    static const size_t sizes[] = {0, 1, 1472, 1473, 9000, 65506, DATAGRAM_MAX, 0, 100};
    const size_t count = sizeof(sizes) / sizeof(sizes[0]);
    uint64_t octets = 0;
    start(NULL);
    struct pair pair = pair_open(&routes[_i]);
    for (size_t i = 0; i < count; i++) {
        check_datagram(&pair, sizes[i], true);
        check_datagram(&pair, sizes[i], false);
        octets += sizes[i];
    }
    ck_assert(same_address(pair.association.bound, at(routes[_i].bound, 0)));
    ck_assert(same_address(pair.egress, at(routes[_i].egress, 0)));
    json_t *relay = daemons_relay_at(&daemons, pair.association.bound);
    ck_assert_ptr_nonnull(relay);
    ck_assert_str_eq(relay_text(relay, "egress"), show(pair.egress));
    ck_assert_uint_eq(relay_number(relay, "up_packets"), count + 1);
    ck_assert_uint_eq(relay_number(relay, "up_bytes"), octets + 5);
    ck_assert_uint_eq(relay_number(relay, "down_packets"), count);
    ck_assert_uint_eq(relay_number(relay, "down_bytes"), octets);
    ck_assert_uint_eq(relay_number(relay, "drops"), 0);
    json_decref(relay);
    pair_close(&pair);
}
END_TEST

/* N1-REQ-010: nothing is added to a packet, on either wire */
START_TEST(what_is_on_the_wires_is_what_was_sent)
{
    struct capture *at_client = capture_start(lab, LAB_CLIENT, LAB_TO_RELAY);
    struct capture *at_target = capture_start(lab, LAB_TARGET, LAB_TO_RELAY);
    struct packet packet;
    start(NULL);
    struct pair pair = pair_open(&routes[_i]);
    socket_send_to(pair.target, pair.egress, "reply", 5);
    expect_from(pair.association.data, "reply", NULL);
    const struct endpoint source = pair.association.source, bound = pair.association.bound;
    const struct {
        struct capture *capture;
        struct packet_match match;
        const char *text;
    } wires[] = {
        {at_client, {.protocol = IPPROTO_UDP, .source = source, .destination = bound}, "first"},
        {at_client, {.protocol = IPPROTO_UDP, .source = bound, .destination = source}, "reply"},
        {at_target, {.protocol = IPPROTO_UDP, .source = pair.egress}, "first"},
        {at_target, {.protocol = IPPROTO_UDP, .destination = pair.egress}, "reply"},
    };
    for (size_t i = 0; i < 4; i++) {
        ck_assert_uint_eq(capture_count(wires[i].capture, &wires[i].match), 1);
        ck_assert(capture_get(wires[i].capture, &wires[i].match, 0, &packet));
        ck_assert_uint_eq(packet.length, 5);
        ck_assert_mem_eq(packet.payload, wires[i].text, 5);
    }
    pair_close(&pair);
}
END_TEST

/* N1-DST-010 */
START_TEST(a_destination_may_be_a_name)
{
    static const char *const records[] = {"dns.lab.test. A 10.77.2.2",
                                          "dns.lab.test. AAAA fd77:2::2", NULL};
    static const char *const sources[] = {LAB_CLIENT_V4, LAB_CLIENT_V6};
    static const char *const targets[] = {LAB_TARGET_V4, LAB_TARGET_V6};
    nameserver_start(lab, records);
    start(&(struct daemons_options){.socksd = {NAMESERVER_RESOLVER}});
    for (size_t i = 0; i < 2; i++) {
        const struct association_spec spec = {.ptcl = PTCL_UDP,
                                              .source = at(sources[i], 0),
                                              .name = "dns.lab.test",
                                              .destination = {.port = 8053}};
        const int target = socket_bound(lab, LAB_TARGET, SOCK_DGRAM, at(targets[i], 8053), NULL);
        struct association association = association_open(lab, &spec);
        socket_send(association.data, "query", 5);
        expect_from(target, "query", NULL);
        association_close(&association);
        close(target);
    }
}
END_TEST

/* ---- bursts ------------------------------------------------------------------------------------
 */

#define BURST 10000
#define WINDOW 50 /* on their way at once: no socket buffer overflows */

/* Of the n-th datagram: all equal, or never twice the same, with empty ones among them. */
static size_t burst_size(bool equal, unsigned n)
{
    static const size_t sizes[] = {1200, 4, 0, 600, 1201, 599, 1200, 1199, 5, 1200};
    return equal ? 1000 : sizes[n % (sizeof(sizes) / sizeof(sizes[0]))];
}

static size_t burst_make(bool equal, unsigned n, uint8_t *out)
{
    const size_t size = burst_size(equal, n);
    memset(out, (int)(n % 251), size);
    if (size >= sizeof(n)) {
        memcpy(out, &n, sizeof(n));
    }
    return size;
}

static void burst_check(int fd, bool equal, unsigned n)
{
    uint8_t expected[2048], got[2048];
    const size_t size = burst_make(equal, n, expected);
    const ssize_t length = socket_receive(fd, got, sizeof(got), PATIENCE_MS);
    ck_assert_msg(length == (ssize_t)size, "datagram %u: %zd octets, expected %zu", n, length,
                  size);
    ck_assert_msg(memcmp(got, expected, size) == 0, "datagram %u is another", n);
}

static void check_burst(const struct pair *pair, bool equal, bool up)
{
    uint8_t octets[2048];
    for (unsigned n = 0; n < BURST; n += WINDOW) {
        for (unsigned i = n; i < n + WINDOW; i++) {
            const size_t size = burst_make(equal, i, octets);
            if (up) {
                ck_assert_int_eq(send(pair->association.data, octets, size, 0), (ssize_t)size);
            } else {
                socket_send_to(pair->target, pair->egress, octets, size);
            }
        }
        for (unsigned i = n; i < n + WINDOW; i++) {
            burst_check(up ? pair->target : pair->association.data, equal, i);
        }
    }
}

/* N1-SRC-060: all of S's packets, each once, in their order, none of another size */
START_TEST(bursts_lose_nothing_and_keep_their_order)
{
    const bool equal = (_i & 1) != 0;
    start(NULL);
    struct pair pair = pair_open(&routes[_i >> 1]);
    check_burst(&pair, equal, true);
    check_burst(&pair, equal, false);
    ck_assert_uint_eq(daemons_relay_number(&daemons, pair.association.bound, "up_packets"),
                      BURST + 1);
    ck_assert_uint_eq(daemons_relay_number(&daemons, pair.association.bound, "down_packets"),
                      BURST);
    pair_close(&pair);
}
END_TEST

/* N1-SRC-060: a client that lets the kernel cut its datagrams */
START_TEST(segmentation_offload_of_the_client_is_invisible)
{
    enum { SEGMENT = 1200, SEGMENTS = 30, TAIL = 7 };
    static uint8_t sent[SEGMENT * SEGMENTS + TAIL], got[65536];
    struct pattern pattern = pattern_start(9);
    const int size = SEGMENT;
    start(NULL);
    struct pair pair = pair_open(&routes[_i]);
    ck_assert_int_eq(
        setsockopt(pair.association.data, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof(size)), 0);
    for (int round = 0; round < 50; round++) {
        pattern_next(&pattern, sent, sizeof(sent));
        ck_assert_int_eq(send(pair.association.data, sent, sizeof(sent), 0), sizeof(sent));
        for (size_t i = 0; i <= SEGMENTS; i++) {
            const ssize_t length = socket_receive(pair.target, got, sizeof(got), PATIENCE_MS);
            ck_assert_int_eq(length, i < SEGMENTS ? SEGMENT : TAIL);
            ck_assert_mem_eq(got, sent + i * SEGMENT, (size_t)length);
        }
    }
    pair_close(&pair);
}
END_TEST

/* ---- what else arrives -------------------------------------------------------------------------
 */

/* N1-SRC-060 */
START_TEST(only_s_is_served)
{
    char octet;
    start(NULL);
    struct pair pair = pair_open(&routes[0]);
    const struct endpoint bound = pair.association.bound;
    const int wrong_port = socket_bound(lab, LAB_CLIENT, SOCK_DGRAM, at(LAB_CLIENT_V4, 0), NULL);
    const int wrong_address = socket_bound(lab, LAB_CLIENT, SOCK_DGRAM,
                                           at(LAB_CLIENT_V4_2, pair.association.source.port), NULL);
    socket_send_to(wrong_port, bound, "a", 1);
    socket_send_to(wrong_address, bound, "b", 1);
    socket_send(pair.association.data, "mine", 4);
    expect_from(pair.target, "mine", NULL);
    ck_assert_int_eq(socket_receive(pair.target, &octet, 1, 100), -ETIMEDOUT);
    ck_assert_uint_eq(daemons_relay_number(&daemons, bound, "drops"), 2);
    ck_assert_uint_eq(daemons_relay_number(&daemons, bound, "up_packets"), 2);
    close(wrong_port);
    close(wrong_address);
    pair_close(&pair);
}
END_TEST

/* N1-DST-030: the other side has strangers too */
START_TEST(only_dst_is_heard)
{
    char octet;
    start(NULL);
    struct pair pair = pair_open(&routes[0]);
    const int other_port = socket_bound(lab, LAB_TARGET, SOCK_DGRAM, at(LAB_TARGET_V4, 0), NULL);
    const int other_address = socket_bound(
        lab, LAB_TARGET, SOCK_DGRAM, at(LAB_TARGET_V4_2, pair.association.destination.port), NULL);
    socket_send_to(other_port, pair.egress, "a", 1);
    socket_send_to(other_address, pair.egress, "b", 1);
    socket_send_to(pair.target, pair.egress, "mine", 4);
    expect_from(pair.association.data, "mine", NULL);
    ck_assert_int_eq(socket_receive(pair.association.data, &octet, 1, 100), -ETIMEDOUT);
    ck_assert_uint_eq(daemons_relay_number(&daemons, pair.association.bound, "down_packets"), 1);
    close(other_port);
    close(other_address);
    pair_close(&pair);
}
END_TEST

/* N1-SRC-030 */
START_TEST(the_source_port_is_that_of_the_first_datagram)
{
    struct n1_question question = {.ptcl = PTCL_UDP, .source = at(LAB_CLIENT_V4, 0)};
    struct endpoint bound, local;
    int control;
    char text[16], octet;
    const int target =
        socket_bound(lab, LAB_TARGET, SOCK_DGRAM, at(LAB_TARGET_V4, 0), &question.destination);
    start(&(struct daemons_options){.socksd = {"transparent: {learn-source-port: true}"}});
    ck_assert_int_eq(n1_ask(lab, &question, &control, &bound), N1_REP_SUCCEEDED);
    const int stranger = socket_bound(lab, LAB_CLIENT, SOCK_DGRAM, at(LAB_CLIENT_V4_2, 0), NULL);
    const int first = socket_bound(lab, LAB_CLIENT, SOCK_DGRAM, at(LAB_CLIENT_V4, 0), &local);
    const int second = socket_bound(lab, LAB_CLIENT, SOCK_DGRAM, at(LAB_CLIENT_V4, 0), NULL);
    socket_send_to(stranger, bound, "stranger", 8);
    /* All at once, so that some arrive while the port is being learnt. */
    for (int i = 0; i < 20; i++) {
        snprintf(text, sizeof(text), "first %d", i);
        socket_send_to(first, bound, text, strlen(text));
        socket_send_to(second, bound, "second", 6);
    }
    for (int i = 0; i < 20; i++) {
        snprintf(text, sizeof(text), "first %d", i);
        expect_from(target, text, NULL);
    }
    ck_assert_int_eq(socket_receive(target, &octet, 1, 100), -ETIMEDOUT);
    json_t *relay = daemons_relay_at(&daemons, bound);
    ck_assert_str_eq(relay_text(relay, "source"), show(local));
    ck_assert_uint_eq(relay_number(relay, "up_packets"), 20);
    ck_assert_uint_eq(relay_number(relay, "drops"), 21);
    json_decref(relay);
    close(stranger);
    close(first);
    close(second);
    close(target);
    close(control);
}
END_TEST

/* N1-REP-040, N1-LIFE-050: an event, and the relay goes on */
START_TEST(an_unreachable_target_is_an_event)
{
    start(NULL);
    struct pair pair = pair_open(&routes[_i]);
    close(pair.target);
    socket_send(pair.association.data, "nobody", 6);
    WAIT_UNTIL(process_log_has(daemons.socksd, "relay-event", "what=target-unreachable", NULL),
               PATIENCE_MS);
    pair.target = socket_bound(lab, LAB_TARGET, SOCK_DGRAM, pair.association.destination, NULL);
    socket_send(pair.association.data, "again", 5);
    expect_from(pair.target, "again", NULL);
    socket_send_to(pair.target, pair.egress, "here", 4);
    expect_from(pair.association.data, "here", NULL);
    pair_close(&pair);
}
END_TEST

/* N1-LIFE-010: the control connection says whether a client is there, not its UDP socket */
START_TEST(a_client_may_close_its_socket_and_come_back)
{
    start(NULL);
    struct pair pair = pair_open(&routes[_i]);
    struct association *association = &pair.association;
    struct capture *capture = capture_start(lab, LAB_RELAY, LAB_TO_CLIENT);
    const struct packet_match down = {.protocol = IPPROTO_UDP, .source = association->bound};
    close(association->data);
    for (int i = 0; i < 3; i++) {
        socket_send_to(pair.target, pair.egress, "nobody", 6);
    }
    /* Each of them, though each is answered with an error (unless that is rate-limited). */
    WAIT_UNTIL(capture_payload(capture, &down) == 3 * strlen("nobody"), PATIENCE_MS);
    association->data = socket_bound(lab, LAB_CLIENT, SOCK_DGRAM, association->source, NULL);
    ck_assert_int_eq(socket_connect(association->data, association->bound, 0), 0);
    socket_send(association->data, "back", 4);
    expect_from(pair.target, "back", NULL);
    socket_send_to(pair.target, pair.egress, "again", 5);
    expect_from(association->data, "again", NULL);
    pair_close(&pair);
}
END_TEST

/* N1-LIFE-050 */
START_TEST(the_idle_timeout_ends_a_relay_that_is_silent)
{
    start(&(struct daemons_options){.relayd = {"udp: {idle-timeout: 2s}"}});
    struct pair pair = pair_open(&routes[0]);
    int64_t last = 0;
    for (int i = 0; i < 8; i++) { /* either direction keeps it alive */
        ck_assert_int_eq(socket_wait_end(pair.association.control, 400), SOCKET_OPEN);
        last = now_ms();
        if (i % 2 == 0) {
            socket_send(pair.association.data, "up", 2);
            expect_from(pair.target, "up", NULL);
        } else {
            socket_send_to(pair.target, pair.egress, "down", 4);
            expect_from(pair.association.data, "down", NULL);
        }
    }
    ck_assert_int_eq(socket_wait_end(pair.association.control, PATIENCE_MS), SOCKET_FIN);
    ck_assert_int_ge(now_ms() - last, 1980);
    WAIT_UNTIL(process_log_has(daemons.socksd, "access", "reason=idle-timeout", NULL), PATIENCE_MS);
    ck_assert_uint_eq(daemons_relay_count(&daemons), 0);
    pair_close(&pair);
}
END_TEST

int main(void)
{
    const int route_count = (int)(sizeof(routes) / sizeof(routes[0]));
    lab_require();
    Suite *suite = suite_create("transparent-udp");
    TCase *tcase = tcase_create("associations");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, every_size_passes_between_every_pair_of_families, 0, route_count);
    tcase_add_loop_test(tcase, what_is_on_the_wires_is_what_was_sent, 0, route_count);
    tcase_add_test(tcase, a_destination_may_be_a_name);
    tcase_add_loop_test(tcase, bursts_lose_nothing_and_keep_their_order, 0, 2 * route_count);
    tcase_add_loop_test(tcase, segmentation_offload_of_the_client_is_invisible, 0, route_count);
    tcase_add_test(tcase, only_s_is_served);
    tcase_add_test(tcase, only_dst_is_heard);
    tcase_add_test(tcase, the_source_port_is_that_of_the_first_datagram);
    tcase_add_loop_test(tcase, an_unreachable_target_is_an_event, 0, 2);
    tcase_add_loop_test(tcase, a_client_may_close_its_socket_and_come_back, 0, 2);
    tcase_add_test(tcase, the_idle_timeout_ends_a_relay_that_is_silent);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
