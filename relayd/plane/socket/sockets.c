#include "relayd/plane/socket/sockets.h"

#include <errno.h>
#include <netinet/in.h>
#include <unistd.h>

#include "common/net/sockaddr.h"
#include "relayd/plane/socket/stranger_filter.h"

int sockets_set(int fd, int level, int option, int value)
{
    return setsockopt(fd, level, option, &value, sizeof(value)) < 0 ? -errno : 0;
}

int sockets_take_error(int fd)
{
    int error = 0;
    socklen_t length = sizeof(error);

    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0)
        return -errno;
    return -error;
}

void sockets_close(int fd, bool abort)
{
    const struct linger linger = {.l_onoff = 1, .l_linger = 0};

    if (abort)
        (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    close(fd);
}

int sockets_new(struct socket_plane *plane, const struct ip_address *address, int type,
                int protocol)
{
    const int af = ip_address_af(address);
    const int flags = SOCK_CLOEXEC | SOCK_NONBLOCK;
    int fd = socket(af, type | flags, protocol);

    if (fd < 0 && (errno == EMFILE || errno == ENFILE) && pipe_pool_trim(plane->pipes) != 0)
        fd = socket(af, type | flags, protocol);
    if (fd < 0)
        return -errno;
    const int rc = af == AF_INET6 ? sockets_set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1) : 0;
    if (rc < 0) {
        close(fd);
        return rc;
    }
    return fd;
}

int sockets_open_bound_on(struct socket_plane *plane, const struct relay *relay,
                          bound_socket_fn *make, struct endpoint *bound)
{
    for (unsigned tries = 0; tries < ENDPOINTS_BIND_TRIES; tries++) {
        bound->port = endpoints_draw_port(plane->endpoints, &bound->address);
        if (bound->port == 0)
            return -EADDRNOTAVAIL;
        const int fd = make(plane, relay, bound);
        if (fd >= 0)
            return fd;
        sockets_return_bound(plane, bound);
        if (fd != -EADDRINUSE && fd != -EACCES)
            return fd;
    }
    return -EADDRNOTAVAIL;
}

int sockets_open_bound(struct socket_plane *plane, const struct relay *relay, bound_socket_fn *make,
                       struct endpoint *bound)
{
    const int rc = endpoints_choose_bound(plane->endpoints, &relay->source.address,
                                          &relay->order->bound_hint, &bound->address);

    bound->port = 0;
    return rc < 0 ? rc : sockets_open_bound_on(plane, relay, make, bound);
}

void sockets_return_bound(struct socket_plane *plane, struct endpoint *bound)
{
    if (bound->port != 0)
        endpoints_return_port(plane->endpoints, &bound->address, bound->port);
    bound->port = 0;
}

/* Binds to the egress address; port 0 leaves the choice to connect(), which knows the destination
 * and can share ports. */
static int bind_egress(int fd, const struct endpoint *egress)
{
    struct sockaddr_storage address;
    const socklen_t length = endpoint_to_sockaddr(egress, &address);

    if (egress->port == 0)
        (void)sockets_set(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
    return bind(fd, (struct sockaddr *)&address, length) < 0 ? -errno : 0;
}

/* Returns 0, 1 for "in progress", or -errno. */
static int dial(int fd, const struct relay *relay, const struct endpoint *destination,
                const struct endpoint *egress)
{
    const bool is_stream = relay_transport(relay)->socket_type == SOCK_STREAM;
    struct sockaddr_storage address;
    const socklen_t length = endpoint_to_sockaddr(destination, &address);
    /* A stream's egress port may serve several destinations, and BND may be bound beside it. What
     * reaches a datagram socket before it is connected is not of DST. */
    int rc =
        is_stream ? sockets_set(fd, SOL_SOCKET, SO_REUSEADDR, 1) : stranger_filter_drop_all(fd);

    if (rc == 0 && egress->address.family != IP_NONE)
        rc = bind_egress(fd, egress);
    if (rc < 0)
        return rc;
    if (connect(fd, (struct sockaddr *)&address, length) < 0)
        return errno == EINPROGRESS ? 1 : -errno;
    return is_stream ? 0 : stranger_filter_detach(fd);
}

/* "Any address" of the family, for a bound port without an address. */
static struct ip_address any_address(uint8_t family)
{
    return (struct ip_address){.family = family};
}

/* Draws of an egress port for one relay: they are random, not from a pool, since a stream's may
 * serve several destinations. With nine of ten in use one relay of a thousand finds none. */
#define EGRESS_TRIES 64

int sockets_open_egress(struct socket_plane *plane, const struct relay *relay,
                        const struct endpoint *destination, bool *in_progress)
{
    struct endpoint egress = {.port = 0};
    int rc = endpoints_choose_egress(plane->endpoints, &destination->address,
                                     &relay->order->egress_hint, &egress.address);

    if (rc < 0)
        return rc;
    for (unsigned tries = 0; tries < EGRESS_TRIES; tries++) {
        const int fd =
            sockets_new(plane, &destination->address, relay_transport(relay)->socket_type,
                        relay_transport(relay)->socket_protocol);
        if (fd < 0)
            return fd;
        egress.port = endpoints_random_egress_port(plane->endpoints);
        if (egress.port != 0 && egress.address.family == IP_NONE)
            egress.address = any_address(destination->address.family);
        rc = dial(fd, relay, destination, &egress);
        if (rc >= 0) {
            *in_progress = rc != 0;
            return fd;
        }
        close(fd);
        /* Only a port that was our own choice can be chosen differently. connect() says
         * EADDRNOTAVAIL where the same four-tuple exists. */
        if (egress.port == 0 || (rc != -EADDRINUSE && rc != -EADDRNOTAVAIL && rc != -EACCES))
            break;
    }
    return rc;
}

int sockets_route_source(struct socket_plane *plane, const struct ip_address *destination,
                         struct ip_address *out)
{
    /* connect() of a datagram socket looks the route up and does nothing else; any port will do. */
    const struct endpoint to = {.address = *destination, .port = 9};
    struct sockaddr_storage address;
    const socklen_t length = endpoint_to_sockaddr(&to, &address);
    const int fd = sockets_new(plane, destination, SOCK_DGRAM, 0);
    struct endpoint name;

    if (fd < 0)
        return fd;
    int rc = connect(fd, (struct sockaddr *)&address, length) < 0 ? -errno : 0;
    if (rc == 0)
        rc = endpoint_local(fd, &name);
    close(fd);
    if (rc == 0)
        *out = name.address;
    return rc;
}

int sockets_open_unconnected(struct socket_plane *plane, const struct relay *relay,
                             enum ip_family family, const struct ip_address *egress_hint)
{
    const struct ip_address any = any_address((uint8_t)family);
    struct endpoint egress = {.port = 0};
    struct sockaddr_storage address;
    int rc = endpoints_choose_egress(plane->endpoints, &any, egress_hint, &egress.address);

    if (rc == 0 && egress.address.family == IP_NONE)
        egress.address = any;
    for (unsigned tries = 0; rc >= 0 && tries < EGRESS_TRIES; tries++) {
        const int fd =
            sockets_new(plane, &any, SOCK_DGRAM, relay_transport(relay)->socket_protocol);
        if (fd < 0)
            return fd;
        egress.port = endpoints_random_egress_port(plane->endpoints);
        const socklen_t length = endpoint_to_sockaddr(&egress, &address);
        if (bind(fd, (struct sockaddr *)&address, length) == 0)
            return fd;
        rc = -errno;
        close(fd);
        /* Only a port that was our own choice can be chosen differently. */
        if (egress.port == 0 || (rc != -EADDRINUSE && rc != -EACCES))
            return rc;
        rc = 0;
    }
    return rc < 0 ? rc : -EADDRINUSE;
}
