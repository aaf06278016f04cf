/*
 * The kernel's program, loaded, and run on crafted frames by BPF_PROG_TEST_RUN: nothing is sent.
 * One relay is there, of either family; its two ends are behind the devices `client` and `target`
 * (tap, in a network namespace of the test's own).
 */
#ifndef SOCKST_TESTS_BPF_PROGRAM_FIXTURE_H
#define SOCKST_TESTS_BPF_PROGRAM_FIXTURE_H

#include "relayd/bpf/abi.h"
#include "tests/unit/relayd/bpf/crafted.h"

#define BENCH_MARK 0x5eed5eedu
#define BENCH_SLOTS 64u
#define BENCH_SLOT 7u /* the relay's */
#define BENCH_GENERATION 41u
#define BENCH_PEER 3u
#define BENCH_EPOCH 5u
#define BENCH_STRANGERS 2u /* row of `strangers` of BND; of egress: the next one */
#define BENCH_MTU 1500u

/* Verdicts. */
#define PASSED (-1) /* to the next program, or the host */
#define DROPPED 2
#define SENT 7

struct bench {
    uint8_t protocol;
    bool v6;
    struct endpoint client, bound, egress, target;
    struct bpf_slot *slots, *slot; /* all of them, and the relay's */
    struct bpf_hop *hops;          /* of the ends: rows 1 and 2 */
    struct bpf_strangers *strangers;
    volatile struct bpf_globals *globals;
    int flows_fd, endpoints_fd;
    uint32_t interface[BPF_ENDS]; /* the devices' indices */
    int tap[BPF_ENDS];            /* frames read and written here go through the devices */
    bool bare;                    /* run `relay_bare` */
};
extern struct bench bench;

/* A reason not to run on this machine (static text), or NULL. */
const char *bench_obstacle(void);

/* Unchecked fixtures: load the program once for all tests of a case. */
void bench_setup_udp(void);
void bench_setup_tcp(void);
void bench_teardown(void);

/* Empties every table and ring, and makes the one relay. TCP: with `established`, as after the
 * handshake. */
void bench_relay(bool v6);
void bench_establish(void);

/* Descriptors of the programs, for what is attached for real. */
int bench_program(bool bare);

/* How a frame arrives, and what became of it. */
struct arrival {
    uint32_t interface;
    uint32_t mark;
    uint32_t segment, segments; /* of a super-packet */
};
struct outcome {
    int verdict;
    uint32_t mark;
    struct frame frame;
};
struct outcome bench_run(const struct frame *frame, const struct arrival *arrival);
/* From the relay's end. */
struct outcome bench_run_from(const struct frame *frame, enum bpf_end end);
/* Nanoseconds for one of `repeat` runs. */
uint32_t bench_time(const struct frame *frame, enum bpf_end end, uint32_t repeat);

uint64_t bench_count(enum bpf_count which);
/* The sum of all counters of drops; and that `which` alone has grown, by one, since bench_relay()
 * or the last call. */
void bench_expect_count(enum bpf_count which);
void bench_expect_no_count(void);

/* A packet of the relay, as it comes in and as it has to leave, by the end that sends it. */
struct packet_spec bench_packet(enum bpf_end from);
struct packet_spec bench_translated(const struct packet_spec *in, enum bpf_end from);
/* Runs `in` from the end and expects it to leave translated, octet for octet. */
void bench_expect_carried(const struct packet_spec *in, enum bpf_end from);
void bench_expect_verdict(const struct packet_spec *in, enum bpf_end from, int verdict);
void bench_expect_dropped(const struct packet_spec *in, enum bpf_end from, enum bpf_count why);

/* Rings: the next record, or false. */
bool bench_event(struct bpf_event *out);
bool bench_stranger(struct bpf_stranger_event *out);
bool bench_answer(struct bpf_answer *out);

#endif
