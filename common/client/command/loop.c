#include "common/client/command/loop.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "common/client/net.h"

static void on_signal(struct watch *watch, uint32_t events)
{
    struct loop *loop = watch->user;
    struct signalfd_siginfo info;
    (void)events;
    if (read(loop->signals, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return;
    loop->signal = (int)info.ssi_signo;
    loop_stop(loop);
}

int loop_init(struct loop *loop)
{
    sigset_t set;
    *loop = (struct loop){.epoll = -1, .signals = -1, .next_due_ms = UINT64_MAX};
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    loop->epoll = epoll_create1(EPOLL_CLOEXEC);
    loop->signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    int error = loop->epoll < 0 || loop->signals < 0 ? -errno : 0;
    loop->signal_watch = (struct watch){.ready = on_signal, .user = loop};
    if (error == 0)
        error = loop_watch(loop, &loop->signal_watch, loop->signals, EPOLLIN);
    if (error < 0)
        loop_free(loop);
    return error;
}

void loop_free(struct loop *loop)
{
    if (loop->signals >= 0)
        close(loop->signals);
    if (loop->epoll >= 0)
        close(loop->epoll);
    loop->signals = loop->epoll = -1;
}

void loop_stop(struct loop *loop)
{
    loop->stopped = true;
}

/* Nothing that was reported before is delivered any more. */
static void forget(struct loop *loop, const struct watch *watch)
{
    for (int i = 0; i < loop->batch_count; i++) {
        if (loop->batch[i].data.ptr == watch)
            loop->batch[i].data.ptr = NULL;
    }
    for (int i = 0; i < LOOP_ALWAYS_MAX; i++) {
        if (loop->always[i] == watch)
            loop->always[i] = NULL;
    }
}

void loop_unwatch(struct loop *loop, struct watch *watch)
{
    if (watch->events == 0)
        return;
    forget(loop, watch);
    epoll_ctl(loop->epoll, EPOLL_CTL_DEL, watch->fd, NULL);
    watch->events = 0;
}

/* Regular files cannot be polled: they are always ready. */
static int watch_always(struct loop *loop, struct watch *watch)
{
    for (int i = 0; i < LOOP_ALWAYS_MAX; i++) {
        if (loop->always[i] == NULL || loop->always[i] == watch) {
            loop->always[i] = watch;
            return 0;
        }
    }
    return -ENOSPC;
}

int loop_watch(struct loop *loop, struct watch *watch, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = watch};
    if (watch->events == events && (events == 0 || watch->fd == fd))
        return 0;
    if (events == 0 || (watch->events != 0 && watch->fd != fd))
        loop_unwatch(loop, watch);
    if (events == 0)
        return 0;
    int error = 0;
    if (epoll_ctl(loop->epoll, watch->events != 0 ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event) < 0)
        error = -errno;
    /* The number was closed and given out again in the meantime. */
    if (error == -ENOENT)
        error = epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
    if (error == -EPERM)
        error = watch_always(loop, watch);
    if (error < 0)
        return error;
    watch->fd = fd;
    watch->events = events;
    return 0;
}

void loop_disarm(struct timer *timer)
{
    if (timer->previous == NULL)
        return;
    *timer->previous = timer->next;
    if (timer->next != NULL)
        timer->next->previous = timer->previous;
    timer->previous = NULL;
    timer->next = NULL;
}

void loop_arm(struct loop *loop, struct timer *timer, uint64_t delay_ms)
{
    timer->due_ms = net_now_ms() + delay_ms;
    if (timer->due_ms < loop->next_due_ms)
        loop->next_due_ms = timer->due_ms;
    if (timer->previous != NULL)
        return;
    timer->next = loop->timers;
    timer->previous = &loop->timers;
    if (timer->next != NULL)
        timer->next->previous = &timer->next;
    loop->timers = timer;
}

static struct timer *find_due(struct loop *loop, uint64_t now_ms)
{
    struct timer *due = NULL;
    loop->next_due_ms = UINT64_MAX;
    for (struct timer *timer = loop->timers; timer != NULL; timer = timer->next) {
        if (timer->due_ms <= now_ms)
            due = timer;
        else if (timer->due_ms < loop->next_due_ms)
            loop->next_due_ms = timer->due_ms;
    }
    return due;
}

/* A callback may free any timer: the list is walked anew after each. */
static void fire_timers(struct loop *loop)
{
    uint64_t now_ms = net_now_ms();
    struct timer *timer;
    if (now_ms < loop->next_due_ms)
        return;
    while (!loop->stopped && (timer = find_due(loop, now_ms)) != NULL) {
        loop_disarm(timer);
        timer->fire(timer);
    }
}

static int wait_ms(const struct loop *loop)
{
    for (int i = 0; i < LOOP_ALWAYS_MAX; i++) {
        if (loop->always[i] != NULL)
            return 0;
    }
    if (loop->next_due_ms == UINT64_MAX)
        return -1;
    uint64_t now_ms = net_now_ms();
    if (now_ms >= loop->next_due_ms)
        return 0;
    uint64_t rest_ms = loop->next_due_ms - now_ms;
    return rest_ms < INT_MAX ? (int)rest_ms : INT_MAX;
}

static void dispatch(struct loop *loop)
{
    for (int i = 0; i < loop->batch_count && !loop->stopped; i++) {
        struct watch *watch = loop->batch[i].data.ptr;
        if (watch != NULL)
            watch->ready(watch, loop->batch[i].events);
    }
    loop->batch_count = 0;
    for (int i = 0; i < LOOP_ALWAYS_MAX && !loop->stopped; i++) {
        struct watch *watch = loop->always[i];
        if (watch != NULL)
            watch->ready(watch, watch->events);
    }
}

void loop_run(struct loop *loop)
{
    while (!loop->stopped) {
        int count = epoll_wait(loop->epoll, loop->batch, LOOP_BATCH, wait_ms(loop));
        loop->batch_count = count > 0 ? count : 0;
        dispatch(loop);
        fire_timers(loop);
    }
}
