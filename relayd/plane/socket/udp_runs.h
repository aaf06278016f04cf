/*
 * Datagrams as they are sent: those that follow each other to the same place and are of equal size
 * leave as one message, which the kernel splits (UDP_SEGMENT). Each datagram keeps its borders and
 * its turn, the empty one included; one that the kernel does not take is dropped and counted.
 *
 * There is one area for the whole process: begin, add, flush, within one callback.
 */
#ifndef SOCKST_RELAYD_UDP_RUNS_H
#define SOCKST_RELAYD_UDP_RUNS_H

#include <sys/socket.h>

#include "relayd/plane/socket/socket_plane.h"
#include "relayd/plane/socket/token_bucket.h"

#define UDP_PAYLOAD_MAX 65507 /* of a datagram over IPv4 */
/* Datagrams in one UDP_SEGMENT send: what every kernel takes. One may receive more at once. */
#define UDP_SEGMENTS_MAX 64

/* One direction of a flow. Zeroed: nothing happened yet. */
struct udp_direction {
    uint64_t packets, bytes;    /* datagrams sent on, and their payload */
    uint64_t send_drops;        /* datagrams that the kernel did not take */
    struct token_bucket bucket; /* what it does not let through is dropped */
    uint32_t gso_refused; /* datagrams of this size or more are sent one by one, since they exceed
                             the path's MTU; 0: not yet known */
};

/* One or more datagrams. `head` and `octets` have to stay until the flush. */
struct udp_datagrams {
    const void *head; /* goes before each of them; NULL: nothing does */
    uint32_t head_length;
    const void *octets;
    uint32_t length;
    uint32_t size; /* of each, but the last one may be smaller; 0 with an empty one alone */
    const struct sockaddr *to; /* copied; NULL: the socket is connected */
    socklen_t to_length;       /* at most that of an IPv6 address */
};

struct udp_runs_result {
    int error; /* of the path, reported by the socket meanwhile (-ECONNREFUSED, -EHOSTUNREACH, …),
                  or 0 */
    bool over_limit; /* max_bytes kept some from being sent */
};

/* Nothing is pending any more. At most max_bytes of payload will leave, and no more than the
 * direction's bucket holds: datagrams that are above it are dropped and counted. */
void udp_runs_begin(struct socket_plane *plane, struct udp_direction *direction,
                    uint64_t max_bytes);
/* Returns false when max_bytes keeps them out, and all that come later. Sends what is pending when
 * another socket or a full area makes that necessary. */
bool udp_runs_add(int fd, const struct udp_datagrams *datagrams);
/* Sends what is pending. *result (may be NULL): since begin. */
void udp_runs_flush(struct udp_runs_result *result);

#endif
