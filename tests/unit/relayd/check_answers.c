/* Answers on their way: relayd's own order of things, with the kernel as judge of what it gets. */
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <linux/errqueue.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/net/sockaddr.h"
#include "common/system/privileges.h"
#include "relayd/plane/bpf/answers.h"
#include "relayd/plane/socket/stranger_filter.h"
#include "tests/harness/craft.h"
#include "tests/unit/relayd/private_network.h"

#define PATIENCE_MS 10000

static const char *const clients[] = {"10.9.0.1", "fd00::1"}, *const relays[] = {"10.9.0.2",
                                                                                 "fd00::2"};

static void run(const char *command)
{
    ck_assert_msg(system(command) == 0, "failed: %s", command);
}

static void setup(void)
{
    private_network_enter();
    run("ip address add 10.9.0.1/32 dev lo && ip address add 10.9.0.2/32 dev lo");
}

/* What relayd gives up before it reads the first record. */
static void give_up_privileges(void)
{
    ck_assert_int_eq(privileges_drop(), 0);
    ck_assert(privileges_none_left());
    const int rc = sandbox_enter(SANDBOX_RELAYD);
    ck_assert(rc == 0 || rc == -ENOSYS);
}

static struct endpoint endpoint_of(const char *text, uint16_t port)
{
    struct endpoint endpoint = {.port = port};

    ck_assert_int_eq(ip_address_parse(text, &endpoint.address), 0);
    return endpoint;
}

static int socket_at(const char *address, int type)
{
    const struct endpoint name = endpoint_of(address, 0);
    struct sockaddr_storage socket_address;
    const socklen_t length = endpoint_to_sockaddr(&name, &socket_address);
    const int fd = socket(socket_address.ss_family, type | SOCK_CLOEXEC, 0);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&socket_address, length), 0);
    return fd;
}

static struct answers *open_answers(void)
{
    struct answers *answers = NULL;

    ck_assert_int_eq(answers_open(&answers), 0);
    return answers;
}

static struct bpf_answer record_of(uint32_t kind, uint32_t interface, const struct craft *packet)
{
    static uint8_t built[CRAFT_MAX];
    struct bpf_answer record = {.kind = kind, .interface = interface, .mtu = 1300};
    const size_t length = craft_build(packet, built, sizeof(built));

    record.length = (uint32_t)(length < BPF_ANSWER_HEAD ? length : BPF_ANSWER_HEAD);
    record.payload = (uint32_t)packet->length;
    memcpy(record.head, built, record.length);
    return record;
}

static void check_status(const struct answers *answers, uint64_t sent, uint64_t dropped)
{
    static struct admin_status status;

    memset(&status, 0, sizeof(status));
    answers_status(answers, &status);
    ck_assert_uint_eq(status.counter_count, 2);
    ck_assert_str_eq(status.counters[0].name, "bpf_answers_sent");
    ck_assert_str_eq(status.counters[1].name, "bpf_answers_dropped");
    ck_assert_uint_eq(status.counters[0].value, sent);
    ck_assert_uint_eq(status.counters[1].value, dropped);
}

static void wait_for(int fd, short events)
{
    struct pollfd ready = {.fd = fd, .events = events};

    ck_assert_int_eq(poll(&ready, 1, PATIENCE_MS), 1);
}

/* ---- ICMP errors ----------------------------------------------------------------------------- */

/* The next entry of the socket's error queue. */
static struct sock_extended_err next_error(int fd, bool v6, struct endpoint *offender)
{
    char octets[2048];
    union {
        struct cmsghdr header;
        char space[512];
    } control;
    struct iovec data = {.iov_base = octets, .iov_len = sizeof(octets)};
    struct msghdr message = {.msg_iov = &data,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
    struct sock_extended_err error = {0};

    wait_for(fd, 0);
    ck_assert_int_ge(recvmsg(fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT), 0);
    for (struct cmsghdr *at = CMSG_FIRSTHDR(&message); at != NULL; at = CMSG_NXTHDR(&message, at)) {
        if (at->cmsg_type != (v6 ? IPV6_RECVERR : IP_RECVERR))
            continue;
        memcpy(&error, CMSG_DATA(at), sizeof(error));
        ck_assert_int_eq(endpoint_from_sockaddr(
                             (const struct sockaddr *)(CMSG_DATA(at) + sizeof(error)), offender),
                         0);
    }
    return error;
}

/* The sender's own kernel takes the error as one about its datagram. Loop index: IPv4, IPv6. */
START_TEST(senders_understand_errors) /* PLANE-ANS-010, PLANE-ANS-050 */
{
    const bool v6 = _i == 1;
    const int client = socket_at(clients[_i], SOCK_DGRAM),
              relay = socket_at(relays[_i], SOCK_DGRAM);
    const int on = 1;
    struct answers *answers = open_answers();
    struct endpoint offender;
    const struct craft packet = {.source = socket_name(client),
                                 .destination = socket_name(relay),
                                 .protocol = IPPROTO_UDP,
                                 .fragment = CRAFT_DF,
                                 .length = 1372};

    ck_assert_int_eq(connect_to(client, &packet.destination), 0);
    ck_assert_int_eq(setsockopt(client, v6 ? IPPROTO_IPV6 : IPPROTO_IP,
                                v6 ? IPV6_RECVERR : IP_RECVERR, &on, sizeof(on)),
                     0);
    give_up_privileges();
    const struct bpf_answer expired = record_of(BPF_ANSWER_TIME_EXCEEDED, 1, &packet);
    answers_send(answers, &expired);
    struct sock_extended_err error = next_error(client, v6, &offender);
    ck_assert_int_eq(error.ee_origin, v6 ? SO_EE_ORIGIN_ICMP6 : SO_EE_ORIGIN_ICMP);
    ck_assert_int_eq(error.ee_type, v6 ? 3 : 11);
    ck_assert_int_eq(error.ee_code, 0);
    ck_assert(ip_address_equal(&offender.address, &packet.destination.address));

    const struct bpf_answer big = record_of(BPF_ANSWER_TOO_BIG, 1, &packet);
    answers_send(answers, &big);
    error = next_error(client, v6, &offender);
    ck_assert_int_eq(error.ee_type, v6 ? 2 : 3);
    ck_assert_int_eq(error.ee_code, v6 ? 0 : 4);
    ck_assert_int_eq(error.ee_errno, EMSGSIZE);
    ck_assert_uint_eq(error.ee_info, 1300);
    check_status(answers, 2, 0);
    answers_close(answers);
    close(client);
    close(relay);
}
END_TEST

/* ---- RST ------------------------------------------------------------------------------------- */

/* The first packet with payload from the endpoint, as the program would record it. */
static struct bpf_answer record_segment(int capture, const struct endpoint *from)
{
    const bool v6 = from->address.family == IP_V6;
    struct bpf_answer record = {.kind = BPF_ANSWER_RESET, .interface = 1};
    uint8_t packet[2048];

    for (;;) {
        wait_for(capture, POLLIN);
        const ssize_t length = recv(capture, packet, sizeof(packet), 0);
        ck_assert_int_gt(length, 0);
        const size_t header = v6 ? 40 : 20;
        if (packet[0] >> 4 != (v6 ? 6 : 4) || packet[v6 ? 6 : 9] != IPPROTO_TCP ||
            (packet[header] << 8 | packet[header + 1]) != from->port)
            continue;
        const size_t payload = (size_t)length - header - (size_t)(packet[header + 12] >> 4) * 4;
        if (payload == 0 && (packet[header + 13] & CRAFT_SYN) == 0)
            continue;
        record.length = (uint32_t)(length < BPF_ANSWER_HEAD ? length : BPF_ANSWER_HEAD);
        record.payload = (uint32_t)payload;
        memcpy(record.head, packet, record.length);
        if (payload != 0)
            return record;
    }
}

/* A connection that is established believes the RST: its sequence number is exactly right. */
START_TEST(an_established_connection_is_reset) /* PLANE-ANS-030, PLANE-ANS-050 */
{
    const int listener = socket_at(relays[_i], SOCK_STREAM);
    const int client = socket_at(clients[_i], SOCK_STREAM);
    const struct endpoint to = socket_name(listener), from = socket_name(client);
    struct answers *answers = open_answers();
    char octet;

    ck_assert_int_eq(listen(listener, 1), 0);
    ck_assert_int_eq(connect_to(client, &to), 0);
    const int capture = capture_open();
    give_up_privileges();
    ck_assert_int_eq(send(client, "hello", 5, 0), 5);
    const struct bpf_answer record = record_segment(capture, &from);
    answers_send(answers, &record);
    wait_for(client, POLLIN);
    ck_assert_int_eq(recv(client, &octet, 1, 0), -1);
    ck_assert_int_eq(errno, ECONNRESET);
    check_status(answers, 1, 0);
    answers_close(answers);
    close(capture);
    close(client);
    close(listener);
}
END_TEST

/* A SYN that nobody answers: the listener drops what is not signed. */
START_TEST(a_connection_under_way_is_refused) /* PLANE-ANS-030 */
{
    const int listener = socket_at(relays[_i], SOCK_STREAM);
    const int client = socket_at(clients[_i], SOCK_STREAM);
    const int capture = capture_open();
    struct answers *answers = open_answers();
    const struct endpoint to = socket_name(listener);
    uint8_t packet[2048];

    ck_assert_int_eq(stranger_filter_trap(listener, &to.address), 0);
    ck_assert_int_eq(listen(listener, 1), 0);
    give_up_privileges();
    set_blocking(client, false);
    ck_assert_int_eq(connect_to(client, &to), -EINPROGRESS);
    wait_for(capture, POLLIN);
    const ssize_t length = recv(capture, packet, sizeof(packet), 0);
    struct bpf_answer record = {.kind = BPF_ANSWER_RESET, .interface = 1};
    ck_assert_int_gt(length, 0);
    record.length = (uint32_t)(length < BPF_ANSWER_HEAD ? length : BPF_ANSWER_HEAD);
    memcpy(record.head, packet, record.length);
    answers_send(answers, &record);
    wait_for(client, POLLOUT);
    int error = 0;
    socklen_t size = sizeof(error);
    ck_assert_int_eq(getsockopt(client, SOL_SOCKET, SO_ERROR, &error, &size), 0);
    ck_assert_int_eq(error, ECONNREFUSED);
    answers_close(answers);
    close(listener);
    close(capture);
    close(client);
}
END_TEST

/* ---- the way out ----------------------------------------------------------------------------- */

/* Two links to the same network; the first has the better route. */
static void make_links(void)
{
    run("for i in 0 1; do"
        "  ip link add d$i type veth peer name p$i && ip link set d$i up && ip link set p$i up &&"
        "  ip address add 10.20.$i.1/24 dev d$i && ip address add fd20:$i::1/64 dev d$i nodad &&"
        "  ip neighbour add 10.20.$i.2 lladdr 02:00:00:00:00:0$i dev d$i &&"
        "  ip neighbour add fd20:$i::2 lladdr 02:00:00:00:00:0$i dev d$i &&"
        "  ip route add 10.30.0.0/16 via 10.20.$i.2 metric 1$i &&"
        "  ip -6 route add fd30::/64 via fd20:$i::2 metric 1$i || exit 1;"
        "done;"
        "until ip -6 route show table local exact fd20:1::1 | grep -q .; do sleep 0.01; done");
}

/* What arrives at the other end of a link. */
static int open_end(const char *name)
{
    const struct sockaddr_ll address = {.sll_family = AF_PACKET,
                                        .sll_protocol = htons(ETH_P_ALL),
                                        .sll_ifindex = (int)if_nametoindex(name)};
    const int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

/* Answers to the client that have arrived there; the link carries neighbour discovery, too. */
static unsigned arrived(int fd, const struct endpoint *client)
{
    const bool v6 = client->address.family == IP_V6;
    uint8_t packet[2048];
    unsigned count = 0;

    for (ssize_t length; (length = recv(fd, packet, sizeof(packet), 0)) >= 0;)
        count += length > 40 && packet[0] >> 4 == (v6 ? 6 : 4) &&
                 memcmp(packet + (v6 ? 24 : 16), client->address.bytes, v6 ? 16 : 4) == 0;
    ck_assert_int_eq(errno, EAGAIN);
    return count;
}

/* Loop index: IPv4, IPv6. veth hands a packet over while it is sent. */
START_TEST(answers_leave_where_the_packet_came_in) /* PLANE-ANS-070 */
{
    struct answers *answers = open_answers();
    const struct craft packet = {.source = endpoint_of(_i ? "fd30::5" : "10.30.0.5", 4000),
                                 .destination = endpoint_of(_i ? "fd20:0::1" : "10.20.0.1", 2000),
                                 .protocol = IPPROTO_UDP};

    make_links();
    const int ends[] = {open_end("p0"), open_end("p1")};
    const uint32_t interfaces[] = {if_nametoindex("d0"), if_nametoindex("d1")};
    give_up_privileges();
    for (unsigned i = 0; i < 4; i++) {
        const struct bpf_answer record =
            record_of(BPF_ANSWER_TIME_EXCEEDED, interfaces[i % 2], &packet);
        answers_send(answers, &record);
        ck_assert_uint_eq(arrived(ends[0], &packet.source), i % 2 == 0);
        ck_assert_uint_eq(arrived(ends[1], &packet.source), i % 2 == 1);
    }
    /* An interface that has gone meanwhile: the route tells. */
    const struct bpf_answer record = record_of(BPF_ANSWER_TIME_EXCEEDED, 9999, &packet);
    answers_send(answers, &record);
    ck_assert_uint_eq(arrived(ends[0], &packet.source), 1);
    ck_assert_uint_eq(arrived(ends[1], &packet.source), 0);
    check_status(answers, 5, 0);
    answers_close(answers);
    close(ends[0]);
    close(ends[1]);
}
END_TEST

START_TEST(nothing_goes_to_a_broadcast_address) /* PLANE-ANS-040 */
{
    struct answers *answers = open_answers();
    struct craft packet = {.source = endpoint_of("10.20.0.255", 4000),
                           .destination = endpoint_of("10.20.0.1", 2000),
                           .protocol = IPPROTO_UDP};

    make_links();
    const int end = open_end("p0");
    const uint32_t interface = if_nametoindex("d0");
    give_up_privileges();
    struct bpf_answer record = record_of(BPF_ANSWER_TIME_EXCEEDED, interface, &packet);
    answers_send(answers, &record);
    ck_assert_uint_eq(arrived(end, &packet.source), 0);
    check_status(answers, 0, 1);
    packet.source = endpoint_of("10.20.0.2", 4000);
    record = record_of(BPF_ANSWER_TIME_EXCEEDED, interface, &packet);
    answers_send(answers, &record);
    ck_assert_uint_eq(arrived(end, &packet.source), 1);
    record.length = 27; /* cut short */
    answers_send(answers, &record);
    check_status(answers, 1, 2);
    answers_send(NULL, &record);
    answers_close(answers);
    answers_close(NULL);
    close(end);
}
END_TEST

/* ---- the sockets ----------------------------------------------------------------------------- */

/* Raw sockets of the protocol in this namespace, and what waits in them. */
static unsigned raw_sockets(bool v6, unsigned protocol, unsigned *waiting)
{
    FILE *table = fopen(v6 ? "/proc/thread-self/net/raw6" : "/proc/thread-self/net/raw", "re");
    char line[512];
    unsigned sockets = 0;

    *waiting = 0;
    ck_assert_ptr_nonnull(table);
    while (fgets(line, sizeof(line), table) != NULL) {
        unsigned number, octets;
        if (sscanf(line, "%*u: %*[0-9A-F]:%x %*s %*x %*x:%x", &number, &octets) == 2 &&
            number == protocol) {
            sockets++;
            *waiting += octets;
        }
    }
    fclose(table);
    return sockets;
}

/* A packet of the protocol from the client to the relay host. */
static void send_raw(bool v6, uint8_t protocol)
{
    const struct craft packet = {.source = endpoint_of(clients[v6], 9),
                                 .destination = endpoint_of(relays[v6], 9),
                                 .protocol = protocol,
                                 .tcp_flags = CRAFT_SYN,
                                 .length = 8};
    const struct endpoint to = {.address = packet.destination.address};
    struct sockaddr_storage address;
    const socklen_t length = endpoint_to_sockaddr(&to, &address);
    const int fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
    uint8_t octets[256];
    const size_t built = craft_build(&packet, octets, sizeof(octets));

    ck_assert_int_eq(sendto(fd, octets, built, 0, (struct sockaddr *)&address, length),
                     (ssize_t)built);
    close(fd);
}

/* Nothing waits in them, and the kernel has no copy to make of what a host really receives. */
START_TEST(nothing_is_received) /* PLANE-ANS-060 */
{
    const bool v6 = _i == 1;
    struct answers *answers = open_answers();
    const int other = socket(v6 ? AF_INET6 : AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
    unsigned waiting;
    char packet[256];

    send_raw(v6, IPPROTO_RAW);
    send_raw(v6, IPPROTO_TCP);
    send_raw(v6, IPPROTO_UDP);
    ck_assert_int_gt(recv(other, packet, sizeof(packet), MSG_DONTWAIT), 0);
    ck_assert_int_eq(recv(other, packet, sizeof(packet), MSG_DONTWAIT), -1);
    ck_assert_uint_eq(raw_sockets(v6, IPPROTO_RAW, &waiting), 2);
    ck_assert_uint_eq(waiting, 0);
    ck_assert_uint_eq(raw_sockets(v6, IPPROTO_TCP, &waiting), 0);
    ck_assert_uint_eq(raw_sockets(v6, v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP, &waiting), 0);
    answers_close(answers);
    close(other);
}
END_TEST

START_TEST(opening_needs_a_capability) /* PLANE-ANS-050 */
{
    const cap_value_t raw = CAP_NET_RAW;
    struct answers *answers = NULL;
    cap_t only = cap_init();

    ck_assert_int_eq(cap_set_flag(only, CAP_PERMITTED, 1, &raw, CAP_SET), 0);
    ck_assert_int_eq(cap_set_flag(only, CAP_EFFECTIVE, 1, &raw, CAP_SET), 0);
    ck_assert_int_eq(cap_set_proc(only), 0);
    ck_assert_int_eq(answers_open(&answers), 0); /* this one is enough */
    answers_close(answers);
    answers = NULL;
    give_up_privileges();
    const unsigned before = count_fds();
    ck_assert_int_eq(answers_open(&answers), -EPERM);
    ck_assert_ptr_null(answers);
    ck_assert_uint_eq(count_fds(), before);
    cap_free(only);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("answers");
    TCase *tests = tcase_create("answers");
    SRunner *runner = srunner_create(suite);

    tcase_add_checked_fixture(tests, setup, NULL);
    tcase_add_loop_test(tests, senders_understand_errors, 0, 2);
    tcase_add_loop_test(tests, an_established_connection_is_reset, 0, 2);
    tcase_add_loop_test(tests, a_connection_under_way_is_refused, 0, 2);
    tcase_add_loop_test(tests, answers_leave_where_the_packet_came_in, 0, 2);
    tcase_add_test(tests, nothing_goes_to_a_broadcast_address);
    tcase_add_loop_test(tests, nothing_is_received, 0, 2);
    tcase_add_test(tests, opening_needs_a_capability);
    suite_add_tcase(suite, tests);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
