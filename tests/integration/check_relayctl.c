/*
 * relayctl against the daemons: every command, text and JSON, filters over both instances, a large
 * table for a slow reader, and who may ask at all.
 */
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/admin.h"
#include "proto/frame.h"
#include "proto/ptcl.h"
#include "tests/harness/daemons.h"
#include "tests/harness/n1_client.h"
#include "tests/harness/n2_client.h"
#include "tests/harness/proc.h"
#include "tests/harness/traffic.h"
#include "tests/harness/wait.h"

#define NOBODY 65534
#define TABLE 3000

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
    daemons = (struct daemons){.lab = lab};
}

static void teardown(void)
{
    daemons_stop(&daemons);
    lab_free(lab);
}

/* relayctl as it is typed, in text form; at most three arguments. */
static struct process *run_text(int *status, uid_t uid, gid_t group, const char *a, const char *b)
{
    const struct process_spec spec = {.name = "relayctl",
                                      .argv = {program_relayctl(), "--dir", daemons.admin, a, b},
                                      .uid = uid,
                                      .gid = uid,
                                      .group = group};
    return process_run(lab, LAB_RELAY, &spec, PATIENCE_MS, status);
}

static void check_text(const char *a, const char *b, const char *expected)
{
    int status;
    struct process *process = run_text(&status, 0, 0, a, b);
    ck_assert_msg(status == 0, "%s: exit status %d: %s", a, status, process_log(process));
    ck_assert_msg(strstr(process_output(process), expected) != NULL, "%s: no \"%s\" in: %s", a,
                  expected, process_output(process));
    process_free(process);
}

static size_t count_with(const char *a, const char *b)
{
    json_t *relays = daemons_relayctl(&daemons, "relays", a, b, NULL);
    const size_t count = json_array_size(relays);
    json_decref(relays);
    return count;
}

/* ADMIN-FILTER-010, ADMIN-END-010 */
START_TEST(filters_choose_among_the_relays_of_both_instances)
{
    char source[64], target[64];
    daemons = daemons_start(lab, NULL);
    struct association one = association_tcp(lab, server_endpoint(tcp));
    struct association other = association_udp(lab, server_endpoint(udp));
    const int n2 = n2_client_open(lab_path(lab, "n2/udp.sock"));
    struct n2_message order =
        n2_client_order(1, PTCL_UDP, at(LAB_CLIENT_V4_2, 4000), at(LAB_TARGET_V4_2, 53));
    strcpy(order.open_relay.user, "alice");
    ck_assert_int_eq(n2_client_ask(n2, &order).type, N2_RELAY_OPENED);

    ck_assert_uint_eq(count_with(NULL, NULL), 3);
    ck_assert_uint_eq(count_with("kind=transparent", NULL), 3);
    ck_assert_uint_eq(count_with("kind=connect", NULL), 0);
    ck_assert_uint_eq(count_with("plane=socket", NULL), 3);
    ck_assert_uint_eq(count_with("plane=bpf", NULL), 0);
    ck_assert_uint_eq(count_with("user=alice", NULL), 1);
    ck_assert_uint_eq(count_with("user=bob", NULL), 0);
    snprintf(source, sizeof(source), "source=%s", LAB_CLIENT_V4);
    ck_assert_uint_eq(count_with(source, NULL), 2);
    snprintf(target, sizeof(target), "destination=%s", LAB_TARGET_V4);
    ck_assert_uint_eq(count_with(target, source), 2);
    snprintf(target, sizeof(target), "destination=%s", LAB_TARGET_V4_2);
    ck_assert_uint_eq(count_with(target, NULL), 1);
    ck_assert_uint_eq(count_with(target, source), 0);
    check_text("relays", NULL, show(one.source));
    check_text("relays", "user=alice", LAB_TARGET_V4_2);
    check_text("status", NULL, "socksd");
    close(n2);
    association_close(&one);
    association_close(&other);
}
END_TEST

/* ADMIN-REQ-040, ADMIN-REQ-030, N2-RELAY-010 */
START_TEST(a_relay_is_shown_and_closed_by_its_id)
{
    daemons = daemons_start(lab, NULL);
    struct association both[] = {association_tcp(lab, server_endpoint(tcp)),
                                 association_udp(lab, server_endpoint(udp))};
    for (size_t i = 0; i < 2; i++) {
        json_t *relay = daemons_relay_at(&daemons, both[i].bound);
        ck_assert_ptr_nonnull(relay);
        const char *id = relay_text(relay, "id");
        check_text("show", id, show(both[i].source));
        json_t *shown = daemons_relayctl(&daemons, "show", id, NULL);
        ck_assert_str_eq(relay_text(shown, "bound"), show(both[i].bound));
        json_decref(shown);
        json_t *closed = daemons_relayctl(&daemons, "close", id, NULL);
        ck_assert(json_is_object(closed));
        json_decref(closed);
        ck_assert_int_ne(socket_wait_end(both[i].control, PATIENCE_MS), SOCKET_OPEN);
        WAIT_UNTIL(process_log_has(daemons.socksd, " access ", "reason=admin",
                                   i == 0 ? "tcp" : "udp", NULL),
                   PATIENCE_MS);
        ck_assert_int_eq(daemons_relayctl_status(&daemons, NULL, "show", id, NULL), 1);
        ck_assert_int_eq(daemons_relayctl_status(&daemons, NULL, "close", id, NULL), 1);
        json_decref(relay);
        association_close(&both[i]);
    }
    ck_assert_uint_eq(daemons_relay_count(&daemons), 0);
}
END_TEST

/* The next answer on an admin connection. */
static struct admin_answer next_answer(int fd)
{
    uint8_t header[FRAME_HEADER], payload[ADMIN_PAYLOAD_MAX];
    static alignas(max_align_t) uint8_t memory[ADMIN_ARENA_SIZE];
    struct admin_answer answer;
    struct arena arena;
    socket_receive_all(fd, header, sizeof(header), PATIENCE_MS);
    const size_t length = (size_t)header[2] << 8 | header[3];
    ck_assert_uint_le(length, sizeof(payload));
    socket_receive_all(fd, payload, length, PATIENCE_MS);
    arena_init(&arena, memory, sizeof(memory));
    ck_assert_int_eq(admin_answer_decode(payload, length, &arena, &answer, NULL), N2_OK);
    return answer;
}

/* ADMIN-TABLE-010, ADMIN-TABLE-020, ADMIN-TABLE-030, ADMIN-CONN-030 */
START_TEST(a_large_table_waits_for_its_reader_in_little_memory)
{
    uint8_t frame[FRAME_HEADER + ADMIN_PAYLOAD_MAX];
    static bool seen[TABLE + 1];
    daemons = daemons_start(lab, &(struct daemons_options){.relayd = {"log: {level: warning}"}});
    const int n2 = n2_client_open(lab_path(lab, "n2/udp.sock"));
    for (uint64_t i = 1; i <= TABLE; i++) {
        const struct n2_message order = n2_client_order(
            i, PTCL_UDP, at(LAB_CLIENT_V4, (uint16_t)(10000 + i)), server_endpoint(udp));
        ck_assert_int_eq(n2_client_ask(n2, &order).type, N2_RELAY_OPENED);
    }
    ck_assert_uint_eq(daemons_relay_count(&daemons), TABLE);
    const uint64_t rss = proc_rss_kib(process_pid(daemons.relayd_udp));

    /* Eight clients that ask and do not read; another one gets its whole table. */
    const struct admin_request request = {.version = ADMIN_VERSION, .type = ADMIN_RELAYS};
    const size_t length = admin_request_encode(&request, frame, sizeof(frame));
    int slow[8];
    for (size_t i = 0; i < 8; i++) {
        slow[i] = n2_client_connect(lab_path(lab, "admin/udp.sock"));
        socket_send(slow[i], frame, length);
    }
    ck_assert_uint_eq(daemons_relay_count(&daemons), TABLE);
    const uint64_t more = proc_rss_kib(process_pid(daemons.relayd_udp));
    ck_assert_msg(more <= rss + 8 * 256 || built_with_sanitizer(), "%u KiB resident, before %u",
                  (unsigned)more, (unsigned)rss);
    for (size_t i = 1; i < 8; i++) {
        close(slow[i]);
    }
    size_t count = 0;
    struct admin_answer answer;
    while ((answer = next_answer(slow[0])).type == ADMIN_ANSWER_RELAY) {
        ck_assert_uint_le(answer.relay.source.port - 10000u, TABLE);
        ck_assert(!seen[answer.relay.source.port - 10000]);
        seen[answer.relay.source.port - 10000] = true;
        count++;
    }
    ck_assert_int_eq(answer.type, ADMIN_ANSWER_END);
    ck_assert_uint_eq(count, TABLE);
    ck_assert_uint_eq(answer.count, TABLE);
    close(slow[0]);
    close(n2);
    WAIT_UNTIL(daemons_relay_count(&daemons) == 0, PATIENCE_MS);
}
END_TEST

/* ADMIN-PEER-010 */
START_TEST(only_root_and_the_group_may_ask)
{
    static const char *const sockets[] = {"admin/socksd.sock", "admin/tcp.sock", "admin/udp.sock"};
    char socksd[256], relayd[256];
    int status;
    snprintf(socksd, sizeof(socksd), "admin: {socket: %s/admin/socksd.sock, group: daemon}",
             lab_directory(lab));
    snprintf(relayd, sizeof(relayd), "admin: {directory: %s/admin, group: daemon}",
             lab_directory(lab));
    daemons = daemons_start(lab, &(struct daemons_options){.socksd = {socksd}, .relayd = {relayd}});
    for (size_t i = 0; i < 3; i++) { /* whatever the mode of the file */
        ck_assert_int_eq(chmod(lab_path(lab, sockets[i]), 0777), 0);
    }
    struct process *process = run_text(&status, NOBODY, 0, "status", NULL);
    ck_assert_int_eq(status, 2);
    ck_assert_str_eq(process_output(process), "");
    process_free(process);
    process = run_text(&status, NOBODY, 1, "status", NULL); /* 1: the group `daemon` */
    ck_assert_msg(status == 0, "%d: %s", status, process_log(process));
    ck_assert_ptr_nonnull(strstr(process_output(process), "socksd"));
    process_free(process);
    ck_assert_uint_eq(daemons_counter(&daemons, "tcp", "admin_refused"), 1);
}
END_TEST

int main(void)
{
    lab_require();
    Suite *suite = suite_create("relayctl");
    TCase *tcase = tcase_create("relayctl");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, filters_choose_among_the_relays_of_both_instances);
    tcase_add_test(tcase, a_relay_is_shown_and_closed_by_its_id);
    tcase_add_test(tcase, a_large_table_waits_for_its_reader_in_little_memory);
    tcase_add_test(tcase, only_root_and_the_group_may_ask);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
