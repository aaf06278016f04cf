/*
 * CONNECT: what is ordered, what is replied, and that the client's connection arrives at relayd
 * whole: nothing of what it sends is lost, no descriptor of it stays here.
 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/ptcl.h"
#include "tests/unit/socksd/requests.h"

static struct fixture f;
static struct fake_relayd *const relayd = &f.fake[0];

static const struct fake_dns_record records[] = {
    {"www.example.org", "192.0.2.80"},     {"www.example.org", "192.0.2.81"},
    {"www.example.org", "2001:db8::80"},   {"mixed.example.org", "127.0.0.1"},
    {"mixed.example.org", "192.0.2.82"},   {"mixed.example.org", "10.0.0.1"},
    {"mixed.example.org", "2001:db8::82"}, {"inner.example.org", "127.0.0.1"},
    {"inner.example.org", "::1"},          {NULL, NULL},
};

static void setup(void)
{
    fixture_init(&f);
    f.records = records;
}

static void teardown(void)
{
    fixture_stop(&f);
}

static int connect_to(const char *destination)
{
    return client_classic(&f, N1_CMD_CONNECT, destination);
}

static unsigned count_fds(void)
{
    unsigned count = 0;
    DIR *directory = opendir("/proc/self/fd");

    ck_assert_ptr_nonnull(directory);
    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

/* Moves octets over a connection that was handed over, in both directions. */
static void expect_alive(int client, int handed)
{
    client_send(client, "up", 2);
    client_expect(&f, handed, "up", 2);
    client_send(handed, "down", 4);
    client_expect(&f, client, "down", 4);
}

static int expect_attached(uint64_t relay, const void *early, size_t length)
{
    WAIT_FOR(&f, relayd->attached_count > 0);
    const struct fake_attached *attached = &relayd->attached[relayd->attached_count - 1];
    ck_assert_uint_eq(attached->relay, relay);
    ck_assert_uint_eq(attached->early_length, length);
    ck_assert_mem_eq(attached->early, early, length);
    return attached->fd;
}

/* ---- the order ------------------------------------------------------------------------------- */

static void expect_candidates(const char *const *expected)
{
    char text[ENDPOINT_TEXT_MAX];
    size_t count = 0;

    for (; expected[count]; count++) {
        ck_assert_uint_lt(count, relayd->last_order.destination_count);
        ck_assert_str_eq(
            endpoint_format(&relayd->last_order.destinations[count], text, sizeof(text)),
            expected[count]);
    }
    ck_assert_uint_eq(relayd->last_order.destination_count, count);
}

/* N1-CONNECT-030 */
START_TEST(test_order_carries_the_request)
{
    char text[ENDPOINT_TEXT_MAX];
    fixture_start(&f);
    int fd = connect_to(TARGET);
    client_expect_reply(&f, fd, 0, BOUND);
    const struct endpoint client = client_endpoint(fd);
    ck_assert_int_eq(relayd->last_order.kind, N2_KIND_CONNECT);
    ck_assert_uint_eq(relayd->last_order.ptcl, PTCL_TCP);
    ck_assert(endpoint_equal(&relayd->last_order.source, &client));
    ck_assert(!relayd->last_order.learn_source_port);
    ck_assert_str_eq(relayd->last_order.rule, "rule-1");
    ck_assert_str_eq(ip_address_format(&relayd->last_order.bound_hint, text, sizeof(text)),
                     "127.0.0.1");
    expect_candidates((const char *[]){TARGET, NULL});
    close(fd);
}
END_TEST

/* N1-CONNECT-010: RFC 8305, section 4: the families take turns, IPv6 first. */
START_TEST(test_candidates_interleave)
{
    fixture_start(&f);
    relayd->winner = 1;
    int fd = connect_to("www.example.org:443");
    client_expect_reply(&f, fd, 0, BOUND);
    expect_candidates(
        (const char *[]){"[2001:db8::80]:443", "192.0.2.80:443", "192.0.2.81:443", NULL});
    /* the log is told which one it was */
    const struct endpoint reached = relayd->last_order.destinations[1];
    ck_assert(endpoint_equal(&f.set.others->destination, &reached));
    ck_assert_str_eq(f.set.others->name, "www.example.org");
    close(fd);
}
END_TEST

/* N1-CONNECT-010: Rules and floor leave candidates out; the rest is used. */
START_TEST(test_denied_candidates_are_left_out)
{
    f.config.rules.count = 2;
    f.rules[0] = (struct rule_config){.action = RULE_DENY, .to = LIST(char *, "10.0.0.0/8")};
    f.rules[1] = (struct rule_config){.action = RULE_ALLOW};
    fixture_start(&f);
    int fd = connect_to("mixed.example.org:80");
    client_expect_reply(&f, fd, 0, BOUND);
    expect_candidates((const char *[]){"[2001:db8::82]:80", "192.0.2.82:80", NULL});
    ck_assert_str_eq(relayd->last_order.rule, "rule-2");
    close(fd);
}
END_TEST

/* N1-CONNECT-010: A name server that is silent about one family does not cost the other. */
START_TEST(test_family_without_an_answer)
{
    fixture_start(&f);
    f.dns.silent_about = _i == 0 ? 28 : 1;
    const uint64_t from = uv_now(&f.loop);
    int fd = connect_to("www.example.org:443");
    client_expect_reply(&f, fd, 0, BOUND);
    ck_assert_uint_lt(uv_now(&f.loop) - from, f.config.resolver.timeout_ms);
    if (_i == 0)
        expect_candidates((const char *[]){"192.0.2.80:443", "192.0.2.81:443", NULL});
    else
        expect_candidates((const char *[]){"[2001:db8::80]:443", NULL});
    ck_assert_uint_eq(COUNT(&f, COUNTER_RESOLVER_TIMEOUTS), 0);
    close(fd);
}
END_TEST

/* N1-CONNECT-010 */
START_TEST(test_candidates_are_bounded)
{
    static char addresses[24][32];
    static struct fake_dns_record many[25];
    for (int i = 0; i < 24; i++) {
        snprintf(addresses[i], sizeof(addresses[i]), i < 12 ? "192.0.2.%d" : "2001:db8::%d", i + 1);
        many[i] = (struct fake_dns_record){"many.example.org", addresses[i]};
    }
    f.records = many;
    fixture_start(&f);
    int fd = connect_to("many.example.org:80");
    client_expect_reply(&f, fd, 0, BOUND);
    ck_assert_uint_eq(relayd->last_order.destination_count, N2_CANDIDATES_MAX);
    for (int i = 0; i < N2_CANDIDATES_MAX; i++)
        ck_assert_uint_eq(relayd->last_order.destinations[i].address.family,
                          i % 2 == 0 ? IP_V6 : IP_V4);
    close(fd);
}
END_TEST

/* ---- refusals -------------------------------------------------------------------------------- */

static void expect_refusal(const char *destination, uint8_t code)
{
    int fd = connect_to(destination);
    client_expect_reply(&f, fd, code, NULL);
    client_expect_end(&f, fd);
    close(fd);
}

/* N1-CONNECT-050, N1-DST-020, N1-ORD-020 */
START_TEST(test_refusals)
{
    f.config.rules.count = 2;
    f.rules[0] = (struct rule_config){.action = RULE_DENY,
                                      .to = LIST(char *, "secret.example.org", "192.0.2.99/32")};
    f.rules[1] = (struct rule_config){.action = RULE_ALLOW};
    fixture_start(&f);
    expect_refusal("192.0.2.80:0", N1_REP_GENERAL_FAILURE);
    expect_refusal("www.example.org:0", N1_REP_GENERAL_FAILURE);
    expect_refusal("192.0.2.99:80", N1_REP_NOT_ALLOWED);
    expect_refusal("secret.example.org:80", N1_REP_NOT_ALLOWED);
    ck_assert_uint_eq(f.dns.queries, 0);
    ck_assert_uint_eq(COUNT(&f, COUNTER_DENIED_RULE), 2);
    expect_refusal("nobody.example.org:80", N1_REP_HOST_UNREACHABLE);
    expect_refusal("inner.example.org:80", N1_REP_NOT_ALLOWED);
    expect_refusal("127.0.0.1:80", N1_REP_NOT_ALLOWED);
    expect_refusal("0.0.0.0:80", N1_REP_NOT_ALLOWED);
    ck_assert_uint_eq(COUNT(&f, COUNTER_DENIED_FLOOR), 3);
    ck_assert_uint_eq(relayd->orders, 0);
}
END_TEST

/* Rules can tell the commands apart. */
START_TEST(test_rules_on_commands)
{
    int transparent = N1_CMD_TRANSPARENT;
    f.rules[0].commands = (struct config_list){&transparent, 1};
    fixture_start(&f);
    expect_refusal(TARGET, N1_REP_NOT_ALLOWED);
    ask(&f, PTCL_TCP, TARGET, OWN_SOURCE, N1_REP_SUCCEEDED);
}
END_TEST

/* N1-CONNECT-020 */
START_TEST(test_what_relayd_says)
{
    static const struct {
        enum n2_error error;
        uint8_t reply;
    } cases[] = {
        {N2_ERROR_GENERAL, 1},     {N2_ERROR_NOT_ALLOWED, 2},
        {N2_ERROR_TIMED_OUT, 6},   {N2_ERROR_NETWORK_UNREACHABLE, 3},
        {N2_ERROR_REFUSED, 5},     {N2_ERROR_HOST_UNREACHABLE, 4},
        {N2_ERROR_UNSUPPORTED, 1}, {N2_ERROR_DRAINING, 1},
    };
    relayd->answer = FAKE_FAILS;
    fixture_start(&f);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        relayd->error = cases[i].error;
        expect_refusal(TARGET, cases[i].reply);
    }
    ck_assert_uint_eq(sizeof(cases) / sizeof(cases[0]), N2_ERROR_END - 1);
    ck_assert_uint_eq(relayd->attached_count, 0);
}
END_TEST

/* ---- handing over ---------------------------------------------------------------------------- */

/* N1-HAND-010 */
START_TEST(test_connection_is_handed_over)
{
    fixture_start(&f);
    close(
        client_connect(&f)); /* the loop's first connection makes it open a descriptor of its own */
    WAIT_FOR(&f, f.set.count == 0);
    const unsigned before = count_fds();
    f.gone = 0;
    int fd = connect_to(TARGET);
    client_expect_reply(&f, fd, 0, BOUND);
    const int handed = expect_attached(1, "", 0);
    fixture_settle(&f);
    ck_assert_uint_eq(count_fds(), before + 2); /* the client's and relayd's */
    ck_assert_uint_eq(COUNT(&f, COUNTER_HANDED_OVER), 1);
    ck_assert_uint_eq(COUNT(&f, COUNTER_RELAYS_OPEN), 1);
    ck_assert_uint_ge(f.gone, 1); /* whoever waits for a descriptor hears of it */
    ck_assert_ptr_null(f.set.others->handshake);
    expect_alive(fd, handed);
    /* the client's end is no business of socksd any more */
    close(fd);
    fixture_settle(&f);
    ck_assert_uint_eq(relayd->closes, 0);
    ck_assert_uint_eq(f.set.count, 1);
    fake_relayd_send_closed(relayd, 1, N2_REASON_FINISHED);
    WAIT_FOR(&f, f.set.count == 0);
}
END_TEST

static char upload[3 * N2_EARLY_DATA_MAX];

static void fill_upload(void)
{
    for (size_t i = 0; i < sizeof(upload); i++)
        upload[i] = (char)(i * 7 + i / 256);
}

/* Whatever the client sends ahead, and however it is cut, arrives once and in order. */
static void send_ahead(size_t length, size_t chunk, bool at_once)
{
    uint8_t all[3 + N1_REQUEST_MAX + sizeof(upload)] = {5, 1, 0};
    size_t used = 3, sent = 0;

    fill_upload();
    relayd->answer = FAKE_HOLDS;
    used += classic_encode(all + used, N1_REQUEST_MAX, N1_CMD_CONNECT, TARGET);
    memcpy(all + used, upload, length);
    used += length;
    int fd = client_connect(&f);
    while (sent < used) {
        const size_t next = at_once || used - sent < chunk ? used - sent : chunk;
        client_send(fd, all + sent, next);
        sent += next;
        uv_run(&f.loop, UV_RUN_NOWAIT);
    }
    client_expect(&f, fd, "\x05\x00", 2);
    const size_t early = length < N2_EARLY_DATA_MAX ? length : N2_EARLY_DATA_MAX;
    WAIT_FOR(&f, relayd->held_count == 1 && f.set.handshaking->handshake->length == early);
    const size_t attached = relayd->attached_count;
    relayd->answer = FAKE_OPENS;
    fake_relayd_answer_held(relayd);
    client_expect_reply(&f, fd, 0, BOUND);
    WAIT_FOR(&f, relayd->attached_count > attached);
    const struct fake_attached *to = &relayd->attached[attached];
    ck_assert_uint_eq(to->early_length, early);
    ck_assert_mem_eq(to->early, upload, early);
    for (size_t at = early; at < length; at += 256)
        client_expect(&f, to->fd, upload + at, length - at < 256 ? length - at : 256);
    expect_alive(fd, to->fd);
    close(fd);
}

/* N1-CONN-060, N1-HAND-020 */
START_TEST(test_early_data)
{
    static const size_t lengths[] = {
        0, 1, 100, N2_EARLY_DATA_MAX - 1, N2_EARLY_DATA_MAX, N2_EARLY_DATA_MAX + 1, sizeof(upload)};
    fixture_start(&f);
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        send_ahead(lengths[i], 0, true);
        send_ahead(lengths[i], 1000, false);
    }
    send_ahead(100, 1, false);
}
END_TEST

/* N1-CONNECT-040, N1-HAND-040: `printf … | nc -N`: the client's FIN while the relay is dialling is
 * the end of its data. */
START_TEST(test_half_close_while_dialling)
{
    char octet;
    relayd->answer = FAKE_HOLDS;
    fixture_start(&f);
    int fd = connect_to(TARGET);
    client_send(fd, "bye", 3);
    shutdown(fd, SHUT_WR);
    WAIT_FOR(&f, relayd->held_count == 1);
    client_expect_silence(&f, fd);
    relayd->answer = FAKE_OPENS;
    fake_relayd_answer_held(relayd);
    client_expect_reply(&f, fd, 0, BOUND);
    const int handed = expect_attached(1, "bye", 3);
    ck_assert_int_eq(recv(handed, &octet, 1, 0), 0);
    client_send(handed, "answer", 6);
    client_expect(&f, fd, "answer", 6);
    close(fd);
}
END_TEST

/* N1-CONNECT-040: … also when it comes with the name still being looked up, and when nothing can be
 * opened. */
START_TEST(test_half_close_and_refusal)
{
    relayd->answer = FAKE_HOLDS;
    relayd->error = N2_ERROR_REFUSED;
    fixture_start(&f);
    int fd = connect_to("www.example.org:80");
    shutdown(fd, SHUT_WR);
    WAIT_FOR(&f, relayd->held_count == 1);
    fixture_settle(&f);
    relayd->answer = FAKE_FAILS;
    fake_relayd_answer_held(relayd);
    client_expect_reply(&f, fd, N1_REP_REFUSED, NULL);
    client_expect_end(&f, fd);
    WAIT_FOR(&f, f.set.count == 0);
    close(fd);
}
END_TEST

/* N1-CONNECT-040 */
START_TEST(test_reset_while_dialling)
{
    const struct linger abort_it = {.l_onoff = 1, .l_linger = 0};
    relayd->answer = FAKE_HOLDS;
    fixture_start(&f);
    int fd = connect_to(TARGET);
    WAIT_FOR(&f, relayd->held_count == 1);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &abort_it, sizeof(abort_it));
    close(fd);
    WAIT_FOR(&f, f.set.count == 0);
    relayd->answer = FAKE_OPENS;
    fake_relayd_answer_held(relayd);
    WAIT_FOR(&f, relayd->closes == 1);
    ck_assert_uint_eq(relayd->attached_count, 0);
}
END_TEST

/* ---- a reply that cannot be sent yet --------------------------------------------------------- */

/* A session whose reply waits for the client to read; `octets` come before it. */
static int stuck_reply(size_t *octets)
{
    uint8_t request[3 + N1_REQUEST_MAX] = {5, 1, 0};
    fixture_start(&f);
    int fd = client_connect_full(&f, octets);
    client_send(fd, request,
                3 + classic_encode(request + 3, N1_REQUEST_MAX, N1_CMD_CONNECT, TARGET));
    WAIT_FOR(&f, COUNT(&f, COUNTER_RELAYS_OPEN) == 1);
    fixture_settle(&f);
    ck_assert_uint_eq(relayd->attached_count, 0); /* not before the reply has gone */
    return fd;
}

/* N1-HAND-010 */
START_TEST(test_reply_goes_before_the_connection)
{
    size_t octets;
    int fd = stuck_reply(&octets);
    client_drain(&f, fd, octets);
    client_expect(&f, fd, "\x05\x00", 2);
    client_expect_reply(&f, fd, 0, BOUND);
    expect_alive(fd, expect_attached(1, "", 0));
    close(fd);
}
END_TEST

/* N1-HAND-020: Octets and FIN that come then are left for relayd to read. */
START_TEST(test_half_close_before_the_reply)
{
    char octet;
    size_t octets;
    int fd = stuck_reply(&octets);
    client_send(fd, "bye", 3);
    shutdown(fd, SHUT_WR);
    fixture_settle(&f);
    client_drain(&f, fd, octets);
    client_expect(&f, fd, "\x05\x00", 2);
    client_expect_reply(&f, fd, 0, BOUND);
    const int handed = expect_attached(1, "", 0);
    client_expect(&f, handed, "bye", 3);
    ck_assert_int_eq(recv(handed, &octet, 1, 0), 0);
    ck_assert_uint_eq(relayd->closes, 0);
    close(fd);
}
END_TEST

START_TEST(test_relay_ends_before_the_reply)
{
    size_t octets;
    int fd = stuck_reply(&octets);
    fake_relayd_send_closed(relayd, 1, N2_REASON_ACCEPT_TIMEOUT);
    WAIT_FOR(&f, COUNT(&f, COUNTER_RELAYS_OPEN) == 0);
    client_drain(&f, fd, octets);
    client_expect(&f, fd, "\x05\x00", 2);
    client_expect_reply(&f, fd, 0, BOUND);
    client_expect_end(&f, fd); /* no descriptor keeps it open */
    ck_assert_uint_eq(relayd->attached_count, 0);
    close(fd);
}
END_TEST

START_TEST(test_stop_before_the_reply)
{
    size_t octets;
    relayd->keeps_closed = true;
    int fd = stuck_reply(&octets);
    session_set_stop(&f.set);
    WAIT_FOR(&f, relayd->closes == 1);
    ck_assert_int_eq(relayd->last_close.reason, N2_REASON_SHUTDOWN);
    client_drain(&f, fd, octets);
    client_expect_end(&f, fd); /* … nor does the wait for the last counters */
    ck_assert_int_eq(f.set.others->state, SESSION_ST_ENDING);
    fake_relayd_send_closed(relayd, 1, N2_REASON_SHUTDOWN);
    WAIT_FOR(&f, f.set.count == 0);
    close(fd);
}
END_TEST

/* N1-HAND-030: Without a descriptor for relayd the client is told so, instead of 00 and the end. */
START_TEST(test_out_of_descriptors)
{
    struct rlimit limit, none;
    relayd->answer = FAKE_HOLDS;
    fixture_start(&f);
    int fd = connect_to(TARGET);
    WAIT_FOR(&f, relayd->held_count == 1);
    relayd->answer = FAKE_OPENS;
    fake_relayd_answer_held(relayd);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = limit;
    none.rlim_cur = 0;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    client_expect_reply(&f, fd, N1_REP_GENERAL_FAILURE, NULL);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    WAIT_FOR(&f, relayd->closes == 1);
    ck_assert_int_eq(relayd->last_close.reason, N2_REASON_ERROR);
    client_expect_end(&f, fd);
    close(fd);
    WAIT_FOR(&f, f.set.count == 0);
}
END_TEST

/* ---- after it -------------------------------------------------------------------------------- */

/* The loss of N2 is relayd's end; what it has of the client's is not ours to close. */
START_TEST(test_n2_loss_after_handing_over)
{
    fixture_start(&f);
    int fd = connect_to(TARGET);
    client_expect_reply(&f, fd, 0, BOUND);
    const int handed = expect_attached(1, "", 0);
    fake_relayd_drop_links(relayd);
    WAIT_FOR(&f, f.set.count == 0);
    ck_assert_uint_eq(COUNT(&f, COUNTER_RELAYS_LOST), 1);
    expect_alive(fd, handed);
    close(fd);
}
END_TEST

START_TEST(test_stop_after_handing_over)
{
    relayd->keeps_closed = true;
    fixture_start(&f);
    int fd = connect_to(TARGET);
    client_expect_reply(&f, fd, 0, BOUND);
    (void)expect_attached(1, "", 0);
    session_set_stop(&f.set);
    WAIT_FOR(&f, relayd->closes == 1);
    ck_assert_int_eq(relayd->last_close.reason, N2_REASON_SHUTDOWN);
    fixture_settle(&f);
    ck_assert_uint_eq(f.set.count, 1);
    fake_relayd_send_closed(relayd, 1, N2_REASON_SHUTDOWN);
    WAIT_FOR(&f, f.set.count == 0);
    close(fd);
}
END_TEST

START_TEST(test_limits_count_handed_sessions)
{
    f.config.limits.sessions_per_address = 1;
    fixture_start(&f);
    int first = connect_to(TARGET);
    client_expect_reply(&f, first, 0, BOUND);
    (void)expect_attached(1, "", 0);
    int second = client_connect(&f);
    client_expect_end(&f, second);
    fake_relayd_send_closed(relayd, 1, N2_REASON_FINISHED);
    WAIT_FOR(&f, f.set.count == 0);
    int third = connect_to(TARGET);
    client_expect_reply(&f, third, 0, BOUND);
    close(first);
    close(second);
    close(third);
}
END_TEST

/* N2-BIND-030, N2-AUTH-070: Only a BIND awaits a peer, only an association asks for destinations.
 */
START_TEST(test_unpermitted_messages_end_n2)
{
    fixture_start(&f);
    for (uint64_t i = 0; i < 2; i++) {
        int fd = connect_to(TARGET);
        client_expect_reply(&f, fd, 0, BOUND);
        WAIT_FOR(&f, relayd->attached_count == i + 1);
        if (i == 0)
            fake_relayd_send_connected(relayd, relayd->next_relay - 1, TARGET);
        else
            fake_relayd_ask(relayd, relayd->next_relay - 1, TARGET);
        WAIT_FOR(&f, COUNT(&f, COUNTER_N2_LOSSES) == i + 1);
        WAIT_FOR(&f, COUNT(&f, COUNTER_N2_CONNECTED) == 1);
        close(fd);
    }
}
END_TEST

static Suite *connect_suite(void)
{
    Suite *suite = suite_create("connect");
    TCase *tests = tcase_create("connect");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, test_order_carries_the_request);
    tcase_add_test(tests, test_candidates_interleave);
    tcase_add_test(tests, test_denied_candidates_are_left_out);
    tcase_add_loop_test(tests, test_family_without_an_answer, 0, 2);
    tcase_add_test(tests, test_candidates_are_bounded);
    tcase_add_test(tests, test_refusals);
    tcase_add_test(tests, test_rules_on_commands);
    tcase_add_test(tests, test_what_relayd_says);
    tcase_add_test(tests, test_connection_is_handed_over);
    tcase_add_test(tests, test_early_data);
    tcase_add_test(tests, test_half_close_while_dialling);
    tcase_add_test(tests, test_half_close_and_refusal);
    tcase_add_test(tests, test_reset_while_dialling);
    tcase_add_test(tests, test_reply_goes_before_the_connection);
    tcase_add_test(tests, test_half_close_before_the_reply);
    tcase_add_test(tests, test_relay_ends_before_the_reply);
    tcase_add_test(tests, test_stop_before_the_reply);
    tcase_add_test(tests, test_out_of_descriptors);
    tcase_add_test(tests, test_n2_loss_after_handing_over);
    tcase_add_test(tests, test_stop_after_handing_over);
    tcase_add_test(tests, test_limits_count_handed_sessions);
    tcase_add_test(tests, test_unpermitted_messages_end_n2);
    suite_add_tcase(suite, tests);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(connect_suite());
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
