/*
 * The relay daemon as a whole: it owns everything, in this order of dependence: loop, routes and
 * floor, endpoints, planes, table and relays, N2 and admin sockets.
 *
 * SIGTERM and SIGINT stop it: no new connection or relay, every relay closed (SHUTDOWN), what the
 * peers are owed sent. SIGHUP changes nothing: its options are read at start.
 */
#ifndef SOCKST_RELAYD_DAEMON_H
#define SOCKST_RELAYD_DAEMON_H

#include "relayd/config.h"
#include "relayd/options.h"

struct daemon;

/*
 * Sets everything up and gives up every privilege; failures are logged. `options` and `config` are
 * borrowed. Returns 0 or -errno.
 */
int daemon_new(struct daemon **out, const struct options *options,
               const struct relayd_config *config);

/* Serves until a signal stops it and the last relay is gone. Returns 0. */
int daemon_run(struct daemon *daemon);

/* NULL is allowed. */
void daemon_free(struct daemon *daemon);

#endif
