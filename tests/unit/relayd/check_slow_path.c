/* Datagrams through relayd's own sockets: whole and in fragments, as the kernel hands them over. */
#include <check.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/net/sockaddr.h"
#include "relayd/plane/bpf/slow_path.h"
#include "relayd/plane/socket/stranger_filter.h"
#include "tests/harness/craft.h"
#include "tests/harness/packet_check.h"
#include "tests/unit/relayd/private_network.h"

#define MARK 0x50c5500du
#define MTU 1500
#define PATIENCE_MS 10000

/* One relay: the client's datagrams to BND go on from egress to the target. */
static struct {
    bool v6;
    int client, bound, egress, target;
    bool is_gone;
    unsigned found, sent, failed;
    uint64_t octets;
    uint32_t asked; /* by find() */
    int error;
    struct endpoint peer, local;
} relay;

static bool find(void *user, const struct endpoint *peer, const struct endpoint *local,
                 uint32_t octets, struct slow_path_way *out)
{
    ck_assert_ptr_eq(user, &relay);
    relay.found++;
    relay.asked = octets;
    relay.peer = *peer;
    relay.local = *local;
    *out = (struct slow_path_way){.fd = relay.egress, .peer = socket_name(relay.target)};
    return !relay.is_gone;
}

static void sent(void *user, uint32_t octets, int error)
{
    ck_assert_ptr_eq(user, &relay);
    ck_assert_uint_eq(octets, relay.asked);
    if (error == 0) {
        relay.sent++;
        relay.octets += octets;
    } else {
        relay.failed++;
        relay.error = error;
    }
}

static const struct slow_path_ops ops = {.find = find, .sent = sent};

static int held_socket(bool v6)
{
    const struct endpoint name = {.address = party_address(PARTY_RELAY, v6)};
    struct sockaddr_storage address;
    const socklen_t length = endpoint_to_sockaddr(&name, &address);
    const int fd = socket(address.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    ck_assert_int_eq(slow_path_prepare(fd, MARK), 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, length), 0);
    return fd;
}

static void set_mark(int fd, uint32_t mark)
{
    ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)), 0);
}

static void set_int(int fd, int level, int option, int value)
{
    ck_assert_int_eq(setsockopt(fd, level, option, &value, sizeof(value)), 0);
}

static void start(bool v6)
{
    memset(&relay, 0, sizeof(relay));
    relay.v6 = v6;
    private_network_set_mtu(MTU);
    network_privilege(false);
    relay.bound = held_socket(v6);
    relay.egress = held_socket(v6);
    network_privilege(true);
    relay.client = party_socket(PARTY_CLIENT, v6, SOCK_DGRAM, 0);
    relay.target = party_socket(PARTY_TARGET, v6, SOCK_DGRAM, 0);
    const struct endpoint bound = socket_name(relay.bound);
    ck_assert_int_eq(connect_to(relay.client, &bound), 0);
    set_mark(relay.client, MARK);
    set_int(relay.target, SOL_SOCKET, SO_RCVBUFFORCE, 16 * 1024 * 1024);
}

static void stop(void)
{
    close(relay.client);
    close(relay.bound);
    close(relay.egress);
    close(relay.target);
}

static int read_bound(void)
{
    const struct endpoint local = socket_name(relay.bound);

    return slow_path_read(relay.bound, &local, &ops, &relay);
}

/* The next datagram at the target; -1: none is there. */
static ssize_t receive(uint8_t *out, size_t size, struct endpoint *from)
{
    struct sockaddr_storage address;
    socklen_t length = sizeof(address);
    const ssize_t n =
        recvfrom(relay.target, out, size, MSG_DONTWAIT, (struct sockaddr *)&address, &length);

    if (n >= 0)
        ck_assert_int_eq(endpoint_from_sockaddr((struct sockaddr *)&address, from), 0);
    return n;
}

static void fill(uint8_t *data, size_t length, unsigned seed)
{
    uint32_t state = seed * 2654435761u + 1;

    for (size_t i = 0; i < length; i++) {
        state = state * 1664525u + 1013904223u;
        data[i] = (uint8_t)(state >> 24);
    }
}

static uint8_t wanted[65536], got[65536];

/* Exactly this, from egress. */
static void check_received(size_t length)
{
    const struct endpoint egress = socket_name(relay.egress);
    struct endpoint from;

    ck_assert_int_eq(receive(got, sizeof(got), &from), (ssize_t)length);
    ck_assert(endpoint_equal(&from, &egress));
    ck_assert(memcmp(got, wanted, length) == 0);
}

/* Loop index: IPv4, IPv6. Loopback delivers, and reassembles, while the sender still sends. */
START_TEST(every_size_arrives) /* PLANE-FRAG-130 */
{
    const size_t largest = _i == 1 ? 65527 : 65507;
    const size_t sizes[] = {0,    1,    1199,  1232,  1452,  1453,        1472,
                            1473, 2960, 16384, 40000, 65000, largest - 1, largest};

    start(_i == 1);
    const struct endpoint client = socket_name(relay.client), bound = socket_name(relay.bound);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        fill(wanted, sizes[i], (unsigned)i);
        ck_assert_int_eq(send(relay.client, wanted, sizes[i], 0), (ssize_t)sizes[i]);
        ck_assert_int_eq(read_bound(), 1);
        ck_assert(endpoint_equal(&relay.peer, &client));
        ck_assert(endpoint_equal(&relay.local, &bound));
        check_received(sizes[i]);
        ck_assert_uint_eq(relay.sent, i + 1);
    }
    ck_assert_uint_eq(relay.failed, 0);
    ck_assert_int_eq(read_bound(), 0);
    stop();
}
END_TEST

/* ---- crafted fragments ----------------------------------------------------------------------- */

struct pieces {
    unsigned count;
    size_t lengths[64];
    uint8_t octets[64][MTU];
};

static void keep(void *user, const uint8_t *fragment, size_t length)
{
    struct pieces *pieces = user;

    ck_assert_uint_lt(pieces->count, 64);
    memcpy(pieces->octets[pieces->count], fragment, length);
    pieces->lengths[pieces->count++] = length;
}

/* From the client to BND, `wanted` as data. */
static struct craft datagram(size_t length)
{
    return (struct craft){.source = socket_name(relay.client),
                          .destination = socket_name(relay.bound),
                          .protocol = IPPROTO_UDP,
                          .data = wanted,
                          .length = length};
}

static void cut(const struct craft *craft, uint32_t id, struct pieces *out)
{
    static uint8_t packet[CRAFT_MAX];
    const size_t length = craft_build(craft, packet, sizeof(packet));

    out->count = 0;
    craft_fragments(packet, length, MTU, id, keep, out);
}

static void send_raw(const uint8_t *packet, size_t length, uint32_t mark)
{
    const struct endpoint to = {.address = party_address(PARTY_RELAY, relay.v6)};
    struct sockaddr_storage address;
    const socklen_t size = endpoint_to_sockaddr(&to, &address);
    const int fd = socket(address.ss_family, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);

    ck_assert_int_ge(fd, 0);
    set_mark(fd, mark);
    ck_assert_int_eq(sendto(fd, packet, length, 0, (struct sockaddr *)&address, size),
                     (ssize_t)length);
    close(fd);
}

/* The datagram has the mark of its first fragment, whichever comes first. */
START_TEST(the_first_fragment_is_what_counts) /* PLANE-FRAG-120 */
{
    static struct pieces pieces;

    start(_i == 1);
    for (unsigned turn = 0; turn < 4; turn++) {
        const bool is_marked = turn % 2 == 0, backwards = turn >= 2;
        const struct craft craft = datagram(30000);
        fill(wanted, craft.length, turn);
        cut(&craft, 100 + turn, &pieces);
        ck_assert_uint_gt(pieces.count, 20);
        for (unsigned i = 0; i < pieces.count; i++) {
            const unsigned n = backwards ? pieces.count - 1 - i : i;
            send_raw(pieces.octets[n], pieces.lengths[n], (n == 0) == is_marked ? MARK : 0);
        }
        ck_assert_int_eq(read_bound(), is_marked ? 1 : 0);
        if (is_marked)
            check_received(craft.length);
    }
    ck_assert_uint_eq(relay.sent, 2);
    stop();
}
END_TEST

/* ---- what is not ours ------------------------------------------------------------------------ */

START_TEST(unmarked_ones_are_dropped_in_silence) /* PLANE-FRAG-110 */
{
    start(_i == 1);
    const struct endpoint client = socket_name(relay.client);
    const int capture = capture_open();
    uint32_t drops = 0;

    for (unsigned i = 0; i < 3; i++) {
        static const uint32_t marks[] = {0, MARK ^ 1, MARK << 1};
        set_mark(relay.client, marks[i]);
        ck_assert_int_eq(send(relay.client, wanted, 100, 0), 100);
        ck_assert_int_eq(send(relay.client, wanted, 20000, 0), 20000);
    }
    ck_assert_int_eq(read_bound(), 0);
    ck_assert_uint_eq(relay.found, 0);
    ck_assert_int_eq(stranger_filter_read_drops(relay.bound, &drops), 0);
    ck_assert_uint_eq(drops, 6);
    ck_assert_uint_eq(capture_count_to(capture, &client), 0);
    /* A closed port is answered: the capture would have seen it. */
    close(relay.bound);
    ck_assert_int_eq(send(relay.client, wanted, 100, 0), 100);
    ck_assert_uint_eq(capture_count_to(capture, &client), 1);
    relay.bound = held_socket(_i == 1);
    close(capture);
    stop();
}
END_TEST

START_TEST(a_datagram_of_no_relay_is_dropped)
{
    start(_i == 1);
    struct endpoint from;

    relay.is_gone = true;
    ck_assert_int_eq(send(relay.client, wanted, 3000, 0), 3000);
    ck_assert_int_eq(read_bound(), 1);
    ck_assert_uint_eq(relay.found, 1);
    ck_assert_uint_eq(relay.sent + relay.failed, 0);
    ck_assert_int_eq(receive(got, sizeof(got), &from), -1);
    stop();
}
END_TEST

/* ---- header fields --------------------------------------------------------------------------- */

/* Traffic class and hop limit of the next datagram at the target. */
static void receive_fields(int *traffic_class, int *hop_limit)
{
    char space[256];
    struct iovec data = {.iov_base = got, .iov_len = sizeof(got)};
    struct msghdr message = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof(space)};

    ck_assert_int_ge(recvmsg(relay.target, &message, MSG_DONTWAIT), 0);
    *traffic_class = *hop_limit = -1;
    for (struct cmsghdr *at = CMSG_FIRSTHDR(&message); at != NULL; at = CMSG_NXTHDR(&message, at)) {
        if (at->cmsg_type == (relay.v6 ? IPV6_HOPLIMIT : IP_TTL))
            *hop_limit = *(int *)(void *)CMSG_DATA(at);
        else if (at->cmsg_type == (relay.v6 ? IPV6_TCLASS : IP_TOS))
            *traffic_class = *CMSG_DATA(at);
    }
}

/* As a router does it: DSCP and ECN stay, the hop limit goes down. */
START_TEST(header_fields_are_kept) /* PLANE-FRAG-140 */
{
    static const uint8_t classes[] = {0, 0x01, 0x02, 0x03, 0xb8, 0xff};
    static struct pieces pieces;
    const int level = _i ? IPPROTO_IPV6 : IPPROTO_IP;

    start(_i == 1);
    set_int(relay.target, level, _i ? IPV6_RECVTCLASS : IP_RECVTOS, 1);
    set_int(relay.target, level, _i ? IPV6_RECVHOPLIMIT : IP_RECVTTL, 1);
    for (unsigned i = 0; i < sizeof(classes); i++) {
        struct craft craft = datagram(i % 2 == 0 ? 100 : 4000);
        int traffic_class, hop_limit;
        craft.tos = classes[i];
        craft.ttl = i == 0 ? 2 : i == 1 ? 255 : (uint8_t)(60 + i);
        cut(&craft, 200 + i, &pieces);
        for (unsigned n = 0; n < pieces.count; n++)
            send_raw(pieces.octets[n], pieces.lengths[n], MARK);
        ck_assert_int_eq(read_bound(), 1);
        receive_fields(&traffic_class, &hop_limit);
        ck_assert_int_eq(traffic_class, classes[i]);
        ck_assert_int_eq(hop_limit, craft.ttl - 1);
    }
    stop();
}
END_TEST

START_TEST(a_hop_limit_that_is_used_up_ends_it) /* PLANE-FRAG-140 */
{
    static struct pieces pieces;

    start(_i == 1);
    struct craft craft = datagram(4000);
    struct endpoint from;

    craft.ttl = 1;
    cut(&craft, 300, &pieces);
    for (unsigned n = 0; n < pieces.count; n++)
        send_raw(pieces.octets[n], pieces.lengths[n], MARK);
    ck_assert_int_eq(read_bound(), 1);
    ck_assert_uint_eq(relay.failed, 1);
    ck_assert_int_eq(relay.error, -EHOSTUNREACH);
    ck_assert_int_eq(receive(got, sizeof(got), &from), -1);
    stop();
}
END_TEST

/* ---- fragments on the way out ---------------------------------------------------------------- */

/* Looks at all packets from egress to the target: the largest, how many, and whether DF is set. */
static unsigned egress_packets(int capture, size_t *largest, bool *df)
{
    const struct ip_address to = party_address(PARTY_TARGET, relay.v6);
    unsigned count = 0;

    *largest = 0;
    *df = false;
    for (;;) {
        static uint8_t packet[65600];
        struct sockaddr_ll from;
        socklen_t size = sizeof(from);
        const ssize_t n =
            recvfrom(capture, packet, sizeof(packet), 0, (struct sockaddr *)&from, &size);
        if (n < 0) {
            ck_assert_int_eq(errno, EAGAIN);
            return count;
        }
        if (from.sll_pkttype == PACKET_OUTGOING || packet[0] >> 4 != (relay.v6 ? 6 : 4) ||
            memcmp(packet + (relay.v6 ? 24 : 16), to.bytes, relay.v6 ? 16 : 4) != 0)
            continue;
        count++;
        *largest = (size_t)n > *largest ? (size_t)n : *largest;
        *df = *df || (!relay.v6 && (packet[6] & 0x40) != 0);
    }
}

START_TEST(no_datagram_forbids_fragments) /* PLANE-FRAG-150 */
{
    start(_i == 1);
    const int capture = capture_open();
    static const size_t lengths[] = {0, 100, 1400, 1452, 1473, 8000, 65507};

    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        size_t largest;
        bool df;
        ck_assert_int_eq(send(relay.client, wanted, lengths[i], 0), (ssize_t)lengths[i]);
        ck_assert_int_eq(read_bound(), 1);
        const bool fits = lengths[i] + (relay.v6 ? 48 : 28) <= MTU;
        const unsigned packets = egress_packets(capture, &largest, &df);
        ck_assert_msg(fits ? packets == 1 : packets > lengths[i] / MTU, "%u packets for %zu",
                      packets, lengths[i]);
        ck_assert_uint_le(largest, MTU);
        ck_assert(!df);
        check_received(lengths[i]);
    }
    close(capture);
    stop();
}
END_TEST

/* What a router on the way says of the packets that egress sends. */
static void tell_too_big(uint32_t mtu)
{
    static uint8_t quoted[CRAFT_MAX], packet[CRAFT_MAX];
    const struct craft dropped = {.source = socket_name(relay.egress),
                                  .destination = socket_name(relay.target),
                                  .protocol = IPPROTO_UDP,
                                  .length = 1400};
    const size_t length = craft_build(&dropped, quoted, sizeof(quoted));
    const struct craft error = {.source = {.address = party_address(PARTY_STRANGER, relay.v6)},
                                .destination = dropped.source,
                                .protocol = relay.v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP,
                                .icmp_type = relay.v6 ? 2 : 3,
                                .icmp_code = relay.v6 ? 0 : 4,
                                .icmp_rest = mtu,
                                .data = quoted,
                                .length = length < 500 ? length : 500};

    send_raw(packet, craft_build(&error, packet, sizeof(packet)), 0);
}

/* IPv6 routers do not cut: the kernel has to know the path's MTU. */
START_TEST(the_path_is_heeded) /* PLANE-FRAG-150 */
{
    start(_i == 1);
    size_t largest;
    bool df;

    tell_too_big(1300);
    const int capture = capture_open();
    ck_assert_int_eq(send(relay.client, wanted, 8000, 0), 8000);
    ck_assert_int_eq(read_bound(), 1);
    ck_assert_uint_ge(egress_packets(capture, &largest, &df), 7);
    ck_assert_uint_le(largest, 1300);
    check_received(8000);
    close(capture);
    stop();
}
END_TEST

/* ---- batches and failures -------------------------------------------------------------------- */

START_TEST(a_batch_has_an_end)
{
    start(_i == 1);
    int left = SLOW_PATH_BATCH + 5;

    for (int i = 0; i < left; i++) {
        fill(wanted, 3000, (unsigned)i);
        ck_assert_int_eq(send(relay.client, wanted, 3000, 0), 3000);
    }
    ck_assert_int_eq(read_bound(), SLOW_PATH_BATCH);
    ck_assert_int_eq(read_bound(), 5);
    ck_assert_int_eq(read_bound(), 0);
    for (int i = 0; i < left; i++) {
        fill(wanted, 3000, (unsigned)i);
        check_received(3000);
    }
    ck_assert_uint_eq(relay.sent, (unsigned)left);
    ck_assert_uint_eq(relay.octets, (unsigned)left * 3000);
    stop();
}
END_TEST

START_TEST(failures_are_told)
{
    start(_i == 1);
    const struct endpoint local = socket_name(relay.bound);

    close(relay.egress);
    relay.egress = -1;
    ck_assert_int_eq(send(relay.client, wanted, 10, 0), 10);
    ck_assert_int_eq(read_bound(), 1);
    ck_assert_uint_eq(relay.failed, 1);
    ck_assert_int_eq(relay.error, -EBADF);
    ck_assert_int_eq(slow_path_read(-1, &local, &ops, &relay), -EBADF);
    ck_assert_int_eq(slow_path_prepare(-1, MARK), -EBADF);
    ck_assert_int_eq(slow_path_prepare(relay.bound, 0), -EINVAL);
    relay.egress = held_socket(_i == 1);
    stop();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("slow_path");
    TCase *tests = tcase_create("slow_path");
    SRunner *runner = srunner_create(suite);

    tcase_add_checked_fixture(tests, private_network_enter, NULL);
    tcase_add_loop_test(tests, every_size_arrives, 0, 2);
    tcase_add_loop_test(tests, the_first_fragment_is_what_counts, 0, 2);
    tcase_add_loop_test(tests, unmarked_ones_are_dropped_in_silence, 0, 2);
    tcase_add_loop_test(tests, a_datagram_of_no_relay_is_dropped, 0, 2);
    tcase_add_loop_test(tests, header_fields_are_kept, 0, 2);
    tcase_add_loop_test(tests, a_hop_limit_that_is_used_up_ends_it, 0, 2);
    tcase_add_loop_test(tests, no_datagram_forbids_fragments, 0, 2);
    tcase_add_loop_test(tests, the_path_is_heeded, 0, 2);
    tcase_add_loop_test(tests, a_batch_has_an_end, 0, 2);
    tcase_add_loop_test(tests, failures_are_told, 0, 2);
    suite_add_tcase(suite, tests);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
