/* CONNECT, BIND and UDP ASSOCIATE from the client's side, against a scripted server: RFC 1928
 * sections 4, 6 and 7, N1-BND-020, N1-UDP-010. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
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

/* A client that has connected, and the server's end of it. */
struct subject {
    int listener, control;
    struct endpoint proxy;
    struct sockst_association *association;
};

static struct subject start(uint8_t command, uint8_t ptcl, const char *destination)
{
    struct subject subject;
    struct endpoint to = endpoint_of(destination);
    subject.listener = script_listen(SOCK_STREAM, &subject.proxy);
    struct sockst_options options = {.proxies = &subject.proxy,
                                     .proxy_count = 1,
                                     .command = command,
                                     .ptcl = ptcl,
                                     .destination = n1_host_from_endpoint(&to)};
    ck_assert_int_eq(sockst_association_start(&subject.association, &options), 0);
    subject.control = script_accept(subject.listener);
    return subject;
}

static void finish(struct subject *subject)
{
    sockst_association_close(subject->association);
    close(subject->control);
    close(subject->listener);
}

/* Advances until the server has to say something. */
static enum sockst_status settle(struct subject *subject)
{
    for (int i = 0; i < 100; i++) {
        enum sockst_status status = sockst_association_advance(subject->association);
        struct pollfd fds[2];
        sockst_association_wants(subject->association, &fds[0].fd, &fds[0].events, &fds[1].fd,
                                 &fds[1].events);
        if (status == SOCKST_DONE || status == SOCKST_FAILED || poll(fds, 2, 20) == 0)
            return status;
    }
    ck_abort_msg("it never settles");
}

/* The request, read by a server that insists on its turn. */
static struct n1_request read_request(struct subject *subject)
{
    uint8_t methods[3], data[N1_REQUEST_MAX];
    struct n1_request request;
    size_t length = 0, used;
    ck_assert_int_eq(settle(subject), SOCKST_RUNNING);
    script_read(subject->control, methods, sizeof(methods));
    struct pollfd early = {.fd = subject->control, .events = POLLIN};
    ck_assert_msg(poll(&early, 1, 0) == 0, "the request came with the method list");
    script_write(subject->control, (const uint8_t[]){5, 0}, 2);
    ck_assert_int_eq(settle(subject), SOCKST_RUNNING);
    do {
        ck_assert_uint_lt(length, sizeof(data));
        script_read(subject->control, data + length++, 1);
    } while (n1_request_decode(data, length, &request, &used) == N1_NEED_MORE);
    ck_assert_int_eq(n1_request_decode(data, length, &request, &used), N1_OK);
    return request;
}

static void assert_failed(struct subject *subject, enum sockst_error error)
{
    ck_assert_int_eq(sockst_association_advance(subject->association), SOCKST_FAILED);
    const struct sockst_failure *failure = sockst_association_failure(subject->association);
    ck_assert_msg(failure->error == error, "error %d (%s), expected %d", failure->error,
                  failure->text, error);
    ck_assert_int_eq(sockst_association_data_fd(subject->association), -1);
    ck_assert_int_eq(sockst_association_control_fd(subject->association), -1);
}

START_TEST(connect_makes_n1_the_data_socket)
{
    struct subject subject = start(N1_CMD_CONNECT, PTCL_TCP, "192.0.2.1:80");
    struct n1_request request = read_request(&subject);
    ck_assert_uint_eq(request.command, N1_CMD_CONNECT);
    ck_assert_uint_eq(request.destination.port, 80);
    int n1 = sockst_association_control_fd(subject.association);
    /* The target speaks first: its octets come with the reply and stay in the socket. */
    uint8_t answer[N1_REPLY_MAX + 6];
    struct endpoint bound = endpoint_of("198.51.100.9:4000");
    size_t length = n1_reply_encode(N1_REP_SUCCEEDED, &bound, answer, sizeof(answer));
    memcpy(answer + length, "220 ok", 6);
    script_write(subject.control, answer, length + 6);
    ck_assert_int_eq(sockst_association_run(subject.association, SCRIPT_TIMEOUT_MS), SOCKST_DONE);
    ck_assert_int_eq(sockst_association_data_fd(subject.association), n1);
    ck_assert_int_eq(sockst_association_control_fd(subject.association), -1);
    ck_assert(endpoint_equal(sockst_association_bound(subject.association), &bound));
    uint8_t text[6];
    ck_assert_int_eq(recv(n1, text, sizeof(text), 0), 6);
    ck_assert_mem_eq(text, "220 ok", 6);
    finish(&subject);
}
END_TEST

START_TEST(a_reply_may_come_an_octet_at_a_time)
{
    uint8_t answer[N1_REPLY_MAX + 1];
    struct endpoint bound = endpoint_of("[2001:db8::9]:4000");
    struct subject subject = start(N1_CMD_CONNECT, PTCL_TCP, "192.0.2.1:80");
    read_request(&subject);
    size_t length = n1_reply_encode(N1_REP_SUCCEEDED, &bound, answer, sizeof(answer));
    answer[length] = 'x';
    for (size_t i = 0; i < length; i++) {
        ck_assert_int_eq(settle(&subject), SOCKST_RUNNING);
        script_write(subject.control, answer + i, 1);
    }
    script_write(subject.control, answer + length, 1);
    ck_assert_int_eq(sockst_association_run(subject.association, SCRIPT_TIMEOUT_MS), SOCKST_DONE);
    struct pollfd data = {.fd = sockst_association_data_fd(subject.association), .events = POLLIN};
    uint8_t octet;
    ck_assert_int_eq(poll(&data, 1, SCRIPT_TIMEOUT_MS), 1);
    ck_assert_int_eq(recv(data.fd, &octet, 1, 0), 1);
    ck_assert_uint_eq(octet, 'x');
    finish(&subject);
}
END_TEST

/* Servers that answer 0.0.0.0:0, or a name: what BND is matters to nobody. */
START_TEST(any_bnd_will_do_for_connect)
{
    static const uint8_t answers[][12] = {{5, 0, 0, 1, 0, 0, 0, 0, 0, 0},
                                          {5, 0, 0, 3, 1, 'a', 0, 7}};
    static const size_t lengths[] = {10, 8};
    for (size_t i = 0; i < 2; i++) {
        struct subject subject = start(N1_CMD_CONNECT, PTCL_TCP, "192.0.2.1:80");
        read_request(&subject);
        script_write(subject.control, answers[i], lengths[i]);
        ck_assert_int_eq(settle(&subject), SOCKST_DONE);
        ck_assert_uint_eq(sockst_association_bound(subject.association)->address.family,
                          i == 0 ? IP_V4 : IP_NONE);
        finish(&subject);
    }
}
END_TEST

START_TEST(a_refusal_fails_with_its_code)
{
    struct subject subject = start(N1_CMD_CONNECT, PTCL_TCP, "192.0.2.1:80");
    read_request(&subject);
    script_reply(subject.control, N1_REP_REFUSED, NULL);
    ck_assert_int_eq(settle(&subject), SOCKST_FAILED);
    assert_failed(&subject, SOCKST_E_REPLY);
    ck_assert_uint_eq(sockst_association_failure(subject.association)->reply, N1_REP_REFUSED);
    finish(&subject);
}
END_TEST

START_TEST(bind_tells_bnd_then_the_peer)
{
    struct endpoint bound = endpoint_of("198.51.100.9:4000"), peer = endpoint_of("192.0.2.1:20");
    struct subject subject = start(N1_CMD_BIND, PTCL_TCP, "192.0.2.1:0");
    struct n1_request request = read_request(&subject);
    ck_assert_uint_eq(request.command, N1_CMD_BIND);
    script_reply(subject.control, N1_REP_SUCCEEDED, &bound);
    /* A first run() ends here, a second goes on. */
    ck_assert_int_eq(sockst_association_run(subject.association, SCRIPT_TIMEOUT_MS), SOCKST_BOUND);
    ck_assert(endpoint_equal(sockst_association_bound(subject.association), &bound));
    ck_assert_int_eq(sockst_association_data_fd(subject.association), -1);
    ck_assert_int_eq(settle(&subject), SOCKST_BOUND);
    script_reply(subject.control, N1_REP_SUCCEEDED, &peer);
    ck_assert_int_eq(sockst_association_run(subject.association, SCRIPT_TIMEOUT_MS), SOCKST_DONE);
    ck_assert(endpoint_equal(sockst_association_peer(subject.association), &peer));
    ck_assert(endpoint_equal(sockst_association_bound(subject.association), &bound));
    ck_assert_int_ge(sockst_association_data_fd(subject.association), 0);
    finish(&subject);
}
END_TEST

START_TEST(both_replies_of_bind_may_come_at_once)
{
    uint8_t answer[2 * N1_REPLY_MAX];
    struct endpoint bound = endpoint_of("198.51.100.9:4000"), peer = endpoint_of("192.0.2.1:20");
    struct subject subject = start(N1_CMD_BIND, PTCL_TCP, "192.0.2.1:0");
    read_request(&subject);
    size_t length = n1_reply_encode(N1_REP_SUCCEEDED, &bound, answer, N1_REPLY_MAX);
    length += n1_reply_encode(N1_REP_SUCCEEDED, &peer, answer + length, N1_REPLY_MAX);
    answer[length] = 'x';
    script_write(subject.control, answer, length + 1);
    ck_assert_int_eq(sockst_association_run(subject.association, SCRIPT_TIMEOUT_MS), SOCKST_BOUND);
    ck_assert(endpoint_equal(sockst_association_bound(subject.association), &bound));
    ck_assert_int_eq(sockst_association_run(subject.association, SCRIPT_TIMEOUT_MS), SOCKST_DONE);
    ck_assert(endpoint_equal(sockst_association_peer(subject.association), &peer));
    uint8_t octets[2];
    ck_assert_int_eq(recv(sockst_association_data_fd(subject.association), octets, 2, MSG_DONTWAIT),
                     1);
    finish(&subject);
}
END_TEST

START_TEST(nobody_comes)
{
    struct endpoint bound = endpoint_of("198.51.100.9:4000"), none = endpoint_of("198.51.100.9:0");
    struct subject subject = start(N1_CMD_BIND, PTCL_TCP, "0.0.0.0:0");
    read_request(&subject);
    script_reply(subject.control, N1_REP_SUCCEEDED, &bound);
    ck_assert_int_eq(settle(&subject), SOCKST_BOUND);
    sockst_association_expire(subject.association);
    assert_failed(&subject, SOCKST_E_DATA);
    finish(&subject);
    /* The server's time is up. */
    subject = start(N1_CMD_BIND, PTCL_TCP, "0.0.0.0:0");
    read_request(&subject);
    script_reply(subject.control, N1_REP_SUCCEEDED, &bound);
    ck_assert_int_eq(settle(&subject), SOCKST_BOUND);
    script_reply(subject.control, N1_REP_TTL_EXPIRED, NULL);
    ck_assert_int_eq(settle(&subject), SOCKST_FAILED);
    assert_failed(&subject, SOCKST_E_REPLY);
    finish(&subject);
    /* A BND that nobody can connect to. */
    subject = start(N1_CMD_BIND, PTCL_TCP, "0.0.0.0:0");
    read_request(&subject);
    script_reply(subject.control, N1_REP_SUCCEEDED, &none);
    ck_assert_int_eq(settle(&subject), SOCKST_FAILED);
    assert_failed(&subject, SOCKST_E_PROTOCOL);
    finish(&subject);
}
END_TEST

/* ---- UDP ASSOCIATE ------------------------------------------------------------------------------
 */

/* Granted; *relay is connected to the client's socket, which has sent one datagram. */
static struct subject granted_udp(const char *destination, int *relay)
{
    struct endpoint bound;
    struct sockaddr_storage address;
    socklen_t length = sizeof(address);
    uint8_t datagram[64];
    struct subject subject = start(N1_CMD_UDP_ASSOCIATE, PTCL_UDP, destination);
    struct n1_request request = read_request(&subject);
    ck_assert_uint_eq(request.command, N1_CMD_UDP_ASSOCIATE);
    ck_assert_uint_eq(request.destination.atyp, N1_ATYP_V4);
    ck_assert(ip_address_is_unspecified(&request.destination.address));
    ck_assert_uint_eq(request.destination.port, 0);
    *relay = script_listen(SOCK_DGRAM, &bound);
    script_reply(subject.control, N1_REP_SUCCEEDED, &bound);
    ck_assert_int_eq(sockst_association_run(subject.association, SCRIPT_TIMEOUT_MS), SOCKST_DONE);
    ck_assert(sockst_association_is_alive(subject.association));
    ck_assert_int_eq(sockst_association_send(subject.association, "ping", 4), 4);
    ssize_t got =
        recvfrom(*relay, datagram, sizeof(datagram), 0, (struct sockaddr *)&address, &length);
    ck_assert_int_eq(got, 14);
    ck_assert_mem_eq(datagram, "\0\0\0\1\xc0\0\2\1\0\x35ping", 14);
    ck_assert_int_eq(connect(*relay, (struct sockaddr *)&address, length), 0);
    return subject;
}

static ssize_t answer(struct subject *subject, int relay, const void *datagram, size_t length,
                      uint8_t *out, size_t size)
{
    struct pollfd pollfd = {.fd = sockst_association_data_fd(subject->association),
                            .events = POLLIN};
    script_write(relay, datagram, length);
    ck_assert_int_eq(poll(&pollfd, 1, SCRIPT_TIMEOUT_MS), 1);
    ssize_t got = sockst_association_receive(subject->association, out, size);
    if (got < 0)
        ck_assert_int_eq(errno, EAGAIN);
    return got;
}

START_TEST(datagrams_have_a_header)
{
    int relay;
    uint8_t out[16];
    struct subject subject = granted_udp("192.0.2.1:53", &relay);
    ck_assert_int_eq(answer(&subject, relay, "\0\0\0\1\xc0\0\2\1\0\x35pong", 14, out, sizeof(out)),
                     4);
    ck_assert_mem_eq(out, "pong", 4);
    ck_assert_int_eq(answer(&subject, relay, "\0\0\0\1\xc0\0\2\1\0\x35", 10, out, sizeof(out)), 0);
    /* The room that the caller has is enough for the payload alone. */
    ck_assert_int_eq(answer(&subject, relay, "\0\0\0\1\xc0\0\2\1\0\x35pong", 14, out, 4), 4);
    ck_assert_int_eq(answer(&subject, relay, "\0\0\0\1\xc0\0\2\1\0\x35pong", 14, out, 3), -1);
    close(relay);
    finish(&subject);
}
END_TEST

START_TEST(what_is_no_answer_is_dropped)
{
    static const struct {
        const char *octets;
        size_t length;
    } datagrams[] = {
        {"\0\1\0\1\xc0\0\2\1\0\x35pong", 14}, /* RSV */
        {"\0\0\1\1\xc0\0\2\1\0\x35pong", 14}, /* a fragment */
        {"\0\0\0\2\xc0\0\2\1\0\x35pong", 14}, /* ATYP */
        {"\0\0\0\1\xc0\0\2\2\0\x35pong", 14}, /* another address */
        {"\0\0\0\1\xc0\0\2\1\0\x36pong", 14}, /* another port */
        {"\0\0\0\3\5\1", 6},                  /* cut in a name */
        {"pong", 4},
    };
    int relay;
    uint8_t out[64];
    struct subject subject = granted_udp("192.0.2.1:53", &relay);
    for (size_t i = 0; i < sizeof(datagrams) / sizeof(datagrams[0]); i++)
        ck_assert_int_eq(
            answer(&subject, relay, datagrams[i].octets, datagrams[i].length, out, sizeof(out)),
            -1);
    for (size_t length = 1; length < 10; length++)
        ck_assert_int_eq(
            answer(&subject, relay, "\0\0\0\1\xc0\0\2\1\0\x35", length, out, sizeof(out)), -1);
    ck_assert_int_eq(answer(&subject, relay, "\0\0\0\1\xc0\0\2\1\0\x35pong", 14, out, sizeof(out)),
                     4);
    close(relay);
    finish(&subject);
}
END_TEST

START_TEST(commands_belong_to_their_protocol)
{
    static const uint8_t wrong[][2] = {{N1_CMD_CONNECT, PTCL_UDP},
                                       {N1_CMD_BIND, PTCL_UDP},
                                       {N1_CMD_UDP_ASSOCIATE, PTCL_TCP},
                                       {N1_CMD_TRANSPARENT, 1},
                                       {5, PTCL_TCP}};
    struct endpoint proxy = endpoint_of("127.0.0.1:1");
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct sockst_association *association = NULL;
        struct sockst_options options = {
            .proxies = &proxy, .proxy_count = 1, .command = wrong[i][0], .ptcl = wrong[i][1]};
        ck_assert_int_eq(sockst_association_start(&association, &options), -EINVAL);
    }
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("classic");
    tcase_set_timeout(tcase, 20);
    tcase_add_test(tcase, connect_makes_n1_the_data_socket);
    tcase_add_test(tcase, a_reply_may_come_an_octet_at_a_time);
    tcase_add_test(tcase, any_bnd_will_do_for_connect);
    tcase_add_test(tcase, a_refusal_fails_with_its_code);
    tcase_add_test(tcase, bind_tells_bnd_then_the_peer);
    tcase_add_test(tcase, both_replies_of_bind_may_come_at_once);
    tcase_add_test(tcase, nobody_comes);
    tcase_add_test(tcase, datagrams_have_a_header);
    tcase_add_test(tcase, what_is_no_answer_is_dropped);
    tcase_add_test(tcase, commands_belong_to_their_protocol);
    return run_tests(tcase);
}
