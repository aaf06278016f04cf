/*
 * Puts the other end's addresses and ports into a packet, and sends it there.
 *
 * Checksums of UDP and TCP go through the kernel's helper, which knows whether there is one, or
 * what the hardware will make of it; the differences have been computed by relayd. Addresses and
 * ports apart, since a checksum that the hardware completes covers the pseudo header alone. All
 * else is written directly.
 */
#ifndef SOCKST_RELAYD_BPF_TRANSLATE_H
#define SOCKST_RELAYD_BPF_TRANSLATE_H

#include "relayd/bpf/flow.bpf.h"
#include "relayd/bpf/packet.bpf.h"
#include "relayd/bpf/tell.bpf.h"

#define UDP_CHECKSUM 6u
#define TCP_CHECKSUM 16u

/* What one less of TTL or hop limit adds to a ones-complement sum. */
#define TTL_SUM ((__u16)~bpf_htons(0x0100))
#define HOP_LIMIT_SUM ((__u16)~bpf_htons(0x0001))

#define FRAME_MIN 60u /* octets; shorter ones are padded by Ethernet */

inlined __u16 fold(__u64 sum)
{
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (__u16)sum;
}

/* The IPv4 header's checksum after its addresses and TTL have changed. */
inlined __u16 header_checksum(__u16 before, __u32 address_sum)
{
    return (__u16)~fold((__u64)address_sum + (__u16)~before + TTL_SUM);
}

/* Sums over the packet that the hardware has made (CHECKSUM_COMPLETE) cover the IP header, whose
 * own checksum makes up for any change in IPv4 alone. `flag`: see struct bpf_settings; without it
 * the kernel takes the addresses of IPv6 off such a sum, although they have changed in there. */
inlined void mend_complete_sum(struct __sk_buff *skb, __u32 address_sum)
{
    __u64 sum = HOP_LIMIT_SUM;

    if (settings.csum_ipv6_flag == 0)
        sum += address_sum;
    bpf_csum_update(skb, fold(sum));
}

/* Returns false when the kernel would not. */
inlined bool fix_checksums(struct __sk_buff *skb, __u32 l4, const struct bpf_direction *from,
                           bool ipv6)
{
    const __u32 place = l4 + (is_tcp() ? TCP_CHECKSUM : UDP_CHECKSUM);
    const __u64 mangled = is_tcp() ? 0 : BPF_F_MARK_MANGLED_0;
    const __u64 pseudo = mangled | BPF_F_PSEUDO_HDR | (ipv6 ? settings.csum_ipv6_flag : 0);

    if (bpf_l4_csum_replace(skb, place, 0, from->address_sum, pseudo) != 0 ||
        bpf_l4_csum_replace(skb, place, 0, from->port_sum, mangled) != 0)
        return false;
    if (ipv6)
        mend_complete_sum(skb, from->address_sum);
    return true;
}

/* Source and destination at once: they are neighbours in the packet as in struct bpf_side, only
 * the other way round. `to`: the end that the packet goes to. */
inlined void write_headers(void *l3, const struct bpf_side *to, const struct bpf_direction *from,
                           bool ipv6)
{
    struct iphdr *ip4 = l3;
    struct ipv6hdr *ip6 = l3;
    struct udphdr *ports = ipv6 ? (void *)(ip6 + 1) : (void *)(ip4 + 1); /* TCP's are there, too */

    if (ipv6) {
        __builtin_memcpy(&ip6->saddr, to->local, 16);
        __builtin_memcpy(&ip6->daddr, to->peer, 16);
        ip6->hop_limit--;
    } else {
        ip4->check = header_checksum(ip4->check, from->header_sum);
        ip4->saddr = to->local[3];
        ip4->daddr = to->peer[3];
        ip4->ttl--;
    }
    ports->source = to->local_port;
    ports->dest = to->peer_port;
}

/* ---- the way out ----------------------------------------------------------------------------- */

/* The hop to an end; NULL: there is none now. */
inlined struct bpf_hop *hop_to(const struct bpf_side *to)
{
    const __u32 row = to->hop;

    return bpf_map_lookup_elem(&hops, &row);
}

/* May the program write the link-layer header itself? Once in a while the kernel's neighbour table
 * gets a packet instead. */
inlined bool is_direct(struct bpf_hop *hop, __u64 now)
{
    if (hop->state != BPF_HOP_DIRECT)
        return false;
    if (likely(now - hop->refreshed_ns < BPF_HOP_REFRESH_NS))
        return true;
    hop->refreshed_ns = now;
    return false;
}

/* Destination and source address of a link-layer header, in two words. */
inlined void write_link_header(void *header, const struct bpf_hop *hop)
{
    *(__u64 *)header = *(const volatile __u64 *)hop->destination_mac;
    *(__u32 *)(header + 8) = *(const __u32 *)(hop->source_mac + 2);
}

/* A packet from a device without a link-layer header gets one: the kernel redirects to others only
 * what has. False when the kernel would not. */
separate bool add_link_header(struct __sk_buff *skb, const struct bpf_hop *hop)
{
    struct ethhdr *header;

    if (hop == NULL || bpf_skb_change_head(skb, sizeof(*header), 0) != 0)
        return false;
    header = (void *)(long)skb->data;
    if ((void *)(header + 1) > (void *)(long)skb->data_end)
        return false;
    write_link_header(header, hop);
    header->h_proto = (__be16)skb->protocol;
    return true;
}

/* What a packet is told of itself on this host means nothing beyond the relay. */
inlined int send(struct __sk_buff *skb, __u32 l3, const struct bpf_hop *hop, bool direct)
{
    skb->mark = 0;
    if (hop->state == BPF_HOP_BARE)
        return (int)bpf_redirect(hop->interface, 0);
    if (l3 == 0 && !add_link_header(skb, hop))
        return drop(BPF_COUNT_FAILED);
    if (direct)
        return (int)bpf_redirect(hop->interface, 0);
    return (int)bpf_redirect_neigh(hop->interface, (struct bpf_redir_neigh *)&hop->family,
                                   sizeof(struct bpf_redir_neigh), 0);
}

/* Octets after the IP packet: what Ethernet needs for its shortest frame stays, unless the way out
 * is none; more would get past the MTU. False when the kernel would not. */
separate bool trim(struct __sk_buff *skb, __u32 length, __u32 bare)
{
    if (skb->gso_size != 0 || (bare == 0 && skb->len <= FRAME_MIN))
        return true;
    return bpf_skb_change_tail(skb, length, 0) == 0;
}

#endif
