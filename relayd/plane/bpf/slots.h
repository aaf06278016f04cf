/*
 * Which slots are free. A slot that was used rests for a second before it is used again: rows that
 * named it have been deleted by then, and the program has finished with what it had read of them.
 * Tombstones stay for a minute, or until their room is wanted: the oldest goes first.
 *
 * Everything costs the same, however many there are; a slot that was never used costs no memory of
 * relayd's.
 */
#ifndef SOCKST_RELAYD_BPF_SLOTS_H
#define SOCKST_RELAYD_BPF_SLOTS_H

#include <stdbool.h>

#include "relayd/bpf/abi.h"
#include "relayd/plane/bpf/flow_list.h"

#define SLOTS_REST_MS 1000
#define SLOTS_TOMBSTONE_MS 60000

/* For so many relays at a time: a quarter of them may rest or be tombstones besides, and a few. */
#define SLOTS_FOR(relays) ((relays) + (relays) / 4 + 1024)

struct slots {
    struct bpf_slot *rows; /* borrowed, the program's */
    struct flow *flows;    /* borrowed */
    uint32_t count;
    uint32_t spare; /* so many are kept for new relays, at the tombstones' expense */
    uint32_t fresh; /* this one and all after it were never used */
    struct flow_list resting, tombstones; /* oldest first */
    uint32_t in_use;
    uint64_t evicted; /* tombstones that made room; counted by the plane */
};

/* `rows` and `flows` have `count` zeroed elements; `relays` are open at a time. */
void slots_init(struct slots *slots, struct bpf_slot *rows, struct flow *flows, uint32_t count,
                uint32_t relays);

/* Would slots_take() give one? */
bool slots_have_one(const struct slots *slots, uint32_t now_ms);
/* A slot with a new generation, in state FREE, everything else of it zero, and its flow zero. NULL
 * is FLOW_NONE: none has rested. */
uint32_t slots_take(struct slots *slots, uint32_t now_ms);
/* No row names it any more. It is not in a list. */
void slots_rest(struct slots *slots, uint32_t index, uint32_t now_ms);
/* Its rows stay. It is not in a list, and its state in the table is TOMBSTONE. */
void slots_bury(struct slots *slots, uint32_t index, uint32_t now_ms);
/* The oldest tombstone when it is old enough to go, or when so few slots are left that it has to.
 * FLOW_NONE: none. The caller deletes its rows, and slots_exhume() takes it out of the list. */
uint32_t slots_expired(const struct slots *slots, uint32_t now_ms);
/* The oldest tombstone, however old. */
uint32_t slots_oldest(const struct slots *slots);
void slots_exhume(struct slots *slots, uint32_t index);
/* How long slots_expired() will give none, if nothing changes; UINT32_MAX: for ever. */
uint32_t slots_wait_ms(const struct slots *slots, uint32_t now_ms);

#endif
