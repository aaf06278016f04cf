/*
 * Socket filters (classic BPF) that keep strangers from a BND: the kernel drops their packets
 * before anything answers. They need no privilege.
 *
 * Whatever a filter drops is counted by the socket it sits on. On a socket that takes no data (a
 * listener, the sink of a datagram flow) that counter is the number of strangers' packets; on a
 * socket with data it also counts what did not fit into the buffer.
 */
#ifndef SOCKST_RELAYD_STRANGER_FILTER_H
#define SOCKST_RELAYD_STRANGER_FILTER_H

#include "proto/endpoint.h"

/* From now on the TCP or UDP socket takes packets from `source` alone; port 0: from any port of the
 * address. Replaces a filter that is there, without a gap. Returns 0 or -errno (-ENOMEM: the
 * socket's option memory is used up; -EAFNOSUPPORT: IP_NONE). */
int stranger_filter_accept(int fd, const struct endpoint *source);
/* From now on the socket takes no packet at all. Returns 0 or -errno. */
int stranger_filter_drop_all(int fd);
/* Takes the filter away, inherited ones too. None there: 0. Returns 0 or -errno. */
int stranger_filter_detach(int fd);

/* How many packets the socket has dropped since it was made; the kernel's counter wraps at 2^32.
 * Returns 0 or -errno. */
int stranger_filter_read_drops(int fd, uint32_t *out);

/* The kernel's counter, unwrapped. */
struct drop_counter {
    uint64_t total;
    uint32_t last;
};
/* Reads the socket's counter (fd -1: keeps what there is). Returns the total so far. */
uint64_t drop_counter_update(struct drop_counter *counter, int fd);

#endif
