/*
 * One relay: what N2 ordered, what the operator sees, and the state machine that binds both to a plane.
 *
 *      OPENING ──opened──▶ WAITING ──client arrived──▶ ACTIVE
 *         │                   │                          │
 *         └──── failed ───────┴──── ended, closed ───────┴──▶ CLOSING ──plane closed──▶ (gone)
 *
 * Everything that happens to a relay is an event for relay_event(); relay_set_state() alone changes its state. Planes report
 * by the relay_… upcalls below and never free a relay. For each plane->ops->open there is exactly one plane->ops->close, and for that exactly
 * one relay_plane_closed(); RelayClosed (or RelayFailed) leaves exactly once.
 */
#ifndef SOCKST_RELAYD_RELAY_H
#define SOCKST_RELAYD_RELAY_H

#include "proto/n2.h"
#include "relayd/transport/transport.h"

struct plane;
struct label;      /* interned text, relayd/relay/label.h */
struct relay_peer; /* the N2 peer that owns the relay */

enum relay_state { RELAY_ST_OPENING, RELAY_ST_WAITING, RELAY_ST_ACTIVE, RELAY_ST_CLOSING };

struct relay {
    uint64_t id;
    uint64_t association; /* socksd's */
    uint64_t transaction; /* of the OpenRelay, to answer it */
    struct relay_peer *peer;
    const struct transport *transport;
    enum n2_kind kind;
    enum relay_state state;

    struct endpoint source;      /* S; port 0 until learnt */
    struct endpoint destination; /* DST */
    struct endpoint bound;       /* BND as bound on this host; set by the plane before relay_opened() */
    struct endpoint egress;      /* set by the plane before relay_opened() */
    struct ip_address bound_hint, egress_hint;
    bool learn_source_port;
    struct label *user, *rule;
    struct n2_limits limits;

    struct plane *plane;
    const char *plane_reason; /* static text: why this plane */
    void *flow;               /* the plane's own */

    uint64_t opened_at_ms; /* loop time of the order */
    enum n2_reason reason; /* valid in CLOSING */
    struct n2_counters final; /* valid from relay_plane_closed() on */
    bool was_opened;          /* RelayOpened has been sent: RelayClosed is owed */

    struct {
        uint64_t drops; /* of the last sweep */
        bool flooding;
    } guard;
};

const char *relay_state_name(enum relay_state state);

/* ---- upcalls of a plane; each may be called from inside plane->ops->open or ->close, too ------------------------- */

/* BND and egress are ready, relay->bound and relay->egress are set. */
void relay_opened(struct relay *relay);
/* It cannot be opened. `text` is for the log, borrowed. */
void relay_open_failed(struct relay *relay, enum n2_error error, const char *text);
/* The first data, or the connection, of the client has arrived. relay->source is complete. */
void relay_client_arrived(struct relay *relay);
/* Something worth telling socksd, while the relay goes on. */
void relay_notify(struct relay *relay, enum n2_event event, uint64_t value);
/* The flow is over by itself; the relay will be closed. */
void relay_ended(struct relay *relay, enum n2_reason reason);
/* The answer to plane->ops->close: nothing of the plane refers to the relay any more. `counters` are final. The relay may be freed when this returns. */
void relay_plane_closed(struct relay *relay, const struct n2_counters *counters);

#endif
