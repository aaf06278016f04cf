/*
 * A bad link: `disorder`, at the ingress of an interface, drops some packets and sends some on a
 * detour, through a pair of devices, at whose other end `back` puts them in again: by then others
 * have overtaken them. Attached by `tc filter`; the devices are named detour0 and detour1.
 */
#include <linux/bpf.h>
#include <linux/if_packet.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_helpers.h>

#define DROPPED_OF_1000 10
#define DELAYED_OF_1000 20
#define SEEN 0x0ddba11

char licence[] SEC("license") = "Dual BSD/GPL";

const volatile __u32 detour_interface = 0, interface = 0;

SEC("tc")
int disorder(struct __sk_buff *skb)
{
    const __u32 dice = bpf_get_prandom_u32() % 1000;

    if (skb->mark == SEEN) {
        skb->mark = 0;
        return TC_ACT_UNSPEC;
    }
    if (dice < DROPPED_OF_1000)
        return TC_ACT_SHOT;
    if (dice >= DROPPED_OF_1000 + DELAYED_OF_1000)
        return TC_ACT_UNSPEC;
    skb->mark = SEEN;
    return (int)bpf_redirect(detour_interface, 0);
}

SEC("tc")
int back(struct __sk_buff *skb)
{
    if (skb->mark != SEEN)
        return TC_ACT_UNSPEC;
    bpf_skb_change_type(skb, PACKET_HOST);
    return (int)bpf_redirect(interface, BPF_F_INGRESS);
}
