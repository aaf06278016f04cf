/*
 * The pipes that splice(2) moves data through. A stream takes one for as long as data is in flight
 * and gives it back empty, so that few pipes serve many streams. Whoever gets none copies instead.
 */
#ifndef SOCKST_RELAYD_PIPE_POOL_H
#define SOCKST_RELAYD_PIPE_POOL_H

#include <stddef.h>
#include <stdint.h>

#define PIPE_POOL_OPEN_MAX 1024 /* pipes in use and idle, two descriptors each */
#define PIPE_POOL_IDLE_MAX 32   /* pipes kept for the next one */
/* A pipe that holds less than this is slower than a copy. The kernel makes such pipes, of one page
 * or two, without a word when the user has used up fs.pipe-user-pages-soft. */
#define PIPE_SIZE_MIN ((size_t)64 * 1024)

struct pipe_pool;

struct pipe_ends {
    int read_fd, write_fd;
    uint32_t size; /* octets that it holds */
};

struct pipe_pool_figures {
    uint32_t open, idle; /* open: in use and idle */
    uint64_t shrunk;     /* pipes that the kernel made smaller than asked for, so far */
    uint64_t refused;    /* times that there was no useful pipe to be had, so far */
};

/* `size`: octets each pipe is to hold. Returns 0 or -ENOMEM. */
int pipe_pool_new(struct pipe_pool **out, size_t size);
/* Returns 0, -EMFILE or -ENFILE (no descriptor), -ENOSPC (PIPE_POOL_OPEN_MAX, only pipes below
 * PIPE_SIZE_MIN are to be had, or the descriptors left are the reserve of
 * common/system/fd_budget.h). After a refusal the next attempts are answered -ENOSPC without asking
 * the kernel until a pipe has come back or some time of `now_ms` has passed. */
int pipe_pool_take(struct pipe_pool *pool, uint64_t now_ms, struct pipe_ends *out);
/* Gives an empty pipe back. */
void pipe_pool_give(struct pipe_pool *pool, const struct pipe_ends *pipe);
/* Closes one that still holds data. */
void pipe_pool_discard(struct pipe_pool *pool, const struct pipe_ends *pipe);
/* Closes the idle ones: somebody needs descriptors. Returns how many descriptors that freed. */
unsigned pipe_pool_trim(struct pipe_pool *pool);
void pipe_pool_figures(const struct pipe_pool *pool, struct pipe_pool_figures *out);
/* Every pipe must have come back. NULL is allowed. Returns NULL. */
struct pipe_pool *pipe_pool_free(struct pipe_pool *pool);

#endif
