/*
 * The socket that holds a port: bound without sharing, it takes nothing and answers nothing, but
 * for UDP datagrams that the program has marked.
 */
#ifndef SOCKST_RELAYD_BPF_HELD_SOCKET_H
#define SOCKST_RELAYD_BPF_HELD_SOCKET_H

#include "proto/endpoint.h"
#include "relayd/transport/transport.h"

/* Returns a descriptor, which the caller closes, or -errno (-EADDRINUSE: somebody has the port).
 * `mark`: of datagrams to be taken. */
int held_socket_open(const struct transport *transport, const struct endpoint *local,
                     uint32_t mark);

#endif
