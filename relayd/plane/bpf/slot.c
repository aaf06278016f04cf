#include "relayd/plane/bpf/slot.h"

#include <arpa/inet.h>
#include <string.h>

static const uint8_t mapped_prefix[12] = {[10] = 0xff, [11] = 0xff};

void slot_put_address(__u32 out[4], const struct ip_address *address)
{
    uint8_t bytes[16];

    if (address->family == IP_V4) {
        memcpy(bytes, mapped_prefix, sizeof(mapped_prefix));
        memcpy(bytes + 12, address->bytes, 4);
    } else {
        memcpy(bytes, address->bytes, sizeof(bytes));
    }
    memcpy(out, bytes, sizeof(bytes));
}

struct endpoint slot_endpoint(const __u32 address[4], __be16 port)
{
    uint8_t bytes[16];

    memcpy(bytes, address, sizeof(bytes));
    return (struct endpoint){.address = ip_address_v6(bytes), .port = ntohs(port)};
}

/* ---- checksums ---------------------------------------------------------------------------------
 */

/* Ones-complement sums (RFC 1071) of words as they lie in memory. */
static uint32_t add(uint32_t sum, uint32_t word)
{
    const uint64_t wide = (uint64_t)sum + word;

    return (uint32_t)wide + (uint32_t)(wide >> 32);
}

static uint32_t add_difference(uint32_t sum, const __u32 *from, const __u32 *to, size_t words)
{
    for (size_t i = 0; i < words; i++)
        sum = add(add(sum, ~from[i]), to[i]);
    return sum;
}

static __u32 both_ports(__be16 first, __be16 second)
{
    const __be16 ports[2] = {first, second};
    __u32 word;

    memcpy(&word, ports, sizeof(word));
    return word;
}

static bool is_mapped(const __u32 address[4])
{
    return memcmp(address, mapped_prefix, sizeof(mapped_prefix)) == 0;
}

/* A packet that `end` sent has peer → local of this side, and leaves with local → peer of the other
 * one. */
static void put_sums(struct bpf_slot *slot, enum bpf_end end)
{
    const struct bpf_side *in = &slot->side[end], *out = &slot->side[slot_other(end)];
    const bool is_v4 = is_mapped(in->peer);
    const size_t first = is_v4 ? 3 : 0, words = 4 - first; /* IPv4 headers have no more */
    const __u32 ports_in = both_ports(in->peer_port, in->local_port);
    const __u32 ports_out = both_ports(out->local_port, out->peer_port);
    uint32_t sum = add_difference(0, in->peer + first, out->local + first, words);

    sum = add_difference(sum, in->local + first, out->peer + first, words);
    slot->from[end].address_sum = sum;
    slot->from[end].header_sum = is_v4 ? sum : 0;
    slot->from[end].port_sum = add_difference(0, &ports_in, &ports_out, 1);
}

void slot_put_sides(struct bpf_slot *slot, const struct slot_side sides[BPF_ENDS])
{
    for (int end = BPF_CLIENT; end < BPF_ENDS; end++) {
        struct bpf_side *side = &slot->side[end];
        slot_put_address(side->peer, &sides[end].peer->address);
        slot_put_address(side->local, &sides[end].local->address);
        side->peer_port = htons(sides[end].peer->port);
        side->local_port = htons(sides[end].local->port);
        side->interface = sides[end].interface;
        side->hop = sides[end].hop;
    }
    put_sums(slot, BPF_CLIENT);
    put_sums(slot, BPF_TARGET);
}

/* ---- rows --------------------------------------------------------------------------------------
 */

struct bpf_flow_key slot_key(const struct bpf_slot *slot, enum bpf_end end)
{
    const struct bpf_side *side = &slot->side[end];
    struct bpf_flow_key key = {.source_port = side->peer_port,
                               .destination_port = side->local_port};

    memcpy(key.source, side->peer, sizeof(key.source));
    memcpy(key.destination, side->local, sizeof(key.destination));
    return key;
}

struct bpf_flow slot_value(const struct bpf_slot *slot, uint32_t index, enum bpf_end end)
{
    return (struct bpf_flow){.slot = end == BPF_TARGET ? index | BPF_FLOW_FROM_TARGET : index,
                             .generation = slot->generation};
}

uint64_t slot_last_ms(const struct bpf_slot *slot)
{
    const uint64_t up = __atomic_load_n(&slot->from[BPF_CLIENT].last_ns, __ATOMIC_RELAXED);
    const uint64_t down = __atomic_load_n(&slot->from[BPF_TARGET].last_ns, __ATOMIC_RELAXED);

    return (up > down ? up : down) / 1000000;
}
