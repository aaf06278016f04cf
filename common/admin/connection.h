/*
 * One client of the admin socket: takes a request at a time and streams its answer. While an answer
 * is on its way the next request stays in the kernel; while the client does not read, the cursor
 * rests.
 */
#ifndef SOCKST_COMMON_ADMIN_CONNECTION_H
#define SOCKST_COMMON_ADMIN_CONNECTION_H

#include <uv.h>

#include "common/admin/server.h"

struct admin_connection;

struct admin_connection_config {
    const struct admin_server_ops *ops; /* borrowed */
    void *ops_user;
    struct admin_server_stats *stats; /* borrowed; requests and bad_requests are counted here */
    uint32_t idle_timeout_ms;
    /* It has ended by itself; never called after admin_connection_close(). */
    void (*ended)(struct admin_connection *connection, void *user);
    void *user;
};

/* Consumes `fd`, also on failure. Returns 0 or -errno. */
int admin_connection_open(struct admin_connection **out, uv_loop_t *loop, int fd,
                          const struct admin_connection_config *config);

/* Ends it without a callback; may be called in any callback; memory goes with the last close
 * callback. */
void admin_connection_close(struct admin_connection *connection);

#endif
