/* The sink's part in the kernel: sink.h says what it is. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "tests/bench/load/sink.h"

char licence[] SEC("license") = "Dual BSD/GPL";

const volatile struct sink_settings settings = {0};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct sink_row);
} rows SEC(".maps");

/* Where the UDP header of a datagram to our port begins; 0: something else. */
static __u32 find(struct __sk_buff *skb)
{
    const void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
    const struct ethhdr *link = data;
    const struct iphdr *v4 = (const void *)(link + 1);
    const struct ipv6hdr *v6 = (const void *)(link + 1);
    const struct udphdr *udp;

    if (skb->protocol == bpf_htons(ETH_P_IP)) {
        udp = (const void *)(v4 + 1);
        if ((const void *)(udp + 1) > end || v4->ihl != 5 || v4->protocol != IPPROTO_UDP)
            return 0;
    } else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
        udp = (const void *)(v6 + 1);
        if ((const void *)(udp + 1) > end || v6->nexthdr != IPPROTO_UDP)
            return 0;
    } else {
        return 0;
    }
    return udp->dest == settings.port ? (__u32)((const char *)udp - (const char *)data) : 0;
}

SEC("tc")
int sink(struct __sk_buff *skb)
{
    const __u32 at = find(skb);
    __u32 number = 0;

    if (at == 0)
        return TC_ACT_UNSPEC;
    if (!settings.tagged)
        number = bpf_get_smp_processor_id();
    else if (bpf_skb_load_bytes(skb, at + sizeof(struct udphdr), &number, sizeof(number)) < 0)
        number = 0;
    if (number >= settings.rows)
        number = 0;
    struct sink_row *row = bpf_map_lookup_elem(&rows, &number);
    if (row == NULL)
        return TC_ACT_SHOT;
    if (settings.tagged) {
        __sync_fetch_and_add(&row->packets, 1);
        row->last_ns = bpf_ktime_get_ns();
    } else {
        row->packets++;
    }
    return TC_ACT_SHOT;
}
