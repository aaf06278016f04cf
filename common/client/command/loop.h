/*
 * The command's event loop: epoll, timers and the two signals that end it. Single-threaded. A watch
 * or timer is embedded in its user's struct; after loop_unwatch() and loop_disarm() that struct may
 * be freed at once, also inside a callback.
 */
#ifndef SOCKST_COMMAND_LOOP_H
#define SOCKST_COMMAND_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#define LOOP_BATCH 64
#define LOOP_ALWAYS_MAX 4 /* regular files that are watched */

struct watch {
    void (*ready)(struct watch *watch, uint32_t events); /* EPOLLIN, EPOLLOUT, EPOLLHUP, EPOLLERR */
    void *user;
    int fd;          /* the loop's own from here on */
    uint32_t events; /* 0: not registered */
};

struct timer {
    void (*fire)(struct timer *timer);
    void *user;
    uint64_t due_ms; /* the loop's own from here on */
    struct timer *next, **previous;
};

struct loop {
    int epoll, signals;
    int signal; /* SIGINT or SIGTERM that ended the loop, or 0 */
    bool stopped;
    struct watch signal_watch;
    struct watch *always[LOOP_ALWAYS_MAX];
    struct timer *timers;
    uint64_t next_due_ms; /* no timer is due before; UINT64_MAX: none */
    struct epoll_event batch[LOOP_BATCH];
    int batch_count;
};

/* Blocks SIGINT and SIGTERM and takes them over. Returns 0 or -errno. */
int loop_init(struct loop *loop);
void loop_free(struct loop *loop);
/* Until loop_stop() or one of the signals. */
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);

/*
 * Says what to wait for on `fd`: EPOLLIN | EPOLLOUT, level-triggered; 0: nothing, not even its end.
 * May be called again with anything else, also another descriptor. Returns 0 or -errno.
 */
int loop_watch(struct loop *loop, struct watch *watch, int fd, uint32_t events);
/* Call before the descriptor is closed. Idempotent. */
void loop_unwatch(struct loop *loop, struct watch *watch);

/* Fires once, `delay_ms` from now. An armed timer is moved. */
void loop_arm(struct loop *loop, struct timer *timer, uint64_t delay_ms);
/* Idempotent. */
void loop_disarm(struct timer *timer);

#endif
