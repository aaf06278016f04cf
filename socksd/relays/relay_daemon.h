/*
 * One configured relayd: the N2 connection to it, kept up with back-off, and the tickets of the
 * relays that live there.
 */
#ifndef SOCKST_SOCKSD_RELAYS_RELAY_DAEMON_H
#define SOCKST_SOCKSD_RELAYS_RELAY_DAEMON_H

#include <sys/types.h>
#include <uv.h>

#include "common/ipc/n2_link.h"
#include "socksd/counters.h"
#include "socksd/relays/relay_ticket.h"

#define RELAY_BACKOFF_MIN_MS 100
#define RELAY_BACKOFF_MAX_MS 5000

struct relay_daemon_ops {
    /*
     * An order came to nothing here. `elsewhere`: another daemon may do it (the connection was
     * lost, or it is draining). The ticket is FREE.
     */
    void (*order_failed)(struct relay_ticket *ticket, bool elsewhere, enum n2_error error,
                         const char *text, void *user);
    void (*changed)(struct relay_daemon *daemon, void *user); /* connected, lost, relieved */
};

struct relay_daemon_config {
    uint8_t ptcl;
    const char *socket;         /* copied */
    uid_t peer_uid;             /* accepted besides 0 and our own; (uid_t)-1: none */
    struct n2_link_config link; /* role, hello and marks */
};

/* Starts to connect in the next loop turn. Returns 0 or -errno. */
int relay_daemon_open(struct relay_daemon **out, uv_loop_t *loop,
                      const struct relay_daemon_config *config, struct counters *counters,
                      const struct relay_daemon_ops *ops, void *user);

/* Ends the connection and frees with the last close callback. No ticket may be ORDERED; OPEN ones
 * hear ops->closed(NULL). */
void relay_daemon_close(struct relay_daemon *daemon);

/* Sends the order. Returns 0 (ticket ORDERED), or -errno (ticket as before). */
int relay_daemon_order(struct relay_daemon *daemon, struct relay_ticket *ticket);

uint8_t relay_daemon_ptcl(const struct relay_daemon *daemon);
bool relay_daemon_is_usable(const struct relay_daemon *daemon); /* connected and not draining */
bool relay_daemon_is_congested(const struct relay_daemon *daemon);
size_t relay_daemon_load(const struct relay_daemon *daemon); /* relays open and ordered */

/*
 * The delay before the attempt after `failures` failures in a row (≥ 1): 100 ms doubling to 5 s, ±
 * 20 % by `random`, so that several daemons do not knock in step.
 */
uint64_t relay_backoff_ms(unsigned failures, uint32_t random);

#endif
