/*
 * What the kernel of a place has counted: /proc/net/snmp, snmp6 and netstat.
 */
#ifndef SOCKST_TESTS_HARNESS_NETSTAT_H
#define SOCKST_TESTS_HARNESS_NETSTAT_H

#include <stdint.h>

#include "tests/harness/lab.h"

/* "Tcp:RetransSegs", "TcpExt:TCPSACKReorder", or one of IPv6: "Udp6InErrors". Fails the test where
 * the kernel has no counter of that name. */
uint64_t netstat_counter(const struct lab *lab, enum lab_place place, const char *name);

/* Packets that this place has received and found to have a wrong checksum: of IPv4's header, TCP,
 * UDP, ICMP and ICMPv6. */
uint64_t netstat_checksum_errors(const struct lab *lab, enum lab_place place);

#endif
