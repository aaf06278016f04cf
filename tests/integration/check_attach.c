/*
 * How the BPF plane's program comes to interfaces and leaves them, by TCX and by clsact: the death
 * of relayd, what it leaves, other programs, interfaces that go and come. PLANE-ATTACH-010 to -050.
 */
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/ptcl.h"
#include "tests/harness/capture.h"
#include "tests/harness/daemons.h"
#include "tests/harness/n1_client.h"
#include "tests/harness/tc_program.h"
#include "tests/harness/traffic.h"
#include "tests/harness/wait.h"

/* The table of the stubs' programs is emptied by a worker of the kernel. */
#define AT_ONCE_MS 100
#define QUIET_MS 300

static struct lab *lab;
static struct daemons daemons;

static const char *const modes[] = {"tcx", "clsact"};
enum { TCX, CLSACT, MODES };

static void start(int mode, const char *plane)
{
    const struct daemons_options options = {.relayd = {plane}, .attach = modes[mode]};

    daemons = daemons_start(lab, &options);
    ck_assert_uint_eq(daemons_counter(&daemons, "udp", "bpf_tcx"), mode == TCX);
    ck_assert_uint_eq(daemons_counter(&daemons, "udp", "bpf_interfaces"), 3);
}

static void setup(void)
{
    lab = lab_new();
    memset(&daemons, 0, sizeof(daemons));
}

static void teardown(void)
{
    daemons_stop(&daemons);
    lab_free(lab);
}

/* Filters at the ingress of client0 whose line has the text. */
static unsigned filters(const char *text)
{
    char line[256];

    lab_run(lab, LAB_RELAY, "tc filter show dev %s ingress > %s", LAB_TO_CLIENT,
            lab_path(lab, "filters"));
    FILE *file = fopen(lab_path(lab, "filters"), "r");
    unsigned count = 0;
    ck_assert_ptr_nonnull(file);
    while (fgets(line, sizeof(line), file) != NULL)
        count += strstr(line, text) != NULL;
    fclose(file);
    return count;
}

static const char *plane_of(const struct association *association, const char *key)
{
    static char text[64];
    json_t *relay = daemons_relay_at(&daemons, association->bound);

    ck_assert_ptr_nonnull(relay);
    snprintf(text, sizeof(text), "%s", relay_text(relay, key));
    json_decref(relay);
    return text;
}

/* A relay of UDP that the kernel carries. */
static struct association carried(struct server *server)
{
    struct association association = association_udp(lab, server_endpoint(server));

    ck_assert_str_eq(plane_of(&association, "plane"), "bpf");
    association_check_echo(&association);
    return association;
}

static bool status_has(const char *text)
{
    json_t *status = daemons_relayctl(&daemons, "status", NULL);
    char *shown = json_dumps(status, 0);
    const bool has = strstr(shown, text) != NULL;

    free(shown);
    json_decref(status);
    return has;
}

/* ---- its death ------------------------------------------------------------------------------- */

/* One datagram each millisecond; the last that came out, by its number, or -1. */
static int last_through(int from, struct endpoint to, int arriving, const char *word, int count)
{
    int last = -1;

    for (int i = 0; i < count; i++) {
        char text[64], got[64] = "";
        snprintf(text, sizeof(text), "%s %d", word, i);
        socket_send_to(from, to, text, strlen(text));
        usleep(1000);
        while (recv(arriving, got, sizeof(got) - 1, MSG_DONTWAIT) > 0) {
            int number;
            if (strncmp(got, word, strlen(word)) == 0 &&
                sscanf(got + strlen(word), " %d", &number) == 1)
                last = number;
            memset(got, 0, sizeof(got));
        }
    }
    return last;
}

/* Its socket hears of the closed port; that is no concern here. */
static int deaf_socket(enum lab_place place, struct endpoint address, struct endpoint *local)
{
    return socket_bound(lab, place, SOCK_DGRAM, address, local);
}

/* PLANE-ATTACH-020 */
START_TEST(after_sigkill_not_a_packet_passes)
{
    const bool v6 = _i / MODES == 1;
    struct endpoint client, target, egress;
    char word[16];

    start(_i % MODES, "plane: bpf");
    const int target_fd =
        deaf_socket(LAB_TARGET, at(v6 ? LAB_TARGET_V6 : LAB_TARGET_V4, 0), &target);
    const struct association_spec spec = {.ptcl = PTCL_UDP,
                                          .source = at(v6 ? LAB_CLIENT_V6 : LAB_CLIENT_V4, 0),
                                          .destination = target};
    struct association association = association_open(lab, &spec);
    ck_assert_str_eq(plane_of(&association, "plane"), "bpf");
    client = association.source;
    close(association.data);
    const int client_fd = deaf_socket(LAB_CLIENT, client, NULL);

    /* Both directions, as long as it lives. */
    socket_send_to(client_fd, association.bound, "hello", 5);
    ck_assert_int_eq(socket_receive_from(target_fd, word, sizeof(word), PATIENCE_MS, &egress), 5);
    ck_assert_int_ge(last_through(client_fd, association.bound, target_fd, "up", 20), 0);
    ck_assert_int_ge(last_through(target_fd, egress, client_fd, "down", 20), 0);

    process_kill(daemons.relayd_udp);
    const int64_t dead = now_us();
    int last = last_through(client_fd, association.bound, target_fd, "later", QUIET_MS);
    printf("%s: SIGKILL stops packets: the last one up was sent %d ms after\n", modes[_i % MODES],
           last + 1);
    ck_assert_int_lt(last, AT_ONCE_MS);
    last = last_through(target_fd, egress, client_fd, "after", QUIET_MS);
    ck_assert_msg(last == -1, "%d ms after its death a packet came down",
                  (int)((now_us() - dead) / 1000));
    process_free(daemons.relayd_udp);
    daemons.relayd_udp = NULL;
    association.data = -1;
    association_close(&association);
    close(client_fd);
    close(target_fd);
}
END_TEST

/* Datagrams of somebody who has nothing to do with relays reach the host. */
static void check_own_traffic(void)
{
    const struct server_spec spec = {
        .kind = SERVER_ECHO, .type = SOCK_DGRAM, .address = at(LAB_RELAY_V4, 0)};
    struct server *own = server_start(lab, LAB_RELAY, &spec);
    const int fd = socket_bound(lab, LAB_CLIENT, SOCK_DGRAM, at(LAB_CLIENT_V4, 0), NULL);
    char answer[8];

    socket_send_to(fd, server_endpoint(own), "plain", 5);
    ck_assert_int_eq(socket_receive(fd, answer, sizeof(answer), PATIENCE_MS), 5);
    close(fd);
    server_free(own);
}

static int run_detach(const char *instance)
{
    int status;
    const struct process_spec spec = {
        .name = "detach", .argv = {program_relayd(), "--detach", "--instance", instance}};

    process_free(process_run(lab, LAB_RELAY, &spec, PATIENCE_MS, &status));
    return status;
}

/* PLANE-ATTACH-040 */
START_TEST(what_a_killed_relayd_leaves_is_removed)
{
    start(CLSACT, "plane: bpf");
    lab_run(lab, LAB_RELAY, "tc filter add dev %s ingress pref 7 bpf bytecode '1,6 0 0 0,'",
            LAB_TO_CLIENT);
    struct server *echo = server_echo(lab, SOCK_DGRAM);
    struct association association = carried(echo);
    ck_assert_uint_eq(filters("sockst.udp:["), 1);
    ck_assert_uint_eq(filters("sockst.tcp:["), 1);
    process_kill(daemons.relayd_udp);
    process_free(daemons.relayd_udp);
    ck_assert_uint_eq(filters("sockst.udp:["), 1);
    association_close(&association);
    check_own_traffic();

    daemons_start_relayd(&daemons, "udp");
    ck_assert(process_log_has(daemons.relayd_udp, "stubs-removed", "count=3", NULL));
    ck_assert_uint_eq(filters("sockst.udp:["), 1);
    daemons_wait_connected(&daemons);
    association = carried(echo);
    association_close(&association);

    /* It had given up what it would need to remove them in order. */
    process_stop(daemons.relayd_udp);
    process_free(daemons.relayd_udp);
    daemons.relayd_udp = NULL;
    ck_assert_uint_eq(filters("sockst.udp:["), 1);
    ck_assert_int_eq(run_detach("udp-2"), 0);
    ck_assert_uint_eq(filters("sockst.udp:["), 1);
    ck_assert_int_eq(run_detach("udp"), 0);
    ck_assert_uint_eq(filters("sockst.udp:["), 0);
    ck_assert_int_eq(run_detach("udp"), 0);
    ck_assert_uint_eq(filters("sockst.tcp:["), 1);
    ck_assert_uint_eq(filters("bytecode"), 1);
    check_own_traffic();
}
END_TEST

START_TEST(tcx_leaves_nothing)
{
    start(TCX, "plane: bpf");
    process_kill(daemons.relayd_udp);
    process_free(daemons.relayd_udp);
    ck_assert_uint_eq(filters("sockst"), 0);
    daemons_start_relayd(&daemons, "udp");
    ck_assert_uint_eq(process_log_count(daemons.relayd_udp, "stubs-removed"), 0);
    ck_assert_uint_eq(filters("sockst"), 0);
}
END_TEST

/* By mistake; the first one has the name, and goes on. */
START_TEST(a_second_one_of_the_name_does_no_harm)
{
    struct process *second;

    start(_i, "plane: bpf");
    const struct process_spec spec = {.name = "second",
                                      .argv = {program_relayd(), "-c", lab_path(lab, "relayd.yaml"),
                                               "--ptcl", "udp", "--attach", modes[_i]}};
    struct server *echo = server_echo(lab, SOCK_DGRAM);
    struct association association = carried(echo);
    ck_assert(!process_try_start(lab, LAB_RELAY, &spec, &second));
    ck_assert_int_eq(process_wait(second, PATIENCE_MS), 1);
    ck_assert(process_log_has(second, "start-failed", "EADDRINUSE", NULL));
    ck_assert_uint_eq(filters("sockst.udp:["), _i == CLSACT);
    association_check_echo(&association);
    association_close(&association);
}
END_TEST

/* ---- other programs -------------------------------------------------------------------------- */

/* With a foreign program before ours or after it: it sees what is not a relay's, and, before, what
 * is. PLANE-ATTACH-030 */
static void check_coexistence(int mode, bool before)
{
    struct tc_program *other = NULL;
    struct endpoint own;

    if (before && mode == CLSACT)
        tc_program_filter(lab, LAB_RELAY, LAB_TO_CLIENT, 1, &other);
    if (before && mode == TCX)
        ck_assert(tc_program_attach(lab, LAB_RELAY, LAB_TO_CLIENT, &other));
    start(mode, "plane: bpf");
    if (!before && mode == CLSACT)
        tc_program_filter(lab, LAB_RELAY, LAB_TO_CLIENT, 65000, &other);
    if (!before && mode == TCX)
        ck_assert(tc_program_attach(lab, LAB_RELAY, LAB_TO_CLIENT, &other));

    struct server *echo = server_echo(lab, SOCK_DGRAM);
    struct association association = carried(echo);
    const int own_fd = socket_bound(lab, LAB_RELAY, SOCK_DGRAM, at(LAB_RELAY_V4, 0), &own);
    const int fd = socket_bound(lab, LAB_CLIENT, SOCK_DGRAM, at(LAB_CLIENT_V4, 0), NULL);
    char text[8];

    tc_program_watch(other, own.port, false);
    tc_program_watch(other, association.bound.port, false);
    for (unsigned i = 1; i <= 5; i++) {
        socket_send_to(fd, own, "plain", 5);
        ck_assert_int_eq(socket_receive(own_fd, text, sizeof(text), PATIENCE_MS), 5);
        association_check_echo(&association);
    }
    ck_assert_uint_eq(tc_program_count(other, own.port), 5);
    ck_assert_uint_eq(tc_program_count(other, association.bound.port), before ? 5 : 0);

    /* What it takes is taken. */
    tc_program_watch(other, association.bound.port, true);
    const uint64_t messages = server_seen(echo).messages;
    socket_send(association.data, "taken?", 6);
    if (before) {
        WAIT_UNTIL(tc_program_count(other, association.bound.port) == 1, PATIENCE_MS);
        ALWAYS_FOR(server_seen(echo).messages == messages, 50);
    } else {
        WAIT_UNTIL(server_seen(echo).messages == messages + 1, PATIENCE_MS);
        ck_assert_uint_eq(tc_program_count(other, association.bound.port), 0);
    }
    association_close(&association);
    tc_program_free(other);
    close(own_fd);
    close(fd);
}

START_TEST(other_programs_see_what_is_theirs)
{
    check_coexistence(_i % MODES, _i / MODES == 0);
}
END_TEST

/* ---- interfaces ------------------------------------------------------------------------------ */

static void recreate_client_link(void)
{
    lab_run(lab, LAB_RELAY, "ip link delete %s", LAB_TO_CLIENT);
    lab_run(lab, LAB_RELAY,
            "ip link add client0 type veth peer name relay0 netns /proc/%d/fd/%d && "
            "ip address add 10.77.1.1/24 dev client0 && ip link set client0 up",
            (int)getpid(), lab_netns(lab, LAB_CLIENT));
    lab_run(lab, LAB_CLIENT, "ip address add 10.77.1.2/24 dev relay0 && ip link set relay0 up");
}

/* PLANE-ATTACH-050 */
START_TEST(an_interface_goes_and_comes_back)
{
    const int mode = _i;

    start(mode, "plane: auto");
    struct server *echo = server_echo(lab, SOCK_DGRAM);
    struct association association = carried(echo);
    ck_assert(!status_has("not attached to"));
    recreate_client_link();
    association_close(&association);
    WAIT_UNTIL(daemons_relay_count(&daemons) == 0, PATIENCE_MS);
    WAIT_UNTIL(daemons_counter(&daemons, "udp", "bpf_interfaces") == (mode == TCX ? 3 : 2),
               PATIENCE_MS);
    association = association_udp(lab, server_endpoint(echo));
    if (mode == TCX) {
        ck_assert_str_eq(plane_of(&association, "plane"), "bpf");
        ck_assert(!status_has("not attached to"));
    } else {
        ck_assert_str_eq(plane_of(&association, "plane"), "socket");
        ck_assert_str_ne(plane_of(&association, "plane_reason"), "preferred");
        ck_assert(status_has("not attached to client0 (Operation not permitted)"));
    }
    association_check_echo(&association);
    association_close(&association);
}
END_TEST

START_TEST(a_new_interface_is_used)
{
    start(TCX, "plane: bpf");
    lab_run(lab, LAB_RELAY,
            "ip link add late0 type veth peer name late1 netns /proc/%d/fd/%d && "
            "ip address add 10.77.9.1/24 dev late0 && ip link set late0 up",
            (int)getpid(), lab_netns(lab, LAB_TARGET));
    lab_run(lab, LAB_TARGET, "ip address add 10.77.9.2/24 dev late1 && ip link set late1 up");
    const struct server_spec spec = {
        .kind = SERVER_ECHO, .type = SOCK_DGRAM, .address = at("10.77.9.2", 0)};
    struct server *echo = server_start(lab, LAB_TARGET, &spec);
    WAIT_UNTIL(daemons_counter(&daemons, "udp", "bpf_interfaces") == 4, PATIENCE_MS);
    struct association association = carried(echo);
    association_close(&association);
}
END_TEST

int main(void)
{
    lab_require();
    Suite *suite = suite_create("attach");
    TCase *tcase = tcase_create("attach");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, after_sigkill_not_a_packet_passes, 0, 2 * MODES);
    tcase_add_test(tcase, what_a_killed_relayd_leaves_is_removed);
    tcase_add_test(tcase, tcx_leaves_nothing);
    tcase_add_loop_test(tcase, a_second_one_of_the_name_does_no_harm, 0, MODES);
    tcase_add_loop_test(tcase, other_programs_see_what_is_theirs, 0, 2 * MODES);
    tcase_add_loop_test(tcase, an_interface_goes_and_comes_back, 0, MODES);
    tcase_add_test(tcase, a_new_interface_is_used);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
