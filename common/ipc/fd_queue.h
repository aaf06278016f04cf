/*
 * Received file descriptors that wait for the frame that declares them: bounded, first in, first
 * out. A zeroed struct is an empty queue; the queue owns what is in it.
 */
#ifndef SOCKST_COMMON_IPC_FD_QUEUE_H
#define SOCKST_COMMON_IPC_FD_QUEUE_H

#include <stddef.h>

struct fd_queue {
    int *items;
    size_t start, count, capacity;
};

/* Appends `fd` (consumed, also on failure). Returns 0, -ENOBUFS when `max` wait already, or
 * -ENOMEM. */
int fd_queue_push(struct fd_queue *queue, int fd, size_t max);

/* The oldest descriptor, now the caller's; -1 when there is none. */
int fd_queue_pop(struct fd_queue *queue);

/* Closes every descriptor and releases the memory. The queue is empty and usable afterwards. */
void fd_queue_clear(struct fd_queue *queue);

#endif
