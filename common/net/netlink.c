#include "common/net/netlink.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define DATAGRAM_SIZE 16384
/* Asked for; a routing daemon that starts changes thousands of routes in one go. */
#define RECEIVE_BUFFER_SIZE (1 << 20)

/* ---- attributes ------------------------------------------------------------------------------ */

static const struct rtattr *find(const char *at, const char *end, unsigned short type,
                                 size_t minimum)
{
    while (end - at >= (ptrdiff_t)sizeof(struct rtattr)) {
        const struct rtattr *attribute = (const struct rtattr *)at;

        if (attribute->rta_len < sizeof(*attribute) || attribute->rta_len > end - at)
            return NULL;
        if ((attribute->rta_type & NLA_TYPE_MASK) == type)
            return RTA_PAYLOAD(attribute) >= minimum ? attribute : NULL;
        at += RTA_ALIGN(attribute->rta_len);
    }
    return NULL;
}

const struct rtattr *netlink_find(const struct nlmsghdr *message, size_t header,
                                  unsigned short type, size_t minimum)
{
    return find((const char *)message + NLMSG_SPACE(header),
                (const char *)message + message->nlmsg_len, type, minimum);
}

const struct rtattr *netlink_find_within(const struct rtattr *nest, size_t header,
                                         unsigned short type, size_t minimum)
{
    return find((const char *)nest + RTA_LENGTH(RTA_ALIGN(header)),
                (const char *)nest + nest->rta_len, type, minimum);
}

bool netlink_u32(const struct nlmsghdr *message, size_t header, unsigned short type, uint32_t *out)
{
    const struct rtattr *attribute = netlink_find(message, header, type, sizeof(*out));

    if (attribute)
        memcpy(out, RTA_DATA(attribute), sizeof(*out));
    return attribute != NULL;
}

struct ip_address netlink_address(uint8_t family, const struct rtattr *attribute)
{
    struct ip_address address = {.family = family == AF_INET ? IP_V4 : IP_V6};

    /* Not ip_address_v6(): an address of the kernel stands for itself, whatever its bits. */
    memcpy(address.bytes, RTA_DATA(attribute), ip_address_size(&address));
    return address;
}

bool netlink_route_prefix(const struct nlmsghdr *message, struct ip_prefix *out)
{
    const struct rtmsg *route = NLMSG_DATA(message);
    const struct rtattr *destination;
    struct ip_prefix prefix = {0};
    size_t size;

    if (message->nlmsg_len < NLMSG_LENGTH(sizeof(*route)) ||
        (route->rtm_family != AF_INET && route->rtm_family != AF_INET6))
        return false;
    size = route->rtm_family == AF_INET ? 4 : 16;
    if (route->rtm_dst_len > size * 8)
        return false;
    prefix.address.family = route->rtm_family == AF_INET ? IP_V4 : IP_V6;
    destination = netlink_find(message, sizeof(*route), RTA_DST, size);
    if (destination)
        prefix.address = netlink_address(route->rtm_family, destination);
    else if (route->rtm_dst_len != 0)
        return false;
    prefix.length = route->rtm_dst_len;
    *out = prefix;
    return true;
}

/* ---- following the tables -------------------------------------------------------------------- */

struct netlink_listener {
    uv_poll_t poll;
    int fd;
    bool closing;
    bool lost; /* notifications, since the socket was last read empty */
    const struct netlink_listener_ops *ops;
    void *user;
};

static void report_loss(struct netlink_listener *listener)
{
    if (!listener->closing)
        listener->ops->lost(listener->user);
}

/* The kernel says it in more than one way. */
static void note_loss(struct netlink_listener *listener)
{
    if (!listener->lost)
        report_loss(listener);
    listener->lost = true;
}

static void note_empty(struct netlink_listener *listener)
{
    if (listener->lost)
        report_loss(listener);
    listener->lost = false;
}

static void handle_datagram(struct netlink_listener *listener, const char *buffer, size_t length)
{
    const struct nlmsghdr *message = (const struct nlmsghdr *)buffer;
    unsigned left = (unsigned)length;

    for (; NLMSG_OK(message, left) && !listener->closing; message = NLMSG_NEXT(message, left))
        listener->ops->message(listener->user, message);
}

/* One datagram; false when there is none. */
static bool read_datagram(struct netlink_listener *listener)
{
    static _Alignas(struct nlmsghdr) char buffer[DATAGRAM_SIZE];
    struct sockaddr_nl from = {0};
    socklen_t from_length = sizeof(from);
    const ssize_t length = recvfrom(listener->fd, buffer, sizeof(buffer), MSG_DONTWAIT | MSG_TRUNC,
                                    (struct sockaddr *)&from, &from_length);

    if (length < 0 && errno == EAGAIN) {
        note_empty(listener);
        return false;
    }
    if (length < 0 || (size_t)length > sizeof(buffer))
        note_loss(listener); /* ENOBUFS, or a message that did not fit */
    else if (from.nl_pid == 0)
        handle_datagram(listener, buffer, (size_t)length);
    return true;
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct netlink_listener *listener = poll->data;

    (void)events;
    if (status < 0) {
        /* libuv takes the error that reports lost notifications for a bad socket, and stops. */
        note_loss(listener);
        if (!listener->closing)
            uv_poll_start(&listener->poll, UV_READABLE, on_readable);
    }
    for (int i = 0; i < NETLINK_DATAGRAMS_PER_TURN && !listener->closing; i++)
        if (!read_datagram(listener))
            break;
    if (!listener->closing && listener->ops->turn)
        listener->ops->turn(listener->user);
}

static int open_socket(const int *groups, size_t count)
{
    static const int size = RECEIVE_BUFFER_SIZE;
    struct sockaddr_nl self = {.nl_family = AF_NETLINK};
    int r, fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);

    if (fd < 0)
        return -errno;
    /* Without CAP_NET_ADMIN as much as there may be; what is lost is made up for. */
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    r = bind(fd, (struct sockaddr *)&self, sizeof(self));
    for (size_t i = 0; i < count && r == 0; i++)
        r = setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &groups[i], sizeof(groups[i]));
    if (r < 0) {
        r = -errno;
        close(fd);
        return r;
    }
    return fd;
}

int netlink_listen(struct netlink_listener **out, uv_loop_t *loop, const int *groups, size_t count,
                   const struct netlink_listener_ops *ops, void *user)
{
    struct netlink_listener *listener = calloc(1, sizeof(*listener));
    int r;

    if (!listener)
        return -ENOMEM;
    listener->ops = ops;
    listener->user = user;
    listener->fd = r = open_socket(groups, count);
    if (r < 0)
        goto free_listener;
    r = uv_poll_init(loop, &listener->poll, listener->fd);
    if (r < 0)
        goto close_socket;
    listener->poll.data = listener;
    uv_unref((uv_handle_t *)&listener->poll);
    r = uv_poll_start(&listener->poll, UV_READABLE, on_readable);
    if (r < 0) {
        netlink_listener_close(listener);
        return r;
    }
    *out = listener;
    return 0;

close_socket:
    close(listener->fd);
free_listener:
    free(listener);
    return r;
}

static void on_closed(uv_handle_t *handle)
{
    struct netlink_listener *listener = handle->data;

    close(listener->fd);
    free(listener);
}

void netlink_listener_close(struct netlink_listener *listener)
{
    if (!listener || listener->closing)
        return;
    listener->closing = true;
    uv_close((uv_handle_t *)&listener->poll, on_closed);
}
