/*
 * Many at once: 1 000 CONNECTs, and 200 UDP associations with 20 destinations each. All are served,
 * and afterwards descriptors and memory are what they were.
 */
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/harness/classic.h"
#include "tests/harness/daemons.h"
#include "tests/harness/proc.h"
#include "tests/harness/traffic.h"
#include "tests/harness/wait.h"

#define CONNECTIONS 1000
#define ASSOCIATIONS 200
#define DESTINATIONS 20
#define WARM_UP 3
#define ROUNDS 5
#define SLACK_KIB 4096 /* what an allocator keeps when more happens at once than before */

static struct lab *lab;
static struct daemons daemons;
static struct endpoint echoes[DESTINATIONS];

static void setup(void)
{
    const struct rlimit limit = {8192, 8192};
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    lab = lab_new();
    daemons = daemons_start(
        lab, &(struct daemons_options){
                 .socksd = {"limits: {sessions-per-address: 5000}", "log: {level: notice}"},
                 .relayd = {"log: {level: notice}"}});
}

static void teardown(void)
{
    daemons_stop(&daemons);
    lab_free(lab);
}

struct figures {
    unsigned fds[3];
    uint64_t rss_kib[3];
};

static struct figures measure(void)
{
    struct process *const all[] = {daemons.socksd, daemons.relayd_tcp, daemons.relayd_udp};
    struct figures figures;
    for (size_t i = 0; i < 3; i++) {
        figures.fds[i] = proc_fd_count(process_pid(all[i]));
        figures.rss_kib[i] = proc_rss_kib(process_pid(all[i]));
    }
    return figures;
}

/* Sockets are closed a moment after the relay has left the table. */
static bool fds_are_back(const struct figures *before)
{
    const struct figures now = measure();
    return memcmp(now.fds, before->fds, sizeof(now.fds)) == 0;
}

/* As after start-up, or after first rounds have filled what is kept for later (pipes). */
static struct figures measure_at_rest(void)
{
    WAIT_UNTIL(daemons_relay_count(&daemons) == 0, PATIENCE_MS);
    proc_fd_count_at_rest(process_pid(daemons.socksd));
    proc_fd_count_at_rest(process_pid(daemons.relayd_tcp));
    proc_fd_count_at_rest(process_pid(daemons.relayd_udp));
    return measure();
}

static void check_fds_are_back(const struct figures *before)
{
    WAIT_UNTIL(daemons_relay_count(&daemons) == 0, PATIENCE_MS);
    const int64_t end = now_ms() + PATIENCE_MS;
    while (!fds_are_back(before)) {
        const struct figures now = measure();
        ck_assert_msg(now_ms() < end, "descriptors: %u %u %u before, %u %u %u after",
                      before->fds[0], before->fds[1], before->fds[2], now.fds[0], now.fds[1],
                      now.fds[2]);
        wait_tick();
    }
}

/* The first daemon whose memory has grown, or -1. */
static int grown(const struct figures *before, const struct figures *now)
{
    for (int i = 0; i < 3 && !built_with_sanitizer(); i++) {
        if (now->rss_kib[i] > before->rss_kib[i] + SLACK_KIB)
            return i;
    }
    return -1;
}

/* Rounds leave nothing behind. Where the machine is busy more may be under way at once than ever
 * before, which an allocator keeps: then the same rounds once more may not grow again. */
static void check_rounds(void (*round)(void))
{
    for (int attempt = 0;; attempt++) {
        const struct figures before = measure_at_rest();
        for (int i = 0; i < ROUNDS; i++) {
            round();
        }
        check_fds_are_back(&before);
        const struct figures now = measure();
        const int daemon = grown(&before, &now);
        if (daemon < 0)
            return;
        ck_assert_msg(attempt < 2, "daemon %d, again: %llu KiB before, %llu after", daemon,
                      (unsigned long long)before.rss_kib[daemon],
                      (unsigned long long)now.rss_kib[daemon]);
    }
}

static struct endpoint stream_echo;

static void connect_all(void)
{
    static int fds[CONNECTIONS];
    uint8_t request[3 + N1_REQUEST_MAX] = {N1_VERSION, 1, N1_METHOD_NONE}, answer[2];
    const size_t length = 3 + classic_bytes(N1_CMD_CONNECT, stream_echo, request + 3);
    /* All requests are under way before the first answer is read. */
    for (size_t i = 0; i < CONNECTIONS; i++) {
        fds[i] = n1_connect(lab, LAB_CLIENT, at(LAB_RELAY_V4, 1080));
        socket_send(fds[i], request, length);
        socket_send(fds[i], &i, sizeof(i));
    }
    for (size_t i = 0; i < CONNECTIONS; i++) {
        size_t back;
        socket_receive_all(fds[i], answer, sizeof(answer), 3 * PATIENCE_MS);
        ck_assert_int_eq(n1_read_reply(fds[i], 3 * PATIENCE_MS, NULL), N1_REP_SUCCEEDED);
        socket_receive_all(fds[i], &back, sizeof(back), 3 * PATIENCE_MS);
        ck_assert_uint_eq(back, i);
    }
    ck_assert_uint_eq(daemons_relay_count(&daemons), CONNECTIONS);
    for (size_t i = 0; i < CONNECTIONS; i++) {
        shutdown(fds[i], SHUT_WR);
    }
    for (size_t i = 0; i < CONNECTIONS; i++) {
        ck_assert_int_eq(socket_wait_end(fds[i], PATIENCE_MS), SOCKET_FIN);
        close(fds[i]);
    }
}

/* The first rounds fill what is kept for later; those that follow leave nothing behind. */
START_TEST(a_thousand_connections)
{
    stream_echo = server_endpoint(server_echo(lab, SOCK_STREAM));
    for (int i = 0; i < WARM_UP; i++) {
        connect_all();
    }
    check_rounds(connect_all);
}
END_TEST

static void associate_all(void)
{
    static struct classic_udp all[ASSOCIATIONS];
    for (size_t i = 0; i < ASSOCIATIONS; i++) {
        all[i] = classic_associate(lab, at("0.0.0.0", 0));
    }
    for (size_t j = 0; j < DESTINATIONS; j++) {
        /* Every association asks before the first answer is read. */
        for (size_t i = 0; i < ASSOCIATIONS; i++) {
            const size_t sent[] = {i, j};
            classic_send(&all[i], echoes[j], sent, sizeof(sent));
        }
        for (size_t i = 0; i < ASSOCIATIONS; i++) {
            size_t back[2];
            struct endpoint from;
            ck_assert_int_eq(classic_receive(&all[i], back, sizeof(back), PATIENCE_MS, &from),
                             sizeof(back));
            ck_assert_uint_eq(back[0], i);
            ck_assert_uint_eq(back[1], j);
            ck_assert_msg(same_endpoint(from, echoes[j]), "answered by %s", show(from));
        }
    }
    ck_assert_uint_eq(daemons_relay_count(&daemons), ASSOCIATIONS);
    for (size_t i = 0; i < ASSOCIATIONS; i++) {
        classic_udp_close(&all[i]);
    }
}

START_TEST(two_hundred_associations)
{
    for (size_t j = 0; j < DESTINATIONS; j++) {
        echoes[j] = server_endpoint(server_echo(lab, SOCK_DGRAM));
    }
    const unsigned fds = measure_at_rest().fds[2];
    for (int i = 0; i < WARM_UP; i++) {
        associate_all();
    }
    ck_assert_uint_eq(measure_at_rest().fds[2], fds); /* nothing is kept */
    check_rounds(associate_all);
}
END_TEST

int main(void)
{
    lab_require();
    Suite *suite = suite_create("classic-load");
    TCase *tcase = tcase_create("many");
    tcase_set_timeout(tcase, 200);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_thousand_connections);
    tcase_add_test(tcase, two_hundred_associations);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
