#include "common/net/sockaddr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

int ip_address_af(const struct ip_address *address)
{
    switch (address->family) {
    case IP_V4:
        return AF_INET;
    case IP_V6:
        return AF_INET6;
    default:
        return AF_UNSPEC;
    }
}

socklen_t endpoint_to_sockaddr(const struct endpoint *endpoint, struct sockaddr_storage *out)
{
    memset(out, 0, sizeof(*out));
    if (endpoint->address.family == IP_V4) {
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(endpoint->port)};

        memcpy(&in.sin_addr, endpoint->address.bytes, sizeof(in.sin_addr));
        memcpy(out, &in, sizeof(in));
        return sizeof(in);
    }
    if (endpoint->address.family == IP_V6) {
        struct sockaddr_in6 in6 = {.sin6_family = AF_INET6,
                                   .sin6_port = htons(endpoint->port),
                                   .sin6_scope_id = endpoint->address.scope_id};

        memcpy(&in6.sin6_addr, endpoint->address.bytes, sizeof(in6.sin6_addr));
        memcpy(out, &in6, sizeof(in6));
        return sizeof(in6);
    }
    return 0;
}

int endpoint_from_sockaddr(const struct sockaddr *address, struct endpoint *out)
{
    if (address->sa_family == AF_INET) {
        struct sockaddr_in in;

        memcpy(&in, address, sizeof(in));
        out->address = ip_address_v4((const uint8_t *)&in.sin_addr);
        out->port = ntohs(in.sin_port);
        return 0;
    }
    if (address->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;

        memcpy(&in6, address, sizeof(in6));
        out->address = ip_address_v6(in6.sin6_addr.s6_addr);
        if (ip_address_is_link_local_v6(&out->address))
            out->address.scope_id = in6.sin6_scope_id;
        out->port = ntohs(in6.sin6_port);
        return 0;
    }
    return -EAFNOSUPPORT;
}

typedef int name_function(int fd, struct sockaddr *address, socklen_t *length);

static int endpoint_by(name_function *name, int fd, struct endpoint *out)
{
    struct sockaddr_storage storage = {0};
    socklen_t length = sizeof(storage);

    if (name(fd, (struct sockaddr *)&storage, &length) < 0)
        return -errno;
    return endpoint_from_sockaddr((const struct sockaddr *)&storage, out);
}

int endpoint_local(int fd, struct endpoint *out)
{
    return endpoint_by(getsockname, fd, out);
}

int endpoint_peer(int fd, struct endpoint *out)
{
    return endpoint_by(getpeername, fd, out);
}
