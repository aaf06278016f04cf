/*
 * What a process costs, as the kernel says: memory, time, its BPF maps.
 */
#ifndef SOCKST_TESTS_BENCH_USAGE_H
#define SOCKST_TESTS_BENCH_USAGE_H

#include <stdint.h>
#include <sys/types.h>

struct usage {
    uint64_t rss;         /* octets of its own: anonymous ones (the mapped tables of the BPF plane
                             are counted as maps) */
    uint64_t maps;        /* octets that the kernel charges for the maps it holds */
    unsigned map_count;   /* 0 also where its descriptors may not be read */
    uint64_t cpu_us;      /* user and system, since its start */
    unsigned descriptors; /* open ones; 0 where they may not be read */
};

/* What cannot be read is 0. */
struct usage usage_of(pid_t pid);

#endif
