#include "socksd/relays/relay_pool.h"

#include <errno.h>
#include <stdlib.h>

struct relay_pool {
    uv_loop_t *loop;
    struct counters *counters;
    void (*congestion_changed)(bool congested, void *user);
    void *user;
    bool congested, closing;
    size_t count;
    struct relay_daemon *daemons[RELAY_POOL_MAX];
};

int relay_pool_open(struct relay_pool **out, uv_loop_t *loop, struct counters *counters,
                    void (*congestion_changed)(bool congested, void *user), void *user)
{
    struct relay_pool *pool = calloc(1, sizeof(*pool));
    if (!pool)
        return -ENOMEM;
    pool->loop = loop;
    pool->counters = counters;
    pool->congestion_changed = congestion_changed;
    pool->user = user;
    *out = pool;
    return 0;
}

static bool ptcl_is_congested(const struct relay_pool *pool, uint8_t ptcl)
{
    bool any = false;
    for (size_t i = 0; i < pool->count; i++) {
        const struct relay_daemon *daemon = pool->daemons[i];
        if (relay_daemon_ptcl(daemon) != ptcl || !relay_daemon_is_usable(daemon))
            continue;
        if (!relay_daemon_is_congested(daemon))
            return false;
        any = true;
    }
    return any;
}

static void update_congestion(struct relay_pool *pool)
{
    bool congested = false;
    for (size_t i = 0; i < pool->count && !congested; i++)
        congested = ptcl_is_congested(pool, relay_daemon_ptcl(pool->daemons[i]));
    if (congested == pool->congested)
        return;
    pool->congested = congested;
    if (!pool->closing)
        pool->congestion_changed(congested, pool->user);
}

static void on_changed(struct relay_daemon *daemon, void *user)
{
    (void)daemon;
    update_congestion(user);
}

/* Better: not congested before congested, then fewer relays. */
static bool is_better(const struct relay_daemon *a, const struct relay_daemon *b)
{
    const bool a_congested = relay_daemon_is_congested(a),
               b_congested = relay_daemon_is_congested(b);
    if (a_congested != b_congested)
        return b_congested;
    return relay_daemon_load(a) < relay_daemon_load(b);
}

/* Index of the best daemon that the ticket has not tried; pool->count when there is none. */
static size_t choose(const struct relay_pool *pool, const struct relay_ticket *ticket)
{
    size_t best = pool->count;
    for (size_t i = 0; i < pool->count; i++) {
        const struct relay_daemon *daemon = pool->daemons[i];
        if (relay_daemon_ptcl(daemon) != ticket->ptcl || (ticket->tried & UINT64_C(1) << i) ||
            !relay_daemon_is_usable(daemon))
            continue;
        if (best == pool->count || is_better(daemon, pool->daemons[best]))
            best = i;
    }
    return best;
}

static int order_somewhere(struct relay_pool *pool, struct relay_ticket *ticket)
{
    int rc = -ENOTCONN;
    for (;;) {
        const size_t index = choose(pool, ticket);
        if (index == pool->count)
            break;
        ticket->tried |= UINT64_C(1) << index;
        rc = relay_daemon_order(pool->daemons[index], ticket);
        if (rc == 0)
            break;
    }
    update_congestion(pool);
    return rc;
}

static void on_order_failed(struct relay_ticket *ticket, bool elsewhere, enum n2_error error,
                            const char *text, void *user)
{
    struct relay_pool *pool = user;

    if (elsewhere && !pool->closing && order_somewhere(pool, ticket) == 0) {
        counter_add(pool->counters, COUNTER_N2_FAILOVERS);
        return;
    }
    ticket->ops->failed(ticket, error, text);
}

static const struct relay_daemon_ops daemon_ops = {.order_failed = on_order_failed,
                                                   .changed = on_changed};

int relay_pool_add(struct relay_pool *pool, const struct relay_daemon_config *config)
{
    if (pool->count == RELAY_POOL_MAX)
        return -ENOSPC;
    int rc = relay_daemon_open(&pool->daemons[pool->count], pool->loop, config, pool->counters,
                               &daemon_ops, pool);
    if (rc == 0)
        pool->count++;
    return rc;
}

bool relay_pool_serves(const struct relay_pool *pool, uint8_t ptcl)
{
    for (size_t i = 0; i < pool->count; i++)
        if (relay_daemon_ptcl(pool->daemons[i]) == ptcl)
            return true;
    return false;
}

bool relay_pool_reaches(const struct relay_pool *pool, uint8_t ptcl)
{
    for (size_t i = 0; i < pool->count; i++)
        if (relay_daemon_ptcl(pool->daemons[i]) == ptcl && relay_daemon_is_usable(pool->daemons[i]))
            return true;
    return false;
}

int relay_pool_order(struct relay_pool *pool, struct relay_ticket *ticket, uint8_t ptcl,
                     uint32_t deadline_ms)
{
    ticket->ptcl = ptcl;
    ticket->deadline_ms = deadline_ms;
    ticket->tried = 0;
    return order_somewhere(pool, ticket);
}

bool relay_pool_is_congested(const struct relay_pool *pool)
{
    return pool->congested;
}

void relay_pool_close(struct relay_pool *pool)
{
    if (!pool)
        return;
    pool->closing = true;
    for (size_t i = 0; i < pool->count; i++)
        relay_daemon_close(pool->daemons[i]);
    free(pool);
}
