#include "common/client/command/opener.h"

#include <errno.h>
#include <poll.h>

_Static_assert(POLLIN == EPOLLIN && POLLOUT == EPOLLOUT, "poll() and epoll share their bits");

static void stop_waiting(struct opener *opener)
{
    loop_unwatch(opener->loop, &opener->control);
    loop_unwatch(opener->loop, &opener->data);
    loop_disarm(&opener->timer);
}

static void finish(struct opener *opener, enum sockst_status status)
{
    struct sockst_association *association = opener->association;
    struct sockst_failure failure = *sockst_association_failure(association);
    stop_waiting(opener);
    opener->association = NULL;
    if (status == SOCKST_FAILED) {
        sockst_association_close(association);
        association = NULL;
    }
    opener->done(opener, association, &failure);
}

static int watch_wants(struct opener *opener)
{
    int control_fd, data_fd;
    short control_events, data_events;
    sockst_association_wants(opener->association, &control_fd, &control_events, &data_fd,
                             &data_events);
    int error = loop_watch(opener->loop, &opener->control, control_fd, (uint32_t)control_events);
    if (error == 0)
        error = loop_watch(opener->loop, &opener->data, data_fd, (uint32_t)data_events);
    return error;
}

static void set_bound(struct opener *opener)
{
    if (opener->is_bound)
        return;
    opener->is_bound = true;
    loop_disarm(&opener->timer);
    if (opener->bound != NULL)
        opener->bound(opener, sockst_association_bound(opener->association));
}

static void on_ready(struct watch *watch, uint32_t events)
{
    struct opener *opener = watch->user;
    (void)events;
    /* What is closed in there may come back under the same number, unknown to epoll. */
    loop_unwatch(opener->loop, &opener->control);
    loop_unwatch(opener->loop, &opener->data);
    enum sockst_status status = sockst_association_advance(opener->association);
    if (status == SOCKST_DONE || status == SOCKST_FAILED) {
        finish(opener, status);
        return;
    }
    watch_wants(opener); /* should it fail, the timer ends the attempt */
    if (status == SOCKST_BOUND)
        set_bound(opener);
}

static void on_timer(struct timer *timer)
{
    struct opener *opener = timer->user;
    /* Failed at once, before there was anything to wait for, or out of time. */
    if (sockst_association_advance(opener->association) != SOCKST_DONE)
        sockst_association_expire(opener->association);
    finish(opener, sockst_association_advance(opener->association));
}

int opener_start(struct opener *opener, struct loop *loop, const struct sockst_options *options,
                 uint32_t timeout_ms)
{
    int error = sockst_association_start(&opener->association, options);
    if (error < 0)
        return error;
    opener->loop = loop;
    opener->is_bound = false;
    opener->control = (struct watch){.ready = on_ready, .user = opener};
    opener->data = (struct watch){.ready = on_ready, .user = opener};
    opener->timer = (struct timer){.fire = on_timer, .user = opener};
    error = watch_wants(opener);
    if (error < 0) {
        opener_cancel(opener);
        return error;
    }
    loop_arm(loop, &opener->timer, opener->control.events != 0 ? timeout_ms : 0);
    return 0;
}

void opener_cancel(struct opener *opener)
{
    if (opener->association == NULL)
        return;
    stop_waiting(opener);
    sockst_association_close(opener->association);
    opener->association = NULL;
}
