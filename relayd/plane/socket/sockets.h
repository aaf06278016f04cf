/*
 * Making the sockets of a flow: the ones on BND, which have to fight for a port without a stranger
 * ever hearing of them, and the one that dials. Everything here returns 0 (or a descriptor) or
 * -errno and leaves nothing open when it fails.
 */
#ifndef SOCKST_RELAYD_SOCKETS_H
#define SOCKST_RELAYD_SOCKETS_H

#include "relayd/plane/socket/socket_plane.h"

/* A non-blocking socket. Out of descriptors, idle pipes are closed for it. */
int sockets_new(struct socket_plane *plane, const struct ip_address *address, int type,
                int protocol);

/* Makes the first socket of BND and binds it, so that no stranger is answered. -EADDRINUSE and
 * -EACCES: try another. Returns the descriptor or -errno. */
typedef int bound_socket_fn(struct socket_plane *plane, const struct relay *relay,
                            const struct endpoint *bound);

/* Draws ports on bound->address until `make` succeeds. Sets bound->port, which is the caller's, to
 * be given back with sockets_return_bound(). Returns the descriptor or -errno (-EADDRNOTAVAIL: no
 * port to be had). */
int sockets_open_bound_on(struct socket_plane *plane, const struct relay *relay,
                          bound_socket_fn *make, struct endpoint *bound);
/* The same on an address that the relay's client can reach, which is filled in, too
 * (-EADDRNOTAVAIL: there is none). */
int sockets_open_bound(struct socket_plane *plane, const struct relay *relay, bound_socket_fn *make,
                       struct endpoint *bound);
/* Idempotent: clears the port. */
void sockets_return_bound(struct socket_plane *plane, struct endpoint *bound);

/* A socket that dials `destination` from the relay's egress address: bound where that is asked for,
 * connect() called. *in_progress says whether it is still under way (TCP). Returns the descriptor
 * or -errno. */
int sockets_open_egress(struct socket_plane *plane, const struct relay *relay,
                        const struct endpoint *destination, bool *in_progress);

/* The address from which the kernel would send to `destination`. No packet leaves. Returns 0 or
 * -errno. */
int sockets_route_source(struct socket_plane *plane, const struct ip_address *destination,
                         struct ip_address *out);

/* A datagram socket for many destinations of the family, bound to the egress address. Returns the
 * descriptor or -errno (-EADDRNOTAVAIL: the family is not to be used). */
int sockets_open_unconnected(struct socket_plane *plane, const struct relay *relay,
                             enum ip_family family, const struct ip_address *egress_hint);

/* The pending error of a socket, cleared by reading it: 0 or -errno. */
int sockets_take_error(int fd);
/* Closes; `abort`: a TCP connection is reset. */
void sockets_close(int fd, bool abort);
/* setsockopt() with an int. Returns 0 or -errno. */
int sockets_set(int fd, int level, int option, int value);

#endif
