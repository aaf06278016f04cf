/* Requests: N1-REQ-*, N1-ORD-010 (steps 1 to 5), N1-ADDR-*, N1-CONN-010, N1-CONN-020. */
#include "proto/ptcl.h"
#include "tests/unit/proto/n1_arrival.h"

#define REQUEST n1_request_decode, struct n1_request
#define arrival(...) assert_arrival(__VA_ARGS__)

static const uint8_t transparent[] = {
    5,    4,    0,   1,  192, 0, 2,    1,    0, 80, /* DST 192.0.2.1:80 */
    6,    1,    198, 51, 100, 7, 0x9c, 0x40,        /* TCP, S 198.51.100.7:40000 */
    0xee, 0xee,                                     /* not of the request */
};
#define TRANSPARENT_LENGTH (sizeof(transparent) - 2)

static struct n1_host host_of(const char *text)
{
    struct endpoint endpoint;
    struct n1_host host = {0};
    if (endpoint_parse(text, &endpoint) == 0)
        return n1_host_from_endpoint(&endpoint);
    ck_assert_int_eq(n1_host_from_name(text, 443, &host), 0);
    return host;
}

static void assert_same_host(const struct n1_host *a, const struct n1_host *b)
{
    ck_assert_uint_eq(a->atyp, b->atyp);
    ck_assert(ip_address_equal(&a->address, &b->address));
    ck_assert_uint_eq(a->name_length, b->name_length);
    ck_assert_mem_eq(a->name, b->name, sizeof(a->name));
    ck_assert_uint_eq(a->port, b->port);
}

/* N1-REQ-010 */
START_TEST(a_transparent_request_arrives)
{
    struct n1_request request;
    size_t used;
    char text[ENDPOINT_TEXT_MAX];
    arrival(REQUEST, transparent, sizeof(transparent), TRANSPARENT_LENGTH, N1_OK);
    ck_assert_int_eq(n1_request_decode(transparent, sizeof(transparent), &request, &used), N1_OK);
    ck_assert_uint_eq(request.command, N1_CMD_TRANSPARENT);
    ck_assert_uint_eq(request.ptcl, PTCL_TCP);
    struct endpoint endpoint = {request.destination.address, request.destination.port};
    ck_assert_str_eq(endpoint_format(&endpoint, text, sizeof(text)), "192.0.2.1:80");
    endpoint = (struct endpoint){request.source.address, request.source.port};
    ck_assert_str_eq(endpoint_format(&endpoint, text, sizeof(text)), "198.51.100.7:40000");
}
END_TEST

START_TEST(every_pair_of_address_types_survives)
{
    static const char *const hosts[] = {"192.0.2.1:80", "0.0.0.0:0",   "[2001:db8::1]:65535",
                                        "[::]:0",       "example.org", "a."};
    size_t count = sizeof(hosts) / sizeof(hosts[0]);
    for (uint8_t command = N1_CMD_CONNECT; command <= N1_CMD_TRANSPARENT; command++) {
        for (size_t i = 0; i < count * count; i++) {
            struct n1_request request = {.command = command,
                                         .destination = host_of(hosts[i % count])};
            struct n1_request again;
            uint8_t data[N1_REQUEST_MAX];
            size_t used;
            if (command == N1_CMD_TRANSPARENT) {
                request.ptcl = (uint8_t)(i * 7);
                request.source = host_of(hosts[i / count]);
            }
            size_t length = n1_request_encode(&request, data, sizeof(data));
            ck_assert_uint_ne(length, 0);
            assert_encodes(n1_request_encode(&request, out_, out_size_), data, length);
            arrival(REQUEST, data, length, length, N1_OK);
            ck_assert_int_eq(n1_request_decode(data, length, &again, &used), N1_OK);
            ck_assert_uint_eq(again.command, command);
            ck_assert_uint_eq(again.ptcl, request.ptcl);
            assert_same_host(&again.destination, &request.destination);
            assert_same_host(&again.source, &request.source);
        }
    }
}
END_TEST

START_TEST(classic_requests_end_with_the_port)
{
    for (uint8_t command = N1_CMD_CONNECT; command < N1_CMD_TRANSPARENT; command++) {
        uint8_t data[sizeof(transparent)];
        memcpy(data, transparent, sizeof(data));
        data[1] = command;
        arrival(REQUEST, data, sizeof(data), 10, N1_OK);
    }
}
END_TEST

/* N1-CONN-020 */
START_TEST(the_longest_request_fits)
{
    uint8_t data[N1_REQUEST_MAX] = {5, 4, 0, 3, 255};
    struct n1_request request;
    size_t used;
    memset(data + 5, 'x', 255);
    data[5 + 255 + 2] = 17;
    data[5 + 255 + 3] = 3;
    data[5 + 255 + 4] = 255;
    memset(data + 5 + 255 + 5, 'y', 255);
    arrival(REQUEST, data, sizeof(data), sizeof(data), N1_OK);
    ck_assert_int_eq(n1_request_decode(data, sizeof(data), &request, &used), N1_OK);
    ck_assert_uint_eq(request.destination.name_length, 255);
    ck_assert_uint_eq(strlen(request.source.name), 255);
    ck_assert_uint_eq(request.source.name[254], 'y');
}
END_TEST

/* N1-REQ-020 to -050, each at its octet. */
START_TEST(each_field_is_judged_as_soon_as_it_is_there)
{
    for (unsigned value = 0; value < 256; value++) {
        uint8_t data[sizeof(transparent)];
        struct n1_request request;
        size_t used;
        memcpy(data, transparent, sizeof(data));
        data[0] = (uint8_t)value;
        if (value != 5)
            arrival(REQUEST, data, sizeof(data), 1, N1_E_VERSION);
        data[0] = 5;
        data[1] = (uint8_t)value;
        if (value < 1 || value > 4) {
            arrival(REQUEST, data, sizeof(data), 2, N1_E_COMMAND);
            n1_request_decode(data, sizeof(data), &request, &used);
            ck_assert_uint_eq(request.command, value);
        }
        data[1] = 4;
        data[2] = (uint8_t)value;
        if (value != 0)
            arrival(REQUEST, data, sizeof(data), 3, N1_E_RSV);
        data[2] = 0;
        bool known = value == 1 || value == 3 || value == 4;
        data[3] = (uint8_t)value;
        if (!known)
            arrival(REQUEST, data, sizeof(data), 4, N1_E_ATYP);
        data[3] = 1;
        data[11] = (uint8_t)value;
        if (!known)
            arrival(REQUEST, data, sizeof(data), 12, N1_E_SOURCE_ATYP);
    }
}
END_TEST

/* N1-ORD-010: of two wrong fields the first answers. */
START_TEST(the_first_wrong_field_answers)
{
    static const struct {
        size_t at;
        enum n1_result result;
    } fields[] = {{0, N1_E_VERSION},
                  {1, N1_E_COMMAND},
                  {2, N1_E_RSV},
                  {3, N1_E_ATYP},
                  {11, N1_E_SOURCE_ATYP}};
    for (size_t i = 0; i < 5; i++) {
        for (size_t j = i + 1; j < 5; j++) {
            uint8_t data[sizeof(transparent)];
            memcpy(data, transparent, sizeof(data));
            data[fields[i].at] = data[fields[j].at] = 0x77;
            arrival(REQUEST, data, sizeof(data), fields[i].at + 1, fields[i].result);
        }
    }
}
END_TEST

START_TEST(results_have_their_replies)
{
    ck_assert_int_eq(n1_result_reply(N1_E_COMMAND), 7);
    ck_assert_int_eq(n1_result_reply(N1_E_RSV), 1);
    ck_assert_int_eq(n1_result_reply(N1_E_ATYP), 8);
    ck_assert_int_eq(n1_result_reply(N1_E_SOURCE_ATYP), 8);
    ck_assert_int_eq(n1_result_reply(N1_E_MALFORMED), 1);
    ck_assert_int_eq(n1_result_reply(N1_E_VERSION), -1);
    ck_assert_int_eq(n1_result_reply(N1_NEED_MORE), -1);
    ck_assert_int_eq(n1_result_reply(N1_OK), -1);
}
END_TEST

/* N1-ADDR-020 */
START_TEST(ipv4_mapped_hosts_are_ipv4)
{
    const uint8_t data[] = {5, 1, 0, 4,    0,    0,   0, 0, 0, 0, 0,
                            0, 0, 0, 0xff, 0xff, 192, 0, 2, 1, 0, 80};
    struct n1_request request;
    size_t used;
    ck_assert_int_eq(n1_request_decode(data, sizeof(data), &request, &used), N1_OK);
    ck_assert_uint_eq(request.destination.atyp, N1_ATYP_V4);
    ck_assert_uint_eq(request.destination.address.family, IP_V4);
    struct n1_host expected = host_of("192.0.2.1:80");
    assert_same_host(&request.destination, &expected);
}
END_TEST

/* N1-NAME-020: decoded with its length, never as a C string; not encoded. */
START_TEST(a_name_with_nul_keeps_its_length)
{
    const uint8_t data[] = {5, 1, 0, 3, 6, 'g', 'o', 0, 'b', 'a', 'd', 0, 80};
    const uint8_t empty[] = {5, 1, 0, 3, 0, 0, 80};
    struct n1_request request;
    uint8_t out[N1_REQUEST_MAX];
    size_t used;
    ck_assert_int_eq(n1_request_decode(data, sizeof(data), &request, &used), N1_OK);
    ck_assert_uint_eq(request.destination.name_length, 6);
    ck_assert_mem_eq(request.destination.name, "go\0bad", 7);
    ck_assert(!n1_name_is_valid(request.destination.name, request.destination.name_length));
    ck_assert_uint_eq(n1_request_encode(&request, out, sizeof(out)), 0);
    arrival(REQUEST, empty, sizeof(empty), 7, N1_OK);
}
END_TEST

START_TEST(invalid_requests_are_not_encoded)
{
    uint8_t out[N1_REQUEST_MAX];
    struct n1_request request = {.command = 4,
                                 .ptcl = 6,
                                 .destination = host_of("192.0.2.1:80"),
                                 .source = host_of("192.0.2.2:1")};
    ck_assert_uint_ne(n1_request_encode(&request, out, sizeof(out)), 0);
    struct n1_request broken = request;
    broken.command = 0;
    ck_assert_uint_eq(n1_request_encode(&broken, out, sizeof(out)), 0);
    broken.command = 5;
    ck_assert_uint_eq(n1_request_encode(&broken, out, sizeof(out)), 0);
    broken = request;
    broken.source.atyp = 0;
    ck_assert_uint_eq(n1_request_encode(&broken, out, sizeof(out)), 0);
    broken.command = N1_CMD_CONNECT; /* S is not looked at */
    ck_assert_uint_eq(n1_request_encode(&broken, out, sizeof(out)), 10);
    broken = request;
    broken.destination.atyp = N1_ATYP_V6; /* but the address is IPv4 */
    ck_assert_uint_eq(n1_request_encode(&broken, out, sizeof(out)), 0);
    broken.destination.atyp = 2;
    ck_assert_uint_eq(n1_request_encode(&broken, out, sizeof(out)), 0);
}
END_TEST

START_TEST(commands_have_names)
{
    ck_assert_str_eq(n1_command_name(1), "connect");
    ck_assert_str_eq(n1_command_name(2), "bind");
    ck_assert_str_eq(n1_command_name(3), "udp-associate");
    ck_assert_str_eq(n1_command_name(4), "transparent");
    ck_assert_ptr_null(n1_command_name(0));
    ck_assert_ptr_null(n1_command_name(5));
    ck_assert_ptr_null(n1_command_name(255));
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("request");
    tcase_add_test(tcase, a_transparent_request_arrives);
    tcase_add_test(tcase, every_pair_of_address_types_survives);
    tcase_add_test(tcase, classic_requests_end_with_the_port);
    tcase_add_test(tcase, the_longest_request_fits);
    tcase_add_test(tcase, each_field_is_judged_as_soon_as_it_is_there);
    tcase_add_test(tcase, the_first_wrong_field_answers);
    tcase_add_test(tcase, results_have_their_replies);
    tcase_add_test(tcase, ipv4_mapped_hosts_are_ipv4);
    tcase_add_test(tcase, a_name_with_nul_keeps_its_length);
    tcase_add_test(tcase, invalid_requests_are_not_encoded);
    tcase_add_test(tcase, commands_have_names);
    return run_tests(tcase);
}
