/*
 * A TCP relay with the client and the target at its two ends, and octets that are pushed through
 * it.
 */
#ifndef SOCKST_TESTS_TCP_CONNECTION_H
#define SOCKST_TESTS_TCP_CONNECTION_H

#include "tests/unit/relayd/plane_fixture.h"

struct tcp_connection {
    struct plane_fixture *fixture;
    struct fake_relay relay;
    int listener, client, target; /* -1: closed */
};

/* The target listens, the client has its port, the relay is ordered but not opened. */
void tcp_connection_prepare(struct tcp_connection *c, struct plane_fixture *fixture, bool client_v6,
                            bool target_v6);
/* Opens the relay and takes the target's end. */
void tcp_connection_open(struct tcp_connection *c);
/* The client comes to BND; waits until the relay has noticed. */
void tcp_connection_arrive(struct tcp_connection *c);
/* All of that. Both ends are non-blocking. */
void tcp_connection_establish(struct tcp_connection *c, struct plane_fixture *fixture);
/* Closes what is open and waits until the relay is gone. */
void tcp_connection_dispose(struct tcp_connection *c);
/* Closes one end with RST. */
void reset_end(int *fd);

/* Octets on their way from one end to the other. */
struct transfer {
    int from, to;
    const uint8_t *data; /* borrowed */
    size_t size, sent, received;
    size_t read_at_most; /* octets a step; 0: any */
    bool fin_sent, fin_received;
    bool keep_open; /* no FIN after the last octet */
};

/* Random octets; free(). */
uint8_t *random_octets(size_t size);
/* Writes and reads what goes at once, compares, passes FIN on. Fails the test where an octet
 * differs, or a FIN is too early. */
void transfer_step(struct transfer *t);
bool transfer_is_complete(const struct transfer *t);
/* Turns of the loop in the time; about one a tick, unless somebody spins. */
unsigned turns_within(struct plane_fixture *fixture, uint64_t ms);

/* recv() that waits: the octets, 0 for FIN, -errno. */
ssize_t receive_wait(struct plane_fixture *fixture, int fd, void *buffer, size_t size);

#endif
