/*
 * UDP ASSOCIATE: relayd asks for each destination that it does not know whether this client may
 * send there. Answered by the session's rules, its name server and the deny floor, as a request for
 * that destination would be.
 */
#ifndef SOCKST_SOCKSD_AUTHORIZATION_H
#define SOCKST_SOCKSD_AUTHORIZATION_H

#include "proto/n2.h"

struct authorization;
struct session;

/* Look-ups that are under way; what is asked beyond them is denied, for a second. So is what is
 * asked while the resolver is busy: an association can ask for 32 names at once, a request for one,
 * and the look-ups that are left are for requests. */
#define AUTHORIZATIONS_PER_SESSION 32
#define AUTHORIZATIONS_MAX 4096

/* How long relayd may go by a verdict: on an address; on a name, where the records' TTL decides
 * within bounds; on a name that could not be looked up; on a question that could not be asked. */
#define VERDICT_ADDRESS_MS 60000
#define VERDICT_NAME_MIN_MS 1000
#define VERDICT_NAME_MAX_MS 300000
#define VERDICT_UNKNOWN_MS 5000
#define VERDICT_BUSY_MS 1000

/* Judges and answers, now or when the name is looked up. */
void authorize(struct session *session, const struct n2_authorize *asked, uint64_t transaction);

/* Forgets what is under way, without an answer. Idempotent. */
void authorizations_cancel(struct session *session);

#endif
