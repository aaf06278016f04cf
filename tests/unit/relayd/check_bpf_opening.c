/*
 * How a relay gets onto the BPF plane: refusals, ports of its own and shared ones, tombstones in
 * the way, full tables.
 */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/net/sockaddr.h"
#include "relayd/plane/bpf/slot.h"
#include "tests/unit/relayd/bpf_fixture.h"

#define MANY 40

static struct bpf_fixture fixture;
static struct bpf_fixture_options options;
static struct watched_relay relays[MANY];

static void setup(void)
{
    options = bpf_fixture_standard();
}

static void begin(void)
{
    bpf_fixture_setup(&fixture, &options);
}

static void open_one(unsigned i, uint16_t dst)
{
    watched_relay_init(&relays[i], &fixture, (uint16_t)(4000 + i), dst);
    watched_relay_open(&relays[i]);
}

static void carry_something(unsigned i)
{
    bpf_fixture_see(&fixture, &relays[i].relay, BPF_CLIENT, BPF_SEEN_PACKET | BPF_SEEN_SYN, true);
}

static void finish(unsigned first, unsigned last)
{
    for (unsigned i = first; i <= last; i++)
        watched_relay_close(&relays[i]);
    for (unsigned i = first; i <= last; i++)
        WAIT_FOR(&fixture, relays[i].closed == 1);
}

/* ---- refusals ----------------------------------------------------------------------------------
 */

static void expect_refusal(const char *text)
{
    const char *refusal = watched_relay_try(&relays[0]);

    ck_assert_ptr_nonnull(refusal);
    ck_assert_str_eq(refusal, text);
    ck_assert_uint_lt(strlen(refusal), N2_LABEL_MAX);
    ck_assert_uint_eq(relays[0].opened + relays[0].failed, 0);
    ck_assert_uint_eq(bpf_fixture_ways(), 0);
    ck_assert_uint_eq(bpf_fixture_endpoints(&fixture), 0);
}

/* PLANE-SLOT-070 */
START_TEST(what_the_plane_does_not_carry)
{
    begin();
    watched_relay_init(&relays[0], &fixture, 4000, 80);
    relays[0].relay.kind = N2_KIND_CONNECT;
    expect_refusal("the kernel carries TRANSPARENT alone");
    watched_relay_init(&relays[0], &fixture, 0, 80);
    relays[0].relay.learn_source_port = true;
    expect_refusal("the port of S is to be learnt");
    watched_relay_init(&relays[0], &fixture, 4000, 80);
    relays[0].relay.destination.address = party_address(PARTY_TARGET, true);
    expect_refusal("S and DST are of different families");
    watched_relay_init(&relays[0], &fixture, 4000, 80);
    relays[0].order.egress_hint = party_address(PARTY_STRANGER, false);
    expect_refusal("no egress address for DST");
    bpf_fixture_teardown(&fixture);
}
END_TEST

/* PLANE-SLOT-070 */
START_TEST(ways_that_cannot_be_used)
{
    begin();
    watched_relay_init(&relays[0], &fixture, 4000, 80);
    bpf_fixture_way_problem("no attached interface leads there");
    expect_refusal("S: no attached interface leads there");
    bpf_fixture_way_problem("the peer is this host");
    expect_refusal("S: the peer is this host");
    bpf_fixture_way_problem(NULL);
    watched_relay_init(&relays[1], &fixture, 4001, 80);
    watched_relay_open(&relays[1]); /* S's way exists, and is in order */
    relays[0].relay.destination.address = party_address(PARTY_STRANGER, false);
    bpf_fixture_way_problem("no route");
    const char *refusal = watched_relay_try(&relays[0]);
    ck_assert_ptr_nonnull(refusal);
    ck_assert_str_eq(refusal, "DST: no route");
    finish(1, 1);
    bpf_fixture_teardown(&fixture);
}
END_TEST

/* What refuses() has found is not kept for another relay. */
START_TEST(a_prospect_belongs_to_one_relay)
{
    begin();
    watched_relay_init(&relays[0], &fixture, 4000, 80);
    watched_relay_init(&relays[1], &fixture, 4001, 81);
    relays[1].relay.destination.address = party_address(PARTY_STRANGER, false);
    ck_assert_ptr_null(fixture.plane->base.ops->refuses(&fixture.plane->base, &relays[0].relay));
    ck_assert_uint_eq(bpf_fixture_ways(), 2);
    relays[1].in_open = true;
    fixture.plane->base.ops->open(&fixture.plane->base, &relays[1].relay);
    relays[1].in_open = false;
    ck_assert_uint_eq(relays[1].opened, 1);
    const struct bpf_slot *slot = bpf_fixture_slot(&fixture, &relays[1].relay);
    const struct endpoint peer =
        slot_endpoint(slot->side[BPF_TARGET].peer, slot->side[BPF_TARGET].peer_port);
    ck_assert(endpoint_equal(&peer, &relays[1].relay.destination));
    ck_assert_uint_eq(bpf_fixture_ways(), 2);
    finish(1, 1);
    bpf_fixture_teardown(&fixture);
}
END_TEST

/* ---- ports -------------------------------------------------------------------------------------
 */

static bool can_bind(const struct endpoint *endpoint, int type)
{
    const int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0), on = 1;
    struct sockaddr_storage address;
    const socklen_t length = endpoint_to_sockaddr(endpoint, &address);

    ck_assert_int_ge(fd, 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
    const bool bound = bind(fd, (struct sockaddr *)&address, length) == 0 &&
                       (type == SOCK_DGRAM || listen(fd, 1) == 0);
    close(fd);
    return bound;
}

/* Does anything come back? */
static bool is_answered(const struct endpoint *to, int type)
{
    const int fd = party_socket(PARTY_STRANGER, false, type, 0);
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN | POLLOUT};

    set_blocking(fd, false);
    const int rc = connect_to(fd, to);
    ck_assert(rc == 0 || rc == -EINPROGRESS);
    if (type == SOCK_DGRAM) {
        ck_assert_int_eq(send(fd, "x", 1, 0), 1);
        poll_fd.events = POLLIN;
    }
    const int ready = poll(&poll_fd, 1, 300);
    close(fd);
    return ready != 0;
}

static void check_held(int type)
{
    options.ptcl = type == SOCK_STREAM ? PTCL_TCP : PTCL_UDP;
    begin();
    open_one(0, 80);
    const struct endpoint bound = relays[0].relay.bound, egress = relays[0].relay.egress;
    ck_assert_uint_eq(bpf_fixture_endpoints(&fixture), 2);
    ck_assert(!can_bind(&bound, type));
    ck_assert(!can_bind(&egress, type));
    ck_assert(!is_answered(&bound, type));
    ck_assert(!is_answered(&egress, type));
    finish(0, 0);
    ck_assert_uint_eq(bpf_fixture_endpoints(&fixture), 0);
    ck_assert(can_bind(&bound, type));
    ck_assert(can_bind(&egress, type));
    bpf_fixture_teardown(&fixture);
}

/* PLANE-SLOT-010 */
START_TEST(a_port_is_held_and_silent_tcp)
{
    check_held(SOCK_STREAM);
}
END_TEST

/* PLANE-SLOT-010 */
START_TEST(a_port_is_held_and_silent_udp)
{
    check_held(SOCK_DGRAM);
}
END_TEST

/* PLANE-SLOT-010: what others have is left alone */
START_TEST(a_port_that_others_have_is_not_taken)
{
    options.bind_ports = (struct port_range){20000, 20003};
    options.egress_ports = (struct port_range){30000, 30003};
    begin();
    int others[4];
    for (uint16_t i = 0; i < 3; i++)
        others[i] = party_socket(PARTY_RELAY, false, SOCK_STREAM, (uint16_t)(20000 + i));
    others[3] = party_listener(PARTY_RELAY, false, 30000);
    for (unsigned i = 0; i < 3; i++) {
        open_one(i, 80);
        ck_assert_uint_eq(relays[i].relay.bound.port, 20003);
        ck_assert_uint_ne(relays[i].relay.egress.port, 30000);
    }
    ck_assert_uint_eq(bpf_fixture_endpoints(&fixture), 4);
    finish(0, 2);
    for (int i = 0; i < 4; i++)
        close(others[i]);
    bpf_fixture_teardown(&fixture);
}
END_TEST

/* PLANE-SLOT-020 */
START_TEST(ports_of_their_own_first)
{
    begin();
    for (unsigned i = 0; i < 10; i++)
        open_one(i, 80);
    ck_assert_uint_eq(bpf_fixture_endpoints(&fixture), 20);
    for (unsigned i = 0; i < 10; i++) {
        for (unsigned j = 0; j < i; j++) {
            ck_assert_uint_ne(relays[i].relay.bound.port, relays[j].relay.bound.port);
            ck_assert_uint_ne(relays[i].relay.egress.port, relays[j].relay.egress.port);
        }
    }
    finish(0, 9);
    bpf_fixture_teardown(&fixture);
}
END_TEST

/* PLANE-SLOT-020 */
START_TEST(then_they_are_shared)
{
    unsigned users[2] = {0};

    options.bind_ports = (struct port_range){20000, 20001};
    options.egress_ports = (struct port_range){30000, 30001};
    begin();
    for (unsigned i = 0; i < 30; i++) {
        open_one(i, (uint16_t)(80 + i));
        users[relays[i].relay.bound.port - 20000]++;
    }
    ck_assert_uint_eq(bpf_fixture_endpoints(&fixture), 4);
    ck_assert_uint_eq(bpf_fixture_rows(&fixture), 60);
    ck_assert_uint_gt(users[0], 3); /* at random: one of a million runs would fail */
    ck_assert_uint_gt(users[1], 3);
    finish(0, 29);
    ck_assert_uint_eq(bpf_fixture_endpoints(&fixture), 0);
    bpf_fixture_teardown(&fixture);
}
END_TEST

/* PLANE-SLOT-020: as many relays to one DST as there are egress ports */
START_TEST(pairs_are_unique)
{
    options.bind_ports = (struct port_range){20000, 20000};
    options.egress_ports = (struct port_range){30000, 30007};
    begin();
    for (unsigned i = 0; i < 8; i++) {
        open_one(i, 80);
        for (unsigned j = 0; j < i; j++)
            ck_assert_uint_ne(relays[i].relay.egress.port, relays[j].relay.egress.port);
    }
    watched_relay_init(&relays[8], &fixture, 4008, 80);
    ck_assert_ptr_null(watched_relay_try(&relays[8]));
    ck_assert_uint_eq(relays[8].failed, 1);
    ck_assert_int_eq(relays[8].error, N2_ERROR_GENERAL);
    ck_assert_str_eq(relays[8].text, "egress: no port is left");
    ck_assert_uint_eq(relays[8].closed, 1);
    ck_assert_uint_eq(fixture.plane->count.failed, 1);
    open_one(9, 81);
    /* The same S twice: BND has to differ, and there is one. */
    watched_relay_init(&relays[10], &fixture, 4009, 82);
    ck_assert_ptr_null(watched_relay_try(&relays[10]));
    ck_assert_str_eq(relays[10].text, "BND: no port is left");
    finish(3, 3); /* without a packet: no tombstone */
    open_one(11, 80);
    ck_assert_uint_eq(relays[11].relay.egress.port, relays[3].relay.egress.port);
    finish(0, 2);
    finish(4, 7);
    finish(9, 9);
    finish(11, 11);
    bpf_fixture_teardown(&fixture);
}
END_TEST

/* PLANE-SLOT-020: descriptors end before ports do */
START_TEST(few_descriptors)
{
    options.endpoints = 16;
    begin();
    for (unsigned i = 0; i < 32; i++)
        open_one(i, (uint16_t)(80 + i));
    const unsigned held = bpf_fixture_endpoints(&fixture);
    ck_assert_uint_le(held, 16);
    ck_assert_uint_ge(held, 10);
    finish(0, 31);
    bpf_fixture_teardown(&fixture);
}
END_TEST

/* Neither ports nor descriptors: refused, nothing is left, and it works again afterwards. */
START_TEST(no_descriptor_at_all)
{
    begin();
    watched_relay_init(&relays[0], &fixture, 4000, 80);
    int fds[65536];
    unsigned count = 0;
    while (count < 65536 && (fds[count] = dup(0)) >= 0)
        count++;
    ck_assert_ptr_null(watched_relay_try(&relays[0]));
    while (count != 0)
        close(fds[--count]);
    ck_assert_uint_eq(relays[0].failed, 1);
    ck_assert_msg(strncmp(relays[0].text, "BND: ", 5) == 0, "%s", relays[0].text);
    bpf_fixture_advance(&fixture, HELD_RETRY_MS);
    open_one(1, 80);
    finish(1, 1);
    bpf_fixture_teardown(&fixture);
}
END_TEST

START_TEST(ipv6)
{
    begin();
    watched_relay_init(&relays[0], &fixture, 4000, 80);
    relays[0].relay.source.address = party_address(PARTY_CLIENT, true);
    relays[0].relay.destination.address = party_address(PARTY_TARGET, true);
    watched_relay_open(&relays[0]);
    ck_assert_int_eq(relays[0].relay.bound.address.family, IP_V6);
    ck_assert_int_eq(relays[0].relay.egress.address.family, IP_V6);
    finish(0, 0);
    bpf_fixture_teardown(&fixture);
}
END_TEST

/* Where no egress address is configured it is the way's. */
START_TEST(the_ways_own_address)
{
    begin();
    fixture.config.egress.addresses.count = 0;
    open_one(0, 80);
    const struct ip_address ours = party_address(PARTY_RELAY, false);
    ck_assert(ip_address_equal(&relays[0].relay.egress.address, &ours));
    finish(0, 0);
    bpf_fixture_teardown(&fixture);
}
END_TEST

START_TEST(egress_ports_by_default)
{
    begin();
    fixture.config.egress.ports.count = 0;
    for (unsigned i = 0; i < 20; i++) {
        open_one(i, 80);
        ck_assert_uint_ge(relays[i].relay.egress.port, HELD_EGRESS_FIRST);
        ck_assert_uint_le(relays[i].relay.egress.port, HELD_EGRESS_LAST);
    }
    finish(0, 19);
    bpf_fixture_teardown(&fixture);
}
END_TEST

/* ---- strangers ---------------------------------------------------------------------------------
 */

static uint64_t drops(unsigned i)
{
    return fixture.plane->base.ops->drops(&fixture.plane->base, &relays[i].relay);
}

static void stranger(unsigned i, uint64_t packets)
{
    const struct flow *flow = relays[i].relay.flow;

    fixture.tables.strangers[flow->held[BPF_CLIENT]].packets += packets;
}

/* PLANE-SLOT-080 */
START_TEST(strangers_are_shown_by_the_only_user)
{
    options.bind_ports = (struct port_range){20000, 20000};
    begin();
    open_one(0, 80);
    stranger(0, 5);
    ck_assert_uint_eq(drops(0), 5);
    const uint32_t row = ((struct flow *)relays[0].relay.flow)->held[BPF_CLIENT];
    ck_assert_uint_eq(held_ports_only_user(fixture.plane->ports, row),
                      watched_relay_index(&relays[0], &fixture));
    const struct bpf_stranger_event event = {.row = row};
    hints_ops.stranger(fixture.plane, &event);
    ck_assert_uint_eq(relays[0].strangers, 5);
    open_one(1, 81);
    stranger(0, 100);
    hints_ops.stranger(fixture.plane, &event); /* nobody's */
    ck_assert_uint_eq(relays[0].strangers, 5);
    ck_assert_uint_eq(drops(0), 5);
    ck_assert_uint_eq(drops(1), 0);
    ck_assert_uint_eq(held_ports_only_user(fixture.plane->ports, row), FLOW_NONE);
    watched_relay_finish(&relays[0], &fixture);
    ck_assert_uint_eq(relays[0].final.drops, 5);
    stranger(1, 7);
    ck_assert_uint_eq(drops(1), 7);
    ck_assert_uint_eq(held_ports_only_user(fixture.plane->ports, row),
                      watched_relay_index(&relays[1], &fixture));
    watched_relay_finish(&relays[1], &fixture);
    ck_assert_uint_eq(relays[1].final.drops, 7);
    ck_assert_uint_eq(held_ports_only_user(fixture.plane->ports, row), FLOW_NONE);
    ck_assert_uint_eq(held_ports_only_user(fixture.plane->ports, 5000), FLOW_NONE);
    open_one(2, 80); /* begins at nothing */
    ck_assert_uint_eq(drops(2), 0);
    finish(2, 2);
    bpf_fixture_teardown(&fixture);
}
END_TEST

/* PLANE-SLOT-080: what comes where the program is not attached */
START_TEST(strangers_at_the_socket_count_too)
{
    options.ptcl = PTCL_UDP;
    begin();
    open_one(0, 80);
    const int fd = party_socket(PARTY_STRANGER, false, SOCK_DGRAM, 0);
    ck_assert_int_eq(connect_to(fd, &relays[0].relay.bound), 0);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(send(fd, "x", 1, 0), 1);
    close(fd);
    stranger(0, 2);
    ck_assert_uint_eq(drops(0), 5);
    finish(0, 0);
    ck_assert_uint_eq(relays[0].final.drops, 5);
    bpf_fixture_teardown(&fixture);
}
END_TEST

/* ---- tombstones and full tables ----------------------------------------------------------------
 */

/* PLANE-SLOT-030 */
START_TEST(tombstones_keep_rows_and_ports)
{
    options.bind_ports = (struct port_range){20000, 20000};
    options.egress_ports = (struct port_range){30000, 30000};
    begin();
    open_one(0, 80);
    carry_something(0);
    const uint32_t index = watched_relay_index(&relays[0], &fixture);
    finish(0, 0);
    ck_assert_uint_eq(fixture.tables.slots[index].state, BPF_SLOT_TOMBSTONE);
    ck_assert_uint_eq(bpf_fixture_rows(&fixture), 2);
    ck_assert_uint_eq(bpf_fixture_endpoints(&fixture), 2);
    ck_assert(!can_bind(&relays[0].relay.bound, SOCK_STREAM));
    bpf_fixture_advance(&fixture, 59000);
    ck_assert_uint_eq(fixture.tables.slots[index].state, BPF_SLOT_TOMBSTONE);
    bpf_fixture_advance(&fixture, 1100);
    ck_assert_uint_eq(fixture.tables.slots[index].state, BPF_SLOT_FREE);
    ck_assert_uint_eq(bpf_fixture_rows(&fixture), 0);
    ck_assert_uint_eq(bpf_fixture_endpoints(&fixture), 0);
    ck_assert_uint_eq(fixture.plane->count.evicted, 0);
    bpf_fixture_teardown(&fixture);
}
END_TEST

/* PLANE-SLOT-030: datagrams have no end that could be told */
START_TEST(no_tombstone_without_a_connection)
{
    options.ptcl = PTCL_UDP;
    begin();
    open_one(0, 80);
    carry_something(0);
    finish(0, 0);
    ck_assert_uint_eq(fixture.plane->slots.tombstones.count, 0);
    ck_assert_uint_eq(bpf_fixture_rows(&fixture), 0);
    bpf_fixture_teardown(&fixture);
}
END_TEST

/* PLANE-SLOT-030 */
START_TEST(no_tombstone_without_a_packet)
{
    begin();
    open_one(0, 80);
    finish(0, 0);
    ck_assert_uint_eq(fixture.plane->slots.tombstones.count, 0);
    ck_assert_uint_eq(bpf_fixture_rows(&fixture), 0);
    bpf_fixture_teardown(&fixture);
}
END_TEST

/* PLANE-SLOT-040 */
START_TEST(a_tombstone_in_the_way_makes_room)
{
    options.bind_ports = (struct port_range){20000, 20000};
    options.egress_ports = (struct port_range){30000, 30000};
    options.slots = 1000;
    begin();
    for (unsigned i = 0; i < 20; i++) {
        open_one(i, 80);
        ck_assert_uint_eq(relays[i].relay.egress.port, 30000);
        carry_something(i);
        watched_relay_finish(&relays[i], &fixture);
    }
    ck_assert_uint_eq(fixture.plane->count.evicted, 19);
    ck_assert_uint_eq(bpf_fixture_rows(&fixture), 2);
    open_one(20, 81); /* another DST: nobody has to go */
    ck_assert_uint_eq(fixture.plane->count.evicted, 19);
    watched_relay_finish(&relays[20], &fixture);
    bpf_fixture_teardown(&fixture);
}
END_TEST

/* PLANE-SLOT-040, PLANE-SLOT-060 */
START_TEST(slots_run_out_and_come_back)
{
    options.slots = 12;
    options.relays = 8;
    begin();
    for (unsigned round = 0; round < 12; round++) {
        open_one(round, 80);
        carry_something(round);
        watched_relay_finish(&relays[round], &fixture);
    }
    ck_assert_uint_gt(fixture.plane->count.evicted, 0);
    watched_relay_init(&relays[20], &fixture, 4020, 80);
    const char *refusal = watched_relay_try(&relays[20]);
    ck_assert_ptr_nonnull(refusal);
    ck_assert_str_eq(refusal, "the kernel's tables are full");
    ck_assert_uint_eq(fixture.plane->count.refused_full, 1);
    bpf_fixture_advance(&fixture, SLOTS_REST_MS);
    watched_relay_open(&relays[20]);
    watched_relay_finish(&relays[20], &fixture);
    bpf_fixture_teardown(&fixture);
}
END_TEST

/* PLANE-SLOT-060: rows are not there although slots are */
START_TEST(no_room_for_rows)
{
    unsigned opened = 0;

    options.rows = 5;
    begin();
    for (unsigned i = 0; i < MANY && opened == i; i++) {
        watched_relay_init(&relays[i], &fixture, (uint16_t)(4000 + i), 80);
        if (i == 32)
            break;
        ck_assert_ptr_null(watched_relay_try(&relays[i]));
        opened += relays[i].opened;
    }
    ck_assert_uint_eq(opened, 2);
    ck_assert_uint_eq(relays[2].failed, 1);
    ck_assert_msg(strncmp(relays[2].text, "flows: ", 7) == 0, "%s", relays[2].text);
    ck_assert_uint_eq(bpf_fixture_rows(&fixture), 4);
    ck_assert_uint_eq(bpf_fixture_endpoints(&fixture), 4);
    finish(0, 1);
    open_one(5, 80);
    finish(5, 5);
    bpf_fixture_teardown(&fixture);
}
END_TEST

/* Rows of many relays that close at once go together. */
START_TEST(many_are_closed_at_once)
{
    options.slots = 2000;
    options.relays = 1500;
    begin();
    struct watched_relay *many = calloc(1000, sizeof(*many));
    ck_assert_ptr_nonnull(many);
    for (unsigned i = 0; i < 1000; i++) {
        watched_relay_init(&many[i], &fixture, (uint16_t)(4000 + i), 80);
        many[i].relay.destination.port = (uint16_t)(80 + i);
        watched_relay_open(&many[i]);
    }
    ck_assert_uint_eq(bpf_fixture_rows(&fixture), 2000);
    for (unsigned i = 0; i < 1000; i++)
        watched_relay_close(&many[i]);
    WAIT_FOR(&fixture, fixture.plane->closing.count == 0);
    ck_assert_uint_eq(bpf_fixture_rows(&fixture), 0);
    for (unsigned i = 0; i < 1000; i++)
        ck_assert_uint_eq(many[i].closed, 1);
    free(many);
    bpf_fixture_teardown(&fixture);
}
END_TEST

int main(void)
{
    bpf_fixture_require();
    const TTest *const tests[] = {what_the_plane_does_not_carry,
                                  ways_that_cannot_be_used,
                                  a_prospect_belongs_to_one_relay,
                                  a_port_is_held_and_silent_tcp,
                                  a_port_is_held_and_silent_udp,
                                  a_port_that_others_have_is_not_taken,
                                  ports_of_their_own_first,
                                  then_they_are_shared,
                                  pairs_are_unique,
                                  few_descriptors,
                                  no_descriptor_at_all,
                                  ipv6,
                                  the_ways_own_address,
                                  egress_ports_by_default,
                                  strangers_are_shown_by_the_only_user,
                                  strangers_at_the_socket_count_too,
                                  tombstones_keep_rows_and_ports,
                                  no_tombstone_without_a_connection,
                                  no_tombstone_without_a_packet,
                                  a_tombstone_in_the_way_makes_room,
                                  slots_run_out_and_come_back,
                                  no_room_for_rows,
                                  many_are_closed_at_once};
    Suite *suite = suite_create("bpf_opening");
    TCase *tcase = tcase_create("opening");
    tcase_add_checked_fixture(tcase, setup, NULL);
    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
        tcase_add_test(tcase, tests[i]);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
