/*
 * Packets that no relay carries: of the wrong interface, of relays that have gone, of strangers,
 * and those whose headers are wrong. proto/PLANE.md
 */
#include <bpf/bpf.h>
#include <check.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include "relayd/plane/bpf/slot.h"
#include "tests/unit/relayd/bpf/program_fixture.h"
#include "tests/unit/relayd/bpf/suite.h"

static struct packet_spec relay_and_packet(int v6)
{
    bench_relay(v6 == 1);
    bench_establish();
    return bench_packet(BPF_CLIENT);
}

static void expect_nothing_happened(void)
{
    struct bpf_event event;
    struct bpf_answer answer;

    for (int end = BPF_CLIENT; end < BPF_ENDS; end++) {
        ck_assert_uint_eq(bench.slot->from[end].packets, 0);
        ck_assert_uint_eq(bench.slot->from[end].bytes, 0);
    }
    ck_assert(!bench_event(&event));
    ck_assert(!bench_answer(&answer));
}

/* PLANE-SPOOF-010 */
START_TEST(the_wrong_interface_is_refused)
{
    struct packet_spec in = relay_and_packet(_i);
    struct frame frame;

    memcpy(in.destination_mac, bench_packet(BPF_TARGET).destination_mac, 6);
    bench_expect_dropped(&in, BPF_TARGET, BPF_COUNT_SPOOFED);
    in = bench_packet(BPF_TARGET);
    memcpy(in.destination_mac, bench_packet(BPF_CLIENT).destination_mac, 6);
    craft(&frame, &in);
    ck_assert_int_eq(bench_run_from(&frame, BPF_CLIENT).verdict, DROPPED);
    bench_expect_count(BPF_COUNT_SPOOFED);
    expect_nothing_happened();
}
END_TEST

/* PLANE-SPOOF-010: where there is no way to the peer, no interface is the right one. */
START_TEST(without_an_interface_nothing_is_taken)
{
    const struct packet_spec in = relay_and_packet(_i);

    bench.slot->side[BPF_CLIENT].interface = 0;
    bench_expect_dropped(&in, BPF_CLIENT, BPF_COUNT_SPOOFED);
}
END_TEST

/* PLANE-SPOOF-020: the row is older than what is in the slot. */
START_TEST(a_row_of_an_older_relay_is_refused)
{
    const struct packet_spec in = relay_and_packet(_i);

    bench.slot->generation++;
    bench_expect_dropped(&in, BPF_CLIENT, BPF_COUNT_STALE);
    bench.slot->generation--;
    bench_expect_carried(&in, BPF_CLIENT);
}
END_TEST

/* PLANE-SPOOF-020: the row has been used again, while the program looked at it. Every word of the
 * tuple has to be the slot's own. */
START_TEST(a_row_that_leads_to_another_tuple_is_refused)
{
    const struct packet_spec in = relay_and_packet(_i);
    struct bpf_side *side = &bench.slot->side[BPF_CLIENT];
    uint8_t *octets = (uint8_t *)side;

    for (size_t i = 0; i < offsetof(struct bpf_side, interface); i++) {
        octets[i] ^= 0x10;
        bench_expect_dropped(&in, BPF_CLIENT, BPF_COUNT_STALE);
        octets[i] ^= 0x10;
    }
    expect_nothing_happened();
    bench_expect_carried(&in, BPF_CLIENT);
}
END_TEST

/* PLANE-SPOOF-020: a row that leads beyond the table. */
START_TEST(a_row_without_a_slot_is_refused)
{
    const struct packet_spec in = relay_and_packet(_i);
    const struct bpf_flow_key key = slot_key(bench.slot, BPF_CLIENT);
    const struct bpf_flow value = {.slot = BENCH_SLOTS, .generation = BENCH_GENERATION};

    ck_assert_int_eq(bpf_map_update_elem(bench.flows_fd, &key, &value, BPF_EXIST), 0);
    bench_expect_dropped(&in, BPF_CLIENT, BPF_COUNT_STALE);
}
END_TEST

/* PLANE-SPOOF-030 */
START_TEST(the_epoch_of_the_peer_ends_its_relays)
{
    const struct packet_spec up = relay_and_packet(_i), down = bench_packet(BPF_TARGET);

    bench.globals->peers[BENCH_PEER]++;
    bench_expect_dropped(&up, BPF_CLIENT, BPF_COUNT_STALE);
    bench_expect_dropped(&down, BPF_TARGET, BPF_COUNT_STALE);
    expect_nothing_happened();
    bench.globals->peers[BENCH_PEER]--;
    bench.globals->peers[BENCH_PEER + 1]++; /* another peer's is nothing to it */
    bench_expect_carried(&up, BPF_CLIENT);
}
END_TEST

/* PLANE-SPOOF-040 */
START_TEST(a_closed_relay_carries_nothing)
{
    const struct packet_spec up = relay_and_packet(_i), down = bench_packet(BPF_TARGET);

    slot_set_state(bench.slot, BPF_SLOT_FREE);
    bench_expect_dropped(&up, BPF_CLIENT, BPF_COUNT_CLOSED);
    bench_expect_dropped(&down, BPF_TARGET, BPF_COUNT_CLOSED);
    expect_nothing_happened();
}
END_TEST

/* PLANE-SPOOF-050. The same sixteen octets in an IPv6 header are another packet. */
START_TEST(a_mapped_address_is_not_ipv4)
{
    struct packet_spec in = relay_and_packet(0);
    struct frame frame;
    uint8_t *ip = frame.octets + LINK_HEADER;

    bench_relay(true);
    in = bench_packet(BPF_CLIENT);
    bench_relay(false);
    bench_establish();
    in.source.port = bench.client.port;
    in.destination.port = bench.bound.port;
    craft(&frame, &in);
    slot_put_address((__u32 *)(ip + 8), &bench.client.address);
    slot_put_address((__u32 *)(ip + 24), &bench.bound.address);
    ck_assert_int_eq(bench_run_from(&frame, BPF_CLIENT).verdict, DROPPED);
    bench_expect_count(BPF_COUNT_MALFORMED);
    expect_nothing_happened();
}
END_TEST

/* ---- strangers ---------------------------------------------------------------------------------
 */

/* PLANE-STRANGER-010. Another address, another port; to BND, and to the egress port from another
 * than DST. */
START_TEST(strangers_are_dropped_and_counted)
{
    struct packet_spec in = relay_and_packet(_i);

    in.source.port++;
    bench_expect_dropped(&in, BPF_CLIENT, BPF_COUNT_STRANGERS);
    in = bench_packet(BPF_CLIENT);
    in.source.address.bytes[3] ^= 1;
    bench_expect_dropped(&in, BPF_CLIENT, BPF_COUNT_STRANGERS);
    ck_assert_uint_eq(bench.strangers[BENCH_STRANGERS].packets, 2);
    ck_assert_uint_eq(bench.strangers[BENCH_STRANGERS + 1].packets, 0);
    in = bench_packet(BPF_TARGET);
    in.source = bench.client;
    bench_expect_dropped(&in, BPF_TARGET, BPF_COUNT_STRANGERS);
    ck_assert_uint_eq(bench.strangers[BENCH_STRANGERS + 1].packets, 1);
    expect_nothing_happened();
}
END_TEST

/* PLANE-STRANGER-010: a land attack, whose source is BND itself. */
START_TEST(a_packet_from_bnd_to_bnd_is_a_strangers)
{
    struct packet_spec in = relay_and_packet(_i);

    in.source = bench.bound;
    bench_expect_dropped(&in, BPF_CLIENT, BPF_COUNT_STRANGERS);
    in.source = in.destination = bench.egress;
    bench_expect_dropped(&in, BPF_CLIENT, BPF_COUNT_STRANGERS);
}
END_TEST

/* PLANE-STRANGER-020 */
START_TEST(strangers_are_told_but_not_each_of_them)
{
    struct packet_spec in = relay_and_packet(_i);
    struct bpf_stranger_event event;

    in.source.port++;
    for (int i = 0; i < 10; i++)
        bench_expect_dropped(&in, BPF_CLIENT, BPF_COUNT_STRANGERS);
    ck_assert(bench_stranger(&event));
    ck_assert_uint_eq(event.row, BENCH_STRANGERS);
    ck_assert(!bench_stranger(&event));
    ck_assert_uint_gt(bench.strangers[BENCH_STRANGERS].told_ns, BPF_STRANGERS_TELL_NS);
    bench.strangers[BENCH_STRANGERS].told_ns -= BPF_STRANGERS_TELL_NS;
    bench_expect_dropped(&in, BPF_CLIENT, BPF_COUNT_STRANGERS);
    ck_assert(bench_stranger(&event));
    ck_assert_uint_eq(bench.globals->strangers_lost, 0);
}
END_TEST

/* PLANE-STRANGER-030. The ring is never read here. */
START_TEST(what_cannot_be_told_of_strangers_is_counted)
{
    struct packet_spec in = relay_and_packet(_i);
    struct frame frame;

    in.source.port++;
    craft(&frame, &in);
    for (unsigned i = 0; bench.globals->strangers_lost == 0; i++) {
        ck_assert_uint_lt(i, BPF_STRANGERS_OCTETS);
        bench.strangers[BENCH_STRANGERS].told_ns = 0;
        ck_assert_int_eq(bench_run_from(&frame, BPF_CLIENT).verdict, DROPPED);
    }
    ck_assert_uint_eq(bench.globals->events_lost, 0);
}
END_TEST

/* ---- headers that are wrong ---------------------------------------------------------------------
 */

/* Runs the frame after `place` has been given another octet. */
static int run_with(const struct frame *frame, size_t place, uint8_t octet)
{
    struct frame changed = *frame;

    changed.octets[LINK_HEADER + place] = octet;
    return bench_run_from(&changed, BPF_CLIENT).verdict;
}

/* PLANE-BAD-010: more octets than there are, fewer than the headers have. */
START_TEST(a_wrong_ip_length_is_refused)
{
    const struct packet_spec in = relay_and_packet(_i);
    const size_t place = bench.v6 ? 4 : 2;
    struct frame frame;

    craft(&frame, &in);
    const size_t right = frame.length - LINK_HEADER - (bench.v6 ? 40 : 0);
    const size_t wrong[] = {right + 1, 0xffff, bench.v6 ? 0 : 19, bench.v6 ? 7 : 27};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        frame.octets[LINK_HEADER + place] = (uint8_t)(wrong[i] >> 8);
        ck_assert_int_ne(run_with(&frame, place + 1, (uint8_t)wrong[i]), SENT);
        if (i < 2)
            bench_expect_count(BPF_COUNT_MALFORMED);
    }
    expect_nothing_happened();
}
END_TEST

/* PLANE-BAD-010: the ports are there, what follows is not. */
START_TEST(an_l4_header_that_is_cut_short_is_refused)
{
    const struct packet_spec in = relay_and_packet(_i);
    const size_t ip = bench.v6 ? 40 : 20;
    const size_t header = bench.protocol == IPPROTO_TCP ? 20 : 8;
    struct frame frame;

    for (size_t length = 4; length < header; length++) {
        craft(&frame, &in);
        frame.length = LINK_HEADER + ip + length;
        frame.octets[LINK_HEADER + (bench.v6 ? 4 : 2)] = 0;
        frame.octets[LINK_HEADER + (bench.v6 ? 5 : 3)] = (uint8_t)(length + (bench.v6 ? 0 : ip));
        ck_assert_int_eq(bench_run_from(&frame, BPF_CLIENT).verdict, DROPPED);
        bench_expect_count(BPF_COUNT_MALFORMED);
    }
    expect_nothing_happened();
}
END_TEST

/* PLANE-BAD-010 */
START_TEST(an_l4_length_that_contradicts_is_refused)
{
    const struct packet_spec in = relay_and_packet(_i);
    const size_t l4 = bench.v6 ? 40 : 20;
    struct frame frame;

    craft(&frame, &in);
    if (bench.protocol == IPPROTO_TCP) {
        for (unsigned words = 0; words < 5; words++) {
            ck_assert_int_eq(run_with(&frame, l4 + 12, (uint8_t)(words << 4)), DROPPED);
            bench_expect_count(BPF_COUNT_MALFORMED);
        }
        frame.octets[LINK_HEADER + (bench.v6 ? 5 : 3)] = (uint8_t)(l4 + 20 - (bench.v6 ? 40 : 0));
        ck_assert_int_eq(run_with(&frame, l4 + 12, 0x60), DROPPED);
        bench_expect_count(BPF_COUNT_MALFORMED);
    } else {
        for (unsigned length = 0; length < 8; length++) {
            ck_assert_int_eq(run_with(&frame, l4 + 5, (uint8_t)length), DROPPED);
            bench_expect_count(BPF_COUNT_MALFORMED);
        }
        ck_assert_int_eq(run_with(&frame, l4 + 5, 8 + 65), DROPPED);
        bench_expect_count(BPF_COUNT_MALFORMED);
    }
    expect_nothing_happened();
}
END_TEST

/* PLANE-BAD-010: what is behind a UDP datagram belongs to nobody, but is carried (RFC 9868). */
START_TEST(octets_behind_a_datagram_are_carried)
{
    struct packet_spec in = relay_and_packet(_i);
    const struct packet_spec translated = bench_translated(&in, BPF_CLIENT);
    const size_t length_at = LINK_HEADER + (bench.v6 ? 40 : 20) + 5;
    struct frame frame, expected;

    craft(&frame, &in);
    craft(&expected, &translated);
    frame.octets[length_at] = expected.octets[length_at] = 8 + 20;
    frame_mend(&frame);
    frame_mend(&expected);
    const struct outcome outcome = bench_run_from(&frame, BPF_CLIENT);
    ck_assert_int_eq(outcome.verdict, SENT);
    ck_assert_mem_eq(outcome.frame.octets, expected.octets, expected.length);
    ck_assert_uint_eq(bench.slot->from[BPF_CLIENT].bytes, 20);
}
END_TEST

/* PLANE-BAD-020: every length of the frame, cut off anywhere, and no version but the right one. */
START_TEST(truncated_frames_are_never_sent)
{
    const struct packet_spec in = relay_and_packet(_i);
    const size_t ip = LINK_HEADER + (bench.v6 ? 40 : 20);
    struct frame whole, frame;

    craft(&whole, &in);
    for (size_t length = ip; length < whole.length; length++) {
        frame = whole;
        frame.length = length;
        ck_assert_int_ne(bench_run_from(&frame, BPF_CLIENT).verdict, SENT);
    }
    for (unsigned version = 0; version < 16; version++) {
        const uint8_t octet = (uint8_t)(version << 4 | (whole.octets[LINK_HEADER] & 15));
        if (octet != whole.octets[LINK_HEADER])
            ck_assert_int_ne(run_with(&whole, 0, octet), SENT);
    }
    for (unsigned words = 0; words < 5 && !bench.v6; words++)
        ck_assert_int_ne(run_with(&whole, 0, (uint8_t)(0x40 | words)), SENT);
    expect_nothing_happened();
}
END_TEST

static void add_tests(Suite *suite, const char *name, int protocol)
{
    TCase *tests = bench_case(name, protocol);

    tcase_add_loop_test(tests, the_wrong_interface_is_refused, 0, 2);
    tcase_add_loop_test(tests, without_an_interface_nothing_is_taken, 0, 2);
    tcase_add_loop_test(tests, a_row_of_an_older_relay_is_refused, 0, 2);
    tcase_add_loop_test(tests, a_row_that_leads_to_another_tuple_is_refused, 0, 2);
    tcase_add_loop_test(tests, a_row_without_a_slot_is_refused, 0, 2);
    tcase_add_loop_test(tests, the_epoch_of_the_peer_ends_its_relays, 0, 2);
    tcase_add_loop_test(tests, a_closed_relay_carries_nothing, 0, 2);
    tcase_add_test(tests, a_mapped_address_is_not_ipv4);
    tcase_add_loop_test(tests, strangers_are_dropped_and_counted, 0, 2);
    tcase_add_loop_test(tests, a_packet_from_bnd_to_bnd_is_a_strangers, 0, 2);
    tcase_add_loop_test(tests, strangers_are_told_but_not_each_of_them, 0, 2);
    tcase_add_loop_test(tests, what_cannot_be_told_of_strangers_is_counted, 0, 2);
    tcase_add_loop_test(tests, a_wrong_ip_length_is_refused, 0, 2);
    tcase_add_loop_test(tests, an_l4_header_that_is_cut_short_is_refused, 0, 2);
    tcase_add_loop_test(tests, an_l4_length_that_contradicts_is_refused, 0, 2);
    tcase_add_loop_test(tests, truncated_frames_are_never_sent, 0, 2);
    if (protocol == IPPROTO_UDP)
        tcase_add_loop_test(tests, octets_behind_a_datagram_are_carried, 0, 2);
    suite_add_tcase(suite, tests);
}

static Suite *refuse_suite(void)
{
    Suite *suite = suite_create("bpf_refuse");

    add_tests(suite, "udp", IPPROTO_UDP);
    add_tests(suite, "tcp", IPPROTO_TCP);
    return suite;
}

int main(void)
{
    return bench_main(refuse_suite);
}
