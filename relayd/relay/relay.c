#include "relayd/relay/relay.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/log/log.h"
#include "relayd/guard.h"
#include "relayd/relay/control.h"
#include "relayd/relay/order.h"
#include "relayd/relay/pending_order.h"

enum relay_input_type {
    EV_OPENED,
    EV_OPEN_FAILED, /* error, text */
    EV_CLIENT_ARRIVED,
    EV_PEER_CONNECTED,
    EV_ENDED, /* reason; the plane says so */
    EV_CLOSE, /* reason; somebody else wants it */
    EV_DEADLINE,
    EV_PLANE_CLOSED, /* counters */
};

struct relay_input {
    enum relay_input_type type;
    enum n2_error error;
    enum n2_reason reason;
    const char *text;
    const struct n2_counters *counters;
};

/* Clients can make orders fail as fast as they like; every relay that lived is logged. */
static struct log_limit failures = LOG_LIMIT_INIT(100, 1000);

static void relay_event(struct relay *relay, const struct relay_input *input);

const char *relay_state_name(enum relay_state state)
{
    switch (state) {
    case RELAY_ST_OPENING:
        return "opening";
    case RELAY_ST_WAITING:
        return "waiting";
    case RELAY_ST_ACTIVE:
        return "active";
    case RELAY_ST_CLOSING:
        return "closing";
    }
    return "?";
}

/* ---- what the peer is told ------------------------------------------------------------------ */

static void relay_send(struct relay *relay, const struct n2_message *message)
{
    if (!relay->peer->lost) {
        relay->peer->send(relay->peer, message);
    }
}

static void send_failed(struct relay_peer *peer, uint64_t transaction,
                        const struct n2_relay_failed *why)
{
    struct n2_message message = {
        .transaction = transaction, .type = N2_RELAY_FAILED, .relay_failed = *why};
    peer->send(peer, &message);
}

static void send_opened(struct relay *relay, uint64_t transaction)
{
    struct n2_message message = {.transaction = transaction, .type = N2_RELAY_OPENED};
    struct n2_relay_opened *opened = &message.relay_opened;

    opened->association = relay->association;
    opened->relay = relay->id;
    opened->bound = endpoints_advertised(relay->peer->context->endpoints, &relay->bound);
    opened->egress = relay->egress;
    opened->plane = relay->plane->ops->id;
    snprintf(opened->plane_reason, sizeof(opened->plane_reason), "%s", relay->plane_reason);
    if (relay->kind == N2_KIND_CONNECT) {
        opened->destination = relay->destination;
    }
    relay_send(relay, &message);
}

static void send_connected(struct relay *relay)
{
    struct n2_message message = {
        .type = N2_RELAY_CONNECTED,
        .relay_connected = {.relay = relay->id, .peer = relay->destination}};
    relay_send(relay, &message);
}

static void send_closed(struct relay *relay, const struct n2_counters *counters,
                        uint64_t duration_ms)
{
    struct n2_message message = {.type = N2_RELAY_CLOSED,
                                 .relay_closed = {.relay = relay->id,
                                                  .association = relay->association,
                                                  .reason = relay->reason,
                                                  .counters = *counters,
                                                  .duration_ms = duration_ms}};
    relay_send(relay, &message);
}

/* ---- state ---------------------------------------------------------------------------------- */

/* For the log, which leaves NULL out. */
static const char *label_shown(const struct label *label)
{
    const char *text = label_text(label);
    return text[0] != '\0' ? text : NULL;
}

static enum relayd_metric state_metric(enum relay_state state)
{
    return RELAYD_RELAYS_OPENING + (unsigned)state;
}

static void relay_set_state(struct relay *relay, enum relay_state state)
{
    struct relayd_metrics *metrics = relay->peer->context->metrics;

    LOG(LOG_LEVEL_DEBUG, "relay-state", LOG_U("relay", relay->id),
        LOG_S("from", relay_state_name(relay->state)), LOG_S("to", relay_state_name(state)));
    relayd_metrics_subtract(metrics, state_metric(relay->state), 1);
    relayd_metrics_add(metrics, state_metric(state), 1);
    relay->state = state;
    pending_order_end(relay); /* only OPENING has one */
}

/* Enters CLOSING. The relay may be gone when this returns. */
static void relay_enter_closing(struct relay *relay, enum n2_reason reason)
{
    relay->reason = reason;
    relay_set_state(relay, RELAY_ST_CLOSING);
    if (!relay->in_open) { /* otherwise relay_start() does it when open has returned */
        relay->plane->ops->close(relay->plane, relay, reason != N2_REASON_FINISHED);
    }
}

/* The order is answered with a failure; no RelayClosed will follow. */
static void relay_fail(struct relay *relay, enum n2_error error, enum n2_reason reason,
                       const char *text)
{
    struct n2_relay_failed why = {.association = relay->association, .error = error};

    snprintf(why.text, sizeof(why.text), "%s", text);
    LOG_LIMITED(&failures, LOG_LEVEL_INFO, "relay-failed", LOG_U("relay", relay->id),
                LOG_U("association", relay->association), LOG_S("cause", n2_error_name(error)),
                LOG_S("text", text), LOG_E("source", &relay->source),
                LOG_E("destination", &relay->destination), LOG_S("user", label_shown(relay->user)));
    relayd_metrics_failed(relay->peer->context->metrics, error);
    if (!relay->peer->lost) {
        send_failed(relay->peer, relay->order->transaction, &why);
    }
    relay_enter_closing(relay, reason);
}

/* Closed from outside before it was open: what does the waiting peer hear? */
static void relay_fail_closed(struct relay *relay, enum n2_reason reason)
{
    /* DRAINING: another relayd may take the order. */
    enum n2_error error = reason == N2_REASON_SHUTDOWN ? N2_ERROR_DRAINING : N2_ERROR_GENERAL;
    char text[N2_TEXT_MAX + 1];

    snprintf(text, sizeof(text), "closed before it was open: %s", n2_reason_name(reason));
    relay_fail(relay, error, reason, text);
}

static void relay_become_open(struct relay *relay)
{
    uint64_t transaction = relay->order->transaction;

    relay->was_opened = true;
    relay_set_state(relay, RELAY_ST_WAITING);
    relayd_metrics_add(relay->peer->context->metrics, RELAYD_OPENED, 1);
    LOG(LOG_LEVEL_INFO, "relay-opened", LOG_U("relay", relay->id),
        LOG_U("association", relay->association), LOG_S("kind", n2_kind_name(relay->kind)),
        LOG_E("source", &relay->source), LOG_E("bound", &relay->bound),
        LOG_E("egress", &relay->egress), LOG_E("destination", &relay->destination),
        LOG_S("plane", n2_plane_name(relay->plane->ops->id)),
        LOG_S("plane_reason", relay->plane_reason), LOG_S("user", label_shown(relay->user)),
        LOG_S("rule", label_shown(relay->rule)));
    send_opened(relay, transaction);
}

static void relay_connect_peer(struct relay *relay)
{
    relay->peer_connected = true;
    LOG(LOG_LEVEL_INFO, "relay-connected", LOG_U("relay", relay->id),
        LOG_U("association", relay->association), LOG_E("bound", &relay->bound),
        LOG_E("peer", &relay->destination));
    send_connected(relay);
}

static void relay_remove(struct relay *relay)
{
    struct relay_context *context = relay->peer->context;

    relayd_metrics_subtract(context->metrics, RELAYD_RELAYS, 1);
    relayd_metrics_subtract(context->metrics, state_metric(relay->state), 1);
    if (relay->plane != NULL) {
        relayd_metrics_plane(context->metrics, relay->plane->ops->id, -1);
    }
    guard_unwatch(context->guard, relay);
    pending_order_end(relay);
    relay_peer_leave(relay);
    label_put(&context->labels, relay->user);
    label_put(&context->labels, relay->rule);
    relay_table_remove(context->table, relay);
}

/* The plane has let go. */
static void relay_finish(struct relay *relay, const struct n2_counters *counters)
{
    uint64_t duration_ms = uv_now(relay->peer->context->loop) - relay->opened_at_ms;

    if (relay->was_opened) {
        relayd_metrics_closed(relay->peer->context->metrics, relay->plane->ops->id, relay->reason,
                              counters);
        LOG(LOG_LEVEL_INFO, "relay-closed", LOG_U("relay", relay->id),
            LOG_U("association", relay->association),
            LOG_S("reason", n2_reason_name(relay->reason)), LOG_E("source", &relay->source),
            LOG_E("destination", &relay->destination), LOG_S("user", label_shown(relay->user)),
            LOG_U("up_packets", counters->up_packets), LOG_U("up_bytes", counters->up_bytes),
            LOG_U("down_packets", counters->down_packets),
            LOG_U("down_bytes", counters->down_bytes), LOG_U("drops", counters->drops),
            LOG_U("duration_ms", duration_ms));
        send_closed(relay, counters, duration_ms);
    }
    relay_remove(relay);
}

/* ---- events --------------------------------------------------------------------------------- */

/* Only a defect of a plane leads here; the relay stays as it is. */
static void relay_unexpected(const struct relay *relay, const char *event)
{
    LOG(LOG_LEVEL_ERROR, "relay-event-unexpected", LOG_U("relay", relay->id), LOG_S("event", event),
        LOG_S("state", relay_state_name(relay->state)));
}

static void relay_event_opening(struct relay *relay, const struct relay_input *input)
{
    switch (input->type) {
    case EV_OPENED:
        relay_become_open(relay);
        return;
    case EV_OPEN_FAILED:
        relay_fail(relay, input->error, N2_REASON_ERROR, input->text);
        return;
    case EV_ENDED:
    case EV_CLOSE:
        relay_fail_closed(relay, input->reason);
        return;
    case EV_DEADLINE:
        relay_fail(relay, N2_ERROR_TIMED_OUT, N2_REASON_ERROR, "the order's deadline has passed");
        return;
    case EV_CLIENT_ARRIVED:
        relay_unexpected(relay, "client-arrived");
        return;
    case EV_PEER_CONNECTED:
        relay_unexpected(relay, "peer-connected");
        return;
    case EV_PLANE_CLOSED:
        relay_unexpected(relay, "plane-closed");
        return;
    }
}

/* WAITING and ACTIVE */
static void relay_event_open(struct relay *relay, const struct relay_input *input)
{
    switch (input->type) {
    case EV_CLIENT_ARRIVED:
        if (relay->state == RELAY_ST_WAITING) {
            relay_set_state(relay, RELAY_ST_ACTIVE);
        }
        return;
    case EV_PEER_CONNECTED:
        if (relay->kind == N2_KIND_BIND && !relay->peer_connected) {
            relay_connect_peer(relay);
        } else {
            relay_unexpected(relay, "peer-connected");
        }
        return;
    case EV_ENDED:
    case EV_CLOSE:
        relay_enter_closing(relay, input->reason);
        return;
    case EV_OPEN_FAILED:
        relay_enter_closing(relay, N2_REASON_ERROR);
        return;
    case EV_OPENED:
        relay_unexpected(relay, "opened");
        return;
    case EV_DEADLINE:
        relay_unexpected(relay, "deadline");
        return;
    case EV_PLANE_CLOSED:
        relay_unexpected(relay, "plane-closed");
        return;
    }
}

static void relay_event_closing(struct relay *relay, const struct relay_input *input)
{
    switch (input->type) {
    case EV_PLANE_CLOSED:
        if (relay->in_open) { /* it was not asked to close yet */
            relay_unexpected(relay, "plane-closed");
            return;
        }
        relay_finish(relay, input->counters);
        return;
    case EV_OPENED: /* overtaken by the close */
    case EV_OPEN_FAILED:
    case EV_CLIENT_ARRIVED:
    case EV_PEER_CONNECTED:
    case EV_ENDED:
    case EV_CLOSE:
    case EV_DEADLINE:
        return;
    }
}

static void relay_event(struct relay *relay, const struct relay_input *input)
{
    switch (relay->state) {
    case RELAY_ST_OPENING:
        relay_event_opening(relay, input);
        return;
    case RELAY_ST_WAITING:
    case RELAY_ST_ACTIVE:
        relay_event_open(relay, input);
        return;
    case RELAY_ST_CLOSING:
        relay_event_closing(relay, input);
        return;
    }
}

/* ---- upcalls of a plane --------------------------------------------------------------------- */

void relay_opened(struct relay *relay)
{
    relay_event(relay, &(struct relay_input){.type = EV_OPENED});
}

void relay_open_failed(struct relay *relay, enum n2_error error, const char *text)
{
    relay_event(relay, &(struct relay_input){.type = EV_OPEN_FAILED, .error = error, .text = text});
}

void relay_client_arrived(struct relay *relay)
{
    relay_event(relay, &(struct relay_input){.type = EV_CLIENT_ARRIVED});
}

void relay_peer_connected(struct relay *relay)
{
    relay_event(relay, &(struct relay_input){.type = EV_PEER_CONNECTED});
}

const struct transport *relay_transport(const struct relay *relay)
{
    return relay->peer->context->transport;
}

const char *relay_forbids(const struct relay *relay, const struct ip_address *address)
{
    return order_destination_problem(relay->peer->context, address);
}

void relay_ended(struct relay *relay, enum n2_reason reason)
{
    relay_event(relay, &(struct relay_input){.type = EV_ENDED, .reason = reason});
}

void relay_plane_closed(struct relay *relay, const struct n2_counters *counters)
{
    relay_event(relay, &(struct relay_input){.type = EV_PLANE_CLOSED, .counters = counters});
}

void relay_notify(struct relay *relay, enum n2_event event, uint64_t value)
{
    if (relay->state != RELAY_ST_WAITING && relay->state != RELAY_ST_ACTIVE) {
        return; /* the peer does not know the relay, or will hear of its end */
    }
    LOG(LOG_LEVEL_DEBUG, "relay-event", LOG_U("relay", relay->id),
        LOG_S("event", n2_event_name(event)), LOG_U("value", value));
    struct n2_message message = {
        .type = N2_RELAY_EVENT,
        .relay_event = {.relay = relay->id, .event = event, .value = value}};
    relay_send(relay, &message);
}

/* ---- control -------------------------------------------------------------------------------- */

bool relay_cancel_order(struct relay_peer *peer, uint64_t transaction)
{
    struct relay *relay = pending_order_find(peer, transaction);

    if (relay == NULL) {
        return false;
    }
    relay_close(relay, N2_REASON_CONTROL_CLOSED);
    return true;
}

static void deadline_passed(struct relay *relay)
{
    relay_event(relay, &(struct relay_input){.type = EV_DEADLINE});
}

/* Whose client does the peer bring? */
static bool relay_awaits_attach(const struct relay *relay)
{
    if (relay->state != RELAY_ST_WAITING || relay->attached) {
        return false;
    }
    return relay->kind == N2_KIND_CONNECT || (relay->kind == N2_KIND_BIND && relay->peer_connected);
}

void relay_drop_client(int fd)
{
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1},
                     sizeof(struct linger));
    close(fd);
}

bool relay_attach(struct relay *relay, int fd, const uint8_t *early, size_t length)
{
    if (relay->state == RELAY_ST_CLOSING && relay->was_opened) {
        relay_drop_client(fd); /* crossed by the RelayClosed that is under way */
        relayd_metrics_add(relay->peer->context->metrics, RELAYD_N2_UNKNOWN_RELAY, 1);
        return true;
    }
    if (!relay_awaits_attach(relay)) {
        close(fd);
        return false;
    }
    relay->attached = true;
    relay->plane->ops->attach(relay->plane, relay, fd, early, length);
    return true;
}

void relay_close(struct relay *relay, enum n2_reason reason)
{
    relay_event(relay, &(struct relay_input){.type = EV_CLOSE, .reason = reason});
}

/* Lets the plane open it. The relay may be gone when this returns. */
static void relay_start(struct relay *relay)
{
    relay->in_open = true;
    relay->plane->ops->open(relay->plane, relay);
    relay->in_open = false;
    if (relay->state == RELAY_ST_CLOSING) {
        relay->plane->ops->close(relay->plane, relay, relay->reason != N2_REASON_FINISHED);
    } else if (relay->state == RELAY_ST_OPENING && pending_order_keep(relay, deadline_passed) < 0) {
        relay_fail(relay, N2_ERROR_GENERAL, N2_REASON_ERROR, "out of memory");
    }
}

/* A relay in the table and with its peer, not started. NULL when out of memory. */
static struct relay *relay_new(struct relay_context *context, struct relay_peer *peer,
                               struct relay_order *order, uint64_t transaction,
                               const struct n2_open_relay *wanted)
{
    struct relay *relay = relay_table_add(context->table);
    if (relay == NULL) {
        return NULL;
    }
    relay->association = wanted->association;
    relay->kind = wanted->kind;
    relay->state = RELAY_ST_OPENING;
    relay->source = wanted->source;
    relay->destination = wanted->destinations[0];
    relay->learn_source_port = wanted->learn_source_port;
    relay->limits = wanted->limits;
    relay->opened_at_ms = uv_now(context->loop);
    relay->guard_at_ms = (uint32_t)relay->opened_at_ms;
    relay_peer_adopt(peer, relay);
    relayd_metrics_add(context->metrics, RELAYD_RELAYS, 1);
    relayd_metrics_add(context->metrics, RELAYD_RELAYS_OPENING, 1);
    relay->user = label_get(&context->labels, wanted->user);
    relay->rule = label_get(&context->labels, wanted->rule);
    if (relay->user == NULL || relay->rule == NULL ||
        pending_order_begin(order, relay, transaction, wanted) < 0) {
        relay_remove(relay);
        return NULL;
    }
    return relay;
}

static void order_failed(struct relay_context *context, struct relay_peer *peer,
                         uint64_t transaction, const struct n2_open_relay *wanted,
                         const struct n2_relay_failed *why)
{
    LOG_LIMITED(&failures, LOG_LEVEL_INFO, "order-refused",
                LOG_U("association", wanted->association),
                LOG_S("cause", n2_error_name(why->error)), LOG_S("text", why->text),
                LOG_E("source", &wanted->source),
                LOG_S("user", wanted->user[0] != '\0' ? wanted->user : NULL));
    relayd_metrics_failed(context->metrics, why->error);
    send_failed(peer, transaction, why);
}

/* Gives it a plane. False with *why when there is none for it. */
static bool relay_place(struct relay *relay, struct n2_relay_failed *why)
{
    struct relay_context *context = relay->peer->context;

    relay->plane = planes_choose(context->planes, relay, &relay->plane_reason);
    if (relay->plane == NULL) {
        why->error = N2_ERROR_UNSUPPORTED;
        snprintf(why->text, sizeof(why->text), "%s", relay->plane_reason);
        return false;
    }
    relayd_metrics_plane(context->metrics, relay->plane->ops->id, 1);
    if (guard_watch(context->guard, relay) < 0) {
        snprintf(why->text, sizeof(why->text), "out of memory");
        return false;
    }
    return true;
}

void relay_order(struct relay_context *context, struct relay_peer *peer, uint64_t transaction,
                 const struct n2_open_relay *wanted)
{
    struct n2_relay_failed why = {.association = wanted->association, .error = N2_ERROR_GENERAL};

    relayd_metrics_add(context->metrics, RELAYD_ORDERS, 1);
    if (!order_judge(context, peer, wanted, &why)) {
        order_failed(context, peer, transaction, wanted, &why);
        return;
    }
    struct relay_order order;
    struct relay *relay = relay_new(context, peer, &order, transaction, wanted);
    if (relay == NULL) {
        snprintf(why.text, sizeof(why.text), "out of memory");
        order_failed(context, peer, transaction, wanted, &why);
        return;
    }
    if (!relay_place(relay, &why)) {
        relay_remove(relay);
        order_failed(context, peer, transaction, wanted, &why);
        return;
    }
    relay_start(relay);
}
