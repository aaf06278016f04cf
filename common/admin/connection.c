#include "common/admin/connection.h"

#include <errno.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/admin/status.h"
#include "common/ipc/channel.h"
#include "common/log/log.h"
#include "proto/frame.h"

#define HIGH_MARK (64 * 1024) /* one batch of records waits in memory, not more */
#define LOW_MARK (16 * 1024)
#define MAX_QUEUED (HIGH_MARK + 2 * FRAME_MAX)
#define BATCH_RELAYS 256 /* looked at in one turn of the loop, whether they match or not */

/*
 *     IDLE ── request ──▶ ANSWERING ── END or ERROR ──▶ IDLE      any state ── end ──▶ CLOSED
 *
 * Only ADMIN_RELAYS stays in ANSWERING for longer than a call; the channel is paused then.
 */
enum connection_state { CONNECTION_IDLE, CONNECTION_ANSWERING, CONNECTION_CLOSED };

struct admin_connection {
    enum connection_state state;
    struct admin_connection_config config;
    struct channel *channel; /* NULL once it has ended */
    uv_timer_t timer;        /* neither asks nor reads */
    uv_idle_t batch;         /* active while the cursor moves */
    unsigned handles;
    struct admin_filter filter; /* of the answer under way, with its cursor */
    uint64_t cursor, count;
};

static struct log_limit bad_limit = LOG_LIMIT_INIT(10, 10000);

/* --- lifecycle --- */

static void on_handle_closed(uv_handle_t *handle)
{
    struct admin_connection *connection = handle->data;
    if (--connection->handles == 0) {
        free(connection);
    }
}

void admin_connection_close(struct admin_connection *connection)
{
    if (connection->state == CONNECTION_CLOSED) {
        return;
    }
    connection->state = CONNECTION_CLOSED;
    if (connection->channel != NULL) {
        channel_close(connection->channel);
        connection->channel = NULL;
    }
    uv_close((uv_handle_t *)&connection->timer, on_handle_closed);
    uv_close((uv_handle_t *)&connection->batch, on_handle_closed);
}

static void end(struct admin_connection *connection)
{
    if (connection->state != CONNECTION_CLOSED) {
        admin_connection_close(connection);
        connection->config.ended(connection, connection->config.user);
    }
}

static void on_timeout(uv_timer_t *timer)
{
    end(timer->data);
}

/* It did something. */
static void touch(struct admin_connection *connection)
{
    uv_timer_start(&connection->timer, on_timeout, connection->config.idle_timeout_ms, 0);
}

/* --- answers --- */

/* Returns false when it could not be sent; the connection has then to end. */
static bool send_answer(struct admin_connection *connection, const struct admin_answer *answer)
{
    uint8_t frame[FRAME_HEADER + ADMIN_PAYLOAD_MAX];
    size_t length = admin_answer_encode(answer, frame, sizeof(frame));
    if (length == 0) {
        LOG_LIMITED(&bad_limit, LOG_LEVEL_ERROR, "admin-encode-failed",
                    LOG_U("answer", answer->type));
        return false;
    }
    return channel_send(connection->channel, frame, length, -1) == 0;
}

static bool send_end(struct admin_connection *connection, uint64_t count)
{
    struct admin_answer answer = {.type = ADMIN_ANSWER_END, .count = count};
    return send_answer(connection, &answer);
}

static bool send_error(struct admin_connection *connection, const char *text)
{
    struct admin_answer answer = {.type = ADMIN_ANSWER_ERROR};
    snprintf(answer.error, sizeof(answer.error), "%s", text);
    return send_answer(connection, &answer);
}

static bool send_relay(struct admin_connection *connection, const struct admin_relay *relay)
{
    struct admin_answer answer = {.type = ADMIN_ANSWER_RELAY, .relay = *relay};
    return send_answer(connection, &answer);
}

/* The next request is read when the last is answered and the client reads. */
static void settle(struct admin_connection *connection)
{
    if (connection->state == CONNECTION_ANSWERING ||
        (connection->state == CONNECTION_IDLE && channel_is_congested(connection->channel))) {
        channel_pause(connection->channel);
    } else if (connection->state == CONNECTION_IDLE) {
        channel_resume(connection->channel);
    }
}

/* --- the table --- */

static void on_batch(uv_idle_t *batch);

/* Moves the cursor by one batch. Returns false when the connection has to end. */
static bool stream(struct admin_connection *connection)
{
    const struct admin_connection_config *config = &connection->config;
    for (unsigned i = 0; i < BATCH_RELAYS; i++) {
        if (channel_is_congested(connection->channel)) {
            uv_idle_stop(&connection->batch); /* until on_relieved() */
            return true;
        }
        struct admin_relay relay;
        memset(&relay, 0, sizeof(relay));
        if (!config->ops->next_relay(config->ops_user, &connection->cursor, &relay)) {
            uv_idle_stop(&connection->batch);
            connection->state = CONNECTION_IDLE;
            return send_end(connection, connection->count);
        }
        if (admin_filter_matches(&connection->filter, &relay)) {
            if (!send_relay(connection, &relay)) {
                return false;
            }
            connection->count++;
        }
    }
    uv_idle_start(&connection->batch, on_batch);
    return true;
}

static void stream_on(struct admin_connection *connection)
{
    touch(connection);
    if (!stream(connection)) {
        end(connection);
    } else {
        settle(connection);
    }
}

static void on_batch(uv_idle_t *batch)
{
    stream_on(batch->data);
}

static void on_relieved(struct channel *channel, void *user)
{
    (void)channel;
    struct admin_connection *connection = user;
    if (connection->state == CONNECTION_ANSWERING) {
        stream_on(connection);
    } else {
        touch(connection);
        settle(connection);
    }
}

/* --- requests --- */

/* Each returns false when the connection has to end. */

/* What this socket itself has seen, after the daemon's own. */
static void add_own_counters(struct admin_status *status, const struct admin_server_stats *stats)
{
    admin_status_counter(status, "admin_connections", stats->connections);
    admin_status_counter(status, "admin_refused", stats->refused);
    admin_status_counter(status, "admin_requests", stats->requests);
    admin_status_counter(status, "admin_bad_requests", stats->bad_requests);
}

static bool answer_status(struct admin_connection *connection, const struct admin_request *request)
{
    (void)request;
    const struct admin_connection_config *config = &connection->config;
    if (config->ops->status == NULL) {
        return send_error(connection, "this daemon has no status");
    }
    struct admin_answer answer;
    memset(&answer, 0, sizeof(answer));
    answer.type = ADMIN_ANSWER_STATUS;
    config->ops->status(config->ops_user, &answer.status);
    add_own_counters(&answer.status, config->stats);
    return send_answer(connection, &answer) && send_end(connection, 1);
}

static bool answer_relays(struct admin_connection *connection, const struct admin_request *request)
{
    if (connection->config.ops->next_relay == NULL) {
        return send_error(connection, "this daemon has no relays");
    }
    connection->state = CONNECTION_ANSWERING;
    connection->filter = request->filter;
    connection->cursor = 0;
    connection->count = 0;
    return stream(connection);
}

static bool answer_show(struct admin_connection *connection, const struct admin_request *request)
{
    const struct admin_connection_config *config = &connection->config;
    if (config->ops->show_relay == NULL) {
        return send_error(connection, "this daemon has no relays");
    }
    struct admin_relay relay;
    memset(&relay, 0, sizeof(relay));
    if (!config->ops->show_relay(config->ops_user, request->relay, &relay)) {
        return send_error(connection, "no such relay");
    }
    return send_relay(connection, &relay) && send_end(connection, 1);
}

static bool answer_close(struct admin_connection *connection, const struct admin_request *request)
{
    const struct admin_connection_config *config = &connection->config;
    if (config->ops->close_relay == NULL) {
        return send_error(connection, "this daemon closes no relays");
    }
    int result = config->ops->close_relay(config->ops_user, request->relay);
    if (connection->state == CONNECTION_CLOSED) {
        return true;
    }
    if (result == 0) {
        return send_end(connection, 1);
    }
    return send_error(connection, result == -ENOENT ? "no such relay" : strerror(-result));
}

static bool (*const handlers[ADMIN_REQUEST_END])(struct admin_connection *,
                                                 const struct admin_request *) = {
    [ADMIN_STATUS] = answer_status,
    [ADMIN_RELAYS] = answer_relays,
    [ADMIN_SHOW] = answer_show,
    [ADMIN_CLOSE] = answer_close,
};

/* Tells the client, and ends the connection. */
static void refuse(struct admin_connection *connection, const char *detail)
{
    char text[ADMIN_TEXT_MAX + 1];
    snprintf(text, sizeof(text), "bad request: %s", detail);
    connection->config.stats->bad_requests++;
    LOG_LIMITED(&bad_limit, LOG_LEVEL_WARNING, "admin-bad-request", LOG_S("reason", text));
    (void)send_error(connection, text);
    end(connection);
}

static void on_frame(struct channel *channel, const uint8_t *payload, size_t length, void *user)
{
    (void)channel;
    struct admin_connection *connection = user;
    alignas(max_align_t) uint8_t memory[ADMIN_ARENA_SIZE];
    struct arena arena;
    struct admin_request request;
    const char *problem = NULL;
    arena_init(&arena, memory, sizeof(memory));
    touch(connection);
    enum n2_result result = admin_request_decode(payload, length, &arena, &request, &problem);
    if (result != N2_OK) {
        refuse(connection, problem != NULL ? problem : "syntax");
        return;
    }
    if (request.version != ADMIN_VERSION) {
        refuse(connection, "this daemon speaks another version of the admin protocol");
        return;
    }
    connection->config.stats->requests++;
    if (!handlers[request.type](connection, &request)) {
        end(connection);
    } else {
        settle(connection);
    }
}

static void on_channel_closed(struct channel *channel, int error, void *user)
{
    (void)channel;
    struct admin_connection *connection = user;
    connection->channel = NULL;
    if (error == -EPROTO) {
        connection->config.stats->bad_requests++;
        LOG_LIMITED(&bad_limit, LOG_LEVEL_WARNING, "admin-bad-request", LOG_S("reason", "framing"));
    }
    end(connection);
}

static const struct channel_ops channel_ops = {
    .frame = on_frame,
    .closed = on_channel_closed,
    .relieved = on_relieved,
};

static const struct channel_limits channel_limits = {
    .high_mark = HIGH_MARK,
    .low_mark = LOW_MARK,
    .max_queued = MAX_QUEUED,
    .max_payload = ADMIN_PAYLOAD_MAX,
    .max_fds = 0,
};

int admin_connection_open(struct admin_connection **out, uv_loop_t *loop, int fd,
                          const struct admin_connection_config *config)
{
    *out = NULL;
    struct admin_connection *connection = calloc(1, sizeof(*connection));
    if (connection == NULL) {
        close(fd);
        return -ENOMEM;
    }
    connection->config = *config;
    connection->handles = 2;
    connection->timer.data = connection->batch.data = connection;
    uv_timer_init(loop, &connection->timer);
    uv_idle_init(loop, &connection->batch);
    int result =
        channel_open(&connection->channel, loop, fd, &channel_ops, &channel_limits, connection);
    if (result < 0) {
        admin_connection_close(connection);
        return result;
    }
    touch(connection);
    *out = connection;
    return 0;
}
