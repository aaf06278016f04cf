#include "tests/unit/relayd/plane_fixture.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "relayd/relay/table.h"
#include "relayd/transport/transport.h"

/* ---- upcalls -----------------------------------------------------------------------------------
 */

static struct fake_relay *fake(struct relay *relay)
{
    return (struct fake_relay *)relay;
}

void relay_opened(struct relay *relay)
{
    fake(relay)->opened++;
    relay->order = NULL;
    ck_assert_uint_ne(relay->bound.port, 0);
    if (relay->kind != N2_KIND_UDP_ASSOCIATE) /* its egress sockets are opened later */
        ck_assert_uint_ne(relay->egress.port, 0);
}

void relay_open_failed(struct relay *relay, enum n2_error error, const char *text)
{
    struct fake_relay *self = fake(relay);

    self->failed++;
    self->error = error;
    snprintf(self->text, sizeof(self->text), "%s", text);
    if (!self->in_open)
        fake_relay_close(self, true);
}

void relay_client_arrived(struct relay *relay)
{
    fake(relay)->arrived++;
    ck_assert_uint_ne(relay->source.port, 0);
}

void relay_peer_connected(struct relay *relay)
{
    fake(relay)->peers++;
    ck_assert_uint_ne(relay->destination.port, 0);
}

const struct transport *relay_transport(const struct relay *relay)
{
    return ((const struct fake_relay *)relay)->transport;
}

const char *relay_forbids(const struct relay *relay, const struct ip_address *address)
{
    const struct ip_address *forbidden = &((const struct fake_relay *)relay)->forbidden;

    return ip_address_equal(address, forbidden) ? "forbidden by the test" : NULL;
}

void relay_notify(struct relay *relay, enum n2_event event, uint64_t value)
{
    (void)value;
    fake(relay)->events[event]++;
}

void relay_ended(struct relay *relay, enum n2_reason reason)
{
    struct fake_relay *self = fake(relay);

    self->ended++;
    self->reason = reason;
    if (!self->in_open)
        fake_relay_close(self, reason != N2_REASON_FINISHED);
}

void relay_plane_closed(struct relay *relay, const struct n2_counters *counters)
{
    struct fake_relay *self = fake(relay);

    self->closed++;
    self->final = *counters;
    ck_assert_ptr_null(relay->flow);
}

/* ---- relays ------------------------------------------------------------------------------------
 */

void fake_relay_init(struct fake_relay *relay, struct plane_fixture *fixture, uint8_t ptcl,
                     const struct endpoint *source, const struct endpoint *destination)
{
    *relay = (struct fake_relay){0};
    relay->transport = transport_by_ptcl(ptcl);
    relay->relay.order = &relay->order;
    relay->relay.kind = N2_KIND_TRANSPARENT;
    relay->relay.plane = fixture->plane;
    relay->relay.source = *source;
    relay->relay.destination = *destination;
}

void fake_relay_open(struct fake_relay *relay)
{
    struct plane *plane = relay->relay.plane;

    relay->in_open = true;
    plane->ops->open(plane, &relay->relay);
    relay->in_open = false;
    ck_assert_uint_le(relay->opened + relay->failed, 1);
    if (relay->failed + relay->ended != 0)
        fake_relay_close(relay, true);
}

void fake_relay_open_wait(struct fake_relay *relay, struct plane_fixture *fixture)
{
    fake_relay_open(relay);
    WAIT_FOR(fixture, relay->opened + relay->failed != 0);
    ck_assert_msg(relay->opened == 1, "open: %s", relay->text);
}

void fake_relay_close(struct fake_relay *relay, bool abort)
{
    relay->relay.plane->ops->close(relay->relay.plane, &relay->relay, abort);
}

void fake_relay_finish(struct fake_relay *relay, struct plane_fixture *fixture)
{
    if (relay->ended + relay->failed + relay->closed == 0)
        fake_relay_close(relay, true);
    WAIT_FOR(fixture, relay->closed != 0);
    ck_assert_uint_eq(relay->closed, 1);
}

struct n2_counters fake_relay_counters(const struct fake_relay *relay)
{
    struct n2_counters counters;
    uint64_t idle_ms;

    relay->relay.plane->ops->counters(relay->relay.plane, &relay->relay, &counters, &idle_ms);
    return counters;
}

uint64_t fake_relay_drops(const struct fake_relay *relay)
{
    return relay->relay.plane->ops->drops(relay->relay.plane, &relay->relay);
}

/* ---- fixture -----------------------------------------------------------------------------------
 */

static void on_tick(uv_timer_t *timer)
{
    (void)timer;
}

uint64_t monotonic_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void plane_fixture_setup(struct plane_fixture *fixture)
{
    *fixture = (struct plane_fixture){0};
    private_network_enter();
    network_privilege(false);
    ck_assert_int_eq(uv_loop_init(&fixture->loop), 0);
    uv_timer_init(&fixture->loop, &fixture->tick);
    uv_timer_start(&fixture->tick, on_tick, 2, 2);

    struct relayd_config *config = &fixture->config;
    fixture->bind_ports = (struct port_range){20000, 20999};
    fixture->bound_ports = 1000;
    fixture->egress_ports = (struct port_range){30000, 30999};
    for (int i = 0; i < 2; i++) {
        fixture->bind_addresses[i] = party_address(PARTY_RELAY, i == 1);
        fixture->egress_addresses[i] = party_address(PARTY_RELAY, i == 1);
    }
    config->bind.addresses = (struct config_list){fixture->bind_addresses, 2};
    config->bind.ports = (struct config_list){&fixture->bind_ports, 1};
    config->egress.addresses = (struct config_list){fixture->egress_addresses, 2};
    config->udp.destinations = 1024;
    config->tcp.connect_timeout_ms = 10000;
    config->tcp.accept_timeout_ms = 10000;
    config->tcp.bind_timeout_ms = 60000;
    config->tcp.fin_timeout_ms = 60000;
    config->tcp.pipe_size = 1024 * 1024;
    ck_assert_int_eq(endpoints_new(&fixture->endpoints, config, NULL, 1), 0);
    ck_assert_int_eq(socket_plane_new(&fixture->plane, &fixture->loop, config, fixture->endpoints,
                                      RELAY_TABLE_MAX),
                     0);
}

void plane_fixture_teardown(struct plane_fixture *fixture)
{
    ck_assert_uint_eq(plane_fixture_socket_plane(fixture)->flows, 0);
    for (int i = 0; i < 2; i++)
        ck_assert_uint_eq(endpoints_free_ports(fixture->endpoints, &fixture->bind_addresses[i]),
                          fixture->bound_ports);
    fixture->plane->ops->free(fixture->plane);
    endpoints_free(fixture->endpoints);
    uv_close((uv_handle_t *)&fixture->tick, NULL);
    uv_run(&fixture->loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&fixture->loop), 0);
}

struct socket_plane *plane_fixture_socket_plane(struct plane_fixture *fixture)
{
    return (struct socket_plane *)fixture->plane;
}

void plane_fixture_turn(struct plane_fixture *fixture)
{
    uv_run(&fixture->loop, UV_RUN_ONCE);
}
