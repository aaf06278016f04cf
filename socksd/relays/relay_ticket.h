/*
 * A ticket: what one session holds of its relay, embedded in the session. From the order to the end
 * of the relay the ticket belongs to one relay daemon; relay_ticket_drop() takes it back from every
 * state, at any time, also inside the callbacks.
 *
 *     FREE ── relay_pool_order() ──▶ ORDERED ── RelayOpened ──▶ OPEN ── RelayClosed, N2 lost ──▶
 * FREE │ └── RelayFailed, nobody left to ask, deadline ──▶ FREE
 *
 * The ticket is FREE when ops->failed and ops->closed are called.
 */
#ifndef SOCKST_SOCKSD_RELAYS_RELAY_TICKET_H
#define SOCKST_SOCKSD_RELAYS_RELAY_TICKET_H

#include "common/keyed_hash.h"
#include "proto/n2.h"

struct relay_daemon;
struct relay_ticket;

struct relay_ticket_ops {
    /* Fills the order (zeroed before; ptcl and deadline are filled in afterwards). Called once for
     * each daemon that is asked. */
    void (*describe)(struct relay_ticket *ticket, struct n2_open_relay *out);
    void (*opened)(struct relay_ticket *ticket, const struct n2_relay_opened *opened);
    /* `text` says why, for the log. */
    void (*failed)(struct relay_ticket *ticket, enum n2_error error, const char *text);
    void (*event)(struct relay_ticket *ticket, const struct n2_relay_event *event);
    /* BIND: the peer has come. False: this relay has no reason to say so, and N2 ends. */
    bool (*connected)(struct relay_ticket *ticket, const struct endpoint *peer);
    /* UDP ASSOCIATE asks; relay_ticket_authorized() answers, now or later. False as above. */
    bool (*authorize)(struct relay_ticket *ticket, const struct n2_authorize *asked,
                      uint64_t transaction);
    /* NULL: lost with its N2 connection, final counters unknown. */
    void (*closed)(struct relay_ticket *ticket, const struct n2_relay_closed *closed);
};

enum relay_ticket_state { RELAY_TICKET_FREE, RELAY_TICKET_ORDERED, RELAY_TICKET_OPEN };

struct relay_ticket {
    const struct relay_ticket_ops *ops;
    struct relay_daemon *daemon; /* borrowed; NULL while FREE */
    enum relay_ticket_state state;
    uint8_t ptcl;
    uint32_t deadline_ms;
    uint64_t tried;       /* bit i: daemon i of the pool was asked */
    uint64_t transaction; /* ORDERED */
    uint64_t relay;       /* OPEN: the daemon's number of it */
    UT_hash_handle hh;    /* OPEN: in the daemon's table, by `relay` */
};

/* Orders the end of an OPEN relay; ops->closed follows (perhaps at once, when N2 is lost over it).
 * Otherwise nothing. */
void relay_ticket_close(struct relay_ticket *ticket, enum n2_reason reason);

/*
 * Hands the client's socket (consumed, also on failure) over to an OPEN relay, with what was read
 * of it already (at most N2_EARLY_DATA_MAX octets). When it cannot be sent N2 ends, and ops->closed
 * follows.
 */
void relay_ticket_attach(struct relay_ticket *ticket, int fd, const uint8_t *early, size_t length);

/* Answers what ops->authorize asked of an OPEN relay; verdict->relay is filled in here. Otherwise
 * nothing. */
void relay_ticket_authorized(struct relay_ticket *ticket, uint64_t transaction,
                             struct n2_authorized *verdict);

/* The session no longer cares: an order is cancelled, an open relay is closed. No callback comes.
 * Idempotent. */
void relay_ticket_drop(struct relay_ticket *ticket);

/* The instance name of the ticket's daemon ("tcp", "tcp-2"); "" while FREE. */
const char *relay_ticket_instance(const struct relay_ticket *ticket);

#endif
