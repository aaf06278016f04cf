#include "relayd/plane/socket/associate_destinations.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "common/keyed_hash.h"
#include "common/net/sockaddr.h"
#include "proto/n1.h"

/* A verdict that says no is not asked for again before this has passed; nor is one that did not
 * come. */
#define DENIED_LEAST_MS 1000

/* How long beyond its time a verdict that says yes may be used while it is asked for again; no
 * longer than its time was. */
#define RENEWAL_MAX_MS 10000

/* Of struct ip_address: family and octets, which lie together. */
#define HOST_KEY_SIZE 17
_Static_assert(offsetof(struct ip_address, bytes) == 1, "a host's key has no gap");

enum destination_state { DEST_ST_QUEUED, DEST_ST_ASKED, DEST_ST_ALLOWED, DEST_ST_DENIED };

struct host {
    UT_hash_handle hh;
    struct ip_address address;
    uint32_t users;             /* destinations that lead here */
    struct destination *recent; /* one of them; NULL: it has gone */
};

struct destination {
    UT_hash_handle hh; /* by what follows the header's prefix */
    TAILQ_ENTRY(destination) by_use;
    TAILQ_ENTRY(destination) in_queue; /* QUEUED */
    struct associate_destinations *table;
    struct relay_question question;
    enum destination_state state;
    bool asked_twice; /* the answer was outdated when it came */
    bool judged;      /* DENIED: by a verdict or the floor; otherwise none came */
    uint8_t waiting_count;
    struct associate_datagrams waiting;
    uint64_t expires_ms, generation; /* of the verdict */
    uint64_t renew_until_ms;         /* ALLOWED, and while it is asked for again */
    struct host *host;               /* ALLOWED, and while it is asked for again */
    struct associate_target target;  /* while there is a host */
    uint16_t header_length;
    uint8_t header[];
};

TAILQ_HEAD(destination_list, destination);

struct associate_destinations {
    struct socket_plane *plane;
    struct relay *relay;
    const struct associate_destinations_ops *ops;
    void *user;
    struct destination *destinations; /* hash table */
    struct host *hosts;               /* hash table */
    struct destination_list by_use;   /* the most recent one first */
    struct destination_list queue;
    uint32_t waiting_octets;
    unsigned questions;
};

static struct associate_figures *figures(struct associate_destinations *table)
{
    return &table->plane->associate;
}

/* ---- hosts -------------------------------------------------------------------------------------
 */

static struct host *find_host(struct associate_destinations *table,
                              const struct ip_address *address)
{
    struct host *host;

    HASH_FIND(hh, table->hosts, address, HOST_KEY_SIZE, host);
    return host;
}

static struct host *get_host(struct destination *destination, const struct ip_address *address)
{
    struct associate_destinations *table = destination->table;
    struct host *host = find_host(table, address);

    if (host == NULL) {
        host = calloc(1, sizeof(*host));
        if (host == NULL)
            return NULL;
        host->address = *address;
        HASH_ADD_KEYPTR(hh, table->hosts, &host->address, HOST_KEY_SIZE, host);
        if (host->hh.tbl == NULL) {
            free(host);
            return NULL;
        }
    }
    host->users++;
    host->recent = destination;
    return host;
}

static void put_host(struct destination *destination)
{
    struct host *host = destination->host;

    destination->host = NULL;
    if (host == NULL)
        return;
    if (host->recent == destination)
        host->recent = NULL;
    if (--host->users == 0) {
        HASH_DELETE(hh, destination->table->hosts, host);
        free(host);
    }
}

/* ---- what waits --------------------------------------------------------------------------------
 */

/* The list leaves the destination. */
static void take_waiting(struct destination *destination, struct associate_datagrams *out)
{
    STAILQ_INIT(out);
    STAILQ_CONCAT(out, &destination->waiting);
    destination->waiting_count = 0;
}

/* Adds to *counter (may be NULL) one for each. */
static void free_datagrams(struct socket_plane *plane, uint32_t *octets,
                           struct associate_datagrams *list, uint64_t *counter)
{
    struct associate_datagram *datagram;

    while ((datagram = STAILQ_FIRST(list)) != NULL) {
        STAILQ_REMOVE_HEAD(list, next);
        plane->associate.held_octets -= datagram->length;
        if (octets != NULL)
            *octets -= datagram->length;
        if (counter != NULL)
            ++*counter;
        free(datagram);
    }
}

static void drop_waiting(struct destination *destination, uint64_t *counter)
{
    struct associate_destinations *table = destination->table;

    free_datagrams(table->plane, &table->waiting_octets, &destination->waiting, counter);
    destination->waiting_count = 0;
}

static void keep(struct destination *destination, const void *payload, uint32_t length)
{
    struct associate_destinations *table = destination->table;
    struct associate_datagram *datagram = NULL;

    if (destination->waiting_count < ASSOCIATE_WAITING_MAX &&
        length <= ASSOCIATE_WAITING_OCTETS_MAX - table->waiting_octets &&
        figures(table)->held_octets + length <= ASSOCIATE_HELD_MAX)
        datagram = malloc(sizeof(*datagram) + length);
    if (datagram == NULL) {
        figures(table)->unanswered++;
        return;
    }
    datagram->length = length;
    if (length != 0)
        memcpy(datagram->octets, payload, length);
    STAILQ_INSERT_TAIL(&destination->waiting, datagram, next);
    destination->waiting_count++;
    table->waiting_octets += length;
    figures(table)->held_octets += length;
}

/* ---- verdicts ----------------------------------------------------------------------------------
 */

static void decode(const struct destination *destination, struct n1_host *out)
{
    struct n1_udp_header header;
    size_t used;

    (void)n1_udp_header_decode(destination->header, destination->header_length, &header, &used);
    *out = header.destination;
}

/* What the datagrams for a DENIED destination are counted as. */
static uint64_t *denial_counter(const struct destination *destination)
{
    struct associate_figures *counters = figures(destination->table);

    return destination->judged ? &counters->denied : &counters->unanswered;
}

static void deny(struct destination *destination, uint64_t ttl_ms, uint64_t generation)
{
    struct associate_destinations *table = destination->table;

    if (ttl_ms < DENIED_LEAST_MS)
        ttl_ms = DENIED_LEAST_MS;
    destination->state = DEST_ST_DENIED;
    destination->expires_ms = uv_now(table->plane->loop) + ttl_ms;
    destination->generation = generation;
    put_host(destination);
    drop_waiting(destination, denial_counter(destination));
}

/* No verdict, so no PolicyChanged makes it better. */
static void deny_unjudged(struct destination *destination, bool floor)
{
    destination->judged = floor;
    deny(destination, 0, UINT64_MAX);
}

static bool is_settled(const struct destination *destination)
{
    const struct associate_destinations *table = destination->table;

    return destination->state >= DEST_ST_ALLOWED &&
           uv_now(table->plane->loop) < destination->expires_ms &&
           relay_verdict_holds(table->relay, destination->generation);
}

/* Its verdict's time has passed and it is asked for again: do its datagrams go on meanwhile? Were
 * they to wait, a fast flow would lose what does not fit into the queue, once for each verdict. */
static bool may_go_on(const struct destination *destination)
{
    const struct associate_destinations *table = destination->table;

    return destination->host != NULL && uv_now(table->plane->loop) < destination->renew_until_ms &&
           relay_verdict_holds(table->relay, destination->generation);
}

static void on_answer(struct relay_question *question, const struct n2_authorized *answer);

static void ask(struct destination *destination)
{
    struct associate_destinations *table = destination->table;
    struct n2_authorize what = {0};
    struct n1_host host;

    decode(destination, &host);
    what.port = host.port;
    if (host.atyp == N1_ATYP_DOMAIN)
        memcpy(what.name, host.name, (size_t)host.name_length + 1);
    else
        what.address = host.address;
    destination->question.relay = table->relay;
    destination->question.answered = on_answer;
    const int rc = relay_authorize(&destination->question, &what);
    if (rc == 0) {
        destination->state = DEST_ST_ASKED;
        table->questions++;
        return;
    }
    deny_unjudged(destination, rc == -EACCES);
}

static void ask_next(struct associate_destinations *table)
{
    struct destination *next;

    while (table->questions < ASSOCIATE_QUESTIONS_MAX &&
           (next = TAILQ_FIRST(&table->queue)) != NULL) {
        TAILQ_REMOVE(&table->queue, next, in_queue);
        ask(next);
    }
}

static void enqueue(struct destination *destination)
{
    destination->state = DEST_ST_QUEUED;
    TAILQ_INSERT_TAIL(&destination->table->queue, destination, in_queue);
    ask_next(destination->table);
}

/* The address that the verdict is about. A name that has several keeps the one in use. */
static const struct ip_address *choose(const struct destination *destination,
                                       const struct n1_host *named,
                                       const struct n2_authorized *answer)
{
    const struct associate_destinations *table = destination->table;

    if (named->atyp != N1_ATYP_DOMAIN)
        return &named->address;
    for (uint8_t i = 0; i < answer->address_count && destination->host != NULL; i++) {
        if (ip_address_equal(&answer->addresses[i], &destination->host->address))
            return &answer->addresses[i];
    }
    for (uint8_t i = 0; i < answer->address_count; i++) {
        if (table->ops->reaches(table->user, &answer->addresses[i]))
            return &answer->addresses[i];
    }
    return NULL;
}

/* Returns false when it can lead nowhere. */
static bool allow(struct destination *destination, const struct n2_authorized *answer)
{
    struct n1_host named;
    struct sockaddr_storage address;

    decode(destination, &named);
    const struct ip_address *chosen = choose(destination, &named, answer);
    if (chosen == NULL)
        return false;
    const struct endpoint endpoint = {.address = *chosen, .port = named.port};
    put_host(destination);
    destination->host = get_host(destination, chosen);
    if (destination->host == NULL)
        return false;
    destination->target.family = chosen->family;
    destination->target.length = endpoint_to_sockaddr(&endpoint, &address);
    memcpy(&destination->target.address, &address, sizeof(destination->target.address));
    destination->state = DEST_ST_ALLOWED;
    destination->expires_ms = uv_now(destination->table->plane->loop) + answer->ttl_ms;
    destination->renew_until_ms =
        destination->expires_ms +
        (answer->ttl_ms < RENEWAL_MAX_MS ? answer->ttl_ms : RENEWAL_MAX_MS);
    destination->generation = answer->generation;
    return true;
}

/* Last of all, since the table may be gone then. */
static void deliver_waiting(struct destination *destination)
{
    struct associate_destinations *table = destination->table;
    struct socket_plane *plane = table->plane;
    const struct associate_target target = destination->target;
    struct associate_datagrams list;
    struct associate_datagram *datagram;

    take_waiting(destination, &list);
    STAILQ_FOREACH(datagram, &list, next)
    table->waiting_octets -= datagram->length;
    if (!STAILQ_EMPTY(&list))
        table->ops->deliver(table->user, &target, &list);
    free_datagrams(plane, NULL, &list, NULL);
}

static void on_answer(struct relay_question *question, const struct n2_authorized *answer)
{
    struct destination *destination =
        (struct destination *)((char *)question - offsetof(struct destination, question));
    struct associate_destinations *table = destination->table;
    bool allowed = false;

    table->questions--;
    if (answer == NULL) {
        deny_unjudged(destination, false);
    } else if (!relay_verdict_holds(table->relay, answer->generation) &&
               !destination->asked_twice) {
        destination->asked_twice = true;
        enqueue(destination);
        return;
    } else if (!relay_verdict_holds(table->relay, answer->generation)) {
        deny_unjudged(destination, false);
    } else if (!answer->allowed || !allow(destination, answer)) {
        destination->judged = true;
        deny(destination, answer->ttl_ms, answer->generation);
    } else {
        allowed = true;
    }
    destination->asked_twice = false;
    ask_next(table);
    if (allowed)
        deliver_waiting(destination);
}

/* ---- the table ---------------------------------------------------------------------------------
 */

static void remove_destination(struct destination *destination)
{
    struct associate_destinations *table = destination->table;

    if (destination->state == DEST_ST_QUEUED)
        TAILQ_REMOVE(&table->queue, destination, in_queue);
    if (destination->state == DEST_ST_ASKED) {
        relay_authorize_cancel(&destination->question);
        table->questions--;
    }
    drop_waiting(destination, &figures(table)->unanswered);
    put_host(destination);
    TAILQ_REMOVE(&table->by_use, destination, by_use);
    HASH_DELETE(hh, table->destinations, destination);
    figures(table)->destinations--;
    free(destination);
}

/* Has the least recently used one to make room for another? */
static bool is_full(struct associate_destinations *table)
{
    const size_t count = HASH_COUNT(table->destinations);

    return count >= table->plane->config->udp.destinations ||
           (count >= ASSOCIATE_DESTINATIONS_DUE &&
            figures(table)->destinations >= ASSOCIATE_DESTINATIONS_MAX);
}

/* A name that is none, and port 0, lead nowhere. */
static bool is_destination(const uint8_t *header, size_t header_length)
{
    const uint8_t *end = header + header_length;

    if (end[-2] == 0 && end[-1] == 0)
        return false;
    /* ATYP, length, name, port */
    return header[N1_UDP_HEADER_PREFIX] != N1_ATYP_DOMAIN ||
           n1_name_is_valid((const char *)header + N1_UDP_HEADER_PREFIX + 2,
                            header_length - N1_UDP_HEADER_PREFIX - 4);
}

/* NULL: counted. */
static struct destination *add_destination(struct associate_destinations *table,
                                           const uint8_t *header, size_t header_length)
{
    if (!is_destination(header, header_length)) {
        figures(table)->malformed++;
        return NULL;
    }
    if (is_full(table))
        remove_destination(TAILQ_LAST(&table->by_use, destination_list));
    struct destination *destination = calloc(1, sizeof(*destination) + header_length);
    if (destination != NULL) {
        destination->table = table;
        destination->header_length = (uint16_t)header_length;
        memcpy(destination->header, header, header_length);
        STAILQ_INIT(&destination->waiting);
        HASH_ADD_KEYPTR(hh, table->destinations, destination->header + N1_UDP_HEADER_PREFIX,
                        header_length - N1_UDP_HEADER_PREFIX, destination);
        if (destination->hh.tbl == NULL) {
            free(destination);
            destination = NULL;
        }
    }
    if (destination == NULL) {
        figures(table)->unanswered++;
        return NULL;
    }
    figures(table)->destinations++;
    TAILQ_INSERT_HEAD(&table->by_use, destination, by_use);
    enqueue(destination);
    return destination;
}

static void touch(struct destination *destination)
{
    struct associate_destinations *table = destination->table;

    if (TAILQ_FIRST(&table->by_use) == destination)
        return;
    TAILQ_REMOVE(&table->by_use, destination, by_use);
    TAILQ_INSERT_HEAD(&table->by_use, destination, by_use);
}

static bool is_named(const struct destination *destination, const uint8_t *header,
                     size_t header_length)
{
    return destination != NULL && destination->header_length == header_length &&
           memcmp(destination->header + N1_UDP_HEADER_PREFIX, header + N1_UDP_HEADER_PREFIX,
                  header_length - N1_UDP_HEADER_PREFIX) == 0;
}

static struct destination *find(struct associate_destinations *table, const uint8_t *header,
                                size_t header_length)
{
    struct destination *found = TAILQ_FIRST(&table->by_use);

    /* Most datagrams go where the one before them went. */
    if (is_named(found, header, header_length))
        return found;
    HASH_FIND(hh, table->destinations, header + N1_UDP_HEADER_PREFIX,
              header_length - N1_UDP_HEADER_PREFIX, found);
    return found;
}

const struct associate_target *associate_destinations_judge(struct associate_destinations *table,
                                                            const uint8_t *header,
                                                            size_t header_length,
                                                            const void *payload, uint32_t length)
{
    struct destination *destination = find(table, header, header_length);

    if (destination == NULL)
        destination = add_destination(table, header, header_length);
    else if (destination->state >= DEST_ST_ALLOWED && !is_settled(destination))
        enqueue(destination);
    if (destination == NULL)
        return NULL;
    touch(destination);
    switch (destination->state) {
    case DEST_ST_ALLOWED:
        return &destination->target;
    case DEST_ST_DENIED:
        ++*denial_counter(destination);
        return NULL;
    case DEST_ST_QUEUED:
    case DEST_ST_ASKED:
        if (may_go_on(destination))
            return &destination->target;
        keep(destination, payload, length);
        return NULL;
    }
    return NULL;
}

bool associate_destinations_know(struct associate_destinations *table,
                                 const struct ip_address *address)
{
    const struct host *host = find_host(table, address);

    if (host != NULL && host->recent != NULL)
        touch(host->recent);
    return host != NULL;
}

struct associate_destinations *
associate_destinations_new(struct socket_plane *plane, struct relay *relay,
                           const struct associate_destinations_ops *ops, void *user)
{
    struct associate_destinations *table = calloc(1, sizeof(*table));

    if (table == NULL)
        return NULL;
    table->plane = plane;
    table->relay = relay;
    table->ops = ops;
    table->user = user;
    TAILQ_INIT(&table->by_use);
    TAILQ_INIT(&table->queue);
    return table;
}

void associate_destinations_free(struct associate_destinations *table)
{
    struct destination *destination;

    if (table == NULL)
        return;
    while ((destination = TAILQ_FIRST(&table->by_use)) != NULL)
        remove_destination(destination);
    free(table);
}
