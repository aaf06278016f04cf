/*
 * Frames of a test's own on the link of a place: nobody's IP stack has made or seen them.
 */
#ifndef SOCKST_TESTS_HARNESS_WIRE_H
#define SOCKST_TESTS_HARNESS_WIRE_H

#include "tests/harness/craft.h"
#include "tests/harness/lab.h"
#include "tests/harness/links.h"

/* One end of a link; a value. */
struct wire {
    struct lab *lab;
    int fd;
    uint8_t source[LINK_MAC], destination[LINK_MAC]; /* may be changed */
    uint16_t vlan;                                   /* tag; 0: none. May be changed */
};

/* Sends from the interface of the place to that of its neighbour. Close with wire_close(). */
struct wire wire_open(struct lab *lab, enum lab_place place, const char *interface,
                      enum lab_place neighbour, const char *neighbours_interface);
/* The link of client, target or stranger to the relay host. */
struct wire wire_to_relay(struct lab *lab, enum lab_place place);
void wire_close(struct wire *wire);

/* `packet`: from the IP header on. */
void wire_send(const struct wire *wire, const uint8_t *packet, size_t length);
/* With octets behind the packet, as Ethernet's padding. */
void wire_send_padded(const struct wire *wire, const uint8_t *packet, size_t length,
                      size_t padding);
/* Built by craft_build(). */
void wire_send_craft(const struct wire *wire, const struct craft *craft);
/* Built and cut into fragments that fit `mtu`. */
void wire_send_fragments(const struct wire *wire, const struct craft *craft, size_t mtu,
                         uint32_t id);

#endif
