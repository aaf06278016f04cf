/*
 * A SOCKS client that does what a test says, also what no client should: raw octets on the control
 * connection, and whole associations on top of them.
 */
#ifndef SOCKST_TESTS_HARNESS_N1_CLIENT_H
#define SOCKST_TESTS_HARNESS_N1_CLIENT_H

#include "proto/n1.h"
#include "tests/harness/lab.h"
#include "tests/harness/sockets.h"

/* Connects from any port of `place` to socksd; the descriptor is the caller's. */
int n1_connect(struct lab *lab, enum lab_place place, struct endpoint server);
/* As n1_connect(), and negotiates NO AUTHENTICATION. */
int n1_connect_ready(struct lab *lab, enum lab_place place, struct endpoint server);

/* The octets of a TRANSPARENT request (without the method list); returns their number. */
size_t n1_transparent_bytes(uint8_t ptcl, struct endpoint source, struct endpoint destination,
                            uint8_t out[N1_REQUEST_MAX]);
/* The same with DST as a domain name. */
size_t n1_transparent_name_bytes(uint8_t ptcl, struct endpoint source, const char *name,
                                 uint16_t port, uint8_t out[N1_REQUEST_MAX]);

/* Reads one reply and not an octet more. Returns its code with *bound (may be NULL), or -1 when the
 * connection ended without a reply. Fails the test after the time or when the reply is malformed.
 */
int n1_read_reply(int fd, int timeout_ms, struct endpoint *bound);

/* One request as it stands, without a data socket, on a connection of its own; the code as
 * n1_read_reply(). On success *control is the connection, the caller's; otherwise -1. */
struct n1_question {
    enum lab_place place;   /* LAB_CLIENT by default */
    struct endpoint server; /* by default LAB_RELAY_V4:1080 */
    uint8_t ptcl;
    struct endpoint source, destination;
};
int n1_ask(struct lab *lab, const struct n1_question *question, int *control,
           struct endpoint *bound);

/* One TRANSPARENT association and the client's data socket, bound to S. */
struct association {
    struct lab *lab;
    enum lab_place place;
    int control, data;
    uint8_t ptcl;
    struct endpoint source, bound, destination;
};

struct association_spec {
    enum lab_place place; /* LAB_CLIENT by default */
    uint8_t ptcl;         /* PTCL_TCP or PTCL_UDP */
    struct endpoint
        server; /* socksd; by default LAB_RELAY_V4:1080 or, for an IPv6 source, LAB_RELAY_V6:1080 */
    struct endpoint source; /* by default LAB_CLIENT_V4:0 (a free port) */
    struct endpoint destination;
    const char *name; /* instead of the destination's address */
};

/* Binds the data socket, asks, and gives the reply code; on anything but success (also -1: closed
 * without a reply) both descriptors are closed again and set to -1. */
int association_try(struct lab *lab, const struct association_spec *spec, struct association *out);
/* As association_try(); must succeed. For UDP the data socket is connected to BND; for TCP that is
 * association_connect()'s business. */
struct association association_open(struct lab *lab, const struct association_spec *spec);
/* Shorthand for IPv4 or, by the destination's family, IPv6 from the client, connected to BND. */
struct association association_tcp(struct lab *lab, struct endpoint destination);
struct association association_udp(struct lab *lab, struct endpoint destination);
/* TCP: connects the data socket to BND. */
void association_connect(struct association *association);
/* Closes what is open. */
void association_close(struct association *association);
/* "ping" there and back, by way of an echo server. */
void association_check_echo(const struct association *association);

#endif
