/*
 * Names: as destinations and as sources, with a real name server and with none that answers.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/ptcl.h"
#include "tests/harness/daemons.h"
#include "tests/harness/n1_client.h"
#include "tests/harness/nameserver.h"
#include "tests/harness/traffic.h"
#include "tests/harness/wait.h"

static struct lab *lab;
static struct daemons daemons;

static void setup(void)
{
    lab = lab_new();
    daemons = (struct daemons){.lab = lab};
}

static void teardown(void)
{
    daemons_stop(&daemons);
    lab_free(lab);
}

static void start(const struct daemons_options *options)
{
    daemons = daemons_start(lab, options);
}

/* One association that carries a text there and back. */
static struct association check_echo(const struct association_spec *spec)
{
    struct association association = association_open(lab, spec);
    char text[5];
    association_connect(&association);
    socket_send(association.data, "hello", 5);
    socket_receive_all(association.data, text, 5, PATIENCE_MS);
    ck_assert_mem_eq(text, "hello", 5);
    return association;
}

/* Both directions end in order, and N1 after them. */
static void finish(struct association *association)
{
    shutdown(association->data, SHUT_WR);
    ck_assert_int_eq(socket_wait_end(association->data, PATIENCE_MS), SOCKET_FIN);
    ck_assert_int_eq(socket_wait_end(association->control, PATIENCE_MS), SOCKET_FIN);
    association_close(association);
}

static const char *const records[] = {
    "v4.lab.test. A 10.77.2.2",
    "v6.lab.test. AAAA fd77:2::2",
    "both.lab.test. A 10.77.2.2",
    "both.lab.test. AAAA fd77:2::2",
    "text.lab.test. TXT nothing",
    "choice.lab.test. A 10.77.2.3",
    "choice.lab.test. A 10.77.2.2",
    "loop.lab.test. A 127.0.0.1",
    "mapped.lab.test. AAAA ::ffff:127.0.0.1",
    "secret.lab.test. A 10.77.2.2",
    NULL,
};

static struct association_spec by_name(const char *source, const char *name, uint16_t port)
{
    return (struct association_spec){
        .ptcl = PTCL_TCP, .source = at(source, 0), .name = name, .destination = {.port = port}};
}

/* N1-DST-010, N1-ADDR-010 */
START_TEST(a_name_leads_to_an_address_of_the_family_of_s)
{
    static const struct {
        const char *source, *name, *address;
    } cases[] = {
        {LAB_CLIENT_V4, "v4.lab.test", LAB_TARGET_V4},
        {LAB_CLIENT_V6, "v6.lab.test", LAB_TARGET_V6},
        {LAB_CLIENT_V4, "v6.lab.test", LAB_TARGET_V6},
        {LAB_CLIENT_V6, "v4.lab.test", LAB_TARGET_V4},
        {LAB_CLIENT_V4, "both.lab.test", LAB_TARGET_V4},
        {LAB_CLIENT_V6, "both.lab.test", LAB_TARGET_V6},
        {LAB_CLIENT_V4, "BOTH.lab.test.", LAB_TARGET_V4},
    };
    const struct server_spec v4 = {
        .kind = SERVER_ECHO, .type = SOCK_STREAM, .address = at(LAB_TARGET_V4, 8080)};
    const struct server_spec v6 = {
        .kind = SERVER_ECHO, .type = SOCK_STREAM, .address = at(LAB_TARGET_V6, 8080)};
    server_start(lab, LAB_TARGET, &v4);
    server_start(lab, LAB_TARGET, &v6);
    nameserver_start(lab, records);
    start(&(struct daemons_options){.socksd = {NAMESERVER_RESOLVER}});
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct association_spec spec = by_name(cases[i].source, cases[i].name, 8080);
        struct association association = check_echo(&spec);
        json_t *relay = daemons_relay_at(&daemons, association.bound);
        ck_assert_str_eq(relay_text(relay, "destination"), show(at(cases[i].address, 8080)));
        json_decref(relay);
        finish(&association);
    }
}
END_TEST

/* N1-DST-010, N1-DST-020, N1-DST-050, N1-ORD-020, N1-NAME-030, N1-ADDR-020 */
START_TEST(names_are_judged_with_their_addresses)
{
    static const struct {
        const char *name;
        int code;
    } cases[] = {
        {"none.lab.test", N1_REP_HOST_UNREACHABLE}, {"text.lab.test", N1_REP_HOST_UNREACHABLE},
        {"loop.lab.test", N1_REP_NOT_ALLOWED},      {"mapped.lab.test", N1_REP_NOT_ALLOWED},
        {"127.0.0.1", N1_REP_NOT_ALLOWED},          {"secret.lab.test", N1_REP_NOT_ALLOWED},
        {"10.77.2.3", N1_REP_NOT_ALLOWED},
    };
    const struct server_spec v4 = {
        .kind = SERVER_ECHO, .type = SOCK_STREAM, .address = at(LAB_TARGET_V4, 8080)};
    struct association association;
    server_start(lab, LAB_TARGET, &v4);
    struct process *nameserver = nameserver_start(lab, records);
    start(&(struct daemons_options){
        .socksd = {NAMESERVER_RESOLVER,
                   "rules: [{action: deny, to: [10.77.2.3, secret.lab.test]}, {action: allow}]"}});
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct association_spec spec = by_name(LAB_CLIENT_V4, cases[i].name, 8080);
        const int code = association_try(lab, &spec, &association);
        ck_assert_msg(code == cases[i].code, "%s: %d, expected %d", cases[i].name, code,
                      cases[i].code);
    }
    ck_assert(nameserver_was_asked(nameserver, "none.lab.test"));
    ck_assert(!nameserver_was_asked(nameserver, "secret.lab.test"));
    const struct association_spec spec = by_name(LAB_CLIENT_V4, "choice.lab.test", 8080);
    association = check_echo(&spec);
    finish(&association);
}
END_TEST

/* N1-SRC-040 */
START_TEST(a_source_may_be_a_name)
{
    static const char *const hosts[] = {"me.lab.test. A 10.77.1.3", "me.lab.test. A 10.77.1.2",
                                        "other.lab.test. A 10.77.1.3", NULL};
    static const struct {
        const char *name;
        int code;
    } cases[] = {{"me.lab.test", N1_REP_SUCCEEDED},
                 {"other.lab.test", N1_REP_NOT_ALLOWED},
                 {"none.lab.test", N1_REP_GENERAL_FAILURE}};
    struct server *echo = server_echo(lab, SOCK_STREAM);
    const struct endpoint destination = server_endpoint(echo);
    nameserver_start(lab, hosts);
    start(&(struct daemons_options){.socksd = {NAMESERVER_RESOLVER}});
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct n1_request request = {.command = N1_CMD_TRANSPARENT,
                                     .destination = n1_host_from_endpoint(&destination),
                                     .ptcl = PTCL_TCP};
        uint8_t octets[N1_REQUEST_MAX];
        ck_assert_int_eq(n1_host_from_name(cases[i].name, 4711, &request.source), 0);
        const size_t length = n1_request_encode(&request, octets, sizeof(octets));
        const int control = n1_connect_ready(lab, LAB_CLIENT, at(LAB_RELAY_V4, 1080));
        socket_send(control, octets, length);
        ck_assert_int_eq(n1_read_reply(control, PATIENCE_MS, NULL), cases[i].code);
        close(control);
    }
}
END_TEST

/* N1-DST-020 */
START_TEST(a_silent_name_server_reads_04)
{
    const struct association_spec spec = by_name(LAB_CLIENT_V4, "v4.lab.test", 80);
    struct association association;
    const int silent = socket_bound(lab, LAB_RELAY, SOCK_DGRAM, at("127.0.0.1", 53), NULL);
    start(&(struct daemons_options){
        .socksd = {"resolver: {servers: ['127.0.0.1:53'], timeout: 500ms}"}});
    ck_assert_int_eq(association_try(lab, &spec, &association), N1_REP_HOST_UNREACHABLE);
    close(silent);
}
END_TEST

int main(void)
{
    lab_require();
    Suite *suite = suite_create("names");
    TCase *tcase = tcase_create("resolved names");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_name_leads_to_an_address_of_the_family_of_s);
    tcase_add_test(tcase, names_are_judged_with_their_addresses);
    tcase_add_test(tcase, a_source_may_be_a_name);
    tcase_add_test(tcase, a_silent_name_server_reads_04);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
