/*
 * A plane carries the packets of relays. The relay table and the state machine do not know which
 * plane is in use.
 */
#ifndef SOCKST_RELAYD_PLANE_H
#define SOCKST_RELAYD_PLANE_H

#include <uv.h>

#include "proto/admin.h"
#include "relayd/relay/relay.h"

struct plane;

struct plane_ops {
    enum n2_plane id;
    /* Each relay takes descriptors (transport->fds_per_relay): they bound how many there can be. */
    bool needs_descriptors;
    /* May this plane carry the flow? NULL: yes; otherwise why not (static text, shown as
     * plane_reason of the plane that does). */
    const char *(*refuses)(const struct plane *plane, const struct relay *relay);
    /* Opens BND and the way to DST; answers with relay_opened() or relay_open_failed(), sooner or
     * later. At once is cheapest: relay->order may move when this returns. */
    void (*open)(struct plane *plane, struct relay *relay);
    /*
     * Ends the flow; `abort`: both ends are to see it at once (RST). Called once for each open,
     * whatever came of it (also after relay_open_failed(), then possibly with relay->flow unset),
     * never from inside open. Answers with relay_plane_closed(), sooner or later.
     */
    void (*close)(struct plane *plane, struct relay *relay, bool abort);
    /* Counters as of now, and milliseconds since the last packet in either direction (since open,
     * before there was one). Valid from open's return to relay_plane_closed(). */
    void (*counters)(const struct plane *plane, const struct relay *relay, struct n2_counters *out,
                     uint64_t *idle_ms);
    /*
     * Kinds whose client is handed over (CONNECT, BIND): its connection is `fd`, which is consumed
     * and not to be trusted, and `early` (borrowed) are octets that came from it before. Called
     * once, while the relay is WAITING. Answers with relay_client_arrived() or relay_ended(). NULL:
     * the plane serves no such kind.
     */
    void (*attach)(struct plane *plane, struct relay *relay, int fd, const uint8_t *early,
                   size_t length);
    /* It reports strangers by relay_strangers(), and is not asked for them each second. */
    bool tells_strangers;
    /* Packets of strangers so far; otherwise cheap enough to be asked for every relay each second.
     * Asked only of relays that are WAITING or ACTIVE. */
    uint64_t (*drops)(const struct plane *plane, const struct relay *relay);
    /* An N2 peer is lost: no packet of its relays may pass when this returns. What is left of them
     * is closed one by one afterwards, in slices, by `close`. NULL: `close` is soon enough. */
    void (*peer_lost)(struct plane *plane, const struct relay_peer *peer);
    /* The plane's own figures for `relayctl status` (pipes open, pipes shrunk, ports free, …) and
     * warnings; appends to *out. */
    void (*status)(const struct plane *plane, struct admin_status *out);
    /* No relay is left. Memory goes with the last close callback. */
    void (*free)(struct plane *plane);
};

struct plane {
    const struct plane_ops *ops;
};

#endif
