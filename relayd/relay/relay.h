/*
 * One relay: what N2 ordered, what the operator sees, and the state machine that binds both to a
 * plane.
 *
 *      OPENING ──opened──▶ WAITING ──client arrived──▶ ACTIVE
 *         │                   │                          │
 *         └──── failed ───────┴──── ended, closed ───────┴──▶ CLOSING ──plane closed──▶ (gone)
 *
 * The client arrives by itself (TRANSPARENT, UDP ASSOCIATE: its first packet or its connection) or
 * is handed over (CONNECT, BIND: AttachClient, which for BIND comes after the relay's peer has
 * connected).
 *
 * Everything that happens to a relay is an event for relay_event(); relay_set_state() alone
 * changes its state. Planes report by the relay_… upcalls below and never free a relay. For each
 * plane->ops->open there is exactly one plane->ops->close, and for that exactly one
 * relay_plane_closed().
 *
 * What the peer is told: each OpenRelay is answered exactly once, with RelayOpened or RelayFailed;
 * each RelayOpened is followed by exactly one RelayClosed, a RelayFailed by none. So a relay that
 * is closed before it was opened (by relayctl, by its deadline, by a CloseRelay, by the end of the
 * daemon) answers RelayFailed at once and says no more, and one that had told RelayOpened answers
 * RelayClosed when its plane has let go. Nothing is sent for a relay whose peer has been lost.
 */
#ifndef SOCKST_RELAYD_RELAY_H
#define SOCKST_RELAYD_RELAY_H

#include <sys/queue.h>
#include <uv.h>

#include "common/keyed_hash.h"
#include "proto/n2.h"
#include "relayd/transport/transport.h"

struct plane;
struct label;          /* interned text, relayd/relay/label.h */
struct relay_deadline; /* relayd/relay/deadline.h */
struct relay_peer;     /* the N2 peer that owns the relay, relayd/relay/control.h */

enum relay_state { RELAY_ST_OPENING, RELAY_ST_WAITING, RELAY_ST_ACTIVE, RELAY_ST_CLOSING };

/* What only the answer to an order needs. Where plane->ops->open answers at once it never leaves
 * the stack (relayd/relay/pending_order.h). */
struct relay_order {
    struct ip_address bound_hint, egress_hint;
    struct endpoint *candidates; /* of CONNECT, in order of preference; else NULL */
    uint8_t candidate_count;

    /* The relay's own from here on. */
    uint32_t deadline_ms; /* 0: none */
    uint64_t transaction; /* of the OpenRelay, to answer it */
    struct relay *relay;
    UT_hash_handle hh;               /* in peer->orders, by transaction */
    struct relay_deadline *deadline; /* NULL: none */
    bool on_heap;
};

/* There may be a million of them: four cache lines, with what malloc() adds. */
struct relay {
    uint64_t id;
    uint64_t association;    /* socksd's */
    struct relay_peer *peer; /* as long as the relay lives, also when the peer is lost */
    LIST_ENTRY(relay) of_peer;
    struct relay_order *order; /* while OPENING; else NULL */

    struct plane *plane;
    const char *plane_reason; /* static text: why this plane */
    void *flow;               /* the plane's own */

    struct endpoint source; /* S; port 0 until learnt */
    /* DST. CONNECT: the candidate that was reached, before that the first one. BIND: who is awaited
     * (unspecified: anybody), then who has come. UDP ASSOCIATE: none. */
    struct endpoint destination;
    struct endpoint bound;  /* BND as bound on this host; set before relay_opened() */
    struct endpoint egress; /* set by the plane before relay_opened() */
    struct label *user, *rule;
    struct n2_limits limits;

    uint64_t opened_at_ms; /* loop time of the order */
    uint32_t guard_drops;  /* strangers that the guard has seen (low half), … */
    uint32_t guard_at_ms;  /* … and when that was, low half of the loop time */
    uint32_t guard_place;  /* the guard's own; watched */

    enum n2_kind kind : 8;
    enum relay_state state : 4;
    enum n2_reason reason : 8; /* valid in CLOSING */
    bool learn_source_port : 1;
    bool was_opened : 1;     /* RelayOpened has been sent: RelayClosed is owed */
    bool in_open : 1;        /* plane->ops->open is on the stack */
    bool peer_connected : 1; /* BIND: RelayConnected has been sent */
    bool attached : 1;       /* the client has been handed over */
    bool watched : 1;        /* by the guard */
    bool flooding : 1;       /* strangers came above the limit when the guard last looked */
};

_Static_assert(sizeof(struct relay) <= 248, "a relay costs at most 256 octets beside its flow");

/* "opening", "waiting", "active", "closing". */
const char *relay_state_name(enum relay_state state);

/*
 * ---- upcalls of a plane ---------------------------------------------------------------------
 *
 * Each may be called from inside plane->ops->open or ->close, too. plane->ops->close is never
 * called from inside plane->ops->open: an upcall in there that ends the relay takes effect as soon
 * as open has returned. Outside of it relay_open_failed() and relay_ended() call
 * plane->ops->close before they return; relay_opened(), relay_client_arrived(),
 * relay_peer_connected() and relay_notify() never do.
 */

/* BND and egress are ready, relay->bound and relay->egress are set; for CONNECT relay->destination,
 * too. relay->order is gone when this returns. */
void relay_opened(struct relay *relay);
/* It cannot be opened. `text` is for the log and socksd, borrowed. */
void relay_open_failed(struct relay *relay, enum n2_error error, const char *text);
/* The first data, or the connection, of the client has arrived. relay->source is complete. */
void relay_client_arrived(struct relay *relay);
/* BIND, once, while the relay is WAITING: the peer has connected; relay->destination is it. The
 * client may be attached from now on. */
void relay_peer_connected(struct relay *relay);
/* Something worth telling socksd, while the relay goes on. */
void relay_notify(struct relay *relay, enum n2_event event, uint64_t value);
/* Its protocol. */
const struct transport *relay_transport(const struct relay *relay);
/* May the relay exchange data with the address, as far as the deny floor goes? NULL: yes; otherwise
 * why not (static text). For peers that nobody named in the order. */
const char *relay_forbids(const struct relay *relay, const struct ip_address *address);
/* So many packets of strangers have come so far: for planes that tell of them
 * (plane->ops->tells_strangers), at most a few times in a second for a relay. The relay may be
 * closed for it. */
void relay_strangers(struct relay *relay, uint64_t total);
/* The flow is over by itself; the relay will be closed. */
void relay_ended(struct relay *relay, enum n2_reason reason);
/*
 * ---- questions of a plane -------------------------------------------------------------------
 *
 * UDP ASSOCIATE: may the relay send there? socksd alone knows the rules and the names. A question
 * is part of whoever asks; zeroed, it asks nothing.
 */
struct relay_question {
    struct relay *relay;
    /*
     * Called once, never from inside relay_authorize(). `answer` is borrowed, and NULL where none
     * has come: its deadline has passed, or the peer is lost. Addresses that the deny floor forbids
     * are not in it. May ask again.
     */
    void (*answered)(struct relay_question *question, const struct n2_authorized *answer);
    uint64_t transaction; /* 0: nothing is asked */
};

/*
 * Asks, with question->relay and ->answered set; what->relay is filled here. Returns 0, -EACCES
 * (the deny floor forbids the address: whatever the answer were), -EAGAIN (as many questions as may
 * be are in flight, or the peer does not read), -ENOTCONN (the peer is lost), or another -errno.
 */
int relay_authorize(struct relay_question *question, struct n2_authorize *what);
/* It will not be answered. Idempotent. */
void relay_authorize_cancel(struct relay_question *question);
/* Is a verdict of this generation still valid, as far as PolicyChanged tells? */
bool relay_verdict_holds(const struct relay *relay, uint64_t generation);

/*
 * The answer to plane->ops->close: nothing of the plane refers to the relay any more. `counters`
 * are final. The relay is freed when this returns.
 */
void relay_plane_closed(struct relay *relay, const struct n2_counters *counters);

#endif
