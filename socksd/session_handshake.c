/*
 * The handshake: method list, authentication, request; each step as soon as its octets are there,
 * however they arrive.
 */
#include <string.h>

#include "socksd/session_fsm.h"

static void consume(struct handshake *handshake, size_t octets)
{
    handshake->length -= octets;
    memmove(handshake->buffer, handshake->buffer + octets, handshake->length);
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
    (void)session_write(session, answer, n1_method_encode(number, answer, sizeof(answer)));
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
        (void)session_write(session, step.answer, step.answer_length);
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

    session->ptcl = session->row->ptcl ? session->row->ptcl : request->ptcl;
    if (destination->atyp == N1_ATYP_DOMAIN &&
        n1_name_is_valid(destination->name, destination->name_length))
        session->name =
            strdup(destination->name); /* without it the log lacks the name, nothing else */
    else if (destination->atyp != N1_ATYP_DOMAIN)
        session->destination.address = destination->address;
    session->destination.port = destination->port;
}

static bool is_served(const struct session *session)
{
    const struct command *row = session->row;

    return row && (row->ptcl == 0 || relay_pool_serves(session->set->relays, row->ptcl));
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
    /* A command that the codec knows and this server does not serve is refused as early as an
     * unknown one. */
    if (request->command != 0 && !is_served(session) && result != N1_E_VERSION)
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
        session_reply_failure(session, code < 0 ? N1_REP_GENERAL_FAILURE : (uint8_t)code,
                              bad_request_text(result));
        return false;
    }
    consume(handshake, consumed);
    take_request(session);
    session_set_state(session, SESSION_ST_JUDGING);
    session->row->start(session);
    return false;
}

void session_handshake(struct session *session)
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
