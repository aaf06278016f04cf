/* The header of UDP ASSOCIATE: N1-UDP-010, N1-UDP-020. */
#include "tests/unit/proto/n1_arrival.h"

#define HEADER n1_udp_header_decode, struct n1_udp_header
#define arrival(...) assert_arrival(__VA_ARGS__)

START_TEST(headers_in_both_directions)
{
    const uint8_t v4[] = {0, 0, 0, 1, 192, 0, 2, 1, 0, 53, 'd', 'a', 't', 'a'};
    const uint8_t v6[] = {0, 0, 0x81, 4, 0x20, 1, 0xd, 0xb8, 0, 0, 0,
                          0, 0, 0,    0, 0,    0, 0,   0,    1, 0, 53};
    const uint8_t name[] = {0, 0, 1, 3, 3, 'd', 'n', 's', 0, 53, 'd'};
    struct n1_udp_header header;
    size_t used;
    arrival(HEADER, v4, sizeof(v4), 10, N1_OK);
    ck_assert_int_eq(n1_udp_header_decode(v4, sizeof(v4), &header, &used), N1_OK);
    ck_assert_uint_eq(header.fragment, 0);
    assert_encodes(n1_udp_header_encode(&header, out_, out_size_), v4, 10);
    arrival(HEADER, v6, sizeof(v6), sizeof(v6), N1_OK);
    ck_assert_int_eq(n1_udp_header_decode(v6, sizeof(v6), &header, &used), N1_OK);
    ck_assert_uint_eq(header.fragment, 0x81);
    assert_encodes(n1_udp_header_encode(&header, out_, out_size_), v6, sizeof(v6));
    arrival(HEADER, name, sizeof(name), 10, N1_OK);
    ck_assert_int_eq(n1_udp_header_decode(name, sizeof(name), &header, &used), N1_OK);
    ck_assert_str_eq(header.destination.name, "dns");
    ck_assert_uint_eq(header.destination.port, 53);
    assert_encodes(n1_udp_header_encode(&header, out_, out_size_), name, 10);
}
END_TEST

START_TEST(broken_headers_are_refused)
{
    for (unsigned value = 1; value < 256; value++) {
        uint8_t data[] = {0, 0, 0, 1, 192, 0, 2, 1, 0, 53};
        data[0] = (uint8_t)value;
        arrival(HEADER, data, sizeof(data), 2, N1_E_RSV);
        data[0] = 0;
        data[1] = (uint8_t)value;
        arrival(HEADER, data, sizeof(data), 2, N1_E_RSV);
        data[1] = 0;
        data[3] = (uint8_t)value;
        if (value != 1 && value != 3 && value != 4)
            arrival(HEADER, data, sizeof(data), 4, N1_E_ATYP);
    }
}
END_TEST

START_TEST(names_are_judged_before_they_are_sent)
{
    const uint8_t nul[] = {0, 0, 0, 3, 3, 'a', 0, 'b', 0, 53, 'x'};
    uint8_t longest[N1_UDP_HEADER_MAX] = {0, 0, 0, 3, 255}, out[N1_UDP_HEADER_MAX];
    struct n1_udp_header header;
    size_t used;
    arrival(HEADER, nul, sizeof(nul), 10, N1_OK);
    ck_assert_int_eq(n1_udp_header_decode(nul, sizeof(nul), &header, &used), N1_OK);
    ck_assert_uint_eq(header.destination.name_length, 3);
    ck_assert_uint_eq(n1_udp_header_encode(&header, out, sizeof(out)), 0);
    arrival(HEADER, longest, sizeof(longest), sizeof(longest), N1_OK);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("udp");
    tcase_add_test(tcase, headers_in_both_directions);
    tcase_add_test(tcase, broken_headers_are_refused);
    tcase_add_test(tcase, names_are_judged_before_they_are_sent);
    return run_tests(tcase);
}
