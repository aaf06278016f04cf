/*
 * Dials the destinations of a TCP relay in their order (RFC 8305, section 5): the next one starts
 * when one fails, or 250 ms after the one before, while earlier ones go on. The first that connects
 * is the relay's; the others are closed in the same moment.
 */
#ifndef SOCKST_RELAYD_TCP_DIAL_H
#define SOCKST_RELAYD_TCP_DIAL_H

#include "relayd/plane/socket/socket_plane.h"

#define TCP_DIAL_ATTEMPT_DELAY_MS 250 /* RFC 8305, section 8: recommended */

struct tcp_dial;

struct tcp_dial_result {
    int fd;                      /* connected, now the callee's; -1: none could be reached */
    struct endpoint destination; /* the one that was */
    enum n2_error error;         /* otherwise: of the attempt that says most (N2-CONNECT-030) */
    const char *text;            /* which attempt that was, and why; borrowed */
};

typedef void tcp_dial_cb(void *owner, const struct tcp_dial_result *result);

/*
 * Dials until one connects, all have failed, or tcp.connect-timeout has passed. Then `done` is
 * called, once, perhaps inside; *out, which is set before that, is invalid from then on.
 * `candidates` are copied. Returns 0, or -ENOMEM and `done` is not called.
 */
int tcp_dial_start(struct tcp_dial **out, struct socket_plane *plane, const struct relay *relay,
                   const struct endpoint *candidates, size_t count, tcp_dial_cb *done, void *owner);

/* Closes every socket at once; `done` is not called. Memory goes with the last close callback. NULL
 * is allowed. */
void tcp_dial_cancel(struct tcp_dial *dial);

#endif
