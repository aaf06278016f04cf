#include "relayd/plane/socket/pipe_pool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/system/fd_budget.h"

#define RETRY_AFTER_MS 100

struct pipe_pool {
    size_t size;
    uint32_t open, idle_count;
    uint64_t shrunk, refused;
    bool exhausted;       /* the last attempt to open one failed … */
    uint64_t retry_at_ms; /* … and is not repeated before this */
    struct pipe_ends idle[PIPE_POOL_IDLE_MAX];
};

int pipe_pool_new(struct pipe_pool **out, size_t size)
{
    struct pipe_pool *pool = calloc(1, sizeof(*pool));

    if (pool == NULL)
        return -ENOMEM;
    pool->size = size;
    *out = pool;
    return 0;
}

static void close_pipe(struct pipe_pool *pool, const struct pipe_ends *pipe)
{
    close(pipe->read_fd);
    close(pipe->write_fd);
    pool->open--;
}

/* Asks for the full size and, where the user's allowance does not reach, for less. */
static int enlarge(const struct pipe_pool *pool, int fd)
{
    size_t size = pool->size;

    while (fcntl(fd, F_SETPIPE_SZ, (int)size) < 0 && size / 4 > PIPE_SIZE_MIN)
        size /= 4;
    return fcntl(fd, F_GETPIPE_SZ);
}

static int open_pipe(struct pipe_pool *pool, struct pipe_ends *out)
{
    int fds[2];

    if (pool->open >= PIPE_POOL_OPEN_MAX)
        return -ENOSPC;
    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
        return -errno;
    const int size = enlarge(pool, fds[0]);
    *out = (struct pipe_ends){
        .read_fd = fds[0], .write_fd = fds[1], .size = size > 0 ? (uint32_t)size : 0};
    pool->open++;
    if (out->size < pool->size)
        pool->shrunk++;
    /* Without a pipe data is copied; without the reserve the daemon is deaf. */
    if ((out->size < pool->size && out->size < PIPE_SIZE_MIN) || !fd_budget_allows(out->write_fd)) {
        close_pipe(pool, out);
        return -ENOSPC;
    }
    return 0;
}

int pipe_pool_take(struct pipe_pool *pool, uint64_t now_ms, struct pipe_ends *out)
{
    int rc = -ENOSPC;

    if (pool->idle_count != 0) {
        *out = pool->idle[--pool->idle_count];
        return 0;
    }
    if (!pool->exhausted || now_ms >= pool->retry_at_ms) {
        rc = open_pipe(pool, out);
        pool->exhausted = rc < 0;
        pool->retry_at_ms = now_ms + RETRY_AFTER_MS;
    }
    if (rc < 0)
        pool->refused++;
    return rc;
}

void pipe_pool_give(struct pipe_pool *pool, const struct pipe_ends *pipe)
{
    if (pool->idle_count == PIPE_POOL_IDLE_MAX)
        close_pipe(pool, pipe);
    else
        pool->idle[pool->idle_count++] = *pipe;
    pool->exhausted = false;
}

void pipe_pool_discard(struct pipe_pool *pool, const struct pipe_ends *pipe)
{
    close_pipe(pool, pipe);
    pool->exhausted = false;
}

unsigned pipe_pool_trim(struct pipe_pool *pool)
{
    const unsigned freed = 2 * pool->idle_count;

    while (pool->idle_count != 0)
        close_pipe(pool, &pool->idle[--pool->idle_count]);
    return freed;
}

void pipe_pool_figures(const struct pipe_pool *pool, struct pipe_pool_figures *out)
{
    *out = (struct pipe_pool_figures){
        .open = pool->open,
        .idle = pool->idle_count,
        .shrunk = pool->shrunk,
        .refused = pool->refused,
    };
}

struct pipe_pool *pipe_pool_free(struct pipe_pool *pool)
{
    if (pool != NULL) {
        pipe_pool_trim(pool);
        free(pool);
    }
    return NULL;
}
