/*
 * Following the tables:
 *
 *     notification of a new route  ──►  inserted at once, and a re-read is due
 *     any other notification       ──►  a re-read is due
 *     some were lost               ──►  a re-read is due (twice: see netlink.h)
 *
 * A re-read that is due happens in the loop's next turn when the last one is REREAD_MS old,
 * otherwise when it will be. A re-read that fails is tried again; until then the old set stays.
 */
#include "common/net/local_routes.h"

#include <errno.h>
#include <stdlib.h>

#include "common/net/netlink.h"
#include "common/net/route_dump.h"

#define REREAD_MS 250

struct local_routes {
    uv_loop_t *loop;
    struct netlink_listener *listener;
    uv_timer_t timer;
    struct route_snapshot snapshot;
    uint64_t last_read_ms; /* loop time */
    bool due, closing;
    bool grown; /* in this turn */
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

static void on_message(void *user, const struct nlmsghdr *message)
{
    struct local_routes *routes = user;

    routes->grown = handle_message(routes, message) || routes->grown;
}

static void on_lost(void *user)
{
    schedule_reread(user);
}

static void on_turn(void *user)
{
    struct local_routes *routes = user;
    const bool grown = routes->grown;

    routes->grown = false;
    if (grown)
        report_change(routes);
}

int local_routes_open(struct local_routes **out, uv_loop_t *loop, void (*changed)(void *user),
                      void *user)
{
    static const int groups[] = {RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV4_IFADDR,
                                 RTNLGRP_IPV6_IFADDR, RTNLGRP_LINK};
    static const struct netlink_listener_ops ops = {
        .message = on_message, .lost = on_lost, .turn = on_turn};
    struct local_routes *routes = calloc(1, sizeof(*routes));
    int r;

    if (!routes)
        return -ENOMEM;
    routes->loop = loop;
    routes->changed = changed;
    routes->user = user;
    /* Subscribed before the first reading, so that no change falls between. */
    r = netlink_listen(&routes->listener, loop, groups, sizeof(groups) / sizeof(groups[0]), &ops,
                       routes);
    if (r < 0)
        goto free_routes;
    r = route_snapshot_read(&routes->snapshot);
    if (r < 0)
        goto close_listener;
    uv_timer_init(loop, &routes->timer);
    routes->timer.data = routes;
    routes->last_read_ms = uv_now(loop);
    uv_unref((uv_handle_t *)&routes->timer);
    *out = routes;
    return 0;

close_listener:
    netlink_listener_close(routes->listener);
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

    route_snapshot_clear(&routes->snapshot);
    free(routes);
}

void local_routes_close(struct local_routes *routes)
{
    if (!routes || routes->closing)
        return;
    routes->closing = true;
    netlink_listener_close(routes->listener);
    uv_close((uv_handle_t *)&routes->timer, on_closed);
}
