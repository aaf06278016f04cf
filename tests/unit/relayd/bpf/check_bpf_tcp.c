/*
 * TCP: what is nonsense, what comes out of turn, what is noted of a connection's life, and what
 * remains of one that was ended. proto/PLANE.md
 */
#include <check.h>
#include <netinet/in.h>
#include <string.h>

#include "relayd/plane/bpf/slot.h"
#include "tests/unit/relayd/bpf/program_fixture.h"
#include "tests/unit/relayd/bpf/suite.h"

static uint32_t seen(enum bpf_end end)
{
    return bench.slot->from[end].seen;
}

static struct packet_spec segment(enum bpf_end from, uint8_t flags)
{
    struct packet_spec spec = bench_packet(from);

    spec.flags = flags;
    spec.payload = 0;
    return spec;
}

static void carry(enum bpf_end from, uint8_t flags)
{
    const struct packet_spec in = segment(from, flags);

    bench_expect_carried(&in, from);
}

static void expect_event(enum bpf_end end, uint32_t flags)
{
    struct bpf_event event;

    ck_assert(bench_event(&event));
    ck_assert_uint_eq(event.slot, BENCH_SLOT);
    ck_assert_uint_eq(event.generation, BENCH_GENERATION);
    ck_assert_uint_eq(event.end, end);
    ck_assert_uint_eq(event.seen, flags);
    ck_assert_uint_eq(seen(end), flags);
}

static void expect_no_event(void)
{
    ck_assert(!bench_event(&(struct bpf_event){0}));
}

static void handshake(void)
{
    carry(BPF_CLIENT, FLAG_SYN);
    carry(BPF_TARGET, FLAG_SYN | FLAG_ACK);
    carry(BPF_CLIENT, FLAG_ACK);
    carry(BPF_TARGET, FLAG_ACK);
    while (bench_event(&(struct bpf_event){0}))
        ;
}

#define UP (BPF_SEEN_PACKET | BPF_SEEN_SYN)
#define RUNNING (UP | BPF_SEEN_ESTABLISHED)

/* PLANE-TCP-010. All 64 combinations of the flags: one of SYN, RST and ACK has to be there, SYN
 * alone or with ACK, FIN with ACK. */
START_TEST(nonsense_is_refused)
{
    bench_relay(_i == 1);
    for (unsigned flags = 0; flags < 64; flags++) {
        const bool syn = flags & FLAG_SYN, fin = flags & FLAG_FIN, rst = flags & FLAG_RST,
                   ack = flags & FLAG_ACK;
        const bool sane = (syn && !fin && !rst) || (rst && !syn && !fin) || (ack && !syn && !rst);
        const struct packet_spec in = segment(BPF_CLIENT, (uint8_t)flags);
        bench_establish();
        if (sane && !(syn && ack))
            bench_expect_verdict(&in, BPF_CLIENT, SENT);
        else if (!sane)
            bench_expect_dropped(&in, BPF_CLIENT, BPF_COUNT_TCP_FLAGS);
    }
    bench_expect_no_count();
}
END_TEST

/* PLANE-TCP-020. Nothing before the client's SYN, from either side. */
START_TEST(the_clients_syn_comes_first)
{
    const uint8_t flags[] = {
        FLAG_ACK,           FLAG_ACK | FLAG_PSH, FLAG_RST, FLAG_RST | FLAG_ACK, FLAG_FIN | FLAG_ACK,
        FLAG_SYN | FLAG_ACK};

    bench_relay(_i == 1);
    for (size_t i = 0; i < sizeof(flags); i++) {
        for (int end = BPF_CLIENT; end < BPF_ENDS; end++) {
            const struct packet_spec in = segment((enum bpf_end)end, flags[i]);
            bench_expect_dropped(&in, (enum bpf_end)end, BPF_COUNT_TCP_STATE);
        }
    }
    const struct packet_spec in = segment(BPF_TARGET, FLAG_SYN);
    bench_expect_dropped(&in, BPF_TARGET, BPF_COUNT_TCP_STATE);
    ck_assert_uint_eq(seen(BPF_CLIENT) | seen(BPF_TARGET), 0);
    expect_no_event();
    handshake();
}
END_TEST

/* PLANE-TCP-020 */
START_TEST(the_target_opens_nothing)
{
    struct packet_spec syn, answer;

    bench_relay(_i == 1);
    syn = segment(BPF_TARGET, FLAG_SYN);
    answer = segment(BPF_CLIENT, FLAG_SYN | FLAG_ACK);
    carry(BPF_CLIENT, FLAG_SYN);
    bench_expect_dropped(&syn, BPF_TARGET, BPF_COUNT_TCP_STATE);
    bench_expect_dropped(&answer, BPF_CLIENT, BPF_COUNT_TCP_STATE);
    carry(BPF_TARGET, FLAG_SYN | FLAG_ACK);
    carry(BPF_CLIENT, FLAG_ACK);
    bench_expect_dropped(&syn, BPF_TARGET, BPF_COUNT_TCP_STATE);
}
END_TEST

/* With these numbers, and `payload` octets. */
static void carry_numbers(enum bpf_end from, uint8_t flags, uint32_t sequence,
                          uint32_t acknowledgment, size_t payload)
{
    struct packet_spec in = segment(from, flags);

    in.sequence = sequence;
    in.acknowledgment = acknowledgment;
    in.payload = payload;
    bench_expect_carried(&in, from);
}

/* PLANE-TCP-020, PLANE-TCP-070. A closed port answers with RST, which has to know the SYN's number.
 */
START_TEST(a_refusal_is_carried)
{
    const uint32_t syn = segment(BPF_CLIENT, 0).sequence;

    bench_relay(_i == 1);
    carry(BPF_CLIENT, FLAG_SYN);
    carry_numbers(BPF_TARGET, FLAG_RST | FLAG_ACK, 0, syn, 0);
    carry_numbers(BPF_TARGET, FLAG_RST, 0, syn + 1, 0);
    ck_assert_uint_eq(seen(BPF_TARGET), BPF_SEEN_PACKET);
    carry_numbers(BPF_TARGET, FLAG_RST | FLAG_ACK, 0, syn + 1, 0);
    ck_assert_uint_eq(seen(BPF_TARGET), BPF_SEEN_PACKET | BPF_SEEN_RST);
}
END_TEST

/* PLANE-TCP-070. Any other number than the one that was acknowledged last: carried, and the
 * connection goes on. */
START_TEST(a_reset_that_is_guessed_ends_nothing)
{
    const uint32_t wrong[] = {0, 1, 0x7fffffff, 0x80000000, 99, 101, 0xffffffff};
    const enum bpf_end from = _i / 2 == 0 ? BPF_CLIENT : BPF_TARGET, to = slot_other(from);

    bench_relay(_i % 2 == 1);
    handshake();
    carry_numbers(to, FLAG_ACK, 7, 100, 0);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        carry_numbers(from, FLAG_RST, wrong[i], 7, 0);
        ck_assert_uint_eq(seen(from), RUNNING);
    }
    expect_no_event();
    carry_numbers(from, FLAG_RST, 100, 7, 0);
    expect_event(from, RUNNING | BPF_SEEN_RST);
}
END_TEST

/* PLANE-TCP-030. Again and again, until a connection is ending: then there is no other one. */
START_TEST(one_association_is_one_connection)
{
    const uint8_t ends[] = {FLAG_RST | FLAG_ACK, FLAG_FIN | FLAG_ACK};

    for (int i = 0; i < 4; i++) {
        struct packet_spec syn;
        bench_relay(_i == 1);
        carry(BPF_CLIENT, FLAG_SYN);
        carry(BPF_CLIENT, FLAG_SYN);
        handshake();
        carry(BPF_CLIENT, FLAG_SYN);
        carry(i % 2 == 0 ? BPF_CLIENT : BPF_TARGET, ends[i / 2]);
        syn = segment(BPF_CLIENT, FLAG_SYN);
        bench_expect_dropped(&syn, BPF_CLIENT, BPF_COUNT_TCP_STATE);
    }
}
END_TEST

/* PLANE-TCP-040, PLANE-LIFE-100: each change is told once. */
START_TEST(the_life_of_a_connection_is_noted)
{
    bench_relay(_i == 1);
    carry(BPF_CLIENT, FLAG_SYN);
    expect_event(BPF_CLIENT, UP);
    carry(BPF_TARGET, FLAG_SYN | FLAG_ACK);
    expect_event(BPF_TARGET, UP);
    carry(BPF_CLIENT, FLAG_ACK);
    expect_event(BPF_CLIENT, RUNNING);
    carry(BPF_TARGET, FLAG_ACK | FLAG_PSH);
    expect_event(BPF_TARGET, RUNNING);
    for (int i = 0; i < 3; i++) {
        carry(BPF_CLIENT, FLAG_ACK | FLAG_PSH);
        carry(BPF_TARGET, FLAG_ACK);
    }
    expect_no_event();
    carry(BPF_CLIENT, FLAG_RST | FLAG_ACK);
    expect_event(BPF_CLIENT, RUNNING | BPF_SEEN_RST);
    expect_no_event();
}
END_TEST

/* PLANE-TCP-050. Only an acknowledgment of the FIN itself counts, wherever the numbers wrap. */
START_TEST(a_fin_is_acknowledged_by_its_number)
{
    const uint32_t sequences[] = {1000, 0xffffffc0, 0xfffffff5};
    const enum bpf_end from = _i / 2 == 0 ? BPF_CLIENT : BPF_TARGET, to = slot_other(from);

    for (size_t i = 0; i < 3; i++) {
        const uint32_t end = sequences[i] + 10 + 1;
        bench_relay(_i % 2 == 1);
        handshake();
        carry_numbers(from, FLAG_FIN | FLAG_ACK, sequences[i], 5, 10);
        expect_event(from, RUNNING | BPF_SEEN_FIN);
        carry_numbers(to, FLAG_ACK, 5, end - 11, 100);
        carry_numbers(to, FLAG_ACK, 105, end - 1, 0);
        expect_no_event();
        carry_numbers(to, FLAG_ACK, 105, end, 0);
        expect_event(from, RUNNING | BPF_SEEN_FIN | BPF_SEEN_FIN_ACKED);
        carry_numbers(from, FLAG_FIN | FLAG_ACK, sequences[i], 5, 10); /* once more */
        carry_numbers(to, FLAG_ACK, 105, end, 0);
        expect_no_event();
    }
}
END_TEST

/* PLANE-TCP-050. A FIN that somebody guessed has a number of which nothing comes. */
START_TEST(a_fin_that_is_guessed_is_never_acknowledged)
{
    bench_relay(_i == 1);
    handshake();
    carry_numbers(BPF_TARGET, FLAG_FIN | FLAG_ACK, 50, 5, 0);
    expect_event(BPF_TARGET, RUNNING | BPF_SEEN_FIN);
    for (uint32_t acknowledgment = 1000; acknowledgment < 1010; acknowledgment++)
        carry_numbers(BPF_CLIENT, FLAG_ACK, 5, acknowledgment, 10);
    expect_no_event();
}
END_TEST

/* PLANE-TCP-050: both at once, and the one's acknowledgment in the other's FIN. */
START_TEST(both_ends_may_end)
{
    bench_relay(_i == 1);
    handshake();
    carry_numbers(BPF_CLIENT, FLAG_FIN | FLAG_ACK, 100, 200, 0);
    carry_numbers(BPF_TARGET, FLAG_FIN | FLAG_ACK, 200, 101, 0);
    ck_assert_uint_eq(seen(BPF_CLIENT), RUNNING | BPF_SEEN_FIN | BPF_SEEN_FIN_ACKED);
    ck_assert_uint_eq(seen(BPF_TARGET), RUNNING | BPF_SEEN_FIN);
    carry_numbers(BPF_CLIENT, FLAG_ACK, 101, 201, 0);
    ck_assert_uint_eq(seen(BPF_TARGET), RUNNING | BPF_SEEN_FIN | BPF_SEEN_FIN_ACKED);
}
END_TEST

/* PLANE-TCP-050: the other direction goes on. */
START_TEST(half_closed_connections_go_on)
{
    bench_relay(_i == 1);
    handshake();
    carry_numbers(BPF_TARGET, FLAG_FIN | FLAG_ACK, 200, 100, 0);
    for (int i = 0; i < 5; i++) {
        carry_numbers(BPF_CLIENT, FLAG_ACK, 100 + 500 * (uint32_t)i, 201, 500);
        carry_numbers(BPF_TARGET, FLAG_ACK, 201, 600 + 500 * (uint32_t)i, 0);
    }
    ck_assert_uint_eq(bench.slot->from[BPF_CLIENT].bytes, 2500);
    bench_expect_no_count();
}
END_TEST

/* PLANE-TCP-060. The segment's payload is told, since an acknowledgment has to count it. */
START_TEST(a_tombstone_answers)
{
    struct bpf_answer answer;
    struct packet_spec in;
    struct frame frame;

    bench_relay(_i == 1);
    handshake();
    slot_set_state(bench.slot, BPF_SLOT_TOMBSTONE);
    bench.globals->peers[BENCH_PEER]++; /* it may be there because the peer was lost */
    for (int end = BPF_CLIENT; end < BPF_ENDS; end++) {
        in = bench_packet((enum bpf_end)end);
        in.payload = 321;
        bench_expect_dropped(&in, (enum bpf_end)end, BPF_COUNT_TOMBSTONE);
        ck_assert(bench_answer(&answer));
        craft(&frame, &in);
        ck_assert_uint_eq(answer.kind, BPF_ANSWER_RESET);
        ck_assert_uint_eq(answer.payload, 321);
        ck_assert_uint_eq(answer.mtu, 0);
        ck_assert_uint_eq(answer.interface, bench.interface[end]);
        ck_assert_mem_eq(answer.head, frame_ip(&frame), answer.length);
    }
    in = segment(BPF_CLIENT, FLAG_RST);
    bench_expect_dropped(&in, BPF_CLIENT, BPF_COUNT_TOMBSTONE);
    ck_assert(!bench_answer(&answer)); /* a RST has no answer */
    expect_no_event();
}
END_TEST

/* PLANE-TCP-060, PLANE-SPOOF-010 */
START_TEST(a_tombstone_does_not_answer_the_wrong_interface)
{
    struct packet_spec in;

    bench_relay(_i == 1);
    slot_set_state(bench.slot, BPF_SLOT_TOMBSTONE);
    in = bench_packet(BPF_CLIENT);
    memcpy(in.destination_mac, bench_packet(BPF_TARGET).destination_mac, 6);
    bench_expect_dropped(&in, BPF_TARGET, BPF_COUNT_SPOOFED);
    ck_assert(!bench_answer(&(struct bpf_answer){0}));
}
END_TEST

/* PLANE-TCP-060. There is nothing to be answered of UDP. */
START_TEST(a_tombstone_of_udp_is_silent)
{
    struct packet_spec in;

    bench_relay(_i == 1);
    slot_set_state(bench.slot, BPF_SLOT_TOMBSTONE);
    in = bench_packet(BPF_CLIENT);
    bench_expect_dropped(&in, BPF_CLIENT, BPF_COUNT_TOMBSTONE);
    ck_assert(!bench_answer(&(struct bpf_answer){0}));
}
END_TEST

/* PLANE-LIFE-080: the first one of each end, and only that. */
START_TEST(the_first_datagram_is_told)
{
    bench_relay(_i == 1);
    for (int i = 0; i < 3; i++) {
        carry(BPF_CLIENT, 0);
        if (i == 0)
            expect_event(BPF_CLIENT, BPF_SEEN_PACKET);
        carry(BPF_TARGET, 0);
        if (i == 0)
            expect_event(BPF_TARGET, BPF_SEEN_PACKET);
    }
    expect_no_event();
}
END_TEST

/* PLANE-LIFE-100. The ring is never read here. */
START_TEST(hints_that_are_lost_are_counted)
{
    struct packet_spec in;
    struct frame frame;

    bench_relay(false);
    in = bench_packet(BPF_CLIENT);
    craft(&frame, &in);
    for (unsigned i = 0; bench.globals->events_lost == 0; i++) {
        ck_assert_uint_lt(i, BPF_EVENTS_OCTETS);
        bench.slot->from[BPF_CLIENT].seen = 0;
        ck_assert_int_eq(bench_run_from(&frame, BPF_CLIENT).verdict, SENT);
        ck_assert_uint_eq(seen(BPF_CLIENT), BPF_SEEN_PACKET); /* the flag is the truth */
    }
    ck_assert_uint_eq(bench.globals->strangers_lost, 0);
}
END_TEST

static Suite *tcp_suite(void)
{
    Suite *suite = suite_create("bpf_tcp");
    TCase *tcp = bench_case("tcp", IPPROTO_TCP), *udp = bench_case("udp", IPPROTO_UDP);

    tcase_add_loop_test(tcp, nonsense_is_refused, 0, 2);
    tcase_add_loop_test(tcp, the_clients_syn_comes_first, 0, 2);
    tcase_add_loop_test(tcp, the_target_opens_nothing, 0, 2);
    tcase_add_loop_test(tcp, a_refusal_is_carried, 0, 2);
    tcase_add_loop_test(tcp, a_reset_that_is_guessed_ends_nothing, 0, 4);
    tcase_add_loop_test(tcp, a_fin_that_is_guessed_is_never_acknowledged, 0, 2);
    tcase_add_loop_test(tcp, one_association_is_one_connection, 0, 2);
    tcase_add_loop_test(tcp, the_life_of_a_connection_is_noted, 0, 2);
    tcase_add_loop_test(tcp, a_fin_is_acknowledged_by_its_number, 0, 4);
    tcase_add_loop_test(tcp, both_ends_may_end, 0, 2);
    tcase_add_loop_test(tcp, half_closed_connections_go_on, 0, 2);
    tcase_add_loop_test(tcp, a_tombstone_answers, 0, 2);
    tcase_add_loop_test(tcp, a_tombstone_does_not_answer_the_wrong_interface, 0, 2);
    suite_add_tcase(suite, tcp);
    tcase_add_loop_test(udp, a_tombstone_of_udp_is_silent, 0, 2);
    tcase_add_loop_test(udp, the_first_datagram_is_told, 0, 2);
    tcase_add_test(udp, hints_that_are_lost_are_counted);
    suite_add_tcase(suite, udp);
    return suite;
}

int main(void)
{
    return bench_main(tcp_suite);
}
