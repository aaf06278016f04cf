/*
 * A UDP ASSOCIATE relay on the plane, with its client and a socksd that answers what it is asked as
 * the test says: by itself, or when the test does.
 */
#ifndef SOCKST_TESTS_ASSOCIATION_H
#define SOCKST_TESTS_ASSOCIATION_H

#include "proto/n1.h"
#include "relayd/relay/control.h"
#include "tests/unit/relayd/datagrams.h"

#define QUESTIONS_KEPT 4096

struct association_question {
    struct relay_question *question; /* NULL: answered or cancelled */
    struct n2_authorize what;
};

struct association {
    struct fake_relay relay; /* first */
    struct plane_fixture *fixture;
    struct relay_context context;
    struct relayd_metrics metrics;
    struct relay_peer peer;
    int client;
    struct endpoint client_name;
    /* How questions are answered by themselves, soon after. */
    bool automatic;
    struct n2_authorized verdict;
    int ask_result; /* what asking returns; 0: it is taken */
    struct association_question questions[QUESTIONS_KEPT];
    unsigned asked, in_flight, in_flight_most, cancelled;
    uv_check_t check;
};

/* A client of the family, allowed to reach everything for a minute; names lead to the target.
 * Change what differs, then open. */
void association_init(struct association *association, struct plane_fixture *fixture, bool v6);
/* Also connects the client's socket to BND. */
void association_open(struct association *association);
/* Closes the client and the relay; nothing may be left of it. */
void association_dispose(struct association *association);

/* Answers the nth question, from 0 on; NULL: none will come. */
void association_answer(struct association *association, unsigned nth,
                        const struct n2_authorized *answer);
/* Waits until so many questions have been asked. */
void association_asked(struct association *association, unsigned count);

/* Sends part of the payload with a header in front. */
void association_send(const struct association *association, const struct n1_host *to, size_t at,
                      size_t length);
void association_send_fragment(const struct association *association, uint8_t fragment,
                               const struct n1_host *to, size_t at, size_t length);
/* Exactly this comes next at the client. */
void association_expect(struct association *association, const struct endpoint *from, size_t at,
                        size_t length);

/* Figures of all associations. */
struct associate_figures *association_figures(struct association *association);

struct n1_host host_of(const struct endpoint *endpoint);
struct n1_host host_named(const char *name, uint16_t port);

/* A target's socket, not blocking, with a large buffer. */
int target_open(enum party party, bool v6);
/* Receives the payload's part from an egress socket, which `from` then is. */
void target_expect(struct plane_fixture *fixture, int fd, size_t at, size_t length,
                   struct endpoint *from);
void target_send(int fd, const struct endpoint *to, size_t at, size_t length);

#endif
