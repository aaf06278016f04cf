/*
 * ICMP errors about packets that a relay has sent: they reach the end that sent them first, as if
 * there were no relay, but for the source. proto/PLANE.md
 */
#include <check.h>
#include <netinet/in.h>
#include <string.h>

#include "relayd/plane/bpf/slot.h"
#include "tests/unit/relayd/bpf/program_fixture.h"
#include "tests/unit/relayd/bpf/suite.h"

/* What a router has to say. Of IPv4 and IPv6. */
struct kind {
    uint8_t type[2], code[2];
    uint32_t rest;
    uint32_t seen; /* that is noted of the direction */
};
static const struct kind unreachable = {{3, 1}, {3, 4}, 0, BPF_SEEN_UNREACHABLE};
static const struct kind too_big = {{3, 2}, {4, 0}, 1400, 0};
static const struct kind time_exceeded = {{11, 3}, {0, 0}, 0, 0};
static const struct kind parameter_problem = {{12, 4}, {0, 0}, 40, 0};

static struct ip_address router(void)
{
    return endpoint_of(bench.v6 ? "[2001:db8:86dd:99::7]:1" : "8.0.77.7:1").address;
}

/* The packet of `from` that the error is about: as the end sent it, or as the relay did. */
static struct packet_spec original(enum bpf_end from)
{
    struct packet_spec spec = bench_packet(from);

    spec.payload = 700;
    spec.ttl = 9;
    return spec;
}

/* A case: an error about a packet that `from` has sent; it comes from the other end's side. */
struct situation {
    enum bpf_end from;
    const struct kind *kind;
    struct packet_spec quoted; /* as the relay sent it */
    size_t length;             /* of the quoted packet that is there; 0: all of it */
    uint8_t ttl;
};

static struct situation situation(enum bpf_end from, const struct kind *kind)
{
    const struct packet_spec spec = original(from);
    const struct situation result = {
        .from = from, .kind = kind, .quoted = bench_translated(&spec, from)};

    return result;
}

static size_t quoted_length(const struct situation *at, const struct frame *quoted)
{
    return at->length == 0 || at->length > quoted->length - LINK_HEADER
               ? quoted->length - LINK_HEADER
               : at->length;
}

/* The error as it comes in. */
static void craft_in(struct frame *frame, const struct situation *at)
{
    const struct packet_spec link = bench_packet(slot_other(at->from));
    struct frame quoted;

    craft(&quoted, &at->quoted);
    struct error_spec spec = {
        .source = router(),
        .destination = at->quoted.source.address,
        .ttl = at->ttl,
        .type = at->kind->type[bench.v6],
        .code = at->kind->code[bench.v6],
        .rest = at->kind->rest,
        .quoted = frame_ip(&quoted),
        .quoted_length = quoted_length(at, &quoted),
    };
    memcpy(spec.destination_mac, link.destination_mac, 6);
    memcpy(spec.source_mac, link.source_mac, 6);
    craft_error(frame, &spec);
}

/* And as it has to go out: about what the end has sent, from the endpoint that it sent it to. The
 * link-layer header is left to the kernel. */
static void craft_out(struct frame *frame, const struct situation *at, const struct frame *in)
{
    struct packet_spec sent = at->quoted;
    struct frame quoted;

    sent.source = at->from == BPF_CLIENT ? bench.client : bench.target;
    sent.destination = at->from == BPF_CLIENT ? bench.bound : bench.egress;
    craft(&quoted, &sent);
    const struct error_spec spec = {
        .source = sent.destination.address,
        .destination = sent.source.address,
        .ttl = (uint8_t)((at->ttl == 0 ? 64 : at->ttl) - 1),
        .type = at->kind->type[bench.v6],
        .code = at->kind->code[bench.v6],
        .rest = at->kind->rest,
        .quoted = frame_ip(&quoted),
        .quoted_length = quoted_length(at, &quoted),
    };
    craft_error(frame, &spec);
    memcpy(frame->octets, in->octets, LINK_HEADER);
}

static struct outcome run_error(const struct situation *at)
{
    struct frame in;

    craft_in(&in, at);
    return bench_run_from(&in, slot_other(at->from));
}

static void expect_translated(const struct situation *at)
{
    struct frame in, expected;

    craft_in(&in, at);
    craft_out(&expected, at, &in);
    const struct outcome outcome = bench_run_from(&in, slot_other(at->from));
    ck_assert_int_eq(outcome.verdict, SENT);
    ck_assert_uint_eq(outcome.frame.length, expected.length);
    for (size_t i = 0; i < expected.length; i++)
        ck_assert_msg(outcome.frame.octets[i] == expected.octets[i],
                      "octet %zu is %02x, expected %02x (quoted: %zu octets)", i,
                      outcome.frame.octets[i], expected.octets[i], at->length);
    bench_expect_count(BPF_COUNT_ICMP);
    ck_assert_uint_eq(bench.slot->from[slot_other(at->from)].packets, 0);
}

static void expect_refused(const struct situation *at, enum bpf_count why)
{
    ck_assert_int_eq(run_error(at).verdict, DROPPED);
    bench_expect_count(why);
    ck_assert(!bench_answer(&(struct bpf_answer){0})); /* an error is not answered by another */
}

/* PLANE-ICMP-010, PLANE-ICMP-020 */
START_TEST(errors_reach_the_end_that_sent_the_packet)
{
    const struct kind *kinds[] = {&unreachable, &too_big, &time_exceeded, &parameter_problem};

    for (int i = 0; i < 8; i++) {
        const enum bpf_end from = i % 2 == 0 ? BPF_CLIENT : BPF_TARGET;
        struct situation at;
        bench_relay(_i == 1);
        bench_establish();
        bench.slot->from[from].seen = 0;
        at = situation(from, kinds[i / 2]);
        expect_translated(&at);
        ck_assert_uint_eq(bench.slot->from[from].seen, at.kind->seen);
    }
}
END_TEST

/* PLANE-ICMP-020. RFC 792 wants eight octets of L4, routers send more; a TCP checksum may be there
 * or not. */
START_TEST(quoted_packets_may_be_cut_anywhere)
{
    const size_t ip = _i == 1 ? 40 : 20;
    struct situation at;

    bench_relay(_i == 1);
    for (size_t more = 8; more <= 60; more++) {
        if (bench.protocol == IPPROTO_TCP && more == 17)
            continue; /* half a checksum: left as it is, and of no use to anybody */
        at = situation(BPF_CLIENT, &too_big);
        at.length = ip + more;
        expect_translated(&at);
    }
}
END_TEST

/* PLANE-ICMP-020 */
START_TEST(a_quoted_udp_checksum_of_zero_stays)
{
    struct situation at;

    bench_relay(_i == 1);
    at = situation(BPF_TARGET, &unreachable);
    at.quoted.no_checksum = true;
    expect_translated(&at);
}
END_TEST

/* PLANE-ICMP-020. Whatever the sums are: 65536 payload words, cut off before them or not. */
START_TEST(every_quoted_checksum_is_changed_correctly)
{
    struct situation at;
    struct frame quoted, in;

    bench_relay(_i == 1);
    at = situation(BPF_CLIENT, &too_big);
    at.quoted.payload = 2;
    craft_in(&in, &at);
    craft(&quoted, &at.quoted);
    for (uint32_t value = 0; value <= 0xffff; value++) {
        uint8_t *word = quoted.octets + quoted.length - 2;
        word[0] = (uint8_t)(value >> 8);
        word[1] = (uint8_t)value;
        frame_mend(&quoted);
        memcpy(in.octets + in.length - (quoted.length - LINK_HEADER), frame_ip(&quoted),
               quoted.length - LINK_HEADER);
        frame_mend(&in);
        const struct outcome outcome = bench_run_from(&in, BPF_TARGET);
        ck_assert_int_eq(outcome.verdict, SENT);
        ck_assert_msg(frame_fault(&outcome.frame) == NULL, "payload %04x: %s", value,
                      frame_fault(&outcome.frame));
        struct frame inner = {.length = quoted.length};
        memcpy(inner.octets, quoted.octets, LINK_HEADER);
        memcpy(inner.octets + LINK_HEADER,
               outcome.frame.octets + in.length - (quoted.length - LINK_HEADER),
               quoted.length - LINK_HEADER);
        ck_assert_msg(frame_fault(&inner) == NULL, "payload %04x, quoted: %s", value,
                      frame_fault(&inner));
    }
}
END_TEST

/* PLANE-ICMP-030 */
START_TEST(unreachable_is_told_once)
{
    struct bpf_event event;
    struct situation at;

    bench_relay(_i == 1);
    at = situation(BPF_CLIENT, &unreachable);
    for (int i = 0; i < 3; i++)
        expect_translated(&at);
    ck_assert(bench_event(&event));
    ck_assert_uint_eq(event.end, BPF_CLIENT);
    ck_assert_uint_eq(event.seen, BPF_SEEN_UNREACHABLE);
    ck_assert(!bench_event(&event));
}
END_TEST

/* PLANE-ICMP-040 */
START_TEST(errors_from_the_wrong_interface_are_refused)
{
    const struct situation at = {0};
    struct situation error = at;
    struct frame in;

    bench_relay(_i == 1);
    error = situation(BPF_CLIENT, &unreachable);
    craft_in(&in, &error);
    memcpy(in.octets, bench_packet(BPF_CLIENT).destination_mac, 6);
    ck_assert_int_eq(bench_run_from(&in, BPF_CLIENT).verdict, DROPPED);
    bench_expect_count(BPF_COUNT_SPOOFED);
    ck_assert_uint_eq(bench.slot->from[BPF_CLIENT].seen, 0);
}
END_TEST

/* PLANE-ICMP-040 */
START_TEST(errors_of_relays_that_have_gone_are_refused)
{
    struct situation at;

    bench_relay(_i == 1);
    at = situation(BPF_CLIENT, &unreachable);
    slot_set_state(bench.slot, BPF_SLOT_FREE);
    expect_refused(&at, BPF_COUNT_CLOSED);
    slot_set_state(bench.slot, BPF_SLOT_TOMBSTONE);
    expect_refused(&at, BPF_COUNT_TOMBSTONE);
    slot_set_state(bench.slot, BPF_SLOT_OPEN);
    bench.globals->peers[BENCH_PEER]++;
    expect_refused(&at, BPF_COUNT_STALE);
    bench.globals->peers[BENCH_PEER]--;
    bench.slot->generation++;
    expect_refused(&at, BPF_COUNT_STALE);
}
END_TEST

/* PLANE-ICMP-050 */
START_TEST(errors_about_flows_that_do_not_exist_are_refused)
{
    struct situation at;

    bench_relay(_i == 1);
    at = situation(BPF_CLIENT, &unreachable);
    at.quoted.destination.port++;
    expect_refused(&at, BPF_COUNT_ICMP_UNKNOWN);
    at = situation(BPF_CLIENT, &unreachable);
    at.quoted.destination.address.bytes[3] ^= 1;
    expect_refused(&at, BPF_COUNT_ICMP_UNKNOWN);
}
END_TEST

static void expect_passed(const struct situation *at)
{
    struct frame in;

    craft_in(&in, at);
    const struct outcome outcome = bench_run_from(&in, slot_other(at->from));
    ck_assert_int_eq(outcome.verdict, PASSED);
    ck_assert_mem_eq(outcome.frame.octets, in.octets, in.length);
    bench_expect_no_count();
}

/* PLANE-ICMP-060: what is said to the host about its own packets, and all that is no error. */
START_TEST(the_hosts_own_errors_pass)
{
    const struct kind others[] = {
        {{8, 128}, {0, 0}, 1, 0}, {{0, 129}, {0, 0}, 1, 0}, {{5, 137}, {1, 0}, 1, 0},
        {{4, 135}, {0, 0}, 1, 0}, {{13, 0}, {0, 0}, 1, 0},
    };
    struct situation at;

    bench_relay(_i == 1);
    at = situation(BPF_CLIENT, &unreachable);
    at.quoted.source.port++;
    expect_passed(&at);
    at = situation(BPF_CLIENT, &unreachable);
    at.quoted.protocol = bench.protocol == IPPROTO_TCP ? IPPROTO_UDP : IPPROTO_TCP;
    expect_passed(&at);
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        at = situation(BPF_CLIENT, &others[i]);
        expect_passed(&at);
    }
}
END_TEST

/* PLANE-ICMP-060. Whoever sent the quoted packet is not whom the error is sent to. */
START_TEST(an_error_to_another_address_passes)
{
    struct situation at;
    struct frame in;

    bench_relay(_i == 1);
    at = situation(BPF_CLIENT, &unreachable);
    craft_in(&in, &at);
    in.octets[LINK_HEADER + (bench.v6 ? 39 : 19)] ^= 1;
    frame_mend(&in);
    ck_assert_int_eq(bench_run_from(&in, BPF_TARGET).verdict, PASSED);
    bench_expect_no_count();
}
END_TEST

/* PLANE-ICMP-070. A quoted fragment, extension header or option is of relayd's sockets, if it is
 * ours at all: the host has to know. */
START_TEST(errors_about_fragments_are_the_hosts)
{
    static const uint8_t fragment[8] = {[3] = 1, [7] = 9}, nothing[4] = {1, 1, 1, 0};
    struct situation at;

    bench_relay(_i == 1);
    at = situation(BPF_CLIENT, &too_big);
    at.quoted.between = bench.v6 ? fragment : nothing;
    at.quoted.between_length = bench.v6 ? 8 : 4;
    at.quoted.between_next = IPPROTO_FRAGMENT;
    expect_passed(&at);
    if (bench.v6)
        return;
    at = situation(BPF_CLIENT, &too_big);
    at.quoted.fragment = 0x2000;
    expect_passed(&at);
    at.quoted.fragment = 0x0010;
    expect_passed(&at);
}
END_TEST

/* PLANE-ICMP-080 */
START_TEST(errors_that_quote_too_little_are_refused)
{
    const size_t ip = _i == 1 ? 40 : 20;
    struct situation at;

    bench_relay(_i == 1);
    at = situation(BPF_CLIENT, &unreachable);
    for (size_t more = 0; more < 8; more++) {
        at.length = ip + more;
        expect_refused(&at, BPF_COUNT_ICMP_MALFORMED);
    }
}
END_TEST

/* PLANE-ICMP-080: the outer length is a lie. */
START_TEST(errors_that_are_cut_short_are_refused)
{
    struct situation at;
    struct frame in;

    bench_relay(_i == 1);
    at = situation(BPF_CLIENT, &unreachable);
    craft_in(&in, &at);
    in.length--;
    ck_assert_int_eq(bench_run_from(&in, BPF_TARGET).verdict, DROPPED);
    bench_expect_count(BPF_COUNT_ICMP_MALFORMED);
}
END_TEST

/* PLANE-TTL-020. Nor is there an answer to an answer. */
START_TEST(an_error_needs_ttl_and_room_too)
{
    struct situation at;

    bench_relay(_i == 1);
    at = situation(BPF_CLIENT, &unreachable);
    at.ttl = 1;
    expect_refused(&at, BPF_COUNT_TTL);
    at.ttl = 2;
    expect_translated(&at);
    bench.hops[1 + BPF_CLIENT].mtu = 500;
    expect_refused(&at, BPF_COUNT_TOO_BIG);
    bench.hops[1 + BPF_CLIENT].state = BPF_HOP_DOWN;
    expect_refused(&at, BPF_COUNT_NO_WAY);
}
END_TEST

static void add_tests(Suite *suite, const char *name, int protocol)
{
    TCase *tests = bench_case(name, protocol);

    tcase_add_loop_test(tests, errors_reach_the_end_that_sent_the_packet, 0, 2);
    tcase_add_loop_test(tests, quoted_packets_may_be_cut_anywhere, 0, 2);
    tcase_add_loop_test(tests, every_quoted_checksum_is_changed_correctly, 0, 2);
    tcase_add_loop_test(tests, unreachable_is_told_once, 0, 2);
    tcase_add_loop_test(tests, errors_from_the_wrong_interface_are_refused, 0, 2);
    tcase_add_loop_test(tests, errors_of_relays_that_have_gone_are_refused, 0, 2);
    tcase_add_loop_test(tests, errors_about_flows_that_do_not_exist_are_refused, 0, 2);
    tcase_add_loop_test(tests, the_hosts_own_errors_pass, 0, 2);
    tcase_add_loop_test(tests, an_error_to_another_address_passes, 0, 2);
    tcase_add_loop_test(tests, errors_about_fragments_are_the_hosts, 0, 2);
    tcase_add_loop_test(tests, errors_that_quote_too_little_are_refused, 0, 2);
    tcase_add_loop_test(tests, errors_that_are_cut_short_are_refused, 0, 2);
    tcase_add_loop_test(tests, an_error_needs_ttl_and_room_too, 0, 2);
    if (protocol == IPPROTO_UDP)
        tcase_add_loop_test(tests, a_quoted_udp_checksum_of_zero_stays, 0, 2);
    suite_add_tcase(suite, tests);
}

static Suite *icmp_suite(void)
{
    Suite *suite = suite_create("bpf_icmp");

    add_tests(suite, "udp", IPPROTO_UDP);
    add_tests(suite, "tcp", IPPROTO_TCP);
    return suite;
}

int main(void)
{
    return bench_main(icmp_suite);
}
