/*
 * Every relay daemon, and the choice among several of one PTCL: the least loaded that is connected,
 * not draining and not congested; when the order fails for want of the daemon (N2 lost before the
 * answer, draining) the next.
 */
#ifndef SOCKST_SOCKSD_RELAYS_RELAY_POOL_H
#define SOCKST_SOCKSD_RELAYS_RELAY_POOL_H

#include "socksd/relays/relay_daemon.h"

#define RELAY_POOL_MAX 64 /* daemons; a ticket's `tried` has a bit for each */

struct relay_pool;

/* `congestion_changed` is called after each change of relay_pool_is_congested(); `counters` is
 * borrowed. Returns 0 or -errno. */
int relay_pool_open(struct relay_pool **out, uv_loop_t *loop, struct counters *counters,
                    void (*congestion_changed)(bool congested, void *user), void *user);

/* Returns 0, -ENOSPC for more than RELAY_POOL_MAX, or -errno. */
int relay_pool_add(struct relay_pool *pool, const struct relay_daemon_config *config);

/* Is a daemon configured for it, connected or not? */
bool relay_pool_serves(const struct relay_pool *pool, uint8_t ptcl);

/* Is one connected now? */
bool relay_pool_reaches(const struct relay_pool *pool, uint8_t ptcl);

/*
 * Orders a relay for a FREE ticket whose ops are set. Returns 0: ops->opened or ops->failed
 * follows. -ENOTCONN: no daemon of this PTCL is connected; -errno: the order could not be sent.
 * deadline_ms: for each daemon that is asked.
 */
int relay_pool_order(struct relay_pool *pool, struct relay_ticket *ticket, uint8_t ptcl,
                     uint32_t deadline_ms);

/* Does some PTCL have connected daemons, all of which are congested? New sessions are not read
 * then. */
bool relay_pool_is_congested(const struct relay_pool *pool);

/* Closes every daemon; memory goes with the last close callback. As relay_daemon_close(). NULL is
 * allowed. */
void relay_pool_close(struct relay_pool *pool);

#endif
