/*
 * What socksd counts. One row per counter; the admin socket reads the same rows.
 */
#ifndef SOCKST_SOCKSD_COUNTERS_H
#define SOCKST_SOCKSD_COUNTERS_H

#include <stddef.h>

#include "common/metrics.h"

enum counter {
    COUNTER_SESSIONS_ACCEPTED,
    COUNTER_SESSIONS_ACTIVE,
    COUNTER_SESSIONS_REFUSED_LIMIT,
    COUNTER_SESSIONS_REFUSED_ADDRESS_LIMIT,
    COUNTER_ACCEPT_ERRORS,
    COUNTER_ACCEPT_PAUSES,
    COUNTER_HANDSHAKE_TIMEOUTS,
    COUNTER_BAD_VERSIONS,
    COUNTER_BAD_METHOD_LISTS,
    COUNTER_FLOODS,
    COUNTER_READ_PAUSES,
    COUNTER_AUTH_NONE,
    COUNTER_AUTH_UNACCEPTABLE,
    COUNTER_AUTH_FAILED,
    COUNTER_REQUESTS_CONNECT,
    COUNTER_REQUESTS_BIND,
    COUNTER_REQUESTS_UDP_ASSOCIATE,
    COUNTER_REQUESTS_TRANSPARENT,
    COUNTER_REQUESTS_OTHER,
    COUNTER_REPLIES_00, /* followed by the other codes in order */
    COUNTER_REPLIES_01,
    COUNTER_REPLIES_02,
    COUNTER_REPLIES_03,
    COUNTER_REPLIES_04,
    COUNTER_REPLIES_05,
    COUNTER_REPLIES_06,
    COUNTER_REPLIES_07,
    COUNTER_REPLIES_08,
    COUNTER_REPLIES_09,
    COUNTER_DENIED_SOURCE,
    COUNTER_DENIED_RULE,
    COUNTER_DENIED_FLOOR,
    COUNTER_DESTINATIONS_ASKED,
    COUNTER_DESTINATIONS_REFUSED,
    COUNTER_HANDED_OVER,
    COUNTER_RESOLVER_QUERIES,
    COUNTER_RESOLVER_IN_FLIGHT,
    COUNTER_RESOLVER_FAILURES,
    COUNTER_RESOLVER_TIMEOUTS,
    COUNTER_RESOLVER_REFUSED,
    COUNTER_RESOLVER_REFUSED_ADDRESS_LIMIT,
    COUNTER_RELAYS_OPENED,
    COUNTER_RELAYS_OPEN,
    COUNTER_RELAYS_LOST,
    COUNTER_N2_CONNECTED,
    COUNTER_N2_CONNECTS,
    COUNTER_N2_CONNECT_FAILURES,
    COUNTER_N2_LOSSES,
    COUNTER_N2_REFUSED_PEERS,
    COUNTER_N2_STRAY_ANSWERS,
    COUNTER_N2_STRAY_RELAYS,
    COUNTER_N2_UNKNOWN_RELAYS,
    COUNTER_N2_TIMEOUTS,
    COUNTER_N2_FAILOVERS,
    COUNTER_END,
};

struct counters {
    struct metric rows[COUNTER_END];
};

/* Every row with its name, all values 0. */
void counters_init(struct counters *counters);

static inline void counter_add(struct counters *counters, enum counter which)
{
    counters->rows[which].value++;
}

/* For gauges. */
static inline void counter_set(struct counters *counters, enum counter which, uint64_t value)
{
    counters->rows[which].value = value;
}

static inline void counter_subtract(struct counters *counters, enum counter which)
{
    counters->rows[which].value--;
}

static inline uint64_t counter_value(const struct counters *counters, enum counter which)
{
    return counters->rows[which].value;
}

/* The row of a reply code 00 … 09. */
enum counter counter_of_reply(uint8_t code);

/* The row of a command octet. */
enum counter counter_of_command(uint8_t command);

#endif
