/*
 * Thousands of associations, of failures and of clients that vanish: afterwards the daemons have
 * the descriptors, the memory and the tables that they had before.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "proto/ptcl.h"
#include "tests/harness/daemons.h"
#include "tests/harness/n1_client.h"
#include "tests/harness/proc.h"
#include "tests/harness/traffic.h"
#include "tests/harness/wait.h"

#define WARM_UP 400
#define ASSOCIATIONS 2000
#define FAILURES 2000

static struct lab *lab;
static struct daemons daemons;
static struct server *tcp, *udp;

static void setup(void)
{
    struct rlimit limit;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    lab = lab_new();
    tcp = server_echo(lab, SOCK_STREAM);
    udp = server_echo(lab, SOCK_DGRAM);
    daemons = daemons_start(
        lab, &(struct daemons_options){
                 .socksd = {"log: {level: warning}", "limits: {sessions-per-address: 4000}"},
                 .relayd = {"log: {level: warning}"}});
}

static void teardown(void)
{
    daemons_stop(&daemons);
    lab_free(lab);
}

/* ---- before and after --------------------------------------------------------------------------
 */

enum { SOCKSD, RELAYD_TCP, RELAYD_UDP, PROCESSES };

struct state {
    unsigned fds[PROCESSES];
    uint64_t rss[PROCESSES];
};

static pid_t pid_of(size_t which)
{
    struct process *const all[] = {daemons.socksd, daemons.relayd_tcp, daemons.relayd_udp};
    return process_pid(all[which]);
}

static void wait_for_rest(void)
{
    WAIT_UNTIL(daemons_counter(&daemons, "socksd", "sessions_active") == 0, PATIENCE_MS);
    WAIT_UNTIL(daemons_relay_count(&daemons) == 0, PATIENCE_MS);
    ck_assert_uint_eq(daemons_counter(&daemons, "socksd", "relays_open"), 0);
}

static struct state state_now(void)
{
    struct state state;
    wait_for_rest();
    for (size_t i = 0; i < PROCESSES; i++) {
        state.fds[i] = proc_fd_count(pid_of(i));
        state.rss[i] = proc_rss_kib(pid_of(i));
    }
    return state;
}

static void check_same(const struct state *before)
{
    static const char *const names[] = {"socksd", "relayd@tcp", "relayd@udp"};
    wait_for_rest();
    for (size_t i = 0; i < PROCESSES; i++) {
        /* The admin connection of the last question may still be closing. */
        const int64_t end = now_ms() + 2000;
        while (proc_fd_count(pid_of(i)) > before->fds[i] && now_ms() < end) {
            wait_tick();
        }
        const unsigned fds = proc_fd_count(pid_of(i));
        const uint64_t rss = proc_rss_kib(pid_of(i));
        printf("%s: descriptors %u, then %u; KiB resident %u, then %u\n", names[i], before->fds[i],
               fds, (unsigned)before->rss[i], (unsigned)rss);
        ck_assert_msg(fds <= before->fds[i], "%s: %u descriptors, before %u", names[i], fds,
                      before->fds[i]);
        ck_assert_msg(built_with_sanitizer() || rss * 100 <= before->rss[i] * 105,
                      "%s: %u KiB resident, before %u", names[i], (unsigned)rss,
                      (unsigned)before->rss[i]);
    }
}

/* ---- associations ------------------------------------------------------------------------------
 */

static void use(const struct association *association)
{
    char text[4];
    socket_send(association->data, "ping", 4);
    if (association->ptcl == PTCL_TCP) {
        socket_receive_all(association->data, text, 4, PATIENCE_MS);
    } else {
        ck_assert_int_eq(socket_receive(association->data, text, 4, PATIENCE_MS), 4);
    }
}

/* Every way that an association can end. */
static void one_association(size_t n)
{
    const struct association_spec unused = {.ptcl = PTCL_TCP, .destination = server_endpoint(tcp)};
    struct association association;
    if (n % 6 == 5) {
        association = association_open(lab, &unused); /* the client never comes to BND */
    } else {
        association = n % 2 == 0 ? association_udp(lab, server_endpoint(udp))
                                 : association_tcp(lab, server_endpoint(tcp));
        use(&association);
    }
    if (n % 6 == 1) { /* in order */
        shutdown(association.data, SHUT_WR);
        ck_assert_int_eq(socket_wait_end(association.data, PATIENCE_MS), SOCKET_FIN);
        ck_assert_int_eq(socket_wait_end(association.control, PATIENCE_MS), SOCKET_FIN);
    } else if (n % 6 == 3) { /* the client resets */
        socket_abort_on_close(association.data);
        close(association.data);
        association.data = -1;
        ck_assert_int_eq(socket_wait_end(association.control, PATIENCE_MS), SOCKET_FIN);
    } else if (n % 6 == 4) { /* RST on N1 */
        socket_abort_on_close(association.control);
    }
    association_close(&association);
}

/* N1-LIFE-010, N2-RELAY-010, N2-ID-010, N1-END-010 */
START_TEST(associations_leave_nothing)
{
    for (size_t i = 0; i < WARM_UP; i++) {
        one_association(i);
    }
    const struct state before = state_now();
    for (size_t i = 0; i < ASSOCIATIONS; i++) {
        one_association(i);
    }
    check_same(&before);
    ck_assert_uint_eq(daemons_counter(&daemons, "socksd", "relays_opened"), WARM_UP + ASSOCIATIONS);
    const uint64_t opened = daemons_counter(&daemons, "tcp", "relays_opened") +
                            daemons_counter(&daemons, "udp", "relays_opened");
    const uint64_t closed = daemons_counter(&daemons, "tcp", "relays_closed") +
                            daemons_counter(&daemons, "udp", "relays_closed");
    ck_assert_uint_eq(opened, closed);
}
END_TEST

/* Many at a time, closed all at once. */
/* N1-LIFE-010, N2-RELAY-010 */
START_TEST(a_crowd_leaves_nothing)
{
    enum { CROWD = 400 };
    static struct association crowd[CROWD];
    struct state before = {0};
    for (size_t round = 0; round < 5; round++) {
        if (round == 2) {
            before = state_now();
        }
        for (size_t i = 0; i < CROWD; i++) {
            crowd[i] = i % 2 == 0 ? association_udp(lab, server_endpoint(udp))
                                  : association_tcp(lab, server_endpoint(tcp));
        }
        for (size_t i = 0; i < CROWD; i++) {
            use(&crowd[i]);
        }
        for (size_t i = 0; i < CROWD; i++) {
            association_close(&crowd[i]);
        }
        wait_for_rest();
    }
    check_same(&before);
}
END_TEST

/* ---- failures ----------------------------------------------------------------------------------
 */

#define OCTETS(text_) (text_), sizeof(text_) - 1

static const struct {
    const char *sent;
    size_t length;
} failing[] = {
    {OCTETS("\x04\x01\x00\x50\x0a\x4d\x02\x02\x00")},                  /* VER */
    {OCTETS("\x05\x00")},                                              /* methods */
    {OCTETS("\x05\x01\x02")},                                          /* 05 FF */
    {OCTETS("\x05\x01\x00\x04\x04")},                                  /* VER */
    {OCTETS("\x05\x01\x00\x05\x01\x00\x01\x0a\x4d\x02\x02\x00\x50")},  /* 07 */
    {OCTETS("\x05\x01\x00\x05\x04\x01")},                              /* 01 */
    {OCTETS("\x05\x01\x00\x05\x04\x00\x02")},                          /* 08 */
    {OCTETS("\x05\x01\x00\x05\x04\x00\x01\x7f\x00\x00\x01\x00\x50\x06" /* 02 */
            "\x01\x00\x00\x00\x00\x12\x34")},                          //
    {OCTETS("\x05\x01\x00\x05\x04\x00\x01\x0a\x4d\x02\x02\x00\x50\x84" /* 09 */
            "\x01\x00\x00\x00\x00\x12\x34")},                          //
    {OCTETS("\x05\x01\x00\x05\x04\x00\x01\x0a\x4d\x02\x02\x00\x09\x06" /* 05 */
            "\x01\x00\x00\x00\x00\x12\x34")},                          //
    {OCTETS("\x05\x01\x00\x05\x04\x00\x03\x03"                         /* 01 */
            "a b\x00\x50\x06\x01\x00\x00\x00\x00\x12\x34")},           //
    {OCTETS("\x05\x01\x00\x05\x04\x00\x01\x0a\x4d\x02\x02\x00\x50\x06" /* 02, S */
            "\x01\x0a\x4d\x01\x03\x12\x34")},
};
#define FAILING (sizeof(failing) / sizeof(failing[0]))

static void one_failure(size_t n)
{
    const int fd = n1_connect(lab, LAB_CLIENT, at(LAB_RELAY_V4, 1080));
    socket_send(fd, failing[n % FAILING].sent, failing[n % FAILING].length);
    ck_assert_int_ne(socket_wait_end(fd, PATIENCE_MS), SOCKET_OPEN);
    close(fd);
}

/* N1-CONN-050, N1-REP-010 */
START_TEST(failed_handshakes_and_refused_dials_leave_nothing)
{
    for (size_t i = 0; i < WARM_UP; i++) {
        one_failure(i);
    }
    const struct state before = state_now();
    for (size_t i = 0; i < FAILURES; i++) {
        one_failure(i);
    }
    check_same(&before);
    ck_assert_uint_eq(daemons_counter(&daemons, "socksd", "relays_opened"), 0);
    ck_assert_uint_ge(daemons_counter(&daemons, "tcp", "relays_failed_refused"),
                      FAILURES / FAILING);
}
END_TEST

/* Sends the first `length` octets and is gone, with FIN or RST. */
static void vanish(const uint8_t *octets, size_t length, bool reset)
{
    const int fd = n1_connect(lab, LAB_CLIENT, at(LAB_RELAY_V4, 1080));
    if (length > 0) {
        socket_send(fd, octets, length);
    }
    if (reset) {
        socket_abort_on_close(fd);
    }
    close(fd);
}

/* In every state of the handshake. The first 50 ask for a target that takes its time: nobody has
 * this address. */
static void vanish_everywhere(size_t count)
{
    uint8_t octets[3 + N1_REQUEST_MAX] = {5, 1, 0};
    for (size_t n = 0; n < count; n++) {
        const struct endpoint target = n < 50       ? at("10.77.2.50", 80)
                                       : n % 3 == 0 ? at(LAB_TARGET_V4, 9)
                                                    : server_endpoint(n % 3 == 1 ? tcp : udp);
        const size_t length = 3 + n1_transparent_bytes(n % 3 == 2 ? PTCL_UDP : PTCL_TCP,
                                                       at(LAB_CLIENT_V4, 4000), target, &octets[3]);
        /* Every second one has asked completely, so that the order is under way. */
        vanish(octets, n % 2 == 0 ? length : n / 2 % length, n % 4 < 2);
        /* They do not wait for each other. How many are there at a time decides how much memory
         * was ever needed, and must not be left to chance. */
        if (n % 50 == 49) {
            wait_for_rest();
        }
    }
}

/* N2-TRANS-040, N1-LIFE-010, N1-LIFE-020 */
START_TEST(clients_that_vanish_leave_nothing)
{
    vanish_everywhere(WARM_UP);
    const struct state before = state_now();
    vanish_everywhere(FAILURES);
    check_same(&before);
    struct association association = association_tcp(lab, server_endpoint(tcp));
    use(&association);
    association_close(&association);
}
END_TEST

int main(void)
{
    lab_require();
    Suite *suite = suite_create("leaks");
    TCase *tcase = tcase_create("leaks");
    tcase_set_timeout(tcase, 240);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, associations_leave_nothing);
    tcase_add_test(tcase, a_crowd_leaves_nothing);
    tcase_add_test(tcase, failed_handshakes_and_refused_dials_leave_nothing);
    tcase_add_test(tcase, clients_that_vanish_leave_nothing);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
