/*
 * Following the kernel:
 *
 *     links, neighbours        ──►  written into the hops at once
 *     links, routes, rules,    ──►  the ways concerned are due (due.c): asked for again a few
 *     addresses, nexthops           milliseconds later, when more of the same has arrived
 *     some were lost           ──►  every hop and every way is due
 *
 * Asking again is a pass over the tree of ways, in slices of SLICE_NS, one for each turn of the
 * loop. What becomes due meanwhile is for the next pass, which begins no sooner than this one has
 * taken after it: a routing daemon that never rests does not get more than half of the time.
 *
 * A question that the kernel does not answer (it has no memory) leaves the way as it is and due.
 */
#include "relayd/plane/bpf/ways.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "common/admin/status.h"
#include "common/net/netlink.h"
#include "relayd/plane/bpf/due.h"
#include "relayd/plane/bpf/hops.h"
#include "relayd/plane/bpf/route_query.h"
#include "relayd/plane/bpf/way_tree.h"

#define DEBOUNCE_MS 5
#define SLICE_NS 1000000u
/* Until ways that found the table of hops full are asked for again. */
#define FULL_RETRY_MS (HOPS_REST_MS / 4)
/* Passes in a row with unanswered questions until a way is taken for lost. */
#define SILENT_PASSES_MAX 5

_Static_assert(sizeof(struct way) <= 96, "a gateway has a hundred thousand of them");

struct pass {
    bool running;
    bool hops; /* of those some are left to be asked for */
    bool silent, full;
    size_t range;         /* in `active` */
    bool placed;          /* within the range, behind `place` */
    struct way_key place; /* the way asked for last */
    uint64_t began_ms;
};

struct ways {
    struct ways_config config;
    struct kernel *kernel;
    struct hops *hops;
    struct netlink_listener *listener;
    uv_timer_t timer; /* to the next pass */
    uv_idle_t idle;   /* to the next slice */
    int open_handles;
    struct way_tree tree;
    struct pass pass;
    struct due *pending, *active; /* for the next pass, of this one */
    uint64_t not_before_ms;       /* the next pass */
    unsigned silent_passes;
    bool lost;    /* notifications, since the last pass began */
    bool changed; /* ways, and config.changed does not know yet */
    bool closing;
    uint32_t unusable;
    uint64_t asked_again, losses;
    struct due dues[2];
};

/* What is known of where a way leads. */
struct lead {
    const char *problem;
    uint32_t interface;
    uint16_t hop; /* with a reference */
};

/* ---- one way --------------------------------------------------------------------------------- */

/* Makes of the kernel's answer what the program needs. Returns 0; KERNEL_SILENT, -ENOSPC, -ENOMEM.
 */
static int take_answer(struct ways *ways, const struct ip_address *peer,
                       const struct route_answer *answer, struct lead *out)
{
    const struct ip_address *gateway = answer->gateway.family != IP_NONE ? &answer->gateway : peer;
    const struct link_message *link;
    uint32_t mtu;
    int row;

    *out = (struct lead){0};
    if (answer->error == KERNEL_SILENT)
        return KERNEL_SILENT;
    out->problem = route_answer_problem(answer);
    if (ip_address_is_link_local_v6(peer) && peer->scope_id == 0)
        out->problem = "a link-local address needs its interface";
    else if (out->problem == NULL && !ways->config.attached(ways->config.user, answer->interface))
        out->problem = "no attached interface leads there";
    if (out->problem != NULL)
        return 0;
    link = hops_link(ways->hops, answer->interface);
    if (link == NULL)
        return KERNEL_SILENT;
    if (link->layer == LINK_OTHER) {
        out->problem = "the interface's link layer is not supported";
        return 0;
    }
    mtu = peer->family == IP_V4 ? link->mtu : link->mtu_v6;
    if (answer->mtu != 0 && answer->mtu < mtu)
        mtu = answer->mtu;
    row = hops_get(ways->hops, answer->interface, gateway, mtu, uv_now(ways->config.loop));
    if (row < 0)
        return row;
    out->interface = answer->interface;
    out->hop = (uint16_t)row;
    return 0;
}

/* Takes the lead's reference. */
static void set_lead(struct ways *ways, struct way *way, const struct lead *lead)
{
    const uint16_t old = way->hop;

    if (way->interface != lead->interface || way->hop != lead->hop || way->problem != lead->problem)
        ways->changed = true;
    ways->unusable += (lead->interface == 0) - (way->interface == 0);
    way->problem = lead->problem;
    way->interface = lead->interface;
    way->hop = lead->hop;
    hops_put(ways->hops, old, uv_now(ways->config.loop));
}

static struct route_query query_of(const struct ways *ways, const struct way_key *key)
{
    return (struct route_query){
        .peer = key->peer, .local = key->asked, .protocol = ways->config.protocol};
}

static int make_way(struct ways *ways, const struct way_key *key, struct way **out)
{
    const struct route_query query = query_of(ways, key);
    struct route_answer answer;
    struct lead lead;
    struct way *way;
    int r;

    route_query(ways->kernel, &query, 1, &answer);
    r = take_answer(ways, &key->peer, &answer, &lead);
    if (r < 0)
        return r;
    way = calloc(1, sizeof(*way));
    if (way == NULL) {
        hops_put(ways->hops, lead.hop, uv_now(ways->config.loop));
        return -ENOMEM;
    }
    way->peer = key->peer;
    way->chosen = key->asked.family == IP_NONE;
    way->local = way->chosen ? answer.local : key->asked;
    way->problem = lead.problem;
    way->interface = lead.interface;
    way->hop = lead.hop;
    ways->unusable += lead.interface == 0;
    way_tree_insert(&ways->tree, way);
    *out = way;
    return 0;
}

int ways_get(struct ways *ways, const struct ip_address *peer, const struct ip_address *local,
             struct way **out)
{
    const struct way_key key = {.peer = *peer, .asked = *local};
    struct way *way;
    int r = 0;

    if (peer->family == IP_NONE || (local->family != IP_NONE && local->family != peer->family))
        return -EINVAL;
    way = way_tree_find(&ways->tree, &key);
    if (way == NULL)
        r = make_way(ways, &key, &way);
    if (r < 0)
        return r;
    way->references++;
    *out = way;
    return 0;
}

void ways_put(struct ways *ways, struct way *way)
{
    if (way == NULL || --way->references > 0)
        return;
    way_tree_remove(&ways->tree, way);
    ways->unusable -= way->interface == 0;
    hops_put(ways->hops, way->hop, uv_now(ways->config.loop));
    free(way);
}

/* ---- a pass ---------------------------------------------------------------------------------- */

static void on_timer(uv_timer_t *timer);

/* The next pass begins in `delay_ms`, or sooner where that has been asked for. */
static void schedule(struct ways *ways, uint64_t delay_ms)
{
    const uint64_t now = uv_now(ways->config.loop);
    uint64_t due = now + delay_ms;

    if (ways->closing || ways->pass.running)
        return;
    if (due < ways->not_before_ms)
        due = ways->not_before_ms;
    if (uv_is_active((uv_handle_t *)&ways->timer) && uv_timer_get_due_in(&ways->timer) <= due - now)
        return;
    uv_timer_start(&ways->timer, on_timer, due - now, 0);
}

/* The next way of the ranges that are due; NULL: none is left. */
static struct way *next_way(struct ways *ways)
{
    struct pass *pass = &ways->pass;

    for (; pass->range < ways->active->count; pass->range++, pass->placed = false) {
        const struct ip_prefix *range = &ways->active->items[pass->range];
        const struct way_key start = {.peer = range->address};
        struct way *way = pass->placed ? way_tree_after(&ways->tree, &pass->place)
                                       : way_tree_from(&ways->tree, &start);

        if (way == NULL || !ip_prefix_contains(range, &way->peer))
            continue;
        pass->place = way_key_of(way);
        pass->placed = true;
        return way;
    }
    return NULL;
}

static void due_again(struct ways *ways, const struct way *way)
{
    struct ip_prefix prefix = {.address = way->peer,
                               .length = (uint8_t)(ip_address_size(&way->peer) * 8)};

    prefix.address.scope_id = 0;
    due_add(ways->pending, &prefix);
}

static void take_answer_again(struct ways *ways, struct way *way, const struct route_answer *answer)
{
    struct lead lead;
    const int r = take_answer(ways, &way->peer, answer, &lead);

    if (r == -ENOSPC) {
        ways->pass.full = true;
        lead.problem = "the table of hops is full";
    } else if (r < 0) {
        ways->pass.silent = true;
        lead.problem = "the kernel does not answer";
    }
    if (r < 0)
        due_again(ways, way);
    if (r < 0 && r != -ENOSPC && ways->silent_passes < SILENT_PASSES_MAX)
        return;
    if (way->chosen && answer->error == 0)
        way->local = answer->local;
    set_lead(ways, way, &lead);
}

/* Asks for the next few ways; false: none was left. */
static bool ask_batch(struct ways *ways)
{
    struct route_query queries[KERNEL_BATCH];
    struct route_answer answers[KERNEL_BATCH];
    struct way *batch[KERNEL_BATCH];
    size_t count = 0;

    while (count < KERNEL_BATCH && (batch[count] = next_way(ways)) != NULL) {
        queries[count] = query_of(ways, &ways->pass.place);
        count++;
    }
    route_query(ways->kernel, queries, count, answers);
    for (size_t i = 0; i < count; i++)
        take_answer_again(ways, batch[i], &answers[i]);
    ways->asked_again += count;
    return count > 0;
}

static void end_pass(struct ways *ways)
{
    struct pass *pass = &ways->pass;

    uv_update_time(ways->config.loop);
    pass->running = false;
    ways->silent_passes = pass->silent ? ways->silent_passes + 1 : 0;
    ways->not_before_ms = uv_now(ways->config.loop) + (uv_now(ways->config.loop) - pass->began_ms);
    uv_idle_stop(&ways->idle);
    if (ways->pending->count > 0)
        schedule(ways, pass->full ? FULL_RETRY_MS : DEBOUNCE_MS);
}

static void run_slice(struct ways *ways)
{
    const uint64_t began = uv_hrtime();

    do {
        if (ways->pass.hops)
            ways->pass.hops = hops_ask_again(ways->hops);
        else if (!ask_batch(ways))
            end_pass(ways);
    } while (ways->pass.running && uv_hrtime() - began < SLICE_NS);
    if (!ways->changed)
        return;
    ways->changed = false;
    ways->config.changed(ways->config.user);
}

static void on_idle(uv_idle_t *idle)
{
    run_slice(idle->data);
}

static void on_timer(uv_timer_t *timer)
{
    struct ways *ways = timer->data;
    struct due *due = ways->pending;

    ways->pending = ways->active;
    ways->pending->count = 0;
    ways->active = due;
    due_seal(due);
    ways->pass =
        (struct pass){.running = true, .hops = ways->lost, .began_ms = uv_now(ways->config.loop)};
    if (ways->lost)
        hops_doubt(ways->hops);
    ways->lost = false;
    uv_idle_start(&ways->idle, on_idle);
}

void ways_refresh(struct ways *ways)
{
    due_add_all(ways->pending);
    schedule(ways, DEBOUNCE_MS);
}

/* ---- what the kernel tells ------------------------------------------------------------------- */

static void on_message(void *user, const struct nlmsghdr *message)
{
    struct ways *ways = user;

    if (hops_message(ways->hops, message))
        due_add_all(ways->pending);
    else
        due_add_message(ways->pending, message);
    if (ways->pending->count > 0)
        schedule(ways, DEBOUNCE_MS);
}

static void on_lost(void *user)
{
    struct ways *ways = user;

    ways->lost = true;
    ways->losses++;
    ways_refresh(ways);
}

static int follow(struct ways *ways)
{
    static const int groups[] = {RTNLGRP_LINK,       RTNLGRP_NEIGH,       RTNLGRP_IPV4_IFADDR,
                                 RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV4_RULE,   RTNLGRP_IPV6_IFADDR,
                                 RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV6_IFINFO, RTNLGRP_IPV6_RULE,
                                 RTNLGRP_NEXTHOP};
    static const struct netlink_listener_ops ops = {.message = on_message, .lost = on_lost};

    return netlink_listen(&ways->listener, ways->config.loop, groups,
                          sizeof(groups) / sizeof(groups[0]), &ops, ways);
}

/* ---- the whole ------------------------------------------------------------------------------- */

void ways_status(const struct ways *ways, struct admin_status *out)
{
    admin_status_counter(out, "ways", ways->tree.count);
    admin_status_counter(out, "ways_unusable", ways->unusable);
    admin_status_counter(out, "ways_asked_again", ways->asked_again);
    admin_status_counter(out, "ways_losses", ways->losses);
    hops_status(ways->hops, out);
}

static void free_ways(struct ways *ways)
{
    hops_close(ways->hops);
    kernel_close(ways->kernel);
    free(ways);
}

int ways_open(struct ways **out, const struct ways_config *config)
{
    struct ways *ways = calloc(1, sizeof(*ways));
    int r;

    if (ways == NULL)
        return -ENOMEM;
    ways->config = *config;
    ways->pending = &ways->dues[0];
    ways->active = &ways->dues[1];
    r = kernel_open(&ways->kernel);
    if (r == 0)
        r = hops_open(&ways->hops, config->hops, ways->kernel);
    if (r == 0)
        r = follow(ways);
    if (r < 0) {
        free_ways(ways);
        return r;
    }
    uv_timer_init(config->loop, &ways->timer);
    uv_idle_init(config->loop, &ways->idle);
    ways->timer.data = ways->idle.data = ways;
    uv_unref((uv_handle_t *)&ways->timer);
    uv_unref((uv_handle_t *)&ways->idle);
    ways->open_handles = 2;
    *out = ways;
    return 0;
}

static void on_closed(uv_handle_t *handle)
{
    struct ways *ways = handle->data;

    if (--ways->open_handles == 0)
        free_ways(ways);
}

void ways_close(struct ways *ways)
{
    if (ways == NULL || ways->closing)
        return;
    assert(ways->tree.count == 0);
    ways->closing = true;
    netlink_listener_close(ways->listener);
    uv_close((uv_handle_t *)&ways->timer, on_closed);
    uv_close((uv_handle_t *)&ways->idle, on_closed);
}
