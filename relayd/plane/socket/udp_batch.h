/*
 * Datagrams as they are received: many at a time, and those of a flow that the kernel joined since
 * they are of equal size (UDP_GRO) as one message.
 *
 * There is one receive area for the whole process: what a receive brought is of use until the next
 * one.
 */
#ifndef SOCKST_RELAYD_UDP_BATCH_H
#define SOCKST_RELAYD_UDP_BATCH_H

#include <stdint.h>
#include <sys/socket.h>

#define UDP_BATCH_MESSAGES 32 /* in one receive */

/* One or more datagrams of one source. */
struct udp_message {
    char *octets; /* of the receive area */
    uint32_t length;
    uint32_t
        size; /* of each datagram, but the last one may be smaller; 0 with an empty one alone */
    const struct sockaddr_storage *source; /* unused octets are 0; NULL: not asked for */
};

/* To be called for each socket that datagrams are received from. UDP_GRO is missing before
 * Linux 5.0: that is no error. */
void udp_batch_prepare(int fd);

/* Receives at most UDP_BATCH_MESSAGES messages without waiting. Returns their number, or -errno:
 * -EAGAIN, or a pending error of the socket. */
int udp_batch_receive(int fd);
/* The same, with their sources. */
int udp_batch_receive_from(int fd);
/* Receives one datagram with its source, from a socket without UDP_GRO. Returns 1 or -errno. */
int udp_batch_receive_one(int fd);

/* What the last receive brought; NULL from the end on. */
const struct udp_message *udp_batch_message(unsigned index);

#endif
