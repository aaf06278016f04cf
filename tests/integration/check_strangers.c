/*
 * What strangers hear from a BND while its relay lives: nothing. And what the table says of them:
 * exactly how many packets they sent.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/net/sockaddr.h"
#include "proto/ptcl.h"
#include "tests/harness/capture.h"
#include "tests/harness/daemons.h"
#include "tests/harness/n1_client.h"
#include "tests/harness/traffic.h"
#include "tests/harness/wait.h"

static struct lab *lab;
static struct daemons daemons;
static struct capture *to_client, *to_stranger;
static struct association association;
static int listener = -1, target = -1; /* the test is the target */

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

static void start(const char *relayd_override)
{
    const struct daemons_options options = {.relayd = {relayd_override}};
    daemons = daemons_start(lab, &options);
}

/* Opens a relay in the loop's variant: bit 0 IPv6, and what the packets are counted with. */
static void open_relay(uint8_t ptcl, bool v6)
{
    const struct endpoint address = at(v6 ? LAB_TARGET_V6 : LAB_TARGET_V4, 0);
    struct association_spec spec = {.ptcl = ptcl,
                                    .source = at(v6 ? LAB_CLIENT_V6 : LAB_CLIENT_V4, 0)};
    if (ptcl == PTCL_TCP) {
        listener = socket_listen(lab, LAB_TARGET, address, &spec.destination);
    } else {
        target = socket_bound(lab, LAB_TARGET, SOCK_DGRAM, address, &spec.destination);
    }
    to_client = capture_start(lab, LAB_RELAY, LAB_TO_CLIENT);
    to_stranger = capture_start(lab, LAB_RELAY, LAB_TO_STRANGER);
    association = association_open(lab, &spec);
    if (ptcl == PTCL_TCP) {
        target = socket_accept(listener, PATIENCE_MS, NULL);
    }
}

static void close_relay(void)
{
    association_close(&association);
    close(target);
    if (listener >= 0) {
        close(listener);
    }
}

/* ---- what the wires say ------------------------------------------------------------------------
 */

static bool is_strangers(const struct packet *packet, void *user)
{
    (void)user;
    return !packet->outgoing && packet->protocol == association.ptcl &&
           same_endpoint(packet->destination, association.bound) &&
           !same_endpoint(packet->source, association.source);
}

static bool is_icmp_error(const struct packet *packet)
{
    return packet->protocol == IPPROTO_ICMP ||
           (packet->protocol == IPPROTO_ICMPV6 && packet->length > 0 && packet->payload[0] < 128);
}

static bool is_answer(const struct packet *packet, void *user)
{
    (void)user;
    return packet->outgoing &&
           (is_icmp_error(packet) || (packet->protocol == association.ptcl &&
                                      packet->source.port == association.bound.port &&
                                      !same_endpoint(packet->destination, association.source)));
}

static uint64_t strangers_packets(void)
{
    return capture_count_if(to_client, is_strangers, NULL) +
           capture_count_if(to_stranger, is_strangers, NULL);
}

static uint64_t drops(void)
{
    return daemons_relay_number(&daemons, association.bound, "drops");
}

/* As many drops as packets arrived, at least so many, and no packet in answer. */
static void check_silence(uint64_t least)
{
    WAIT_UNTIL(drops() >= strangers_packets(), PATIENCE_MS);
    const uint64_t arrived = strangers_packets(), counted = drops();
    ck_assert_uint_ge(arrived, least);
    ck_assert_uint_eq(counted, arrived);
    ck_assert_uint_eq(capture_count_if(to_client, is_answer, NULL), 0);
    ck_assert_uint_eq(capture_count_if(to_stranger, is_answer, NULL), 0);
}

/* ---- strangers ---------------------------------------------------------------------------------
 */

struct stranger {
    enum lab_place place;
    struct endpoint address;
};

#define STRANGERS 3

/* Another host, S's other address with S's port, S's address with another port. */
static void strangers(struct stranger out[STRANGERS])
{
    const bool v6 = association.source.address.family == IP_V6;
    const uint16_t port = association.source.port;
    out[0] = (struct stranger){LAB_STRANGER, at(v6 ? LAB_STRANGER_V6 : LAB_STRANGER_V4, port)};
    out[1] = (struct stranger){LAB_CLIENT, at(v6 ? LAB_CLIENT_V6_2 : LAB_CLIENT_V4_2, port)};
    out[2] = (struct stranger){LAB_CLIENT, at(v6 ? LAB_CLIENT_V6 : LAB_CLIENT_V4,
                                              port == 65535 ? 65534 : (uint16_t)(port + 1))};
}

static uint32_t sum(uint32_t start, const void *data, size_t length)
{
    const uint8_t *octets = data;
    for (size_t i = 0; i < length; i += 2) {
        start += (uint32_t)(octets[i] << 8) + (i + 1 < length ? octets[i + 1] : 0U);
    }
    return start;
}

/* Of a segment of 20 octets and its payload, with the pseudo-header. */
static uint16_t checksum(const struct endpoint *from, const struct endpoint *to,
                         const uint8_t *segment, size_t length)
{
    uint32_t total = sum(0, from->address.bytes, ip_address_size(&from->address));
    total = sum(total, to->address.bytes, ip_address_size(&to->address));
    total = sum(total + IPPROTO_TCP + (uint32_t)length, segment, length);
    while (total > 0xffff) {
        total = (total & 0xffff) + (total >> 16);
    }
    return htons((uint16_t)~total);
}

/* One TCP segment with these flags, as no stack would send it. */
static void send_segment(const struct stranger *stranger, uint8_t flags, size_t payload)
{
    uint8_t segment[64] = {0};
    const size_t length = sizeof(struct tcphdr) + payload;
    struct tcphdr header = {.th_sport = htons(stranger->address.port),
                            .th_dport = htons(association.bound.port),
                            .th_seq = htonl(12345),
                            .th_ack = htonl(54321),
                            .th_off = 5,
                            .th_flags = flags,
                            .th_win = htons(1000)};
    memcpy(segment, &header, sizeof(header));
    header.th_sum = checksum(&stranger->address, &association.bound, segment, length);
    memcpy(segment, &header, sizeof(header));

    struct sockaddr_storage from, to;
    struct endpoint local = stranger->address, remote = association.bound;
    local.port = remote.port = 0; /* raw sockets have none */
    const socklen_t from_length = endpoint_to_sockaddr(&local, &from);
    const socklen_t to_length = endpoint_to_sockaddr(&remote, &to);
    const int fd = lab_socket(lab, stranger->place, from.ss_family, SOCK_RAW, IPPROTO_TCP);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&from, from_length), 0);
    ck_assert_int_eq(sendto(fd, segment, length, 0, (struct sockaddr *)&to, to_length),
                     (ssize_t)length);
    close(fd);
}

/* Everything that tools for scanning send. Returns the number of segments. */
static unsigned scan(void)
{
    static const uint8_t flags[] = {TH_SYN,
                                    TH_ACK,
                                    TH_FIN,
                                    TH_RST,
                                    0,
                                    TH_SYN | TH_ACK,
                                    TH_PUSH | TH_ACK,
                                    TH_FIN | TH_ACK,
                                    TH_FIN | TH_PUSH | TH_URG,
                                    TH_SYN | TH_FIN,
                                    TH_SYN | TH_RST,
                                    TH_RST | TH_ACK};
    struct stranger all[STRANGERS];
    strangers(all);
    for (size_t i = 0; i < STRANGERS; i++) {
        for (size_t j = 0; j < sizeof(flags); j++) {
            send_segment(&all[i], flags[j], 0);
            send_segment(&all[i], flags[j], 13);
        }
    }
    return STRANGERS * 2 * sizeof(flags);
}

/* Ordinary connect() calls, which their stacks repeat. Returns their number. */
static unsigned knock(void)
{
    struct stranger all[STRANGERS];
    strangers(all);
    for (size_t i = 0; i < STRANGERS; i++) {
        const int fd = socket_bound(lab, all[i].place, SOCK_STREAM, all[i].address, NULL);
        ck_assert_int_eq(socket_connect(fd, association.bound, 50), -ETIMEDOUT);
        close(fd);
    }
    return STRANGERS;
}

static unsigned send_datagrams(unsigned rounds)
{
    static const uint8_t octets[1400];
    static const size_t sizes[] = {0, 1, 512, 1400};
    struct stranger all[STRANGERS];
    strangers(all);
    for (size_t i = 0; i < STRANGERS; i++) {
        const int fd = socket_bound(lab, all[i].place, SOCK_DGRAM, all[i].address, NULL);
        for (unsigned j = 0; j < rounds; j++) {
            socket_send_to(fd, association.bound, octets, sizes[j % 4]);
        }
        close(fd);
    }
    return STRANGERS * rounds;
}

/* The association works as if nothing had been. */
static void check_served(void)
{
    char octet;
    socket_send(association.data, "x", 1);
    ck_assert_int_eq(socket_receive(target, &octet, 1, PATIENCE_MS), 1);
    ck_assert_int_eq(octet, 'x');
}

/* ---- TCP ---------------------------------------------------------------------------------------
 */

/* N1-SRC-060 */
START_TEST(tcp_strangers_hear_nothing)
{
    unsigned sent = 0;
    start(NULL);
    open_relay(PTCL_TCP, _i != 0);
    sent += knock() + scan(); /* before the client has come */
    check_silence(sent);
    association_connect(&association);
    check_served();
    sent += knock() + scan(); /* while it streams */
    check_silence(sent);
    check_served();
    shutdown(association.data, SHUT_WR);
    ck_assert_int_eq(socket_wait_end(target, PATIENCE_MS), SOCKET_FIN);
    sent += knock() + scan(); /* half-closed */
    check_silence(sent);
    ck_assert_uint_eq(daemons_relay_number(&daemons, association.bound, "up_bytes"), 2);
    close_relay();
}
END_TEST

/* Writes until nothing more is taken. */
static void flood_stream(int fd)
{
    static const uint8_t octets[65536];
    while (wait_fd(fd, POLLOUT, 300)) {
        (void)!send(fd, octets, sizeof(octets), MSG_DONTWAIT | MSG_NOSIGNAL);
    }
}

/* N1-SRC-060: the counter of strangers is not that of the honest flow's losses */
START_TEST(tcp_strangers_are_counted_while_the_target_is_slow)
{
    start(NULL);
    open_relay(PTCL_TCP, _i != 0);
    association_connect(&association);
    flood_stream(association.data);
    const unsigned sent = scan() + knock();
    flood_stream(target);
    check_silence(sent);
    close_relay();
}
END_TEST

static void check_closed_port(uint8_t ptcl)
{
    struct stranger all[STRANGERS];
    strangers(all);
    for (size_t i = 0; i < STRANGERS; i++) {
        char octet;
        const bool tcp = ptcl == PTCL_TCP;
        const int fd =
            socket_bound(lab, all[i].place, tcp ? SOCK_STREAM : SOCK_DGRAM, all[i].address, NULL);
        int rc = socket_connect(fd, association.bound, PATIENCE_MS);
        if (!tcp) {
            ck_assert_int_eq(rc, 0);
            socket_send(fd, "x", 1);
            rc = (int)socket_receive(fd, &octet, 1, PATIENCE_MS);
        }
        ck_assert_msg(rc == -ECONNREFUSED, "%s: %s", show(all[i].address), strerror(-rc));
        close(fd);
    }
}

/* N1-SRC-060, N1-LIFE-010 */
START_TEST(after_its_end_bnd_is_a_closed_port)
{
    const uint8_t ptcl = (_i & 1) != 0 ? PTCL_TCP : PTCL_UDP;
    start(NULL);
    open_relay(ptcl, (_i & 2) != 0);
    if (ptcl == PTCL_TCP) {
        association_connect(&association);
    }
    check_served();
    close(association.control);
    association.control = -1;
    WAIT_UNTIL(daemons_relay_count(&daemons) == 0, PATIENCE_MS);
    check_closed_port(ptcl);
    /* Here they are answered: what check_silence() looks for is what there is to see. */
    ck_assert_uint_gt(capture_count_if(to_client, is_answer, NULL), 0);
    ck_assert_uint_gt(capture_count_if(to_stranger, is_answer, NULL), 0);
    close_relay();
}
END_TEST

/* ---- UDP ---------------------------------------------------------------------------------------
 */

/* N1-SRC-060 */
START_TEST(udp_strangers_hear_nothing)
{
    char octet;
    start(NULL);
    open_relay(PTCL_UDP, _i != 0);
    unsigned sent = send_datagrams(8);
    check_silence(sent);
    check_served();
    sent += send_datagrams(8);
    check_silence(sent);
    ck_assert_int_eq(socket_receive(target, &octet, 1, 50), -ETIMEDOUT);
    ck_assert_uint_eq(daemons_relay_number(&daemons, association.bound, "up_packets"), 1);
    close_relay();
}
END_TEST

/* N1-SRC-060: a daemon that does not get to read overflows the buffers of the honest flow */
START_TEST(udp_strangers_are_counted_while_the_honest_flow_overflows)
{
    static const uint8_t octets[1400];
    enum { HONEST = 3000 };
    start(NULL);
    open_relay(PTCL_UDP, _i != 0);
    check_served();
    process_signal(daemons.relayd_udp, SIGSTOP);
    unsigned sent = 0;
    for (unsigned i = 0; i < HONEST; i++) {
        (void)!send(association.data, octets, sizeof(octets), 0);
        if (i % 100 == 0) {
            sent += send_datagrams(4);
        }
    }
    process_signal(daemons.relayd_udp, SIGCONT);
    check_silence(sent);
    const uint64_t up = daemons_relay_number(&daemons, association.bound, "up_packets");
    ck_assert_msg(up < HONEST, "nothing was lost (%llu packets): no overload",
                  (unsigned long long)up);
    close_relay();
}
END_TEST

/* ---- floods ------------------------------------------------------------------------------------
 */

/* N1-SRC-060: section 14, monitoring */
START_TEST(a_flood_is_an_event_and_changes_nothing)
{
    start("guard: {wrong-source-per-second: 100}");
    open_relay(PTCL_UDP, false);
    const unsigned sent = send_datagrams(200);
    WAIT_UNTIL(process_log_has(daemons.socksd, "relay-event", "what=wrong-source-flood", NULL),
               PATIENCE_MS);
    check_silence(sent);
    check_served();
    close_relay();
}
END_TEST

/* N1-SRC-060: section 14, the lever that is off by default */
START_TEST(a_flood_ends_the_relay_where_that_is_configured)
{
    start("guard: {wrong-source-per-second: 100, action: close}");
    open_relay(PTCL_UDP, false);
    send_datagrams(200);
    ck_assert_int_eq(socket_wait_end(association.control, PATIENCE_MS), SOCKET_FIN);
    WAIT_UNTIL(process_log_has(daemons.socksd, "access", "reason=guard", NULL), PATIENCE_MS);
    close_relay();
}
END_TEST

int main(void)
{
    lab_require();
    Suite *suite = suite_create("strangers");
    TCase *tcase = tcase_create("silence");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, tcp_strangers_hear_nothing, 0, 2);
    tcase_add_loop_test(tcase, tcp_strangers_are_counted_while_the_target_is_slow, 0, 2);
    tcase_add_loop_test(tcase, udp_strangers_hear_nothing, 0, 2);
    tcase_add_loop_test(tcase, udp_strangers_are_counted_while_the_honest_flow_overflows, 0, 2);
    tcase_add_loop_test(tcase, after_its_end_bnd_is_a_closed_port, 0, 4);
    tcase_add_test(tcase, a_flood_is_an_event_and_changes_nothing);
    tcase_add_test(tcase, a_flood_ends_the_relay_where_that_is_configured);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
