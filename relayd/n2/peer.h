/*
 * One socksd: an N2 connection, and the relays that it ordered. Whatever it sends is hostile until
 * judged: a message that a peer has no reason to send here ends the connection, and an id that is
 * not of one of its own relays is unknown to it, whosesoever it may be.
 *
 * The end of the connection, for whatever reason, stops every relay of the peer at once; they are
 * then closed in slices (relay_peer_lost()), while others connect and order.
 */
#ifndef SOCKST_RELAYD_N2_PEER_H
#define SOCKST_RELAYD_N2_PEER_H

#include "common/ipc/n2_link.h"
#include "common/ipc/peer.h"
#include "relayd/relay/control.h"

struct n2_peer;

struct n2_peer_config {
    struct n2_link_config link;
    struct peer_credentials credentials;
    /* The connection has ended by itself, the peer's relays are about to be closed; it is not to be
     * referred to when this returns. */
    void (*gone)(struct n2_peer *peer, void *user);
    void *user;
};

/* Consumes `fd`, also on failure. `context` is borrowed. Returns 0, -EAGAIN (relays of too many
 * lost peers are still being closed), or another -errno. */
int n2_peer_open(struct n2_peer **out, struct relay_context *context, int fd,
                 const struct n2_peer_config *config);

/* Is its connection able to take more? False above the high mark of what it has not read yet. */
bool n2_peer_takes_more(const struct n2_peer *peer);

/* Has it been sent everything that was meant for it? */
bool n2_peer_is_flushed(const struct n2_peer *peer);

/* Closes its relays and ends it; config->gone is not called. */
void n2_peer_close(struct n2_peer *peer);

#endif
