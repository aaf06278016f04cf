/*
 * The guard: looks at every relay's packets from strangers once a second, in slices, so that a
 * table of any size does not stop the loop. A relay that gets more of them than
 * guard.wrong-source-per-second is reported once for each flood (RelayEvent WRONG_SOURCE_FLOOD)
 * and, with guard.action `close`, ended. A flood is over when a look finds no more than the limit.
 */
#ifndef SOCKST_RELAYD_GUARD_H
#define SOCKST_RELAYD_GUARD_H

#include "relayd/config.h"
#include "relayd/relay/control.h"

#define GUARD_INTERVAL_MS 1000
#define GUARD_SLICE 512 /* relays in one turn of the loop */

struct guard;

/* Starts looking; with a limit of 0 there is nothing to do and *out is NULL. `config` and `context`
 * are borrowed. Returns 0 or -ENOMEM. */
int guard_start(struct guard **out, const struct relayd_config *config,
                struct relay_context *context);

/* Memory goes with the last close callback. NULL is allowed. */
void guard_stop(struct guard *guard);

#endif
