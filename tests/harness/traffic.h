/*
 * Peers to talk to: servers that run in processes of their own in a place of the lab, and streams
 * of pseudo-random octets that both ends can tell from damaged ones by a 64-bit hash.
 */
#ifndef SOCKST_TESTS_HARNESS_TRAFFIC_H
#define SOCKST_TESTS_HARNESS_TRAFFIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/harness/lab.h"

#define SERVER_CONNECTIONS_MAX 4096

struct server;

enum server_kind {
    SERVER_ECHO,   /* sends back what it gets; half-closes when the peer has */
    SERVER_SINK,   /* counts and hashes what it gets; closes after the peer's end */
    SERVER_SOURCE, /* TCP: sends `octets` of the pattern `seed`, then half-closes */
};

struct server_spec {
    enum server_kind kind;
    int type;                /* SOCK_STREAM or SOCK_DGRAM */
    struct endpoint address; /* port 0: a free one, see server_endpoint() */
    uint64_t octets, seed;   /* SERVER_SOURCE */
};

/* Belongs to the lab. Ready when this returns. */
struct server *server_start(struct lab *lab, enum lab_place place, const struct server_spec *spec);
/* Shorthands at the target, LAB_TARGET_V4 and a free port. */
struct server *server_echo(struct lab *lab, int type);
struct server *server_sink(struct lab *lab, int type);
void server_free(struct server *server);

struct endpoint server_endpoint(const struct server *server);

/* What it has seen so far, over all connections. */
struct server_seen {
    uint64_t octets;      /* received */
    uint64_t messages;    /* datagrams, or reads of streams */
    uint64_t hash;        /* pattern_hash_more() over everything received, in order */
    uint64_t connections; /* accepted */
    uint64_t ended;       /* connections that the peer has ended with FIN */
    uint64_t reset;       /* connections that the peer has reset */
    struct endpoint peer; /* of the last connection or datagram */
};
struct server_seen server_seen(const struct server *server);

/* ---- patterns
 * ------------------------------------------------------------------------------------ */

#define PATTERN_HASH_START UINT64_C(0xcbf29ce484222325)

struct pattern {
    uint64_t state, word;
    unsigned left; /* octets of `word` that are not used yet */
};

struct pattern pattern_start(uint64_t seed);
void pattern_next(struct pattern *pattern, void *out, size_t length);
/* FNV-1a, 64 bits: start with PATTERN_HASH_START. */
uint64_t pattern_hash_more(uint64_t hash, const void *data, size_t length);
/* Of the first `octets` of the pattern `seed`. */
uint64_t pattern_hash(uint64_t seed, uint64_t octets);

/* Sends the pattern on a stream; fails the test when the peer does not take it for PATIENCE_MS. */
void stream_send_pattern(int fd, uint64_t seed, uint64_t octets);
/* Reads to the end of the stream; returns the octets and their hash. Fails the test when nothing
 * comes for PATIENCE_MS. */
uint64_t stream_receive_to_end(int fd, uint64_t *hash);

#endif
