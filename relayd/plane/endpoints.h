/*
 * Where relays listen and from where they dial: the choice of BND and egress addresses, and the
 * pools of ports. Shared by all planes.
 *
 * Addresses (N1-BND-*): the address on which the client reached socksd where that is one of ours,
 * else the first of S's family that is neither loopback nor link-local. With `addresses: auto` the
 * host's own addresses are ours. `advertise` translates what is bound into what the client is told.
 *
 * Ports: one pool per BND address; a draw is random among the free ones, O(1). bind() arbitrates
 * against everybody else: a port that turns out to be taken is put back and another one drawn, a
 * bounded number of times.
 */
#ifndef SOCKST_RELAYD_ENDPOINTS_H
#define SOCKST_RELAYD_ENDPOINTS_H

#include "common/net/local_routes.h"
#include "relayd/config.h"

struct endpoints;

/* Addresses for BND. With `addresses: auto` a pool is made at the first draw, and one that nothing
 * is drawn from makes room. */
#define ENDPOINTS_POOLS_MAX 1024
/* Draws for one relay before it is refused. */
#define ENDPOINTS_BIND_TRIES 16

/* `config` and `routes` are borrowed. `salt_seed` feeds the random generator in tests; 0:
 * getrandom(). Returns 0, -ENOMEM, or -E2BIG for more than ENDPOINTS_POOLS_MAX addresses. `routes`
 * may be NULL: the configured addresses alone. */
int endpoints_new(struct endpoints **out, const struct relayd_config *config,
                  const struct local_routes *routes, uint64_t salt_seed);

/* The address for BND. `hint` is N1's local address (IP_NONE: none). Returns 0, or -EADDRNOTAVAIL
 * when there is none of the source's family. */
int endpoints_choose_bound(const struct endpoints *endpoints, const struct ip_address *source,
                           const struct ip_address *hint, struct ip_address *out);

/* The egress address for a destination; IP_NONE in *out: let the kernel choose. A hint that is not
 * one of ours is -EADDRNOTAVAIL. */
int endpoints_choose_egress(const struct endpoints *endpoints, const struct ip_address *destination,
                            const struct ip_address *hint, struct ip_address *out);

/*
 * The address on which the peer of a BIND can reach us: that from which we would dial it
 * (endpoints_choose_egress(); IP_NONE in *out: the kernel's choice). For any peer, 0.0.0.0 or ::,
 * it is the configured egress address of the family, else one for BND, preferably not that on which
 * `client` reached us (`hint`), and on loopback only where the client is. Returns 0 or
 * -EADDRNOTAVAIL.
 */
int endpoints_choose_for_peer(const struct endpoints *endpoints, const struct ip_address *peer,
                              const struct ip_address *client, const struct ip_address *hint,
                              const struct ip_address *egress_hint, struct ip_address *out);

/* Draws a free BND port on the address. Returns it, or 0 when the pool is empty. */
uint16_t endpoints_draw_port(struct endpoints *endpoints, const struct ip_address *address);
/* Gives it back. */
void endpoints_return_port(struct endpoints *endpoints, const struct ip_address *address,
                           uint16_t port);
/* Free ports on the address. */
uint32_t endpoints_free_ports(const struct endpoints *endpoints, const struct ip_address *address);
/* Calls back for each address that has a pool. */
void endpoints_each_pool(const struct endpoints *endpoints,
                         void (*each)(const struct ip_address *address, uint32_t free_ports,
                                      void *user),
                         void *user);

/* A random port of `egress.ports`, which bind() may find taken; 0: none are configured, the kernel
 * chooses. */
uint16_t endpoints_random_egress_port(struct endpoints *endpoints);

/* What the client is told instead of `bound`. */
struct endpoint endpoints_advertised(const struct endpoints *endpoints,
                                     const struct endpoint *bound);

void endpoints_free(struct endpoints *endpoints); /* NULL is allowed */

#endif
