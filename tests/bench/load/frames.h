/*
 * UDP datagrams as whole Ethernet frames, past the sender's own IP stack: one flow, or those of a
 * million relays in random order.
 */
#ifndef SOCKST_TESTS_BENCH_FRAMES_H
#define SOCKST_TESTS_BENCH_FRAMES_H

#include "tests/bench/load/load.h"

struct frames;

/* From options->from to options->to[0], or those of options->flows; to the device options->hop. */
struct frames *frames_new(const struct load_options *options);
/* Sends a batch of the next flows; returns how many the device took. */
unsigned frames_send(struct frames *frames);

#endif
