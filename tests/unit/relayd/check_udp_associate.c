/*
 * UDP ASSOCIATE on the socket plane: what a header may be (N2-ASSOC-030), whom the client hears
 * (N2-ASSOC-020), who the client is (N2-ASSOC-010), how it begins and ends.
 */
#include <errno.h>
#include <malloc.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/relayd/association.h"

static struct plane_fixture fixture;
static struct association a;

static void setup(void)
{
    plane_fixture_setup(&fixture);
}

static void teardown(void)
{
    plane_fixture_teardown(&fixture);
}

/* ---- headers -----------------------------------------------------------------------------------
 */

/* Client and target of either family, each in a datagram of its own, both ways. */
START_TEST(test_both_ways)
{
    const bool target_v6 = (_i & 2) != 0;
    struct endpoint egress;

    association_init(&a, &fixture, (_i & 1) != 0);
    association_open(&a);
    ck_assert_uint_eq(a.relay.relay.egress.port, 0);
    const int target = target_open(PARTY_TARGET, target_v6);
    const struct endpoint name = socket_name(target);
    const struct n1_host to = host_of(&name);
    association_send(&a, &to, 1, 5);
    target_expect(&fixture, target, 1, 5, &egress);
    ck_assert(endpoint_equal(&egress, &a.relay.relay.egress));
    ck_assert_uint_eq(a.relay.arrived, 1);
    target_send(target, &egress, 6, 7);
    association_expect(&a, &name, 6, 7);
    ck_assert_uint_eq(a.asked, 1);
    ck_assert_uint_eq(a.questions[0].what.port, name.port);
    ck_assert(ip_address_equal(&a.questions[0].what.address, &name.address));
    close(target);
    association_dispose(&a);
    ck_assert_uint_eq(a.relay.final.up_bytes, 5);
    ck_assert_uint_eq(a.relay.final.down_bytes, 7);
    ck_assert_uint_eq(a.relay.final.up_packets, 1);
    ck_assert_uint_eq(a.relay.final.down_packets, 1);
}
END_TEST

/* The same address, written as IPv4-mapped IPv6, is the same address. */
START_TEST(test_mapped_address)
{
    uint8_t datagram[22 + 3] = {[3] = N1_ATYP_V6, [14] = 0xff, [15] = 0xff};

    association_init(&a, &fixture, false);
    association_open(&a);
    const int target = target_open(PARTY_TARGET, false);
    const struct endpoint name = socket_name(target);
    memcpy(datagram + 16, name.address.bytes, 4);
    datagram[20] = (uint8_t)(name.port >> 8);
    datagram[21] = (uint8_t)name.port;
    memcpy(datagram + 22, payload(), 3);
    ck_assert_int_eq(send(a.client, datagram, sizeof(datagram), 0), sizeof(datagram));
    target_expect(&fixture, target, 0, 3, NULL);
    ck_assert(ip_address_equal(&a.questions[0].what.address, &name.address));
    close(target);
    association_dispose(&a);
}
END_TEST

/* The forms of a destination that headers are made of, for the target's port. */
static size_t valid_header(int form, uint16_t port, uint8_t *out)
{
    const struct endpoint v4 = {.address = party_address(PARTY_TARGET, false), .port = port};
    const struct endpoint v6 = {.address = party_address(PARTY_TARGET, true), .port = port};
    const struct n1_udp_header header = {.destination = form == 0 ? host_of(&v4)
                                                        : form == 1
                                                            ? host_of(&v6)
                                                            : host_named("name.example", port)};

    return n1_udp_header_encode(&header, out, N1_UDP_HEADER_MAX);
}

/* A header cut off anywhere is dropped and counted, and the association stays. */
START_TEST(test_truncations)
{
    uint8_t datagram[N1_UDP_HEADER_MAX];

    association_init(&a, &fixture, false);
    association_open(&a);
    const int target = target_open(PARTY_TARGET, _i == 1);
    const size_t whole = valid_header(_i, socket_name(target).port, datagram);
    a.verdict.addresses[0] = party_address(PARTY_TARGET, _i == 1);
    for (size_t i = 0; i < whole; i++) {
        ck_assert_int_eq(send(a.client, datagram, i, 0), (ssize_t)i);
        WAIT_FOR(&fixture, association_figures(&a)->malformed == i + 1);
    }
    ck_assert_uint_eq(a.asked, 0);
    ck_assert_int_eq(send(a.client, datagram, whole, 0), (ssize_t)whole);
    target_expect(&fixture, target, 0, 0, NULL);
    ck_assert_uint_eq(association_figures(&a)->malformed, whole);
    ck_assert_uint_eq(a.relay.ended, 0);
    close(target);
    association_dispose(&a);
    ck_assert_uint_eq(a.relay.final.up_packets, 1);
}
END_TEST

static const struct {
    uint8_t octets[24];
    size_t length;
} malformed[] = {
    {{1, 0, 0, 1, 127, 0, 0, 3, 0, 9, 'x'}, 11},          /* RSV */
    {{0, 1, 0, 1, 127, 0, 0, 3, 0, 9, 'x'}, 11},          /* RSV */
    {{0, 0, 0, 0, 127, 0, 0, 3, 0, 9, 'x'}, 11},          /* ATYP */
    {{0, 0, 0, 2, 127, 0, 0, 3, 0, 9, 'x'}, 11},          /* ATYP */
    {{0, 0, 0, 0xff, 127, 0, 0, 3, 0, 9, 'x'}, 11},       /* ATYP */
    {{0, 0, 0, 1, 127, 0, 0, 3, 0, 0, 'x'}, 11},          /* port 0 */
    {{0, 0, 0, 3, 0, 0, 9, 'x'}, 8},                      /* an empty name */
    {{0, 0, 0, 3, 3, 'a', 0, 'b', 0, 9, 'x'}, 11},        /* NUL */
    {{0, 0, 0, 3, 3, 'a', ' ', 'b', 0, 9, 'x'}, 11},      /* a blank */
    {{0, 0, 0, 3, 4, 'a', '.', '.', 'b', 0, 9, 'x'}, 12}, /* an empty label */
    {{0, 0, 0, 3, 2, 0xc3, 0xa4, 0, 9, 'x'}, 10},         /* not ASCII */
    {{0, 0, 0, 3, 3, 'a', '\n', 'b', 0, 9, 'x'}, 11},     /* control */
    {{0, 0, 0, 3, 3, 'a', 'b', 'c', 0, 0, 'x'}, 11},      /* port 0 */
};

START_TEST(test_malformed)
{
    association_init(&a, &fixture, false);
    association_open(&a);
    ck_assert_int_eq(send(a.client, malformed[_i].octets, malformed[_i].length, 0),
                     (ssize_t)malformed[_i].length);
    WAIT_FOR(&fixture, association_figures(&a)->malformed == 1);
    ck_assert_uint_eq(a.asked, 0);
    ck_assert_uint_eq(a.relay.ended, 0);
    association_dispose(&a);
    ck_assert_uint_eq(a.relay.final.up_packets, 0);
}
END_TEST

/* ---- whom the client hears ---------------------------------------------------------------------
 */

/* A host that the client has sent to may answer from any port; others are not heard, unless
 * full-cone says so. */
START_TEST(test_replies)
{
    const bool full_cone = _i == 1;
    struct endpoint egress;

    fixture.config.udp.full_cone = full_cone;
    association_init(&a, &fixture, false);
    a.relay.forbidden = party_address(PARTY_CLIENT, false);
    association_open(&a);
    const int target = target_open(PARTY_TARGET, false), second = target_open(PARTY_TARGET, false);
    const int other = target_open(PARTY_STRANGER, false);
    const int inner = target_open(PARTY_CLIENT, false);
    const struct endpoint name = socket_name(target), second_name = socket_name(second);
    const struct endpoint other_name = socket_name(other);
    const struct n1_host to = host_of(&name);
    association_send(&a, &to, 0, 1);
    target_expect(&fixture, target, 0, 1, &egress);
    target_send(second, &egress, 2, 3);
    association_expect(&a, &second_name, 2, 3);
    target_send(other, &egress, 4, 5);
    target_send(inner, &egress, 6, 7); /* the floor holds for full-cone, too */
    if (full_cone)
        association_expect(&a, &other_name, 4, 5);
    WAIT_FOR(&fixture, association_figures(&a)->unsolicited == (full_cone ? 1 : 2));
    expect_silence(&fixture, a.client);
    /* Sent to, the other one is heard. */
    const struct n1_host to_other = host_of(&other_name);
    association_send(&a, &to_other, 8, 9);
    target_expect(&fixture, other, 8, 9, NULL);
    target_send(other, &egress, 10, 11);
    association_expect(&a, &other_name, 10, 11);
    close(target);
    close(second);
    close(other);
    close(inner);
    association_dispose(&a);
}
END_TEST

/* One that was denied is not heard. */
START_TEST(test_denied_host_is_not_heard)
{
    struct endpoint egress;

    association_init(&a, &fixture, false);
    association_open(&a);
    const int target = target_open(PARTY_TARGET, false), other = target_open(PARTY_STRANGER, false);
    const struct endpoint name = socket_name(target), other_name = socket_name(other);
    const struct n1_host to = host_of(&name), to_other = host_of(&other_name);
    association_send(&a, &to, 0, 1);
    target_expect(&fixture, target, 0, 1, &egress);
    a.verdict.allowed = false;
    association_send(&a, &to_other, 0, 1);
    WAIT_FOR(&fixture, association_figures(&a)->denied == 1);
    target_send(other, &egress, 2, 3);
    WAIT_FOR(&fixture, association_figures(&a)->unsolicited == 1);
    expect_silence(&fixture, a.client);
    expect_silence(&fixture, other);
    close(target);
    close(other);
    association_dispose(&a);
}
END_TEST

/* Only the client is heard at BND; others hear nothing and are counted. */
START_TEST(test_strangers)
{
    const bool v6 = _i == 1;

    association_init(&a, &fixture, v6);
    association_open(&a);
    const int capture = capture_open();
    const int target = target_open(PARTY_TARGET, v6);
    const struct endpoint name = socket_name(target);
    const struct n1_host to = host_of(&name);
    const int strangers[] = {party_socket(PARTY_STRANGER, v6, SOCK_DGRAM, a.client_name.port),
                             party_socket(PARTY_CLIENT, v6, SOCK_DGRAM, 0)};
    const int client = a.client;
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(connect_to(strangers[i], &a.relay.relay.bound), 0);
        a.client = strangers[i];
        for (unsigned j = 0; j < 20; j++)
            association_send(&a, &to, 0, j);
        const struct endpoint stranger = socket_name(strangers[i]);
        ck_assert_uint_eq(capture_count_to(capture, &stranger), 0);
        close(strangers[i]);
    }
    a.client = client;
    expect_silence(&fixture, target);
    ck_assert_uint_eq(fake_relay_drops(&a.relay), 40);
    ck_assert_uint_eq(a.asked, 0);
    ck_assert_uint_eq(a.relay.arrived, 0);
    association_send(&a, &to, 1, 2);
    target_expect(&fixture, target, 1, 2, NULL);
    close(target);
    close(capture);
    association_dispose(&a);
    ck_assert_uint_eq(a.relay.final.drops, 40);
}
END_TEST

/* The first datagram of the client's address tells its port; what came with it is not lost. */
START_TEST(test_learn_source_port)
{
    const bool v6 = _i == 1;
    struct endpoint egress;

    association_init(&a, &fixture, v6);
    a.relay.relay.source.port = 0;
    a.relay.relay.learn_source_port = true;
    association_open(&a);
    const int target = target_open(PARTY_TARGET, v6);
    const struct endpoint name = socket_name(target);
    const struct n1_host to = host_of(&name);
    const int second = party_socket(PARTY_CLIENT, v6, SOCK_DGRAM, 0), client = a.client;
    ck_assert_int_eq(connect_to(second, &a.relay.relay.bound), 0);
    association_send(&a, &to, 1, 10);
    a.client = second;
    association_send(&a, &to, 2, 11);
    a.client = client;
    association_send(&a, &to, 3, 12);
    target_expect(&fixture, target, 1, 10, &egress);
    target_expect(&fixture, target, 3, 12, NULL);
    ck_assert_uint_eq(a.relay.relay.source.port, a.client_name.port);
    ck_assert_uint_eq(a.relay.arrived, 1);
    a.client = second;
    association_send(&a, &to, 2, 11);
    a.client = client;
    target_send(target, &egress, 4, 13);
    association_expect(&a, &name, 4, 13);
    expect_silence(&fixture, target);
    expect_silence(&fixture, second);
    ck_assert_uint_eq(fake_relay_drops(&a.relay), 2);
    close(second);
    close(target);
    association_dispose(&a);
}
END_TEST

/* ---- life --------------------------------------------------------------------------------------
 */

START_TEST(test_idle_timeout)
{
    struct endpoint egress;

    association_init(&a, &fixture, false);
    fixture.config.udp.idle_timeout_ms = 1500;
    association_open(&a);
    const int target = target_open(PARTY_TARGET, false), other = target_open(PARTY_STRANGER, false);
    const struct endpoint name = socket_name(target);
    const struct n1_host to = host_of(&name);
    association_send(&a, &to, 0, 1);
    target_expect(&fixture, target, 0, 1, &egress);
    for (unsigned i = 0; i < 6; i++) {
        const uint64_t until = monotonic_ms() + 300;
        if (i % 2 == 0)
            association_send(&a, &to, 0, 1);
        else
            target_send(target, &egress, 0, 1);
        while (monotonic_ms() < until)
            plane_fixture_turn(&fixture);
    }
    ck_assert_uint_eq(a.relay.ended, 0);
    /* Whoever is not asked for keeps nothing alive. */
    while (a.relay.closed == 0) {
        target_send(other, &egress, 0, 1);
        plane_fixture_turn(&fixture);
    }
    ck_assert_int_eq(a.relay.reason, N2_REASON_IDLE_TIMEOUT);
    close(target);
    close(other);
    association_dispose(&a);
}
END_TEST

/* The limit counts payload of both directions, without headers, and also what waited. */
START_TEST(test_max_bytes)
{
    struct endpoint egress;

    association_init(&a, &fixture, false);
    a.relay.relay.limits.max_bytes = 1000;
    association_open(&a);
    const int target = target_open(PARTY_TARGET, false);
    const struct endpoint name = socket_name(target);
    const struct n1_host to = host_of(&name);
    if (_i == 0) {
        association_send(&a, &to, 0, 99);
        target_expect(&fixture, target, 0, 99, &egress);
        for (unsigned i = 0; i < 20; i++)
            target_send(target, &egress, 0, 99);
    } else {
        for (unsigned i = 0; i < 15; i++)
            association_send(&a, &to, 0, 99);
    }
    WAIT_FOR(&fixture, a.relay.closed == 1);
    ck_assert_int_eq(a.relay.reason, N2_REASON_LIMIT);
    ck_assert_uint_eq(a.relay.final.up_bytes + a.relay.final.down_bytes, 990);
    close(target);
    association_dispose(&a);
}
END_TEST

/* N2-LIMIT-010: by payload, and also what waited for a verdict. */
START_TEST(test_rate)
{
    struct endpoint egress;

    association_init(&a, &fixture, false);
    a.relay.relay.limits.bytes_per_second = 1;
    association_open(&a);
    const int target = target_open(PARTY_TARGET, false);
    const struct endpoint name = socket_name(target);
    const struct n1_host to = host_of(&name);
    for (unsigned i = 0; i < 5; i++)
        association_send(&a, &to, i, 16384);
    for (unsigned i = 0; i < 4; i++)
        target_expect(&fixture, target, i, 16384, &egress);
    WAIT_FOR(&fixture, plane_fixture_socket_plane(&fixture)->udp_rate_drops == 1);
    ck_assert_uint_eq(a.relay.ended, 0);
    close(target);
    association_dispose(&a);
    ck_assert_uint_eq(a.relay.final.up_bytes, 65536);
}
END_TEST

/* In every state: nothing sent yet, a verdict awaited, one refused, active, in the middle of a
 * sequence of fragments, the port not learnt. */
START_TEST(test_close)
{
    char octet;

    association_init(&a, &fixture, false);
    a.automatic = _i >= 3;
    if (_i == 5) {
        a.relay.relay.source.port = 0;
        a.relay.relay.learn_source_port = true;
    }
    const int target = target_open(PARTY_TARGET, false);
    const struct endpoint name = socket_name(target);
    const struct n1_host to = host_of(&name);
    const unsigned fds = count_fds();
    association_open(&a);
    ck_assert_uint_eq(count_fds(), fds + 2);
    if (_i >= 1 && _i <= 3)
        association_send(&a, &to, 0, 10);
    if (_i >= 1 && _i <= 2)
        association_asked(&a, 1);
    if (_i == 2)
        association_answer(&a, 0, NULL);
    if (_i == 3)
        target_expect(&fixture, target, 0, 10, NULL);
    if (_i == 4) {
        association_send_fragment(&a, 1, &to, 0, 10);
        WAIT_FOR(&fixture, association_figures(&a)->held_octets != 0);
    }
    fake_relay_close(&a.relay, true);
    ck_assert_uint_eq(count_fds(), fds);
    ck_assert_uint_eq(a.cancelled, _i == 1);
    ck_assert_uint_eq(association_figures(&a)->held_octets, 0);
    fake_relay_close(&a.relay, false);
    association_send(&a, &to, 0, 10);
    ck_assert_int_eq(recv(a.client, &octet, 1, MSG_DONTWAIT), -1);
    ck_assert_int_eq(errno, ECONNREFUSED);
    close(target);
    association_dispose(&a);
    ck_assert_uint_eq(a.relay.closed, 1);
    ck_assert_uint_eq(a.relay.ended, 0);
}
END_TEST

static void limit_fds(unsigned count)
{
    struct rlimit limit;

    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = count;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* One descriptor more each time: the order fails cleanly, then datagrams do, and pass as soon as
 * there is one. */
START_TEST(test_out_of_descriptors)
{
    unsigned room = 0;

    const int target = target_open(PARTY_TARGET, false),
              target_v6 = target_open(PARTY_TARGET, true);
    const struct endpoint name = socket_name(target), name_v6 = socket_name(target_v6);
    const struct n1_host to = host_of(&name), to_v6 = host_of(&name_v6);
    association_init(&a, &fixture, false);
    plane_fixture_turn(&fixture);
    const unsigned fds = count_fds();
    const int next = dup(a.client); /* the lowest free number */
    close(next);
    for (;;) {
        limit_fds((unsigned)next + room++);
        fake_relay_open(&a.relay);
        if (a.relay.opened != 0)
            break;
        limit_fds(1024);
        ck_assert_int_eq(a.relay.error, N2_ERROR_GENERAL);
        ck_assert_uint_eq(count_fds(), fds);
        fake_relay_finish(&a.relay, &fixture);
        close(a.client);
        uv_close((uv_handle_t *)&a.check, NULL);
        plane_fixture_turn(&fixture);
        association_init(&a, &fixture, false);
    }
    ck_assert_uint_eq(room, 3); /* none, one, both */
    ck_assert_int_eq(connect_to(a.client, &a.relay.relay.bound), 0);
    const struct socket_plane *plane = plane_fixture_socket_plane(&fixture);
    for (unsigned i = 0; i < 2; i++) {
        association_send(&a, i == 0 ? &to : &to_v6, 1, 2);
        WAIT_FOR(&fixture, plane->udp_send_drops == i + 1);
        limit_fds((unsigned)next + room++);
        association_send(&a, i == 0 ? &to : &to_v6, 3, 4);
        target_expect(&fixture, i == 0 ? target : target_v6, 3, 4, NULL);
    }
    limit_fds(1024);
    ck_assert_uint_eq(count_fds(), fds + 4);
    ck_assert_uint_eq(a.relay.ended, 0);
    close(target);
    close(target_v6);
    association_dispose(&a);
}
END_TEST

START_TEST(test_open_fails)
{
    association_init(&a, &fixture, false);
    const unsigned fds = count_fds();
    if (_i == 0)
        a.relay.relay.source.port = 0; /* and not to be learnt */
    else
        fixture.config.bind.addresses.count = 0;
    fake_relay_open(&a.relay);
    ck_assert_uint_eq(a.relay.failed, 1);
    ck_assert_int_eq(a.relay.error, N2_ERROR_GENERAL);
    ck_assert_uint_eq(count_fds(), fds);
    fixture.config.bind.addresses.count = 2;
    association_dispose(&a);
}
END_TEST

/* An egress address that the operator did not name for the family is not used. */
START_TEST(test_family_without_egress)
{
    association_init(&a, &fixture, false);
    fixture.config.egress.addresses.count = 1; /* IPv4 */
    association_open(&a);
    const int target = target_open(PARTY_TARGET, false),
              target_v6 = target_open(PARTY_TARGET, true);
    const struct endpoint name_v6 = socket_name(target_v6);
    const struct n1_host to_v6 = host_of(&name_v6);
    association_send(&a, &to_v6, 0, 1);
    WAIT_FOR(&fixture, plane_fixture_socket_plane(&fixture)->udp_send_drops == 1);
    /* A name that has both leads to the other one. */
    a.verdict.address_count = 2;
    a.verdict.addresses[0] = party_address(PARTY_TARGET, true);
    a.verdict.addresses[1] = party_address(PARTY_TARGET, false);
    const struct n1_host named = host_named("both.example", socket_name(target).port);
    association_send(&a, &named, 2, 3);
    target_expect(&fixture, target, 2, 3, NULL);
    expect_silence(&fixture, target_v6);
    close(target);
    close(target_v6);
    association_dispose(&a);
}
END_TEST

START_TEST(test_many_in_a_row)
{
    struct mallinfo2 before = {0};
    unsigned fds = 0;
    const int target = target_open(PARTY_TARGET, false);
    const struct endpoint name = socket_name(target);
    const struct n1_host to = host_of(&name);

    for (unsigned i = 0; i < 520; i++) {
        if (i == 20) {
            before = mallinfo2();
            fds = count_fds();
        }
        association_init(&a, &fixture, i % 2 == 0);
        a.automatic = i % 3 != 0;
        association_open(&a);
        if (i % 4 != 0) {
            association_send_fragment(&a, 1, &to, 0, 10);
            association_send(&a, &to, 0, 10);
            if (a.automatic)
                target_expect(&fixture, target, 0, 10, NULL);
            else
                association_asked(&a, 1);
        }
        association_dispose(&a);
    }
    ck_assert_uint_eq(count_fds(), fds);
    ck_assert_uint_le(mallinfo2().uordblks, before.uordblks + before.uordblks / 20);
    close(target);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("udp_associate");
    TCase *tests = tcase_create("udp_associate");
    SRunner *runner = srunner_create(suite);

    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, test_both_ways, 0, 4);
    tcase_add_test(tests, test_mapped_address);
    tcase_add_loop_test(tests, test_truncations, 0, 3);
    tcase_add_loop_test(tests, test_malformed, 0, sizeof(malformed) / sizeof(malformed[0]));
    tcase_add_loop_test(tests, test_replies, 0, 2);
    tcase_add_test(tests, test_denied_host_is_not_heard);
    tcase_add_loop_test(tests, test_strangers, 0, 2);
    tcase_add_loop_test(tests, test_learn_source_port, 0, 2);
    tcase_add_test(tests, test_idle_timeout);
    tcase_add_loop_test(tests, test_max_bytes, 0, 2);
    tcase_add_test(tests, test_rate);
    tcase_add_loop_test(tests, test_close, 0, 6);
    tcase_add_test(tests, test_out_of_descriptors);
    tcase_add_loop_test(tests, test_open_fails, 0, 2);
    tcase_add_test(tests, test_family_without_egress);
    tcase_add_test(tests, test_many_in_a_row);
    suite_add_tcase(suite, tests);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
