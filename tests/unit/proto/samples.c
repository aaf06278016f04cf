#include "samples.h"

#include <string.h>

void sample_text(char *text, size_t size)
{
    size_t i = 0;

    for (; i + 4 < size; i += 3)
        memcpy(text + i, "\xe2\x82\xac", 3); /* EURO SIGN */
    for (; i + 1 < size; i++)
        text[i] = '~';
    text[i] = '\0';
}

struct endpoint sample_endpoint_v4(uint16_t port)
{
    return (struct endpoint){
        .address = ip_address_v4((const uint8_t[4]){255, 0, 1, 254}),
        .port = port,
    };
}

struct endpoint sample_endpoint_v6(uint16_t port)
{
    static const uint8_t octets[16] = {0x20, 0x01, 0x0d, 0xb8, [14] = 0xff, [15] = 0xff};

    return (struct endpoint){.address = ip_address_v6(octets), .port = port};
}

struct endpoint sample_endpoint_link_local(uint16_t port)
{
    static const uint8_t octets[16] = {0xfe, 0xbf, [15] = 1};
    struct endpoint endpoint = {.address = ip_address_v6(octets), .port = port};

    endpoint.address.scope_id = UINT32_MAX;
    return endpoint;
}

static struct n2_counters sample_counters(void)
{
    return (struct n2_counters){UINT64_MAX, UINT64_MAX - 1, UINT64_MAX - 2, UINT64_MAX - 3, 1};
}

static void sample_hello(struct n2_message *out)
{
    out->hello = (struct n2_hello){.major = N2_VERSION_MAJOR, .minor = UINT32_MAX};
    out->hello.boot_epoch = UINT64_MAX;
    sample_text(out->hello.build, sizeof(out->hello.build));
    if (out->type == N2_HELLO)
        return;
    sample_text(out->hello.instance, sizeof(out->hello.instance));
    out->hello.ptcl = 255;
    out->hello.planes = 1u << N2_PLANE_SOCKET | 1u << N2_PLANE_BPF;
    out->hello.families = N2_FAMILY_V4 | N2_FAMILY_V6;
    out->hello.capacity = UINT32_MAX;
    out->hello.draining = true;
}

static void sample_open_relay(struct n2_open_relay *out)
{
    out->association = UINT64_MAX;
    out->kind = N2_KIND_CONNECT;
    out->ptcl = 6;
    out->source = sample_endpoint_link_local(65535);
    out->learn_source_port = true;
    out->destination_count = N2_CANDIDATES_MAX;
    for (size_t i = 0; i < N2_CANDIDATES_MAX; i++)
        out->destinations[i] = i % 3 == 0   ? sample_endpoint_v4((uint16_t)i)
                               : i % 3 == 1 ? sample_endpoint_v6(65535)
                                            : sample_endpoint_link_local(1);
    out->bound_hint = sample_endpoint_v6(0).address;
    out->egress_hint = sample_endpoint_v4(0).address;
    sample_text(out->user, sizeof(out->user));
    sample_text(out->rule, sizeof(out->rule));
    out->limits = (struct n2_limits){UINT64_MAX, UINT64_MAX, UINT64_MAX};
    out->deadline_ms = UINT32_MAX;
}

static void sample_opened(struct n2_relay_opened *out)
{
    out->association = 0;
    out->relay = UINT64_MAX;
    out->bound = sample_endpoint_v6(65535);
    out->egress = sample_endpoint_v4(1);
    out->plane = N2_PLANE_BPF;
    sample_text(out->plane_reason, sizeof(out->plane_reason));
    out->destination = sample_endpoint_link_local(65535);
}

static void sample_authorized(struct n2_authorized *out)
{
    out->relay = UINT64_MAX;
    out->allowed = true;
    out->address_count = N2_CANDIDATES_MAX;
    for (size_t i = 0; i < N2_CANDIDATES_MAX; i++)
        out->addresses[i] = i % 2 ? sample_endpoint_v4(0).address : sample_endpoint_v6(0).address;
    out->ttl_ms = UINT32_MAX;
    out->generation = UINT64_MAX;
}

static void sample_relay_message(enum n2_type type, struct n2_message *out)
{
    switch (type) {
    case N2_ATTACH_CLIENT:
        out->fd_count = 1;
        out->attach_client.relay = 1;
        out->attach_client.early_length = N2_EARLY_DATA_MAX;
        memset(out->attach_client.early, 0xff, N2_EARLY_DATA_MAX);
        break;
    case N2_RELAY_CONNECTED:
        out->relay_connected.relay = UINT64_MAX;
        out->relay_connected.peer = sample_endpoint_link_local(0);
        break;
    case N2_RELAY_STATS:
        out->relay_stats.relay = UINT64_MAX;
        out->relay_stats.counters = sample_counters();
        break;
    case N2_CLOSE_RELAY:
        out->close_relay.relay = UINT64_MAX;
        out->close_relay.reason = N2_REASON_END - 1;
        break;
    case N2_RELAY_CLOSED:
        out->relay_closed = (struct n2_relay_closed){UINT64_MAX, UINT64_MAX, N2_REASON_FINISHED,
                                                     sample_counters(), UINT64_MAX};
        break;
    default:
        out->relay_event =
            (struct n2_relay_event){UINT64_MAX, N2_EVENT_WRONG_SOURCE_FLOOD, UINT64_MAX};
        break;
    }
}

void sample_n2(enum n2_type type, struct n2_message *out)
{
    memset(out, 0, sizeof(*out));
    out->type = type;
    switch (type) {
    case N2_HELLO:
    case N2_HELLO_ACK:
        sample_hello(out);
        break;
    case N2_OPEN_RELAY:
        out->transaction = UINT64_MAX;
        sample_open_relay(&out->open_relay);
        break;
    case N2_RELAY_OPENED:
        out->transaction = 1;
        sample_opened(&out->relay_opened);
        break;
    case N2_RELAY_FAILED:
        out->transaction = UINT64_MAX;
        out->relay_failed.association = UINT64_MAX;
        out->relay_failed.error = N2_ERROR_END - 1;
        sample_text(out->relay_failed.text, sizeof(out->relay_failed.text));
        break;
    case N2_AUTHORIZE:
        out->transaction = UINT64_MAX;
        out->authorize.relay = UINT64_MAX;
        sample_text(out->authorize.name, sizeof(out->authorize.name));
        out->authorize.port = 65535;
        break;
    case N2_AUTHORIZED:
        out->transaction = UINT64_MAX;
        sample_authorized(&out->authorized);
        break;
    case N2_POLICY_CHANGED:
        out->policy_generation = UINT64_MAX;
        break;
    case N2_PING:
    case N2_PONG:
        out->nonce = UINT64_MAX;
        break;
    case N2_CANCEL_ORDER:
        out->cancelled = UINT64_MAX;
        break;
    case N2_DRAIN:
        break;
    default:
        sample_relay_message(type, out);
    }
}

void sample_admin_request(enum admin_request_type type, struct admin_request *out)
{
    memset(out, 0, sizeof(*out));
    out->version = UINT32_MAX;
    out->type = type;
    if (type == ADMIN_RELAYS) {
        out->filter.kind = N2_KIND_END - 1;
        out->filter.plane = N2_PLANE_END - 1;
        out->filter.source = sample_endpoint_link_local(0).address;
        out->filter.destination = sample_endpoint_v4(0).address;
        sample_text(out->filter.user, sizeof(out->filter.user));
    }
    if (type == ADMIN_SHOW || type == ADMIN_CLOSE)
        out->relay = UINT64_MAX;
}

static void sample_status(struct admin_status *out)
{
    sample_text(out->daemon, sizeof(out->daemon));
    sample_text(out->instance, sizeof(out->instance));
    sample_text(out->version, sizeof(out->version));
    sample_text(out->state, sizeof(out->state));
    out->pid = UINT32_MAX;
    out->ptcl = 255;
    out->uptime_ms = UINT64_MAX;
    out->counter_count = ADMIN_COUNTERS_MAX;
    for (size_t i = 0; i < ADMIN_COUNTERS_MAX; i++) {
        sample_text(out->counters[i].name, sizeof(out->counters[i].name));
        out->counters[i].value = UINT64_MAX - i;
    }
    out->warning_count = ADMIN_WARNINGS_MAX;
    for (size_t i = 0; i < ADMIN_WARNINGS_MAX; i++)
        sample_text(out->warnings[i], sizeof(out->warnings[i]));
}

static void sample_relay(struct admin_relay *out)
{
    out->relay = UINT64_MAX;
    sample_text(out->instance, sizeof(out->instance));
    out->kind = N2_KIND_END - 1;
    out->ptcl = 255;
    sample_text(out->state, sizeof(out->state));
    out->plane = N2_PLANE_BPF;
    sample_text(out->plane_reason, sizeof(out->plane_reason));
    out->source = sample_endpoint_link_local(65535);
    out->bound = sample_endpoint_v6(1);
    out->egress = sample_endpoint_v4(65535);
    out->destination = sample_endpoint_v4(0);
    sample_text(out->user, sizeof(out->user));
    sample_text(out->rule, sizeof(out->rule));
    out->age_ms = UINT64_MAX;
    out->idle_ms = UINT64_MAX - 1;
    out->counters = sample_counters();
}

void sample_admin_answer(enum admin_answer_type type, struct admin_answer *out)
{
    memset(out, 0, sizeof(*out));
    out->type = type;
    switch (type) {
    case ADMIN_ANSWER_STATUS:
        sample_status(&out->status);
        break;
    case ADMIN_ANSWER_RELAY:
        sample_relay(&out->relay);
        break;
    case ADMIN_ANSWER_END:
        out->count = UINT64_MAX;
        break;
    case ADMIN_ANSWER_ERROR:
        sample_text(out->error, sizeof(out->error));
        break;
    }
}
