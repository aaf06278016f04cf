/*
 * A relay of kind CONNECT or BIND: the client's connection to socksd, which is handed over, and the
 * target, which is dialled or comes. What is pushed through it is that of tcp_connection.h.
 */
#ifndef SOCKST_TESTS_CLASSIC_CONNECTION_H
#define SOCKST_TESTS_CLASSIC_CONNECTION_H

#include "tests/unit/relayd/tcp_connection.h"

struct classic_connection {
    struct tcp_connection c;
    int socksd; /* socksd's end of the client's connection; -1: handed over, or closed */
    struct endpoint candidates[N2_CANDIDATES_MAX];
};

/* The client has its connection, the target listens and is the one candidate; nothing is opened. */
void classic_prepare_connect(struct classic_connection *k, struct plane_fixture *fixture,
                             bool client_v6, bool target_v6);
/* Another one behind those that there are. */
void classic_add_candidate(struct classic_connection *k, const struct endpoint *candidate);
/* The same for BIND; nobody listens. `expected`: who may come. */
void classic_prepare_bind(struct classic_connection *k, struct plane_fixture *fixture,
                          const struct ip_address *expected);

/* CONNECT: opens the relay and takes the target's end. BIND: opens it. */
void classic_open(struct classic_connection *k);
/* BIND: a socket of the party connects to BND and becomes the target; waits until the relay has
 * noticed. */
void classic_come(struct classic_connection *k, enum party party);
/* Hands the client's connection over. */
void classic_attach(struct classic_connection *k, const void *early, size_t length);
/* Hands any descriptor over, which is consumed. */
void classic_attach_fd(struct classic_connection *k, int fd, const void *early, size_t length);
/* A CONNECT or a BIND of IPv4 from end to end. Both ends are non-blocking. */
void classic_establish(struct classic_connection *k, struct plane_fixture *fixture,
                       enum n2_kind kind, const void *early, size_t length);
void classic_dispose(struct classic_connection *k);

/* Waits for the end and judges its reason. */
void classic_expect_end(struct classic_connection *k, enum n2_reason reason);

/* An address that swallows everything: listens and drops every segment. */
int silent_listener(enum party party, bool v6);

/* Of the process, from now on. */
void limit_descriptors(unsigned count);

#endif
