/*
 * The life of a TCP relay: how it opens, whom it lets in, how it ends, and that nothing remains of
 * it.
 */
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "proto/ptcl.h"
#include "relayd/plane/socket/stranger_filter.h"
#include "tests/unit/relayd/tcp_connection.h"

static struct plane_fixture fixture;

/* Of the next calls of listen(): so many succeed, and then so many find the port taken. */
static unsigned listens_before, listens_refused;

/* Takes the place of the C library's. */
int listen(int fd, int backlog)
{
    if (listens_refused != 0 && listens_before == 0) {
        listens_refused--;
        errno = EADDRINUSE;
        return -1;
    }
    listens_before -= listens_before != 0;
    return (int)syscall(SYS_listen, fd, backlog);
}

static void setup(void)
{
    plane_fixture_setup(&fixture);
    listens_before = listens_refused = 0;
}

static void teardown(void)
{
    plane_fixture_teardown(&fixture);
}

/* ---- opening -----------------------------------------------------------------------------------
 */

/* Every pair of families; counters of both directions. */
START_TEST(test_relays_both_ways)
{
    struct tcp_connection c;
    char buffer[16];

    tcp_connection_prepare(&c, &fixture, (_i & 1) != 0, (_i & 2) != 0);
    tcp_connection_open(&c);
    ck_assert_uint_eq(c.relay.arrived, 0);
    tcp_connection_arrive(&c);
    const struct endpoint seen = c.relay.relay.egress;
    struct endpoint client_seen;
    client_seen = socket_name(c.target);
    ck_assert(endpoint_equal(&client_seen, &c.relay.relay.destination));
    ck_assert(ip_address_equal(&seen.address, &fixture.egress_addresses[(_i & 2) != 0]));
    ck_assert_int_eq(send(c.client, "hello", 5, 0), 5);
    ck_assert_int_eq(receive_wait(&fixture, c.target, buffer, sizeof(buffer)), 5);
    ck_assert_mem_eq(buffer, "hello", 5);
    ck_assert_int_eq(send(c.target, "world!", 6, 0), 6);
    ck_assert_int_eq(receive_wait(&fixture, c.client, buffer, sizeof(buffer)), 6);
    ck_assert_mem_eq(buffer, "world!", 6);
    const struct n2_counters now = fake_relay_counters(&c.relay);
    ck_assert_uint_eq(now.up_bytes, 5);
    ck_assert_uint_eq(now.down_bytes, 6);
    ck_assert_uint_eq(now.up_packets, 1);
    ck_assert_uint_eq(now.down_packets, 1);
    tcp_connection_dispose(&c);
    ck_assert_uint_eq(c.relay.final.up_bytes, 5);
    ck_assert_uint_eq(c.relay.final.down_bytes, 6);
    ck_assert_uint_eq(c.relay.final.up_packets, 1);
    ck_assert_uint_eq(c.relay.final.down_packets, 1);
}
END_TEST

/* The target answers nobody any more. */
static void make_mute(int listener)
{
    network_privilege(true);
    ck_assert_int_eq(stranger_filter_drop_all(listener), 0);
    network_privilege(false);
}

static void open_and_fail(struct fake_relay *relay, enum n2_error error)
{
    const unsigned fds = count_fds();

    fake_relay_open(relay);
    WAIT_FOR(&fixture, relay->closed == 1);
    ck_assert_uint_eq(relay->failed, 1);
    ck_assert_uint_eq(relay->opened, 0);
    ck_assert_msg(relay->error == error, "got %s (%s)", n2_error_name(relay->error), relay->text);
    ck_assert_uint_eq(count_fds(), fds);
}

START_TEST(test_target_refuses)
{
    struct tcp_connection c;

    tcp_connection_prepare(&c, &fixture, false, _i == 1);
    close(c.listener);
    c.listener = party_socket(PARTY_TARGET, false, SOCK_STREAM, 0);
    open_and_fail(&c.relay, N2_ERROR_REFUSED);
    ck_assert_ptr_nonnull(strstr(c.relay.text, "refused"));
    tcp_connection_dispose(&c);
}
END_TEST

START_TEST(test_no_route)
{
    struct tcp_connection c;

    fixture.config.egress.addresses.count = 0;
    tcp_connection_prepare(&c, &fixture, false, false);
    ck_assert_int_eq(endpoint_parse("192.0.2.1:80", &c.relay.relay.destination), 0);
    open_and_fail(&c.relay, N2_ERROR_NETWORK_UNREACHABLE);
    tcp_connection_dispose(&c);
}
END_TEST

START_TEST(test_connect_timeout)
{
    struct tcp_connection c;

    fixture.config.tcp.connect_timeout_ms = 50;
    tcp_connection_prepare(&c, &fixture, false, false);
    make_mute(c.listener);
    open_and_fail(&c.relay, N2_ERROR_TIMED_OUT);
    tcp_connection_dispose(&c);
}
END_TEST

START_TEST(test_errors_as_n2_tells_them)
{
    ck_assert_int_eq(socket_plane_error(ECONNREFUSED), N2_ERROR_REFUSED);
    ck_assert_int_eq(socket_plane_error(ENETUNREACH), N2_ERROR_NETWORK_UNREACHABLE);
    ck_assert_int_eq(socket_plane_error(EHOSTUNREACH), N2_ERROR_HOST_UNREACHABLE);
    ck_assert_int_eq(socket_plane_error(ETIMEDOUT), N2_ERROR_TIMED_OUT);
    ck_assert_int_eq(socket_plane_error(EACCES), N2_ERROR_NOT_ALLOWED);
    ck_assert_int_eq(socket_plane_error(EPERM), N2_ERROR_NOT_ALLOWED);
    ck_assert_int_eq(socket_plane_error(EMFILE), N2_ERROR_GENERAL);
    ck_assert_int_eq(socket_plane_error(EADDRNOTAVAIL), N2_ERROR_GENERAL);
}
END_TEST

/* Bad orders: a source without a port that nobody wants learnt, a family without an address, a
 * foreign egress. */
START_TEST(test_bad_orders)
{
    struct tcp_connection c;

    tcp_connection_prepare(&c, &fixture, false, false);
    if (_i == 0)
        c.relay.relay.source.port = 0;
    else if (_i == 1)
        fixture.config.bind.addresses.count = 0;
    else
        c.relay.order.egress_hint = party_address(PARTY_STRANGER, false);
    open_and_fail(&c.relay, N2_ERROR_GENERAL);
    tcp_connection_dispose(&c);
}
END_TEST

/* A port that somebody else has is passed over; when all are taken the relay is refused, and works
 * again afterwards. */
START_TEST(test_bound_ports_taken)
{
    struct tcp_connection c;
    int others[1000];

    for (unsigned i = 0; i < 1000; i++)
        others[i] = i == 500 ? -1 : party_listener(PARTY_RELAY, false, (uint16_t)(20000 + i));
    tcp_connection_prepare(&c, &fixture, false, false);
    fake_relay_open(&c.relay);
    if (c.relay.failed != 0)
        ck_assert_int_eq(c.relay.error, N2_ERROR_GENERAL);
    fake_relay_finish(&c.relay, &fixture);
    for (unsigned i = 0; i < 1000; i++) {
        if (others[i] >= 0 && i % 2 == 0)
            close(others[i]);
    }
    for (unsigned i = 0; i < 20; i++) {
        const struct endpoint source = c.relay.relay.source, to = c.relay.relay.destination;
        fake_relay_init(&c.relay, &fixture, PTCL_TCP, &source, &to);
        fake_relay_open_wait(&c.relay, &fixture);
        ck_assert_uint_eq(c.relay.relay.bound.port % 2, 0);
        fake_relay_finish(&c.relay, &fixture);
    }
    tcp_connection_dispose(&c);
}
END_TEST

/* One port for all: it serves again as soon as the relay has gone, whatever of it is left in
 * TIME_WAIT. */
START_TEST(test_bound_port_is_used_again)
{
    struct tcp_connection c[20];

    endpoints_free(fixture.endpoints);
    fixture.bind_ports = (struct port_range){20000, 20000};
    ck_assert_int_eq(endpoints_new(&fixture.endpoints, &fixture.config, NULL, 1), 0);
    plane_fixture_socket_plane(&fixture)->endpoints = fixture.endpoints;
    fixture.bound_ports = 1;
    for (unsigned i = 0; i < 20; i++) {
        tcp_connection_establish(&c[i], &fixture);
        ck_assert_uint_eq(c[i].relay.relay.bound.port, 20000);
        /* The relay closes both last and first. */
        ck_assert_int_eq(shutdown(i % 2 == 0 ? c[i].client : c[i].target, SHUT_WR), 0);
        ck_assert_int_eq(shutdown(i % 2 != 0 ? c[i].client : c[i].target, SHUT_WR), 0);
        WAIT_FOR(&fixture, c[i].relay.closed == 1);
        ck_assert_int_eq(c[i].relay.reason, N2_REASON_FINISHED);
    }
    for (unsigned i = 0; i < 20; i++)
        tcp_connection_dispose(&c[i]);
}
END_TEST

/* Another relayd, which has bound the same port in the same moment, listens first: at the trap's
 * turn, or at the listener's; or always. */
START_TEST(test_somebody_listens_first)
{
    struct tcp_connection c;

    tcp_connection_prepare(&c, &fixture, false, false);
    listens_before = (unsigned)_i % 2;
    listens_refused = _i == 2 ? UINT32_MAX : 3;
    if (_i == 2) {
        fake_relay_open(&c.relay);
        WAIT_FOR(&fixture, c.relay.failed == 1);
        ck_assert_int_eq(c.relay.error, N2_ERROR_GENERAL);
    } else {
        tcp_connection_open(&c);
        tcp_connection_arrive(&c);
    }
    listens_refused = 0;
    tcp_connection_dispose(&c); /* the end checks that no port is lost */
}
END_TEST

START_TEST(test_egress_ports)
{
    struct tcp_connection c;

    endpoints_free(fixture.endpoints);
    fixture.config.egress.ports = (struct config_list){&fixture.egress_ports, 1};
    if (_i == 1)
        fixture.config.egress.addresses.count = 0; /* a port without an address */
    ck_assert_int_eq(endpoints_new(&fixture.endpoints, &fixture.config, NULL, 1), 0);
    plane_fixture_socket_plane(&fixture)->endpoints = fixture.endpoints;
    tcp_connection_establish(&c, &fixture);
    ck_assert_uint_ge(c.relay.relay.egress.port, 30000);
    ck_assert_uint_le(c.relay.relay.egress.port, 30999);
    tcp_connection_dispose(&c);
}
END_TEST

/* ---- strangers ---------------------------------------------------------------------------------
 */

/* Nobody but S: not before it comes, not afterwards. Silence, and an exact count. */
START_TEST(test_strangers)
{
    const bool v6 = _i == 1;
    struct tcp_connection c;
    int strangers[10];
    char buffer[16];

    tcp_connection_prepare(&c, &fixture, v6, false);
    tcp_connection_open(&c);
    const int capture = capture_open();
    for (unsigned i = 0; i < 10; i++) {
        if (i == 5)
            tcp_connection_arrive(&c);
        const enum party who = i % 2 == 0 ? PARTY_STRANGER : PARTY_CLIENT;
        strangers[i] = party_socket(who, v6, SOCK_STREAM, 0);
        set_blocking(strangers[i], false);
        ck_assert_int_eq(connect_to(strangers[i], &c.relay.relay.bound), -EINPROGRESS);
        const struct endpoint name = socket_name(strangers[i]);
        ck_assert_uint_eq(capture_count_to(capture, &name), 0);
        ck_assert_uint_eq(fake_relay_drops(&c.relay), i + 1);
    }
    for (unsigned i = 0; i < 10; i++)
        close(strangers[i]);
    /* The honest flow goes on. */
    ck_assert_int_eq(send(c.client, "hello", 5, 0), 5);
    ck_assert_int_eq(receive_wait(&fixture, c.target, buffer, sizeof(buffer)), 5);
    ck_assert_uint_eq(fake_relay_drops(&c.relay), 10);
    ck_assert_uint_eq(fake_relay_counters(&c.relay).drops, 10);
    ck_assert_uint_eq(c.relay.arrived, 1);
    close(capture);
    tcp_connection_dispose(&c);
    ck_assert_uint_eq(c.relay.final.drops, 10);
}
END_TEST

/* The count of strangers stays apart from a bulk transfer in full swing. */
START_TEST(test_strangers_during_bulk)
{
    struct tcp_connection c;
    const size_t size = 8 * 1024 * 1024;
    uint8_t *data = random_octets(size);
    unsigned sent = 0;

    tcp_connection_establish(&c, &fixture);
    struct transfer up = {.from = c.client,
                          .to = c.target,
                          .data = data,
                          .size = size,
                          .read_at_most = 64 * 1024,
                          .keep_open = true};
    while (!transfer_is_complete(&up)) {
        transfer_step(&up);
        plane_fixture_turn(&fixture);
        if (sent < 20) {
            const int stranger = party_socket(PARTY_STRANGER, false, SOCK_STREAM, 0);
            set_blocking(stranger, false);
            ck_assert_int_eq(connect_to(stranger, &c.relay.relay.bound), -EINPROGRESS);
            close(stranger);
            sent++;
        }
    }
    ck_assert_uint_eq(fake_relay_drops(&c.relay), sent);
    free(data);
    tcp_connection_dispose(&c);
}
END_TEST

/* S.PORT zero: whichever port of the address comes first is S from then on. */
START_TEST(test_learn_source_port)
{
    struct tcp_connection c;
    const int second = party_socket(PARTY_CLIENT, false, SOCK_STREAM, 0);
    const int stranger = party_socket(PARTY_STRANGER, false, SOCK_STREAM, 0);

    tcp_connection_prepare(&c, &fixture, false, false);
    c.relay.relay.source.port = 0;
    c.relay.relay.learn_source_port = true;
    tcp_connection_open(&c);
    set_blocking(stranger, false);
    ck_assert_int_eq(connect_to(stranger, &c.relay.relay.bound), -EINPROGRESS);
    tcp_connection_arrive(&c);
    ck_assert_uint_eq(c.relay.relay.source.port, socket_name(c.client).port);
    set_blocking(second, false);
    ck_assert_int_eq(connect_to(second, &c.relay.relay.bound), -EINPROGRESS);
    ck_assert_uint_eq(fake_relay_drops(&c.relay), 2);
    close(second);
    close(stranger);
    tcp_connection_dispose(&c);
}
END_TEST

/* Two ports of the address got in before the relay looked: the second is reset, the first served.
 */
START_TEST(test_learn_source_port_race)
{
    struct tcp_connection c;
    const int second = party_socket(PARTY_CLIENT, false, SOCK_STREAM, 0);
    char buffer[16];

    tcp_connection_prepare(&c, &fixture, false, false);
    c.relay.relay.source.port = 0;
    c.relay.relay.learn_source_port = true;
    tcp_connection_open(&c);
    ck_assert_int_eq(connect_to(c.client, &c.relay.relay.bound), 0);
    ck_assert_int_eq(connect_to(second, &c.relay.relay.bound), 0);
    WAIT_FOR(&fixture, c.relay.arrived == 1);
    ck_assert_uint_eq(c.relay.relay.source.port, socket_name(c.client).port);
    ck_assert_int_eq(receive_wait(&fixture, second, buffer, sizeof(buffer)), -ECONNRESET);
    ck_assert_int_eq(send(c.client, "hello", 5, 0), 5);
    ck_assert_int_eq(receive_wait(&fixture, c.target, buffer, sizeof(buffer)), 5);
    close(second);
    tcp_connection_dispose(&c);
}
END_TEST

/* ---- ends --------------------------------------------------------------------------------------
 */

static void expect_end(struct tcp_connection *c, enum n2_reason reason)
{
    WAIT_FOR(&fixture, c->relay.closed == 1);
    ck_assert_uint_eq(c->relay.ended, 1);
    ck_assert_msg(c->relay.reason == reason, "got %s", n2_reason_name(c->relay.reason));
}

START_TEST(test_target_resets)
{
    struct tcp_connection c;
    char buffer[16];

    tcp_connection_establish(&c, &fixture);
    /* What came before the reset is passed on. */
    ck_assert_int_eq(send(c.target, "last words", 10, 0), 10);
    reset_end(&c.target);
    expect_end(&c, N2_REASON_TARGET_RESET);
    ck_assert_uint_eq(c.relay.events[N2_EVENT_TARGET_RST], 1);
    ck_assert_uint_eq(c.relay.events[N2_EVENT_TARGET_FIN], 0);
    ck_assert_int_eq(receive_wait(&fixture, c.client, buffer, sizeof(buffer)), 10);
    ck_assert_int_eq(receive_wait(&fixture, c.client, buffer, sizeof(buffer)), -ECONNRESET);
    tcp_connection_dispose(&c);
}
END_TEST

START_TEST(test_client_resets)
{
    struct tcp_connection c;
    char buffer[16];

    tcp_connection_establish(&c, &fixture);
    reset_end(&c.client);
    expect_end(&c, N2_REASON_CLIENT_RESET);
    ck_assert_uint_eq(c.relay.events[N2_EVENT_TARGET_RST], 0);
    ck_assert_int_eq(receive_wait(&fixture, c.target, buffer, sizeof(buffer)), -ECONNRESET);
    tcp_connection_dispose(&c);
}
END_TEST

START_TEST(test_target_resets_before_the_client_comes)
{
    struct tcp_connection c;

    tcp_connection_prepare(&c, &fixture, false, false);
    tcp_connection_open(&c);
    reset_end(&c.target);
    expect_end(&c, N2_REASON_TARGET_RESET);
    ck_assert_uint_eq(c.relay.events[N2_EVENT_TARGET_RST], 1);
    tcp_connection_dispose(&c);
}
END_TEST

/* A reset of either side is seen although nobody reads from it. */
START_TEST(test_reset_under_back_pressure)
{
    struct tcp_connection c;
    static uint8_t zeros[1024 * 1024];
    unsigned still = 0;

    tcp_connection_establish(&c, &fixture);
    while (still < 50) {
        still = send(c.client, zeros, sizeof(zeros), MSG_DONTWAIT) > 0 ? 0 : still + 1;
        plane_fixture_turn(&fixture);
    }
    reset_end(_i == 0 ? &c.client : &c.target);
    expect_end(&c, _i == 0 ? N2_REASON_CLIENT_RESET : N2_REASON_TARGET_RESET);
    tcp_connection_dispose(&c);
}
END_TEST

/* One side ends in order, and what shall be told so has been reset in the meantime. */
START_TEST(test_reset_meets_fin)
{
    struct tcp_connection c;

    tcp_connection_establish(&c, &fixture);
    ck_assert_int_eq(shutdown(_i == 0 ? c.client : c.target, SHUT_WR), 0);
    reset_end(_i == 0 ? &c.target : &c.client);
    expect_end(&c, _i == 0 ? N2_REASON_TARGET_RESET : N2_REASON_CLIENT_RESET);
    ck_assert_uint_eq(c.relay.events[N2_EVENT_TARGET_RST], _i == 0);
    ck_assert_uint_eq(c.relay.events[N2_EVENT_TARGET_UNREACHABLE], 0);
    tcp_connection_dispose(&c);
}
END_TEST

START_TEST(test_accept_timeout)
{
    struct tcp_connection c;
    char buffer[16];

    fixture.config.tcp.accept_timeout_ms = 30;
    tcp_connection_prepare(&c, &fixture, false, false);
    tcp_connection_open(&c);
    expect_end(&c, N2_REASON_ACCEPT_TIMEOUT);
    ck_assert_int_eq(receive_wait(&fixture, c.target, buffer, sizeof(buffer)), -ECONNRESET);
    ck_assert_int_eq(connect_to(c.client, &c.relay.relay.bound), -ECONNREFUSED);
    tcp_connection_dispose(&c);
}
END_TEST

/* After one FIN the other direction lasts as long as it is used, and not much longer. */
START_TEST(test_fin_timeout)
{
    struct tcp_connection c;
    char buffer[16];

    fixture.config.tcp.fin_timeout_ms = 1000;
    tcp_connection_establish(&c, &fixture);
    ck_assert_uint_gt(turns_within(&fixture, 1100), 0);
    ck_assert_uint_eq(c.relay.ended, 0); /* both are open: no limit */
    ck_assert_int_eq(shutdown(_i == 0 ? c.target : c.client, SHUT_WR), 0);
    const uint64_t start_ms = monotonic_ms();
    for (unsigned i = 0; i < 6; i++) {
        const int from = _i == 0 ? c.client : c.target, to = _i == 0 ? c.target : c.client;
        ck_assert_int_eq(send(from, "x", 1, MSG_NOSIGNAL), 1);
        ck_assert_int_eq(receive_wait(&fixture, to, buffer, _i == 0 ? 1 : sizeof(buffer)), 1);
        turns_within(&fixture, 200);
    }
    ck_assert_uint_eq(c.relay.ended, 0);
    ck_assert_uint_ge(monotonic_ms() - start_ms, 1100);
    expect_end(&c, N2_REASON_FIN_TIMEOUT);
    tcp_connection_dispose(&c);
}
END_TEST

START_TEST(test_idle_timeout)
{
    struct tcp_connection c;
    char buffer[16];

    tcp_connection_prepare(&c, &fixture, false, false);
    c.relay.relay.limits.idle_ms = 1000;
    tcp_connection_open(&c);
    tcp_connection_arrive(&c);
    for (unsigned i = 0; i < 6; i++) {
        ck_assert_int_eq(send(c.client, "x", 1, 0), 1);
        ck_assert_int_eq(receive_wait(&fixture, c.target, buffer, sizeof(buffer)), 1);
        turns_within(&fixture, 200);
    }
    ck_assert_uint_eq(c.relay.ended, 0);
    expect_end(&c, N2_REASON_IDLE_TIMEOUT);
    ck_assert_int_eq(receive_wait(&fixture, c.client, buffer, sizeof(buffer)), -ECONNRESET);
    tcp_connection_dispose(&c);
}
END_TEST

enum when {
    WHEN_CONNECTING,
    WHEN_WAITING,
    WHEN_QUEUED,
    WHEN_STREAMING,
    WHEN_HALF_CLOSED,
    WHEN_COUNT
};

/* close() in every state: the descriptors are gone when it returns, both ends are reset, BND is
 * dead, and one answer comes. */
START_TEST(test_close_in_every_state)
{
    struct tcp_connection c;
    char buffer[16];
    const bool twice = _i >= WHEN_COUNT;
    const enum when when = _i % WHEN_COUNT;

    tcp_connection_prepare(&c, &fixture, false, false);
    const unsigned fds = count_fds();
    unsigned own = 0;
    if (when == WHEN_CONNECTING) {
        make_mute(c.listener);
        fake_relay_open(&c.relay);
        ck_assert_uint_eq(c.relay.opened + c.relay.failed, 0);
    } else {
        tcp_connection_open(&c);
        own++;
    }
    if (when == WHEN_QUEUED)
        ck_assert_int_eq(connect_to(c.client, &c.relay.relay.bound), 0);
    if (when == WHEN_STREAMING || when == WHEN_HALF_CLOSED)
        tcp_connection_arrive(&c);
    if (when == WHEN_HALF_CLOSED) {
        ck_assert_int_eq(shutdown(c.target, SHUT_WR), 0);
        ck_assert_int_eq(receive_wait(&fixture, c.client, buffer, 1), 0);
    }
    pipe_pool_trim(plane_fixture_socket_plane(&fixture)->pipes);
    ck_assert_uint_gt(count_fds(), fds + own);
    fake_relay_close(&c.relay, true);
    ck_assert_uint_eq(count_fds(), fds + own);
    if (twice)
        fake_relay_close(&c.relay, true);
    ck_assert_uint_eq(c.relay.closed, 0);
    if (when >= WHEN_QUEUED && when != WHEN_HALF_CLOSED)
        ck_assert_int_eq(receive_wait(&fixture, c.client, buffer, 1), -ECONNRESET);
    if (when != WHEN_CONNECTING)
        ck_assert_int_eq(receive_wait(&fixture, c.target, buffer, 1), -ECONNRESET);
    if (when == WHEN_WAITING)
        ck_assert_int_eq(connect_to(c.client, &c.relay.relay.bound), -ECONNREFUSED);
    WAIT_FOR(&fixture, c.relay.closed == 1);
    turns_within(&fixture, 20);
    ck_assert_uint_eq(c.relay.closed, 1);
    ck_assert_uint_eq(c.relay.ended, 0);
    tcp_connection_dispose(&c);
}
END_TEST

/* ---- resources ---------------------------------------------------------------------------------
 */

static void limit_fds(unsigned count)
{
    struct rlimit limit;

    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = count;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* One descriptor more each time, until the order succeeds: refused cleanly before. */
START_TEST(test_out_of_descriptors)
{
    struct tcp_connection c;
    unsigned room = 0;

    tcp_connection_prepare(&c, &fixture, false, false);
    plane_fixture_turn(&fixture);
    const unsigned fds = count_fds();
    const int next = dup(c.client); /* the lowest free number */
    close(next);
    do {
        const struct endpoint source = c.relay.relay.source, to = c.relay.relay.destination;
        fake_relay_init(&c.relay, &fixture, PTCL_TCP, &source, &to);
        limit_fds((unsigned)next + room++);
        fake_relay_open(&c.relay);
        limit_fds(1024);
        WAIT_FOR(&fixture, c.relay.opened + c.relay.closed != 0);
        if (c.relay.opened == 0) {
            ck_assert_uint_eq(c.relay.failed, 1);
            ck_assert_int_eq(c.relay.error, N2_ERROR_GENERAL);
            ck_assert_uint_eq(count_fds(), fds);
        }
    } while (c.relay.opened == 0);
    ck_assert_uint_eq(room, 4); /* none, the listener, the trap as well, all */
    fake_relay_finish(&c.relay, &fixture);
    ck_assert_uint_eq(count_fds(), fds);
    tcp_connection_dispose(&c);
}
END_TEST

/* No descriptor for the client's connection: it waits, without a spin, and is served when there is
 * one. */
START_TEST(test_out_of_descriptors_at_accept)
{
    struct tcp_connection c;
    char buffer[16];

    tcp_connection_prepare(&c, &fixture, false, false);
    tcp_connection_open(&c);
    const int next = dup(c.client);
    close(next);
    limit_fds((unsigned)next);
    ck_assert_int_eq(connect_to(c.client, &c.relay.relay.bound), 0);
    ck_assert_uint_lt(turns_within(&fixture, 250), 500);
    ck_assert_uint_eq(c.relay.arrived, 0);
    limit_fds(1024);
    WAIT_FOR(&fixture, c.relay.arrived == 1);
    ck_assert_int_eq(send(c.client, "hello", 5, 0), 5);
    ck_assert_int_eq(receive_wait(&fixture, c.target, buffer, sizeof(buffer)), 5);
    tcp_connection_dispose(&c);
}
END_TEST

/* Idle pipes are given up for a relay that needs descriptors. */
START_TEST(test_pipes_give_way)
{
    struct socket_plane *plane = plane_fixture_socket_plane(&fixture);
    struct pipe_ends pipe;
    struct tcp_connection c;

    tcp_connection_prepare(&c, &fixture, false, false);
    ck_assert_int_eq(pipe_pool_take(plane->pipes, 0, &pipe), 0);
    pipe_pool_give(plane->pipes, &pipe);
    const int next = dup(c.client);
    close(next);
    limit_fds((unsigned)next + 1); /* of three; the idle pipe has two */
    fake_relay_open(&c.relay);
    limit_fds(1024);
    WAIT_FOR(&fixture, c.relay.opened == 1);
    tcp_connection_dispose(&c);
}
END_TEST

START_TEST(test_many_in_a_row)
{
    struct mallinfo2 before = {0};
    unsigned fds = 0;

    for (unsigned i = 0; i < 520; i++) {
        struct tcp_connection c;
        if (i == 20) {
            before = mallinfo2();
            fds = count_fds();
        }
        tcp_connection_prepare(&c, &fixture, false, false);
        tcp_connection_open(&c);
        if (i % 2 == 0)
            tcp_connection_arrive(&c);
        if (i % 4 == 0)
            reset_end(&c.target);
        tcp_connection_dispose(&c);
    }
    ck_assert_uint_eq(count_fds(), fds);
    ck_assert_uint_le(mallinfo2().uordblks, before.uordblks + before.uordblks / 20);
}
END_TEST

/* Out of memory for the flow itself: relay->flow is NULL, and close is still answered. */
START_TEST(test_close_without_flow)
{
    struct fake_relay relay;
    const struct endpoint any = {.address = party_address(PARTY_TARGET, false), .port = 1};

    fake_relay_init(&relay, &fixture, PTCL_TCP, &any, &any);
    ck_assert_uint_eq(fake_relay_drops(&relay), 0);
    ck_assert_uint_eq(fake_relay_counters(&relay).up_bytes, 0);
    fake_relay_close(&relay, true);
    ck_assert_uint_eq(relay.closed, 1);
}
END_TEST

static void add_opening(TCase *tests)
{
    tcase_add_loop_test(tests, test_relays_both_ways, 0, 4);
    tcase_add_loop_test(tests, test_target_refuses, 0, 2);
    tcase_add_test(tests, test_no_route);
    tcase_add_test(tests, test_connect_timeout);
    tcase_add_test(tests, test_errors_as_n2_tells_them);
    tcase_add_loop_test(tests, test_bad_orders, 0, 3);
    tcase_add_test(tests, test_bound_ports_taken);
    tcase_add_test(tests, test_bound_port_is_used_again);
    tcase_add_loop_test(tests, test_somebody_listens_first, 0, 3);
    tcase_add_loop_test(tests, test_egress_ports, 0, 2);
    tcase_add_loop_test(tests, test_strangers, 0, 2);
    tcase_add_test(tests, test_strangers_during_bulk);
    tcase_add_test(tests, test_learn_source_port);
    tcase_add_test(tests, test_learn_source_port_race);
}

int main(void)
{
    Suite *suite = suite_create("tcp_flow");
    TCase *tests = tcase_create("tcp_flow");
    SRunner *runner = srunner_create(suite);

    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    add_opening(tests);
    tcase_add_test(tests, test_target_resets);
    tcase_add_test(tests, test_client_resets);
    tcase_add_test(tests, test_target_resets_before_the_client_comes);
    tcase_add_loop_test(tests, test_reset_under_back_pressure, 0, 2);
    tcase_add_loop_test(tests, test_reset_meets_fin, 0, 2);
    tcase_add_test(tests, test_accept_timeout);
    tcase_add_loop_test(tests, test_fin_timeout, 0, 2);
    tcase_add_test(tests, test_idle_timeout);
    tcase_add_loop_test(tests, test_close_in_every_state, 0, 2 * WHEN_COUNT);
    tcase_add_test(tests, test_out_of_descriptors);
    tcase_add_test(tests, test_out_of_descriptors_at_accept);
    tcase_add_test(tests, test_pipes_give_way);
    tcase_add_test(tests, test_many_in_a_row);
    tcase_add_test(tests, test_close_without_flow);
    suite_add_tcase(suite, tests);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
