#include "tests/unit/common/channel_support.h"

/* --- incoming --- */

START_TEST(frame_is_handed_up)
{
    uint8_t frame[FRAME_HEADER + 100];
    setup();
    raw_write(frame, make_frame(frame, 7, 100));
    TEST_RUN_UNTIL(&test, near.frames == 1);
    ck_assert_uint_eq(near.got[0].length, 100);
    ck_assert_uint_eq(near.got[0].number, 7);
    finish();
}
END_TEST

START_TEST(frames_octet_by_octet)
{
    uint8_t frame[FRAME_HEADER + 300];
    setup();
    for (uint32_t n = 0; n < 3; n++) {
        size_t length = make_frame(frame, n, n == 1 ? 1 : 300);
        for (size_t i = 0; i < length; i++) {
            ck_assert_uint_eq(near.frames, n);
            raw_write(frame + i, 1);
            test_turns(&test, 1);
        }
        ck_assert_uint_eq(near.frames, n + 1);
    }
    ck_assert_uint_eq(near.octets, 601);
    finish();
}
END_TEST

static const size_t read_caps[] = {1, 2, 3, 4, 5, 7, 64, 1000, 0};

START_TEST(frames_in_every_size_of_read)
{
    uint8_t stream[64 * (FRAME_HEADER + 400)];
    setup();
    recv_cap = read_caps[_i];
    size_t length = 0;
    for (uint32_t n = 0; n < 64; n++) {
        length += make_frame(stream + length, n, 1 + (n * 37) % 400);
    }
    raw_write(stream, length);
    TEST_RUN_UNTIL(&test, near.frames == 64);
    for (uint32_t n = 0; n < 64; n++) {
        ck_assert_uint_eq(near.got[n].length, 1 + (n * 37) % 400);
        ck_assert(near.got[n].length < 4 || near.got[n].number == n);
    }
    ck_assert_int_eq(near.closed, 0);
    finish();
}
END_TEST

START_TEST(frames_of_every_size_in_one_write)
{
    static uint8_t stream[140000];
    setup();
    size_t length = 0, count = 0, octets = 0;
    for (size_t size = 1; length + FRAME_HEADER + size <= sizeof(stream); size += 7) {
        length += make_frame(stream + length, (uint32_t)count++, size);
        octets += size;
    }
    raw_write(stream, length);
    TEST_RUN_UNTIL(&test, near.frames == count);
    ck_assert_uint_eq(near.octets, octets);
    finish();
}
END_TEST

/* However much is there, nobody else of the loop waits for all of it. */
START_TEST(a_crowd_of_frames_is_taken_in_turns)
{
    static uint8_t stream[140000];
    setup();
    size_t length = 0, count = 0;
    while (length + FRAME_HEADER + 96 <= sizeof(stream)) {
        length += make_frame(stream + length, (uint32_t)count++, 96);
    }
    raw_write(stream, length);
    while (near.frames < count) {
        size_t before = near.frames;
        test_turns(&test, 1);
        ck_assert_uint_gt(near.frames, before);
        ck_assert_uint_le(near.frames - before, 200);
    }
    finish();
}
END_TEST

START_TEST(largest_frame)
{
    static uint8_t frame[FRAME_MAX];
    setup();
    raw_write(frame, make_frame(frame, 1, FRAME_PAYLOAD_MAX));
    TEST_RUN_UNTIL(&test, near.frames == 1);
    ck_assert_uint_eq(near.got[0].length, FRAME_PAYLOAD_MAX);
    finish();
}
END_TEST

static const uint32_t wrong_lengths[] = {
    0,          1001,       FRAME_PAYLOAD_MAX, FRAME_PAYLOAD_MAX + 1,
    0x00ffffff, 0x7fffffff, 0x80000000,        0xffffffff};

static void send_wrong_length(uint32_t length, bool slowly, size_t follow)
{
    static uint8_t octets[FRAME_HEADER + 2000];
    struct channel_limits small = limits;
    small.max_payload = 1000;
    memset(octets, 0, sizeof(octets));
    for (int i = 0; i < FRAME_HEADER; i++) {
        octets[i] = (uint8_t)(length >> (24 - 8 * i));
    }
    setup_with(&small);
    if (slowly) {
        for (size_t i = 0; i < FRAME_HEADER; i++) {
            ck_assert_int_eq(near.closed, 0);
            raw_write(octets + i, 1);
            test_turns(&test, 1);
        }
    } else {
        raw_write(octets, FRAME_HEADER + follow);
    }
    expect_closed(-EPROTO);
    ck_assert_uint_eq(near.frames, 0);
    finish();
}

START_TEST(wrong_length_ends_the_channel)
{
    send_wrong_length(wrong_lengths[_i], false, 0);
    send_wrong_length(wrong_lengths[_i], false, 1);
    send_wrong_length(wrong_lengths[_i], false, 1500);
    send_wrong_length(wrong_lengths[_i], true, 0);
}
END_TEST

START_TEST(length_at_the_channels_maximum)
{
    uint8_t frame[FRAME_HEADER + 1000];
    struct channel_limits small = limits;
    small.max_payload = 1000;
    setup_with(&small);
    raw_write(frame, make_frame(frame, 1, 1000));
    TEST_RUN_UNTIL(&test, near.frames == 1);
    ck_assert_int_eq(near.closed, 0);
    finish();
}
END_TEST

START_TEST(frames_before_a_wrong_length_are_handed_up)
{
    uint8_t stream[2 * (FRAME_HEADER + 10)] = {0};
    setup();
    size_t length = make_frame(stream, 1, 10);
    raw_write(stream, length + FRAME_HEADER);
    expect_closed(-EPROTO);
    ck_assert_uint_eq(near.frames, 1);
    finish();
}
END_TEST

START_TEST(eof_between_frames)
{
    uint8_t frame[FRAME_HEADER + 10];
    setup();
    raw_write(frame, make_frame(frame, 1, 10));
    close(raw);
    raw = -1;
    expect_closed(0);
    ck_assert_uint_eq(near.frames, 1);
    finish();
}
END_TEST

START_TEST(eof_within_a_frame)
{
    uint8_t frame[FRAME_HEADER + 10];
    setup();
    raw_write(frame, make_frame(frame, 1, 10) - (size_t)_i);
    close(raw);
    raw = -1;
    expect_closed(-EPROTO);
    ck_assert_uint_eq(near.frames, 0);
    finish();
}
END_TEST

START_TEST(what_a_dying_peer_said_is_heard)
{
    uint8_t frame[FRAME_HEADER + 10];
    setup();
    size_t length = make_frame(frame, 1, 10);
    ck_assert_int_eq(channel_send(near.channel, frame, length, -1), 0);
    test_turns(&test, 2);
    raw_write(frame, length); /* and closes without having read what it was sent */
    close(raw);
    raw = -1;
    expect_closed(-ECONNRESET);
    ck_assert_uint_eq(near.frames, 1);
    finish();
}
END_TEST

START_TEST(what_a_dead_peer_said_is_heard_when_writing_fails_first)
{
    uint8_t frame[FRAME_HEADER + 10];
    setup();
    size_t length = make_frame(frame, 1, 10);
    raw_write(frame, length);
    close(raw);
    raw = -1;
    ck_assert_int_eq(channel_send(near.channel, frame, length, -1), 0);
    expect_closed(-EPIPE);
    ck_assert_uint_eq(near.frames, 1);
    finish();
}
END_TEST

START_TEST(peer_that_ceases_to_read)
{
    uint8_t frame[FRAME_HEADER + 10];
    setup();
    ck_assert_int_eq(shutdown(raw, SHUT_RD), 0);
    ck_assert_int_eq(channel_send(near.channel, frame, make_frame(frame, 1, 10), -1), 0);
    expect_closed(-EPIPE);
    finish();
}
END_TEST

/* --- outgoing --- */

START_TEST(frames_of_one_turn_leave_together)
{
    uint8_t frame[FRAME_HEADER + 100];
    setup();
    size_t length = make_frame(frame, 1, 100);
    sends = 0;
    for (int i = 0; i < 1000; i++) {
        ck_assert_int_eq(channel_send(near.channel, frame, length, -1), 0);
    }
    ck_assert_uint_eq(channel_queued(near.channel), 1000 * length);
    ck_assert_uint_eq(sends, 0);
    test_turns(&test, 1);
    ck_assert_uint_eq(sends, 1);
    ck_assert_uint_eq(raw_drain(SIZE_MAX), 1000 * length);
    test_turns(&test, 3);
    ck_assert_uint_eq(sends, 1);
    finish();
}
END_TEST

START_TEST(high_and_low_mark)
{
    static uint8_t frame[FRAME_HEADER + 1000];
    setup();
    size_t length = make_frame(frame, 1, 1000);
    size_t sent = 0, drained = 0;
    while (!channel_is_congested(near.channel)) {
        ck_assert_uint_le(channel_queued(near.channel), limits.high_mark);
        ck_assert_int_eq(channel_send(near.channel, frame, length, -1), 0);
        test_turns(&test, 2); /* the socket fills first */
        sent += length;
    }
    ck_assert_uint_gt(channel_queued(near.channel), limits.high_mark);
    send_cap = 3000; /* so that the queue passes every mark slowly */
    while (near.relieved == 0) {
        ck_assert(channel_is_congested(near.channel));
        ck_assert_uint_gt(channel_queued(near.channel), limits.low_mark);
        drained += raw_drain(SIZE_MAX);
        test_turns(&test, 1);
    }
    ck_assert(!channel_is_congested(near.channel));
    ck_assert_uint_le(channel_queued(near.channel), limits.low_mark);
    ck_assert_uint_gt(channel_queued(near.channel), 0);
    while (drained < sent) {
        drained += raw_drain(SIZE_MAX);
        test_turns(&test, 3);
    }
    ck_assert_int_eq(near.relieved, 1);
    ck_assert_uint_eq(channel_queued(near.channel), 0);
    finish();
}
END_TEST

START_TEST(queue_that_would_pass_its_maximum)
{
    static uint8_t frame[FRAME_HEADER + 9996];
    struct channel_limits small = limits;
    size_t length = make_frame(frame, 1, 9996);
    small.max_queued = 10 * length;
    setup_with(&small);
    for (int i = 0; i < 10; i++) {
        ck_assert_int_eq(channel_send(near.channel, frame, length, -1), 0);
    }
    length = make_frame(frame, 1, 1);
    ck_assert_int_eq(channel_send(near.channel, frame, length, -1), -ENOBUFS);
    ck_assert_int_eq(near.closed, 0); /* not inside the call */
    ck_assert_int_eq(channel_send(near.channel, frame, length, -1), -EPIPE);
    expect_closed(-ENOBUFS);
    finish();
}
END_TEST

START_TEST(close_tries_once_to_write)
{
    uint8_t frame[FRAME_HEADER + 100];
    setup();
    size_t length = make_frame(frame, 1, 100);
    ck_assert_int_eq(channel_send(near.channel, frame, length, -1), 0);
    channel_close(near.channel);
    near.closed = 1;
    ck_assert_uint_eq(raw_drain(SIZE_MAX), length);
    finish();
}
END_TEST

static void answer_it(struct end *end)
{
    uint8_t frame[FRAME_HEADER + 10];
    ck_assert_int_eq(channel_send(end->channel, frame, make_frame(frame, 1, 10), -1), 0);
}

START_TEST(peer_that_only_reads_any_more_gets_its_answer)
{
    uint8_t frame[FRAME_HEADER + 10];
    setup();
    near.act_at = 1;
    near.act = answer_it;
    raw_write(frame, make_frame(frame, 1, 10));
    ck_assert_int_eq(shutdown(raw, SHUT_WR), 0);
    expect_closed(0);
    ck_assert_uint_eq(raw_drain(SIZE_MAX), FRAME_HEADER + 10);
    finish();
}
END_TEST

START_TEST(much_in_both_directions_with_short_writes)
{
    static uint8_t frame[FRAME_HEADER + 3000];
    setup_two();
    send_cap = 777;
    for (uint32_t n = 0; n < 200; n++) {
        size_t length = make_frame(frame, n, 4 + n * 14);
        ck_assert_int_eq(channel_send(near.channel, frame, length, -1), 0);
        ck_assert_int_eq(channel_send(far_end.channel, frame, length, -1), 0);
    }
    TEST_RUN_UNTIL(&test, near.frames == 200 && far_end.frames == 200);
    for (uint32_t n = 0; n < 200; n++) {
        ck_assert_uint_eq(near.got[n].number, n);
        ck_assert_uint_eq(far_end.got[n].number, n);
    }
    finish_two();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("channel");
    TCase *in = tcase_create("incoming");
    tcase_set_timeout(in, 60);
    tcase_add_test(in, frame_is_handed_up);
    tcase_add_test(in, frames_octet_by_octet);
    tcase_add_loop_test(in, frames_in_every_size_of_read, 0, 9);
    tcase_add_test(in, frames_of_every_size_in_one_write);
    tcase_add_test(in, a_crowd_of_frames_is_taken_in_turns);
    tcase_add_test(in, largest_frame);
    tcase_add_loop_test(in, wrong_length_ends_the_channel, 0, 8);
    tcase_add_test(in, length_at_the_channels_maximum);
    tcase_add_test(in, frames_before_a_wrong_length_are_handed_up);
    tcase_add_test(in, eof_between_frames);
    tcase_add_loop_test(in, eof_within_a_frame, 1, FRAME_HEADER + 10);
    tcase_add_test(in, what_a_dying_peer_said_is_heard);
    tcase_add_test(in, what_a_dead_peer_said_is_heard_when_writing_fails_first);
    tcase_add_test(in, peer_that_ceases_to_read);
    suite_add_tcase(s, in);
    TCase *out = tcase_create("outgoing");
    tcase_set_timeout(out, 60);
    tcase_add_test(out, frames_of_one_turn_leave_together);
    tcase_add_test(out, high_and_low_mark);
    tcase_add_test(out, queue_that_would_pass_its_maximum);
    tcase_add_test(out, close_tries_once_to_write);
    tcase_add_test(out, peer_that_only_reads_any_more_gets_its_answer);
    tcase_add_test(out, much_in_both_directions_with_short_writes);
    suite_add_tcase(s, out);
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
