#include "socksd/authorization.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "common/log/log.h"
#include "proto/n1.h"
#include "socksd/command/judge.h"
#include "socksd/session_fsm.h"

/* One name that is being looked up. */
struct authorization {
    struct session *session;
    struct resolver_query *query;
    uint64_t transaction;
    uint16_t port;
    struct authorization *prev, *next;
    char name[];
};

/* ---- answers --------------------------------------------------------------------------------- */

static void answer(struct session *session, uint64_t transaction,
                   const struct ip_address *addresses, size_t count, uint32_t ttl_ms)
{
    struct n2_authorized verdict = {
        .allowed = count > 0,
        .address_count = (uint8_t)count,
        .ttl_ms = ttl_ms,
        .generation = policy_generation(session->set->policy),
    };

    memcpy(verdict.addresses, addresses, count * sizeof(addresses[0]));
    relay_ticket_authorized(&session->ticket, transaction, &verdict);
}

static void deny(struct session *session, uint64_t transaction, const struct judged_host *host,
                 const struct ip_address *address, const char *why, uint32_t ttl_ms)
{
    static struct log_limit limit = LOG_LIMIT_INIT(20, 1000);
    struct endpoint destination = {.port = host->port};

    if (address)
        destination.address = *address;
    LOG_LIMITED(&limit, LOG_LEVEL_INFO, "destination-refused", LOG_U("session", session->id),
                LOG_E("client", &session->peer), LOG_E("destination", &destination),
                LOG_S("name", host->name), LOG_S("why", why));
    counter_add(session->set->counters, COUNTER_DESTINATIONS_REFUSED);
    answer(session, transaction, &destination.address, 0, ttl_ms);
}

/* ---- names ----------------------------------------------------------------------------------- */

static void forget(struct authorization *authorization)
{
    struct session *session = authorization->session;

    DL_DELETE(session->authorizations, authorization);
    session->authorization_count--;
    session->set->authorizations--;
    free(authorization);
}

static uint32_t ttl_of_name(const struct resolver_answer *resolved)
{
    if (resolved->ttl_s < VERDICT_NAME_MIN_MS / 1000)
        return VERDICT_NAME_MIN_MS;
    return resolved->ttl_s > VERDICT_NAME_MAX_MS / 1000 ? VERDICT_NAME_MAX_MS
                                                        : resolved->ttl_s * 1000;
}

static void on_resolved(const struct resolver_answer *resolved, void *user)
{
    struct authorization *authorization = user;
    struct session *session = authorization->session;
    const struct judged_host host = {authorization->name, authorization->port};
    struct ip_address addresses[RESOLVER_ADDRESSES_MAX];
    struct judgement said = {.denial = resolved->why};
    size_t allowed = 0;

    if (resolved->count > 0) {
        memcpy(addresses, resolved->addresses, resolved->count * sizeof(addresses[0]));
        addresses_prefer(addresses, resolved->count, session->peer.address.family);
        allowed =
            judge_addresses(session, &host, addresses, resolved->count, N2_CANDIDATES_MAX, &said);
        if (allowed == 0)
            counter_add(session->set->counters, said.denied_by);
    }
    if (allowed > 0)
        answer(session, authorization->transaction, addresses, allowed, ttl_of_name(resolved));
    else
        deny(session, authorization->transaction, &host, NULL, said.denial,
             resolved->count > 0 ? ttl_of_name(resolved) : VERDICT_UNKNOWN_MS);
    forget(authorization);
}

static int look_up(struct session *session, const struct judged_host *host, uint64_t transaction)
{
    struct session_set *set = session->set;

    if (session->authorization_count >= AUTHORIZATIONS_PER_SESSION ||
        set->authorizations >= AUTHORIZATIONS_MAX || resolver_is_busy(set->resolver))
        return -EAGAIN;
    const size_t size = strlen(host->name) + 1;
    struct authorization *made = calloc(1, sizeof(*made) + size);
    if (!made)
        return -ENOMEM;
    memcpy(made->name, host->name, size);
    made->session = session;
    made->transaction = transaction;
    made->port = host->port;
    const int rc = resolver_lookup(set->resolver, &session->peer.address, made->name, on_resolved,
                                   made, &made->query);
    if (rc < 0) {
        free(made);
        return rc;
    }
    DL_APPEND(session->authorizations, made);
    session->authorization_count++;
    set->authorizations++;
    return 0;
}

static void authorize_name(struct session *session, const struct judged_host *host,
                           uint64_t transaction)
{
    if (!n1_name_is_valid(host->name, strlen(host->name))) {
        deny(session, transaction, host, NULL, "not a domain name", VERDICT_ADDRESS_MS);
        return;
    }
    const struct judgement judgement = judge_name(session, host);
    if (judgement.denial) {
        counter_add(session->set->counters, judgement.denied_by);
        deny(session, transaction, host, NULL, judgement.denial, VERDICT_ADDRESS_MS);
    } else if (look_up(session, host, transaction) < 0) {
        deny(session, transaction, host, NULL, "too many look-ups", VERDICT_BUSY_MS);
    }
}

/* ---- for the session ------------------------------------------------------------------------- */

static void authorize_address(struct session *session, const struct ip_address *address,
                              const struct judged_host *host, uint64_t transaction)
{
    const struct judgement judgement = judge_address(session, host, address);

    if (!judgement.denial) {
        answer(session, transaction, address, 1, VERDICT_ADDRESS_MS);
        return;
    }
    counter_add(session->set->counters, judgement.denied_by);
    deny(session, transaction, host, address, judgement.denial, VERDICT_ADDRESS_MS);
}

void authorize(struct session *session, const struct n2_authorize *asked, uint64_t transaction)
{
    const bool named = asked->address.family == IP_NONE;
    const struct judged_host host = {named ? asked->name : NULL, asked->port};

    counter_add(session->set->counters, COUNTER_DESTINATIONS_ASKED);
    if (session->state != SESSION_ST_RELAYING)
        deny(session, transaction, &host, NULL, "the association is ending", VERDICT_BUSY_MS);
    else if (named)
        authorize_name(session, &host, transaction);
    else
        authorize_address(session, &asked->address, &host, transaction);
}

void authorizations_cancel(struct session *session)
{
    while (session->authorizations) {
        resolver_cancel(session->authorizations->query);
        forget(session->authorizations);
    }
}
