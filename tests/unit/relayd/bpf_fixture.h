/*
 * The BPF plane without its program: tables of the test's own, ways as the test wants them, and
 * relays whose upcalls are recorded. What relay.c does about an upcall, this does: a relay that
 * ended is closed.
 *
 * The rows are in maps of the kernel; where those may not be made the program is skipped.
 */
#ifndef SOCKST_TESTS_BPF_FIXTURE_H
#define SOCKST_TESTS_BPF_FIXTURE_H

#include <check.h>

#include "relayd/plane/bpf/flow.h"
#include "relayd/plane/bpf/plane_parts.h"
#include "relayd/relay/control.h"
#include "tests/unit/relayd/private_network.h"

#define FIXTURE_WAIT_MS 10000
#define FIXTURE_INTERFACE 5
#define FIXTURE_HOP 6

struct bpf_fixture {
    uv_loop_t loop;
    uv_timer_t tick; /* so that a turn of the loop always ends */
    struct relayd_config config;
    struct ip_address bind_addresses[2], egress_addresses[2];
    struct port_range bind_ports, egress_ports;
    struct endpoints *endpoints;
    struct bpf_tables tables;
    struct bpf_globals globals;
    struct relay_peer peer; /* of all relays */
    struct bpf_plane *plane;
    uint64_t next_relay;
};

/* What a test chooses before the plane is made. */
struct bpf_fixture_options {
    uint8_t ptcl;
    uint32_t slots, relays, endpoints, rows; /* rows: of `flows`; 0: enough */
    struct port_range bind_ports, egress_ports;
};

/* Exits the program with 77 where maps may not be made. */
void bpf_fixture_require(void);
/* Standard options: TCP, 64 slots for 32 relays, 64 endpoints, 1000 ports for each. */
struct bpf_fixture_options bpf_fixture_standard(void);
void bpf_fixture_setup(struct bpf_fixture *fixture, const struct bpf_fixture_options *options);
/* Fails unless nothing is left: no row, no port, no way, no handle. */
void bpf_fixture_teardown(struct bpf_fixture *fixture);
void bpf_fixture_turn(struct bpf_fixture *fixture);
uint64_t bpf_fixture_now_ms(void);
/* The plane's time goes on by so much, with what is due. */
void bpf_fixture_advance(struct bpf_fixture *fixture, uint32_t ms);

#define WAIT_FOR(fixture, condition)                                                               \
    do {                                                                                           \
        const uint64_t until_ = bpf_fixture_now_ms() + FIXTURE_WAIT_MS;                            \
        while (!(condition)) {                                                                     \
            ck_assert_msg(bpf_fixture_now_ms() < until_, "never came true: %s", #condition);       \
            bpf_fixture_turn(fixture);                                                             \
        }                                                                                          \
    } while (0)

/* ---- the kernel --------------------------------------------------------------------------------
 */

/* Every way from now on; NULL: all are in order. */
void bpf_fixture_way_problem(const char *problem);
/* Ways that exist now lose (or find) their interface, and the plane hears of it. */
void bpf_fixture_ways_change(struct bpf_fixture *fixture, uint32_t interface, const char *problem);
unsigned bpf_fixture_ways(void); /* references */
unsigned bpf_fixture_rows(const struct bpf_fixture *fixture);
unsigned bpf_fixture_endpoints(const struct bpf_fixture *fixture);
/* The program has seen something; with a hint of it or without. */
struct relay;
void bpf_fixture_see(struct bpf_fixture *fixture, struct relay *relay, enum bpf_end end,
                     uint32_t seen, bool hint);
/* A packet was carried just now, or so long ago. */
void bpf_fixture_carry(struct bpf_fixture *fixture, struct relay *relay, enum bpf_end end,
                       uint32_t octets, uint64_t ago_ms);
struct bpf_slot *bpf_fixture_slot(const struct bpf_fixture *fixture, const struct relay *relay);

/* ---- relays ------------------------------------------------------------------------------------
 */

struct watched_relay {
    struct relay relay; /* first: upcalls cast */
    struct relay_order order;
    bool in_open;
    unsigned opened, failed, arrived, ended, closed;
    unsigned events[N2_EVENT_END];
    uint64_t strangers; /* told */
    enum n2_error error;
    char text[N2_TEXT_MAX + 1];
    enum n2_reason reason;
    struct n2_counters final;
    uint64_t closed_ms; /* when */
};

/* Client .1 port `s` to target .3 port `dst`. */
void watched_relay_init(struct watched_relay *relay, struct bpf_fixture *fixture, uint16_t s,
                        uint16_t dst);
/* Asks whether it is refused and opens it. Returns why it was refused, or NULL. */
const char *watched_relay_try(struct watched_relay *relay);
/* Must succeed. */
void watched_relay_open(struct watched_relay *relay);
void watched_relay_close(struct watched_relay *relay);
/* Closes unless that has happened, and waits for the final counters. */
void watched_relay_finish(struct watched_relay *relay, struct bpf_fixture *fixture);
uint32_t watched_relay_index(const struct watched_relay *relay, const struct bpf_fixture *fixture);

#endif
