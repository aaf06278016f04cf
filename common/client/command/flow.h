/*
 * One TCP association between two local descriptors and the data socket, kept as N1.md demands of a
 * client (N1-END-030).
 *
 *   OPENING ──▶ OPEN ── both directions ended ──▶ LINGERING ── N1 closed, or SOCKST_LINGER_MS ──▶
 * ENDED └─────────┴── failure, reset, or N1 closed and nothing more came ──▶ ENDED
 *
 * CONNECT and BIND have no N1 beside the data: LINGERING lasts until everything was acknowledged.
 *
 * The end of the input is passed on by shutdown(SHUT_WR), and reading goes on (half-close).
 */
#ifndef SOCKST_COMMAND_FLOW_H
#define SOCKST_COMMAND_FLOW_H

#include "common/client/command/loop.h"
#include "common/client/sockst.h"

struct flow;

struct flow_result {
    bool complete; /* both directions ended in order, and nothing is missing */
    uint64_t up_bytes, down_bytes;
    struct sockst_failure failure; /* if not complete */
};

struct flow_ops {
    void (*bound)(struct flow *flow, const struct endpoint *bound,
                  void *user); /* BIND; may be NULL */
    void (*opened)(struct flow *flow, const struct sockst_association *association,
                   void *user); /* may be NULL */
    /* Exactly once, from the loop; flow_free() is allowed inside. Not called after flow_free(). */
    void (*ended)(struct flow *flow, const struct flow_result *result, void *user);
};

/* Consumes `in` and `out` (the same, if it is a socket), also on failure. Returns 0 or -errno. */
int flow_open(struct flow **out_flow, struct loop *loop, const struct sockst_options *options,
              uint32_t timeout_ms, int in, int out, const struct flow_ops *ops, void *user);
/* From any state; an unfinished local socket is reset. NULL is allowed. */
void flow_free(struct flow *flow);

#endif
