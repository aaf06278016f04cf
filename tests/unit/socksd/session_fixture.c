#include "tests/unit/socksd/session_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/log/log.h"
#include "common/net/sockaddr.h"
#include "proto/ptcl.h"

/* ---- time ------------------------------------------------------------------------------------ */

static void on_patience(uv_timer_t *timer)
{
    struct fixture *f = timer->data;
    f->out_of_patience = uv_now(&f->loop) >= f->patience_ms;
}

void fixture_patience_start(struct fixture *f)
{
    f->out_of_patience = false;
    uv_update_time(&f->loop);
    f->patience_ms = uv_now(&f->loop) + FIXTURE_PATIENCE_MS;
    /* It ticks, so that a turn in which the condition became true ends. */
    uv_timer_start(&f->patience, on_patience, 10, 10);
}

void fixture_patience_stop(struct fixture *f)
{
    uv_timer_stop(&f->patience);
}

void fixture_settle(struct fixture *f)
{
    for (int i = 0; i < 20; i++)
        uv_run(&f->loop, UV_RUN_NOWAIT);
}

/* ---- life ------------------------------------------------------------------------------------ */

static const struct fake_dns_record no_records[] = {{NULL, NULL}};

static void on_gone(void *user)
{
    struct fixture *f = user;
    f->gone++;
}

static void on_congestion(bool congested, void *user)
{
    struct fixture *f = user;
    (void)congested;
    session_set_update_reading(&f->set);
}

void fixture_init(struct fixture *f)
{
    static int methods[] = {N1_METHOD_NONE};

    memset(f, 0, sizeof(*f));
    log_setup("test", LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
    ck_assert_int_eq(keyed_hash_setup(), 0);
    ck_assert_int_eq(uv_loop_init(&f->loop), 0);
    uv_timer_init(&f->loop, &f->patience);
    f->patience.data = f;
    snprintf(f->directory, sizeof(f->directory), "/tmp/sockst-session-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(f->directory));
    for (int i = 0; i < 2; i++) {
        snprintf(f->paths[i], sizeof(f->paths[i]), "%s/n2-%d.sock", f->directory, i);
        fake_relayd_init(&f->fake[i], &f->loop, f->paths[i], PTCL_TCP);
    }
    f->fakes = 1;
    f->records = no_records;
    f->listen_address = "127.0.0.1:0";
    f->config.auth.methods = (struct config_list){methods, 1};
    f->config.limits.sessions = f->config.limits.sessions_per_address = 4096;
    f->config.limits.handshake_timeout_ms = 60000;
    f->config.limits.relay_timeout_ms = 60000;
    f->config.resolver.timeout_ms = 5000;
    f->config.resolver.tries = 2;
    f->config.resolver.queries = 16;
    f->config.resolver.queries_per_address = 1000; /* no bound but queries, unless a test sets it */
    f->config.rules = (struct config_list){f->rules, 1};
    f->rules[0].action = RULE_ALLOW;
    n2_link_config_init(&f->link, N2_ROLE_SOCKSD);
    f->link.hello.boot_epoch = 7;
}

static void start_pool(struct fixture *f)
{
    ck_assert_int_eq(relay_pool_open(&f->pool, &f->loop, &f->counters, on_congestion, f), 0);
    for (unsigned i = 0; i < f->fakes; i++) {
        const struct relay_daemon_config config = {
            .ptcl = f->fake[i].ptcl, .socket = f->paths[i], .peer_uid = (uid_t)-1, .link = f->link};
        fake_relayd_start(&f->fake[i]);
        ck_assert_int_eq(relay_pool_add(f->pool, &config), 0);
    }
    WAIT_FOR(f, COUNT(f, COUNTER_N2_CONNECTED) == f->fakes);
}

static void start_listener(struct fixture *f)
{
    struct endpoint endpoint;
    struct sockaddr_storage address;

    ck_assert_int_eq(endpoint_parse(f->listen_address, &endpoint), 0);
    const socklen_t length = endpoint_to_sockaddr(&endpoint, &address);
    f->listener = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(f->listener, 0);
    ck_assert_int_eq(bind(f->listener, (struct sockaddr *)&address, length), 0);
    ck_assert_int_eq(listen(f->listener, 4096), 0);
}

void fixture_start(struct fixture *f)
{
    counters_init(&f->counters);
    fake_dns_start(&f->dns, &f->loop, f->records);
    const char *servers[] = {f->dns.server};
    const struct resolver_config resolver = {.servers = servers,
                                             .server_count = 1,
                                             .timeout_ms = f->config.resolver.timeout_ms,
                                             .tries = f->config.resolver.tries,
                                             .queries = f->config.resolver.queries,
                                             .queries_per_address =
                                                 f->config.resolver.queries_per_address};
    ck_assert_int_eq(resolver_open(&f->resolver, &f->loop, &resolver, &f->counters), 0);
    ck_assert_int_eq(policy_new(&f->policy, &f->config.rules), 0);
    start_pool(f);
    f->set.loop = &f->loop;
    f->set.config = &f->config;
    f->set.policy = f->policy;
    f->set.floor = &f->floor;
    f->set.resolver = f->resolver;
    f->set.relays = f->pool;
    f->set.counters = &f->counters;
    f->set.limit = f->config.limits.sessions;
    f->set.gone = on_gone;
    f->set.user = f;
    session_set_init(&f->set);
    start_listener(f);
}

void fixture_stop(struct fixture *f)
{
    session_set_kill(&f->set);
    WAIT_FOR(f, f->set.count == 0);
    ck_assert_uint_eq(COUNT(f, COUNTER_SESSIONS_ACTIVE), 0);
    ck_assert_uint_eq(COUNT(f, COUNTER_RELAYS_OPEN), 0);
    ck_assert_ptr_null(f->set.clients.clients);
    relay_pool_close(f->pool);
    ck_assert_uint_eq(COUNT(f, COUNTER_N2_CONNECTED), 0);
    resolver_close(f->resolver);
    for (int i = 0; i < 2; i++)
        fake_relayd_stop(&f->fake[i]);
    fake_dns_stop(&f->dns);
    close(f->listener);
    uv_close((uv_handle_t *)&f->patience, NULL);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&f->loop), 0);
    f->policy = policy_free(f->policy);
    ck_assert_int_eq(rmdir(f->directory), 0);
}

/* ---- clients --------------------------------------------------------------------------------- */

/* Connects; the other end is *accepted. */
static int client_pair(struct fixture *f, int *accepted)
{
    struct sockaddr_storage address;
    socklen_t length = sizeof(address);

    ck_assert_int_eq(getsockname(f->listener, (struct sockaddr *)&address, &length), 0);
    int fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, length), 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    *accepted = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    ck_assert_int_ge(*accepted, 0);
    return fd;
}

int client_connect_as(struct fixture *f, const struct endpoint *peer)
{
    struct endpoint real;
    int accepted;
    const int fd = client_pair(f, &accepted);

    ck_assert_int_eq(endpoint_peer(accepted, &real), 0);
    session_set_accept(&f->set, accepted, peer ? peer : &real);
    return fd;
}

int client_connect_full(struct fixture *f, size_t *octets)
{
    static const char junk[4096];
    struct endpoint peer;
    int accepted;
    const int fd = client_pair(f, &accepted);
    struct pollfd room = {.fd = accepted, .events = POLLOUT};
    size_t before;
    ssize_t n;

    /* What was sent makes room while it moves on to the client's side: until nothing moves. */
    *octets = 0;
    do {
        before = *octets;
        while ((n = send(accepted, junk, sizeof(junk), MSG_NOSIGNAL)) > 0)
            *octets += (size_t)n;
        (void)poll(&room, 1, 100);
    } while (*octets > before);
    ck_assert_int_eq(endpoint_peer(accepted, &peer), 0);
    session_set_accept(&f->set, accepted, &peer);
    return fd;
}

void client_drain(struct fixture *f, int fd, size_t octets)
{
    char junk[4096];

    while (octets > 0) {
        const ssize_t n = recv(fd, junk, octets < sizeof(junk) ? octets : sizeof(junk), 0);
        octets -= n > 0 ? (size_t)n : 0;
        uv_run(&f->loop, UV_RUN_NOWAIT);
    }
}

int client_connect(struct fixture *f)
{
    return client_connect_as(f, NULL);
}

struct endpoint client_endpoint(int fd)
{
    struct endpoint endpoint;
    ck_assert_int_eq(endpoint_local(fd, &endpoint), 0);
    return endpoint;
}

void client_send(int fd, const void *data, size_t length)
{
    ck_assert_int_eq(send(fd, data, length, MSG_NOSIGNAL), (ssize_t)length);
}

static bool has_input(int fd)
{
    char octet;
    const ssize_t n = recv(fd, &octet, 1, MSG_PEEK);
    return n >= 0 || errno != EAGAIN;
}

void client_expect(struct fixture *f, int fd, const void *data, size_t length)
{
    uint8_t got[512];
    size_t have = 0;

    ck_assert_uint_le(length, sizeof(got));
    while (have < length) {
        WAIT_FOR(f, has_input(fd));
        const ssize_t n = recv(fd, got + have, length - have, 0);
        ck_assert_msg(n > 0, "expected %zu octets, the connection ended after %zu (errno %d)",
                      length, have, n < 0 ? errno : 0);
        have += (size_t)n;
    }
    ck_assert_mem_eq(got, data, length);
}

void client_expect_end(struct fixture *f, int fd)
{
    char octet;
    WAIT_FOR(f, has_input(fd));
    const ssize_t n = recv(fd, &octet, 1, 0);
    ck_assert_msg(n == 0 || (n < 0 && errno == ECONNRESET), "expected the end, got octet 0x%02x",
                  octet & 0xff);
}

void client_expect_silence(struct fixture *f, int fd)
{
    fixture_settle(f);
    ck_assert(!has_input(fd));
}

void client_greet(struct fixture *f, int fd)
{
    client_send(fd, "\x05\x01\x00", 3);
    client_expect(f, fd, "\x05\x00", 2);
}

static struct n1_host host_of(const char *text)
{
    struct endpoint endpoint;
    struct n1_host host;

    if (endpoint_parse(text, &endpoint) == 0)
        return n1_host_from_endpoint(&endpoint);
    char name[300];
    const char *colon = strrchr(text, ':');
    ck_assert_ptr_nonnull(colon);
    snprintf(name, sizeof(name), "%.*s", (int)(colon - text), text);
    ck_assert_int_eq(n1_host_from_name(name, (uint16_t)atoi(colon + 1), &host), 0);
    return host;
}

size_t classic_encode(uint8_t *out, size_t size, uint8_t command, const char *destination)
{
    const struct n1_request request = {.command = command, .destination = host_of(destination)};
    const size_t length = n1_request_encode(&request, out, size);
    ck_assert_uint_gt(length, 0);
    return length;
}

int client_classic(struct fixture *f, uint8_t command, const char *destination)
{
    uint8_t request[N1_REQUEST_MAX];
    const int fd = client_connect(f);

    client_greet(f, fd);
    client_send(fd, request, classic_encode(request, sizeof(request), command, destination));
    return fd;
}

void client_expect_reply(struct fixture *f, int fd, uint8_t code, const char *bound)
{
    uint8_t expected[N1_REPLY_MAX];
    struct endpoint endpoint;

    ck_assert_int_eq(endpoint_parse(bound ? bound : "0.0.0.0:0", &endpoint), 0);
    client_expect(f, fd, expected, n1_reply_encode(code, &endpoint, expected, sizeof(expected)));
}

size_t request_encode(uint8_t *out, size_t size, uint8_t ptcl, const char *destination,
                      const char *source)
{
    const struct n1_request request = {.command = N1_CMD_TRANSPARENT,
                                       .destination = host_of(destination),
                                       .ptcl = ptcl,
                                       .source = host_of(source)};
    const size_t length = n1_request_encode(&request, out, size);
    ck_assert_uint_gt(length, 0);
    return length;
}

void client_ask(struct fixture *f, int fd, uint8_t ptcl, const char *destination,
                const char *source, uint8_t reply)
{
    uint8_t request[N1_REQUEST_MAX];
    uint8_t expected[10] = {5, reply, 0, 1};

    client_greet(f, fd);
    client_send(fd, request, request_encode(request, sizeof(request), ptcl, destination, source));
    if (reply == 0)
        memcpy(expected + 4, (const uint8_t[]){127, 0, 0, 1, 20000 >> 8, 20000 & 0xff}, 6);
    client_expect(f, fd, expected, sizeof(expected));
    if (reply != 0)
        client_expect_end(f, fd);
}
