/*
 * Limits: octets in all, octets a second, answers a second. proto/PLANE.md
 */
#include <check.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "relayd/plane/bpf/slot.h"
#include "tests/unit/relayd/bpf/program_fixture.h"
#include "tests/unit/relayd/bpf/suite.h"

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* PLANE-LIMIT-020. Both directions together; what would exceed it is dropped whole, and told. */
START_TEST(no_more_octets_than_allowed)
{
    struct packet_spec up, down;
    struct bpf_event event;

    bench_relay(_i == 1);
    bench_establish();
    bench.slot->max_bytes = 250;
    up = bench_packet(BPF_CLIENT);
    down = bench_packet(BPF_TARGET);
    up.payload = down.payload = 100;
    bench_expect_carried(&up, BPF_CLIENT);
    bench_expect_carried(&down, BPF_TARGET);
    while (bench_event(&event))
        ;
    bench_expect_dropped(&up, BPF_CLIENT, BPF_COUNT_LIMIT);
    ck_assert(bench_event(&event));
    ck_assert_uint_eq(event.end, BPF_CLIENT);
    ck_assert_uint_eq(event.seen & BPF_SEEN_LIMIT, BPF_SEEN_LIMIT);
    bench_expect_dropped(&up, BPF_CLIENT, BPF_COUNT_LIMIT);
    ck_assert(!bench_event(&event));
    down.payload = 50;
    bench_expect_carried(&down, BPF_TARGET); /* exactly */
    down.payload = 1;
    bench_expect_dropped(&down, BPF_TARGET, BPF_COUNT_LIMIT);
    ck_assert_uint_eq(bench.slot->from[BPF_CLIENT].bytes + bench.slot->from[BPF_TARGET].bytes, 250);
}
END_TEST

/* Sends as fast as it goes for `duration`; octets that were carried. */
static uint64_t flood(enum bpf_end end, uint64_t duration_ns)
{
    struct packet_spec in = bench_packet(end);
    const uint64_t begin = now_ns(), before = bench.slot->from[end].bytes;
    struct frame frame;

    in.payload = 1000;
    craft(&frame, &in);
    while (now_ns() - begin < duration_ns) {
        const int verdict = bench_run_from(&frame, end).verdict;
        ck_assert(verdict == SENT || verdict == DROPPED);
    }
    return bench.slot->from[end].bytes - before;
}

/* PLANE-LIMIT-030. A burst, then the rate; each direction has its own. A busy machine only makes it
 * less. */
START_TEST(no_more_octets_a_second_than_allowed)
{
    const uint64_t rate = 2000000;
    uint64_t begin, octets, elapsed;

    bench_relay(_i == 1);
    bench_establish();
    bench.slot->bytes_per_second = rate;
    for (int end = BPF_CLIENT; end < BPF_ENDS; end++) {
        begin = now_ns();
        octets = flood((enum bpf_end)end, 300000000);
        elapsed = now_ns() - begin;
        ck_assert_uint_le(octets, rate * BPF_BURST_NS / 1000000000 + rate * elapsed / 1000000000);
        ck_assert_uint_gt(octets, rate / 4);
        ck_assert_uint_gt(bench_count(BPF_COUNT_RATE), 0);
        begin = now_ns();
        octets = flood((enum bpf_end)end, 200000000);
        elapsed = now_ns() - begin;
        ck_assert_uint_le(octets, rate * elapsed / 1000000000 + 1000); /* the burst is used up */
    }
}
END_TEST

/* PLANE-LIMIT-030: a low rate must let the largest packet through all the same. */
START_TEST(a_low_rate_has_a_burst)
{
    struct packet_spec in;

    bench_relay(_i == 1);
    bench_establish();
    bench.slot->bytes_per_second = 1000;
    in = bench_packet(BPF_CLIENT);
    in.payload = 1400;
    for (uint64_t sent = 0; sent + 1400 <= BPF_BURST_OCTETS; sent += 1400)
        bench_expect_carried(&in, BPF_CLIENT);
    bench_expect_dropped(&in, BPF_CLIENT, BPF_COUNT_RATE);
    in.payload = 0;
    bench_expect_carried(&in, BPF_CLIENT); /* an acknowledgment costs nothing */
}
END_TEST

/* PLANE-LIMIT-030: neither the largest number nor one octet a second makes nonsense of it. */
START_TEST(every_rate_is_a_rate)
{
    const uint64_t rates[] = {1, 7, 1ull << 33, (1ull << 33) + 1, 1ull << 60, UINT64_MAX};
    struct packet_spec in;

    for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
        bench_relay(_i == 1);
        bench_establish();
        bench.slot->bytes_per_second = rates[i];
        in = bench_packet(BPF_CLIENT);
        in.payload = 1000;
        for (int k = 0; k < 50; k++)
            bench_expect_carried(&in, BPF_CLIENT);
    }
}
END_TEST

/* Answers to packets that arrive at once from `relays` relays, `each` from every one. */
static unsigned answers(unsigned relays, unsigned each)
{
    const struct bpf_slot original = *bench.slot;
    struct packet_spec in = bench_packet(BPF_CLIENT);
    unsigned told = 0;
    struct frame frame;

    in.ttl = 1;
    craft(&frame, &in);
    for (unsigned i = 0; i < relays; i++) {
        *bench.slot = original; /* another relay has not been answered yet */
        for (unsigned k = 0; k < each; k++)
            ck_assert_int_eq(bench_run_from(&frame, BPF_CLIENT).verdict, DROPPED);
    }
    while (bench_answer(&(struct bpf_answer){0}))
        told++;
    ck_assert_uint_eq(bench_count(BPF_COUNT_ANSWERS_LIMITED) >= relays * each - told, 1);
    return told;
}

/* PLANE-LIMIT-040. A tenth of a second at once, then by time. */
START_TEST(one_end_gets_no_more_answers_than_its_share)
{
    const unsigned burst = BPF_ANSWERS_PER_SECOND_OF_END / 10;
    uint64_t begin = now_ns();
    unsigned told;

    bench_relay(_i == 1);
    told = answers(1, 100);
    ck_assert_uint_ge(told, burst);
    ck_assert_uint_le(told,
                      burst + 1 + (now_ns() - begin) * BPF_ANSWERS_PER_SECOND_OF_END / 1000000000);
}
END_TEST

/* PLANE-LIMIT-040 */
START_TEST(there_are_no_more_answers_than_allowed)
{
    const unsigned burst = BPF_ANSWERS_PER_SECOND / 10;
    uint64_t begin;
    unsigned told;

    bench_relay(_i == 1);
    begin = now_ns();
    told = answers(400, 2);
    ck_assert_uint_ge(told, burst);
    ck_assert_uint_le(told, burst + 1 + (now_ns() - begin) * BPF_ANSWERS_PER_SECOND / 1000000000);
}
END_TEST

/* PLANE-LIMIT-040. The ring is never read here. */
START_TEST(answers_that_are_lost_are_counted)
{
    struct packet_spec in;
    struct frame frame;

    bench_relay(false);
    in = bench_packet(BPF_CLIENT);
    in.ttl = 1;
    craft(&frame, &in);
    for (unsigned i = 0; bench.globals->answers_lost == 0; i++) {
        ck_assert_uint_lt(i, BPF_ANSWERS_OCTETS);
        bench.globals->answer_tokens_ns = 0;
        bench.slot->from[BPF_CLIENT].answered_ms = (uint32_t)(now_ns() / 1000000) - 100;
        ck_assert_int_eq(bench_run_from(&frame, BPF_CLIENT).verdict, DROPPED);
    }
}
END_TEST

static Suite *limits_suite(void)
{
    Suite *suite = suite_create("bpf_limits");

    for (int tcp = 0; tcp < 2; tcp++) {
        TCase *tests = bench_case(tcp ? "tcp" : "udp", tcp ? IPPROTO_TCP : IPPROTO_UDP);
        tcase_add_loop_test(tests, no_more_octets_than_allowed, 0, 2);
        tcase_add_loop_test(tests, no_more_octets_a_second_than_allowed, 0, 2);
        tcase_add_loop_test(tests, a_low_rate_has_a_burst, 0, 2);
        tcase_add_loop_test(tests, every_rate_is_a_rate, 0, 2);
        tcase_add_loop_test(tests, one_end_gets_no_more_answers_than_its_share, 0, 2);
        tcase_add_loop_test(tests, there_are_no_more_answers_than_allowed, 0, 2);
        tcase_add_test(tests, answers_that_are_lost_are_counted);
        suite_add_tcase(suite, tests);
    }
    return suite;
}

int main(void)
{
    return bench_main(limits_suite);
}
