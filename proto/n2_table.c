#include "proto/n2_table.h"

#include "proto/n2.pb-c.h"
#include "proto/ptcl.h"

#define MESSAGE struct n2_message
#define NUMBER(path, must, member, low, high) PB_NUMBER_ROW(path, must, MESSAGE, member, low, high)
#define TEXT(path, member, low) PB_TEXT_ROW(path, MESSAGE, member, low)
#define ADDRESS(path, must, member) PB_PLAIN_ROW(path, PB_ADDRESS, must, MESSAGE, member)
#define ENDPOINT(path, must, member) PB_PLAIN_ROW(path, PB_ENDPOINT, must, MESSAGE, member)
#define ID(path, member) NUMBER(path, true, member, 1, UINT64_MAX)

static const struct pb_field counters_fields[] = {
    PB_NUMBER_ROW("counters.up_packets", false, struct n2_counters, up_packets, 0, UINT64_MAX),
    PB_NUMBER_ROW("counters.up_bytes", false, struct n2_counters, up_bytes, 0, UINT64_MAX),
    PB_NUMBER_ROW("counters.down_packets", false, struct n2_counters, down_packets, 0, UINT64_MAX),
    PB_NUMBER_ROW("counters.down_bytes", false, struct n2_counters, down_bytes, 0, UINT64_MAX),
    PB_NUMBER_ROW("counters.drops", false, struct n2_counters, drops, 0, UINT64_MAX),
};
static const struct pb_message counters =
    PB_TABLE(counters_fields, sockst__n2__counters__descriptor);

static const struct pb_field limits_fields[] = {
    PB_NUMBER_ROW("limits.idle_ms", false, struct n2_limits, idle_ms, 0, UINT64_MAX),
    PB_NUMBER_ROW("limits.max_bytes", false, struct n2_limits, max_bytes, 0, UINT64_MAX),
    PB_NUMBER_ROW("limits.bytes_per_second", false, struct n2_limits, bytes_per_second, 0,
                  UINT64_MAX),
};
static const struct pb_message limits = PB_TABLE(limits_fields, sockst__n2__limits__descriptor);

static const struct pb_field hello[] = {
    NUMBER("hello.major", true, hello.major, 0, UINT32_MAX),
    NUMBER("hello.minor", true, hello.minor, 0, UINT32_MAX),
    TEXT("hello.build", hello.build, 0),
    NUMBER("hello.boot_epoch", false, hello.boot_epoch, 0, UINT64_MAX),
};

static const struct pb_field hello_ack[] = {
    NUMBER("hello_ack.major", true, hello.major, 0, UINT32_MAX),
    NUMBER("hello_ack.minor", true, hello.minor, 0, UINT32_MAX),
    TEXT("hello_ack.build", hello.build, 0),
    TEXT("hello_ack.instance", hello.instance, 0),
    NUMBER("hello_ack.boot_epoch", false, hello.boot_epoch, 0, UINT64_MAX),
    NUMBER("hello_ack.ptcl", true, hello.ptcl, 1, UINT8_MAX),
    NUMBER("hello_ack.planes", false, hello.planes, 0, UINT32_MAX),
    NUMBER("hello_ack.families", false, hello.families, 0, UINT32_MAX),
    NUMBER("hello_ack.capacity", false, hello.capacity, 0, UINT32_MAX),
    NUMBER("hello_ack.draining", false, hello.draining, 0, 1),
};

static const struct pb_field open_relay[] = {
    NUMBER("open_relay.association", true, open_relay.association, 0, UINT64_MAX),
    NUMBER("open_relay.kind", true, open_relay.kind, 1, N2_KIND_END - 1),
    NUMBER("open_relay.ptcl", true, open_relay.ptcl, 1, UINT8_MAX),
    ENDPOINT("open_relay.source", true, open_relay.source),
    NUMBER("open_relay.learn_source_port", false, open_relay.learn_source_port, 0, 1),
    PB_ARRAY_ROW("open_relay.destinations", PB_ENDPOINTS, MESSAGE, open_relay.destinations,
                 open_relay.destination_count, NULL),
    ADDRESS("open_relay.bound_hint", false, open_relay.bound_hint),
    ADDRESS("open_relay.egress_hint", false, open_relay.egress_hint),
    TEXT("open_relay.user", open_relay.user, 0),
    TEXT("open_relay.rule", open_relay.rule, 0),
    PB_MESSAGE_ROW("open_relay.limits", false, MESSAGE, open_relay.limits, limits),
    NUMBER("open_relay.deadline_ms", false, open_relay.deadline_ms, 0, UINT32_MAX),
};

static const struct pb_field relay_opened[] = {
    NUMBER("relay_opened.association", true, relay_opened.association, 0, UINT64_MAX),
    ID("relay_opened.relay", relay_opened.relay),
    ENDPOINT("relay_opened.bound", true, relay_opened.bound),
    ENDPOINT("relay_opened.egress", false, relay_opened.egress),
    NUMBER("relay_opened.plane", true, relay_opened.plane, 1, N2_PLANE_END - 1),
    TEXT("relay_opened.plane_reason", relay_opened.plane_reason, 0),
    ENDPOINT("relay_opened.destination", false, relay_opened.destination),
};

static const struct pb_field relay_failed[] = {
    NUMBER("relay_failed.association", true, relay_failed.association, 0, UINT64_MAX),
    NUMBER("relay_failed.error", true, relay_failed.error, 1, N2_ERROR_END - 1),
    TEXT("relay_failed.text", relay_failed.text, 0),
};

static const struct pb_field attach_client[] = {
    ID("attach_client.relay", attach_client.relay),
    PB_ARRAY_ROW("attach_client.early", PB_BYTES, MESSAGE, attach_client.early,
                 attach_client.early_length, NULL),
};

static const struct pb_field relay_connected[] = {
    ID("relay_connected.relay", relay_connected.relay),
    ENDPOINT("relay_connected.peer", true, relay_connected.peer),
};

static const struct pb_field authorize[] = {
    ID("authorize.relay", authorize.relay),
    ADDRESS("authorize.address", false, authorize.address),
    TEXT("authorize.name", authorize.name, 0),
    NUMBER("authorize.port", true, authorize.port, 0, UINT16_MAX),
};

static const struct pb_field authorized[] = {
    ID("authorized.relay", authorized.relay),
    NUMBER("authorized.allowed", true, authorized.allowed, 0, 1),
    PB_ARRAY_ROW("authorized.addresses", PB_ADDRESSES, MESSAGE, authorized.addresses,
                 authorized.address_count, NULL),
    NUMBER("authorized.ttl_ms", false, authorized.ttl_ms, 0, UINT32_MAX),
    NUMBER("authorized.generation", false, authorized.generation, 0, UINT64_MAX),
};

static const struct pb_field policy_changed[] = {
    NUMBER("policy_changed.generation", true, policy_generation, 0, UINT64_MAX),
};

static const struct pb_field relay_stats[] = {
    ID("relay_stats.relay", relay_stats.relay),
    PB_MESSAGE_ROW("relay_stats.counters", true, MESSAGE, relay_stats.counters, counters),
};

static const struct pb_field close_relay[] = {
    ID("close_relay.relay", close_relay.relay),
    NUMBER("close_relay.reason", true, close_relay.reason, 1, N2_REASON_END - 1),
};

static const struct pb_field relay_closed[] = {
    ID("relay_closed.relay", relay_closed.relay),
    NUMBER("relay_closed.association", true, relay_closed.association, 0, UINT64_MAX),
    NUMBER("relay_closed.reason", true, relay_closed.reason, 1, N2_REASON_END - 1),
    PB_MESSAGE_ROW("relay_closed.counters", true, MESSAGE, relay_closed.counters, counters),
    NUMBER("relay_closed.duration_ms", false, relay_closed.duration_ms, 0, UINT64_MAX),
};

static const struct pb_field relay_event[] = {
    ID("relay_event.relay", relay_event.relay),
    NUMBER("relay_event.event", true, relay_event.event, 1, N2_EVENT_END - 1),
    NUMBER("relay_event.value", false, relay_event.value, 0, UINT64_MAX),
};

static const struct pb_field ping[] = {NUMBER("ping.nonce", true, nonce, 0, UINT64_MAX)};
static const struct pb_field pong[] = {NUMBER("pong.nonce", true, nonce, 0, UINT64_MAX)};

static const struct pb_field cancel_order[] = {ID("cancel_order.order", cancelled)};

#define BODY(name) PB_TABLE(name, sockst__n2__##name##__descriptor)

static const struct n2_row rows[N2_TYPE_END] = {
    [N2_HELLO] = {.body = BODY(hello)},
    [N2_HELLO_ACK] = {.body = BODY(hello_ack)},
    [N2_OPEN_RELAY] = {.body = BODY(open_relay), .transaction = true},
    [N2_RELAY_OPENED] = {.body = BODY(relay_opened), .transaction = true},
    [N2_RELAY_FAILED] = {.body = BODY(relay_failed), .transaction = true},
    [N2_ATTACH_CLIENT] = {.body = BODY(attach_client), .fd_count = 1},
    [N2_RELAY_CONNECTED] = {.body = BODY(relay_connected)},
    [N2_AUTHORIZE] = {.body = BODY(authorize), .transaction = true},
    [N2_AUTHORIZED] = {.body = BODY(authorized), .transaction = true},
    [N2_POLICY_CHANGED] = {.body = BODY(policy_changed)},
    [N2_RELAY_STATS] = {.body = BODY(relay_stats)},
    [N2_CLOSE_RELAY] = {.body = BODY(close_relay)},
    [N2_RELAY_CLOSED] = {.body = BODY(relay_closed)},
    [N2_RELAY_EVENT] = {.body = BODY(relay_event)},
    [N2_PING] = {.body = BODY(ping)},
    [N2_PONG] = {.body = BODY(pong)},
    [N2_CANCEL_ORDER] = {.body = BODY(cancel_order)},
    [N2_DRAIN] = {.body = {.descriptor = &sockst__n2__drain__descriptor}},
};

const struct n2_row *n2_row(enum n2_type type)
{
    return type > 0 && type < N2_TYPE_END ? &rows[type] : NULL;
}

static const char *check_open_relay(const struct n2_open_relay *order)
{
    unsigned least = 1, most = N2_CANDIDATES_MAX;

    if (order->kind == N2_KIND_TRANSPARENT)
        most = 1;
    else if (order->kind == N2_KIND_UDP_ASSOCIATE)
        least = most = 0;
    if (order->destination_count < least || order->destination_count > most)
        return "open_relay.destinations";
    const struct ptcl *ptcl = ptcl_by_number(order->ptcl);

    /* The draft wants S known in advance (section 3.1); who allows otherwise says so. */
    if (order->kind == N2_KIND_TRANSPARENT && ptcl && ptcl->ports == PTCL_PORTS) {
        if (order->source.port == 0 && !order->learn_source_port)
            return "open_relay.source";
        if (order->destinations[0].port == 0)
            return "open_relay.destinations";
    }
    return NULL;
}

static const char *check_authorize(const struct n2_authorize *request)
{
    bool by_name = request->name[0] != '\0';
    bool by_address = request->address.family != IP_NONE;

    return by_name == by_address ? "authorize.name" : NULL;
}

const char *n2_check(const struct n2_message *message)
{
    const struct n2_row *row = n2_row(message->type);

    if (!row)
        return "body";
    if (row->transaction != (message->transaction != 0))
        return "transaction";
    if (message->fd_count != row->fd_count)
        return "fd_count";
    switch (message->type) {
    case N2_OPEN_RELAY:
        return check_open_relay(&message->open_relay);
    case N2_AUTHORIZE:
        return check_authorize(&message->authorize);
    default:
        return NULL;
    }
}
