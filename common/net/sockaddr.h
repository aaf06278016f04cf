/*
 * Endpoints as the kernel's struct sockaddr, and small facts about sockets.
 */
#ifndef SOCKST_COMMON_NET_SOCKADDR_H
#define SOCKST_COMMON_NET_SOCKADDR_H

#include <sys/socket.h>

#include "proto/endpoint.h"

/* Fills *out for bind() and connect(). Returns the length of what it wrote; 0 for IP_NONE. */
socklen_t endpoint_to_sockaddr(const struct endpoint *endpoint, struct sockaddr_storage *out);

/*
 * From AF_INET and AF_INET6 (IPv4-mapped becomes IPv4; a scope is kept for fe80::/10 only).
 * Returns 0; or -EAFNOSUPPORT, and *out stays as it was.
 */
int endpoint_from_sockaddr(const struct sockaddr *address, struct endpoint *out);

/* getsockname() and getpeername(). Return 0 or -errno, also -EAFNOSUPPORT (a Unix socket). */
int endpoint_local(int fd, struct endpoint *out);
int endpoint_peer(int fd, struct endpoint *out);

/* AF_INET or AF_INET6; AF_UNSPEC for IP_NONE. */
int ip_address_af(const struct ip_address *address);

#endif
