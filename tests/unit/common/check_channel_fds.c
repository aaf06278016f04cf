#include "tests/unit/common/channel_support.h"

/* --- descriptors --- */

START_TEST(descriptor_comes_with_its_frame)
{
    uint8_t stream[2 * (FRAME_HEADER + 10)];
    setup();
    size_t length = make_frame(stream, 1, 10);
    make_frame(stream + length, 2 | WITH_FD, 10);
    raw_write(stream, length);
    raw_send_with_files(stream + length, length, 1);
    TEST_RUN_UNTIL(&test, near.frames == 2);
    ck_assert_int_eq(near.got[1].fd_size, 1);
    ck_assert_int_eq(near.closed, 0);
    finish();
}
END_TEST

START_TEST(three_hundred_descriptors)
{
    uint8_t frame[FRAME_HEADER + 700];
    setup_two();
    for (uint32_t n = 0; n < 300; n++) {
        size_t length = make_frame(frame, n | WITH_FD, 4 + n);
        ck_assert_int_eq(channel_send(far_end.channel, frame, length, memory_file(n + 1)), 0);
    }
    TEST_RUN_UNTIL(&test, near.frames == 300);
    for (uint32_t n = 0; n < 300; n++) {
        ck_assert_uint_eq(near.got[n].number, n | WITH_FD);
        ck_assert_int_eq(near.got[n].fd_size, n + 1);
    }
    finish_two();
}
END_TEST

static const size_t caps[][2] = {{1, 0}, {0, 1}, {3, 2}, {100, 7}, {7, 100}};

START_TEST(descriptors_with_short_writes_and_reads)
{
    uint8_t frame[FRAME_HEADER + 50];
    setup_two();
    send_cap = caps[_i][0];
    recv_cap = caps[_i][1];
    for (uint32_t n = 0; n < 60; n++) {
        uint32_t flag = n % 3 == 0 ? WITH_FD : 0;
        size_t length = make_frame(frame, n | flag, 4 + n % 40);
        ck_assert_int_eq(
            channel_send(far_end.channel, frame, length, flag ? memory_file(n + 1) : -1), 0);
    }
    TEST_RUN_UNTIL(&test, near.frames == 60);
    for (uint32_t n = 0; n < 60; n++) {
        ck_assert_uint_eq(near.got[n].number & ~WITH_FD, n);
        ck_assert_int_eq(near.got[n].fd_size, n % 3 == 0 ? (off_t)n + 1 : -1);
    }
    finish_two();
}
END_TEST

START_TEST(descriptor_that_no_frame_declares)
{
    uint8_t frame[FRAME_HEADER + 10];
    setup();
    size_t length = make_frame(frame, 1, 10);
    raw_send_with_files(frame, length, 1);
    expect_closed(-EPROTO);
    ck_assert_uint_eq(near.frames, 1);
    finish();
}
END_TEST

START_TEST(declared_descriptor_that_is_not_there)
{
    uint8_t frame[FRAME_HEADER + 10];
    setup();
    raw_write(frame, make_frame(frame, 1 | WITH_FD, 10));
    TEST_RUN_UNTIL(&test, near.frames == 1);
    ck_assert_int_eq(near.got[0].fd_size, -1);
    finish();
}
END_TEST

START_TEST(descriptor_may_wait_for_the_rest_of_its_frame)
{
    uint8_t frame[FRAME_HEADER + 10];
    setup();
    size_t length = make_frame(frame, 1 | WITH_FD, 10);
    raw_send_with_files(frame, 1, 1);
    test_turns(&test, 3);
    ck_assert_int_eq(near.closed, 0);
    raw_write(frame + 1, length - 1);
    TEST_RUN_UNTIL(&test, near.frames == 1);
    ck_assert_int_eq(near.got[0].fd_size, 1);
    finish();
}
END_TEST

START_TEST(more_descriptors_than_may_wait)
{
    uint8_t frame[FRAME_HEADER + 30];
    struct channel_limits four = limits;
    four.max_fds = 4;
    setup_with(&four);
    make_frame(frame, 1, 30);
    for (int i = 0; i < 4; i++) {
        raw_send_with_files(frame + i, 1, 1);
        test_turns(&test, 3);
        ck_assert_int_eq(near.closed, 0);
    }
    raw_send_with_files(frame + 4, 1, 1);
    expect_closed(-EPROTO);
    finish();
}
END_TEST

START_TEST(more_descriptors_in_one_message_than_are_taken)
{
    uint8_t frame[FRAME_HEADER + 30];
    setup();
    make_frame(frame, 1 | WITH_FD, 30);
    raw_send_with_files(frame, 10, 40); /* MSG_CTRUNC */
    expect_closed(-EPROTO);
    finish();
}
END_TEST

START_TEST(descriptors_where_none_are_expected)
{
    uint8_t frame[FRAME_HEADER + 30];
    struct channel_limits none = limits;
    none.max_fds = 0;
    setup_with(&none);
    make_frame(frame, 1, 30);
    raw_send_with_files(frame, 10, 1);
    expect_closed(-EPROTO);
    finish();
}
END_TEST

START_TEST(waiting_descriptors_are_closed_with_the_channel)
{
    uint8_t frame[FRAME_HEADER + 30];
    setup();
    make_frame(frame, 1 | WITH_FD, 30);
    raw_send_with_files(frame, 10, 9);
    test_turns(&test, 3);
    ck_assert_int_eq(near.closed, 0);
    finish(); /* counts the descriptors */
}
END_TEST

START_TEST(descriptors_are_closed_with_the_queue_that_holds_them)
{
    static uint8_t frame[FRAME_HEADER + 60000];
    setup();
    size_t length = make_frame(frame, 1 | WITH_FD, 60000);
    for (int i = 0; i < 16; i++) { /* more than the socket takes */
        ck_assert_int_eq(channel_send(near.channel, frame, length, memory_file(1)), 0);
    }
    test_turns(&test, 3);
    ck_assert_uint_gt(channel_queued(near.channel), 0);
    finish();
}
END_TEST

START_TEST(descriptors_are_consumed_by_a_send_that_fails)
{
    static uint8_t frame[FRAME_MAX];
    setup();
    size_t length = make_frame(frame, 1, FRAME_PAYLOAD_MAX);
    int result;
    do {
        result = channel_send(near.channel, frame, length, memory_file(1));
    } while (result == 0);
    ck_assert_int_eq(result, -ENOBUFS);
    ck_assert_int_eq(channel_send(near.channel, frame, length, memory_file(1)), -EPIPE);
    expect_closed(-ENOBUFS);
    finish();
}
END_TEST

/* N2-FD-040: close-on-exec */
START_TEST(received_descriptors_are_close_on_exec)
{
    uint8_t frame[FRAME_HEADER + 30];
    setup();
    make_frame(frame, 1, 30);
    raw_send_with_files(frame, 10, 1);
    test_turns(&test, 3);
    int fd = channel_take_fd(near.channel);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
    close(fd);
    ck_assert_int_eq(channel_take_fd(near.channel), -1);
    finish();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("channel: descriptors");
    TCase *fds = tcase_create("descriptors");
    tcase_set_timeout(fds, 60);
    tcase_add_test(fds, descriptor_comes_with_its_frame);
    tcase_add_test(fds, three_hundred_descriptors);
    tcase_add_loop_test(fds, descriptors_with_short_writes_and_reads, 0, 5);
    tcase_add_test(fds, descriptor_that_no_frame_declares);
    tcase_add_test(fds, declared_descriptor_that_is_not_there);
    tcase_add_test(fds, descriptor_may_wait_for_the_rest_of_its_frame);
    tcase_add_test(fds, more_descriptors_than_may_wait);
    tcase_add_test(fds, more_descriptors_in_one_message_than_are_taken);
    tcase_add_test(fds, descriptors_where_none_are_expected);
    tcase_add_test(fds, waiting_descriptors_are_closed_with_the_channel);
    tcase_add_test(fds, descriptors_are_closed_with_the_queue_that_holds_them);
    tcase_add_test(fds, descriptors_are_consumed_by_a_send_that_fails);
    tcase_add_test(fds, received_descriptors_are_close_on_exec);
    suite_add_tcase(s, fds);
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
