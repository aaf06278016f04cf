/*
 * A descriptor with its poll handle. The descriptor is closed at once, the handle's memory is
 * needed until its close callback.
 */
#ifndef SOCKST_RELAYD_WATCHED_SOCKET_H
#define SOCKST_RELAYD_WATCHED_SOCKET_H

#include <stdbool.h>
#include <uv.h>

struct watched_socket {
    int fd;       /* -1: none, or closed */
    int interest; /* enum uv_poll_event, what the handle waits for */
    bool has_handle;
    uv_poll_t poll;
};

/* No socket yet. */
void watched_socket_init(struct watched_socket *socket);
/* Takes the descriptor over (on failure, too, which closes it) and gives it a handle. `data`
 * becomes poll.data. Returns 0 or -errno. */
int watched_socket_open(struct watched_socket *socket, uv_loop_t *loop, int fd, void *data);
/* Waits for exactly `interest` from now on; 0: for nothing. Asking again for the same costs
 * nothing. */
void watched_socket_want(struct watched_socket *socket, int interest, uv_poll_cb callback);
/* To be called first in the callback: libuv stops a handle that it reports an error of. */
void watched_socket_reported(struct watched_socket *socket, int status);
/* Closes the descriptor now; `abort`: a TCP connection is reset. Idempotent. Returns true when
 * `closed` will be called for the handle. */
bool watched_socket_close(struct watched_socket *socket, bool abort, uv_close_cb closed);

/* Gives the descriptor back, open and nobody's; only the handle is closed, for which `closed` will
 * be called. There is one. */
int watched_socket_release(struct watched_socket *socket, uv_close_cb closed);

#endif
