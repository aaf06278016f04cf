/*
 * ICMP errors about packets that a relay has sent: carried to the end that sent them first, so that
 * path MTU discovery, traceroute and "unreachable" work through the relay.
 *
 *   outside   source: the router's → our endpoint that the sender knows; destination: the sender
 *   inside    the quoted packet is again as the sender made it
 *
 * The source is ours, since every packet that leaves the relay has BND or the egress endpoint as
 * its source: whoever filters by source would drop a router that is on the other side.
 *
 * Nothing that the host itself has sent is touched: what is quoted has to be a packet of our
 * protocol, from one of our endpoints.
 */
#ifndef SOCKST_RELAYD_BPF_ICMP_H
#define SOCKST_RELAYD_BPF_ICMP_H

#include "relayd/bpf/flow.bpf.h"
#include "relayd/bpf/packet.bpf.h"
#include "relayd/bpf/tell.bpf.h"
#include "relayd/bpf/translate.bpf.h"

/* <linux/icmp.h> needs the C library. */
struct icmp {
    __u8 type, code;
    __u16 checksum;
    __u32 rest;
};

#define ICMP_UNREACHABLE 3
#define ICMP_TOO_BIG 4 /* a code of it */
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER_PROBLEM 12
#define ICMPV6_UNREACHABLE 1
#define ICMPV6_PARAMETER_PROBLEM 4 /* too big and time exceeded are between them */

#define ICMP_HEADER 8u
#define ICMP_CHECKSUM 2u
#define QUOTED_MIN 8u /* octets of L4 that every error has to quote, RFC 792 */

struct error {
    struct bpf_flow_key key; /* as the end that the quoted packet went to would have answered it */
    __u32 length;            /* of the outer IP packet */
    __u32 ttl;
    __u32 seen; /* BPF_SEEN_… of the direction that it is about */
};

/* Offset of the L4 checksum in a quoted header. */
inlined __u32 quoted_checksum(void)
{
    return is_tcp() ? TCP_CHECKSUM : UDP_CHECKSUM;
}

/* FOUND, or why the error is dropped; BPF_COUNT_END + 1: it is not our business. */
#define NOT_OURS (BPF_COUNT_END + 1u)

/* The relay that the quoted packet belongs to; its end is the one that the error comes from. */
inlined __u32 find_quoted(struct __sk_buff *skb, const struct bpf_flow_key *key,
                          struct relay *relay)
{
    const struct bpf_flow *row = bpf_map_lookup_elem(&flows, key);
    struct bpf_endpoint_key endpoint = {.port = key->destination_port};

    if (row != NULL)
        return find_relay(row, key, skb->ifindex, relay);
    __builtin_memcpy(endpoint.address, key->destination, sizeof(endpoint.address));
    return bpf_map_lookup_elem(&endpoints, &endpoint) == NULL ? NOT_OURS : BPF_COUNT_ICMP_UNKNOWN;
}

/*
 * What the change of the quoted packet does to the ICMP checksum. Its addresses and ports change by
 * the same sums as those of a packet from the end that it was sent to; its own checksums (IPv4
 * header, L4) change so that they make up for it.
 */
inlined __u32 quoted_sum(const struct bpf_direction *back, bool ipv6, bool checksum)
{
    __u64 sum = back->port_sum;

    if (ipv6)
        sum += back->address_sum;
    if (checksum)
        sum += (__u32)~back->address_sum + (__u64)(__u32)~back->port_sum;
    return fold(sum);
}

/* Writes the quoted packet as its sender, `to`, knows it. */
inlined void write_quoted(void *quoted, void *end, const struct bpf_side *to,
                          const struct bpf_direction *back, bool ipv6, bool checksum)
{
    struct iphdr *ip4 = quoted;
    struct ipv6hdr *ip6 = quoted;
    struct udphdr *ports = ipv6 ? (void *)(ip6 + 1) : (void *)(ip4 + 1);
    __u16 *check = (void *)ports + quoted_checksum();

    if (ipv6) {
        __builtin_memcpy(&ip6->saddr, to->peer, 16);
        __builtin_memcpy(&ip6->daddr, to->local, 16);
    } else {
        ip4->check = (__u16)~fold((__u64)back->header_sum + (__u16)~ip4->check);
        ip4->saddr = to->peer[3];
        ip4->daddr = to->local[3];
    }
    ports->source = to->peer_port;
    ports->dest = to->local_port;
    if (checksum && (void *)(check + 1) <= end) {
        *check = (__u16)~fold((__u64)back->address_sum + back->port_sum + (__u16) ~*check);
        if (*check == 0 && !is_tcp())
            *check = 0xffff;
    }
}

/* The outer header; what it adds to the sum of a pseudo header is in *sum. */
inlined void write_outer(void *l3, const struct bpf_side *to, bool ipv6)
{
    struct iphdr *ip4 = l3;
    struct ipv6hdr *ip6 = l3;
    __u64 sum;

    if (ipv6) {
        __builtin_memcpy(&ip6->saddr, to->local, 16);
        __builtin_memcpy(&ip6->daddr, to->peer, 16);
        ip6->hop_limit--;
        return;
    }
    sum = (__u64)(__u32)~ip4->saddr + (__u32)~ip4->daddr + to->local[3] + to->peer[3];
    ip4->check = header_checksum(ip4->check, fold(sum));
    ip4->saddr = to->local[3];
    ip4->daddr = to->peer[3];
    ip4->ttl--;
}

/* Before anything is written: the ICMP checksum, of IPv6 with its pseudo header, and what the
 * hardware may have summed up. */
inlined bool fix_icmp_checksum(struct __sk_buff *skb, __u32 l3, const struct bpf_side *to,
                               __u32 sum, bool ipv6)
{
    const __u32 place = l3 + (ipv6 ? IPV6_HEADER : IPV4_HEADER) + ICMP_CHECKSUM;
    struct ipv6hdr *ip = (void *)(long)skb->data + l3;
    __u32 addresses;

    if (ipv6) { /* both addresses at once: their order makes no difference */
        if ((void *)(ip + 1) > (void *)(long)skb->data_end)
            return false;
        addresses = fold((__u32)bpf_csum_diff((void *)&ip->saddr, 32, (__u32 *)to->peer, 32, 0));
    }
    if (bpf_l4_csum_replace(skb, place, 0, sum, 0) != 0)
        return false;
    if (!ipv6)
        return true;
    if (bpf_l4_csum_replace(skb, place, 0, addresses, BPF_F_PSEUDO_HDR | settings.csum_ipv6_flag) !=
        0)
        return false;
    mend_complete_sum(skb, addresses);
    return true;
}

/* Translates it and sends it on. The headers are in one piece. */
inlined int carry_error(struct __sk_buff *skb, __u32 l3, const struct error *error,
                        const struct relay *relay, bool ipv6)
{
    const __u32 end = relay->end & 1, header = ipv6 ? IPV6_HEADER : IPV4_HEADER;
    const __u32 quoted = header + ICMP_HEADER, l4 = quoted + header; /* from the outer one on */
    const struct bpf_side *to = &relay->slot->side[end ^ 1];
    const struct bpf_direction *back = &relay->slot->from[end];
    const struct bpf_hop *hop = hop_to(to);
    void *ip = (void *)(long)skb->data + l3, *data_end = (void *)(long)skb->data_end;
    bool checksum =
        error->length >= l4 + quoted_checksum() + 2 && ip + l4 + quoted_checksum() + 2 <= data_end;

    if (hop == NULL || hop->state == BPF_HOP_DOWN)
        return drop(BPF_COUNT_NO_WAY);
    if (error->ttl <= 1 || error->length > hop->mtu)
        return drop(error->ttl <= 1 ? BPF_COUNT_TTL : BPF_COUNT_TOO_BIG);
    if (!is_tcp() && checksum)
        checksum = *(__u16 *)(ip + l4 + UDP_CHECKSUM) != 0;
    if (!fix_icmp_checksum(skb, l3, to, quoted_sum(back, ipv6, checksum), ipv6))
        return drop(BPF_COUNT_FAILED);
    ip = (void *)(long)skb->data + l3;
    data_end = (void *)(long)skb->data_end;
    if (ip + l4 + QUOTED_MIN > data_end)
        return drop(BPF_COUNT_FAILED);
    write_outer(ip, to, ipv6);
    write_quoted(ip + quoted, data_end, to, back, ipv6, checksum);
    count(BPF_COUNT_ICMP);
    if (error->seen != 0)
        see(relay->slot, relay->index, end ^ 1, error->seen);
    return send(skb, l3, hop, false);
}

/* `error` is of our protocol, and about a packet whose source is its own destination. */
inlined int judge_error(struct __sk_buff *skb, __u32 l3, const struct error *error, bool ipv6)
{
    const __u32 quoted = (ipv6 ? IPV6_HEADER : IPV4_HEADER) * 2 + ICMP_HEADER;
    const __u32 wanted = l3 + quoted + l4_header();
    struct relay relay;
    __u32 found;

    if (error->length > skb->len - l3 || error->length < quoted + QUOTED_MIN)
        return drop(BPF_COUNT_ICMP_MALFORMED); /* the host would do the same */
    found = find_quoted(skb, &error->key, &relay);
    if (found == NOT_OURS)
        return NEXT;
    if (found != FOUND)
        return drop(found);
    if (bpf_skb_pull_data(skb, skb->len < wanted ? skb->len : wanted) != 0)
        return drop(BPF_COUNT_FAILED);
    return carry_error(skb, l3, error, &relay, ipv6);
}

/* The quoted ports, exchanged. */
inlined void read_quoted_ports(struct __sk_buff *skb, __u32 place, struct bpf_flow_key *key)
{
    __be16 ports[2] = {0};

    if (bpf_skb_load_bytes(skb, place, ports, sizeof(ports)) != 0)
        return; /* judge_error() finds it too short */
    key->source_port = ports[1];
    key->destination_port = ports[0];
}

/* The quoted packet must be as the program sends them: without options, whole. Fragments are of
 * relayd's own sockets, as far as they are ours: the host adapts to what is said about them. */
apart int icmp_error_ipv4(struct __sk_buff *skb, __u32 l3)
{
    struct error error = {.key = {.source = {0, 0, MAPPED}, .destination = {0, 0, MAPPED}}};
    struct {
        struct iphdr outer;
        struct icmp icmp;
        struct iphdr quoted;
    } head;

    if (l3 > ETH_HLEN || bpf_skb_load_bytes(skb, l3, &head, sizeof(head)) != 0 ||
        *(__u8 *)&head.outer != IPV4_WITHOUT_OPTIONS ||
        *(__u8 *)&head.quoted != IPV4_WITHOUT_OPTIONS ||
        ((head.outer.frag_off | head.quoted.frag_off) &
         bpf_htons(IPV4_MORE_FRAGMENTS | IPV4_OFFSET)) != 0)
        return NEXT;
    if ((head.icmp.type != ICMP_UNREACHABLE && head.icmp.type != ICMP_TIME_EXCEEDED &&
         head.icmp.type != ICMP_PARAMETER_PROBLEM) ||
        head.quoted.protocol != settings.protocol || head.quoted.saddr != head.outer.daddr)
        return NEXT;
    error.length = bpf_ntohs(head.outer.tot_len);
    error.ttl = head.outer.ttl;
    error.key.source[3] = head.quoted.daddr;
    error.key.destination[3] = head.quoted.saddr;
    if (head.icmp.type == ICMP_UNREACHABLE && head.icmp.code != ICMP_TOO_BIG)
        error.seen = BPF_SEEN_UNREACHABLE;
    read_quoted_ports(skb, l3 + sizeof(head), &error.key);
    return judge_error(skb, l3, &error, false);
}

inlined bool same_address(const struct in6_addr *one, const struct in6_addr *other)
{
    return one->s6_addr32[0] == other->s6_addr32[0] && one->s6_addr32[1] == other->s6_addr32[1] &&
           one->s6_addr32[2] == other->s6_addr32[2] && one->s6_addr32[3] == other->s6_addr32[3];
}

inlined bool is_mapped(const struct in6_addr *address)
{
    return (address->s6_addr32[0] | address->s6_addr32[1]) == 0 && address->s6_addr32[2] == MAPPED;
}

/* The same; extension headers, too, are of nothing that the program has sent. */
apart int icmp_error_ipv6(struct __sk_buff *skb, __u32 l3)
{
    struct error error = {0};
    struct {
        struct ipv6hdr outer;
        struct icmp icmp;
        struct ipv6hdr quoted;
    } head;

    if (l3 > ETH_HLEN || bpf_skb_load_bytes(skb, l3, &head, sizeof(head)) != 0 ||
        head.outer.version != 6 || head.quoted.version != 6)
        return NEXT;
    if (head.icmp.type < ICMPV6_UNREACHABLE || head.icmp.type > ICMPV6_PARAMETER_PROBLEM ||
        head.quoted.nexthdr != settings.protocol ||
        !same_address(&head.quoted.saddr, &head.outer.daddr) || is_mapped(&head.quoted.saddr))
        return NEXT;
    error.length = IPV6_HEADER + bpf_ntohs(head.outer.payload_len);
    error.ttl = head.outer.hop_limit;
    __builtin_memcpy(error.key.source, &head.quoted.daddr, 16);
    __builtin_memcpy(error.key.destination, &head.quoted.saddr, 16);
    if (head.icmp.type == ICMPV6_UNREACHABLE)
        error.seen = BPF_SEEN_UNREACHABLE;
    read_quoted_ports(skb, l3 + sizeof(head), &error.key);
    return judge_error(skb, l3, &error, true);
}

#endif
