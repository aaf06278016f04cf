/*
 * A query is in one or two lists: `waiting` in the order of start, which is the order of deadlines,
 * until it is answered, cancelled or late, or moves to `half` when one of its two families has
 * brought addresses; `answered` until the loop delivers it. c-ares cannot
 * cancel one look-up, so a query whose owner has gone stays allocated (and counted) until c-ares
 * calls back. Until then it is charged to its client's address.
 */
#include "socksd/resolver.h"

#include <ares.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "common/net/sockaddr.h"
#include "socksd/client_table.h"

#define SOCKETS_MAX 64 /* c-ares: one UDP and one TCP socket per server */

struct resolver_query {
    struct resolver *resolver;
    struct client *client; /* whom it is charged to */
    resolver_cb done;      /* NULL: cancelled, or delivered late */
    void *user;
    uint8_t in_ares; /* how often c-ares has still to call back */
    bool in_waiting, in_half, in_answered;
    uint64_t deadline_ms;
    const char *why;
    uint32_t ttl_s;
    size_t count;
    struct ip_address addresses[RESOLVER_ADDRESSES_MAX];
    struct resolver_query *waiting_prev, *waiting_next;
    struct resolver_query *answered_prev, *answered_next;
};

struct resolver_socket {
    uv_poll_t poll;
    struct resolver *resolver;
    ares_socket_t fd;
    struct resolver_socket *prev, *next;
};

struct resolver {
    uv_loop_t *loop;
    ares_channel channel;
    uv_timer_t timer;
    uv_idle_t deliver;
    unsigned handles; /* not yet closed: timer, idle, sockets */
    bool closing;
    uint64_t timeout_ms, limit, in_flight;
    struct resolver_socket *sockets;
    size_t socket_count;
    struct client_table clients; /* look-ups of each address */
    struct resolver_query *waiting, *half, *answered;
    struct counters *counters;
};

static void arm_timer(struct resolver *resolver);

/* ---- memory ---------------------------------------------------------------------------------- */

static void release_handle(struct resolver *resolver)
{
    if (--resolver->handles == 0)
        free(resolver);
}

static void on_handle_closed(uv_handle_t *handle)
{
    release_handle(handle->data);
}

static void query_free_if_done(struct resolver_query *query)
{
    struct resolver *resolver = query->resolver;

    if (query->in_ares > 0 || query->in_waiting || query->in_half || query->in_answered)
        return;
    client_leave(&resolver->clients, query->client);
    resolver->in_flight--;
    counter_set(resolver->counters, COUNTER_RESOLVER_IN_FLIGHT, resolver->in_flight);
    free(query);
}

static void stop_waiting(struct resolver_query *query)
{
    if (query->in_waiting)
        DL_DELETE2(query->resolver->waiting, query, waiting_prev, waiting_next);
    if (query->in_half)
        DL_DELETE2(query->resolver->half, query, waiting_prev, waiting_next);
    query->in_waiting = query->in_half = false;
}

static void stop_answered(struct resolver_query *query)
{
    if (query->in_answered)
        DL_DELETE2(query->resolver->answered, query, answered_prev, answered_next);
    query->in_answered = false;
}

/* ---- delivery -------------------------------------------------------------------------------- */

static void on_deliver(uv_idle_t *idle)
{
    struct resolver *resolver = idle->data;

    while (resolver->answered) {
        struct resolver_query *query = resolver->answered;
        const resolver_cb done = query->done;
        stop_answered(query);
        query->done = NULL;
        /* Kept through the call although nothing else may hold it any more. */
        struct ip_address addresses[RESOLVER_ADDRESSES_MAX];
        const struct resolver_answer answer = {.addresses = addresses,
                                               .count = query->count,
                                               .why = query->why,
                                               .ttl_s = query->ttl_s};
        void *user = query->user;
        memcpy(addresses, query->addresses, answer.count * sizeof(addresses[0]));
        query_free_if_done(query);
        if (done)
            done(&answer, user);
    }
    uv_idle_stop(idle);
}

static void answer(struct resolver_query *query, const char *why)
{
    struct resolver *resolver = query->resolver;

    stop_waiting(query);
    if (!query->done || query->in_answered)
        return;
    query->why = why;
    if (query->count == 0)
        counter_add(resolver->counters, COUNTER_RESOLVER_FAILURES);
    query->in_answered = true;
    DL_APPEND2(resolver->answered, query, answered_prev, answered_next);
    uv_idle_start(&resolver->deliver, on_deliver);
}

/* ---- c-ares ---------------------------------------------------------------------------------- */

static void take_address(struct resolver_query *query, const struct sockaddr *from)
{
    struct endpoint endpoint;
    size_t same_family = 0;

    if (endpoint_from_sockaddr(from, &endpoint) < 0)
        return;
    for (size_t i = 0; i < query->count; i++) {
        if (ip_address_equal(&query->addresses[i], &endpoint.address))
            return;
        same_family += query->addresses[i].family == endpoint.address.family;
    }
    if (same_family < RESOLVER_ADDRESSES_MAX / 2 && query->count < RESOLVER_ADDRESSES_MAX)
        query->addresses[query->count++] = endpoint.address;
}

static uint32_t smallest_ttl(const struct ares_addrinfo *result)
{
    int ttl = result->nodes ? INT_MAX : 0;

    for (const struct ares_addrinfo_node *node = result->nodes; node; node = node->ai_next)
        ttl = node->ai_ttl < ttl ? node->ai_ttl : ttl;
    for (const struct ares_addrinfo_cname *name = result->cnames; name; name = name->next)
        ttl = name->ttl < ttl ? name->ttl : ttl;
    return ttl > 0 ? (uint32_t)ttl : 0;
}

/* Of one family. */
static void take_answer(struct resolver_query *query, const struct ares_addrinfo *result)
{
    const bool first = query->count == 0;

    for (const struct ares_addrinfo_node *node = result->nodes; node; node = node->ai_next)
        take_address(query, node->ai_addr);
    const uint32_t ttl_s = smallest_ttl(result);
    if (result->nodes && (first || ttl_s < query->ttl_s))
        query->ttl_s = ttl_s;
}

/* There are addresses of one family; those of the other are not waited for long. */
static void half_answered(struct resolver_query *query)
{
    struct resolver *resolver = query->resolver;
    const uint64_t deadline_ms = uv_now(resolver->loop) + RESOLVER_OTHER_FAMILY_MS;

    if (!query->in_waiting || query->deadline_ms <= deadline_ms)
        return;
    stop_waiting(query);
    query->deadline_ms = deadline_ms;
    query->in_half = true;
    DL_APPEND2(resolver->half, query, waiting_prev, waiting_next);
}

static void on_ares_answer(void *user, int status, int timeouts, struct ares_addrinfo *result)
{
    struct resolver_query *query = user;

    (void)timeouts;
    query->in_ares--;
    if (status == ARES_SUCCESS && query->done && !query->in_answered)
        take_answer(query, result);
    if (result)
        ares_freeaddrinfo(result);
    if (query->in_ares > 0) {
        if (query->count > 0)
            half_answered(query);
        return;
    }
    if (status == ARES_ETIMEOUT && query->done && query->count == 0)
        counter_add(query->resolver->counters, COUNTER_RESOLVER_TIMEOUTS);
    answer(query, status == ARES_SUCCESS ? "no address" : ares_strerror(status));
    query_free_if_done(query);
}

static void on_socket_ready(uv_poll_t *poll, int status, int events)
{
    struct resolver_socket *sock = poll->data;
    struct resolver *resolver = sock->resolver;
    const ares_socket_t fd = sock->fd;

    /* An error is found out by c-ares when it reads. */
    const bool readable = status < 0 || (events & UV_READABLE);
    const bool writable = status < 0 || (events & UV_WRITABLE);
    ares_process_fd(resolver->channel, readable ? fd : ARES_SOCKET_BAD,
                    writable ? fd : ARES_SOCKET_BAD);
    arm_timer(resolver);
}

static void on_socket_closed(uv_handle_t *handle)
{
    struct resolver_socket *sock = handle->data;
    struct resolver *resolver = sock->resolver;
    free(sock);
    release_handle(resolver);
}

static struct resolver_socket *socket_new(struct resolver *resolver, ares_socket_t fd)
{
    if (resolver->socket_count == SOCKETS_MAX)
        return NULL;
    struct resolver_socket *sock = calloc(1, sizeof(*sock));
    if (!sock || uv_poll_init(resolver->loop, &sock->poll, fd) < 0) {
        free(sock);
        return NULL;
    }
    sock->poll.data = sock;
    sock->resolver = resolver;
    sock->fd = fd;
    resolver->handles++;
    resolver->socket_count++;
    DL_APPEND(resolver->sockets, sock);
    return sock;
}

/* c-ares tells which sockets it wants to be told about; neither: it is about to close the socket.
 */
static void on_socket_state(void *user, ares_socket_t fd, int readable, int writable)
{
    struct resolver *resolver = user;
    struct resolver_socket *sock;

    DL_SEARCH_SCALAR(resolver->sockets, sock, fd, fd);
    if (!readable && !writable) {
        if (!sock)
            return;
        DL_DELETE(resolver->sockets, sock);
        resolver->socket_count--;
        uv_poll_stop(&sock->poll);
        uv_close((uv_handle_t *)&sock->poll, on_socket_closed);
        return;
    }
    if (!sock)
        sock = socket_new(resolver, fd);
    if (sock) /* otherwise c-ares's own time-out ends the look-up */
        uv_poll_start(&sock->poll, (readable ? UV_READABLE : 0) | (writable ? UV_WRITABLE : 0),
                      on_socket_ready);
}

/* ---- time ------------------------------------------------------------------------------------ */

static void on_timer(uv_timer_t *timer)
{
    struct resolver *resolver = timer->data;

    while (resolver->waiting && resolver->waiting->deadline_ms <= uv_now(resolver->loop)) {
        struct resolver_query *late = resolver->waiting;
        if (late->count == 0)
            counter_add(resolver->counters, COUNTER_RESOLVER_TIMEOUTS);
        answer(late, "timed out");
    }
    while (resolver->half && resolver->half->deadline_ms <= uv_now(resolver->loop))
        answer(resolver->half, NULL);
    ares_process_fd(resolver->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    arm_timer(resolver);
}

static void arm_timer(struct resolver *resolver)
{
    struct timeval storage, *next = ares_timeout(resolver->channel, NULL, &storage);
    uint64_t wait = UINT64_MAX;

    if (next)
        wait = (uint64_t)next->tv_sec * 1000 + (uint64_t)next->tv_usec / 1000 + 1;
    const struct resolver_query *const first[] = {resolver->waiting, resolver->half};
    for (size_t i = 0; i < sizeof(first) / sizeof(first[0]); i++) {
        if (!first[i])
            continue;
        const uint64_t now = uv_now(resolver->loop), at = first[i]->deadline_ms;
        const uint64_t left = at > now ? at - now : 0;
        wait = left < wait ? left : wait;
    }
    if (resolver->closing || wait == UINT64_MAX)
        uv_timer_stop(&resolver->timer);
    else
        uv_timer_start(&resolver->timer, on_timer, wait, 0);
}

/* ---- life ------------------------------------------------------------------------------------ */

/* "a,b,c", or NULL when out of memory. */
static char *join_servers(const struct resolver_config *config)
{
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);

    if (!to)
        return NULL;
    for (size_t i = 0; i < config->server_count; i++)
        fprintf(to, "%s%s", i ? "," : "", config->servers[i]);
    if (fclose(to) == 0)
        return text;
    free(text);
    return NULL;
}

static int set_servers(struct resolver *resolver, const struct resolver_config *config)
{
    if (config->server_count == 0)
        return 0;
    char *text = join_servers(config);
    if (!text)
        return -ENOMEM;
    int rc = ares_set_servers_ports_csv(resolver->channel, text);
    free(text);
    return rc == ARES_SUCCESS ? 0 : -EINVAL;
}

static int channel_init(struct resolver *resolver, const struct resolver_config *config)
{
    /* Each pass over the servers waits twice as long as the one before; together they fit the
     * timeout. */
    const uint64_t parts = (UINT64_C(1) << config->tries) - 1;
    const uint64_t first_ms = config->timeout_ms / parts;
    static char dns_alone[] = "b"; /* /etc/hosts is read once for both families: is_known_here() */
    struct ares_options options = {
        .flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES,
        .timeout = (int)(first_ms > 0 ? first_ms : 1),
        .tries = (int)config->tries,
        .lookups = dns_alone,
        .sock_state_cb = on_socket_state,
        .sock_state_cb_data = resolver,
    };
    int rc = ares_init_options(&resolver->channel, &options,
                               ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES |
                                   ARES_OPT_LOOKUPS | ARES_OPT_SOCK_STATE_CB);
    if (rc != ARES_SUCCESS)
        return rc == ARES_ENOMEM ? -ENOMEM : -EIO;
    rc = set_servers(resolver, config);
    if (rc < 0)
        ares_destroy(resolver->channel);
    return rc;
}

int resolver_open(struct resolver **out, uv_loop_t *loop, const struct resolver_config *config,
                  struct counters *counters)
{
    struct resolver *resolver = calloc(1, sizeof(*resolver));
    if (!resolver)
        return -ENOMEM;
    resolver->loop = loop;
    resolver->timeout_ms = config->timeout_ms;
    resolver->limit = config->queries;
    resolver->clients.limit = config->queries_per_address;
    resolver->counters = counters;
    int rc = ares_library_init(ARES_LIB_INIT_ALL) == ARES_SUCCESS ? 0 : -ENOMEM;
    if (rc == 0) {
        rc = channel_init(resolver, config);
        if (rc < 0)
            ares_library_cleanup();
    }
    if (rc < 0) {
        free(resolver);
        return rc;
    }
    uv_timer_init(loop, &resolver->timer);
    uv_idle_init(loop, &resolver->deliver);
    resolver->timer.data = resolver->deliver.data = resolver;
    resolver->handles = 2;
    *out = resolver;
    return 0;
}

static void take_host(struct resolver_query *query, const struct hostent *host)
{
    for (char *const *address = host->h_addr_list; *address; address++) {
        struct sockaddr_storage from = {.ss_family = (sa_family_t)host->h_addrtype};

        if (host->h_addrtype == AF_INET)
            memcpy(&((struct sockaddr_in *)&from)->sin_addr, *address, sizeof(struct in_addr));
        else
            memcpy(&((struct sockaddr_in6 *)&from)->sin6_addr, *address, sizeof(struct in6_addr));
        take_address(query, (const struct sockaddr *)&from);
    }
}

/* Is it an address, or does /etc/hosts know it? Then no server is asked, for neither family. */
static bool is_known_here(struct resolver_query *query, const char *name)
{
    static const int families[] = {AF_INET6, AF_INET};
    struct ip_address literal;

    if (ip_address_parse(name, &literal) == 0) {
        query->addresses[query->count++] = literal;
        return true;
    }
    for (size_t i = 0; i < 2; i++) {
        struct hostent *host = NULL;
        if (ares_gethostbyname_file(query->resolver->channel, name, families[i], &host) !=
            ARES_SUCCESS)
            continue;
        take_host(query, host);
        ares_free_hostent(host);
    }
    return query->count > 0;
}

/* Two questions, not one for both: c-ares would answer that when the slower one is answered, and
 * where it never is, too late. */
static void ask_servers(struct resolver_query *query, const char *name)
{
    static const struct ares_addrinfo_hints hints[] = {
        {.ai_family = AF_INET6, .ai_flags = ARES_AI_NOSORT},
        {.ai_family = AF_INET, .ai_flags = ARES_AI_NOSORT},
    };

    query->in_ares = 2;
    for (size_t i = 0; i < 2; i++)
        ares_getaddrinfo(query->resolver->channel, name, NULL, &hints[i], on_ares_answer, query);
}

/* One more look-up under way, charged to `client`. Returns as resolver_lookup(). */
static int query_new(struct resolver *resolver, const struct ip_address *client,
                     struct resolver_query **out)
{
    bool refused = false;

    if (resolver->in_flight >= resolver->limit) {
        counter_add(resolver->counters, COUNTER_RESOLVER_REFUSED);
        return -EAGAIN;
    }
    struct resolver_query *query = calloc(1, sizeof(*query));
    if (!query)
        return -ENOMEM;
    query->client = client_enter(&resolver->clients, client, &refused);
    if (!query->client) {
        free(query);
        if (!refused)
            return -ENOMEM;
        counter_add(resolver->counters, COUNTER_RESOLVER_REFUSED_ADDRESS_LIMIT);
        return -EDQUOT;
    }
    query->resolver = resolver;
    resolver->in_flight++;
    counter_add(resolver->counters, COUNTER_RESOLVER_QUERIES);
    counter_set(resolver->counters, COUNTER_RESOLVER_IN_FLIGHT, resolver->in_flight);
    *out = query;
    return 0;
}

int resolver_lookup(struct resolver *resolver, const struct ip_address *client, const char *name,
                    resolver_cb done, void *user, struct resolver_query **query)
{
    struct resolver_query *made = NULL;
    const int rc = query_new(resolver, client, &made);
    if (rc < 0)
        return rc;
    made->done = done;
    made->user = user;
    made->deadline_ms = uv_now(resolver->loop) + resolver->timeout_ms;
    made->in_waiting = true;
    DL_APPEND2(resolver->waiting, made, waiting_prev, waiting_next);
    *query = made;
    if (is_known_here(made, name))
        answer(made, NULL);
    else
        ask_servers(made, name);
    arm_timer(resolver);
    return 0;
}

bool resolver_is_busy(const struct resolver *resolver)
{
    return resolver->in_flight > 0 && 2 * resolver->in_flight >= resolver->limit;
}

void resolver_cancel(struct resolver_query *query)
{
    query->done = NULL;
    stop_waiting(query);
    stop_answered(query);
    query_free_if_done(query);
}

void resolver_close(struct resolver *resolver)
{
    if (!resolver)
        return;
    resolver->closing = true;
    while (resolver->waiting)
        resolver_cancel(resolver->waiting);
    while (resolver->half)
        resolver_cancel(resolver->half);
    while (resolver->answered)
        resolver_cancel(resolver->answered);
    ares_destroy(
        resolver
            ->channel); /* calls back for every query that it still has, and closes its sockets */
    ares_library_cleanup();
    uv_close((uv_handle_t *)&resolver->timer, on_handle_closed);
    uv_close((uv_handle_t *)&resolver->deliver, on_handle_closed);
}
