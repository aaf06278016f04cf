/*
 * The destinations of one UDP ASSOCIATE relay, as its client names them, and what is known of each:
 *
 *     QUEUED ──▶ ASKED ──answer──▶ ALLOWED or DENIED ──ttl, PolicyChanged──▶ (with the next
 *                                                                  datagram) QUEUED
 *
 * Datagrams for one that is QUEUED or ASKED wait, a bounded number of them; where a verdict is only
 * being renewed they go on by the old one for a while. The least recently used
 * destination makes room for a new one, in whatever state it is. Hosts are the addresses that
 * allowed destinations lead to: whom the client may hear.
 */
#ifndef SOCKST_RELAYD_ASSOCIATE_DESTINATIONS_H
#define SOCKST_RELAYD_ASSOCIATE_DESTINATIONS_H

#include <netinet/in.h>
#include <sys/queue.h>

#include "relayd/plane/socket/socket_plane.h"

#define ASSOCIATE_WAITING_MAX 16                  /* datagrams for one destination */
#define ASSOCIATE_WAITING_OCTETS_MAX (256 * 1024) /* for all destinations of a relay */
/* Questions in flight for one relay, as many as socksd takes at once; others are QUEUED. */
#define ASSOCIATE_QUESTIONS_MAX 32

/* Of all relays together, about 100 MB. Beyond them a relay that remembers more than
 * ASSOCIATE_DESTINATIONS_DUE has to forget one for each new one. */
#define ASSOCIATE_DESTINATIONS_MAX (256 * 1024)
#define ASSOCIATE_DESTINATIONS_DUE 32

struct associate_destinations;

/* Where a destination leads to. */
struct associate_target {
    uint8_t family; /* enum ip_family */
    socklen_t length;
    struct sockaddr_in6 address; /* or a sockaddr_in: `length` tells */
};

struct associate_datagram {
    STAILQ_ENTRY(associate_datagram) next;
    uint32_t length;
    uint8_t octets[];
};
STAILQ_HEAD(associate_datagrams, associate_datagram);

struct associate_destinations_ops {
    /* Is there a way to the address at all? */
    bool (*reaches)(void *user, const struct ip_address *address);
    /* The verdict has come: these have waited for it. The table may be freed inside. */
    void (*deliver)(void *user, const struct associate_target *target,
                    const struct associate_datagrams *datagrams);
};

/* At most config->udp.destinations. Everything is borrowed. NULL: out of memory. */
struct associate_destinations *
associate_destinations_new(struct socket_plane *plane, struct relay *relay,
                           const struct associate_destinations_ops *ops, void *user);

/*
 * A datagram of the client. Returns where it has to go now, valid until the next call; or NULL: it
 * is kept for later, or dropped and counted. The header is one that n1_udp_header_measure() took.
 */
const struct associate_target *associate_destinations_judge(struct associate_destinations *table,
                                                            const uint8_t *header,
                                                            size_t header_length,
                                                            const void *payload, uint32_t length);

/* Has the client sent something there, that is: may it hear what comes from there? */
bool associate_destinations_know(struct associate_destinations *table,
                                 const struct ip_address *address);

/* Drops what waits; nothing is called back any more. NULL is allowed. */
void associate_destinations_free(struct associate_destinations *table);

#endif
