/*
 * Is a descriptor that came over N2 what it has to be: the connection of a relay's client? It comes
 * from the process that the network can reach (N2-FD-040).
 */
#ifndef SOCKST_RELAYD_HANDED_OVER_H
#define SOCKST_RELAYD_HANDED_OVER_H

#include "proto/endpoint.h"

/*
 * `source`: the peer that a TCP connection must have; one of AF_UNIX (a socket pair of socksd) has
 * none. Returns 0; -ECONNRESET: it was the client's and has been reset; or another -errno
 * (-ENOTSOCK, -ESOCKTNOSUPPORT, -EAFNOSUPPORT, -EPROTONOSUPPORT, -ENOTCONN, -EACCES: of somebody
 * else). The descriptor stays the caller's.
 */
int handed_over_check(int fd, const struct endpoint *source);

#endif
