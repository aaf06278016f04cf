/*
 * A lab whose relay host has ways, without a relay: the test process follows the tables of that
 * namespace on a loop of its own.
 */
#ifndef SOCKST_TESTS_WAYS_LAB_H
#define SOCKST_TESTS_WAYS_LAB_H

#include "relayd/plane/bpf/ways.h"
#include "tests/harness/lab.h"
#include "tests/harness/wait.h"

struct ways_lab {
    struct lab *lab;
    uv_loop_t loop;
    uv_timer_t keeper; /* the ways alone do not keep the loop alive */
    struct ways *ways;
    struct bpf_hop *hops;
    uint32_t detached;       /* the interface to which "the program is not attached"; 0: none */
    unsigned changes;        /* calls of `changed` */
    int64_t longest_turn_us; /* of processor time: others may be busy */
};

void ways_lab_open(struct ways_lab *w);
/* No way may be referenced any more; nothing may be left in the loop. */
void ways_lab_close(struct ways_lab *w);

/* One turn of the loop, which waits for nothing. */
void ways_lab_turn(struct ways_lab *w);
void ways_lab_turns(struct ways_lab *w); /* some */
#define WAYS_UNTIL(w, condition) WAIT_UNTIL((ways_lab_turns(w), condition), PATIENCE_MS)
/* Nothing happens for a while: what was set in motion has come to its end. */
void ways_lab_settle(struct ways_lab *w);

/* The way; `local` NULL: the kernel's choice. */
struct way *way_to(struct ways_lab *w, const char *peer, const char *local);
const struct bpf_hop *hop_of(const struct ways_lab *w, const struct way *way);

/* Does the way leave through the interface of that name, to that next hop? */
bool leads(struct ways_lab *w, const struct way *way, const char *interface, const char *gateway);
/* Is the hop DIRECT, with that destination and the interface's own address as source? */
bool is_direct(struct ways_lab *w, const struct way *way, const char *mac);

/* Facts about interfaces of a place; 0 and "" where there is none. */
uint32_t index_of(const struct ways_lab *w, enum lab_place place, const char *interface);
const char *mac_of(const struct ways_lab *w, enum lab_place place, const char *interface);

/* Makes the relay host look for its neighbour. */
void disturb(struct ways_lab *w, const char *address);

/* A counter of ways_status(). */
uint64_t figure(const struct ways_lab *w, const char *name);

/* False, and a note on stdout: this kernel refuses the command. */
__attribute__((format(printf, 2, 3))) bool can(struct ways_lab *w, const char *command, ...);

#endif
