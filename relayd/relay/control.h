/*
 * What the rest of relayd does with relays: N2 orders and closes them, relayctl closes them, the
 * daemon ends them all. (What a plane does with them is in relay.h.)
 */
#ifndef SOCKST_RELAYD_CONTROL_H
#define SOCKST_RELAYD_CONTROL_H

#include "common/net/deny_floor.h"
#include "relayd/metrics.h"
#include "relayd/plane/endpoints.h"
#include "relayd/relay/label.h"
#include "relayd/relay/planes.h"
#include "relayd/relay/table.h"

/* N2 peers at a time, with those that are lost and whose relays are not all gone. */
#define RELAY_PEERS_MAX 256

struct guard; /* relayd/guard.h */
struct relay_reaper;

/* Every N2 peer of the process; zeroed at the start. */
struct relay_peers {
    bool taken[RELAY_PEERS_MAX]; /* indexes */
    uint32_t last_index;
    LIST_HEAD(relay_peer_list, relay_peer) lost; /* those with relays that are to be closed */
    struct relay_reaper *reaper;                 /* closes them; NULL while there are none */
};

/* What all relays of a process share. Everything is borrowed but the labels and the reaper. */
struct relay_context {
    uv_loop_t *loop;
    const struct transport *transport;
    const struct deny_floor *floor;
    const struct endpoints *endpoints;
    const struct planes *planes;
    struct relay_table *table;
    struct relayd_metrics *metrics;
    struct label_table labels;
    struct relay_peers peers;
    struct guard *guard; /* NULL: off */
    bool draining;       /* no new relay */
};

/*
 * A peer as its relays see it; part of whatever speaks to the peer (n2/peer.c). It outlives its
 * connection: relays refer to it until they are gone.
 *
 *     relay_peer_init() ──▶ relay_peer_lost() ──▶ the last relay has gone: released()
 */
struct relay_peer {
    struct relay_context *context;
    /* Must not call back into relays before it returns. */
    void (*send)(struct relay_peer *peer, const struct n2_message *message);
    /* Sends an Authorize and sets question->transaction; relay_answered() follows once, never from
     * inside. Returns 0 or -errno. NULL: nobody can be asked. */
    int (*ask)(struct relay_peer *peer, struct n2_message *message,
               struct relay_question *question);
    void (*cancel)(struct relay_peer *peer, uint64_t transaction);
    /* It was lost, and nothing refers to it any more. Called from inside relay_peer_lost() or
     * later. NULL: nobody wants to know. */
    void (*released)(struct relay_peer *peer);
    uint32_t index; /* below RELAY_PEERS_MAX; no other peer has it until released() */
    uint32_t users; /* its relays, and one for itself until it is lost */
    bool lost;      /* nothing can be sent any more */
    bool listed;    /* in context->peers.lost */
    LIST_ENTRY(relay_peer) of_lost;
    LIST_HEAD(relay_list, relay) relays;
    struct relay_list closing;  /* once it is lost: those that were closed for that */
    struct relay_order *orders; /* those not answered yet, by transaction */
    bool draining;              /* no new relay for this peer */
    uint64_t policy_generation; /* verdicts of older ones are void */
};

/* Returns 0, or -EAGAIN when there are RELAY_PEERS_MAX. relay_peer_lost() has to follow. */
int relay_peer_init(struct relay_peer *peer, struct relay_context *context,
                    void (*send)(struct relay_peer *peer, const struct n2_message *message));

/*
 * The peer has gone: the planes stop its packets at once (plane->ops->peer_lost), nothing is sent
 * for its relays any more, and each of them is closed: a few now, the others in slices of a few
 * milliseconds, one in each turn of the loop. The peer may be gone when this returns. Once is
 * enough; more do no harm as long as it is there.
 */
void relay_peer_lost(struct relay_peer *peer);

/* The relay belongs to the peer from now on, … (relays alone call these) */
void relay_peer_adopt(struct relay_peer *peer, struct relay *relay);
/* … and no longer. relay->peer is NULL afterwards; the peer may be gone. */
void relay_peer_leave(struct relay *relay);

/* Carries out an OpenRelay. It is answered (peer->send) with its transaction exactly once, perhaps
 * before this returns. */
void relay_order(struct relay_context *context, struct relay_peer *peer, uint64_t transaction,
                 const struct n2_open_relay *order);

/* The peer has no more use for an order: if it has not been answered yet the relay is closed, and
 * answers RelayFailed. Returns false when there is no such order (any more). */
bool relay_cancel_order(struct relay_peer *peer, uint64_t transaction);

/* Closes a client's connection whose relay has ended before it came. It is reset: success was
 * answered, so an end in order would look like everything that the target had to say. A
 * descriptor of something else is closed as well. */
void relay_drop_client(int fd);
/*
 * Hands a client's connection over to a CONNECT relay that is open, or to a BIND relay whose peer
 * has connected; once for a relay. `fd` is consumed, `early` borrowed. A relay that is on its way
 * out lets go of it. Returns false when this relay awaits no client: the peer has no reason to send
 * one (N2-STATE-010).
 */
bool relay_attach(struct relay *relay, int fd, const uint8_t *early, size_t length);

/* The answer to an Authorize; NULL: none will come. The question may be gone when this returns. */
void relay_answered(struct relay_question *question, const struct n2_authorized *answer);

/* PolicyChanged. A generation that is not newer than the known one changes nothing. */
void relay_policy_changed(struct relay_peer *peer, uint64_t generation);

/* Ends a relay in whatever state it is; once is enough, more do no harm. It may be gone when this
 * returns. */
void relay_close(struct relay *relay, enum n2_reason reason);

#endif
