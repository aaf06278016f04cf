#include "relayd/plane/endpoints.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "relayd/plane/port_pool.h"

struct address_pool {
    struct ip_address address;
    struct port_pool *ports;
};

struct endpoints {
    const struct relayd_config *config;
    const struct local_routes *routes;
    struct random_source random;
    uint32_t egress_port_count; /* the sum of the ranges */
    size_t pool_count;
    struct address_pool pools[ENDPOINTS_POOLS_MAX];
};

static bool is_loopback(const struct ip_address *address)
{
    static const uint8_t v6[16] = {[15] = 1};

    return address->family == IP_V4 ? address->bytes[0] == 127
                                    : memcmp(address->bytes, v6, 16) == 0;
}

static bool is_link_local(const struct ip_address *address)
{
    if (address->family == IP_V4)
        return address->bytes[0] == 169 && address->bytes[1] == 254;
    return ip_address_is_link_local_v6(address);
}

static bool list_contains(const struct config_list *list, const struct ip_address *address)
{
    const struct ip_address *items = list->items;

    for (size_t i = 0; i < list->count; i++) {
        if (ip_address_equal(&items[i], address))
            return true;
    }
    return false;
}

/* ---- the host's own addresses ------------------------------------------------------------------
 */

struct search {
    const struct ip_address *wanted; /* NULL: the first one fit for everybody */
    uint8_t family;
    const struct ip_address *but; /* not this one; NULL: any */
    bool loopback;                /* the first one on loopback instead */
    bool found;
    struct ip_address result;
};

static void search_each(const struct ip_address *address, bool loopback, void *user)
{
    struct search *search = user;

    if (search->found || (search->but != NULL && ip_address_equal(address, search->but)))
        return;
    if (search->wanted != NULL)
        search->found = ip_address_equal(address, search->wanted);
    else if (address->family == search->family)
        search->found =
            !is_link_local(address) && (loopback || is_loopback(address)) == search->loopback;
    if (search->found)
        search->result = *address;
}

static bool host_search(const struct endpoints *endpoints, struct search *search)
{
    if (endpoints->routes != NULL)
        local_routes_each_address(endpoints->routes, search_each, search);
    return search->found;
}

static bool is_of_host(const struct endpoints *endpoints, const struct ip_address *address)
{
    struct search search = {.wanted = address};

    if (endpoints->routes == NULL)
        return false;
    /* All of 127/8 is local, though only 127.0.0.1 is configured. */
    if (address->family == IP_V4 && is_loopback(address))
        return local_routes_contain(endpoints->routes, address);
    return host_search(endpoints, &search);
}

static bool host_first(const struct endpoints *endpoints, uint8_t family, bool loopback,
                       struct ip_address *out)
{
    struct search search = {.family = family, .loopback = loopback};

    if (!host_search(endpoints, &search))
        return false;
    *out = search.result;
    return true;
}

/* ---- choice ------------------------------------------------------------------------------------
 */

static bool is_for_bound(const struct endpoints *endpoints, const struct ip_address *address)
{
    if (ip_address_is_unspecified(address))
        return false;
    return endpoints->config->bind.addresses.count != 0
               ? list_contains(&endpoints->config->bind.addresses, address)
               : is_of_host(endpoints, address);
}

int endpoints_choose_bound(const struct endpoints *endpoints, const struct ip_address *source,
                           const struct ip_address *hint, struct ip_address *out)
{
    const struct config_list *configured = &endpoints->config->bind.addresses;
    const struct ip_address *items = configured->items;

    if (hint->family != IP_NONE && hint->family == source->family &&
        is_for_bound(endpoints, hint)) {
        *out = *hint;
        return 0;
    }
    /* A link-local client can be served on its own link alone, and only the hint tells which that
     * is. */
    if (ip_address_is_link_local_v6(source))
        return -EADDRNOTAVAIL;
    for (size_t i = 0; i < configured->count; i++) {
        if (items[i].family == source->family && !is_loopback(&items[i]) &&
            !is_link_local(&items[i])) {
            *out = items[i];
            return 0;
        }
    }
    if (configured->count == 0 && host_first(endpoints, source->family, false, out))
        return 0;
    if (!is_loopback(source))
        return -EADDRNOTAVAIL;
    /* A client on this very host reaches loopback addresses, too. */
    for (size_t i = 0; i < configured->count; i++) {
        if (items[i].family == source->family && is_loopback(&items[i])) {
            *out = items[i];
            return 0;
        }
    }
    if (configured->count == 0 && host_first(endpoints, source->family, true, out))
        return 0;
    return -EADDRNOTAVAIL;
}

int endpoints_choose_egress(const struct endpoints *endpoints, const struct ip_address *destination,
                            const struct ip_address *hint, struct ip_address *out)
{
    const struct config_list *configured = &endpoints->config->egress.addresses;
    const struct ip_address *items = configured->items;

    if (hint->family != IP_NONE) {
        const bool ours =
            configured->count != 0 ? list_contains(configured, hint) : is_of_host(endpoints, hint);
        if (!ours || hint->family != destination->family)
            return -EADDRNOTAVAIL;
        *out = *hint;
        return 0;
    }
    for (size_t i = 0; i < configured->count; i++) {
        if (items[i].family == destination->family) {
            *out = items[i];
            return 0;
        }
    }
    /* Addresses were named, but none of this family: what the operator did not name is not used. */
    if (configured->count != 0)
        return -EADDRNOTAVAIL;
    memset(out, 0, sizeof(*out));
    return 0;
}

/* Among the addresses for BND. */
static bool bound_search(const struct endpoints *endpoints, struct search *search)
{
    const struct config_list *configured = &endpoints->config->bind.addresses;
    const struct ip_address *items = configured->items;

    if (configured->count == 0)
        return host_search(endpoints, search);
    for (size_t i = 0; i < configured->count; i++)
        search_each(&items[i], false, search);
    return search->found;
}

int endpoints_choose_for_peer(const struct endpoints *endpoints, const struct ip_address *peer,
                              const struct ip_address *client, const struct ip_address *hint,
                              const struct ip_address *egress_hint, struct ip_address *out)
{
    struct search elsewhere = {.family = peer->family, .but = hint};
    struct search anywhere = {.family = peer->family};
    struct search loopback = {.family = peer->family, .loopback = true};
    const int rc = endpoints_choose_egress(endpoints, peer, egress_hint, out);

    if (rc < 0 || out->family != IP_NONE || !ip_address_is_unspecified(peer))
        return rc;
    if (bound_search(endpoints, &elsewhere))
        *out = elsewhere.result;
    else if (bound_search(endpoints, &anywhere))
        *out = anywhere.result;
    else if (is_loopback(client) && bound_search(endpoints, &loopback))
        *out = loopback.result;
    else
        return -EADDRNOTAVAIL;
    return 0;
}

/* ---- ports -------------------------------------------------------------------------------------
 */

static struct port_pool *find_pool(const struct endpoints *endpoints,
                                   const struct ip_address *address)
{
    for (size_t i = 0; i < endpoints->pool_count; i++) {
        if (ip_address_equal(&endpoints->pools[i].address, address))
            return endpoints->pools[i].ports;
    }
    return NULL;
}

static int add_pool(struct endpoints *endpoints, const struct ip_address *address)
{
    const struct config_list *ranges = &endpoints->config->bind.ports;
    struct address_pool *pool = &endpoints->pools[endpoints->pool_count];

    if (endpoints->pool_count == ENDPOINTS_POOLS_MAX)
        return -E2BIG;
    const int rc = port_pool_new(&pool->ports, ranges->items, ranges->count);
    if (rc < 0)
        return rc;
    pool->address = *address;
    endpoints->pool_count++;
    return 0;
}

/* The pool of an address of the host's own, which come and go: one that nothing is drawn from makes
 * room. */
static struct port_pool *find_or_add_pool(struct endpoints *endpoints,
                                          const struct ip_address *address)
{
    struct port_pool *found = find_pool(endpoints, address);

    if (found != NULL)
        return found;
    if (add_pool(endpoints, address) == 0)
        return endpoints->pools[endpoints->pool_count - 1].ports;
    if (endpoints->pool_count < ENDPOINTS_POOLS_MAX)
        return NULL;
    for (size_t i = 0; i < endpoints->pool_count; i++) {
        if (port_pool_is_unused(endpoints->pools[i].ports)) {
            endpoints->pools[i].address = *address;
            return endpoints->pools[i].ports;
        }
    }
    return NULL;
}

int endpoints_new(struct endpoints **out, const struct relayd_config *config,
                  const struct local_routes *routes, uint64_t salt_seed)
{
    const struct config_list *addresses = &config->bind.addresses;
    const struct port_range *egress = config->egress.ports.items;
    struct endpoints *endpoints = calloc(1, sizeof(*endpoints));
    int rc;

    if (endpoints == NULL)
        return -ENOMEM;
    endpoints->config = config;
    endpoints->routes = routes;
    for (size_t i = 0; i < config->egress.ports.count; i++)
        endpoints->egress_port_count += (uint32_t)egress[i].last - egress[i].first + 1;
    rc = random_source_init(&endpoints->random, salt_seed);
    for (size_t i = 0; rc == 0 && i < addresses->count; i++) {
        const struct ip_address *address = (const struct ip_address *)addresses->items + i;
        if (find_pool(endpoints, address) == NULL)
            rc = add_pool(endpoints, address);
    }
    if (rc < 0) {
        endpoints_free(endpoints);
        return rc;
    }
    *out = endpoints;
    return 0;
}

uint16_t endpoints_draw_port(struct endpoints *endpoints, const struct ip_address *address)
{
    struct port_pool *pool = find_or_add_pool(endpoints, address);

    return pool != NULL ? port_pool_draw(pool, &endpoints->random) : 0;
}

void endpoints_return_port(struct endpoints *endpoints, const struct ip_address *address,
                           uint16_t port)
{
    struct port_pool *pool = find_pool(endpoints, address);

    if (pool != NULL)
        port_pool_return(pool, port);
}

uint32_t endpoints_free_ports(const struct endpoints *endpoints, const struct ip_address *address)
{
    const struct port_pool *pool = find_pool(endpoints, address);

    return pool != NULL ? port_pool_free_ports(pool) : 0;
}

void endpoints_each_pool(const struct endpoints *endpoints,
                         void (*each)(const struct ip_address *address, uint32_t free_ports,
                                      void *user),
                         void *user)
{
    for (size_t i = 0; i < endpoints->pool_count; i++)
        each(&endpoints->pools[i].address, port_pool_free_ports(endpoints->pools[i].ports), user);
}

uint16_t endpoints_random_egress_port(struct endpoints *endpoints)
{
    const struct port_range *ranges = endpoints->config->egress.ports.items;
    uint32_t drawn;

    if (endpoints->egress_port_count == 0)
        return 0;
    drawn = random_source_below(&endpoints->random, endpoints->egress_port_count);
    while (drawn > (uint32_t)ranges->last - ranges->first) {
        drawn -= (uint32_t)ranges->last - ranges->first + 1;
        ranges++;
    }
    return (uint16_t)(ranges->first + drawn);
}

struct endpoint endpoints_advertised(const struct endpoints *endpoints,
                                     const struct endpoint *bound)
{
    const struct config_list *pairs = &endpoints->config->bind.advertise;
    struct endpoint told = *bound;

    for (size_t i = 0; i < pairs->count; i++) {
        const struct config_address_pair *pair =
            (const struct config_address_pair *)pairs->items + i;
        if (ip_address_equal(&pair->key, &bound->address)) {
            told.address = pair->value;
            break;
        }
    }
    return told;
}

void endpoints_free(struct endpoints *endpoints)
{
    if (endpoints == NULL)
        return;
    for (size_t i = 0; i < endpoints->pool_count; i++)
        port_pool_free(endpoints->pools[i].ports);
    free(endpoints);
}
