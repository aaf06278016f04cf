/*
 * Requests with the answer that they must get.
 */
#ifndef SOCKST_TESTS_UNIT_SOCKSD_REQUESTS_H
#define SOCKST_TESTS_UNIT_SOCKSD_REQUESTS_H

#include "tests/unit/socksd/session_fixture.h"

enum { CLOSES = -1 }; /* the connection, without a reply */

/* Method list and request in one segment, as a client may send them. */
void ask_at_once(struct fixture *f, const uint8_t *request, size_t length, int reply);
/* An octet at a time. */
void ask_by_octets(struct fixture *f, const uint8_t *request, size_t length, int reply);
void ask_both_ways(struct fixture *f, const uint8_t *request, size_t length, int reply);
/* A TRANSPARENT request, both ways. */
void ask(struct fixture *f, uint8_t ptcl, const char *destination, const char *source, int reply);

#define BYTES(...) (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})
#define V4_TARGET 1, 192, 0, 2, 80, 0, 80
#define V4_SOURCE 1, 0, 0, 0, 0, 0x9c, 0x40

#endif
