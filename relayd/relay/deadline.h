/*
 * The time until which a peer wants the answer to its order. Made only for orders that have one; a
 * relay that waits for nothing carries no timer.
 */
#ifndef SOCKST_RELAYD_DEADLINE_H
#define SOCKST_RELAYD_DEADLINE_H

#include <uv.h>

#include "relayd/relay/relay.h"

struct relay_deadline;

/* Calls `passed` once after `ms`, unless stopped before. NULL when out of memory. */
struct relay_deadline *relay_deadline_start(uv_loop_t *loop, struct relay *relay, uint32_t ms,
                                            void (*passed)(struct relay *relay));

/* Also inside `passed`. Memory goes with the last close callback. NULL is allowed. */
void relay_deadline_stop(struct relay_deadline *deadline);

#endif
