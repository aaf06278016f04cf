#include "relayd/plane/socket/tcp_stream.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "relayd/plane/socket/sockets.h"

/* What a copy passes through; no stream owns it beyond one call. */
static char copy_area[64 * 1024];

static bool would_block(int error)
{
    return error == -EAGAIN || error == -EINTR;
}

static size_t smaller(uint64_t a, uint64_t b)
{
    return (size_t)(a < b ? a : b);
}

void tcp_stream_release(struct tcp_stream *stream, struct socket_plane *plane)
{
    if (!stream->has_pipe)
        return;
    if (stream->in_pipe == 0)
        pipe_pool_give(plane->pipes, &stream->pipe);
    else
        pipe_pool_discard(plane->pipes, &stream->pipe);
    stream->has_pipe = false;
    stream->in_pipe = 0;
}

/* Writes what the pipe holds, once. EAGAIN can only mean that the socket is full, since the pipe is
 * not empty. */
static enum tcp_stream_result drain_pipe(struct tcp_stream *stream, struct socket_plane *plane,
                                         int receiver, int *error)
{
    const ssize_t n = splice(stream->pipe.read_fd, NULL, receiver, NULL, stream->in_pipe,
                             SPLICE_F_NONBLOCK | SPLICE_F_MOVE);

    if (n < 0 && !would_block(-errno)) {
        *error = -errno;
        return TCP_STREAM_E_RECEIVER;
    }
    if (n > 0) {
        stream->in_pipe -= (uint32_t)n;
        stream->bytes += (uint64_t)n;
    }
    stream->blocked = stream->in_pipe != 0;
    if (!stream->blocked)
        tcp_stream_release(stream, plane);
    return TCP_STREAM_OK;
}

/* Into an empty pipe, which holds a page at least. */
static int put_into_pipe(struct tcp_stream *stream, struct socket_plane *plane,
                         const uint8_t *octets, size_t length)
{
    const int rc = pipe_pool_take(plane->pipes, uv_now(plane->loop), &stream->pipe);

    if (rc < 0)
        return rc;
    stream->has_pipe = true;
    const ssize_t n = write(stream->pipe.write_fd, octets, length);
    if (n < 0)
        return -errno;
    stream->in_pipe = (uint32_t)n;
    stream->blocked = true;
    return n == (ssize_t)length ? 0 : -EIO;
}

enum tcp_stream_result tcp_stream_push(struct tcp_stream *stream, struct socket_plane *plane,
                                       int receiver, const uint8_t *octets, size_t length,
                                       int *error)
{
    ssize_t n = send(receiver, octets, length, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n < 0 && !would_block(-errno)) {
        *error = -errno;
        return TCP_STREAM_E_RECEIVER;
    }
    n = n < 0 ? 0 : n;
    stream->bytes += (uint64_t)n;
    if ((size_t)n == length)
        return TCP_STREAM_OK;
    *error = put_into_pipe(stream, plane, octets + n, length - (size_t)n);
    return *error < 0 ? TCP_STREAM_E_SENDER : TCP_STREAM_OK;
}

/* Takes octets off the sender's queue that a look at it has already shown. */
static int discard(int sender, size_t count)
{
    while (count != 0) {
        const ssize_t n =
            recv(sender, copy_area, smaller(count, sizeof(copy_area)), MSG_TRUNC | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EPIPE;
        count -= (size_t)n;
    }
    return 0;
}

static enum tcp_stream_result finish(struct tcp_stream *stream, int receiver, int *error)
{
    stream->finished = true;
    stream->blocked = false;
    if (shutdown(receiver, SHUT_WR) == 0)
        return TCP_STREAM_FINISHED;
    /* It has ended already, and the socket knows why. */
    *error = errno == ENOTCONN ? sockets_take_error(receiver) : -errno;
    if (*error == 0)
        *error = -ECONNRESET;
    return TCP_STREAM_E_RECEIVER;
}

/*
 * Looks at what the sender's queue holds, writes what the receiver takes of it, and only then takes
 * that off the queue: nothing has to be kept between two calls. This also is the only way to a FIN,
 * and past urgent data, at which splice(2) stops for ever.
 */
static enum tcp_stream_result copy(struct tcp_stream *stream, int sender, int receiver,
                                   uint64_t max_bytes, int *error)
{
    const ssize_t seen =
        recv(sender, copy_area, smaller(max_bytes, sizeof(copy_area)), MSG_PEEK | MSG_DONTWAIT);

    stream->blocked = false;
    if (seen < 0 && would_block(-errno))
        return TCP_STREAM_OK;
    if (seen < 0) {
        *error = -errno;
        return TCP_STREAM_E_SENDER;
    }
    if (seen == 0)
        return finish(stream, receiver, error);
    const ssize_t n = send(receiver, copy_area, (size_t)seen, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && !would_block(-errno)) {
        *error = -errno;
        return TCP_STREAM_E_RECEIVER;
    }
    stream->blocked = n < seen;
    if (n > 0) {
        stream->bytes += (uint64_t)n;
        *error = discard(sender, (size_t)n);
        if (*error < 0)
            return TCP_STREAM_E_SENDER;
    }
    return TCP_STREAM_OK;
}

enum tcp_stream_result tcp_stream_pump(struct tcp_stream *stream, struct socket_plane *plane,
                                       int sender, int receiver, bool readable, uint64_t max_bytes,
                                       int *error)
{
    if (stream->has_pipe) {
        const enum tcp_stream_result result = drain_pipe(stream, plane, receiver, error);
        if (result != TCP_STREAM_OK || stream->blocked)
            return result;
    }
    /* After a copy that blocked the rest is still in the sender's queue. */
    readable = readable || stream->blocked;
    stream->blocked = false;
    if (stream->finished || !readable || max_bytes == 0)
        return TCP_STREAM_OK;
    if (pipe_pool_take(plane->pipes, uv_now(plane->loop), &stream->pipe) < 0) {
        plane->tcp_copies++;
        return copy(stream, sender, receiver, max_bytes, error);
    }
    stream->has_pipe = true;
    const ssize_t n =
        splice(sender, NULL, stream->pipe.write_fd, NULL, smaller(max_bytes, stream->pipe.size),
               SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
    if (n > 0) {
        stream->in_pipe = (uint32_t)n;
        return drain_pipe(stream, plane, receiver, error);
    }
    const int failure = n < 0 ? -errno : 0;
    tcp_stream_release(stream, plane);
    if (failure < 0 && !would_block(failure)) {
        *error = failure;
        return TCP_STREAM_E_SENDER;
    }
    /* Nothing to splice though readable: a FIN, or urgent data. */
    return copy(stream, sender, receiver, max_bytes, error);
}
