#include "tests/unit/relayd/fake.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log/log.h"
#include "relayd/plane/socket/flow.h"

/* The rows of the transports name them; no test here has a socket plane. */
const struct flow_ops tcp_transparent_flow_ops, tcp_connect_flow_ops, tcp_bind_flow_ops;
const struct flow_ops udp_flow_ops, udp_associate_ops;

/* As with `advertise: {192.0.2.1: 203.0.113.9}`. */
struct endpoint endpoints_advertised(const struct endpoints *endpoints,
                                     const struct endpoint *bound)
{
    struct endpoint out = *bound;
    struct endpoint private = fake_endpoint("192.0.2.1:1");

    (void)endpoints;
    if (ip_address_equal(&bound->address, &private.address)) {
        out.address = fake_endpoint("203.0.113.9:1").address;
    }
    return out;
}

/* This host has no address for clients in 2001:db8:dead::/48. */
int endpoints_choose_bound(const struct endpoints *endpoints, const struct ip_address *source,
                           const struct ip_address *hint, struct ip_address *out)
{
    static const uint8_t unserved[] = {0x20, 0x01, 0x0d, 0xb8, 0xde, 0xad};

    (void)endpoints;
    (void)hint;
    if (source->family == IP_V6 && memcmp(source->bytes, unserved, sizeof(unserved)) == 0) {
        return -EADDRNOTAVAIL;
    }
    *out = *source;
    return 0;
}

struct endpoint fake_endpoint(const char *text)
{
    struct endpoint endpoint;
    ck_assert_msg(endpoint_parse(text, &endpoint) == 0, "not an endpoint: %s", text);
    return endpoint;
}

/* ---- the plane ------------------------------------------------------------------------------ */

static struct fake_plane *plane_of(const struct relay *relay)
{
    return (struct fake_plane *)relay->plane;
}

static void plane_open(struct plane *plane, struct relay *relay)
{
    struct fake_plane *fake = (struct fake_plane *)plane;
    struct fake_flow *flow = calloc(1, sizeof(*flow));

    ck_assert_ptr_nonnull(flow);
    ck_assert_ptr_null(relay->flow);
    flow->relay = relay;
    flow->next = fake->flows;
    fake->flows = flow;
    fake->flow_count++;
    fake->opens++;
    relay->flow = flow;
    flow->in_open = true;
    if (fake->in_open != NULL) {
        fake->in_open(relay);
    }
    /* The relay is still there: close is not called, and nothing freed, from inside open. */
    ck_assert(relay->flow == flow && !flow->close_called);
    flow->in_open = false;
}

static void plane_close(struct plane *plane, struct relay *relay, bool abort)
{
    struct fake_plane *fake = (struct fake_plane *)plane;
    struct fake_flow *flow = relay->flow;

    ck_assert_ptr_nonnull(flow);
    ck_assert_msg(!flow->in_open, "close from inside open");
    ck_assert_msg(!flow->close_called, "close called twice");
    flow->close_called = true;
    flow->abort = abort;
    fake->closes++;
    fake->last_abort = abort;
    if (fake->in_close != NULL) {
        fake->in_close(relay); /* may be the relay's end */
    }
}

void fake_plane_closed(struct relay *relay)
{
    struct fake_plane *fake = plane_of(relay);
    struct fake_flow *flow = relay->flow;
    struct n2_counters counters = fake->counters;

    ck_assert(flow->close_called);
    counters.drops += flow->drops;
    for (struct fake_flow **at = &fake->flows; *at != NULL; at = &(*at)->next) {
        if (*at == flow) {
            *at = flow->next;
            break;
        }
    }
    free(flow);
    relay->flow = NULL;
    fake->flow_count--;
    relay_plane_closed(relay, &counters);
}

static void plane_counters(const struct plane *plane, const struct relay *relay,
                           struct n2_counters *out, uint64_t *idle_ms)
{
    const struct fake_flow *flow = relay->flow;
    *out = ((const struct fake_plane *)plane)->counters;
    out->drops += flow->drops;
    *idle_ms = 17;
}

static void plane_attach(struct plane *plane, struct relay *relay, int fd, const uint8_t *early,
                         size_t length)
{
    struct fake_plane *fake = (struct fake_plane *)plane;

    ck_assert_int_eq(relay->state, RELAY_ST_WAITING);
    ck_assert_int_eq(close(fd), 0);
    fake->attaches++;
    fake->early_length = length;
    memcpy(fake->early, early, length);
    if (fake->in_attach != NULL) {
        fake->in_attach(relay); /* may be the relay's end */
    }
}

/* Comes before the first of the peer's relays is closed. */
static void plane_peer_lost(struct plane *plane, const struct relay_peer *peer)
{
    struct fake_plane *fake = (struct fake_plane *)plane;

    ck_assert(!peer->lost);
    fake->peers_lost++;
    fake->lost_index = peer->index;
}

static uint64_t plane_drops(const struct plane *plane, const struct relay *relay)
{
    (void)plane;
    ck_assert(relay->state == RELAY_ST_WAITING || relay->state == RELAY_ST_ACTIVE);
    return ((const struct fake_flow *)relay->flow)->drops;
}

static const char *plane_refuses(const struct plane *plane, const struct relay *relay)
{
    (void)relay;
    return ((const struct fake_plane *)plane)->refusal;
}

void fake_plane_init(struct fake_plane *plane)
{
    *plane = (struct fake_plane){.ops = {.id = N2_PLANE_SOCKET,
                                         .refuses = plane_refuses,
                                         .open = plane_open,
                                         .close = plane_close,
                                         .counters = plane_counters,
                                         .attach = plane_attach,
                                         .drops = plane_drops,
                                         .peer_lost = plane_peer_lost}};
    plane->plane.ops = &plane->ops;
}

void fake_opened(struct relay *relay)
{
    relay->bound = fake_endpoint("192.0.2.1:20000");
    relay->egress = fake_endpoint("192.0.2.2:30000");
    relay_opened(relay);
}

void fake_failed(struct relay *relay)
{
    relay_open_failed(relay, N2_ERROR_REFUSED, "refused by the target");
}

void fake_opened_and_ended(struct relay *relay)
{
    fake_opened(relay);
    relay_client_arrived(relay);
    relay_ended(relay, N2_REASON_TARGET_RESET);
}

/* ---- the peer ------------------------------------------------------------------------------- */

static void peer_count(uint8_t *counts, uint64_t association)
{
    ck_assert_uint_lt(association, FAKE_ASSOCIATIONS);
    ck_assert_msg(++counts[association] == 1, "told twice about association %llu",
                  (unsigned long long)association);
}

static void peer_send(struct relay_peer *relays, const struct n2_message *message)
{
    struct fake_peer *peer = (struct fake_peer *)relays;
    static uint8_t frame[N2_PAYLOAD_MAX + 16];

    ck_assert_msg(!peer->dead, "%s for a dead peer", n2_type_name(message->type));
    ck_assert_msg(n2_encode(message, frame, sizeof(frame)) > 0, "%s is not valid",
                  n2_type_name(message->type));
    if (peer->message_count < FAKE_MESSAGES) {
        peer->messages[peer->message_count] = *message;
    } else {
        peer->messages[FAKE_MESSAGES - 1] = *message;
    }
    peer->message_count++;
    switch (message->type) {
    case N2_RELAY_OPENED:
        ck_assert_uint_eq(message->transaction, 1000 + message->relay_opened.association);
        peer_count(peer->answers, message->relay_opened.association);
        peer_count(peer->opened, message->relay_opened.association);
        peer->relays[message->relay_opened.association] = message->relay_opened.relay;
        break;
    case N2_RELAY_FAILED:
        ck_assert_uint_eq(message->transaction, 1000 + message->relay_failed.association);
        peer_count(peer->answers, message->relay_failed.association);
        break;
    case N2_RELAY_CLOSED:
        ck_assert_uint_eq(message->transaction, 0);
        ck_assert_msg(peer->opened[message->relay_closed.association] == 1,
                      "RelayClosed without RelayOpened");
        peer_count(peer->closed, message->relay_closed.association);
        ck_assert_uint_eq(message->relay_closed.relay,
                          peer->relays[message->relay_closed.association]);
        break;
    case N2_RELAY_CONNECTED:
        ck_assert_uint_eq(message->transaction, 0);
        peer->connected++;
        break;
    case N2_RELAY_EVENT:
        peer->events++;
        break;
    default:
        ck_abort_msg("relays do not send %s", n2_type_name(message->type));
    }
}

void fake_peer_init(struct fake *fake, struct fake_peer *peer)
{
    *peer = (struct fake_peer){0};
    ck_assert_int_eq(relay_peer_init(&peer->peer, &fake->context, peer_send), 0);
}

const struct n2_message *fake_peer_last(const struct fake_peer *peer)
{
    ck_assert_uint_gt(peer->message_count, 0);
    size_t last = peer->message_count < FAKE_MESSAGES ? peer->message_count : FAKE_MESSAGES;
    return &peer->messages[last - 1];
}

/* ---- the whole ------------------------------------------------------------------------------ */

static void on_tick(uv_timer_t *timer)
{
    (void)timer;
}

void fake_setup(struct fake *fake, uint32_t max)
{
    *fake = (struct fake){0};
    log_setup("check", LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
    ck_assert_int_eq(uv_loop_init(&fake->loop), 0);
    uv_timer_init(&fake->loop, &fake->tick);
    uv_timer_start(&fake->tick, on_tick, 5, 5);
    uv_unref((uv_handle_t *)&fake->tick);
    relayd_metrics_init(&fake->metrics);
    fake_plane_init(&fake->plane);
    planes_add(&fake->planes, &fake->plane.plane);
    fake->context = (struct relay_context){.loop = &fake->loop,
                                           .transport = transport_by_ptcl(PTCL_TCP),
                                           .floor = &fake->floor,
                                           .planes = &fake->planes,
                                           .metrics = &fake->metrics};
    ck_assert_int_eq(relay_table_new(&fake->context.table, max), 0);
}

void fake_teardown(struct fake *fake)
{
    uint64_t cursor = 0;
    struct relay *relay;

    fake->plane.in_close = fake_plane_closed;
    while (fake->plane.flows != NULL && fake->plane.flows->close_called) {
        fake_plane_closed(fake->plane.flows->relay);
    }
    while ((relay = relay_table_next(fake->context.table, &cursor)) != NULL) {
        if (((struct fake_flow *)relay->flow)->close_called) {
            fake_plane_closed(relay);
        } else {
            relay_close(relay, N2_REASON_SHUTDOWN);
        }
    }
    ck_assert_uint_eq(relay_table_count(fake->context.table), 0);
    ck_assert_uint_eq(fake->plane.flow_count, 0);
    ck_assert_uint_eq(fake->plane.opens, fake->plane.closes);
    ck_assert_uint_eq(fake->context.labels.count, 0);
    for (size_t i = 0; i < RELAYD_METRIC_COUNT; i++) {
        const struct metric *row = &fake->metrics.rows[i];
        ck_assert_ptr_nonnull(row->name);
        ck_assert_msg(row->type != METRIC_GAUGE || row->value == 0, "%s is %llu at the end",
                      row->name, (unsigned long long)row->value);
    }
    uv_close((uv_handle_t *)&fake->tick, NULL);
    uv_run(&fake->loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&fake->loop), 0);
    relay_table_free(fake->context.table);
}

struct n2_open_relay fake_order(uint64_t association)
{
    struct n2_open_relay order = {.association = association,
                                  .kind = N2_KIND_TRANSPARENT,
                                  .ptcl = PTCL_TCP,
                                  .source = fake_endpoint("198.51.100.7:4000"),
                                  .destination_count = 1,
                                  .user = "alice",
                                  .rule = "web"};
    order.destinations[0] = fake_endpoint("203.0.113.5:80");
    return order;
}

struct relay *fake_open(struct fake *fake, struct fake_peer *peer,
                        const struct n2_open_relay *order)
{
    struct relay *before = LIST_FIRST(&peer->peer.relays);

    relay_order(&fake->context, &peer->peer, 1000 + order->association, order);
    struct relay *after = LIST_FIRST(&peer->peer.relays);
    return after == before ? NULL : after;
}
