#include "socksd/command/destination.h"

#include <errno.h>
#include <string.h>

#include "proto/ptcl.h"
#include "socksd/session_fsm.h"

struct judged_host destination_asked(const struct session *session)
{
    const struct n1_host *destination = &session->handshake->request.destination;

    return (struct judged_host){
        .name = destination->atyp == N1_ATYP_DOMAIN ? destination->name : NULL,
        .port = destination->port,
    };
}

bool destination_is_well_formed(const struct session *session)
{
    const struct n1_host *destination = &session->handshake->request.destination;

    return destination->atyp != N1_ATYP_DOMAIN ||
           n1_name_is_valid(destination->name, destination->name_length);
}

void destination_look_up(struct session *session, const char *name, resolver_cb done)
{
    const int rc = resolver_lookup(session->set->resolver, &session->peer.address, name, done,
                                   session, &session->handshake->query);
    if (rc == -EAGAIN)
        session_refuse(session, N1_REP_GENERAL_FAILURE, "resolver.queries");
    else if (rc == -EDQUOT)
        session_refuse(session, N1_REP_GENERAL_FAILURE, "resolver.queries-per-address");
    else if (rc < 0)
        session_refuse(session, N1_REP_GENERAL_FAILURE, "out of memory");
}

static void deny(struct session *session, const struct judgement *judgement)
{
    counter_add(session->set->counters, judgement->denied_by);
    session_refuse(session, N1_REP_NOT_ALLOWED, judgement->denial);
}

static void allow(struct session *session, const struct rule *rule,
                  const struct ip_address *addresses, size_t count)
{
    session->rule = rule;
    session->destination.address = addresses[0];
    session->row->allowed(session, addresses, count);
}

/* BIND: 0.0.0.0 and :: are not a host but every host. Rules see them as they are, so that only one
 * for all addresses matches; the floor has nothing to say. */
static void judge_any_peer(struct session *session, const struct ip_address *any)
{
    const struct judged_host host = destination_asked(session);
    const struct judgement judgement = judge_rules(session, &host, any);

    if (judgement.denial)
        deny(session, &judgement);
    else
        allow(session, judgement.rule, any, 1);
}

static void judge_each(struct session *session, const struct ip_address *given, size_t count)
{
    const struct judged_host host = destination_asked(session);
    struct ip_address addresses[RESOLVER_ADDRESSES_MAX];
    struct judgement said;

    memcpy(addresses, given, count * sizeof(addresses[0]));
    if (session->row->interleaves)
        addresses_interleave(addresses, count);
    else
        addresses_prefer(addresses, count, session->source.address.family);
    session->destination.address = addresses[0]; /* for the log of a denial */
    const size_t allowed =
        judge_addresses(session, &host, addresses, count, N2_CANDIDATES_MAX, &said);
    if (allowed == 0)
        deny(session, &said);
    else
        allow(session, said.rule, addresses, allowed);
}

static void on_resolved(const struct resolver_answer *answer, void *user)
{
    struct session *session = user;

    session->handshake->query = NULL;
    if (answer->count == 0)
        session_refuse(session, N1_REP_HOST_UNREACHABLE, answer->why);
    else
        judge_each(session, answer->addresses, answer->count);
}

/* Why DST cannot be meant; NULL when it can. */
static const char *judge_form(const struct session *session)
{
    const uint16_t port = session->handshake->request.destination.port;

    if (!destination_is_well_formed(session))
        return "DST is not a domain name";
    if (ptcl_by_number(session->ptcl)->ports != PTCL_PORTS)
        return port != 0 ? "DST.PORT is not 0" : NULL;
    return port == 0 && !session->row->any_peer ? "DST.PORT is 0" : NULL;
}

void destination_judge(struct session *session)
{
    const struct n1_host *destination = &session->handshake->request.destination;
    const struct judged_host host = destination_asked(session);
    const char *problem = judge_form(session);

    session->destination.port = destination->port;
    if (problem) {
        session_refuse(session, N1_REP_GENERAL_FAILURE, problem);
        return;
    }
    if (!host.name) {
        if (session->row->any_peer && ip_address_is_unspecified(&destination->address))
            judge_any_peer(session, &destination->address);
        else
            judge_each(session, &destination->address, 1);
        return;
    }
    const struct judgement judgement = judge_name(session, &host);
    if (judgement.denial)
        deny(session, &judgement);
    else
        destination_look_up(session, host.name, on_resolved);
}
