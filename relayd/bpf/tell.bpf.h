/*
 * What the program tells relayd: counters, hints of what has changed, packets to be answered.
 */
#ifndef SOCKST_RELAYD_BPF_TELL_H
#define SOCKST_RELAYD_BPF_TELL_H

#include "relayd/bpf/kernel.bpf.h"

separate int count(__u32 what)
{
    __u64 *counter = bpf_map_lookup_elem(&counters, &what);

    if (counter != NULL)
        *counter += 1; /* of this processor alone */
    return 0;
}

/* Counts, and is the verdict. */
separate int drop(__u32 why)
{
    count(why);
    return DROP;
}

/* `flags` are set in what direction `end` of the slot has seen; relayd hears of it when that is
 * news. */
separate int see(struct bpf_slot *slot, __u32 index, __u32 end, __u32 flags)
{
    struct bpf_event event = {.slot = index, .end = end & 1};
    __u32 before;

    if (slot == NULL)
        return 0;
    event.generation = slot->generation;
    before = __sync_fetch_and_or(&slot->from[event.end].seen, flags);
    event.seen = before | flags;
    if (event.seen != before && bpf_ringbuf_output(&events, &event, sizeof(event), 0) != 0)
        __sync_fetch_and_add(&globals.events_lost, 1);
    return 0;
}

/* A packet to one of our endpoints that belongs to no relay. */
separate int stranger(__u32 row)
{
    struct bpf_strangers *strangers_of = bpf_map_lookup_elem(&strangers, &row);
    struct bpf_stranger_event event = {.row = row};
    __u64 now;

    if (strangers_of != NULL) {
        __sync_fetch_and_add(&strangers_of->packets, 1);
        now = bpf_ktime_get_coarse_ns();
        if (now - strangers_of->told_ns >= BPF_STRANGERS_TELL_NS) {
            strangers_of->told_ns = now;
            if (bpf_ringbuf_output(&strangers_ring, &event, sizeof(event), 0) != 0)
                __sync_fetch_and_add(&globals.strangers_lost, 1);
        }
    }
    return drop(BPF_COUNT_STRANGERS);
}

/* No relay has sent a packet with these addresses: a stranger's, or none of our business. */
separate int miss(const struct bpf_flow_key *key)
{
    struct bpf_endpoint_key endpoint = {.port = key->destination_port};
    const __u32 *row;

    __builtin_memcpy(endpoint.address, key->destination, sizeof(endpoint.address));
    row = bpf_map_lookup_elem(&endpoints, &endpoint);
    return row == NULL ? NEXT : stranger(*row);
}

/* ---- answers --------------------------------------------------------------------------------- */

#define TENTH_OF_SECOND_NS 100000000ull
#define TENTH_OF_SECOND_MS 100u

/* All answers together: each one pays for its share of a second, a tenth of a second in advance. */
inlined bool rate_of_all_allows(__u64 now)
{
    const __u64 share = 1000000000ull / BPF_ANSWERS_PER_SECOND;
    const __u64 before = *(volatile __u64 *)&globals.answer_tokens_ns;
    __u64 paid = before;

    if (paid + TENTH_OF_SECOND_NS < now)
        paid = now - TENTH_OF_SECOND_NS;
    if (paid + share > now)
        return false;
    return __sync_val_compare_and_swap(&globals.answer_tokens_ns, before, paid + share) == before;
}

/* The same for one end, so that a relay does not use up what the others need. Milliseconds, which
 * wrap around after 49 days. */
inlined bool rate_of_end_allows(struct bpf_direction *from, __u64 now)
{
    const __u32 share = 1000u / BPF_ANSWERS_PER_SECOND_OF_END;
    const __u32 now_ms = (__u32)(now / 1000000u);
    __u32 ahead = now_ms - from->answered_ms; /* not yet paid for */

    if (ahead > TENTH_OF_SECOND_MS)
        ahead = TENTH_OF_SECOND_MS;
    if (ahead < share)
        return false;
    from->answered_ms = now_ms - ahead + share;
    return true;
}

/* Hands the packet to relayd, which answers; always drops. `why` is counted, too. `payload`: see
 * struct bpf_answer; above: the kind. */
separate int answer(struct __sk_buff *skb, __u32 l3, struct bpf_direction *from, __u32 kind,
                    __u32 detail)
{
    const __u64 now = bpf_ktime_get_ns();
    struct bpf_answer *record;
    __u32 length;

    if (from == NULL || !rate_of_end_allows(from, now) || !rate_of_all_allows(now))
        return drop(BPF_COUNT_ANSWERS_LIMITED);
    record = bpf_ringbuf_reserve(&answers, sizeof(*record), 0);
    if (record == NULL) {
        __sync_fetch_and_add(&globals.answers_lost, 1);
        return DROP;
    }
    length = skb->len - l3;
    if (length > BPF_ANSWER_HEAD)
        length = BPF_ANSWER_HEAD;
    if (length == 0 || bpf_skb_load_bytes(skb, l3, record->head, length) != 0) {
        bpf_ringbuf_discard(record, 0);
        return drop(BPF_COUNT_FAILED);
    }
    record->kind = kind;
    record->interface = skb->ifindex;
    record->mtu = kind == BPF_ANSWER_TOO_BIG ? detail : 0;
    record->payload = kind == BPF_ANSWER_RESET ? detail : 0;
    record->length = length;
    bpf_ringbuf_submit(record, 0);
    return DROP;
}

#endif
