/*
 * UDP ASSOCIATE: whose datagrams the relay takes, how long it lives, and what it may send where.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/ptcl.h"
#include "tests/unit/socksd/requests.h"

static struct fixture f;
static struct fake_relayd *const relayd = &f.fake[0];

static const struct fake_dns_record records[] = {
    {"www.example.org", "2001:db8::80"},  {"www.example.org", "192.0.2.80"},
    {"www.example.org", "192.0.2.81"},    {"inner.example.org", "127.0.0.1"},
    {"mixed.example.org", "10.0.0.1"},    {"mixed.example.org", "192.0.2.82"},
    {"secret.example.org", "192.0.2.83"}, {NULL, NULL},
};

static void setup(void)
{
    fixture_init(&f);
    f.records = records;
    relayd->ptcl = PTCL_UDP;
}

static void teardown(void)
{
    fixture_stop(&f);
}

#define NO_HINT "0.0.0.0:0"

static int associate(const char *hint)
{
    int fd = client_classic(&f, N1_CMD_UDP_ASSOCIATE, hint);
    client_expect_reply(&f, fd, 0, BOUND);
    return fd;
}

/* ---- the order ------------------------------------------------------------------------------- */

static void expect_source(const char *source)
{
    char text[ENDPOINT_TEXT_MAX];
    const struct n2_open_relay *order = &relayd->last_order;
    ck_assert_int_eq(order->kind, N2_KIND_UDP_ASSOCIATE);
    ck_assert_uint_eq(order->ptcl, PTCL_UDP);
    ck_assert_uint_eq(order->destination_count, 0);
    ck_assert_str_eq(endpoint_format(&order->source, text, sizeof(text)), source);
    ck_assert(order->learn_source_port == (order->source.port == 0));
    ck_assert_str_eq(ip_address_format(&order->bound_hint, text, sizeof(text)), "127.0.0.1");
    ck_assert_str_eq(order->rule, "rule-1");
}

/* N1-UDP-030, N1-UDP-060: The source is the control connection's peer, whatever the client writes;
 * only its own port is believed. */
START_TEST(test_hints)
{
    static const struct {
        const char *hint, *source;
    } cases[] = {
        {"127.0.0.1:5353", "127.0.0.1:5353"},
        {"127.0.0.1:0", "127.0.0.1:0"},
        {NO_HINT, "127.0.0.1:0"},
        {"0.0.0.0:5353", "127.0.0.1:0"},
        {"[::]:5353", "127.0.0.1:0"},
        {"192.0.2.80:53", "127.0.0.1:0"},
        {"[2001:db8::80]:53", "127.0.0.1:0"},
        {"www.example.org:53", "127.0.0.1:0"},
        {"127.0.0.2:5353", "127.0.0.1:0"},
        {"192.168.1.2:5353", "127.0.0.1:0"},
    };
    fixture_start(&f);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int fd = associate(cases[i].hint);
        expect_source(cases[i].source);
        ck_assert_uint_eq(f.set.others->destination.address.family, IP_NONE);
        close(fd);
        WAIT_FOR(&f, f.set.count == 0);
    }
    ck_assert_uint_eq(f.dns.queries, 0);
}
END_TEST

/* N1-UDP-040: An association is refused if no rule could let it send anywhere. */
START_TEST(test_rules_on_associations)
{
    int others = N1_CMD_CONNECT;
    f.config.rules.count = 3;
    f.rules[0] = (struct rule_config){.action = RULE_ALLOW, .commands = {&others, 1}};
    f.rules[1] = (struct rule_config){.action = RULE_DENY};
    f.rules[2] = (struct rule_config){.action = RULE_ALLOW};
    fixture_start(&f);
    int fd = client_classic(&f, N1_CMD_UDP_ASSOCIATE, NO_HINT);
    client_expect_reply(&f, fd, N1_REP_NOT_ALLOWED, NULL);
    client_expect_end(&f, fd);
    ck_assert_uint_eq(COUNT(&f, COUNTER_DENIED_RULE), 1);
    ck_assert_uint_eq(relayd->orders, 0);
    close(fd);
}
END_TEST

START_TEST(test_malformed_hint)
{
    fixture_start(&f);
    ask_both_ways(&f, BYTES(5, 3, 0, 3, 3, 'a', 0, 'b', 0, 53), N1_REP_GENERAL_FAILURE);
    ask_both_ways(&f, BYTES(5, 3, 0, 3, 0, 0, 53), N1_REP_GENERAL_FAILURE);
    ask_both_ways(&f, BYTES(5, 3, 0, 1, 0, 0, 0, 0, 0, 0), N1_REP_SUCCEEDED);
}
END_TEST

/* ---- its life -------------------------------------------------------------------------------- */

/* N1-UDP-050: The control connection stays here, is read, and its end is the association's. */
START_TEST(test_control_connection_holds_it)
{
    char junk[1024] = {0};
    fixture_start(&f);
    int fd = associate(NO_HINT);
    client_send(fd, junk, sizeof(junk));
    client_expect_silence(&f, fd);
    ck_assert_uint_eq(relayd->closes, 0);
    ck_assert_uint_eq(relayd->attached_count, 0);
    shutdown(fd, SHUT_WR);
    WAIT_FOR(&f, relayd->closes == 1);
    ck_assert_int_eq(relayd->last_close.reason, N2_REASON_CONTROL_CLOSED);
    close(fd);
}
END_TEST

START_TEST(test_end_of_the_relay_ends_it)
{
    fixture_start(&f);
    int fd = associate(NO_HINT);
    fake_relayd_send_closed(relayd, 1, N2_REASON_ADMIN);
    client_expect_end(&f, fd);
    close(fd);
}
END_TEST

/* ---- destinations ---------------------------------------------------------------------------- */

/* Asks, and waits for the verdict. */
static const struct n2_authorized *verdict_on(const char *destination)
{
    const unsigned before = relayd->verdicts;
    fake_relayd_ask(relayd, relayd->next_relay - 1, destination);
    WAIT_FOR(&f, relayd->verdicts == before + 1);
    ck_assert_uint_eq(relayd->last_verdict.relay, relayd->next_relay - 1);
    ck_assert_uint_eq(relayd->last_verdict.generation, policy_generation(f.policy));
    ck_assert_uint_ge(relayd->last_verdict.ttl_ms, 1000);
    return &relayd->last_verdict;
}

static void expect_allowed(const char *destination, const char *const *addresses)
{
    char text[ENDPOINT_TEXT_MAX];
    const struct n2_authorized *verdict = verdict_on(destination);
    size_t count = 0;

    ck_assert_msg(verdict->allowed, "%s is denied", destination);
    for (; addresses[count]; count++) {
        ck_assert_uint_lt(count, verdict->address_count);
        ck_assert_str_eq(ip_address_format(&verdict->addresses[count], text, sizeof(text)),
                         addresses[count]);
    }
    ck_assert_uint_eq(verdict->address_count, count);
}

static void expect_denied(const char *destination)
{
    const struct n2_authorized *verdict = verdict_on(destination);
    ck_assert_msg(!verdict->allowed, "%s is allowed", destination);
    ck_assert_uint_eq(verdict->address_count, 0);
}

/* N1-UDP-070, N2-AUTH-060 */
START_TEST(test_verdicts_on_addresses)
{
    f.config.rules.count = 3;
    f.rules[0] = (struct rule_config){.action = RULE_DENY, .to = LIST(char *, "10.0.0.0/8")};
    f.rules[1] =
        (struct rule_config){.action = RULE_DENY, .ports = LIST(struct port_range, {25, 25})};
    f.rules[2] = (struct rule_config){.action = RULE_ALLOW};
    fixture_start(&f);
    int fd = client_classic(&f, N1_CMD_UDP_ASSOCIATE, NO_HINT);
    client_expect_reply(&f, fd, 0, BOUND);
    expect_allowed("192.0.2.80:53", (const char *[]){"192.0.2.80", NULL});
    ck_assert_uint_eq(relayd->last_verdict.ttl_ms, 60000);
    expect_allowed("[2001:db8::80]:53", (const char *[]){"2001:db8::80", NULL});
    expect_denied("10.1.2.3:53");
    expect_denied("192.0.2.80:25");
    ck_assert_uint_eq(COUNT(&f, COUNTER_DENIED_RULE), 2);
    expect_denied("127.0.0.1:53");
    expect_denied("[::1]:53");
    expect_denied("224.0.0.251:5353");
    expect_denied("255.255.255.255:67");
    expect_denied("[64:ff9b::7f00:1]:53");
    ck_assert_uint_eq(COUNT(&f, COUNTER_DENIED_FLOOR), 5);
    ck_assert_uint_eq(COUNT(&f, COUNTER_DESTINATIONS_ASKED), 9);
    ck_assert_uint_eq(COUNT(&f, COUNTER_DESTINATIONS_REFUSED), 7);
    ck_assert_uint_eq(f.dns.queries, 0);
    client_expect_silence(&f, fd); /* the association is not ended by it */
    close(fd);
}
END_TEST

/* N1-UDP-070, N2-AUTH-060 */
START_TEST(test_verdicts_on_names)
{
    f.config.rules.count = 4;
    f.rules[0] = (struct rule_config){.action = RULE_DENY, .to = LIST(char *, "10.0.0.0/8")};
    f.rules[1] =
        (struct rule_config){.action = RULE_DENY, .to = LIST(char *, "secret.example.org")};
    f.rules[2] = (struct rule_config){.action = RULE_ALLOW, .to = LIST(char *, ".example.org")};
    f.rules[3] = (struct rule_config){.action = RULE_DENY};
    fixture_start(&f);
    int fd = associate(NO_HINT);
    /* those that are allowed, of the client's family first */
    expect_allowed("www.example.org:53",
                   (const char *[]){"192.0.2.80", "192.0.2.81", "2001:db8::80", NULL});
    expect_allowed("mixed.example.org:53", (const char *[]){"192.0.2.82", NULL});
    expect_denied("inner.example.org:53");
    expect_denied("nobody.example.org:53");
    const unsigned queries = f.dns.queries;
    expect_denied("secret.example.org:53");
    expect_denied("www.example.com:53");
    expect_denied("192.0.2.80:53"); /* asked for by address */
    expect_denied("..:53");
    ck_assert_uint_eq(f.dns.queries, queries);
    close(fd);
}
END_TEST

/* N1-UDP-080: A verdict on a name is good as long as its records, within bounds. */
START_TEST(test_ttl_of_names)
{
    static const struct {
        uint32_t ttl_s, ttl_ms;
    } cases[] = {{0, 1000},     {1, 1000},     {2, 2000},
                 {300, 300000}, {301, 300000}, {0x7fffffff, 300000}};
    fixture_start(&f);
    int fd = associate(NO_HINT);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        f.dns.ttl_s = cases[i].ttl_s;
        ck_assert_uint_eq(verdict_on("www.example.org:53")->ttl_ms, cases[i].ttl_ms);
    }
    close(fd);
}
END_TEST

static void ask_for_names(unsigned count)
{
    char name[32];
    for (unsigned i = 0; i < count; i++) {
        snprintf(name, sizeof(name), "n%u.example.org:53", i);
        fake_relayd_ask(relayd, relayd->next_relay - 1, name);
    }
}

/* N1-UDP-080 */
START_TEST(test_look_ups_of_a_session_are_bounded)
{
    f.config.resolver.queries = 1000;
    fixture_start(&f);
    f.dns.silent = true;
    int fd = associate(NO_HINT);
    ask_for_names(AUTHORIZATIONS_PER_SESSION + 3);
    WAIT_FOR(&f, relayd->verdicts == 3);
    ck_assert(!relayd->last_verdict.allowed);
    ck_assert_uint_eq(relayd->last_verdict.ttl_ms, VERDICT_BUSY_MS);
    ck_assert_uint_eq(f.set.authorizations, AUTHORIZATIONS_PER_SESSION);
    ck_assert_uint_eq(COUNT(&f, COUNTER_RESOLVER_IN_FLIGHT), AUTHORIZATIONS_PER_SESSION);
    expect_allowed("192.0.2.80:53", (const char *[]){"192.0.2.80", NULL});
    close(fd);
    WAIT_FOR(&f, f.set.count == 0);
    ck_assert_uint_eq(f.set.authorizations, 0);
}
END_TEST

START_TEST(test_look_ups_in_all_are_bounded)
{
    f.config.resolver.queries = 1000;
    fixture_start(&f);
    int fd = associate(NO_HINT);
    f.set.authorizations += AUTHORIZATIONS_MAX; /* as if others had them */
    expect_denied("www.example.org:53");
    f.set.authorizations -= AUTHORIZATIONS_MAX;
    ck_assert_uint_eq(f.dns.queries, 0);
    close(fd);
}
END_TEST

static void on_nothing(const struct resolver_answer *answer, void *user)
{
    (void)answer;
    (void)user;
    ck_abort_msg("cancelled");
}

/* N1-UDP-080: Half of what the resolver takes is left to requests. */
START_TEST(test_look_ups_leave_room_for_requests)
{
    f.config.resolver.queries = 8;
    fixture_start(&f);
    f.dns.silent = true;
    int fd = associate(NO_HINT);
    ask_for_names(8);
    WAIT_FOR(&f, relayd->verdicts == 4);
    ck_assert_uint_eq(relayd->last_verdict.ttl_ms, VERDICT_BUSY_MS);
    ck_assert_uint_eq(COUNT(&f, COUNTER_RESOLVER_IN_FLIGHT), 4);
    const struct ip_address other = ip_address_v4((const uint8_t[]){192, 0, 2, 9});
    struct resolver_query *request;
    ck_assert_int_eq(
        resolver_lookup(f.resolver, &other, "www.example.org", on_nothing, NULL, &request), 0);
    resolver_cancel(request);
    close(fd);
}
END_TEST

/* N1-NAME-040: Look-ups of associations are part of the client's share. */
START_TEST(test_look_ups_of_an_address_are_bounded)
{
    f.config.resolver.queries_per_address = 2;
    fixture_start(&f);
    f.dns.silent = true;
    int fd = associate(NO_HINT);
    ask_for_names(3);
    WAIT_FOR(&f, relayd->verdicts == 1);
    ck_assert(!relayd->last_verdict.allowed);
    ck_assert_uint_eq(relayd->last_verdict.ttl_ms, VERDICT_BUSY_MS);
    ck_assert_uint_eq(COUNT(&f, COUNTER_RESOLVER_IN_FLIGHT), 2);
    ck_assert_uint_eq(COUNT(&f, COUNTER_RESOLVER_REFUSED_ADDRESS_LIMIT), 1);
    close(fd);
}
END_TEST

/* N2-AUTH-070: The look-ups of an association go with it, however it ends. */
START_TEST(test_look_ups_end_with_the_association)
{
    fixture_start(&f);
    f.dns.silent = true;
    for (int way = 0; way < 3; way++) {
        int fd = associate(NO_HINT);
        ask_for_names(2);
        WAIT_FOR(&f, f.set.authorizations == 2);
        if (way == 0)
            close(fd);
        else if (way == 1)
            fake_relayd_send_closed(relayd, relayd->next_relay - 1, N2_REASON_ADMIN);
        else
            fake_relayd_drop_links(relayd);
        WAIT_FOR(&f, f.set.authorizations == 0);
        if (way > 0) {
            ck_assert_int_eq(f.set.others->state, SESSION_ST_FLUSHING); /* at once */
            close(fd);
        }
        WAIT_FOR(&f, f.set.count == 0);
    }
}
END_TEST

/* N2-AUTH-070: While the association ends it is still answered, by no. */
START_TEST(test_question_of_an_ending_association)
{
    relayd->keeps_closed = true;
    fixture_start(&f);
    close(associate(NO_HINT));
    WAIT_FOR(&f, relayd->closes == 1);
    expect_denied("192.0.2.80:53");
    fake_relayd_send_closed(relayd, 1, N2_REASON_CONTROL_CLOSED);
    WAIT_FOR(&f, f.set.count == 0);
}
END_TEST

/* N2-AUTH-070 */
START_TEST(test_question_of_an_unknown_relay)
{
    fixture_start(&f);
    fake_relayd_ask(relayd, 99, "192.0.2.80:53");
    WAIT_FOR(&f, relayd->verdicts == 1);
    ck_assert(!relayd->last_verdict.allowed);
    ck_assert_uint_eq(relayd->last_verdict.relay, 99);
    ck_assert_uint_eq(COUNT(&f, COUNTER_N2_UNKNOWN_RELAYS), 1);
}
END_TEST

START_TEST(test_peer_for_an_association_ends_n2)
{
    fixture_start(&f);
    int fd = associate(NO_HINT);
    fake_relayd_send_connected(relayd, 1, TARGET);
    WAIT_FOR(&f, COUNT(&f, COUNTER_N2_LOSSES) == 1);
    client_expect_end(&f, fd);
    close(fd);
}
END_TEST

static Suite *associate_suite(void)
{
    Suite *suite = suite_create("associate");
    TCase *tests = tcase_create("associate");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, test_hints);
    tcase_add_test(tests, test_rules_on_associations);
    tcase_add_test(tests, test_malformed_hint);
    tcase_add_test(tests, test_control_connection_holds_it);
    tcase_add_test(tests, test_end_of_the_relay_ends_it);
    tcase_add_test(tests, test_verdicts_on_addresses);
    tcase_add_test(tests, test_verdicts_on_names);
    tcase_add_test(tests, test_ttl_of_names);
    tcase_add_test(tests, test_look_ups_of_a_session_are_bounded);
    tcase_add_test(tests, test_look_ups_in_all_are_bounded);
    tcase_add_test(tests, test_look_ups_leave_room_for_requests);
    tcase_add_test(tests, test_look_ups_of_an_address_are_bounded);
    tcase_add_test(tests, test_look_ups_end_with_the_association);
    tcase_add_test(tests, test_question_of_an_ending_association);
    tcase_add_test(tests, test_question_of_an_unknown_relay);
    tcase_add_test(tests, test_peer_for_an_association_ends_n2);
    suite_add_tcase(suite, tests);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(associate_suite());
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
