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
 *    │                   │ RelayOpened: reply 00                    ▼                    │
 *    └──────────────▶ RELAYING ── RelayClosed, N2 lost ────────▶ FLUSHING ── EOF, time ──┤
 *                        │ EOF, flood, stop: CloseRelay           (FIN, linger)          │
 *                        ▼                                                               ▼
 *                     ENDING ── RelayClosed, N2 lost, time ─────────────────────────▶  DEAD
 *
 * The end of the control connection, a time-out and a stop lead from every state before RELAYING to
 * DEAD; a relay that was ordered is cancelled there, and closed when it opens all the same.
 */
#include "socksd/session_fsm.h"

#include <stdio.h>
#include <string.h>

#include "common/log/log.h"
#include "socksd/access_log.h"

static const char *const state_names[] = {
    [SESSION_ST_NEW] = "new",           [SESSION_ST_METHODS] = "methods",
    [SESSION_ST_AUTH] = "auth",         [SESSION_ST_REQUEST] = "request",
    [SESSION_ST_JUDGING] = "judging",   [SESSION_ST_OPENING] = "opening",
    [SESSION_ST_RELAYING] = "relaying", [SESSION_ST_FLUSHING] = "flushing",
    [SESSION_ST_ENDING] = "ending",     [SESSION_ST_DEAD] = "dead",
};

/* The only place where the state changes: arms the timer, moves the list membership, releases what
 * the state does not need. */
static void session_set_state(struct session *session, enum session_state state)
{
    const enum session_state from = session->state;

    if (from == state || from == SESSION_ST_DEAD)
        return;
    LOG(LOG_LEVEL_DEBUG, "session-state", LOG_U("session", session->id),
        LOG_S("from", state_names[from]), LOG_S("to", state_names[state]));
    session->state = state;
    if (from == SESSION_ST_RELAYING)
        counter_subtract(session->set->counters, COUNTER_RELAYS_OPEN);
    session_move(session, state < SESSION_ST_RELAYING);
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
        session_set_timer(session, 0);
        break;
    case SESSION_ST_RELAYING:
        counter_add(session->set->counters, COUNTER_RELAYS_OPEN);
        session->opened_ms = uv_now(session->set->loop);
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

/* ---- the handshake --------------------------------------------------------------------------- */

static void consume(struct handshake *handshake, size_t octets)
{
    handshake->length -= octets;
    memmove(handshake->buffer, handshake->buffer + octets, handshake->length);
}

static void reply_failure(struct session *session, uint8_t code, const char *why)
{
    uint8_t bytes[N1_REPLY_MAX];
    const size_t length = n1_reply_encode(code, NULL, bytes, sizeof(bytes));

    session->reply = code;
    counter_add(session->set->counters, counter_of_reply(code));
    access_log_refusal(session, why);
    session_write(session, bytes, length);
    session_set_state(session, SESSION_ST_FLUSHING);
}

static void bad_version(struct session *session)
{
    counter_add(session->set->counters, COUNTER_BAD_VERSIONS);
    session_set_state(session, SESSION_ST_DEAD);
}

/* Each step returns true when the next one may find octets to work on. */
static bool step_methods(struct session *session)
{
    struct session_set *set = session->set;
    struct handshake *handshake = session->handshake;
    struct n1_methods offered;
    uint8_t answer[2];
    size_t consumed = 0;

    switch (n1_methods_decode(handshake->buffer, handshake->length, &offered, &consumed)) {
    case N1_OK:
        break;
    case N1_NEED_MORE:
        return false;
    case N1_E_METHODS:
        counter_add(set->counters, COUNTER_BAD_METHOD_LISTS);
        session_set_state(session, SESSION_ST_DEAD);
        return false;
    default:
        bad_version(session);
        return false;
    }
    consume(handshake, consumed);
    handshake->method = auth_choose(&set->config->auth.methods, &offered);
    const uint8_t number = handshake->method ? handshake->method->number : N1_METHOD_UNACCEPTABLE;
    session_write(session, answer, n1_method_encode(number, answer, sizeof(answer)));
    if (!handshake->method) {
        counter_add(set->counters, COUNTER_AUTH_UNACCEPTABLE);
        session_set_state(session, SESSION_ST_FLUSHING);
        return false;
    }
    session_set_state(session, SESSION_ST_AUTH);
    return true;
}

static bool step_auth(struct session *session)
{
    struct handshake *handshake = session->handshake;
    struct auth_step step = {.data = handshake->buffer, .length = handshake->length};
    const enum auth_result result = handshake->method->step(&step);

    consume(handshake, step.consumed);
    if (step.answer_length > 0)
        session_write(session, step.answer, step.answer_length);
    switch (result) {
    case AUTH_ACCEPTED:
        if (handshake->method->number == N1_METHOD_NONE)
            counter_add(session->set->counters, COUNTER_AUTH_NONE);
        session_set_state(session, SESSION_ST_REQUEST);
        return true;
    case AUTH_NEED_MORE:
        return step.consumed > 0;
    case AUTH_REJECTED:
        break;
    }
    counter_add(session->set->counters, COUNTER_AUTH_FAILED);
    session_set_state(session, SESSION_ST_FLUSHING);
    return false;
}

static const char *bad_request_text(enum n1_result result)
{
    switch (result) {
    case N1_E_COMMAND:
        return "unknown command";
    case N1_E_RSV:
        return "RSV is not 0";
    case N1_E_ATYP:
        return "unknown ATYP";
    case N1_E_SOURCE_ATYP:
        return "unknown S.ATYP";
    default:
        return "malformed";
    }
}

/* DST is kept as asked for, for rules that follow and for the log. */
static void take_request(struct session *session)
{
    const struct n1_request *request = &session->handshake->request;
    const struct n1_host *destination = &request->destination;

    session->ptcl = request->ptcl;
    if (destination->atyp == N1_ATYP_DOMAIN &&
        n1_name_is_valid(destination->name, destination->name_length))
        session->name =
            strdup(destination->name); /* without it the log lacks the name, nothing else */
    else if (destination->atyp != N1_ATYP_DOMAIN)
        session->destination.address = destination->address;
    session->destination.port = destination->port;
}

static bool step_request(struct session *session)
{
    struct handshake *handshake = session->handshake;
    struct n1_request *request = &handshake->request;
    size_t consumed = 0;

    request->command = 0;
    enum n1_result result =
        n1_request_decode(handshake->buffer, handshake->length, request, &consumed);
    session->row = command_by_number(request->command);
    /* A command that the codec knows and this server does not have is refused as early as an
     * unknown one. */
    if (request->command != 0 && !session->row && result != N1_E_VERSION)
        result = N1_E_COMMAND;
    if (result == N1_NEED_MORE)
        return false;
    if (result == N1_E_VERSION) {
        bad_version(session);
        return false;
    }
    session->command = request->command;
    counter_add(session->set->counters, counter_of_command(request->command));
    if (result != N1_OK) {
        const int code = n1_result_reply(result);
        reply_failure(session, code < 0 ? N1_REP_GENERAL_FAILURE : (uint8_t)code,
                      bad_request_text(result));
        return false;
    }
    consume(handshake, consumed);
    take_request(session);
    session_set_state(session, SESSION_ST_JUDGING);
    session->row->start(session);
    return false;
}

static void handshake_run(struct session *session)
{
    bool more = true;
    while (more) {
        switch (session->state) {
        case SESSION_ST_METHODS:
            more = step_methods(session);
            break;
        case SESSION_ST_AUTH:
            more = step_auth(session);
            break;
        case SESSION_ST_REQUEST:
            more = step_request(session);
            break;
        default:
            more = false;
            break;
        }
    }
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
        reply_failure(session, N1_REP_GENERAL_FAILURE, "no relay daemon can be reached");
}

static void relay_opened(struct session *session)
{
    uint8_t bytes[N1_REPLY_MAX];
    const size_t length = n1_reply_encode(N1_REP_SUCCEEDED, &session->bound, bytes, sizeof(bytes));

    session_set_state(session, SESSION_ST_RELAYING);
    session->reply = N1_REP_SUCCEEDED;
    counter_add(session->set->counters, COUNTER_REPLIES_00);
    session_write(session, bytes, length);
}

static void close_relay(struct session *session, enum n2_reason reason)
{
    session->end_reason = (uint8_t)reason;
    session_set_state(session, SESSION_ST_ENDING);
    relay_ticket_close(&session->ticket, reason);
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

static void on_ticket_closed(struct relay_ticket *ticket, const struct n2_relay_closed *closed)
{
    struct session *session = session_of_ticket(ticket);

    access_log_relay(session, closed, closed ? closed->reason : N2_REASON_PEER_LOST);
    session->recorded = true;
    session_event(session, closed ? EV_RELAY_CLOSED : EV_RELAY_LOST);
}

const struct relay_ticket_ops session_ticket_ops = {
    .describe = on_ticket_describe,
    .opened = on_ticket_opened,
    .failed = on_ticket_failed,
    .event = on_ticket_event,
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
        handshake_run(session);
        break;
    case EV_TIMEOUT:
        counter_add(session->set->counters, COUNTER_HANDSHAKE_TIMEOUTS);
        session_set_state(session, SESSION_ST_DEAD);
        break;
    default:
        break;
    }
}

static void in_judging(struct session *session, enum session_event event)
{
    if (ends_session(session, event))
        return;
    if (event == EV_REFUSED)
        reply_failure(session, session->reply, session->why);
    else if (event == EV_ORDERED)
        order_relay(session);
}

static void in_opening(struct session *session, enum session_event event)
{
    if (ends_session(session, event))
        return;
    if (event == EV_RELAY_OPENED)
        relay_opened(session);
    else if (event == EV_RELAY_FAILED)
        reply_failure(session, session->reply, session->why);
}

static void in_relaying(struct session *session, enum session_event event)
{
    switch (event) {
    case EV_FLOOD:
        counter_add(session->set->counters, COUNTER_FLOODS);
        close_relay(session, N2_REASON_CONTROL_CLOSED);
        break;
    case EV_EOF:
        close_relay(session, N2_REASON_CONTROL_CLOSED);
        break;
    case EV_STOP:
        close_relay(session, N2_REASON_SHUTDOWN);
        break;
    case EV_KILL:
        session->end_reason = N2_REASON_SHUTDOWN;
        give_up_record(session);
        break;
    case EV_RELAY_CLOSED:
    case EV_RELAY_LOST:
        session_set_state(session, SESSION_ST_FLUSHING);
        break;
    default:
        break;
    }
}

static void in_flushing(struct session *session, enum session_event event)
{
    if (event == EV_TIMEOUT)
        session_set_state(session, SESSION_ST_DEAD);
    else
        (void)ends_session(session, event);
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
