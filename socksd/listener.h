/*
 * Where clients connect: one set of listening TCP sockets, made here or inherited.
 *
 * accept() is our own, on uv_poll: libuv, out of descriptors, accepts and closes waiting clients
 * unseen. The set stops accepting when descriptors run short (fd_budget) and goes on when the owner
 * says that some have come back, or, after EMFILE that other parts of the system caused, after a
 * while.
 */
#ifndef SOCKST_SOCKSD_LISTENER_H
#define SOCKST_SOCKSD_LISTENER_H

#include <uv.h>

#include "socksd/config.h"
#include "socksd/counters.h"

struct listeners;

struct listener_keepalive {
    unsigned idle_s, interval_s, count;
};

struct listeners_config {
    const struct listen_config *addresses; /* borrowed for the call; port 0: the kernel's choice */
    size_t count;
    struct listener_keepalive keepalive; /* accepted sockets inherit it */
};

/* `fd` is a connected, non-blocking socket, now the callee's. */
typedef void (*listener_cb)(int fd, const struct endpoint *peer, void *user);

/*
 * Takes over the inherited sockets named "socks"; when there are none, listens on the addresses.
 * Returns 0, -EADDRNOTAVAIL when there is nothing at all, or -errno; what failed is logged.
 */
int listeners_open(struct listeners **out, uv_loop_t *loop, const struct listeners_config *config,
                   struct counters *counters, listener_cb accepted, void *user);

/* A descriptor has come back. */
void listeners_resume(struct listeners *listeners);

size_t listeners_count(const struct listeners *listeners);
/* The local endpoint of socket `index`. */
struct endpoint listeners_endpoint(const struct listeners *listeners, size_t index);

/* Closes the sockets; memory goes with the last close callback. NULL is allowed. */
void listeners_close(struct listeners *listeners);

#endif
