/*
 * What flows through a TCP relay arrives, in order, whole, however it is moved; and what does not
 * flow waits without a sound.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "relayd/plane/socket/tcp_stream.h"
#include "tests/unit/relayd/tcp_connection.h"

#define BULK ((size_t)20 * 1024 * 1024)

static struct plane_fixture fixture;

static void setup(void)
{
    plane_fixture_setup(&fixture);
}

static void teardown(void)
{
    plane_fixture_teardown(&fixture);
}

/* Pipes as configured, tiny ones, none at all. */
enum mover { MOVER_PIPE, MOVER_TINY_PIPE, MOVER_COPY, MOVER_COUNT };

/* Before the first relay. */
static void use_mover(enum mover mover)
{
    struct socket_plane *plane = plane_fixture_socket_plane(&fixture);
    struct pipe_ends ends;

    if (mover == MOVER_PIPE)
        return;
    pipe_pool_free(plane->pipes);
    ck_assert_int_eq(pipe_pool_new(&plane->pipes, 4096), 0);
    if (mover == MOVER_TINY_PIPE)
        return;
    const struct rlimit many = {4096, 4096};
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &many), 0);
    for (unsigned i = 0; i < PIPE_POOL_OPEN_MAX; i++)
        ck_assert_int_eq(pipe_pool_take(plane->pipes, 0, &ends), 0);
}

static void finish_both(struct tcp_connection *c, struct transfer *up, struct transfer *down)
{
    WAIT_FOR(&fixture, (transfer_step(up), transfer_step(down),
                        transfer_is_complete(up) && transfer_is_complete(down)));
    WAIT_FOR(&fixture, c->relay.closed == 1);
    ck_assert_uint_eq(c->relay.ended, 1);
    ck_assert_int_eq(c->relay.reason, N2_REASON_FINISHED);
    ck_assert_uint_eq(c->relay.events[N2_EVENT_TARGET_FIN], 1);
    ck_assert_uint_eq(c->relay.events[N2_EVENT_TARGET_RST], 0);
    ck_assert_uint_eq(c->relay.final.up_bytes, up->size);
    ck_assert_uint_eq(c->relay.final.down_bytes, down->size);
    ck_assert_uint_eq(c->relay.final.drops, 0);
}

/* Both directions at once, FIN of each when it has sent all. */
START_TEST(test_bulk)
{
    struct tcp_connection c;
    uint8_t *data = random_octets(BULK + 1);

    use_mover(_i);
    tcp_connection_establish(&c, &fixture);
    struct transfer up = {.from = c.client, .to = c.target, .data = data, .size = BULK},
                    down = {.from = c.target, .to = c.client, .data = data + 1, .size = BULK};
    finish_both(&c, &up, &down);
    const struct socket_plane *plane = plane_fixture_socket_plane(&fixture);
    ck_assert_int_eq(plane->tcp_copies != 0, _i == MOVER_COPY);
    ck_assert_uint_gt(c.relay.final.up_packets, 10);
    ck_assert_uint_gt(c.relay.final.down_packets, 10);
    free(data);
    tcp_connection_dispose(&c);
}
END_TEST

/* The client says all it has to say and half-closes; the answer comes after that, and the other way
 * round. */
START_TEST(test_half_close)
{
    const bool client_first = _i < MOVER_COUNT;
    struct tcp_connection c;
    uint8_t *data = random_octets(BULK);

    use_mover(_i % MOVER_COUNT);
    tcp_connection_establish(&c, &fixture);
    struct transfer up = {.from = c.client, .to = c.target, .data = data, .size = BULK},
                    down = {.from = c.target, .to = c.client, .data = data, .size = BULK};
    struct transfer *first = client_first ? &up : &down;
    WAIT_FOR(&fixture, (transfer_step(first), transfer_is_complete(first)));
    ck_assert_uint_eq(c.relay.ended, 0);
    ck_assert_uint_eq(c.relay.events[N2_EVENT_TARGET_FIN], client_first ? 0 : 1);
    /* A FIN that waits for the other one keeps nobody busy. */
    ck_assert_uint_lt(turns_within(&fixture, 100), 200);
    finish_both(&c, &up, &down);
    free(data);
    tcp_connection_dispose(&c);
}
END_TEST

/* Nothing but FINs. */
START_TEST(test_empty)
{
    struct tcp_connection c;

    use_mover(_i);
    tcp_connection_establish(&c, &fixture);
    struct transfer up = {.from = c.client, .to = c.target},
                    down = {.from = c.target, .to = c.client};
    finish_both(&c, &up, &down);
    ck_assert_uint_eq(c.relay.final.up_packets, 0);
    tcp_connection_dispose(&c);
}
END_TEST

/* Sends until nothing moves any more. */
static void fill(struct transfer *t)
{
    unsigned still = 0;

    while (still < 50) {
        const ssize_t n =
            send(t->from, t->data + t->sent, t->size - t->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        ck_assert(n > 0 || errno == EAGAIN);
        ck_assert_msg(t->sent < t->size, "%zu octets went into a relay that nobody reads", t->sent);
        if (n > 0)
            t->sent += (size_t)n;
        still = n > 0 ? 0 : still + 1;
        plane_fixture_turn(&fixture);
    }
}

static void shrink_buffers(int fd)
{
    const int size = 64 * 1024;

    ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
    ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)), 0);
}

/* A reader that does not read stops the sender; nobody spins; when it reads everything is there. */
START_TEST(test_back_pressure)
{
    const size_t size = 3 * BULK;
    const bool up_direction = _i < MOVER_COUNT;
    struct tcp_connection c;
    uint8_t *data = random_octets(size);

    use_mover(_i % MOVER_COUNT);
    tcp_connection_establish(&c, &fixture);
    shrink_buffers(c.client);
    shrink_buffers(c.target);
    struct transfer up = {.from = c.client, .to = c.target, .data = data, .size = size},
                    down = {.from = c.target, .to = c.client, .data = data, .size = size};
    struct transfer *stuck = up_direction ? &up : &down, *other = up_direction ? &down : &up;
    fill(stuck);
    ck_assert_uint_lt(turns_within(&fixture, 100), 200);
    /* The other direction is not held up. */
    other->size = 100000;
    other->keep_open = true;
    WAIT_FOR(&fixture, (transfer_step(other), transfer_is_complete(other)));
    other->keep_open = false;
    finish_both(&c, &up, &down);
    free(data);
    tcp_connection_dispose(&c);
}
END_TEST

/* The receiver takes an octet or a few at a time. */
START_TEST(test_small_reads)
{
    struct tcp_connection c;
    uint8_t *data = random_octets(80000);

    use_mover(_i);
    tcp_connection_establish(&c, &fixture);
    shrink_buffers(c.target);
    struct transfer up = {.from = c.client,
                          .to = c.target,
                          .data = data,
                          .size = 80000,
                          .read_at_most = 257},
                    down = {.from = c.target, .to = c.client, .data = data, .size = 1};
    finish_both(&c, &up, &down);
    free(data);
    tcp_connection_dispose(&c);
}
END_TEST

/* What the relay has taken over is delivered although both its connections are closed before the
 * target reads on. */
START_TEST(test_tail_is_not_lost)
{
    const size_t size = 2 * 1024 * 1024;
    struct tcp_connection c;
    uint8_t *data = random_octets(size);

    tcp_connection_establish(&c, &fixture);
    struct transfer up = {.from = c.client, .to = c.target, .data = data, .size = size};
    ck_assert_int_eq(shutdown(c.target, SHUT_WR), 0);
    while (c.relay.closed == 0) {
        /* Reads only as much as lets the relay get rid of it. */
        if (up.sent < up.size || !up.fin_sent || up.received + 1024 * 1024 < size)
            transfer_step(&up);
        plane_fixture_turn(&fixture);
    }
    ck_assert_int_eq(c.relay.reason, N2_REASON_FINISHED);
    ck_assert_uint_lt(up.received, size);
    WAIT_FOR(&fixture, (transfer_step(&up), transfer_is_complete(&up)));
    free(data);
    tcp_connection_dispose(&c);
}
END_TEST

/* What the target says before the client has come is not lost, its FIN included. */
START_TEST(test_early_target)
{
    struct tcp_connection c;
    char buffer[16];

    tcp_connection_prepare(&c, &fixture, false, false);
    tcp_connection_open(&c);
    ck_assert_int_eq(send(c.target, "banner", 6, 0), 6);
    ck_assert_int_eq(shutdown(c.target, SHUT_WR), 0);
    WAIT_FOR(&fixture, c.relay.events[N2_EVENT_TARGET_FIN] == 1);
    ck_assert_uint_lt(turns_within(&fixture, 100), 200);
    ck_assert_uint_eq(c.relay.ended, 0);
    tcp_connection_arrive(&c);
    ck_assert_int_eq(receive_wait(&fixture, c.client, buffer, sizeof(buffer)), 6);
    ck_assert_mem_eq(buffer, "banner", 6);
    ck_assert_int_eq(receive_wait(&fixture, c.client, buffer, sizeof(buffer)), 0);
    /* The other direction still works. */
    ck_assert_int_eq(send(c.client, "reply", 5, 0), 5);
    ck_assert_int_eq(receive_wait(&fixture, c.target, buffer, sizeof(buffer)), 5);
    ck_assert_uint_eq(c.relay.events[N2_EVENT_TARGET_FIN], 1);
    tcp_connection_dispose(&c);
}
END_TEST

/* splice(2) stops before urgent data for ever, and takes a FIN behind it for the end of the stream.
 */
START_TEST(test_urgent_data)
{
    struct tcp_connection c;
    char buffer[16];
    size_t got = 0;

    use_mover(_i);
    tcp_connection_establish(&c, &fixture);
    ck_assert_int_eq(send(c.client, "ab", 2, 0), 2);
    ck_assert_int_eq(send(c.client, "!", 1, MSG_OOB), 1);
    ck_assert_int_eq(send(c.client, "cd", 2, 0), 2);
    ck_assert_int_eq(shutdown(c.client, SHUT_WR), 0);
    for (ssize_t n; (n = receive_wait(&fixture, c.target, buffer + got, sizeof(buffer) - got)) > 0;)
        got += (size_t)n;
    ck_assert_uint_eq(got, 5);
    ck_assert_mem_eq(buffer, "ab!cd", 5);
    ck_assert_uint_lt(turns_within(&fixture, 100), 200);
    tcp_connection_dispose(&c);
}
END_TEST

/* Urgent data alone, with nothing behind it, must not keep the relay busy. */
START_TEST(test_urgent_data_alone)
{
    struct tcp_connection c;
    char buffer[16];

    use_mover(_i);
    tcp_connection_establish(&c, &fixture);
    ck_assert_int_eq(send(c.target, "!", 1, MSG_OOB), 1);
    ck_assert_int_eq(receive_wait(&fixture, c.client, buffer, sizeof(buffer)), 1);
    ck_assert_int_eq(buffer[0], '!');
    ck_assert_uint_lt(turns_within(&fixture, 100), 200);
    tcp_connection_dispose(&c);
}
END_TEST

/* A pipe is attached only while data is in flight: idle relays have none. */
START_TEST(test_pipes_are_shared)
{
    struct tcp_connection c[8];
    struct pipe_pool_figures figures;
    char buffer[16];

    for (unsigned i = 0; i < 8; i++)
        tcp_connection_establish(&c[i], &fixture);
    for (unsigned i = 0; i < 8; i++) {
        ck_assert_int_eq(send(c[i].client, "hello", 5, 0), 5);
        ck_assert_int_eq(receive_wait(&fixture, c[i].target, buffer, sizeof(buffer)), 5);
    }
    pipe_pool_figures(plane_fixture_socket_plane(&fixture)->pipes, &figures);
    ck_assert_uint_eq(figures.open, 1);
    ck_assert_uint_eq(figures.idle, 1);
    for (unsigned i = 0; i < 8; i++)
        tcp_connection_dispose(&c[i]);
}
END_TEST

/* A pipe with data in it is not given to the next relay. */
START_TEST(test_pipes_of_aborted_relays)
{
    struct tcp_connection c;
    struct pipe_pool_figures figures;
    uint8_t *data = random_octets(3 * BULK);

    tcp_connection_establish(&c, &fixture);
    shrink_buffers(c.target);
    struct transfer up = {.from = c.client, .to = c.target, .data = data, .size = 3 * BULK};
    fill(&up);
    pipe_pool_figures(plane_fixture_socket_plane(&fixture)->pipes, &figures);
    ck_assert_uint_eq(figures.open, 1);
    ck_assert_uint_eq(figures.idle, 0);
    fake_relay_close(&c.relay, true);
    pipe_pool_figures(plane_fixture_socket_plane(&fixture)->pipes, &figures);
    ck_assert_uint_eq(figures.open, 0);
    WAIT_FOR(&fixture, c.relay.closed == 1);
    free(data);
    tcp_connection_dispose(&c);
}
END_TEST

START_TEST(test_max_bytes)
{
    struct tcp_connection c;
    uint8_t *data = random_octets(100000);
    char buffer[4096];
    size_t got = 0;

    use_mover(_i);
    tcp_connection_prepare(&c, &fixture, false, false);
    c.relay.relay.limits.max_bytes = 50000;
    tcp_connection_open(&c);
    tcp_connection_arrive(&c);
    ck_assert_int_eq(send(c.target, data, 10000, 0), 10000);
    while (got < 10000) {
        const ssize_t n = receive_wait(&fixture, c.client, buffer, sizeof(buffer));
        ck_assert_int_gt(n, 0);
        got += (size_t)n;
    }
    ck_assert_uint_eq(c.relay.ended, 0);
    ck_assert_int_eq(send(c.client, data, 100000, 0), 100000);
    WAIT_FOR(&fixture, c.relay.closed == 1);
    ck_assert_int_eq(c.relay.reason, N2_REASON_LIMIT);
    ck_assert_uint_eq(c.relay.final.down_bytes, 10000);
    ck_assert_uint_eq(c.relay.final.up_bytes, 40000);
    free(data);
    tcp_connection_dispose(&c);
}
END_TEST

/* N2-LIMIT-010: the sender waits, nothing is lost, nobody spins, and the other direction has a
 * bucket of its own. */
START_TEST(test_rate)
{
    const uint64_t rate = 100000; /* the bucket, too */
    const size_t size = 200000;
    const bool up_direction = _i < MOVER_COUNT;
    uint8_t *data = random_octets(size);
    struct tcp_connection c;

    use_mover(_i % MOVER_COUNT);
    tcp_connection_prepare(&c, &fixture, false, false);
    c.relay.relay.limits.bytes_per_second = rate;
    tcp_connection_open(&c);
    tcp_connection_arrive(&c);
    struct transfer up = {.from = c.client, .to = c.target, .data = data, .size = size},
                    down = {.from = c.target, .to = c.client, .data = data, .size = size};
    struct transfer *slow = up_direction ? &up : &down, *other = up_direction ? &down : &up;
    const uint64_t start = monotonic_ms();
    WAIT_FOR(&fixture, (transfer_step(slow), slow->received >= rate));
    ck_assert_uint_lt(turns_within(&fixture, 100), 200);
    other->size = 50000;
    other->keep_open = true;
    WAIT_FOR(&fixture, (transfer_step(other), transfer_is_complete(other)));
    const uint64_t other_ms = monotonic_ms() - start;
    other->keep_open = false;
    WAIT_FOR(&fixture, (transfer_step(slow), transfer_is_complete(slow)));
    const uint64_t took_ms = monotonic_ms() - start;
    ck_assert_msg(took_ms >= 1000, "%zu octets in %llu ms", size, (unsigned long long)took_ms);
    ck_assert_uint_lt(other_ms, took_ms);
    finish_both(&c, &up, &down);
    free(data);
    tcp_connection_dispose(&c);
}
END_TEST

/* A relay that waits for its bucket can be closed, and both ends may vanish. */
START_TEST(test_rate_and_the_end)
{
    uint8_t *data = random_octets(200000);
    struct tcp_connection c;

    tcp_connection_prepare(&c, &fixture, false, false);
    c.relay.relay.limits.bytes_per_second = 1;
    tcp_connection_open(&c);
    tcp_connection_arrive(&c);
    struct transfer up = {.from = c.client, .to = c.target, .data = data, .size = 200000};
    WAIT_FOR(&fixture, (transfer_step(&up), up.received == 65536));
    ck_assert_uint_lt(turns_within(&fixture, 100), 200);
    if (_i == 0) {
        fake_relay_close(&c.relay, true);
    } else {
        reset_end(_i == 1 ? &c.client : &c.target);
    }
    WAIT_FOR(&fixture, c.relay.closed == 1);
    ck_assert_int_eq(c.relay.reason, _i == 0   ? 0
                                     : _i == 1 ? N2_REASON_CLIENT_RESET
                                               : N2_REASON_TARGET_RESET);
    ck_assert_uint_lt(c.relay.final.up_bytes, 65600);
    free(data);
    tcp_connection_dispose(&c);
}
END_TEST

/* ---- octets ahead of the sender's --------------------------------------------------------------
 */

/* A connection that takes nothing more; returns how many octets it took. */
static size_t fill_connection(int *receiver, int *peer)
{
    static uint8_t zeros[64 * 1024];
    const int listener = party_listener(PARTY_TARGET, false, 0);
    const struct endpoint name = socket_name(listener);
    size_t filled = 0;

    *receiver = party_socket(PARTY_RELAY, false, SOCK_STREAM, 0);
    ck_assert_int_eq(connect_to(*receiver, &name), 0);
    *peer = accept(listener, NULL, NULL);
    ck_assert_int_ge(*peer, 0);
    close(listener);
    set_blocking(*peer, false);
    set_blocking(*receiver, false); /* as every flow's are: splice(2) would wait */
    for (unsigned still = 0; still < 20;) {
        const ssize_t n = send(*receiver, zeros, sizeof(zeros), MSG_DONTWAIT);
        still = n > 0 ? 0 : still + 1;
        filled += n > 0 ? (size_t)n : 0;
        plane_fixture_turn(&fixture);
    }
    return filled;
}

/* _i: mover. What a full receiver does not take waits in a pipe; without one it is an error. */
START_TEST(test_push_to_a_full_receiver)
{
    struct socket_plane *plane = plane_fixture_socket_plane(&fixture);
    uint8_t *early = random_octets(N2_EARLY_DATA_MAX);
    struct tcp_stream stream = {.has_pipe = false};
    static uint8_t buffer[1024 * 1024];
    int receiver, peer, error = 0;
    size_t got = 0;

    use_mover(_i);
    const size_t filled = fill_connection(&receiver, &peer);
    const enum tcp_stream_result result =
        tcp_stream_push(&stream, plane, receiver, early, N2_EARLY_DATA_MAX, &error);
    if (_i == MOVER_COPY) {
        ck_assert_int_eq(result, TCP_STREAM_E_SENDER);
        ck_assert_int_eq(error, -ENOSPC);
        ck_assert(!stream.has_pipe);
    } else {
        ck_assert_int_eq(result, TCP_STREAM_OK);
        ck_assert(stream.blocked);
        ck_assert_uint_eq(stream.bytes + stream.in_pipe, N2_EARLY_DATA_MAX);
        while (got < filled + N2_EARLY_DATA_MAX) {
            const ssize_t read = recv(peer, buffer, sizeof(buffer), MSG_DONTWAIT);
            const ssize_t n = read < 0 && errno == EAGAIN ? 0 : read;
            ck_assert(n > 0 || (n == 0 && read < 0));
            const size_t overlap = got + (size_t)n > filled ? got + (size_t)n - filled : 0;
            const size_t part = overlap < (size_t)n ? overlap : (size_t)n;
            got += (size_t)n;
            if (part > 0)
                ck_assert_mem_eq(buffer + (size_t)n - part, early + (got - filled - part), part);
            /* That the receiver has room may be known some time after the reading only. */
            plane_fixture_turn(&fixture);
            ck_assert_int_eq(
                tcp_stream_pump(&stream, plane, -1, receiver, false, UINT64_MAX, &error),
                TCP_STREAM_OK);
        }
        ck_assert(!stream.blocked && !stream.has_pipe);
        ck_assert_uint_eq(stream.bytes, N2_EARLY_DATA_MAX);
    }
    close(receiver);
    close(peer);
    free(early);
}
END_TEST

START_TEST(test_push_to_a_dead_receiver)
{
    struct socket_plane *plane = plane_fixture_socket_plane(&fixture);
    const int dead = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct tcp_stream stream = {.has_pipe = false};
    int error = 0;

    ck_assert_int_eq(tcp_stream_push(&stream, plane, dead, (const uint8_t *)"x", 1, &error),
                     TCP_STREAM_E_RECEIVER);
    ck_assert_int_eq(error, -EPIPE);
    ck_assert_uint_eq(stream.bytes, 0);
    close(dead);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tcp_stream");
    TCase *tests = tcase_create("tcp_stream");
    SRunner *runner = srunner_create(suite);

    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, test_bulk, 0, MOVER_COUNT);
    tcase_add_loop_test(tests, test_half_close, 0, 2 * MOVER_COUNT);
    tcase_add_loop_test(tests, test_empty, 0, MOVER_COUNT);
    tcase_add_loop_test(tests, test_back_pressure, 0, 2 * MOVER_COUNT);
    tcase_add_loop_test(tests, test_small_reads, 0, MOVER_COUNT);
    tcase_add_test(tests, test_tail_is_not_lost);
    tcase_add_test(tests, test_early_target);
    tcase_add_loop_test(tests, test_urgent_data, 0, MOVER_COUNT);
    tcase_add_loop_test(tests, test_urgent_data_alone, 0, MOVER_COUNT);
    tcase_add_test(tests, test_pipes_are_shared);
    tcase_add_test(tests, test_pipes_of_aborted_relays);
    tcase_add_loop_test(tests, test_max_bytes, 0, MOVER_COUNT);
    tcase_add_loop_test(tests, test_rate, 0, 2 * MOVER_COUNT);
    tcase_add_loop_test(tests, test_rate_and_the_end, 0, 3);
    tcase_add_loop_test(tests, test_push_to_a_full_receiver, 0, MOVER_COUNT);
    tcase_add_test(tests, test_push_to_a_dead_receiver);
    suite_add_tcase(suite, tests);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
