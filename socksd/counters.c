#include "socksd/counters.h"

#include "proto/admin.h"
#include "proto/n1.h"

#define COUNTS(name_, help_)                                                                       \
    {                                                                                              \
        .name = (name_), .type = METRIC_COUNTER, .help = (help_)                                   \
    }
#define GAUGE(name_, help_)                                                                        \
    {                                                                                              \
        .name = (name_), .type = METRIC_GAUGE, .help = (help_)                                     \
    }

static const struct metric table[COUNTER_END] = {
    [COUNTER_SESSIONS_ACCEPTED] = COUNTS("sessions_accepted", "Control connections accepted."),
    [COUNTER_SESSIONS_ACTIVE] = GAUGE("sessions_active", "Control connections that exist now."),
    [COUNTER_SESSIONS_REFUSED_LIMIT] =
        COUNTS("sessions_refused_limit", "Control connections closed at once: limits.sessions."),
    [COUNTER_SESSIONS_REFUSED_ADDRESS_LIMIT] =
        COUNTS("sessions_refused_address_limit",
               "Control connections closed at once: limits.sessions-per-address."),
    [COUNTER_ACCEPT_ERRORS] = COUNTS("accept_errors", "accept() failed."),
    [COUNTER_ACCEPT_PAUSES] =
        COUNTS("accept_pauses", "Times that accepting stopped because descriptors ran short."),
    [COUNTER_HANDSHAKE_TIMEOUTS] =
        COUNTS("handshake_timeouts", "Clients that did not finish their request in time."),
    [COUNTER_BAD_VERSIONS] = COUNTS("bad_versions", "Clients that do not speak SOCKS 5."),
    [COUNTER_BAD_METHOD_LISTS] = COUNTS("bad_method_lists", "Clients that offered no method."),
    [COUNTER_FLOODS] =
        COUNTS("floods", "Control connections closed because the client sent too much over them."),
    [COUNTER_READ_PAUSES] =
        COUNTS("read_pauses", "Times that reading from new clients stopped: N2 was congested."),
    [COUNTER_AUTH_NONE] = COUNTS("auth_none", "Sessions that use NO AUTHENTICATION."),
    [COUNTER_AUTH_UNACCEPTABLE] =
        COUNTS("auth_unacceptable", "Clients that offered no method which is configured."),
    [COUNTER_AUTH_FAILED] = COUNTS("auth_failed", "Clients whose authentication failed."),
    [COUNTER_REQUESTS_CONNECT] = COUNTS("requests_connect", "Requests for CONNECT."),
    [COUNTER_REQUESTS_BIND] = COUNTS("requests_bind", "Requests for BIND."),
    [COUNTER_REQUESTS_UDP_ASSOCIATE] =
        COUNTS("requests_udp_associate", "Requests for UDP ASSOCIATE."),
    [COUNTER_REQUESTS_TRANSPARENT] = COUNTS("requests_transparent", "Requests for TRANSPARENT."),
    [COUNTER_REQUESTS_OTHER] = COUNTS("requests_other", "Requests with another command."),
    [COUNTER_REPLIES_00] = COUNTS("replies_00", "Replies: succeeded."),
    [COUNTER_REPLIES_01] = COUNTS("replies_01", "Replies: general failure."),
    [COUNTER_REPLIES_02] = COUNTS("replies_02", "Replies: not allowed by ruleset."),
    [COUNTER_REPLIES_03] = COUNTS("replies_03", "Replies: network unreachable."),
    [COUNTER_REPLIES_04] = COUNTS("replies_04", "Replies: host unreachable."),
    [COUNTER_REPLIES_05] = COUNTS("replies_05", "Replies: connection refused."),
    [COUNTER_REPLIES_06] = COUNTS("replies_06", "Replies: TTL expired."),
    [COUNTER_REPLIES_07] = COUNTS("replies_07", "Replies: command not supported."),
    [COUNTER_REPLIES_08] = COUNTS("replies_08", "Replies: address type not supported."),
    [COUNTER_REPLIES_09] = COUNTS("replies_09", "Replies: PTCL type not supported."),
    [COUNTER_DENIED_SOURCE] =
        COUNTS("denied_source", "Requests refused because S is not the client's own address."),
    [COUNTER_DENIED_RULE] = COUNTS("denied_rule", "Requests refused by the rules."),
    [COUNTER_DENIED_FLOOR] = COUNTS("denied_floor", "Requests refused by the deny floor."),
    [COUNTER_DESTINATIONS_ASKED] = COUNTS(
        "destinations_asked", "Destinations of UDP associations that relay daemons asked about."),
    [COUNTER_DESTINATIONS_REFUSED] = COUNTS(
        "destinations_refused", "Destinations of UDP associations refused, or not found by name."),
    [COUNTER_HANDED_OVER] =
        COUNTS("handed_over", "Connections of clients that were handed over to relay daemons."),
    [COUNTER_RESOLVER_QUERIES] = COUNTS("resolver_queries", "Names looked up."),
    [COUNTER_RESOLVER_IN_FLIGHT] = GAUGE("resolver_in_flight", "Look-ups that are under way now."),
    [COUNTER_RESOLVER_FAILURES] = COUNTS("resolver_failures", "Look-ups without an address."),
    [COUNTER_RESOLVER_TIMEOUTS] = COUNTS("resolver_timeouts", "Look-ups that took too long."),
    [COUNTER_RESOLVER_REFUSED] =
        COUNTS("resolver_refused", "Look-ups refused because resolver.queries were under way."),
    [COUNTER_RESOLVER_REFUSED_ADDRESS_LIMIT] =
        COUNTS("resolver_refused_address_limit",
               "Look-ups refused because resolver.queries-per-address were for that client."),
    [COUNTER_RELAYS_OPENED] = COUNTS("relays_opened", "Relays opened for sessions."),
    [COUNTER_RELAYS_OPEN] = GAUGE("relays_open", "Relays of sessions that exist now."),
    [COUNTER_RELAYS_LOST] = COUNTS("relays_lost", "Relays that ended with their N2 connection."),
    [COUNTER_N2_CONNECTED] = GAUGE("n2_connected", "Relay daemons that are connected now."),
    [COUNTER_N2_CONNECTS] = COUNTS("n2_connects", "N2 connections that came up."),
    [COUNTER_N2_CONNECT_FAILURES] =
        COUNTS("n2_connect_failures", "Attempts to connect to a relay daemon that failed."),
    [COUNTER_N2_LOSSES] = COUNTS("n2_losses", "N2 connections that were lost."),
    [COUNTER_N2_REFUSED_PEERS] =
        COUNTS("n2_refused_peers", "N2 peers that are the wrong user or serve another protocol."),
    [COUNTER_N2_STRAY_ANSWERS] =
        COUNTS("n2_stray_answers", "Answers of relay daemons that nobody waits for any more."),
    [COUNTER_N2_STRAY_RELAYS] =
        COUNTS("n2_stray_relays", "Relays opened for a session that had died, and closed again."),
    [COUNTER_N2_UNKNOWN_RELAYS] =
        COUNTS("n2_unknown_relays", "Messages about relays that no session has."),
    [COUNTER_N2_TIMEOUTS] = COUNTS("n2_timeouts", "Orders that a relay daemon did not answer."),
    [COUNTER_N2_FAILOVERS] =
        COUNTS("n2_failovers", "Orders that were given to another relay daemon."),
};

_Static_assert(COUNTER_END < ADMIN_COUNTERS_MAX, "the admin protocol carries no more");

void counters_init(struct counters *counters)
{
    for (size_t i = 0; i < COUNTER_END; i++)
        counters->rows[i] = table[i];
}

enum counter counter_of_reply(uint8_t code)
{
    return code <= N1_REP_PTCL_NOT_SUPPORTED ? (enum counter)(COUNTER_REPLIES_00 + code)
                                             : COUNTER_REPLIES_01;
}

enum counter counter_of_command(uint8_t command)
{
    switch (command) {
    case N1_CMD_CONNECT:
        return COUNTER_REQUESTS_CONNECT;
    case N1_CMD_BIND:
        return COUNTER_REQUESTS_BIND;
    case N1_CMD_UDP_ASSOCIATE:
        return COUNTER_REQUESTS_UDP_ASSOCIATE;
    case N1_CMD_TRANSPARENT:
        return COUNTER_REQUESTS_TRANSPARENT;
    default:
        return COUNTER_REQUESTS_OTHER;
    }
}
