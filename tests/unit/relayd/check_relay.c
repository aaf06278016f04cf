/*
 * The state machine of a relay (relayd/relay/relay.h), and what N2 promises of it: N2-RELAY-010 to
 * -040, N2-TRANS-050, N2-EOF-010, N2-EOF-040, N2-STATE-020.
 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>

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

static struct relay *open_one(uint64_t association)
{
    struct n2_open_relay order = fake_order(association);
    return fake_open(&fake, &peer, &order);
}

/* A relay in the state, with nothing done inside the plane's calls. */
static struct relay *relay_in(enum relay_state state, uint64_t association)
{
    struct relay *relay = open_one(association);

    ck_assert_ptr_nonnull(relay);
    if (state != RELAY_ST_OPENING) {
        fake_opened(relay);
    }
    if (state == RELAY_ST_ACTIVE) {
        relay_client_arrived(relay);
    }
    if (state == RELAY_ST_CLOSING) {
        relay_close(relay, N2_REASON_ADMIN);
    }
    ck_assert_int_eq(relay->state, state);
    return relay;
}

/* ---- opening -------------------------------------------------------------------------------- */

static void check_opened(const struct relay *relay)
{
    const struct n2_message *message = fake_peer_last(&peer);

    ck_assert_int_eq(relay->state, RELAY_ST_WAITING);
    ck_assert_int_eq(message->type, N2_RELAY_OPENED);
    ck_assert_uint_eq(message->transaction, 1001);
    ck_assert_uint_eq(message->relay_opened.relay, relay->id);
    ck_assert_int_eq(message->relay_opened.plane, N2_PLANE_SOCKET);
    ck_assert_str_eq(message->relay_opened.plane_reason, "only plane built");
    struct endpoint advertised = fake_endpoint("203.0.113.9:20000");
    struct endpoint egress = fake_endpoint("192.0.2.2:30000");
    ck_assert(endpoint_equal(&message->relay_opened.bound, &advertised));
    ck_assert(endpoint_equal(&message->relay_opened.egress, &egress));
}

START_TEST(opened_inside_the_call)
{
    fake.plane.in_open = fake_opened;
    check_opened(open_one(1));
    ck_assert_uint_eq(peer.message_count, 1);
}
END_TEST

START_TEST(opened_later)
{
    struct relay *relay = open_one(1);

    ck_assert_uint_eq(peer.message_count, 0);
    ck_assert_int_eq(relay->state, RELAY_ST_OPENING);
    ck_assert_uint_eq(relayd_metrics_get(&fake.metrics, RELAYD_RELAYS_OPENING), 1);
    fake_opened(relay);
    check_opened(relay);
    ck_assert_uint_eq(relayd_metrics_get(&fake.metrics, RELAYD_RELAYS_WAITING), 1);
    ck_assert_uint_eq(relayd_metrics_get(&fake.metrics, RELAYD_RELAYS_PLANE), 1);
}
END_TEST

static void check_failed(enum n2_error error, const char *text)
{
    const struct n2_message *message = fake_peer_last(&peer);

    ck_assert_int_eq(message->type, N2_RELAY_FAILED);
    ck_assert_uint_eq(message->transaction, 1001);
    ck_assert_str_eq(n2_error_name(message->relay_failed.error), n2_error_name(error));
    ck_assert_str_eq(message->relay_failed.text, text);
    ck_assert_uint_eq(relayd_metrics_get(&fake.metrics, RELAYD_FAILED + (unsigned)error), 1);
}

START_TEST(failed_inside_the_call)
{
    fake.plane.in_open = fake_failed;
    fake.plane.in_close = _i == 0 ? NULL : fake_plane_closed;
    struct relay *relay = open_one(1);

    check_failed(N2_ERROR_REFUSED, "refused by the target");
    ck_assert_uint_eq(fake.plane.closes, 1);
    if (_i == 0) {
        ck_assert_int_eq(relay->state, RELAY_ST_CLOSING);
        fake_plane_closed(relay);
    }
    ck_assert_uint_eq(relay_table_count(fake.context.table), 0);
    ck_assert_uint_eq(peer.message_count, 1);
}
END_TEST

START_TEST(failed_later)
{
    struct relay *relay = open_one(1);

    fake.plane.in_close = _i == 0 ? NULL : fake_plane_closed;
    fake_failed(relay);
    check_failed(N2_ERROR_REFUSED, "refused by the target");
    if (_i == 0) {
        fake_plane_closed(relay);
    }
    ck_assert_uint_eq(relay_table_count(fake.context.table), 0);
    ck_assert_uint_eq(peer.message_count, 1);
}
END_TEST

START_TEST(ended_before_it_was_open_is_a_failure)
{
    struct relay *relay = open_one(1);

    relay_ended(relay, N2_REASON_ERROR);
    check_failed(N2_ERROR_GENERAL, "closed before it was open: error");
    fake_plane_closed(relay);
    ck_assert_uint_eq(peer.message_count, 1);
}
END_TEST

START_TEST(client_moves_it_to_active_once)
{
    struct relay *relay = relay_in(RELAY_ST_WAITING, 1);

    relay_client_arrived(relay);
    ck_assert_int_eq(relay->state, RELAY_ST_ACTIVE);
    relay_client_arrived(relay);
    ck_assert_int_eq(relay->state, RELAY_ST_ACTIVE);
    ck_assert_uint_eq(relayd_metrics_get(&fake.metrics, RELAYD_RELAYS_ACTIVE), 1);
    ck_assert_uint_eq(peer.message_count, 1);
}
END_TEST

/* ---- the end -------------------------------------------------------------------------------- */

static enum relayd_metric traffic_of(enum n2_plane plane)
{
    return RELAYD_PLANE_TRAFFIC + 4 * ((unsigned)plane - N2_PLANE_SOCKET);
}

static enum n2_plane other_plane(void)
{
    return fake.plane.ops.id == N2_PLANE_SOCKET ? N2_PLANE_BPF : N2_PLANE_SOCKET;
}

static void check_closed(enum n2_reason reason)
{
    const struct n2_message *message = fake_peer_last(&peer);

    ck_assert_int_eq(message->type, N2_RELAY_CLOSED);
    ck_assert_uint_eq(message->relay_closed.association, 1);
    ck_assert_str_eq(n2_reason_name(message->relay_closed.reason), n2_reason_name(reason));
    ck_assert_uint_eq(message->relay_closed.counters.up_packets, 1);
    ck_assert_uint_eq(message->relay_closed.counters.up_bytes, 2);
    ck_assert_uint_eq(message->relay_closed.counters.down_packets, 3);
    ck_assert_uint_eq(message->relay_closed.counters.down_bytes, 4);
    ck_assert_uint_eq(message->relay_closed.counters.drops, 5);
    ck_assert_uint_eq(peer.message_count, 2);
    ck_assert_uint_eq(relayd_metrics_get(&fake.metrics, RELAYD_CLOSED + (unsigned)reason), 1);
    for (unsigned i = 0; i < 4; i++) {
        ck_assert_uint_eq(relayd_metrics_get(&fake.metrics, RELAYD_UP_PACKETS + i), i + 1);
        ck_assert_uint_eq(relayd_metrics_get(&fake.metrics, traffic_of(fake.plane.ops.id) + i),
                          i + 1);
        ck_assert_uint_eq(relayd_metrics_get(&fake.metrics, traffic_of(other_plane()) + i), 0);
    }
}

/* _i: the reason, ended by itself in ACTIVE or (negative) in WAITING. */
START_TEST(ended_by_itself_for_every_reason)
{
    enum n2_reason reason = (enum n2_reason)abs(_i);
    if (_i == 0) {
        return;
    }
    fake.plane.ops.id = _i % 2 == 0 ? N2_PLANE_SOCKET : N2_PLANE_BPF;
    struct relay *relay = relay_in(_i > 0 ? RELAY_ST_ACTIVE : RELAY_ST_WAITING, 1);

    fake.plane.counters = (struct n2_counters){1, 2, 3, 4, 5};
    relay_ended(relay, reason);
    ck_assert_int_eq(relay->state, RELAY_ST_CLOSING);
    ck_assert_uint_eq(peer.message_count, 1); /* not before the counters are final */
    ck_assert_int_eq(fake.plane.last_abort, reason != N2_REASON_FINISHED);
    fake_plane_closed(relay);
    check_closed(reason);
    ck_assert_uint_eq(relay_table_count(fake.context.table), 0);
}
END_TEST

/* _i: state, and whether the plane answers inside of close. */
START_TEST(closed_in_every_state)
{
    enum relay_state state = (enum relay_state)(_i / 2);
    bool inside = _i % 2 == 1;
    struct relay *relay = relay_in(state, 1);

    fake.plane.counters = (struct n2_counters){1, 2, 3, 4, 5};
    fake.plane.in_close = inside ? fake_plane_closed : NULL;
    relay_close(relay, N2_REASON_CONTROL_CLOSED);
    ck_assert_uint_eq(fake.plane.closes, 1);
    ck_assert(fake.plane.last_abort);
    if (state == RELAY_ST_OPENING) {
        /* Answered at once: a failure, and no RelayClosed. */
        check_failed(N2_ERROR_GENERAL, "closed before it was open: control-closed");
    }
    if (!inside || state == RELAY_ST_CLOSING) {
        fake_plane_closed(relay);
    }
    if (state == RELAY_ST_OPENING) {
        ck_assert_uint_eq(peer.message_count, 1);
    } else if (state == RELAY_ST_CLOSING) {
        check_closed(N2_REASON_ADMIN); /* the first reason holds */
    } else {
        check_closed(N2_REASON_CONTROL_CLOSED);
    }
    ck_assert_uint_eq(relay_table_count(fake.context.table), 0);
}
END_TEST

START_TEST(shutdown_before_it_was_open_sends_socksd_elsewhere)
{
    relay_close(open_one(1), N2_REASON_SHUTDOWN);
    check_failed(N2_ERROR_DRAINING, "closed before it was open: shutdown");
}
END_TEST

START_TEST(closing_ignores_everything_but_its_plane)
{
    struct relay *relay = relay_in(RELAY_ST_CLOSING, 1);

    relay_close(relay, N2_REASON_CONTROL_CLOSED);
    relay_close(relay, N2_REASON_PEER_LOST);
    relay_opened(relay);
    relay_open_failed(relay, N2_ERROR_REFUSED, "late");
    relay_client_arrived(relay);
    relay_ended(relay, N2_REASON_FINISHED);
    relay_notify(relay, N2_EVENT_TARGET_FIN, 0);
    ck_assert_int_eq(relay->state, RELAY_ST_CLOSING);
    ck_assert_int_eq(relay->reason, N2_REASON_ADMIN);
    ck_assert_uint_eq(fake.plane.closes, 1);
    ck_assert_uint_eq(peer.message_count, 1);
    fake_plane_closed(relay);
    ck_assert_int_eq(fake_peer_last(&peer)->relay_closed.reason, N2_REASON_ADMIN);
}
END_TEST

static void close_with_everything(struct relay *relay)
{
    relay_ended(relay, N2_REASON_FINISHED);
    relay_client_arrived(relay);
    relay_notify(relay, N2_EVENT_TARGET_RST, 0);
    relay_close(relay, N2_REASON_PEER_LOST);
    relay_opened(relay);
    fake_plane_closed(relay);
}

START_TEST(upcalls_from_inside_close)
{
    struct relay *relay = relay_in((enum relay_state)_i, 1);

    fake.plane.in_close = close_with_everything;
    relay_close(relay, N2_REASON_GUARD);
    ck_assert_uint_eq(relay_table_count(fake.context.table), 0);
    ck_assert_uint_eq(peer.message_count, _i == RELAY_ST_OPENING ? 1 : 2);
    ck_assert_uint_eq(fake.plane.closes, 1);
}
END_TEST

START_TEST(a_whole_life_inside_open)
{
    fake.plane.in_open = fake_opened_and_ended;
    fake.plane.in_close = _i == 0 ? NULL : fake_plane_closed;
    struct relay *relay = open_one(1);

    ck_assert_uint_eq(fake.plane.closes, 1);
    if (_i == 0) {
        fake_plane_closed(relay);
    }
    ck_assert_uint_eq(peer.message_count, 2);
    ck_assert_int_eq(peer.messages[0].type, N2_RELAY_OPENED);
    ck_assert_int_eq(peer.messages[1].type, N2_RELAY_CLOSED);
    ck_assert_int_eq(peer.messages[1].relay_closed.reason, N2_REASON_TARGET_RESET);
    ck_assert_uint_eq(relay_table_count(fake.context.table), 0);
}
END_TEST

static void fail_twice(struct relay *relay)
{
    fake_failed(relay);
    relay_open_failed(relay, N2_ERROR_GENERAL, "again");
    relay_opened(relay);
    relay_close(relay, N2_REASON_ADMIN);
}

START_TEST(contradictions_inside_open_are_answered_once)
{
    fake.plane.in_open = fail_twice;
    fake.plane.in_close = fake_plane_closed;
    ck_assert_ptr_null(open_one(1));
    check_failed(N2_ERROR_REFUSED, "refused by the target");
    ck_assert_uint_eq(peer.message_count, 1);
}
END_TEST

/* The defects of a plane are logged and change nothing. */
static void close_unasked(struct relay *relay)
{
    struct n2_counters none = {0};
    relay_plane_closed(relay, &none);
    fake_failed(relay);
    relay_plane_closed(relay, &none); /* CLOSING, but it was not asked yet */
}

START_TEST(a_plane_that_was_not_asked_closes_nothing)
{
    struct n2_counters none = {0};
    struct relay *relay = relay_in((enum relay_state)_i, 1);

    relay_plane_closed(relay, &none);
    ck_assert_int_eq(relay->state, (enum relay_state)_i);
    fake.plane.in_open = close_unasked;
    relay = open_one(2);
    ck_assert_ptr_nonnull(relay);
    ck_assert_int_eq(relay->state, RELAY_ST_CLOSING);
    ck_assert_uint_eq(relay_table_count(fake.context.table), 2);
}
END_TEST

START_TEST(opened_twice_is_answered_once)
{
    struct relay *relay = relay_in(RELAY_ST_ACTIVE, 1);

    relay_opened(relay);
    ck_assert_int_eq(relay->state, RELAY_ST_ACTIVE);
    ck_assert_uint_eq(peer.message_count, 1);
    fake_failed(relay); /* no second answer, but the relay is over */
    ck_assert_int_eq(relay->state, RELAY_ST_CLOSING);
    fake_plane_closed(relay);
    ck_assert_int_eq(fake_peer_last(&peer)->type, N2_RELAY_CLOSED);
    ck_assert_int_eq(fake_peer_last(&peer)->relay_closed.reason, N2_REASON_ERROR);
}
END_TEST

START_TEST(client_before_it_was_open_changes_nothing)
{
    struct relay *relay = open_one(1);

    relay_client_arrived(relay);
    ck_assert_int_eq(relay->state, RELAY_ST_OPENING);
    ck_assert_uint_eq(peer.message_count, 0);
}
END_TEST

/* ---- events --------------------------------------------------------------------------------- */

START_TEST(events_are_told_between_opened_and_closed)
{
    struct relay *relay = relay_in((enum relay_state)_i, 1);
    bool told = _i == RELAY_ST_WAITING || _i == RELAY_ST_ACTIVE;

    relay_notify(relay, N2_EVENT_TARGET_FIN, 7);
    ck_assert_uint_eq(peer.events, told);
    if (told) {
        const struct n2_message *message = fake_peer_last(&peer);
        ck_assert_uint_eq(message->transaction, 0);
        ck_assert_uint_eq(message->relay_event.relay, relay->id);
        ck_assert_int_eq(message->relay_event.event, N2_EVENT_TARGET_FIN);
        ck_assert_uint_eq(message->relay_event.value, 7);
    }
}
END_TEST

/* ---- deadlines ------------------------------------------------------------------------------ */

START_TEST(an_order_is_answered_by_its_deadline)
{
    struct n2_open_relay order = fake_order(1);
    order.deadline_ms = 30;
    struct relay *relay = fake_open(&fake, &peer, &order);
    uint64_t start = uv_now(&fake.loop);

    while (peer.message_count == 0) {
        uv_run(&fake.loop, UV_RUN_ONCE);
    }
    ck_assert_uint_ge(uv_now(&fake.loop) - start, 30);
    check_failed(N2_ERROR_TIMED_OUT, "the order's deadline has passed");
    fake_opened(relay); /* too late */
    ck_assert_uint_eq(peer.message_count, 1);
    fake_plane_closed(relay);
    ck_assert_uint_eq(peer.message_count, 1);
}
END_TEST

START_TEST(a_deadline_that_was_kept_is_forgotten)
{
    struct n2_open_relay order = fake_order(1);
    order.deadline_ms = 20;
    struct relay *relay = fake_open(&fake, &peer, &order);

    fake_opened(relay);
    uv_run(&fake.loop, UV_RUN_DEFAULT); /* ends at once: no timer is left */
    ck_assert_int_eq(relay->state, RELAY_ST_WAITING);
    ck_assert_ptr_null(relay->order);
}
END_TEST

/* ---- peers ---------------------------------------------------------------------------------- */

static void open_thousand(void)
{
    for (uint64_t i = 0; i < 1000; i++) {
        struct n2_open_relay order = fake_order(i);
        order.deadline_ms = i % 3 == 0 ? 60000 : 0;
        struct relay *relay = fake_open(&fake, &peer, &order);
        ck_assert_ptr_nonnull(relay);
        if (i % 4 > 0) {
            fake_opened(relay);
        }
        if (i % 4 > 1) {
            relay_client_arrived(relay);
        }
        if (i % 4 > 2) {
            relay_close(relay, N2_REASON_CONTROL_CLOSED);
        }
    }
}

/* Until every relay of lost peers has been closed. */
static void reap(void)
{
    while (!LIST_EMPTY(&fake.context.peers.lost)) {
        uv_run(&fake.loop, UV_RUN_ONCE);
    }
}

START_TEST(a_lost_peer_takes_its_thousand_relays_along)
{
    struct fake_peer other;
    fake_peer_init(&fake, &other);
    struct n2_open_relay order = fake_order(1);
    struct relay *others = fake_open(&fake, &other, &order);

    open_thousand();
    fake.plane.in_close = _i == 0 ? NULL : fake_plane_closed;
    peer.dead = true;
    relay_peer_lost(&peer.peer);
    ck_assert_uint_eq(fake.plane.peers_lost, 1);
    ck_assert_uint_eq(fake.plane.lost_index, peer.peer.index);
    reap();
    ck_assert_uint_eq(fake.plane.closes, 1000);
    ck_assert(fake.plane.last_abort);
    while (fake.plane.flows != NULL && fake.plane.flow_count > 1) {
        struct fake_flow *flow = fake.plane.flows;
        fake_plane_closed(flow->relay == others ? flow->next->relay : flow->relay);
    }
    ck_assert_uint_eq(relay_table_count(fake.context.table), 1);
    fake_opened(others);
    ck_assert_int_eq(others->state, RELAY_ST_WAITING);
    ck_assert_uint_eq(other.message_count, 1);
    relay_peer_lost(&peer.peer); /* once more does no harm */
    ck_assert_uint_eq(fake.plane.peers_lost, 1);
}
END_TEST

static void close_slowly(struct relay *relay)
{
    uint64_t end = uv_hrtime() + 200000;
    while (uv_hrtime() < end) {
    }
    fake_plane_closed(relay);
}

/* N2-EOF-040: 0.2 ms for each of 1000 relays, and nobody waits for them all. */
START_TEST(orphans_are_closed_while_others_are_served)
{
    struct fake_peer other;
    struct n2_open_relay order = fake_order(1);

    fake.plane.in_open = fake_opened;
    for (uint64_t i = 0; i < 1000; i++) {
        ck_assert_ptr_nonnull(open_one(i));
    }
    fake.plane.in_close = close_slowly;
    peer.dead = true;
    relay_peer_lost(&peer.peer);
    unsigned at_once = fake.plane.closes;
    ck_assert_uint_gt(at_once, 0);
    ck_assert_uint_lt(at_once, 200);
    ck_assert_uint_eq(relayd_metrics_get(&fake.metrics, RELAYD_RELAYS_ORPHANED), 1000 - at_once);
    fake_peer_init(&fake, &other);
    struct relay *relay = fake_open(&fake, &other, &order);
    ck_assert_uint_eq(other.opened[1], 1);
    for (unsigned before = at_once; before < 1000; before = fake.plane.closes) {
        uv_run(&fake.loop, UV_RUN_ONCE);
        ck_assert_uint_gt(fake.plane.closes, before);
        ck_assert_uint_lt(fake.plane.closes - before, 200);
    }
    ck_assert_uint_eq(relay_table_count(fake.context.table), 1);
    ck_assert_int_eq(relay->state, RELAY_ST_WAITING);
    reap();
}
END_TEST

static unsigned released;

static void count_released(struct relay_peer *lost)
{
    ck_assert(lost->lost);
    released++;
}

START_TEST(an_index_is_free_when_the_last_relay_has_gone)
{
    struct fake_peer *peers = calloc(RELAY_PEERS_MAX, sizeof(*peers));
    bool seen[RELAY_PEERS_MAX] = {false};
    struct fake_peer last;

    seen[peer.peer.index] = true;
    for (size_t i = 1; i < RELAY_PEERS_MAX; i++) {
        fake_peer_init(&fake, &peers[i]);
        ck_assert_uint_lt(peers[i].peer.index, RELAY_PEERS_MAX);
        ck_assert(!seen[peers[i].peer.index]);
        seen[peers[i].peer.index] = true;
    }
    peer.peer.released = count_released;
    released = 0;
    struct relay *relay = relay_in(RELAY_ST_ACTIVE, 1);
    peer.dead = true;
    relay_peer_lost(&peer.peer);
    reap();
    ck_assert_int_eq(relay->state, RELAY_ST_CLOSING);
    ck_assert_uint_eq(released, 0);
    ck_assert_int_eq(relay_peer_init(&last.peer, &fake.context, peer.peer.send), -EAGAIN);
    fake_plane_closed(relay);
    ck_assert_uint_eq(released, 1);
    fake_peer_init(&fake, &last);
    ck_assert_uint_eq(last.peer.index, peer.peer.index);
    peers[1].peer.released = count_released;
    relay_peer_lost(&peers[1].peer); /* has no relay */
    ck_assert_uint_eq(released, 2);
    free(peers);
}
END_TEST

START_TEST(draining_takes_no_new_relay)
{
    struct relay *old = relay_in(RELAY_ST_WAITING, 1);
    struct fake_peer other;
    fake_peer_init(&fake, &other);
    struct n2_open_relay order = fake_order(2);

    if (_i == 0) {
        fake.context.draining = true;
    } else {
        peer.peer.draining = true;
    }
    ck_assert_ptr_null(fake_open(&fake, &peer, &order));
    ck_assert_int_eq(fake_peer_last(&peer)->relay_failed.error, N2_ERROR_DRAINING);
    ck_assert_int_eq(old->state, RELAY_ST_WAITING);
    /* One peer's Drain is not another's. */
    ck_assert_int_eq(fake_open(&fake, &other, &order) != NULL, _i == 1);
}
END_TEST

START_TEST(the_limit_refuses_and_recovers)
{
    struct fake small;
    fake_setup(&small, 2);
    fake_peer_init(&small, &peer);
    struct n2_open_relay order[4] = {fake_order(1), fake_order(2), fake_order(3), fake_order(4)};
    struct relay *first = fake_open(&small, &peer, &order[0]);

    ck_assert_ptr_nonnull(fake_open(&small, &peer, &order[1]));
    ck_assert_ptr_null(fake_open(&small, &peer, &order[2]));
    ck_assert_int_eq(fake_peer_last(&peer)->type, N2_RELAY_FAILED);
    ck_assert_int_eq(fake_peer_last(&peer)->relay_failed.error, N2_ERROR_GENERAL);
    ck_assert_str_eq(fake_peer_last(&peer)->relay_failed.text, "limits.relays (2) is reached");
    small.plane.in_close = fake_plane_closed;
    relay_close(first, N2_REASON_ADMIN);
    ck_assert_ptr_nonnull(fake_open(&small, &peer, &order[3]));
    fake_teardown(&small);
}
END_TEST

/* ---- orders --------------------------------------------------------------------------------- */

static void refused(const struct n2_open_relay *order, enum n2_error error, const char *what)
{
    ck_assert_msg(fake_open(&fake, &peer, order) == NULL, "taken: %s", what);
    const struct n2_message *message = fake_peer_last(&peer);
    ck_assert_msg(message->type == N2_RELAY_FAILED && message->relay_failed.error == error,
                  "%s: expected %s, got %s (%s)", what, n2_error_name(error),
                  n2_error_name(message->relay_failed.error), message->relay_failed.text);
    ck_assert_msg(message->relay_failed.text[0] != '\0', "%s: without a text", what);
    ck_assert_uint_eq(fake.plane.opens, 0);
}

/* N2-RELAY-030 */
START_TEST(orders_that_are_not_served)
{
    struct n2_open_relay order = fake_order(1);
    order.kind = N2_KIND_UDP_ASSOCIATE;
    refused(&order, N2_ERROR_UNSUPPORTED, "UDP ASSOCIATE to a relayd of TCP");
    order = fake_order(3);
    order.ptcl = PTCL_UDP;
    refused(&order, N2_ERROR_UNSUPPORTED, "UDP to a relayd of TCP");
    order = fake_order(5);
    order.source = fake_endpoint("[2001:db8:dead::1]:1");
    refused(&order, N2_ERROR_UNSUPPORTED, "a family without an address here");
}
END_TEST

START_TEST(orders_with_a_source_that_nobody_has)
{
    static const char *const sources[] = {
        "0.0.0.0:1",         "0.1.2.3:1", "224.0.0.1:1", "239.1.1.1:1", "240.0.0.1:1",
        "255.255.255.255:1", "[::]:1",    "[ff02::1]:1", "[fe80::1]:1", "198.51.100.7:0",
    };
    for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++) {
        struct n2_open_relay order = fake_order(i + 1);
        order.source = fake_endpoint(sources[i]);
        refused(&order, N2_ERROR_GENERAL, sources[i]);
    }
    struct n2_open_relay order = fake_order(20);
    order.source = (struct endpoint){.port = 1};
    refused(&order, N2_ERROR_GENERAL, "no source");
    order = fake_order(21);
    order.learn_source_port = true;
    refused(&order, N2_ERROR_GENERAL, "a port to be learnt that is given");
}
END_TEST

START_TEST(orders_with_a_source_that_is_sound)
{
    static const char *const sources[] = {"127.0.0.1:5", "10.0.0.1:65535", "[2001:db8::1]:1",
                                          "[fe80::1%3]:7", "[::1]:9"};
    for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++) {
        struct n2_open_relay order = fake_order(i + 1);
        order.source = fake_endpoint(sources[i]);
        ck_assert_msg(fake_open(&fake, &peer, &order) != NULL, "refused: %s", sources[i]);
    }
    struct n2_open_relay order = fake_order(20);
    order.learn_source_port = true;
    order.source.port = 0;
    struct relay *relay = fake_open(&fake, &peer, &order);
    ck_assert_ptr_nonnull(relay);
    ck_assert(relay->learn_source_port);
}
END_TEST

START_TEST(orders_with_a_wrong_destination)
{
    struct n2_open_relay order = fake_order(1);
    order.destinations[0].port = 0;
    refused(&order, N2_ERROR_GENERAL, "port 0");
    order = fake_order(2);
    order.destination_count = 2;
    order.destinations[1] = order.destinations[0];
    refused(&order, N2_ERROR_GENERAL, "two destinations");
    order = fake_order(3);
    order.destination_count = 0;
    refused(&order, N2_ERROR_GENERAL, "no destination");
    order = fake_order(4);
    order.destinations[0] = fake_endpoint("127.0.0.1:80");
    refused(&order, N2_ERROR_NOT_ALLOWED, "loopback");
    struct ip_prefix everything = {.address = {.family = IP_V4}, .length = 0};
    fake.floor.open = &everything;
    fake.floor.open_count = 1;
    order.association = 5;
    ck_assert_ptr_nonnull(fake_open(&fake, &peer, &order));
    fake.plane.opens--; /* refused() counts */
    order = fake_order(6);
    order.destinations[0] = fake_endpoint("0.0.0.0:80"); /* this host, whatever is open */
    refused(&order, N2_ERROR_NOT_ALLOWED, "unspecified");
    fake.plane.opens++;
}
END_TEST

START_TEST(the_order_is_kept)
{
    struct n2_open_relay order = fake_order(1);
    order.source = fake_endpoint("[2001:db8::7]:4000");
    order.bound_hint = fake_endpoint("[2001:db8::1]:1").address;
    order.egress_hint = fake_endpoint("192.0.2.9:1").address;
    order.limits.idle_ms = 5000;
    order.limits.bytes_per_second = 1;
    struct relay *relay = fake_open(&fake, &peer, &order);

    ck_assert_ptr_nonnull(relay);
    ck_assert(endpoint_equal(&relay->source, &order.source));
    ck_assert(endpoint_equal(&relay->destination, &order.destinations[0]));
    ck_assert(ip_address_equal(&relay->order->bound_hint, &order.bound_hint));
    ck_assert(ip_address_equal(&relay->order->egress_hint, &order.egress_hint));
    ck_assert_uint_eq(relay->limits.idle_ms, 5000);
    ck_assert_uint_eq(relay->limits.bytes_per_second, 1);
    ck_assert_str_eq(label_text(relay->user), "alice");
    ck_assert_str_eq(label_text(relay->rule), "web");
    ck_assert_int_eq(relay->kind, N2_KIND_TRANSPARENT);
    ck_assert_uint_eq(relay->peer->context->transport->ptcl, PTCL_TCP);
}
END_TEST

static const struct relay_order *seen;

static void look_and_open(struct relay *relay)
{
    seen = relay->order;
    ck_assert(!relay->order->on_heap);
    fake_opened(relay);
    ck_assert_ptr_null(relay->order);
}

/* Nothing is allocated for an order that its plane answers at once, whatever its deadline. */
START_TEST(an_order_that_is_answered_at_once_is_not_kept)
{
    struct n2_open_relay order = fake_order(1);

    order.deadline_ms = 60000;
    fake.plane.in_open = look_and_open;
    struct relay *relay = fake_open(&fake, &peer, &order);
    ck_assert_ptr_nonnull(seen);
    ck_assert_ptr_null(relay->order);
    ck_assert_ptr_null(peer.peer.orders);
    ck_assert(!relay_cancel_order(&peer.peer, 1001));
    ck_assert_int_eq(relay->state, RELAY_ST_WAITING);
}
END_TEST

/* N2-TRANS-050 */
START_TEST(an_order_is_cancelled_until_it_is_answered)
{
    struct relay *first = open_one(1), *second = open_one(2);

    ck_assert(first->order->on_heap);
    fake_opened(first);
    ck_assert(!relay_cancel_order(&peer.peer, 1001));
    ck_assert(relay_cancel_order(&peer.peer, 1002));
    ck_assert_int_eq(first->state, RELAY_ST_WAITING);
    ck_assert_int_eq(second->state, RELAY_ST_CLOSING);
    ck_assert_int_eq(fake_peer_last(&peer)->type, N2_RELAY_FAILED);
    ck_assert(!relay_cancel_order(&peer.peer, 1002));
}
END_TEST

/* ---- planes --------------------------------------------------------------------------------- */

START_TEST(the_plane_and_its_reason)
{
    struct fake_plane slow;
    const char *reason;
    fake_plane_init(&slow);
    struct relay *relay = relay_in(RELAY_ST_OPENING, 1);

    ck_assert_ptr_eq(planes_choose(&fake.planes, relay, &reason), &fake.plane.plane);
    ck_assert_str_eq(reason, "only plane built");
    fake.planes.configured = true;
    ck_assert_ptr_nonnull(planes_choose(&fake.planes, relay, &reason));
    ck_assert_str_eq(reason, "configured");
    fake.planes.configured = false;
    fake.planes.missing = "CAP_BPF is missing"; /* the faster one */
    ck_assert_ptr_nonnull(planes_choose(&fake.planes, relay, &reason));
    ck_assert_str_eq(reason, "CAP_BPF is missing");
    fake.planes.missing = NULL;
    planes_add(&fake.planes, &slow.plane);
    ck_assert_ptr_eq(planes_choose(&fake.planes, relay, &reason), &fake.plane.plane);
    ck_assert_str_eq(reason, "preferred");
    fake.plane.refusal = "families differ";
    ck_assert_ptr_eq(planes_choose(&fake.planes, relay, &reason), &slow.plane);
    ck_assert_str_eq(reason, "families differ");
    slow.refusal = "no way";
    ck_assert_ptr_null(planes_choose(&fake.planes, relay, &reason));
    ck_assert_str_eq(reason, "families differ");
    ck_assert_uint_eq(planes_bits(&fake.planes), 1u << N2_PLANE_SOCKET);
    fake.plane.ops.needs_descriptors = true;
    ck_assert(!planes_need_descriptors(&fake.planes));
    slow.ops.needs_descriptors = true;
    ck_assert(planes_need_descriptors(&fake.planes));
}
END_TEST

START_TEST(a_relay_that_no_plane_carries)
{
    struct n2_open_relay order = fake_order(1);

    fake.plane.refusal = "families differ";
    refused(&order, N2_ERROR_UNSUPPORTED, "a plane that refuses");
    ck_assert_str_eq(fake_peer_last(&peer)->relay_failed.text, "families differ");
    ck_assert_uint_eq(relay_table_count(fake.context.table), 0);
}
END_TEST

/* ---- anything, in any order ----------------------------------------------------------------- */

static unsigned seed;

static unsigned draw(unsigned below)
{
    seed = seed * 1103515245u + 12345u;
    return (seed >> 16) % below;
}

static void random_upcall(struct relay *relay)
{
    struct n2_counters none = {0};

    switch (draw(7)) {
    case 0:
        fake_opened(relay);
        break;
    case 1:
        fake_failed(relay);
        break;
    case 2:
        relay_client_arrived(relay);
        break;
    case 3:
        relay_notify(relay, N2_EVENT_FIRST_PACKET, 0);
        break;
    case 4:
        relay_ended(relay, (enum n2_reason)(1 + draw(N2_REASON_END - 1)));
        break;
    case 5:
        relay_close(relay, (enum n2_reason)(1 + draw(N2_REASON_END - 1)));
        break;
    default:
        if (!((struct fake_flow *)relay->flow)->close_called) {
            relay_plane_closed(relay, &none); /* a defect */
        }
        break;
    }
}

static void random_in_open(struct relay *relay)
{
    for (unsigned i = draw(4); i > 0; i--) {
        random_upcall(relay);
    }
}

static void random_in_close(struct relay *relay)
{
    for (unsigned i = draw(3); i > 0; i--) {
        random_upcall(relay);
    }
    if (draw(2) == 0) {
        fake_plane_closed(relay);
    }
}

START_TEST(random_lives_keep_the_promises)
{
    log_setup("check", LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
    seed = (unsigned)_i + 1;
    fake.plane.in_open = random_in_open;
    fake.plane.in_close = random_in_close;
    for (uint64_t association = 1; association < 300; association++) {
        struct n2_open_relay order = fake_order(association);
        order.deadline_ms = draw(3);
        relay_order(&fake.context, &peer.peer, 1000 + association, &order);
        for (unsigned i = draw(6); i > 0 && fake.plane.flows != NULL; i--) {
            struct fake_flow *flow = fake.plane.flows;
            for (unsigned skip = draw(fake.plane.flow_count); skip > 0; skip--) {
                flow = flow->next;
            }
            if (flow->close_called && draw(2) == 0) {
                fake_plane_closed(flow->relay);
            } else {
                random_upcall(flow->relay);
            }
        }
        uv_run(&fake.loop, UV_RUN_NOWAIT);
    }
    fake.plane.in_close = fake_plane_closed;
    uint64_t cursor = 0;
    struct relay *relay;
    while ((relay = relay_table_next(fake.context.table, &cursor)) != NULL) {
        if (((struct fake_flow *)relay->flow)->close_called) {
            fake_plane_closed(relay);
        } else {
            relay_close(relay, N2_REASON_SHUTDOWN);
        }
    }
    for (uint64_t association = 1; association < 300; association++) {
        ck_assert_uint_eq(peer.answers[association], 1);
        ck_assert_uint_eq(peer.closed[association], peer.opened[association]);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("relay");
    TCase *tcase = tcase_create("relay");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, opened_inside_the_call);
    tcase_add_test(tcase, opened_later);
    tcase_add_loop_test(tcase, failed_inside_the_call, 0, 2);
    tcase_add_loop_test(tcase, failed_later, 0, 2);
    tcase_add_test(tcase, ended_before_it_was_open_is_a_failure);
    tcase_add_test(tcase, client_moves_it_to_active_once);
    tcase_add_loop_test(tcase, ended_by_itself_for_every_reason, 1 - N2_REASON_END, N2_REASON_END);
    tcase_add_loop_test(tcase, closed_in_every_state, 0, 8);
    tcase_add_test(tcase, shutdown_before_it_was_open_sends_socksd_elsewhere);
    tcase_add_test(tcase, closing_ignores_everything_but_its_plane);
    tcase_add_loop_test(tcase, upcalls_from_inside_close, 0, 3);
    tcase_add_loop_test(tcase, a_whole_life_inside_open, 0, 2);
    tcase_add_test(tcase, contradictions_inside_open_are_answered_once);
    tcase_add_loop_test(tcase, a_plane_that_was_not_asked_closes_nothing, 0, 3);
    tcase_add_test(tcase, opened_twice_is_answered_once);
    tcase_add_test(tcase, client_before_it_was_open_changes_nothing);
    tcase_add_loop_test(tcase, events_are_told_between_opened_and_closed, 0, 4);
    tcase_add_test(tcase, an_order_is_answered_by_its_deadline);
    tcase_add_test(tcase, a_deadline_that_was_kept_is_forgotten);
    tcase_add_loop_test(tcase, a_lost_peer_takes_its_thousand_relays_along, 0, 2);
    tcase_add_test(tcase, orphans_are_closed_while_others_are_served);
    tcase_add_test(tcase, an_index_is_free_when_the_last_relay_has_gone);
    tcase_add_loop_test(tcase, draining_takes_no_new_relay, 0, 2);
    tcase_add_test(tcase, the_limit_refuses_and_recovers);
    tcase_add_test(tcase, orders_that_are_not_served);
    tcase_add_test(tcase, orders_with_a_source_that_nobody_has);
    tcase_add_test(tcase, orders_with_a_source_that_is_sound);
    tcase_add_test(tcase, orders_with_a_wrong_destination);
    tcase_add_test(tcase, the_order_is_kept);
    tcase_add_test(tcase, an_order_that_is_answered_at_once_is_not_kept);
    tcase_add_test(tcase, an_order_is_cancelled_until_it_is_answered);
    tcase_add_test(tcase, the_plane_and_its_reason);
    tcase_add_test(tcase, a_relay_that_no_plane_carries);
    tcase_add_loop_test(tcase, random_lives_keep_the_promises, 0, 20);
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
