/*
 * UDP ASSOCIATE: datagrams keep their borders, order and number, whatever their size and however
 * they are joined; fragments are put together as RFC 1928 section 7 says (N2-ASSOC-040).
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "relayd/plane/socket/associate_fragments.h"
#include "relayd/plane/socket/udp_runs.h"
#include "tests/unit/relayd/association.h"

#define SEGMENT_OPTION 103 /* UDP_SEGMENT, which older headers lack */

static struct plane_fixture fixture;
static struct association a;
static int target;
static struct endpoint name, egress;
static struct n1_host to;

/* What the kernel is made to answer to sendmmsg(): always, or to segmented messages alone. */
static int fail_all, fail_segmented;
static unsigned segmented_sends;

/* Takes the place of the C library's. */
int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
    const bool segmented = count != 0 && messages[0].msg_hdr.msg_controllen != 0;

    segmented_sends += segmented;
    if (fail_all != 0 || (segmented && fail_segmented != 0)) {
        errno = fail_all != 0 ? fail_all : fail_segmented;
        return -1;
    }
    for (unsigned i = 1; i < count && fail_segmented != 0; i++) {
        if (messages[i].msg_hdr.msg_controllen != 0)
            count = i;
    }
    return (int)syscall(SYS_sendmmsg, fd, messages, count, flags);
}

static void setup(void)
{
    plane_fixture_setup(&fixture);
    fail_all = fail_segmented = 0;
    segmented_sends = 0;
}

static void teardown(void)
{
    close(target);
    association_dispose(&a);
    plane_fixture_teardown(&fixture);
}

/* Both know each other after one datagram. */
static void establish(bool client_v6, bool target_v6)
{
    association_init(&a, &fixture, client_v6);
    association_open(&a);
    target = target_open(PARTY_TARGET, target_v6);
    name = socket_name(target);
    to = host_of(&name);
    association_send(&a, &to, 0, 1);
    target_expect(&fixture, target, 0, 1, &egress);
}

static uint64_t up_packets(void)
{
    return fake_relay_counters(&a.relay).up_packets;
}

/* ---- sizes and bursts --------------------------------------------------------------------------
 */

static const size_t sizes[] = {0, 1, 2, 1199, 1200, 1472, 1473, 9000, 65485, 65497};

/* Every size up to what a datagram holds beside the header: 65507 - 10, or - 22 for IPv6. */
START_TEST(test_sizes)
{
    const bool v6 = (_i & 2) != 0;

    establish((_i & 1) != 0, v6);
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        const size_t size = v6 && sizes[i] > 65485 ? 65485 : sizes[i];
        association_send(&a, &to, i, size);
        target_expect(&fixture, target, i, size, NULL);
        target_send(target, &egress, i, size);
        association_expect(&a, &name, i, size);
    }
    ck_assert_uint_eq(plane_fixture_socket_plane(&fixture)->udp_send_drops, 0);
}
END_TEST

/* A reply that fits no more with its header is lost and counted. */
START_TEST(test_too_large_with_header)
{
    establish(false, false);
    target_send(target, &egress, 0, 65498);
    WAIT_FOR(&fixture, plane_fixture_socket_plane(&fixture)->udp_send_drops == 1);
    target_send(target, &egress, 0, 65497);
    association_expect(&a, &name, 0, 65497);
}
END_TEST

static size_t pattern_length(int pattern, unsigned n)
{
    switch (pattern) {
    case 0: /* one run */
        return 500;
    case 1: /* no runs */
        return n % 2 == 0 ? 100 : 200;
    case 2: /* each run ends with a smaller one, some with an empty one */
        return n % 7 == 6 ? (n % 3 == 0 ? 0 : 33) : 512;
    case 3: /* falling */
        return 1000 - n % 1000;
    case 4: /* nothing but headers */
        return 0;
    default: /* as it comes */
        return (n * 2654435761u >> 7) % 1400;
    }
}

enum sender { SENDER_WHOLE, SENDER_NO_GSO, SENDER_EIO, SENDER_EINVAL, SENDER_COUNT };
#define PATTERNS 6

/* Bursts in both directions, also where the kernel refuses to split what was joined. */
START_TEST(test_bursts)
{
    const int pattern = _i / SENDER_COUNT;
    const enum sender sender = _i % SENDER_COUNT;

    establish(pattern % 2 == 1, false);
    plane_fixture_socket_plane(&fixture)->gso_disabled = sender == SENDER_NO_GSO;
    fail_segmented = sender == SENDER_EIO ? EIO : sender == SENDER_EINVAL ? EINVAL : 0;
    for (unsigned burst = 0; burst < 10; burst++) {
        for (unsigned i = 0; i < 50; i++)
            association_send(&a, &to, i, pattern_length(pattern, burst * 50 + i));
        for (unsigned i = 0; i < 50; i++)
            target_expect(&fixture, target, i, pattern_length(pattern, burst * 50 + i), NULL);
        for (unsigned i = 0; i < 50; i++)
            target_send(target, &egress, i, pattern_length(pattern, burst * 50 + i));
        for (unsigned i = 0; i < 50; i++)
            association_expect(&a, &name, i, pattern_length(pattern, burst * 50 + i));
    }
    expect_silence(&fixture, target);
    expect_silence(&fixture, a.client);
    ck_assert_uint_eq(plane_fixture_socket_plane(&fixture)->udp_send_drops, 0);
    if (pattern == 0 && sender == SENDER_WHOLE)
        ck_assert_uint_ge(segmented_sends, 20);
    if (sender == SENDER_NO_GSO)
        ck_assert_uint_eq(segmented_sends, 0);
    const struct n2_counters now = fake_relay_counters(&a.relay);
    ck_assert_uint_eq(now.up_packets, 501);
    ck_assert_uint_eq(now.down_packets, 500);
    ck_assert_uint_eq(now.up_bytes, now.down_bytes + 1);
}
END_TEST

/* Runs to several destinations of both families in one batch: each gets its own, in order. */
START_TEST(test_runs_to_several)
{
    int targets[4];
    struct n1_host hosts[4];

    establish(false, false);
    for (unsigned i = 0; i < 4; i++) {
        targets[i] = target_open(PARTY_TARGET, i >= 2);
        const struct endpoint one = socket_name(targets[i]);
        hosts[i] = host_of(&one);
        association_send(&a, &hosts[i], 0, 1);
        target_expect(&fixture, targets[i], 0, 1, NULL);
    }
    for (unsigned i = 0; i < 100; i++)
        association_send(&a, &hosts[i / 5 % 4], i, 300);
    for (unsigned i = 0; i < 100; i++)
        target_expect(&fixture, targets[i / 5 % 4], i, 300, NULL);
    ck_assert_uint_gt(segmented_sends, 0);
    for (unsigned i = 0; i < 4; i++)
        close(targets[i]);
}
END_TEST

/* A client that sends super-packets, of as many datagrams as this kernel takes: each has a header
 * of its own, and is relayed by itself; also more of them at once than are sent at once. */
START_TEST(test_client_with_gso)
{
    static uint8_t packet[128 * 30];
    const int size = 30;
    unsigned count = 128;

    establish(false, false);
    plane_fixture_socket_plane(&fixture)->gso_disabled = _i == 1;
    const struct n1_udp_header header = {.destination = to};
    for (unsigned i = 0; i < count; i++) {
        uint8_t *at = packet + i * (size_t)size;
        ck_assert_uint_eq(n1_udp_header_encode(&header, at, 10), 10);
        memcpy(at + 10, payload() + i, (size_t)size - 10);
    }
    ck_assert_int_eq(setsockopt(a.client, IPPROTO_UDP, SEGMENT_OPTION, &size, sizeof(size)), 0);
    /* Older kernels take 64. */
    if (send(a.client, packet, count * (size_t)size - 5, 0) < 0)
        ck_assert_int_gt(send(a.client, packet, (count = 64) * (size_t)size - 5, 0), 0);
    for (unsigned burst = 1; burst < 20; burst++)
        ck_assert_int_gt(send(a.client, packet, count * (size_t)size - 5, 0), 0);
    for (unsigned i = 0; i < 20 * count; i++)
        target_expect(&fixture, target, i % count, i % count == count - 1 ? 15 : 20, NULL);
    expect_silence(&fixture, target);
    ck_assert_uint_eq(up_packets(), 1 + 20 * count);
}
END_TEST

/* A target that sends super-packets. */
START_TEST(test_target_with_gso)
{
    const int size = 1000;

    establish(_i == 1, false);
    ck_assert_int_eq(setsockopt(target, IPPROTO_UDP, SEGMENT_OPTION, &size, sizeof(size)), 0);
    for (unsigned burst = 0; burst < 3; burst++) {
        target_send(target, &egress, 0, 64 * (size_t)size - 300);
        for (int i = 0; i < 64; i++)
            association_expect(&a, &name, (size_t)(i * size), i == 63 ? 700 : 1000);
    }
    ck_assert_uint_gt(segmented_sends, 0);
    ck_assert_uint_eq(fake_relay_counters(&a.relay).down_packets, 192);
}
END_TEST

/* Datagrams that with the header exceed the path's MTU are fragmented by the kernel. */
START_TEST(test_above_the_mtu)
{
    private_network_set_mtu(1500);
    establish(false, false);
    for (unsigned i = 0; i < 60; i++)
        target_send(target, &egress, i, 1470);
    for (unsigned i = 0; i < 60; i++)
        association_expect(&a, &name, i, 1470);
    ck_assert_uint_eq(plane_fixture_socket_plane(&fixture)->udp_send_drops, 0);
    ck_assert(!plane_fixture_socket_plane(&fixture)->gso_disabled);
}
END_TEST

START_TEST(test_send_failures)
{
    static const int errors[] = {EAGAIN, ENOBUFS, EPERM, ENETUNREACH};

    establish(false, false);
    fail_all = errors[_i];
    for (unsigned i = 0; i < 10; i++)
        association_send(&a, &to, 0, 100 + i % 2);
    WAIT_FOR(&fixture, plane_fixture_socket_plane(&fixture)->udp_send_drops == 10);
    ck_assert_uint_eq(a.relay.ended, 0);
    ck_assert_uint_eq(a.relay.events[N2_EVENT_TARGET_UNREACHABLE], errors[_i] == ENETUNREACH);
    fail_all = 0;
    association_send(&a, &to, 0, 10);
    target_expect(&fixture, target, 0, 10, NULL);
}
END_TEST

/* Where no route leads there, the relay and its other destinations go on. */
START_TEST(test_no_route)
{
    struct endpoint nowhere;

    fixture.config.egress.addresses.count = 0;
    establish(false, false);
    ck_assert_int_eq(endpoint_parse("192.0.2.1:53", &nowhere), 0);
    const struct n1_host to_nowhere = host_of(&nowhere);
    association_send(&a, &to_nowhere, 0, 10);
    WAIT_FOR(&fixture, plane_fixture_socket_plane(&fixture)->udp_send_drops == 1);
    ck_assert_uint_eq(a.relay.events[N2_EVENT_TARGET_UNREACHABLE], 1);
    association_send(&a, &to, 1, 10);
    target_expect(&fixture, target, 1, 10, NULL);
}
END_TEST

/* ---- fragments ---------------------------------------------------------------------------------
 */

static uint64_t fragment_drops(void)
{
    return association_figures(&a)->fragment_drops;
}

/* In order: one datagram, also of empty parts, of the most parts, and of the largest size. */
START_TEST(test_fragments_in_order)
{
    establish(false, false);
    association_send_fragment(&a, 1, &to, 0, 100);
    association_send_fragment(&a, 2, &to, 100, 0);
    association_send_fragment(&a, 3 | 0x80, &to, 100, 50);
    target_expect(&fixture, target, 0, 150, NULL);
    association_send_fragment(&a, 1 | 0x80, &to, 7, 9);
    target_expect(&fixture, target, 7, 9, NULL);
    for (unsigned i = 1; i <= 127; i++)
        association_send_fragment(&a, (uint8_t)(i == 127 ? i | 0x80 : i), &to, (i - 1) * 10, 10);
    target_expect(&fixture, target, 0, 1270, NULL);
    association_send_fragment(&a, 1, &to, 0, 40000);
    association_send_fragment(&a, 2 | 0x80, &to, 40000, 25507);
    target_expect(&fixture, target, 0, 65507, NULL);
    ck_assert_uint_eq(fragment_drops(), 0);
    ck_assert_uint_eq(association_figures(&a)->held_octets, 0);
    ck_assert_uint_eq(up_packets(), 5);
}
END_TEST

static const struct {
    uint8_t fragments[6]; /* 0xff: the end; 0: a whole datagram */
    unsigned drops;
    bool whole; /* the whole datagram passes */
} sequences[] = {
    {{2 | 0x80, 0xff}, 1, false},          /* begins in the middle */
    {{1, 3 | 0x80, 0xff}, 2, false},       /* a gap */
    {{2, 1, 0xff}, 1, false},              /* swapped: 1 begins */
    {{1, 1, 1, 0xff}, 2, false},           /* twice: each begins anew */
    {{1, 2, 2, 3 | 0x80, 0xff}, 4, false}, /* twice in the middle */
    {{0x80, 0xff}, 1, false},              /* position 0 */
    {{1, 0x80, 2 | 0x80, 0xff}, 3, false}, /* the same, in the middle */
    {{1, 2, 0, 3 | 0x80, 0xff}, 3, true},  /* a lower FRAG: a whole one */
    {{1, 126 | 0x80, 0xff}, 2, false},
};

/* Out of order: dropped and counted, nothing leaves, and the next sequence is whole. */
START_TEST(test_fragments_out_of_order)
{
    establish(false, false);
    for (unsigned i = 0; sequences[_i].fragments[i] != 0xff; i++)
        association_send_fragment(&a, sequences[_i].fragments[i], &to, i, 10);
    if (sequences[_i].whole)
        target_expect(&fixture, target, 2, 10, NULL);
    WAIT_FOR(&fixture, fragment_drops() == sequences[_i].drops);
    expect_silence(&fixture, target);
    association_send_fragment(&a, 1, &to, 20, 10);
    association_send_fragment(&a, 2 | 0x80, &to, 30, 10);
    target_expect(&fixture, target, 20, 20, NULL);
    ck_assert_uint_eq(a.relay.ended, 0);
}
END_TEST

START_TEST(test_fragments_of_two_destinations)
{
    establish(false, false);
    const struct endpoint other = {.address = name.address, .port = (uint16_t)(name.port ^ 1)};
    const struct n1_host to_other = host_of(&other);
    association_send_fragment(&a, 1, &to, 0, 10);
    association_send_fragment(&a, 2 | 0x80, &to_other, 10, 10);
    WAIT_FOR(&fixture, fragment_drops() == 2);
    expect_silence(&fixture, target);
}
END_TEST

/* More than a datagram holds, in sum. */
START_TEST(test_fragments_too_large)
{
    establish(false, false);
    association_send_fragment(&a, 1, &to, 0, 40000);
    association_send_fragment(&a, 2, &to, 0, 25507);
    association_send_fragment(&a, 3 | 0x80, &to, 0, 1);
    WAIT_FOR(&fixture, fragment_drops() == 3);
    ck_assert_uint_eq(association_figures(&a)->held_octets, 0);
    expect_silence(&fixture, target);
}
END_TEST

/* The timer is no less than five seconds, and what it ends is gone. */
START_TEST(test_fragments_too_late)
{
    establish(false, false);
    const uint64_t begin = monotonic_ms();
    association_send_fragment(&a, 1, &to, 0, 10);
    association_send_fragment(&a, 2, &to, 10, 10);
    WAIT_FOR(&fixture, association_figures(&a)->held_octets != 0);
    WAIT_FOR(&fixture, fragment_drops() == 2);
    ck_assert_uint_ge(monotonic_ms() - begin, 4990);
    ck_assert_uint_eq(association_figures(&a)->held_octets, 0);
    association_send_fragment(&a, 3 | 0x80, &to, 20, 10);
    WAIT_FOR(&fixture, fragment_drops() == 3);
    expect_silence(&fixture, target);
}
END_TEST

/* No memory is left for all associations: dropped, until there is. */
START_TEST(test_fragments_without_room)
{
    establish(false, false);
    association_figures(&a)->held_octets = ASSOCIATE_HELD_MAX - UDP_PAYLOAD_MAX + 1;
    association_send_fragment(&a, 1, &to, 0, 10);
    association_send_fragment(&a, 2 | 0x80, &to, 10, 10);
    WAIT_FOR(&fixture, fragment_drops() == 2);
    association_figures(&a)->held_octets = 0;
    association_send_fragment(&a, 1, &to, 0, 10);
    association_send_fragment(&a, 2 | 0x80, &to, 10, 10);
    target_expect(&fixture, target, 0, 20, NULL);
}
END_TEST

/* By configuration. */
START_TEST(test_fragments_dropped)
{
    fixture.config.udp.fragments = FRAGMENTS_DROP;
    establish(false, false);
    association_send_fragment(&a, 1, &to, 0, 10);
    association_send_fragment(&a, 2 | 0x80, &to, 10, 10);
    association_send_fragment(&a, 1 | 0x80, &to, 10, 10);
    association_send(&a, &to, 3, 4);
    target_expect(&fixture, target, 3, 4, NULL);
    ck_assert_uint_eq(fragment_drops(), 3);
    expect_silence(&fixture, target);
}
END_TEST

/* A datagram put together waits for its verdict like any other. */
START_TEST(test_fragments_wait)
{
    establish(false, false);
    a.automatic = false;
    const struct n1_host named = host_named("later.example", name.port);
    association_send_fragment(&a, 1, &named, 0, 10);
    association_send_fragment(&a, 2 | 0x80, &named, 10, 10);
    association_asked(&a, 2);
    WAIT_FOR(&fixture, association_figures(&a)->held_octets == 20);
    association_answer(&a, 1, &a.verdict);
    target_expect(&fixture, target, 0, 20, NULL);
}
END_TEST

static void add_fragments(TCase *tests)
{
    tcase_add_test(tests, test_fragments_in_order);
    tcase_add_loop_test(tests, test_fragments_out_of_order, 0,
                        sizeof(sequences) / sizeof(sequences[0]));
    tcase_add_test(tests, test_fragments_of_two_destinations);
    tcase_add_test(tests, test_fragments_too_large);
    tcase_add_test(tests, test_fragments_too_late);
    tcase_add_test(tests, test_fragments_without_room);
    tcase_add_test(tests, test_fragments_dropped);
    tcase_add_test(tests, test_fragments_wait);
}

int main(void)
{
    Suite *suite = suite_create("udp_associate_data");
    TCase *tests = tcase_create("udp_associate_data");
    SRunner *runner = srunner_create(suite);

    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, test_sizes, 0, 4);
    tcase_add_test(tests, test_too_large_with_header);
    tcase_add_loop_test(tests, test_bursts, 0, PATTERNS * SENDER_COUNT);
    tcase_add_test(tests, test_runs_to_several);
    tcase_add_loop_test(tests, test_client_with_gso, 0, 2);
    tcase_add_loop_test(tests, test_target_with_gso, 0, 2);
    tcase_add_test(tests, test_above_the_mtu);
    tcase_add_loop_test(tests, test_send_failures, 0, 4);
    tcase_add_test(tests, test_no_route);
    add_fragments(tests);
    suite_add_tcase(suite, tests);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
