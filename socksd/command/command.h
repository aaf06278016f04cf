/*
 * Commands: rows of a table. A command without a row is answered with X'07', and so is one whose
 * PTCL no relay daemon is configured for.
 */
#ifndef SOCKST_SOCKSD_COMMAND_COMMAND_H
#define SOCKST_SOCKSD_COMMAND_COMMAND_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/n1.h"
#include "proto/n2.h"

struct session;

/* Whose the control connection is once the relay is open. */
enum command_life {
    COMMAND_HOLDS_N1,    /* socksd's: it holds the relay, and its end ends it */
    COMMAND_HANDS_OVER,  /* relayd's, after the reply: it is one end of the data path */
    COMMAND_AWAITS_PEER, /* the same, after a second reply, when a peer has come */
};

struct command {
    uint8_t number; /* enum n1_command */
    uint8_t ptcl;   /* the one that it is about; 0: the request names it */
    enum command_life life;
    bool interleaves; /* of several addresses: RFC 8305's order; else S's family first */
    bool any_peer;    /* 0.0.0.0 and :: stand for every peer, port 0 for every port */
    const char *name;
    /*
     * Judges the request of a session in state JUDGING, in the order of N1.md. Ends, now or later,
     * in session_refuse() or in session_order(). The session may be DEAD when it returns.
     */
    void (*start)(struct session *session);
    /* By destination_judge(): these may be used (at least one, at most N2_CANDIDATES_MAX; borrowed
     * for the call). NULL where it is not called. */
    void (*allowed)(struct session *session, const struct ip_address *addresses, size_t count);
    /* Fills the order for relayd. */
    void (*describe)(const struct session *session, struct n2_open_relay *out);
};

extern const struct command command_connect;
extern const struct command command_bind;
extern const struct command command_udp_associate;
extern const struct command command_transparent;

/* NULL when there is no row. */
const struct command *command_by_number(uint8_t number);

/* The reply code for what dialling, or relayd, said. */
uint8_t command_reply_of(enum n2_error error);

/* … and for the end of a relay whose peer is awaited (BIND's second reply). */
uint8_t command_reply_of_end(enum n2_reason reason);

#endif
