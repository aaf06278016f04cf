/* Replies: N1-REP-010, N1-REP-020, N1-BND-010, N1-CONN-010. */
#include "tests/unit/proto/n1_arrival.h"

#define REPLY n1_reply_decode, struct n1_reply
#define arrival(...) assert_arrival(__VA_ARGS__)

START_TEST(success_carries_bnd)
{
    const uint8_t v4[] = {5, 0, 0, 1, 192, 0, 2, 9, 0xc3, 0x50};
    const uint8_t v6[] = {5, 0, 0, 4, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1};
    struct endpoint bound;
    struct n1_reply reply;
    size_t used;
    ck_assert_int_eq(endpoint_parse("192.0.2.9:50000", &bound), 0);
    assert_encodes(n1_reply_encode(0, &bound, out_, out_size_), v4, sizeof(v4));
    arrival(REPLY, v4, sizeof(v4), sizeof(v4), N1_OK);
    ck_assert_int_eq(n1_reply_decode(v4, sizeof(v4), &reply, &used), N1_OK);
    struct endpoint got = {reply.bound.address, reply.bound.port};
    ck_assert(endpoint_equal(&got, &bound));
    ck_assert_int_eq(endpoint_parse("[2001:db8::9]:1", &bound), 0);
    assert_encodes(n1_reply_encode(0, &bound, out_, out_size_), v6, sizeof(v6));
    arrival(REPLY, v6, sizeof(v6), sizeof(v6), N1_OK);
}
END_TEST

START_TEST(success_without_bnd_is_not_encoded)
{
    struct endpoint none = {.port = 80};
    uint8_t out[N1_REPLY_MAX];
    ck_assert_uint_eq(n1_reply_encode(0, NULL, out, sizeof(out)), 0);
    ck_assert_uint_eq(n1_reply_encode(0, &none, out, sizeof(out)), 0);
}
END_TEST

START_TEST(failures_carry_zeros)
{
    struct endpoint bound;
    ck_assert_int_eq(endpoint_parse("[2001:db8::9]:1", &bound), 0);
    for (unsigned code = 1; code < 256; code++) {
        const uint8_t data[] = {5, (uint8_t)code, 0, 1, 0, 0, 0, 0, 0, 0};
        struct n1_reply reply;
        size_t used;
        assert_encodes(n1_reply_encode((uint8_t)code, NULL, out_, out_size_), data, sizeof(data));
        assert_encodes(n1_reply_encode((uint8_t)code, &bound, out_, out_size_), data, sizeof(data));
        arrival(REPLY, data, sizeof(data), sizeof(data), N1_OK);
        ck_assert_int_eq(n1_reply_decode(data, sizeof(data), &reply, &used), N1_OK);
        ck_assert_uint_eq(reply.code, code);
    }
}
END_TEST

START_TEST(what_no_server_may_send)
{
    for (unsigned value = 0; value < 256; value++) {
        uint8_t data[] = {5, 0, 0, 1, 192, 0, 2, 9, 1, 1};
        data[0] = (uint8_t)value;
        if (value != 5)
            arrival(REPLY, data, sizeof(data), 1, N1_E_VERSION);
        data[0] = 5;
        data[2] = (uint8_t)value;
        if (value != 0)
            arrival(REPLY, data, sizeof(data), 3, N1_E_RSV);
        data[2] = 0;
        data[3] = (uint8_t)value;
        if (value != 1 && value != 3 && value != 4)
            arrival(REPLY, data, sizeof(data), 4, N1_E_ATYP);
    }
}
END_TEST

START_TEST(names_as_bnd)
{
    const uint8_t good[] = {5, 0, 0, 3, 3, 'a', '.', 'b', 0, 80};
    const uint8_t bad[] = {5, 0, 0, 3, 3, 'a', 0, 'b', 0, 80};
    const uint8_t empty[] = {5, 0, 0, 3, 0, 0, 80};
    const uint8_t failed[] = {5, 4, 0, 3, 0, 0, 0};
    uint8_t longest[N1_REPLY_MAX] = {5, 1, 0, 3, 255};
    arrival(REPLY, good, sizeof(good), sizeof(good), N1_OK);
    arrival(REPLY, bad, sizeof(bad), sizeof(bad), N1_E_MALFORMED);
    arrival(REPLY, empty, sizeof(empty), sizeof(empty), N1_E_MALFORMED);
    arrival(REPLY, failed, sizeof(failed), sizeof(failed), N1_OK);
    arrival(REPLY, longest, sizeof(longest), sizeof(longest), N1_OK);
}
END_TEST

START_TEST(codes_have_words)
{
    static const char *const words[] = {
        "Succeeded",
        "General SOCKS server failure",
        "Connection not allowed by ruleset",
        "Network unreachable",
        "Host unreachable",
        "Connection refused",
        "TTL expired",
        "Command not supported",
        "Address type not supported",
        "PTCL type not supported",
        "Unassigned reply code",
    };
    for (unsigned code = 0; code < 256; code++)
        ck_assert_str_eq(n1_reply_text((uint8_t)code), words[code < 10 ? code : 10]);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("reply");
    tcase_add_test(tcase, success_carries_bnd);
    tcase_add_test(tcase, success_without_bnd_is_not_encoded);
    tcase_add_test(tcase, failures_carry_zeros);
    tcase_add_test(tcase, what_no_server_may_send);
    tcase_add_test(tcase, names_as_bnd);
    tcase_add_test(tcase, codes_have_words);
    return run_tests(tcase);
}
