/*
 * What the tests with hostile peers share: the lab with two echo servers, noise by a fixed seed
 * (what fails once fails again), and the proof that honest users are still served.
 */
#ifndef SOCKST_TESTS_INTEGRATION_HOSTILE_H
#define SOCKST_TESTS_INTEGRATION_HOSTILE_H

#include "proto/n2.h"
#include "tests/harness/daemons.h"
#include "tests/harness/n1_client.h"
#include "tests/harness/process.h"
#include "tests/harness/traffic.h"

extern struct lab *lab;
extern struct daemons daemons;
extern struct server *tcp, *udp;
extern struct pattern randomness;

/* A checked fixture: the lab and the servers; no daemon runs yet. */
void hostile_setup(void);
void hostile_teardown(void);

/* A number below `bound`. */
size_t below(size_t bound);
/* Changes up to three octets, and perhaps cuts off the end; returns the length. */
size_t mutate(uint8_t *data, size_t length);

void check_echo(const struct association *association);
/* One association of each kind works. */
void check_served(void);
/* Descriptors as before, and memory bounded. */
void check_unharmed(struct process *process, unsigned fds, uint64_t rss);

/* Frames that end a connection of N2, whoever sends them. */
struct bad_frame {
    const char *octets;
    size_t length;
};
#define BAD_FRAMES 6
extern const struct bad_frame bad_frames[BAD_FRAMES];

struct endpoint client(void);
/* A frame of this type; those of the wrong side too. Returns 0 for what cannot be encoded. */
size_t frame_of(enum n2_type type, uint8_t *out, size_t size);

#endif
