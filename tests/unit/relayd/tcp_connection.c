#include "tests/unit/relayd/tcp_connection.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/ptcl.h"

void tcp_connection_prepare(struct tcp_connection *c, struct plane_fixture *fixture, bool client_v6,
                            bool target_v6)
{
    c->fixture = fixture;
    c->listener = party_listener(PARTY_TARGET, target_v6, 0);
    c->client = party_socket(PARTY_CLIENT, client_v6, SOCK_STREAM, 0);
    c->target = -1;
    const struct endpoint source = socket_name(c->client), destination = socket_name(c->listener);
    fake_relay_init(&c->relay, fixture, PTCL_TCP, &source, &destination);
}

void tcp_connection_open(struct tcp_connection *c)
{
    fake_relay_open_wait(&c->relay, c->fixture);
    c->target = accept(c->listener, NULL, NULL);
    ck_assert_int_ge(c->target, 0);
    set_blocking(c->target, false);
}

void tcp_connection_arrive(struct tcp_connection *c)
{
    ck_assert_int_eq(connect_to(c->client, &c->relay.relay.bound), 0);
    set_blocking(c->client, false);
    WAIT_FOR(c->fixture, c->relay.arrived == 1);
}

void tcp_connection_establish(struct tcp_connection *c, struct plane_fixture *fixture)
{
    tcp_connection_prepare(c, fixture, false, false);
    tcp_connection_open(c);
    tcp_connection_arrive(c);
}

void tcp_connection_dispose(struct tcp_connection *c)
{
    const int fds[] = {c->client, c->target, c->listener};

    for (unsigned i = 0; i < 3; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
    fake_relay_finish(&c->relay, c->fixture);
}

void reset_end(int *fd)
{
    const struct linger linger = {.l_onoff = 1, .l_linger = 0};

    ck_assert_int_eq(setsockopt(*fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
    close(*fd);
    *fd = -1;
}

uint8_t *random_octets(size_t size)
{
    uint8_t *octets = malloc(size);

    ck_assert_ptr_nonnull(octets);
    for (size_t at = 0; at < size;) {
        const ssize_t n = getrandom(octets + at, size - at, 0);
        ck_assert_int_gt(n, 0);
        at += (size_t)n;
    }
    return octets;
}

static void transfer_write(struct transfer *t)
{
    if (t->sent < t->size) {
        const ssize_t n =
            send(t->from, t->data + t->sent, t->size - t->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        ck_assert_msg(n >= 0 || errno == EAGAIN, "send: %s", strerror(errno));
        if (n > 0)
            t->sent += (size_t)n;
    }
    if (t->sent == t->size && !t->fin_sent && !t->keep_open) {
        ck_assert_int_eq(shutdown(t->from, SHUT_WR), 0);
        t->fin_sent = true;
    }
}

static void transfer_read(struct transfer *t)
{
    static uint8_t buffer[256 * 1024];
    const size_t room = t->read_at_most != 0 ? t->read_at_most : sizeof(buffer);
    const ssize_t n = recv(t->to, buffer, room, MSG_DONTWAIT);

    if (n < 0) {
        ck_assert_msg(errno == EAGAIN, "recv after %zu octets: %s", t->received, strerror(errno));
        return;
    }
    if (n == 0) {
        ck_assert_msg(t->fin_sent && t->received == t->size, "FIN after %zu of %zu octets",
                      t->received, t->size);
        t->fin_received = true;
        return;
    }
    ck_assert_uint_le(t->received + (size_t)n, t->sent);
    ck_assert_mem_eq(buffer, t->data + t->received, (size_t)n);
    t->received += (size_t)n;
}

void transfer_step(struct transfer *t)
{
    if (!t->fin_sent)
        transfer_write(t);
    if (!transfer_is_complete(t))
        transfer_read(t);
}

bool transfer_is_complete(const struct transfer *t)
{
    return t->received == t->size && (t->keep_open || t->fin_received);
}

unsigned turns_within(struct plane_fixture *fixture, uint64_t ms)
{
    const uint64_t until = monotonic_ms() + ms;
    unsigned turns = 0;

    for (; monotonic_ms() < until; turns++)
        plane_fixture_turn(fixture);
    return turns;
}

ssize_t receive_wait(struct plane_fixture *fixture, int fd, void *buffer, size_t size)
{
    const uint64_t until = monotonic_ms() + WAIT_MAX_MS;

    for (;;) {
        const ssize_t n = recv(fd, buffer, size, MSG_DONTWAIT);
        if (n >= 0 || errno != EAGAIN)
            return n < 0 ? -errno : n;
        ck_assert_msg(monotonic_ms() < until, "nothing came");
        plane_fixture_turn(fixture);
    }
}
