#include "common/net/netlink_dump.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define BUFFER_SIZE 65536
#define TIMEOUT_S 2 /* the kernel answers at once; this only guards against surprises */

struct dump {
    uint32_t sequence;
    bool interrupted;
    netlink_dump_cb *each;
    void *user;
};

int netlink_dump_open(void)
{
    static const struct timeval timeout = {.tv_sec = TIMEOUT_S};
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    int on = 1, fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

    if (fd < 0)
        return -errno;
    /* With strict checking the kernel filters by type: a full Internet table stays in there. */
    (void)setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof(on));
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0 ||
        connect(fd, (struct sockaddr *)&kernel, sizeof(kernel)) < 0) {
        int r = -errno;

        close(fd);
        return r;
    }
    return fd;
}

/* The end of a dump carries an error of its own. */
static int done_code(const struct nlmsghdr *message)
{
    int code = 0;

    if (message->nlmsg_len >= NLMSG_LENGTH(sizeof(code)))
        memcpy(&code, NLMSG_DATA(message), sizeof(code));
    return code < 0 ? code : 0;
}

static int error_code(const struct nlmsghdr *message)
{
    const struct nlmsgerr *error = NLMSG_DATA(message);

    return message->nlmsg_len >= NLMSG_LENGTH(sizeof(*error)) && error->error < 0 ? error->error
                                                                                  : -EPROTO;
}

/* One datagram of a dump. Returns 1 while more follows, 0 at its end, -EAGAIN when interrupted. */
static int handle_datagram(struct dump *dump, const char *buffer, size_t length)
{
    const struct nlmsghdr *message = (const struct nlmsghdr *)buffer;
    unsigned left = (unsigned)length;

    for (; NLMSG_OK(message, left); message = NLMSG_NEXT(message, left)) {
        int r;

        if (message->nlmsg_seq != dump->sequence)
            continue;
        if (message->nlmsg_flags & NLM_F_DUMP_INTR)
            dump->interrupted = true;
        if (message->nlmsg_type == NLMSG_DONE)
            return dump->interrupted ? -EAGAIN : done_code(message);
        if (message->nlmsg_type == NLMSG_ERROR)
            return error_code(message);
        r = dump->each(dump->user, message);
        if (r < 0)
            return r;
    }
    return 1;
}

int netlink_dump(int fd, struct nlmsghdr *request, netlink_dump_cb *each, void *user)
{
    static _Alignas(struct nlmsghdr) char buffer[BUFFER_SIZE];
    static uint32_t sequence; /* rests of a dump that was broken off are not taken for the next */
    struct dump dump = {.sequence = ++sequence, .each = each, .user = user};
    int r = 1;

    request->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    request->nlmsg_seq = dump.sequence;
    if (send(fd, request, request->nlmsg_len, 0) < 0)
        return -errno;
    while (r == 1) {
        ssize_t length = recv(fd, buffer, sizeof(buffer), MSG_TRUNC);

        if (length < 0 && errno == EINTR)
            continue;
        if (length < 0)
            return errno == EAGAIN ? -ETIMEDOUT : -errno;
        if ((size_t)length > sizeof(buffer))
            return -EMSGSIZE;
        r = handle_datagram(&dump, buffer, (size_t)length);
    }
    return r;
}
