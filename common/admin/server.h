/*
 * The admin socket of a daemon: answers relayctl. Both daemons use it, each with its own table of
 * operations; an operation that is NULL is answered with an error. Tables are streamed with a
 * cursor: at most one batch of records is in memory, and a reader that does not read pauses its
 * cursor.
 */
#ifndef SOCKST_COMMON_ADMIN_SERVER_H
#define SOCKST_COMMON_ADMIN_SERVER_H

#include <uv.h>

#include "proto/admin.h"

struct admin_server;

struct admin_server_ops {
    /* admin_server_stats() are added to its counters. */
    void (*status)(void *user, struct admin_status *out);
    /* The next relay at or after *cursor (0 at first), which is advanced past it; false at the end
     * of the table. Relays may come and go between calls. */
    bool (*next_relay)(void *user, uint64_t *cursor, struct admin_relay *out);
    bool (*show_relay)(void *user, uint64_t relay, struct admin_relay *out);
    /* 0, or -ENOENT. */
    int (*close_relay)(void *user, uint64_t relay);
};

struct admin_server_config {
    int fd;           /* inherited listening socket (consumed), or -1 */
    const char *path; /* where to listen when fd is -1 */
    gid_t group; /* besides root and our own uid, members of this group may ask; (gid_t)-1: nobody
                    else */
    uint32_t max_connections; /* default 32 */
    uint32_t
        idle_timeout_ms; /* default 60000: a connection that asks nothing, or does not read, ends */
};

struct admin_server_stats {
    uint64_t connections, refused, requests, bad_requests;
};

void admin_server_config_init(struct admin_server_config *config);
/* Returns 0 or -errno. */
int admin_server_open(struct admin_server **out, uv_loop_t *loop,
                      const struct admin_server_config *config, const struct admin_server_ops *ops,
                      void *user);
struct admin_server_stats admin_server_stats(const struct admin_server *server);
/* Closes the listener and every connection; unlinks a path that it made; memory goes with the last
 * close callback. NULL is allowed. */
void admin_server_close(struct admin_server *server);

#endif
