#include "relayd/n2/peer.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/log/log.h"

/* Above what a name may take to be looked up. */
#define AUTHORIZE_DEADLINE_MS 10000

struct n2_peer {
    struct relay_peer relays; /* first: relay_peer's calls find the peer by it */
    struct relay_context *context;
    struct n2_link *link;
    struct peer_credentials credentials;
    void (*gone)(struct n2_peer *peer, void *user);
    void *user;
};

/* ---- messages ------------------------------------------------------------------------------- */

/* What the peer may mean by `id`: one of its own relays. Others' do not exist for it. */
static struct relay *peer_relay(struct n2_peer *peer, uint64_t id)
{
    struct relay *relay = relay_table_find(peer->context->table, id);
    return relay != NULL && relay->peer == &peer->relays ? relay : NULL;
}

static void handle_open_relay(struct n2_peer *peer, const struct n2_message *message, int fd)
{
    (void)fd;
    if (message->transaction == 0) {
        n2_link_refuse(peer->link, message, "an order without a transaction");
        return;
    }
    relay_order(peer->context, &peer->relays, message->transaction, &message->open_relay);
}

static void handle_close_relay(struct n2_peer *peer, const struct n2_message *message, int fd)
{
    struct relay *relay = peer_relay(peer, message->close_relay.relay);

    (void)fd;
    if (relay == NULL) {
        /* The relay may just have ended by itself, its RelayClosed being under way. */
        relayd_metrics_add(peer->context->metrics, RELAYD_N2_UNKNOWN_RELAY, 1);
        return;
    }
    relay_close(relay, message->close_relay.reason);
}

static void handle_cancel_order(struct n2_peer *peer, const struct n2_message *message, int fd)
{
    (void)fd;
    /* The answer may just be under way; an order that was opened is then closed by its id. */
    if (!relay_cancel_order(&peer->relays, message->cancelled)) {
        relayd_metrics_add(peer->context->metrics, RELAYD_N2_UNKNOWN_RELAY, 1);
    }
}

static void handle_drain(struct n2_peer *peer, const struct n2_message *message, int fd)
{
    (void)message;
    (void)fd;
    /* For this peer alone: none decides for another. */
    peer->relays.draining = true;
    LOG(LOG_LEVEL_NOTICE, "n2-drain", LOG_I("peer_pid", peer->credentials.pid));
}

static void handle_policy_changed(struct n2_peer *peer, const struct n2_message *message, int fd)
{
    (void)fd;
    /* Cached verdicts are asked again (UDP ASSOCIATE). All other kinds have one destination, judged
     * by socksd before it ordered; socksd closes what its new rules no longer allow. */
    relay_policy_changed(&peer->relays, message->policy_generation);
}

static void handle_attach_client(struct n2_peer *peer, const struct n2_message *message, int fd)
{
    const struct n2_attach_client *attach = &message->attach_client;
    struct relay *relay = peer_relay(peer, attach->relay);

    if (relay == NULL) {
        relay_drop_client(fd); /* as with CloseRelay */
        relayd_metrics_add(peer->context->metrics, RELAYD_N2_UNKNOWN_RELAY, 1);
        return;
    }
    if (!relay_attach(relay, fd, attach->early, attach->early_length)) {
        n2_link_refuse(peer->link, message, "a client for a relay that awaits none");
    }
}

/* What a peer that is up may send; a type without a row is refused. Ping and Hello are the link's.
 * `fd` is the handler's where brings_fd is set, otherwise there is none. */
static const struct {
    enum n2_type type;
    void (*handler)(struct n2_peer *peer, const struct n2_message *message, int fd);
    bool brings_fd;
} dispatch[] = {
    {N2_OPEN_RELAY, handle_open_relay, false},
    {N2_ATTACH_CLIENT, handle_attach_client, true},
    {N2_CLOSE_RELAY, handle_close_relay, false},
    {N2_CANCEL_ORDER, handle_cancel_order, false},
    {N2_DRAIN, handle_drain, false},
    {N2_POLICY_CHANGED, handle_policy_changed, false},
};

/* ---- the link ------------------------------------------------------------------------------- */

static void peer_up(struct n2_link *link, const struct n2_hello *hello, void *user)
{
    struct n2_peer *peer = user;
    (void)link;
    LOG(LOG_LEVEL_NOTICE, "n2-peer-up", LOG_I("peer_pid", peer->credentials.pid),
        LOG_U("peer_uid", peer->credentials.uid), LOG_S("build", hello->build),
        LOG_U("minor", hello->minor));
}

static void peer_message(struct n2_link *link, const struct n2_message *message, int fd, bool stray,
                         void *user)
{
    struct n2_peer *peer = user;

    for (size_t i = 0; !stray && i < sizeof(dispatch) / sizeof(dispatch[0]); i++) {
        if (dispatch[i].type == message->type && dispatch[i].brings_fd == (fd >= 0)) {
            dispatch[i].handler(peer, message, fd);
            return;
        }
    }
    if (fd >= 0) {
        close(fd);
    }
    if (!stray) { /* nothing is asked here whose answer could matter late; the link counts it */
        n2_link_refuse(link, message, fd >= 0 ? "a descriptor" : "not permitted");
    }
}

static void peer_down(struct n2_link *link, const char *text, void *user)
{
    struct n2_peer *peer = user;

    peer->link = NULL;
    LOG(LOG_LEVEL_NOTICE, "n2-peer-lost", LOG_I("peer_pid", peer->credentials.pid),
        LOG_S("why", text));
    relayd_metrics_add(peer->context->metrics, RELAYD_N2_LOST, 1);
    relayd_metrics_add(peer->context->metrics, RELAYD_N2_BAD_MESSAGES,
                       n2_link_stats(link).bad_messages);
    peer->gone(peer, peer->user);
    relay_peer_lost(&peer->relays); /* may be its end */
}

static const struct n2_link_ops link_ops = {
    .up = peer_up,
    .message = peer_message,
    .down = peer_down,
};

static void peer_released(struct relay_peer *relays)
{
    free(relays); /* it is the first in struct n2_peer */
}

static void peer_send(struct relay_peer *relays, const struct n2_message *message)
{
    struct n2_peer *peer = (struct n2_peer *)relays;

    if (peer->link == NULL) {
        return;
    }
    /* Events are hints: a peer that does not read goes without, its answers need the room. */
    if (message->type == N2_RELAY_EVENT && n2_link_is_congested(peer->link)) {
        relayd_metrics_add(peer->context->metrics, RELAYD_N2_EVENTS_DROPPED, 1);
        return;
    }
    /* A failure brings the link down later in this turn of the loop, never in here. */
    (void)n2_link_send(peer->link, message, -1);
}

static void question_answered(struct n2_link *link, const struct n2_message *answer, void *user)
{
    (void)link;
    relay_answered(user, answer != NULL ? &answer->authorized : NULL);
}

static int peer_ask(struct relay_peer *relays, struct n2_message *message,
                    struct relay_question *question)
{
    struct n2_peer *peer = (struct n2_peer *)relays;

    if (peer->link == NULL) {
        return -ENOTCONN;
    }
    /* Clients can make relays ask as fast as they like; answers to orders need the room. */
    if (n2_link_is_congested(peer->link)) {
        return -EAGAIN;
    }
    return n2_link_request(peer->link, message, -1, AUTHORIZE_DEADLINE_MS, question_answered,
                           question, &question->transaction);
}

static void peer_cancel(struct relay_peer *relays, uint64_t transaction)
{
    struct n2_peer *peer = (struct n2_peer *)relays;

    if (peer->link != NULL) {
        n2_link_cancel(peer->link, transaction);
    }
}

/* ---- lifecycle ------------------------------------------------------------------------------ */

int n2_peer_open(struct n2_peer **out, struct relay_context *context, int fd,
                 const struct n2_peer_config *config)
{
    struct n2_peer *peer = calloc(1, sizeof(*peer));
    if (peer == NULL) {
        close(fd);
        return -ENOMEM;
    }
    int result = relay_peer_init(&peer->relays, context, peer_send);
    if (result < 0) {
        close(fd);
        free(peer);
        return result;
    }
    peer->relays.ask = peer_ask;
    peer->relays.cancel = peer_cancel;
    peer->relays.released = peer_released;
    peer->context = context;
    peer->credentials = config->credentials;
    peer->gone = config->gone;
    peer->user = config->user;
    result = n2_link_open(&peer->link, context->loop, fd, &config->link, &link_ops, peer);
    if (result < 0) {
        relay_peer_lost(&peer->relays);
        return result;
    }
    *out = peer;
    return 0;
}

bool n2_peer_takes_more(const struct n2_peer *peer)
{
    return !n2_link_is_congested(peer->link);
}

bool n2_peer_is_flushed(const struct n2_peer *peer)
{
    return n2_link_queued(peer->link) == 0;
}

void n2_peer_close(struct n2_peer *peer)
{
    struct n2_link *link = peer->link;

    peer->link = NULL;
    n2_link_close(link);
    relay_peer_lost(&peer->relays); /* may be its end */
}
