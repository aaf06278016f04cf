/*
 * Judges packets: what a host that receives them, or a router on their way, would object to.
 */
#ifndef SOCKST_TESTS_HARNESS_PACKET_CHECK_H
#define SOCKST_TESTS_HARNESS_PACKET_CHECK_H

#include <stddef.h>
#include <stdint.h>

/*
 * Are all lengths and checksums of the packet right, from the IP header on? NULL, or what is not
 * ("UDP checksum"). Of a fragment only the IP header can be told. The transport is found behind
 * options and extension headers; a packet that an ICMP error quotes is not looked at.
 */
const char *packet_problem(const uint8_t *packet, size_t length);

/* Internet checksum (RFC 1071) over `data` and a sum so far, as the number that goes into the
 * field. */
uint16_t packet_checksum(uint32_t sum, const void *data, size_t length);

/* The sum so far of a transport: addresses, protocol and `length` of what follows the headers. */
uint32_t packet_pseudo_header(const uint8_t *packet, uint8_t protocol, size_t length);

/* Where the checksum is, counted from the transport header; 0: this protocol has none. */
size_t packet_checksum_place(uint8_t protocol);

#endif
