#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "malloc_count.h"
#include "proto/frame.h"
#include "proto/n2.pb-c.h"
#include "proto/n2_table.h"
#include "raw.h"
#include "samples.h"

static uint8_t memory[N2_ARENA_SIZE];
static struct arena arena;
static uint8_t frame[FRAME_MAX];
static struct raw body, envelope;

static void setup(void)
{
    arena_init(&arena, memory, sizeof(memory));
    body.length = envelope.length = 0;
}

/* Decodes from a block of exactly that size, so that one octet too far is seen. */
static enum n2_result decode(const uint8_t *payload, size_t length, struct n2_message *out,
                             const char **problem)
{
    uint8_t *copy = malloc(length ? length : 1);

    ck_assert_ptr_nonnull(copy);
    if (length > 0)
        memcpy(copy, payload, length);
    size_t before = malloc_count();
    enum n2_result result = n2_decode(copy, length, &arena, out, problem);
    size_t after = malloc_count();

    ck_assert_uint_eq(after, before);
    free(copy);
    return result;
}

static size_t encode_sample(enum n2_type type, struct n2_message *message)
{
    sample_n2(type, message);
    size_t length = n2_encode(message, frame, sizeof(frame));

    ck_assert_msg(length > FRAME_HEADER, "%s was not encoded", n2_type_name(type));
    return length;
}

static void expect_problem(const struct n2_message *message, enum n2_result result,
                           const char *problem, const char *expected)
{
    ck_assert_msg(result == N2_E_FIELD, "%s: %s: expected N2_E_FIELD, got %d (%s)",
                  n2_type_name(message->type), expected, (int)result, problem);
    ck_assert_str_eq(problem, expected);
}

static void expect_round_trip(const struct n2_message *message)
{
    static uint8_t again[FRAME_MAX];
    struct n2_message decoded;
    const char *problem = "";
    size_t length = n2_encode(message, frame, sizeof(frame));

    ck_assert_msg(length > 0, "%s was not encoded", n2_type_name(message->type));
    ck_assert_uint_le(length - FRAME_HEADER, N2_PAYLOAD_MAX);
    enum n2_result result = decode(frame + FRAME_HEADER, length - FRAME_HEADER, &decoded, &problem);

    ck_assert_msg(result == N2_OK, "%s: %s", n2_type_name(message->type), problem);
    ck_assert_int_eq(decoded.type, message->type);
    ck_assert_uint_eq(n2_encode(&decoded, again, sizeof(again)), length);
    ck_assert_mem_eq(again, frame, length);
}

/* ---- the tables -------------------------------------------------------------------------------
 */

static void expect_table_fits(const struct pb_message *message)
{
    ck_assert_uint_eq(message->count, message->descriptor->n_fields);
    for (size_t i = 0; i < message->count; i++) {
        const char *path = message->fields[i].path;
        const char *name = strrchr(path, '.');

        ck_assert_ptr_nonnull(name);
        ck_assert_str_eq(name + 1, message->descriptor->fields[i].name);
        if (message->fields[i].message)
            expect_table_fits(message->fields[i].message);
    }
}

START_TEST(every_row_describes_its_field)
{
    for (int type = 1; type < N2_TYPE_END; type++)
        expect_table_fits(&n2_row((enum n2_type)type)->body);
    ck_assert_ptr_null(n2_row(0));
    ck_assert_ptr_null(n2_row(N2_TYPE_END));
}
END_TEST

START_TEST(every_value_has_a_name)
{
    for (int i = 0; i <= N2_TYPE_END; i++) {
        bool known = i > 0 && i < N2_TYPE_END;

        ck_assert_int_eq(strcmp(n2_type_name((enum n2_type)i), "?") != 0, known);
    }
#define NAMES(function, type, end)                                                                 \
    for (int i = 0; i <= (end); i++)                                                               \
    ck_assert_int_eq(strcmp(function((type)i), "?") != 0, i > 0 && i < (end))
    NAMES(n2_kind_name, enum n2_kind, N2_KIND_END);
    NAMES(n2_plane_name, enum n2_plane, N2_PLANE_END);
    NAMES(n2_error_name, enum n2_error, N2_ERROR_END);
    NAMES(n2_reason_name, enum n2_reason, N2_REASON_END);
    NAMES(n2_event_name, enum n2_event, N2_EVENT_END);
    ck_assert_str_eq(n2_reason_name(N2_REASON_ACCEPT_TIMEOUT), "accept-timeout");
    ck_assert_str_eq(n2_type_name((enum n2_type) - 1), "?");
}
END_TEST

/* ---- round trips ------------------------------------------------------------------------------
 */

START_TEST(largest_values_survive)
{
    struct n2_message message;

    for (int type = 1; type < N2_TYPE_END; type++) {
        sample_n2((enum n2_type)type, &message);
        expect_round_trip(&message);
    }
}
END_TEST

START_TEST(smallest_values_survive)
{
    static const struct n2_message messages[] = {
        {.type = N2_HELLO},
        {.type = N2_HELLO_ACK, .hello = {.ptcl = 1}},
        {.type = N2_RELAY_FAILED, .transaction = 1, .relay_failed = {.error = 1}},
        {.type = N2_ATTACH_CLIENT, .fd_count = 1, .attach_client = {.relay = 1}},
        {.type = N2_AUTHORIZED, .transaction = 1, .authorized = {.relay = 1}},
        {.type = N2_POLICY_CHANGED},
        {.type = N2_RELAY_STATS, .relay_stats = {.relay = 1}},
        {.type = N2_CLOSE_RELAY, .close_relay = {1, 1}},
        {.type = N2_RELAY_CLOSED, .relay_closed = {.relay = 1, .reason = 1}},
        {.type = N2_RELAY_EVENT, .relay_event = {1, 1, 0}},
        {.type = N2_PING},
        {.type = N2_PONG},
    };

    for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++)
        expect_round_trip(&messages[i]);
}
END_TEST

START_TEST(values_arrive_where_they_belong)
{
    struct n2_message sent, got;
    const char *problem;
    size_t length = encode_sample(N2_OPEN_RELAY, &sent);

    ck_assert_int_eq(decode(frame + FRAME_HEADER, length - FRAME_HEADER, &got, &problem), N2_OK);
    ck_assert_uint_eq(got.transaction, UINT64_MAX);
    ck_assert(endpoint_equal(&got.open_relay.source, &sent.open_relay.source));
    ck_assert_uint_eq(got.open_relay.source.address.scope_id, UINT32_MAX);
    ck_assert_uint_eq(got.open_relay.destination_count, N2_CANDIDATES_MAX);
    for (size_t i = 0; i < N2_CANDIDATES_MAX; i++)
        ck_assert(
            endpoint_equal(&got.open_relay.destinations[i], &sent.open_relay.destinations[i]));
    ck_assert(ip_address_equal(&got.open_relay.bound_hint, &sent.open_relay.bound_hint));
    ck_assert(ip_address_equal(&got.open_relay.egress_hint, &sent.open_relay.egress_hint));
    ck_assert_str_eq(got.open_relay.user, sent.open_relay.user);
    ck_assert_str_eq(got.open_relay.rule, sent.open_relay.rule);
    ck_assert_uint_eq(got.open_relay.limits.bytes_per_second, UINT64_MAX);
    length = encode_sample(N2_RELAY_CLOSED, &sent);
    ck_assert_int_eq(decode(frame + FRAME_HEADER, length - FRAME_HEADER, &got, &problem), N2_OK);
    ck_assert_mem_eq(&got.relay_closed, &sent.relay_closed, sizeof(got.relay_closed));
    length = encode_sample(N2_ATTACH_CLIENT, &sent);
    ck_assert_int_eq(decode(frame + FRAME_HEADER, length - FRAME_HEADER, &got, &problem), N2_OK);
    ck_assert_uint_eq(got.attach_client.early_length, N2_EARLY_DATA_MAX);
    ck_assert_mem_eq(got.attach_client.early, sent.attach_client.early, N2_EARLY_DATA_MAX);
}
END_TEST

START_TEST(an_encoder_stays_in_its_buffer)
{
    struct n2_message message;

    for (int type = 1; type < N2_TYPE_END; type++) {
        size_t length = encode_sample((enum n2_type)type, &message);

        for (size_t size = 0; size < length; size++) {
            uint8_t *exact = malloc(size ? size : 1);
            size_t before = malloc_count();

            size_t written = n2_encode(&message, exact, size);
            size_t after = malloc_count();

            ck_assert_uint_eq(written, 0);
            ck_assert_uint_eq(after, before);
            free(exact);
        }
    }
}
END_TEST

/* ---- hostile input ----------------------------------------------------------------------------
 */

START_TEST(every_truncation_is_refused) /* N2-FRAME-040 */
{
    struct n2_message message, decoded;
    const char *problem;

    for (int type = 1; type < N2_TYPE_END; type++) {
        size_t length = encode_sample((enum n2_type)type, &message) - FRAME_HEADER;

        for (size_t cut = 0; cut < length; cut++)
            ck_assert_int_ne(decode(frame + FRAME_HEADER, cut, &decoded, &problem), N2_OK);
    }
}
END_TEST

static uint32_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

START_TEST(mutations_are_refused_or_mean_something)
{
    static uint8_t mutant[FRAME_MAX];
    struct n2_message message, decoded;
    uint64_t state = 20;
    size_t accepted = 0;

    for (int round = 0; round < 20000; round++) {
        enum n2_type type = (enum n2_type)(1 + round % (N2_TYPE_END - 1));
        size_t length = encode_sample(type, &message) - FRAME_HEADER;
        const char *problem;

        memcpy(mutant, frame + FRAME_HEADER, length);
        for (uint32_t i = next_random(&state) % 4 + 1; i > 0; i--)
            mutant[next_random(&state) % length] = (uint8_t)next_random(&state);
        if (decode(mutant, length, &decoded, &problem) == N2_OK) {
            expect_round_trip(&decoded);
            accepted++;
        }
    }
    ck_assert_uint_gt(accepted, 0);
}
END_TEST

static void expect_amplification_refused(const struct raw *input)
{
    struct n2_message decoded;
    const char *problem;
    size_t before = malloc_count();
    enum n2_result result = n2_decode(input->data, input->length, &arena, &decoded, &problem);
    /* The arena alone has to hold, too. */
    const void *unpacked =
        pb_unpack(&sockst__n2__envelope__descriptor, &arena, input->data, input->length);
    size_t after = malloc_count();

    ck_assert_int_ne(result, N2_OK);
    ck_assert_ptr_null(unpacked);
    ck_assert_uint_eq(after, before);
    ck_assert_uint_le(arena.used, arena.size);
}

START_TEST(input_that_unpacks_to_far_more_is_refused) /* N2-FRAME-050, N2-FRAME-030 */
{
    static const size_t sizes[] = {N2_PAYLOAD_MAX - 16, FRAME_PAYLOAD_MAX - 16};

    for (size_t i = 0; i < 2; i++) {
        for (body.length = 0; body.length < sizes[i];)
            raw_bytes(&body, 6, NULL, 0); /* open_relay.destinations, empty */
        envelope.length = 0;
        raw_bytes(&envelope, 13, body.data, body.length);
        expect_amplification_refused(&envelope);
        for (body.length = 0; body.length < sizes[i];)
            raw_number(&body, 999, 1); /* unknown fields in a body */
        envelope.length = 0;
        raw_bytes(&envelope, 13, body.data, body.length);
        expect_amplification_refused(&envelope);
        for (envelope.length = 0; envelope.length < sizes[i];)
            raw_bytes(&envelope, 13, NULL, 0); /* empty bodies */
        expect_amplification_refused(&envelope);
        for (envelope.length = 0; envelope.length < sizes[i];)
            raw_number(&envelope, 999, 1); /* unknown fields */
        expect_amplification_refused(&envelope);
    }
}
END_TEST

START_TEST(a_payload_above_the_maximum_is_refused) /* N2-FRAME-030 */
{
    struct n2_message decoded;
    const char *problem;
    static const uint8_t filler[N2_PAYLOAD_MAX];

    for (size_t excess = 0; excess < 2; excess++) {
        envelope.length = body.length = 0;
        raw_number(&body, 1, 7);
        raw_bytes(&envelope, 25, body.data, body.length);
        /* An unknown field brings it to the size wanted: four octets of key and length. */
        raw_bytes(&envelope, N2_TYPE_END + 10, filler,
                  N2_PAYLOAD_MAX - envelope.length - 4 + excess);
        ck_assert_uint_eq(envelope.length, N2_PAYLOAD_MAX + excess);
        ck_assert_int_eq(decode(envelope.data, envelope.length, &decoded, &problem),
                         excess ? N2_E_SYNTAX : N2_OK);
    }
}
END_TEST

START_TEST(what_is_not_protobuf_is_refused)
{
    static const char *const inputs[] = {
        "\x00",     "\x07", "\x0b\x0c", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        "\x5a\x7f", "\x08", "\x0e",     "\x59\x01\x02",
        "\x5d\x01",
    };
    struct n2_message decoded;
    const char *problem;

    ck_assert_int_ne(decode(NULL, 0, &decoded, &problem), N2_OK);
    for (size_t i = 0; i < sizeof(inputs) / sizeof(inputs[0]); i++) {
        size_t length = strlen(inputs[i]) ? strlen(inputs[i]) : 1;

        ck_assert_int_eq(decode((const uint8_t *)inputs[i], length, &decoded, &problem),
                         N2_E_SYNTAX);
        ck_assert_int_eq(decode((const uint8_t *)inputs[i], length, &decoded, NULL), N2_E_SYNTAX);
    }
}
END_TEST

START_TEST(a_length_that_wraps_around_is_refused)
{
    struct n2_message decoded;
    const char *problem;

    /* Key and length take 11 octets: each of these lengths leads back into them, or before them. */
    for (uint64_t back = 0; back <= 12; back++) {
        envelope.length = 0;
        raw_varint(&envelope, 11 << 3 | 2);
        raw_varint(&envelope, UINT64_MAX - back);
        ck_assert_int_eq(decode(envelope.data, envelope.length, &decoded, &problem), N2_E_SYNTAX);
    }
}
END_TEST

/* ---- each field broken in turn (N2-FIELD-010) -------------------------------------------------
 */

/* Ways to break a field. Each returns false when it does not apply to the field. */
static bool break_missing(const struct pb_field *row, const ProtobufCFieldDescriptor *field,
                          ProtobufCMessage *message)
{
    uint8_t *at = (uint8_t *)message;

    if (!row->required)
        return false;
    if (field->type == PROTOBUF_C_TYPE_MESSAGE)
        memset(at + field->offset, 0, sizeof(void *));
    else
        memset(at + field->quantifier_offset, 0, sizeof(protobuf_c_boolean));
    return true;
}

static bool set_number(const ProtobufCFieldDescriptor *field, ProtobufCMessage *message,
                       uint64_t value)
{
    uint32_t narrow = (uint32_t)value;
    protobuf_c_boolean present = 1;

    memcpy((uint8_t *)message + field->quantifier_offset, &present, sizeof(present));
    if (field->type == PROTOBUF_C_TYPE_UINT64)
        memcpy((uint8_t *)message + field->offset, &value, sizeof(value));
    else
        memcpy((uint8_t *)message + field->offset, &narrow, sizeof(narrow));
    return true;
}

static bool break_below(const struct pb_field *row, const ProtobufCFieldDescriptor *field,
                        ProtobufCMessage *message)
{
    return row->kind == PB_NUMBER && row->min > 0 && set_number(field, message, row->min - 1);
}

static bool break_above(const struct pb_field *row, const ProtobufCFieldDescriptor *field,
                        ProtobufCMessage *message)
{
    return row->kind == PB_NUMBER && row->max < UINT32_MAX && field->type != PROTOBUF_C_TYPE_BOOL &&
           set_number(field, message, row->max + 1);
}

static bool break_negative(const struct pb_field *row, const ProtobufCFieldDescriptor *field,
                           ProtobufCMessage *message)
{
    return row->kind == PB_NUMBER && field->type == PROTOBUF_C_TYPE_ENUM &&
           set_number(field, message, UINT32_MAX);
}

static bool set_bytes(const ProtobufCFieldDescriptor *field, ProtobufCMessage *message,
                      const void *data, size_t length)
{
    static ProtobufCBinaryData one;

    one = (ProtobufCBinaryData){.len = length, .data = (uint8_t *)data};
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        ProtobufCBinaryData *array = &one;
        size_t count = 1;

        memcpy((uint8_t *)message + field->offset, &array, sizeof(array));
        memcpy((uint8_t *)message + field->quantifier_offset, &count, sizeof(count));
        return true;
    }
    protobuf_c_boolean present = 1;

    memcpy((uint8_t *)message + field->quantifier_offset, &present, sizeof(present));
    memcpy((uint8_t *)message + field->offset, &one, sizeof(one));
    return true;
}

static bool break_text(const struct pb_field *row, const ProtobufCFieldDescriptor *field,
                       ProtobufCMessage *message)
{
    return row->kind == PB_TEXT && set_bytes(field, message, "a\0b", 3);
}

static bool break_too_long(const struct pb_field *row, const ProtobufCFieldDescriptor *field,
                           ProtobufCMessage *message)
{
    static char text[N2_EARLY_DATA_MAX + 1];

    memset(text, 'a', sizeof(text));
    return (row->kind == PB_TEXT || row->kind == PB_BYTES) &&
           set_bytes(field, message, text, row->max + 1);
}

static bool is_address(const struct pb_field *row)
{
    return row->kind == PB_ADDRESS || row->kind == PB_ENDPOINT || row->kind == PB_ADDRESSES ||
           row->kind == PB_ENDPOINTS;
}

static bool break_address(const struct pb_field *row, const ProtobufCFieldDescriptor *field,
                          ProtobufCMessage *message)
{
    return is_address(row) && set_bytes(field, message, "12345", 5);
}

static bool break_address_empty(const struct pb_field *row, const ProtobufCFieldDescriptor *field,
                                ProtobufCMessage *message)
{
    return is_address(row) && set_bytes(field, message, NULL, 0);
}

static bool break_count(const struct pb_field *row, const ProtobufCFieldDescriptor *field,
                        ProtobufCMessage *message)
{
    static ProtobufCBinaryData many[N2_CANDIDATES_MAX + 1];
    ProtobufCBinaryData *array = many;
    size_t count = N2_CANDIDATES_MAX + 1;

    if (row->kind != PB_ADDRESSES && row->kind != PB_ENDPOINTS)
        return false;
    for (size_t i = 0; i < count; i++)
        many[i] = (ProtobufCBinaryData){.len = row->kind == PB_ADDRESSES ? 4 : 6,
                                        .data = (uint8_t *)"123456"};
    memcpy((uint8_t *)message + field->offset, &array, sizeof(array));
    memcpy((uint8_t *)message + field->quantifier_offset, &count, sizeof(count));
    return true;
}

static bool (*const breaks[])(const struct pb_field *, const ProtobufCFieldDescriptor *,
                              ProtobufCMessage *) = {
    break_missing,  break_below,   break_above,         break_negative, break_text,
    break_too_long, break_address, break_address_empty, break_count,
};

#define BREAKS (sizeof(breaks) / sizeof(breaks[0]))

START_TEST(each_field_broken_in_turn_is_named) /* N2-FIELD-010, -030, -040, -050, -090 */
{
    static uint8_t unpacked_memory[N2_ARENA_SIZE], packed[FRAME_MAX];
    struct n2_message sample, decoded;
    size_t broken = 0;

    for (int type = 1; type < N2_TYPE_END; type++) {
        const struct pb_message *table = &n2_row((enum n2_type)type)->body;

        for (size_t i = 0; i < table->count * BREAKS; i++) {
            const struct pb_field *row = &table->fields[i / BREAKS];
            size_t length = encode_sample((enum n2_type)type, &sample) - FRAME_HEADER;
            struct arena unpacked_arena;
            const char *problem = "";

            arena_init(&unpacked_arena, unpacked_memory, sizeof(unpacked_memory));
            Sockst__N2__Envelope *unpacked = (Sockst__N2__Envelope *)pb_unpack(
                &sockst__n2__envelope__descriptor, &unpacked_arena, frame + FRAME_HEADER, length);

            ck_assert_ptr_nonnull(unpacked);
            if (!breaks[i % BREAKS](row, &table->descriptor->fields[i / BREAKS],
                                    &unpacked->hello->base))
                continue;
            length = protobuf_c_message_pack(&unpacked->base, packed);
            enum n2_result result = decode(packed, length, &decoded, &problem);

            expect_problem(&sample, result, problem, row->path);
            broken++;
        }
    }
    ck_assert_uint_gt(broken, 100);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("n2");
    TCase *tcase = tcase_create("codec");

    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, every_row_describes_its_field);
    tcase_add_test(tcase, every_value_has_a_name);
    tcase_add_test(tcase, largest_values_survive);
    tcase_add_test(tcase, smallest_values_survive);
    tcase_add_test(tcase, values_arrive_where_they_belong);
    tcase_add_test(tcase, an_encoder_stays_in_its_buffer);
    tcase_add_test(tcase, every_truncation_is_refused);
    tcase_add_test(tcase, mutations_are_refused_or_mean_something);
    tcase_add_test(tcase, input_that_unpacks_to_far_more_is_refused);
    tcase_add_test(tcase, a_payload_above_the_maximum_is_refused);
    tcase_add_test(tcase, what_is_not_protobuf_is_refused);
    tcase_add_test(tcase, a_length_that_wraps_around_is_refused);
    tcase_add_test(tcase, each_field_broken_in_turn_is_named);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);

    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);

    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
