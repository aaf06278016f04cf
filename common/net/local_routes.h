/*
 * The host's own addresses: every local, broadcast, anycast and multicast route of the kernel's tables, read by rtnetlink and kept
 * up to date. Needs no privilege. While the kernel reports a lost notification the table is read again whole.
 */
#ifndef SOCKST_COMMON_NET_LOCAL_ROUTES_H
#define SOCKST_COMMON_NET_LOCAL_ROUTES_H

#include <uv.h>

#include "common/net/prefix.h"

struct local_routes;

/* Reads the tables (blocking, milliseconds) and starts to follow them on `loop`. `changed` (may be NULL) is called after each change. Returns 0 or -errno. */
int local_routes_open(struct local_routes **out, uv_loop_t *loop, void (*changed)(void *user), void *user);
/* Does the address fall into such a route? */
bool local_routes_contain(const struct local_routes *routes, const struct ip_address *address);
/* Calls back for each unicast address of the host itself (loopback and link-local included), in the kernel's order of interfaces. `loopback` says
 * whether it sits on a loopback interface. Link-local ones carry their scope. */
void local_routes_each_address(const struct local_routes *routes,
                               void (*each)(const struct ip_address *address, bool loopback, void *user), void *user);
/* Stops following; memory goes with the last close callback. NULL is allowed. */
void local_routes_close(struct local_routes *routes);

#endif
