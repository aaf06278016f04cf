/*
 * Senders of UDP datagrams, as fast as one processor can. Two plans:
 *
 *   gso     a socket, one flow, 64 datagrams in a call (UDP_SEGMENT). Where the device's own
 *           segmentation is off, the sending processor makes single packets of them, about two
 *           million a second; the relay host has to take them one by one.
 *   frames  raw frames, of one flow or of all relays of a file, in random order, one after the
 *           other. About half as fast, and the kernel of the sender does not know the flows.
 */
#ifndef SOCKST_TESTS_BENCH_SENDER_H
#define SOCKST_TESTS_BENCH_SENDER_H

#include "tests/bench/load/load.h"

/* Starts it on processor 0; the number of datagrams it has sent is *sent (shared memory). The first
 * four octets of each payload are zero. */
pid_t sender_start(const struct load_options *options, volatile uint64_t *sent);

#endif
