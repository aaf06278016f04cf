#include "relayd/plane/socket/tcp_listener.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/net/sockaddr.h"

/* One connection is all there will be; the rest is for the moment before the listener closes, when
 * any port of the expected address, or anybody, may still come. */
#define LISTEN_BACKLOG 4

static void on_listener(uv_poll_t *poll, int status, int events);

/* ---- opening -----------------------------------------------------------------------------------
 */

void tcp_listener_init(struct tcp_listener *listener, struct socket_plane *plane,
                       struct relay *relay)
{
    memset(listener, 0, sizeof(*listener));
    listener->plane = plane;
    listener->relay = relay;
    listener->trap = -1;
    watched_socket_init(&listener->socket);
}

/* A stream socket that is bound. Connections of earlier relays in TIME_WAIT do not keep the port
 * from us (SO_REUSEADDR); a listener of anybody does. */
static int bind_stream(int fd, const struct endpoint *bound)
{
    struct sockaddr_storage address;
    const socklen_t length = endpoint_to_sockaddr(bound, &address);
    const int rc = sockets_set(fd, SOL_SOCKET, SO_REUSEADDR, 1);

    if (rc < 0)
        return rc;
    return bind(fd, (struct sockaddr *)&address, length) < 0 ? -errno : 0;
}

/* A bound_socket_fn (sockets.h): holds the port and does not listen yet. */
static int make(struct socket_plane *plane, const struct relay *relay, const struct endpoint *bound)
{
    const int fd =
        sockets_new(plane, &bound->address, SOCK_STREAM, relay_transport(relay)->socket_protocol);
    const int rc = fd < 0 ? fd : bind_stream(fd, bound);

    if (fd >= 0 && rc < 0)
        close(fd);
    return rc < 0 ? rc : fd;
}

/*
 * The program counts the sockets of the group in the order in which they listen: trap 0, listener
 * 1. While there is no 1 everything goes to the trap, so no stranger is ever answered. A socket
 * that brings a program must be the first of its group: of two relayds that have bound the same
 * port at the same moment one gets -EADDRINUSE here, and never a place in the other's group.
 */
static int listen_beside(const struct tcp_listener *listener, int fd, int trap)
{
    int rc = sockets_set(fd, SOL_SOCKET, SO_REUSEPORT, 1);

    if (rc == 0)
        rc = sockets_set(trap, SOL_SOCKET, SO_REUSEPORT, 1);
    if (rc == 0)
        rc = stranger_filter_trap(trap, &listener->bound.address);
    if (rc == 0)
        rc = stranger_filter_sort(trap, &listener->expected);
    if (rc == 0)
        rc = bind_stream(trap, &listener->bound);
    if (rc == 0 && (listen(trap, 1) < 0 || listen(fd, LISTEN_BACKLOG) < 0))
        rc = -errno;
    return rc;
}

static bool expects_anybody(const struct tcp_listener *listener)
{
    return ip_address_is_unspecified(&listener->expected.address);
}

static int start_listening(struct tcp_listener *listener, int fd)
{
    if (expects_anybody(listener))
        return listen(fd, LISTEN_BACKLOG) < 0 ? -errno : 0;
    const int trap = sockets_new(listener->plane, &listener->bound.address, SOCK_STREAM,
                                 relay_transport(listener->relay)->socket_protocol);
    const int rc = trap < 0 ? trap : listen_beside(listener, fd, trap);

    if (rc == 0)
        listener->trap = trap;
    else if (trap >= 0)
        close(trap);
    return rc;
}

/* A socket that listens. Returns its descriptor or -errno. */
static int open_listening(struct tcp_listener *listener)
{
    struct socket_plane *plane = listener->plane;
    struct endpoint *bound = &listener->bound;

    for (unsigned tries = 1;; tries++) {
        const int fd = bound->address.family == IP_NONE
                           ? sockets_open_bound(plane, listener->relay, make, bound)
                           : sockets_open_bound_on(plane, listener->relay, make, bound);
        if (fd < 0)
            return fd;
        const int rc = start_listening(listener, fd);
        if (rc == 0)
            return fd;
        close(fd);
        /* Somebody was quicker with a port that was free when it was bound: another one, then. */
        if (rc != -EADDRINUSE || tries == ENDPOINTS_BIND_TRIES)
            return rc;
        sockets_return_bound(plane, bound);
    }
}

int tcp_listener_open(struct tcp_listener *listener, const struct endpoint *expected,
                      tcp_listener_cb *came, void *owner, uv_close_cb closed)
{
    listener->expected = *expected;
    listener->came = came;
    listener->closed = closed;
    const int fd = open_listening(listener);

    return fd < 0 ? fd : watched_socket_open(&listener->socket, listener->plane->loop, fd, owner);
}

/* ---- whoever comes -----------------------------------------------------------------------------
 */

static bool is_expected(const struct tcp_listener *listener, const struct endpoint *peer)
{
    struct endpoint expected = listener->expected;

    if (expects_anybody(listener))
        return relay_forbids(listener->relay, &peer->address) == NULL;
    if (expected.port == 0)
        expected.port = peer->port;
    /* A scope that nobody named is that of the link the packet came from. */
    if (expected.address.scope_id == 0)
        expected.address.scope_id = peer->address.scope_id;
    return endpoint_equal(&expected, peer);
}

static int accept_one(struct socket_plane *plane, int fd, struct sockaddr_storage *address)
{
    const int flags = SOCK_CLOEXEC | SOCK_NONBLOCK;
    socklen_t length = sizeof(*address);
    int accepted = accept4(fd, (struct sockaddr *)address, &length, flags);

    if (accepted < 0 && (errno == EMFILE || errno == ENFILE) && pipe_pool_trim(plane->pipes) != 0) {
        length = sizeof(*address);
        accepted = accept4(fd, (struct sockaddr *)address, &length, flags);
    }
    return accepted < 0 ? -errno : accepted;
}

static int accept_expected(struct tcp_listener *listener, struct endpoint *peer)
{
    struct sockaddr_storage address;
    int fd;

    while ((fd = accept_one(listener->plane, listener->socket.fd, &address)) >= 0) {
        if (endpoint_from_sockaddr((struct sockaddr *)&address, peer) == 0 &&
            is_expected(listener, peer))
            break;
        /* The trap should have seen to that, where there is one. */
        sockets_close(fd, true);
        listener->drops.total++;
    }
    return fd;
}

static void on_listener(uv_poll_t *poll, int status, int events)
{
    struct tcp_listener *listener =
        (struct tcp_listener *)((char *)poll - offsetof(struct tcp_listener, socket.poll));
    struct endpoint peer = {.port = 0};

    (void)events;
    watched_socket_reported(&listener->socket, status);
    const int fd = accept_expected(listener, &peer);
    if (fd == -EAGAIN || fd == -EINTR || fd == -ECONNABORTED) {
        tcp_listener_watch(listener); /* libuv has stopped, had it been an error of the socket */
        return;
    }
    if (fd < 0) {
        /* Out of descriptors or memory: the connection stays in the queue and would be reported
         * without end. */
        listener->paused = true;
        watched_socket_want(&listener->socket, 0, on_listener);
    } else {
        /* Others that were expected, too, may wait in the queue: they are reset. */
        watched_socket_close(&listener->socket, false, listener->closed);
    }
    listener->came(listener, fd, &peer);
}

void tcp_listener_watch(struct tcp_listener *listener)
{
    watched_socket_want(&listener->socket, UV_READABLE, on_listener);
}

void tcp_listener_resume(struct tcp_listener *listener)
{
    if (!listener->paused)
        return;
    listener->paused = false;
    watched_socket_want(&listener->socket, UV_READABLE, on_listener);
}

/* ---- the end -----------------------------------------------------------------------------------
 */

uint64_t tcp_listener_drops(struct tcp_listener *listener)
{
    return drop_counter_update(&listener->drops, listener->trap);
}

void tcp_listener_close(struct tcp_listener *listener)
{
    (void)tcp_listener_drops(listener);
    listener->paused = false;
    watched_socket_close(&listener->socket, false, listener->closed);
    if (listener->trap >= 0)
        close(listener->trap);
    listener->trap = -1;
    sockets_return_bound(listener->plane, &listener->bound);
}
