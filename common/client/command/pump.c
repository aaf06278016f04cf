#include "common/client/command/pump.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_socket(int fd)
{
    struct stat status;
    return fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode);
}

static int use_buffer(struct pump *pump)
{
    if (pump->buffer == NULL)
        pump->buffer = malloc(PUMP_SIZE);
    return pump->buffer != NULL ? 0 : -ENOMEM;
}

static void close_pipe(struct pump *pump)
{
    for (int i = 0; i < 2; i++) {
        if (pump->pipe[i] >= 0)
            close(pump->pipe[i]);
        pump->pipe[i] = -1;
    }
}

int pump_init(struct pump *pump, int in, int out)
{
    *pump = (struct pump){.in = in, .out = out, .pipe = {-1, -1}};
    pump->in_is_socket = is_socket(in);
    pump->out_is_socket = is_socket(out);
    /* splice() into a blocking socket would block: SPLICE_F_NONBLOCK speaks of pipes alone. */
    bool blocking = pump->out_is_socket && (fcntl(out, F_GETFL) & O_NONBLOCK) == 0;
    if (blocking || pipe2(pump->pipe, O_NONBLOCK | O_CLOEXEC) < 0)
        return use_buffer(pump);
    /* A smaller pipe works too; the kernel limits what one user may have. */
    (void)fcntl(pump->pipe[0], F_SETPIPE_SZ, PUMP_SIZE);
    return 0;
}

void pump_free(struct pump *pump)
{
    if (pump->buffer == NULL && pump->pipe[0] == 0)
        return; /* zeroed */
    close_pipe(pump);
    free(pump->buffer);
    pump->buffer = NULL;
    pump->pending = 0;
}

static bool by_splice(const struct pump *pump)
{
    return pump->pipe[0] >= 0;
}

/* One side cannot be spliced (O_APPEND, a terminal): what the pipe holds moves to the buffer. */
static int leave_splice(struct pump *pump)
{
    size_t used = 0;
    int error = use_buffer(pump);
    while (error == 0 && used < pump->pending) {
        ssize_t got = read(pump->pipe[0], pump->buffer + used, pump->pending - used);
        if (got > 0)
            used += (size_t)got;
        else
            error = got == 0 ? -EIO : -errno;
    }
    pump->start = 0;
    close_pipe(pump);
    return error;
}

static ssize_t fill_once(struct pump *pump)
{
    if (by_splice(pump))
        return splice(pump->in, NULL, pump->pipe[1], NULL, PUMP_SIZE,
                      SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    pump->start = 0;
    if (pump->in_is_socket)
        return recv(pump->in, pump->buffer, PUMP_SIZE, MSG_DONTWAIT);
    return read(pump->in, pump->buffer, PUMP_SIZE);
}

static ssize_t drain_once(struct pump *pump)
{
    if (by_splice(pump))
        return splice(pump->pipe[0], NULL, pump->out, NULL, pump->pending,
                      SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    const uint8_t *data = pump->buffer + pump->start;
    if (pump->out_is_socket)
        return send(pump->out, data, pump->pending, MSG_DONTWAIT | MSG_NOSIGNAL);
    return write(pump->out, data, pump->pending);
}

/* One attempt; falls back from splice() once. Returns what moved, or -errno. */
static ssize_t attempt(struct pump *pump, ssize_t (*once)(struct pump *pump))
{
    ssize_t moved = once(pump);
    if (moved < 0 && errno == EINVAL && by_splice(pump)) {
        int error = leave_splice(pump);
        if (error < 0)
            return error;
        moved = once(pump);
    }
    return moved < 0 ? -errno : moved;
}

static bool is_transient(ssize_t error)
{
    return error == -EAGAIN || error == -EINTR;
}

static enum pump_state fail(struct pump *pump, enum pump_state state, ssize_t error)
{
    pump->error = (int)-error;
    pump->state = state;
    return state;
}

enum pump_state pump_run(struct pump *pump)
{
    if (pump->state >= PUMP_DONE)
        return pump->state;
    if (pump->pending == 0 && !pump->ended) {
        ssize_t got = attempt(pump, fill_once);
        if (got < 0 && !is_transient(got))
            return fail(pump, PUMP_E_IN, got);
        pump->ended = got == 0;
        pump->pending = got > 0 ? (size_t)got : 0;
    }
    if (pump->pending != 0) {
        ssize_t gone = attempt(pump, drain_once);
        if (gone < 0 && !is_transient(gone))
            return fail(pump, PUMP_E_OUT, gone);
        if (gone > 0) {
            pump->start += (size_t)gone;
            pump->pending -= (size_t)gone;
            pump->moved += (uint64_t)gone;
        }
    }
    if (pump->pending != 0)
        pump->state = PUMP_WANT_OUT;
    else
        pump->state = pump->ended ? PUMP_DONE : PUMP_WANT_IN;
    return pump->state;
}
