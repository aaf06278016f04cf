/*
 *     WAITING ── timer ──▶ connect(), peer's uid ──▶ CONNECTING ── HelloAck of our PTCL ──▶
 * CONNECTED ▲                        │ failed                │ down                               │
 * down: every relay is lost
 *        └────────────────────────┴───────────────────────┴────────────────────────────────────┘
 *
 * A relay that is opened for a ticket which is gone (its session died while the order was under
 * way) comes as a stray answer and is closed at once: otherwise it would live without a control
 * connection, against the draft's section 4.
 */
#include "socksd/relays/relay_daemon.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/ipc/peer.h"
#include "common/log/log.h"
#include "proto/ptcl.h"

/* More than relayd's own answer to deadline_ms takes to arrive. */
#define ORDER_GRACE_MS 1000

enum daemon_state {
    DAEMON_ST_WAITING,
    DAEMON_ST_CONNECTING,
    DAEMON_ST_CONNECTED,
    DAEMON_ST_CLOSED
};

struct relay_daemon {
    enum daemon_state state;
    bool draining;
    uint8_t ptcl;
    unsigned failures; /* in a row */
    uid_t peer_uid;
    size_t ordered;
    struct relay_ticket *relays; /* hash by number */
    struct n2_link *link;        /* CONNECTING and CONNECTED */
    uv_timer_t retry;
    struct n2_link_config link_config;
    struct counters *counters;
    const struct relay_daemon_ops *ops;
    void *user;
    char instance[N2_LABEL_MAX + 1];
    char socket[];
};

uint64_t relay_backoff_ms(unsigned failures, uint32_t random)
{
    uint64_t delay = RELAY_BACKOFF_MIN_MS;
    for (unsigned i = 1; i < failures && delay < RELAY_BACKOFF_MAX_MS; i++)
        delay *= 2;
    if (delay > RELAY_BACKOFF_MAX_MS)
        delay = RELAY_BACKOFF_MAX_MS;
    const uint64_t spread = delay * 2 / 5;
    return delay - spread / 2 + random % (spread + 1);
}

static void connect_now(uv_timer_t *timer);

static void wait_to_retry(struct relay_daemon *daemon)
{
    uint32_t random = 0;
    (void)uv_random(NULL, NULL, &random, sizeof(random), 0, NULL); /* without: no jitter */
    daemon->state = DAEMON_ST_WAITING;
    daemon->failures++;
    uv_timer_start(&daemon->retry, connect_now, relay_backoff_ms(daemon->failures, random), 0);
}

/* Once loudly; the attempts that follow say nothing new. */
static enum log_level connect_failure_level(const struct relay_daemon *daemon)
{
    return daemon->failures == 0 ? LOG_LEVEL_WARNING : LOG_LEVEL_DEBUG;
}

static void count_connected(struct relay_daemon *daemon, int change)
{
    counter_set(daemon->counters, COUNTER_N2_CONNECTED,
                counter_value(daemon->counters, COUNTER_N2_CONNECTED) + (uint64_t)(int64_t)change);
}

/* ---- tickets --------------------------------------------------------------------------------- */

static void ticket_detach(struct relay_ticket *ticket)
{
    struct relay_daemon *daemon = ticket->daemon;

    if (ticket->state == RELAY_TICKET_ORDERED)
        daemon->ordered--;
    if (ticket->state == RELAY_TICKET_OPEN)
        HASH_DELETE(hh, daemon->relays, ticket);
    ticket->state = RELAY_TICKET_FREE;
    ticket->daemon = NULL;
}

static void send_close(struct relay_daemon *daemon, uint64_t relay, enum n2_reason reason)
{
    struct n2_message message = {.type = N2_CLOSE_RELAY};
    message.close_relay.relay = relay;
    message.close_relay.reason = reason;
    if (daemon->link)
        (void)n2_link_send(daemon->link, &message,
                           -1); /* a failure brings the link down: all is closed */
}

/* The answer that crosses it, or follows from it, is a stray one. */
static void cancel_order(struct relay_daemon *daemon, uint64_t transaction)
{
    const struct n2_message message = {.type = N2_CANCEL_ORDER, .cancelled = transaction};

    n2_link_cancel(daemon->link, transaction);
    (void)n2_link_send(daemon->link, &message, -1);
}

void relay_ticket_close(struct relay_ticket *ticket, enum n2_reason reason)
{
    if (ticket->state == RELAY_TICKET_OPEN)
        send_close(ticket->daemon, ticket->relay, reason);
}

void relay_ticket_attach(struct relay_ticket *ticket, int fd, const uint8_t *early, size_t length)
{
    struct n2_message message = {.type = N2_ATTACH_CLIENT, .fd_count = 1};

    if (ticket->state != RELAY_TICKET_OPEN || !ticket->daemon->link) {
        close(fd);
        return;
    }
    message.attach_client.relay = ticket->relay;
    message.attach_client.early_length = (uint16_t)length;
    memcpy(message.attach_client.early, early, length);
    (void)n2_link_send(ticket->daemon->link, &message, fd);
}

static void send_verdict(struct relay_daemon *daemon, uint64_t transaction,
                         const struct n2_authorized *verdict)
{
    const struct n2_message message = {
        .type = N2_AUTHORIZED, .transaction = transaction, .authorized = *verdict};

    if (daemon->link)
        (void)n2_link_send(daemon->link, &message, -1);
}

void relay_ticket_authorized(struct relay_ticket *ticket, uint64_t transaction,
                             struct n2_authorized *verdict)
{
    if (ticket->state != RELAY_TICKET_OPEN)
        return;
    verdict->relay = ticket->relay;
    send_verdict(ticket->daemon, transaction, verdict);
}

void relay_ticket_drop(struct relay_ticket *ticket)
{
    struct relay_daemon *daemon = ticket->daemon;
    const enum relay_ticket_state state = ticket->state;

    if (state == RELAY_TICKET_FREE)
        return;
    ticket_detach(ticket);
    if (state == RELAY_TICKET_OPEN)
        send_close(daemon, ticket->relay, N2_REASON_CONTROL_CLOSED);
    else if (daemon->link)
        cancel_order(daemon, ticket->transaction);
}

const char *relay_ticket_instance(const struct relay_ticket *ticket)
{
    return ticket->daemon ? ticket->daemon->instance : "";
}

/* ---- answers to orders ----------------------------------------------------------------------- */

static void order_failed(struct relay_daemon *daemon, struct relay_ticket *ticket, bool elsewhere,
                         enum n2_error error, const char *text)
{
    ticket_detach(ticket);
    daemon->ops->order_failed(ticket, elsewhere, error, text, daemon->user);
}

/* Why this RelayOpened cannot be true; NULL when it can. */
static const char *judge_opened(const struct relay_daemon *daemon,
                                const struct n2_relay_opened *opened)
{
    struct relay_ticket *other;

    if (ip_address_size(&opened->bound.address) == 0 ||
        ip_address_is_unspecified(&opened->bound.address))
        return "BND is not a concrete address";
    HASH_FIND(hh, daemon->relays, &opened->relay, sizeof(opened->relay), other);
    return other ? "this relay exists already" : NULL;
}

static void order_opened(struct relay_daemon *daemon, struct relay_ticket *ticket,
                         const struct n2_message *answer)
{
    const char *problem = judge_opened(daemon, &answer->relay_opened);

    if (problem) {
        order_failed(daemon, ticket, false, N2_ERROR_GENERAL, problem);
        n2_link_refuse(daemon->link, answer, problem);
        return;
    }
    ticket->relay = answer->relay_opened.relay;
    HASH_ADD(hh, daemon->relays, relay, sizeof(ticket->relay), ticket);
    if (!ticket->hh.tbl) {
        order_failed(daemon, ticket, false, N2_ERROR_GENERAL, "out of memory");
        send_close(daemon, answer->relay_opened.relay, N2_REASON_CONTROL_CLOSED);
        return;
    }
    daemon->ordered--;
    ticket->state = RELAY_TICKET_OPEN;
    counter_add(daemon->counters, COUNTER_RELAYS_OPENED);
    ticket->ops->opened(ticket, &answer->relay_opened);
}

static void on_answer(struct n2_link *link, const struct n2_message *answer, void *user)
{
    struct relay_ticket *ticket = user;
    struct relay_daemon *daemon = ticket->daemon;

    if (!answer) {
        const bool lost = !n2_link_is_up(link);
        if (!lost)
            counter_add(daemon->counters, COUNTER_N2_TIMEOUTS);
        order_failed(daemon, ticket, lost, N2_ERROR_GENERAL,
                     lost ? "N2 connection lost" : "no answer in time");
        return;
    }
    switch (answer->type) {
    case N2_RELAY_OPENED:
        order_opened(daemon, ticket, answer);
        return;
    case N2_RELAY_FAILED: {
        const bool draining = answer->relay_failed.error == N2_ERROR_DRAINING;
        daemon->draining = daemon->draining || draining;
        order_failed(daemon, ticket, draining, answer->relay_failed.error,
                     answer->relay_failed.text);
        return;
    }
    default:
        order_failed(daemon, ticket, false, N2_ERROR_GENERAL, "answer of the wrong type");
        n2_link_refuse(link, answer, "not an answer to an order");
        return;
    }
}

int relay_daemon_order(struct relay_daemon *daemon, struct relay_ticket *ticket)
{
    struct n2_message message = {.type = N2_OPEN_RELAY};

    if (!daemon->link || daemon->state != DAEMON_ST_CONNECTED)
        return -ENOTCONN;
    ticket->ops->describe(ticket, &message.open_relay);
    message.open_relay.ptcl = daemon->ptcl;
    message.open_relay.deadline_ms = ticket->deadline_ms;
    int rc = n2_link_request(daemon->link, &message, -1, ticket->deadline_ms + ORDER_GRACE_MS,
                             on_answer, ticket, &ticket->transaction);
    if (rc < 0)
        return rc;
    ticket->daemon = daemon;
    ticket->state = RELAY_TICKET_ORDERED;
    daemon->ordered++;
    return 0;
}

/* ---- messages -------------------------------------------------------------------------------- */

static struct relay_ticket *find_relay(struct relay_daemon *daemon, uint64_t relay)
{
    struct relay_ticket *ticket;
    HASH_FIND(hh, daemon->relays, &relay, sizeof(relay), ticket);
    if (!ticket)
        counter_add(daemon->counters, COUNTER_N2_UNKNOWN_RELAYS);
    return ticket;
}

static void on_stray(struct relay_daemon *daemon, const struct n2_message *message)
{
    counter_add(daemon->counters, COUNTER_N2_STRAY_ANSWERS);
    if (message->type != N2_RELAY_OPENED)
        return;
    counter_add(daemon->counters, COUNTER_N2_STRAY_RELAYS);
    LOG(LOG_LEVEL_INFO, "relay-stray", LOG_S("instance", daemon->instance),
        LOG_U("relay", message->relay_opened.relay),
        LOG_U("session", message->relay_opened.association));
    send_close(daemon, message->relay_opened.relay, N2_REASON_CONTROL_CLOSED);
}

/* Why the peer of a BIND cannot be this; NULL when it can. */
static const char *judge_peer(const struct endpoint *peer)
{
    return ip_address_is_unspecified(&peer->address) || ip_address_size(&peer->address) == 0
               ? "the peer is not a concrete address"
               : NULL;
}

static void on_connected(struct relay_daemon *daemon, const struct n2_message *message)
{
    const struct n2_relay_connected *connected = &message->relay_connected;
    struct relay_ticket *ticket = find_relay(daemon, connected->relay);
    const char *problem = judge_peer(&connected->peer);

    if (!ticket) {
        /* Its session has died, and was closed; it costs nothing to say so again. */
        send_close(daemon, connected->relay, N2_REASON_CONTROL_CLOSED);
        return;
    }
    if (!problem && !ticket->ops->connected(ticket, &connected->peer))
        problem = "the relay awaits no peer";
    if (problem)
        n2_link_refuse(daemon->link, message, problem);
}

static void on_authorize(struct relay_daemon *daemon, const struct n2_message *message)
{
    const struct n2_authorize *asked = &message->authorize;
    struct relay_ticket *ticket = find_relay(daemon, asked->relay);

    if (!ticket) {
        const struct n2_authorized denied = {.relay = asked->relay};
        send_verdict(daemon, message->transaction, &denied);
    } else if (!ticket->ops->authorize(ticket, asked, message->transaction)) {
        n2_link_refuse(daemon->link, message, "the relay has no destinations to ask for");
    }
}

static void on_closed(struct relay_daemon *daemon, const struct n2_relay_closed *closed)
{
    struct relay_ticket *ticket = find_relay(daemon, closed->relay);

    if (!ticket)
        return;
    ticket_detach(ticket);
    ticket->ops->closed(ticket, closed);
}

static void on_event(struct relay_daemon *daemon, const struct n2_relay_event *event)
{
    struct relay_ticket *ticket = find_relay(daemon, event->relay);

    if (ticket)
        ticket->ops->event(ticket, event);
}

static void on_message(struct n2_link *link, const struct n2_message *message, int fd, bool stray,
                       void *user)
{
    struct relay_daemon *daemon = user;

    if (fd >= 0) {
        close(fd);
        n2_link_refuse(link, message, "a descriptor that no command asked for");
        return;
    }
    if (stray) {
        on_stray(daemon, message);
        return;
    }
    switch (message->type) {
    case N2_RELAY_CLOSED:
        on_closed(daemon, &message->relay_closed);
        return;
    case N2_RELAY_EVENT:
        on_event(daemon, &message->relay_event);
        return;
    case N2_RELAY_CONNECTED:
        on_connected(daemon, message);
        return;
    case N2_AUTHORIZE:
        on_authorize(daemon, message);
        return;
    case N2_RELAY_STATS: /* only relays with a byte limit have them, and no rule sets one */
        return;
    default:
        n2_link_refuse(link, message, "not permitted from a relay daemon");
        return;
    }
}

/* ---- the connection -------------------------------------------------------------------------- */

static void on_up(struct n2_link *link, const struct n2_hello *peer, void *user)
{
    struct relay_daemon *daemon = user;

    (void)link;
    memcpy(daemon->instance, peer->instance, sizeof(daemon->instance));
    if (peer->ptcl != daemon->ptcl) {
        char theirs[9], ours[9];
        counter_add(daemon->counters, COUNTER_N2_REFUSED_PEERS);
        LOG(LOG_LEVEL_ERROR, "n2-wrong-ptcl", LOG_S("socket", daemon->socket),
            LOG_S("configured", ptcl_format(daemon->ptcl, ours)),
            LOG_S("served", ptcl_format(peer->ptcl, theirs)));
        n2_link_close(daemon->link);
        daemon->link = NULL;
        wait_to_retry(daemon);
        return;
    }
    daemon->state = DAEMON_ST_CONNECTED;
    daemon->failures = 0;
    daemon->draining = peer->draining;
    count_connected(daemon, 1);
    counter_add(daemon->counters, COUNTER_N2_CONNECTS);
    LOG(LOG_LEVEL_NOTICE, "n2-connected", LOG_S("socket", daemon->socket),
        LOG_S("instance", daemon->instance), LOG_S("build", peer->build),
        LOG_U("capacity", peer->capacity));
    daemon->ops->changed(daemon, daemon->user);
}

/* The relays that lived there are gone with the connection: relayd deletes them too. */
static void lose_relays(struct relay_daemon *daemon)
{
    while (daemon->relays) {
        struct relay_ticket *ticket = daemon->relays;
        ticket_detach(ticket);
        counter_add(daemon->counters, COUNTER_RELAYS_LOST);
        ticket->ops->closed(ticket, NULL);
    }
}

static void on_down(struct n2_link *link, const char *text, void *user)
{
    struct relay_daemon *daemon = user;
    const bool was_connected = daemon->state == DAEMON_ST_CONNECTED;

    (void)link;
    daemon->link = NULL;
    if (was_connected) {
        count_connected(daemon, -1);
        counter_add(daemon->counters, COUNTER_N2_LOSSES);
        LOG(LOG_LEVEL_WARNING, "n2-lost", LOG_S("socket", daemon->socket), LOG_S("why", text),
            LOG_U("relays", HASH_COUNT(daemon->relays)));
    } else {
        counter_add(daemon->counters, COUNTER_N2_CONNECT_FAILURES);
        LOG(connect_failure_level(daemon), "n2-connect-failed", LOG_S("socket", daemon->socket),
            LOG_S("why", text));
    }
    wait_to_retry(daemon);
    lose_relays(daemon);
    daemon->ops->changed(daemon, daemon->user);
}

static void on_relieved(struct n2_link *link, void *user)
{
    struct relay_daemon *daemon = user;
    (void)link;
    daemon->ops->changed(daemon, daemon->user);
}

static const struct n2_link_ops link_ops = {
    .up = on_up, .message = on_message, .down = on_down, .relieved = on_relieved};

/* relayd's uid, ours, or root (who made the socket under socket activation). */
static bool peer_is_accepted(const struct relay_daemon *daemon, int fd)
{
    struct peer_credentials peer;

    if (peer_credentials_get(fd, &peer) == 0 &&
        (peer.uid == 0 || peer.uid == geteuid() || peer.uid == daemon->peer_uid))
        return true;
    counter_add(daemon->counters, COUNTER_N2_REFUSED_PEERS);
    return false;
}

static int connect_link(struct relay_daemon *daemon)
{
    int fd = unix_connect(daemon->socket);
    if (fd < 0)
        return fd;
    if (!peer_is_accepted(daemon, fd)) {
        close(fd);
        return -EPERM;
    }
    return n2_link_open(&daemon->link, daemon->retry.loop, fd, &daemon->link_config, &link_ops,
                        daemon);
}

static void connect_now(uv_timer_t *timer)
{
    struct relay_daemon *daemon = timer->data;
    int rc = connect_link(daemon);

    if (rc == 0) {
        daemon->state = DAEMON_ST_CONNECTING;
        return;
    }
    counter_add(daemon->counters, COUNTER_N2_CONNECT_FAILURES);
    LOG(connect_failure_level(daemon), "n2-connect-failed", LOG_S("socket", daemon->socket),
        LOG_ERRNO(rc));
    daemon->link = NULL;
    wait_to_retry(daemon);
}

/* ---- life ------------------------------------------------------------------------------------ */

int relay_daemon_open(struct relay_daemon **out, uv_loop_t *loop,
                      const struct relay_daemon_config *config, struct counters *counters,
                      const struct relay_daemon_ops *ops, void *user)
{
    const size_t length = strlen(config->socket) + 1;
    struct relay_daemon *daemon = calloc(1, sizeof(*daemon) + length);
    if (!daemon)
        return -ENOMEM;
    memcpy(daemon->socket, config->socket, length);
    daemon->ptcl = config->ptcl;
    daemon->peer_uid = config->peer_uid;
    daemon->link_config = config->link;
    daemon->counters = counters;
    daemon->ops = ops;
    daemon->user = user;
    uv_timer_init(loop, &daemon->retry);
    daemon->retry.data = daemon;
    uv_timer_start(&daemon->retry, connect_now, 0, 0);
    *out = daemon;
    return 0;
}

static void on_timer_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void relay_daemon_close(struct relay_daemon *daemon)
{
    if (daemon->state == DAEMON_ST_CONNECTED)
        count_connected(daemon, -1);
    daemon->state = DAEMON_ST_CLOSED;
    if (daemon->link)
        n2_link_close(daemon->link);
    daemon->link = NULL;
    lose_relays(daemon);
    uv_close((uv_handle_t *)&daemon->retry, on_timer_closed);
}

uint8_t relay_daemon_ptcl(const struct relay_daemon *daemon)
{
    return daemon->ptcl;
}

bool relay_daemon_is_usable(const struct relay_daemon *daemon)
{
    return daemon->state == DAEMON_ST_CONNECTED && !daemon->draining && n2_link_is_up(daemon->link);
}

bool relay_daemon_is_congested(const struct relay_daemon *daemon)
{
    return daemon->state == DAEMON_ST_CONNECTED && n2_link_is_congested(daemon->link);
}

size_t relay_daemon_load(const struct relay_daemon *daemon)
{
    return HASH_COUNT(daemon->relays) + daemon->ordered;
}
