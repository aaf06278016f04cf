/*
 * TCP as far as the relay has to know it: nonsense is dropped, nothing happens before the client's
 * SYN, and what marks the life of a connection is noted in the directions' flags. One association
 * carries one connection: once that is ending, there is no other.
 *
 *   client                         relay                         target
 *     | ---- SYN ------------------> |  SYN                        |
 *     |                              |  SYN  <---------- SYN,ACK - |
 *     | ---- ACK ------------------> |  ESTABLISHED                |
 *     |                              |  ESTABLISHED  <------ ACK - |
 *     | ---- FIN ------------------> |  FIN                        |
 *     |          (the client's:)     |  FIN_ACKED  <-------- ACK - |
 */
#ifndef SOCKST_RELAYD_BPF_TCP_H
#define SOCKST_RELAYD_BPF_TCP_H

#include "relayd/bpf/flow.bpf.h"
#include "relayd/bpf/packet.bpf.h"
#include "relayd/bpf/tell.bpf.h"

#define STEADY (BPF_SEEN_PACKET | BPF_SEEN_SYN | BPF_SEEN_ESTABLISHED)
#define ENDING (BPF_SEEN_FIN | BPF_SEEN_RST)

/* An acknowledgment, with data or without, of a connection that is established: changes nothing. */
inlined bool is_steady(const struct bpf_direction *from, __u32 tcp_flags)
{
    return tcp_flags == TCP_ACK && (from->seen & STEADY) == STEADY && from->other_fin == 0;
}

inlined bool is_nonsense(__u32 flags)
{
    if ((flags & TCP_SYN) != 0)
        return (flags & (TCP_FIN | TCP_RST)) != 0;
    if ((flags & TCP_FIN) != 0)
        return (flags & TCP_ACK) == 0 || (flags & TCP_RST) != 0;
    return (flags & (TCP_ACK | TCP_RST)) == 0;
}

/* `own` and `other`: what the sender and the other end have sent before. */
inlined bool is_out_of_turn(__u32 flags, __u32 end, __u32 own, __u32 other)
{
    if (end == BPF_TARGET)
        return (other & BPF_SEEN_SYN) == 0 || (flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
    if ((flags & TCP_SYN) == 0)
        return (own & BPF_SEEN_SYN) == 0;
    return (flags & TCP_ACK) != 0 || ((own | other) & ENDING) != 0;
}

/* Sequence and acknowledgment number of the segment, in host byte order. */
struct tcp_numbers {
    __be32 sequence, acknowledgment;
};

/* Would the receiver believe an RST? As RFC 9293, 3.10.7.3 and RFC 5961, 3.2 have it: while it
 * waits for the answer to its SYN, one that acknowledges it; afterwards, one with exactly the
 * sequence number that it has acknowledged last. To any other, a receiver that finds it in its
 * window answers with an acknowledgment, to which the sender, if it was the sender, has another RST
 * with that number. So nobody can end a relay by guessing addresses and ports. */
inlined bool is_believable(const struct bpf_direction *own, const struct bpf_direction *other,
                           const struct tcp_numbers *numbers, __u32 flags, __u32 end)
{
    if ((other->seen & BPF_SEEN_ESTABLISHED) != 0 ||
        (end == BPF_CLIENT && (other->seen & BPF_SEEN_SYN) != 0))
        return numbers->sequence == other->acknowledgment;
    if (end == BPF_TARGET && (own->seen & BPF_SEEN_SYN) == 0)
        return (flags & TCP_ACK) != 0 && bpf_ntohl(numbers->acknowledgment) == own->awaited;
    return end == BPF_CLIENT;
}

/* The acknowledgment that the other end's direction is to bring for this SYN or FIN. It is told, so
 * that it need not look at this one's with each packet. */
inlined void await_acknowledgment(struct bpf_direction *other, __u32 sequence_end, __u32 flags)
{
    other->awaited = sequence_end + 1;
    if ((flags & TCP_FIN) != 0)
        *(volatile __u32 *)&other->other_fin = 1;
}

/* Nothing follows a FIN, so its acknowledgment is exactly that: of a FIN with another number, which
 * is none of the connection's, nothing comes. */
inlined bool acknowledges_fin(const struct bpf_direction *own, const struct tcp_numbers *numbers,
                              __u32 flags)
{
    return (flags & TCP_ACK) != 0 && own->other_fin != 0 &&
           bpf_ntohl(numbers->acknowledgment) == own->awaited;
}

/* Checks a segment that is not steady, and notes what it changes. `place`: offset of the L4 header,
 * above 16 bits of TCP flags. Returns FOUND or why it is dropped. */
separate __u32 tcp_segment(struct __sk_buff *skb, struct bpf_slot *slot, __u64 index_and_end,
                           __u64 place, __u32 payload)
{
    const __u32 flags = (__u32)place & 0xffff;
    const __u32 end = (__u32)(index_and_end >> 32) & 1;
    struct bpf_direction *own, *other;
    struct tcp_numbers numbers;
    __u32 seen = BPF_SEEN_PACKET;

    if (slot == NULL)
        return BPF_COUNT_FAILED;
    own = &slot->from[end];
    other = &slot->from[end ^ 1];
    if (is_nonsense(flags))
        return BPF_COUNT_TCP_FLAGS;
    if (is_out_of_turn(flags, end, own->seen, other->seen))
        return BPF_COUNT_TCP_STATE;
    if (bpf_skb_load_bytes(skb, (__u32)(place >> 16) + 4, &numbers, sizeof(numbers)) != 0)
        return BPF_COUNT_FAILED;
    if ((flags & TCP_SYN) != 0)
        seen |= BPF_SEEN_SYN;
    else if ((flags & TCP_ACK) != 0 && (own->seen & BPF_SEEN_SYN) != 0 &&
             (other->seen & BPF_SEEN_SYN) != 0)
        seen |= BPF_SEEN_ESTABLISHED;
    if ((flags & TCP_RST) != 0 && is_believable(own, other, &numbers, flags, end))
        seen |= BPF_SEEN_RST;
    if ((flags & TCP_FIN) != 0)
        seen |= BPF_SEEN_FIN;
    if ((flags & (TCP_SYN | TCP_FIN)) != 0 && (own->seen & BPF_SEEN_FIN_ACKED) == 0)
        await_acknowledgment(other, bpf_ntohl(numbers.sequence) + payload, flags);
    if ((flags & (TCP_ACK | TCP_RST)) == TCP_ACK)
        own->acknowledgment = numbers.acknowledgment;
    see(slot, (__u32)index_and_end, end, seen);
    if (acknowledges_fin(own, &numbers, flags)) {
        own->other_fin = 0;
        see(slot, (__u32)index_and_end, end ^ 1, BPF_SEEN_FIN_ACKED);
    }
    return FOUND;
}

#endif
