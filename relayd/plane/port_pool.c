#include "relayd/plane/port_pool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/*
 * `rested` holds the ports that may be drawn, in no order: a draw swaps with the last. `resting` is
 * a ring of the ports returned last; when it is full its oldest moves to `rested`.
 */
struct port_pool {
    uint16_t *rested;
    uint16_t *resting;
    uint32_t total, rested_count;
    uint32_t resting_first, resting_count, resting_size;
    uint64_t in_use[65536 / 64];
};

static uint64_t rotate(uint64_t value, unsigned bits)
{
    return value << bits | value >> (64 - bits);
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[0] = rotate(v[0], 32);
    v[2] += v[3];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[2] = rotate(v[2], 32);
}

/* SipHash-2-4 of the eight octets of the counter. */
static uint64_t random_source_next(struct random_source *random)
{
    const uint64_t words[2] = {random->counter++, (uint64_t)8 << 56};
    uint64_t v[4] = {random->key[0] ^ 0x736f6d6570736575, random->key[1] ^ 0x646f72616e646f6d,
                     random->key[0] ^ 0x6c7967656e657261, random->key[1] ^ 0x7465646279746573};

    for (size_t i = 0; i < 2; i++) {
        v[3] ^= words[i];
        sip_round(v);
        sip_round(v);
        v[0] ^= words[i];
    }
    v[2] ^= 0xff;
    for (size_t i = 0; i < 4; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

int random_source_init(struct random_source *random, uint64_t seed)
{
    memset(random, 0, sizeof(*random));
    if (seed != 0) {
        random->key[0] = seed;
        random->key[1] = ~seed;
        return 0;
    }
    if (getrandom(random->key, sizeof(random->key), 0) != (ssize_t)sizeof(random->key))
        return errno != 0 ? -errno : -EIO;
    return 0;
}

uint32_t random_source_below(struct random_source *random, uint32_t bound)
{
    /* Values below 2^32 mod bound would favour some results: draw again (Lemire). */
    const uint32_t unfair = (uint32_t)(-bound) % bound;

    for (;;) {
        const uint64_t product = (random_source_next(random) & UINT32_MAX) * bound;
        if ((uint32_t)product >= unfair)
            return (uint32_t)(product >> 32);
    }
}

static bool is_in_use(const struct port_pool *pool, uint16_t port)
{
    return (pool->in_use[port / 64] >> (port % 64) & 1) != 0;
}

static void set_in_use(struct port_pool *pool, uint16_t port, bool in_use)
{
    const uint64_t bit = (uint64_t)1 << (port % 64);

    if (in_use)
        pool->in_use[port / 64] |= bit;
    else
        pool->in_use[port / 64] &= ~bit;
}

/* Marks every port of the ranges in `in_use`, which serves as a set here. Returns how many there
 * are. */
static uint32_t mark_ranges(struct port_pool *pool, const struct port_range *ranges,
                            size_t range_count)
{
    uint32_t count = 0;

    for (size_t i = 0; i < range_count; i++) {
        for (uint32_t port = ranges[i].first; port <= ranges[i].last; port++) {
            if (port == 0 || is_in_use(pool, (uint16_t)port))
                continue;
            set_in_use(pool, (uint16_t)port, true);
            count++;
        }
    }
    return count;
}

int port_pool_new(struct port_pool **out, const struct port_range *ranges, size_t range_count)
{
    struct port_pool *pool = calloc(1, sizeof(*pool));

    if (pool == NULL)
        return -ENOMEM;
    const uint32_t count = mark_ranges(pool, ranges, range_count);
    pool->resting_size = count / 4 < PORT_POOL_RESTING_MAX ? count / 4 : PORT_POOL_RESTING_MAX;
    if (pool->resting_size == 0)
        pool->resting_size = 1;
    pool->rested = calloc(count != 0 ? count : 1, sizeof(*pool->rested));
    pool->resting = calloc(pool->resting_size, sizeof(*pool->resting));
    if (pool->rested == NULL || pool->resting == NULL) {
        port_pool_free(pool);
        return -ENOMEM;
    }
    for (uint32_t port = 1; port <= UINT16_MAX; port++) {
        if (is_in_use(pool, (uint16_t)port))
            pool->rested[pool->rested_count++] = (uint16_t)port;
    }
    pool->total = count;
    memset(pool->in_use, 0, sizeof(pool->in_use));
    *out = pool;
    return 0;
}

static uint16_t take_oldest_resting(struct port_pool *pool)
{
    const uint16_t port = pool->resting[pool->resting_first];

    pool->resting_first = (pool->resting_first + 1) % pool->resting_size;
    pool->resting_count--;
    return port;
}

uint16_t port_pool_draw(struct port_pool *pool, struct random_source *random)
{
    uint16_t port;

    if (pool->rested_count != 0) {
        const uint32_t drawn = random_source_below(random, pool->rested_count);
        port = pool->rested[drawn];
        pool->rested[drawn] = pool->rested[--pool->rested_count];
    } else if (pool->resting_count != 0) {
        port = take_oldest_resting(pool);
    } else {
        return 0;
    }
    set_in_use(pool, port, true);
    return port;
}

void port_pool_return(struct port_pool *pool, uint16_t port)
{
    if (!is_in_use(pool, port))
        return;
    set_in_use(pool, port, false);
    if (pool->resting_count == pool->resting_size)
        pool->rested[pool->rested_count++] = take_oldest_resting(pool);
    pool->resting[(pool->resting_first + pool->resting_count) % pool->resting_size] = port;
    pool->resting_count++;
}

uint32_t port_pool_free_ports(const struct port_pool *pool)
{
    return pool->rested_count + pool->resting_count;
}

bool port_pool_is_unused(const struct port_pool *pool)
{
    return port_pool_free_ports(pool) == pool->total;
}

struct port_pool *port_pool_free(struct port_pool *pool)
{
    if (pool != NULL) {
        free(pool->rested);
        free(pool->resting);
        free(pool);
    }
    return NULL;
}
