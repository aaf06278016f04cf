/*
 * What the socket plane says about itself.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/ptcl.h"
#include "relayd/transport/transport.h"
#include "tests/unit/relayd/tcp_connection.h"

static struct plane_fixture fixture;
static struct admin_status status;

static void setup(void)
{
    plane_fixture_setup(&fixture);
}

static void teardown(void)
{
    plane_fixture_teardown(&fixture);
}

static void ask(void)
{
    memset(&status, 0, sizeof(status));
    fixture.plane->ops->status(fixture.plane, &status);
}

static uint64_t figure(const char *name)
{
    for (uint32_t i = 0; i < status.counter_count; i++) {
        if (strcmp(status.counters[i].name, name) == 0)
            return status.counters[i].value;
    }
    ck_abort_msg("no figure %s", name);
}

START_TEST(test_figures)
{
    struct tcp_connection c;
    char buffer[8];

    ask();
    ck_assert_uint_eq(figure("flows_open"), 0);
    ck_assert_uint_eq(figure("pipes_open"), 0);
    ck_assert_uint_eq(figure("ports_free"), 2000);
    ck_assert_uint_eq(figure("ports_free_127.0.0.2"), 1000);
    ck_assert_uint_eq(figure("ports_free_fd00::2"), 1000);
    ck_assert_uint_eq(figure("tcp_copies"), 0);
    ck_assert_uint_eq(figure("udp_send_drops"), 0);
    ck_assert_uint_eq(status.warning_count, 0);
    tcp_connection_establish(&c, &fixture);
    ck_assert_int_eq(send(c.client, "x", 1, 0), 1);
    ck_assert_int_eq(receive_wait(&fixture, c.target, buffer, sizeof(buffer)), 1);
    ask();
    ck_assert_uint_eq(figure("flows_open"), 1);
    ck_assert_uint_eq(figure("pipes_open"), 1);
    ck_assert_uint_eq(figure("pipes_idle"), 1);
    ck_assert_uint_eq(figure("pipes_shrunk"), 0);
    ck_assert_uint_eq(figure("pipes_refused"), 0);
    ck_assert_uint_eq(figure("ports_free_127.0.0.2"), 999);
    tcp_connection_dispose(&c);
}
END_TEST

START_TEST(test_warnings)
{
    struct socket_plane *plane = plane_fixture_socket_plane(&fixture);
    struct pipe_ends pipe;

    /* More than fs.pipe-max-size lets anybody have without privilege; root has no such limit. */
    pipe_pool_free(plane->pipes);
    ck_assert_int_eq(pipe_pool_new(&plane->pipes, (size_t)1 << 31), 0);
    ck_assert_int_eq(pipe_pool_take(plane->pipes, 0, &pipe), 0);
    pipe_pool_give(plane->pipes, &pipe);
    plane->gso_disabled = true;
    ask();
    ck_assert_uint_eq(figure("udp_gso_disabled"), 1);
    ck_assert_uint_eq(figure("pipes_shrunk"), 1);
    ck_assert_uint_eq(status.warning_count, 2);
    ck_assert_ptr_nonnull(strstr(status.warnings[0], "pipe"));
    ck_assert_ptr_nonnull(strstr(status.warnings[1], "UDP"));
}
END_TEST

/* A full status is not overrun, and many addresses leave room for the figures of others. */
START_TEST(test_bounds)
{
    struct ip_address address = party_address(PARTY_RELAY, false);

    for (unsigned i = 10; i < 200; i++) {
        address.bytes[3] = (uint8_t)i;
        endpoints_return_port(fixture.endpoints, &address,
                              endpoints_draw_port(fixture.endpoints, &address));
    }
    ask();
    ck_assert_uint_lt(status.counter_count, 40);
    ck_assert_uint_eq(figure("ports_free"), 192000);
    memset(&status, 0, sizeof(status));
    status.counter_count = ADMIN_COUNTERS_MAX;
    status.warning_count = ADMIN_WARNINGS_MAX;
    plane_fixture_socket_plane(&fixture)->gso_disabled = true;
    fixture.plane->ops->status(fixture.plane, &status);
    ck_assert_uint_eq(status.counter_count, ADMIN_COUNTERS_MAX);
    ck_assert_uint_eq(status.warning_count, ADMIN_WARNINGS_MAX);
}
END_TEST

START_TEST(test_refuses)
{
    const struct transport no_sockets = {.ptcl = 1};
    const struct endpoint any = {.address = party_address(PARTY_TARGET, false), .port = 1};
    struct fake_relay relay;

    fake_relay_init(&relay, &fixture, PTCL_TCP, &any, &any);
    ck_assert_ptr_null(fixture.plane->ops->refuses(fixture.plane, &relay.relay));
    relay.relay.kind = N2_KIND_UDP_ASSOCIATE;
    ck_assert_ptr_nonnull(fixture.plane->ops->refuses(fixture.plane, &relay.relay));
    relay.relay.kind = N2_KIND_TRANSPARENT;
    relay.transport = &no_sockets;
    ck_assert_ptr_nonnull(fixture.plane->ops->refuses(fixture.plane, &relay.relay));
    ck_assert_int_eq(fixture.plane->ops->id, N2_PLANE_SOCKET);
}
END_TEST

/* N2-RELAY-040: the plane takes no more relays than there are descriptors for, whatever the size of
 * the table. */
START_TEST(test_share_of_descriptors)
{
    const uint8_t ptcl = _i % 2 == 0 ? PTCL_TCP : PTCL_UDP;
    struct tcp_connection c;

    plane_fixture_socket_plane(&fixture)->flows_max = 1;
    tcp_connection_prepare(&c, &fixture, false, false);
    fake_relay_open_wait(&c.relay, &fixture);
    for (unsigned refused = 1; refused < 3; refused++) {
        struct fake_relay relay;
        fake_relay_init(&relay, &fixture, ptcl, &c.relay.relay.source, &c.relay.relay.destination);
        fake_relay_open(&relay);
        ck_assert_uint_eq(relay.failed, 1);
        ck_assert_int_eq(relay.error, N2_ERROR_GENERAL);
        ck_assert_str_eq(relay.text, "no descriptors left");
        fake_relay_finish(&relay, &fixture);
        ask();
        ck_assert_uint_eq(figure("flows_open"), 1);
        ck_assert_uint_eq(figure("flows_max"), 1);
        ck_assert_uint_eq(figure("flows_refused"), refused);
    }
    tcp_connection_dispose(&c);
    WAIT_FOR(&fixture, plane_fixture_socket_plane(&fixture)->flows == 0);
    tcp_connection_prepare(&c, &fixture, false, false);
    fake_relay_open_wait(&c.relay, &fixture);
    tcp_connection_dispose(&c);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("socket_plane");
    TCase *tests = tcase_create("socket_plane");
    SRunner *runner = srunner_create(suite);

    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, test_figures);
    tcase_add_test(tests, test_warnings);
    tcase_add_test(tests, test_bounds);
    tcase_add_test(tests, test_refuses);
    tcase_add_loop_test(tests, test_share_of_descriptors, 0, 2);
    suite_add_tcase(suite, tests);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
