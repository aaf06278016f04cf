/*
 * Names to addresses: c-ares on uv_poll and uv_timer, A and AAAA, /etc/hosts first.
 *
 * A name is looked up exactly as it was asked for: no search domains, no aliases, since rules were
 * matched against it. No socket is opened but to the name servers (c-ares would sort addresses by
 * connecting to each of them: switched off).
 */
#ifndef SOCKST_SOCKSD_RESOLVER_H
#define SOCKST_SOCKSD_RESOLVER_H

#include <uv.h>

#include "proto/endpoint.h"
#include "socksd/counters.h"

#define RESOLVER_ADDRESSES_MAX 32 /* of a name; at most half of them of one family */

/* Once one family has brought addresses: for how long the other is waited for. RFC 8305 section 3
 * says 50 ms, for a client that may add addresses later; here what is late is lost. */
#define RESOLVER_OTHER_FAMILY_MS 250

struct resolver;
struct resolver_query;

struct resolver_config {
    const char *const
        *servers; /* "192.0.2.53", "192.0.2.53:5353", "[2001:db8::53]:53"; borrowed for the call */
    size_t server_count; /* 0: those of /etc/resolv.conf */
    uint64_t timeout_ms; /* of one look-up, whole */
    uint64_t tries;
    uint64_t queries;             /* at a time */
    uint64_t queries_per_address; /* of those, for one client address */
};

struct resolver_answer {
    const struct ip_address
        *addresses; /* each family's in the order of the answer, without repetitions */
    size_t count;
    const char *why; /* there are none */
    uint32_t ttl_s;  /* the smallest of the records and aliases; 0 when there is none to go by */
};

/* The answer is borrowed for the call; the query is gone when this is called. */
typedef void (*resolver_cb)(const struct resolver_answer *answer, void *user);

/* Reads the system's configuration. Returns 0, -EINVAL (c-ares does not take the servers), or
 * -errno. */
int resolver_open(struct resolver **out, uv_loop_t *loop, const struct resolver_config *config,
                  struct counters *counters);

/*
 * Looks up `name` (n1_name_is_valid(), terminated; copied) for the client at `client`. `done` is
 * called later, never from here. Returns 0, -EAGAIN when config.queries are under way, -EDQUOT when
 * config.queries_per_address are for this client, or -ENOMEM. Cancelled ones that c-ares still
 * works on count in both, so that a client who comes, asks and goes takes nothing but its own
 * share.
 */
int resolver_lookup(struct resolver *resolver, const struct ip_address *client, const char *name,
                    resolver_cb done, void *user, struct resolver_query **query);

/* Half of config.queries are under way: what is not a request has to wait. */
bool resolver_is_busy(const struct resolver *resolver);

/* `done` will not be called. */
void resolver_cancel(struct resolver_query *query);

/* Queries that are left are cancelled; memory goes with the last close callback. NULL is allowed.
 */
void resolver_close(struct resolver *resolver);

#endif
