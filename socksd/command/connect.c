/*
 * X'01' CONNECT (RFC 1928, section 4): relayd connects to the first of DST's addresses that
 * answers, and is then handed the client's connection.
 */
#include <stdio.h>

#include "proto/ptcl.h"
#include "socksd/command/destination.h"
#include "socksd/session_fsm.h"

static void connect_start(struct session *session)
{
    session->source = session->peer;
    destination_judge(session);
}

/* In RFC 8305's order; relayd races them. */
static void connect_allowed(struct session *session, const struct ip_address *addresses,
                            size_t count)
{
    struct handshake *handshake = session->handshake;

    for (size_t i = 0; i < count; i++)
        handshake->candidates[i] = (struct endpoint){addresses[i], session->destination.port};
    handshake->candidate_count = (uint8_t)count;
    session_order(session);
}

static void connect_describe(const struct session *session, struct n2_open_relay *out)
{
    const struct handshake *handshake = session->handshake;

    out->association = session->id;
    out->kind = N2_KIND_CONNECT;
    out->source = session->source;
    out->destination_count = handshake->candidate_count;
    for (size_t i = 0; i < handshake->candidate_count; i++)
        out->destinations[i] = handshake->candidates[i];
    out->bound_hint = session->local.address;
    (void)snprintf(out->rule, sizeof(out->rule), "%s", session->rule->label);
}

const struct command command_connect = {
    .number = N1_CMD_CONNECT,
    .ptcl = PTCL_TCP,
    .life = COMMAND_HANDS_OVER,
    .interleaves = true,
    .name = "connect",
    .start = connect_start,
    .allowed = connect_allowed,
    .describe = connect_describe,
};
