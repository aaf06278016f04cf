/*
 * The requirements of N2.md that the codec answers for, one test each, with messages written by
 * hand.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "proto/frame.h"
#include "proto/n2.h"
#include "raw.h"
#include "samples.h"

/* Field numbers of bodies: 10 + type. */
#define BODY(type) (10u + (type))

static uint8_t memory[N2_ARENA_SIZE];
static struct arena arena;
static struct raw body, envelope;
static struct n2_message decoded;
static const char *problem;

static void setup(void)
{
    arena_init(&arena, memory, sizeof(memory));
    body.length = envelope.length = 0;
    problem = "";
}

static enum n2_result decode_envelope(void)
{
    enum n2_result result = n2_decode(envelope.data, envelope.length, &arena, &decoded, &problem);

    envelope.length = body.length = 0;
    return result;
}

/* Wraps what `body` holds. */
static enum n2_result decode_body(enum n2_type type, uint64_t transaction)
{
    if (transaction > 0)
        raw_number(&envelope, 1, transaction);
    if (type == N2_ATTACH_CLIENT)
        raw_number(&envelope, 2, 1);
    raw_bytes(&envelope, BODY(type), body.data, body.length);
    return decode_envelope();
}

#define expect_refused(result, path)                                                               \
    do {                                                                                           \
        ck_assert_int_eq((result), N2_E_FIELD);                                                    \
        ck_assert_str_eq(problem, (path));                                                         \
    } while (0)

/* Both directions judge alike. */
static bool is_valid(const struct n2_message *message)
{
    uint8_t frame[FRAME_HEADER + N2_PAYLOAD_MAX];

    return n2_encode(message, frame, sizeof(frame)) > 0;
}

static void transparent(struct n2_message *message)
{
    sample_n2(N2_OPEN_RELAY, message);
    message->open_relay.kind = N2_KIND_TRANSPARENT;
    message->open_relay.destination_count = 1;
    message->open_relay.destinations[0] = sample_endpoint_v4(80);
    message->open_relay.learn_source_port = false;
}

/* An order with one thing in it to play with. */
static void raw_order(enum n2_kind kind, const void *source, size_t length)
{
    raw_number(&body, 1, 1);
    raw_number(&body, 2, kind);
    raw_number(&body, 3, 17);
    raw_bytes(&body, 4, source, length);
}

START_TEST(exactly_one_body) /* N2-FIELD-020 */
{
    raw_number(&envelope, 1, 0);
    expect_refused(decode_envelope(), "body");
    raw_bytes(&envelope, BODY(N2_DRAIN), NULL, 0);
    raw_bytes(&envelope, BODY(N2_HELLO), NULL, 0);
    expect_refused(decode_envelope(), "body");
    raw_bytes(&envelope, BODY(N2_DRAIN), NULL, 0);
    raw_bytes(&envelope, BODY(N2_DRAIN), NULL, 0);
    expect_refused(decode_envelope(), "body");
    raw_bytes(&envelope, BODY(N2_TYPE_END), NULL, 0); /* of a later minor version */
    expect_refused(decode_envelope(), "body");
    raw_number(&envelope, BODY(N2_DRAIN), 1); /* wrong wire type */
    ck_assert_int_ne(decode_envelope(), N2_OK);
    raw_bytes(&envelope, BODY(N2_DRAIN), NULL, 0);
    ck_assert_int_eq(decode_envelope(), N2_OK);
    ck_assert_int_eq(decoded.type, N2_DRAIN);
}
END_TEST

START_TEST(transactions_of_requests_and_notifications) /* N2-TRANS-010 */
{
    struct n2_message message;

    for (int type = 1; type < N2_TYPE_END; type++) {
        sample_n2((enum n2_type)type, &message);
        bool request = type == N2_OPEN_RELAY || type == N2_RELAY_OPENED ||
                       type == N2_RELAY_FAILED || type == N2_AUTHORIZE || type == N2_AUTHORIZED;

        ck_assert_int_eq(message.transaction != 0, request);
        ck_assert(is_valid(&message));
        message.transaction = request ? 0 : 1;
        ck_assert(!is_valid(&message));
    }
    raw_number(&body, 1, 5);
    expect_refused(decode_body(N2_PING, 1), "transaction");
    raw_order(N2_KIND_UDP_ASSOCIATE, "1234\0\0", 6);
    expect_refused(decode_body(N2_OPEN_RELAY, 0), "transaction");
    raw_order(N2_KIND_UDP_ASSOCIATE, "1234\0\0", 6);
    ck_assert_int_eq(decode_body(N2_OPEN_RELAY, UINT64_MAX), N2_OK);
    ck_assert_uint_eq(decoded.transaction, UINT64_MAX);
}
END_TEST

START_TEST(declared_descriptors) /* N2-FD-010 */
{
    struct n2_message message;

    for (int type = 1; type < N2_TYPE_END; type++) {
        sample_n2((enum n2_type)type, &message);
        ck_assert_uint_eq(message.fd_count, type == N2_ATTACH_CLIENT);
        message.fd_count = !message.fd_count;
        ck_assert(!is_valid(&message));
        message.fd_count = 2;
        ck_assert(!is_valid(&message));
    }
    raw_number(&body, 1, 9);
    raw_bytes(&envelope, BODY(N2_ATTACH_CLIENT), body.data, body.length);
    expect_refused(decode_envelope(), "fd_count");
    for (uint64_t count = 1; count < 1u << 31; count = count * 2 + (count == 1)) {
        raw_number(&envelope, 2, count);
        raw_bytes(&envelope, BODY(N2_DRAIN), NULL, 0);
        expect_refused(decode_envelope(), "fd_count");
    }
    raw_number(&envelope, 2, 257); /* must not be cut to 1 */
    raw_number(&body, 1, 9);
    raw_bytes(&envelope, BODY(N2_ATTACH_CLIENT), body.data, body.length);
    expect_refused(decode_envelope(), "fd_count");
}
END_TEST

START_TEST(text_is_utf8_without_control_characters) /* N2-FIELD-040 */
{
    static const struct {
        const char *text;
        size_t length;
        bool valid;
    } cases[] = {
        {"", 0, true},
        {"plain ~", 7, true},
        {"\xc2\xa0", 2, true},         /* U+00A0, the first after the C1 controls */
        {"\xed\x9f\xbf", 3, true},     /* U+D7FF */
        {"\xee\x80\x80", 3, true},     /* U+E000 */
        {"\xf4\x8f\xbf\xbf", 4, true}, /* U+10FFFF */
        {"a\0b", 3, false},
        {"\0", 1, false},
        {"a\n", 2, false},
        {"\x1b[2J", 4, false},
        {"\x1f", 1, false},
        {" ", 1, true},
        {"\x7f", 1, false},
        {"\xc2\x85", 2, false},         /* U+0085 */
        {"\xc2\x9f", 2, false},         /* U+009F */
        {"\xc0\x80", 2, false},         /* NUL, overlong */
        {"\xc1\xbf", 2, false},         /* overlong */
        {"\xe0\x9f\xbf", 3, false},     /* overlong */
        {"\xf0\x8f\xbf\xbf", 4, false}, /* overlong */
        {"\xed\xa0\x80", 3, false},     /* U+D800 */
        {"\xed\xbf\xbf", 3, false},     /* U+DFFF */
        {"\xf4\x90\x80\x80", 4, false}, /* above U+10FFFF */
        {"\xf8\x88\x80\x80\x80", 5, false},
        {"\x80", 1, false},
        {"\xe2\x82", 2, false},
        {"\xe2\x82x", 3, false},
        {"\xff", 1, false},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct n2_message message;

        raw_number(&body, 1, 1);
        raw_number(&body, 2, N2_ERROR_GENERAL);
        raw_bytes(&body, 3, cases[i].text, cases[i].length);
        enum n2_result result = decode_body(N2_RELAY_FAILED, 1);

        ck_assert_msg((result == N2_OK) == cases[i].valid, "case %zu: got %d", i, (int)result);
        if (memchr(cases[i].text, 0, cases[i].length))
            continue; /* cannot be given to the encoder */
        sample_n2(N2_RELAY_FAILED, &message);
        memcpy(message.relay_failed.text, cases[i].text, cases[i].length + 1);
        ck_assert_msg(is_valid(&message) == cases[i].valid, "case %zu, encoder", i);
        ck_assert_int_eq(n2_text_is_valid(cases[i].text, N2_LABEL_MAX), cases[i].valid);
    }
}
END_TEST

START_TEST(text_of_every_length) /* N2-FIELD-040 */
{
    struct n2_message message;
    char text[300];

    memset(text, 'x', sizeof(text));
    for (size_t length = 0; length < sizeof(text); length++) {
        raw_number(&body, 1, 1);
        raw_number(&body, 2, N2_ERROR_GENERAL);
        raw_bytes(&body, 3, text, length);
        ck_assert_int_eq(decode_body(N2_RELAY_FAILED, 1),
                         length <= N2_TEXT_MAX ? N2_OK : N2_E_FIELD);
    }
    text[N2_LABEL_MAX + 1] = '\0';
    ck_assert(!n2_text_is_valid(text, N2_LABEL_MAX));
    text[N2_LABEL_MAX] = '\0';
    ck_assert(n2_text_is_valid(text, N2_LABEL_MAX));
    sample_n2(N2_RELAY_FAILED, &message);
    memset(message.relay_failed.text, 'x', sizeof(message.relay_failed.text)); /* no end */
    ck_assert(!is_valid(&message));
}
END_TEST

START_TEST(addresses_have_one_spelling) /* N2-FIELD-050 */
{
    static const uint8_t link_local[20] = {0xfe, 0x80, [15] = 1, [19] = 7};
    static const uint8_t unscoped[20] = {0xfe, 0x80, [15] = 1};
    static const uint8_t global[20] = {0x20, 0x01, [15] = 1, [19] = 7};
    static const uint8_t mapped[16] = {[10] = 0xff, [11] = 0xff, [12] = 192, [14] = 2, [15] = 1};
    static const struct {
        const uint8_t *octets;
        size_t length;
        bool valid;
    } cases[] = {
        {link_local, 20, true}, {link_local, 16, true}, {unscoped, 20, false},
        {global, 16, true},     {global, 20, false},    {mapped, 16, false},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        raw_number(&body, 1, 1);
        raw_bytes(&body, 2, cases[i].octets, cases[i].length);
        raw_number(&body, 4, 53);
        ck_assert_msg((decode_body(N2_AUTHORIZE, 1) == N2_OK) == cases[i].valid, "case %zu", i);
    }
    for (size_t length = 0; length < 24; length++) {
        raw_number(&body, 1, 1);
        raw_bytes(&body, 2, link_local, length < 20 ? length : 20);
        raw_number(&body, 4, 53);
        bool valid = length == 4 || length == 16 || length >= 20;

        ck_assert_int_eq(decode_body(N2_AUTHORIZE, 1) == N2_OK, valid);
        static const uint8_t endpoint[23] = {0xfe, 0x80, [15] = 1, [19] = 7, [20] = 0x12, 0x34};

        raw_number(&body, 1, 1);
        raw_bytes(&body, 2, endpoint, length < 23 ? length : 23);
        valid = length == 6 || length == 18 || length == 22;
        ck_assert_int_eq(decode_body(N2_RELAY_CONNECTED, 0) == N2_OK, valid);
        if (length == 22) {
            ck_assert_uint_eq(decoded.relay_connected.peer.port, 0x1234);
            ck_assert_uint_eq(decoded.relay_connected.peer.address.scope_id, 7);
        }
    }
}
END_TEST

START_TEST(an_encoder_writes_no_other_spelling) /* N2-FIELD-050 */
{
    struct n2_message message;

    sample_n2(N2_RELAY_CONNECTED, &message);
    message.relay_connected.peer = sample_endpoint_v6(1);
    message.relay_connected.peer.address.scope_id = 3;
    ck_assert(!is_valid(&message));
    message.relay_connected.peer.address.scope_id = 0;
    ck_assert(is_valid(&message));
    message.relay_connected.peer.address.family = IP_NONE;
    ck_assert(!is_valid(&message));
    message.relay_connected.peer.address.family = 5;
    ck_assert(!is_valid(&message));
}
END_TEST

START_TEST(destinations_of_each_kind) /* N2-FIELD-060 */
{
    static const struct {
        enum n2_kind kind;
        uint8_t least, most;
    } cases[] = {
        {N2_KIND_TRANSPARENT, 1, 1},
        {N2_KIND_CONNECT, 1, N2_CANDIDATES_MAX},
        {N2_KIND_BIND, 1, N2_CANDIDATES_MAX},
        {N2_KIND_UDP_ASSOCIATE, 0, 0},
    };
    struct n2_message message;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        sample_n2(N2_OPEN_RELAY, &message);
        message.open_relay.kind = cases[i].kind;
        message.open_relay.destinations[0] = sample_endpoint_v4(80);
        for (unsigned count = 0; count <= N2_CANDIDATES_MAX + 1; count++) {
            bool valid = count >= cases[i].least && count <= cases[i].most;

            message.open_relay.destination_count = (uint8_t)count;
            ck_assert_msg(is_valid(&message) == valid, "kind %u, %u destinations", cases[i].kind,
                          count);
            raw_order(cases[i].kind, "1234\0\1", 6);
            for (unsigned k = 0; k < count; k++)
                raw_bytes(&body, 6, "1234\0\1", 6);
            ck_assert_int_eq(decode_body(N2_OPEN_RELAY, 1) == N2_OK, valid);
        }
    }
}
END_TEST

START_TEST(ports_of_a_transparent_order) /* N2-FIELD-070 */
{
    struct n2_message message;

    transparent(&message);
    ck_assert(is_valid(&message));
    message.open_relay.source.port = 0;
    ck_assert(!is_valid(&message));
    message.open_relay.learn_source_port = true;
    ck_assert(is_valid(&message));
    message.open_relay.destinations[0].port = 0;
    ck_assert(!is_valid(&message));
    /* A protocol that has none, and kinds for which it is not the client's choice. */
    transparent(&message);
    message.open_relay.ptcl = 47;
    message.open_relay.source.port = message.open_relay.destinations[0].port = 0;
    ck_assert(is_valid(&message));
    transparent(&message);
    message.open_relay.kind = N2_KIND_UDP_ASSOCIATE;
    message.open_relay.destination_count = 0;
    message.open_relay.source.port = 0;
    ck_assert(is_valid(&message));
    raw_order(N2_KIND_TRANSPARENT, "1234\0\0", 6);
    raw_bytes(&body, 6, "1234\0\1", 6);
    expect_refused(decode_body(N2_OPEN_RELAY, 1), "open_relay.source");
    raw_order(N2_KIND_TRANSPARENT, "1234\0\0", 6);
    raw_number(&body, 5, 1);
    raw_bytes(&body, 6, "1234\0\1", 6);
    ck_assert_int_eq(decode_body(N2_OPEN_RELAY, 1), N2_OK);
    ck_assert(decoded.open_relay.learn_source_port);
}
END_TEST

START_TEST(authorize_by_name_or_by_address) /* N2-FIELD-080 */
{
    for (int with_name = 0; with_name < 2; with_name++) {
        for (int with_address = 0; with_address < 2; with_address++) {
            raw_number(&body, 1, 1);
            if (with_address)
                raw_bytes(&body, 2, "1234", 4);
            if (with_name)
                raw_bytes(&body, 3, "a.example", 9);
            raw_number(&body, 4, 53);
            ck_assert_int_eq(decode_body(N2_AUTHORIZE, 1),
                             with_name != with_address ? N2_OK : N2_E_FIELD);
        }
    }
}
END_TEST

START_TEST(relay_ids_are_not_zero) /* N2-FIELD-090 */
{
    static const enum n2_type types[] = {N2_ATTACH_CLIENT, N2_RELAY_CONNECTED, N2_RELAY_STATS,
                                         N2_CLOSE_RELAY,   N2_RELAY_CLOSED,    N2_RELAY_EVENT,
                                         N2_AUTHORIZE,     N2_AUTHORIZED};

    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        bool request = types[i] == N2_AUTHORIZE || types[i] == N2_AUTHORIZED;

        raw_number(&body, 1, 0);
        ck_assert_int_eq(decode_body(types[i], request), N2_E_FIELD);
        ck_assert_ptr_nonnull(strstr(problem, ".relay"));
    }
}
END_TEST

START_TEST(a_later_minor_version_is_understood) /* N2-HELLO-030 */
{
    raw_number(&body, 1, N2_VERSION_MAJOR);
    raw_number(&body, 2, UINT32_MAX);
    raw_number(&body, 200, 1);
    raw_bytes(&body, 201, "whatever", 8);
    ck_assert_int_eq(decode_body(N2_HELLO, 0), N2_OK);
    ck_assert_uint_eq(decoded.hello.minor, UINT32_MAX);
    raw_number(&envelope, 300, 7);
    raw_number(&body, 1, N2_VERSION_MAJOR);
    raw_number(&body, 2, 1);
    raw_number(&body, 6, 17);
    raw_number(&body, 7, UINT32_MAX);
    raw_number(&body, 8, UINT32_MAX);
    ck_assert_int_eq(decode_body(N2_HELLO_ACK, 0), N2_OK);
    ck_assert_uint_eq(decoded.hello.planes, 1u << N2_PLANE_SOCKET | 1u << N2_PLANE_BPF);
    ck_assert_uint_eq(decoded.hello.families, N2_FAMILY_V4 | N2_FAMILY_V6);
}
END_TEST

START_TEST(another_major_version_is_readable) /* N2-HELLO-020: judged by the link, not here */
{
    raw_number(&body, 1, 2);
    raw_number(&body, 2, 0);
    ck_assert_int_eq(decode_body(N2_HELLO, 0), N2_OK);
    ck_assert_uint_eq(decoded.hello.major, 2);
}
END_TEST

START_TEST(an_unpacked_message_has_no_memory_of_the_last)
{
    struct n2_message message;
    uint8_t frame[FRAME_HEADER + N2_PAYLOAD_MAX];

    sample_n2(N2_OPEN_RELAY, &message);
    size_t length = n2_encode(&message, frame, sizeof(frame));

    ck_assert_int_eq(
        n2_decode(frame + FRAME_HEADER, length - FRAME_HEADER, &arena, &decoded, &problem), N2_OK);
    raw_order(N2_KIND_UDP_ASSOCIATE, "1234\0\0", 6);
    ck_assert_int_eq(decode_body(N2_OPEN_RELAY, 1), N2_OK);
    ck_assert_str_eq(decoded.open_relay.user, "");
    ck_assert_uint_eq(decoded.open_relay.limits.max_bytes, 0);
    ck_assert_uint_eq(decoded.open_relay.egress_hint.family, IP_NONE);
    ck_assert_uint_eq(decoded.open_relay.source.address.scope_id, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("n2-rules");
    TCase *tcase = tcase_create("rules");

    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, exactly_one_body);
    tcase_add_test(tcase, transactions_of_requests_and_notifications);
    tcase_add_test(tcase, declared_descriptors);
    tcase_add_test(tcase, text_is_utf8_without_control_characters);
    tcase_add_test(tcase, text_of_every_length);
    tcase_add_test(tcase, addresses_have_one_spelling);
    tcase_add_test(tcase, an_encoder_writes_no_other_spelling);
    tcase_add_test(tcase, destinations_of_each_kind);
    tcase_add_test(tcase, ports_of_a_transparent_order);
    tcase_add_test(tcase, authorize_by_name_or_by_address);
    tcase_add_test(tcase, relay_ids_are_not_zero);
    tcase_add_test(tcase, a_later_minor_version_is_understood);
    tcase_add_test(tcase, another_major_version_is_readable);
    tcase_add_test(tcase, an_unpacked_message_has_no_memory_of_the_last);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);

    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);

    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
