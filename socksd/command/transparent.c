/*
 * X'04' TRANSPARENT (draft, section 3): one flow from S to DST, relayed by the relayd of its PTCL.
 *
 * The codec has judged VER, CMD, RSV, ATYP and S.ATYP. Here follow, in the order of N1.md, the
 * first failure answering:
 *
 *     PTCL (09) ─▶ S: form (01), its name, whose it is (02) ─▶ DST (destination.h) ─▶ order
 */
#include "proto/ptcl.h"
#include "socksd/command/destination.h"
#include "socksd/session_fsm.h"

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
            destination_judge(session);
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
    destination_judge(session);
}

static void on_source_resolved(const struct resolver_answer *answer, void *user)
{
    struct session *session = user;

    session->handshake->query = NULL;
    if (answer->count == 0)
        session_refuse(session, N1_REP_GENERAL_FAILURE, answer->why); /* 04 is about DST */
    else
        judge_source(session, answer->addresses, answer->count);
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
        destination_look_up(session, source->name, on_source_resolved);
    else
        judge_source(session, &source->address, 1);
}

/* One association, one DST: the first that may be used (N1-DST-010). */
static void transparent_allowed(struct session *session, const struct ip_address *addresses,
                                size_t count)
{
    (void)addresses;
    (void)count;
    session_order(session);
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
    .life = COMMAND_HOLDS_N1,
    .start = transparent_start,
    .allowed = transparent_allowed,
    .describe = transparent_describe,
};
