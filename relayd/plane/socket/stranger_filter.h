/*
 * What keeps strangers from a BND: the kernel drops their packets before anything answers. Nothing
 * here needs a privilege.
 *
 * UDP has a filter (classic BPF) on each socket. For TCP sockets newer kernels keep filters for
 * CAP_NET_ADMIN ("tcp: restrict SO_ATTACH_FILTER to priv users", 2026, also in stable branches).
 * There BND is a group of two listeners (SO_REUSEPORT). A program sorts the packets: those of S go
 * to the one, all others to the trap. The trap wants every segment signed (RFC 2385) with a key
 * that nobody knows, so the kernel drops whatever comes, SYN or not, without an answer.
 *
 * Whatever is dropped is counted by the socket that it was meant for. On a socket that takes no
 * data (a trap, the sink of a datagram flow) that counter is the number of strangers' packets; on a
 * socket with data it also counts what did not fit into the buffer.
 */
#ifndef SOCKST_RELAYD_STRANGER_FILTER_H
#define SOCKST_RELAYD_STRANGER_FILTER_H

#include "proto/endpoint.h"

/* From now on the UDP socket takes packets from `source` alone; port 0: from any port of the
 * address. Replaces a filter that is there, without a gap. Returns 0 or -errno (-ENOMEM: the
 * socket's option memory is used up; -EAFNOSUPPORT: IP_NONE). */
int stranger_filter_accept(int fd, const struct endpoint *source);
/* From now on the UDP socket takes no packet at all. Returns 0 or -errno. */
int stranger_filter_drop_all(int fd);
/* For the first of a group of two TCP listeners, before it is bound: packets of `source` go to the
 * second, all others to the first. Port 0: any port of the address. IPv6 packets with extension
 * headers count as those of others unless the port is 0. Returns 0 or -errno. */
int stranger_filter_sort(int fd, const struct endpoint *source);
/* The TCP socket, `address` tells the family, drops every segment that comes. Where the kernel has
 * no RFC 2385 a filter does it, which needs an older kernel or CAP_NET_ADMIN. Returns 0 or -errno.
 */
int stranger_filter_trap(int fd, const struct ip_address *address);
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
