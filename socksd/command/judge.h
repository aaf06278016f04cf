/*
 * What a client may reach: the rules and the deny floor, by name and by address. Every command, and
 * every destination of an association, is judged by these functions and by no others.
 */
#ifndef SOCKST_SOCKSD_COMMAND_JUDGE_H
#define SOCKST_SOCKSD_COMMAND_JUDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/endpoint.h"
#include "socksd/counters.h"

struct rule;
struct session;

/* What was asked for. Borrowed. */
struct judged_host {
    const char *name; /* n1_name_is_valid(), or NULL when asked for by address */
    uint16_t port;
};

struct judgement {
    const char *denial;      /* why not, for the log; NULL: allowed */
    enum counter denied_by;  /* the row of a denial */
    const struct rule *rule; /* that allows an address */
};

/* The rules on the name alone: a denial only if no address could make it another verdict, and then
 * the name must not be looked up (N1-ORD-020). */
struct judgement judge_name(const struct session *session, const struct judged_host *host);

/* The rules on name and address; they may name 0.0.0.0 and ::, which stand for any host here. */
struct judgement judge_rules(const struct session *session, const struct judged_host *host,
                             const struct ip_address *address);

/* … and the deny floor. */
struct judgement judge_address(const struct session *session, const struct judged_host *host,
                               const struct ip_address *address);

/*
 * Moves the addresses that are allowed to the front, in their order, and returns how many they are,
 * at most `max`. *said: the verdict on the first of them, or the first denial when there is none.
 */
size_t judge_addresses(const struct session *session, const struct judged_host *host,
                       struct ip_address *addresses, size_t count, size_t max,
                       struct judgement *said);

/* RFC 8305 section 4: the families take turns, IPv6 first; each keeps its order. `count` is at most
 * RESOLVER_ADDRESSES_MAX. */
void addresses_interleave(struct ip_address *addresses, size_t count);

/* Those of the family first; both parts keep their order. The same maximum. */
void addresses_prefer(struct ip_address *addresses, size_t count, uint8_t family);

#endif
