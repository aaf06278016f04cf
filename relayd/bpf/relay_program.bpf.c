/*
 * The kernel's part of the BPF plane: a tc program on the ingress of the relay's interfaces. Two
 * entry points: `relay` for interfaces with a link-layer header, `relay_bare` for those without.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_helpers.h>

#include "relayd/bpf/abi.h"
#include "relayd/bpf/maps.bpf.h"

char licence[] SEC("license") = "Dual BSD/GPL";

struct bpf_globals globals SEC(".data");
const volatile struct bpf_settings settings = {0};

SEC("tc")
int relay(struct __sk_buff *skb)
{
    (void)skb;
    return TC_ACT_UNSPEC;
}

SEC("tc")
int relay_bare(struct __sk_buff *skb)
{
    (void)skb;
    return TC_ACT_UNSPEC;
}
