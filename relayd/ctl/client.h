/*
 * One connection to the admin socket of a daemon (ADMIN.md), for a program that may wait: every
 * read and write is bounded by a time-out. Nothing that the daemon sends is trusted.
 */
#ifndef SOCKST_RELAYD_CTL_CLIENT_H
#define SOCKST_RELAYD_CTL_CLIENT_H

#include "proto/admin.h"

struct client;

enum client_result {
    CLIENT_RECORD,  /* *answer holds a Status or a Relay: what was asked for */
    CLIENT_END,     /* the answer was complete */
    CLIENT_REFUSED, /* the daemon answered with Error: client_error() has its text */
    CLIENT_BROKEN,  /* the daemon is gone, silent, or talks nonsense: client_error() says what; only
                       client_close() is left */
};

/* Connects. Returns 0 or -errno (-ENOENT: no such socket). */
int client_open(struct client **out, const char *path, unsigned timeout_ms);

/*
 * Asks; then client_next() until it is not CLIENT_RECORD. A request that cannot be sent makes the
 * first client_next() CLIENT_BROKEN.
 */
void client_ask(struct client *client, const struct admin_request *request);

/* The next record of the answer to what was asked. */
enum client_result client_next(struct client *client, struct admin_answer *answer);

/* Asks for the status, whole. CLIENT_END when *out is filled. */
enum client_result client_status(struct client *client, struct admin_status *out);

/* One line, without a full stop; valid until the next call. */
const char *client_error(const struct client *client);

/* NULL is allowed. */
void client_close(struct client *client);

#endif
