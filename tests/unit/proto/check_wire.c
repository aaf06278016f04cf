#include <check.h>
#include <stdlib.h>

#include "proto/wire.h"
#include "tests/unit/proto/n1_arrival.h"

START_TEST(reads_in_network_order)
{
    const uint8_t data[] = {1, 0x12, 0x34, 5, 6, 7};
    struct wire_reader reader = {.data = data, .length = sizeof(data)};
    uint8_t rest[3];
    ck_assert_uint_eq(wire_read_u8(&reader), 1);
    ck_assert_uint_eq(wire_read_u16(&reader), 0x1234);
    wire_read_bytes(&reader, rest, sizeof(rest));
    ck_assert_mem_eq(rest, data + 3, 3);
    ck_assert(!reader.truncated);
    ck_assert_uint_eq(reader.used, sizeof(data));
}
END_TEST

START_TEST(a_read_behind_the_end_sticks)
{
    const uint8_t data[] = {1, 2, 3};
    uint8_t out[4] = {9, 9, 9, 9};
    struct wire_reader reader = {.data = data, .length = sizeof(data)};
    wire_read_bytes(&reader, out, 4);
    ck_assert(reader.truncated);
    ck_assert_uint_eq(out[0], 9);
    ck_assert_uint_eq(wire_read_u8(&reader), 0); /* although it is there */
    ck_assert_uint_eq(wire_read_u16(&reader), 0);
    ck_assert_uint_eq(reader.used, 0);
    ck_assert_ptr_null(wire_take(&reader, 0));
    reader = (struct wire_reader){.data = data, .length = 1};
    ck_assert_uint_eq(wire_read_u16(&reader), 0);
    ck_assert(reader.truncated);
    reader = (struct wire_reader){.data = data, .length = 1};
    ck_assert_ptr_null(wire_take(&reader, (size_t)-1));
}
END_TEST

START_TEST(a_write_behind_the_size_sticks)
{
    uint8_t data[4] = {9, 9, 9, 9};
    struct wire_writer writer = {.data = data, .size = 3};
    wire_write_u8(&writer, 1);
    wire_write_u16(&writer, 0x0203);
    ck_assert_uint_eq(wire_written(&writer), 3);
    ck_assert_mem_eq(data, ((uint8_t[]){1, 2, 3, 9}), 4);
    wire_write_u8(&writer, 4);
    ck_assert_uint_eq(wire_written(&writer), 0);
    ck_assert_uint_eq(data[3], 9);
    wire_write_bytes(&writer, data, 0);
    ck_assert_uint_eq(wire_written(&writer), 0);
    writer = (struct wire_writer){.data = data, .size = 4};
    wire_fail(&writer);
    wire_write_u8(&writer, 7);
    ck_assert_uint_eq(data[0], 1);
    ck_assert_uint_eq(wire_written(&writer), 0);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("wire");
    tcase_add_test(tcase, reads_in_network_order);
    tcase_add_test(tcase, a_read_behind_the_end_sticks);
    tcase_add_test(tcase, a_write_behind_the_size_sticks);
    return run_tests(tcase);
}
