#include "relayd/plane/bpf/held_socket.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/net/sockaddr.h"
#include "common/system/fd_budget.h"
#include "relayd/plane/bpf/slow_path.h"
#include "relayd/plane/socket/stranger_filter.h"

/* No address is shared (SO_REUSEADDR): a connection of this host in TIME_WAIT, or one that was
 * bound before it dialled, may be one to DST. */
static int bind_to(int fd, const struct endpoint *local)
{
    const int on = 1;
    struct sockaddr_storage address;
    const socklen_t length = endpoint_to_sockaddr(local, &address);

    if (local->address.family == IP_V6 &&
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0)
        return -errno;
    return bind(fd, (struct sockaddr *)&address, length) < 0 ? -errno : 0;
}

/* What does not listen is answered with RST, hence the listener. */
static int hold_stream(int fd, const struct endpoint *local)
{
    int rc = stranger_filter_trap(fd, &local->address);

    if (rc == 0)
        rc = bind_to(fd, local);
    if (rc == 0 && listen(fd, 1) < 0)
        rc = -errno;
    return rc;
}

static int hold_datagrams(int fd, const struct endpoint *local, uint32_t mark)
{
    const int rc = slow_path_prepare(fd, mark);

    return rc < 0 ? rc : bind_to(fd, local);
}

int held_socket_open(const struct transport *transport, const struct endpoint *local, uint32_t mark)
{
    const int type = transport->socket_type | SOCK_CLOEXEC | SOCK_NONBLOCK;
    const int fd = socket(ip_address_af(&local->address), type, transport->socket_protocol);
    int rc;

    if (fd < 0)
        return -errno;
    if (!fd_budget_allows(fd))
        rc = -EMFILE;
    else if (transport->socket_type == SOCK_STREAM)
        rc = hold_stream(fd, local);
    else
        rc = hold_datagrams(fd, local, mark);
    if (rc < 0) {
        close(fd);
        return rc;
    }
    return fd;
}
