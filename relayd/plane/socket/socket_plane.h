/*
 * The socket plane: always there, without privilege, on any kernel. BND and egress are sockets; strangers are dropped by socket filters in the kernel; TCP moves by
 * splice(2), UDP in batches with GRO and GSO.
 */
#ifndef SOCKST_RELAYD_SOCKET_PLANE_H
#define SOCKST_RELAYD_SOCKET_PLANE_H

#include "relayd/plane/endpoints.h"
#include "relayd/plane/plane.h"

/* Everything is borrowed and has to outlive the plane. Returns 0 or -errno. */
int socket_plane_new(struct plane **out, uv_loop_t *loop, const struct relayd_config *config, struct endpoints *endpoints);

#endif
