#include "tests/bench/order_stream.h"

#include <errno.h>
#include <poll.h>
#include <stdalign.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/frame.h"

#define HELLO_PATIENCE_MS 10000

void bench_fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

/* ---- out ------------------------------------------------------------------------------------ */

bool order_stream_has_room(const struct order_stream *stream)
{
    return sizeof(stream->out) - stream->out_end >= FRAME_HEADER + N2_PAYLOAD_MAX;
}

void order_stream_put(struct order_stream *stream, const struct n2_message *message)
{
    size_t length =
        n2_encode(message, stream->out + stream->out_end, sizeof(stream->out) - stream->out_end);
    if (length == 0) {
        bench_fail("%s is not valid, or there is no room for it", n2_type_name(message->type));
    }
    stream->out_end += length;
}

static void stream_write(struct order_stream *stream)
{
    while (stream->out_start < stream->out_end) {
        ssize_t sent = send(stream->fd, stream->out + stream->out_start,
                            stream->out_end - stream->out_start, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EAGAIN) {
            break;
        }
        if (sent < 0) {
            bench_fail("send: %s", strerror(errno));
        }
        stream->out_start += (size_t)sent;
    }
    memmove(stream->out, stream->out + stream->out_start, stream->out_end - stream->out_start);
    stream->out_end -= stream->out_start;
    stream->out_start = 0;
}

/* ---- in ------------------------------------------------------------------------------------- */

static void stream_handle(struct order_stream *stream, const uint8_t *payload, size_t length)
{
    static alignas(max_align_t) uint8_t memory[N2_ARENA_SIZE];
    static struct n2_message message;
    const char *problem = NULL;
    struct arena arena;

    arena_init(&arena, memory, sizeof(memory));
    if (n2_decode(payload, length, &arena, &message, &problem) != N2_OK) {
        bench_fail("relayd sent nonsense: %s", problem == NULL ? "?" : problem);
    }
    switch (message.type) {
    case N2_PING:
        message.type = N2_PONG;
        if (order_stream_has_room(stream)) {
            order_stream_put(stream, &message);
        }
        break;
    case N2_RELAY_EVENT:
        stream->events++;
        break;
    case N2_HELLO_ACK:
        stream->hello = message.hello;
        break;
    default:
        stream->message(stream->user, &message);
        break;
    }
}

/* Hands up whole frames. */
static void stream_split(struct order_stream *stream)
{
    size_t start = 0, payload_length, missing;
    const uint8_t *payload;
    enum frame_result result;

    while ((result = frame_decode(stream->in + start, stream->in_end - start, &payload,
                                  &payload_length, &missing)) == FRAME_OK) {
        stream_handle(stream, payload, payload_length);
        start += FRAME_HEADER + payload_length;
    }
    if (result != FRAME_NEED_MORE) {
        bench_fail("relayd sent a frame of a length that none has");
    }
    memmove(stream->in, stream->in + start, stream->in_end - start);
    stream->in_end -= start;
}

static void stream_read(struct order_stream *stream)
{
    ssize_t got = recv(stream->fd, stream->in + stream->in_end, sizeof(stream->in) - stream->in_end,
                       MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN)) {
        bench_fail("relayd has ended the connection: %s", got == 0 ? "EOF" : strerror(errno));
    }
    if (got > 0) {
        stream->in_end += (size_t)got;
        stream_split(stream);
    }
}

void order_stream_turn(struct order_stream *stream, int wait_ms)
{
    struct pollfd poll_fd = {.fd = stream->fd, .events = POLLIN};

    stream_write(stream);
    poll_fd.events |= stream->out_end > 0 ? POLLOUT : 0;
    if (poll(&poll_fd, 1, wait_ms) < 0 && errno != EINTR) {
        bench_fail("poll: %s", strerror(errno));
    }
    if (poll_fd.revents & (POLLIN | POLLHUP | POLLERR)) {
        stream_read(stream);
    }
}

/* ---- lifecycle ------------------------------------------------------------------------------ */

struct order_stream *
order_stream_open(const char *path, void (*message)(void *user, const struct n2_message *message),
                  void *user)
{
    struct n2_message hello = {.type = N2_HELLO,
                               .hello = {.major = N2_VERSION_MAJOR,
                                         .minor = N2_VERSION_MINOR,
                                         .boot_epoch = 1,
                                         .build = "load"}};
    struct peer_credentials credentials;
    struct order_stream *stream = calloc(1, sizeof(*stream));

    if (stream == NULL) {
        bench_fail("out of memory");
    }
    stream->fd = unix_connect(path);
    if (stream->fd < 0) {
        bench_fail("%s: %s", path, strerror(-stream->fd));
    }
    if (peer_credentials_get(stream->fd, &credentials) == 0) {
        stream->relayd = credentials.pid;
    }
    stream->message = message;
    stream->user = user;
    order_stream_put(stream, &hello);
    for (int waited = 0; stream->hello.major == 0; waited++) {
        if (waited == HELLO_PATIENCE_MS / 10) {
            bench_fail("%s: no HelloAck", path);
        }
        order_stream_turn(stream, 10);
    }
    return stream;
}

void order_stream_close(struct order_stream *stream)
{
    close(stream->fd);
    free(stream);
}
