#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/ptcl.h"
#include "tests/unit/relayd/plane_fixture.h"

static struct plane_fixture fixture;

static void setup(void)
{
    plane_fixture_setup(&fixture);
}

static void teardown(void)
{
    plane_fixture_teardown(&fixture);
}

/* A relay with both connections: the usual beginning. */
struct connection {
    struct fake_relay relay;
    int listener, client, target;
};

static void prepare(struct connection *c, bool client_v6, bool target_v6)
{
    c->listener = party_listener(PARTY_TARGET, target_v6, 0);
    c->client = party_socket(PARTY_CLIENT, client_v6, SOCK_STREAM, 0);
    c->target = -1;
    const struct endpoint source = socket_name(c->client), destination = socket_name(c->listener);
    fake_relay_init(&c->relay, &fixture, PTCL_TCP, &source, &destination);
}

static void establish(struct connection *c)
{
    fake_relay_open_wait(&c->relay, &fixture);
    c->target = accept(c->listener, NULL, NULL);
    ck_assert_int_ge(c->target, 0);
    ck_assert_int_eq(connect_to(c->client, &c->relay.relay.bound), 0);
    set_blocking(c->client, false);
    set_blocking(c->target, false);
}

static void dispose(struct connection *c)
{
    close(c->client);
    close(c->listener);
    if (c->target >= 0)
        close(c->target);
    fake_relay_finish(&c->relay, &fixture);
}

START_TEST(test_relays_both_ways)
{
    struct connection c;
    char buffer[16];
    ssize_t n;

    prepare(&c, (_i & 1) != 0, (_i & 2) != 0);
    establish(&c);
    ck_assert_int_eq(send(c.client, "hello", 5, 0), 5);
    WAIT_FOR(&fixture, (n = recv(c.target, buffer, sizeof(buffer), 0)) > 0);
    ck_assert_int_eq(n, 5);
    ck_assert_mem_eq(buffer, "hello", 5);
    ck_assert_int_eq(send(c.target, "world!", 6, 0), 6);
    WAIT_FOR(&fixture, (n = recv(c.client, buffer, sizeof(buffer), 0)) > 0);
    ck_assert_int_eq(n, 6);
    ck_assert_mem_eq(buffer, "world!", 6);
    const struct n2_counters now = fake_relay_counters(&c.relay);
    ck_assert_uint_eq(now.up_bytes, 5);
    ck_assert_uint_eq(now.down_bytes, 6);
    ck_assert_uint_eq(now.up_packets, 1);
    ck_assert_uint_eq(now.down_packets, 1);
    ck_assert_uint_eq(c.relay.arrived, 1);
    dispose(&c);
    ck_assert_uint_eq(c.relay.final.up_bytes, 5);
    ck_assert_uint_eq(c.relay.final.down_bytes, 6);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tcp_flow");
    TCase *tests = tcase_create("tcp_flow");
    SRunner *runner = srunner_create(suite);

    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, test_relays_both_ways, 0, 4);
    suite_add_tcase(suite, tests);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
