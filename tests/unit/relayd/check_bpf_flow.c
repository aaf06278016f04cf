/*
 * How a relay lives on the BPF plane: its states by what the program has seen, and by time.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "tests/unit/relayd/bpf_fixture.h"

static struct bpf_fixture fixture;
static struct watched_relay relay;

static void setup_for(uint8_t ptcl)
{
    struct bpf_fixture_options options = bpf_fixture_standard();

    options.ptcl = ptcl;
    bpf_fixture_setup(&fixture, &options);
    watched_relay_init(&relay, &fixture, 4000, 80);
}

static void setup(void)
{
    setup_for(PTCL_TCP);
}

static void setup_udp(void)
{
    setup_for(PTCL_UDP);
}

static void teardown(void)
{
    bpf_fixture_teardown(&fixture);
}

static enum flow_state state(void)
{
    return (enum flow_state)((struct flow *)relay.relay.flow)->state;
}

static void see(enum bpf_end end, uint32_t seen)
{
    bpf_fixture_see(&fixture, &relay.relay, end, seen, true);
}

static void carry(enum bpf_end end, uint64_t ago_ms)
{
    bpf_fixture_carry(&fixture, &relay.relay, end, 100, ago_ms);
}

/* As if it were the last handshake's last step. */
static void establish(void)
{
    watched_relay_open(&relay);
    carry(BPF_CLIENT, 0);
    see(BPF_CLIENT, BPF_SEEN_PACKET | BPF_SEEN_SYN);
    ck_assert_int_eq(state(), FLOW_ST_CONNECTING);
    carry(BPF_TARGET, 0);
    see(BPF_TARGET, BPF_SEEN_PACKET | BPF_SEEN_SYN);
    ck_assert_int_eq(state(), FLOW_ST_ESTABLISHED);
}

/* Time goes on without a packet: those that were carried are so much older. */
static void quiet(uint32_t ms)
{
    struct bpf_slot *slot = bpf_fixture_slot(&fixture, &relay.relay);

    for (int end = BPF_CLIENT; end < BPF_ENDS; end++) {
        if (slot->from[end].last_ns != 0)
            slot->from[end].last_ns -= ms * UINT64_C(1000000);
    }
    relay.relay.opened_at_ms -= ms;
    bpf_fixture_advance(&fixture, ms);
}

static void check_ended(enum n2_reason reason)
{
    ck_assert_uint_eq(relay.ended, 1);
    ck_assert_int_eq(relay.reason, reason);
    watched_relay_finish(&relay, &fixture);
}

/* ---- opening and the client's arrival ----------------------------------------------------------
 */

/* PLANE-LIFE-010, PLANE-LIFE-080 */
START_TEST(open_at_once_and_active_with_the_first_packet)
{
    watched_relay_open(&relay);
    ck_assert_int_eq(state(), FLOW_ST_WAITING);
    ck_assert_uint_eq(relay.arrived, 0);
    const struct bpf_slot *slot = bpf_fixture_slot(&fixture, &relay.relay);
    ck_assert_uint_eq(slot->state, BPF_SLOT_OPEN);
    ck_assert_uint_eq(slot->peer, 3);
    ck_assert_uint_eq(slot->epoch, 77);
    ck_assert_uint_eq(slot->side[BPF_CLIENT].interface, FIXTURE_INTERFACE);
    ck_assert_uint_eq(slot->side[BPF_TARGET].hop, FIXTURE_HOP);
    ck_assert_uint_eq(bpf_fixture_rows(&fixture), 2);
    see(BPF_CLIENT, BPF_SEEN_PACKET | BPF_SEEN_SYN);
    ck_assert_uint_eq(relay.arrived, 1);
    see(BPF_CLIENT, BPF_SEEN_ESTABLISHED);
    ck_assert_uint_eq(relay.arrived, 1);
    watched_relay_finish(&relay, &fixture);
}
END_TEST

/* PLANE-LIFE-020 */
START_TEST(a_client_that_never_comes)
{
    watched_relay_open(&relay);
    quiet(9500);
    ck_assert_uint_eq(relay.ended, 0);
    quiet(700);
    check_ended(N2_REASON_ACCEPT_TIMEOUT);
}
END_TEST

/* PLANE-LIFE-030 */
START_TEST(a_target_that_never_answers)
{
    watched_relay_open(&relay);
    quiet(9000); /* the time begins with the SYN */
    carry(BPF_CLIENT, 0);
    see(BPF_CLIENT, BPF_SEEN_PACKET | BPF_SEEN_SYN);
    quiet(9000);
    carry(BPF_CLIENT, 0); /* again */
    ck_assert_uint_eq(relay.ended, 0);
    quiet(1200);
    ck_assert_uint_eq(relay.events[N2_EVENT_TARGET_UNREACHABLE], 1);
    check_ended(N2_REASON_ERROR);
}
END_TEST

/* PLANE-LIFE-130 */
START_TEST(unreachable_is_told_once)
{
    watched_relay_open(&relay);
    see(BPF_CLIENT, BPF_SEEN_PACKET);
    see(BPF_CLIENT, BPF_SEEN_UNREACHABLE);
    see(BPF_CLIENT, BPF_SEEN_UNREACHABLE);
    see(BPF_TARGET, BPF_SEEN_UNREACHABLE); /* about the target's packets: the client's business */
    ck_assert_uint_eq(relay.events[N2_EVENT_TARGET_UNREACHABLE], 1);
    ck_assert_uint_eq(relay.ended, 0);
    watched_relay_finish(&relay, &fixture);
}
END_TEST

/* ---- the end -----------------------------------------------------------------------------------
 */

/* PLANE-LIFE-040 */
START_TEST(half_close)
{
    establish();
    see(BPF_TARGET, BPF_SEEN_FIN);
    ck_assert_int_eq(state(), FLOW_ST_HALF_CLOSED);
    see(BPF_TARGET, BPF_SEEN_FIN_ACKED);
    ck_assert_uint_eq(relay.events[N2_EVENT_TARGET_FIN], 1);
    for (int i = 0; i < 3; i++) {
        quiet(59000);
        ck_assert_uint_eq(relay.ended, 0);
        carry(BPF_CLIENT, 0);
    }
    quiet(60200);
    check_ended(N2_REASON_FIN_TIMEOUT);
}
END_TEST

/* PLANE-LIFE-040 */
START_TEST(half_close_of_the_client_is_not_told)
{
    establish();
    see(BPF_CLIENT, BPF_SEEN_FIN);
    ck_assert_int_eq(state(), FLOW_ST_HALF_CLOSED);
    ck_assert_uint_eq(relay.events[N2_EVENT_TARGET_FIN], 0);
    watched_relay_finish(&relay, &fixture);
}
END_TEST

/* PLANE-LIFE-050 */
START_TEST(both_fins_acknowledged)
{
    establish();
    see(BPF_TARGET, BPF_SEEN_FIN | BPF_SEEN_FIN_ACKED);
    see(BPF_CLIENT, BPF_SEEN_FIN | BPF_SEEN_FIN_ACKED);
    ck_assert_int_eq(state(), FLOW_ST_LINGER);
    carry(BPF_CLIENT, 0);
    quiet(800);
    ck_assert_uint_eq(relay.ended, 0);
    carry(BPF_TARGET, 0); /* a FIN once more */
    quiet(800);
    ck_assert_uint_eq(relay.ended, 0);
    quiet(400);
    check_ended(N2_REASON_FINISHED);
}
END_TEST

/* PLANE-LIFE-050 */
START_TEST(a_fin_that_is_not_acknowledged)
{
    establish();
    see(BPF_CLIENT, BPF_SEEN_FIN | BPF_SEEN_FIN_ACKED);
    see(BPF_TARGET, BPF_SEEN_FIN);
    quiet(3800);
    ck_assert_uint_eq(relay.ended, 0);
    quiet(300);
    check_ended(N2_REASON_FINISHED);
}
END_TEST

/* PLANE-LIFE-050 */
START_TEST(no_linger_lasts_for_ever)
{
    establish();
    see(BPF_TARGET, BPF_SEEN_FIN | BPF_SEEN_FIN_ACKED);
    see(BPF_CLIENT, BPF_SEEN_FIN | BPF_SEEN_FIN_ACKED);
    for (int i = 0; i < 8; i++) {
        carry(BPF_CLIENT, 0);
        quiet(480);
        ck_assert_uint_eq(relay.ended, 0);
    }
    carry(BPF_CLIENT, 0);
    quiet(300);
    check_ended(N2_REASON_FINISHED);
}
END_TEST

/* PLANE-LIFE-060 */
START_TEST(resets)
{
    establish();
    see(BPF_CLIENT, BPF_SEEN_RST);
    ck_assert_uint_eq(relay.events[N2_EVENT_TARGET_RST], 0);
    check_ended(N2_REASON_CLIENT_RESET);
    watched_relay_init(&relay, &fixture, 4001, 80);
    establish();
    see(BPF_TARGET, BPF_SEEN_RST);
    ck_assert_uint_eq(relay.events[N2_EVENT_TARGET_RST], 1);
    check_ended(N2_REASON_TARGET_RESET);
    /* Instead of an answer to the SYN. */
    watched_relay_init(&relay, &fixture, 4002, 80);
    watched_relay_open(&relay);
    bpf_fixture_see(&fixture, &relay.relay, BPF_CLIENT, BPF_SEEN_PACKET | BPF_SEEN_SYN, false);
    see(BPF_TARGET, BPF_SEEN_PACKET | BPF_SEEN_RST);
    ck_assert_uint_eq(relay.arrived, 1);
    check_ended(N2_REASON_TARGET_RESET);
}
END_TEST

/* PLANE-LIMIT-010 */
START_TEST(the_limit_of_octets)
{
    relay.relay.limits.max_bytes = 5000;
    establish();
    ck_assert_uint_eq(bpf_fixture_slot(&fixture, &relay.relay)->max_bytes, 5000);
    see(BPF_TARGET, BPF_SEEN_LIMIT);
    check_ended(N2_REASON_LIMIT);
}
END_TEST

/* PLANE-LIFE-070 */
START_TEST(idle)
{
    relay.relay.limits.idle_ms = 300000; /* more than a turn of the wheel */
    establish();
    quiet(299000);
    carry(BPF_TARGET, 0);
    quiet(299000);
    carry(BPF_CLIENT, 0);
    quiet(299000);
    ck_assert_uint_eq(relay.ended, 0);
    quiet(1200);
    check_ended(N2_REASON_IDLE_TIMEOUT);
}
END_TEST

/* PLANE-LIFE-040, PLANE-LIFE-070: the shorter one counts, and says its name */
START_TEST(idle_while_half_closed)
{
    relay.relay.limits.idle_ms = 5000;
    establish();
    see(BPF_TARGET, BPF_SEEN_FIN);
    quiet(5200);
    check_ended(N2_REASON_IDLE_TIMEOUT);
}
END_TEST

/* PLANE-LIFE-070 */
START_TEST(idle_of_datagrams)
{
    fixture.config.udp.idle_timeout_ms = 20000;
    watched_relay_open(&relay);
    quiet(19000);
    ck_assert_uint_eq(relay.ended, 0); /* no accept-timeout */
    carry(BPF_CLIENT, 0);
    see(BPF_CLIENT, BPF_SEEN_PACKET);
    ck_assert_int_eq(state(), FLOW_ST_ESTABLISHED);
    quiet(19000);
    ck_assert_uint_eq(relay.ended, 0);
    quiet(1200);
    check_ended(N2_REASON_IDLE_TIMEOUT);
    watched_relay_init(&relay, &fixture, 4001, 80);
    relay.relay.limits.idle_ms = 7000; /* shorter */
    watched_relay_open(&relay);
    quiet(7200);
    check_ended(N2_REASON_IDLE_TIMEOUT);
}
END_TEST

/* No deadline, no timer: what sleeps costs nothing. */
START_TEST(datagrams_without_limit_have_no_deadline)
{
    watched_relay_open(&relay);
    ck_assert_uint_eq(fixture.plane->deadlines.count, 0);
    watched_relay_finish(&relay, &fixture);
}
END_TEST

/* ---- counters ----------------------------------------------------------------------------------
 */

/* PLANE-LIFE-090 */
START_TEST(final_counters_come_after_20_ms)
{
    struct n2_counters counters;
    uint64_t idle_ms;

    establish();
    carry(BPF_CLIENT, 3000);
    struct bpf_slot *slot = bpf_fixture_slot(&fixture, &relay.relay);
    slot->from[BPF_TARGET].last_ns = 0;
    fixture.plane->base.ops->counters(&fixture.plane->base, &relay.relay, &counters, &idle_ms);
    relay.relay.opened_at_ms -= 10000;
    fixture.plane->base.ops->counters(&fixture.plane->base, &relay.relay, &counters, &idle_ms);
    ck_assert_uint_ge(idle_ms, 2990);
    ck_assert_uint_le(idle_ms, 4000);
    ck_assert_uint_eq(counters.up_packets, 2);
    ck_assert_uint_eq(counters.up_bytes, 200);
    ck_assert_uint_eq(counters.down_packets, 1);

    const uint64_t closed_ms = bpf_fixture_now_ms();
    watched_relay_close(&relay);
    watched_relay_close(&relay); /* idempotent */
    ck_assert_uint_ne(slot->state, BPF_SLOT_OPEN);
    slot->from[BPF_TARGET].packets++; /* the program was under way */
    slot->from[BPF_TARGET].bytes += 7;
    fixture.plane->base.ops->counters(&fixture.plane->base, &relay.relay, &counters, &idle_ms);
    ck_assert_uint_eq(counters.down_packets, 2);
    WAIT_FOR(&fixture, relay.closed == 1);
    ck_assert_uint_ge(relay.closed_ms - closed_ms, 20);
    ck_assert_uint_eq(relay.final.down_packets, 2);
    ck_assert_uint_eq(relay.final.down_bytes, 107);
    ck_assert_uint_eq(relay.final.up_bytes, 200);
}
END_TEST

/* PLANE-LIFE-100 */
START_TEST(flags_are_found_without_hints)
{
    static struct watched_relay others[20];

    for (uint16_t i = 0; i < 20; i++) {
        watched_relay_init(&others[i], &fixture, (uint16_t)(5000 + i), 80);
        watched_relay_open(&others[i]);
    }
    establish();
    bpf_fixture_see(&fixture, &relay.relay, BPF_CLIENT, BPF_SEEN_RST, false);
    bpf_fixture_see(&fixture, &others[19].relay, BPF_CLIENT, BPF_SEEN_PACKET, false);
    for (int i = 0; i < 20; i++)
        bpf_fixture_turn(&fixture);
    ck_assert_uint_eq(relay.ended, 0);
    hints_ops.events_lost(fixture.plane);
    hints_ops.events_lost(fixture.plane);
    WAIT_FOR(&fixture, relay.ended == 1 && others[19].arrived == 1);
    ck_assert_int_eq(relay.reason, N2_REASON_CLIENT_RESET);
    ck_assert_uint_eq(others[18].arrived, 0);
    watched_relay_finish(&relay, &fixture);
    for (int i = 0; i < 20; i++)
        watched_relay_finish(&others[i], &fixture);
}
END_TEST

/* PLANE-SLOT-050 */
START_TEST(a_hint_about_an_earlier_relay_changes_nothing)
{
    watched_relay_open(&relay);
    struct bpf_event event = {.slot = watched_relay_index(&relay, &fixture),
                              .generation =
                                  bpf_fixture_slot(&fixture, &relay.relay)->generation - 1,
                              .seen = BPF_SEEN_PACKET};
    bpf_fixture_see(&fixture, &relay.relay, BPF_CLIENT, BPF_SEEN_PACKET, false);
    hints_ops.event(fixture.plane, &event);
    ck_assert_uint_eq(relay.arrived, 0);
    event.slot = 1000000;
    hints_ops.event(fixture.plane, &event);
    event.slot = watched_relay_index(&relay, &fixture);
    event.generation++;
    hints_ops.event(fixture.plane, &event);
    ck_assert_uint_eq(relay.arrived, 1);
    const uint32_t generation = event.generation;
    watched_relay_finish(&relay, &fixture);
    event.generation = generation;
    hints_ops.event(fixture.plane, &event); /* of a tombstone */
}
END_TEST

/* ---- ways, peers -------------------------------------------------------------------------------
 */

/* PLANE-LIFE-120 */
START_TEST(a_way_that_changes_is_followed)
{
    establish();
    bpf_fixture_ways_change(&fixture, 9, NULL);
    const struct bpf_slot *slot = bpf_fixture_slot(&fixture, &relay.relay);
    WAIT_FOR(&fixture, slot->side[BPF_CLIENT].interface == 9);
    ck_assert_uint_eq(slot->side[BPF_TARGET].interface, 9);
    bpf_fixture_ways_change(&fixture, 0, "no route");
    WAIT_FOR(&fixture, slot->side[BPF_CLIENT].interface == 0);
    ck_assert_uint_eq(slot->side[BPF_TARGET].hop, 0);
    quiet(9000);
    ck_assert_uint_eq(relay.ended, 0);
    bpf_fixture_ways_change(&fixture, 8, NULL);
    WAIT_FOR(&fixture, slot->side[BPF_TARGET].interface == 8);
    ck_assert_uint_eq(slot->side[BPF_TARGET].hop, FIXTURE_HOP);
    quiet(30000);
    ck_assert_uint_eq(relay.ended, 0);
    watched_relay_finish(&relay, &fixture);
}
END_TEST

/* PLANE-LIFE-120 */
START_TEST(a_way_that_stays_lost_ends_its_relays)
{
    establish();
    bpf_fixture_ways_change(&fixture, 0, "no route");
    const struct bpf_slot *slot = bpf_fixture_slot(&fixture, &relay.relay);
    WAIT_FOR(&fixture, slot->side[BPF_CLIENT].interface == 0);
    quiet(9500);
    ck_assert_uint_eq(relay.ended, 0);
    quiet(700);
    check_ended(N2_REASON_PLANE_LOST);
}
END_TEST

/* PLANE-LIFE-110 */
START_TEST(a_lost_peer_is_one_write)
{
    struct relay_peer other = {.index = 4};

    watched_relay_open(&relay);
    const struct bpf_slot *slot = bpf_fixture_slot(&fixture, &relay.relay);
    fixture.plane->base.ops->peer_lost(&fixture.plane->base, &other);
    ck_assert_uint_eq(slot->epoch, fixture.globals.peers[slot->peer]);
    fixture.plane->base.ops->peer_lost(&fixture.plane->base, &fixture.peer);
    ck_assert_uint_ne(slot->epoch, fixture.globals.peers[slot->peer]);
    watched_relay_finish(&relay, &fixture);
}
END_TEST

/* ---- many ------------------------------------------------------------------------------------
 */

#define MANY 5000

static void setup_many(void)
{
    struct bpf_fixture_options options = bpf_fixture_standard();

    options.ptcl = PTCL_UDP;
    options.slots = options.relays = MANY + 100;
    bpf_fixture_setup(&fixture, &options);
}

/* PLANE-LIFE-110: what is left of relays that end together is dealt with in pieces, between which
 * the loop turns. */
START_TEST(many_that_end_together_do_not_keep_the_loop)
{
    static struct watched_relay relays[MANY];
    unsigned closed, before = 0, turns = 0;

    for (unsigned i = 0; i < MANY; i++) {
        watched_relay_init(&relays[i], &fixture, (uint16_t)(1000 + i), (uint16_t)(1000 + i));
        watched_relay_open(&relays[i]);
    }
    for (unsigned i = 0; i < MANY; i++)
        watched_relay_close(&relays[i]);
    usleep((FLOW_SETTLE_MS + 5) * 1000); /* all of them are due at once */
    do {
        bpf_fixture_turn(&fixture);
        closed = 0;
        for (unsigned i = 0; i < MANY; i++)
            closed += relays[i].closed;
        turns += closed > before;
        before = closed;
    } while (closed < MANY);
    ck_assert_uint_gt(turns, 1);
}
END_TEST

/* ---- datagrams that relayd sends on ------------------------------------------------------------
 */

static bool find_for(const struct endpoint *peer, const struct endpoint *local, uint32_t octets,
                     struct slow_path_way *way)
{
    return hints_slow_path.find(fixture.plane, peer, local, octets, way);
}

static bool find(const struct endpoint *peer, const struct endpoint *local,
                 struct slow_path_way *way)
{
    return find_for(peer, local, 100, way);
}

START_TEST(the_slow_path_finds_and_counts)
{
    struct slow_path_way way;
    struct n2_counters counters;
    uint64_t idle_ms;

    watched_relay_open(&relay);
    const struct endpoint source = relay.relay.source, bound = relay.relay.bound;
    const struct endpoint target = relay.relay.destination, egress = relay.relay.egress;
    ck_assert(!find(&target, &bound, &way));
    ck_assert(!find(&source, &egress, &way));
    ck_assert(find(&source, &bound, &way));
    ck_assert(endpoint_equal(&way.peer, &target));
    struct endpoint name = socket_name(way.fd);
    ck_assert(endpoint_equal(&name, &egress));
    hints_slow_path.sent(fixture.plane, 3000, 0);
    ck_assert_uint_eq(relay.arrived, 1);
    ck_assert(find(&target, &egress, &way));
    ck_assert(endpoint_equal(&way.peer, &source));
    name = socket_name(way.fd);
    ck_assert(endpoint_equal(&name, &bound));
    hints_slow_path.sent(fixture.plane, 2000, 0);
    hints_slow_path.sent(fixture.plane, 2000, -1);
    fixture.plane->base.ops->counters(&fixture.plane->base, &relay.relay, &counters, &idle_ms);
    ck_assert_uint_eq(counters.up_packets, 1);
    ck_assert_uint_eq(counters.up_bytes, 3000);
    ck_assert_uint_eq(counters.down_packets, 1);
    ck_assert_uint_eq(counters.down_bytes, 2000);
    ck_assert_uint_lt(idle_ms, 1000);
    watched_relay_close(&relay);
    ck_assert(!find(&source, &bound, &way));
    watched_relay_finish(&relay, &fixture);
    ck_assert(!find(&source, &bound, &way));
}
END_TEST

/* PLANE-LIMIT-010, PLANE-LIFE-110 */
START_TEST(the_slow_path_knows_limits_and_lost_peers)
{
    struct slow_path_way way;

    relay.relay.limits.max_bytes = 5000;
    watched_relay_open(&relay);
    ck_assert(find_for(&relay.relay.source, &relay.relay.bound, 4999, &way));
    hints_slow_path.sent(fixture.plane, 4999, 0);
    ck_assert(find_for(&relay.relay.destination, &relay.relay.egress, 1, &way));
    hints_slow_path.sent(fixture.plane, 1, 0);
    ck_assert(find_for(&relay.relay.destination, &relay.relay.egress, 0, &way));
    ck_assert_uint_eq(relay.ended, 0);
    ck_assert(!find_for(&relay.relay.source, &relay.relay.bound, 1, &way));
    ck_assert_uint_eq(fixture.plane->count.slow_limited, 1);
    check_ended(N2_REASON_LIMIT);
    watched_relay_init(&relay, &fixture, 4001, 80);
    watched_relay_open(&relay);
    fixture.plane->base.ops->peer_lost(&fixture.plane->base, &fixture.peer);
    ck_assert(!find(&relay.relay.source, &relay.relay.bound, &way));
    watched_relay_finish(&relay, &fixture);
}
END_TEST

/* PLANE-LIMIT-020 */
START_TEST(the_slow_path_keeps_to_the_rate)
{
    struct slow_path_way way;
    unsigned sent = 0;

    relay.relay.limits.bytes_per_second = 100000; /* and so much fits the bucket */
    watched_relay_open(&relay);
    ck_assert_uint_eq(bpf_fixture_slot(&fixture, &relay.relay)->bytes_per_second, 100000);
    const uint64_t began_ms = bpf_fixture_now_ms();
    while (find_for(&relay.relay.source, &relay.relay.bound, 10000, &way) && sent < 1000)
        sent++;
    const uint64_t may_be = (100000 + 100 * (bpf_fixture_now_ms() - began_ms)) / 10000;
    ck_assert_uint_ge(sent, 100000 / 10000);
    ck_assert_uint_le(sent, may_be + 1);
    ck_assert_uint_ge(fixture.plane->count.slow_limited, 1);
    /* The other direction has a bucket of its own, and time fills both. */
    ck_assert(find_for(&relay.relay.destination, &relay.relay.egress, 10000, &way));
    WAIT_FOR(&fixture, find_for(&relay.relay.source, &relay.relay.bound, 10000, &way));
    ck_assert_uint_ge(bpf_fixture_now_ms() - began_ms,
                      ((sent + 1) * UINT64_C(10000) - 100000) / 100 - 2);
    ck_assert_uint_eq(relay.ended, 0);
    watched_relay_finish(&relay, &fixture);
}
END_TEST

static void add(Suite *suite, const char *name, SFun begin, const TTest *const tests[])
{
    TCase *tcase = tcase_create(name);

    tcase_add_checked_fixture(tcase, begin, teardown);
    for (size_t i = 0; tests[i] != NULL; i++)
        tcase_add_test(tcase, tests[i]);
    suite_add_tcase(suite, tcase);
}

int main(void)
{
    bpf_fixture_require();
    Suite *suite = suite_create("bpf_flow");
    add(suite, "tcp", setup,
        (const TTest *const[]){open_at_once_and_active_with_the_first_packet,
                               a_client_that_never_comes,
                               a_target_that_never_answers,
                               unreachable_is_told_once,
                               half_close,
                               half_close_of_the_client_is_not_told,
                               both_fins_acknowledged,
                               a_fin_that_is_not_acknowledged,
                               no_linger_lasts_for_ever,
                               resets,
                               the_limit_of_octets,
                               idle,
                               idle_while_half_closed,
                               final_counters_come_after_20_ms,
                               flags_are_found_without_hints,
                               a_hint_about_an_earlier_relay_changes_nothing,
                               a_way_that_changes_is_followed,
                               a_way_that_stays_lost_ends_its_relays,
                               a_lost_peer_is_one_write,
                               NULL});
    add(suite, "udp", setup_udp,
        (const TTest *const[]){idle_of_datagrams, datagrams_without_limit_have_no_deadline,
                               the_slow_path_finds_and_counts,
                               the_slow_path_knows_limits_and_lost_peers,
                               the_slow_path_keeps_to_the_rate, NULL});
    add(suite, "many", setup_many,
        (const TTest *const[]){many_that_end_together_do_not_keep_the_loop, NULL});
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
