/* Sockets and session together, a step at a time, against a scripted server: N1-BND-020,
 * N1-SRC-060's S, N1-LIFE-*. */
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/client/net.h"
#include "proto/ptcl.h"
#include "tests/unit/client/script.h"
#include "tests/unit/client/suite.h"

static struct endpoint endpoint_of(const char *text)
{
    struct endpoint endpoint;
    ck_assert_int_eq(endpoint_parse(text, &endpoint), 0);
    return endpoint;
}

static struct sockst_association *start(uint8_t ptcl, const struct endpoint *proxies, size_t count)
{
    struct sockst_association *association = NULL;
    struct sockst_options options = {.proxies = proxies, .proxy_count = count, .ptcl = ptcl};
    ck_assert_int_eq(n1_host_from_name("www.example.org", 443, &options.destination), 0);
    ck_assert_int_eq(sockst_association_start(&association, &options), 0);
    return association;
}

/* Advances until it waits for something that is not there yet, or has ended. */
static enum sockst_status settle(struct sockst_association *association)
{
    for (int i = 0; i < 100; i++) {
        enum sockst_status status = sockst_association_advance(association);
        struct pollfd fds[2];
        sockst_association_wants(association, &fds[0].fd, &fds[0].events, &fds[1].fd,
                                 &fds[1].events);
        if (status != SOCKST_RUNNING)
            return status;
        if (poll(fds, 2, 20) == 0)
            return status;
    }
    ck_abort_msg("it never settles");
}

static enum sockst_status run(struct sockst_association *association)
{
    return sockst_association_run(association, SCRIPT_TIMEOUT_MS);
}

static void assert_failed(struct sockst_association *association, enum sockst_error error)
{
    ck_assert_int_eq(sockst_association_advance(association), SOCKST_FAILED);
    const struct sockst_failure *failure = sockst_association_failure(association);
    ck_assert_msg(failure->error == error, "error %d (%s), expected %d", failure->error,
                  failure->text, error);
    ck_assert_uint_ne(strlen(failure->text), 0);
    ck_assert_int_eq(sockst_association_control_fd(association), -1);
    ck_assert_int_eq(sockst_association_data_fd(association), -1);
    ck_assert(!sockst_association_is_alive(association));
    /* Final. */
    sockst_association_expire(association);
    ck_assert_int_eq(sockst_association_failure(association)->error, error);
}

START_TEST(a_tcp_association)
{
    struct endpoint proxy, bound, source;
    int listener = script_listen(SOCK_STREAM, &proxy), relay = script_listen(SOCK_STREAM, &bound);
    struct sockst_association *association = start(PTCL_TCP, &proxy, 1);
    int control = script_accept(listener);
    ck_assert_int_eq(settle(association), SOCKST_RUNNING);
    /* Everything came before any answer: one round trip. */
    struct n1_request request = script_read_request(control);
    ck_assert_uint_eq(request.command, N1_CMD_TRANSPARENT);
    ck_assert_uint_eq(request.ptcl, PTCL_TCP);
    ck_assert_str_eq(request.destination.name, "www.example.org");
    source = (struct endpoint){request.source.address, request.source.port};
    ck_assert(endpoint_equal(&source, sockst_association_source(association)));
    ck_assert_uint_ne(source.port, 0);
    script_answer(control, N1_REP_SUCCEEDED, &bound);
    ck_assert_int_eq(run(association), SOCKST_DONE);
    ck_assert(endpoint_equal(sockst_association_bound(association), &bound));
    ck_assert(endpoint_equal(sockst_association_proxy(association), &proxy));
    /* The data socket comes from S. */
    struct sockaddr_storage address;
    socklen_t length = sizeof(address);
    int data = accept(relay, (struct sockaddr *)&address, &length);
    struct endpoint peer;
    ck_assert_int_eq(net_from_sockaddr(&address, &peer), 0);
    ck_assert(endpoint_equal(&peer, &source));
    ck_assert(sockst_association_is_alive(association));
    sockst_association_close(association);
    ck_assert(script_read_end(control));
    ck_assert(script_read_end(data));
    close(control);
    close(data);
    close(listener);
    close(relay);
}
END_TEST

START_TEST(a_udp_association)
{
    struct endpoint proxy, bound;
    int listener = script_listen(SOCK_STREAM, &proxy), relay = script_listen(SOCK_DGRAM, &bound);
    struct sockst_association *association = start(PTCL_UDP, &proxy, 1);
    int control = script_accept(listener);
    ck_assert_int_eq(settle(association), SOCKST_RUNNING);
    struct n1_request request = script_read_request(control);
    ck_assert_uint_eq(request.ptcl, PTCL_UDP);
    script_answer(control, N1_REP_SUCCEEDED, &bound);
    ck_assert_int_eq(run(association), SOCKST_DONE);
    ck_assert_int_eq(send(sockst_association_data_fd(association), "ping", 4, 0), 4);
    uint8_t datagram[5];
    struct sockaddr_storage address;
    socklen_t length = sizeof(address);
    ck_assert_int_eq(
        recvfrom(relay, datagram, sizeof(datagram), 0, (struct sockaddr *)&address, &length), 4);
    struct endpoint peer, source = {request.source.address, request.source.port};
    ck_assert_int_eq(net_from_sockaddr(&address, &peer), 0);
    ck_assert(endpoint_equal(&peer, &source));
    sockst_association_close(association);
    close(control);
    close(listener);
    close(relay);
}
END_TEST

/* N1-CONN-010, from the other side. */
START_TEST(an_answer_may_come_an_octet_at_a_time)
{
    struct endpoint proxy, bound;
    int listener = script_listen(SOCK_STREAM, &proxy), relay = script_listen(SOCK_DGRAM, &bound);
    struct sockst_association *association = start(PTCL_UDP, &proxy, 1);
    int control = script_accept(listener);
    uint8_t answer[2 + N1_REPLY_MAX] = {5, 0};
    size_t length = 2 + n1_reply_encode(0, &bound, answer + 2, N1_REPLY_MAX);
    for (size_t i = 0; i < length; i++) {
        ck_assert_int_eq(settle(association), SOCKST_RUNNING);
        script_write(control, answer + i, 1);
    }
    ck_assert_int_eq(run(association), SOCKST_DONE);
    sockst_association_close(association);
    close(control);
    close(listener);
    close(relay);
}
END_TEST

START_TEST(every_refusal_is_reported)
{
    struct endpoint proxy;
    int listener = script_listen(SOCK_STREAM, &proxy);
    size_t fds = script_count_fds();
    for (uint8_t code = 1; code <= 10; code++) {
        struct sockst_association *association = start(PTCL_TCP, &proxy, 1);
        int control = script_accept(listener);
        script_answer(control, code, NULL);
        ck_assert_int_eq(run(association), SOCKST_FAILED);
        assert_failed(association, SOCKST_E_REPLY);
        ck_assert_uint_eq(sockst_association_failure(association)->reply, code);
        sockst_association_close(association);
        close(control);
    }
    ck_assert_uint_eq(script_count_fds(), fds);
    close(listener);
}
END_TEST

START_TEST(addresses_of_the_proxy_are_tried_in_order)
{
    struct endpoint proxies[3], bound;
    close(script_listen(SOCK_STREAM, &proxies[0])); /* nobody listens there */
    close(script_listen(SOCK_STREAM, &proxies[1]));
    int listener = script_listen(SOCK_STREAM, &proxies[2]),
        relay = script_listen(SOCK_DGRAM, &bound);
    struct sockst_association *association = start(PTCL_UDP, proxies, 3);
    ck_assert_int_eq(settle(association), SOCKST_RUNNING);
    int control = script_accept(listener);
    script_answer(control, 0, &bound);
    ck_assert_int_eq(run(association), SOCKST_DONE);
    ck_assert(endpoint_equal(sockst_association_proxy(association), &proxies[2]));
    sockst_association_close(association);
    close(control);
    close(listener);
    close(relay);
    association = start(PTCL_UDP, proxies, 2);
    ck_assert_int_eq(run(association), SOCKST_FAILED);
    assert_failed(association, SOCKST_E_PROXY);
    sockst_association_close(association);
}
END_TEST

/* N1-BND-020 */
START_TEST(bnd_is_judged)
{
    static const struct {
        uint8_t reply[32];
        size_t length;
    } rows[] = {
        {{5, 0, 0, 1, 127, 0, 0, 1, 0, 0}, 10}, /* port 0 */
        {{5, 0, 0, 3, 1, 'a', 0, 80}, 8},       /* a name */
        {{5, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 80},
         22}, /* another family */
        {{5, 0, 0, 2}, 4},
        {{5, 0, 1, 1}, 4},
    };
    struct endpoint proxy, bound;
    int listener = script_listen(SOCK_STREAM, &proxy), relay = script_listen(SOCK_DGRAM, &bound);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct sockst_association *association = start(PTCL_UDP, &proxy, 1);
        int control = script_accept(listener);
        script_write(control, (const uint8_t[]){5, 0}, 2);
        script_write(control, rows[i].reply, rows[i].length);
        ck_assert_int_eq(run(association), SOCKST_FAILED);
        assert_failed(association, SOCKST_E_PROTOCOL);
        sockst_association_close(association);
        close(control);
    }
    /* Unspecified: where the proxy is. */
    struct endpoint unspecified = endpoint_of("0.0.0.0:1");
    unspecified.port = bound.port;
    struct sockst_association *association = start(PTCL_UDP, &proxy, 1);
    int control = script_accept(listener);
    script_answer(control, 0, &unspecified);
    ck_assert_int_eq(run(association), SOCKST_DONE);
    ck_assert(endpoint_equal(sockst_association_bound(association), &bound));
    sockst_association_close(association);
    close(control);
    close(listener);
    close(relay);
}
END_TEST

START_TEST(a_server_that_ends_early)
{
    struct endpoint proxy;
    int listener = script_listen(SOCK_STREAM, &proxy);
    for (size_t octets = 0; octets < 12; octets++) {
        const uint8_t answer[12] = {5, 0, 5, 0, 0, 1, 127, 0, 0, 1, 9, 9};
        struct sockst_association *association = start(PTCL_TCP, &proxy, 1);
        int control = script_accept(listener);
        ck_assert_int_eq(settle(association), SOCKST_RUNNING);
        script_read_request(control);
        script_write(control, answer, octets);
        close(control);
        ck_assert_int_eq(run(association), SOCKST_FAILED);
        assert_failed(association, SOCKST_E_CLOSED);
        sockst_association_close(association);
    }
    struct sockst_association *association = start(PTCL_TCP, &proxy, 1);
    script_reset(script_accept(listener));
    ck_assert_int_eq(run(association), SOCKST_FAILED);
    assert_failed(association, SOCKST_E_PROXY);
    sockst_association_close(association);
    close(listener);
}
END_TEST

START_TEST(time_is_up_while_the_proxy_is_silent)
{
    struct endpoint proxy;
    int listener = script_listen(SOCK_STREAM, &proxy);
    struct sockst_association *association = start(PTCL_TCP, &proxy, 1);
    sockst_association_expire(association);
    assert_failed(association, SOCKST_E_TIMEOUT);
    sockst_association_close(association);
    association = start(PTCL_TCP, &proxy, 1);
    ck_assert_int_eq(sockst_association_run(association, 50), SOCKST_FAILED);
    assert_failed(association, SOCKST_E_TIMEOUT);
    ck_assert_ptr_nonnull(strstr(sockst_association_failure(association)->text, "no answer"));
    sockst_association_close(association);
    close(listener);
}
END_TEST

/* A relay whose queue is full: connect() hangs. */
static int make_silent_relay(struct endpoint *bound, int fillers[4])
{
    struct sockaddr_storage address;
    int relay = script_listen(SOCK_STREAM, bound);
    ck_assert_int_eq(listen(relay, 0), 0);
    socklen_t length = net_to_sockaddr(bound, &address);
    for (int i = 0; i < 4; i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)connect(fillers[i], (struct sockaddr *)&address, length);
    }
    return relay;
}

START_TEST(a_relay_that_does_not_answer)
{
    struct endpoint proxy, bound;
    int fillers[4];
    int listener = script_listen(SOCK_STREAM, &proxy), relay = make_silent_relay(&bound, fillers);
    for (int server_ends = 0; server_ends < 2; server_ends++) {
        struct sockst_association *association = start(PTCL_TCP, &proxy, 1);
        int control = script_accept(listener);
        ck_assert_int_eq(settle(association), SOCKST_RUNNING);
        script_read_request(control);
        script_answer(control, 0, &bound);
        ck_assert_int_eq(settle(association), SOCKST_RUNNING);
        if (server_ends)
            close(control);
        ck_assert_int_eq(sockst_association_run(association, server_ends ? SCRIPT_TIMEOUT_MS : 50),
                         SOCKST_FAILED);
        assert_failed(association, server_ends ? SOCKST_E_CLOSED : SOCKST_E_DATA);
        sockst_association_close(association);
        if (!server_ends)
            close(control);
    }
    for (int i = 0; i < 4; i++)
        close(fillers[i]);
    close(listener);
    close(relay);
}
END_TEST

START_TEST(a_relay_that_is_not_there)
{
    struct endpoint proxy, bound;
    int listener = script_listen(SOCK_STREAM, &proxy);
    close(script_listen(SOCK_STREAM, &bound));
    struct sockst_association *association = start(PTCL_TCP, &proxy, 1);
    int control = script_accept(listener);
    script_answer(control, 0, &bound);
    ck_assert_int_eq(run(association), SOCKST_FAILED);
    assert_failed(association, SOCKST_E_DATA);
    sockst_association_close(association);
    close(control);
    close(listener);
}
END_TEST

START_TEST(the_end_of_the_control_connection_is_seen)
{
    static const uint8_t noise[100000];
    struct endpoint proxy, bound;
    int listener = script_listen(SOCK_STREAM, &proxy), relay = script_listen(SOCK_DGRAM, &bound);
    struct sockst_association *association = start(PTCL_UDP, &proxy, 1);
    int control = script_accept(listener);
    ck_assert_int_eq(settle(association), SOCKST_RUNNING);
    script_read_request(control);
    script_answer(control, 0, &bound);
    ck_assert_int_eq(run(association), SOCKST_DONE);
    script_write(control, noise, sizeof(noise));
    for (int i = 0; i < 20; i++)
        ck_assert(sockst_association_is_alive(association));
    close(control);
    struct pollfd pollfd = {.fd = sockst_association_control_fd(association), .events = POLLIN};
    ck_assert_int_eq(poll(&pollfd, 1, SCRIPT_TIMEOUT_MS), 1);
    while (recv(pollfd.fd, &(uint8_t){0}, 1, MSG_PEEK | MSG_DONTWAIT) > 0)
        sockst_association_is_alive(association);
    ck_assert(!sockst_association_is_alive(association));
    sockst_association_close(association);
    close(listener);
    close(relay);
}
END_TEST

START_TEST(it_may_be_closed_at_any_time)
{
    struct endpoint proxy, bound;
    int listener = script_listen(SOCK_STREAM, &proxy), relay = script_listen(SOCK_STREAM, &bound);
    size_t fds = script_count_fds();
    for (int when = 0; when < 3; when++) {
        struct sockst_association *association = start(PTCL_TCP, &proxy, 1);
        int control = script_accept(listener);
        if (when > 0)
            ck_assert_int_eq(settle(association), SOCKST_RUNNING);
        if (when > 1)
            script_answer(control, 0, &bound);
        sockst_association_close(association);
        close(control);
    }
    sockst_association_close(NULL);
    ck_assert_uint_eq(script_count_fds(), fds);
    close(listener);
    close(relay);
}
END_TEST

START_TEST(all_at_once)
{
    struct endpoint proxy, bound;
    int listener = script_listen(SOCK_STREAM, &proxy), relay = script_listen(SOCK_DGRAM, &bound);
    struct sockst_options options = {.proxies = &proxy, .proxy_count = 1, .ptcl = PTCL_UDP};
    struct sockst_association *association = NULL;
    struct sockst_failure failure;
    ck_assert_int_eq(n1_host_from_name("a", 1, &options.destination), 0);
    ck_assert_int_eq(sockst_associate(&association, &options, 50, &failure), -1);
    ck_assert_ptr_null(association);
    ck_assert_int_eq(failure.error, SOCKST_E_TIMEOUT);
    close(script_accept(listener));
    pid_t server = fork();
    if (server == 0) {
        int control = script_accept(listener);
        script_read_request(control);
        script_answer(control, 0, &bound);
        _exit(script_read_end(control) ? 0 : 1);
    }
    ck_assert_int_eq(sockst_associate(&association, &options, SCRIPT_TIMEOUT_MS, &failure), 0);
    sockst_association_close(association);
    int status = -1;
    ck_assert_int_eq(waitpid(server, &status, 0), server);
    ck_assert_int_eq(status, 0);
    options.ptcl = 132;
    ck_assert_int_eq(sockst_associate(&association, &options, 50, &failure), -1);
    ck_assert_int_eq(failure.error, SOCKST_E_LOCAL);
    close(listener);
    close(relay);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("association");
    tcase_set_timeout(tcase, 30);
    tcase_add_test(tcase, a_tcp_association);
    tcase_add_test(tcase, a_udp_association);
    tcase_add_test(tcase, an_answer_may_come_an_octet_at_a_time);
    tcase_add_test(tcase, every_refusal_is_reported);
    tcase_add_test(tcase, addresses_of_the_proxy_are_tried_in_order);
    tcase_add_test(tcase, bnd_is_judged);
    tcase_add_test(tcase, a_server_that_ends_early);
    tcase_add_test(tcase, time_is_up_while_the_proxy_is_silent);
    tcase_add_test(tcase, a_relay_that_does_not_answer);
    tcase_add_test(tcase, a_relay_that_is_not_there);
    tcase_add_test(tcase, the_end_of_the_control_connection_is_seen);
    tcase_add_test(tcase, it_may_be_closed_at_any_time);
    tcase_add_test(tcase, all_at_once);
    return run_tests(tcase);
}
