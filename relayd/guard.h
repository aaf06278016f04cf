/*
 * The guard: a relay that gets more packets from strangers than guard.wrong-source-per-second is
 * reported once for each flood (RelayEvent WRONG_SOURCE_FLOOD) and, with guard.action `close`,
 * ended. A flood is over when no more than the limit came in a second.
 *
 * Planes that tell of strangers (plane->ops->tells_strangers, relay_strangers()) cost nothing until
 * one comes. The relays of the others are looked at once a second, in slices, so that many of them
 * do not stop the loop; without any there is no timer.
 */
#ifndef SOCKST_RELAYD_GUARD_H
#define SOCKST_RELAYD_GUARD_H

#include "relayd/config.h"
#include "relayd/relay/control.h"

#define GUARD_INTERVAL_MS 1000
#define GUARD_SLICE 512 /* relays in one turn of the loop */

struct guard;

/* Before the first relay; with a limit of 0 there is nothing to do and *out is NULL. `config` and
 * `context` are borrowed, context->guard is set. Returns 0 or -ENOMEM. */
int guard_start(struct guard **out, const struct relayd_config *config,
                struct relay_context *context);

/* Looks at the relay from now on if its plane does not tell of strangers; relay->plane is set.
 * `guard` may be NULL. Returns 0 or -ENOMEM. */
int guard_watch(struct guard *guard, struct relay *relay);
/* No longer. Idempotent. */
void guard_unwatch(struct guard *guard, struct relay *relay);

/* context->guard is NULL afterwards. Memory goes with the last close callback. NULL is allowed. */
void guard_stop(struct guard *guard);

#endif
