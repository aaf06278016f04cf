#include "relayd/plane/socket/handed_over.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "common/net/sockaddr.h"
#include "relayd/plane/socket/sockets.h"

static int option(int fd, int name, int *value)
{
    socklen_t length = sizeof(*value);

    return getsockopt(fd, SOL_SOCKET, name, value, &length) < 0 ? -errno : 0;
}

/* A stream of TCP or of this host that nobody listens on. */
static int check_kind(int fd, int *domain)
{
    int type = 0, protocol = 0, listening = 0;
    int rc = option(fd, SO_DOMAIN, domain);

    if (rc == 0)
        rc = option(fd, SO_TYPE, &type);
    if (rc == 0)
        rc = option(fd, SO_PROTOCOL, &protocol);
    if (rc == 0)
        rc = option(fd, SO_ACCEPTCONN, &listening);
    if (rc < 0)
        return rc;
    if (*domain != AF_INET && *domain != AF_INET6 && *domain != AF_UNIX)
        return -EAFNOSUPPORT;
    if (type != SOCK_STREAM)
        return -ESOCKTNOSUPPORT;
    if (protocol != (*domain == AF_UNIX ? 0 : IPPROTO_TCP))
        return -EPROTONOSUPPORT;
    return listening != 0 ? -ENOTCONN : 0;
}

static int check_peer(int fd, int domain, const struct endpoint *source)
{
    struct sockaddr_storage address;
    socklen_t length = sizeof(address);
    struct endpoint peer;

    if (getpeername(fd, (struct sockaddr *)&address, &length) < 0) {
        const int rc = -errno;
        /* A connection that has been reset has no peer any more (EPIPE: after its FIN); one that
         * never was has no error. */
        const int error = rc == -ENOTCONN ? sockets_take_error(fd) : 0;
        return error == -ECONNRESET || error == -EPIPE ? -ECONNRESET : rc;
    }
    if (domain == AF_UNIX)
        return 0;
    const int rc = endpoint_from_sockaddr((struct sockaddr *)&address, &peer);
    if (rc < 0)
        return rc;
    return endpoint_equal(&peer, source) ? 0 : -EACCES;
}

int handed_over_check(int fd, const struct endpoint *source)
{
    int domain = AF_UNSPEC;
    const int rc = check_kind(fd, &domain);

    return rc < 0 ? rc : check_peer(fd, domain, source);
}
