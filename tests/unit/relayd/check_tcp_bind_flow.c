/*
 * BIND until the peer has come: where it listens, whom it lets in, and how that ends. N2-BIND-010,
 * N2-BIND-020.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/relayd/classic_connection.h"

static struct plane_fixture fixture;

static void setup(void)
{
    plane_fixture_setup(&fixture);
}

static void teardown(void)
{
    plane_fixture_teardown(&fixture);
}

static struct ip_address anybody(bool v6)
{
    return (struct ip_address){.family = v6 ? IP_V6 : IP_V4};
}

static void prepare(struct classic_connection *k, bool v6)
{
    const struct ip_address target = party_address(PARTY_TARGET, v6);

    classic_prepare_bind(k, &fixture, &target);
}

static int come_in_vain(const struct classic_connection *k, enum party party)
{
    const struct endpoint *bound = &k->c.relay.relay.bound;
    const int fd = party_socket(party, bound->address.family == IP_V6, SOCK_STREAM, 0);

    set_blocking(fd, false);
    ck_assert_int_eq(connect_to(fd, bound), -EINPROGRESS);
    return fd;
}

/* ---- whom it lets in ---------------------------------------------------------------------------
 */

/* _i: family. Silence for everybody else, before and after; the count is exact. */
START_TEST(strangers_are_not_answered)
{
    struct classic_connection k;
    int strangers[8];
    char buffer[16];

    prepare(&k, _i == 1);
    classic_open(&k);
    const int capture = capture_open();
    for (unsigned i = 0; i < 8; i++) {
        if (i == 4)
            classic_come(&k, PARTY_TARGET);
        /* The client, too; and, once it has come, the peer itself. */
        const enum party who = i == 2 ? PARTY_CLIENT : i >= 6 ? PARTY_TARGET : PARTY_STRANGER;
        strangers[i] = come_in_vain(&k, who);
        const struct endpoint name = socket_name(strangers[i]);
        ck_assert_uint_eq(capture_count_to(capture, &name), 0);
        ck_assert_uint_eq(fake_relay_drops(&k.c.relay), i + 1);
    }
    for (unsigned i = 0; i < 8; i++)
        close(strangers[i]);
    classic_attach(&k, "hello", 5);
    ck_assert_int_eq(receive_wait(&fixture, k.c.target, buffer, sizeof(buffer)), 5);
    ck_assert_uint_eq(k.c.relay.peers, 1);
    close(capture);
    classic_dispose(&k);
    ck_assert_uint_eq(k.c.relay.final.drops, 8);
}
END_TEST

/* The port in the order means nothing: whichever port of the peer comes. */
START_TEST(the_peer_is_told)
{
    struct classic_connection k;

    prepare(&k, _i == 1);
    classic_open(&k);
    ck_assert_uint_eq(k.c.relay.relay.destination.port, 21);
    ck_assert_uint_eq(k.c.relay.peers, 0);
    const struct endpoint bound = k.c.relay.relay.bound;
    classic_come(&k, PARTY_TARGET); /* compares destination with the peer's name */
    ck_assert_uint_ne(k.c.relay.relay.destination.port, 21);
    ck_assert(endpoint_equal(&k.c.relay.relay.egress, &bound));
    ck_assert_uint_eq(k.c.relay.arrived, 0);
    classic_dispose(&k);
}
END_TEST

/* _i: family. The first one, whoever it is; nobody else after it. */
START_TEST(anybody_may_come)
{
    struct classic_connection k;
    const struct ip_address any = anybody(_i == 1);
    const int late = party_socket(PARTY_TARGET, _i == 1, SOCK_STREAM, 0);
    char buffer[16];

    classic_prepare_bind(&k, &fixture, &any);
    k.c.relay.relay.source.address = party_address(PARTY_CLIENT, _i == 1);
    classic_open(&k);
    classic_come(&k, PARTY_STRANGER);
    set_blocking(late, false);
    ck_assert_int_lt(connect_to(late, &k.c.relay.relay.bound), 0);
    classic_attach(&k, "hello", 5);
    ck_assert_int_eq(receive_wait(&fixture, k.c.target, buffer, sizeof(buffer)), 5);
    ck_assert_uint_eq(k.c.relay.peers, 1);
    close(late);
    classic_dispose(&k);
}
END_TEST

/* Two came before the relay looked: the second is reset. */
START_TEST(anybody_but_one)
{
    struct classic_connection k;
    const struct ip_address any = anybody(false);
    const int second = party_socket(PARTY_TARGET, false, SOCK_STREAM, 0);
    char buffer[16];

    classic_prepare_bind(&k, &fixture, &any);
    classic_open(&k);
    k.c.target = party_socket(PARTY_STRANGER, false, SOCK_STREAM, 0);
    ck_assert_int_eq(connect_to(k.c.target, &k.c.relay.relay.bound), 0);
    ck_assert_int_eq(connect_to(second, &k.c.relay.relay.bound), 0);
    WAIT_FOR(&fixture, k.c.relay.peers == 1);
    const struct endpoint first = socket_name(k.c.target);
    ck_assert(endpoint_equal(&first, &k.c.relay.relay.destination));
    ck_assert_int_eq(receive_wait(&fixture, second, buffer, sizeof(buffer)), -ECONNRESET);
    close(second);
    classic_dispose(&k);
}
END_TEST

/* Anybody but those that the deny floor forbids. */
START_TEST(anybody_whom_the_floor_allows)
{
    struct classic_connection k;
    const struct ip_address any = anybody(false);
    const int forbidden = party_socket(PARTY_STRANGER, false, SOCK_STREAM, 0);
    char buffer[16];

    classic_prepare_bind(&k, &fixture, &any);
    k.c.relay.forbidden = party_address(PARTY_STRANGER, false);
    classic_open(&k);
    ck_assert_int_eq(connect_to(forbidden, &k.c.relay.relay.bound), 0);
    ck_assert_int_eq(receive_wait(&fixture, forbidden, buffer, sizeof(buffer)), -ECONNRESET);
    ck_assert_uint_eq(k.c.relay.peers, 0);
    ck_assert_uint_eq(fake_relay_drops(&k.c.relay), 1);
    classic_come(&k, PARTY_TARGET);
    close(forbidden);
    classic_dispose(&k);
}
END_TEST

START_TEST(nobody_comes)
{
    struct classic_connection k;
    const int late = party_socket(PARTY_TARGET, false, SOCK_STREAM, 0);

    fixture.config.tcp.bind_timeout_ms = 80;
    prepare(&k, false);
    plane_fixture_turn(&fixture);
    const uint64_t from = monotonic_ms();
    classic_open(&k);
    classic_expect_end(&k, N2_REASON_ACCEPT_TIMEOUT);
    ck_assert_uint_ge(monotonic_ms() - from + 5, 80);
    ck_assert_uint_eq(k.c.relay.peers, 0);
    ck_assert_int_eq(connect_to(late, &k.c.relay.relay.bound), -ECONNREFUSED);
    close(late);
    classic_dispose(&k);
}
END_TEST

/* The time for the peer is not that for the client. */
START_TEST(two_times)
{
    struct classic_connection k;

    fixture.config.tcp.bind_timeout_ms = 10000;
    fixture.config.tcp.accept_timeout_ms = 100;
    prepare(&k, false);
    classic_open(&k);
    turns_within(&fixture, 200);
    ck_assert_uint_eq(k.c.relay.ended, 0);
    classic_come(&k, PARTY_TARGET);
    classic_expect_end(&k, N2_REASON_ACCEPT_TIMEOUT);
    classic_dispose(&k);
}
END_TEST

/* _i: listening, a peer in the queue, a peer that came. Nothing is left at once. */
START_TEST(closed_before_the_hand_over)
{
    struct classic_connection k;
    char buffer[16];

    prepare(&k, false);
    k.c.target = party_socket(PARTY_TARGET, false, SOCK_STREAM, 0);
    const unsigned fds = count_fds();
    classic_open(&k);
    if (_i >= 1)
        ck_assert_int_eq(connect_to(k.c.target, &k.c.relay.relay.bound), 0);
    if (_i >= 2)
        WAIT_FOR(&fixture, k.c.relay.peers == 1);
    fake_relay_close(&k.c.relay, true);
    ck_assert_uint_eq(count_fds(), fds);
    if (_i >= 1)
        ck_assert_int_eq(receive_wait(&fixture, k.c.target, buffer, 1), -ECONNRESET);
    else
        ck_assert_int_eq(connect_to(k.c.target, &k.c.relay.relay.bound), -ECONNREFUSED);
    WAIT_FOR(&fixture, k.c.relay.closed == 1);
    classic_dispose(&k);
}
END_TEST

/* No descriptor for the peer's connection: it waits, without a spin, and is taken when there is
 * one. */
START_TEST(out_of_descriptors_when_the_peer_comes)
{
    struct classic_connection k;

    prepare(&k, false);
    classic_open(&k);
    k.c.target = party_socket(PARTY_TARGET, false, SOCK_STREAM, 0);
    const int next = dup(0);
    close(next);
    limit_descriptors((unsigned)next);
    ck_assert_int_eq(connect_to(k.c.target, &k.c.relay.relay.bound), 0);
    ck_assert_uint_lt(turns_within(&fixture, 250), 500);
    ck_assert_uint_eq(k.c.relay.peers, 0);
    limit_descriptors(1024);
    WAIT_FOR(&fixture, k.c.relay.peers == 1);
    classic_dispose(&k);
}
END_TEST

/* ---- where it listens --------------------------------------------------------------------------
 */

static void expect_bound(struct classic_connection *k, const struct ip_address *address)
{
    char got[ENDPOINT_TEXT_MAX];

    classic_open(k);
    ck_assert_msg(ip_address_equal(&k->c.relay.relay.bound.address, address), "%s",
                  ip_address_format(&k->c.relay.relay.bound.address, got, sizeof(got)));
    ck_assert_uint_ge(k->c.relay.relay.bound.port, 20000);
    ck_assert_uint_le(k->c.relay.relay.bound.port, 20999);
}

/* _i: family. The egress address; without one, that of the route to the peer. */
START_TEST(listens_where_the_peer_can_reach_it)
{
    struct classic_connection k, by_route;
    /* To addresses of its own the kernel goes from the same address, or from loopback's first. */
    const struct ip_address nearest = party_address(_i == 1 ? PARTY_TARGET : PARTY_CLIENT, _i == 1);

    fixture.egress_addresses[_i] = party_address(PARTY_STRANGER, _i == 1);
    prepare(&k, _i == 1);
    expect_bound(&k, &fixture.egress_addresses[_i]);
    classic_dispose(&k);
    fixture.config.egress.addresses.count = 0;
    prepare(&by_route, _i == 1);
    expect_bound(&by_route, &nearest);
    classic_dispose(&by_route);
}
END_TEST

/* For anybody: an address for BND that is not the one on which the client reached us. */
START_TEST(listens_where_anybody_can_reach_it)
{
    struct classic_connection k;
    const struct ip_address any = anybody(false);
    struct ip_address addresses[2] = {party_address(PARTY_RELAY, false),
                                      party_address(PARTY_TARGET, false)};

    endpoints_free(fixture.endpoints);
    fixture.config.egress.addresses.count = 0;
    fixture.config.bind.addresses = (struct config_list){addresses, 2};
    ck_assert_int_eq(endpoints_new(&fixture.endpoints, &fixture.config, NULL, 1), 0);
    plane_fixture_socket_plane(&fixture)->endpoints = fixture.endpoints;
    fixture.bind_addresses[1] = addresses[1];
    classic_prepare_bind(&k, &fixture, &any);
    expect_bound(&k, &addresses[0]);
    classic_dispose(&k);
}
END_TEST

/* No address of the family, no route, no port: refused, and nothing is left. */
START_TEST(nowhere_to_listen)
{
    struct classic_connection k;
    const struct ip_address any = anybody(true);
    struct endpoint nowhere;

    fixture.config.egress.addresses.count = _i == 0 ? 1 : 0; /* IPv4 alone */
    prepare(&k, true);
    if (_i == 1) {
        ck_assert_int_eq(endpoint_parse("[2001:db8::1]:21", &nowhere), 0);
        k.c.relay.relay.destination = nowhere;
    } else if (_i == 2) {
        fixture.config.bind.addresses.count = 1;
        k.c.relay.relay.destination.address = any;
    }
    const unsigned fds = count_fds();
    fake_relay_open(&k.c.relay);
    WAIT_FOR(&fixture, k.c.relay.closed == 1);
    ck_assert_uint_eq(k.c.relay.failed, 1);
    ck_assert_msg(k.c.relay.error == (_i == 1 ? N2_ERROR_NETWORK_UNREACHABLE : N2_ERROR_GENERAL),
                  "%s", k.c.relay.text);
    ck_assert_uint_eq(count_fds(), fds);
    classic_dispose(&k);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tcp_bind_flow");
    TCase *tests = tcase_create("tcp_bind_flow");
    SRunner *runner = srunner_create(suite);

    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, strangers_are_not_answered, 0, 2);
    tcase_add_loop_test(tests, the_peer_is_told, 0, 2);
    tcase_add_loop_test(tests, anybody_may_come, 0, 2);
    tcase_add_test(tests, anybody_but_one);
    tcase_add_test(tests, anybody_whom_the_floor_allows);
    tcase_add_test(tests, nobody_comes);
    tcase_add_test(tests, two_times);
    tcase_add_loop_test(tests, closed_before_the_hand_over, 0, 3);
    tcase_add_test(tests, out_of_descriptors_when_the_peer_comes);
    tcase_add_loop_test(tests, listens_where_the_peer_can_reach_it, 0, 2);
    tcase_add_test(tests, listens_where_anybody_can_reach_it);
    tcase_add_loop_test(tests, nowhere_to_listen, 0, 3);
    suite_add_tcase(suite, tests);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
