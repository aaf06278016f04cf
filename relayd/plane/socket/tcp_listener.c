#include "relayd/plane/socket/tcp_listener.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/net/sockaddr.h"
#include "relayd/plane/socket/stranger_filter.h"

/* One connection is all there will be; the rest is for the moment before the filter closes, when
 * any port of S may still come. */
#define LISTEN_BACKLOG 4

int tcp_listener_make(struct socket_plane *plane, const struct relay *relay,
                      const struct endpoint *bound)
{
    struct sockaddr_storage address;
    const socklen_t length = endpoint_to_sockaddr(bound, &address);
    const int fd =
        sockets_new(plane, &bound->address, SOCK_STREAM, relay->transport->socket_protocol);

    if (fd < 0)
        return fd;
    /* The filter comes first: from bind() on packets may come. Connections of earlier relays in
     * TIME_WAIT do not keep the port from us (SO_REUSEADDR); a listener of anybody does. */
    int rc = stranger_filter_accept(fd, &relay->source);
    if (rc == 0)
        rc = sockets_set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (rc == 0 &&
        (bind(fd, (struct sockaddr *)&address, length) < 0 || listen(fd, LISTEN_BACKLOG) < 0))
        rc = -errno;
    if (rc < 0) {
        close(fd);
        return rc;
    }
    return fd;
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
        /* The filter should have seen to that. */
        sockets_close(fd, true);
    }
    return fd;
}

/* Where S's port is learnt, others of its connections may have got in before the filter closed. */
static void refuse_others(struct socket_plane *plane, int listener)
{
    struct sockaddr_storage address;
    int fd;

    while ((fd = accept_one(plane, listener, &address)) >= 0)
        sockets_close(fd, true);
}

int tcp_listener_accept(struct socket_plane *plane, const struct relay *relay, int listener,
                        struct endpoint *peer)
{
    int rc = stranger_filter_drop_all(listener);

    if (rc < 0)
        return rc;
    const int fd = accept_source(plane, relay, listener, peer);
    if (fd < 0) {
        rc = stranger_filter_accept(listener, &relay->source);
        return rc < 0 ? rc : fd;
    }
    refuse_others(plane, listener);
    /* Inherited from the listener. */
    rc = stranger_filter_detach(fd);
    if (rc < 0) {
        close(fd);
        return rc;
    }
    return fd;
}
