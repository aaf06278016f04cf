/*
 * The BPF plane from inside: what its files share. relayd's side of a relay is a flow (flow.h),
 * made by opening.c, followed by hints of the program (hints.c) and by time (turns.c).
 */
#ifndef SOCKST_RELAYD_BPF_PLANE_PARTS_H
#define SOCKST_RELAYD_BPF_PLANE_PARTS_H

#include "relayd/plane/bpf/answers.h"
#include "relayd/plane/bpf/bpf_plane.h"
#include "relayd/plane/bpf/deadlines.h"
#include "relayd/plane/bpf/held_ports.h"
#include "relayd/plane/bpf/interfaces.h"
#include "relayd/plane/bpf/rows.h"
#include "relayd/plane/bpf/slots.h"
#include "relayd/plane/bpf/ways.h"

/* What a relay would get, found out when the plane was asked whether it refuses it; used when it is
 * opened right afterwards. */
struct prospect {
    uint64_t relay; /* its id; 0: none */
    struct ip_address bound, egress;
    struct way *way[BPF_ENDS]; /* references of the prospect's own */
};

/* Why a plane's texts about ways name the end. */
#define PROBLEMS_MAX 16
struct problem_texts {
    const char *problem; /* as the way has it */
    char text[BPF_ENDS][N2_LABEL_MAX + 1];
};

/* What a pass over all flows looks for. */
enum pass_bit { PASS_FLAGS = 1, PASS_WAYS = 2 };

struct bpf_plane {
    struct plane base; /* first */
    uv_loop_t *loop;
    const struct relayd_config *config;
    struct endpoints *endpoints;
    const struct transport *transport;
    struct program *program;       /* NULL in tests */
    struct interfaces *interfaces; /* NULL in tests */
    struct answers *answers;
    struct ways *ways;
    struct held_ports *ports;
    struct bpf_tables tables;
    struct flow *flows; /* tables.slot_count */
    struct slots slots;
    struct deadlines deadlines;
    struct rows rows;
    struct flow_list closing; /* oldest first; their time is in since_ms */
    uint64_t started_ms;      /* of the loop: the zero of all times in flows */

    uv_timer_t timer;     /* the next deadline, settled flow or expired tombstone */
    uint64_t timer_at_ms; /* of the loop; UINT64_MAX: it does not run */
    uv_prepare_t before;  /* rows are deleted before the loop waits; runs while there are some */
    uv_idle_t pass;       /* a pass over all flows; runs while there is one */
    uint32_t pass_next;   /* flow */
    unsigned pass_bits;   /* of the one that runs */
    unsigned pass_wanted; /* of the one after it */
    unsigned handles;     /* whose close callback is still to come */
    bool listens, has_handles;

    struct prospect prospect;
    struct problem_texts problems[PROBLEMS_MAX];
    uint32_t problem_count;

    uint32_t slow_slot;    /* that slow_find() found last */
    enum bpf_end slow_end; /* who sent that */

    struct {
        uint64_t opened;
        uint64_t refused_full;              /* no slot */
        uint64_t failed;                    /* no port to be had, no room for rows */
        uint64_t tries;                     /* rows that another relay had */
        uint64_t evicted;                   /* tombstones that made room before their time */
        uint64_t sweeps;                    /* passes for hints that were lost */
        uint64_t ways_lost;                 /* relays that were ended for it */
        uint64_t slow_limited;              /* … and has not, for the relay's limits */
        uint64_t slow_packets, slow_failed; /* datagrams that relayd has sent on */
    } count;
};

static inline struct bpf_plane *bpf_plane_of(struct plane *plane)
{
    return (struct bpf_plane *)plane;
}

/* ---- bpf_plane.c: what tests need to build one ----------------------------------------------- */

/* Everything of a plane that needs neither program nor interfaces; `tables` are copied. Returns 0
 * or -errno; either way bpf_plane_close_parts() is owed. */
int bpf_plane_build_parts(struct bpf_plane *plane, uv_loop_t *loop,
                          const struct bpf_plane_config *config, const struct bpf_tables *tables);
/* Memory goes with the last close callback, that of `plane`, too. */
void bpf_plane_close_parts(struct bpf_plane *plane);
extern const struct plane_ops bpf_plane_ops;

/* ---- turns.c: time --------------------------------------------------------------------------- */

uint32_t turns_now_ms(const struct bpf_plane *plane);
int turns_start(struct bpf_plane *plane);
/* Something is to happen in `delay_ms`. */
void turns_within(struct bpf_plane *plane, uint32_t delay_ms);
/* The deadline of a flow; UINT64_MAX: none. */
void turns_set_deadline(struct bpf_plane *plane, uint32_t flow, uint64_t delay_ms);
/* Rows are to be deleted before the loop waits. */
void turns_rows_pending(struct bpf_plane *plane);
/* A pass over all flows, in slices. */
void turns_pass(struct bpf_plane *plane, unsigned bits);
void turns_stop(struct bpf_plane *plane, uv_close_cb closed);

/* ---- opening.c ------------------------------------------------------------------------------- */

const char *opening_refuses(struct bpf_plane *plane, const struct relay *relay);
/* As plane->ops->open. */
void opening_open(struct bpf_plane *plane, struct relay *relay);
void opening_forget_prospect(struct bpf_plane *plane);

/* ---- hints.c --------------------------------------------------------------------------------- */

extern const struct program_ops hints_ops;         /* user: the plane */
extern const struct slow_path_ops hints_slow_path; /* user: the plane */

#endif
