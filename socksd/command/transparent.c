/*
 * X'04' TRANSPARENT (draft, section 3): one flow from S to DST, relayed by the relayd of its PTCL.
 *
 * The codec has judged VER, CMD, RSV, ATYP and S.ATYP. Here follow, in the order of N1.md, the
 * first failure answering:
 *
 *     PTCL (09) ─▶ S: form (01), its name, whose it is (02) ─▶ DST: form (01) ─▶ rules on its name
 * (02) ─▶ its name (04) ─▶ rules and deny floor on each address (02) ─▶ order
 */
#include <errno.h>

#include "proto/ptcl.h"
#include "socksd/session_fsm.h"

static void judge_destination(struct session *session);

/* ---- ports ----------------------------------------------------------------------------------- */

/* Why these ports cannot be meant for the protocol; NULL when they can. */
static const char *judge_source_port(const struct session *session, uint16_t port)
{
    const struct ptcl *ptcl = ptcl_by_number(session->ptcl);

    switch (ptcl->ports) {
    case PTCL_PORTS:
        return port == 0 && !session->set->config->transparent.learn_source_port ? "S.PORT is 0"
                                                                                 : NULL;
    case PTCL_NO_PORTS:
        return port != 0 ? "S.PORT is not 0" : NULL;
    case PTCL_ECHO_ID:
        break;
    }
    return NULL;
}

static const char *judge_destination_port(const struct session *session, uint16_t port)
{
    if (ptcl_by_number(session->ptcl)->ports == PTCL_PORTS)
        return port == 0 ? "DST.PORT is 0" : NULL;
    return port != 0 ? "DST.PORT is not 0" : NULL;
}

/* ---- S --------------------------------------------------------------------------------------- */

/* The address as it is meant on this connection: 0 is the peer, link-local ones live on N1's
 * interface. */
static struct ip_address source_meant(const struct session *session, const struct ip_address *asked)
{
    struct ip_address address = *asked;

    if (ip_address_is_unspecified(&address))
        return session->peer.address;
    if (ip_address_is_link_local_v6(&address))
        address.scope_id = session->peer.address.scope_id ? session->peer.address.scope_id
                                                          : session->local.address.scope_id;
    return address;
}

static void refuse_source(struct session *session, const char *why)
{
    counter_add(session->set->counters, COUNTER_DENIED_SOURCE);
    session_refuse(session, N1_REP_NOT_ALLOWED, why);
}

/*
 * S is chosen by the client: were it believed, anybody could aim traffic at third parties. Of
 * several addresses of a name the client's own is meant; another one needs a rule, and is held to
 * the deny floor like a destination.
 */
static void judge_source(struct session *session, const struct ip_address *addresses, size_t count)
{
    const struct session_set *set = session->set;
    const struct ip_address *peer = &session->peer.address;
    const struct ip_address *foreign = &addresses[0];

    for (size_t i = 0; i < count; i++) {
        session->source.address = source_meant(session, &addresses[i]);
        if (ip_address_equal(&session->source.address, peer)) {
            judge_destination(session);
            return;
        }
        if (foreign->family != peer->family && addresses[i].family == peer->family)
            foreign = &addresses[i];
    }
    session->source.address = source_meant(session, foreign);
    if (!policy_may_use_foreign_source(set->policy, peer, session->command, session->ptcl)) {
        refuse_source(session, "S is not the client's address");
        return;
    }
    const char *forbidden = deny_floor_judge(set->floor, &session->source.address);
    if (forbidden) {
        refuse_source(session, forbidden);
        return;
    }
    judge_destination(session);
}

static bool source_is_foreign(const struct session *session)
{
    return !ip_address_equal(&session->source.address, &session->peer.address);
}

/* ---- names ----------------------------------------------------------------------------------- */

static void look_up(struct session *session, const char *name, resolver_cb done)
{
    const int rc =
        resolver_lookup(session->set->resolver, name, done, session, &session->handshake->query);
    if (rc < 0)
        session_refuse(session, N1_REP_GENERAL_FAILURE,
                       rc == -EAGAIN ? "resolver.queries" : "out of memory");
}

static void on_source_resolved(const struct ip_address *addresses, size_t count, const char *why,
                               void *user)
{
    struct session *session = user;

    session->handshake->query = NULL;
    if (count == 0)
        session_refuse(session, N1_REP_GENERAL_FAILURE, why); /* 04 is about DST */
    else
        judge_source(session, addresses, count);
}

/* ---- DST ------------------------------------------------------------------------------------- */

static struct policy_request policy_request_of(const struct session *session,
                                               const struct ip_address *address)
{
    const struct n1_host *destination = &session->handshake->request.destination;
    const bool named = destination->atyp == N1_ATYP_DOMAIN;

    return (struct policy_request){
        .client = session->peer.address,
        .command = session->command,
        .ptcl = session->ptcl,
        .name = named ? destination->name : NULL,
        .name_length = named ? destination->name_length : 0,
        .address = address,
        .port = session->destination.port,
    };
}

/* NULL: allowed, and session->rule says by what. */
static const char *judge_address(struct session *session, const struct ip_address *address,
                                 enum counter *denied_by)
{
    const struct policy_request request = policy_request_of(session, address);
    const struct policy_answer answer = policy_judge(session->set->policy, &request);

    *denied_by = COUNTER_DENIED_RULE;
    if (answer.verdict != POLICY_ALLOW)
        return answer.rule ? answer.rule->label : "no rule allows it";
    if (source_is_foreign(session) && !answer.rule->foreign_source)
        return "the rule does not allow a foreign source";
    *denied_by = COUNTER_DENIED_FLOOR;
    const char *forbidden = deny_floor_judge(session->set->floor, address);
    if (!forbidden)
        session->rule = answer.rule;
    return forbidden;
}

/* Addresses of S's family first, otherwise in the order of the answer; the first that is allowed is
 * used. */
static void judge_addresses(struct session *session, const struct ip_address *addresses,
                            size_t count)
{
    const uint8_t preferred = session->source.address.family;
    enum counter denied_by = COUNTER_DENIED_RULE;
    const char *first_denial = NULL;
    enum counter first_counter = COUNTER_DENIED_RULE;

    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < count; i++) {
            if ((addresses[i].family == preferred) != (pass == 0))
                continue;
            session->destination.address = addresses[i];
            const char *denial = judge_address(session, &addresses[i], &denied_by);
            if (!denial) {
                session_order(session);
                return;
            }
            if (!first_denial) {
                first_denial = denial;
                first_counter = denied_by;
            }
        }
    }
    counter_add(session->set->counters, first_counter);
    session_refuse(session, N1_REP_NOT_ALLOWED, first_denial);
}

static void on_destination_resolved(const struct ip_address *addresses, size_t count,
                                    const char *why, void *user)
{
    struct session *session = user;

    session->handshake->query = NULL;
    if (count == 0)
        session_refuse(session, N1_REP_HOST_UNREACHABLE, why);
    else
        judge_addresses(session, addresses, count);
}

static void judge_destination(struct session *session)
{
    const struct n1_host *destination = &session->handshake->request.destination;
    const char *problem = judge_destination_port(session, destination->port);

    session->destination.port = destination->port;
    if (destination->atyp == N1_ATYP_DOMAIN &&
        !n1_name_is_valid(destination->name, destination->name_length))
        problem = "DST is not a domain name";
    if (problem) {
        session_refuse(session, N1_REP_GENERAL_FAILURE, problem);
        return;
    }
    if (destination->atyp != N1_ATYP_DOMAIN) {
        judge_addresses(session, &destination->address, 1);
        return;
    }
    const struct policy_request request = policy_request_of(session, NULL);
    const struct policy_answer answer = policy_judge(session->set->policy, &request);
    if (answer.verdict == POLICY_DENY) {
        counter_add(session->set->counters, COUNTER_DENIED_RULE);
        session_refuse(session, N1_REP_NOT_ALLOWED,
                       answer.rule ? answer.rule->label : "no rule allows it");
        return;
    }
    look_up(session, destination->name, on_destination_resolved);
}

/* ---- the row --------------------------------------------------------------------------------- */

static void transparent_start(struct session *session)
{
    const struct n1_host *source = &session->handshake->request.source;
    const char *problem;

    if (!relay_pool_serves(session->set->relays, session->ptcl)) {
        session_refuse(session, N1_REP_PTCL_NOT_SUPPORTED,
                       "no relay daemon is configured for the protocol");
        return;
    }
    session->source.port = source->port;
    problem = judge_source_port(session, source->port);
    if (source->atyp == N1_ATYP_DOMAIN && !n1_name_is_valid(source->name, source->name_length))
        problem = "S is not a domain name";
    if (problem)
        session_refuse(session, N1_REP_GENERAL_FAILURE, problem);
    else if (source->atyp == N1_ATYP_DOMAIN)
        look_up(session, source->name, on_source_resolved);
    else
        judge_source(session, &source->address, 1);
}

static void transparent_describe(const struct session *session, struct n2_open_relay *out)
{
    out->association = session->id;
    out->kind = N2_KIND_TRANSPARENT;
    out->source = session->source;
    out->learn_source_port =
        session->source.port == 0 && ptcl_by_number(session->ptcl)->ports == PTCL_PORTS;
    out->destination_count = 1;
    out->destinations[0] = session->destination;
    out->bound_hint = session->local.address;
    (void)snprintf(out->rule, sizeof(out->rule), "%s", session->rule->label);
}

const struct command command_transparent = {
    .number = N1_CMD_TRANSPARENT,
    .name = "transparent",
    .start = transparent_start,
    .describe = transparent_describe,
};
