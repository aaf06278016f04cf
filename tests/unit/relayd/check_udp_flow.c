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

struct exchange {
    struct fake_relay relay;
    int client, target;
};

static void prepare(struct exchange *x, bool client_v6, bool target_v6)
{
    x->target = party_socket(PARTY_TARGET, target_v6, SOCK_DGRAM, 0);
    x->client = party_socket(PARTY_CLIENT, client_v6, SOCK_DGRAM, 0);
    const struct endpoint source = socket_name(x->client), destination = socket_name(x->target);
    fake_relay_init(&x->relay, &fixture, PTCL_UDP, &source, &destination);
}

static void establish(struct exchange *x)
{
    fake_relay_open_wait(&x->relay, &fixture);
    ck_assert_int_eq(connect_to(x->client, &x->relay.relay.bound), 0);
    ck_assert_int_eq(connect_to(x->target, &x->relay.relay.egress), 0);
    set_blocking(x->client, false);
    set_blocking(x->target, false);
}

static void dispose(struct exchange *x)
{
    close(x->client);
    close(x->target);
    fake_relay_finish(&x->relay, &fixture);
}

START_TEST(test_relays_both_ways)
{
    struct exchange x;
    char buffer[16];
    ssize_t n;

    prepare(&x, (_i & 1) != 0, (_i & 2) != 0);
    establish(&x);
    ck_assert_int_eq(send(x.client, "hello", 5, 0), 5);
    WAIT_FOR(&fixture, (n = recv(x.target, buffer, sizeof(buffer), 0)) >= 0);
    ck_assert_int_eq(n, 5);
    ck_assert_mem_eq(buffer, "hello", 5);
    ck_assert_int_eq(send(x.target, "world!", 6, 0), 6);
    WAIT_FOR(&fixture, (n = recv(x.client, buffer, sizeof(buffer), 0)) >= 0);
    ck_assert_int_eq(n, 6);
    ck_assert_mem_eq(buffer, "world!", 6);
    const struct n2_counters now = fake_relay_counters(&x.relay);
    ck_assert_uint_eq(now.up_bytes, 5);
    ck_assert_uint_eq(now.down_bytes, 6);
    ck_assert_uint_eq(now.up_packets, 1);
    ck_assert_uint_eq(now.down_packets, 1);
    ck_assert_uint_eq(x.relay.arrived, 1);
    dispose(&x);
    ck_assert_uint_eq(x.relay.final.up_bytes, 5);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("udp_flow");
    TCase *tests = tcase_create("udp_flow");
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
