/*
 * Every relay of the process, by id.
 *
 * An id is a number that only grows and is never used again in the life of the process. Its low
 * bits are the relay's slot in an array of twice the maximum: an id whose slot is taken is left
 * out. So finding one is one comparison, and nothing that a peer chooses decides where a relay
 * lies.
 */
#ifndef SOCKST_RELAYD_TABLE_H
#define SOCKST_RELAYD_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "relayd/relay/relay.h"

#define RELAY_TABLE_MAX 1000000 /* relays; bounds limits.relays */

struct relay_table;

/* `max` relays at most, 1 … RELAY_TABLE_MAX. Returns 0, -EINVAL or -ENOMEM. */
int relay_table_new(struct relay_table **out, uint32_t max);

/* A zeroed relay with a new id; NULL when the table is full or memory is. */
struct relay *relay_table_add(struct relay_table *table);

/* NULL when there is none of this id. */
struct relay *relay_table_find(const struct relay_table *table, uint64_t id);

/*
 * The next relay at or after *cursor (0 at first), which is advanced past it; NULL at the end.
 * Relays may come and go between calls: one that is there all the time is met exactly once, any
 * other one at most once.
 */
struct relay *relay_table_next(const struct relay_table *table, uint64_t *cursor);

/* Takes it out and frees it. */
void relay_table_remove(struct relay_table *table, struct relay *relay);

uint32_t relay_table_count(const struct relay_table *table);
uint32_t relay_table_max(const struct relay_table *table);
bool relay_table_is_full(const struct relay_table *table);

/* The table has to be empty. NULL is allowed. */
void relay_table_free(struct relay_table *table);

#endif
