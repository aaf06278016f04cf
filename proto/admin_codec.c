#include <stdalign.h>
#include <string.h>

#include "proto/admin.h"
#include "proto/admin.pb-c.h"
#include "proto/pb_fields.h"

#define ENCODE_SCRATCH 24576 /* generated structures of the largest message, twice over */
#define BODY_FIRST 11
#define BODY_LAST (BODY_FIRST + ADMIN_ANSWER_ERROR - 1)

/* ---- what the messages consist of ------------------------------------------------------------ */

#define REQUEST struct admin_request
#define FILTER struct admin_filter
#define STATUS struct admin_status
#define RELAY struct admin_relay

static const struct pb_field filter_fields[] = {
    PB_NUMBER_ROW("filter.kind", false, FILTER, kind, 1, N2_KIND_END - 1),
    PB_NUMBER_ROW("filter.plane", false, FILTER, plane, 1, N2_PLANE_END - 1),
    PB_PLAIN_ROW("filter.source", PB_ADDRESS, false, FILTER, source),
    PB_PLAIN_ROW("filter.destination", PB_ADDRESS, false, FILTER, destination),
    PB_TEXT_ROW("filter.user", FILTER, user, 0),
};
static const struct pb_message filter_table =
    PB_TABLE(filter_fields, sockst__admin__filter__descriptor);

static const struct pb_field request_fields[] = {
    PB_NUMBER_ROW("request.version", true, REQUEST, version, 1, UINT32_MAX),
    PB_NUMBER_ROW("request.type", true, REQUEST, type, 1, ADMIN_REQUEST_END - 1),
    PB_MESSAGE_ROW("request.filter", false, REQUEST, filter, filter_table),
    PB_NUMBER_ROW("request.relay", false, REQUEST, relay, 0, UINT64_MAX),
};
static const struct pb_message request_table =
    PB_TABLE(request_fields, sockst__admin__request__descriptor);

static const struct pb_field counter_fields[] = {
    PB_TEXT_ROW("counter.name", struct admin_counter, name, 1),
    PB_NUMBER_ROW("counter.value", false, struct admin_counter, value, 0, UINT64_MAX),
};
static const struct pb_message counter_table =
    PB_TABLE(counter_fields, sockst__admin__counter__descriptor);

static const struct pb_field status_fields[] = {
    PB_TEXT_ROW("status.daemon", STATUS, daemon, 1),
    PB_TEXT_ROW("status.instance", STATUS, instance, 0),
    PB_TEXT_ROW("status.version", STATUS, version, 0),
    PB_TEXT_ROW("status.state", STATUS, state, 1),
    PB_NUMBER_ROW("status.pid", false, STATUS, pid, 0, UINT32_MAX),
    PB_NUMBER_ROW("status.ptcl", false, STATUS, ptcl, 0, UINT8_MAX),
    PB_NUMBER_ROW("status.uptime_ms", false, STATUS, uptime_ms, 0, UINT64_MAX),
    PB_ARRAY_ROW("status.counters", PB_MESSAGES, STATUS, counters, counter_count, &counter_table),
    PB_ARRAY_ROW("status.warnings", PB_TEXTS, STATUS, warnings, warning_count, NULL),
};
static const struct pb_message status_table =
    PB_TABLE(status_fields, sockst__admin__status__descriptor);

static const struct pb_field counters_fields[] = {
    PB_NUMBER_ROW("counters.up_packets", false, struct n2_counters, up_packets, 0, UINT64_MAX),
    PB_NUMBER_ROW("counters.up_bytes", false, struct n2_counters, up_bytes, 0, UINT64_MAX),
    PB_NUMBER_ROW("counters.down_packets", false, struct n2_counters, down_packets, 0, UINT64_MAX),
    PB_NUMBER_ROW("counters.down_bytes", false, struct n2_counters, down_bytes, 0, UINT64_MAX),
    PB_NUMBER_ROW("counters.drops", false, struct n2_counters, drops, 0, UINT64_MAX),
};
static const struct pb_message counters_table =
    PB_TABLE(counters_fields, sockst__admin__counters__descriptor);

static const struct pb_field relay_fields[] = {
    PB_NUMBER_ROW("relay.relay", true, RELAY, relay, 1, UINT64_MAX),
    PB_TEXT_ROW("relay.instance", RELAY, instance, 1),
    PB_NUMBER_ROW("relay.kind", true, RELAY, kind, 1, N2_KIND_END - 1),
    PB_NUMBER_ROW("relay.ptcl", true, RELAY, ptcl, 1, UINT8_MAX),
    PB_TEXT_ROW("relay.state", RELAY, state, 1),
    PB_NUMBER_ROW("relay.plane", false, RELAY, plane, 1, N2_PLANE_END - 1),
    PB_TEXT_ROW("relay.plane_reason", RELAY, plane_reason, 0),
    PB_PLAIN_ROW("relay.source", PB_ENDPOINT, false, RELAY, source),
    PB_PLAIN_ROW("relay.bound", PB_ENDPOINT, false, RELAY, bound),
    PB_PLAIN_ROW("relay.egress", PB_ENDPOINT, false, RELAY, egress),
    PB_PLAIN_ROW("relay.destination", PB_ENDPOINT, false, RELAY, destination),
    PB_TEXT_ROW("relay.user", RELAY, user, 0),
    PB_TEXT_ROW("relay.rule", RELAY, rule, 0),
    PB_NUMBER_ROW("relay.age_ms", false, RELAY, age_ms, 0, UINT64_MAX),
    PB_NUMBER_ROW("relay.idle_ms", false, RELAY, idle_ms, 0, UINT64_MAX),
    PB_MESSAGE_ROW("relay.counters", true, RELAY, counters, counters_table),
};
static const struct pb_message relay_table =
    PB_TABLE(relay_fields, sockst__admin__relay__descriptor);

static const struct pb_field end_fields[] = {
    PB_NUMBER_ROW("end.count", true, struct admin_answer, count, 0, UINT64_MAX),
};
static const struct pb_message end_table = PB_TABLE(end_fields, sockst__admin__end__descriptor);

static const struct pb_field error_fields[] = {
    PB_TEXT_ROW("error.text", struct admin_answer, error, 1),
};
static const struct pb_message error_table =
    PB_TABLE(error_fields, sockst__admin__error__descriptor);

static const struct {
    const struct pb_message *table;
    size_t offset; /* of what the table describes */
} answers[] = {
    [ADMIN_ANSWER_STATUS] = {&status_table, offsetof(struct admin_answer, status)},
    [ADMIN_ANSWER_RELAY] = {&relay_table, offsetof(struct admin_answer, relay)},
    [ADMIN_ANSWER_END] = {&end_table, 0},
    [ADMIN_ANSWER_ERROR] = {&error_table, 0},
};

/* ---- codec ----------------------------------------------------------------------------------- */

static enum n2_result refuse(const char **problem, const char *what, enum n2_result result)
{
    if (problem)
        *problem = what;
    return result;
}

static const char *check_request(const struct admin_request *request)
{
    bool one = request->type == ADMIN_SHOW || request->type == ADMIN_CLOSE;

    return one != (request->relay != 0) ? "request.relay" : NULL;
}

enum n2_result admin_request_decode(const uint8_t *payload, size_t length, struct arena *arena,
                                    struct admin_request *out, const char **problem)
{
    ProtobufCMessage *unpacked =
        length <= ADMIN_PAYLOAD_MAX
            ? pb_unpack(&sockst__admin__request__descriptor, arena, payload, length)
            : NULL;

    if (!unpacked)
        return refuse(problem, "payload", N2_E_SYNTAX);
    memset(out, 0, sizeof(*out));
    const char *path = pb_to_plain(&request_table, unpacked, out);

    if (path || (path = check_request(out)))
        return refuse(problem, path, N2_E_FIELD);
    return N2_OK;
}

size_t admin_request_encode(const struct admin_request *request, uint8_t *out, size_t size)
{
    alignas(max_align_t) uint8_t memory[ENCODE_SCRATCH];
    struct arena scratch;

    if (check_request(request))
        return 0;
    arena_init(&scratch, memory, sizeof(memory));
    ProtobufCMessage *built = pb_from_plain(&request_table, request, &scratch);

    return built ? pb_pack_frame(built, ADMIN_PAYLOAD_MAX, out, size) : 0;
}

enum n2_result admin_answer_decode(const uint8_t *payload, size_t length, struct arena *arena,
                                   struct admin_answer *out, const char **problem)
{
    int bodies =
        length <= ADMIN_PAYLOAD_MAX ? pb_count_fields(payload, length, BODY_FIRST, BODY_LAST) : -1;

    if (bodies < 0)
        return refuse(problem, "payload", N2_E_SYNTAX);
    if (bodies != 1)
        return refuse(problem, "body", N2_E_FIELD);
    ProtobufCMessage *unpacked =
        pb_unpack(&sockst__admin__answer__descriptor, arena, payload, length);

    if (!unpacked)
        return refuse(problem, "payload", N2_E_SYNTAX);
    const Sockst__Admin__Answer *answer = (const Sockst__Admin__Answer *)unpacked;
    unsigned number = (unsigned)answer->body_case;

    if (number < BODY_FIRST || number > BODY_LAST)
        return refuse(problem, "body", N2_E_FIELD);
    memset(out, 0, sizeof(*out));
    out->type = (enum admin_answer_type)(number - BODY_FIRST + 1);
    /* Every member of the union is a pointer to a message. */
    const char *path = pb_to_plain(answers[out->type].table, &answer->status->base,
                                   (uint8_t *)out + answers[out->type].offset);

    return path ? refuse(problem, path, N2_E_FIELD) : N2_OK;
}

size_t admin_answer_encode(const struct admin_answer *answer, uint8_t *out, size_t size)
{
    alignas(max_align_t) uint8_t memory[ENCODE_SCRATCH];
    struct arena scratch;

    if (answer->type < ADMIN_ANSWER_STATUS || answer->type > ADMIN_ANSWER_ERROR)
        return 0;
    arena_init(&scratch, memory, sizeof(memory));
    ProtobufCMessage *body =
        pb_from_plain(answers[answer->type].table,
                      (const uint8_t *)answer + answers[answer->type].offset, &scratch);

    if (!body)
        return 0;
    Sockst__Admin__Answer envelope = SOCKST__ADMIN__ANSWER__INIT;

    envelope.body_case = (Sockst__Admin__Answer__BodyCase)(BODY_FIRST + answer->type - 1);
    envelope.status = (Sockst__Admin__Status *)body;
    return pb_pack_frame(&envelope.base, ADMIN_PAYLOAD_MAX, out, size);
}

/* ---- filter ---------------------------------------------------------------------------------- */

bool admin_filter_matches(const struct admin_filter *filter, const struct admin_relay *relay)
{
    if (filter->kind != 0 && filter->kind != relay->kind)
        return false;
    if (filter->plane != 0 && filter->plane != relay->plane)
        return false;
    if (filter->source.family != IP_NONE &&
        !ip_address_equal(&filter->source, &relay->source.address))
        return false;
    if (filter->destination.family != IP_NONE &&
        !ip_address_equal(&filter->destination, &relay->destination.address))
        return false;
    return filter->user[0] == '\0' || strcmp(filter->user, relay->user) == 0;
}
