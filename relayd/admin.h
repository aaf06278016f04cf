/*
 * What relayd answers relayctl: its figures, its table of relays, and the end of one of them.
 */
#ifndef SOCKST_RELAYD_ADMIN_H
#define SOCKST_RELAYD_ADMIN_H

#include "common/admin/server.h"
#include "relayd/relay/control.h"

struct relayd_admin;

struct relayd_admin_config {
    struct relay_context *context;     /* borrowed */
    const char *instance;              /* borrowed */
    struct admin_server_config server; /* its fd is consumed, also on failure */
};

/* Returns 0 or -errno. */
int relayd_admin_open(struct relayd_admin **out, const struct relayd_admin_config *config);

/* A text of what the operator should know, shown until the process ends. At most
 * ADMIN_WARNINGS_MAX are kept. */
void relayd_admin_warn(struct relayd_admin *admin, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The relay as relayctl shows it. */
void relayd_admin_describe(const struct relay *relay, const char *instance,
                           struct admin_relay *out);

/* NULL is allowed. */
void relayd_admin_close(struct relayd_admin *admin);

#endif
