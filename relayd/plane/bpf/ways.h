/*
 * Ways: how packets get from here to a peer (S or DST), and where the peer's packets must come
 * from. A way is the kernel's own answer for that address (RTM_GETROUTE), kept as long as a relay
 * needs it and asked for again when routes, rules, links or addresses change.
 *
 * Hops: the next hop of ways, one row of the program's table for each (interface, gateway, MTU);
 * the link-layer addresses come from the kernel's neighbour table, which is followed. A hop whose
 * neighbour is not known is BPF_HOP_ASK: the program then lets the kernel find out, and the kernel
 * tells us. So relayd never sends anything itself, and the neighbour's change or loss is one write.
 *
 * Needs no privilege.
 */
#ifndef SOCKST_RELAYD_BPF_WAYS_H
#define SOCKST_RELAYD_BPF_WAYS_H

#include <uv.h>

#include "proto/admin.h"
#include "proto/endpoint.h"
#include "relayd/bpf/abi.h"

struct ways;

struct way {
    struct ip_address peer;
    struct ip_address local; /* our address towards it: the one asked for, or the kernel's choice,
                              * which may become another one (IP_NONE: there is none) */
    const char *problem;     /* static text where the plane cannot carry it ("the peer is this
                              * host", "no route to the peer", "no attached interface leads
                              * there"); else NULL */
    uint32_t interface;      /* 0: there is no usable way now */
    uint16_t hop;            /* row of `hops`; 0: none. Stays while only the neighbour changes. A
                              * row that no way has any more keeps its meaning for HOPS_REST_MS */
    /* The rest is private. */
    bool chosen; /* `local`, by the kernel */
    uint32_t references;
    uint32_t priority; /* way_tree.c */
    struct way *left, *right;
};

struct ways_config {
    uv_loop_t *loop;
    struct bpf_hop *hops; /* BPF_HOPS_MAX rows, zeroed */
    uint8_t protocol;     /* IPPROTO_TCP, IPPROTO_UDP; 0: any. Policy rules may ask for it */
    /* Is the program attached there? */
    bool (*attached)(void *user, uint32_t interface);
    /* Called from the loop after some ways have another interface, hop or problem than before; once
     * for all that changed in one turn. May get and give back ways, and close. */
    void (*changed)(void *user);
    void *user;
};

/* `config` is copied, what it points to borrowed. Returns 0 or -errno. */
int ways_open(struct ways **out, const struct ways_config *config);

/*
 * The way to `peer`, with a reference. `local` is the address that our packets are to have
 * (IP_NONE: the kernel chooses). Costs a look-up where the way is in use already, otherwise two
 * system calls, and two more where its hop is new. Returns 0 with *out, also where way->problem is
 * set; -EINVAL: no address, or addresses of two families; -ENOMEM; -ENOSPC: hops are used up;
 * -ENOMSG: the kernel did not answer.
 */
int ways_get(struct ways *ways, const struct ip_address *peer, const struct ip_address *local,
             struct way **out);
/* Gives the reference back. NULL is allowed. */
void ways_put(struct ways *ways, struct way *way);

/* The set of attached interfaces has changed: every way is asked for again. */
void ways_refresh(struct ways *ways);

/* Ways, those without a usable way, ways asked for again, notifications lost; hops in use, by
 * state. */
void ways_status(const struct ways *ways, struct admin_status *out);

/* No way is referenced any more. Memory goes with the last close callback. NULL is allowed. */
void ways_close(struct ways *ways);

#endif
