#include "tests/unit/relayd/classic_connection.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/ptcl.h"
#include "relayd/plane/socket/stranger_filter.h"

/* The client and its connection to socksd. */
static void connect_client(struct classic_connection *k, bool v6)
{
    const int listener = party_listener(PARTY_RELAY, v6, 0);
    const struct endpoint control = socket_name(listener);

    k->c.client = party_socket(PARTY_CLIENT, v6, SOCK_STREAM, 0);
    ck_assert_int_eq(connect_to(k->c.client, &control), 0);
    set_blocking(k->c.client, false);
    const int accepted = accept(listener, NULL, NULL);
    ck_assert_int_ge(accepted, 0);
    close(listener);
    /* The numbers of descriptors in use have no gap: tests that limit them count. */
    k->socksd = dup(accepted);
    close(accepted);
}

void classic_prepare_connect(struct classic_connection *k, struct plane_fixture *fixture,
                             bool client_v6, bool target_v6)
{
    *k = (struct classic_connection){.c = {.fixture = fixture, .target = -1}};
    connect_client(k, client_v6);
    k->c.listener = party_listener(PARTY_TARGET, target_v6, 0);
    k->candidates[0] = socket_name(k->c.listener);
    const struct endpoint source = socket_name(k->c.client);
    fake_relay_init(&k->c.relay, fixture, PTCL_TCP, &source, &k->candidates[0]);
    k->c.relay.relay.kind = N2_KIND_CONNECT;
    k->c.relay.order.candidates = k->candidates;
    k->c.relay.order.candidate_count = 1;
}

void classic_add_candidate(struct classic_connection *k, const struct endpoint *candidate)
{
    struct relay_order *order = &k->c.relay.order;

    ck_assert_uint_lt(order->candidate_count, N2_CANDIDATES_MAX);
    k->candidates[order->candidate_count++] = *candidate;
}

void classic_prepare_bind(struct classic_connection *k, struct plane_fixture *fixture,
                          const struct ip_address *expected)
{
    const struct endpoint destination = {.address = *expected, .port = 21};

    *k = (struct classic_connection){.c = {.fixture = fixture, .target = -1, .listener = -1}};
    connect_client(k, expected->family == IP_V6);
    const struct endpoint source = socket_name(k->c.client);
    fake_relay_init(&k->c.relay, fixture, PTCL_TCP, &source, &destination);
    k->c.relay.relay.kind = N2_KIND_BIND;
}

void classic_open(struct classic_connection *k)
{
    if (k->c.relay.relay.kind == N2_KIND_CONNECT)
        tcp_connection_open(&k->c);
    else
        fake_relay_open_wait(&k->c.relay, k->c.fixture);
}

void classic_come(struct classic_connection *k, enum party party)
{
    const struct endpoint *bound = &k->c.relay.relay.bound;

    k->c.target = party_socket(party, bound->address.family == IP_V6, SOCK_STREAM, 0);
    ck_assert_int_eq(connect_to(k->c.target, bound), 0);
    set_blocking(k->c.target, false);
    WAIT_FOR(k->c.fixture, k->c.relay.peers == 1);
    const struct endpoint name = socket_name(k->c.target);
    ck_assert(endpoint_equal(&name, &k->c.relay.relay.destination));
}

void classic_attach_fd(struct classic_connection *k, int fd, const void *early, size_t length)
{
    struct plane *plane = k->c.relay.relay.plane;

    plane->ops->attach(plane, &k->c.relay.relay, fd, early, length);
}

void classic_attach(struct classic_connection *k, const void *early, size_t length)
{
    const int fd = k->socksd;

    k->socksd = -1;
    classic_attach_fd(k, fd, early, length);
}

void classic_establish(struct classic_connection *k, struct plane_fixture *fixture,
                       enum n2_kind kind, const void *early, size_t length)
{
    const struct ip_address target = party_address(PARTY_TARGET, false);

    if (kind == N2_KIND_CONNECT)
        classic_prepare_connect(k, fixture, false, false);
    else
        classic_prepare_bind(k, fixture, &target);
    classic_open(k);
    if (kind == N2_KIND_BIND)
        classic_come(k, PARTY_TARGET);
    classic_attach(k, early, length);
    ck_assert_uint_eq(k->c.relay.arrived, 1);
}

void classic_dispose(struct classic_connection *k)
{
    if (k->socksd >= 0)
        close(k->socksd);
    tcp_connection_dispose(&k->c);
}

void classic_expect_end(struct classic_connection *k, enum n2_reason reason)
{
    WAIT_FOR(k->c.fixture, k->c.relay.closed == 1);
    ck_assert_uint_eq(k->c.relay.ended, 1);
    ck_assert_msg(k->c.relay.reason == reason, "expected %s, got %s", n2_reason_name(reason),
                  n2_reason_name(k->c.relay.reason));
}

int silent_listener(enum party party, bool v6)
{
    const struct ip_address address = party_address(party, v6);
    const int fd = party_socket(party, v6, SOCK_STREAM, 0);

    ck_assert_int_eq(stranger_filter_trap(fd, &address), 0);
    ck_assert_int_eq(listen(fd, 1), 0);
    return fd;
}

void limit_descriptors(unsigned count)
{
    struct rlimit limit;

    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = count;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}
