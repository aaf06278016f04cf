/*
 * The free ports of one address. A draw is random among those that have rested, a returned port
 * rests before it is given out again: late packets of an old relay do not meet a new one. All
 * operations are O(1).
 *
 * The random numbers come from SipHash-2-4 in counter mode: whoever has seen many ports cannot tell
 * the next one.
 */
#ifndef SOCKST_RELAYD_PORT_POOL_H
#define SOCKST_RELAYD_PORT_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/net/prefix.h"

struct random_source {
    uint64_t key[2];
    uint64_t counter;
};

/* `seed` 0: keyed by getrandom(). Returns 0 or -errno. */
int random_source_init(struct random_source *random, uint64_t seed);
/* Uniform in 0 … bound - 1; `bound` is at least 1. */
uint32_t random_source_below(struct random_source *random, uint32_t bound);

struct port_pool;

/* Of at most this many returned ports the oldest is not yet drawn again, unless no other is left.
 * Small pools rest a quarter. */
#define PORT_POOL_RESTING_MAX 4096

/* Every port of the ranges once; overlaps and port 0 are ignored. Returns 0 or -ENOMEM. */
int port_pool_new(struct port_pool **out, const struct port_range *ranges, size_t range_count);
/* A free port, which is in use from now on; 0: none is left. */
uint16_t port_pool_draw(struct port_pool *pool, struct random_source *random);
/* Gives a port back. One that is not in use is ignored. */
void port_pool_return(struct port_pool *pool, uint16_t port);
uint32_t port_pool_free_ports(const struct port_pool *pool);
/* No port is in use. */
bool port_pool_is_unused(const struct port_pool *pool);
/* NULL is allowed. Returns NULL. */
struct port_pool *port_pool_free(struct port_pool *pool);

#endif
