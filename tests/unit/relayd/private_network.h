/*
 * A network of the test's own: a fresh network namespace in which the loopback interface carries
 * the addresses of everybody: client .1, relay .2, target .3, stranger .4 of 127.0.0.0/8 and of
 * fd00::/64.
 */
#ifndef SOCKST_TESTS_PRIVATE_NETWORK_H
#define SOCKST_TESTS_PRIVATE_NETWORK_H

#include <stdbool.h>

#include "proto/endpoint.h"

enum party { PARTY_CLIENT = 1, PARTY_RELAY, PARTY_TARGET, PARTY_STRANGER };

/* For a checked fixture, which runs in the test's own process. Fails the test where it may not. */
void private_network_enter(void);
/* From now on without the privileges over the network that relayd has not got (CAP_NET_ADMIN and
 * those of BPF), or with them again. */
void network_privilege(bool wanted);

/* Of loopback. */
void private_network_set_mtu(int octets);
struct ip_address party_address(enum party party, bool v6);

/* A socket of `type` bound to the party's address; port 0: any. Blocking. */
int party_socket(enum party party, bool v6, int type, uint16_t port);
/* The same, listening. */
int party_listener(enum party party, bool v6, uint16_t port);
struct endpoint socket_name(int fd);
/* connect(): 0 or -errno. */
int connect_to(int fd, const struct endpoint *to);
void set_blocking(int fd, bool blocking);

/* Sees every packet on loopback from now on. Close it with close(). */
int capture_open(void);
/* Packets seen since then whose IP destination is the endpoint, or ICMP errors about packets from
 * it. Call it when all of them must have passed: loopback delivers while the sender still sends. */
unsigned capture_count_to(int capture, const struct endpoint *to);

/* Open descriptors of this process. */
unsigned count_fds(void);

#endif
