/*
 * An ordinary packet, read once: IPv4 without options, whole, or IPv6 without extension headers;
 * then UDP or TCP. Everything else goes another way (rare.bpf.h).
 */
#ifndef SOCKST_RELAYD_BPF_PACKET_H
#define SOCKST_RELAYD_BPF_PACKET_H

#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include "relayd/bpf/kernel.bpf.h"

#define IPV4_HEADER 20u
#define IPV6_HEADER 40u
#define UDP_HEADER 8u
#define TCP_HEADER 20u

#define IPV4_WITHOUT_OPTIONS 0x45
#define IPV4_DONT_FRAGMENT 0x4000
#define IPV4_MORE_FRAGMENTS 0x2000
#define IPV4_OFFSET 0x1fff

#define TCP_FIN 0x01u
#define TCP_SYN 0x02u
#define TCP_RST 0x04u
#define TCP_ACK 0x10u

#define MAPPED bpf_htonl(0xffff) /* third word of an IPv4 address that is mapped into IPv6 */

struct packet {
    __u32 length;    /* of the IP packet; of a super-packet, all of it */
    __u32 header;    /* IP, and TCP or UDP with options */
    __u32 payload;   /* octets of UDP or TCP */
    __u32 segment;   /* payload of one segment of a super-packet; 0: is none */
    __u32 ttl;       /* or hop limit */
    __u32 tcp_flags; /* FIN, SYN, RST, ACK */
    __be32 acknowledgment;
    bool malformed; /* the L4 header and the lengths contradict each other */
};

inlined __u32 l4_header(void)
{
    return is_tcp() ? TCP_HEADER : UDP_HEADER;
}

/* Reads the L4 header. packet->length is known. The ports are one word in the key as they are in
 * the packet. */
inlined void read_l4(const void *l4, __u32 ip_header, struct packet *packet,
                     struct bpf_flow_key *key)
{
    const __u32 room = packet->length - ip_header;
    __u32 header;

    __builtin_memcpy(&key->source_port, l4, 4);
    if (is_tcp()) {
        header = (((const __u8 *)l4)[12] >> 4) * 4u;
        packet->acknowledgment = ((const __be32 *)l4)[2];
        packet->tcp_flags = ((const __u8 *)l4)[13] & (TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK);
        packet->malformed = header < TCP_HEADER || header > room;
        packet->payload = room - header;
    } else {
        const __u32 length = bpf_ntohs(((const struct udphdr *)l4)->len);

        header = UDP_HEADER;
        packet->malformed = length < UDP_HEADER || length > room;
        packet->payload = length - header;
    }
    packet->header = ip_header + header;
}

/* A super-packet above 64 KiB has no length of its own. */
inlined void read_lengths(struct __sk_buff *skb, __u32 l3, struct packet *packet, bool none)
{
    packet->segment = skb->gso_size;
    if (none && packet->segment != 0)
        packet->length = skb->len - l3;
}

/* False: not ordinary. The packet is there up to the end of the L4 header. */
inlined bool read_ipv4(struct __sk_buff *skb, const void *l3_data, __u32 l3, struct packet *packet,
                       struct bpf_flow_key *key)
{
    const struct iphdr *ip = l3_data;

    if (*(const __u8 *)ip != IPV4_WITHOUT_OPTIONS || ip->protocol != settings.protocol ||
        (ip->frag_off & bpf_htons(IPV4_MORE_FRAGMENTS | IPV4_OFFSET)) != 0)
        return false;
    packet->length = bpf_ntohs(ip->tot_len);
    read_lengths(skb, l3, packet, ip->tot_len == 0);
    if (packet->length < IPV4_HEADER + l4_header() || packet->length > skb->len - l3)
        return false;
    packet->ttl = ip->ttl;
    key->source[0] = key->source[1] = key->destination[0] = key->destination[1] = 0;
    key->source[2] = key->destination[2] = MAPPED;
    key->source[3] = ip->saddr;
    key->destination[3] = ip->daddr;
    read_l4(ip + 1, IPV4_HEADER, packet, key);
    return true;
}

inlined bool read_ipv6(struct __sk_buff *skb, const void *l3_data, __u32 l3, struct packet *packet,
                       struct bpf_flow_key *key)
{
    const struct ipv6hdr *ip = l3_data;

    if (*(const __u8 *)ip >> 4 != 6 || ip->nexthdr != settings.protocol)
        return false;
    packet->length = IPV6_HEADER + bpf_ntohs(ip->payload_len);
    read_lengths(skb, l3, packet, ip->payload_len == 0);
    if (packet->length < IPV6_HEADER + l4_header() || packet->length > skb->len - l3)
        return false;
    packet->ttl = ip->hop_limit;
    __builtin_memcpy(key->source, &ip->saddr, 32); /* and the destination */
    if ((key->source[0] | key->source[1]) == 0 && key->source[2] == MAPPED)
        return false; /* would be taken for IPv4 */
    read_l4(ip + 1, IPV6_HEADER, packet, key);
    return true;
}

#endif
