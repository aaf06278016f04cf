/*
 * DST of a request, alike for every command that has one (N1-ORD-010, the steps from its form on):
 *
 *     form (01) ─▶ rules on its name (02) ─▶ its name (04) ─▶ rules and deny floor on each address
 * (02)
 */
#ifndef SOCKST_SOCKSD_COMMAND_DESTINATION_H
#define SOCKST_SOCKSD_COMMAND_DESTINATION_H

#include "socksd/command/judge.h"
#include "socksd/resolver.h"

struct session;

/*
 * Judges DST of a session in state JUDGING. Ends, now or later, in session_refuse(), or in the
 * row's allowed() with the addresses that may be used, in the row's order; session->rule is what
 * allows the first. The session may be DEAD when it returns.
 */
void destination_judge(struct session *session);

/* DST of the request, as the rules see it. Borrowed from the handshake. */
struct judged_host destination_asked(const struct session *session);

/* Is DST in the form of its kind: a valid name, or an address? */
bool destination_is_well_formed(const struct session *session);

/* Looks a name up for a session in state JUDGING; refuses with 01 when that cannot be tried. */
void destination_look_up(struct session *session, const char *name, resolver_cb done);

#endif
