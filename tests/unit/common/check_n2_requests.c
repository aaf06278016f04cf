/* Requests over an N2 link and their answers. */
#include "tests/unit/common/n2_support.h"

#define MANY 10000

static uint64_t request_with(struct end *end, enum n2_type type, uint32_t deadline_ms)
{
    struct n2_message message = sample(type);
    uint64_t transaction = 0;
    ck_assert_int_eq(
        n2_link_request(end->link, &message, -1, deadline_ms, on_done, end, &transaction), 0);
    ck_assert_uint_ne(transaction, 0);
    ck_assert_uint_eq(message.transaction, transaction);
    return transaction;
}

static uint64_t request(struct end *end)
{
    return request_with(end, N2_OPEN_RELAY, 0);
}

static void answer(enum n2_type type, uint64_t transaction)
{
    struct n2_message message = sample(type);
    message.transaction = transaction;
    raw_say(&message);
}

static const struct {
    enum n2_role asks;
    enum n2_type request, answer;
} pairs[] = {
    {N2_ROLE_SOCKSD, N2_OPEN_RELAY, N2_RELAY_OPENED},
    {N2_ROLE_SOCKSD, N2_OPEN_RELAY, N2_RELAY_FAILED},
    {N2_ROLE_RELAYD, N2_AUTHORIZE, N2_AUTHORIZED},
};

START_TEST(answer_completes_its_request)
{
    start_raw_up(pairs[_i].asks);
    uint64_t other = request_with(&near, pairs[_i].request, 0);
    uint64_t transaction = request_with(&near, pairs[_i].request, 0);
    ck_assert_uint_ne(other, transaction);
    struct n2_message heard;
    TEST_RUN_UNTIL(&test, raw_hear(&heard));
    ck_assert_uint_eq(heard.transaction, other);
    TEST_RUN_UNTIL(&test, raw_hear(&heard));
    ck_assert_int_eq(heard.type, pairs[_i].request);
    ck_assert_uint_eq(heard.transaction, transaction);
    answer(pairs[_i].answer, transaction);
    TEST_RUN_UNTIL(&test, near.completed == 1);
    ck_assert_int_eq(near.last.type, pairs[_i].answer);
    ck_assert_uint_eq(near.last.transaction, transaction);
    ck_assert_int_eq(near.completed_null + near.messages, 0);
    finish();
}
END_TEST

START_TEST(request_and_answer_between_two_links)
{
    start_two();
    request(&near);
    TEST_RUN_UNTIL(&test, far_end.messages == 1);
    struct n2_message opened = sample(N2_RELAY_OPENED);
    opened.transaction = far_end.last.transaction;
    ck_assert_int_eq(n2_link_send(far_end.link, &opened, -1), 0);
    TEST_RUN_UNTIL(&test, near.completed == 1);
    ck_assert_uint_eq(near.last.relay_opened.relay, 5);
    finish();
}
END_TEST

START_TEST(second_answer_is_stray)
{
    start_raw_up(N2_ROLE_SOCKSD);
    uint64_t transaction = request(&near);
    answer(N2_RELAY_OPENED, transaction);
    answer(N2_RELAY_OPENED, transaction);
    TEST_RUN_UNTIL(&test, near.messages == 1);
    ck_assert_int_eq(near.completed, 1);
    ck_assert_int_eq(near.strays, 1);
    finish();
}
END_TEST

START_TEST(answer_to_nothing_is_stray)
{
    start_raw_up(N2_ROLE_SOCKSD);
    request(&near);
    answer(_i ? N2_RELAY_FAILED : N2_RELAY_OPENED, 123456789);
    TEST_RUN_UNTIL(&test, near.strays == 1);
    ck_assert_uint_eq(n2_link_stats(near.link).stray_answers, 1);
    ck_assert_int_eq(near.completed + near.down, 0);
    ck_assert_uint_eq(near.last.transaction, 123456789);
    finish();
}
END_TEST

START_TEST(deadline_passes_and_the_answer_comes_late)
{
    start_raw_up(N2_ROLE_SOCKSD);
    uint64_t transaction = request_with(&near, N2_OPEN_RELAY, 10);
    uint64_t patient = request_with(&near, N2_OPEN_RELAY, 100000);
    TEST_RUN_UNTIL(&test, near.completed == 1);
    ck_assert_int_eq(near.completed_null, 1);
    ck_assert_uint_eq(n2_link_stats(near.link).timeouts, 1);
    answer(N2_RELAY_OPENED, transaction);
    TEST_RUN_UNTIL(&test, near.strays == 1);
    ck_assert_int_eq(near.last.type, N2_RELAY_OPENED); /* its owner answers CloseRelay */
    answer(N2_RELAY_OPENED, patient);
    TEST_RUN_UNTIL(&test, near.completed == 2);
    ck_assert_int_eq(near.completed_null, 1);
    finish();
}
END_TEST

START_TEST(cancelled_and_the_answer_comes_late)
{
    start_raw_up(N2_ROLE_SOCKSD);
    uint64_t transaction = request_with(&near, N2_OPEN_RELAY, 5);
    n2_link_cancel(near.link, transaction);
    n2_link_cancel(near.link, transaction);
    n2_link_cancel(near.link, 0);
    answer(N2_RELAY_OPENED, transaction);
    TEST_RUN_UNTIL(&test, near.strays == 1);
    uint64_t soon = request_with(&near, N2_OPEN_RELAY, 20); /* later than the cancelled one's */
    (void)soon;
    TEST_RUN_UNTIL(&test, near.completed == 1);
    test_turns(&test, 3);
    ck_assert_int_eq(near.completed, 1);
    finish();
}
END_TEST

/* N2-TRANS-020 */
START_TEST(ten_thousand_in_flight_answered_backwards)
{
    static uint64_t transactions[MANY];
    struct n2_message heard;
    start_raw_up(N2_ROLE_SOCKSD);
    for (int i = 0; i < MANY; i++) {
        transactions[i] = request_with(&near, N2_OPEN_RELAY, 60000);
    }
    int count = 0;
    while (count < MANY) {
        ck_assert(!test.timed_out);
        while (raw_hear(&heard)) {
            count++;
        }
        test_turns(&test, 1);
    }
    for (int i = MANY - 1; i >= 0; i--) {
        answer(N2_RELAY_FAILED, transactions[i]);
        if (i % 50 == 0) {
            test_turns(&test, 1);
        }
    }
    TEST_RUN_UNTIL(&test, near.completed == MANY);
    ck_assert_int_eq(near.completed_null + near.messages + near.down, 0);
    finish();
}
END_TEST

/* N2-TRANS-060 */
START_TEST(at_most_so_many_in_flight)
{
    struct n2_link_config config = standard(N2_ROLE_SOCKSD);
    config.max_transactions = 3;
    start_raw(&config);
    raw_greet(N2_ROLE_SOCKSD);
    uint64_t first = request(&near);
    request(&near);
    request(&near);
    struct n2_message message = sample(N2_OPEN_RELAY);
    ck_assert_int_eq(n2_link_request(near.link, &message, -1, 0, on_done, &near, NULL), -EAGAIN);
    answer(N2_RELAY_FAILED, first);
    TEST_RUN_UNTIL(&test, near.completed == 1);
    ck_assert_int_eq(n2_link_request(near.link, &message, -1, 0, on_done, &near, NULL), 0);
    ck_assert_int_eq(near.down, 0);
    finish();
    ck_assert_int_eq(near.completed, 1);
}
END_TEST

START_TEST(what_is_no_request_or_not_valid)
{
    start_raw_up(N2_ROLE_SOCKSD);
    struct n2_message notification = sample(N2_DRAIN), theirs = sample(N2_AUTHORIZE),
                      wrong = sample(N2_OPEN_RELAY);
    wrong.open_relay.destination_count = 0;
    ck_assert_int_eq(n2_link_request(near.link, &notification, -1, 0, on_done, &near, NULL),
                     -EINVAL);
    ck_assert_int_eq(n2_link_request(near.link, &theirs, -1, 0, on_done, &near, NULL), -EINVAL);
    ck_assert_int_eq(n2_link_request(near.link, &wrong, -1, 0, on_done, &near, NULL), -EINVAL);
    ck_assert_int_eq(
        n2_link_request(near.link, &notification, some_descriptor(), 0, on_done, &near, NULL),
        -EINVAL);
    /* One bad order must not end everybody's link. */
    uint64_t transaction = request(&near);
    answer(N2_RELAY_FAILED, transaction);
    TEST_RUN_UNTIL(&test, near.completed == 1);
    ck_assert_int_eq(near.completed_null + near.down, 0);
    close(raw);
    raw = -1;
    expect_down(&near, "");
    ck_assert_int_eq(near.completed, 1); /* those that failed are not completed as well */
    finish();
}
END_TEST

static void try_again(struct end *end)
{
    struct n2_message message = sample(N2_OPEN_RELAY);
    if (!n2_link_is_up(end->link)) {
        ck_assert_int_eq(n2_link_request(end->link, &message, -1, 0, on_done, end, NULL), -EPIPE);
    }
}

START_TEST(all_are_completed_when_the_link_goes_down)
{
    start_raw_up(N2_ROLE_SOCKSD);
    for (int i = 0; i < 1000; i++) {
        request_with(&near, N2_OPEN_RELAY, (uint32_t)(i % 2) * 60000);
    }
    near.act_in_done = true;
    near.act = try_again;
    test_turns(&test, 2);
    close(raw);
    raw = -1;
    TEST_RUN_UNTIL(&test, near.down == 1); /* on_done checks that it is not down yet */
    ck_assert_int_eq(near.completed, 1000);
    ck_assert_int_eq(near.completed_null, 1000);
    finish();
}
END_TEST

START_TEST(none_is_completed_by_close)
{
    start_raw_up(N2_ROLE_SOCKSD);
    for (int i = 0; i < 100; i++) {
        request_with(&near, N2_OPEN_RELAY, 1);
    }
    finish();
    ck_assert_int_eq(near.completed + near.down, 0);
}
END_TEST

START_TEST(closed_in_an_answer)
{
    start_raw_up(N2_ROLE_SOCKSD);
    near.act_in_done = true;
    near.act = close_it;
    uint64_t first = request(&near), second = request(&near);
    answer(N2_RELAY_FAILED, first);
    answer(N2_RELAY_FAILED, second);
    TEST_RUN_UNTIL(&test, near.completed == 1);
    test_turns(&test, 3);
    ck_assert_int_eq(near.completed, 1);
    finish();
}
END_TEST

START_TEST(closed_in_a_timeout)
{
    start_raw_up(N2_ROLE_SOCKSD);
    near.act_in_done = true;
    near.act = close_it;
    request_with(&near, N2_OPEN_RELAY, 2);
    request_with(&near, N2_OPEN_RELAY, 2);
    TEST_RUN_UNTIL(&test, near.completed == 1);
    test_turns(&test, 3);
    ck_assert_int_eq(near.completed, 1);
    finish();
}
END_TEST

START_TEST(closed_in_a_completion_at_the_end)
{
    start_raw_up(N2_ROLE_SOCKSD);
    near.act_in_done = true;
    near.act = close_it;
    request(&near);
    request(&near);
    close(raw);
    raw = -1;
    TEST_RUN_UNTIL(&test, near.completed == 1);
    test_turns(&test, 3);
    ck_assert_int_eq(near.completed, 1);
    ck_assert_int_eq(near.down, 0);
    finish();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("n2_link: requests");
    TCase *c = tcase_create("requests");
    tcase_set_timeout(c, 60);
    tcase_add_loop_test(c, answer_completes_its_request, 0, 3);
    tcase_add_test(c, request_and_answer_between_two_links);
    tcase_add_test(c, second_answer_is_stray);
    tcase_add_loop_test(c, answer_to_nothing_is_stray, 0, 2);
    tcase_add_test(c, deadline_passes_and_the_answer_comes_late);
    tcase_add_test(c, cancelled_and_the_answer_comes_late);
    tcase_add_test(c, ten_thousand_in_flight_answered_backwards);
    tcase_add_test(c, at_most_so_many_in_flight);
    tcase_add_test(c, what_is_no_request_or_not_valid);
    tcase_add_test(c, all_are_completed_when_the_link_goes_down);
    tcase_add_test(c, none_is_completed_by_close);
    tcase_add_test(c, closed_in_an_answer);
    tcase_add_test(c, closed_in_a_timeout);
    tcase_add_test(c, closed_in_a_completion_at_the_end);
    suite_add_tcase(s, c);
    return run_suite(s);
}
