/*
 * A channel: whole frames and file descriptors over a connected AF_UNIX stream socket, on uv_poll.
 *
 * - Incoming: the length is judged before anything is stored; frames are handed up one by one. A
 * descriptor does not mark its frame (recvmsg merges), so descriptors wait in a bounded queue and
 * the frame that declares one takes it, first in, first out. A frame that declares one that is not
 * there, and a descriptor that no frame declared, end the channel. Every descriptor that nobody
 * took is closed, on every path.
 * - Outgoing: frames are queued and written with one sendmsg per loop turn (descriptors force a
 * boundary). Above the high mark channel_is_congested() is true until the queue is below the low
 * mark, when ops->relieved is called. A queue that would pass the hard maximum ends the channel:
 * the peer does not read.
 *
 * Ownership: the channel owns its fd and every queued descriptor. channel_close() may be called at
 * any time, also inside a callback; ops->closed is then not called; memory is released in the last
 * close callback of the loop.
 */
#ifndef SOCKST_COMMON_IPC_CHANNEL_H
#define SOCKST_COMMON_IPC_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct channel;

struct channel_limits {
    size_t high_mark, low_mark, max_queued; /* octets */
    size_t max_payload;                     /* ≤ FRAME_PAYLOAD_MAX */
    size_t max_fds; /* waiting descriptors; 0: any descriptor ends the channel */
};

struct channel_ops {
    /* One frame's payload, borrowed for the call. */
    void (*frame)(struct channel *channel, const uint8_t *payload, size_t length, void *user);
    /* The channel has ended by itself: 0 for the peer's EOF, a negative errno otherwise (-EPROTO
     * for broken framing or descriptors, -ENOBUFS for a full queue). Exactly once; the channel must
     * not be used afterwards. */
    void (*closed)(struct channel *channel, int error, void *user);
    /* Below the low mark again (may be NULL). */
    void (*relieved)(struct channel *channel, void *user);
};

/* Consumes `fd` (also on failure), which is made non-blocking. Returns 0 or -errno. */
int channel_open(struct channel **out, uv_loop_t *loop, int fd, const struct channel_ops *ops,
                 const struct channel_limits *limits, void *user);

/*
 * Queues one whole frame (header and payload, copied) and, with fd ≥ 0, a descriptor (consumed,
 * also on failure). Returns 0, -ENOBUFS when the queue is full (the channel then closes itself in
 * this loop turn), or -EPIPE after its end.
 */
int channel_send(struct channel *channel, const uint8_t *frame, size_t length, int fd);

/* Takes the oldest waiting descriptor (now the caller's), or returns -1 when none waits. Valid
 * inside ops->frame. */
int channel_take_fd(struct channel *channel);

/* Ends the channel because of what its peer sent; ops->closed(-EPROTO) is called later in this loop
 * turn. */
void channel_fail(struct channel *channel);

/* While paused nothing is read: frames stay in the kernel (a slow reader pauses its cursor). */
void channel_pause(struct channel *channel);
void channel_resume(struct channel *channel);

bool channel_is_congested(const struct channel *channel);
size_t channel_queued(const struct channel *channel);

/* Writes what one non-blocking attempt takes, then ends the channel without a callback. */
void channel_close(struct channel *channel);

#endif
