/*
 * UDP datagrams that the program leaves alone: fragments, which the kernel reassembles first, and
 * those with IP options or extension headers. They arrive at the socket that holds the port (its
 * filter takes only what the program has marked) and leave from the socket that holds the other
 * end's port, fragmented by the kernel where they have to be.
 */
#ifndef SOCKST_RELAYD_BPF_SLOW_PATH_H
#define SOCKST_RELAYD_BPF_SLOW_PATH_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/endpoint.h"

/* Where a datagram goes. */
struct slow_path_way {
    int fd;               /* the socket to send from: holds BND or egress */
    struct endpoint peer; /* DST, or S */
};

struct slow_path_ops {
    /*
     * The way on for `octets` of payload that `peer` sent to `local`; false: no relay has it (any
     * more), or its limits do not let them through, and the datagram is dropped.
     */
    bool (*find)(void *user, const struct endpoint *peer, const struct endpoint *local,
                 uint32_t octets, struct slow_path_way *out);
    /* It was sent (`error` 0) or not (-errno): counted for the relay that find() found. */
    void (*sent)(void *user, uint32_t octets, int error);
};

/* Octets of a datagram at most. */
#define SLOW_PATH_DATAGRAM_MAX 65535
/* Datagrams taken in one call: what remains is read in the next turn of the loop. */
#define SLOW_PATH_BATCH 32

/*
 * Makes `fd`, a UDP socket, take only packets with `mark` (others are dropped by the kernel without
 * an answer, counted by it) and ready for slow_path_read(). Before bind(). Returns 0 or -errno.
 */
int slow_path_prepare(int fd, uint32_t mark);

/* Reads from `fd`, which is bound to `local`, and sends on. Returns the number of datagrams read,
 * or -errno when the socket has failed. */
int slow_path_read(int fd, const struct endpoint *local, const struct slow_path_ops *ops,
                   void *user);

#endif
