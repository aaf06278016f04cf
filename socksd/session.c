/*
 * A session's socket, memory and place in the set. What happens when is decided in session_fsm.c.
 */
#include "socksd/session.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <utlist.h>

#include "common/log/log.h"
#include "common/net/sockaddr.h"
#include "socksd/session_fsm.h"

#define FLOOD_WINDOW_MS 1000

struct write_request {
    uv_write_t request;
    uint8_t data[];
};

/* ---- reading --------------------------------------------------------------------------------- */

/* Octets of the handshake are kept, and what a client sends ahead over a connection that will be
 * handed over. Whatever else comes after the request is read so that its end is seen, and thrown
 * away. */
static bool keeps_octets(const struct session *session)
{
    if (session->state <= SESSION_ST_REQUEST)
        return session->state >= SESSION_ST_METHODS;
    return session->state <= SESSION_ST_HANDING && session_will_hand_over(session);
}

static bool should_read(const struct session *session)
{
    switch (session->state) {
    case SESSION_ST_HANDING: /* what is not read yet is for relayd to read */
    case SESSION_ST_ENDING:
    case SESSION_ST_DEAD:
        return false;
    case SESSION_ST_FLUSHING:
        break;
    default:
        if (session->half_closed)
            return false;
        break;
    }
    if (uv_is_closing((const uv_handle_t *)&session->tcp)) /* handed over */
        return false;
    if (keeps_octets(session) && session->handshake->length == HANDSHAKE_BUFFER)
        return false;
    return !(session->listed_handshaking && relay_pool_is_congested(session->set->relays));
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct session *session = handle->data;
    struct handshake *handshake = session->handshake;

    (void)suggested;
    if (keeps_octets(session))
        *buf = uv_buf_init((char *)handshake->buffer + handshake->length,
                           (unsigned)(HANDSHAKE_BUFFER - handshake->length));
    else
        *buf = uv_buf_init(session->set->scratch, sizeof(session->set->scratch));
}

static void discard(struct session *session, size_t length)
{
    const uint64_t now = uv_now(session->set->loop);

    if (now - session->discard_window_ms >= FLOOD_WINDOW_MS) {
        session->discard_window_ms = now;
        session->discarded = 0;
    }
    session->discarded += (uint32_t)length;
    if (session->discarded > SESSION_FLOOD_BYTES)
        session_event(session, EV_FLOOD);
}

static void on_read(uv_stream_t *stream, ssize_t length, const uv_buf_t *buf)
{
    struct session *session = stream->data;

    (void)buf;
    if (length == 0)
        return;
    if (length < 0) {
        session->reading = false; /* libuv has stopped by itself */
        session_event(session, length == UV_EOF ? EV_EOF : EV_RESET);
    } else if (keeps_octets(session)) {
        session->handshake->length += (size_t)length;
        session_event(session, EV_DATA);
    } else {
        discard(session, (size_t)length);
    }
}

void session_update_reading(struct session *session)
{
    const bool wanted = should_read(session);

    if (wanted == session->reading)
        return;
    session->reading = wanted;
    if (wanted) {
        uv_read_start((uv_stream_t *)&session->tcp, on_alloc, on_read);
    } else if (!uv_is_closing((uv_handle_t *)&session->tcp)) {
        uv_read_stop((uv_stream_t *)&session->tcp);
        if (session->listed_handshaking)
            counter_add(session->set->counters, COUNTER_READ_PAUSES);
    }
}

/* ---- writing --------------------------------------------------------------------------------- */

static void on_written(uv_write_t *request, int status)
{
    struct session *session = request->handle->data;

    free(request->data);
    if (status == UV_ECANCELED) /* the handle is closing */
        return;
    if (status < 0)
        session_event(session, EV_RESET);
    else if (uv_stream_get_write_queue_size((uv_stream_t *)&session->tcp) == 0)
        session_event(session, EV_WRITTEN);
}

int session_write(struct session *session, const uint8_t *data, size_t length)
{
    uv_stream_t *stream = (uv_stream_t *)&session->tcp;
    uv_buf_t buf = uv_buf_init((char *)data, (unsigned)length);
    int sent = uv_try_write(stream, &buf, 1);

    if (sent < 0 && sent != UV_EAGAIN)
        return sent;
    sent = sent < 0 ? 0 : sent;
    if ((size_t)sent == length)
        return 0;
    /* The client reads so slowly that a few octets do not fit: they wait, and the session's timer
     * bounds how long. */
    const size_t left = length - (size_t)sent;
    struct write_request *write = malloc(sizeof(*write) + left);
    if (!write)
        return UV_ENOMEM;
    memcpy(write->data, data + sent, left);
    write->request.data = write;
    buf = uv_buf_init((char *)write->data, (unsigned)left);
    const int rc = uv_write(&write->request, stream, &buf, 1, on_written);
    if (rc < 0)
        free(write);
    return rc < 0 ? rc : 1;
}

int session_duplicate(struct session *session)
{
    uv_os_fd_t fd;

    if (uv_fileno((uv_handle_t *)&session->tcp, &fd) < 0)
        return -EBADF;
    session->handed_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return session->handed_fd < 0 ? -errno : 0;
}

void session_drop_duplicate(struct session *session)
{
    if (session->handed_fd >= 0)
        close(session->handed_fd);
    session->handed_fd = -1;
}

static void on_shutdown(uv_shutdown_t *request, int status)
{
    (void)request;
    (void)status;
}

void session_shutdown(struct session *session)
{
    if (session->finished_writing)
        return;
    session->finished_writing = true;
    (void)uv_shutdown(&session->shutdown, (uv_stream_t *)&session->tcp, on_shutdown);
}

/* ---- time ------------------------------------------------------------------------------------ */

static void on_timer(uv_timer_t *timer)
{
    session_event(timer->data, EV_TIMEOUT);
}

void session_set_timer(struct session *session, uint64_t timeout_ms)
{
    if (timeout_ms == 0)
        uv_timer_stop(&session->timer);
    else
        uv_timer_start(&session->timer, on_timer, timeout_ms, 0);
}

/* ---- memory ---------------------------------------------------------------------------------- */

void session_free_handshake(struct session *session)
{
    if (session->handshake && session->handshake->query)
        resolver_cancel(session->handshake->query);
    free(session->handshake);
    session->handshake = NULL;
}

static void on_closed(uv_handle_t *handle)
{
    struct session *session = handle->data;
    struct session_set *set = session->set;

    if (--session->open_handles > 0) {
        if (set->gone) /* a descriptor has come back */
            set->gone(set->user);
        return;
    }
    if (session->listed_handshaking)
        DL_DELETE(set->handshaking, session);
    else
        DL_DELETE(set->others, session);
    client_leave(&set->clients, session->client);
    set->count--;
    counter_subtract(set->counters, COUNTER_SESSIONS_ACTIVE);
    free(session->name);
    free(session);
    if (set->gone)
        set->gone(set->user);
}

void session_close_tcp(struct session *session)
{
    session->reading = false;
    if (!uv_is_closing((uv_handle_t *)&session->tcp))
        uv_close((uv_handle_t *)&session->tcp, on_closed);
}

void session_destroy(struct session *session)
{
    relay_ticket_drop(&session->ticket);
    authorizations_cancel(session);
    session_drop_duplicate(session);
    session_free_handshake(session);
    session_close_tcp(session);
    if (!uv_is_closing((uv_handle_t *)&session->timer))
        uv_close((uv_handle_t *)&session->timer, on_closed);
}

void session_move(struct session *session, bool handshaking)
{
    struct session_set *set = session->set;

    if (session->listed_handshaking == handshaking)
        return;
    if (handshaking) {
        DL_DELETE(set->others, session);
        DL_APPEND(set->handshaking, session);
    } else {
        DL_DELETE(set->handshaking, session);
        DL_APPEND(set->others, session);
    }
    session->listed_handshaking = handshaking;
}

/* ---- the set --------------------------------------------------------------------------------- */

void session_set_init(struct session_set *set)
{
    set->clients = (struct client_table){.limit = set->config->limits.sessions_per_address};
    set->handshaking = set->others = NULL;
    set->count = 0;
    set->last_id = 0;
    set->authorizations = 0;
    set->stopping = false;
}

/* Counts the client in, or says why not. */
static struct client *admit(struct session_set *set, const struct endpoint *peer)
{
    static struct log_limit limit = LOG_LIMIT_INIT(10, 1000);
    bool too_many = false;
    struct client *client = NULL;

    if (set->count >= set->limit) {
        counter_add(set->counters, COUNTER_SESSIONS_REFUSED_LIMIT);
    } else {
        client = client_enter(&set->clients, &peer->address, &too_many);
        if (too_many)
            counter_add(set->counters, COUNTER_SESSIONS_REFUSED_ADDRESS_LIMIT);
    }
    if (!client)
        LOG_LIMITED(&limit, LOG_LEVEL_WARNING, "session-refused", LOG_E("client", peer),
                    LOG_S("why", too_many ? "limits.sessions-per-address" : "limits.sessions"));
    return client;
}

static struct session *session_new(struct session_set *set, int fd, const struct endpoint *peer)
{
    struct session *session = calloc(1, sizeof(*session));
    if (!session)
        return NULL;
    session->handshake = calloc(1, sizeof(*session->handshake));
    if (!session->handshake || endpoint_local(fd, &session->local) < 0) {
        free(session->handshake);
        free(session);
        return NULL;
    }
    session->set = set;
    session->peer = *peer;
    session->handed_fd = -1;
    session->accepted_ms = session->discard_window_ms = uv_now(set->loop);
    session->ticket.ops = &session_ticket_ops;
    return session;
}

void session_set_accept(struct session_set *set, int fd, const struct endpoint *peer)
{
    struct client *client = set->stopping ? NULL : admit(set, peer);
    struct session *session = client ? session_new(set, fd, peer) : NULL;

    if (!session) {
        client_leave(&set->clients, client);
        close(fd);
        return;
    }
    session->client = client;
    session->id = ++set->last_id;
    set->count++;
    counter_add(set->counters, COUNTER_SESSIONS_ACCEPTED);
    counter_add(set->counters, COUNTER_SESSIONS_ACTIVE);
    uv_tcp_init(set->loop, &session->tcp);
    uv_timer_init(set->loop, &session->timer);
    session->tcp.data = session->timer.data = session;
    session->open_handles = 2;
    session->listed_handshaking = true;
    DL_APPEND(set->handshaking, session);
    if (uv_tcp_open(&session->tcp, fd) < 0) {
        close(fd);
        session_event(session, EV_KILL);
        return;
    }
    session_event(session, EV_START);
}

void session_set_update_reading(struct session_set *set)
{
    struct session *session;
    DL_FOREACH(set->handshaking, session)
    session_update_reading(session);
}

static void send_to_all(struct session_set *set, enum session_event event)
{
    struct session *session, *next;

    DL_FOREACH_SAFE(set->others, session, next)
    session_event(session, event);
    DL_FOREACH_SAFE(set->handshaking, session, next)
    session_event(session, event);
}

void session_set_stop(struct session_set *set)
{
    set->stopping = true;
    send_to_all(set, EV_STOP);
}

void session_set_kill(struct session_set *set)
{
    set->stopping = true;
    send_to_all(set, EV_KILL);
}
