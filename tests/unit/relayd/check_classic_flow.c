/*
 * CONNECT and BIND once the target is there: the hand-over, what is moved, how it ends, and that
 * nothing remains. N2-ATTACH-010, N2-ATTACH-020, N2-ATTACH-030, N2-FD-040, N2-CONNECT-040.
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "relayd/plane/socket/stranger_filter.h"
#include "tests/unit/relayd/classic_connection.h"

#define BULK ((size_t)8 * 1024 * 1024)

static struct plane_fixture fixture;

static void setup(void)
{
    plane_fixture_setup(&fixture);
}

static void teardown(void)
{
    plane_fixture_teardown(&fixture);
}

/* Loop tests run once for each kind. */
static enum n2_kind kind_of(int i)
{
    return (i & 1) == 0 ? N2_KIND_CONNECT : N2_KIND_BIND;
}

/* Up to the hand-over. */
static void prepare_and_open(struct classic_connection *k, enum n2_kind kind)
{
    const struct ip_address target = party_address(PARTY_TARGET, false);

    if (kind == N2_KIND_CONNECT)
        classic_prepare_connect(k, &fixture, false, false);
    else
        classic_prepare_bind(k, &fixture, &target);
    classic_open(k);
    if (kind == N2_KIND_BIND)
        classic_come(k, PARTY_TARGET);
}

static void expect_octets(int fd, const void *wanted, size_t length)
{
    uint8_t buffer[N2_EARLY_DATA_MAX];

    for (size_t at = 0; at < length;) {
        const ssize_t n = receive_wait(&fixture, fd, buffer, sizeof(buffer));
        ck_assert_msg(n > 0, "%zu of %zu octets, then %zd", at, length, n);
        ck_assert_uint_le(at + (size_t)n, length);
        ck_assert_mem_eq(buffer, (const uint8_t *)wanted + at, (size_t)n);
        at += (size_t)n;
    }
}

/* ---- from end to end ---------------------------------------------------------------------------
 */

/* _i: kind, and how many early octets there are. They come first, and once. */
START_TEST(early_octets_and_both_ways)
{
    static const size_t lengths[] = {0, 1, 2, 1460, N2_EARLY_DATA_MAX};
    const size_t length = lengths[_i / 2];
    uint8_t *early = random_octets(N2_EARLY_DATA_MAX);
    struct classic_connection k;

    classic_establish(&k, &fixture, kind_of(_i), early, length);
    expect_octets(k.c.target, early, length);
    ck_assert_int_eq(send(k.c.client, "hello", 5, 0), 5);
    expect_octets(k.c.target, "hello", 5);
    ck_assert_int_eq(send(k.c.target, "world!", 6, 0), 6);
    expect_octets(k.c.client, "world!", 6);
    const struct n2_counters now = fake_relay_counters(&k.c.relay);
    ck_assert_uint_eq(now.up_bytes, length + 5);
    ck_assert_uint_eq(now.down_bytes, 6);
    ck_assert_uint_eq(now.up_packets, 1);
    ck_assert_uint_eq(now.down_packets, 1);
    classic_dispose(&k);
    ck_assert_uint_eq(k.c.relay.final.up_bytes, length + 5);
    ck_assert_uint_eq(k.c.relay.final.down_packets, 1);
    free(early);
}
END_TEST

/* _i: families of client and target. BND is the local end of the connection to the target. */
START_TEST(connects_between_all_families)
{
    struct classic_connection k;

    classic_prepare_connect(&k, &fixture, (_i & 1) != 0, (_i & 2) != 0);
    classic_open(&k);
    const struct relay *relay = &k.c.relay.relay;
    ck_assert(endpoint_equal(&relay->bound, &relay->egress));
    ck_assert(ip_address_equal(&relay->egress.address, &fixture.egress_addresses[(_i & 2) != 0]));
    ck_assert_uint_eq(k.c.relay.arrived, 0);
    classic_attach(&k, "x", 1);
    expect_octets(k.c.target, "x", 1);
    classic_dispose(&k);
}
END_TEST

/* The handshake before the hand-over is not the relay's. */
START_TEST(packets_before_do_not_count)
{
    struct classic_connection k;
    char buffer[16];

    prepare_and_open(&k, N2_KIND_CONNECT);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_int_eq(send(k.c.client, "abc", 3, 0), 3);
        ck_assert_int_eq(recv(k.socksd, buffer, sizeof(buffer), 0), 3);
    }
    classic_attach(&k, buffer, 3); /* the last one was early data */
    expect_octets(k.c.target, "abc", 3);
    ck_assert_uint_eq(fake_relay_counters(&k.c.relay).up_packets, 1);
    ck_assert_int_eq(send(k.c.client, "abc", 3, 0), 3);
    expect_octets(k.c.target, "abc", 3);
    ck_assert_uint_eq(fake_relay_counters(&k.c.relay).up_packets, 2);
    classic_dispose(&k);
    ck_assert_uint_eq(k.c.relay.final.up_packets, 2);
}
END_TEST

static int option_of(int fd, int level, int name)
{
    int value = -1;
    socklen_t length = sizeof(value);

    ck_assert_int_eq(getsockopt(fd, level, name, &value, &length), 0);
    return value;
}

START_TEST(options_of_the_client)
{
    struct classic_connection k;

    prepare_and_open(&k, kind_of(_i));
    const int same = dup(k.socksd);
    set_blocking(same, true);
    classic_attach(&k, NULL, 0);
    ck_assert_int_eq(option_of(same, IPPROTO_TCP, TCP_NODELAY), 1);
    ck_assert_int_eq(option_of(same, SOL_SOCKET, SO_KEEPALIVE), 1);
    ck_assert_int_eq(option_of(same, IPPROTO_TCP, TCP_KEEPIDLE), 30);
    ck_assert_int_ne(fcntl(same, F_GETFL) & O_NONBLOCK, 0);
    close(same);
    classic_dispose(&k);
}
END_TEST

/* ---- half-close, bulk --------------------------------------------------------------------------
 */

static void transfer_both(struct classic_connection *k, struct transfer *up, struct transfer *down)
{
    WAIT_FOR(&fixture, (transfer_step(up), transfer_step(down),
                        transfer_is_complete(up) && transfer_is_complete(down)));
    classic_expect_end(k, N2_REASON_FINISHED);
    ck_assert_uint_eq(k->c.relay.final.up_bytes, up->size);
    ck_assert_uint_eq(k->c.relay.final.down_bytes, down->size);
}

/* _i: kind; which side is slow: none, the target, the client. All of it arrives, then the ends, and
 * the relay ends by itself. */
START_TEST(bulk_both_ways)
{
    static const size_t slow = 16 * 1024;
    uint8_t *data = random_octets(BULK);
    struct classic_connection k;

    classic_establish(&k, &fixture, kind_of(_i), NULL, 0);
    struct transfer up = {.from = k.c.client,
                          .to = k.c.target,
                          .data = data,
                          .size = BULK,
                          .read_at_most = _i / 2 == 1 ? slow : 0};
    struct transfer down = {.from = k.c.target,
                            .to = k.c.client,
                            .data = data + 7,
                            .size = BULK - 7,
                            .read_at_most = _i / 2 == 2 ? slow : 0};
    transfer_both(&k, &up, &down);
    free(data);
    classic_dispose(&k);
}
END_TEST

/* _i: kind; which direction ends before the other has begun. */
START_TEST(half_closed_in_both_orders)
{
    uint8_t *data = random_octets(BULK);
    struct classic_connection k;
    const bool client_first = _i / 2 == 0;

    classic_establish(&k, &fixture, kind_of(_i), data, 100);
    struct transfer up = {.from = k.c.client, .to = k.c.target, .data = data, .size = BULK};
    struct transfer down = {.from = k.c.target, .to = k.c.client, .data = data, .size = BULK};
    struct transfer *first = client_first ? &up : &down;
    up.sent = 100; /* early */
    WAIT_FOR(&fixture, (transfer_step(first), transfer_is_complete(first)));
    ck_assert_uint_eq(k.c.relay.ended, 0);
    ck_assert_uint_eq(k.c.relay.events[N2_EVENT_TARGET_FIN], client_first ? 0 : 1);
    transfer_both(&k, &up, &down);
    free(data);
    classic_dispose(&k);
}
END_TEST

/* Everything that the client had to say was said before the hand-over: `printf | nc -N`. */
START_TEST(the_client_ended_before_the_hand_over)
{
    struct classic_connection k;
    uint8_t *early = random_octets(N2_EARLY_DATA_MAX);
    char buffer[16];

    prepare_and_open(&k, kind_of(_i));
    if (_i >= 2) /* some of it is still in the kernel */
        ck_assert_int_eq(send(k.c.client, "more", 4, 0), 4);
    ck_assert_int_eq(shutdown(k.c.client, SHUT_WR), 0);
    classic_attach(&k, early, N2_EARLY_DATA_MAX);
    expect_octets(k.c.target, early, N2_EARLY_DATA_MAX);
    if (_i >= 2)
        expect_octets(k.c.target, "more", 4);
    ck_assert_int_eq(receive_wait(&fixture, k.c.target, buffer, 1), 0);
    ck_assert_int_eq(send(k.c.target, "answer", 6, 0), 6);
    ck_assert_int_eq(shutdown(k.c.target, SHUT_WR), 0);
    expect_octets(k.c.client, "answer", 6);
    ck_assert_int_eq(receive_wait(&fixture, k.c.client, buffer, 1), 0);
    classic_expect_end(&k, N2_REASON_FINISHED);
    free(early);
    classic_dispose(&k);
}
END_TEST

/* What the target says, and that it has ended, waits for the client. */
START_TEST(the_target_spoke_before_the_hand_over)
{
    struct classic_connection k;
    char buffer[16];

    prepare_and_open(&k, kind_of(_i));
    ck_assert_int_eq(send(k.c.target, "220 hello", 9, 0), 9);
    if (_i >= 2)
        ck_assert_int_eq(shutdown(k.c.target, SHUT_WR), 0);
    /* It waits without a sound. */
    ck_assert_uint_lt(turns_within(&fixture, 100), 200);
    ck_assert_uint_eq(k.c.relay.ended, 0);
    classic_attach(&k, NULL, 0);
    expect_octets(k.c.client, "220 hello", 9);
    if (_i >= 2) {
        ck_assert_int_eq(receive_wait(&fixture, k.c.client, buffer, 1), 0);
        ck_assert_uint_eq(k.c.relay.events[N2_EVENT_TARGET_FIN], 1);
    }
    ck_assert_int_eq(send(k.c.client, "quit", 4, 0), 4);
    expect_octets(k.c.target, "quit", 4);
    classic_dispose(&k);
}
END_TEST

/* ---- what may be handed over -------------------------------------------------------------------
 */

enum bad_fd {
    BAD_PIPE,
    BAD_FILE,
    BAD_DATAGRAM,
    BAD_CONNECTED_DATAGRAM,
    BAD_UNCONNECTED,
    BAD_CONNECTING,
    BAD_LISTENING,
    BAD_OTHER_CLIENT,
    BAD_OTHER_ADDRESS,
    BAD_UNIX_DATAGRAM,
    BAD_UNIX_PACKET,
    BAD_UNIX_UNCONNECTED,
    BAD_NETLINK,
    BAD_COUNT
};

static int first_of_pair(int type)
{
    int pair[2];

    ck_assert_int_eq(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair), 0);
    close(pair[1]);
    return pair[0];
}

/* A connection to the same place as the client's, of somebody else. */
static int connection_of(enum party party, const struct endpoint *to, int *keep)
{
    *keep = party_socket(party, false, SOCK_STREAM, 0);
    const int listener = party_listener(PARTY_RELAY, false, 0);
    const struct endpoint name = socket_name(listener);

    (void)to;
    ck_assert_int_eq(connect_to(*keep, &name), 0);
    const int fd = accept(listener, NULL, NULL);
    ck_assert_int_ge(fd, 0);
    close(listener);
    return fd;
}

static int bad_stream(enum bad_fd which, struct classic_connection *k, int *keep)
{
    const struct endpoint nobody = {.address = party_address(PARTY_STRANGER, false), .port = 9};
    int fd;

    switch (which) {
    case BAD_UNCONNECTED:
        return socket(AF_INET, SOCK_STREAM, 0);
    case BAD_CONNECTING:
        *keep = silent_listener(PARTY_STRANGER, false);
        fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        const struct endpoint silent = socket_name(*keep);
        ck_assert_int_eq(connect_to(fd, &silent), -EINPROGRESS);
        return fd;
    case BAD_LISTENING:
        return party_listener(PARTY_CLIENT, false, 0);
    case BAD_OTHER_CLIENT:
        return connection_of(PARTY_CLIENT, &k->candidates[0], keep);
    case BAD_OTHER_ADDRESS:
        return connection_of(PARTY_STRANGER, &k->candidates[0], keep);
    default:
        fd = party_socket(PARTY_CLIENT, false, SOCK_DGRAM, 0);
        if (which == BAD_CONNECTED_DATAGRAM)
            ck_assert_int_eq(connect_to(fd, &nobody), 0);
        return fd;
    }
}

static int bad_descriptor(enum bad_fd which, struct classic_connection *k, int *keep)
{
    int ends[2];

    *keep = -1;
    switch (which) {
    case BAD_PIPE:
        ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
        close(ends[1]);
        return ends[0];
    case BAD_FILE:
        return open("/dev/null", O_RDWR | O_CLOEXEC);
    case BAD_UNIX_DATAGRAM:
        return first_of_pair(SOCK_DGRAM);
    case BAD_UNIX_PACKET:
        return first_of_pair(SOCK_SEQPACKET);
    case BAD_UNIX_UNCONNECTED:
        return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    case BAD_NETLINK:
        return socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0);
    default:
        return bad_stream(which, k, keep);
    }
}

/* _i: kind, and what is handed over. It is closed and counted, the relay ends, the target is reset,
 * and no octet of it has gone anywhere. */
START_TEST(bad_descriptors)
{
    struct classic_connection k;
    char buffer[16];
    int keep;

    prepare_and_open(&k, kind_of(_i));
    const int fd = bad_descriptor((enum bad_fd)(_i / 2), &k, &keep);
    ck_assert_int_ge(fd, 0);
    const unsigned fds = count_fds();
    classic_attach_fd(&k, fd, "early", 5);
    ck_assert_int_eq(fcntl(fd, F_GETFD), -1);
    ck_assert_uint_lt(count_fds(), fds);
    classic_expect_end(&k, N2_REASON_ERROR);
    ck_assert_uint_eq(k.c.relay.arrived, 0);
    ck_assert_uint_eq(k.c.relay.final.up_bytes, 0);
    ck_assert_uint_eq(plane_fixture_socket_plane(&fixture)->clients_refused, 1);
    ck_assert_int_eq(receive_wait(&fixture, k.c.target, buffer, sizeof(buffer)), -ECONNRESET);
    if (keep >= 0)
        close(keep);
    classic_dispose(&k);
}
END_TEST

/* One end of a socket pair of socksd's, for a protected control connection. */
START_TEST(a_socket_pair_is_a_client)
{
    struct classic_connection k;
    uint8_t *data = random_octets(BULK);
    int pair[2];

    prepare_and_open(&k, kind_of(_i));
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    classic_attach_fd(&k, pair[0], data, 10);
    struct transfer up = {.from = pair[1], .to = k.c.target, .data = data, .size = BULK};
    struct transfer down = {.from = k.c.target, .to = pair[1], .data = data, .size = BULK};
    up.sent = 10;
    transfer_both(&k, &up, &down);
    close(pair[1]);
    free(data);
    classic_dispose(&k);
}
END_TEST

/* … also when it had ended its direction before. */
START_TEST(the_client_reset_before_the_hand_over)
{
    struct classic_connection k;
    char buffer[16];

    prepare_and_open(&k, kind_of(_i));
    if (_i >= 2)
        ck_assert_int_eq(shutdown(k.c.client, SHUT_WR), 0);
    reset_end(&k.c.client);
    classic_attach(&k, "early", 5);
    classic_expect_end(&k, N2_REASON_CLIENT_RESET);
    ck_assert_uint_eq(plane_fixture_socket_plane(&fixture)->clients_refused, 0);
    ck_assert_int_eq(receive_wait(&fixture, k.c.target, buffer, sizeof(buffer)), -ECONNRESET);
    classic_dispose(&k);
}
END_TEST

/* ---- ends --------------------------------------------------------------------------------------
 */

START_TEST(nobody_is_handed_over)
{
    struct classic_connection k;
    char buffer[16];

    fixture.config.tcp.accept_timeout_ms = 50;
    prepare_and_open(&k, kind_of(_i));
    classic_expect_end(&k, N2_REASON_ACCEPT_TIMEOUT);
    ck_assert_int_eq(receive_wait(&fixture, k.c.target, buffer, sizeof(buffer)), -ECONNRESET);
    classic_dispose(&k);
}
END_TEST

START_TEST(the_target_resets_before_the_hand_over)
{
    struct classic_connection k;

    prepare_and_open(&k, kind_of(_i));
    reset_end(&k.c.target);
    classic_expect_end(&k, N2_REASON_TARGET_RESET);
    ck_assert_uint_eq(k.c.relay.events[N2_EVENT_TARGET_RST], 1);
    classic_dispose(&k);
}
END_TEST

/* _i: kind; who. */
START_TEST(resets)
{
    struct classic_connection k;
    const bool client = _i / 2 == 0;
    char buffer[16];

    classic_establish(&k, &fixture, kind_of(_i), NULL, 0);
    ck_assert_int_eq(send(client ? k.c.client : k.c.target, "last words", 10, 0), 10);
    reset_end(client ? &k.c.client : &k.c.target);
    classic_expect_end(&k, client ? N2_REASON_CLIENT_RESET : N2_REASON_TARGET_RESET);
    const int other = client ? k.c.target : k.c.client;
    expect_octets(other, "last words", 10);
    ck_assert_int_eq(receive_wait(&fixture, other, buffer, sizeof(buffer)), -ECONNRESET);
    classic_dispose(&k);
}
END_TEST

START_TEST(idle_and_half_closed_for_too_long)
{
    struct classic_connection k;

    fixture.config.tcp.fin_timeout_ms = 60;
    classic_establish(&k, &fixture, kind_of(_i), NULL, 0);
    if (_i / 2 == 0)
        ck_assert_int_eq(shutdown(k.c.client, SHUT_WR), 0);
    else
        ck_assert_int_eq(shutdown(k.c.target, SHUT_WR), 0);
    classic_expect_end(&k, N2_REASON_FIN_TIMEOUT);
    classic_dispose(&k);
}
END_TEST

/* All that the target had to say is with the kernel, and the client is slow to take it: longer than
 * a half-closed connection may be silent. */
START_TEST(a_slow_client_of_a_target_that_has_ended)
{
    const size_t size = 600 * 1000, step = 8 * 1024;
    uint8_t *data = random_octets(size), *got = malloc(size);
    struct classic_connection k;
    size_t sent = 0, received = 0;

    fixture.config.tcp.fin_timeout_ms = 1000;
    classic_establish(&k, &fixture, kind_of(_i), NULL, 0);
    while (sent < size) {
        const ssize_t n = send(k.c.target, data + sent, size - sent, MSG_DONTWAIT);
        sent += n > 0 ? (size_t)n : 0;
        plane_fixture_turn(&fixture);
    }
    ck_assert_int_eq(shutdown(k.c.target, SHUT_WR), 0);
    while (received < size) {
        const size_t left = size - received;
        const ssize_t n =
            receive_wait(&fixture, k.c.client, got + received, left < step ? left : step);
        ck_assert_msg(n > 0, "%zd after %zu octets", n, received);
        received += (size_t)n;
        turns_within(&fixture, 40);
    }
    ck_assert_mem_eq(got, data, size);
    ck_assert_int_eq(receive_wait(&fixture, k.c.client, got, 1), 0);
    classic_expect_end(&k, N2_REASON_FIN_TIMEOUT);
    free(data);
    free(got);
    classic_dispose(&k);
}
END_TEST

/* Early octets are under the limit of octets, too. */
START_TEST(the_limit_of_octets)
{
    struct classic_connection k;
    uint8_t *early = random_octets(N2_EARLY_DATA_MAX);
    char buffer[16];

    prepare_and_open(&k, kind_of(_i));
    k.c.relay.relay.limits.max_bytes = 1000;
    classic_attach(&k, early, N2_EARLY_DATA_MAX);
    classic_expect_end(&k, N2_REASON_LIMIT);
    ck_assert_uint_eq(k.c.relay.final.up_bytes, 1000);
    expect_octets(k.c.target, early, 1000);
    ck_assert_int_eq(receive_wait(&fixture, k.c.target, buffer, sizeof(buffer)), -ECONNRESET);
    free(early);
    classic_dispose(&k);
}
END_TEST

/* _i: kind; when. CloseRelay, or the loss of N2: descriptors are gone when it returns, both ends
 * are reset. */
START_TEST(closed_in_every_state)
{
    struct classic_connection k;
    const int when = _i / 2;
    char buffer[16];

    prepare_and_open(&k, kind_of(_i));
    const int control = dup(k.socksd); /* socksd may have a copy of its own for a moment */
    if (when >= 1)
        classic_attach(&k, "early", 5);
    if (when >= 2) {
        ck_assert_int_eq(shutdown(k.c.target, SHUT_WR), 0);
        ck_assert_int_eq(receive_wait(&fixture, k.c.client, buffer, 1), 0);
    }
    close(control);
    fake_relay_close(&k.c.relay, true);
    fake_relay_close(&k.c.relay, true); /* once more does no harm */
    if (when >= 1)
        expect_octets(k.c.target, "early", 5);
    ck_assert_int_eq(receive_wait(&fixture, k.c.target, buffer, sizeof(buffer)), -ECONNRESET);
    if (when == 1)
        ck_assert_int_eq(receive_wait(&fixture, k.c.client, buffer, 1), -ECONNRESET);
    WAIT_FOR(&fixture, k.c.relay.closed == 1);
    ck_assert_uint_eq(k.c.relay.ended, 0);
    classic_dispose(&k);
}
END_TEST

/* ---- resources ---------------------------------------------------------------------------------
 */

/* _i: kind. One descriptor more each time, until the order succeeds: refused cleanly before. */
START_TEST(out_of_descriptors)
{
    struct classic_connection k;
    const struct ip_address target = party_address(PARTY_TARGET, false);
    unsigned room = 0;

    if (kind_of(_i) == N2_KIND_CONNECT)
        classic_prepare_connect(&k, &fixture, false, false);
    else
        classic_prepare_bind(&k, &fixture, &target);
    plane_fixture_turn(&fixture);
    const struct fake_relay order = k.c.relay;
    const unsigned fds = count_fds();
    const int next = dup(0);
    close(next);
    do {
        k.c.relay = order;
        limit_descriptors((unsigned)next + room++);
        fake_relay_open(&k.c.relay);
        limit_descriptors(1024);
        WAIT_FOR(&fixture, k.c.relay.opened + k.c.relay.closed != 0);
        if (k.c.relay.opened == 0) {
            ck_assert_uint_eq(k.c.relay.failed, 1);
            ck_assert_int_eq(k.c.relay.error, N2_ERROR_GENERAL);
            ck_assert_uint_eq(count_fds(), fds);
        }
    } while (k.c.relay.opened == 0);
    /* The target's socket; or the listener and the trap. */
    ck_assert_uint_eq(room, kind_of(_i) == N2_KIND_CONNECT ? 2 : 3);
    fake_relay_finish(&k.c.relay, &fixture);
    ck_assert_uint_eq(count_fds(), fds);
    classic_dispose(&k);
}
END_TEST

/* No descriptor is left for pipes: early octets and all others are copied. */
START_TEST(handed_over_without_a_descriptor_left)
{
    struct classic_connection k;
    uint8_t *early = random_octets(N2_EARLY_DATA_MAX);

    prepare_and_open(&k, kind_of(_i));
    const int next = dup(0);
    close(next);
    limit_descriptors((unsigned)next);
    classic_attach(&k, early, N2_EARLY_DATA_MAX);
    expect_octets(k.c.target, early, N2_EARLY_DATA_MAX);
    ck_assert_int_eq(send(k.c.client, "hello", 5, 0), 5);
    expect_octets(k.c.target, "hello", 5);
    limit_descriptors(1024);
    free(early);
    classic_dispose(&k);
}
END_TEST

START_TEST(many_in_a_row)
{
    struct mallinfo2 before = {0};
    unsigned fds = 0;

    for (unsigned i = 0; i < 520; i++) {
        struct classic_connection k;
        if (i == 20) {
            before = mallinfo2();
            fds = count_fds();
        }
        prepare_and_open(&k, kind_of((int)i));
        if (i % 3 != 0)
            classic_attach(&k, "early", i % 5);
        if (i % 4 == 0)
            reset_end(&k.c.target);
        if (i % 7 == 0 && k.c.relay.arrived != 0)
            ck_assert_int_eq(shutdown(k.c.client, SHUT_WR), 0);
        classic_dispose(&k);
    }
    ck_assert_uint_eq(count_fds(), fds);
    ck_assert_uint_le(mallinfo2().uordblks, before.uordblks + before.uordblks / 20);
}
END_TEST

static void add_moving(TCase *tests)
{
    tcase_add_loop_test(tests, early_octets_and_both_ways, 0, 10);
    tcase_add_loop_test(tests, connects_between_all_families, 0, 4);
    tcase_add_test(tests, packets_before_do_not_count);
    tcase_add_loop_test(tests, options_of_the_client, 0, 2);
    tcase_add_loop_test(tests, bulk_both_ways, 0, 6);
    tcase_add_loop_test(tests, half_closed_in_both_orders, 0, 4);
    tcase_add_loop_test(tests, the_client_ended_before_the_hand_over, 0, 4);
    tcase_add_loop_test(tests, the_target_spoke_before_the_hand_over, 0, 4);
}

int main(void)
{
    Suite *suite = suite_create("classic_flow");
    TCase *tests = tcase_create("classic_flow");
    SRunner *runner = srunner_create(suite);

    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    add_moving(tests);
    tcase_add_loop_test(tests, bad_descriptors, 0, 2 * BAD_COUNT);
    tcase_add_loop_test(tests, a_socket_pair_is_a_client, 0, 2);
    tcase_add_loop_test(tests, the_client_reset_before_the_hand_over, 0, 4);
    tcase_add_loop_test(tests, nobody_is_handed_over, 0, 2);
    tcase_add_loop_test(tests, the_target_resets_before_the_hand_over, 0, 2);
    tcase_add_loop_test(tests, resets, 0, 4);
    tcase_add_loop_test(tests, idle_and_half_closed_for_too_long, 0, 4);
    tcase_add_loop_test(tests, a_slow_client_of_a_target_that_has_ended, 0, 2);
    tcase_add_loop_test(tests, the_limit_of_octets, 0, 2);
    tcase_add_loop_test(tests, closed_in_every_state, 0, 6);
    tcase_add_loop_test(tests, out_of_descriptors, 0, 2);
    tcase_add_loop_test(tests, handed_over_without_a_descriptor_left, 0, 2);
    tcase_add_test(tests, many_in_a_row);
    suite_add_tcase(suite, tests);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
