/*
 * How many of something each client address has: sessions (limits.sessions-per-address), look-ups
 * (resolver.queries-per-address). An entry exists only while it counts something, so the table is
 * no larger than the number of sessions or look-ups.
 */
#ifndef SOCKST_SOCKSD_CLIENT_TABLE_H
#define SOCKST_SOCKSD_CLIENT_TABLE_H

#include "proto/endpoint.h"

struct client;

struct client_table {
    struct client *clients; /* hash by address */
    uint64_t limit;         /* for one address */
};

/* Counts one more for the address. NULL: the limit is reached (*refused true), or out of
 * memory. */
struct client *client_enter(struct client_table *table, const struct ip_address *address,
                            bool *refused);

/* Takes one away; the entry goes with the last. NULL is allowed. */
void client_leave(struct client_table *table, struct client *client);

#endif
