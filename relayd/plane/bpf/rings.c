/*
 * A record that found no room is counted by the program (…_lost). The count is looked at after
 * reading; since the program may count only after that, also a moment later.
 */
#include "relayd/plane/bpf/rings.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>

#include "common/log/log.h"

#define LOOK_AGAIN_MS 20

enum ring_kind { RING_EVENTS, RING_STRANGERS, RING_ANSWERS, RING_KINDS };

struct ring {
    struct rings *rings;
    enum ring_kind kind;
    struct ring_buffer *buffer; /* NULL: not opened */
    uv_poll_t poll;
    unsigned taken; /* in this turn */
};

struct rings {
    struct ring list[RING_KINDS];
    uv_timer_t look_again;
    unsigned handles; /* not closed yet */
    bool closing;
    volatile const struct bpf_globals *globals;
    uint64_t events_lost, strangers_lost; /* as far as they were reported */
    struct program_ops ops;
    void *user;
};

/* ---- records --------------------------------------------------------------------------------- */

static void deliver(const struct ring *ring, const void *record, size_t size)
{
    const struct rings *rings = ring->rings;

    switch (ring->kind) {
    case RING_EVENTS:
        if (size >= sizeof(struct bpf_event))
            rings->ops.event(rings->user, record);
        break;
    case RING_STRANGERS:
        if (size >= sizeof(struct bpf_stranger_event))
            rings->ops.stranger(rings->user, record);
        break;
    case RING_ANSWERS:
        if (size >= sizeof(struct bpf_answer))
            rings->ops.answer(rings->user, record);
        break;
    case RING_KINDS:
        break;
    }
}

/* The record is consumed whatever is returned; below 0 ends the reading. */
static int on_record(void *user, void *record, size_t size)
{
    struct ring *ring = user;

    if (ring->rings->closing)
        return -ECANCELED;
    deliver(ring, record, size);
    return ++ring->taken < RINGS_RECORDS_PER_TURN ? 0 : -EAGAIN;
}

static void report_losses(struct rings *rings)
{
    const uint64_t events = rings->globals->events_lost;
    const uint64_t strangers = rings->globals->strangers_lost;

    if (events != rings->events_lost) {
        rings->events_lost = events;
        rings->ops.events_lost(rings->user);
    }
    if (!rings->closing && strangers != rings->strangers_lost) {
        rings->strangers_lost = strangers;
        rings->ops.strangers_lost(rings->user);
    }
}

static void on_look_again(uv_timer_t *timer)
{
    report_losses(timer->data);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct ring *ring = poll->data;
    struct rings *rings = ring->rings;

    (void)events;
    if (status < 0) {
        LOG(LOG_LEVEL_ERROR, "bpf-ring", LOG_ERRNO(status));
        return;
    }
    ring->taken = 0;
    (void)ring_buffer__consume(ring->buffer);
    if (rings->closing)
        return;
    report_losses(rings);
    if (!rings->closing && !uv_is_active((uv_handle_t *)&rings->look_again))
        uv_timer_start(&rings->look_again, on_look_again, LOOK_AGAIN_MS, 0);
}

/* ---- lifecycle ------------------------------------------------------------------------------- */

static void free_rings(struct rings *rings)
{
    for (size_t i = 0; i < RING_KINDS; i++)
        ring_buffer__free(rings->list[i].buffer);
    free(rings);
}

static void on_closed(uv_handle_t *handle)
{
    struct rings *rings =
        handle->type == UV_TIMER ? handle->data : ((struct ring *)handle->data)->rings;

    if (--rings->handles == 0)
        free_rings(rings);
}

void rings_close(struct rings *rings)
{
    if (rings == NULL || rings->closing)
        return;
    rings->closing = true;
    uv_close((uv_handle_t *)&rings->look_again, on_closed);
    for (size_t i = 0; i < RING_KINDS; i++)
        if (rings->list[i].poll.data != NULL) /* it was opened */
            uv_close((uv_handle_t *)&rings->list[i].poll, on_closed);
}

static int open_ring(struct rings *rings, uv_loop_t *loop, enum ring_kind kind, int fd)
{
    struct ring *ring = &rings->list[kind];
    int r;

    ring->rings = rings;
    ring->kind = kind;
    ring->buffer = ring_buffer__new(fd, on_record, ring, NULL);
    if (ring->buffer == NULL)
        return -errno;
    r = uv_poll_init(loop, &ring->poll, ring_buffer__epoll_fd(ring->buffer));
    if (r < 0)
        return r;
    ring->poll.data = ring;
    rings->handles++;
    uv_unref((uv_handle_t *)&ring->poll);
    return uv_poll_start(&ring->poll, UV_READABLE, on_readable);
}

int rings_open(struct rings **out, uv_loop_t *loop, const struct rings_config *config)
{
    const int fds[RING_KINDS] = {config->events, config->strangers, config->answers};
    struct rings *rings = calloc(1, sizeof(*rings));

    if (rings == NULL)
        return -ENOMEM;
    rings->globals = config->globals;
    rings->ops = *config->ops;
    rings->user = config->user;
    uv_timer_init(loop, &rings->look_again);
    rings->look_again.data = rings;
    rings->handles = 1;
    uv_unref((uv_handle_t *)&rings->look_again);
    for (int kind = 0; kind < RING_KINDS; kind++) {
        const int r = open_ring(rings, loop, (enum ring_kind)kind, fds[kind]);
        if (r < 0) {
            rings_close(rings);
            return r;
        }
    }
    *out = rings;
    return 0;
}
