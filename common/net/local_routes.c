/*
 * Following the tables:
 *
 *     notification of a new route  ──►  inserted at once, and a re-read is due
 *     any other notification       ──►  a re-read is due
 *     ENOBUFS (some were lost)     ──►  a re-read is due, and another one once all that the socket
 *                                       still holds has been read: until then the kernel drops
 *                                       further notifications without saying so again
 *
 * A re-read that is due happens in the loop's next turn when the last one is REREAD_MS old,
 * otherwise when it will be. A re-read that fails is tried again; until then the old set stays.
 */
#include "common/net/local_routes.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/net/route_dump.h"

#define REREAD_MS 250
#define RECEIVE_BUFFER_SIZE 16384
#define DATAGRAMS_PER_EVENT 64 /* then the loop gets its turn */

struct local_routes {
    uv_loop_t *loop;
    uv_poll_t poll;
    uv_timer_t timer;
    int open_handles;
    int fd;
    struct route_snapshot snapshot;
    uint64_t last_read_ms; /* loop time */
    bool due, closing;
    bool lost; /* notifications, since the socket was last read empty */
    void (*changed)(void *user);
    void *user;
};

static void report_change(struct local_routes *routes)
{
    if (routes->changed && !routes->closing)
        routes->changed(routes->user);
}

static void on_timer(uv_timer_t *timer);

static void schedule_reread(struct local_routes *routes)
{
    uint64_t since = uv_now(routes->loop) - routes->last_read_ms;

    if (routes->due)
        return;
    routes->due = true;
    /* Not at all fallible: the callback is set and the handle is not closing. */
    uv_timer_start(&routes->timer, on_timer, since >= REREAD_MS ? 0 : REREAD_MS - since, 0);
}

static void on_timer(uv_timer_t *timer)
{
    struct local_routes *routes = timer->data;
    struct route_snapshot fresh;
    int r;

    routes->due = false;
    routes->last_read_ms = uv_now(routes->loop);
    r = route_snapshot_read(&fresh);
    if (r < 0) {
        schedule_reread(routes);
        return;
    }
    if (route_snapshot_equal(&fresh, &routes->snapshot)) {
        route_snapshot_clear(&fresh);
        return;
    }
    route_snapshot_clear(&routes->snapshot);
    routes->snapshot = fresh;
    report_change(routes);
}

/* Returns whether the set of routes has grown. */
static bool handle_message(struct local_routes *routes, const struct nlmsghdr *message)
{
    struct ip_prefix prefix;

    switch (message->nlmsg_type) {
    case RTM_NEWROUTE:
    case RTM_DELROUTE:
        /* Ordinary routes, perhaps a whole Internet table of them, do not concern us. */
        if (!route_message_prefix(message, &prefix))
            return false;
        schedule_reread(routes);
        return message->nlmsg_type == RTM_NEWROUTE &&
               route_set_insert(&routes->snapshot.routes, &prefix) == 1;
    case RTM_NEWADDR:
    case RTM_DELADDR:
    case RTM_NEWLINK:
    case RTM_DELLINK:
        schedule_reread(routes);
        return false;
    default:
        return false;
    }
}

static void note_loss(struct local_routes *routes)
{
    routes->lost = true;
    schedule_reread(routes);
}

static void note_empty(struct local_routes *routes)
{
    if (routes->lost)
        schedule_reread(routes);
    routes->lost = false;
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    static _Alignas(struct nlmsghdr) char buffer[RECEIVE_BUFFER_SIZE];
    struct local_routes *routes = poll->data;
    bool grown = false;

    (void)events;
    if (status < 0) {
        /* libuv takes the error that reports lost notifications for a bad socket, and stops. */
        note_loss(routes);
        uv_poll_start(&routes->poll, UV_READABLE, on_readable);
    }
    for (int i = 0; i < DATAGRAMS_PER_EVENT; i++) {
        struct sockaddr_nl from = {0};
        socklen_t from_length = sizeof(from);
        ssize_t length = recvfrom(routes->fd, buffer, sizeof(buffer), MSG_DONTWAIT | MSG_TRUNC,
                                  (struct sockaddr *)&from, &from_length);
        const struct nlmsghdr *message = (const struct nlmsghdr *)buffer;
        unsigned left = (unsigned)length;

        if (length < 0 && errno == EAGAIN) {
            note_empty(routes);
            break;
        }
        if (length < 0 || (size_t)length > sizeof(buffer)) {
            note_loss(routes); /* ENOBUFS, or a message that did not fit */
            continue;
        }
        if (from.nl_pid != 0)
            continue; /* not the kernel */
        for (; NLMSG_OK(message, left); message = NLMSG_NEXT(message, left))
            grown = handle_message(routes, message) || grown;
    }
    if (grown)
        report_change(routes);
}

static int open_socket(void)
{
    static const int groups[] = {RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV4_IFADDR,
                                 RTNLGRP_IPV6_IFADDR, RTNLGRP_LINK};
    struct sockaddr_nl self = {.nl_family = AF_NETLINK};
    int r, fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);

    if (fd < 0)
        return -errno;
    r = bind(fd, (struct sockaddr *)&self, sizeof(self));
    for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]) && r == 0; i++)
        r = setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &groups[i], sizeof(groups[i]));
    if (r < 0) {
        r = -errno;
        close(fd);
        return r;
    }
    return fd;
}

int local_routes_open(struct local_routes **out, uv_loop_t *loop, void (*changed)(void *user),
                      void *user)
{
    struct local_routes *routes = calloc(1, sizeof(*routes));
    int r;

    if (!routes)
        return -ENOMEM;
    routes->loop = loop;
    routes->changed = changed;
    routes->user = user;
    /* Subscribed before the first reading, so that no change falls between. */
    routes->fd = r = open_socket();
    if (r < 0)
        goto free_routes;
    r = route_snapshot_read(&routes->snapshot);
    if (r < 0)
        goto close_socket;
    r = uv_poll_init(loop, &routes->poll, routes->fd);
    if (r < 0)
        goto clear_snapshot;
    uv_timer_init(loop, &routes->timer);
    routes->poll.data = routes->timer.data = routes;
    routes->open_handles = 2;
    routes->last_read_ms = uv_now(loop);
    uv_unref((uv_handle_t *)&routes->poll);
    uv_unref((uv_handle_t *)&routes->timer);
    r = uv_poll_start(&routes->poll, UV_READABLE, on_readable);
    if (r < 0) {
        local_routes_close(routes);
        return r;
    }
    *out = routes;
    return 0;

clear_snapshot:
    route_snapshot_clear(&routes->snapshot);
close_socket:
    close(routes->fd);
free_routes:
    free(routes);
    return r;
}

bool local_routes_contain(const struct local_routes *routes, const struct ip_address *address)
{
    return route_set_contains(&routes->snapshot.routes, address);
}

void local_routes_each_address(const struct local_routes *routes,
                               void (*each)(const struct ip_address *address, bool loopback,
                                            void *user),
                               void *user)
{
    for (size_t i = 0; i < routes->snapshot.address_count; i++) {
        const struct host_address *host = &routes->snapshot.addresses[i];

        each(&host->address, host->loopback, user);
    }
}

static void on_closed(uv_handle_t *handle)
{
    struct local_routes *routes = handle->data;

    if (--routes->open_handles > 0)
        return;
    close(routes->fd);
    route_snapshot_clear(&routes->snapshot);
    free(routes);
}

void local_routes_close(struct local_routes *routes)
{
    if (!routes || routes->closing)
        return;
    routes->closing = true;
    uv_close((uv_handle_t *)&routes->poll, on_closed);
    uv_close((uv_handle_t *)&routes->timer, on_closed);
}
