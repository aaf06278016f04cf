/*
 * Octets and descriptors on their way to a Unix stream socket. Octets are gathered in chunks and
 * leave with as few sendmsg calls as the descriptors allow: at most one descriptor a call, at its
 * first octet, because the kernel delivers it with that octet. A zeroed struct is an empty queue;
 * the queue owns the descriptors in it and holds no memory when it is empty.
 */
#ifndef SOCKST_COMMON_IPC_SEND_QUEUE_H
#define SOCKST_COMMON_IPC_SEND_QUEUE_H

#include <stddef.h>
#include <stdint.h>

#define SEND_QUEUE_FDS_MAX 4096 /* descriptors in one queue */

struct send_chunk;

struct send_queue {
    struct send_chunk *head, *tail;
    size_t octets; /* not yet written */
    size_t fds;
};

/*
 * Appends `length` ≥ 1 octets (copied); a descriptor fd ≥ 0 (consumed, also on failure) leaves with
 * the first of them. Returns 0, -ENOBUFS when SEND_QUEUE_FDS_MAX descriptors wait, or -ENOMEM; the
 * queue is then as before.
 */
int send_queue_append(struct send_queue *queue, const uint8_t *data, size_t length, int fd);

/*
 * Writes until the queue is empty or the socket takes no more, with at most `calls` calls of
 * sendmsg. Returns 0, -EAGAIN when the socket is full, or another -errno when it is broken.
 */
int send_queue_flush(struct send_queue *queue, int socket, unsigned calls);

/* Drops the octets and closes the descriptors. */
void send_queue_clear(struct send_queue *queue);

#endif
