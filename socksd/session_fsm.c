/*
 * The states of a session.
 *
 *                      accept
 *                        │
 *    ┌─────────────── METHODS ── not SOCKS 5, no method offered ─────────────────────────┐
 *    │ no acceptable     │ 05 method                                                     │
 *    │ method: 05 FF   AUTH (the method's exchange)                                      │
 *    │                   │                                                               │
 *    │                REQUEST ── malformed, no such command: reply ─┐                    │
 *    │                   │                                          │                    │
 *    │                JUDGING ── denied, no such name: reply ───────┤                    │
 *    │                   │ order                                    │                    │
 *    │                OPENING ── relay failed: reply ───────────────┤                    │
 *    │                   │ RelayOpened                              │                    │
 *    │        ┌──────────┼───────────┐                              │                    │
 *    │        │ BIND:    │ CONNECT:  │ others: reply 00             │                    │
 *    │        │ reply 00 │ reply 00  │                              │                    │
 *    │     AWAITING ────┼───────────┼── nobody came: reply ────────┤                    │
 *    │        │ peer:    │           │                              │                    │
 *    │        │ reply 00 │           │                              │                    │
 *    │        └─────▶ HANDING ──────┼── RelayClosed, N2 lost ──────┤                    │
 *    │                   │ replied:  │                              │                    │
 *    │                   │ socket to │                              │                    │
 *    │                   │ relayd    │                              ▼                    │
 *    └──────────────▶ RELAYING ◀────┘── RelayClosed, N2 lost ──▶ FLUSHING ── EOF, time ──┤
 *                        │ EOF, flood, stop: CloseRelay           (FIN, linger)          │
 *                        ▼                                                               ▼
 *                     ENDING ── RelayClosed, N2 lost, time ─────────────────────────▶  DEAD
 *
 * The end of the control connection, a time-out and a stop lead from every state before RELAYING to
 * DEAD; a relay that was ordered is cancelled there, and closed when it opens all the same. The FIN
 * of a client of CONNECT is not the end: it belongs to its data, and relayd will read it too.
 *
 * A session that has handed its socket over has no control connection any more; it is what counts
 * against the limits and what the access log waits for. It goes from RELAYING to DEAD at once.
 */
#include "socksd/session_fsm.h"

#include <stdio.h>
#include <string.h>

#include "common/log/log.h"
#include "socksd/access_log.h"
#include "socksd/command/judge.h"

static const char *const state_names[] = {
    [SESSION_ST_NEW] = "new",           [SESSION_ST_METHODS] = "methods",
    [SESSION_ST_AUTH] = "auth",         [SESSION_ST_REQUEST] = "request",
    [SESSION_ST_JUDGING] = "judging",   [SESSION_ST_OPENING] = "opening",
    [SESSION_ST_AWAITING] = "awaiting", [SESSION_ST_HANDING] = "handing",
    [SESSION_ST_RELAYING] = "relaying", [SESSION_ST_FLUSHING] = "flushing",
    [SESSION_ST_ENDING] = "ending",     [SESSION_ST_DEAD] = "dead",
};

static bool has_relay(enum session_state state)
{
    return state >= SESSION_ST_AWAITING && state <= SESSION_ST_RELAYING;
}

/* What leaving the state for another one takes along. */
static void leave_state(struct session *session, enum session_state from, enum session_state to)
{
    struct counters *counters = session->set->counters;

    if (has_relay(from) && !has_relay(to))
        counter_subtract(counters, COUNTER_RELAYS_OPEN);
    if (has_relay(to) && !has_relay(from)) {
        counter_add(counters, COUNTER_RELAYS_OPEN);
        session->opened_ms = uv_now(session->set->loop);
    }
    if (from == SESSION_ST_HANDING) /* not handed over: the client is to see the end of it */
        session_drop_duplicate(session);
    if (from == SESSION_ST_RELAYING)
        authorizations_cancel(session);
    session_move(session, to < SESSION_ST_AWAITING);
}

void session_set_state(struct session *session, enum session_state state)
{
    const enum session_state from = session->state;

    if (from == state || from == SESSION_ST_DEAD)
        return;
    LOG(LOG_LEVEL_DEBUG, "session-state", LOG_U("session", session->id),
        LOG_S("from", state_names[from]), LOG_S("to", state_names[state]));
    session->state = state;
    leave_state(session, from, state);
    switch (state) {
    case SESSION_ST_NEW:
        break;
    case SESSION_ST_METHODS:
        session_set_timer(session, session->set->config->limits.handshake_timeout_ms);
        break;
    case SESSION_ST_AUTH:
    case SESSION_ST_REQUEST: /* one time-out for the whole handshake */
        break;
    case SESSION_ST_JUDGING: /* the resolver and the relay daemon have time-outs of their own */
    case SESSION_ST_OPENING:
    case SESSION_ST_AWAITING: /* and relayd bounds the wait for a peer, and for the socket */
    case SESSION_ST_HANDING:
        session_set_timer(session, 0);
        break;
    case SESSION_ST_RELAYING:
        session_free_handshake(session);
        session_set_timer(session, 0);
        break;
    case SESSION_ST_FLUSHING:
        session_free_handshake(session);
        session_shutdown(session);
        session_set_timer(session, SESSION_LINGER_MS);
        break;
    case SESSION_ST_ENDING:
        session_close_tcp(session);
        session_set_timer(session, SESSION_ENDING_MS);
        break;
    case SESSION_ST_DEAD:
        session_destroy(session);
        break;
    }
}

/* ---- replies ----------------------------------------------------------------------------------
 */

/* As session_write(). `bound` is for success alone. */
static int send_reply(struct session *session, uint8_t code, const struct endpoint *bound)
{
    uint8_t bytes[N1_REPLY_MAX];
    const size_t length = n1_reply_encode(code, bound, bytes, sizeof(bytes));

    session->reply = code;
    counter_add(session->set->counters, counter_of_reply(code));
    return session_write(session, bytes, length);
}

void session_reply_failure(struct session *session, uint8_t code, const char *why)
{
    session->reply = code;
    access_log_refusal(session, why);
    (void)send_reply(session, code, NULL);
    session_set_state(session, SESSION_ST_FLUSHING);
}

/* ---- the relay ------------------------------------------------------------------------------- */

void session_refuse(struct session *session, uint8_t reply, const char *why)
{
    session->reply = reply;
    session->why = why;
    session_event(session, EV_REFUSED);
}

void session_order(struct session *session)
{
    session_event(session, EV_ORDERED);
}

static void order_relay(struct session *session)
{
    struct session_set *set = session->set;

    session_set_state(session, SESSION_ST_OPENING);
    const int rc = relay_pool_order(set->relays, &session->ticket, session->ptcl,
                                    (uint32_t)set->config->limits.relay_timeout_ms);
    if (rc < 0)
        session_reply_failure(session, N1_REP_GENERAL_FAILURE, "no relay daemon can be reached");
}

static void close_relay(struct session *session, enum n2_reason reason)
{
    session->end_reason = (uint8_t)reason;
    session_set_state(session, SESSION_ST_ENDING);
    relay_ticket_close(&session->ticket, reason);
}

/* The relay is not wanted any more, but the client is to read why. The record of the relay, written
 * when RelayClosed comes, does not wait for that. */
static void refuse_open_relay(struct session *session, uint8_t code, enum n2_reason reason,
                              const char *why)
{
    session->end_reason = (uint8_t)reason;
    relay_ticket_close(&session->ticket, reason);
    session_reply_failure(session, code, why);
}

/* The reply is with the kernel: from here on the connection is relayd's. */
static void hand_over(struct session *session)
{
    const struct handshake *handshake = session->handshake;
    const int fd = session->handed_fd;

    session->handed_fd = -1;
    counter_add(session->set->counters, COUNTER_HANDED_OVER);
    relay_ticket_attach(&session->ticket, fd, handshake->buffer, handshake->length);
    session_set_state(session, SESSION_ST_RELAYING);
    session_close_tcp(session);
}

/* Success, after which nothing more is said here. The duplicate is made first, while the client can
 * still be told that there is none. */
static void reply_and_hand_over(struct session *session, const struct endpoint *bound)
{
    const int rc = session_duplicate(session);

    if (rc < 0) {
        refuse_open_relay(session, N1_REP_GENERAL_FAILURE, N2_REASON_ERROR, "out of descriptors");
        return;
    }
    session_set_state(session, SESSION_ST_HANDING);
    const int written = send_reply(session, N1_REP_SUCCEEDED, bound);
    if (written < 0)
        close_relay(session, N2_REASON_CONTROL_CLOSED);
    else if (written == 0)
        hand_over(session);
}

static void relay_opened(struct session *session)
{
    switch (session->row->life) {
    case COMMAND_HOLDS_N1:
        session_set_state(session, SESSION_ST_RELAYING);
        (void)send_reply(session, N1_REP_SUCCEEDED, &session->bound);
        break;
    case COMMAND_HANDS_OVER:
        reply_and_hand_over(session, &session->bound);
        break;
    case COMMAND_AWAITS_PEER:
        session_set_state(session, SESSION_ST_AWAITING);
        (void)send_reply(session, N1_REP_SUCCEEDED, &session->bound);
        break;
    }
}

/* Who may come was judged by the address that was asked for. Where that was every address, the one
 * that came is judged now. */
static void peer_connected(struct session *session)
{
    const struct n1_host *asked = &session->handshake->request.destination;

    if (asked->atyp != N1_ATYP_DOMAIN && ip_address_is_unspecified(&asked->address)) {
        const struct judged_host host = {.port = asked->port};
        const struct judgement said = judge_rules(session, &host, &session->destination.address);
        if (said.denial) {
            counter_add(session->set->counters, said.denied_by);
            refuse_open_relay(session, N1_REP_NOT_ALLOWED, N2_REASON_POLICY, said.denial);
            return;
        }
        session->rule = said.rule;
    }
    reply_and_hand_over(session, &session->destination);
}

static void on_ticket_describe(struct relay_ticket *ticket, struct n2_open_relay *out)
{
    const struct session *session = session_of_ticket(ticket);
    session->row->describe(session, out);
}

static void on_ticket_opened(struct relay_ticket *ticket, const struct n2_relay_opened *opened)
{
    struct session *session = session_of_ticket(ticket);

    session->relay = opened->relay;
    session->bound = opened->bound;
    session->egress = opened->egress;
    if (opened->destination.address.family != IP_NONE)
        session->destination = opened->destination;
    session->plane = (uint8_t)opened->plane;
    snprintf(session->instance, sizeof(session->instance), "%s", relay_ticket_instance(ticket));
    session_event(session, EV_RELAY_OPENED);
}

static void on_ticket_failed(struct relay_ticket *ticket, enum n2_error error, const char *text)
{
    struct session *session = session_of_ticket(ticket);

    session->reply = command_reply_of(error);
    session->why = text;
    session_event(session, EV_RELAY_FAILED);
}

static void on_ticket_event(struct relay_ticket *ticket, const struct n2_relay_event *event)
{
    const struct session *session = session_of_ticket(ticket);
    static struct log_limit limit = LOG_LIMIT_INIT(20, 1000);

    LOG_LIMITED(&limit, LOG_LEVEL_INFO, "relay-event", LOG_U("session", session->id),
                LOG_S("instance", session->instance), LOG_U("relay", event->relay),
                LOG_S("what", n2_event_name(event->event)), LOG_U("value", event->value));
}

static bool on_ticket_connected(struct relay_ticket *ticket, const struct endpoint *peer)
{
    struct session *session = session_of_ticket(ticket);

    if (session->row->life != COMMAND_AWAITS_PEER || session->peer_came)
        return false;
    session->peer_came = true;
    session->destination = *peer;
    session_event(session, EV_CONNECTED);
    return true;
}

static bool on_ticket_authorize(struct relay_ticket *ticket, const struct n2_authorize *asked,
                                uint64_t transaction)
{
    struct session *session = session_of_ticket(ticket);

    if (session->command != N1_CMD_UDP_ASSOCIATE)
        return false;
    authorize(session, asked, transaction);
    return true;
}

static void on_ticket_closed(struct relay_ticket *ticket, const struct n2_relay_closed *closed)
{
    struct session *session = session_of_ticket(ticket);

    session->end_reason = (uint8_t)(closed ? closed->reason : N2_REASON_PEER_LOST);
    access_log_relay(session, closed, (enum n2_reason)session->end_reason);
    session->recorded = true;
    session_event(session, closed ? EV_RELAY_CLOSED : EV_RELAY_LOST);
}

const struct relay_ticket_ops session_ticket_ops = {
    .describe = on_ticket_describe,
    .opened = on_ticket_opened,
    .failed = on_ticket_failed,
    .event = on_ticket_event,
    .connected = on_ticket_connected,
    .authorize = on_ticket_authorize,
    .closed = on_ticket_closed,
};

/* RelayClosed did not come: the record says what is known. */
static void give_up_record(struct session *session)
{
    if (!session->recorded)
        access_log_relay(session, NULL, (enum n2_reason)session->end_reason);
    session->recorded = true;
    session_set_state(session, SESSION_ST_DEAD);
}

/* ---- events by state ------------------------------------------------------------------------- */

/* What ends a session that has no relay, alike in each of these states. False: not one of those
 * events. */
static bool ends_session(struct session *session, enum session_event event)
{
    switch (event) {
    case EV_FLOOD:
        counter_add(session->set->counters, COUNTER_FLOODS);
        break;
    case EV_EOF:
    case EV_RESET:
    case EV_STOP:
    case EV_KILL:
        break;
    default:
        return false;
    }
    session_set_state(session, SESSION_ST_DEAD);
    return true;
}

static void in_handshake(struct session *session, enum session_event event)
{
    if (ends_session(session, event))
        return;
    switch (event) {
    case EV_START:
        session_set_state(session, SESSION_ST_METHODS);
        break;
    case EV_DATA:
        session_handshake(session);
        break;
    case EV_TIMEOUT:
        counter_add(session->set->counters, COUNTER_HANDSHAKE_TIMEOUTS);
        session_set_state(session, SESSION_ST_DEAD);
        break;
    default:
        break;
    }
}

/* The FIN of a client whose socket will be handed over is part of its data. (Not of BIND's: while
 * nobody has come there is nothing else by which it could say that it has gone.) */
static bool is_end_of_data(struct session *session, enum session_event event)
{
    if (event != EV_EOF || session->row->life != COMMAND_HANDS_OVER)
        return false;
    session->half_closed = true;
    return true;
}

static void in_judging(struct session *session, enum session_event event)
{
    if (is_end_of_data(session, event) || ends_session(session, event))
        return;
    if (event == EV_REFUSED)
        session_reply_failure(session, session->reply, session->why);
    else if (event == EV_ORDERED)
        order_relay(session);
}

static void in_opening(struct session *session, enum session_event event)
{
    if (is_end_of_data(session, event) || ends_session(session, event))
        return;
    if (event == EV_RELAY_OPENED)
        relay_opened(session);
    else if (event == EV_RELAY_FAILED)
        session_reply_failure(session, session->reply, session->why);
}

/* What ends an open relay from the client's side, alike in each state that has one. False: not one
 * of those events. */
static bool ends_relay(struct session *session, enum session_event event)
{
    switch (event) {
    case EV_FLOOD:
        counter_add(session->set->counters, COUNTER_FLOODS);
        close_relay(session, N2_REASON_CONTROL_CLOSED);
        return true;
    case EV_EOF:
    case EV_RESET:
        close_relay(session, N2_REASON_CONTROL_CLOSED);
        return true;
    case EV_STOP:
        close_relay(session, N2_REASON_SHUTDOWN);
        return true;
    case EV_KILL:
        session->end_reason = N2_REASON_SHUTDOWN;
        give_up_record(session);
        return true;
    default:
        return false;
    }
}

/* BIND's second reply tells what became of the wait, also when nobody came. */
static void in_awaiting(struct session *session, enum session_event event)
{
    if (ends_relay(session, event))
        return;
    if (event == EV_CONNECTED) {
        peer_connected(session);
    } else if (event == EV_RELAY_CLOSED || event == EV_RELAY_LOST) {
        const enum n2_reason reason = (enum n2_reason)session->end_reason;
        session_reply_failure(session, command_reply_of_end(reason), n2_reason_name(reason));
    }
}

static void in_handing(struct session *session, enum session_event event)
{
    if (ends_relay(session, event))
        return;
    if (event == EV_WRITTEN)
        hand_over(session);
    else if (event == EV_RELAY_CLOSED || event == EV_RELAY_LOST)
        session_set_state(session, SESSION_ST_FLUSHING);
}

static bool is_handed_over(const struct session *session)
{
    return uv_is_closing((const uv_handle_t *)&session->tcp) != 0;
}

static void in_relaying(struct session *session, enum session_event event)
{
    if (ends_relay(session, event))
        return;
    if (event == EV_RELAY_CLOSED || event == EV_RELAY_LOST)
        session_set_state(session, is_handed_over(session) ? SESSION_ST_DEAD : SESSION_ST_FLUSHING);
}

/* The client has read what there was to read. A relay that was open, and was told to close, still
 * owes its record. */
static void in_flushing(struct session *session, enum session_event event)
{
    const bool owes_record = session->ticket.state == RELAY_TICKET_OPEN;

    switch (event) {
    case EV_FLOOD:
        counter_add(session->set->counters, COUNTER_FLOODS);
        break;
    case EV_EOF:
    case EV_RESET:
    case EV_STOP:
    case EV_TIMEOUT:
        break;
    case EV_KILL:
        if (owes_record)
            give_up_record(session);
        break;
    default:
        return;
    }
    session_set_state(session, owes_record ? SESSION_ST_ENDING : SESSION_ST_DEAD);
}

static void in_ending(struct session *session, enum session_event event)
{
    switch (event) {
    case EV_RELAY_CLOSED:
    case EV_RELAY_LOST:
        session_set_state(session, SESSION_ST_DEAD);
        break;
    case EV_TIMEOUT:
    case EV_KILL:
        give_up_record(session);
        break;
    default:
        break;
    }
}

void session_event(struct session *session, enum session_event event)
{
    switch (session->state) {
    case SESSION_ST_NEW:
    case SESSION_ST_METHODS:
    case SESSION_ST_AUTH:
    case SESSION_ST_REQUEST:
        in_handshake(session, event);
        break;
    case SESSION_ST_JUDGING:
        in_judging(session, event);
        break;
    case SESSION_ST_OPENING:
        in_opening(session, event);
        break;
    case SESSION_ST_AWAITING:
        in_awaiting(session, event);
        break;
    case SESSION_ST_HANDING:
        in_handing(session, event);
        break;
    case SESSION_ST_RELAYING:
        in_relaying(session, event);
        break;
    case SESSION_ST_FLUSHING:
        in_flushing(session, event);
        break;
    case SESSION_ST_ENDING:
        in_ending(session, event);
        break;
    case SESSION_ST_DEAD:
        break;
    }
    session_update_reading(session);
}
