/*
 * CONNECT and BIND in the state machine of a relay: how their orders are judged, what the peer is
 * told, and when a client may be handed over. N2-CONNECT-010, N2-CONNECT-040, N2-BIND-010,
 * N2-BIND-020, N2-ATTACH-010, N2-RELAY-010.
 */
#include <check.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/log/log.h"
#include "tests/unit/relayd/fake.h"

static struct fake fake;
static struct fake_peer peer;

static void setup(void)
{
    fake_setup(&fake, 2000);
    fake_peer_init(&fake, &peer);
}

static void teardown(void)
{
    fake_teardown(&fake);
}

static struct n2_open_relay order_of(enum n2_kind kind, uint64_t association)
{
    struct n2_open_relay order = fake_order(association);

    order.kind = kind;
    return order;
}

static void add_destination(struct n2_open_relay *order, const char *text)
{
    order->destinations[order->destination_count++] = fake_endpoint(text);
}

static struct relay *open_kind(enum n2_kind kind)
{
    struct n2_open_relay order = order_of(kind, 1);
    struct relay *relay = fake_open(&fake, &peer, &order);

    ck_assert_ptr_nonnull(relay);
    return relay;
}

static void refused(const struct n2_open_relay *order, enum n2_error error)
{
    ck_assert_ptr_null(fake_open(&fake, &peer, order));
    const struct n2_message *message = fake_peer_last(&peer);
    ck_assert_int_eq(message->type, N2_RELAY_FAILED);
    ck_assert_msg(message->relay_failed.error == error, "expected %s, got %s (%s)",
                  n2_error_name(error), n2_error_name(message->relay_failed.error),
                  message->relay_failed.text);
    ck_assert_uint_eq(fake.plane.opens, 0);
}

static bool attach(struct relay *relay)
{
    return relay_attach(relay, open("/dev/null", O_RDWR | O_CLOEXEC), (const uint8_t *)"abc", 3);
}

/* The lowest free number: it stays the same where descriptors do. */
static int lowest_descriptor(void)
{
    int fd = dup(0);
    close(fd);
    return fd;
}

/* ---- orders --------------------------------------------------------------------------------- */

/* Candidates that the floor forbids are left out; the others keep their order. */
START_TEST(candidates_that_are_forbidden_are_left_out)
{
    struct n2_open_relay order = order_of(N2_KIND_CONNECT, 1);
    static const char *const all[] = {
        "127.0.0.1:80",       "203.0.113.5:80",      "[::1]:80", "0.0.0.0:80", "[2001:db8::5]:80",
        "[::ffff:7f00:1]:80", "[64:ff9b::7f00:1]:80"};

    order.destination_count = 0;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (i != 5) { /* cannot be written: it is 127.0.0.1 */
            add_destination(&order, all[i]);
        }
    }
    struct relay *relay = fake_open(&fake, &peer, &order);
    ck_assert_ptr_nonnull(relay);
    ck_assert_uint_eq(relay->order->candidate_count, 2);
    struct endpoint first = fake_endpoint(all[1]), second = fake_endpoint(all[4]);
    ck_assert(endpoint_equal(&relay->order->candidates[0], &first));
    ck_assert(endpoint_equal(&relay->order->candidates[1], &second));
    ck_assert(endpoint_equal(&relay->destination, &first));
    fake_opened(relay);
    ck_assert_ptr_null(relay->order); /* a relay that lives does not carry them */
}
END_TEST

START_TEST(connect_orders_that_are_refused)
{
    struct n2_open_relay order = order_of(N2_KIND_CONNECT, 1);
    order.destinations[0] = fake_endpoint("127.0.0.1:80");
    add_destination(&order, "[::1]:80");
    refused(&order, N2_ERROR_NOT_ALLOWED);
    order = order_of(N2_KIND_CONNECT, 2);
    add_destination(&order, "203.0.113.6:0");
    refused(&order, N2_ERROR_GENERAL);
    order = order_of(N2_KIND_CONNECT, 3);
    order.source.port = 0;
    refused(&order, N2_ERROR_GENERAL);
    order = order_of(N2_KIND_CONNECT, 4);
    order.learn_source_port = true;
    refused(&order, N2_ERROR_GENERAL);
    order = order_of(N2_KIND_CONNECT, 5);
    order.source = fake_endpoint("224.0.0.1:1");
    refused(&order, N2_ERROR_GENERAL);
    order = order_of(N2_KIND_CONNECT, 6);
    order.destination_count = 0;
    order.destinations[0] = (struct endpoint){0};
    refused(&order, N2_ERROR_NOT_ALLOWED);
}
END_TEST

/* The client need not be able to reach an address of ours: it is handed over. */
START_TEST(a_client_that_reaches_no_address_here)
{
    struct n2_open_relay order = order_of(_i == 0 ? N2_KIND_CONNECT : N2_KIND_BIND, 1);

    order.source = fake_endpoint("[2001:db8:dead::1]:1");
    ck_assert_ptr_nonnull(fake_open(&fake, &peer, &order));
}
END_TEST

START_TEST(bind_orders)
{
    struct n2_open_relay order = order_of(N2_KIND_BIND, 1);
    order.destinations[0] = fake_endpoint("127.0.0.1:80");
    refused(&order, N2_ERROR_NOT_ALLOWED);
    order = order_of(N2_KIND_BIND, 2);
    add_destination(&order, "203.0.113.6:80");
    refused(&order, N2_ERROR_GENERAL);
    static const char *const sound[] = {"0.0.0.0:0", "[::]:0", "0.0.0.0:21", "203.0.113.6:0"};
    for (uint64_t i = 0; i < 4; i++) {
        order = order_of(N2_KIND_BIND, 10 + i);
        order.destinations[0] = fake_endpoint(sound[i]);
        struct relay *relay = fake_open(&fake, &peer, &order);
        ck_assert_msg(relay != NULL, "refused: %s", sound[i]);
        ck_assert_ptr_null(relay->order->candidates);
    }
}
END_TEST

START_TEST(the_floor_for_peers_that_nobody_named)
{
    struct relay *relay = open_kind(N2_KIND_BIND);
    struct ip_address loopback = fake_endpoint("127.0.0.1:1").address;
    struct ip_address public = fake_endpoint("203.0.113.5:1").address;

    ck_assert_ptr_nonnull(relay_forbids(relay, &loopback));
    ck_assert_ptr_null(relay_forbids(relay, &public));
}
END_TEST

/* ---- what the peer is told ------------------------------------------------------------------ */

START_TEST(the_candidate_that_was_reached_is_told)
{
    struct n2_open_relay order = order_of(N2_KIND_CONNECT, 1);
    add_destination(&order, "[2001:db8::5]:80");
    struct relay *relay = fake_open(&fake, &peer, &order);

    relay->destination = relay->order->candidates[1];
    fake_opened(relay);
    const struct n2_message *message = fake_peer_last(&peer);
    ck_assert_int_eq(message->type, N2_RELAY_OPENED);
    ck_assert(endpoint_equal(&message->relay_opened.destination, &order.destinations[1]));
}
END_TEST

START_TEST(others_are_told_no_destination)
{
    struct relay *relay = open_kind(_i == 0 ? N2_KIND_TRANSPARENT : N2_KIND_BIND);

    fake_opened(relay);
    ck_assert_int_eq(fake_peer_last(&peer)->type, N2_RELAY_OPENED);
    ck_assert_int_eq(fake_peer_last(&peer)->relay_opened.destination.address.family, IP_NONE);
}
END_TEST

START_TEST(the_peer_is_told_once)
{
    struct relay *relay = open_kind(N2_KIND_BIND);

    relay_peer_connected(relay); /* not yet */
    ck_assert_uint_eq(peer.connected, 0);
    fake_opened(relay);
    relay->destination = fake_endpoint("203.0.113.5:20");
    relay_peer_connected(relay);
    ck_assert_uint_eq(peer.connected, 1);
    const struct n2_message *message = fake_peer_last(&peer);
    ck_assert_uint_eq(message->relay_connected.relay, relay->id);
    ck_assert(endpoint_equal(&message->relay_connected.peer, &relay->destination));
    relay_peer_connected(relay);
    ck_assert_uint_eq(peer.connected, 1);
    ck_assert_int_eq(relay->state, RELAY_ST_WAITING);
    relay_close(relay, N2_REASON_CONTROL_CLOSED);
    relay_peer_connected(relay);
    ck_assert_uint_eq(peer.connected, 1);
}
END_TEST

START_TEST(no_other_kind_has_a_peer)
{
    struct relay *relay = open_kind(_i == 0 ? N2_KIND_TRANSPARENT : N2_KIND_CONNECT);

    fake_opened(relay);
    relay_peer_connected(relay);
    ck_assert_uint_eq(peer.connected, 0);
    ck_assert_int_eq(relay->state, RELAY_ST_WAITING);
}
END_TEST

START_TEST(a_peer_of_a_lost_peer)
{
    struct relay *relay = open_kind(N2_KIND_BIND);

    fake_opened(relay);
    peer.dead = true; /* judges that nothing is sent */
    relay_peer_lost(&peer.peer);
    relay_peer_connected(relay);
    ck_assert(attach(relay));
    ck_assert_uint_eq(fake.plane.attaches, 0);
}
END_TEST

/* ---- the hand-over -------------------------------------------------------------------------- */

static struct relay *ready_for_client(enum n2_kind kind)
{
    struct relay *relay = open_kind(kind);

    fake_opened(relay);
    if (kind == N2_KIND_BIND) {
        relay_peer_connected(relay);
    }
    return relay;
}

static enum n2_kind kind_of(int i)
{
    return (i & 1) == 0 ? N2_KIND_CONNECT : N2_KIND_BIND;
}

START_TEST(handed_over_once)
{
    struct relay *relay = ready_for_client(kind_of(_i));
    const int lowest = lowest_descriptor();

    fake.plane.in_attach = _i < 2 ? relay_client_arrived : NULL;
    ck_assert(attach(relay));
    ck_assert_uint_eq(fake.plane.attaches, 1);
    ck_assert_uint_eq(fake.plane.early_length, 3);
    ck_assert_int_eq(relay->state, _i < 2 ? RELAY_ST_ACTIVE : RELAY_ST_WAITING);
    ck_assert(!attach(relay));
    ck_assert_uint_eq(fake.plane.attaches, 1);
    ck_assert_int_eq(lowest_descriptor(), lowest);
}
END_TEST

START_TEST(handed_over_too_early)
{
    const enum n2_kind kind = kind_of(_i);
    struct relay *relay = open_kind(kind);
    const int lowest = lowest_descriptor();

    ck_assert(!attach(relay));
    fake_opened(relay);
    if (kind == N2_KIND_BIND) {
        ck_assert(!attach(relay));
        relay_peer_connected(relay);
    }
    ck_assert_uint_eq(fake.plane.attaches, 0);
    ck_assert(attach(relay));
    ck_assert_uint_eq(fake.plane.attaches, 1);
    ck_assert_int_eq(lowest_descriptor(), lowest);
}
END_TEST

START_TEST(nothing_is_handed_over_to_transparent)
{
    struct relay *relay = open_kind(N2_KIND_TRANSPARENT);
    const int lowest = lowest_descriptor();

    fake_opened(relay);
    ck_assert(!attach(relay));
    relay_client_arrived(relay);
    ck_assert(!attach(relay));
    ck_assert_uint_eq(fake.plane.attaches, 0);
    ck_assert_int_eq(lowest_descriptor(), lowest);
}
END_TEST

/* It crosses the RelayClosed that is under way; closed before it was open, nobody was to come. */
START_TEST(handed_over_too_late)
{
    struct relay *relay = ready_for_client(kind_of(_i));
    const int lowest = lowest_descriptor();

    relay_ended(relay, N2_REASON_TARGET_RESET);
    ck_assert_int_eq(relay->state, RELAY_ST_CLOSING);
    ck_assert(attach(relay));
    ck_assert_uint_eq(fake.plane.attaches, 0);
    ck_assert_uint_eq(relayd_metrics_get(&fake.metrics, RELAYD_N2_UNKNOWN_RELAY), 1);
    ck_assert_int_eq(lowest_descriptor(), lowest);
    fake_plane_closed(relay);
    struct n2_open_relay order = order_of(kind_of(_i), 2);
    relay = fake_open(&fake, &peer, &order);
    relay_close(relay, N2_REASON_CONTROL_CLOSED);
    ck_assert(!attach(relay));
    ck_assert_int_eq(lowest_descriptor(), lowest);
}
END_TEST

static void end_by_error(struct relay *relay)
{
    relay_ended(relay, N2_REASON_ERROR);
}

/* The plane refuses the descriptor: one RelayClosed, even where the plane lets go inside. */
START_TEST(a_bad_descriptor_ends_the_relay)
{
    struct relay *relay = ready_for_client(kind_of(_i));

    fake.plane.in_attach = end_by_error;
    fake.plane.in_close = _i < 2 ? fake_plane_closed : NULL;
    ck_assert(attach(relay));
    if (_i >= 2) {
        fake_plane_closed(relay);
    }
    ck_assert_uint_eq(relay_table_count(fake.context.table), 0);
    ck_assert_uint_eq(peer.closed[1], 1);
    ck_assert_int_eq(fake_peer_last(&peer)->relay_closed.reason, N2_REASON_ERROR);
}
END_TEST

static void add_orders(TCase *tests)
{
    tcase_add_test(tests, candidates_that_are_forbidden_are_left_out);
    tcase_add_test(tests, connect_orders_that_are_refused);
    tcase_add_loop_test(tests, a_client_that_reaches_no_address_here, 0, 2);
    tcase_add_test(tests, bind_orders);
    tcase_add_test(tests, the_floor_for_peers_that_nobody_named);
}

int main(void)
{
    Suite *suite = suite_create("relay_classic");
    TCase *tests = tcase_create("relay_classic");
    SRunner *runner = srunner_create(suite);

    tcase_add_checked_fixture(tests, setup, teardown);
    add_orders(tests);
    tcase_add_test(tests, the_candidate_that_was_reached_is_told);
    tcase_add_loop_test(tests, others_are_told_no_destination, 0, 2);
    tcase_add_test(tests, the_peer_is_told_once);
    tcase_add_loop_test(tests, no_other_kind_has_a_peer, 0, 2);
    tcase_add_test(tests, a_peer_of_a_lost_peer);
    tcase_add_loop_test(tests, handed_over_once, 0, 4);
    tcase_add_loop_test(tests, handed_over_too_early, 0, 2);
    tcase_add_test(tests, nothing_is_handed_over_to_transparent);
    tcase_add_loop_test(tests, handed_over_too_late, 0, 2);
    tcase_add_loop_test(tests, a_bad_descriptor_ends_the_relay, 0, 4);
    suite_add_tcase(suite, tests);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
