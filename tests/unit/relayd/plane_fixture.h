/*
 * The socket plane by itself: a loop, a configuration, endpoints, and relays whose upcalls are
 * recorded instead of being told to a peer. What relay.c does about an upcall, this does: a relay
 * that ended is closed.
 */
#ifndef SOCKST_TESTS_PLANE_FIXTURE_H
#define SOCKST_TESTS_PLANE_FIXTURE_H

#include <check.h>
#include <uv.h>

#include "relayd/plane/socket/socket_plane.h"
#include "tests/unit/relayd/private_network.h"

#define WAIT_MAX_MS 10000

struct plane_fixture {
    uv_loop_t loop;
    uv_timer_t tick; /* so that a turn of the loop always ends */
    struct relayd_config config;
    struct ip_address bind_addresses[2];
    struct ip_address egress_addresses[2];
    struct port_range bind_ports, egress_ports;
    uint32_t bound_ports; /* on each address; the end checks that all are free again */
    struct endpoints *endpoints;
    struct plane *plane;
};

struct fake_relay {
    struct relay relay;       /* first: upcalls cast */
    struct relay_order order; /* relay.order until it is open; does not move afterwards */
    const struct transport *transport;
    bool in_open;
    unsigned opened, failed, arrived, peers, ended, closed;
    unsigned events[N2_EVENT_END];
    enum n2_error error;
    char text[N2_TEXT_MAX + 1];
    enum n2_reason reason;
    struct n2_counters final;
    struct ip_address forbidden; /* what relay_forbids() says no to; IP_NONE: nothing */
};

/* The network, without privileges over it, the loop, and a plane that binds on PARTY_RELAY. Change
 * ->config before the first relay. */
void plane_fixture_setup(struct plane_fixture *fixture);
/* Fails unless nothing is left: no flow, no handle. */
void plane_fixture_teardown(struct plane_fixture *fixture);
struct socket_plane *plane_fixture_socket_plane(struct plane_fixture *fixture);
/* One turn of the loop, at most a few milliseconds. */
void plane_fixture_turn(struct plane_fixture *fixture);
uint64_t monotonic_ms(void);

/* Runs the loop until the condition holds; fails the test after WAIT_MAX_MS. */
#define WAIT_FOR(fixture, condition)                                                               \
    do {                                                                                           \
        const uint64_t until_ = monotonic_ms() + WAIT_MAX_MS;                                      \
        while (!(condition)) {                                                                     \
            ck_assert_msg(monotonic_ms() < until_, "never came true: %s", #condition);             \
            plane_fixture_turn(fixture);                                                           \
        }                                                                                          \
    } while (0)

/* An order from `source` to `destination`; nothing happens yet. */
void fake_relay_init(struct fake_relay *relay, struct plane_fixture *fixture, uint8_t ptcl,
                     const struct endpoint *source, const struct endpoint *destination);
void fake_relay_open(struct fake_relay *relay);
/* Opens and waits until it is open. */
void fake_relay_open_wait(struct fake_relay *relay, struct plane_fixture *fixture);
/* As a CloseRelay. */
void fake_relay_close(struct fake_relay *relay, bool abort);
/* Closes with abort unless that has happened already, and waits for the end. */
void fake_relay_finish(struct fake_relay *relay, struct plane_fixture *fixture);
struct n2_counters fake_relay_counters(const struct fake_relay *relay);
uint64_t fake_relay_drops(const struct fake_relay *relay);

#endif
