/*
 * bench_load: makes traffic between the namespaces of a laboratory and measures what arrives. Each
 * method is one call and prints one JSON object; tests/bench/run builds the laboratory and calls
 * it.
 *
 * Nothing here returns an error: what goes wrong is written to stderr and ends the program, and
 * every process it started dies with it.
 */
#ifndef SOCKST_TESTS_BENCH_LOAD_H
#define SOCKST_TESTS_BENCH_LOAD_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/endpoint.h"

#define LOAD_STREAMS_MAX 64

struct load_options {
    const char *client, *relay, *target;                      /* names of namespaces (ip netns) */
    const char *client_device, *relay_device, *target_device; /* towards each other */
    const char *flows;      /* list of relays that n2_load has written; NULL: one flow */
    const char *plan;       /* "gso" or "frames": how the one-core sender sends */
    uint8_t hop[6];         /* link-layer address of the relay host, for frames */
    struct endpoint from;   /* S; stream or association i has the port + i */
    struct endpoint at;     /* DST */
    struct endpoint server; /* socksd, where the methods open their associations; IP_NONE: none */
    struct endpoint to; /* where streams are sent to; with a server, each to its own BND instead */
    unsigned streams;
    unsigned octets; /* of a datagram's payload */
    unsigned count;  /* associations, samples, round trips */
    uint8_t ptcl;
    double seconds, warm_seconds;
    bool reverse;  /* TCP: from the target to the client */
    bool realtime; /* the processes of the load go before everything else on the machine */
    bool spin;     /* round trips: wait without sleeping */
};

/* The methods, each in a file of its own. They return the exit status. */
int load_one_core(const struct load_options *options);
int load_udp(const struct load_options *options);
int load_tcp(const struct load_options *options);
int load_round_trip(const struct load_options *options);
int load_associations(const struct load_options *options);
int load_closing(const struct load_options *options);
int load_loss(const struct load_options *options);

/* ---- shared by them
 * ------------------------------------------------------------------------- */

/* Says what is wrong and ends the program. */
__attribute__((noreturn, format(printf, 1, 2))) void die(const char *format, ...);
/* Zeroed memory that children share. */
void *shared_new(size_t size);
/* CLOCK_MONOTONIC, which is also the clock of bpf_ktime_get_ns(). */
uint64_t now_ns(void);
void sleep_seconds(double seconds);

/* The calling thread goes to that namespace; NULL: stays. */
void namespace_enter(const char *name);
/* A socket that belongs to that namespace; the caller stays where it is. */
int namespace_socket(const char *name, int domain, int type, int protocol);
/* The index of a device there. */
unsigned namespace_device(const char *name, const char *device);
/* The same, bound to an endpoint, and connected to another where `to` is not NULL. */
int namespace_bound(const char *name, int type, const struct endpoint *from,
                    const struct endpoint *to);

/* This process alone on that processor, with a priority of its own when `realtime`. */
void run_on(int processor, bool realtime);
/* A child on that processor, which never returns from run(). */
pid_t worker_start(int processor, bool realtime, void (*run)(void *argument), void *argument);
void worker_stop(pid_t pid);

/* `i`th stream's port. */
struct endpoint port_plus(struct endpoint endpoint, unsigned i);

/* Prints the object on a line of its own and releases it. Returns 0. */
int load_print(json_t *object);
/* p50, p90, p99 and max of samples in nanoseconds, as microseconds; sorts them. */
json_t *load_percentiles(uint64_t *samples, size_t count);

#endif
