/*
 * UDP ASSOCIATE from end to end: destinations of every kind, whose datagrams are taken in either
 * direction, and what is dropped without harm (N1-UDP).
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/harness/classic.h"
#include "tests/harness/daemons.h"
#include "tests/harness/nameserver.h"
#include "tests/harness/proc.h"
#include "tests/harness/traffic.h"
#include "tests/harness/wait.h"

#define SILENCE_MS 200 /* for what must not come */
#define UDP_MAX 65507  /* octets of payload over IPv4 */

static struct lab *lab;
static struct daemons daemons;
static const struct endpoint anywhere = {.address = {.family = IP_V4}};

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

static struct endpoint echo_at(const char *address)
{
    const struct server_spec spec = {
        .kind = SERVER_ECHO, .type = SOCK_DGRAM, .address = at(address, 0)};
    return server_endpoint(server_start(lab, LAB_TARGET, &spec));
}

static uint64_t malformed(void)
{
    return daemons_counter(&daemons, "udp", "udp_malformed");
}

/* ---- destinations and sizes --------------------------------------------------------------------
 */

START_TEST(one_association_reaches_both_families)
{
    uint8_t payload[UDP_MAX];
    static const size_t sizes[] = {0, 1, 1400, 1473, 9000, UDP_MAX - CLASSIC_HEADER_V6};
    struct pattern pattern = pattern_start(8);
    pattern_next(&pattern, payload, sizeof(payload));
    start(NULL);
    const struct endpoint targets[] = {echo_at(LAB_TARGET_V4), echo_at(LAB_TARGET_V6),
                                       echo_at(LAB_TARGET_V4_2)};
    struct classic_udp udp = classic_associate(lab, anywhere);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (size_t j = 0; j < sizeof(targets) / sizeof(targets[0]); j++) {
            classic_check_echo(&udp, targets[j], payload, sizes[i]);
        }
    }
    /* The most that a datagram to an IPv4 address holds behind its header. */
    classic_check_echo(&udp, targets[0], payload, UDP_MAX - CLASSIC_HEADER_V4);
    classic_udp_close(&udp);
}
END_TEST

static void send_to_name(const struct classic_udp *udp, const char *name, uint16_t port,
                         const char *payload)
{
    uint8_t datagram[512];
    struct n1_udp_header header = {0};
    ck_assert_int_eq(n1_host_from_name(name, port, &header.destination), 0);
    socket_send(udp->data, datagram,
                classic_wrap(&header, payload, strlen(payload), datagram, sizeof(datagram)));
}

/* N1-UDP-070, N1-UDP-080: names are looked up once, and judged. */
START_TEST(destinations_may_be_names)
{
    char answer[64];
    struct endpoint from;
    struct process *nameserver =
        nameserver_start(lab, (const char *const[]){"echo.lab.test. A " LAB_TARGET_V4,
                                                    "forbidden.lab.test. A " LAB_TARGET_V4, NULL});
    start(&(struct daemons_options){
        .socksd = {NAMESERVER_RESOLVER,
                   "rules: [{action: deny, to: ['forbidden.lab.test']}, {action: allow}]"}});
    const struct endpoint echo = echo_at(LAB_TARGET_V4);
    struct classic_udp udp = classic_associate(lab, anywhere);
    for (int i = 0; i < 3; i++) {
        send_to_name(&udp, "echo.lab.test", echo.port, "named");
        ck_assert_int_eq(classic_receive(&udp, answer, sizeof(answer), PATIENCE_MS, &from), 5);
        ck_assert_msg(same_endpoint(from, echo), "answered by %s", show(from));
    }
    send_to_name(&udp, "nobody.lab.test", echo.port, "lost");
    send_to_name(&udp, "forbidden.lab.test", echo.port, "lost");
    WAIT_UNTIL(nameserver_was_asked(nameserver, "nobody.lab.test"), PATIENCE_MS);
    ck_assert_int_eq(classic_receive(&udp, answer, sizeof(answer), SILENCE_MS, &from), -ETIMEDOUT);
    ck_assert(!nameserver_was_asked(nameserver, "forbidden.lab.test"));
    classic_check_echo(&udp, echo, "still", 5);
    classic_udp_close(&udp);
}
END_TEST

START_TEST(each_destination_is_judged)
{
    char answer[8];
    struct endpoint from;
    start(&(struct daemons_options){
        .socksd = {"rules: [{action: allow, commands: [udp-associate], to: [10.77.2.2]},"
                   " {action: allow, commands: [connect]}]"}});
    struct server *denied = server_start(lab, LAB_TARGET,
                                         &(struct server_spec){.kind = SERVER_ECHO,
                                                               .type = SOCK_DGRAM,
                                                               .address = at(LAB_TARGET_V4_2, 0)});
    const struct endpoint echo = echo_at(LAB_TARGET_V4);
    struct classic_udp udp = classic_associate(lab, anywhere);
    classic_send(&udp, server_endpoint(denied), "no", 2);
    classic_send(&udp, at("127.0.0.1", 53), "no", 2); /* the deny floor */
    classic_check_echo(&udp, echo, "yes", 3);
    ck_assert_int_eq(classic_receive(&udp, answer, sizeof(answer), SILENCE_MS, &from), -ETIMEDOUT);
    ck_assert_uint_eq(server_seen(denied).messages, 0);
    ck_assert_uint_ge(daemons_counter(&daemons, "udp", "udp_denied"), 2);
    classic_udp_close(&udp);
}
END_TEST

/* ---- the client's side -------------------------------------------------------------------------
 */

/* N1-UDP-030: whatever DST says, the association works from the client's address. */
START_TEST(dst_may_be_anything)
{
    start(NULL);
    const struct endpoint echo = echo_at(LAB_TARGET_V4);
    const struct endpoint hints[] = {anywhere,
                                     echo,
                                     at("::", 0),
                                     at(LAB_CLIENT_V4_2, 4000),
                                     at(LAB_CLIENT_V4, 0),
                                     at(LAB_CLIENT_V4, 40404)};
    for (size_t i = 0; i < sizeof(hints) / sizeof(hints[0]); i++) {
        struct classic_udp udp = classic_associate(lab, hints[i]);
        classic_check_echo(&udp, echo, "hint", 4);
        classic_udp_close(&udp);
        WAIT_UNTIL(daemons_relay_count(&daemons) == 0, PATIENCE_MS);
    }
}
END_TEST

/* Behind a translation the client is told another address than the relay's own. */
START_TEST(bnd_may_be_advertised)
{
    start(&(struct daemons_options){.relayd = {"bind: {addresses: auto, ports: 20000-59999,"
                                               " advertise: {10.77.1.1: 203.0.113.9}}"}});
    lab_run(lab, LAB_CLIENT, "ip route add 203.0.113.9 via " LAB_RELAY_V4);
    const struct endpoint echo = echo_at(LAB_TARGET_V4);
    struct classic_udp udp = classic_associate(lab, anywhere);
    ck_assert_msg(same_address(udp.bound, at("203.0.113.9", 0)), "BND is %s", show(udp.bound));
    /* What a translation would do. */
    ck_assert_int_eq(socket_connect(udp.data, at(LAB_RELAY_V4, udp.bound.port), PATIENCE_MS), 0);
    classic_check_echo(&udp, echo, "translated", 10);
    classic_udp_close(&udp);
}
END_TEST

/* A socket of the client's place sends what would be a good datagram to BND. */
static int send_foreign(const char *address, struct endpoint bound, struct endpoint to)
{
    uint8_t datagram[64];
    const struct n1_udp_header header = {.destination = n1_host_from_endpoint(&to)};
    const int fd = socket_bound(lab, LAB_CLIENT, SOCK_DGRAM, at(address, 0), NULL);
    socket_send_to(fd, bound, datagram,
                   classic_wrap(&header, "foreign", 7, datagram, sizeof(datagram)));
    return fd;
}

/* Another address, and another port than the one that was learnt or hinted: dropped and counted. */
START_TEST(strangers_are_not_served)
{
    start(NULL);
    for (int hinted = 0; hinted < 2; hinted++) {
        struct server *echo = server_echo(lab, SOCK_DGRAM);
        struct classic_udp udp =
            classic_associate(lab, hinted != 0 ? at(LAB_CLIENT_V4, 41414) : anywhere);
        char octet;
        /* Before the client's first datagram: the address alone counts, or the hint. */
        const int neighbour = send_foreign(LAB_CLIENT_V4_2, udp.bound, server_endpoint(echo));
        int other =
            hinted != 0 ? send_foreign(LAB_CLIENT_V4, udp.bound, server_endpoint(echo)) : -1;
        classic_check_echo(&udp, server_endpoint(echo), "mine", 4);
        if (other < 0) {
            other = send_foreign(LAB_CLIENT_V4, udp.bound, server_endpoint(echo));
        }
        ck_assert_int_lt(socket_receive(neighbour, &octet, 1, SILENCE_MS), 0);
        ck_assert_int_lt(socket_receive(other, &octet, 1, SILENCE_MS), 0);
        ck_assert_uint_eq(server_seen(echo).messages, 1);
        ck_assert_uint_eq(daemons_relay_number(&daemons, udp.bound, "drops"), 2);
        classic_check_echo(&udp, server_endpoint(echo), "mine", 4);
        close(neighbour);
        close(other);
        classic_udp_close(&udp);
    }
}
END_TEST

/* N1-UDP-050 */
START_TEST(the_control_connection_holds_the_association)
{
    start(NULL);
    const struct endpoint echo = echo_at(LAB_TARGET_V4);
    for (int reset = 0; reset < 2; reset++) {
        struct classic_udp udp = classic_associate(lab, anywhere);
        classic_check_echo(&udp, echo, "alive", 5);
        ck_assert_uint_ne(proc_sockets_at(process_pid(daemons.relayd_udp), udp.bound), 0);
        if (reset != 0) {
            socket_abort_on_close(udp.control);
        }
        close(udp.control);
        WAIT_UNTIL(proc_sockets_at(process_pid(daemons.relayd_udp), udp.bound) == 0, PATIENCE_MS);
        close(udp.data);
    }
}
END_TEST

/* ---- bad input ---------------------------------------------------------------------------------
 */

/* Sends the octets, sees them counted, and the association serve as before. */
static void check_dropped(const struct classic_udp *udp, struct endpoint echo,
                          const uint8_t *octets, size_t length)
{
    const uint64_t before = malformed();
    ck_assert_int_eq(send(udp->data, octets, length, 0), (ssize_t)length); /* also none */
    classic_check_echo(udp, echo, "stays", 5);                             /* behind it, in order */
    ck_assert_msg(malformed() == before + 1, "%zu octets, ATYP %u: %llu were counted", length,
                  length > 3 ? octets[3] : 0, (unsigned long long)(malformed() - before));
}

/* N1-UDP-010: every truncation of each kind of header. */
START_TEST(truncated_headers_are_dropped)
{
    start(NULL);
    const struct endpoint echo = echo_at(LAB_TARGET_V4);
    struct classic_udp udp = classic_associate(lab, anywhere);
    const struct endpoint v6 = at(LAB_TARGET_V6, 9);
    struct n1_udp_header headers[3] = {{.destination = n1_host_from_endpoint(&echo)},
                                       {.destination = n1_host_from_endpoint(&v6)}};
    ck_assert_int_eq(n1_host_from_name("a.lab.test", 9, &headers[2].destination), 0);
    classic_check_echo(&udp, echo, "first", 5);
    for (size_t i = 0; i < 3; i++) {
        uint8_t octets[64];
        const size_t whole = n1_udp_header_encode(&headers[i], octets, sizeof(octets));
        for (size_t length = 0; length < whole; length++) {
            check_dropped(&udp, echo, octets, length);
        }
    }
    classic_udp_close(&udp);
}
END_TEST

START_TEST(wrong_headers_are_dropped)
{
    uint8_t octets[64] = {0, 0, 0, 3, 5, 'a', 0, '.', 'b', 'c', 0, 53, 'x'};
    start(NULL);
    const struct endpoint echo = echo_at(LAB_TARGET_V4);
    struct classic_udp udp = classic_associate(lab, anywhere);
    const struct n1_udp_header header = {.destination = n1_host_from_endpoint(&echo)};
    classic_check_echo(&udp, echo, "first", 5);
    check_dropped(&udp, echo, octets, 13); /* NUL in a name */
    octets[6] = ' ';
    check_dropped(&udp, echo, octets, 13);
    octets[4] = 0; /* a name of no octets */
    check_dropped(&udp, echo, octets, 13);
    const size_t length = classic_wrap(&header, "x", 1, octets, sizeof(octets));
    for (size_t rsv = 0; rsv < 2; rsv++) {
        octets[rsv] = 1;
        check_dropped(&udp, echo, octets, length);
        octets[rsv] = 0;
    }
    for (unsigned atyp = 0; atyp < 256; atyp++) {
        octets[3] = (uint8_t)atyp;
        if (atyp != N1_ATYP_V4 && atyp != N1_ATYP_V6 && atyp != N1_ATYP_DOMAIN) {
            check_dropped(&udp, echo, octets, length);
        }
    }
    octets[3] = N1_ATYP_V4;
    octets[8] = octets[9] = 0; /* port 0 */
    check_dropped(&udp, echo, octets, length);
    classic_udp_close(&udp);
}
END_TEST

/* ---- replies -----------------------------------------------------------------------------------
 */

/* Where the target sees this association's datagrams come from. */
static struct endpoint egress_of(const struct classic_udp *udp, int target)
{
    char octet;
    struct endpoint egress;
    classic_send(udp, socket_local(target), "x", 1);
    ck_assert_int_eq(socket_receive_from(target, &octet, 1, PATIENCE_MS, &egress), 1);
    return egress;
}

/* Only who was sent to may answer, unless the cone is full. */
START_TEST(answers_come_from_whom_the_client_has_sent_to)
{
    char text[8];
    struct endpoint from;
    for (int full = 0; full < 2; full++) {
        start(&(struct daemons_options){.relayd = {full != 0 ? "udp: {full-cone: true}" : NULL}});
        const int target = socket_bound(lab, LAB_TARGET, SOCK_DGRAM, at(LAB_TARGET_V4, 0), NULL);
        const int other = socket_bound(lab, LAB_TARGET, SOCK_DGRAM, at(LAB_TARGET_V4_2, 0), NULL);
        struct classic_udp udp = classic_associate(lab, anywhere);
        const struct endpoint egress = egress_of(&udp, target);
        socket_send_to(other, egress, "other", 5);
        socket_send_to(target, egress, "asked", 5);
        if (full != 0) {
            ck_assert_int_eq(classic_receive(&udp, text, sizeof(text), PATIENCE_MS, &from), 5);
            ck_assert_mem_eq(text, "other", 5);
            ck_assert(same_endpoint(from, socket_local(other)));
        }
        ck_assert_int_eq(classic_receive(&udp, text, sizeof(text), PATIENCE_MS, &from), 5);
        ck_assert_mem_eq(text, "asked", 5);
        ck_assert(same_endpoint(from, socket_local(target)));
        if (full == 0) {
            ck_assert_uint_eq(daemons_counter(&daemons, "udp", "udp_unsolicited"), 1);
        }
        /* From now on it may. */
        classic_send(&udp, socket_local(other), "x", 1);
        ck_assert_int_eq(socket_receive(other, text, 1, PATIENCE_MS), 1);
        socket_send_to(other, egress, "now", 3);
        ck_assert_int_eq(classic_receive(&udp, text, sizeof(text), PATIENCE_MS, &from), 3);
        classic_udp_close(&udp);
        close(target);
        close(other);
        daemons_stop(&daemons);
    }
}
END_TEST

/* ---- fragments ---------------------------------------------------------------------------------
 */

static void send_fragment(const struct classic_udp *udp, struct endpoint to, uint8_t fragment,
                          const char *payload)
{
    uint8_t datagram[64];
    const struct n1_udp_header header = {.fragment = fragment,
                                         .destination = n1_host_from_endpoint(&to)};
    socket_send(udp->data, datagram,
                classic_wrap(&header, payload, strlen(payload), datagram, sizeof(datagram)));
}

/* RFC 1928 section 7 */
START_TEST(fragments_are_put_together_or_dropped)
{
    char text[16];
    struct endpoint from;
    for (int drop = 0; drop < 2; drop++) {
        start(&(struct daemons_options){.relayd = {drop != 0 ? "udp: {fragments: drop}" : NULL}});
        const struct endpoint echo = echo_at(LAB_TARGET_V4);
        struct classic_udp udp = classic_associate(lab, anywhere);
        send_fragment(&udp, echo, 1, "one");
        send_fragment(&udp, echo, 2, "two");
        send_fragment(&udp, echo, 0x83, "three");
        if (drop == 0) {
            ck_assert_int_eq(classic_receive(&udp, text, sizeof(text), PATIENCE_MS, &from), 11);
            ck_assert_mem_eq(text, "onetwothree", 11);
        }
        /* Out of order: nothing of it. */
        send_fragment(&udp, echo, 1, "one");
        send_fragment(&udp, echo, 3, "two");
        send_fragment(&udp, echo, 0x84, "three");
        classic_check_echo(&udp, echo, "whole", 5);
        ck_assert_int_eq(classic_receive(&udp, text, sizeof(text), SILENCE_MS, &from), -ETIMEDOUT);
        classic_udp_close(&udp);
        daemons_stop(&daemons);
    }
}
END_TEST

int main(void)
{
    lab_require();
    Suite *suite = suite_create("classic-udp");
    TCase *tcase = tcase_create("udp-associate");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, one_association_reaches_both_families);
    tcase_add_test(tcase, destinations_may_be_names);
    tcase_add_test(tcase, each_destination_is_judged);
    tcase_add_test(tcase, dst_may_be_anything);
    tcase_add_test(tcase, bnd_may_be_advertised);
    tcase_add_test(tcase, strangers_are_not_served);
    tcase_add_test(tcase, the_control_connection_holds_the_association);
    tcase_add_test(tcase, truncated_headers_are_dropped);
    tcase_add_test(tcase, wrong_headers_are_dropped);
    tcase_add_test(tcase, answers_come_from_whom_the_client_has_sent_to);
    tcase_add_test(tcase, fragments_are_put_together_or_dropped);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
