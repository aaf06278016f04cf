/*
 * Counters of a daemon: an array of rows that its owner indexes by an enum. The admin socket and
 * (later) the exposition over HTTP read the same rows.
 */
#ifndef SOCKST_COMMON_METRICS_H
#define SOCKST_COMMON_METRICS_H

#include <stdint.h>

enum metric_type { METRIC_COUNTER, METRIC_GAUGE };

struct metric {
    const char *name; /* "relays_opened": unit last ("_bytes", "_ms") */
    enum metric_type type;
    const char *help; /* one sentence */
    uint64_t value;
};

#endif
