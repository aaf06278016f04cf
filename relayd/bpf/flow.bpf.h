/*
 * The relay that a packet belongs to, and whether it may be carried.
 */
#ifndef SOCKST_RELAYD_BPF_FLOW_H
#define SOCKST_RELAYD_BPF_FLOW_H

#include "relayd/bpf/kernel.bpf.h"
#include "relayd/bpf/tell.bpf.h"

struct relay {
    struct bpf_slot *slot;
    __u32 index;
    __u32 end; /* that sent the packet */
};

/* Not a reason of bpf_count. */
#define FOUND BPF_COUNT_END

/* As 64-bit words; in a key on the stack, and in a slot. */
struct addresses {
    __u64 first[2], second[2];
    __u32 ports;
};

/* Is the key the slot's own? A row may be deleted, and used again for another relay, while we look
 * at it; a slot is not, for a second. */
inlined bool is_of(const struct bpf_flow_key *key, const struct bpf_side *side)
{
    const struct addresses *packet = (const void *)key;
    const struct addresses *relay = (const void *)side;

    return packet->ports == relay->ports && packet->first[1] == relay->first[1] &&
           packet->second[1] == relay->second[1] && packet->first[0] == relay->first[0] &&
           packet->second[0] == relay->second[0];
}

/*
 * The relay of a row, with all that makes the packet one of it. Returns FOUND, or why not (to be
 * counted); relay->slot is set with BPF_COUNT_TOMBSTONE, too.
 */
inlined __u32 find_relay(const struct bpf_flow *row, const struct bpf_flow_key *key,
                         __u32 interface, struct relay *relay)
{
    const __u64 word = *(const volatile __u64 *)row;
    const __u32 index = (__u32)word & ~BPF_FLOW_FROM_TARGET;
    struct bpf_slot *slot = bpf_map_lookup_elem(&slots, &index);
    const __u32 end = (__u32)word >> 31;
    const struct bpf_side *side;
    __u32 state;

    if (slot == NULL || slot->generation != (__u32)(word >> 32))
        return BPF_COUNT_STALE;
    side = &slot->side[end];
    if (!is_of(key, side))
        return BPF_COUNT_STALE;
    if (interface != side->interface)
        return BPF_COUNT_SPOOFED;
    relay->slot = slot;
    relay->index = index;
    relay->end = end;
    state = *(volatile __u32 *)&slot->state;
    if (unlikely(state != BPF_SLOT_OPEN))
        return state == BPF_SLOT_TOMBSTONE ? BPF_COUNT_TOMBSTONE : BPF_COUNT_CLOSED;
    if (*(volatile __u32 *)&globals.peers[slot->peer & (BPF_PEERS_MAX - 1)] != slot->epoch)
        return BPF_COUNT_STALE;
    return FOUND;
}

/* Nanoseconds that `octets` take at the rate. Rates above 8 GiB/s count as that. */
inlined __u64 duration(__u64 octets, __u64 per_second)
{
    if (per_second > 1ull << 33)
        per_second = 1ull << 33;
    return octets * 1000000000ull / per_second;
}

/* bytes_per_second: each packet pays with the time that its octets take; a burst is a debt of
 * BPF_BURST_NS, or BPF_BURST_OCTETS. */
inlined bool rate_allows(struct bpf_direction *from, __u64 per_second, __u32 octets)
{
    const __u64 now = BPF_RATE_CLOCK_START + bpf_ktime_get_ns();
    const __u64 cost = duration(octets, per_second);
    __u64 burst = duration(BPF_BURST_OCTETS, per_second);
    __u64 paid = *(volatile __u64 *)&from->paid_ns;

    if (burst < BPF_BURST_NS)
        burst = BPF_BURST_NS;
    if (paid + burst < now) { /* the bucket is full */
        __sync_val_compare_and_swap(&from->paid_ns, paid, now - burst);
        paid = now - burst;
    }
    if (paid + cost > now)
        return false;
    __sync_fetch_and_add(&from->paid_ns, cost);
    return true;
}

/* Returns FOUND, or why the packet is dropped. */
separate __u32 limit(struct bpf_slot *slot, __u32 index, __u32 end, __u32 octets)
{
    struct bpf_direction *from;

    if (slot == NULL)
        return BPF_COUNT_FAILED;
    from = &slot->from[end & 1];
    if (slot->max_bytes != 0 &&
        slot->from[BPF_CLIENT].bytes + slot->from[BPF_TARGET].bytes + octets > slot->max_bytes) {
        see(slot, index, end, BPF_SEEN_LIMIT);
        return BPF_COUNT_LIMIT;
    }
    if (slot->bytes_per_second != 0 && !rate_allows(from, slot->bytes_per_second, octets))
        return BPF_COUNT_RATE;
    return FOUND;
}

#endif
