#include "common/ipc/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/ipc/fd_queue.h"
#include "common/ipc/send_queue.h"
#include "proto/frame.h"

/* One recvmsg, and all of a turn unless descriptors come: a few hundred messages, each of which may
 * take a dozen system calls. Then other handles of the loop, and the data of relays, have their
 * turn. */
#define READ_OCTETS (16 * 1024)
#define READS_PER_TURN 16
#define WRITES_PER_TURN 64
#define FDS_PER_READ 16 /* more in one message is MSG_CTRUNC; our own sender attaches one */

/*
 *     OPEN ── EOF, error, channel_fail() ──▶ ENDED ── ops->closed ──▶ CLOSED ── last close callback
 *       └────────────────────── channel_close() ──────────────────────▲
 *
 * What a callback or a call from outside starts (writing, ending, resuming) is done in `turn`, an
 * idle handle that is active only while there is something to do. Idle handles run after timers and
 * before the loop sleeps, and keep it from sleeping: what the callbacks of one turn queue leaves
 * together, and nothing that is queued, from wherever, waits for an event.
 */
enum channel_state { CHANNEL_OPEN, CHANNEL_ENDED, CHANNEL_CLOSED };

struct channel {
    enum channel_state state;
    int fd;
    int error;          /* of ENDED; before: what the socket told, which is passed on at its EOF */
    bool paused;        /* channel_pause() */
    bool behind;        /* whole frames may be held, of which no event of the socket tells */
    bool blocked;       /* the socket is full: wait until it is writable */
    bool congested;     /* above the high mark and not yet below the low one */
    unsigned poll_mask; /* what uv_poll watches for now */
    unsigned handles;   /* not yet closed */
    const struct channel_ops *ops;
    void *user;
    struct channel_limits limits;
    uv_poll_t poll;
    uv_idle_t turn;
    struct send_queue out;
    struct fd_queue fds;
    /* Octets read and not yet handed up: part of a frame, or whole ones too when paused. NULL when
     * there are none. */
    uint8_t *held;
    size_t held_start, held_end, held_capacity;
};

static void on_turn(uv_idle_t *turn);
static void on_poll(uv_poll_t *poll, int status, int events);

/* --- lifecycle --- */

static void watch(struct channel *channel)
{
    unsigned mask = 0;
    if (channel->state == CHANNEL_OPEN) {
        mask |= channel->paused ? 0 : UV_READABLE;
        mask |= channel->blocked ? UV_WRITABLE : 0;
    }
    if (mask == channel->poll_mask) {
        return;
    }
    channel->poll_mask = mask;
    if (mask == 0) {
        uv_poll_stop(&channel->poll);
    } else {
        uv_poll_start(&channel->poll, (int)mask, on_poll);
    }
}

static void wake(struct channel *channel)
{
    uv_idle_start(&channel->turn, on_turn);
}

static void end(struct channel *channel, int error)
{
    if (channel->state == CHANNEL_OPEN) {
        channel->state = CHANNEL_ENDED;
        channel->error = error;
        watch(channel);
        wake(channel);
    }
}

static void held_clear(struct channel *channel)
{
    free(channel->held);
    channel->held = NULL;
    channel->held_start = channel->held_end = channel->held_capacity = 0;
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct channel *channel = handle->data;
    if (--channel->handles == 0) {
        held_clear(channel);
        free(channel);
    }
}

/* `held` stays until the last callback: a frame in it may be in use up the stack. */
static void tear_down(struct channel *channel)
{
    channel->state = CHANNEL_CLOSED;
    uv_close((uv_handle_t *)&channel->poll, on_handle_closed);
    uv_close((uv_handle_t *)&channel->turn, on_handle_closed);
    send_queue_clear(&channel->out);
    fd_queue_clear(&channel->fds);
    close(channel->fd);
    channel->fd = -1;
}

int channel_open(struct channel **out, uv_loop_t *loop, int fd, const struct channel_ops *ops,
                 const struct channel_limits *limits, void *user)
{
    *out = NULL;
    struct channel *channel = calloc(1, sizeof(*channel));
    if (channel == NULL) {
        close(fd);
        return -ENOMEM;
    }
    channel->fd = fd;
    channel->ops = ops;
    channel->user = user;
    channel->limits = *limits;
    if (channel->limits.max_payload > FRAME_PAYLOAD_MAX) {
        channel->limits.max_payload = FRAME_PAYLOAD_MAX;
    }
    int result = fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ? -errno : 0;
    if (result == 0) {
        result = uv_poll_init(loop, &channel->poll, fd); /* makes it non-blocking */
    }
    if (result < 0) {
        close(fd);
        free(channel);
        return result;
    }
    uv_idle_init(loop, &channel->turn);
    channel->poll.data = channel->turn.data = channel;
    channel->handles = 2;
    watch(channel);
    *out = channel;
    return 0;
}

void channel_close(struct channel *channel)
{
    if (channel->state == CHANNEL_CLOSED) {
        return; /* inside ops->closed */
    }
    if (channel->state == CHANNEL_OPEN && !channel->blocked) {
        (void)send_queue_flush(&channel->out, channel->fd, WRITES_PER_TURN);
    }
    tear_down(channel);
}

void channel_fail(struct channel *channel)
{
    end(channel, -EPROTO);
}

/* --- outgoing --- */

static void flush(struct channel *channel)
{
    int result = send_queue_flush(&channel->out, channel->fd, WRITES_PER_TURN);
    channel->blocked = result == -EAGAIN;
    if (result < 0 && !channel->blocked) {
        /* The peer may have said something before it went: that is read first, and then EOF, which
         * shutdown() makes sure of also for a peer that has only ceased to read. */
        channel->error = result;
        send_queue_clear(&channel->out);
        shutdown(channel->fd, SHUT_RDWR);
        if (channel->paused) {
            end(channel, result);
        }
        watch(channel);
        return;
    }
    watch(channel);
    if (channel->out.octets > 0 && !channel->blocked) {
        wake(channel);
    }
    if (channel->congested && channel->out.octets <= channel->limits.low_mark) {
        channel->congested = false;
        if (channel->ops->relieved != NULL) {
            channel->ops->relieved(channel, channel->user);
        }
    }
}

int channel_send(struct channel *channel, const uint8_t *frame, size_t length, int fd)
{
    int result = 0;
    if (channel->state != CHANNEL_OPEN || channel->error != 0) {
        result = -EPIPE;
    } else if (length > channel->limits.max_queued - channel->out.octets) {
        result = -ENOBUFS;
        end(channel, result);
    }
    if (result < 0) {
        if (fd >= 0) {
            close(fd);
        }
        return result;
    }
    result = send_queue_append(&channel->out, frame, length, fd);
    if (result < 0) {
        end(channel, result); /* a stream with a frame missing is of no use */
        return -ENOBUFS;
    }
    if (channel->out.octets > channel->limits.high_mark) {
        channel->congested = true;
    }
    if (!channel->blocked) {
        wake(channel);
    }
    return 0;
}

/* --- incoming --- */

/* Keeps `length` octets; `needed` is what will follow of the same frame. */
static int hold(struct channel *channel, const uint8_t *data, size_t length, size_t needed)
{
    size_t used = channel->held_end - channel->held_start;
    if (channel->held_start > 0) {
        memmove(channel->held, channel->held + channel->held_start, used);
        channel->held_start = 0;
        channel->held_end = used;
    }
    if (used + length + needed > channel->held_capacity) {
        uint8_t *grown = realloc(channel->held, used + length + needed);
        if (grown == NULL) {
            return -ENOMEM;
        }
        channel->held = grown;
        channel->held_capacity = used + length + needed;
    }
    memcpy(channel->held + used, data, length);
    channel->held_end = used + length;
    return 0;
}

/* Judges what is at the start of `data`. Returns FRAME_E_LENGTH also for a frame above this
 * channel's own maximum. */
static enum frame_result judge(const struct channel *channel, const uint8_t *data, size_t length,
                               const uint8_t **payload, size_t *payload_length, size_t *missing)
{
    enum frame_result result = frame_decode(data, length, payload, payload_length, missing);
    size_t announced = 0;
    if (result == FRAME_OK) {
        announced = *payload_length;
    } else if (result == FRAME_NEED_MORE && length >= FRAME_HEADER) {
        announced = length - FRAME_HEADER + *missing;
    }
    return announced > channel->limits.max_payload ? FRAME_E_LENGTH : result;
}

static bool is_reading(const struct channel *channel)
{
    return channel->state == CHANNEL_OPEN && !channel->paused;
}

/*
 * Hands up every whole frame of what is held and then of `data`, and holds the rest. Frames within
 * `data` are not copied. Returns 0 or -errno, which ends the channel.
 */
static int feed(struct channel *channel, const uint8_t *data, size_t length)
{
    while (is_reading(channel)) {
        size_t held = channel->held_end - channel->held_start;
        const uint8_t *from = held > 0 ? channel->held + channel->held_start : data;
        const uint8_t *payload;
        size_t payload_length, missing;
        switch (
            judge(channel, from, held > 0 ? held : length, &payload, &payload_length, &missing)) {
        case FRAME_OK:
            if (held > 0) {
                channel->held_start += FRAME_HEADER + payload_length;
            } else {
                data += FRAME_HEADER + payload_length;
                length -= FRAME_HEADER + payload_length;
            }
            channel->ops->frame(channel, payload, payload_length, channel->user);
            break;
        case FRAME_NEED_MORE:
            if (length == 0) {
                return 0;
            }
            size_t take = held > 0 && missing < length ? missing : length;
            int result = hold(channel, data, take, missing - (held > 0 ? take : 0));
            if (result < 0) {
                return result;
            }
            data += take;
            length -= take;
            break;
        case FRAME_E_LENGTH:
            return -EPROTO;
        }
    }
    channel->behind = true;
    return channel->state == CHANNEL_OPEN && length > 0 ? hold(channel, data, length, 0) : 0;
}

/* After feed(): memory for what is held goes as soon as nothing is; a descriptor needs a frame that
 * can still declare it. */
static int settle(struct channel *channel)
{
    if (channel->state != CHANNEL_OPEN || channel->held_start < channel->held_end) {
        return 0;
    }
    held_clear(channel);
    return channel->fds.count > 0 ? -EPROTO : 0;
}

/* Queues the descriptors of one message; none is lost, whatever the message looks like. MSG_CTRUNC:
 * there were more than fit, or this process has no more to give; whose frame lost its own cannot be
 * told, so the channel ends (the daemons' budget of descriptors keeps a reserve for this). */
static int take_descriptors(struct channel *channel, struct msghdr *message, bool *any)
{
    int result = message->msg_flags & MSG_CTRUNC ? -EPROTO : 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c != NULL; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
            if (fd_queue_push(&channel->fds, fd, channel->limits.max_fds) < 0) {
                result = -EPROTO;
            }
            *any = true;
        }
    }
    return result;
}

/* One recvmsg and what follows from it. Returns true if more is to be read in this turn. */
static bool read_once(struct channel *channel)
{
    uint8_t scratch[READ_OCTETS];
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(FDS_PER_READ * sizeof(int))];
    } control;
    struct iovec iov = {.iov_base = scratch, .iov_len = sizeof(scratch)};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
    ssize_t n;
    do {
        n = recvmsg(channel->fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        if (errno != EAGAIN) {
            end(channel, -errno);
        }
        return false;
    }
    bool any_fd = false;
    int result = take_descriptors(channel, &message, &any_fd);
    if (n == 0 && result == 0) {
        /* A frame that was cut off is broken framing, not an end in order. */
        bool cut_off = channel->held_end > channel->held_start;
        end(channel, channel->error == 0 && cut_off ? -EPROTO : channel->error);
        return false;
    }
    if (result == 0) {
        result = feed(channel, scratch, (size_t)n);
    }
    if (result == 0) {
        result = settle(channel);
    }
    if (result < 0) {
        end(channel, result);
    }
    /* A descriptor ends a recvmsg early although more octets wait behind it. */
    return is_reading(channel) && any_fd;
}

int channel_take_fd(struct channel *channel)
{
    return fd_queue_pop(&channel->fds);
}

void channel_pause(struct channel *channel)
{
    channel->paused = true;
    if (channel->state != CHANNEL_OPEN) {
        return;
    }
    if (channel->error != 0) {
        end(channel, channel->error); /* broken already, and its EOF will not be read */
    } else {
        watch(channel);
    }
}

void channel_resume(struct channel *channel)
{
    channel->paused = false;
    if (channel->state == CHANNEL_OPEN) {
        watch(channel);
        if (channel->behind) {
            wake(channel); /* no event tells of what is already here */
        }
    }
}

/* --- events of the loop
 * --------------------------------------------------------------------------------------- */

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct channel *channel = poll->data;
    if (status < 0) {
        /* libuv stops watching on an error of the socket (ECONNRESET: the peer closed without
         * reading all). Asking for the error clears it, so that what the peer sent before can still
         * be read; its EOF then tells the error. */
        int error = 0;
        socklen_t length = sizeof(error);
        getsockopt(channel->fd, SOL_SOCKET, SO_ERROR, &error, &length);
        channel->error = error != 0 ? -error : status;
        channel->poll_mask = 0;
        if (channel->paused || error == 0) {
            end(channel, channel->error);
            return;
        }
        watch(channel);
        events = UV_READABLE;
    }
    if ((events & UV_WRITABLE) && channel->blocked) {
        flush(channel);
    }
    if (events & UV_READABLE) {
        unsigned reads = READS_PER_TURN;
        while (is_reading(channel) && reads-- > 0 && read_once(channel)) {
        }
    }
}

static void on_turn(uv_idle_t *turn)
{
    struct channel *channel = turn->data;
    uv_idle_stop(turn);
    if (channel->state == CHANNEL_ENDED) {
        if (!channel->blocked && (channel->error == -EPROTO || channel->error == 0)) {
            /* Our last word: why it was refused, or the answer to a peer that only writes no more.
             */
            (void)send_queue_flush(&channel->out, channel->fd, WRITES_PER_TURN);
        }
        int error = channel->error;
        tear_down(channel);
        channel->ops->closed(channel, error, channel->user);
        return;
    }
    if (!channel->paused && channel->behind) {
        channel->behind = false;
        int result = feed(channel, NULL, 0);
        if (result == 0) {
            result = settle(channel);
        }
        if (result < 0) {
            end(channel, result);
        }
    }
    if (channel->state == CHANNEL_OPEN && channel->out.octets > 0 && !channel->blocked) {
        flush(channel);
    }
}

bool channel_is_congested(const struct channel *channel)
{
    return channel->congested;
}

size_t channel_queued(const struct channel *channel)
{
    return channel->out.octets;
}
