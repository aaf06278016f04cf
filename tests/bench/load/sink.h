/*
 * The sink: counts the datagrams to one port at a device and drops them there, before the host has
 * spent anything on them.
 */
#ifndef SOCKST_TESTS_BENCH_SINK_H
#define SOCKST_TESTS_BENCH_SINK_H

#include <linux/types.h>

struct sink_row {
    __u64 packets;
    __u64 last_ns; /* of the last one, bpf_ktime_get_ns(); tagged sinks alone */
};

/* Constants of the loaded program. */
struct sink_settings {
    __u32 tagged; /* 0: one row for each processor. 1: the row is the first four octets of the
                     payload, in host order; datagrams with a higher number count in row 0 */
    __u32 rows;
    __be16 port;
};

#ifndef __bpf__
#include <stdbool.h>
#include <stdint.h>

struct sink;

/* Attached until the process ends. Processors, or tags: `rows`. */
struct sink *sink_open(const char *name_space, const char *device, uint16_t port, bool tagged,
                       uint32_t rows);
/* Of all rows. */
uint64_t sink_packets(const struct sink *sink);
/* One row as it is now, also while it changes. */
struct sink_row sink_row(const struct sink *sink, uint32_t row);
#endif

#endif
