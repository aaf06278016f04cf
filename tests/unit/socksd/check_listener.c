/*
 * Listening sockets: families, options of what is accepted, and descriptors that run short.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <check.h>

#include "common/log/log.h"
#include "common/net/sockaddr.h"
#include "common/system/fd_budget.h"
#include "socksd/listener.h"

#define ACCEPTED_MAX 256

static uv_loop_t loop;
static uv_timer_t patience;
static uint64_t patience_ms; /* loop time */
static bool out_of_patience;
static struct counters counters;
static struct listeners *listeners;
static struct {
    int fd;
    struct endpoint peer;
} accepted[ACCEPTED_MAX];
static size_t accepted_count;

static void on_patience(uv_timer_t *timer)
{
    (void)timer;
    out_of_patience = uv_now(&loop) >= patience_ms;
}

#define WAIT_FOR(condition)                                                                        \
    do {                                                                                           \
        out_of_patience = false;                                                                   \
        uv_update_time(&loop);                                                                     \
        patience_ms = uv_now(&loop) + 10000;                                                       \
        uv_timer_start(&patience, on_patience, 10, 10);                                            \
        while (!(condition)) {                                                                     \
            ck_assert_msg(!out_of_patience, "waited in vain for %s", #condition);                  \
            uv_run(&loop, UV_RUN_ONCE);                                                            \
        }                                                                                          \
        uv_timer_stop(&patience);                                                                  \
    } while (0)

static void settle(void)
{
    for (int i = 0; i < 20; i++)
        uv_run(&loop, UV_RUN_NOWAIT);
}

static void on_accepted(int fd, const struct endpoint *peer, void *user)
{
    (void)user;
    ck_assert_uint_lt(accepted_count, ACCEPTED_MAX);
    accepted[accepted_count].fd = fd;
    accepted[accepted_count++].peer = *peer;
}

static void setup(void)
{
    log_setup("test", LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
    counters_init(&counters);
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    uv_timer_init(&loop, &patience);
}

static void teardown(void)
{
    listeners_close(listeners);
    for (size_t i = 0; i < accepted_count; i++)
        close(accepted[i].fd);
    uv_close((uv_handle_t *)&patience, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
}

static const struct listener_keepalive keepalive = {.idle_s = 31, .interval_s = 11, .count = 4};

static int try_open(const char *const *addresses, const uint64_t *ports, size_t count)
{
    struct listen_config at[8];
    memset(at, 0, sizeof(at));
    for (size_t i = 0; i < count; i++) {
        ck_assert_int_eq(ip_address_parse(addresses[i], &at[i].address), 0);
        at[i].port = ports ? ports[i] : 0;
    }
    const struct listeners_config config = {
        .addresses = at, .count = count, .keepalive = keepalive};
    return listeners_open(&listeners, &loop, &config, &counters, on_accepted, NULL);
}

static int connect_to(const char *address, uint16_t port)
{
    struct endpoint endpoint = {.port = port};
    struct sockaddr_storage to;
    ck_assert_int_eq(ip_address_parse(address, &endpoint.address), 0);
    const socklen_t length = endpoint_to_sockaddr(&endpoint, &to);
    const int fd = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    if (connect(fd, (struct sockaddr *)&to, length) < 0) {
        close(fd);
        return -errno;
    }
    return fd;
}

static int option_of(int fd, int level, int name)
{
    int value = -1;
    socklen_t length = sizeof(value);
    ck_assert_int_eq(getsockopt(fd, level, name, &value, &length), 0);
    return value;
}

static uint16_t port_of(size_t index)
{
    return listeners_endpoint(listeners, index).port;
}

START_TEST(test_each_family)
{
    ck_assert_int_eq(try_open((const char *[]){"127.0.0.1", "::1"}, NULL, 2), 0);
    ck_assert_uint_eq(listeners_count(listeners), 2);
    int v4 = connect_to("127.0.0.1", port_of(0)), v6 = connect_to("::1", port_of(1));
    WAIT_FOR(accepted_count == 2);
    const size_t first = accepted[0].peer.address.family == IP_V4 ? 0 : 1;
    struct endpoint client;
    ck_assert_int_eq(endpoint_local(v4, &client), 0);
    ck_assert(endpoint_equal(&client, &accepted[first].peer));
    ck_assert_int_eq(endpoint_local(v6, &client), 0);
    ck_assert(endpoint_equal(&client, &accepted[!first].peer));
    ck_assert_int_lt(connect_to("::1", port_of(0)), 0);
    close(v4);
    close(v6);
}
END_TEST

/* An IPv4 client of a dual-stack socket is an IPv4 client: rules for IPv4 hold for it. */
START_TEST(test_dual_stack)
{
    ck_assert_int_eq(try_open((const char *[]){"::"}, NULL, 1), 0);
    int v4 = connect_to("127.0.0.1", port_of(0)), v6 = connect_to("::1", port_of(0));
    WAIT_FOR(accepted_count == 2);
    ck_assert_int_ne(accepted[0].peer.address.family, accepted[1].peer.address.family);
    close(v4);
    close(v6);
}
END_TEST

START_TEST(test_both_families_on_one_port)
{
    ck_assert_int_eq(try_open((const char *[]){"127.0.0.1"}, NULL, 1), 0);
    const uint64_t port = port_of(0), ports[] = {port, port};
    listeners_close(listeners);
    listeners = NULL;
    settle();
    ck_assert_int_eq(try_open((const char *[]){"::", "127.0.0.1"}, ports, 2), 0);
    int v4 = connect_to("127.0.0.1", (uint16_t)port), v6 = connect_to("::1", (uint16_t)port);
    WAIT_FOR(accepted_count == 2);
    close(v4);
    close(v6);
}
END_TEST

START_TEST(test_options_of_accepted_sockets)
{
    ck_assert_int_eq(try_open((const char *[]){"127.0.0.1"}, NULL, 1), 0);
    int client = connect_to("127.0.0.1", port_of(0));
    WAIT_FOR(accepted_count == 1);
    const int fd = accepted[0].fd;
    ck_assert_int_eq(option_of(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
    ck_assert_int_eq(option_of(fd, IPPROTO_TCP, TCP_KEEPIDLE), 31);
    ck_assert_int_eq(option_of(fd, IPPROTO_TCP, TCP_KEEPINTVL), 11);
    ck_assert_int_eq(option_of(fd, IPPROTO_TCP, TCP_KEEPCNT), 4);
    ck_assert_int_eq(option_of(fd, IPPROTO_TCP, TCP_NODELAY), 1);
    ck_assert(fcntl(fd, F_GETFL) & O_NONBLOCK);
    ck_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    close(client);
}
END_TEST

START_TEST(test_address_in_use)
{
    ck_assert_int_eq(try_open((const char *[]){"127.0.0.1"}, NULL, 1), 0);
    struct listeners *first = listeners;
    const uint64_t port = port_of(0);
    listeners = NULL;
    ck_assert_int_eq(try_open((const char *[]){"127.0.0.1"}, &port, 1), -EADDRINUSE);
    ck_assert_ptr_null(listeners);
    listeners = first;
}
END_TEST

START_TEST(test_nothing_to_listen_on)
{
    ck_assert_int_eq(try_open(NULL, NULL, 0), -EADDRNOTAVAIL);
}
END_TEST

/* Every descriptor above the budget's mark stops the accepting; nobody who was accepted is cut off.
 */
START_TEST(test_descriptor_budget)
{
    const struct rlimit limit = {FD_RESERVE + 40, FD_RESERVE + 40};
    int clients[60];
    ck_assert_int_eq(try_open((const char *[]){"127.0.0.1"}, NULL, 1), 0);
    const uint16_t port = port_of(0);
    /* The clients' own sockets are not to count: they get high numbers first. */
    for (int i = 0; i < 60; i++) {
        const int fd = connect_to("127.0.0.1", port);
        ck_assert_int_ge(fd, 0);
        clients[i] = fcntl(fd, F_DUPFD_CLOEXEC, 500);
        close(fd);
    }
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    ck_assert_uint_eq(fd_budget_setup(), FD_RESERVE + 40);
    WAIT_FOR(counter_value(&counters, COUNTER_ACCEPT_PAUSES) == 1);
    settle();
    const size_t before = accepted_count;
    ck_assert_uint_gt(before, 0);
    ck_assert_uint_lt(before, 60);
    for (size_t i = 0; i < before; i++)
        ck_assert_int_lt(accepted[i].fd, FD_RESERVE + 40);
    /* One ends, and one more is let in. */
    close(accepted[before - 1].fd);
    accepted[before - 1].fd = -1;
    listeners_resume(listeners);
    WAIT_FOR(accepted_count == before + 1);
    settle();
    ck_assert_uint_eq(accepted_count, before + 1);
    for (int i = 0; i < 60; i++)
        close(clients[i]);
}
END_TEST

/* Descriptors used up by somebody else: no busy loop, and service resumes by itself. */
START_TEST(test_out_of_descriptors)
{
    struct rlimit limit, none;
    ck_assert_int_eq(try_open((const char *[]){"127.0.0.1"}, NULL, 1), 0);
    int client = connect_to("127.0.0.1", port_of(0));
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = limit;
    const int lowest = open("/dev/null", O_RDONLY);
    close(lowest);
    none.rlim_cur = (rlim_t)lowest;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    WAIT_FOR(counter_value(&counters, COUNTER_ACCEPT_PAUSES) == 1);
    settle();
    ck_assert_uint_eq(counter_value(&counters, COUNTER_ACCEPT_PAUSES), 1);
    ck_assert_uint_eq(accepted_count, 0);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    WAIT_FOR(accepted_count == 1);
    close(client);
}
END_TEST

static Suite *listener_suite(void)
{
    Suite *suite = suite_create("listener");
    TCase *tests = tcase_create("listener");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, test_each_family);
    tcase_add_test(tests, test_dual_stack);
    tcase_add_test(tests, test_both_families_on_one_port);
    tcase_add_test(tests, test_options_of_accepted_sockets);
    tcase_add_test(tests, test_address_in_use);
    tcase_add_test(tests, test_nothing_to_listen_on);
    tcase_add_test(tests, test_descriptor_budget);
    tcase_add_test(tests, test_out_of_descriptors);
    suite_add_tcase(suite, tests);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(listener_suite());
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
