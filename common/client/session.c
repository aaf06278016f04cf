/*
 * The client's dialogue, without I/O.
 *
 *   METHOD ── chosen: none ─────────────────────────▶ REPLY ── 00 ──▶ DONE
 *     │ └──── chosen: user/password ──▶ AUTH ── 00 ────▲│ └─── other ──▶ FAILED
 *     │                                                └─ 00, BIND ──▶ PEER ── 00 ──▶ DONE
 *     └────── chosen, and nothing to request ──▶ DONE            └── other ──▶ FAILED
 *
 * From every state that still waits: malformed octets and the end of the connection lead to FAILED.
 * DONE and FAILED are final.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/client/sockst.h"

enum state { ST_METHOD, ST_AUTH, ST_REPLY, ST_PEER, ST_DONE, ST_FAILED };

struct sockst_session {
    enum state state;
    struct n1_methods methods;
    uint8_t userpass[N1_USERPASS_MAX]; /* encoded */
    size_t userpass_length;
    uint8_t request[N1_REQUEST_MAX]; /* encoded */
    size_t request_length;
    bool request_queued;
    bool two_replies; /* BIND */
    uint8_t output[N1_METHODS_MAX + N1_USERPASS_MAX + N1_REQUEST_MAX];
    size_t output_length, output_sent;
    uint8_t input[N1_REPLY_MAX]; /* the longest message that a server sends */
    size_t input_length;
    uint8_t method;
    struct n1_reply reply;
    struct sockst_failure failure;
};

int sockst_fail(struct sockst_failure *failure, enum sockst_error error, const char *format, ...)
{
    va_list arguments;
    *failure = (struct sockst_failure){.error = error};
    va_start(arguments, format);
    vsnprintf(failure->text, sizeof(failure->text), format, arguments);
    va_end(arguments);
    return -1;
}

static void queue(struct sockst_session *session, const uint8_t *data, size_t length)
{
    memcpy(session->output + session->output_length, data, length);
    session->output_length += length;
}

static void queue_request(struct sockst_session *session)
{
    if (!session->request_queued)
        queue(session, session->request, session->request_length);
    session->request_queued = true;
}

/* Encodes everything up front, so that nothing can fail later. */
static bool prepare(struct sockst_session *session, const struct sockst_ask *ask)
{
    uint8_t methods[N1_METHODS_MAX];
    size_t length = n1_methods_encode(&ask->methods, methods, sizeof(methods));
    if (length == 0)
        return false;
    session->methods = ask->methods;
    queue(session, methods, length);
    if (ask->userpass != NULL) {
        session->userpass_length =
            n1_userpass_encode(ask->userpass, session->userpass, sizeof(session->userpass));
        if (session->userpass_length == 0)
            return false;
    }
    if (ask->request != NULL) {
        session->request_length =
            n1_request_encode(ask->request, session->request, sizeof(session->request));
        if (session->request_length == 0)
            return false;
        session->two_replies = ask->request->command == N1_CMD_BIND;
        if (!ask->in_step && ask->methods.count == 1 && ask->methods.methods[0] == N1_METHOD_NONE)
            queue_request(session);
    }
    return true;
}

int sockst_session_new(struct sockst_session **out, const struct sockst_ask *ask)
{
    struct sockst_session *session = calloc(1, sizeof(*session));
    if (session == NULL)
        return -ENOMEM;
    session->method = N1_METHOD_UNACCEPTABLE;
    if (!prepare(session, ask)) {
        sockst_session_free(session);
        return -EINVAL;
    }
    *out = session;
    return 0;
}

void sockst_session_free(struct sockst_session *session)
{
    if (session == NULL)
        return;
    explicit_bzero(session, sizeof(*session)); /* it held a password */
    free(session);
}

size_t sockst_session_output(const struct sockst_session *session, const uint8_t **data)
{
    *data = session->output + session->output_sent;
    return session->state < ST_DONE ? session->output_length - session->output_sent : 0;
}

void sockst_session_sent(struct sockst_session *session, size_t count)
{
    size_t pending = session->output_length - session->output_sent;
    session->output_sent += count < pending ? count : pending;
}

static void fail_session(struct sockst_session *session, enum sockst_error error, const char *text)
{
    sockst_fail(&session->failure, error, "%s", text);
    session->state = ST_FAILED;
}

static void on_method(struct sockst_session *session)
{
    if (session->method == N1_METHOD_UNACCEPTABLE) {
        fail_session(session, SOCKST_E_METHOD,
                     "the server accepts none of the offered authentication methods");
        return;
    }
    if (memchr(session->methods.methods, session->method, session->methods.count) == NULL) {
        fail_session(session, SOCKST_E_PROTOCOL,
                     "the server chose an authentication method that was not offered");
        return;
    }
    if (session->request_length == 0) {
        session->state = ST_DONE;
    } else if (session->method == N1_METHOD_NONE) {
        queue_request(session);
        session->state = ST_REPLY;
    } else if (session->method == N1_METHOD_USERPASS && session->userpass_length != 0) {
        queue(session, session->userpass, session->userpass_length);
        session->state = ST_AUTH;
    } else {
        fail_session(session, SOCKST_E_METHOD,
                     "the server chose an authentication method that this client cannot carry out");
    }
}

static void on_status(struct sockst_session *session, uint8_t status)
{
    if (status != 0) {
        fail_session(session, SOCKST_E_AUTH, "the server refused the user name and password");
        return;
    }
    queue_request(session);
    session->state = ST_REPLY;
}

static void on_reply(struct sockst_session *session)
{
    uint8_t code = session->reply.code;
    bool second = session->state == ST_PEER;
    if (code == N1_REP_SUCCEEDED) {
        session->state = session->two_replies && !second ? ST_PEER : ST_DONE;
        return;
    }
    session->state = ST_FAILED;
    sockst_fail(&session->failure, SOCKST_E_REPLY, "%s: %s (X'%02X')",
                second ? "the server gave up waiting for the peer" : "the server refused",
                n1_reply_text(code), code);
    session->failure.reply = code;
}

/* Tries to take one message from the input. */
static enum n1_result step(struct sockst_session *session, size_t *used)
{
    const uint8_t *data = session->input;
    size_t length = session->input_length;
    uint8_t status = 0;
    struct n1_reply reply;
    enum n1_result result;
    switch (session->state) {
    case ST_METHOD:
        result = n1_method_decode(data, length, &session->method, used);
        if (result == N1_OK)
            on_method(session);
        return result;
    case ST_AUTH:
        result = n1_userpass_status_decode(data, length, &status, used);
        if (result == N1_OK)
            on_status(session, status);
        return result;
    case ST_REPLY:
    case ST_PEER:
        /* Half a second reply must not spoil the first. */
        result = n1_reply_decode(data, length, &reply, used);
        if (result == N1_OK) {
            session->reply = reply;
            on_reply(session);
        }
        return result;
    case ST_DONE:
    case ST_FAILED:
        break;
    }
    return N1_NEED_MORE;
}

enum sockst_status sockst_session_receive(struct sockst_session *session, const uint8_t *data,
                                          size_t length, size_t *taken)
{
    size_t copied = 0;
    bool bound = false;
    while (session->state < ST_DONE && !bound) {
        size_t room = sizeof(session->input) - session->input_length;
        size_t chunk = length - copied < room ? length - copied : room;
        if (chunk != 0)
            memcpy(session->input + session->input_length, data + copied, chunk);
        session->input_length += chunk;
        copied += chunk;

        size_t used = 0;
        enum n1_result result = step(session, &used);
        if (result == N1_NEED_MORE)
            break; /* no message is longer than the buffer: everything was copied */
        if (result != N1_OK) {
            fail_session(session, SOCKST_E_PROTOCOL, "the answer is not one of a SOCKS 5 server");
            break;
        }
        session->input_length -= used;
        memmove(session->input, session->input + used, session->input_length);
        /* The caller has to see BND before the second reply takes its place. */
        bound = session->state == ST_PEER;
    }
    /* What is left over behind the last message came with this call. */
    if ((session->state >= ST_DONE || bound) && copied != 0) {
        copied -= session->input_length < copied ? session->input_length : copied;
        session->input_length = 0;
    }
    if (taken != NULL)
        *taken = copied;
    return sockst_session_status(session);
}

enum sockst_status sockst_session_end(struct sockst_session *session)
{
    if (session->state < ST_DONE)
        fail_session(session, SOCKST_E_CLOSED,
                     session->state == ST_PEER
                         ? "the server closed the connection while the peer was waited for"
                         : "the server closed the connection without an answer");
    return sockst_session_status(session);
}

enum sockst_status sockst_session_status(const struct sockst_session *session)
{
    switch (session->state) {
    case ST_PEER:
        return SOCKST_BOUND;
    case ST_DONE:
        return SOCKST_DONE;
    case ST_FAILED:
        return SOCKST_FAILED;
    default:
        return SOCKST_RUNNING;
    }
}

uint8_t sockst_session_method(const struct sockst_session *session)
{
    return session->method;
}

const struct n1_reply *sockst_session_reply(const struct sockst_session *session)
{
    return &session->reply;
}

const struct sockst_failure *sockst_session_failure(const struct sockst_session *session)
{
    return &session->failure;
}
