/*
 * The kernel's part of the BPF plane: a tc program on the ingress of the relay's interfaces. Two
 * entry points: `relay` for interfaces with a link-layer header, `relay_bare` for those without.
 *
 *   a packet ─► ordinary? ─► row? ─► the relay's, from its interface, alive? ─► TTL, MTU, limits,
 * TCP │no        │no                      │no                              │ rare.bpf.h  endpoint:
 * stranger      dropped                    translate, redirect else: the host's
 *
 * Every packet that is dropped is counted, and nothing is answered from here.
 */
#include "relayd/bpf/flow.bpf.h"
#include "relayd/bpf/icmp.bpf.h"
#include "relayd/bpf/kernel.bpf.h"
#include "relayd/bpf/packet.bpf.h"
#include "relayd/bpf/rare.bpf.h"
#include "relayd/bpf/tcp.bpf.h"
#include "relayd/bpf/tell.bpf.h"
#include "relayd/bpf/translate.bpf.h"

char licence[] SEC("license") = "Dual BSD/GPL";

/* What find_relay() has refused. A tombstone of TCP answers, but no RST. */
separate int refuse(struct __sk_buff *skb, __u32 l3, __u64 payload_and_flags,
                    struct bpf_direction *from, __u32 why)
{
    count(why);
    if (why != BPF_COUNT_TOMBSTONE || !is_tcp() || (payload_and_flags & TCP_RST) != 0)
        return DROP;
    return answer(skb, l3, from, BPF_ANSWER_RESET, (__u32)(payload_and_flags >> 32));
}

/* TTL or hop limit is used up. */
separate int expired(struct __sk_buff *skb, __u32 l3, struct bpf_direction *from)
{
    count(BPF_COUNT_TTL);
    return answer(skb, l3, from, BPF_ANSWER_TIME_EXCEEDED, 0);
}

/* Above the MTU of the way out. A router would cut a datagram to pieces that allows it: relayd's
 * sockets do. */
separate int too_big(struct __sk_buff *skb, __u32 l3, struct bpf_direction *from, __u32 mtu)
{
    struct iphdr ip;

    if (!is_tcp() && skb->protocol == bpf_htons(ETH_P_IP) &&
        bpf_skb_load_bytes(skb, l3, &ip, sizeof(ip)) == 0 &&
        (ip.frag_off & bpf_htons(IPV4_DONT_FRAGMENT)) == 0)
        return leave(skb, BPF_COUNT_TOO_BIG);
    count(BPF_COUNT_TOO_BIG);
    return answer(skb, l3, from, BPF_ANSWER_TOO_BIG, mtu);
}

/* What the packet would be on the wire: of a super-packet, one segment. */
inlined __u32 size_of(const struct packet *packet)
{
    return packet->segment == 0 ? packet->length : packet->header + packet->segment;
}

inlined __u32 packets_of(const struct packet *packet)
{
    if (likely(packet->segment == 0) || packet->payload == 0)
        return 1;
    return (packet->payload + packet->segment - 1) / packet->segment;
}

/* Limits and the protocol's own rules. FOUND, or why the packet is dropped. */
inlined __u32 may_pass(struct __sk_buff *skb, __u32 l4, const struct relay *relay,
                       const struct packet *packet)
{
    struct bpf_slot *slot = relay->slot;
    struct bpf_direction *from = &slot->from[relay->end];

    if (unlikely((slot->max_bytes | slot->bytes_per_second) != 0)) {
        const __u32 why = limit(slot, relay->index, relay->end, packet->payload);

        if (why != FOUND)
            return why;
    }
    if (is_tcp()) {
        if (unlikely(!is_steady(from, packet->tcp_flags)))
            return tcp_segment(skb, slot, (__u64)relay->end << 32 | relay->index,
                               (__u64)l4 << 16 | packet->tcp_flags, packet->payload);
        from->acknowledgment = packet->acknowledgment;
    } else if (unlikely((from->seen & BPF_SEEN_PACKET) == 0)) {
        see(slot, relay->index, relay->end, BPF_SEEN_PACKET);
    }
    return FOUND;
}

/* The packet is the relay's, and may leave by the hop. */
inlined int translate(struct __sk_buff *skb, __u32 l3, const struct relay *relay,
                      const struct packet *packet, struct bpf_hop *hop, bool ipv6)
{
    const __u32 l4 = l3 + (ipv6 ? IPV6_HEADER : IPV4_HEADER);
    struct bpf_direction *from = &relay->slot->from[relay->end];
    const __u64 now = bpf_ktime_get_coarse_ns();
    const bool direct = is_direct(hop, now);
    void *data;

    if (unlikely(skb->len != l3 + packet->length) &&
        !trim(skb, l3 + packet->length, hop->state == BPF_HOP_BARE))
        return drop(BPF_COUNT_FAILED);
    if (!fix_checksums(skb, l4, from, ipv6))
        return drop(BPF_COUNT_FAILED);
    data = (void *)(long)skb->data;
    if (data + l4 + UDP_HEADER > (void *)(long)skb->data_end)
        return drop(BPF_COUNT_FAILED);
    write_headers(data + l3, &relay->slot->side[relay->end ^ 1], from, ipv6);
    if (likely(direct && l3 != 0))
        write_link_header(data, hop);
    from->last_ns = now;
    __sync_fetch_and_add(&from->packets, packets_of(packet));
    __sync_fetch_and_add(&from->bytes, packet->payload);
    return send(skb, l3, hop, direct);
}

inlined int carry(struct __sk_buff *skb, __u32 l3, const struct bpf_flow_key *key,
                  const struct packet *packet, bool ipv6)
{
    const struct bpf_flow *row = bpf_map_lookup_elem(&flows, key);
    struct relay relay = {0};
    struct bpf_direction *from;
    struct bpf_hop *hop;
    __u32 why;

    if (row == NULL)
        return miss(key);
    why = find_relay(row, key, skb->ifindex, &relay);
    from = relay.slot == NULL ? NULL : &relay.slot->from[relay.end];
    if (unlikely(why != FOUND))
        return refuse(skb, l3, (__u64)packet->payload << 32 | packet->tcp_flags, from, why);
    if (unlikely(packet->malformed))
        return drop(BPF_COUNT_MALFORMED);
    if (unlikely(packet->ttl <= 1))
        return expired(skb, l3, from);
    hop = hop_to(&relay.slot->side[relay.end ^ 1]);
    if (unlikely(hop == NULL || hop->state == BPF_HOP_DOWN))
        return drop(BPF_COUNT_NO_WAY);
    if (unlikely(size_of(packet) > hop->mtu))
        return too_big(skb, l3, from, hop->mtu);
    why = may_pass(skb, l3 + (ipv6 ? IPV6_HEADER : IPV4_HEADER), &relay, packet);
    if (unlikely(why != FOUND))
        return drop(why);
    return translate(skb, l3, &relay, packet, hop, ipv6);
}

/* `l3`: octets of the link-layer header. */
inlined int receive(struct __sk_buff *skb, __u32 l3, bool ipv6)
{
    const __u32 l4 = l3 + (ipv6 ? IPV6_HEADER : IPV4_HEADER);
    const __u32 wanted = l4 + l4_header();
    void *data = (void *)(long)skb->data;
    struct bpf_flow_key key;
    struct packet packet = {0};
    bool ordinary;

    if (likely(data + l4 <= (void *)(long)skb->data_end) && is_foreign(data + l3, ipv6))
        return NEXT;
    if (unlikely(data + wanted > (void *)(long)skb->data_end)) {
        if (skb->len < wanted || bpf_skb_pull_data(skb, wanted) != 0)
            return rare(skb, l3, ipv6);
        data = (void *)(long)skb->data;
        if (data + wanted > (void *)(long)skb->data_end)
            return NEXT;
    }
    ordinary = ipv6 ? read_ipv6(skb, data + l3, l3, &packet, &key)
                    : read_ipv4(skb, data + l3, l3, &packet, &key);
    if (unlikely(!ordinary))
        return rare(skb, l3, ipv6);
    return carry(skb, l3, &key, &packet, ipv6);
}

inlined int enter(struct __sk_buff *skb, __u32 l3)
{
    if (skb->protocol == bpf_htons(ETH_P_IP))
        return receive(skb, l3, false);
    if (skb->protocol == bpf_htons(ETH_P_IPV6))
        return receive(skb, l3, true);
    return NEXT;
}

/* A tagged packet is another interface's; one that the link layer has not addressed to this host,
 * nobody's. */
SEC("tc")
int relay(struct __sk_buff *skb)
{
    if (unlikely(skb->pkt_type != PACKET_HOST || skb->vlan_present))
        return NEXT;
    return enter(skb, ETH_HLEN);
}

SEC("tc")
int relay_bare(struct __sk_buff *skb)
{
    return enter(skb, 0);
}
