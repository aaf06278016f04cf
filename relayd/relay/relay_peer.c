/*
 * N2 peers as their relays see them: who owns which relay, and what becomes of the relays of a peer
 * that has gone.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "relayd/bpf/abi.h"
#include "relayd/relay/control.h"

_Static_assert(RELAY_PEERS_MAX <= BPF_PEERS_MAX, "an index is a row of the kernel's table");

/* Orphans are closed for that long in one turn of the loop; the clock is read once for each so
 * many. */
#define REAP_SLICE_NS 2000000
#define REAP_STRIDE 8

struct relay_reaper {
    uv_idle_t idle; /* each turn of the loop, without waiting */
    struct relay_context *context;
};

/* ---- indexes -------------------------------------------------------------------------------- */

static int index_take(struct relay_peers *peers, uint32_t *out)
{
    /* Not the lowest free one: what is late for an index finds nobody there for a while. */
    for (uint32_t i = 0; i < RELAY_PEERS_MAX; i++) {
        uint32_t index = (peers->last_index + 1 + i) % RELAY_PEERS_MAX;
        if (!peers->taken[index]) {
            peers->taken[index] = true;
            peers->last_index = index;
            *out = index;
            return 0;
        }
    }
    return -EAGAIN;
}

/* ---- orphans -------------------------------------------------------------------------------- */

static void peer_unlist(struct relay_peer *peer)
{
    if (peer->listed) {
        LIST_REMOVE(peer, of_lost);
        peer->listed = false;
    }
}

/* One relay, or the peer itself (relay_peer_lost()), refers to it no more. It may be gone when this
 * returns. */
static void peer_let_go(struct relay_peer *peer)
{
    if (--peer->users > 0) {
        return;
    }
    assert(peer->lost);
    peer_unlist(peer);
    peer->context->peers.taken[peer->index] = false;
    if (peer->released != NULL) {
        peer->released(peer);
    }
}

/* Closes one relay of a lost peer. False when there is none. */
static bool reap_one(struct relay_context *context)
{
    struct relay_peer *peer;

    while ((peer = LIST_FIRST(&context->peers.lost)) != NULL) {
        struct relay *relay = LIST_FIRST(&peer->relays);
        if (relay != NULL) {
            LIST_REMOVE(relay, of_peer);
            LIST_INSERT_HEAD(&peer->closing, relay, of_peer);
            relay_close(relay, N2_REASON_PEER_LOST); /* may be the peer's end */
            return true;
        }
        peer_unlist(peer); /* its planes have still to let go */
    }
    return false;
}

/* False when nothing is left to do. */
static bool reap_slice(struct relay_context *context)
{
    uint64_t end = uv_hrtime() + REAP_SLICE_NS;

    do {
        for (int i = 0; i < REAP_STRIDE; i++) {
            if (!reap_one(context)) {
                return false;
            }
        }
    } while (uv_hrtime() < end);
    return !LIST_EMPTY(&context->peers.lost);
}

static void reaper_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void reaper_turn(uv_idle_t *idle)
{
    struct relay_reaper *reaper = idle->data;

    if (!reap_slice(reaper->context)) {
        reaper->context->peers.reaper = NULL;
        uv_close((uv_handle_t *)idle, reaper_closed);
    }
}

/* Goes on with what is left. Without memory for that it is done here and now. */
static void reap_later(struct relay_context *context)
{
    if (context->peers.reaper != NULL) {
        return;
    }
    struct relay_reaper *reaper = malloc(sizeof(*reaper));
    if (reaper == NULL) {
        while (reap_one(context)) {
        }
        return;
    }
    reaper->context = context;
    uv_idle_init(context->loop, &reaper->idle);
    reaper->idle.data = reaper;
    uv_idle_start(&reaper->idle, reaper_turn);
    context->peers.reaper = reaper;
}

/* ---- peers ---------------------------------------------------------------------------------- */

int relay_peer_init(struct relay_peer *peer, struct relay_context *context,
                    void (*send)(struct relay_peer *peer, const struct n2_message *message))
{
    *peer = (struct relay_peer){.context = context, .send = send, .users = 1};
    LIST_INIT(&peer->relays);
    LIST_INIT(&peer->closing);
    return index_take(&context->peers, &peer->index);
}

void relay_peer_adopt(struct relay_peer *peer, struct relay *relay)
{
    relay->peer = peer;
    peer->users++;
    LIST_INSERT_HEAD(&peer->relays, relay, of_peer);
}

void relay_peer_leave(struct relay *relay)
{
    struct relay_peer *peer = relay->peer;

    if (peer->lost) {
        relayd_metrics_subtract(peer->context->metrics, RELAYD_RELAYS_ORPHANED, 1);
    }
    LIST_REMOVE(relay, of_peer);
    relay->peer = NULL;
    peer_let_go(peer);
}

void relay_peer_lost(struct relay_peer *peer)
{
    struct relay_context *context = peer->context;

    if (peer->lost) {
        return;
    }
    for (size_t i = 0; i < context->planes->count; i++) {
        struct plane *plane = context->planes->list[i];
        if (plane->ops->peer_lost != NULL) {
            plane->ops->peer_lost(plane, peer);
        }
    }
    peer->lost = true;
    relayd_metrics_add(context->metrics, RELAYD_RELAYS_ORPHANED, peer->users - 1);
    LIST_INSERT_HEAD(&context->peers.lost, peer, of_lost);
    peer->listed = true;
    peer_let_go(peer);
    if (reap_slice(context)) {
        reap_later(context);
    }
}
