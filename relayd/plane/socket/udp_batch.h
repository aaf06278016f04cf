/*
 * Datagrams from one socket to another, many at a time. The kernel joins equal-sized datagrams of a
 * flow when it receives (UDP_GRO) and splits them when it sends (UDP_SEGMENT); between the two,
 * runs of equal size are joined further. Each datagram keeps its borders, the empty one included.
 *
 * There is one receive area for the whole process: what a receive brought is sent before the next
 * one.
 */
#ifndef SOCKST_RELAYD_UDP_BATCH_H
#define SOCKST_RELAYD_UDP_BATCH_H

#include <sys/socket.h>

#include "relayd/plane/socket/socket_plane.h"

#define UDP_PAYLOAD_MAX 65507 /* of a datagram over IPv4 */
#define UDP_BATCH_MESSAGES 32 /* in one receive */
#define UDP_SEGMENTS_MAX                                                                           \
    64 /* datagrams in one UDP_SEGMENT send: UDP_MAX_SEGMENTS of the kernel                        \
        */

/* One direction of a flow. Zeroed: nothing happened yet. */
struct udp_direction {
    uint64_t packets, bytes; /* datagrams sent on, and their payload */
    uint64_t send_drops;     /* datagrams that the kernel did not take */
    uint32_t gso_refused; /* datagrams of this size or more are sent one by one, since they exceed
                             the path's MTU; 0: not yet known */
};

/* To be called for each socket that datagrams are received from. UDP_GRO is missing before
 * Linux 5.0: that is no error. */
void udp_batch_prepare(int fd);

/* Receives at most UDP_BATCH_MESSAGES messages without waiting. Returns their number, or -errno:
 * -EAGAIN, or a pending error of the socket. */
int udp_batch_receive(int fd);
/* Receives one datagram with its source, from a socket without UDP_GRO. Returns 1 or -errno. */
int udp_batch_receive_one(int fd, struct sockaddr_storage *from);

struct udp_batch_result {
    int error; /* of the path that the socket reported meanwhile (-ECONNREFUSED, -EHOSTUNREACH, …),
                  or 0; the datagrams went on */
    bool over_limit; /* max_bytes kept some from being sent */
};

/* Sends what the last receive brought, at most max_bytes of it. What the kernel does not take is
 * dropped and counted. */
void udp_batch_send(struct socket_plane *plane, int fd, struct udp_direction *direction,
                    uint64_t max_bytes, struct udp_batch_result *result);

#endif
