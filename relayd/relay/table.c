#include "relayd/relay/table.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

struct relay_table {
    uint64_t last_id;
    uint32_t count, max;
    uint64_t mask; /* slots - 1 */
    struct relay *slots[];
};

int relay_table_new(struct relay_table **out, uint32_t max)
{
    if (max == 0 || max > RELAY_TABLE_MAX) {
        return -EINVAL;
    }
    uint64_t slots = 2;
    while (slots < (uint64_t)max * 2) {
        slots *= 2;
    }
    struct relay_table *table = calloc(1, sizeof(*table) + slots * sizeof(struct relay *));
    if (table == NULL) {
        return -ENOMEM;
    }
    table->max = max;
    table->mask = slots - 1;
    *out = table;
    return 0;
}

struct relay *relay_table_add(struct relay_table *table)
{
    if (relay_table_is_full(table)) {
        return NULL;
    }
    struct relay *relay = calloc(1, sizeof(*relay));
    if (relay == NULL) {
        return NULL;
    }
    /* At least half of the slots are free. A run of taken ones is met once in a turn around the
     * array, so an id costs less than two steps on average. */
    uint64_t id = table->last_id + 1;
    while (table->slots[id & table->mask] != NULL) {
        id++;
    }
    relay->id = id;
    table->last_id = id;
    table->slots[id & table->mask] = relay;
    table->count++;
    return relay;
}

struct relay *relay_table_find(const struct relay_table *table, uint64_t id)
{
    struct relay *relay = table->slots[id & table->mask];
    return relay != NULL && relay->id == id ? relay : NULL;
}

struct relay *relay_table_next(const struct relay_table *table, uint64_t *cursor)
{
    while (*cursor <= table->mask) {
        struct relay *relay = table->slots[(*cursor)++];
        if (relay != NULL) {
            return relay;
        }
    }
    return NULL;
}

void relay_table_remove(struct relay_table *table, struct relay *relay)
{
    assert(table->slots[relay->id & table->mask] == relay);
    table->slots[relay->id & table->mask] = NULL;
    table->count--;
    free(relay);
}

uint32_t relay_table_count(const struct relay_table *table)
{
    return table->count;
}

uint32_t relay_table_max(const struct relay_table *table)
{
    return table->max;
}

bool relay_table_is_full(const struct relay_table *table)
{
    return table->count >= table->max;
}

void relay_table_free(struct relay_table *table)
{
    assert(table == NULL || table->count == 0);
    free(table);
}
