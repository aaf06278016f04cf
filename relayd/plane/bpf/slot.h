/*
 * One row of the program's table `slots`, as relayd writes and reads it.
 */
#ifndef SOCKST_RELAYD_BPF_SLOT_H
#define SOCKST_RELAYD_BPF_SLOT_H

#include <stdbool.h>

#include "proto/endpoint.h"
#include "relayd/bpf/abi.h"

/* Sixteen octets of the table: IPv4 addresses are mapped. The scope is left out. */
void slot_put_address(__u32 out[4], const struct ip_address *address);
/* And back, without a scope. */
struct endpoint slot_endpoint(const __u32 address[4], __be16 port);

/* What leads to the end's peer and who that is. */
struct slot_side {
    const struct endpoint *peer, *local;
    uint32_t interface;
    uint16_t hop;
};
/* Writes both sides, and what follows from them: the differences of the checksums. */
void slot_put_sides(struct bpf_slot *slot, const struct slot_side sides[BPF_ENDS]);

/* The row of `flows` by which packets that `end` sends find the slot. */
struct bpf_flow_key slot_key(const struct bpf_slot *slot, enum bpf_end end);
struct bpf_flow slot_value(const struct bpf_slot *slot, uint32_t index, enum bpf_end end);

/* The end at the other side. */
static inline enum bpf_end slot_other(enum bpf_end end)
{
    return end == BPF_CLIENT ? BPF_TARGET : BPF_CLIENT;
}

/* Reads and writes that the program may do at the same time. */
static inline uint32_t slot_seen(const struct bpf_slot *slot, enum bpf_end end)
{
    return __atomic_load_n(&slot->from[end].seen, __ATOMIC_ACQUIRE);
}
/* Everything else was written before. */
static inline void slot_set_state(struct bpf_slot *slot, enum bpf_slot_state state)
{
    __atomic_store_n(&slot->state, (__u32)state, __ATOMIC_RELEASE);
}
/* When the last packet of either direction was carried, in milliseconds of CLOCK_MONOTONIC; 0: none
 * was. */
uint64_t slot_last_ms(const struct bpf_slot *slot);

#endif
