#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "relayd/plane/bpf/answer_packet.h"
#include "tests/harness/craft.h"
#include "tests/harness/packet_check.h"

static struct endpoint endpoint_of(const char *text, uint16_t port)
{
    struct endpoint endpoint = {.port = port};

    ck_assert_int_eq(ip_address_parse(text, &endpoint.address), 0);
    return endpoint;
}

/* A packet of the client to BND. */
static struct craft packet_of(bool v6, uint8_t protocol)
{
    return (struct craft){
        .source = endpoint_of(v6 ? "fd77:1::2" : "10.77.1.2", 40000),
        .destination = endpoint_of(v6 ? "fd77:1::1" : "10.77.1.1", 20001),
        .protocol = protocol,
        .ttl = 1,
        .tos = 0x4b, /* with ECN */
        .id = 0x1234,
        .tcp_flags = CRAFT_ACK | CRAFT_PSH,
        .sequence = 0xfffffff0,
        .acknowledgment = 0x89abcdef,
        .length = 20,
    };
}

/* What the program records of it. */
static struct bpf_answer record_of(uint32_t kind, const struct craft *packet)
{
    static uint8_t built[CRAFT_MAX];
    struct bpf_answer record = {.kind = kind, .interface = 7, .mtu = 1400};
    const size_t length = craft_build(packet, built, sizeof(built));

    record.length = (uint32_t)(length < BPF_ANSWER_HEAD ? length : BPF_ANSWER_HEAD);
    record.payload = (uint32_t)packet->length;
    memcpy(record.head, built, record.length);
    return record;
}

static int make(uint32_t kind, const struct craft *packet, struct answer_packet *out)
{
    const struct bpf_answer record = record_of(kind, packet);

    return answer_packet_make(&record, out);
}

static uint32_t read32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* The answer is a valid packet the other way round; returns where its transport begins. */
static const uint8_t *check_frame(const struct craft *packet, const struct answer_packet *answer,
                                  uint8_t protocol)
{
    const bool v6 = packet->source.address.family == IP_V6;
    const size_t size = v6 ? 16 : 4, at = v6 ? 8 : 12;

    ck_assert_ptr_null(packet_problem(answer->data, answer->length));
    ck_assert(ip_address_equal(&answer->source, &packet->destination.address));
    ck_assert(ip_address_equal(&answer->destination, &packet->source.address));
    ck_assert_mem_eq(answer->data + at, packet->destination.address.bytes, size);
    ck_assert_mem_eq(answer->data + at + size, packet->source.address.bytes, size);
    ck_assert_uint_eq(answer->data[v6 ? 6 : 9], protocol);
    ck_assert_uint_eq(answer->data[v6 ? 7 : 8], 64);
    return answer->data + (v6 ? 40 : 20);
}

/* Loop index: IPv4 and IPv6 of UDP and TCP. */
START_TEST(errors_quote_the_packet) /* PLANE-ANS-010 */
{
    const bool v6 = _i % 2 == 1;
    struct craft packet = packet_of(v6, _i < 2 ? IPPROTO_UDP : IPPROTO_TCP);
    struct answer_packet answer;

    for (packet.length = 0; packet.length < 2000; packet.length += 37) {
        const struct bpf_answer expired = record_of(BPF_ANSWER_TIME_EXCEEDED, &packet);
        ck_assert_int_eq(answer_packet_make(&expired, &answer), 0);
        const uint8_t *icmp = check_frame(&packet, &answer, v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
        ck_assert_uint_eq(icmp[0], v6 ? 3 : 11);
        ck_assert_uint_eq(icmp[1], 0);
        ck_assert_uint_eq(read32(icmp + 4), 0);
        ck_assert_uint_eq(answer.length, (v6 ? 40u : 20u) + 8u + expired.length);
        ck_assert_mem_eq(icmp + 8, expired.head, expired.length);
        if (!v6)
            ck_assert_uint_eq(answer.data[1], 0xc8); /* TOS of the packet, precedence 6, no ECN */

        const struct bpf_answer big = record_of(BPF_ANSWER_TOO_BIG, &packet);
        ck_assert_int_eq(answer_packet_make(&big, &answer), 0);
        icmp = check_frame(&packet, &answer, v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
        ck_assert_uint_eq(icmp[0], v6 ? 2 : 3);
        ck_assert_uint_eq(icmp[1], v6 ? 0 : 4);
        ck_assert_uint_eq(read32(icmp + 4), 1400);
        ck_assert_mem_eq(icmp + 8, big.head, big.length);
    }
}
END_TEST

START_TEST(the_mtu_is_one_that_can_be_told) /* PLANE-ANS-020 */
{
    static const uint32_t rows[][3] = {
        /* of the way out, as IPv4 tells it, as IPv6 does */
        {68, 68, 1280},        {1279, 1279, 1280},    {1280, 1280, 1280},       {9000, 9000, 9000},
        {65535, 65535, 65535}, {65536, 65535, 65536}, {1 << 20, 65535, 1 << 20}};
    struct answer_packet answer;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (unsigned v6 = 0; v6 < 2; v6++) {
            const struct craft packet = packet_of(v6, IPPROTO_TCP);
            struct bpf_answer record = record_of(BPF_ANSWER_TOO_BIG, &packet);
            record.mtu = rows[i][0];
            ck_assert_int_eq(answer_packet_make(&record, &answer), 0);
            ck_assert_uint_eq(read32(answer.data + (v6 ? 44 : 24)), rows[i][1 + v6]);
            record.mtu = 67;
            ck_assert_int_eq(answer_packet_make(&record, &answer), -EBADMSG);
        }
    }
}
END_TEST

/* RFC 9293, sections 3.5.2 and 3.10.7.1. */
START_TEST(resets_have_the_right_numbers) /* PLANE-ANS-030 */
{
    static const struct {
        uint8_t flags;
        uint32_t payload, sequence, acknowledgment;
        uint8_t answered;
    } rows[] = {
        {CRAFT_ACK, 0, 0x89abcdef, 0, CRAFT_RST},
        {CRAFT_ACK | CRAFT_PSH, 1448, 0x89abcdef, 0, CRAFT_RST},
        {CRAFT_ACK | CRAFT_FIN, 10, 0x89abcdef, 0, CRAFT_RST},
        {CRAFT_ACK | CRAFT_SYN, 0, 0x89abcdef, 0, CRAFT_RST},
        {CRAFT_SYN, 0, 0, 0xfffffff1, CRAFT_RST | CRAFT_ACK},
        {CRAFT_SYN, 100, 0, 0x55, CRAFT_RST | CRAFT_ACK}, /* data with the SYN, and past zero */
        {CRAFT_SYN | CRAFT_FIN, 0, 0, 0xfffffff2, CRAFT_RST | CRAFT_ACK},
        {CRAFT_FIN, 14, 0, 0xffffffff, CRAFT_RST | CRAFT_ACK},
        {0, 65000, 0, 0xfdd8, CRAFT_RST | CRAFT_ACK}, /* a super-packet */
    };

    for (size_t i = 0; i < 2 * sizeof(rows) / sizeof(rows[0]); i++) {
        struct craft packet = packet_of(i % 2 == 1, IPPROTO_TCP);
        struct answer_packet answer;
        packet.tcp_flags = rows[i / 2].flags;
        packet.length = rows[i / 2].payload;
        packet.tcp_options = "\1\1\1\1";
        packet.tcp_options_length = 4;
        ck_assert_int_eq(make(BPF_ANSWER_RESET, &packet, &answer), 0);
        const uint8_t *tcp = check_frame(&packet, &answer, IPPROTO_TCP);
        ck_assert_uint_eq(answer.length, i % 2 == 1 ? 60u : 40u);
        ck_assert_uint_eq(read32(tcp), (uint32_t)20001 << 16 | 40000);
        ck_assert_uint_eq(read32(tcp + 4), rows[i / 2].sequence);
        ck_assert_uint_eq(read32(tcp + 8), rows[i / 2].acknowledgment);
        ck_assert_uint_eq(tcp[13], rows[i / 2].answered);
        ck_assert_uint_eq(tcp[12], 0x50);
        ck_assert_uint_eq(tcp[14] << 8 | tcp[15], 0);
    }
}
END_TEST

START_TEST(what_is_behind_the_packet_is_not_quoted)
{
    for (unsigned v6 = 0; v6 < 2; v6++) {
        struct craft packet = packet_of(v6, IPPROTO_UDP);
        struct answer_packet answer;
        packet.length = 3;
        struct bpf_answer record = record_of(BPF_ANSWER_TIME_EXCEEDED, &packet);
        const uint32_t length = record.length;
        record.length = 60; /* Ethernet's padding */
        ck_assert_int_eq(answer_packet_make(&record, &answer), 0);
        ck_assert_uint_eq(answer.length, (v6 ? 48 : 28) + length);
    }
}
END_TEST

/* Super-packets beyond 64 KiB have no length in their header. */
START_TEST(big_tcp_is_answered)
{
    for (unsigned v6 = 0; v6 < 2; v6++) {
        struct craft packet = packet_of(v6, IPPROTO_TCP);
        struct answer_packet answer;
        for (unsigned udp = 0; udp < 2; udp++) {
            packet.protocol = udp ? IPPROTO_UDP : IPPROTO_TCP;
            struct bpf_answer record = record_of(BPF_ANSWER_TIME_EXCEEDED, &packet);
            uint8_t *head = record.head;
            memset(head + (v6 ? 4 : 2), 0, 2);
            if (!v6) {
                memset(head + 10, 0, 2);
                const uint16_t sum = packet_checksum(0, head, 20);
                head[10] = (uint8_t)(sum >> 8);
                head[11] = (uint8_t)sum;
            }
            ck_assert_int_eq(answer_packet_make(&record, &answer), udp && !v6 ? -EBADMSG : 0);
        }
    }
}
END_TEST

START_TEST(options_and_extension_headers_are_stepped_over)
{
    static const uint8_t nothing[22] = {1, 4};
    struct craft v4 = packet_of(false, IPPROTO_TCP), v6 = packet_of(true, IPPROTO_TCP);
    struct answer_packet answer;

    v4.options = nothing;
    v4.options_length = 22;
    ck_assert_int_eq(make(BPF_ANSWER_RESET, &v4, &answer), 0);
    check_frame(&v4, &answer, IPPROTO_TCP);
    v6.extensions[0] = (struct craft_extension){IPPROTO_HOPOPTS, nothing, 14};
    v6.extensions[1] = (struct craft_extension){IPPROTO_DSTOPTS, nothing, 6};
    v6.extensions[2] = (struct craft_extension){IPPROTO_FRAGMENT, "\0\1\0\0\0\1", 6};
    ck_assert_int_eq(make(BPF_ANSWER_RESET, &v6, &answer), 0);
    check_frame(&v6, &answer, IPPROTO_TCP);
    v6.protocol = IPPROTO_UDP;
    ck_assert_int_eq(make(BPF_ANSWER_TOO_BIG, &v6, &answer), 0);
    check_frame(&v6, &answer, IPPROTO_ICMPV6);
    /* Not the first fragment: what follows is no transport header. */
    v6.extensions[2].body = "\0\x9\0\0\0\1";
    ck_assert_int_eq(make(BPF_ANSWER_TOO_BIG, &v6, &answer), -EBADMSG);
}
END_TEST

START_TEST(a_link_local_sender_is_answered_on_its_link)
{
    struct craft packet = packet_of(true, IPPROTO_UDP);
    struct answer_packet answer;

    packet.source = endpoint_of("fe80::2", 1);
    ck_assert_int_eq(make(BPF_ANSWER_TIME_EXCEEDED, &packet, &answer), 0);
    ck_assert_uint_eq(answer.destination.scope_id, 7);
    ck_assert_uint_eq(answer.source.scope_id, 0);
}
END_TEST

/* For all kinds alike. */
static void check_silence(const struct craft *packet, const char *what)
{
    struct answer_packet answer;

    for (uint32_t kind = BPF_ANSWER_TIME_EXCEEDED; kind <= BPF_ANSWER_RESET; kind++)
        ck_assert_msg(make(kind, packet, &answer) == -EBADMSG, "answered: %s, kind %u", what, kind);
}

START_TEST(addresses_that_are_no_hosts_are_not_answered) /* PLANE-ANS-040 */
{
    static const char *const sources[] = {
        "0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "239.1.1.1",      "240.0.0.1",
        "::",      "::1",     "ff02::1",   "ff0e::1",   "255.255.255.255"};

    for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++) {
        struct craft packet = packet_of(strchr(sources[i], ':') != NULL, IPPROTO_TCP);
        const struct craft good = packet;
        packet.source = endpoint_of(sources[i], 1);
        check_silence(&packet, sources[i]);
        packet = good;
        packet.destination = endpoint_of(sources[i], 1);
        check_silence(&packet, sources[i]);
    }
    for (unsigned v6 = 0; v6 < 2; v6++) {
        struct craft land = packet_of(v6, IPPROTO_TCP);
        land.source = land.destination;
        check_silence(&land, "land");
    }
}
END_TEST

START_TEST(what_no_host_answers_is_not_answered) /* PLANE-ANS-040 */
{
    for (unsigned v6 = 0; v6 < 2; v6++) {
        struct craft packet = packet_of(v6, IPPROTO_TCP);
        packet.tcp_flags = CRAFT_RST | CRAFT_ACK;
        check_silence(&packet, "RST");
        packet = packet_of(v6, v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
        packet.icmp_type = v6 ? 1 : 3;
        check_silence(&packet, "ICMP error");
        packet = packet_of(v6, IPPROTO_TCP);
        packet.tcp_data_words = 4;
        check_silence(&packet, "data offset");
        packet = packet_of(v6, IPPROTO_UDP);
        packet.udp_length = 7;
        check_silence(&packet, "UDP length");
        packet = packet_of(v6, IPPROTO_NONE);
        check_silence(&packet, "no next header");
    }
    struct craft v4 = packet_of(false, IPPROTO_UDP);
    v4.fragment = 1;
    check_silence(&v4, "fragment");
    v4 = packet_of(false, IPPROTO_TCP);
    v4.wrong = CRAFT_BAD_HEADER;
    check_silence(&v4, "header checksum");
    v4 = packet_of(false, IPPROTO_TCP);
    v4.header_words = 4;
    check_silence(&v4, "header length");
    v4.header_words = 15; /* behind the end of the packet */
    v4.length = 0;
    check_silence(&v4, "header length");
    v4 = packet_of(false, IPPROTO_TCP);
    v4.total_length = 19;
    check_silence(&v4, "total length");
    v4 = packet_of(false, IPPROTO_UDP);
    struct answer_packet answer;
    ck_assert_int_eq(make(BPF_ANSWER_RESET, &v4, &answer), -EBADMSG);
    ck_assert_int_eq(make(0, &v4, &answer), -EBADMSG);
    ck_assert_int_eq(make(BPF_ANSWER_RESET + 1, &v4, &answer), -EBADMSG);
}
END_TEST

/* Cut anywhere, a record is answered when the transport header is whole, and not before. */
START_TEST(short_records_are_not_answered) /* PLANE-ANS-040 */
{
    static const uint8_t nothing[14] = {1, 12}, zeroes[40];

    for (int v6 = 0; v6 < 2; v6++) {
        for (uint32_t kind = BPF_ANSWER_TIME_EXCEEDED; kind <= BPF_ANSWER_RESET; kind++) {
            struct craft packet = packet_of(v6, IPPROTO_TCP);
            struct answer_packet answer;
            packet.extensions[0] = (struct craft_extension){IPPROTO_HOPOPTS, nothing, 14};
            packet.options = zeroes; /* what is cut off them does not change the checksum */
            packet.options_length = sizeof(zeroes);
            struct bpf_answer record = record_of(kind, &packet);
            const uint32_t whole = v6 ? 40 + 16 + 20 : 20 + 40 + 20;
            memset(record.head + record.length, 0, sizeof(record.head) - record.length);
            for (uint32_t length = 0; length <= BPF_ANSWER_HEAD; length++) {
                record.length = length;
                ck_assert_int_eq(answer_packet_make(&record, &answer),
                                 length < whole ? -EBADMSG : 0);
            }
            record.length = BPF_ANSWER_HEAD + 1;
            ck_assert_int_eq(answer_packet_make(&record, &answer), -EBADMSG);
            record.length = UINT32_MAX;
            ck_assert_int_eq(answer_packet_make(&record, &answer), -EBADMSG);
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("answer_packet");
    TCase *tests = tcase_create("answer_packet");
    SRunner *runner = srunner_create(suite);

    tcase_add_loop_test(tests, errors_quote_the_packet, 0, 4);
    tcase_add_test(tests, the_mtu_is_one_that_can_be_told);
    tcase_add_test(tests, resets_have_the_right_numbers);
    tcase_add_test(tests, what_is_behind_the_packet_is_not_quoted);
    tcase_add_test(tests, big_tcp_is_answered);
    tcase_add_test(tests, options_and_extension_headers_are_stepped_over);
    tcase_add_test(tests, a_link_local_sender_is_answered_on_its_link);
    tcase_add_test(tests, addresses_that_are_no_hosts_are_not_answered);
    tcase_add_test(tests, what_no_host_answers_is_not_answered);
    tcase_add_test(tests, short_records_are_not_answered);
    suite_add_tcase(suite, tests);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
