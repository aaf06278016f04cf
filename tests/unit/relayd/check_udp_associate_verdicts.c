/*
 * UDP ASSOCIATE and socksd's verdicts: nothing leaves without one (N2-AUTH-010), none lives longer
 * than it may (N2-AUTH-020), it is followed to the letter (N2-AUTH-030), questions are bounded
 * (N2-AUTH-040), and so is what waits for them (N2-AUTH-050).
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "relayd/plane/socket/associate_destinations.h"
#include "tests/unit/relayd/association.h"

#define TARGETS 100

static struct plane_fixture fixture;
static struct association a;
static int target;
static struct endpoint name;
static struct n1_host to;

static void setup(void)
{
    plane_fixture_setup(&fixture);
    association_init(&a, &fixture, false);
    target = target_open(PARTY_TARGET, false);
    name = socket_name(target);
    to = host_of(&name);
}

static void teardown(void)
{
    close(target);
    association_dispose(&a);
    plane_fixture_teardown(&fixture);
}

static void open_asking(void)
{
    a.automatic = false;
    association_open(&a);
}

static void turn_for(uint64_t ms)
{
    const uint64_t until = monotonic_ms() + ms;

    while (monotonic_ms() < until)
        plane_fixture_turn(&fixture);
}

static uint64_t unanswered(void)
{
    return association_figures(&a)->unanswered;
}

static uint64_t denied(void)
{
    return association_figures(&a)->denied;
}

/* ---- asking ------------------------------------------------------------------------------------
 */

/* What comes before the verdict waits for it, and keeps its order. One question is enough. */
START_TEST(test_late)
{
    open_asking();
    for (unsigned i = 0; i < 10; i++)
        association_send(&a, &to, i, i * 10);
    association_asked(&a, 1);
    expect_silence(&fixture, target);
    ck_assert_uint_eq(association_figures(&a)->held_octets, 450);
    association_answer(&a, 0, &a.verdict);
    for (unsigned i = 0; i < 10; i++)
        target_expect(&fixture, target, i, i * 10, NULL);
    ck_assert_uint_eq(association_figures(&a)->held_octets, 0);
    association_send(&a, &to, 3, 4);
    target_expect(&fixture, target, 3, 4, NULL);
    ck_assert_uint_eq(a.asked, 1);
}
END_TEST

/* No answer, or none about this relay: what waited is lost, and later it is asked again. */
START_TEST(test_never)
{
    const struct n2_authorized foreign = {
        .relay = 8, .allowed = true, .ttl_ms = 60000, .address_count = 1};

    open_asking();
    association_send(&a, &to, 0, 10);
    association_send(&a, &to, 0, 11);
    association_asked(&a, 1);
    WAIT_FOR(&fixture, association_figures(&a)->held_octets == 21);
    association_answer(&a, 0, _i == 0 ? NULL : &foreign);
    ck_assert_uint_eq(unanswered(), 2);
    association_send(&a, &to, 0, 12); /* within the second */
    WAIT_FOR(&fixture, unanswered() == 3);
    ck_assert_uint_eq(a.asked, 1);
    turn_for(1050);
    association_send(&a, &to, 1, 13);
    association_asked(&a, 2);
    association_answer(&a, 1, &a.verdict);
    target_expect(&fixture, target, 1, 13, NULL);
    ck_assert_uint_eq(a.relay.ended, 0);
}
END_TEST

/* What keeps relayd from asking: congestion, a peer that has gone, the floor. */
START_TEST(test_cannot_ask)
{
    open_asking();
    if (_i == 0)
        a.ask_result = -EAGAIN;
    else if (_i == 1)
        a.peer.lost = true;
    else
        a.relay.forbidden = name.address;
    association_send(&a, &to, 0, 10);
    WAIT_FOR(&fixture, (_i == 2 ? denied() : unanswered()) == 1);
    ck_assert_uint_eq(a.asked, 0);
    expect_silence(&fixture, target);
    ck_assert_uint_eq(a.relay.ended, 0);
    if (_i != 0)
        return;
    a.ask_result = 0;
    turn_for(1050);
    association_send(&a, &to, 1, 13);
    association_asked(&a, 1);
    association_answer(&a, 0, &a.verdict);
    target_expect(&fixture, target, 1, 13, NULL);
}
END_TEST

START_TEST(test_denied)
{
    open_asking();
    a.verdict.allowed = false;
    a.verdict.ttl_ms = _i == 0 ? 60000 : 0; /* a second at least */
    association_send(&a, &to, 0, 10);
    association_send(&a, &to, 0, 10);
    association_asked(&a, 1);
    WAIT_FOR(&fixture, association_figures(&a)->held_octets == 20);
    association_answer(&a, 0, &a.verdict);
    ck_assert_uint_eq(denied(), 2);
    for (unsigned i = 0; i < 50; i++)
        association_send(&a, &to, 0, 10);
    WAIT_FOR(&fixture, denied() == 52);
    ck_assert_uint_eq(a.asked, 1);
    expect_silence(&fixture, target);
    turn_for(1050);
    association_send(&a, &to, 0, 10);
    if (_i == 0) {
        WAIT_FOR(&fixture, denied() == 53);
        ck_assert_uint_eq(a.asked, 1);
    } else {
        association_asked(&a, 2);
    }
}
END_TEST

/* ---- names -------------------------------------------------------------------------------------
 */

/* A name with several addresses: the first that may and can be reached; the client is told which
 * address answered. */
START_TEST(test_name)
{
    const struct n1_host named = host_named("several.example", name.port);
    struct endpoint egress;

    open_asking();
    a.relay.forbidden = party_address(PARTY_STRANGER, false);
    fixture.config.egress.addresses.count = 1; /* IPv4 */
    a.verdict.address_count = 3;
    a.verdict.addresses[0] = party_address(PARTY_TARGET, true);
    a.verdict.addresses[1] = a.relay.forbidden;
    a.verdict.addresses[2] = name.address;
    association_send(&a, &named, 2, 3);
    association_asked(&a, 1);
    ck_assert_str_eq(a.questions[0].what.name, "several.example");
    ck_assert_int_eq(a.questions[0].what.address.family, IP_NONE);
    ck_assert_uint_eq(a.questions[0].what.port, name.port);
    association_answer(&a, 0, &a.verdict);
    target_expect(&fixture, target, 2, 3, &egress);
    target_send(target, &egress, 4, 5);
    association_expect(&a, &name, 4, 5);
}
END_TEST

/* Addresses without a route are passed over. */
START_TEST(test_name_with_unroutable_addresses)
{
    const struct n1_host named = host_named("several.example", name.port);

    fixture.config.egress.addresses.count = 0;
    open_asking();
    a.verdict.address_count = 3;
    ck_assert_int_eq(ip_address_parse("192.0.2.1", &a.verdict.addresses[0]), 0);
    ck_assert_int_eq(ip_address_parse("2001:db8:ffff::1", &a.verdict.addresses[1]), 0);
    a.verdict.addresses[2] = name.address;
    association_send(&a, &named, 2, 3);
    association_asked(&a, 1);
    association_answer(&a, 0, &a.verdict);
    target_expect(&fixture, target, 2, 3, NULL);
}
END_TEST

/* A name that leads nowhere: allowed, but without an address, or to what the floor forbids. */
START_TEST(test_name_without_address)
{
    const struct n1_host named = host_named("nowhere.example", name.port);

    open_asking();
    if (_i == 0)
        a.verdict.address_count = 0;
    else
        a.relay.forbidden = name.address;
    association_send(&a, &named, 2, 3);
    association_asked(&a, 1);
    association_answer(&a, 0, &a.verdict);
    ck_assert_uint_eq(denied(), 1);
    expect_silence(&fixture, target);
}
END_TEST

/* By address, the verdict is about that address, whatever else is in the answer. */
START_TEST(test_address_is_not_exchanged)
{
    const int other = target_open(PARTY_STRANGER, false);

    open_asking();
    a.verdict.addresses[0] = party_address(PARTY_STRANGER, false);
    association_send(&a, &to, 2, 3);
    association_asked(&a, 1);
    association_answer(&a, 0, &a.verdict);
    target_expect(&fixture, target, 2, 3, NULL);
    expect_silence(&fixture, other);
    close(other);
}
END_TEST

/* ---- how long ----------------------------------------------------------------------------------
 */

/* After its time a verdict is asked for again; a name that still has the address in use keeps it.
 */
START_TEST(test_ttl)
{
    const struct n1_host named = host_named("changing.example", name.port);
    const int other = party_socket(PARTY_STRANGER, false, SOCK_DGRAM, name.port);
    struct endpoint egress;

    set_blocking(other, false);
    open_asking();
    a.verdict.ttl_ms = 100;
    association_send(&a, &named, 0, 1);
    association_asked(&a, 1);
    association_answer(&a, 0, &a.verdict);
    target_expect(&fixture, target, 0, 1, &egress);
    turn_for(220); /* twice its time: there is nothing left to go on by */
    association_send(&a, &named, 1, 2);
    association_asked(&a, 2);
    expect_silence(&fixture, target);
    /* Meanwhile the host is heard. */
    target_send(target, &egress, 5, 6);
    association_expect(&a, &name, 5, 6);
    a.verdict.address_count = 2;
    a.verdict.addresses[0] = party_address(PARTY_STRANGER, false);
    a.verdict.addresses[1] = name.address;
    association_answer(&a, 1, &a.verdict);
    target_expect(&fixture, target, 1, 2, NULL);
    turn_for(220);
    association_send(&a, &named, 2, 3);
    association_asked(&a, 3);
    a.verdict.address_count = 1; /* it has moved */
    a.verdict.ttl_ms = 60000;
    association_answer(&a, 2, &a.verdict);
    target_expect(&fixture, other, 2, 3, NULL);
    target_send(target, &egress, 5, 6);
    WAIT_FOR(&fixture, association_figures(&a)->unsolicited == 1);
    expect_silence(&fixture, target);
    close(other);
}
END_TEST

/* While a verdict is renewed datagrams go on, more of them than could wait; the answer counts from
 * when it comes. _i: what that is. */
START_TEST(test_renewal)
{
    open_asking();
    a.verdict.ttl_ms = 500;
    association_send(&a, &to, 0, 1);
    association_asked(&a, 1);
    association_answer(&a, 0, &a.verdict);
    target_expect(&fixture, target, 0, 1, NULL);
    turn_for(520);
    for (unsigned i = 0; i < 10 * ASSOCIATE_WAITING_MAX; i++) {
        association_send(&a, &to, i, 2);
        target_expect(&fixture, target, i, 2, NULL);
    }
    ck_assert_uint_eq(a.asked, 2);
    ck_assert_uint_eq(association_figures(&a)->held_octets, 0);
    a.verdict.allowed = _i == 0;
    association_answer(&a, 1, _i == 2 ? NULL : &a.verdict);
    association_send(&a, &to, 3, 4);
    if (_i == 0) {
        target_expect(&fixture, target, 3, 4, NULL);
    } else {
        WAIT_FOR(&fixture, (_i == 1 ? denied() : unanswered()) == 1);
        expect_silence(&fixture, target);
    }
    ck_assert_uint_eq(a.asked, 2);
}
END_TEST

/* … but not by a verdict of rules that hold no more. */
START_TEST(test_renewal_under_new_policy)
{
    open_asking();
    a.verdict.ttl_ms = 500;
    association_send(&a, &to, 0, 1);
    association_asked(&a, 1);
    association_answer(&a, 0, &a.verdict);
    target_expect(&fixture, target, 0, 1, NULL);
    turn_for(520);
    association_send(&a, &to, 1, 2);
    association_asked(&a, 2);
    target_expect(&fixture, target, 1, 2, NULL);
    relay_policy_changed(&a.peer, a.verdict.generation + 1);
    association_send(&a, &to, 2, 3);
    WAIT_FOR(&fixture, association_figures(&a)->held_octets == 3);
    expect_silence(&fixture, target);
}
END_TEST

/* Without a time a verdict is good for what waited. */
START_TEST(test_ttl_zero)
{
    open_asking();
    a.verdict.ttl_ms = 0;
    association_send(&a, &to, 0, 1);
    association_asked(&a, 1);
    association_answer(&a, 0, &a.verdict);
    target_expect(&fixture, target, 0, 1, NULL);
    association_send(&a, &to, 1, 2);
    association_asked(&a, 2);
    association_answer(&a, 1, &a.verdict);
    target_expect(&fixture, target, 1, 2, NULL);
}
END_TEST

/* PolicyChanged: verdicts of older generations are asked for again, those of the new one, which may
 * come before it, are not; denials too. */
START_TEST(test_policy_changed)
{
    const int other = target_open(PARTY_STRANGER, false);
    const struct endpoint other_name = socket_name(other);
    const struct n1_host to_other = host_of(&other_name);

    open_asking();
    a.verdict.generation = 4;
    association_send(&a, &to, 0, 1);
    association_asked(&a, 1);
    association_answer(&a, 0, &a.verdict);
    target_expect(&fixture, target, 0, 1, NULL);
    a.verdict.generation = 5;
    a.verdict.allowed = false;
    association_send(&a, &to_other, 0, 1);
    association_asked(&a, 2);
    association_answer(&a, 1, &a.verdict);
    relay_policy_changed(&a.peer, 4); /* known */
    association_send(&a, &to, 1, 2);
    target_expect(&fixture, target, 1, 2, NULL);
    relay_policy_changed(&a.peer, 5);
    association_send(&a, &to_other, 0, 1); /* judged by it already */
    WAIT_FOR(&fixture, denied() == 2);
    ck_assert_uint_eq(a.asked, 2);
    association_send(&a, &to, 2, 3);
    association_asked(&a, 3);
    association_answer(&a, 2, &a.verdict);
    ck_assert_uint_eq(denied(), 3);
    relay_policy_changed(&a.peer, 6);
    association_send(&a, &to_other, 3, 4);
    association_asked(&a, 4);
    a.verdict.generation = 6;
    a.verdict.allowed = true;
    association_answer(&a, 3, &a.verdict);
    target_expect(&fixture, other, 3, 4, NULL);
    expect_silence(&fixture, target);
    close(other);
}
END_TEST

/* An answer that was outdated when it came is none; a second one of that kind is given up. */
START_TEST(test_outdated_answer)
{
    open_asking();
    association_send(&a, &to, 0, 1);
    association_asked(&a, 1);
    relay_policy_changed(&a.peer, 9);
    a.verdict.generation = 8;
    association_answer(&a, 0, &a.verdict);
    association_asked(&a, 2);
    if (_i == 0) {
        a.verdict.generation = 9;
        association_answer(&a, 1, &a.verdict);
        target_expect(&fixture, target, 0, 1, NULL);
        return;
    }
    association_answer(&a, 1, &a.verdict);
    expect_silence(&fixture, target);
    ck_assert_uint_eq(a.asked, 2);
    ck_assert_uint_eq(unanswered(), 1);
}
END_TEST

/* ---- bounds ------------------------------------------------------------------------------------
 */

/* Sixteen datagrams for one destination, the first ones. */
START_TEST(test_waiting_datagrams)
{
    open_asking();
    for (unsigned i = 0; i < ASSOCIATE_WAITING_MAX + 5; i++)
        association_send(&a, &to, i, 20);
    WAIT_FOR(&fixture, unanswered() == 5);
    association_answer(&a, 0, &a.verdict);
    for (unsigned i = 0; i < ASSOCIATE_WAITING_MAX; i++)
        target_expect(&fixture, target, i, 20, NULL);
    expect_silence(&fixture, target);
}
END_TEST

/* Octets for all destinations of a relay, and for all relays. */
START_TEST(test_waiting_octets)
{
    const size_t size = 60000;
    const unsigned fit = _i == 0 ? (unsigned)(ASSOCIATE_WAITING_OCTETS_MAX / size) : 2;
    struct endpoint other = name;

    open_asking();
    if (_i == 1)
        association_figures(&a)->held_octets = ASSOCIATE_HELD_MAX - fit * size;
    for (unsigned i = 0; i < fit + 2; i++) {
        other.port = (uint16_t)(1000 + i);
        const struct n1_host to_other = host_of(&other);
        association_send(&a, &to_other, 0, size);
        WAIT_FOR(&fixture, a.asked == i + 1);
    }
    ck_assert_uint_eq(unanswered(), 2);
    if (_i == 1) {
        ck_assert_uint_eq(association_figures(&a)->held_octets, ASSOCIATE_HELD_MAX);
        association_figures(&a)->held_octets = fit * size;
    }
    ck_assert_uint_eq(association_figures(&a)->held_octets, fit * size);
    /* What is answered makes room. */
    association_answer(&a, 0, NULL);
    association_send(&a, &to, 7, size);
    association_asked(&a, fit + 3);
    association_answer(&a, fit + 2, &a.verdict);
    target_expect(&fixture, target, 7, size, NULL);
}
END_TEST

/* No more questions at once than socksd takes; all are asked in the end. */
START_TEST(test_questions_in_flight)
{
    int targets[TARGETS];

    open_asking();
    for (unsigned i = 0; i < TARGETS; i++) {
        targets[i] = target_open(PARTY_TARGET, false);
        const struct endpoint one = socket_name(targets[i]);
        const struct n1_host to_one = host_of(&one);
        association_send(&a, &to_one, i, 10);
    }
    WAIT_FOR(&fixture, association_figures(&a)->held_octets == (uint64_t)TARGETS * 10);
    ck_assert_uint_eq(a.asked, ASSOCIATE_QUESTIONS_MAX);
    a.automatic = true;
    for (unsigned i = 0; i < TARGETS; i++) {
        target_expect(&fixture, targets[i], i, 10, NULL);
        close(targets[i]);
    }
    ck_assert_uint_eq(a.asked, TARGETS);
    ck_assert_uint_eq(a.in_flight_most, ASSOCIATE_QUESTIONS_MAX);
}
END_TEST

/* Twenty destinations in turn, each of which answers. */
START_TEST(test_twenty_destinations)
{
    int targets[20];
    struct endpoint names[20], egress;
    struct n1_host hosts[20];

    association_open(&a);
    for (unsigned i = 0; i < 20; i++) {
        targets[i] = target_open(PARTY_TARGET, i % 2 == 1);
        names[i] = socket_name(targets[i]);
        hosts[i] = host_of(&names[i]);
    }
    for (unsigned round = 0; round < 30; round++) {
        for (unsigned i = 0; i < 20; i++)
            association_send(&a, &hosts[i], i + round, 10 + i);
        for (unsigned i = 0; i < 20; i++) {
            target_expect(&fixture, targets[i], i + round, 10 + i, &egress);
            target_send(targets[i], &egress, 2 * i + round, 30 + i);
        }
        for (unsigned i = 0; i < 20; i += 2)
            association_expect(&a, &names[i], 2 * i + round, 30 + i);
        for (unsigned i = 1; i < 20; i += 2)
            association_expect(&a, &names[i], 2 * i + round, 30 + i);
    }
    ck_assert_uint_eq(a.asked, 20);
    for (unsigned i = 0; i < 20; i++)
        close(targets[i]);
}
END_TEST

/* The least recently used destination makes room: its host is not heard any more, its question is
 * withdrawn, what waited for it is lost. To be heard counts as use. */
START_TEST(test_least_recently_used)
{
    const char *const hosts[] = {"127.0.0.11:9", "127.0.0.12:9", "127.0.0.13:9", "127.0.0.14:9"};
    struct endpoint names[4], egress;
    struct n1_host to_each[4];
    int fds[4];

    fixture.config.udp.destinations = 3;
    association_open(&a);
    for (unsigned i = 0; i < 4; i++) {
        ck_assert_int_eq(endpoint_parse(hosts[i], &names[i]), 0);
        fds[i] = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
        struct sockaddr_in address = {.sin_family = AF_INET};
        memcpy(&address.sin_addr, names[i].address.bytes, 4);
        ck_assert_int_eq(bind(fds[i], (struct sockaddr *)&address, sizeof(address)), 0);
        names[i] = socket_name(fds[i]);
        to_each[i] = host_of(&names[i]);
    }
    for (unsigned i = 0; i < 3; i++) {
        association_send(&a, &to_each[i], i, 1);
        target_expect(&fixture, fds[i], i, 1, &egress);
    }
    target_send(fds[0], &egress, 0, 5); /* 0 is heard, so 1 is the one that goes */
    association_expect(&a, &names[0], 0, 5);
    association_send(&a, &to_each[3], 3, 1);
    target_expect(&fixture, fds[3], 3, 1, NULL);
    target_send(fds[1], &egress, 0, 6);
    WAIT_FOR(&fixture, association_figures(&a)->unsolicited == 1);
    target_send(fds[0], &egress, 0, 7);
    association_expect(&a, &names[0], 0, 7);
    ck_assert_uint_eq(a.asked, 4);
    /* Three new ones in a row, and another one: the first of them never hears its verdict. */
    a.automatic = false;
    for (unsigned i = 0; i < 4; i++) {
        const struct endpoint next = {.address = names[0].address, .port = (uint16_t)(1 + i)};
        const struct n1_host to_next = host_of(&next);
        association_send(&a, &to_next, 0, 10);
    }
    association_asked(&a, 8);
    ck_assert_uint_eq(a.cancelled, 1);
    ck_assert_ptr_null(a.questions[4].question);
    ck_assert_uint_eq(unanswered(), 1);
    ck_assert_uint_eq(association_figures(&a)->held_octets, 30);
    for (unsigned i = 0; i < 4; i++)
        close(fds[i]);
}
END_TEST

/* When all relays together remember too much, one keeps its due, and what it used last. */
START_TEST(test_destinations_of_all_relays)
{
    struct associate_figures *figures = association_figures(&a);
    struct endpoint next = {.address = name.address};
    const uint64_t others = ASSOCIATE_DESTINATIONS_MAX - 10;

    association_open(&a);
    figures->destinations = others;
    for (unsigned i = 0; i < ASSOCIATE_DESTINATIONS_DUE + 10; i++) {
        next.port = (uint16_t)(1000 + i);
        const struct n1_host to_next = host_of(&next);
        association_send(&a, &to_next, 0, 1);
        WAIT_FOR(&fixture, a.asked == i + 1);
    }
    ck_assert_uint_eq(figures->destinations, others + ASSOCIATE_DESTINATIONS_DUE);
    association_send(&a, &to, 1, 2);
    target_expect(&fixture, target, 1, 2, NULL);
    ck_assert_uint_eq(figures->destinations, others + ASSOCIATE_DESTINATIONS_DUE);
    fake_relay_close(&a.relay, true);
    ck_assert_uint_eq(figures->destinations, others);
}
END_TEST

/* The answer to a question may find the relay at its limit: what waited ends it. */
START_TEST(test_limit_when_delivered)
{
    a.relay.relay.limits.max_bytes = 25;
    open_asking();
    for (unsigned i = 0; i < 3; i++)
        association_send(&a, &to, i, 10);
    association_asked(&a, 1);
    WAIT_FOR(&fixture, association_figures(&a)->held_octets == 30);
    association_answer(&a, 0, &a.verdict);
    ck_assert_uint_eq(a.relay.ended, 1);
    ck_assert_int_eq(a.relay.reason, N2_REASON_LIMIT);
    for (unsigned i = 0; i < 2; i++)
        target_expect(&fixture, target, i, 10, NULL);
    expect_silence(&fixture, target);
}
END_TEST

/* N2 is lost: what is asked is answered with nothing, then the relay is closed. */
START_TEST(test_peer_lost)
{
    open_asking();
    association_send(&a, &to, 0, 10);
    association_asked(&a, 1);
    association_answer(&a, 0, NULL);
    a.peer.lost = true;
    fake_relay_close(&a.relay, true);
    expect_silence(&fixture, target);
    ck_assert_uint_eq(a.relay.closed, 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("udp_associate_verdicts");
    TCase *tests = tcase_create("udp_associate_verdicts");
    SRunner *runner = srunner_create(suite);

    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, test_late);
    tcase_add_loop_test(tests, test_never, 0, 2);
    tcase_add_loop_test(tests, test_cannot_ask, 0, 3);
    tcase_add_loop_test(tests, test_denied, 0, 2);
    tcase_add_test(tests, test_name);
    tcase_add_test(tests, test_name_with_unroutable_addresses);
    tcase_add_loop_test(tests, test_name_without_address, 0, 2);
    tcase_add_test(tests, test_address_is_not_exchanged);
    tcase_add_test(tests, test_ttl);
    tcase_add_loop_test(tests, test_renewal, 0, 3);
    tcase_add_test(tests, test_renewal_under_new_policy);
    tcase_add_test(tests, test_ttl_zero);
    tcase_add_test(tests, test_policy_changed);
    tcase_add_loop_test(tests, test_outdated_answer, 0, 2);
    tcase_add_test(tests, test_waiting_datagrams);
    tcase_add_loop_test(tests, test_waiting_octets, 0, 2);
    tcase_add_test(tests, test_questions_in_flight);
    tcase_add_test(tests, test_twenty_destinations);
    tcase_add_test(tests, test_least_recently_used);
    tcase_add_test(tests, test_destinations_of_all_relays);
    tcase_add_test(tests, test_limit_when_delivered);
    tcase_add_test(tests, test_peer_lost);
    suite_add_tcase(suite, tests);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
