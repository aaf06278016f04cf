/*
 * The daemon as a whole: it owns the loop and everything on it.
 */
#ifndef SOCKST_SOCKSD_SERVER_H
#define SOCKST_SOCKSD_SERVER_H

#include "socksd/config.h"

struct server;

/* Builds everything: sockets, rules, resolver, relay daemons. The log is set up, `config` is
 * borrowed until server_free(). Returns 0, or -errno after logging what failed (*out is then to be
 * freed all the same, unless NULL). */
int server_new(struct server **out, const struct socksd_config *config);

/*
 * Drops privileges, says that it is ready (also on service_ready_fd()), and serves until SIGTERM or
 * SIGINT; then closes every relay and session. Returns 0 or -errno.
 */
int server_run(struct server *server);

/* NULL is allowed. */
void server_free(struct server *server);

#endif
