/*
 * What relays stand on, made of nothing: a plane that does what a test says, inside the call or
 * later, and a peer that remembers what it was told. Both judge what must never happen.
 */
#ifndef SOCKST_TESTS_RELAYD_FAKE_H
#define SOCKST_TESTS_RELAYD_FAKE_H

#include "relayd/relay/control.h"

#define FAKE_ASSOCIATIONS 4096
#define FAKE_MESSAGES 64

/* relay->flow of the fake plane. */
struct fake_flow {
    struct relay *relay;
    bool in_open, close_called;
    bool abort; /* of the close */
    uint64_t drops;
    struct fake_flow *next;
};

struct fake_plane {
    struct plane plane; /* first */
    struct plane_ops ops;
    /* NULL: nothing happens inside the call. */
    void (*in_open)(struct relay *relay);
    void (*in_close)(struct relay *relay);
    void (*in_attach)(struct relay *relay);
    const char *refusal;
    struct n2_counters counters; /* of every relay */
    unsigned opens, closes;
    unsigned peers_lost; /* calls of peer_lost */
    unsigned lost_index; /* of the last one */
    unsigned attaches;   /* each descriptor is closed */
    uint8_t early[N2_EARLY_DATA_MAX];
    size_t early_length; /* of the last one */
    bool last_abort;
    struct fake_flow *flows; /* of relays that are not closed */
    unsigned flow_count;
};

struct fake_peer {
    struct relay_peer peer;                    /* first */
    struct n2_message messages[FAKE_MESSAGES]; /* the first ones */
    size_t message_count;
    bool dead; /* nothing may be sent any more */
    /* By association: answers to its order, RelayOpened among them, RelayClosed. */
    uint8_t answers[FAKE_ASSOCIATIONS], opened[FAKE_ASSOCIATIONS], closed[FAKE_ASSOCIATIONS];
    uint64_t relays[FAKE_ASSOCIATIONS]; /* id by association */
    unsigned events;
    unsigned connected; /* RelayConnected */
};

struct fake {
    uv_loop_t loop;
    uv_timer_t tick; /* so that a turn of the loop always ends */
    struct relayd_metrics metrics;
    struct deny_floor floor;
    struct planes planes;
    struct fake_plane plane;
    struct relay_context context;
};

void fake_plane_init(struct fake_plane *plane);

/* A context with one fake plane and room for `max` relays. */
void fake_setup(struct fake *fake, uint32_t max);
/* Closes what is left and judges that nothing is: relays, labels, handles, gauges. */
void fake_teardown(struct fake *fake);

void fake_peer_init(struct fake *fake, struct fake_peer *peer);
const struct n2_message *fake_peer_last(const struct fake_peer *peer);

/* A valid order: 198.51.100.7:4000 to 203.0.113.5:80 over TCP. */
struct n2_open_relay fake_order(uint64_t association);
/* Gives the order; the transaction is 1000 + association. Returns the relay, or NULL when none is
 * left when the call returns. */
struct relay *fake_open(struct fake *fake, struct fake_peer *peer,
                        const struct n2_open_relay *order);

/* For in_open and in_close, or to be called by the test. */
void fake_opened(struct relay *relay); /* sets BND 192.0.2.1:20000 and egress 192.0.2.2:30000 */
void fake_failed(struct relay *relay); /* REFUSED, "refused by the target" */
void fake_opened_and_ended(struct relay *relay);
void fake_plane_closed(struct relay *relay);

struct endpoint fake_endpoint(const char *text);

#endif
