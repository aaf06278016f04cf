/*
 * A network behind a router: the lab's stranger forwards between the relay host and a second link
 * of the target, into which only packets of FAR_MTU octets fit: the target does not know that.
 *
 *     relay host ─────── stranger ═══════════════ target
 *     10.77.3.1          10.77.3.2  10.77.4.1     10.77.4.2
 *     fd77:3::1          fd77:3::2  fd77:4::1     fd77:4::2
 *
 * Likewise for the client, whose second link is as narrow.
 *
 *     relay host ─────── stranger ═══════════════ client
 *     10.77.3.1          10.77.3.2  10.77.6.1     10.77.6.2
 *     fd77:3::1          fd77:3::2  fd77:6::1     fd77:6::2
 */
#ifndef SOCKST_TESTS_HARNESS_FAR_NETWORK_H
#define SOCKST_TESTS_HARNESS_FAR_NETWORK_H

#include "tests/harness/lab.h"

#define FAR_TARGET_V4 "10.77.4.2"
#define FAR_TARGET_V6 "fd77:4::2"
#define FAR_ROUTER_V4 "10.77.4.1"
#define FAR_RELAY_V4 "10.77.3.1" /* N1 and BND for who is behind the router, and egress */
#define FAR_RELAY_V6 "fd77:3::1"
#define FAR_CLIENT_V4 "10.77.6.2"
#define FAR_CLIENT_V6 "fd77:6::2"
#define FAR_MTU 1400

/* Makes the link, and the routes of the relay host and of the target. */
void far_network_add(struct lab *lab);
void far_network_add_client(struct lab *lab);

#endif
