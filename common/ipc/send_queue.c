#include "common/ipc/send_queue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define CHUNK_OCTETS 8064 /* with its header below 8 KiB */
#define IOV_COUNT 32

struct send_chunk {
    struct send_chunk *next;
    size_t start, end, capacity;
    int fd; /* leaves with the octet at `start`; -1: none */
    uint8_t data[];
};

static size_t copy_into(struct send_chunk *chunk, const uint8_t *data, size_t length)
{
    size_t take = chunk->capacity - chunk->end;
    if (take > length) {
        take = length;
    }
    memcpy(chunk->data + chunk->end, data, take);
    chunk->end += take;
    return take;
}

int send_queue_append(struct send_queue *queue, const uint8_t *data, size_t length, int fd)
{
    struct send_chunk *tail = fd >= 0 ? NULL : queue->tail;
    size_t room = tail == NULL ? 0 : tail->capacity - tail->end;
    struct send_chunk *chunk = NULL;
    int result = 0;
    if (fd >= 0 && queue->fds >= SEND_QUEUE_FDS_MAX) {
        result = -ENOBUFS;
    } else if (length > room) {
        size_t rest = length - room;
        size_t capacity = rest > CHUNK_OCTETS ? rest : CHUNK_OCTETS;
        chunk = malloc(sizeof(*chunk) + capacity);
        if (chunk == NULL) {
            result = -ENOMEM;
        } else {
            *chunk = (struct send_chunk){.capacity = capacity, .fd = fd};
        }
    }
    if (result < 0) {
        if (fd >= 0) {
            close(fd);
        }
        return result;
    }
    size_t done = tail == NULL ? 0 : copy_into(tail, data, length);
    if (chunk != NULL) {
        copy_into(chunk, data + done, length - done);
        *(queue->tail == NULL ? &queue->head : &queue->tail->next) = chunk;
        queue->tail = chunk;
    }
    queue->octets += length;
    queue->fds += fd >= 0;
    return 0;
}

static void drop_head(struct send_queue *queue)
{
    struct send_chunk *chunk = queue->head;
    queue->head = chunk->next;
    if (queue->head == NULL) {
        queue->tail = NULL;
    }
    free(chunk);
}

/* Forgets what the kernel has taken; the first octet took the descriptor with it. */
static void advance(struct send_queue *queue, size_t written)
{
    queue->octets -= written;
    if (queue->head->fd >= 0) {
        close(queue->head->fd);
        queue->head->fd = -1;
        queue->fds--;
    }
    while (queue->head != NULL && written >= queue->head->end - queue->head->start) {
        written -= queue->head->end - queue->head->start;
        drop_head(queue);
    }
    if (queue->head != NULL) {
        queue->head->start += written;
    }
}

/* One sendmsg: from the head up to the next descriptor. Returns the octets written or -errno. */
static ssize_t write_once(struct send_queue *queue, int socket, size_t *wanted)
{
    struct iovec iov[IOV_COUNT];
    size_t count = 0;
    *wanted = 0;
    for (struct send_chunk *chunk = queue->head; chunk != NULL && count < IOV_COUNT;
         chunk = chunk->next) {
        if (count > 0 && chunk->fd >= 0) {
            break;
        }
        iov[count].iov_base = chunk->data + chunk->start;
        iov[count].iov_len = chunk->end - chunk->start;
        *wanted += iov[count++].iov_len;
    }
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = count};
    if (queue->head->fd >= 0) {
        memset(&control, 0, sizeof(control));
        message.msg_control = &control;
        message.msg_controllen = sizeof(control);
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(&control.header), &queue->head->fd, sizeof(int));
    }
    ssize_t n;
    do {
        n = sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

int send_queue_flush(struct send_queue *queue, int socket, unsigned calls)
{
    while (queue->head != NULL && calls-- > 0) {
        size_t wanted;
        ssize_t written = write_once(queue, socket, &wanted);
        if (written < 0) {
            return (int)written;
        }
        advance(queue, (size_t)written);
        if ((size_t)written < wanted) {
            return -EAGAIN;
        }
    }
    return 0;
}

void send_queue_clear(struct send_queue *queue)
{
    while (queue->head != NULL) {
        if (queue->head->fd >= 0) {
            close(queue->head->fd);
        }
        drop_head(queue);
    }
    memset(queue, 0, sizeof(*queue));
}
