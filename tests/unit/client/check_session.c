/* The client's dialogue, against every kind of server: N1-METH-050, N1-AUTH-010, N1-REP-020,
 * N1-CONN-010. */
#include <errno.h>
#include <string.h>

#include "common/client/sockst.h"
#include "tests/unit/client/suite.h"

static const struct n1_methods none_only = {1, {N1_METHOD_NONE}};
static const struct n1_methods none_and_userpass = {2, {N1_METHOD_NONE, N1_METHOD_USERPASS}};
static const struct n1_userpass alice = {
    .user_length = 5, .password_length = 2, .user = "alice", .password = "pw"};
static const uint8_t success[] = {5, 0, 0, 1, 192, 0, 2, 9, 0xc3, 0x50};

static struct n1_request request_of(void)
{
    struct n1_request request = {.command = N1_CMD_TRANSPARENT, .ptcl = 6};
    struct endpoint endpoint;
    ck_assert_int_eq(endpoint_parse("192.0.2.1:80", &endpoint), 0);
    request.destination = n1_host_from_endpoint(&endpoint);
    ck_assert_int_eq(endpoint_parse("198.51.100.7:40000", &endpoint), 0);
    request.source = n1_host_from_endpoint(&endpoint);
    return request;
}

static struct sockst_session *session_of(const struct n1_methods *methods,
                                         const struct n1_userpass *userpass)
{
    struct n1_request request = request_of();
    struct sockst_ask ask = {.methods = *methods, .userpass = userpass, .request = &request};
    struct sockst_session *session = NULL;
    ck_assert_int_eq(sockst_session_new(&session, &ask), 0);
    return session;
}

/* All output is what is expected, taken `step` octets at a time. */
static void assert_output(struct sockst_session *session, const uint8_t *expected, size_t length,
                          size_t step)
{
    const uint8_t *data;
    size_t done = 0, left;
    while ((left = sockst_session_output(session, &data)) != 0) {
        ck_assert_uint_le(done + left, length);
        ck_assert_mem_eq(data, expected + done, left);
        size_t count = left < step ? left : step;
        sockst_session_sent(session, count);
        done += count;
    }
    ck_assert_uint_eq(done, length);
}

static enum sockst_status feed(struct sockst_session *session, const uint8_t *data, size_t length,
                               size_t step)
{
    enum sockst_status status = sockst_session_status(session);
    for (size_t i = 0; i < length && status == SOCKST_RUNNING; i += step) {
        size_t count = length - i < step ? length - i : step;
        uint8_t *block = malloc(count);
        memcpy(block, data + i, count);
        status = sockst_session_receive(session, block, count, NULL);
        free(block);
    }
    return status;
}

static void assert_failed(struct sockst_session *session, enum sockst_error error)
{
    ck_assert_int_eq(sockst_session_status(session), SOCKST_FAILED);
    const struct sockst_failure *failure = sockst_session_failure(session);
    ck_assert_int_eq(failure->error, error);
    ck_assert_uint_ne(strlen(failure->text), 0);
    const uint8_t *data;
    ck_assert_uint_eq(sockst_session_output(session, &data), 0);
}

START_TEST(one_round_trip_without_authentication)
{
    uint8_t expected[3 + N1_REQUEST_MAX] = {5, 1, 0};
    struct n1_request request = request_of();
    size_t length = 3 + n1_request_encode(&request, expected + 3, N1_REQUEST_MAX);
    for (size_t step = 1; step < 16; step++) {
        uint8_t answer[2 + sizeof(success)] = {5, 0};
        memcpy(answer + 2, success, sizeof(success));
        struct sockst_session *session = session_of(&none_only, NULL);
        assert_output(session, expected, length, step); /* all of it before any answer */
        ck_assert_uint_eq(sockst_session_method(session), N1_METHOD_UNACCEPTABLE);
        ck_assert_int_eq(feed(session, answer, sizeof(answer), step), SOCKST_DONE);
        ck_assert_uint_eq(sockst_session_method(session), N1_METHOD_NONE);
        ck_assert_uint_eq(sockst_session_reply(session)->bound.port, 50000);
        sockst_session_free(session);
    }
}
END_TEST

START_TEST(two_methods_wait_for_the_choice)
{
    const uint8_t methods[] = {5, 2, 0, 2};
    uint8_t expected[N1_REQUEST_MAX];
    struct n1_request request = request_of();
    size_t length = n1_request_encode(&request, expected, sizeof(expected));
    struct sockst_session *session = session_of(&none_and_userpass, &alice);
    assert_output(session, methods, sizeof(methods), 1);
    ck_assert_int_eq(feed(session, (const uint8_t[]){5, 0}, 2, 1), SOCKST_RUNNING);
    assert_output(session, expected, length, 7);
    ck_assert_int_eq(feed(session, success, sizeof(success), 1), SOCKST_DONE);
    sockst_session_free(session);
}
END_TEST

START_TEST(user_and_password_are_sent_when_chosen)
{
    const uint8_t methods[] = {5, 2, 0, 2};
    const uint8_t userpass[] = {1, 5, 'a', 'l', 'i', 'c', 'e', 2, 'p', 'w'};
    uint8_t expected[N1_REQUEST_MAX];
    struct n1_request request = request_of();
    size_t length = n1_request_encode(&request, expected, sizeof(expected));
    struct sockst_session *session = session_of(&none_and_userpass, &alice);
    assert_output(session, methods, sizeof(methods), 4);
    ck_assert_int_eq(feed(session, (const uint8_t[]){5, 2}, 2, 1), SOCKST_RUNNING);
    assert_output(session, userpass, sizeof(userpass), 3);
    ck_assert_int_eq(feed(session, (const uint8_t[]){1, 0}, 2, 1), SOCKST_RUNNING);
    assert_output(session, expected, length, 100);
    ck_assert_int_eq(feed(session, success, sizeof(success), 3), SOCKST_DONE);
    sockst_session_free(session);
}
END_TEST

START_TEST(every_status_but_zero_is_a_refusal)
{
    for (unsigned status = 1; status < 256; status++) {
        struct sockst_session *session = session_of(&none_and_userpass, &alice);
        feed(session, (const uint8_t[]){5, 2}, 2, 2);
        ck_assert_int_eq(feed(session, (const uint8_t[]){1, (uint8_t)status}, 2, 1), SOCKST_FAILED);
        assert_failed(session, SOCKST_E_AUTH);
        sockst_session_free(session);
    }
    struct sockst_session *session = session_of(&none_and_userpass, &alice);
    feed(session, (const uint8_t[]){5, 2, 5}, 3, 3); /* the status' version is 1 */
    assert_failed(session, SOCKST_E_PROTOCOL);
    sockst_session_free(session);
}
END_TEST

/* N1-METH-050 */
START_TEST(only_offered_methods_are_taken)
{
    for (unsigned method = 0; method < 256; method++) {
        struct sockst_session *session = session_of(&none_and_userpass, &alice);
        enum sockst_status status = feed(session, (const uint8_t[]){5, (uint8_t)method}, 2, 1);
        if (method == N1_METHOD_NONE || method == N1_METHOD_USERPASS)
            ck_assert_int_eq(status, SOCKST_RUNNING);
        else
            assert_failed(session, method == 0xff ? SOCKST_E_METHOD : SOCKST_E_PROTOCOL);
        sockst_session_free(session);
    }
}
END_TEST

START_TEST(a_method_that_cannot_be_carried_out_ends_it)
{
    const struct n1_methods gssapi = {1, {N1_METHOD_GSSAPI}};
    const struct n1_methods userpass = {1, {N1_METHOD_USERPASS}};
    struct sockst_session *session = session_of(&gssapi, NULL);
    feed(session, (const uint8_t[]){5, 1}, 2, 1);
    assert_failed(session, SOCKST_E_METHOD);
    sockst_session_free(session);
    session = session_of(&userpass, NULL);
    feed(session, (const uint8_t[]){5, 2}, 2, 1);
    assert_failed(session, SOCKST_E_METHOD);
    sockst_session_free(session);
}
END_TEST

START_TEST(without_a_request_the_choice_is_the_end)
{
    const struct n1_methods gssapi = {1, {N1_METHOD_GSSAPI}};
    struct sockst_ask ask = {.methods = gssapi};
    struct sockst_session *session;
    ck_assert_int_eq(sockst_session_new(&session, &ask), 0);
    assert_output(session, (const uint8_t[]){5, 1, 1}, 3, 1);
    ck_assert_int_eq(feed(session, (const uint8_t[]){5, 1}, 2, 1), SOCKST_DONE);
    ck_assert_uint_eq(sockst_session_method(session), N1_METHOD_GSSAPI);
    sockst_session_free(session);
}
END_TEST

/* N1-REP-020 */
START_TEST(every_reply_code_but_zero_is_a_refusal)
{
    for (unsigned code = 1; code < 256; code++) {
        const uint8_t answer[] = {5, 0, 5, (uint8_t)code, 0, 1, 0, 0, 0, 0, 0, 0};
        struct sockst_session *session = session_of(&none_only, NULL);
        ck_assert_int_eq(feed(session, answer, sizeof(answer), 1 + code % 12), SOCKST_FAILED);
        assert_failed(session, SOCKST_E_REPLY);
        ck_assert_uint_eq(sockst_session_failure(session)->reply, code);
        ck_assert_ptr_nonnull(
            strstr(sockst_session_failure(session)->text, n1_reply_text((uint8_t)code)));
        ck_assert_uint_eq(sockst_session_reply(session)->code, code);
        sockst_session_free(session);
    }
}
END_TEST

START_TEST(hostile_octets_end_it_at_once)
{
    static const struct {
        uint8_t data[8];
        size_t length; /* the octet at which it has to fail */
    } rows[] = {
        {{4}, 1},
        {{'H', 'T', 'T', 'P'}, 1},
        {{5, 0, 4}, 3},
        {{5, 0, 5, 0, 1}, 5},
        {{5, 0, 5, 0, 0, 2}, 6},
        {{5, 0, 5, 1, 0xff}, 5},
        {{5, 0, 5, 0, 0, 0}, 6},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct sockst_session *session = session_of(&none_only, NULL);
        if (rows[i].length > 1)
            ck_assert_int_eq(feed(session, rows[i].data, rows[i].length - 1, 1), SOCKST_RUNNING);
        sockst_session_receive(session, rows[i].data + rows[i].length - 1, 1, NULL);
        assert_failed(session, SOCKST_E_PROTOCOL);
        /* Final: nothing changes any more. */
        size_t taken = 99;
        ck_assert_int_eq(sockst_session_receive(session, success, sizeof(success), &taken),
                         SOCKST_FAILED);
        ck_assert_uint_eq(taken, 0);
        ck_assert_int_eq(sockst_session_end(session), SOCKST_FAILED);
        assert_failed(session, SOCKST_E_PROTOCOL);
        sockst_session_free(session);
    }
}
END_TEST

START_TEST(the_end_before_the_reply_is_a_failure)
{
    uint8_t answer[2 + sizeof(success)] = {5, 0};
    memcpy(answer + 2, success, sizeof(success));
    for (size_t length = 0; length < sizeof(answer); length++) {
        struct sockst_session *session = session_of(&none_only, NULL);
        ck_assert_int_eq(feed(session, answer, length, 1), SOCKST_RUNNING);
        ck_assert_int_eq(sockst_session_end(session), SOCKST_FAILED);
        assert_failed(session, SOCKST_E_CLOSED);
        sockst_session_free(session);
    }
    struct sockst_session *session = session_of(&none_only, NULL);
    feed(session, answer, sizeof(answer), 1);
    ck_assert_int_eq(sockst_session_end(session), SOCKST_DONE);
    sockst_session_free(session);
}
END_TEST

START_TEST(what_follows_the_reply_is_not_taken)
{
    uint8_t answer[2 + sizeof(success) + 600] = {5, 0};
    memcpy(answer + 2, success, sizeof(success));
    for (size_t split = 0; split <= 2 + sizeof(success); split++) {
        struct sockst_session *session = session_of(&none_only, NULL);
        size_t first = 0, second = 0;
        sockst_session_receive(session, answer, split, &first);
        ck_assert_uint_eq(first, split);
        if (split < 2 + sizeof(success))
            sockst_session_receive(session, answer + split, sizeof(answer) - split, &second);
        ck_assert_int_eq(sockst_session_status(session), SOCKST_DONE);
        ck_assert_uint_eq(first + second, 2 + sizeof(success));
        sockst_session_free(session);
    }
}
END_TEST

START_TEST(the_longest_reply_fits)
{
    uint8_t answer[2 + N1_REPLY_MAX] = {5, 0, 5, 0, 0, 3, 253};
    memset(answer + 7, 'n', 253);
    for (size_t i = 7 + 50; i < 7 + 253; i += 51)
        answer[i] = '.';
    size_t length = 7 + 253 + 2;
    for (size_t step = 1; step < 300; step += 13) {
        struct sockst_session *session = session_of(&none_only, NULL);
        ck_assert_int_eq(feed(session, answer, length, step), SOCKST_DONE);
        ck_assert_uint_eq(sockst_session_reply(session)->bound.name_length, 253);
        sockst_session_free(session);
    }
}
END_TEST

START_TEST(questions_that_cannot_be_asked)
{
    struct n1_request request = request_of();
    const struct n1_userpass nobody = {0};
    struct sockst_ask good = {.methods = none_only, .request = &request};
    struct sockst_ask ask = good;
    struct sockst_session *session = NULL;
    ask.methods.count = 0;
    ck_assert_int_eq(sockst_session_new(&session, &ask), -EINVAL);
    ask = good;
    ask.userpass = &nobody;
    ck_assert_int_eq(sockst_session_new(&session, &ask), -EINVAL);
    ask = good;
    request.command = 9;
    ck_assert_int_eq(sockst_session_new(&session, &ask), -EINVAL);
    ck_assert_ptr_null(session);
    sockst_session_free(NULL);
}
END_TEST

static struct sockst_session *bind_session(bool in_step)
{
    struct n1_request request = {.command = N1_CMD_BIND, .destination = request_of().destination};
    struct sockst_ask ask = {.methods = none_only, .request = &request, .in_step = in_step};
    struct sockst_session *session = NULL;
    ck_assert_int_eq(sockst_session_new(&session, &ask), 0);
    return session;
}

/* As a socket would: what was not taken comes again. Returns the calls that saw BOUND. */
static size_t feed_again(struct sockst_session *session, const uint8_t *data, size_t length,
                         size_t step)
{
    size_t bound = 0, done = 0;
    while (done < length && sockst_session_status(session) < SOCKST_DONE) {
        size_t taken = 0, count = length - done < step ? length - done : step;
        enum sockst_status status = sockst_session_receive(session, data + done, count, &taken);
        ck_assert_uint_le(taken, count);
        done += taken;
        if (status == SOCKST_BOUND) {
            ck_assert_uint_eq(sockst_session_reply(session)->bound.port, 50000);
            bound++;
        }
    }
    return bound;
}

START_TEST(bind_has_two_replies)
{
    static const uint8_t answer[] = {5,   0,                                      /* the method */
                                     5,   0,   0,   1,  192, 0, 2, 9, 0xc3, 0x50, /* BND */
                                     5,   0,   0,   1,  192, 0, 2, 1, 0x00, 0x14, /* the peer */
                                     'd', 'a', 't', 'a'};
    for (size_t step = 1; step <= sizeof(answer); step++) {
        struct sockst_session *session = bind_session(false);
        ck_assert_uint_ge(feed_again(session, answer, sizeof(answer) - 4, step), 1);
        ck_assert_int_eq(sockst_session_status(session), SOCKST_DONE);
        ck_assert_uint_eq(sockst_session_reply(session)->bound.port, 20);
        sockst_session_free(session);
    }
    /* What follows the second reply is the peer's. */
    struct sockst_session *session = bind_session(false);
    size_t taken;
    ck_assert_int_eq(sockst_session_receive(session, answer, sizeof(answer), &taken), SOCKST_BOUND);
    ck_assert_uint_eq(taken, 12);
    ck_assert_int_eq(sockst_session_receive(session, answer + 12, sizeof(answer) - 12, &taken),
                     SOCKST_DONE);
    ck_assert_uint_eq(taken, 10);
    sockst_session_free(session);
}
END_TEST

START_TEST(each_reply_of_bind_may_refuse)
{
    for (unsigned code = 1; code < 256; code++) {
        uint8_t refusal[] = {5, (uint8_t)code, 0, 1, 0, 0, 0, 0, 0, 0};
        for (int second = 0; second < 2; second++) {
            struct sockst_session *session = bind_session(false);
            feed_again(session, (const uint8_t[]){5, 0}, 2, 2);
            if (second)
                ck_assert_uint_eq(feed_again(session, success, sizeof(success), 10), 1);
            feed_again(session, refusal, sizeof(refusal), 3);
            assert_failed(session, SOCKST_E_REPLY);
            ck_assert_uint_eq(sockst_session_failure(session)->reply, code);
            sockst_session_free(session);
        }
    }
    struct sockst_session *session = bind_session(false);
    feed_again(session, (const uint8_t[]){5, 0}, 2, 2);
    feed_again(session, success, sizeof(success), 10);
    ck_assert_int_eq(sockst_session_end(session), SOCKST_FAILED);
    assert_failed(session, SOCKST_E_CLOSED);
    sockst_session_free(session);
}
END_TEST

START_TEST(in_step_the_request_waits_for_the_method)
{
    struct sockst_session *session = bind_session(true);
    struct n1_request request = {.command = N1_CMD_BIND, .destination = request_of().destination};
    uint8_t expected[N1_REQUEST_MAX];
    size_t length = n1_request_encode(&request, expected, sizeof(expected));
    assert_output(session, (const uint8_t[]){5, 1, 0}, 3, 3);
    ck_assert_int_eq(feed(session, (const uint8_t[]){5, 0}, 2, 1), SOCKST_RUNNING);
    assert_output(session, expected, length, 4);
    sockst_session_free(session);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("session");
    tcase_add_test(tcase, one_round_trip_without_authentication);
    tcase_add_test(tcase, two_methods_wait_for_the_choice);
    tcase_add_test(tcase, user_and_password_are_sent_when_chosen);
    tcase_add_test(tcase, every_status_but_zero_is_a_refusal);
    tcase_add_test(tcase, only_offered_methods_are_taken);
    tcase_add_test(tcase, a_method_that_cannot_be_carried_out_ends_it);
    tcase_add_test(tcase, without_a_request_the_choice_is_the_end);
    tcase_add_test(tcase, every_reply_code_but_zero_is_a_refusal);
    tcase_add_test(tcase, hostile_octets_end_it_at_once);
    tcase_add_test(tcase, the_end_before_the_reply_is_a_failure);
    tcase_add_test(tcase, what_follows_the_reply_is_not_taken);
    tcase_add_test(tcase, the_longest_reply_fits);
    tcase_add_test(tcase, questions_that_cannot_be_asked);
    tcase_add_test(tcase, bind_has_two_replies);
    tcase_add_test(tcase, each_reply_of_bind_may_refuse);
    tcase_add_test(tcase, in_step_the_request_waits_for_the_method);
    return run_tests(tcase);
}
