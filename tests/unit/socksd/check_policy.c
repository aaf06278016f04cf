/*
 * Rules as tables: what matches, what decides, and what can be said before the address is known.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <check.h>

#include "proto/ptcl.h"
#include "socksd/policy/policy.h"

static struct socksd_config config;
static struct policy *policy;

/* `rules` is the YAML of the list. */
static void load(const char *rules)
{
    static const char relays[] = "relays: [{ptcl: tcp, socket: /x}]\nrules:\n";
    char text[4096];
    struct config_error error;
    snprintf(text, sizeof(text), "%s%s", relays, rules);
    ck_assert_msg(socksd_config_load_text(&config, "test", text, &error) == 0, "%s", error.text);
    ck_assert_int_eq(policy_new(&policy, &config.rules), 0);
    socksd_config_free(&config); /* the policy owns what it needs */
}

static void teardown(void)
{
    policy = policy_free(policy);
}

struct question {
    const char *client;
    const char *name;    /* or NULL */
    const char *address; /* or NULL: not known yet */
    uint16_t port;
    uint8_t ptcl, command;
    enum policy_verdict verdict;
    const char *rule; /* NULL: none */
};

static void ask(const struct question *q)
{
    struct ip_address address;
    struct policy_request request = {.name = q->name,
                                     .name_length = q->name ? strlen(q->name) : 0,
                                     .port = q->port,
                                     .ptcl = q->ptcl,
                                     .command = q->command};
    ck_assert_int_eq(ip_address_parse(q->client, &request.client), 0);
    if (q->address) {
        ck_assert_int_eq(ip_address_parse(q->address, &address), 0);
        request.address = &address;
    }
    const struct policy_answer answer = policy_judge(policy, &request);
    const char *rule = answer.rule ? answer.rule->label : NULL;
    ck_assert_msg(answer.verdict == q->verdict && (rule == NULL) == (q->rule == NULL) &&
                      (!rule || strcmp(rule, q->rule) == 0),
                  "%s -> %s (%s) port %u: expected %d by %s, got %d by %s", q->client,
                  q->name ? q->name : "-", q->address ? q->address : "-", q->port, q->verdict,
                  q->rule ? q->rule : "-", answer.verdict, rule ? rule : "-");
}

#define TR N1_CMD_TRANSPARENT
#define ASK_ALL(questions)                                                                         \
    for (size_t i_ = 0; i_ < sizeof(questions) / sizeof((questions)[0]); i_++)                     \
    ask(&(questions)[i_])

START_TEST(test_nothing_matches_is_denied)
{
    static const struct question questions[] = {
        {"127.0.0.1", NULL, "192.0.2.1", 80, 6, TR, POLICY_DENY, NULL},
        {"127.0.0.1", "a.example", NULL, 80, 6, TR, POLICY_DENY, NULL},
        {"::1", NULL, "2001:db8::1", 80, 6, TR, POLICY_DENY, NULL},
    };
    load("  []\n");
    ASK_ALL(questions);
}
END_TEST

START_TEST(test_first_match_wins)
{
    static const struct question questions[] = {
        {"10.0.0.1", NULL, "192.0.2.1", 80, 6, TR, POLICY_DENY, "rule-1"},
        {"10.0.0.1", NULL, "192.0.3.1", 80, 6, TR, POLICY_ALLOW, "wide"},
        {"10.0.0.1", NULL, "192.0.2.128", 80, 6, TR, POLICY_DENY, "rule-1"},
        {"10.0.0.1", NULL, "2001:db8::1", 80, 6, TR, POLICY_DENY, "rule-3"},
    };
    load(
        "  - {action: deny, to: 192.0.2.0/24}\n"
        "  - {name: wide, action: allow, to: 0.0.0.0/0}\n"
        "  - {action: deny}\n");
    ASK_ALL(questions);
}
END_TEST

START_TEST(test_clients)
{
    static const struct question questions[] = {
        {"10.0.0.0", NULL, "192.0.2.1", 80, 6, TR, POLICY_ALLOW, "rule-1"},
        {"10.255.255.255", NULL, "192.0.2.1", 80, 6, TR, POLICY_ALLOW, "rule-1"},
        {"11.0.0.0", NULL, "192.0.2.1", 80, 6, TR, POLICY_DENY, NULL},
        {"9.255.255.255", NULL, "192.0.2.1", 80, 6, TR, POLICY_DENY, NULL},
        {"2001:db8::5", NULL, "192.0.2.1", 80, 6, TR, POLICY_ALLOW, "rule-1"},
        {"2001:db9::5", NULL, "192.0.2.1", 80, 6, TR, POLICY_DENY, NULL},
        {"fe80::1%7", NULL, "192.0.2.1", 80, 6, TR, POLICY_ALLOW, "rule-1"}, /* in whatever scope */
    };
    load("  - {action: allow, from: [10.0.0.0/8, \"2001:db8::/32\", \"fe80::/10\"]}\n");
    ASK_ALL(questions);
}
END_TEST

START_TEST(test_commands_ptcls_and_ports)
{
    static const struct question questions[] = {
        {"10.0.0.1", NULL, "192.0.2.1", 443, PTCL_TCP, TR, POLICY_ALLOW, "rule-1"},
        {"10.0.0.1", NULL, "192.0.2.1", 8000, PTCL_TCP, TR, POLICY_ALLOW, "rule-1"},
        {"10.0.0.1", NULL, "192.0.2.1", 8999, PTCL_TCP, TR, POLICY_ALLOW, "rule-1"},
        {"10.0.0.1", NULL, "192.0.2.1", 9000, PTCL_TCP, TR, POLICY_DENY, NULL},
        {"10.0.0.1", NULL, "192.0.2.1", 442, PTCL_TCP, TR, POLICY_DENY, NULL},
        {"10.0.0.1", NULL, "192.0.2.1", 443, PTCL_UDP, TR, POLICY_DENY, NULL},
        {"10.0.0.1", NULL, "192.0.2.1", 443, PTCL_TCP, N1_CMD_CONNECT, POLICY_DENY, NULL},
        {"10.0.0.1", NULL, "192.0.2.1", 443, PTCL_TCP, N1_CMD_UDP_ASSOCIATE, POLICY_DENY, NULL},
        {"10.0.0.1", NULL, "192.0.2.1", 1, PTCL_UDP, N1_CMD_BIND, POLICY_ALLOW, "rule-2"},
    };
    load(
        "  - {action: allow, commands: transparent, ptcl: 6, ports: [443, 8000-8999]}\n"
        "  - {action: allow, commands: [connect, bind], ptcl: [udp]}\n");
    ASK_ALL(questions);
}
END_TEST

START_TEST(test_names)
{
    static const struct question questions[] = {
        {"10.0.0.1", "www.example.org", "192.0.2.1", 80, 6, TR, POLICY_ALLOW, "rule-1"},
        {"10.0.0.1", "WWW.EXAMPLE.ORG.", "192.0.2.1", 80, 6, TR, POLICY_ALLOW, "rule-1"},
        {"10.0.0.1", "a.www.example.org", "192.0.2.1", 80, 6, TR, POLICY_DENY, NULL},
        {"10.0.0.1", "example.org", "192.0.2.1", 80, 6, TR, POLICY_DENY, NULL},
        {"10.0.0.1", "wwwxexample.org", "192.0.2.1", 80, 6, TR, POLICY_DENY, NULL},
        {"10.0.0.1", "example.net", "192.0.2.1", 80, 6, TR, POLICY_ALLOW,
         "rule-2"}, /* the domain itself */
        {"10.0.0.1", "a.b.example.net", "192.0.2.1", 80, 6, TR, POLICY_ALLOW, "rule-2"},
        {"10.0.0.1", "notexample.net", "192.0.2.1", 80, 6, TR, POLICY_DENY, NULL},
        {"10.0.0.1", "example.net.evil", "192.0.2.1", 80, 6, TR, POLICY_DENY, NULL},
        {"10.0.0.1", "net", "192.0.2.1", 80, 6, TR, POLICY_DENY, NULL},
        {"10.0.0.1", NULL, "192.0.2.1", 80, 6, TR, POLICY_DENY, NULL}, /* asked for by address */
    };
    load(
        "  - {action: allow, to: www.example.org}\n"
        "  - {action: allow, to: .Example.NET}\n");
    ASK_ALL(questions);
}
END_TEST

START_TEST(test_name_or_address)
{
    static const struct question questions[] = {
        {"10.0.0.1", "www.example.org", "203.0.113.1", 80, 6, TR, POLICY_ALLOW, "rule-1"},
        {"10.0.0.1", "other.example", "192.0.2.1", 80, 6, TR, POLICY_ALLOW, "rule-1"},
        {"10.0.0.1", "other.example", "203.0.113.1", 80, 6, TR, POLICY_DENY, NULL},
    };
    load("  - {action: allow, to: [.example.org, 192.0.2.0/24]}\n");
    ASK_ALL(questions);
}
END_TEST

/* Without an address: denied only if no address could change it. */
START_TEST(test_before_the_look_up)
{
    static const struct question questions[] = {
        {"10.0.0.1", "bad.example", NULL, 80, 6, TR, POLICY_UNDECIDED,
         NULL}, /* rule-1 may allow first */
        {"10.0.0.1", "ok.example", NULL, 80, 6, TR, POLICY_UNDECIDED, NULL},
        {"10.0.0.1", "ok.example", NULL, 25, 6, TR, POLICY_DENY, "rule-2"},
        {"10.0.0.1", "x", NULL, 80, 17, TR, POLICY_DENY, "rule-5"},
        {"172.16.0.1", "bad.example", NULL, 80, 6, TR, POLICY_DENY, "rule-3"},
        {"172.16.0.1", "ok.example", NULL, 80, 6, TR, POLICY_UNDECIDED, NULL},
    };
    load(
        "  - {action: allow, from: 10.0.0.0/8, to: 192.0.2.0/24, ports: 80, ptcl: tcp}\n"
        "  - {action: deny, ports: 25}\n"
        "  - {action: deny, to: bad.example}\n"
        "  - {action: allow, to: .example}\n"
        "  - {action: deny, ptcl: udp}\n");
    ASK_ALL(questions);
}
END_TEST

START_TEST(test_deny_that_depends_does_not_decide)
{
    static const struct question questions[] = {
        {"10.0.0.1", "a.example", NULL, 80, 6, TR, POLICY_UNDECIDED, NULL},
        {"10.0.0.1", "a.example", "10.1.1.1", 80, 6, TR, POLICY_DENY, "rule-1"},
        {"10.0.0.1", "a.example", "192.0.2.1", 80, 6, TR, POLICY_ALLOW, "rule-2"},
    };
    load(
        "  - {action: deny, to: 10.0.0.0/8}\n"
        "  - {action: allow}\n");
    ASK_ALL(questions);
}
END_TEST

START_TEST(test_foreign_source)
{
    struct ip_address inside, outside;
    ck_assert_int_eq(ip_address_parse("10.0.0.1", &inside), 0);
    ck_assert_int_eq(ip_address_parse("192.0.2.1", &outside), 0);
    load(
        "  - {action: deny, foreign-source: true}\n"
        "  - {action: allow, foreign-source: true, from: 10.0.0.0/8, ptcl: udp, to: 192.0.2.1}\n"
        "  - {action: allow}\n");
    ck_assert(policy_may_use_foreign_source(policy, &inside, TR, PTCL_UDP));
    ck_assert(!policy_may_use_foreign_source(policy, &inside, TR, PTCL_TCP));
    ck_assert(!policy_may_use_foreign_source(policy, &outside, TR, PTCL_UDP));
}
END_TEST

static const char *may_allow(const char *client, uint8_t command)
{
    struct ip_address address;
    ck_assert_int_eq(ip_address_parse(client, &address), 0);
    const struct rule *rule = policy_may_allow(policy, &address, command, PTCL_UDP);
    return rule ? rule->label : "none";
}

/* Some destination, whichever: what is narrow does not decide, what is not does. */
START_TEST(test_may_allow)
{
    load(
        "  - {name: narrow, action: deny, ports: 25}\n"
        "  - {name: other, action: allow, commands: connect}\n"
        "  - {name: tcp, action: allow, ptcl: tcp}\n"
        "  - {name: dns, action: allow, from: 10.0.0.0/8, commands: udp-associate, ports: 53}\n"
        "  - {name: local, action: deny, to: 10.0.0.0/8}\n"
        "  - {name: rest, action: deny, from: [10.0.0.0/8, 192.0.2.0/24]}\n"
        "  - {name: late, action: allow}\n");
    ck_assert_str_eq(may_allow("10.0.0.1", N1_CMD_UDP_ASSOCIATE), "dns");
    ck_assert_str_eq(may_allow("10.0.0.1", N1_CMD_BIND), "none");
    ck_assert_str_eq(may_allow("192.0.2.1", N1_CMD_UDP_ASSOCIATE), "none");
    ck_assert_str_eq(may_allow("198.51.100.1", N1_CMD_UDP_ASSOCIATE), "late");
}
END_TEST

START_TEST(test_generations_differ)
{
    struct policy *other;
    load("  - {action: allow}\n");
    ck_assert_int_eq(policy_new(&other, &(struct config_list){NULL, 0}), 0);
    ck_assert_uint_ne(policy_generation(policy), 0);
    ck_assert_uint_ne(policy_generation(policy), policy_generation(other));
    policy_free(other);
}
END_TEST

START_TEST(test_targets)
{
    static const struct {
        const char *text;
        bool valid;
    } cases[] = {
        {"10.0.0.0/8", true},
        {"192.0.2.1", true},
        {"2001:db8::/32", true},
        {"::/0", true},
        {"www.example.org", true},
        {".example.org", true},
        {"example.org.", true},
        {"a_b.example", true},
        {"10.0.0.1/8", false},
        {"10.0.0.0/33", false},
        {"10.0.0", false},
        {"1.2.3.4.5", false},
        {"2001:db8::1::", false},
        {"", false},
        {".", false},
        {"..example", false},
        {"*.example.org", false},
        {"a b", false},
        {"a..b", false},
        {"http://example.org", false},
    };
    struct rule_target target;
    char why[128];
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        ck_assert_msg((rule_target_parse(cases[i].text, &target, why, sizeof(why)) == 0) ==
                          cases[i].valid,
                      "%s", cases[i].text);
}
END_TEST

static Suite *policy_suite(void)
{
    Suite *suite = suite_create("policy");
    TCase *tests = tcase_create("policy");
    tcase_add_checked_fixture(tests, NULL, teardown);
    tcase_add_test(tests, test_nothing_matches_is_denied);
    tcase_add_test(tests, test_first_match_wins);
    tcase_add_test(tests, test_clients);
    tcase_add_test(tests, test_commands_ptcls_and_ports);
    tcase_add_test(tests, test_names);
    tcase_add_test(tests, test_name_or_address);
    tcase_add_test(tests, test_before_the_look_up);
    tcase_add_test(tests, test_deny_that_depends_does_not_decide);
    tcase_add_test(tests, test_foreign_source);
    tcase_add_test(tests, test_may_allow);
    tcase_add_test(tests, test_generations_differ);
    tcase_add_test(tests, test_targets);
    suite_add_tcase(suite, tests);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(policy_suite());
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
