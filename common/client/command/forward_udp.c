/*
 * Each local peer address has an association of its own.
 *
 *   OPENING ── stands ──▶ OPEN ── silent for --idle, or N1 closed ──▶ gone
 *      └── failed ──▶ FAILED ── RETRY_MS ──▶ gone
 *
 * Datagrams that come while OPENING wait in a short queue; a peer that has FAILED is not tried
 * again for a moment, so that a flood of datagrams is no flood of requests.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/client/command/command.h"
#include "common/client/command/opener.h"
#include "common/client/net.h"
#include "proto/ptcl.h"

#define RETRY_MS 1000
#define WAITING_MAX 16 /* datagrams of one peer, while OPENING */
#define DATAGRAM_MAX UINT16_MAX
#define BATCH 32 /* datagrams in one turn */
#define BUCKETS 256

enum state { ST_OPENING, ST_OPEN, ST_FAILED };

struct waiting {
    size_t length;
    uint8_t data[];
};

struct forwarder;

struct peer {
    enum state state;
    struct forwarder *forwarder;
    struct peer *next, **previous; /* in its bucket */
    struct endpoint endpoint;
    struct sockaddr_storage address;
    socklen_t address_length;
    struct opener opener;
    struct sockst_association *association;
    struct watch data_watch, control_watch;
    struct timer timer;
    uint64_t last_ms; /* when a datagram last came from either side */
    struct waiting *waiting[WAITING_MAX];
    size_t waiting_count;
};

struct forwarder {
    struct loop loop;
    const struct options *options;
    const struct sockst_options *association;
    int fd;
    struct watch watch;
    struct peer *peers[BUCKETS];
    uint32_t count;
    bool full_said;
};

static size_t bucket_of(const struct endpoint *endpoint)
{
    size_t hash = endpoint->port;
    for (size_t i = 0; i < sizeof(endpoint->address.bytes); i++)
        hash = hash * 31 + endpoint->address.bytes[i];
    return hash % BUCKETS;
}

static void drop_waiting(struct peer *peer)
{
    for (size_t i = 0; i < peer->waiting_count; i++)
        free(peer->waiting[i]);
    peer->waiting_count = 0;
}

static void peer_free(struct peer *peer)
{
    struct loop *loop = &peer->forwarder->loop;
    opener_cancel(&peer->opener);
    loop_unwatch(loop, &peer->data_watch);
    loop_unwatch(loop, &peer->control_watch);
    loop_disarm(&peer->timer);
    sockst_association_close(peer->association);
    drop_waiting(peer);
    *peer->previous = peer->next;
    if (peer->next != NULL)
        peer->next->previous = peer->previous;
    peer->forwarder->count--;
    peer->forwarder->full_said = false;
    free(peer);
}

static void say(const struct peer *peer, const char *what)
{
    char text[ENDPOINT_TEXT_MAX];
    command_say("%s: %s", endpoint_format(&peer->endpoint, text, sizeof(text)), what);
}

static void on_data(struct watch *watch, uint32_t events)
{
    static uint8_t datagram[DATAGRAM_MAX];
    struct peer *peer = watch->user;
    (void)events;
    for (int i = 0; i < BATCH; i++) {
        ssize_t got = sockst_association_receive(peer->association, datagram, sizeof(datagram));
        if (got < 0)
            return;
        peer->last_ms = net_now_ms();
        /* What the local socket does not take is lost, as datagrams are. */
        (void)sendto(peer->forwarder->fd, datagram, (size_t)got, MSG_DONTWAIT,
                     (struct sockaddr *)&peer->address, peer->address_length);
    }
}

static void on_control(struct watch *watch, uint32_t events)
{
    struct peer *peer = watch->user;
    (void)events;
    if (sockst_association_is_alive(peer->association))
        return;
    if (peer->forwarder->options->verbose)
        say(peer, "the server ended the association");
    peer_free(peer);
}

static void on_timer(struct timer *timer)
{
    struct peer *peer = timer->user;
    uint64_t idle_ms = net_now_ms() - peer->last_ms;
    if (peer->state == ST_OPEN && idle_ms < peer->forwarder->options->idle_ms) {
        loop_arm(&peer->forwarder->loop, timer, peer->forwarder->options->idle_ms - idle_ms);
        return;
    }
    if (peer->state == ST_OPEN && peer->forwarder->options->verbose)
        say(peer, "idle");
    peer_free(peer);
}

static void on_opened(struct opener *opener, struct sockst_association *association,
                      const struct sockst_failure *failure)
{
    struct peer *peer = opener->user;
    struct loop *loop = &peer->forwarder->loop;
    if (association == NULL) {
        say(peer, failure->text);
        peer->state = ST_FAILED;
        drop_waiting(peer);
        loop_arm(loop, &peer->timer, RETRY_MS);
        return;
    }
    command_show(peer->forwarder->options, association);
    peer->association = association;
    peer->state = ST_OPEN;
    if (loop_watch(loop, &peer->data_watch, sockst_association_data_fd(association), EPOLLIN) < 0 ||
        loop_watch(loop, &peer->control_watch, sockst_association_control_fd(association),
                   EPOLLIN) < 0) {
        peer_free(peer);
        return;
    }
    for (size_t i = 0; i < peer->waiting_count; i++)
        (void)sockst_association_send(association, peer->waiting[i]->data,
                                      peer->waiting[i]->length);
    drop_waiting(peer);
    loop_arm(loop, &peer->timer, peer->forwarder->options->idle_ms);
}

static struct peer *find_peer(struct forwarder *forwarder, const struct endpoint *endpoint)
{
    struct peer *peer = forwarder->peers[bucket_of(endpoint)];
    while (peer != NULL && !endpoint_equal(&peer->endpoint, endpoint))
        peer = peer->next;
    return peer;
}

static struct peer *peer_new(struct forwarder *forwarder, const struct endpoint *endpoint,
                             const struct sockaddr_storage *address, socklen_t length)
{
    struct peer *peer = calloc(1, sizeof(*peer));
    if (peer == NULL)
        return NULL;
    *peer = (struct peer){.forwarder = forwarder, .endpoint = *endpoint, .address = *address};
    peer->address_length = length;
    peer->opener = (struct opener){.done = on_opened, .user = peer};
    peer->data_watch = (struct watch){.ready = on_data, .user = peer};
    peer->control_watch = (struct watch){.ready = on_control, .user = peer};
    peer->timer = (struct timer){.fire = on_timer, .user = peer};
    peer->previous = &forwarder->peers[bucket_of(endpoint)];
    peer->next = *peer->previous;
    if (peer->next != NULL)
        peer->next->previous = &peer->next;
    *peer->previous = peer;
    forwarder->count++;
    int error = opener_start(&peer->opener, &forwarder->loop, forwarder->association,
                             forwarder->options->connect_timeout_ms);
    if (error < 0) {
        say(peer, strerror(-error));
        peer_free(peer);
        return NULL;
    }
    return peer;
}

static struct peer *new_peer_if_room(struct forwarder *forwarder, const struct endpoint *endpoint,
                                     const struct sockaddr_storage *address, socklen_t length)
{
    if (forwarder->count < forwarder->options->max)
        return peer_new(forwarder, endpoint, address, length);
    if (!forwarder->full_said)
        command_say("%u associations stand; datagrams of further peers are dropped",
                    forwarder->count);
    forwarder->full_said = true;
    return NULL;
}

static void keep_waiting(struct peer *peer, const uint8_t *datagram, size_t length)
{
    if (peer->waiting_count == WAITING_MAX)
        return;
    struct waiting *waiting = malloc(sizeof(*waiting) + length);
    if (waiting == NULL)
        return;
    waiting->length = length;
    memcpy(waiting->data, datagram, length);
    peer->waiting[peer->waiting_count++] = waiting;
}

static void take_datagram(struct forwarder *forwarder, const uint8_t *datagram, size_t size,
                          const struct sockaddr_storage *address, socklen_t length)
{
    struct endpoint endpoint;
    if (net_from_sockaddr(address, &endpoint) < 0)
        return;
    struct peer *peer = find_peer(forwarder, &endpoint);
    if (peer == NULL)
        peer = new_peer_if_room(forwarder, &endpoint, address, length);
    if (peer == NULL || peer->state == ST_FAILED)
        return;
    peer->last_ms = net_now_ms();
    if (peer->state == ST_OPENING)
        keep_waiting(peer, datagram, size);
    else
        (void)sockst_association_send(peer->association, datagram, size);
}

static void on_local(struct watch *watch, uint32_t events)
{
    static uint8_t datagram[DATAGRAM_MAX];
    struct forwarder *forwarder = watch->user;
    (void)events;
    for (int i = 0; i < BATCH; i++) {
        struct sockaddr_storage address;
        socklen_t length = sizeof(address);
        ssize_t got = recvfrom(forwarder->fd, datagram, sizeof(datagram), MSG_DONTWAIT,
                               (struct sockaddr *)&address, &length);
        if (got < 0)
            return;
        take_datagram(forwarder, datagram, (size_t)got, &address, length);
    }
}

static void close_all(struct forwarder *forwarder)
{
    for (size_t i = 0; i < BUCKETS; i++) {
        while (forwarder->peers[i] != NULL)
            peer_free(forwarder->peers[i]);
    }
    loop_unwatch(&forwarder->loop, &forwarder->watch);
    close(forwarder->fd);
    loop_free(&forwarder->loop);
}

static int run(struct forwarder *forwarder)
{
    char text[ENDPOINT_TEXT_MAX];
    struct endpoint local = forwarder->options->local;
    int error = loop_init(&forwarder->loop);
    if (error == 0)
        error = forwarder->fd = net_bound_socket(PTCL_UDP, &local);
    if (error >= 0)
        error = loop_watch(&forwarder->loop, &forwarder->watch, forwarder->fd, EPOLLIN);
    if (error < 0) {
        command_say("%s: %s", endpoint_format(&local, text, sizeof(text)), strerror(-error));
        return EXIT_INCOMPLETE;
    }
    net_local(forwarder->fd, &local);
    command_say("listening on %s (udp)", endpoint_format(&local, text, sizeof(text)));
    loop_run(&forwarder->loop);
    close_all(forwarder);
    return EXIT_COMPLETE;
}

int forward_udp(const struct options *options, const struct sockst_options *association)
{
    struct forwarder forwarder = {.options = options, .association = association, .fd = -1};
    forwarder.watch = (struct watch){.ready = on_local, .user = &forwarder};
    return run(&forwarder);
}
