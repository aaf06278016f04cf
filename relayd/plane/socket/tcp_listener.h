/*
 * BND of a TCP relay: a listener that S alone can reach, for one connection. Afterwards it stays
 * and drops everything: without it the kernel would answer strangers with RST.
 */
#ifndef SOCKST_RELAYD_TCP_LISTENER_H
#define SOCKST_RELAYD_TCP_LISTENER_H

#include "relayd/plane/socket/sockets.h"

/* A bound_socket_fn (sockets.h). */
int tcp_listener_make(struct socket_plane *plane, const struct relay *relay,
                      const struct endpoint *bound);

/*
 * Takes the connection of S off the listener, which takes no further one from then on. Fills *peer.
 * Returns its descriptor, without a filter, or -errno, and the listener goes on waiting for S:
 * -EAGAIN (nobody is there), -EMFILE and the like (it remains in the queue).
 */
int tcp_listener_accept(struct socket_plane *plane, const struct relay *relay, int listener,
                        struct endpoint *peer);

#endif
