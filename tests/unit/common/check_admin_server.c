/* What the admin socket answers. Who may ask is in check_admin_access.c. */
#include "tests/unit/common/admin_support.h"

START_TEST(status)
{
    start();
    relays = 5;
    int fd = client();
    ask(fd, ADMIN_STATUS, 0);
    expect_answer(fd, ADMIN_ANSWER_STATUS);
    ck_assert_str_eq(heard.status.daemon, "relayd");
    ck_assert_uint_eq(heard.status.counters[0].value, 5);
    expect_end(fd, 1);
    ck_assert_uint_eq(admin_server_stats(server).requests, 1);
    ck_assert_uint_eq(admin_server_stats(server).connections, 1);
    close(fd);
    finish();
}
END_TEST

START_TEST(show)
{
    start();
    relays = 5;
    int fd = client();
    ask(fd, ADMIN_SHOW, 3);
    expect_answer(fd, ADMIN_ANSWER_RELAY);
    ck_assert_uint_eq(heard.relay.relay, 3);
    ck_assert_uint_eq(heard.relay.counters.up_bytes, 9);
    expect_end(fd, 1);
    ask(fd, ADMIN_SHOW, 6);
    expect_error(fd, "no such relay");
    ask(fd, ADMIN_SHOW, 5); /* the connection goes on */
    expect_answer(fd, ADMIN_ANSWER_RELAY);
    expect_end(fd, 1);
    ck_assert_uint_eq(admin_server_stats(server).bad_requests, 0);
    close(fd);
    finish();
}
END_TEST

START_TEST(close_a_relay)
{
    start();
    relays = 5;
    int fd = client();
    ask(fd, ADMIN_CLOSE, 4);
    expect_end(fd, 1);
    ck_assert_uint_eq(closed_relay, 4);
    ask(fd, ADMIN_CLOSE, 6);
    expect_error(fd, "no such relay");
    ck_assert_uint_eq(closed_relay, 4);
    close(fd);
    finish();
}
END_TEST

static const uint64_t sizes[] = {0, 1, 255, 256, 257, 1000};

START_TEST(table_of_relays)
{
    start();
    relays = sizes[_i];
    int fd = client();
    ask(fd, ADMIN_RELAYS, 0);
    for (uint64_t relay = 1; relay <= sizes[_i]; relay++) {
        expect_answer(fd, ADMIN_ANSWER_RELAY);
        ck_assert_uint_eq(heard.relay.relay, relay);
    }
    expect_end(fd, sizes[_i]);
    ask(fd, ADMIN_SHOW, 100000);
    expect_error(fd, "no such relay");
    close(fd);
    finish();
}
END_TEST

START_TEST(filtered_table)
{
    uint8_t frame[1024];
    struct admin_request request = {.version = ADMIN_VERSION, .type = ADMIN_RELAYS};
    request.filter.kind = N2_KIND_CONNECT;
    start();
    relays = 2000;
    int fd = client();
    size_t length = admin_request_encode(&request, frame, sizeof(frame));
    ck_assert_int_eq(send(fd, frame, length, MSG_NOSIGNAL), (ssize_t)length);
    for (uint64_t relay = 10; relay <= 2000; relay += 10) {
        expect_answer(fd, ADMIN_ANSWER_RELAY);
        ck_assert_uint_eq(heard.relay.relay, relay);
    }
    expect_end(fd, 200);
    close(fd);
    finish();
}
END_TEST

START_TEST(filter_that_matches_nothing_does_not_hold_up_the_loop)
{
    uint8_t frame[1024];
    struct admin_request request = {.version = ADMIN_VERSION, .type = ADMIN_RELAYS};
    strcpy(request.filter.user, "nobody");
    start();
    relays = 100000;
    int fd = client();
    size_t length = admin_request_encode(&request, frame, sizeof(frame));
    ck_assert_int_eq(send(fd, frame, length, MSG_NOSIGNAL), (ssize_t)length);
    uint64_t before = 0, largest = 0;
    while (!hear(fd, &heard)) {
        ck_assert(!test.timed_out);
        uv_run(&test.loop, UV_RUN_ONCE);
        largest = looked - before > largest ? looked - before : largest;
        before = looked;
    }
    ck_assert_int_eq(heard.type, ADMIN_ANSWER_END);
    ck_assert_uint_eq(heard.count, 0);
    ck_assert_uint_eq(looked, 100001);
    ck_assert_uint_le(largest, 1024);
    close(fd);
    finish();
}
END_TEST

START_TEST(relays_vanish_while_they_are_listed)
{
    start();
    relays = 100000;
    int fd = client();
    ask(fd, ADMIN_RELAYS, 0);
    expect_answer(fd, ADMIN_ANSWER_RELAY);
    test_turns(&test, 20); /* until the client's socket is full */
    relays = 0;
    uint64_t count = 1;
    do {
        TEST_RUN_UNTIL(&test, hear(fd, &heard));
        count += heard.type == ADMIN_ANSWER_RELAY;
    } while (heard.type == ADMIN_ANSWER_RELAY);
    ck_assert_int_eq(heard.type, ADMIN_ANSWER_END);
    ck_assert_uint_eq(heard.count, count);
    ck_assert_uint_lt(count, 100000);
    close(fd);
    finish();
}
END_TEST

START_TEST(slow_reader_of_a_large_table)
{
    start();
    relays = 100000;
    int fd = client(), other = client();
    ask(fd, ADMIN_RELAYS, 0);
    test_turns(&test, 2000);
    /* What its socket takes and one batch; the cursor rests. */
    uint64_t rested = looked;
    ck_assert_uint_gt(rested, 0);
    ck_assert_uint_lt(rested, 10000);
    test_turns(&test, 100);
    ck_assert_uint_eq(looked, rested);
    ask(other, ADMIN_STATUS, 0); /* others are served meanwhile */
    expect_answer(other, ADMIN_ANSWER_STATUS);
    for (uint64_t relay = 1; relay <= 100000; relay++) {
        expect_answer(fd, ADMIN_ANSWER_RELAY);
        ck_assert_uint_eq(heard.relay.relay, relay);
        ck_assert_uint_lt(looked - relay, 10000);
    }
    expect_end(fd, 100000);
    close(fd);
    close(other);
    finish();
}
END_TEST

START_TEST(two_clients_at_once)
{
    start();
    relays = 20000;
    int fds[2] = {client(), client()};
    uint64_t next[2] = {1, 1};
    ask(fds[0], ADMIN_RELAYS, 0);
    ask(fds[1], ADMIN_RELAYS, 0);
    while (next[0] <= relays || next[1] <= relays) {
        ck_assert(!test.timed_out);
        for (int i = 0; i < 2; i++) {
            for (int n = 0; n < 50 * (i + 1) && next[i] <= relays && hear(fds[i], &heard); n++) {
                ck_assert_int_eq(heard.type, ADMIN_ANSWER_RELAY);
                ck_assert_uint_eq(heard.relay.relay, next[i]++);
            }
        }
        test_turns(&test, 1);
    }
    expect_end(fds[0], 20000);
    expect_end(fds[1], 20000);
    close(fds[0]);
    close(fds[1]);
    finish();
}
END_TEST

/* ADMIN-FRAME-010 */
START_TEST(requests_octet_by_octet)
{
    uint8_t frame[1024];
    start();
    relays = 3;
    int fd = client();
    test_turns(&test, 2);
    size_t length = encode(ADMIN_SHOW, 2, frame, sizeof(frame));
    for (size_t i = 0; i < length; i++) {
        ck_assert(!hear(fd, &heard));
        ck_assert_int_eq(send(fd, frame + i, 1, MSG_NOSIGNAL), 1);
        test_turns(&test, 1);
    }
    expect_answer(fd, ADMIN_ANSWER_RELAY);
    expect_end(fd, 1);
    close(fd);
    finish();
}
END_TEST

/* ADMIN-REQ-010 */
START_TEST(requests_one_behind_the_other)
{
    start();
    relays = 3000;
    int fd = client();
    ask(fd, ADMIN_RELAYS, 0);
    ask(fd, ADMIN_SHOW, 2);
    ask(fd, ADMIN_RELAYS, 0);
    for (int round = 0; round < 2; round++) {
        for (uint64_t relay = 1; relay <= relays; relay++) {
            expect_answer(fd, ADMIN_ANSWER_RELAY);
            ck_assert_uint_eq(heard.relay.relay, relay);
        }
        expect_end(fd, relays);
        if (round == 0) {
            expect_answer(fd, ADMIN_ANSWER_RELAY);
            ck_assert_uint_eq(heard.relay.relay, 2);
            expect_end(fd, 1);
        }
    }
    close(fd);
    finish();
}
END_TEST

START_TEST(many_requests_of_one_that_does_not_read)
{
    uint8_t frame[1024];
    start();
    relays = 1;
    int fd = client();
    size_t length = encode(ADMIN_SHOW, 1, frame, sizeof(frame));
    uint64_t asked = 0;
    while (send(fd, frame, length, MSG_NOSIGNAL) == (ssize_t)length) {
        asked++;
        test_turns(&test, 1);
    }
    test_turns(&test, 20);
    /* The requests wait in the kernel, not the answers in the daemon. */
    ck_assert_uint_lt(admin_server_stats(server).requests, asked);
    for (uint64_t i = 0; i < asked; i++) {
        expect_answer(fd, ADMIN_ANSWER_RELAY);
        expect_end(fd, 1);
    }
    close(fd);
    finish();
}
END_TEST

START_TEST(client_that_only_reads_after_its_request)
{
    start();
    relays = 1000;
    int fd = client();
    ask(fd, ADMIN_RELAYS, 0);
    ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
    for (uint64_t relay = 1; relay <= relays; relay++) {
        expect_answer(fd, ADMIN_ANSWER_RELAY);
    }
    expect_end(fd, relays);
    expect_eof(fd);
    close(fd);
    finish();
}
END_TEST

START_TEST(operations_that_a_daemon_does_not_have)
{
    static const struct admin_server_ops none;
    struct admin_server_config config = standard();
    start_with(&config, &none);
    int fd = client();
    ask(fd, ADMIN_STATUS, 0);
    expect_error(fd, "no status");
    ask(fd, ADMIN_RELAYS, 0);
    expect_error(fd, "no relays");
    ask(fd, ADMIN_SHOW, 1);
    expect_error(fd, "no relays");
    ask(fd, ADMIN_CLOSE, 1);
    expect_error(fd, "closes no relays");
    close(fd);
    finish();
}
END_TEST

START_TEST(client_goes_while_it_is_answered)
{
    start();
    relays = 100000;
    int fd = client();
    ask(fd, ADMIN_RELAYS, 0);
    expect_answer(fd, ADMIN_ANSWER_RELAY);
    close(fd);
    uint64_t before;
    do { /* the cursor stops for good */
        before = looked;
        test_turns(&test, 5);
    } while (looked != before);
    ck_assert_uint_lt(looked, 100000);
    finish();
}
END_TEST

START_TEST(server_closes_while_it_answers)
{
    start();
    relays = 100000;
    int fd = client(), idle = client();
    ask(fd, ADMIN_RELAYS, 0);
    expect_answer(fd, ADMIN_ANSWER_RELAY);
    admin_server_close(server);
    server = NULL;
    while (hear(fd, &heard)) {
    }
    expect_eof(idle);
    close(fd);
    close(idle);
    finish();
}
END_TEST

/* --- requests that are none --- */

static void expect_refused_octets(const void *octets, size_t length, const char *word)
{
    start();
    int fd = client(), other = client();
    ck_assert_int_eq(send(fd, octets, length, MSG_NOSIGNAL), (ssize_t)length);
    if (word != NULL) {
        expect_error(fd, word);
    }
    expect_eof(fd);
    ck_assert_uint_eq(admin_server_stats(server).bad_requests, 1);
    ck_assert_uint_eq(admin_server_stats(server).requests, 0);
    ask(other, ADMIN_STATUS, 0);
    expect_answer(other, ADMIN_ANSWER_STATUS);
    close(fd);
    close(other);
    finish();
}

/* ADMIN-FRAME-010, ADMIN-FRAME-020 */
START_TEST(lengths_out_of_range)
{
    const uint32_t lengths[] = {0, ADMIN_PAYLOAD_MAX + 1, FRAME_PAYLOAD_MAX, 0x80000000,
                                0xffffffff};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        uint8_t header[FRAME_HEADER];
        for (int n = 0; n < FRAME_HEADER; n++) {
            header[n] = (uint8_t)(lengths[i] >> (24 - 8 * n));
        }
        expect_refused_octets(header, sizeof(header), NULL);
    }
}
END_TEST

START_TEST(malformed_requests)
{
    uint8_t frame[1024];
    expect_refused_octets("\x00\x00\x00\x01\xff", 5, "bad request");
    expect_refused_octets("\x00\x00\x00\x02\x08\x01", 6, "bad request"); /* a version and no type */
    expect_refused_octets("\x00\x00\x00\x04\x08\x01\x10\x63", 8, "bad request"); /* type 99 */
    struct admin_request request = {.version = ADMIN_VERSION + 1, .type = ADMIN_STATUS};
    size_t length = admin_request_encode(&request, frame, sizeof(frame));
    ck_assert_uint_gt(length, 0);
    expect_refused_octets(frame, length, "version");
}
END_TEST

START_TEST(truncated_request)
{
    uint8_t frame[1024];
    start();
    size_t length = encode(ADMIN_STATUS, 0, frame, sizeof(frame));
    for (size_t i = 1; i < length; i++) {
        int fd = client();
        ck_assert_int_eq(send(fd, frame, i, MSG_NOSIGNAL), (ssize_t)i);
        ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
        expect_eof(fd);
        close(fd);
        ck_assert_uint_eq(admin_server_stats(server).bad_requests, i);
    }
    finish();
}
END_TEST

START_TEST(descriptor_with_a_request)
{
    uint8_t frame[1024];
    start();
    int fd = client();
    struct iovec iov = {frame, encode(ADMIN_STATUS, 0, frame, sizeof(frame))};
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &fd, sizeof(int));
    ck_assert_int_gt(sendmsg(fd, &message, MSG_NOSIGNAL), 0);
    expect_eof(fd);
    ck_assert_uint_eq(admin_server_stats(server).bad_requests, 1);
    close(fd);
    finish();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("admin server");
    TCase *c = tcase_create("answers");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, status);
    tcase_add_test(c, show);
    tcase_add_test(c, close_a_relay);
    tcase_add_loop_test(c, table_of_relays, 0, 6);
    tcase_add_test(c, filtered_table);
    tcase_add_test(c, filter_that_matches_nothing_does_not_hold_up_the_loop);
    tcase_add_test(c, relays_vanish_while_they_are_listed);
    tcase_add_test(c, slow_reader_of_a_large_table);
    tcase_add_test(c, two_clients_at_once);
    tcase_add_test(c, requests_octet_by_octet);
    tcase_add_test(c, requests_one_behind_the_other);
    tcase_add_test(c, many_requests_of_one_that_does_not_read);
    tcase_add_test(c, client_that_only_reads_after_its_request);
    tcase_add_test(c, operations_that_a_daemon_does_not_have);
    tcase_add_test(c, client_goes_while_it_is_answered);
    tcase_add_test(c, server_closes_while_it_answers);
    suite_add_tcase(s, c);
    c = tcase_create("bad requests");
    tcase_add_test(c, lengths_out_of_range);
    tcase_add_test(c, malformed_requests);
    tcase_add_test(c, truncated_request);
    tcase_add_test(c, descriptor_with_a_request);
    suite_add_tcase(s, c);
    return run_suite(s);
}
