/*
 * X'03' UDP ASSOCIATE (RFC 1928, sections 4 and 7): datagrams of the client, each with a header
 * that names its destination. The rules on those are asked for by relayd (authorization.h); here it
 * is only judged whether this client may have an association at all.
 *
 * DST is the port from which the client will send, if it knows. Many clients put the target there:
 * what is not the client's own address is therefore no hint, and never the source of anything.
 */
#include <stdio.h>

#include "proto/ptcl.h"
#include "socksd/command/destination.h"
#include "socksd/session_fsm.h"

static void associate_start(struct session *session)
{
    const struct n1_host *hint = &session->handshake->request.destination;

    session->destination = (struct endpoint){0};
    session->source = (struct endpoint){.address = session->peer.address};
    if (!destination_is_well_formed(session)) {
        session_refuse(session, N1_REP_GENERAL_FAILURE, "DST is not a domain name");
        return;
    }
    if (hint->atyp != N1_ATYP_DOMAIN) {
        struct ip_address address = hint->address;
        if (ip_address_is_link_local_v6(&address)) /* the request has no room for a scope */
            address.scope_id = session->peer.address.scope_id;
        if (ip_address_equal(&address, &session->peer.address))
            session->source.port = hint->port;
    }
    session->rule = policy_may_allow(session->set->policy, &session->peer.address, session->command,
                                     session->ptcl);
    if (!session->rule) {
        counter_add(session->set->counters, COUNTER_DENIED_RULE);
        session_refuse(session, N1_REP_NOT_ALLOWED, "no rule allows any destination");
        return;
    }
    session_order(session);
}

static void associate_describe(const struct session *session, struct n2_open_relay *out)
{
    out->association = session->id;
    out->kind = N2_KIND_UDP_ASSOCIATE;
    out->source = session->source;
    out->learn_source_port = session->source.port == 0;
    out->bound_hint = session->local.address;
    (void)snprintf(out->rule, sizeof(out->rule), "%s", session->rule->label);
}

const struct command command_udp_associate = {
    .number = N1_CMD_UDP_ASSOCIATE,
    .ptcl = PTCL_UDP,
    .life = COMMAND_HOLDS_N1,
    .name = "udp-associate",
    .start = associate_start,
    .describe = associate_describe,
};
