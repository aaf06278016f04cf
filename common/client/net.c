#include "common/client/net.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "proto/ptcl.h"

socklen_t net_to_sockaddr(const struct endpoint *endpoint, struct sockaddr_storage *out)
{
    memset(out, 0, sizeof(*out));
    if (endpoint->address.family == IP_V4) {
        struct sockaddr_in *v4 = (struct sockaddr_in *)out;
        v4->sin_family = AF_INET;
        v4->sin_port = htons(endpoint->port);
        memcpy(&v4->sin_addr, endpoint->address.bytes, 4);
        return sizeof(*v4);
    }
    if (endpoint->address.family == IP_V6) {
        struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(endpoint->port);
        v6->sin6_scope_id = endpoint->address.scope_id;
        memcpy(&v6->sin6_addr, endpoint->address.bytes, 16);
        return sizeof(*v6);
    }
    return 0;
}

int net_from_sockaddr(const struct sockaddr_storage *address, struct endpoint *out)
{
    if (address->ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;
        uint8_t bytes[4];
        memcpy(bytes, &v4->sin_addr, sizeof(bytes));
        *out = (struct endpoint){.address = ip_address_v4(bytes), .port = ntohs(v4->sin_port)};
        return 0;
    }
    if (address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;
        *out = (struct endpoint){.address = ip_address_v6(v6->sin6_addr.s6_addr),
                                 .port = ntohs(v6->sin6_port)};
        if (ip_address_is_link_local_v6(&out->address))
            out->address.scope_id = v6->sin6_scope_id;
        return 0;
    }
    return -EAFNOSUPPORT;
}

int net_local(int fd, struct endpoint *out)
{
    struct sockaddr_storage address;
    socklen_t length = sizeof(address);
    if (getsockname(fd, (struct sockaddr *)&address, &length) < 0)
        return -errno;
    return net_from_sockaddr(&address, out);
}

int net_bound_socket(uint8_t ptcl, const struct endpoint *local)
{
    struct sockaddr_storage address;
    socklen_t length = net_to_sockaddr(local, &address);
    int on = 1;
    int type = ptcl == PTCL_TCP ? SOCK_STREAM : SOCK_DGRAM;
    if (length == 0)
        return -EAFNOSUPPORT;
    int fd = socket(address.ss_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (address.ss_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    if (ptcl == PTCL_TCP)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (bind(fd, (struct sockaddr *)&address, length) < 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

int net_connect(int fd, const struct endpoint *to)
{
    struct sockaddr_storage address;
    socklen_t length = net_to_sockaddr(to, &address);
    if (length == 0)
        return -EAFNOSUPPORT;
    if (connect(fd, (struct sockaddr *)&address, length) == 0 || errno == EINPROGRESS)
        return 0;
    return -errno;
}

int net_connected(int fd)
{
    struct sockaddr_storage address;
    socklen_t length = sizeof(address);
    int error = 0;
    socklen_t size = sizeof(error);
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
        return -errno;
    if (error != 0)
        return -error;
    if (getpeername(fd, (struct sockaddr *)&address, &length) == 0)
        return 1;
    return errno == ENOTCONN ? 0 : -errno;
}

uint64_t net_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}
