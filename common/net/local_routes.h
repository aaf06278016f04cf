/*
 * The host's own addresses: every local, broadcast, anycast and multicast route of the kernel's
 * tables, read by rtnetlink and kept up to date. A local default route in a table of its own is not
 * counted: it serves transparent proxies. Needs no privilege and works in a bare network namespace.
 *
 * A new route counts as soon as its notification is read. What goes away, and everything after the
 * kernel has reported a lost notification, is found by reading the tables again whole, a few times
 * a second at most: the set errs towards too many addresses, never towards too few.
 */
#ifndef SOCKST_COMMON_NET_LOCAL_ROUTES_H
#define SOCKST_COMMON_NET_LOCAL_ROUTES_H

#include <uv.h>

#include "common/net/prefix.h"

struct local_routes;

/*
 * Reads the tables (milliseconds; the kernel answers without waiting for anything) and starts to
 * follow them on `loop`. `changed` (may be NULL) is called from the loop after each change of the
 * routes or addresses; it may call local_routes_close(). The handles do not keep the loop alive.
 * Returns 0 or -errno; -E2BIG when the host has more than ROUTE_SET_MAX such routes.
 */
int local_routes_open(struct local_routes **out, uv_loop_t *loop, void (*changed)(void *user),
                      void *user);

/* Does the address fall into such a route? The scope is ignored. */
bool local_routes_contain(const struct local_routes *routes, const struct ip_address *address);

/*
 * Calls back for each usable unicast address of the host itself (loopback and link-local
 * included), in the order of interface indices. `loopback` says whether it sits on a loopback
 * interface. Link-local IPv6 ones carry their scope. Addresses that the kernel still probes for
 * duplicates, or found to be duplicates, are left out: nothing can be bound to them.
 */
void local_routes_each_address(const struct local_routes *routes,
                               void (*each)(const struct ip_address *address, bool loopback,
                                            void *user),
                               void *user);

/* Stops following; memory goes with the last close callback. NULL is allowed. */
void local_routes_close(struct local_routes *routes);

#endif
