#include "common/log/sink.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/log/log.h"

/* How long one line may wait for a reader; after a lost line the next ones do not wait at all. */
#define WAIT_MS 10
/* What is kept at the end gets that often so long. */
#define LAST_WAITS 100
/* More than this does not wait for the end of the loop's turn. */
#define FLUSH_AT (64 * 1024)

_Static_assert(LOG_LINE_MAX <= PIPE_BUF, "a pipe that is writable takes a whole line");

static struct {
    char buffer[LOG_SINK_SIZE];
    size_t start, end; /* what is kept */
    bool batching;
    bool broken;  /* there was no reader when it was last written to */
    bool blocked; /* the reader took no more: left alone until log_sink_flush() */
    bool losing;  /* without batches: the last line was lost */
    uint64_t lost, gap;
} sink;

/* ---- writing -------------------------------------------------------------------------------- */

/* Without touching O_NONBLOCK, which stderr shares with other processes: only what polls writable
 * is written to, and no more than it takes. Returns the octets, or -errno. */
static ssize_t write_some(const char *text, size_t length, int wait_ms)
{
    struct pollfd poll_fd = {.fd = STDERR_FILENO, .events = POLLOUT};
    int ready = poll(&poll_fd, 1, wait_ms);

    if (ready == 0 || (ready < 0 && errno == EINTR))
        return -EAGAIN;
    if (ready < 0 || poll_fd.revents != POLLOUT)
        return -EPIPE;
    ssize_t sent = send(STDERR_FILENO, text, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno == ENOTSOCK)
        sent = write(STDERR_FILENO, text, length);
    return sent < 0 ? -errno : sent;
}

/* How much of what is kept may be written at once: of a pipe it is known only that it takes
 * PIPE_BUF octets, and lines stay whole beside those of other processes. */
static size_t portion(size_t length)
{
    struct stat status;

    if (length <= PIPE_BUF || (fstat(STDERR_FILENO, &status) == 0 &&
                               (S_ISREG(status.st_mode) || S_ISSOCK(status.st_mode))))
        return length;
    const char *text = sink.buffer + sink.start;
    const char *last = memrchr(text, '\n', PIPE_BUF);
    return last != NULL ? (size_t)(last - text) + 1 : PIPE_BUF;
}

static void count_lost(uint64_t lines)
{
    sink.lost += lines;
    sink.gap += lines;
}

static void drop_kept(void)
{
    uint64_t lines = 0;

    for (size_t i = sink.start; i < sink.end; i++)
        lines += sink.buffer[i] == '\n';
    count_lost(lines);
    sink.start = sink.end = 0;
}

static bool flush(int wait_ms)
{
    int saved_errno = errno;

    while (sink.start < sink.end) {
        ssize_t sent =
            write_some(sink.buffer + sink.start, portion(sink.end - sink.start), wait_ms);
        if (sent == -EAGAIN) {
            sink.blocked = true;
            break;
        }
        sink.broken = sent < 0; /* or no room on its disk */
        if (sink.broken)
            drop_kept();
        else
            sink.start += (size_t)sent;
    }
    if (sink.start == sink.end)
        sink.start = sink.end = 0;
    errno = saved_errno;
    return sink.end == 0;
}

/* ---- lines ---------------------------------------------------------------------------------- */

/* Makes room at the end of the buffer. False when there is none. */
static bool make_room(size_t length)
{
    if (sizeof(sink.buffer) - sink.end >= length)
        return true;
    if (!sink.blocked)
        flush(0);
    memmove(sink.buffer, sink.buffer + sink.start, sink.end - sink.start);
    sink.end -= sink.start;
    sink.start = 0;
    return sizeof(sink.buffer) - sink.end >= length;
}

static bool keep(const char *line, size_t length, bool urgent)
{
    if (!make_room(length)) {
        count_lost(1);
        return false;
    }
    memcpy(sink.buffer + sink.end, line, length);
    sink.end += length;
    if (urgent || (sink.end - sink.start >= FLUSH_AT && !sink.blocked))
        flush(0);
    return true;
}

bool log_sink_put(const char *line, size_t length, bool urgent)
{
    if (sink.batching)
        return keep(line, length, urgent);
    int saved_errno = errno;
    ssize_t sent = write_some(line, length, sink.losing ? 0 : WAIT_MS);
    sink.losing = sent != (ssize_t)length;
    if (sink.losing)
        sink.lost++;
    errno = saved_errno;
    return !sink.losing;
}

bool log_sink_flush(void)
{
    sink.blocked = false;
    return flush(0);
}

void log_sink_batch(bool on)
{
    sink.batching = on;
    for (int i = 0; !on && i < LAST_WAITS && !flush(WAIT_MS); i++) {
    }
    if (!on)
        drop_kept();
}

uint64_t log_sink_take_gap(void)
{
    uint64_t gap = sink.gap;

    if (gap == 0 || !sink.batching || sink.broken || sink.blocked ||
        !make_room(2 * (size_t)LOG_LINE_MAX))
        return 0;
    sink.gap = 0;
    return gap;
}

uint64_t log_sink_lost(void)
{
    return sink.lost;
}
