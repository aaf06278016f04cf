/*
 * BND of a TCP relay: a listener for one connection that S alone can reach, and beside it a trap
 * (stranger_filter.h) for everybody else. The listener goes when S has come; the trap stays as long
 * as the relay: without it the kernel would answer strangers with RST.
 */
#ifndef SOCKST_RELAYD_TCP_LISTENER_H
#define SOCKST_RELAYD_TCP_LISTENER_H

#include "relayd/plane/socket/sockets.h"

/* A bound_socket_fn (sockets.h): holds the port and does not listen yet. bind() without
 * SO_REUSEPORT arbitrates: another relayd cannot get into the group by chance. */
int tcp_listener_make(struct socket_plane *plane, const struct relay *relay,
                      const struct endpoint *bound);

/* Makes the trap, and lets first it and then the listener listen. Returns the trap's descriptor, or
 * -errno. */
int tcp_listener_open(struct socket_plane *plane, const struct relay *relay, int listener,
                      const struct endpoint *bound);

/*
 * Takes the connection of S off the listener, which is of no more use then: the caller closes it.
 * Fills *peer. Returns the connection's descriptor or -errno, and the listener goes on waiting for
 * S: -EAGAIN (nobody is there), -EMFILE and the like (it remains in the queue).
 */
int tcp_listener_accept(struct socket_plane *plane, const struct relay *relay, int listener,
                        struct endpoint *peer);

#endif
