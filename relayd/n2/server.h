/*
 * The N2 listener: takes connections of those who may connect, a bounded number of them, and ends
 * them.
 */
#ifndef SOCKST_RELAYD_N2_SERVER_H
#define SOCKST_RELAYD_N2_SERVER_H

#include "relayd/n2/access.h"
#include "relayd/n2/peer.h"

#define N2_PEERS_MAX 16

struct n2_server;

struct n2_server_config {
    int fd;           /* inherited listening socket (consumed, also on failure), or -1 */
    const char *path; /* where to listen when fd is -1: mode 0660, the directory's group */
    const struct config_list *allow_users;
    struct n2_hello hello;      /* of this relayd; `draining` is kept up to date */
    struct n2_link_config link; /* marks and deadlines; its hello is not used */
};

/* Returns 0 or -errno. What `config` points to may go afterwards. `context` is borrowed. */
int n2_server_open(struct n2_server **out, struct relay_context *context,
                   const struct n2_server_config *config);

/* Another hello for the peers that connect from now on: what it says may be known only after the
 * socket is taken. */
void n2_server_announce(struct n2_server *server, const struct n2_hello *hello);

/* Takes no new connection. Idempotent. */
void n2_server_stop_listening(struct n2_server *server);

/* Does each peer read what it is sent? */
bool n2_server_takes_more(const struct n2_server *server);

/* Has each peer been sent everything? */
bool n2_server_is_flushed(const struct n2_server *server);

/* Closes the listener, unlinks a path that it made, closes the peers and their relays. Memory goes
 * with the last close callback. NULL is allowed. */
void n2_server_close(struct n2_server *server);

#endif
