/*
 * Packets of a relay with anything changed in them, 100 000 of each protocol: whatever becomes of
 * them, none leaves with addresses that are not the relay's, and what the program was not to touch
 * is as it was. proto/PLANE.md
 */
#include <check.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "relayd/plane/bpf/slot.h"
#include "tests/unit/relayd/bpf/program_fixture.h"
#include "tests/unit/relayd/bpf/suite.h"

#define MUTATIONS 50000 /* of each family */

static uint64_t state;

/* xorshift64*: the same numbers every time. */
static uint32_t draw(uint32_t below)
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (uint32_t)((state * 0x2545f4914f6cdd1dull) >> 33) % below;
}

/* A packet of either end, or an ICMP error about one. */
static void craft_any(struct frame *frame)
{
    static const uint8_t flags[] = {FLAG_ACK, FLAG_SYN, FLAG_ACK | FLAG_PSH, FLAG_FIN | FLAG_ACK};
    static const uint8_t options[8] = {0, 0, 1, 4, 1, 1, 1, 1};
    const enum bpf_end from = draw(2) == 0 ? BPF_CLIENT : BPF_TARGET;
    struct packet_spec spec = bench_packet(from);
    struct frame quoted;

    spec.payload = draw(4) == 0 ? draw(1400) : draw(64);
    spec.flags = flags[draw(4)];
    spec.tcp_options = draw(3) * 4;
    spec.no_checksum = draw(16) == 0;
    spec.padding = draw(8) == 0 ? draw(100) : 0;
    if (draw(10) == 0) {
        spec.between = options;
        spec.between_length = 8;
        spec.between_next = IPPROTO_DSTOPTS;
    }
    if (draw(10) == 0)
        spec.fragment = draw(2) == 0 ? 0x2000 : 0x2008;
    craft(frame, &spec);
    if (draw(3) != 0)
        return;
    const struct packet_spec left = bench_translated(&spec, from);
    craft(&quoted, &left);
    struct error_spec error = {
        .source = (from == BPF_CLIENT ? bench.target : bench.client).address,
        .destination = left.source.address,
        .type = (uint8_t)(bench.v6 ? 1 + draw(4) : 3),
        .code = (uint8_t)draw(5),
        .rest = 1400,
        .quoted = frame_ip(&quoted),
        .quoted_length = draw((uint32_t)(quoted.length - LINK_HEADER) + 1),
    };
    memcpy(error.destination_mac, bench_packet(slot_other(from)).destination_mac, 6);
    craft_error(frame, &error);
}

static void mutate(struct frame *frame)
{
    for (uint32_t changes = draw(4); changes > 0; changes--) {
        const uint32_t headers = frame->length < 90 ? (uint32_t)frame->length : 90;
        const uint32_t at = draw(5) == 0 ? draw((uint32_t)frame->length)
                                         : LINK_HEADER + draw(headers - LINK_HEADER);
        frame->octets[at] =
            (uint8_t)(draw(2) == 0 ? draw(256) : frame->octets[at] ^ (1u << draw(8)));
    }
    if (draw(8) == 0 && frame->length > LINK_HEADER + 40)
        frame->length = LINK_HEADER + 40 + draw((uint32_t)frame->length - LINK_HEADER - 40);
    if (draw(2) == 0)
        frame_mend(frame);
}

static bool is_from_to(const uint8_t *ip, const struct endpoint *from, const struct endpoint *to,
                       bool ports)
{
    const size_t size = ip_address_size(&from->address), header = size == 16 ? 40 : 20;
    const uint8_t *address = ip + (size == 16 ? 8 : 12), *l4 = ip + header;

    return memcmp(address, from->address.bytes, size) == 0 &&
           memcmp(address + size, to->address.bytes, size) == 0 &&
           (!ports || ((l4[0] << 8 | l4[1]) == from->port && (l4[2] << 8 | l4[3]) == to->port));
}

/* What left has a pair of the relay's addresses, and all behind the headers is as it was. */
static void judge_sent(const struct frame *in, const struct frame *out)
{
    const uint8_t *ip = frame_ip(out);
    const uint8_t protocol = bench.v6 ? ip[6] : ip[9];
    const bool ports = protocol == bench.protocol;
    const size_t untouched = LINK_HEADER + (bench.v6 ? 40u : 20u) * 2 + 8 + 20;

    ck_assert(ports || protocol == (bench.v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP));
    ck_assert_uint_eq(ip[0] >> 4, bench.v6 ? 6 : 4);
    ck_assert_msg(is_from_to(ip, &bench.egress, &bench.target, ports) ||
                      is_from_to(ip, &bench.bound, &bench.client, ports),
                  "a packet left with foreign addresses");
    ck_assert_uint_le(out->length, in->length);
    if (out->length > untouched)
        ck_assert_mem_eq(out->octets + untouched, in->octets + untouched, out->length - untouched);
    if (frame_fault(in) == NULL)
        ck_assert_msg(frame_fault(out) == NULL, "%s", frame_fault(out));
}

/* PLANE-SPOOF-060, PLANE-BAD-020, PLANE-CSUM-010 */
START_TEST(nothing_leaves_with_foreign_addresses)
{
    unsigned verdicts[3] = {0};

    bench_relay(_i == 1);
    state = 0x9e3779b97f4a7c15ull + (uint64_t)_i + bench.protocol;
    for (int i = 0; i < MUTATIONS; i++) {
        const enum bpf_end end = draw(2) == 0 ? BPF_CLIENT : BPF_TARGET;
        struct frame in;
        bench_establish();
        bench.slot->from[BPF_CLIENT].other_fin = bench.slot->from[BPF_TARGET].other_fin = 0;
        craft_any(&in);
        mutate(&in);
        memcpy(in.octets, bench_packet(end).destination_mac, 6);
        const struct outcome outcome = bench_run_from(&in, end);
        ck_assert(outcome.verdict == SENT || outcome.verdict == DROPPED ||
                  outcome.verdict == PASSED);
        verdicts[outcome.verdict == SENT ? 0 : outcome.verdict == DROPPED ? 1 : 2]++;
        if (outcome.verdict == SENT)
            judge_sent(&in, &outcome.frame);
        else if (outcome.verdict == PASSED)
            ck_assert_mem_eq(outcome.frame.octets, in.octets, in.length);
    }
    /* A test that sends nothing would show nothing. */
    for (int i = 0; i < 3; i++)
        ck_assert_uint_gt(verdicts[i], MUTATIONS / 100);
}
END_TEST

static Suite *mutations_suite(void)
{
    Suite *suite = suite_create("bpf_mutations");

    for (int tcp = 0; tcp < 2; tcp++) {
        TCase *tests = bench_case(tcp ? "tcp" : "udp", tcp ? IPPROTO_TCP : IPPROTO_UDP);
        tcase_add_loop_test(tests, nothing_leaves_with_foreign_addresses, 0, 2);
        suite_add_tcase(suite, tests);
    }
    return suite;
}

int main(void)
{
    return bench_main(mutations_suite);
}
