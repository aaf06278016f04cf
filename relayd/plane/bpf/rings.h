/*
 * The ring buffers in which the program tells relayd something, read from the loop: a bounded
 * number of records of each in a turn, so that no flood of hints stops the rest of the daemon.
 */
#ifndef SOCKST_RELAYD_BPF_RINGS_H
#define SOCKST_RELAYD_BPF_RINGS_H

#include "relayd/plane/bpf/program.h"

/* Records of one ring that are read in one turn of the loop. */
#define RINGS_RECORDS_PER_TURN 512

/* Borrowed. */
struct rings_config {
    int events, strangers, answers; /* descriptors of the maps */
    volatile const struct bpf_globals *globals;
    const struct program_ops *ops;
    void *user;
};

struct rings;

/* Handles do not keep the loop alive. Returns 0 or -errno. */
int rings_open(struct rings **out, uv_loop_t *loop, const struct rings_config *config);

/* No callback comes any more; memory goes with the last close callback. NULL is allowed. */
void rings_close(struct rings *rings);

#endif
