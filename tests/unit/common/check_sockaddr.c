#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/net/sockaddr.h"

START_TEST(endpoints_survive_the_round_trip)
{
    static const char *const rows[] = {"192.0.2.1:80", "0.0.0.0:0", "[2001:db8::1]:65535", "[::]:1",
                                       "[fe80::1%7]:53"};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct sockaddr_storage storage;
        struct endpoint in, out;
        socklen_t length;

        ck_assert_int_eq(endpoint_parse(rows[i], &in), 0);
        length = endpoint_to_sockaddr(&in, &storage);
        ck_assert_uint_eq(length, in.address.family == IP_V4 ? sizeof(struct sockaddr_in)
                                                             : sizeof(struct sockaddr_in6));
        ck_assert_int_eq(storage.ss_family, ip_address_af(&in.address));
        ck_assert_int_eq(endpoint_from_sockaddr((struct sockaddr *)&storage, &out), 0);
        ck_assert_msg(endpoint_equal(&in, &out), "%s changed", rows[i]);
    }
}
END_TEST

START_TEST(ports_are_in_network_order)
{
    const struct endpoint endpoint = {.address = {.family = IP_V4, .bytes = {192, 0, 2, 1}},
                                      .port = 0x1234};
    struct sockaddr_storage storage;
    struct sockaddr_in in;

    endpoint_to_sockaddr(&endpoint, &storage);
    memcpy(&in, &storage, sizeof(in));
    ck_assert_uint_eq(ntohs(in.sin_port), 0x1234);
    ck_assert_uint_eq(ntohl(in.sin_addr.s_addr), 0xc0000201);
}
END_TEST

START_TEST(mapped_addresses_become_ipv4)
{
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(80)};
    struct endpoint out;

    ck_assert_int_eq(inet_pton(AF_INET6, "::ffff:192.0.2.9", &in6.sin6_addr), 1);
    ck_assert_int_eq(endpoint_from_sockaddr((struct sockaddr *)&in6, &out), 0);
    ck_assert_int_eq(out.address.family, IP_V4);
    ck_assert_int_eq(out.address.bytes[3], 9);
}
END_TEST

START_TEST(a_scope_belongs_to_link_local_only)
{
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_scope_id = 5};
    struct endpoint out;

    ck_assert_int_eq(inet_pton(AF_INET6, "2001:db8::1", &in6.sin6_addr), 1);
    ck_assert_int_eq(endpoint_from_sockaddr((struct sockaddr *)&in6, &out), 0);
    ck_assert_uint_eq(out.address.scope_id, 0);
    ck_assert_int_eq(inet_pton(AF_INET6, "fe80::1", &in6.sin6_addr), 1);
    ck_assert_int_eq(endpoint_from_sockaddr((struct sockaddr *)&in6, &out), 0);
    ck_assert_uint_eq(out.address.scope_id, 5);
}
END_TEST

START_TEST(no_address_has_no_sockaddr)
{
    const struct endpoint none = {0};
    struct sockaddr_storage storage;

    ck_assert_uint_eq(endpoint_to_sockaddr(&none, &storage), 0);
    ck_assert_int_eq(ip_address_af(&none.address), AF_UNSPEC);
}
END_TEST

START_TEST(other_families_are_refused)
{
    struct sockaddr_storage storage = {.ss_family = AF_UNIX};
    struct endpoint out = {.port = 77};

    ck_assert_int_eq(endpoint_from_sockaddr((struct sockaddr *)&storage, &out), -EAFNOSUPPORT);
    ck_assert_uint_eq(out.port, 77);
}
END_TEST

START_TEST(sockets_tell_both_ends)
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int a = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int b = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct sockaddr_storage storage;
    struct endpoint local, peer;
    socklen_t length;

    ck_assert_int_eq(bind(a, (struct sockaddr *)&any, sizeof(any)), 0);
    ck_assert_int_eq(endpoint_local(a, &local), 0);
    ck_assert_uint_ne(local.port, 0);
    ck_assert_int_eq(endpoint_peer(a, &peer), -ENOTCONN);
    length = endpoint_to_sockaddr(&local, &storage);
    ck_assert_int_eq(connect(b, (struct sockaddr *)&storage, length), 0);
    ck_assert_int_eq(endpoint_peer(b, &peer), 0);
    ck_assert(endpoint_equal(&local, &peer));
    close(a);
    close(b);
    ck_assert_int_eq(endpoint_local(a, &local), -EBADF);
}
END_TEST

START_TEST(unix_sockets_have_no_endpoint)
{
    struct endpoint out;
    int pair[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    ck_assert_int_eq(endpoint_local(pair[0], &out), -EAFNOSUPPORT);
    ck_assert_int_eq(endpoint_peer(pair[0], &out), -EAFNOSUPPORT);
    close(pair[0]);
    close(pair[1]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sockaddr");
    TCase *tcase = tcase_create("sockaddr");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_add_test(tcase, endpoints_survive_the_round_trip);
    tcase_add_test(tcase, ports_are_in_network_order);
    tcase_add_test(tcase, mapped_addresses_become_ipv4);
    tcase_add_test(tcase, a_scope_belongs_to_link_local_only);
    tcase_add_test(tcase, no_address_has_no_sockaddr);
    tcase_add_test(tcase, other_families_are_refused);
    tcase_add_test(tcase, sockets_tell_both_ends);
    tcase_add_test(tcase, unix_sockets_have_no_endpoint);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
