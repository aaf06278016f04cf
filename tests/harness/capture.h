/*
 * What really goes over a wire: every packet of one interface of a place, from capture_start() on.
 * The kernel keeps them in a large buffer; they are taken over whenever the capture is looked at.
 * A capture that lost a packet fails the test.
 */
#ifndef SOCKST_TESTS_HARNESS_CAPTURE_H
#define SOCKST_TESTS_HARNESS_CAPTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/harness/lab.h"

struct capture;

#define CAPTURE_FIN 0x01
#define CAPTURE_SYN 0x02
#define CAPTURE_RST 0x04
#define CAPTURE_ACK 0x10

struct packet {
    bool outgoing;    /* sent by the place, not received */
    uint8_t protocol; /* IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP(V6), …; 0: not IP */
    struct endpoint source, destination; /* port 0 where there is none */
    uint8_t tcp_flags;                   /* CAPTURE_FIN … */
    uint32_t tcp_sequence;
    const uint8_t *payload; /* of TCP and UDP; otherwise what follows the IP header */
    size_t length;          /* of the payload */
    const uint8_t *data;    /* from the IP header */
    size_t data_length;
};

/* Zero members match everything: family IP_NONE any address, port 0 any port. */
struct packet_match {
    uint8_t protocol;
    struct endpoint source, destination;
    uint8_t tcp_flags; /* all of these set */
    bool only_outgoing, only_incoming, only_with_payload;
};

/* Belongs to the lab. interface: LAB_TO_RELAY, … */
struct capture *capture_start(struct lab *lab, enum lab_place place, const char *interface);
void capture_free(struct capture *capture);

size_t capture_count(struct capture *capture, const struct packet_match *match);
typedef bool (*packet_cb)(const struct packet *packet, void *user);
/* Packets for which the predicate is true. */
size_t capture_count_if(struct capture *capture, packet_cb predicate, void *user);
/* Copies the n-th match (from 0); its pointers live as long as the capture. False: there is none.
 */
bool capture_get(struct capture *capture, const struct packet_match *match, size_t n,
                 struct packet *out);
/* Do these octets occur in a packet that matches? */
bool capture_contains(struct capture *capture, const struct packet_match *match, const void *bytes,
                      size_t length);
/* The octets of one TCP stream in their order: what the packets that match carried behind the first
 * SYN among them. Returns their number; fails the test when that is above `size` or one is missing.
 */
size_t capture_stream(struct capture *capture, const struct packet_match *match, uint8_t *out,
                      size_t size);
/* Payload octets of the packets that match (retransmissions count again). */
size_t capture_payload(struct capture *capture, const struct packet_match *match);

#endif
