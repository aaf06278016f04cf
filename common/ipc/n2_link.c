#include "common/ipc/n2_link.h"

#include <errno.h>
#include <stdalign.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/ipc/channel.h"
#include "common/ipc/n2_permitted.h"
#include "common/ipc/transactions.h"
#include "common/log/log.h"
#include "proto/frame.h"

#define WAITING_FDS_MAX                                                                            \
    16 /* the kernel gives one with each read; more than two wait for no honest peer */
#define WHY_MAX 256

/*
 *     NEW ──▶ UP ──▶ ENDING ──▶ DOWN ──▶ CLOSED
 *
 * ENDING: the channel was told to fail and will say so; nothing is delivered or sent any more.
 * DOWN: the transactions are being completed with NULL. CLOSED: memory waits for the timer's close
 * callback. Each state may be skipped, none comes again.
 */
enum link_state { LINK_NEW, LINK_UP, LINK_ENDING, LINK_DOWN, LINK_CLOSED };

struct n2_link {
    enum link_state state;
    struct n2_link_config config;
    const struct n2_link_ops *ops;
    void *user;
    struct channel *channel; /* NULL from DOWN on */
    struct transactions *transactions;
    uv_timer_t timer;    /* NEW: for Hello; UP: for silence */
    uint64_t timer_due;  /* of the loop's clock */
    uint64_t last_heard; /* of the loop's clock */
    uint64_t nonce;
    struct n2_hello peer;
    struct n2_link_stats stats;
    char why[WHY_MAX]; /* what ops->down is told; empty: what the channel says */
};

static struct log_limit refused_limit = LOG_LIMIT_INIT(10, 10000);

/* --- sending --- */

__attribute__((format(printf, 2, 3))) static void fail(struct n2_link *link, const char *format,
                                                       ...)
{
    if (link->state >= LINK_ENDING) {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(link->why, sizeof(link->why), format, arguments);
    va_end(arguments);
    link->state = LINK_ENDING;
    channel_fail(link->channel);
}

/*
 * What relayd says makes socksd answer: an AttachClient, which is much larger than the RelayOpened
 * that it follows, or an Authorized. Where those do not leave, no more of it is read: a burst of
 * relays would otherwise pass the queue's maximum, and take all other relays along. relayd always
 * reads, so that both cannot wait for each other.
 */
static void hold_back(struct n2_link *link)
{
    if (link->config.role == N2_ROLE_SOCKSD && channel_is_congested(link->channel)) {
        channel_pause(link->channel);
    }
}

/* Encodes and queues. fd is consumed. -EINVAL: not a valid message. */
static int send_message(struct n2_link *link, const struct n2_message *message, int fd)
{
    uint8_t frame[FRAME_HEADER + N2_PAYLOAD_MAX];
    size_t length = message->fd_count == (fd >= 0) ? n2_encode(message, frame, sizeof(frame)) : 0;
    if (length == 0) {
        if (fd >= 0) {
            close(fd);
        }
        LOG_LIMITED(&refused_limit, LOG_LEVEL_ERROR, "n2-encode-failed",
                    LOG_S("message", n2_type_name(message->type)));
        return -EINVAL;
    }
    int result = channel_send(link->channel, frame, length, fd);
    if (result == 0) {
        link->stats.messages_out++;
        hold_back(link);
    } else if (result == -ENOBUFS) {
        link->state = LINK_ENDING;
    }
    return result;
}

static int send_hello(struct n2_link *link, enum n2_type type)
{
    struct n2_message message = {.type = type, .hello = link->config.hello};
    return send_message(link, &message, -1);
}

static int may_send(const struct n2_link *link, enum n2_type type)
{
    if (link->state != LINK_UP) {
        return link->state == LINK_NEW ? -ENOTCONN : -EPIPE;
    }
    return n2_sends(link->config.role, true, type) ? 0 : -EINVAL;
}

int n2_link_send(struct n2_link *link, const struct n2_message *message, int fd)
{
    int result = may_send(link, message->type);
    if (result < 0) {
        if (fd >= 0) {
            close(fd);
        }
    } else {
        result = send_message(link, message, fd);
    }
    if (result == -EINVAL) {
        fail(link, "a message of ours (%s) is not valid", n2_type_name(message->type));
    }
    return result;
}

int n2_link_request(struct n2_link *link, struct n2_message *message, int fd, uint32_t deadline_ms,
                    n2_answer_cb done, void *user, uint64_t *transaction)
{
    struct transaction waiting = {
        .type = message->type, .done = (void (*)(void))done, .user = user};
    int result = may_send(link, message->type);
    if (result == 0 && !n2_is_request(message->type)) {
        result = -EINVAL;
    }
    if (result == 0) {
        result = transactions_add(link->transactions, &waiting, deadline_ms);
    }
    if (result < 0) {
        if (fd >= 0) {
            close(fd);
        }
        return result;
    }
    message->transaction = waiting.id;
    result = send_message(link, message, fd);
    if (result < 0) {
        transactions_remove(link->transactions, waiting.id, NULL);
        return result;
    }
    if (transaction != NULL) {
        *transaction = waiting.id;
    }
    return 0;
}

void n2_link_cancel(struct n2_link *link, uint64_t transaction)
{
    if (link->state < LINK_CLOSED) {
        transactions_remove(link->transactions, transaction, NULL);
    }
}

static void complete(struct n2_link *link, const struct transaction *transaction,
                     const struct n2_message *answer)
{
    ((n2_answer_cb)transaction->done)(link, answer, transaction->user);
}

static void on_expired(const struct transaction *transaction, void *user)
{
    struct n2_link *link = user;
    link->stats.timeouts++;
    complete(link, transaction, NULL);
}

/* --- deadlines --- */

static void on_timer(uv_timer_t *timer);

static void arm(struct n2_link *link, uint64_t delay_ms)
{
    link->timer_due = uv_now(link->timer.loop) + delay_ms;
    uv_timer_start(&link->timer, on_timer, delay_ms, 0);
}

static void on_timer(uv_timer_t *timer)
{
    struct n2_link *link = timer->data;
    const struct n2_link_config *config = &link->config;
    uint64_t now = uv_now(timer->loop);
    if (link->state == LINK_NEW) {
        fail(link, "no %s within %u ms", config->role == N2_ROLE_SOCKSD ? "HelloAck" : "Hello",
             config->hello_deadline_ms);
        return;
    }
    if (link->state != LINK_UP) {
        return;
    }
    /* Timers run before sockets are read: after a long pause of this process its peer is not at
     * fault. */
    if (now - link->timer_due >= config->ping_interval_ms) {
        link->last_heard = now;
    }
    uint64_t silence = now - link->last_heard;
    if (silence >= config->ping_deadline_ms) {
        fail(link, "nothing heard for %u ms", config->ping_deadline_ms);
        return;
    }
    if (silence < config->ping_interval_ms) {
        arm(link, config->ping_interval_ms - silence);
        return;
    }
    struct n2_message ping = {.type = N2_PING, .nonce = ++link->nonce};
    (void)send_message(link, &ping, -1); /* a channel that fails says so itself */
    uint64_t left = config->ping_deadline_ms - silence;
    arm(link, left < config->ping_interval_ms ? left : config->ping_interval_ms);
}

/* --- receiving --- */

static void refuse(struct n2_link *link, enum n2_type type, const char *why)
{
    if (link->state >= LINK_ENDING) {
        return;
    }
    link->stats.bad_messages++;
    LOG_LIMITED(&refused_limit, LOG_LEVEL_WARNING, "n2-refused",
                LOG_S("message", n2_type_name(type)), LOG_S("reason", why));
    fail(link, "%s refused: %s", n2_type_name(type), why);
}

void n2_link_refuse(struct n2_link *link, const struct n2_message *message, const char *why)
{
    refuse(link, message->type, why);
}

static void on_hello(struct n2_link *link, const struct n2_hello *hello)
{
    const struct n2_hello *ours = &link->config.hello;
    link->peer = *hello;
    /* relayd answers also what it refuses: so both logs name both versions. */
    if (link->config.role == N2_ROLE_RELAYD && send_hello(link, N2_HELLO_ACK) < 0) {
        fail(link, "our HelloAck could not be sent");
        return;
    }
    if (hello->major != ours->major) {
        LOG_LIMITED(&refused_limit, LOG_LEVEL_WARNING, "n2-version-refused",
                    LOG_U("peer_major", hello->major), LOG_U("peer_minor", hello->minor),
                    LOG_S("peer_build", hello->build), LOG_U("major", ours->major),
                    LOG_U("minor", ours->minor));
        fail(link, "the peer speaks version %u.%u, this side %u.%u", hello->major, hello->minor,
             ours->major, ours->minor);
        return;
    }
    link->state = LINK_UP;
    arm(link, link->config.ping_interval_ms);
    link->ops->up(link, &link->peer, link->user);
}

static void on_answer(struct n2_link *link, const struct n2_message *message)
{
    const struct transaction *known = transactions_find(link->transactions, message->transaction);
    if (known == NULL) {
        link->stats.stray_answers++;
        link->ops->message(link, message, -1, true, link->user);
        return;
    }
    if (!n2_answers(message->type, (enum n2_type)known->type)) {
        refuse(link, message->type, "it answers another kind of request");
        return;
    }
    struct transaction transaction;
    transactions_remove(link->transactions, message->transaction, &transaction);
    complete(link, &transaction, message);
}

static void on_message(struct n2_link *link, const struct n2_message *message, int fd)
{
    switch (message->type) {
    case N2_HELLO:
    case N2_HELLO_ACK:
        on_hello(link, &message->hello);
        break;
    case N2_PING: {
        struct n2_message pong = {.type = N2_PONG, .nonce = message->nonce};
        (void)send_message(link, &pong, -1);
        break;
    }
    case N2_PONG:
        break; /* it was heard: that is all it is for */
    default:
        if (n2_is_answer(message->type)) {
            on_answer(link, message);
        } else {
            link->ops->message(link, message, fd, false, link->user);
        }
    }
}

static void on_frame(struct channel *channel, const uint8_t *payload, size_t length, void *user)
{
    struct n2_link *link = user;
    alignas(max_align_t) uint8_t memory[N2_ARENA_SIZE];
    struct arena arena;
    struct n2_message message;
    const char *problem = NULL;
    link->last_heard = uv_now(link->timer.loop);
    arena_init(&arena, memory, sizeof(memory));
    enum n2_result result = n2_decode(payload, length, &arena, &message, &problem);
    if (result != N2_OK) {
        link->stats.bad_messages++;
        LOG_LIMITED(&refused_limit, LOG_LEVEL_WARNING, "n2-bad-message",
                    LOG_S("reason", result == N2_E_FIELD ? "field" : "syntax"),
                    LOG_S("field", problem));
        fail(link, "a message is not valid: %s", problem != NULL ? problem : "syntax");
        return;
    }
    link->stats.messages_in++;
    if (!n2_receives(link->config.role, link->state == LINK_UP, message.type)) {
        refuse(link, message.type, "not permitted in this state");
        return;
    }
    int fd = -1;
    if (message.fd_count > 0) {
        fd = channel_take_fd(channel);
        if (fd < 0) {
            refuse(link, message.type, "the descriptor that it declares is missing");
            return;
        }
    }
    on_message(link, &message, fd);
}

/* --- lifecycle --- */

static void on_timer_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void tear_down(struct n2_link *link)
{
    link->state = LINK_CLOSED;
    if (link->channel != NULL) {
        channel_close(link->channel);
        link->channel = NULL;
    }
    if (link->transactions != NULL) {
        transactions_close(link->transactions);
    }
    uv_close((uv_handle_t *)&link->timer, on_timer_closed);
}

static void on_channel_closed(struct channel *channel, int error, void *user)
{
    (void)channel;
    struct n2_link *link = user;
    link->state = LINK_DOWN;
    link->channel = NULL;
    uv_timer_stop(&link->timer);
    struct transaction transaction;
    while (link->state == LINK_DOWN && transactions_pop(link->transactions, &transaction)) {
        complete(link, &transaction, NULL);
    }
    if (link->state == LINK_CLOSED) {
        return; /* by n2_link_close() inside a completion */
    }
    tear_down(link);
    const char *why = link->why;
    if (why[0] == '\0') {
        link->stats.bad_messages += error == -EPROTO;
        why = error == 0          ? "the peer closed the connection"
              : error == -EPROTO  ? "broken framing, or a descriptor that no frame declares"
              : error == -ENOBUFS ? "the peer does not read"
                                  : strerror(-error);
    }
    link->ops->down(link, why, link->user);
}

static void on_relieved(struct channel *channel, void *user)
{
    struct n2_link *link = user;
    channel_resume(channel);
    if (link->state == LINK_UP && link->ops->relieved != NULL) {
        link->ops->relieved(link, link->user);
    }
}

static const struct channel_ops channel_ops = {
    .frame = on_frame,
    .closed = on_channel_closed,
    .relieved = on_relieved,
};

void n2_link_config_init(struct n2_link_config *config, enum n2_role role)
{
    *config = (struct n2_link_config){
        .role = role,
        .hello = {.major = N2_VERSION_MAJOR, .minor = N2_VERSION_MINOR},
        .hello_deadline_ms = 5000,
        .ping_interval_ms = 10000,
        .ping_deadline_ms = 30000,
        .high_mark = 256 * 1024,
        .low_mark = 64 * 1024,
        .max_queued = 8 * 1024 * 1024,
        .max_transactions = 65536,
    };
    snprintf(config->hello.build, sizeof(config->hello.build), "%s", SOCKST_VERSION);
}

int n2_link_open(struct n2_link **out, uv_loop_t *loop, int fd, const struct n2_link_config *config,
                 const struct n2_link_ops *ops, void *user)
{
    *out = NULL;
    struct n2_link *link = calloc(1, sizeof(*link));
    if (link == NULL) {
        close(fd);
        return -ENOMEM;
    }
    link->config = *config;
    link->ops = ops;
    link->user = user;
    link->timer.data = link;
    link->last_heard = uv_now(loop);
    uv_timer_init(loop, &link->timer);
    const struct channel_limits limits = {
        .high_mark = config->high_mark,
        .low_mark = config->low_mark,
        .max_queued = config->max_queued,
        .max_payload = N2_PAYLOAD_MAX,
        .max_fds = config->role == N2_ROLE_RELAYD ? WAITING_FDS_MAX : 0,
    };
    int result = channel_open(&link->channel, loop, fd, &channel_ops, &limits, link);
    if (result == 0) {
        result = transactions_open(&link->transactions, loop, config->max_transactions, on_expired,
                                   link);
    }
    if (result == 0 && config->role == N2_ROLE_SOCKSD) {
        result = send_hello(link, N2_HELLO);
    }
    if (result < 0) {
        tear_down(link);
        return result;
    }
    arm(link, config->hello_deadline_ms);
    *out = link;
    return 0;
}

void n2_link_close(struct n2_link *link)
{
    if (link->state != LINK_CLOSED) {
        tear_down(link);
    }
}

bool n2_link_is_up(const struct n2_link *link)
{
    return link->state == LINK_UP;
}

bool n2_link_is_congested(const struct n2_link *link)
{
    return link->channel != NULL && channel_is_congested(link->channel);
}

size_t n2_link_queued(const struct n2_link *link)
{
    return link->channel != NULL ? channel_queued(link->channel) : 0;
}

const struct n2_hello *n2_link_peer(const struct n2_link *link)
{
    return &link->peer;
}

struct n2_link_stats n2_link_stats(const struct n2_link *link)
{
    return link->stats;
}
