/*
 * The answer to a packet, made from what the program recorded of it: a whole IP packet, checksums
 * included. Pure: octets in, octets out. Whoever sent the packet chose what is in the record, so
 * each length in it is checked, and what a host must not answer is not answered: packets that are
 * invalid, or not from one host to one other host, fragments but the first, protocols other than
 * TCP and UDP (ICMP errors among them), and RST.
 */
#ifndef SOCKST_RELAYD_BPF_ANSWER_PACKET_H
#define SOCKST_RELAYD_BPF_ANSWER_PACKET_H

#include "proto/endpoint.h"
#include "relayd/bpf/abi.h"

/* IPv6 header, ICMPv6 header, and all that a record has of the packet. */
#define ANSWER_PACKET_MAX (40 + 8 + BPF_ANSWER_HEAD)

struct answer_packet {
    struct ip_address source; /* where the recorded packet was sent to */
    struct ip_address
        destination; /* who sent it; link-local: the scope is the record's interface */
    size_t length;
    uint8_t data[ANSWER_PACKET_MAX]; /* from the IP header on */
};

/* Returns 0; or -EBADMSG where the packet is not to be answered, and *out is of no use. */
int answer_packet_make(const struct bpf_answer *record, struct answer_packet *out);

#endif
