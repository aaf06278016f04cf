#include "tests/unit/common/channel_support.h"

/* --- pausing --- */

static void pause_it(struct end *end)
{
    channel_pause(end->channel);
}

static void pause_and_resume(struct end *end)
{
    channel_pause(end->channel);
    channel_resume(end->channel);
}

START_TEST(paused_before_anything_came)
{
    setup();
    channel_pause(near.channel);
    write_frames(0, 5);
    test_turns(&test, 5);
    ck_assert_uint_eq(near.frames, 0);
    channel_resume(near.channel);
    TEST_RUN_UNTIL(&test, near.frames == 5);
    finish();
}
END_TEST

START_TEST(paused_between_frames_that_came_together)
{
    setup();
    near.act_at = 2;
    near.act = pause_it;
    write_frames(0, 5);
    test_turns(&test, 5);
    ck_assert_uint_eq(near.frames, 2);
    write_frames(5, 3);
    near.act_at = 4;
    channel_resume(near.channel);
    test_turns(&test, 5);
    ck_assert_uint_eq(near.frames, 4);
    channel_resume(near.channel);
    TEST_RUN_UNTIL(&test, near.frames == 8);
    for (uint32_t n = 0; n < 8; n++) {
        ck_assert_uint_eq(near.got[n].number, n);
    }
    finish();
}
END_TEST

START_TEST(paused_and_resumed_within_a_frame)
{
    setup();
    near.act_at = 2;
    near.act = pause_and_resume;
    write_frames(0, 5);
    TEST_RUN_UNTIL(&test, near.frames == 5);
    finish();
}
END_TEST

START_TEST(paused_at_the_end)
{
    setup();
    near.act_at = 2;
    near.act = pause_it;
    write_frames(0, 4);
    close(raw);
    raw = -1;
    test_turns(&test, 5);
    ck_assert_uint_eq(near.frames, 2);
    ck_assert_int_eq(near.closed, 0);
    channel_resume(near.channel);
    expect_closed(0);
    ck_assert_uint_eq(near.frames, 4);
    finish();
}
END_TEST

START_TEST(closed_while_frames_are_held)
{
    setup();
    near.act_at = 1;
    near.act = pause_it;
    write_frames(0, 5);
    test_turns(&test, 5);
    channel_resume(near.channel);
    finish();
}
END_TEST

/* --- the end, from everywhere --- */

static void close_it(struct end *end)
{
    channel_close(end->channel);
    end->channel = NULL;
}

static void fail_it(struct end *end)
{
    uint8_t frame[FRAME_HEADER + 10];
    ck_assert_int_eq(channel_send(end->channel, frame, make_frame(frame, 1, 10), -1), 0);
    channel_fail(end->channel);
    channel_fail(end->channel);
    ck_assert_int_eq(channel_send(end->channel, frame, make_frame(frame, 1, 10), -1), -EPIPE);
}

START_TEST(closed_in_frame)
{
    setup();
    near.act_at = 2;
    near.act = close_it;
    write_frames(0, 5);
    TEST_RUN_UNTIL(&test, near.channel == NULL);
    test_turns(&test, 5);
    ck_assert_uint_eq(near.frames, 2);
    ck_assert_int_eq(near.closed, 0);
    finish();
}
END_TEST

START_TEST(closed_in_frame_that_was_held)
{
    uint8_t frame[FRAME_HEADER + 100];
    setup();
    near.act_at = 1;
    near.act = close_it;
    size_t length = make_frame(frame, 0, 100);
    raw_write(frame, 50);
    test_turns(&test, 2);
    raw_write(frame + 50, length - 50);
    TEST_RUN_UNTIL(&test, near.channel == NULL);
    ck_assert_uint_eq(near.frames, 1);
    finish();
}
END_TEST

START_TEST(failed_in_frame)
{
    setup();
    near.act_at = 2;
    near.act = fail_it;
    write_frames(0, 5);
    expect_closed(-EPROTO);
    ck_assert_uint_eq(near.frames, 2);
    ck_assert_uint_eq(raw_drain(SIZE_MAX), FRAME_HEADER + 10); /* what was said before */
    finish();
}
END_TEST

static void closed_closes(struct channel *channel, int error, void *user)
{
    on_closed(channel, error, user);
    channel_close(channel);
}

static void relieved_closes(struct channel *channel, void *user)
{
    struct end *end = user;
    end->relieved++;
    channel_close(channel);
    end->channel = NULL;
}

START_TEST(closed_in_closed)
{
    static const struct channel_ops closing = {on_frame, closed_closes, NULL};
    setup();
    channel_close(near.channel);
    int pair[2];
    test_socketpair(pair);
    ck_assert_int_eq(channel_open(&near.channel, &test.loop, pair[0], &closing, &limits, &near), 0);
    close(pair[1]);
    expect_closed(0);
    finish();
}
END_TEST

START_TEST(closed_in_relieved)
{
    static const struct channel_ops closing = {on_frame, on_closed, relieved_closes};
    static uint8_t frame[FRAME_MAX];
    setup();
    close(raw);
    channel_close(near.channel);
    int pair[2];
    test_socketpair(pair);
    raw = pair[1];
    ck_assert_int_eq(channel_open(&near.channel, &test.loop, pair[0], &closing, &limits, &near), 0);
    size_t length = make_frame(frame, 1, FRAME_PAYLOAD_MAX);
    ck_assert_int_eq(channel_send(near.channel, frame, length, -1), 0);
    ck_assert(channel_is_congested(near.channel));
    TEST_RUN_UNTIL(&test, near.relieved == 1);
    ck_assert_int_eq(near.closed, 0);
    finish();
}
END_TEST

START_TEST(closed_after_its_end_and_before_it_was_told)
{
    setup();
    channel_fail(near.channel);
    channel_close(near.channel);
    test_turns(&test, 3);
    ck_assert_int_eq(near.closed, 0);
    near.channel = NULL;
    finish();
}
END_TEST

static void answer_on_other(struct channel *channel, int error, void *user)
{
    uint8_t frame[FRAME_HEADER + 10];
    on_closed(channel, error, user);
    ck_assert_int_eq(channel_send(far_end.channel, frame, make_frame(frame, 1, 10), -1), 0);
}

START_TEST(what_is_queued_at_an_end_waits_for_nothing)
{
    static const struct channel_ops answering = {on_frame, answer_on_other, NULL};
    setup();
    channel_close(near.channel);
    close(raw);
    int pair[2], other[2];
    test_socketpair(pair);
    test_socketpair(other);
    raw = other[1];
    memset(&far_end, 0, sizeof(far_end));
    ck_assert_int_eq(channel_open(&near.channel, &test.loop, pair[0], &answering, &limits, &near),
                     0);
    ck_assert_int_eq(channel_open(&far_end.channel, &test.loop, other[0], &ops, &limits, &far_end),
                     0);
    close(pair[1]);
    TEST_RUN_UNTIL(&test, raw_drain(SIZE_MAX) > 0); /* no other event would wake the loop */
    channel_close(far_end.channel);
    finish();
}
END_TEST

START_TEST(open_refuses_what_is_no_descriptor)
{
    struct channel *channel;
    setup();
    int pair[2];
    test_socketpair(pair);
    close(pair[0]);
    close(pair[1]);
    ck_assert_int_lt(channel_open(&channel, &test.loop, pair[0], &ops, &limits, &near), 0);
    ck_assert_ptr_null(channel);
    finish();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("channel: pausing and ending");
    TCase *pausing = tcase_create("pausing");
    tcase_set_timeout(pausing, 60);
    tcase_add_test(pausing, paused_before_anything_came);
    tcase_add_test(pausing, paused_between_frames_that_came_together);
    tcase_add_test(pausing, paused_and_resumed_within_a_frame);
    tcase_add_test(pausing, paused_at_the_end);
    tcase_add_test(pausing, closed_while_frames_are_held);
    suite_add_tcase(s, pausing);
    TCase *ending = tcase_create("ending");
    tcase_set_timeout(ending, 60);
    tcase_add_test(ending, closed_in_frame);
    tcase_add_test(ending, closed_in_frame_that_was_held);
    tcase_add_test(ending, failed_in_frame);
    tcase_add_test(ending, closed_in_closed);
    tcase_add_test(ending, closed_in_relieved);
    tcase_add_test(ending, closed_after_its_end_and_before_it_was_told);
    tcase_add_test(ending, what_is_queued_at_an_end_waits_for_nothing);
    tcase_add_test(ending, open_refuses_what_is_no_descriptor);
    suite_add_tcase(s, ending);
    return s;
}

int main(void)
{
    SRunner *runner = srunner_create(suite());
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
