/*
 * Fragments, IP options, extension headers: what is left to relayd's sockets, and what to nobody.
 * proto/PLANE.md
 */
#include <check.h>
#include <netinet/in.h>
#include <string.h>

#include "relayd/plane/bpf/slot.h"
#include "tests/unit/relayd/bpf/program_fixture.h"
#include "tests/unit/relayd/bpf/suite.h"

/* An oddity, and what it is counted as. */
struct oddity {
    const char *name;
    bool v6;
    uint16_t fragment;
    uint8_t next;
    uint8_t octets[40];
    size_t length;
    enum bpf_count why;
};

static const struct oddity oddities[] = {
    {"IPv4, first fragment", false, 0x2000, 0, {0}, 0, BPF_COUNT_FRAGMENTS},
    {"IPv4, router alert", false, 0, 0, {148, 4, 0, 0}, 4, BPF_COUNT_OPTIONS},
    {"IPv4, nothing", false, 0, 0, {1, 1, 1, 1}, 4, BPF_COUNT_OPTIONS},
    {"IPv4, record route", false, 0, 0, {7, 39, 4}, 40, BPF_COUNT_OPTIONS},
    {"IPv4, an option without a length", false, 0, 0, {148, 0, 131, 4}, 4, BPF_COUNT_OPTIONS},
    {"IPv4, an option beyond the end", false, 0, 0, {1, 1, 1, 148}, 4, BPF_COUNT_OPTIONS},
    {"IPv4, an end before it", false, 0, 0, {0, 131, 3, 4}, 4, BPF_COUNT_OPTIONS},
    {"IPv4, within another option", false, 0, 0, {148, 4, 131, 3}, 4, BPF_COUNT_OPTIONS},
    {"IPv4, loose source route",
     false,
     0,
     0,
     {131, 7, 4, 10, 0, 0, 1, 0},
     8,
     BPF_COUNT_SOURCE_ROUTE},
    {"IPv4, strict, behind others",
     false,
     0,
     0,
     {1, 148, 4, 0, 0, 0x89, 3, 4},
     8,
     BPF_COUNT_SOURCE_ROUTE},
    {"IPv4, in the last octets",
     false,
     0,
     0,
     {7, 37, 4, [37] = 131, 3, 4},
     40,
     BPF_COUNT_SOURCE_ROUTE},
    {"IPv6, first fragment",
     true,
     0,
     IPPROTO_FRAGMENT,
     {0, 0, 0, 1, 0, 0, 0, 9},
     8,
     BPF_COUNT_FRAGMENTS},
    {"IPv6, atomic fragment",
     true,
     0,
     IPPROTO_FRAGMENT,
     {0, 0, 0, 0, 0, 0, 0, 9},
     8,
     BPF_COUNT_FRAGMENTS},
    {"IPv6, hop by hop", true, 0, IPPROTO_HOPOPTS, {0, 0, 1, 4}, 8, BPF_COUNT_OPTIONS},
    {"IPv6, destination options of 24 octets",
     true,
     0,
     IPPROTO_DSTOPTS,
     {0, 2, 1, 20},
     24,
     BPF_COUNT_OPTIONS},
    {"IPv6, hop by hop, then a fragment",
     true,
     0,
     IPPROTO_HOPOPTS,
     {IPPROTO_FRAGMENT, 0, 1, 4, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 9},
     16,
     BPF_COUNT_FRAGMENTS},
    {"IPv6, routing header", true, 0, IPPROTO_ROUTING, {0, 0, 4, 0}, 8, BPF_COUNT_SOURCE_ROUTE},
    {"IPv6, routing header behind options",
     true,
     0,
     IPPROTO_DSTOPTS,
     {IPPROTO_ROUTING, 0, 1, 4, 0, 0, 0, 0, 0, 0, 4, 0},
     16,
     BPF_COUNT_SOURCE_ROUTE},
};
#define ODDITIES (int)(sizeof(oddities) / sizeof(oddities[0]))

static struct packet_spec odd_packet(const struct oddity *oddity)
{
    struct packet_spec spec;

    bench_relay(oddity->v6);
    bench_establish();
    spec = bench_packet(BPF_CLIENT);
    spec.fragment = oddity->fragment;
    spec.between = oddity->octets;
    spec.between_length = oddity->length;
    spec.between_next = oddity->next;
    return spec;
}

static void expect_uncounted(void)
{
    ck_assert_uint_eq(bench.slot->from[BPF_CLIENT].packets, 0);
    ck_assert(!bench_answer(&(struct bpf_answer){0}));
}

/* PLANE-FRAG-010, PLANE-FRAG-030, PLANE-FRAG-040 */
START_TEST(datagrams_of_relays_are_marked)
{
    const struct packet_spec in = odd_packet(&oddities[_i]);
    struct frame frame;

    craft(&frame, &in);
    const struct outcome outcome = bench_run_from(&frame, BPF_CLIENT);
    if (oddities[_i].why == BPF_COUNT_SOURCE_ROUTE) {
        ck_assert_int_eq(outcome.verdict, DROPPED);
    } else {
        ck_assert_int_eq(outcome.verdict, PASSED);
        ck_assert_uint_eq(outcome.mark, BENCH_MARK);
        ck_assert_mem_eq(outcome.frame.octets, frame.octets, frame.length);
    }
    bench_expect_count(oddities[_i].why);
    expect_uncounted();
}
END_TEST

/* PLANE-FRAG-020, PLANE-FRAG-040 */
START_TEST(segments_of_relays_are_dropped)
{
    const struct packet_spec in = odd_packet(&oddities[_i]);

    bench_expect_dropped(&in, BPF_CLIENT,
                         oddities[_i].why == BPF_COUNT_SOURCE_ROUTE ? BPF_COUNT_SOURCE_ROUTE
                                                                    : BPF_COUNT_TCP_LEFT);
    expect_uncounted();
}
END_TEST

/* PLANE-FRAG-050: who may not have a packet carried may not have it left to the sockets either. */
START_TEST(odd_packets_are_judged_like_others)
{
    struct packet_spec in = odd_packet(&oddities[_i]);

    in.source.port++;
    bench_expect_dropped(&in, BPF_CLIENT, BPF_COUNT_STRANGERS);
    in = odd_packet(&oddities[_i]);
    memcpy(in.destination_mac, bench_packet(BPF_TARGET).destination_mac, 6);
    bench_expect_dropped(&in, BPF_TARGET, BPF_COUNT_SPOOFED);
    in = odd_packet(&oddities[_i]);
    slot_set_state(bench.slot, BPF_SLOT_FREE);
    bench_expect_dropped(&in, BPF_CLIENT, BPF_COUNT_CLOSED);
    in = odd_packet(&oddities[_i]);
    bench.globals->peers[BENCH_PEER]++;
    bench_expect_dropped(&in, BPF_CLIENT, BPF_COUNT_STALE);
    in = odd_packet(&oddities[_i]);
    in.destination.port++;
    bench_expect_verdict(&in, BPF_CLIENT, PASSED);
    bench_expect_no_count();
}
END_TEST

/* PLANE-FRAG-060. They have no ports; the host puts them together, with the first one's mark. */
START_TEST(later_fragments_pass_unmarked)
{
    static const uint8_t later[8] = {[2] = 0, [3] = 0x50, [7] = 9};
    struct packet_spec in;
    struct frame frame;

    bench_relay(_i == 1);
    bench_establish();
    in = bench_packet(BPF_CLIENT);
    in.fragment = 0x2010;
    in.between = later;
    in.between_length = bench.v6 ? 8 : 0;
    in.between_next = IPPROTO_FRAGMENT;
    craft(&frame, &in);
    const struct outcome outcome = bench_run_from(&frame, BPF_CLIENT);
    ck_assert_int_eq(outcome.verdict, PASSED);
    ck_assert_uint_eq(outcome.mark, 0);
    bench_expect_no_count();
}
END_TEST

/* PLANE-BAD-010, PLANE-FRAG-040: an L4 header that the IP length cuts off, behind options. */
START_TEST(headers_cut_short_behind_options_are_refused)
{
    static const uint8_t nothing[8] = {1, 1, 1, 1};
    static const uint8_t padding[8] = {0, 0, 1, 4};
    struct packet_spec in;
    struct frame frame;

    bench_relay(_i == 1);
    bench_establish();
    in = bench_packet(BPF_CLIENT);
    in.between = bench.v6 ? padding : nothing;
    in.between_length = bench.v6 ? 8 : 4;
    in.between_next = IPPROTO_HOPOPTS;
    craft(&frame, &in);
    frame.octets[LINK_HEADER + (bench.v6 ? 5 : 3)] = bench.v6 ? 8 + 7 : 24 + 7;
    ck_assert_int_eq(bench_run_from(&frame, BPF_CLIENT).verdict, DROPPED);
    bench_expect_count(BPF_COUNT_MALFORMED);
}
END_TEST

/* PLANE-FRAG-040. Headers that no relay has to do with end the search. */
START_TEST(what_the_program_does_not_know_passes)
{
    static const uint8_t many[80] = {
        60, 0, 1,  4, 0, 0,  0, 0, 60, 0, 1,  4, 0, 0,  0, 0, 60, 0, 1,  4, 0, 0,  0, 0, 60, 0, 1,
        4,  0, 0,  0, 0, 60, 0, 1, 4,  0, 0,  0, 0, 60, 0, 1, 4,  0, 0,  0, 0, 60, 0, 1, 4,  0, 0,
        0,  0, 60, 0, 1, 4,  0, 0, 0,  0, 60, 0, 1, 4,  0, 0, 0,  0, 60, 0, 1, 4,  0, 0, 0,  0};
    const uint8_t others[] = {IPPROTO_ESP, IPPROTO_AH, IPPROTO_NONE, IPPROTO_SCTP, 255};
    struct packet_spec in;
    struct frame frame;

    bench_relay(true);
    bench_establish();
    in = bench_packet(BPF_CLIENT);
    in.between = many;
    in.between_length = sizeof(many);
    in.between_next = IPPROTO_DSTOPTS;
    bench_expect_verdict(&in, BPF_CLIENT, PASSED);
    in.between_length = 8;
    for (size_t i = 0; i < sizeof(others); i++) {
        craft(&frame, &in);
        frame.octets[LINK_HEADER + 40] = others[i];
        ck_assert_int_eq(bench_run_from(&frame, BPF_CLIENT).verdict, PASSED);
    }
    bench_expect_no_count();
}
END_TEST

static Suite *rare_suite(void)
{
    Suite *suite = suite_create("bpf_rare");

    for (int tcp = 0; tcp < 2; tcp++) {
        TCase *tests = bench_case(tcp ? "tcp" : "udp", tcp ? IPPROTO_TCP : IPPROTO_UDP);
        if (tcp)
            tcase_add_loop_test(tests, segments_of_relays_are_dropped, 0, ODDITIES);
        else
            tcase_add_loop_test(tests, datagrams_of_relays_are_marked, 0, ODDITIES);
        tcase_add_loop_test(tests, odd_packets_are_judged_like_others, 0, ODDITIES);
        tcase_add_loop_test(tests, later_fragments_pass_unmarked, 0, 2);
        tcase_add_loop_test(tests, headers_cut_short_behind_options_are_refused, 0, 2);
        tcase_add_test(tests, what_the_program_does_not_know_passes);
        suite_add_tcase(suite, tests);
    }
    return suite;
}

int main(void)
{
    return bench_main(rare_suite);
}
