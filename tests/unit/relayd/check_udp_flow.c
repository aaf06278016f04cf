/*
 * The UDP relay: datagrams keep their borders, their order and their number; strangers are not
 * heard and not answered; errors of the path are no end.
 */
#include <errno.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "proto/ptcl.h"
#include "relayd/plane/socket/udp_runs.h"
#include "tests/unit/relayd/datagrams.h"

#define SEGMENT_OPTION 103 /* UDP_SEGMENT, which older headers lack */

static struct plane_fixture fixture;

/* What the kernel is made to answer to sendmmsg(): always, or to segmented messages alone. */
static int fail_all, fail_segmented;
static unsigned segmented_sends;

/* Takes the place of the C library's. */
int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
    const bool segmented = count != 0 && messages[0].msg_hdr.msg_controllen != 0;

    segmented_sends += segmented;
    if (fail_all != 0 || (segmented && fail_segmented != 0)) {
        errno = fail_all != 0 ? fail_all : fail_segmented;
        return -1;
    }
    /* Up to the first segmented one, so that each of them can fail. */
    for (unsigned i = 1; i < count && fail_segmented != 0; i++) {
        if (messages[i].msg_hdr.msg_controllen != 0)
            count = i;
    }
    return (int)syscall(SYS_sendmmsg, fd, messages, count, flags);
}

/* Somebody who sends to a socket that is bound, before it is connected; -1: nobody. */
static int before_connect = -1;
static unsigned sent_before_connect;
/* Somebody who binds beside such a socket, by a call of setsockopt(); 0: nobody. */
static int join_by;
static unsigned joins_tried, joins_done;

static void try_to_join(const struct sockaddr_storage *name, socklen_t length)
{
    const int yes = 1, fd = socket(name->ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, join_by, &yes, sizeof(yes)), 0);
    joins_tried++;
    joins_done += bind(fd, (const struct sockaddr *)name, length) == 0;
    close(fd);
}

/* What happens in that moment; NULL: nothing. */
static void (*in_between)(void);

/* Takes the place of the C library's. */
int connect(int fd, __CONST_SOCKADDR_ARG address, socklen_t length)
{
    struct sockaddr_storage name;
    socklen_t name_length = sizeof(name);

    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&name, &name_length), 0);
    /* (The port is at the same place in both families' addresses.) */
    if (join_by != 0 && ((struct sockaddr_in *)&name)->sin_port != 0)
        try_to_join(&name, name_length);
    if (in_between != NULL && ((struct sockaddr_in *)&name)->sin_port != 0)
        in_between();
    if (before_connect >= 0)
        sent_before_connect += sendto(before_connect, "early", 5, MSG_DONTWAIT,
                                      (struct sockaddr *)&name, name_length) == 5;
    return (int)syscall(SYS_connect, fd, address.__sockaddr__, length);
}

static void setup(void)
{
    plane_fixture_setup(&fixture);
    fail_all = fail_segmented = 0;
    segmented_sends = 0;
    before_connect = -1;
    sent_before_connect = 0;
    join_by = 0;
    in_between = NULL;
    joins_tried = joins_done = 0;
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
    enlarge_buffer(x->client);
    enlarge_buffer(x->target);
}

static void dispose(struct exchange *x)
{
    close(x->client);
    close(x->target);
    fake_relay_finish(&x->relay, &fixture);
}

/* ---- datagrams ---------------------------------------------------------------------------------
 */

START_TEST(test_relays_both_ways)
{
    struct exchange x;

    prepare(&x, (_i & 1) != 0, (_i & 2) != 0);
    establish(&x);
    ck_assert_uint_eq(x.relay.arrived, 0);
    send_datagram(x.client, 0, 5);
    expect_datagram(&fixture, x.target, 0, 5);
    ck_assert_uint_eq(x.relay.arrived, 1);
    send_datagram(x.target, 5, 6);
    expect_datagram(&fixture, x.client, 5, 6);
    const struct n2_counters now = fake_relay_counters(&x.relay);
    ck_assert_uint_eq(now.up_bytes, 5);
    ck_assert_uint_eq(now.down_bytes, 6);
    ck_assert_uint_eq(now.up_packets, 1);
    ck_assert_uint_eq(now.down_packets, 1);
    ck_assert_uint_eq(x.relay.arrived, 1);
    dispose(&x);
    ck_assert_uint_eq(x.relay.final.up_bytes, 5);
    ck_assert_uint_eq(x.relay.final.down_packets, 1);
}
END_TEST

static const size_t sizes[] = {0, 1, 2, 1199, 1200, 1472, 1473, 9000, 65506, 65507};

/* Every size, alone, both ways and between the families. */
START_TEST(test_sizes)
{
    struct exchange x;
    uint64_t octets = 0;

    prepare(&x, (_i & 1) != 0, (_i & 2) != 0);
    establish(&x);
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        send_datagram(x.client, i, sizes[i]);
        expect_datagram(&fixture, x.target, i, sizes[i]);
        send_datagram(x.target, i, sizes[i]);
        expect_datagram(&fixture, x.client, i, sizes[i]);
        octets += sizes[i];
    }
    dispose(&x);
    ck_assert_uint_eq(x.relay.final.up_bytes, octets);
    ck_assert_uint_eq(x.relay.final.down_bytes, octets);
    ck_assert_uint_eq(x.relay.final.up_packets, sizeof(sizes) / sizeof(sizes[0]));
}
END_TEST

/* IPv6 carries 20 octets more than IPv4 can: lost, counted, and nothing else happens. */
START_TEST(test_too_large_for_the_other_family)
{
    struct exchange x;

    prepare(&x, true, false);
    establish(&x);
    send_datagram(x.client, 0, 65527);
    send_datagram(x.client, 0, 10);
    expect_datagram(&fixture, x.target, 0, 10);
    ck_assert_uint_eq(plane_fixture_socket_plane(&fixture)->udp_send_drops, 1);
    dispose(&x);
    ck_assert_uint_eq(x.relay.final.up_packets, 1);
}
END_TEST

/* The length of the nth datagram of a pattern. */
static size_t pattern_length(int pattern, unsigned n)
{
    switch (pattern) {
    case 0: /* one run */
        return 500;
    case 1: /* no runs */
        return n % 2 == 0 ? 100 : 200;
    case 2: /* each run ends with a smaller one, some with an empty one */
        return n % 7 == 6 ? (n % 3 == 0 ? 0 : 33) : 512;
    case 3: /* falling */
        return 1000 - n % 1000;
    default: /* as it comes */
        return (n * 2654435761u >> 7) % 1500;
    }
}

enum sender { SENDER_WHOLE, SENDER_NO_GSO, SENDER_EIO, SENDER_EINVAL, SENDER_COUNT };

static void use_sender(enum sender sender)
{
    plane_fixture_socket_plane(&fixture)->gso_disabled = sender == SENDER_NO_GSO;
    fail_segmented = sender == SENDER_EIO ? EIO : sender == SENDER_EINVAL ? EINVAL : 0;
}

/* Bursts of datagrams keep borders, order and number, however they are joined, and also where the
 * kernel refuses to split what was joined. */
START_TEST(test_bursts)
{
    const int pattern = _i / SENDER_COUNT;
    const enum sender sender = _i % SENDER_COUNT;
    struct exchange x;
    uint64_t octets = 0;

    prepare(&x, false, pattern % 2 == 1);
    establish(&x);
    use_sender(sender);
    for (unsigned burst = 0; burst < 20; burst++) {
        for (unsigned i = 0; i < 50; i++)
            send_datagram(x.client, i, pattern_length(pattern, burst * 50 + i));
        for (unsigned i = 0; i < 50; i++) {
            const size_t length = pattern_length(pattern, burst * 50 + i);
            expect_datagram(&fixture, x.target, i, length);
            octets += length;
        }
    }
    expect_silence(&fixture, x.target);
    const struct socket_plane *plane = plane_fixture_socket_plane(&fixture);
    ck_assert_uint_eq(plane->udp_send_drops, 0);
    /* EIO is for good; EINVAL says something about a size on a path. */
    if (pattern == 0 && sender == SENDER_WHOLE)
        ck_assert_uint_ge(segmented_sends, 20);
    if (sender == SENDER_NO_GSO)
        ck_assert_uint_eq(segmented_sends, 0);
    if (pattern == 0 && (sender == SENDER_EIO || sender == SENDER_EINVAL))
        ck_assert_uint_le(segmented_sends, 3);
    ck_assert_int_eq(plane->gso_disabled,
                     sender == SENDER_NO_GSO || (sender == SENDER_EIO && segmented_sends != 0));
    dispose(&x);
    ck_assert_uint_eq(x.relay.final.up_packets, 1000);
    ck_assert_uint_eq(x.relay.final.up_bytes, octets);
}
END_TEST

/* A client that itself sends super-packets: split into what it meant, each counted. */
START_TEST(test_client_with_gso)
{
    const int size = 1000, tail = 64 * size - 300;
    struct exchange x;

    prepare(&x, _i == 1, false);
    establish(&x);
    ck_assert_int_eq(setsockopt(x.client, IPPROTO_UDP, SEGMENT_OPTION, &size, sizeof(size)), 0);
    for (unsigned i = 0; i < 3; i++) {
        send_datagram(x.client, 0, (size_t)tail);
        for (int j = 0; j < 64; j++)
            expect_datagram(&fixture, x.target, (size_t)(j * size),
                            (size_t)(j == 63 ? size - 300 : size));
    }
    expect_silence(&fixture, x.target);
    dispose(&x);
    ck_assert_uint_eq(x.relay.final.up_packets, 3 * 64);
    ck_assert_uint_eq(x.relay.final.up_bytes, 3 * (uint64_t)tail);
}
END_TEST

/* Datagrams above the path's MTU cannot be split by the kernel, but fragmented. */
START_TEST(test_above_the_mtu)
{
    struct exchange x;

    private_network_set_mtu(1500);
    prepare(&x, false, _i == 1);
    establish(&x);
    for (unsigned burst = 0; burst < 3; burst++) {
        for (unsigned i = 0; i < 20; i++)
            send_datagram(x.client, i, 2000);
        for (unsigned i = 0; i < 20; i++)
            expect_datagram(&fixture, x.target, i, 2000);
    }
    /* Smaller ones still go as one. */
    const unsigned before = segmented_sends;
    for (unsigned i = 0; i < 20; i++)
        send_datagram(x.client, i, 1000);
    for (unsigned i = 0; i < 20; i++)
        expect_datagram(&fixture, x.target, i, 1000);
    ck_assert_uint_gt(segmented_sends, before);
    ck_assert_uint_eq(plane_fixture_socket_plane(&fixture)->udp_send_drops, 0);
    ck_assert(!plane_fixture_socket_plane(&fixture)->gso_disabled);
    dispose(&x);
    ck_assert_uint_eq(x.relay.final.up_packets, 80);
}
END_TEST

/* A full send buffer loses datagrams; they are counted, and the next ones pass. */
START_TEST(test_send_failures)
{
    static const int errors[] = {EAGAIN, ENOBUFS, EPERM};
    struct exchange x;

    prepare(&x, false, false);
    establish(&x);
    fail_all = errors[_i];
    for (unsigned i = 0; i < 10; i++)
        send_datagram(x.client, 0, 100 + i % 2);
    WAIT_FOR(&fixture, plane_fixture_socket_plane(&fixture)->udp_send_drops == 10);
    ck_assert_uint_eq(x.relay.ended, 0);
    fail_all = 0;
    send_datagram(x.client, 0, 10);
    expect_datagram(&fixture, x.target, 0, 10);
    dispose(&x);
    ck_assert_uint_eq(x.relay.final.up_packets, 1);
    ck_assert_uint_eq(x.relay.final.up_bytes, 10);
}
END_TEST

/* A target that is not there is an event, told once, and no end. */
START_TEST(test_target_unreachable)
{
    struct exchange x;

    prepare(&x, false, false);
    establish(&x);
    const struct endpoint target = socket_name(x.target);
    close(x.target);
    for (unsigned i = 0; i < 5; i++) {
        send_datagram(x.client, 0, 10);
        WAIT_FOR(&fixture, fake_relay_counters(&x.relay).up_packets > i);
    }
    WAIT_FOR(&fixture, x.relay.events[N2_EVENT_TARGET_UNREACHABLE] != 0);
    ck_assert_uint_eq(x.relay.events[N2_EVENT_TARGET_UNREACHABLE], 1);
    ck_assert_uint_eq(x.relay.ended, 0);
    x.target = party_socket(PARTY_TARGET, false, SOCK_DGRAM, target.port);
    set_blocking(x.target, false);
    for (unsigned i = 0; i < 5; i++) {
        send_datagram(x.client, i, 20);
        expect_datagram(&fixture, x.target, i, 20);
    }
    dispose(&x);
}
END_TEST

/* A client that has gone is no event: its control connection tells. */
START_TEST(test_client_unreachable)
{
    struct exchange x;

    prepare(&x, false, false);
    establish(&x);
    const struct endpoint client = socket_name(x.client);
    close(x.client);
    for (unsigned i = 0; i < 3; i++) {
        send_datagram(x.target, 0, 10);
        WAIT_FOR(&fixture, fake_relay_counters(&x.relay).down_packets > i);
    }
    ck_assert_uint_eq(x.relay.events[N2_EVENT_TARGET_UNREACHABLE], 0);
    x.client = party_socket(PARTY_CLIENT, false, SOCK_DGRAM, client.port);
    set_blocking(x.client, false);
    send_datagram(x.target, 1, 20);
    expect_datagram(&fixture, x.client, 1, 20);
    ck_assert_uint_eq(x.relay.ended, 0);
    dispose(&x);
}
END_TEST

/* ---- strangers ---------------------------------------------------------------------------------
 */

/* Other addresses, other ports, super-packets: silence, an exact count, and nothing gets through.
 */
START_TEST(test_strangers)
{
    const bool v6 = _i == 1;
    const int size = 100;
    struct exchange x;

    prepare(&x, v6, false);
    establish(&x);
    const int capture = capture_open();
    const int strangers[] = {
        party_socket(PARTY_STRANGER, v6, SOCK_DGRAM, x.relay.relay.source.port),
        party_socket(PARTY_CLIENT, v6, SOCK_DGRAM, 0),
    };
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(connect_to(strangers[i], &x.relay.relay.bound), 0);
        for (unsigned j = 0; j < 50; j++)
            send_datagram(strangers[i], 0, j);
        const struct endpoint name = socket_name(strangers[i]);
        ck_assert_uint_eq(capture_count_to(capture, &name), 0);
    }
    ck_assert_uint_eq(fake_relay_drops(&x.relay), 100);
    ck_assert_int_eq(setsockopt(strangers[0], IPPROTO_UDP, SEGMENT_OPTION, &size, sizeof(size)), 0);
    send_datagram(strangers[0], 0, 6400);
    ck_assert_uint_eq(fake_relay_drops(&x.relay), 164);
    expect_silence(&fixture, x.target);
    ck_assert_uint_eq(x.relay.arrived, 0);
    send_datagram(x.client, 0, 10);
    expect_datagram(&fixture, x.target, 0, 10);
    ck_assert_uint_eq(fake_relay_drops(&x.relay), 164);
    close(capture);
    close(strangers[0]);
    close(strangers[1]);
    dispose(&x);
    ck_assert_uint_eq(x.relay.final.drops, 164);
}
END_TEST

/* The honest flow loses datagrams of its own; they are not counted among the strangers'. */
START_TEST(test_strangers_during_overload)
{
    struct exchange x;

    prepare(&x, false, false);
    establish(&x);
    const int stranger = party_socket(PARTY_STRANGER, false, SOCK_DGRAM, 0);
    ck_assert_int_eq(connect_to(stranger, &x.relay.relay.bound), 0);
    for (unsigned i = 0; i < 3000; i++) {
        send_datagram(x.client, 0, 1000);
        if (i % 30 == 0)
            send_datagram(stranger, 0, 1000);
    }
    WAIT_FOR(&fixture, fake_relay_counters(&x.relay).up_packets != 0);
    expect_datagram(&fixture, x.target, 0, 1000);
    for (unsigned i = 0; i < 50; i++)
        plane_fixture_turn(&fixture);
    ck_assert_uint_lt(fake_relay_counters(&x.relay).up_packets, 3000);
    ck_assert_uint_eq(fake_relay_drops(&x.relay), 100);
    close(stranger);
    dispose(&x);
}
END_TEST

/* Only DST is heard on the egress side. */
START_TEST(test_strangers_at_egress)
{
    struct exchange x;

    prepare(&x, false, false);
    establish(&x);
    const int stranger = party_socket(PARTY_STRANGER, false, SOCK_DGRAM, 0);
    ck_assert_int_eq(connect_to(stranger, &x.relay.relay.egress), 0);
    send_datagram(stranger, 0, 10);
    expect_silence(&fixture, x.client);
    close(stranger);
    dispose(&x);
    ck_assert_uint_eq(x.relay.final.down_packets, 0);
}
END_TEST

/* Nor is anybody who was there before the egress socket knew its DST. */
START_TEST(test_strangers_before_egress_is_connected)
{
    struct exchange x;

    endpoints_free(fixture.endpoints);
    fixture.config.egress.ports = (struct config_list){&fixture.egress_ports, 1};
    ck_assert_int_eq(endpoints_new(&fixture.endpoints, &fixture.config, NULL, 1), 0);
    plane_fixture_socket_plane(&fixture)->endpoints = fixture.endpoints;
    prepare(&x, false, false);
    const int stranger = party_socket(PARTY_STRANGER, false, SOCK_DGRAM, 0);
    before_connect = stranger;
    fake_relay_open_wait(&x.relay, &fixture);
    before_connect = -1;
    ck_assert_uint_ge(sent_before_connect, 2); /* to BND and to egress */
    ck_assert_int_eq(connect_to(x.client, &x.relay.relay.bound), 0);
    ck_assert_int_eq(connect_to(x.target, &x.relay.relay.egress), 0);
    expect_silence(&fixture, x.client);
    ck_assert_uint_eq(fake_relay_counters(&x.relay).down_packets, 0);
    send_datagram(x.target, 0, 10);
    expect_datagram(&fixture, x.client, 0, 10);
    close(stranger);
    dispose(&x);
    ck_assert_uint_eq(x.relay.final.down_packets, 1);
}
END_TEST

/* Nobody can bind beside the relay, whatever options he sets. */
START_TEST(test_bound_is_exclusive)
{
    struct exchange x;
    const int yes = 1;

    prepare(&x, false, false);
    establish(&x);
    for (unsigned i = 0; i < 4; i++) {
        struct sockaddr_in address = {.sin_family = AF_INET,
                                      .sin_port = htons(x.relay.relay.bound.port)};
        if (i < 2)
            memcpy(&address.sin_addr, x.relay.relay.bound.address.bytes, 4);
        const int fd = socket(AF_INET, SOCK_DGRAM, 0);
        setsockopt(fd, SOL_SOCKET, i % 2 == 0 ? SO_REUSEADDR : SO_REUSEPORT, &yes, sizeof(yes));
        ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), -1);
        ck_assert_int_eq(errno, EADDRINUSE);
        close(fd);
    }
    dispose(&x);
}
END_TEST

/* Nor is there a moment for it while the relay binds two sockets to one port. */
START_TEST(test_bound_is_exclusive_from_the_start)
{
    struct exchange x;

    prepare(&x, _i == 1, false);
    join_by = SO_REUSEADDR;
    fake_relay_open_wait(&x.relay, &fixture);
    join_by = 0;
    dispose(&x);
    ck_assert_uint_ge(joins_tried, 1);
    ck_assert_uint_eq(joins_done, 0);
}
END_TEST

/* S.PORT zero: the first datagram of the address tells the port. Nothing that comes before the
 * relay has looked is lost, others are strangers. */
START_TEST(test_learn_source_port)
{
    const bool v6 = _i == 1;
    struct exchange x;

    prepare(&x, v6, false);
    x.relay.relay.source.port = 0;
    x.relay.relay.learn_source_port = true;
    establish(&x);
    const int second = party_socket(PARTY_CLIENT, v6, SOCK_DGRAM, 0);
    const int stranger = party_socket(PARTY_STRANGER, v6, SOCK_DGRAM, 0);
    ck_assert_int_eq(connect_to(second, &x.relay.relay.bound), 0);
    ck_assert_int_eq(connect_to(stranger, &x.relay.relay.bound), 0);
    send_datagram(stranger, 0, 10);
    send_datagram(x.client, 1, 0);
    send_datagram(second, 2, 11);
    send_datagram(x.client, 3, 12);
    expect_datagram(&fixture, x.target, 1, 0);
    expect_datagram(&fixture, x.target, 3, 12);
    ck_assert_uint_eq(x.relay.arrived, 1);
    ck_assert_uint_eq(x.relay.relay.source.port, socket_name(x.client).port);
    ck_assert_uint_eq(fake_relay_drops(&x.relay), 2);
    send_datagram(second, 0, 10);
    send_datagram(x.client, 4, 1000);
    expect_datagram(&fixture, x.target, 4, 1000);
    send_datagram(x.target, 5, 1000);
    expect_datagram(&fixture, x.client, 5, 1000);
    ck_assert_uint_eq(fake_relay_drops(&x.relay), 3);
    close(second);
    close(stranger);
    dispose(&x);
    ck_assert_uint_eq(x.relay.final.up_packets, 3);
    ck_assert_uint_eq(x.relay.final.drops, 3);
}
END_TEST

#define OTHERS 8 /* ports: the kernel chooses by them which of two sockets is meant */

static int speaker, others[OTHERS];

/* Everybody sends while BND's data socket is bound and not yet connected. */
static void all_speak(void)
{
    for (unsigned i = 0; i < OTHERS; i++) {
        send_datagram(others[i], 0, 10);
        send_datagram(speaker, 2 + i, 20);
    }
}

/* Nothing of S is lost or overtaken in the moment in which its port is learnt, and every datagram
 * of others is counted. */
START_TEST(test_learn_source_port_while_they_come)
{
    const bool v6 = _i % 2 == 1, first_stranger = _i >= 2;
    struct exchange x;

    prepare(&x, v6, false);
    x.relay.relay.source.port = 0;
    x.relay.relay.learn_source_port = true;
    establish(&x);
    speaker = x.client;
    for (unsigned i = 0; i < OTHERS; i++) {
        others[i] = party_socket(i % 2 == 0 && first_stranger ? PARTY_STRANGER : PARTY_CLIENT, v6,
                                 SOCK_DGRAM, 0);
        ck_assert_int_eq(connect_to(others[i], &x.relay.relay.bound), 0);
    }
    in_between = all_speak;
    send_datagram(x.client, 1, 20);
    for (unsigned i = 0; i <= OTHERS; i++)
        expect_datagram(&fixture, x.target, 1 + i, 20);
    in_between = NULL;
    ck_assert_uint_eq(fake_relay_drops(&x.relay), OTHERS);
    all_speak();
    for (unsigned i = 0; i < OTHERS; i++)
        expect_datagram(&fixture, x.target, 2 + i, 20);
    ck_assert_uint_eq(fake_relay_drops(&x.relay), 2 * OTHERS);
    for (unsigned i = 0; i < OTHERS; i++)
        close(others[i]);
    dispose(&x);
    ck_assert_uint_eq(x.relay.final.up_packets, 1 + 2 * OTHERS);
    ck_assert_uint_eq(x.relay.final.drops, 2 * OTHERS);
}
END_TEST

/* ---- opening and ends --------------------------------------------------------------------------
 */

static void expect_failure(struct exchange *x, enum n2_error error)
{
    const unsigned fds = count_fds();

    fake_relay_open(&x->relay);
    ck_assert_uint_eq(x->relay.failed, 1);
    ck_assert_uint_eq(count_fds(), fds);
    ck_assert_msg(x->relay.error == error, "got %s (%s)", n2_error_name(x->relay.error),
                  x->relay.text);
    dispose(x);
}

START_TEST(test_open_fails)
{
    struct exchange x;

    prepare(&x, false, false);
    switch (_i) {
    case 0:
        fixture.config.egress.addresses.count = 0;
        ck_assert_int_eq(endpoint_parse("192.0.2.1:53", &x.relay.relay.destination), 0);
        expect_failure(&x, N2_ERROR_NETWORK_UNREACHABLE);
        break;
    case 1: /* broadcast */
        ck_assert_int_eq(endpoint_parse("127.255.255.255:53", &x.relay.relay.destination), 0);
        expect_failure(&x, N2_ERROR_NOT_ALLOWED);
        break;
    case 2:
        x.relay.relay.source.port = 0;
        expect_failure(&x, N2_ERROR_GENERAL);
        break;
    default:
        x.relay.order.egress_hint = party_address(PARTY_STRANGER, false);
        expect_failure(&x, N2_ERROR_GENERAL);
        break;
    }
}
END_TEST

START_TEST(test_idle_timeout)
{
    struct exchange x;

    prepare(&x, false, false);
    fixture.config.udp.idle_timeout_ms = _i == 0 ? 1500 : _i == 1 ? 0 : 100000;
    x.relay.relay.limits.idle_ms = _i == 0 ? 0 : 1500;
    establish(&x);
    for (unsigned i = 0; i < 6; i++) {
        const uint64_t until = monotonic_ms() + 300;
        send_datagram(i % 2 == 0 ? x.client : x.target, 0, 1);
        while (monotonic_ms() < until)
            plane_fixture_turn(&fixture);
    }
    ck_assert_uint_eq(x.relay.ended, 0);
    WAIT_FOR(&fixture, x.relay.closed == 1);
    ck_assert_int_eq(x.relay.reason, N2_REASON_IDLE_TIMEOUT);
    dispose(&x);
}
END_TEST

START_TEST(test_max_bytes)
{
    struct exchange x;

    prepare(&x, false, false);
    x.relay.relay.limits.max_bytes = 1000;
    establish(&x);
    for (unsigned i = 0; i < 20; i++)
        send_datagram(i == 0 ? x.target : x.client, 0, 99);
    WAIT_FOR(&fixture, x.relay.closed == 1);
    ck_assert_int_eq(x.relay.reason, N2_REASON_LIMIT);
    ck_assert_uint_eq(x.relay.final.up_bytes + x.relay.final.down_bytes, 990);
    dispose(&x);
}
END_TEST

/* N2-LIMIT-010: datagrams above the rate are dropped, whole, and counted; those that come later
 * pass. The other direction has a bucket of its own. */
START_TEST(test_rate)
{
    struct exchange x;

    prepare(&x, false, false);
    x.relay.relay.limits.bytes_per_second = 1000;
    establish(&x);
    for (unsigned i = 0; i < 6; i++) {
        send_datagram(x.client, i, 16000); /* 65536 is in the bucket; more comes in 14 s */
        if (i < 4)
            expect_datagram(&fixture, x.target, i, 16000);
    }
    WAIT_FOR(&fixture, plane_fixture_socket_plane(&fixture)->udp_rate_drops == 2);
    send_datagram(x.client, 0, 0); /* weighs nothing */
    expect_datagram(&fixture, x.target, 0, 0);
    send_datagram(x.target, 0, 60000);
    expect_datagram(&fixture, x.client, 0, 60000);
    const uint64_t end = monotonic_ms() + 1000;
    WAIT_FOR(&fixture, monotonic_ms() >= end);
    send_datagram(x.client, 0, 2000);
    expect_datagram(&fixture, x.target, 0, 2000);
    ck_assert_uint_eq(plane_fixture_socket_plane(&fixture)->udp_rate_drops, 2);
    ck_assert_uint_eq(x.relay.ended, 0);
    dispose(&x);
    ck_assert_uint_eq(x.relay.final.up_bytes, 66000);
    ck_assert_uint_eq(x.relay.final.up_packets, 6);
}
END_TEST

/* Of datagrams that come joined those leave for which there is room. */
START_TEST(test_rate_of_a_burst)
{
    struct exchange x;
    uint64_t got = 0;

    prepare(&x, false, false);
    x.relay.relay.limits.bytes_per_second = 1;
    establish(&x);
    for (unsigned i = 0; i < 80; i++) /* what a socket's buffer holds */
        send_datagram(x.client, i, 1000);
    WAIT_FOR(&fixture, plane_fixture_socket_plane(&fixture)->udp_rate_drops == 15);
    for (unsigned i = 0; i < 65; i++, got++)
        expect_datagram(&fixture, x.target, i, 1000);
    expect_silence(&fixture, x.target);
    dispose(&x);
    ck_assert_uint_eq(x.relay.final.up_packets, got);
}
END_TEST

/* The descriptors are gone when close() returns, BND answers like any closed port, and one answer
 * comes. */
START_TEST(test_close)
{
    struct exchange x;
    char octet;

    prepare(&x, false, false);
    x.relay.relay.learn_source_port = _i == 2;
    if (_i == 2)
        x.relay.relay.source.port = 0;
    const unsigned fds = count_fds();
    establish(&x);
    ck_assert_uint_eq(count_fds(), fds + 3);
    if (_i == 1) {
        send_datagram(x.client, 0, 10);
        expect_datagram(&fixture, x.target, 0, 10);
    }
    fake_relay_close(&x.relay, true);
    ck_assert_uint_eq(count_fds(), fds);
    fake_relay_close(&x.relay, false);
    send_datagram(x.client, 0, 10);
    ck_assert_int_eq(recv(x.client, &octet, 1, MSG_DONTWAIT), -1);
    ck_assert_int_eq(errno, ECONNREFUSED);
    WAIT_FOR(&fixture, x.relay.closed == 1);
    ck_assert_uint_eq(x.relay.ended, 0);
    dispose(&x);
    ck_assert_uint_eq(x.relay.closed, 1);
}
END_TEST

static void limit_fds(unsigned count)
{
    struct rlimit limit;

    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = count;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* One descriptor more each time, until the order succeeds: refused cleanly before. */
START_TEST(test_out_of_descriptors)
{
    struct exchange x;
    unsigned room = 0;

    prepare(&x, false, false);
    plane_fixture_turn(&fixture);
    const unsigned fds = count_fds();
    const int next = dup(x.client); /* the lowest free number */
    close(next);
    do {
        const struct endpoint source = x.relay.relay.source, to = x.relay.relay.destination;
        fake_relay_init(&x.relay, &fixture, PTCL_UDP, &source, &to);
        limit_fds((unsigned)next + room++);
        fake_relay_open(&x.relay);
        limit_fds(1024);
        if (x.relay.opened == 0) {
            ck_assert_int_eq(x.relay.error, N2_ERROR_GENERAL);
            ck_assert_uint_eq(count_fds(), fds);
            fake_relay_finish(&x.relay, &fixture);
        }
    } while (x.relay.opened == 0);
    ck_assert_uint_eq(room, 4); /* none, one, two, all three */
    dispose(&x);
}
END_TEST

START_TEST(test_many_in_a_row)
{
    struct mallinfo2 before = {0};
    unsigned fds = 0;

    for (unsigned i = 0; i < 520; i++) {
        struct exchange x;
        if (i == 20) {
            before = mallinfo2();
            fds = count_fds();
        }
        prepare(&x, i % 2 == 0, false);
        establish(&x);
        if (i % 4 == 0) {
            send_datagram(x.client, 0, 10);
            expect_datagram(&fixture, x.target, 0, 10);
        }
        dispose(&x);
    }
    ck_assert_uint_eq(count_fds(), fds);
    ck_assert_uint_le(mallinfo2().uordblks, before.uordblks + before.uordblks / 20);
}
END_TEST

static void add_datagrams(TCase *tests)
{
    tcase_add_loop_test(tests, test_relays_both_ways, 0, 4);
    tcase_add_loop_test(tests, test_sizes, 0, 4);
    tcase_add_test(tests, test_too_large_for_the_other_family);
    tcase_add_loop_test(tests, test_bursts, 0, 5 * SENDER_COUNT);
    tcase_add_loop_test(tests, test_client_with_gso, 0, 2);
    tcase_add_loop_test(tests, test_above_the_mtu, 0, 2);
    tcase_add_loop_test(tests, test_send_failures, 0, 3);
    tcase_add_test(tests, test_target_unreachable);
    tcase_add_test(tests, test_client_unreachable);
}

int main(void)
{
    Suite *suite = suite_create("udp_flow");
    TCase *tests = tcase_create("udp_flow");
    SRunner *runner = srunner_create(suite);

    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    add_datagrams(tests);
    tcase_add_loop_test(tests, test_strangers, 0, 2);
    tcase_add_test(tests, test_strangers_during_overload);
    tcase_add_test(tests, test_strangers_at_egress);
    tcase_add_test(tests, test_strangers_before_egress_is_connected);
    tcase_add_test(tests, test_bound_is_exclusive);
    tcase_add_loop_test(tests, test_bound_is_exclusive_from_the_start, 0, 2);
    tcase_add_loop_test(tests, test_learn_source_port, 0, 2);
    tcase_add_loop_test(tests, test_learn_source_port_while_they_come, 0, 4);
    tcase_add_loop_test(tests, test_open_fails, 0, 4);
    tcase_add_loop_test(tests, test_idle_timeout, 0, 3);
    tcase_add_test(tests, test_max_bytes);
    tcase_add_test(tests, test_rate);
    tcase_add_test(tests, test_rate_of_a_burst);
    tcase_add_loop_test(tests, test_close, 0, 3);
    tcase_add_test(tests, test_out_of_descriptors);
    tcase_add_test(tests, test_many_in_a_row);
    suite_add_tcase(suite, tests);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
