/*
 * The admin protocol: relayctl asks, a daemon answers with one record per frame and then END with a
 * count (or ERROR). Normative text: ADMIN.md; wire format: admin.proto. Decoded messages are plain
 * values, as in n2.h.
 */
#ifndef SOCKST_PROTO_ADMIN_H
#define SOCKST_PROTO_ADMIN_H

#include "proto/n2.h"

#define ADMIN_VERSION 1
#define ADMIN_COUNTERS_MAX 192
#define ADMIN_WARNINGS_MAX 8
#define ADMIN_TEXT_MAX 255
#define ADMIN_PAYLOAD_MAX (32 * 1024)
#define ADMIN_ARENA_SIZE (96 * 1024)

enum admin_request_type {
    ADMIN_STATUS = 1,
    ADMIN_RELAYS, /* every relay, or those that match the filter; streamed */
    ADMIN_SHOW,   /* one relay */
    ADMIN_CLOSE,  /* ends one relay */
    ADMIN_REQUEST_END,
};

struct admin_filter { /* zero members match everything */
    enum n2_kind kind;
    enum n2_plane plane;
    struct ip_address source; /* address of S */
    struct ip_address destination;
    char user[N2_USER_MAX + 1];
};

struct admin_request {
    uint32_t version;
    enum admin_request_type type;
    struct admin_filter filter; /* ADMIN_RELAYS */
    uint64_t relay;             /* ADMIN_SHOW, ADMIN_CLOSE */
};

struct admin_counter {
    char name[N2_LABEL_MAX + 1]; /* "relays_opened" */
    uint64_t value;
};

struct admin_status {
    char daemon[N2_LABEL_MAX + 1];   /* "socksd", "relayd" */
    char instance[N2_LABEL_MAX + 1]; /* relayd only */
    char version[N2_LABEL_MAX + 1];
    char state[N2_LABEL_MAX + 1]; /* "running", "draining", "stopping" */
    uint32_t pid;
    uint8_t ptcl; /* relayd only */
    uint64_t uptime_ms;
    uint32_t counter_count;
    struct admin_counter counters[ADMIN_COUNTERS_MAX];
    uint32_t warning_count;
    char warnings[ADMIN_WARNINGS_MAX][ADMIN_TEXT_MAX + 1];
};

struct admin_relay {
    uint64_t relay; /* shown as "instance:number" */
    char instance[N2_LABEL_MAX + 1];
    enum n2_kind kind;
    uint8_t ptcl;
    char state[N2_LABEL_MAX + 1];
    enum n2_plane plane;
    char plane_reason[N2_LABEL_MAX + 1];
    struct endpoint source, bound, egress, destination; /* IP_NONE where there is none */
    char user[N2_USER_MAX + 1];
    char rule[N2_LABEL_MAX + 1];
    uint64_t age_ms, idle_ms;
    struct n2_counters counters;
};

enum admin_answer_type {
    ADMIN_ANSWER_STATUS = 1,
    ADMIN_ANSWER_RELAY,
    ADMIN_ANSWER_END,
    ADMIN_ANSWER_ERROR
};

struct admin_answer {
    enum admin_answer_type type;
    union {
        struct admin_status status;
        struct admin_relay relay;
        uint64_t count; /* ADMIN_ANSWER_END: records sent before it */
        char error[ADMIN_TEXT_MAX + 1];
    };
};

/* As n2_decode() and n2_encode(). */
enum n2_result admin_request_decode(const uint8_t *payload, size_t length, struct arena *arena,
                                    struct admin_request *out, const char **problem);
size_t admin_request_encode(const struct admin_request *request, uint8_t *out, size_t size);
enum n2_result admin_answer_decode(const uint8_t *payload, size_t length, struct arena *arena,
                                   struct admin_answer *out, const char **problem);
size_t admin_answer_encode(const struct admin_answer *answer, uint8_t *out, size_t size);

/* Does the relay match? Used by the server for its cursor. */
bool admin_filter_matches(const struct admin_filter *filter, const struct admin_relay *relay);

#endif
