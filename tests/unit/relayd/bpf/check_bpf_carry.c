/*
 * What the program does with an ordinary packet of a relay: it leaves with the other end's
 * addresses, and nothing else in it is touched. proto/PLANE.md
 */
#include <check.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "tests/unit/relayd/bpf/program_fixture.h"
#include "tests/unit/relayd/bpf/suite.h"

static const enum bpf_end ends[] = {BPF_CLIENT, BPF_TARGET};

/* Each test runs over IPv4, IPv6, and both without a link-layer header. */
#define VARIANTS 4

static void relay_variant(int index)
{
    bench_relay(index % 2 == 1);
    bench.bare = index >= 2;
    bench_establish();
}

/* PLANE-PKT-010, PLANE-CSUM-010 */
START_TEST(both_directions_are_translated)
{
    relay_variant(_i);
    for (int i = 0; i < 2; i++) {
        struct packet_spec in = bench_packet(ends[i]);
        bench_expect_carried(&in, ends[i]);
        in.tcp_options = bench.protocol == IPPROTO_TCP ? 12 : 0;
        in.ttl = 2;
        bench_expect_carried(&in, ends[i]);
    }
    bench_expect_no_count();
}
END_TEST

/* BPF_PROG_TEST_RUN wants so many octets of payload. */
static size_t smallest(void)
{
    return bench.bare ? LINK_HEADER : 0;
}

/* PLANE-CSUM-010. Odd and even lengths, none at all, and contents that make every kind of sum. */
START_TEST(checksums_are_right_for_every_length)
{
    relay_variant(_i);
    for (size_t length = smallest(); length <= BENCH_MTU - 60; length += length < 70 ? 1 : 41) {
        struct packet_spec in = bench_packet(ends[length % 2]);
        in.payload = length;
        in.seed = (uint32_t)length * 977;
        bench_expect_carried(&in, ends[length % 2]);
    }
    bench_expect_no_count();
}
END_TEST

/* PLANE-CSUM-010. Whatever the packet's own checksum is, up to both forms of zero: 65536 payloads
 * that differ in one word go through all of them. */
START_TEST(every_checksum_is_changed_correctly)
{
    struct packet_spec in;
    struct frame frame;

    relay_variant(_i);
    in = bench_packet(BPF_CLIENT);
    in.payload = 2;
    craft(&frame, &in);
    uint8_t *word = frame.octets + frame.length - 2;
    for (uint32_t value = 0; value <= 0xffff; value++) {
        word[0] = (uint8_t)(value >> 8);
        word[1] = (uint8_t)value;
        frame_mend(&frame);
        const struct outcome outcome = bench_run_from(&frame, BPF_CLIENT);
        ck_assert_int_eq(outcome.verdict, SENT);
        const char *fault = frame_fault(&outcome.frame);
        ck_assert_msg(fault == NULL, "payload %04x: %s", value, fault);
    }
}
END_TEST

/* PLANE-CSUM-020 */
START_TEST(a_udp_checksum_of_zero_stays)
{
    struct packet_spec in;

    relay_variant(_i);
    in = bench_packet(ends[_i % 2]);
    in.no_checksum = true;
    bench_expect_carried(&in, ends[_i % 2]);
}
END_TEST

/* PLANE-PKT-040 */
START_TEST(the_mark_does_not_leave_the_host)
{
    struct packet_spec in;
    struct frame frame;

    relay_variant(_i);
    in = bench_packet(BPF_CLIENT);
    craft(&frame, &in);
    const struct outcome outcome = bench_run(
        &frame, &(struct arrival){.interface = bench.interface[BPF_CLIENT], .mark = 0x77});
    ck_assert_int_eq(outcome.verdict, SENT);
    ck_assert_uint_eq(outcome.mark, 0);
}
END_TEST

static uint64_t coarse_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* PLANE-PKT-050 */
START_TEST(packets_and_octets_are_counted_by_direction)
{
    const struct bpf_direction *up, *down;
    struct packet_spec in;

    relay_variant(_i);
    up = &bench.slot->from[BPF_CLIENT];
    down = &bench.slot->from[BPF_TARGET];
    const uint64_t before = coarse_now();
    for (int i = 1; i <= 3; i++) {
        in = bench_packet(BPF_CLIENT);
        in.payload = 100 + (size_t)i;
        bench_expect_carried(&in, BPF_CLIENT);
    }
    ck_assert_uint_eq(up->packets, 3);
    ck_assert_uint_eq(up->bytes, 306);
    ck_assert_uint_ge(up->last_ns, before);
    ck_assert_uint_le(up->last_ns, coarse_now());
    ck_assert_uint_eq(down->packets, 0);
    ck_assert_uint_eq(down->last_ns, 0);
    in = bench_packet(BPF_TARGET);
    in.payload = smallest();
    bench_expect_carried(&in, BPF_TARGET);
    ck_assert_uint_eq(down->packets, 1);
    ck_assert_uint_eq(down->bytes, smallest());
    ck_assert_uint_eq(up->packets, 3);
}
END_TEST

/* PLANE-PKT-050. Octets behind the IP packet, and of UDP behind the datagram, are nobody's. */
START_TEST(padding_is_not_counted)
{
    struct packet_spec in;

    relay_variant(0);
    in = bench_packet(BPF_CLIENT);
    in.payload = 1;
    in.padding = 60 - LINK_HEADER - (bench.protocol == IPPROTO_TCP ? 41 : 29);
    bench_expect_carried(&in, BPF_CLIENT);
    ck_assert_uint_eq(bench.slot->from[BPF_CLIENT].bytes, 1);
}
END_TEST

/* PLANE-PKT-070. More than Ethernet needs would get past the MTU. */
START_TEST(octets_behind_the_packet_are_cut_off)
{
    struct packet_spec in;
    struct frame frame;

    relay_variant(_i);
    in = bench_packet(BPF_CLIENT);
    in.padding = 2000;
    craft(&frame, &in);
    const struct outcome outcome = bench_run_from(&frame, BPF_CLIENT);
    ck_assert_int_eq(outcome.verdict, SENT);
    ck_assert_uint_eq(outcome.frame.length, frame.length - 2000);
    ck_assert_ptr_null(frame_fault(&outcome.frame));
}
END_TEST

/* PLANE-PKT-070. A device without a link-layer header has no shortest frame. */
START_TEST(towards_a_bare_device_there_is_no_padding)
{
    struct packet_spec in;
    struct frame frame;

    relay_variant(0);
    bench.hops[1 + BPF_TARGET].state = BPF_HOP_BARE;
    in = bench_packet(BPF_CLIENT);
    in.payload = 1;
    in.padding = 5;
    craft(&frame, &in);
    const struct outcome outcome = bench_run_from(&frame, BPF_CLIENT);
    ck_assert_int_eq(outcome.verdict, SENT);
    ck_assert_uint_eq(outcome.frame.length, frame.length - 5);
}
END_TEST

/* ---- super-packets -----------------------------------------------------------------------------
 */

static struct outcome run_segments(const struct packet_spec *in, uint32_t segment)
{
    struct frame frame;

    craft(&frame, in);
    return bench_run(&frame, &(struct arrival){
                                 .interface = bench.interface[BPF_CLIENT],
                                 .segment = segment,
                                 .segments = (uint32_t)(in->payload + segment - 1) / segment,
                             });
}

/* PLANE-PKT-060 */
START_TEST(a_super_packet_counts_as_its_segments)
{
    struct packet_spec in;

    relay_variant(_i);
    in = bench_packet(BPF_CLIENT);
    in.payload = 3001;
    const struct outcome outcome = run_segments(&in, 1000);
    ck_assert_int_eq(outcome.verdict, SENT);
    ck_assert_uint_eq(bench.slot->from[BPF_CLIENT].packets, 4);
    ck_assert_uint_eq(bench.slot->from[BPF_CLIENT].bytes, 3001);
    ck_assert_ptr_null(frame_fault(&outcome.frame));
}
END_TEST

/* PLANE-MTU-020. It is the segment, with its headers, that has to fit. */
START_TEST(a_segment_of_a_super_packet_must_fit)
{
    const size_t ip = _i % 2 == 1 ? 40 : 20;
    struct packet_spec in;

    relay_variant(_i);
    const uint32_t room =
        (uint32_t)(BENCH_MTU - ip - (bench.protocol == IPPROTO_TCP ? 20 + 12 : 8));
    in = bench_packet(BPF_CLIENT);
    in.fragment = 0x4000;
    in.payload = 3100;
    in.tcp_options = 12;
    ck_assert_int_eq(run_segments(&in, room).verdict, SENT);
    ck_assert_int_eq(run_segments(&in, room + 1).verdict, DROPPED);
    bench_expect_count(BPF_COUNT_TOO_BIG);
    ck_assert_uint_eq(bench.slot->from[BPF_CLIENT].bytes, 3100);
}
END_TEST

/* ---- the way out -------------------------------------------------------------------------------
 */

/* PLANE-PKT-090 */
START_TEST(without_a_way_out_packets_are_dropped)
{
    struct packet_spec in;

    relay_variant(_i);
    in = bench_packet(BPF_CLIENT);
    bench.hops[1 + BPF_TARGET].state = BPF_HOP_DOWN;
    bench_expect_dropped(&in, BPF_CLIENT, BPF_COUNT_NO_WAY);
    bench.hops[1 + BPF_TARGET].state = BPF_HOP_DIRECT;
    bench.slot->side[BPF_TARGET].hop = 0;
    bench_expect_dropped(&in, BPF_CLIENT, BPF_COUNT_NO_WAY);
    ck_assert_uint_eq(bench.slot->from[BPF_CLIENT].packets, 0);
    in = bench_packet(BPF_TARGET); /* the other direction has its own way */
    bench_expect_carried(&in, BPF_TARGET);
}
END_TEST

/* PLANE-TTL-010. The record holds the packet as it came. */
START_TEST(a_used_up_ttl_is_answered)
{
    struct bpf_answer answer;
    struct packet_spec in;
    struct frame frame;

    relay_variant(_i);
    in = bench_packet(BPF_CLIENT);
    in.ttl = 1;
    bench_expect_dropped(&in, BPF_CLIENT, BPF_COUNT_TTL);
    ck_assert(bench_answer(&answer));
    craft(&frame, &in);
    ck_assert_uint_eq(answer.kind, BPF_ANSWER_TIME_EXCEEDED);
    ck_assert_uint_eq(answer.interface, bench.interface[BPF_CLIENT]);
    ck_assert_uint_eq(answer.mtu, 0);
    ck_assert_uint_eq(answer.length, frame.length - LINK_HEADER < BPF_ANSWER_HEAD
                                         ? frame.length - LINK_HEADER
                                         : BPF_ANSWER_HEAD);
    ck_assert_mem_eq(answer.head, frame_ip(&frame), answer.length);
    ck_assert(!bench_answer(&answer));
    in.ttl = 2;
    bench_expect_carried(&in, BPF_CLIENT);
    ck_assert_uint_eq(bench.slot->from[BPF_CLIENT].packets, 1);
}
END_TEST

/* PLANE-MTU-010 */
START_TEST(a_packet_that_is_too_big_is_answered)
{
    struct bpf_answer answer;
    struct packet_spec in;

    relay_variant(_i);
    bench.hops[1 + BPF_CLIENT].mtu = 1300;
    in = bench_packet(BPF_TARGET);
    in.fragment = 0x4000;
    in.payload = 1300 - (bench.v6 ? 40 : 20) - (bench.protocol == IPPROTO_TCP ? 20 : 8);
    bench_expect_carried(&in, BPF_TARGET);
    in.payload++;
    bench_expect_dropped(&in, BPF_TARGET, BPF_COUNT_TOO_BIG);
    ck_assert(bench_answer(&answer));
    ck_assert_uint_eq(answer.kind, BPF_ANSWER_TOO_BIG);
    ck_assert_uint_eq(answer.mtu, 1300);
    ck_assert_uint_eq(answer.interface, bench.interface[BPF_TARGET]);
    ck_assert_uint_eq(answer.length, BPF_ANSWER_HEAD);
}
END_TEST

/* PLANE-MTU-030. Such a datagram may be cut to pieces, which relayd's sockets do; a segment is
 * answered, since every sender of TCP understands that. */
START_TEST(a_datagram_that_may_be_fragmented_is_left_to_relayd)
{
    struct packet_spec in;
    struct frame frame;

    relay_variant(0);
    in = bench_packet(BPF_CLIENT);
    in.payload = BENCH_MTU;
    craft(&frame, &in);
    const struct outcome outcome = bench_run_from(&frame, BPF_CLIENT);
    bench_expect_count(BPF_COUNT_TOO_BIG);
    if (bench.protocol == IPPROTO_TCP) {
        ck_assert_int_eq(outcome.verdict, DROPPED);
        ck_assert(bench_answer(&(struct bpf_answer){0}));
        return;
    }
    ck_assert_int_eq(outcome.verdict, PASSED);
    ck_assert_uint_eq(outcome.mark, BENCH_MARK);
    ck_assert_mem_eq(outcome.frame.octets, frame.octets, frame.length);
    ck_assert(!bench_answer(&(struct bpf_answer){0}));
}
END_TEST

/* ---- what is not the program's business ---------------------------------------------------------
 */

/* PLANE-PKT-020 */
START_TEST(what_the_link_layer_has_not_addressed_to_the_host_passes)
{
    const uint8_t others[][6] = {{2, 0, 0, 0, 9, 9}, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};
    struct packet_spec in;

    bench_relay(_i == 1);
    bench_establish();
    in = bench_packet(BPF_CLIENT);
    for (int i = 0; i < 2; i++) {
        memcpy(in.destination_mac, others[i], 6);
        bench_expect_verdict(&in, BPF_CLIENT, PASSED);
    }
    bench_expect_no_count();
}
END_TEST

/* PLANE-PKT-020: ARP, another transport protocol, a VLAN tag. */
START_TEST(other_protocols_pass)
{
    const uint16_t types[] = {0x0806, 0x88cc, 0x8100};
    struct packet_spec in;
    struct frame frame;

    bench_relay(_i == 1);
    bench_establish();
    in = bench_packet(BPF_CLIENT);
    for (int i = 0; i < 3; i++) {
        craft(&frame, &in);
        frame.octets[12] = (uint8_t)(types[i] >> 8);
        frame.octets[13] = (uint8_t)types[i];
        ck_assert_int_eq(bench_run_from(&frame, BPF_CLIENT).verdict, PASSED);
    }
    craft(&frame, &in);
    frame.octets[LINK_HEADER + (bench.v6 ? 6 : 9)] =
        bench.protocol == IPPROTO_TCP ? IPPROTO_UDP : IPPROTO_TCP;
    ck_assert_int_eq(bench_run_from(&frame, BPF_CLIENT).verdict, PASSED);
    bench_expect_no_count();
}
END_TEST

/* PLANE-PKT-030. One word of the tuple is another each time. */
START_TEST(packets_of_no_relay_and_no_endpoint_pass)
{
    struct packet_spec in;

    bench_relay(_i == 1);
    bench_establish();
    in = bench_packet(BPF_CLIENT);
    in.destination.port++;
    bench_expect_verdict(&in, BPF_CLIENT, PASSED);
    in = bench_packet(BPF_CLIENT);
    in.destination.address.bytes[3] ^= 1;
    bench_expect_verdict(&in, BPF_CLIENT, PASSED);
    bench_expect_no_count();
}
END_TEST

static void add_tests(Suite *suite, const char *name, int protocol)
{
    TCase *tests = bench_case(name, protocol);

    tcase_add_loop_test(tests, both_directions_are_translated, 0, VARIANTS);
    tcase_add_loop_test(tests, checksums_are_right_for_every_length, 0, VARIANTS);
    tcase_add_loop_test(tests, every_checksum_is_changed_correctly, 0, 2);
    tcase_add_loop_test(tests, the_mark_does_not_leave_the_host, 0, VARIANTS);
    tcase_add_loop_test(tests, packets_and_octets_are_counted_by_direction, 0, VARIANTS);
    tcase_add_test(tests, padding_is_not_counted);
    tcase_add_loop_test(tests, octets_behind_the_packet_are_cut_off, 0, VARIANTS);
    tcase_add_test(tests, towards_a_bare_device_there_is_no_padding);
    tcase_add_loop_test(tests, a_super_packet_counts_as_its_segments, 0, VARIANTS);
    tcase_add_loop_test(tests, a_segment_of_a_super_packet_must_fit, 0, VARIANTS);
    tcase_add_loop_test(tests, without_a_way_out_packets_are_dropped, 0, VARIANTS);
    tcase_add_loop_test(tests, a_used_up_ttl_is_answered, 0, VARIANTS);
    tcase_add_loop_test(tests, a_packet_that_is_too_big_is_answered, 0, VARIANTS);
    tcase_add_test(tests, a_datagram_that_may_be_fragmented_is_left_to_relayd);
    tcase_add_loop_test(tests, what_the_link_layer_has_not_addressed_to_the_host_passes, 0, 2);
    tcase_add_loop_test(tests, other_protocols_pass, 0, 2);
    tcase_add_loop_test(tests, packets_of_no_relay_and_no_endpoint_pass, 0, 2);
    if (protocol == IPPROTO_UDP)
        tcase_add_loop_test(tests, a_udp_checksum_of_zero_stays, 0, VARIANTS);
    suite_add_tcase(suite, tests);
}

static Suite *carry_suite(void)
{
    Suite *suite = suite_create("bpf_carry");

    add_tests(suite, "udp", IPPROTO_UDP);
    add_tests(suite, "tcp", IPPROTO_TCP);
    return suite;
}

int main(void)
{
    return bench_main(carry_suite);
}
