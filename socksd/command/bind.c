/*
 * X'02' BIND (RFC 1928, section 4): relayd listens for one connection of DST (0.0.0.0 and ::: of
 * anybody). The first reply says where, the second who has come; then the client's connection is
 * handed over.
 */
#include <stdio.h>

#include "proto/ptcl.h"
#include "socksd/command/destination.h"
#include "socksd/session_fsm.h"

static void bind_start(struct session *session)
{
    session->source = session->peer;
    destination_judge(session);
}

/* One peer is expected: of several addresses the first, which is of the client's family where there
 * is one, since it is the client who will tell the peer where to connect to. */
static void bind_allowed(struct session *session, const struct ip_address *addresses, size_t count)
{
    (void)addresses;
    (void)count;
    session_order(session);
}

static void bind_describe(const struct session *session, struct n2_open_relay *out)
{
    out->association = session->id;
    out->kind = N2_KIND_BIND;
    out->source = session->source;
    out->destination_count = 1;
    out->destinations[0] = session->destination;
    out->bound_hint = session->local.address;
    (void)snprintf(out->rule, sizeof(out->rule), "%s", session->rule->label);
}

const struct command command_bind = {
    .number = N1_CMD_BIND,
    .ptcl = PTCL_TCP,
    .life = COMMAND_AWAITS_PEER,
    .any_peer = true,
    .name = "bind",
    .start = bind_start,
    .allowed = bind_allowed,
    .describe = bind_describe,
};
