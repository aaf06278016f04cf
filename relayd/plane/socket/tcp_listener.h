/*
 * The address of a TCP relay to which somebody comes: a listener for one connection, and beside it
 * a trap (stranger_filter.h) for everybody else. The listener goes when the connection has come;
 * the trap stays as long as the relay: without it the kernel would answer strangers with RST.
 *
 * Where anybody may come there is no trap; the first one that the deny floor allows is taken.
 */
#ifndef SOCKST_RELAYD_TCP_LISTENER_H
#define SOCKST_RELAYD_TCP_LISTENER_H

#include "relayd/plane/socket/sockets.h"
#include "relayd/plane/socket/stranger_filter.h"
#include "relayd/plane/socket/watched_socket.h"

/* Out of descriptors for the connection: try again after this. */
#define TCP_LISTENER_RETRY_MS 100

struct tcp_listener;

/* `fd` has come and is the callee's, the listener is closed; or -errno: it pauses, and
 * tcp_listener_resume() is to be called after TCP_LISTENER_RETRY_MS. */
typedef void tcp_listener_cb(struct tcp_listener *listener, int fd, const struct endpoint *peer);

struct tcp_listener {
    struct socket_plane *plane;
    struct relay *relay;
    struct watched_socket socket;
    int trap; /* -1: none */
    bool paused;
    struct endpoint bound;    /* port 0: none drawn */
    struct endpoint expected; /* port 0: any; an unspecified address: anybody */
    struct drop_counter drops;
    tcp_listener_cb *came;
    uv_close_cb closed; /* for the handle */
};

/* Nothing is open yet. */
void tcp_listener_init(struct tcp_listener *listener, struct socket_plane *plane,
                       struct relay *relay);
/*
 * Binds and listens for `expected`; nobody is taken before tcp_listener_watch(). Where
 * listener->bound has an address it is that one, otherwise one that the relay's client can reach.
 * `owner` becomes the handle's data, for `closed`; there is a handle if listener->socket says so,
 * also on failure, which leaves the rest to tcp_listener_close(). Returns 0 or -errno.
 */
int tcp_listener_open(struct tcp_listener *listener, const struct endpoint *expected,
                      tcp_listener_cb *came, void *owner, uv_close_cb closed);
/* From now on whoever comes is taken. Nothing happens where nothing is open. */
void tcp_listener_watch(struct tcp_listener *listener);
/* After a pause, if there is one. */
void tcp_listener_resume(struct tcp_listener *listener);
/* Packets of strangers so far. */
uint64_t tcp_listener_drops(struct tcp_listener *listener);
/* Listener, trap and port. Idempotent. */
void tcp_listener_close(struct tcp_listener *listener);

#endif
