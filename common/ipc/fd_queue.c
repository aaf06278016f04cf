#include "common/ipc/fd_queue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FD_QUEUE_FIRST 8 /* capacity of the first allocation */

/* Makes room for one more at the end: first by moving to the front, then by growing. */
static int make_room(struct fd_queue *queue, size_t max)
{
    if (queue->start + queue->count < queue->capacity) {
        return 0;
    }
    if (queue->start > queue->capacity / 2) {
        memmove(queue->items, queue->items + queue->start, queue->count * sizeof(int));
        queue->start = 0;
        return 0;
    }
    size_t capacity = queue->capacity == 0 ? FD_QUEUE_FIRST : 2 * queue->capacity;
    if (capacity > 2 * max) {
        capacity = 2 * max;
    }
    if (capacity <= queue->start + queue->count) {
        capacity = queue->start + queue->count + 1;
    }
    int *items = realloc(queue->items, capacity * sizeof(int));
    if (items == NULL) {
        return -ENOMEM;
    }
    queue->items = items;
    queue->capacity = capacity;
    return 0;
}

int fd_queue_push(struct fd_queue *queue, int fd, size_t max)
{
    int result = queue->count >= max ? -ENOBUFS : make_room(queue, max);
    if (result < 0) {
        close(fd);
        return result;
    }
    queue->items[queue->start + queue->count++] = fd;
    return 0;
}

int fd_queue_pop(struct fd_queue *queue)
{
    if (queue->count == 0) {
        return -1;
    }
    int fd = queue->items[queue->start++];
    if (--queue->count == 0) {
        fd_queue_clear(queue);
    }
    return fd;
}

void fd_queue_clear(struct fd_queue *queue)
{
    for (size_t i = 0; i < queue->count; i++) {
        close(queue->items[queue->start + i]);
    }
    free(queue->items);
    memset(queue, 0, sizeof(*queue));
}
