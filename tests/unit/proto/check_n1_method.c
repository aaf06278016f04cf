/* The choice of a method, and RFC 1929: N1-METH-*, N1-AUTH-*, N1-CONN-010, N1-CONN-020. */
#include "tests/unit/proto/n1_arrival.h"

#define METHODS n1_methods_decode, struct n1_methods
#define USERPASS n1_userpass_decode, struct n1_userpass
/* The macro's arguments are expanded once more, so that a pair may stand for two. */
#define arrival(...) assert_arrival(__VA_ARGS__)

START_TEST(method_lists_arrive)
{
    const uint8_t one[] = {5, 1, 0, 0xaa};
    const uint8_t three[] = {5, 3, 2, 1, 0, 5, 4};
    uint8_t longest[N1_METHODS_MAX];
    struct n1_methods methods;
    size_t used;
    arrival(METHODS, one, sizeof(one), 3, N1_OK);
    arrival(METHODS, three, sizeof(three), 5, N1_OK);
    longest[0] = 5;
    longest[1] = 255;
    for (int i = 0; i < 255; i++)
        longest[2 + i] = (uint8_t)i;
    arrival(METHODS, longest, sizeof(longest), sizeof(longest), N1_OK);
    ck_assert_int_eq(n1_methods_decode(longest, sizeof(longest), &methods, &used), N1_OK);
    ck_assert_uint_eq(methods.count, 255);
    ck_assert_mem_eq(methods.methods, longest + 2, 255);
    ck_assert_int_eq(n1_methods_decode(three, sizeof(three), &methods, &used), N1_OK);
    ck_assert_uint_eq(methods.count, 3);
    ck_assert_mem_eq(methods.methods, three + 2, 3);
}
END_TEST

/* N1-METH-010 */
START_TEST(another_version_is_refused_at_once)
{
    for (unsigned version = 0; version < 256; version++) {
        const uint8_t data[] = {(uint8_t)version, 1, 0};
        if (version != 5)
            arrival(METHODS, data, sizeof(data), 1, N1_E_VERSION);
    }
    arrival(METHODS, "GET / HTTP/1.1", 14, 1, N1_E_VERSION);
    ck_assert_int_eq(n1_result_reply(N1_E_VERSION), -1);
}
END_TEST

/* N1-METH-020 */
START_TEST(an_empty_list_is_refused)
{
    const uint8_t data[] = {5, 0, 0};
    arrival(METHODS, data, sizeof(data), 2, N1_E_METHODS);
    ck_assert_int_eq(n1_result_reply(N1_E_METHODS), -1);
}
END_TEST

START_TEST(method_lists_are_encoded)
{
    const uint8_t data[] = {5, 2, 0, 2};
    struct n1_methods methods = {2, {0, 2}};
    uint8_t out[4];
    assert_encodes(n1_methods_encode(&methods, out_, out_size_), data, sizeof(data));
    methods.count = 0;
    ck_assert_uint_eq(n1_methods_encode(&methods, out, sizeof(out)), 0);
}
END_TEST

START_TEST(the_chosen_method_in_both_directions)
{
    for (unsigned value = 0; value < 256; value++) {
        const uint8_t data[] = {5, (uint8_t)value, 5};
        uint8_t method;
        size_t used;
        arrival(n1_method_decode, uint8_t, data, sizeof(data), 2, N1_OK);
        ck_assert_int_eq(n1_method_decode(data, 2, &method, &used), N1_OK);
        ck_assert_uint_eq(method, value);
        assert_encodes(n1_method_encode((uint8_t)value, out_, out_size_), data, 2);
        const uint8_t wrong[] = {(uint8_t)value, 0};
        if (value != 5)
            arrival(n1_method_decode, uint8_t, wrong, 2, 1, N1_E_VERSION);
    }
}
END_TEST

START_TEST(user_names_and_passwords_arrive)
{
    const uint8_t plain[] = {1, 5, 'a', 'l', 'i', 'c', 'e', 2, 'p', 'w', 5};
    const uint8_t no_password[] = {1, 1, 'a', 0};
    const uint8_t with_nul[] = {1, 3, 'a', 0, 'b', 3, 'x', 0, 'y'};
    uint8_t longest[N1_USERPASS_MAX];
    struct n1_userpass userpass;
    size_t used;
    arrival(USERPASS, plain, sizeof(plain), 10, N1_OK);
    ck_assert_int_eq(n1_userpass_decode(plain, sizeof(plain), &userpass, &used), N1_OK);
    ck_assert_str_eq(userpass.user, "alice");
    ck_assert_str_eq(userpass.password, "pw");
    /* N1-AUTH-020, N1-AUTH-030 */
    arrival(USERPASS, no_password, sizeof(no_password), 4, N1_OK);
    arrival(USERPASS, with_nul, sizeof(with_nul), 9, N1_OK);
    ck_assert_int_eq(n1_userpass_decode(with_nul, sizeof(with_nul), &userpass, &used), N1_OK);
    ck_assert_uint_eq(userpass.user_length, 3);
    ck_assert_uint_eq(userpass.password_length, 3);
    ck_assert_mem_eq(userpass.password, "x\0y", 4);
    memset(longest, 'z', sizeof(longest));
    longest[0] = 1;
    longest[1] = longest[257] = 255;
    arrival(USERPASS, longest, sizeof(longest), sizeof(longest), N1_OK);
}
END_TEST

/* N1-AUTH-010, N1-AUTH-020 */
START_TEST(bad_user_names_are_refused_at_once)
{
    const uint8_t empty[] = {1, 0, 1, 'p'};
    const uint8_t version[] = {5, 1, 'a', 1, 'p'};
    arrival(USERPASS, empty, sizeof(empty), 2, N1_E_MALFORMED);
    arrival(USERPASS, version, sizeof(version), 1, N1_E_VERSION);
}
END_TEST

START_TEST(user_names_are_encoded)
{
    const uint8_t data[] = {1, 2, 'a', 0, 1, 'p'};
    struct n1_userpass userpass = {
        .user_length = 2, .password_length = 1, .user = "a", .password = "p"};
    uint8_t out[N1_USERPASS_MAX];
    assert_encodes(n1_userpass_encode(&userpass, out_, out_size_), data, sizeof(data));
    userpass.user_length = 0;
    ck_assert_uint_eq(n1_userpass_encode(&userpass, out, sizeof(out)), 0);
    userpass.user_length = userpass.password_length = 255;
    ck_assert_uint_eq(n1_userpass_encode(&userpass, out, sizeof(out)), N1_USERPASS_MAX);
}
END_TEST

START_TEST(the_status_in_both_directions)
{
    for (unsigned value = 0; value < 256; value++) {
        const uint8_t data[] = {1, (uint8_t)value, 9};
        uint8_t status;
        size_t used;
        arrival(n1_userpass_status_decode, uint8_t, data, sizeof(data), 2, N1_OK);
        ck_assert_int_eq(n1_userpass_status_decode(data, 2, &status, &used), N1_OK);
        ck_assert_uint_eq(status, value);
        assert_encodes(n1_userpass_status_encode((uint8_t)value, out_, out_size_), data, 2);
        const uint8_t wrong[] = {(uint8_t)value, 0};
        if (value != 1)
            arrival(n1_userpass_status_decode, uint8_t, wrong, 2, 1, N1_E_VERSION);
    }
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("method");
    tcase_add_test(tcase, method_lists_arrive);
    tcase_add_test(tcase, another_version_is_refused_at_once);
    tcase_add_test(tcase, an_empty_list_is_refused);
    tcase_add_test(tcase, method_lists_are_encoded);
    tcase_add_test(tcase, the_chosen_method_in_both_directions);
    tcase_add_test(tcase, user_names_and_passwords_arrive);
    tcase_add_test(tcase, bad_user_names_are_refused_at_once);
    tcase_add_test(tcase, user_names_are_encoded);
    tcase_add_test(tcase, the_status_in_both_directions);
    return run_tests(tcase);
}
