/*
 * Packets that are not ordinary: fragments, IP options, IPv6 extension headers, lengths that
 * contradict each other. None is carried; UDP of a relay is left to relayd's own sockets, with a
 * mark that makes them take it.
 */
#ifndef SOCKST_RELAYD_BPF_RARE_H
#define SOCKST_RELAYD_BPF_RARE_H

#include "relayd/bpf/flow.bpf.h"
#include "relayd/bpf/icmp.bpf.h"
#include "relayd/bpf/packet.bpf.h"
#include "relayd/bpf/tell.bpf.h"

#define EXTENSIONS_MAX 8

#define OPTION_END 0
#define OPTION_NOTHING 1
#define OPTION_LOOSE_ROUTE 131
#define OPTION_STRICT_ROUTE 137
#define OPTIONS_OCTETS_MAX 40u

/* UDP of a relay that the program does not carry: to the socket that holds the port. */
separate int leave(struct __sk_buff *skb, __u32 why)
{
    count(why);
    skb->mark = settings.mark;
    return NEXT;
}

/* `key` is all that is known of the packet, `why` what is odd about it. */
inlined int judge(struct __sk_buff *skb, const struct bpf_flow_key *key, __u32 why)
{
    const struct bpf_flow *row = bpf_map_lookup_elem(&flows, key);
    struct relay relay;
    __u32 found;

    if (row == NULL)
        return miss(key);
    found = find_relay(row, key, skb->ifindex, &relay);
    if (found != FOUND)
        return drop(found);
    if (why == BPF_COUNT_MALFORMED || why == BPF_COUNT_SOURCE_ROUTE)
        return drop(why);
    return is_tcp() ? drop(BPF_COUNT_TCP_LEFT) : leave(skb, why);
}

/* Is there a source route among the options? Malformed ones are the host's to judge. */
inlined bool has_source_route(struct __sk_buff *skb, __u32 place, __u32 octets)
{
    __u8 options[OPTIONS_OCTETS_MAX + 1] = {0}; /* ends with OPTION_END */
    __u32 rest = 0;                             /* of the option that has begun before */

    if (octets - 1 >= OPTIONS_OCTETS_MAX || bpf_skb_load_bytes(skb, place, options, octets) != 0)
        return false;
    for (__u32 i = 0; i < OPTIONS_OCTETS_MAX; i++) {
        if (rest > 0) {
            rest--;
            continue;
        }
        if (options[i] == OPTION_LOOSE_ROUTE || options[i] == OPTION_STRICT_ROUTE)
            return true;
        if (options[i] == OPTION_END || (options[i] != OPTION_NOTHING && options[i + 1] < 2))
            return false;
        rest = options[i] == OPTION_NOTHING ? 0 : options[i + 1] - 1u;
    }
    return false;
}

inlined bool load_ports(struct __sk_buff *skb, __u32 place, struct bpf_flow_key *key)
{
    return bpf_skb_load_bytes(skb, place, &key->source_port, 4) == 0;
}

apart int rare_ipv4(struct __sk_buff *skb, __u32 l3)
{
    struct bpf_flow_key key = {.source = {0, 0, MAPPED}, .destination = {0, 0, MAPPED}};
    struct iphdr ip;
    __u32 header, length, why = BPF_COUNT_MALFORMED;

    if (bpf_skb_load_bytes(skb, l3, &ip, sizeof(ip)) != 0)
        return NEXT;
    if (ip.protocol != settings.protocol)
        return NEXT;
    header = ip.ihl * 4u;
    length = bpf_ntohs(ip.tot_len);
    if (ip.version != 4 || header < IPV4_HEADER || length < header || length > skb->len - l3)
        return drop(BPF_COUNT_MALFORMED);
    if ((ip.frag_off & bpf_htons(IPV4_OFFSET)) != 0 || length < header + 4 ||
        !load_ports(skb, l3 + header, &key))
        return NEXT; /* the ports are not in here */
    key.source[3] = ip.saddr;
    key.destination[3] = ip.daddr;
    if (header > IPV4_HEADER && has_source_route(skb, l3 + IPV4_HEADER, header - IPV4_HEADER))
        why = BPF_COUNT_SOURCE_ROUTE;
    else if ((ip.frag_off & bpf_htons(IPV4_MORE_FRAGMENTS)) != 0)
        why = BPF_COUNT_FRAGMENTS;
    else if (header > IPV4_HEADER && length >= header + l4_header())
        why = BPF_COUNT_OPTIONS;
    return judge(skb, &key, why);
}

/* ---- IPv6 ------------------------------------------------------------------------------------ */

/* What follows the IPv6 header. */
struct extensions {
    __u32 l4;     /* offset of what comes after the last one that is known */
    __u32 next;   /* its protocol */
    __u32 length; /* octets of extension headers */
    bool options, routing, fragment;
    bool elsewhere; /* a fragment without the L4 header */
};

struct extension {
    __u8 next, length;
    __be16 fragment;
};

#define FRAGMENT_OFFSET_IPV6 0xfff8
#define FRAGMENT_HEADER 8u

inlined bool is_extension(__u32 next)
{
    return next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_FRAGMENT ||
           next == IPPROTO_DSTOPTS;
}

/* Walks over extension headers; those that no relay has to do with end the walk. */
inlined bool walk(struct __sk_buff *skb, __u32 place, __u32 next, struct extensions *found)
{
    struct extension extension;
    __u32 at = place;

    for (int i = 0; i < EXTENSIONS_MAX && is_extension(next); i++) {
        if (bpf_skb_load_bytes(skb, at, &extension, sizeof(extension)) != 0)
            return false;
        if (next == IPPROTO_FRAGMENT) {
            found->fragment = true;
            found->elsewhere |= (extension.fragment & bpf_htons(FRAGMENT_OFFSET_IPV6)) != 0;
            at += FRAGMENT_HEADER;
        } else {
            found->routing |= next == IPPROTO_ROUTING;
            found->options |= next != IPPROTO_ROUTING;
            at += (extension.length + 1u) * 8u;
        }
        next = extension.next;
        if (found->elsewhere)
            break;
    }
    found->l4 = at;
    found->next = next;
    found->length = at - place;
    return true;
}

apart int rare_ipv6(struct __sk_buff *skb, __u32 l3)
{
    struct extensions extensions = {0};
    struct bpf_flow_key key;
    struct ipv6hdr ip;
    __u32 length, why = BPF_COUNT_MALFORMED;

    if (bpf_skb_load_bytes(skb, l3, &ip, sizeof(ip)) != 0)
        return NEXT;
    if (!walk(skb, l3 + IPV6_HEADER, ip.nexthdr, &extensions) ||
        extensions.next != settings.protocol)
        return NEXT;
    length = bpf_ntohs(ip.payload_len);
    __builtin_memcpy(key.source, &ip.saddr, sizeof(key.source));
    __builtin_memcpy(key.destination, &ip.daddr, sizeof(key.destination));
    if (ip.version != 6 || length > skb->len - l3 - IPV6_HEADER ||
        ((key.source[0] | key.source[1]) == 0 && key.source[2] == MAPPED))
        return drop(BPF_COUNT_MALFORMED);
    if (extensions.elsewhere || length < extensions.length + 4 ||
        !load_ports(skb, extensions.l4, &key))
        return NEXT;
    if (extensions.routing)
        why = BPF_COUNT_SOURCE_ROUTE;
    else if (extensions.fragment)
        why = BPF_COUNT_FRAGMENTS;
    else if (extensions.options && length >= extensions.length + l4_header())
        why = BPF_COUNT_OPTIONS;
    return judge(skb, &key, why);
}

/*
 * Has the program nothing to do with it? So it is with most packets of a host, and with half of
 * those that the relays of another protocol carry: they cost one look at the IP header, which is
 * there, before anything is pulled together.
 */
inlined bool is_foreign(const void *l3, bool ipv6)
{
    const struct iphdr *ip4 = l3;
    const struct ipv6hdr *ip6 = l3;

    if (ipv6)
        return ip6->nexthdr != settings.protocol && ip6->nexthdr != IPPROTO_ICMPV6 &&
               !is_extension(ip6->nexthdr);
    return ip4->protocol != settings.protocol && ip4->protocol != IPPROTO_ICMP;
}

/* What is not ordinary. */
inlined int rare(struct __sk_buff *skb, __u32 l3, bool ipv6)
{
    const __u32 place =
        l3 + (ipv6 ? offsetof(struct ipv6hdr, nexthdr) : offsetof(struct iphdr, protocol));
    __u8 protocol;

    if (bpf_skb_load_bytes(skb, place, &protocol, 1) != 0)
        return NEXT;
    if (ipv6)
        return protocol == IPPROTO_ICMPV6 ? icmp_error_ipv6(skb, l3) : rare_ipv6(skb, l3);
    return protocol == IPPROTO_ICMP ? icmp_error_ipv4(skb, l3) : rare_ipv4(skb, l3);
}

#endif
