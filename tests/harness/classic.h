/*
 * A client of CONNECT, BIND and UDP ASSOCIATE that does what a test says, on top of n1_client.h.
 */
#ifndef SOCKST_TESTS_HARNESS_CLASSIC_H
#define SOCKST_TESTS_HARNESS_CLASSIC_H

#include "tests/harness/n1_client.h"

/* Octets of the header in front of a datagram to or from an IPv4 address, an IPv6 address. */
#define CLASSIC_HEADER_V4 10
#define CLASSIC_HEADER_V6 22

/* The octets of a request (without the method list); returns their number. */
size_t classic_bytes(uint8_t command, struct endpoint destination, uint8_t out[N1_REQUEST_MAX]);
size_t classic_name_bytes(uint8_t command, const char *name, uint16_t port,
                          uint8_t out[N1_REQUEST_MAX]);

/* One request from the client's place to socksd at LAB_RELAY_V4, or at LAB_RELAY_V6 when
 * `server_v6`. */
struct classic_spec {
    uint8_t command;
    struct endpoint destination;
    const char *name; /* instead of the destination's address */
    bool server_v6;
};
/* The code as n1_read_reply(). On success *fd is the connection, the caller's; otherwise -1. *bound
 * may be NULL. */
int classic_try(struct lab *lab, const struct classic_spec *spec, int *fd, struct endpoint *bound);
/* CONNECT; must succeed. */
int classic_connect(struct lab *lab, struct endpoint destination);

/* One UDP association with a data socket on an address of the client, connected to BND. */
struct classic_udp {
    int control, data;
    struct endpoint source, bound;
};
/* `hint` is DST of the request. Must succeed. */
struct classic_udp classic_associate(struct lab *lab, struct endpoint hint);
void classic_udp_close(struct classic_udp *udp);

/* A whole datagram: header and payload. Returns its octets; fails the test above `size`. */
size_t classic_wrap(const struct n1_udp_header *header, const void *payload, size_t length,
                    uint8_t *out, size_t size);
/* One datagram to an address. */
void classic_send(const struct classic_udp *udp, struct endpoint to, const void *payload,
                  size_t length);
/* The next datagram's payload and sender: octets, or -ETIMEDOUT. Fails the test when the header is
 * malformed or has a fragment. */
ssize_t classic_receive(const struct classic_udp *udp, void *out, size_t size, int timeout_ms,
                        struct endpoint *from);
/* Sends and waits for exactly this to come back from there. */
void classic_check_echo(const struct classic_udp *udp, struct endpoint to, const void *payload,
                        size_t length);

#endif
