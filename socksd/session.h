/*
 * Sessions: one per control connection (N1), from accept to the access-log record of its relay.
 *
 * The set owns its sessions; a session frees itself when its handles have closed. What the set
 * borrows outlives it.
 */
#ifndef SOCKST_SOCKSD_SESSION_H
#define SOCKST_SOCKSD_SESSION_H

#include <uv.h>

#include "common/net/deny_floor.h"
#include "socksd/client_table.h"
#include "socksd/config.h"
#include "socksd/counters.h"
#include "socksd/policy/policy.h"
#include "socksd/relays/relay_pool.h"
#include "socksd/resolver.h"

struct session;

/* What a client may send within a second after its request, before it is closed (architecture,
 * section 4 item 10). */
#define SESSION_FLOOD_BYTES (64 * 1024)
/* After the last octet to the client, for it to close its side: a close with unread octets would
 * turn into a RST that overtakes the reply. Well below the 10 s of RFC 1928 section 6. */
#define SESSION_LINGER_MS 2000
/* For RelayClosed, with the counters of the access-log record, after the session has ended. */
#define SESSION_ENDING_MS 5000

struct session_set {
    uv_loop_t *loop;
    const struct socksd_config *config;
    const struct policy *policy;
    const struct deny_floor *floor;
    struct resolver *resolver;
    struct relay_pool *relays;
    struct counters *counters;
    uint64_t limit;           /* sessions; config's, clamped to the descriptors */
    void (*gone)(void *user); /* a session, or its descriptor alone, has gone; may be NULL */
    void *user;

    /* The set's own. */
    struct client_table clients;
    struct session *handshaking; /* not yet RELAYING: those that congestion of N2 pauses */
    struct session *others;
    size_t count;
    uint64_t last_id;
    size_t authorizations; /* look-ups for UDP associations that are under way */
    bool stopping;
    char scratch[16 * 1024]; /* where octets go that nobody reads */
};

/* The borrowed members are set by the caller before. */
void session_set_init(struct session_set *set);

/* Takes an accepted, non-blocking TCP socket (consumed). */
void session_set_accept(struct session_set *set, int fd, const struct endpoint *peer);

/* N2 is congested, or is no longer: sessions that have not reached their relay stop or go on
 * reading. */
void session_set_update_reading(struct session_set *set);

/* Ends every session: relays are closed, control connections too; access-log records wait for
 * RelayClosed. */
void session_set_stop(struct session_set *set);

/* Ends what is left without waiting: the loop has only to run the close callbacks. */
void session_set_kill(struct session_set *set);

#endif
