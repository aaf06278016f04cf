#include "relayd/plane/socket/tcp_listener.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/net/sockaddr.h"
#include "relayd/plane/socket/stranger_filter.h"

/* One connection is all there will be; the rest is for the moment before the listener closes, when
 * any port of S may still come. */
#define LISTEN_BACKLOG 4

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

int tcp_listener_make(struct socket_plane *plane, const struct relay *relay,
                      const struct endpoint *bound)
{
    const int fd =
        sockets_new(plane, &bound->address, SOCK_STREAM, relay->transport->socket_protocol);
    const int rc = fd < 0 ? fd : bind_stream(fd, bound);

    if (fd >= 0 && rc < 0)
        close(fd);
    return rc < 0 ? rc : fd;
}

/* The program counts the sockets of the group in the order in which they listen: trap 0, listener
 * 1. While there is no 1 everything goes to the trap, so no stranger is ever answered. */
static int listen_both(const struct relay *relay, int trap, int listener,
                       const struct endpoint *bound)
{
    int rc = sockets_set(listener, SOL_SOCKET, SO_REUSEPORT, 1);

    if (rc == 0)
        rc = sockets_set(trap, SOL_SOCKET, SO_REUSEPORT, 1);
    if (rc == 0)
        rc = stranger_filter_trap(trap, &bound->address);
    if (rc == 0)
        rc = stranger_filter_sort(trap, &relay->source);
    if (rc == 0)
        rc = bind_stream(trap, bound);
    if (rc == 0 && (listen(trap, 1) < 0 || listen(listener, LISTEN_BACKLOG) < 0))
        rc = -errno;
    return rc;
}

int tcp_listener_open(struct socket_plane *plane, const struct relay *relay, int listener,
                      const struct endpoint *bound)
{
    const int trap =
        sockets_new(plane, &bound->address, SOCK_STREAM, relay->transport->socket_protocol);
    const int rc = trap < 0 ? trap : listen_both(relay, trap, listener, bound);

    if (trap >= 0 && rc < 0)
        close(trap);
    return rc < 0 ? rc : trap;
}

static bool is_source(const struct relay *relay, const struct endpoint *peer)
{
    struct endpoint source = relay->source;

    if (source.port == 0 && relay->learn_source_port)
        source.port = peer->port;
    /* A scope that nobody named is that of the link the packet came from. */
    if (source.address.scope_id == 0)
        source.address.scope_id = peer->address.scope_id;
    return endpoint_equal(&source, peer);
}

static int accept_one(struct socket_plane *plane, int listener, struct sockaddr_storage *address)
{
    const int flags = SOCK_CLOEXEC | SOCK_NONBLOCK;
    socklen_t length = sizeof(*address);
    int fd = accept4(listener, (struct sockaddr *)address, &length, flags);

    if (fd < 0 && (errno == EMFILE || errno == ENFILE) && pipe_pool_trim(plane->pipes) != 0) {
        length = sizeof(*address);
        fd = accept4(listener, (struct sockaddr *)address, &length, flags);
    }
    return fd < 0 ? -errno : fd;
}

static int accept_source(struct socket_plane *plane, const struct relay *relay, int listener,
                         struct endpoint *peer)
{
    struct sockaddr_storage address;
    int fd;

    while ((fd = accept_one(plane, listener, &address)) >= 0) {
        if (endpoint_from_sockaddr((struct sockaddr *)&address, peer) == 0 &&
            is_source(relay, peer))
            break;
        /* The trap should have seen to that. */
        sockets_close(fd, true);
    }
    return fd;
}

int tcp_listener_accept(struct socket_plane *plane, const struct relay *relay, int listener,
                        struct endpoint *peer)
{
    return accept_source(plane, relay, listener, peer);
}
