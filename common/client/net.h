/*
 * Sockets of the client: endpoints as the kernel's addresses. Internal to libsockst and the
 * command, which depend on proto alone.
 */
#ifndef SOCKST_CLIENT_NET_H
#define SOCKST_CLIENT_NET_H

#include <sys/socket.h>

#include "proto/endpoint.h"

/* Returns the length, or 0 for IP_NONE. */
socklen_t net_to_sockaddr(const struct endpoint *endpoint, struct sockaddr_storage *out);
/* Returns 0 or -EAFNOSUPPORT. */
int net_from_sockaddr(const struct sockaddr_storage *address, struct endpoint *out);
/* getsockname(). Returns 0 or -errno. */
int net_local(int fd, struct endpoint *out);
/* A non-blocking socket bound to `local` (port 0: any) for PTCL 6 or 17. Returns the descriptor or
 * -errno. */
int net_bound_socket(uint8_t ptcl, const struct endpoint *local);
/* Begins to connect. Returns 0 when connected or on the way, or -errno. */
int net_connect(int fd, const struct endpoint *to);
/* How a connect() in progress stands: 1 connected, 0 on the way, -errno. */
int net_connected(int fd);
/* CLOCK_MONOTONIC. */
uint64_t net_now_ms(void);

#endif
