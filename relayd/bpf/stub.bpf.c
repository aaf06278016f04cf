/*
 * What an interface holds where the kernel has no TCX: a filter of clsact outlives the process that
 * made it, so this one does nothing but call the program through a table whose only descriptor is
 * relayd's. When that goes, the kernel empties the table, and packets take the host's own way.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_helpers.h>

#include "relayd/bpf/abi.h"

struct {
    __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
    __uint(max_entries, BPF_ENTRIES);
    __type(key, __u32);
    __type(value, __u32);
} progs SEC(".maps");

SEC("tc")
int stub(struct __sk_buff *skb)
{
    bpf_tail_call(skb, &progs, BPF_ENTRY_LINK);
    return TC_ACT_UNSPEC;
}

SEC("tc")
int stub_bare(struct __sk_buff *skb)
{
    bpf_tail_call(skb, &progs, BPF_ENTRY_BARE);
    return TC_ACT_UNSPEC;
}
