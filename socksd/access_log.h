/*
 * The access log: one record per relay, when it has ended (event "access").
 */
#ifndef SOCKST_SOCKSD_ACCESS_LOG_H
#define SOCKST_SOCKSD_ACCESS_LOG_H

#include "proto/n2.h"

struct session;

/* `closed` NULL: the relay was lost with its N2 connection, or RelayClosed never came; the counters
 * are then left out. */
void access_log_relay(const struct session *session, const struct n2_relay_closed *closed,
                      enum n2_reason reason);

/* A request that was answered with a failure (event "request-refused", rate-limited). */
void access_log_refusal(const struct session *session, const char *why);

#endif
