/*
 * The guard: floods of packets from strangers.
 */
#include <check.h>

#include "common/log/log.h"
#include "relayd/guard.h"
#include "tests/unit/relayd/fake.h"

static struct fake fake;
static struct fake_peer peer;
static struct relayd_config config;
static struct guard *guard;

static void setup(void)
{
    fake_setup(&fake, 5000);
    fake_peer_init(&fake, &peer);
    fake.plane.in_open = fake_opened;
    config = (struct relayd_config){0};
    config.guard.wrong_source_per_second = 100;
}

static void teardown(void)
{
    guard_stop(guard);
    guard = NULL;
    fake_teardown(&fake);
}

static void start(enum guard_action action)
{
    config.guard.action = action;
    ck_assert_int_eq(guard_start(&guard, &config, &fake.context), 0);
}

static struct relay *open_one(uint64_t association)
{
    struct n2_open_relay order = fake_order(association);
    struct relay *relay = fake_open(&fake, &peer, &order);
    ck_assert_ptr_nonnull(relay);
    return relay;
}

static void strangers(struct relay *relay, uint64_t packets)
{
    ((struct fake_flow *)relay->flow)->drops += packets;
}

static bool looked_at(const struct relay *relay)
{
    return relay->guard_at_ms != (uint32_t)relay->opened_at_ms;
}

/* Until the guard has looked at the relay once more. */
static void one_look(const struct relay *relay)
{
    uint64_t before = relay->guard_at_ms;
    while (relay->guard_at_ms == before) {
        uv_run(&fake.loop, UV_RUN_ONCE);
    }
}

START_TEST(a_flood_is_reported_once)
{
    start(GUARD_EVENT);
    struct relay *relay = open_one(1), *quiet = open_one(2);

    strangers(relay, 1000);
    strangers(quiet, 100); /* the limit itself is none */
    one_look(relay);
    ck_assert(looked_at(quiet)); /* in the same turn */
    ck_assert_uint_eq(peer.events, 1);
    const struct n2_message *message = fake_peer_last(&peer);
    ck_assert_uint_eq(message->relay_event.relay, relay->id);
    ck_assert_int_eq(message->relay_event.event, N2_EVENT_WRONG_SOURCE_FLOOD);
    ck_assert_uint_gt(message->relay_event.value, 100);
    ck_assert_uint_le(message->relay_event.value, 1000);
    ck_assert_int_eq(relay->state, RELAY_ST_WAITING); /* `event` closes nothing */

    strangers(relay, 1000); /* goes on */
    one_look(relay);
    ck_assert_uint_eq(peer.events, 1);
    one_look(relay); /* over */
    strangers(relay, 1000);
    one_look(relay); /* another one */
    ck_assert_uint_eq(peer.events, 2);
    ck_assert_uint_eq(relayd_metrics_get(&fake.metrics, RELAYD_FLOODS), 2);
}
END_TEST

START_TEST(close_ends_the_relay)
{
    start(GUARD_CLOSE);
    struct relay *relay = open_one(1), *quiet = open_one(2);

    fake.plane.in_close = fake_plane_closed;
    strangers(relay, 1000);
    while (peer.closed[1] == 0) {
        uv_run(&fake.loop, UV_RUN_ONCE);
    }
    ck_assert_int_eq(fake_peer_last(&peer)->relay_closed.reason, N2_REASON_GUARD);
    ck_assert_uint_eq(peer.events, 1);
    ck_assert_int_eq(quiet->state, RELAY_ST_WAITING);
}
END_TEST

START_TEST(off_is_off)
{
    config.guard.wrong_source_per_second = 0;
    start(GUARD_EVENT);
    ck_assert_ptr_null(guard);
    struct relay *relay = open_one(1);
    relay_strangers(relay, 1000);
    ck_assert_uint_eq(peer.events, 0);
    ck_assert_int_eq(uv_loop_alive(&fake.loop), 0);
}
END_TEST

START_TEST(relays_that_are_not_open_are_left_alone)
{
    fake.plane.in_open = NULL;
    start(GUARD_EVENT);
    struct relay *opening = open_one(1);
    struct relay *closing = open_one(2);
    fake_opened(closing);
    relay_close(closing, N2_REASON_ADMIN);
    struct relay *open = open_one(3);
    fake_opened(open);

    strangers(opening, 1000); /* the fake plane's drops() judges the state */
    strangers(closing, 1000);
    strangers(open, 1000);
    one_look(open);
    ck_assert_uint_eq(peer.events, 1);
    ck_assert(!looked_at(opening));
    ck_assert(!looked_at(closing));
}
END_TEST

/* A big table is looked at in slices: between them the loop turns. */
static unsigned turns;

static void count_turn(uv_idle_t *idle)
{
    (void)idle;
    turns++;
}

START_TEST(a_big_table_is_looked_at_in_slices)
{
    static struct relay *relays[4 * GUARD_SLICE];
    static uv_idle_t idle; /* until the loop has closed it */
    unsigned looked, before = 0, slices = 0;

    start(GUARD_CLOSE); /* relays go while the sweep is on its way */
    fake.plane.in_close = fake_plane_closed;
    for (unsigned i = 0; i < 4 * GUARD_SLICE; i++) {
        relays[i] = open_one(i);
    }
    uint64_t first = relays[0]->id;
    strangers(relays[0], 1000);
    strangers(relays[GUARD_SLICE], 1000);
    uv_idle_init(&fake.loop, &idle);
    uv_idle_start(&idle, count_turn);
    do {
        uv_run(&fake.loop, UV_RUN_NOWAIT);
        looked = peer.closed[0] + peer.closed[GUARD_SLICE];
        for (unsigned i = 1; i < 4 * GUARD_SLICE; i++) {
            looked += i != GUARD_SLICE && looked_at(relays[i]);
        }
        ck_assert_uint_le(looked - before, GUARD_SLICE);
        slices += looked > before;
        before = looked;
    } while (looked < 4 * GUARD_SLICE);
    ck_assert_uint_ge(slices, 4);
    ck_assert_ptr_null(relay_table_find(fake.context.table, first));
    ck_assert_uint_eq(relay_table_count(fake.context.table), 4 * GUARD_SLICE - 2);
    uv_close((uv_handle_t *)&idle, NULL);
}
END_TEST

/* A relay that goes takes no other one's look away, wherever the sweep is. */
START_TEST(relays_that_go_leave_no_gap)
{
    struct relay *relays[8];

    start(GUARD_EVENT);
    fake.plane.in_close = fake_plane_closed;
    for (unsigned i = 0; i < 8; i++) {
        relays[i] = open_one(i);
    }
    relay_close(relays[0], N2_REASON_ADMIN);
    relay_close(relays[7], N2_REASON_ADMIN);
    relay_close(relays[3], N2_REASON_ADMIN);
    for (unsigned i = 0; i < 8; i++) {
        if (i % 7 != 0 && i != 3) {
            strangers(relays[i], 1000);
        }
    }
    one_look(relays[1]);
    ck_assert_uint_eq(peer.events, 5);
}
END_TEST

START_TEST(nothing_to_look_at_costs_nothing)
{
    start(GUARD_EVENT);
    ck_assert_int_eq(uv_loop_alive(&fake.loop), 0);
    fake.plane.in_close = fake_plane_closed;
    struct relay *relay = open_one(1);
    ck_assert_int_ne(uv_loop_alive(&fake.loop), 0);
    one_look(relay);
    relay_close(relay, N2_REASON_ADMIN);
    uv_run(&fake.loop, UV_RUN_DEFAULT); /* ends: the timer is not started again */
    open_one(2);
    ck_assert_int_ne(uv_loop_alive(&fake.loop), 0);
}
END_TEST

/* ---- planes that tell ----------------------------------------------------------------------- */

static void wait_ms(uint64_t ms)
{
    uint64_t start = uv_now(&fake.loop);
    while (uv_now(&fake.loop) - start < ms) {
        uv_run(&fake.loop, UV_RUN_ONCE);
    }
}

START_TEST(what_a_plane_tells_adds_up)
{
    fake.plane.ops.tells_strangers = true;
    start(GUARD_EVENT);
    struct relay *relay = open_one(1);

    ck_assert_int_eq(uv_loop_alive(&fake.loop), 0); /* nobody is asked */
    relay_strangers(relay, 60);
    relay_strangers(relay, 100); /* the limit itself is none */
    ck_assert_uint_eq(peer.events, 0);
    relay_strangers(relay, 101);
    ck_assert_uint_eq(peer.events, 1);
    ck_assert_uint_eq(fake_peer_last(&peer)->relay_event.value, 101);
    relay_strangers(relay, 100000); /* goes on */
    wait_ms(GUARD_INTERVAL_MS);
    relay_strangers(relay, 100050); /* that much in the second since it was judged */
    ck_assert_uint_eq(peer.events, 1);
    wait_ms(GUARD_INTERVAL_MS);
    relay_strangers(relay, 100051); /* over */
    relay_strangers(relay, 100151);
    ck_assert_uint_eq(peer.events, 1);
    relay_strangers(relay, 100152); /* another one */
    ck_assert_uint_eq(peer.events, 2);
    ck_assert_uint_eq(relayd_metrics_get(&fake.metrics, RELAYD_FLOODS), 2);
}
END_TEST

START_TEST(what_a_plane_tells_ends_the_relay)
{
    fake.plane.ops.tells_strangers = true;
    fake.plane.in_close = fake_plane_closed;
    start(GUARD_CLOSE);
    struct relay *relay = open_one(1);

    relay_strangers(relay, 101);
    ck_assert_uint_eq(peer.closed[1], 1);
    ck_assert_int_eq(fake_peer_last(&peer)->relay_closed.reason, N2_REASON_GUARD);
    fake.plane.in_open = NULL;
    relay = open_one(2);
    relay_strangers(relay, 1000); /* nobody knows it yet */
    ck_assert_int_eq(relay->state, RELAY_ST_OPENING);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("guard");
    TCase *tcase = tcase_create("guard");

    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_flood_is_reported_once);
    tcase_add_test(tcase, close_ends_the_relay);
    tcase_add_test(tcase, off_is_off);
    tcase_add_test(tcase, relays_that_are_not_open_are_left_alone);
    tcase_add_test(tcase, a_big_table_is_looked_at_in_slices);
    tcase_add_test(tcase, relays_that_go_leave_no_gap);
    tcase_add_test(tcase, nothing_to_look_at_costs_nothing);
    tcase_add_test(tcase, what_a_plane_tells_adds_up);
    tcase_add_test(tcase, what_a_plane_tells_ends_the_relay);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(suite());
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
