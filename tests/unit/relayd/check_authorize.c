/*
 * Questions of UDP ASSOCIATE relays over N2: who is asked, what may be in an answer, and what is
 * left when it comes late, never, or not for us. N2-AUTH-010, N2-AUTH-020, N2-RELAY-020,
 * N2-TRANS-030.
 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "relayd/n2/peer.h"
#include "tests/unit/relayd/fake.h"

static struct fake fake;
static struct n2_peer *peer; /* NULL: gone */
static struct relay *relay;

/* socksd's end. */
static struct n2_link *link_; /* NULL: down */
static bool up;
static unsigned authorizes, failures;
static struct n2_message last;

/* What was asked. */
static struct relay_question question;
static unsigned answers;
static bool answer_came;
static struct n2_authorized answer;

static void client_up(struct n2_link *link, const struct n2_hello *hello, void *user)
{
    (void)link;
    (void)hello;
    (void)user;
    up = true;
}

static void client_message(struct n2_link *link, const struct n2_message *message, int fd,
                           bool stray, void *user)
{
    (void)link;
    (void)fd;
    (void)stray;
    (void)user;
    last = *message;
    authorizes += message->type == N2_AUTHORIZE;
    failures += message->type == N2_RELAY_FAILED;
}

static void client_down(struct n2_link *link, const char *text, void *user)
{
    (void)link;
    (void)text;
    (void)user;
    link_ = NULL;
}

static const struct n2_link_ops client_ops = {
    .up = client_up, .message = client_message, .down = client_down};

static void peer_gone(struct n2_peer *gone, void *user)
{
    (void)user;
    ck_assert_ptr_eq(gone, peer);
    peer = NULL;
}

#define RUN_UNTIL(condition)                                                                       \
    do {                                                                                           \
        while (!(condition))                                                                       \
            uv_run(&fake.loop, UV_RUN_ONCE);                                                       \
    } while (0)

static void on_answered(struct relay_question *asked, const struct n2_authorized *came)
{
    ck_assert_ptr_eq(asked, &question);
    ck_assert_uint_eq(asked->transaction, 0);
    answers++;
    answer_came = came != NULL;
    if (came != NULL)
        answer = *came;
}

static struct n2_open_relay associate_order(uint64_t association)
{
    struct n2_open_relay order = fake_order(association);

    order.kind = N2_KIND_UDP_ASSOCIATE;
    order.ptcl = PTCL_UDP;
    order.destination_count = 0;
    memset(order.destinations, 0, sizeof(order.destinations));
    return order;
}

static void order(const struct n2_open_relay *what)
{
    const struct n2_message message = {
        .transaction = 1000 + what->association, .type = N2_OPEN_RELAY, .open_relay = *what};

    ck_assert_int_eq(n2_link_send(link_, &message, -1), 0);
    last.type = 0;
    RUN_UNTIL(last.type == N2_RELAY_OPENED || last.type == N2_RELAY_FAILED);
}

static void setup(void)
{
    struct n2_peer_config config = {.gone = peer_gone};
    struct n2_link_config client;
    int fds[2];
    uint64_t cursor = 0;

    fake_setup(&fake, 8);
    fake.context.transport = transport_by_ptcl(PTCL_UDP);
    fake.plane.in_open = fake_opened;
    fake.plane.in_close = fake_plane_closed;
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
    n2_link_config_init(&config.link, N2_ROLE_RELAYD);
    config.link.hello.ptcl = PTCL_UDP;
    ck_assert_int_eq(n2_peer_open(&peer, &fake.context, fds[0], &config), 0);
    n2_link_config_init(&client, N2_ROLE_SOCKSD);
    ck_assert_int_eq(n2_link_open(&link_, &fake.loop, fds[1], &client, &client_ops, NULL), 0);
    RUN_UNTIL(up);
    const struct n2_open_relay what = associate_order(1);
    order(&what);
    relay = relay_table_next(fake.context.table, &cursor);
    ck_assert_ptr_nonnull(relay);
    question = (struct relay_question){.relay = relay, .answered = on_answered};
    answers = 0;
}

static void teardown(void)
{
    if (link_ != NULL)
        n2_link_close(link_);
    if (peer != NULL)
        n2_peer_close(peer);
    uv_run(&fake.loop, UV_RUN_DEFAULT);
    fake_teardown(&fake);
}

static struct n2_authorize about(const char *endpoint)
{
    const struct endpoint to = fake_endpoint(endpoint);

    return (struct n2_authorize){.address = to.address, .port = to.port};
}

static void ask(void)
{
    struct n2_authorize what = {.name = "name.example", .port = 53};

    ck_assert_int_eq(relay_authorize(&question, &what), 0);
    ck_assert_uint_ne(question.transaction, 0);
    RUN_UNTIL(authorizes == 1);
    ck_assert_uint_eq(answers, 0);
}

static struct n2_message verdict(void)
{
    return (struct n2_message){
        .transaction = last.transaction,
        .type = N2_AUTHORIZED,
        .authorized = {.relay = last.authorize.relay,
                       .allowed = true,
                       .address_count = 1,
                       .addresses = {fake_endpoint("198.51.100.1:1").address},
                       .ttl_ms = 1234,
                       .generation = 5}};
}

static void say(const struct n2_message *message)
{
    ck_assert_int_eq(n2_link_send(link_, message, -1), 0);
}

/* What was said before has been dealt with. */
static void settle(void)
{
    struct n2_open_relay refused = associate_order(99);

    refused.source.port = 0;
    const unsigned before = failures;
    order(&refused);
    ck_assert_uint_eq(failures, before + 1);
}

START_TEST(a_question_is_answered)
{
    ask();
    ck_assert_uint_eq(last.authorize.relay, relay->id);
    ck_assert_str_eq(last.authorize.name, "name.example");
    ck_assert_uint_eq(last.authorize.port, 53);
    const struct n2_message yes = verdict();
    say(&yes);
    RUN_UNTIL(answers == 1);
    ck_assert(answer_came && answer.allowed);
    ck_assert_uint_eq(answer.address_count, 1);
    ck_assert_uint_eq(answer.ttl_ms, 1234);
    ck_assert_uint_eq(answer.generation, 5);
    say(&yes); /* once more: to nobody */
    settle();
    ck_assert_uint_eq(answers, 1);
    ck_assert_ptr_nonnull(link_);
}
END_TEST

/* The floor holds on both ways: what it forbids is not asked for, and not heard. */
START_TEST(the_floor_holds)
{
    static const char *const forbidden[] = {"127.0.0.1:53", "0.0.0.0:53",   "224.0.0.1:53",
                                            "[::1]:53",     "[fe80::1]:53", "[::]:53"};

    for (size_t i = 0; i < sizeof(forbidden) / sizeof(forbidden[0]); i++) {
        struct n2_authorize what = about(forbidden[i]);
        ck_assert_int_eq(relay_authorize(&question, &what), -EACCES);
    }
    ck_assert_uint_eq(question.transaction, 0);
    ask();
    ck_assert_uint_eq(authorizes, 1);
    struct n2_message yes = verdict();
    yes.authorized.address_count = 4;
    yes.authorized.addresses[0] = fake_endpoint("127.0.0.1:1").address;
    yes.authorized.addresses[1] = fake_endpoint("198.51.100.2:1").address;
    yes.authorized.addresses[2] = fake_endpoint("[::1]:1").address;
    yes.authorized.addresses[3] = fake_endpoint("198.51.100.3:1").address;
    say(&yes);
    RUN_UNTIL(answers == 1);
    ck_assert_uint_eq(answer.address_count, 2);
    ck_assert(ip_address_equal(&answer.addresses[0], &yes.authorized.addresses[1]));
    ck_assert(ip_address_equal(&answer.addresses[1], &yes.authorized.addresses[3]));
}
END_TEST

START_TEST(an_answer_about_another_relay_is_none)
{
    ask();
    struct n2_message yes = verdict();
    yes.authorized.relay++;
    say(&yes);
    RUN_UNTIL(answers == 1);
    ck_assert(!answer_came);
    ck_assert_uint_eq(relayd_metrics_get(&fake.metrics, RELAYD_QUESTIONS_UNANSWERED), 1);
}
END_TEST

START_TEST(a_cancelled_question_is_not_answered)
{
    ask();
    const struct n2_message yes = verdict();
    relay_authorize_cancel(&question);
    relay_authorize_cancel(&question);
    say(&yes);
    settle();
    ck_assert_uint_eq(answers, 0);
    ck_assert_ptr_nonnull(link_);
}
END_TEST

/* When N2 ends, what is asked ends first, then the relays; nobody can be asked any more. */
START_TEST(a_lost_peer_answers_nothing)
{
    ask();
    n2_link_close(link_);
    link_ = NULL;
    RUN_UNTIL(peer == NULL);
    ck_assert_uint_eq(answers, 1);
    ck_assert(!answer_came);
    ck_assert_uint_eq(relay_table_count(fake.context.table), 0);
}
END_TEST

static void ask_while_closing(struct relay *closing)
{
    struct n2_authorize what = about("198.51.100.1:53");

    ck_assert_int_eq(relay_authorize(&question, &what), -ENOTCONN);
    relay_authorize_cancel(&question);
    fake_plane_closed(closing);
}

START_TEST(a_relay_without_a_peer_asks_nobody)
{
    fake.plane.in_close = ask_while_closing;
    n2_peer_close(peer);
    peer = NULL;
    ck_assert_uint_eq(relay_table_count(fake.context.table), 0);
}
END_TEST

/* A generation only grows. */
START_TEST(policy_changed_makes_older_verdicts_void)
{
    static const struct {
        uint64_t told, holds, void_;
    } steps[] = {{5, 5, 4}, {7, 7, 6}, {6, 7, 6}, {UINT64_MAX, UINT64_MAX, UINT64_MAX - 1}};

    ck_assert(relay_verdict_holds(relay, 0));
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        say(&(struct n2_message){.type = N2_POLICY_CHANGED, .policy_generation = steps[i].told});
        settle();
        ck_assert(relay_verdict_holds(relay, steps[i].holds));
        ck_assert(!relay_verdict_holds(relay, steps[i].void_));
    }
}
END_TEST

/* An order of this kind: no destination, and the source's port or the wish to learn it. */
START_TEST(what_an_order_may_be)
{
    struct n2_open_relay what = associate_order(2);

    ck_assert_int_eq(relay->destination.address.family, IP_NONE);
    what.source.port = 0;
    what.learn_source_port = true;
    order(&what);
    ck_assert_int_eq(last.type, N2_RELAY_OPENED);
    what.association = 3;
    what.learn_source_port = false;
    order(&what);
    ck_assert_int_eq(last.type, N2_RELAY_FAILED);
    ck_assert_int_eq(last.relay_failed.error, N2_ERROR_GENERAL);
    what = associate_order(4);
    what.source.address = fake_endpoint("[2001:db8:dead::1]:1").address;
    order(&what);
    ck_assert_int_eq(last.relay_failed.error, N2_ERROR_UNSUPPORTED);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("authorize");
    TCase *tests = tcase_create("authorize");
    SRunner *runner = srunner_create(suite);

    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_question_is_answered);
    tcase_add_test(tests, the_floor_holds);
    tcase_add_test(tests, an_answer_about_another_relay_is_none);
    tcase_add_test(tests, a_cancelled_question_is_not_answered);
    tcase_add_test(tests, a_lost_peer_answers_nothing);
    tcase_add_test(tests, a_relay_without_a_peer_asks_nobody);
    tcase_add_test(tests, policy_changed_makes_older_verdicts_void);
    tcase_add_test(tests, what_an_order_may_be);
    suite_add_tcase(suite, tests);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
