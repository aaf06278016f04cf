/*
 * Opens one association in the loop, within a time.
 */
#ifndef SOCKST_COMMAND_OPENER_H
#define SOCKST_COMMAND_OPENER_H

#include "common/client/command/loop.h"
#include "common/client/sockst.h"

struct opener {
    /* The association stands and is now the callee's, or it is NULL and *failure says why. The
     * opener is idle again. */
    void (*done)(struct opener *opener, struct sockst_association *association,
                 const struct sockst_failure *failure);
    /* BIND: BND is known, the peer is waited for, and the opener's time does not run any more: the
     * server's does. May be NULL. */
    void (*bound)(struct opener *opener, const struct endpoint *bound);
    void *user;
    struct loop *loop; /* the opener's own from here on */
    struct sockst_association *association;
    struct watch control, data;
    struct timer timer;
    bool is_bound;
};

/* `done` and `user` are set by the caller. done() is always called, later, from the loop. Returns 0
 * or -errno. */
int opener_start(struct opener *opener, struct loop *loop, const struct sockst_options *options,
                 uint32_t timeout_ms);
/* done() will not be called. Idempotent. */
void opener_cancel(struct opener *opener);

#endif
