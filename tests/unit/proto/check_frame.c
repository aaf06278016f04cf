#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "proto/frame.h"

/* A copy of exactly that size, so that one octet too far is seen. */
static uint8_t *exact(const uint8_t *data, size_t length)
{
    uint8_t *copy = malloc(length ? length : 1);

    ck_assert_ptr_nonnull(copy);
    if (length > 0)
        memcpy(copy, data, length);
    return copy;
}

static enum frame_result decode(const uint8_t *data, size_t length, size_t *payload_length,
                                size_t *missing)
{
    uint8_t *copy = exact(data, length);
    const uint8_t *payload = NULL;
    enum frame_result result = frame_decode(copy, length, &payload, payload_length, missing);

    if (result == FRAME_OK)
        ck_assert_ptr_eq(payload, copy + FRAME_HEADER);
    free(copy);
    return result;
}

START_TEST(every_split_says_what_is_missing) /* N2-FRAME-010 */
{
    uint8_t frame[FRAME_HEADER + 300];
    size_t payload_length, missing;

    frame_header_encode(300, frame);
    memset(frame + FRAME_HEADER, 0xff, 300);
    for (size_t length = 0; length < sizeof(frame); length++) {
        size_t expected = length < FRAME_HEADER ? FRAME_HEADER - length : sizeof(frame) - length;

        ck_assert_int_eq(decode(frame, length, &payload_length, &missing), FRAME_NEED_MORE);
        ck_assert_uint_eq(missing, expected);
    }
    ck_assert_int_eq(decode(frame, sizeof(frame), &payload_length, &missing), FRAME_OK);
    ck_assert_uint_eq(payload_length, 300);
}
END_TEST

START_TEST(several_frames_in_one_piece) /* N2-FRAME-010 */
{
    static const uint8_t data[] = {0, 0, 0, 1, 'a', 0, 0, 0, 2, 'b', 'c', 0, 0};
    const uint8_t *payload;
    size_t length, missing, at = 0;

    ck_assert_int_eq(frame_decode(data, sizeof(data), &payload, &length, &missing), FRAME_OK);
    ck_assert_mem_eq(payload, "a", length);
    at += FRAME_HEADER + length;
    ck_assert_int_eq(frame_decode(data + at, sizeof(data) - at, &payload, &length, &missing),
                     FRAME_OK);
    ck_assert_uint_eq(length, 2);
    ck_assert_mem_eq(payload, "bc", 2);
    at += FRAME_HEADER + length;
    ck_assert_int_eq(frame_decode(data + at, sizeof(data) - at, &payload, &length, &missing),
                     FRAME_NEED_MORE);
    ck_assert_uint_eq(missing, 2);
}
END_TEST

START_TEST(bad_lengths_are_refused_at_once) /* N2-FRAME-020 */
{
    static const uint8_t bad[][FRAME_HEADER] = {
        {0, 0, 0, 0}, {0, 1, 0, 1}, {1, 0, 0, 0}, {0x80, 0, 0, 1}, {0xff, 0xff, 0xff, 0xff},
    };
    size_t payload_length, missing;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        ck_assert_int_eq(decode(bad[i], FRAME_HEADER, &payload_length, &missing), FRAME_E_LENGTH);
}
END_TEST

START_TEST(the_limits_are_accepted) /* N2-FRAME-020 */
{
    static uint8_t frame[FRAME_MAX];
    static const size_t lengths[] = {1, 255, 256, 65535, FRAME_PAYLOAD_MAX};
    size_t payload_length, missing;

    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        frame_header_encode(lengths[i], frame);
        ck_assert_int_eq(decode(frame, FRAME_HEADER, &payload_length, &missing), FRAME_NEED_MORE);
        ck_assert_uint_eq(missing, lengths[i]);
        ck_assert_int_eq(decode(frame, sizeof(frame), &payload_length, &missing), FRAME_OK);
        ck_assert_uint_eq(payload_length, lengths[i]);
    }
}
END_TEST

START_TEST(the_length_is_big_endian) /* N2-FRAME-010 */
{
    uint8_t header[FRAME_HEADER];

    frame_header_encode(0x00010000, header);
    ck_assert_mem_eq(header, ((uint8_t[]){0, 1, 0, 0}), FRAME_HEADER);
    frame_header_encode(0x1234, header);
    ck_assert_mem_eq(header, ((uint8_t[]){0, 0, 0x12, 0x34}), FRAME_HEADER);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("frame");
    TCase *tcase = tcase_create("frame");

    tcase_add_test(tcase, every_split_says_what_is_missing);
    tcase_add_test(tcase, several_frames_in_one_piece);
    tcase_add_test(tcase, bad_lengths_are_refused_at_once);
    tcase_add_test(tcase, the_limits_are_accepted);
    tcase_add_test(tcase, the_length_is_big_endian);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);

    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);

    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
