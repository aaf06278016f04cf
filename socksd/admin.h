/*
 * What socksd answers relayctl: its status, with every counter.
 */
#ifndef SOCKST_SOCKSD_ADMIN_H
#define SOCKST_SOCKSD_ADMIN_H

#include "common/admin/server.h"
#include "socksd/counters.h"

struct admin;

struct admin_source {
    const struct counters *counters;
    const bool *stopping;
    /* Adds what the operator should know ("tcp: no relay daemon is connected") to out->warnings.
     * May be NULL. */
    void (*warn)(struct admin_status *out, void *user);
    void *user;
};

/* `socket_path` NULL and no inherited socket "admin": *out is NULL, which is no error. `group`
 * NULL: nobody else. Returns 0, -ENOENT for an unknown group, or -errno. */
int admin_open(struct admin **out, uv_loop_t *loop, const char *socket_path, const char *group,
               const struct admin_source *source);
/* NULL is allowed. */
void admin_close(struct admin *admin);

/* Adds one warning, if there is room. */
__attribute__((format(printf, 2, 3))) void admin_status_warn(struct admin_status *status,
                                                             const char *format, ...);

#endif
