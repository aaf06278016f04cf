/*
 * The rows of the program's table `flows`, two for each relay. They are written at once and deleted
 * in batches: a relay that is closed carries nothing from the moment when its slot says so.
 */
#ifndef SOCKST_RELAYD_BPF_ROWS_H
#define SOCKST_RELAYD_BPF_ROWS_H

#include <stdbool.h>
#include <stdint.h>

#include "relayd/bpf/abi.h"

/* Relays whose rows are deleted by one system call. */
#define ROWS_BATCH 128

struct rows {
    int fd; /* of `flows`; borrowed */
    uint32_t pending;
    uint64_t added, deleted; /* rows; what there is: the difference */
    struct bpf_flow_key keys[ROWS_BATCH * BPF_ENDS];
};

enum rows_result {
    ROWS_OK,
    ROWS_CLIENT_TAKEN, /* another relay has S and BND */
    ROWS_TARGET_TAKEN, /* another relay has DST and egress */
    ROWS_FULL,         /* no room, in the table or in the kernel's memory */
};

void rows_init(struct rows *rows, int fd);
/* Both rows of the slot, or none. The slot is complete. */
enum rows_result rows_add(struct rows *rows, const struct bpf_slot *slot, uint32_t index);
/* Remembers the slot's rows; rows_flush() deletes them. Returns false when there is no room: flush
 * first. */
bool rows_remove(struct rows *rows, const struct bpf_slot *slot);
void rows_flush(struct rows *rows);
/* The value of a row. Returns false when there is none. */
bool rows_find(const struct rows *rows, const struct bpf_flow_key *key, struct bpf_flow *out);

#endif
