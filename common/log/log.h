/*
 * The log of a daemon: one event a line, with a fixed name and key=value fields.
 *
 *     LOG(LOG_LEVEL_INFO, "relay-opened", LOG_U("relay", id), LOG_E("bound", &bound));
 *
 * text:    2026-01-02T03:04:05.678Z info relay-opened relay=7 bound=192.0.2.1:20000
 * json:    {"time":"…","level":"info","program":"relayd","event":"relay-opened","relay":7,…}
 * journal: sd_journal_send with the text as MESSAGE and the fields as SOCKST_EVENT, SOCKST_RELAY, …
 *
 * When stderr is systemd's journal (JOURNAL_STREAM), lines begin with the priority ("<6>"), and
 * text has no time: the journal has its own.
 *
 * Values may come from the network: they are escaped, and cut at LOG_VALUE_MAX octets. Secrets are
 * never given to the log. A line is written whole; a full or broken stderr loses the line and
 * counts it, never blocks for long (in a daemon with an event loop: never, log_loop.h) and never
 * ends the daemon. Nothing here allocates.
 */
#ifndef SOCKST_COMMON_LOG_LOG_H
#define SOCKST_COMMON_LOG_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/endpoint.h"

#define LOG_LINE_MAX 4096  /* octets, newline included; what does not fit is cut ("…") */
#define LOG_VALUE_MAX 1024 /* octets of one value, before escaping */
#define LOG_FIELDS_MAX 32  /* further fields of an event are left out */

enum log_level {
    LOG_LEVEL_ERROR,
    LOG_LEVEL_WARNING,
    LOG_LEVEL_NOTICE,
    LOG_LEVEL_INFO,
    LOG_LEVEL_DEBUG,
};

enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON, LOG_FORMAT_JOURNAL };

enum log_field_type {
    LOG_FIELD_STRING,
    LOG_FIELD_UINT,
    LOG_FIELD_INT,
    LOG_FIELD_ENDPOINT,
    LOG_FIELD_ADDRESS,
    LOG_FIELD_ERRNO,
};

struct log_field {
    const char *key; /* lower case, words joined by '-' or '_' */
    enum log_field_type type;
    union {
        const char *string; /* NULL: the field is left out */
        uint64_t uint;
        int64_t sint;
        const struct endpoint *endpoint;  /* IP_NONE: left out */
        const struct ip_address *address; /* IP_NONE: left out */
        int error;                        /* positive or negative errno; 0: left out */
    };
};

#define LOG_S(k, v)                                                                                \
    {                                                                                              \
        .key = (k), .type = LOG_FIELD_STRING, .string = (v)                                        \
    }
#define LOG_U(k, v)                                                                                \
    {                                                                                              \
        .key = (k), .type = LOG_FIELD_UINT, .uint = (v)                                            \
    }
#define LOG_I(k, v)                                                                                \
    {                                                                                              \
        .key = (k), .type = LOG_FIELD_INT, .sint = (v)                                             \
    }
#define LOG_E(k, v)                                                                                \
    {                                                                                              \
        .key = (k), .type = LOG_FIELD_ENDPOINT, .endpoint = (v)                                    \
    }
#define LOG_A(k, v)                                                                                \
    {                                                                                              \
        .key = (k), .type = LOG_FIELD_ADDRESS, .address = (v)                                      \
    }
#define LOG_ERRNO(v)                                                                               \
    {                                                                                              \
        .key = "error", .type = LOG_FIELD_ERRNO, .error = (v)                                      \
    } /* ECONNREFUSED */

/* At least one field. Fields are evaluated only if the level is on. */
#define LOG(level, event, ...)                                                                     \
    do {                                                                                           \
        if (log_is_on(level)) {                                                                    \
            const struct log_field log_fields_[] = {__VA_ARGS__};                                  \
            log_emit((level), (event), log_fields_, sizeof(log_fields_) / sizeof(log_fields_[0])); \
        }                                                                                          \
    } while (0)

/*
 * For events that a client can trigger: at most `burst` in `interval_ms`; the next one that passes
 * says how many were suppressed (field "suppressed").
 */
struct log_limit {
    uint32_t burst, interval_ms;
    uint64_t window_ms;        /* internal: when the window began */
    uint32_t used, suppressed; /* internal */
};
#define LOG_LIMIT_INIT(burst_, interval_ms_)                                                       \
    {                                                                                              \
        .burst = (burst_), .interval_ms = (interval_ms_)                                           \
    }

#define LOG_LIMITED(limit, level, event, ...)                                                      \
    do {                                                                                           \
        if (log_is_on(level) && log_limit_take(limit)) {                                           \
            const struct log_field log_fields_[] = {__VA_ARGS__};                                  \
            log_emit((level), (event), log_fields_, sizeof(log_fields_) / sizeof(log_fields_[0])); \
        }                                                                                          \
    } while (0)

/*
 * Before this call: text at info level on stderr, program "sockst". `program` is borrowed for ever.
 * May be called again (a reload). Ignores SIGPIPE unless the program handles it: a broken stderr
 * must not end the daemon.
 */
void log_setup(const char *program, enum log_level level, enum log_format format);

bool log_is_on(enum log_level level);

/* May one more event of this kind be logged now? If so, log_emit() is to follow. */
bool log_limit_take(struct log_limit *limit);

void log_emit(enum log_level level, const char *event, const struct log_field *fields,
              size_t count);

/* Lines that could not be written. */
uint64_t log_lost(void);

#endif
