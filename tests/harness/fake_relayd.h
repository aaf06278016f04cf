/*
 * A relay daemon that relays nothing: an N2 server on n2_link which does what the test says and
 * records what it is told. It lives on the test's own loop.
 */
#ifndef SOCKST_TESTS_HARNESS_FAKE_RELAYD_H
#define SOCKST_TESTS_HARNESS_FAKE_RELAYD_H

#include <stdbool.h>
#include <uv.h>

#include "common/ipc/n2_link.h"

#define FAKE_RELAYD_LINKS_MAX 8
#define FAKE_RELAYD_HELD_MAX 4096
#define FAKE_RELAYD_ATTACHED_MAX 64

enum fake_answer {
    FAKE_OPENS, /* every order is answered with RelayOpened */
    FAKE_FAILS, /* … with RelayFailed, `error` */
    FAKE_HOLDS, /* … by the test: fake_relayd_answer_held() */
};

struct fake_held {
    struct n2_link *link;
    uint64_t transaction, association;
    struct endpoint destination; /* IP_NONE, or the candidate that is reached */
};

/* A client's connection that was handed over. */
struct fake_attached {
    uint64_t relay;
    int fd; /* closed by fake_relayd_stop(), unless the test has taken it and left -1 */
    uint16_t early_length;
    uint8_t early[N2_EARLY_DATA_MAX];
};

struct fake_relayd {
    uv_loop_t *loop;
    const char *path; /* borrowed */
    uint8_t ptcl;     /* in HelloAck */
    const char *instance;
    enum fake_answer answer;
    enum n2_error error;
    bool keeps_closed; /* CloseRelay is not answered with RelayClosed */
    struct endpoint bound;
    struct n2_counters counters; /* in each RelayClosed */
    uint64_t next_relay;         /* number of the next relay */
    unsigned winner;             /* CONNECT: the candidate that is reached */

    /* What it saw. */
    unsigned accepted, orders, closes, cancels;
    uint64_t last_cancelled;
    unsigned verdicts, unanswered; /* to what it asked: Authorized, and nothing any more */
    struct n2_authorized last_verdict;
    struct fake_attached attached[FAKE_RELAYD_ATTACHED_MAX];
    size_t attached_count;
    struct n2_open_relay last_order;
    struct n2_close_relay last_close;

    /* Its own. */
    int fd;
    uv_poll_t poll;
    struct n2_link *links[FAKE_RELAYD_LINKS_MAX];
    struct fake_held held[FAKE_RELAYD_HELD_MAX];
    size_t held_count;
    bool listening;
};

/* Fills the defaults: opens every order, BND 127.0.0.1:20000. */
void fake_relayd_init(struct fake_relayd *fake, uv_loop_t *loop, const char *path, uint8_t ptcl);
/* Listens; may be called again after fake_relayd_stop(). */
void fake_relayd_start(struct fake_relayd *fake);
/* Answers the oldest held order as `answer` says. */
void fake_relayd_answer_held(struct fake_relayd *fake);
/* Sends RelayClosed, RelayEvent, or anything on the first link. */
void fake_relayd_send_closed(struct fake_relayd *fake, uint64_t relay, enum n2_reason reason);
void fake_relayd_send(struct fake_relayd *fake, const struct n2_message *message);
/* BIND: the peer has come. */
void fake_relayd_send_connected(struct fake_relayd *fake, uint64_t relay, const char *peer);
/* UDP ASSOCIATE: asks for "address:port" or "name:port" on the first link. */
void fake_relayd_ask(struct fake_relayd *fake, uint64_t relay, const char *destination);
/* Closes every connection, as its death would. */
void fake_relayd_drop_links(struct fake_relayd *fake);
/* … and the listener, and removes the socket. */
void fake_relayd_stop(struct fake_relayd *fake);
size_t fake_relayd_connected(const struct fake_relayd *fake); /* links that are up */

#endif
