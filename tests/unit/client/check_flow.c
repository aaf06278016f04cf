/* What sockst connect and forward do with an association, and when they let go of it: N1-END-030,
 * N1-END-040. */
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/client/command/flow.h"
#include "common/client/net.h"
#include "proto/ptcl.h"
#include "tests/unit/client/script.h"
#include "tests/unit/client/suite.h"

#define AMOUNT 3000000
#define FLOWS_MAX 2

/* One flow of the test: its server is a child, its local program the other end of a socket pair. */
struct subject {
    struct fixture *fixture;
    struct flow *flow;
    int program; /* what the local program holds */
    pid_t server;
    bool ended, opened;
    unsigned bound; /* times that BND was told */
    struct flow_result result;
};

struct fixture {
    struct loop loop;
    struct subject subjects[FLOWS_MAX];
    size_t count, running;
};

static void on_opened(struct flow *flow, const struct sockst_association *association, void *user)
{
    struct subject *subject = user;
    (void)flow;
    (void)association;
    subject->opened = true;
}

static void on_ended(struct flow *flow, const struct flow_result *result, void *user)
{
    struct subject *subject = user;
    ck_assert(!subject->ended); /* exactly once */
    subject->ended = true;
    subject->result = *result;
    flow_free(flow);
    subject->flow = NULL;
    if (--subject->fixture->running == 0)
        loop_stop(&subject->fixture->loop);
}

static void on_bound(struct flow *flow, const struct endpoint *bound, void *user)
{
    struct subject *subject = user;
    (void)flow;
    ck_assert_uint_eq(bound->port, 9);
    ck_assert(!subject->opened);
    subject->bound++;
}

static const struct flow_ops ops = {.bound = on_bound, .opened = on_opened, .ended = on_ended};

static void begin(struct fixture *fixture)
{
    memset(fixture, 0, sizeof(*fixture));
    ck_assert_int_eq(loop_init(&fixture->loop), 0);
}

/* In a child: an end that two processes hold is no end. Check's own files stay. */
static void close_sockets_but(int kept)
{
    for (int fd = 3; fd < 256; fd++) {
        struct stat status;
        if (fd != kept && fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode))
            close(fd);
    }
}

/* A child that plays the local program; like it, it holds one end and nothing else of ours. */
static pid_t fork_program(const struct subject *subject)
{
    pid_t pid = fork();
    if (pid == 0)
        close_sockets_but(subject->program);
    return pid;
}

/* `serve` runs in a child with the control connection accepted; it has to return 0. */
static struct subject *add_command(struct fixture *fixture, uint8_t command,
                                   int (*serve)(int control))
{
    struct subject *subject = &fixture->subjects[fixture->count++];
    struct endpoint proxy;
    int pair[2], listener = script_listen(SOCK_STREAM, &proxy);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    subject->fixture = fixture;
    subject->program = pair[1];
    subject->server = fork();
    if (subject->server == 0) {
        close_sockets_but(listener);
        _exit(serve(script_accept(listener)));
    }
    close(listener);
    struct sockst_options options = {
        .proxies = &proxy, .proxy_count = 1, .command = command, .ptcl = PTCL_TCP};
    ck_assert_int_eq(n1_host_from_name("a", 1, &options.destination), 0);
    ck_assert_int_eq(flow_open(&subject->flow, &fixture->loop, &options, SCRIPT_TIMEOUT_MS, pair[0],
                               pair[0], &ops, subject),
                     0);
    fixture->running++;
    return subject;
}

static struct subject *add(struct fixture *fixture, int (*serve)(int control))
{
    return add_command(fixture, N1_CMD_TRANSPARENT, serve);
}

static void finish(struct fixture *fixture)
{
    for (size_t i = 0; i < fixture->count; i++) {
        struct subject *subject = &fixture->subjects[i];
        int status = -1;
        flow_free(subject->flow);
        close(subject->program);
        ck_assert_int_eq(waitpid(subject->server, &status, 0), subject->server);
        ck_assert_msg(status == 0, "the server saw something else: status %d", status);
    }
    loop_free(&fixture->loop);
}

/* ---- servers, in the child
 * ----------------------------------------------------------------------------------------- */

static int join(int control)
{
    struct endpoint bound;
    int relay = script_listen(SOCK_STREAM, &bound);
    script_read_request(control);
    script_answer(control, 0, &bound);
    int data = script_accept(relay);
    close(relay);
    return data;
}

static size_t read_all(int fd)
{
    static uint8_t block[65536];
    size_t amount = 0;
    for (ssize_t got; (got = read(fd, block, sizeof(block))) > 0;)
        amount += (size_t)got;
    return amount;
}

/* Reads to the end, answers, ends in order, and only then ends N1. */
static int serve_in_order(int control)
{
    int data = join(control);
    if (read_all(data) != AMOUNT)
        return 1;
    script_write(data, "done", 4);
    close(data);
    close(control);
    return 0;
}

/* Ends in order and keeps N1: the client has to give up after SOCKST_LINGER_MS, not before. */
static int serve_and_keep(int control)
{
    int data = join(control);
    read_all(data);
    close(data);
    uint64_t ended_ms = net_now_ms();
    if (!script_read_end(control))
        return 2;
    uint64_t kept_ms = net_now_ms() - ended_ms;
    return kept_ms + 50 >= SOCKST_LINGER_MS && kept_ms < 3 * SOCKST_LINGER_MS ? 0 : 3;
}

/* Ends N1 in the middle; nothing comes after that. */
static int serve_and_drop(int control)
{
    int data = join(control);
    close(control);
    bool orderly = script_read_end(data);
    return orderly ? 4 : 0; /* the target must not take it for a whole transfer */
}

static int serve_and_reset(int control)
{
    uint8_t octet;
    int data = join(control);
    script_read(data, &octet, 1);
    script_reset(data);
    return script_read_end(control) ? 0 : 0;
}

static void grant_classic(int control)
{
    struct endpoint bound;
    struct n1_request request = script_read_request_in_step(control);
    ck_assert_int_eq(endpoint_parse("192.0.2.1:9", &bound), 0);
    script_reply(control, N1_REP_SUCCEEDED, &bound);
    if (request.command == N1_CMD_BIND)
        script_reply(control, N1_REP_SUCCEEDED, &bound);
}

static int serve_classic(int control)
{
    grant_classic(control);
    if (read_all(control) != AMOUNT)
        return 1;
    script_write(control, "done", 4);
    close(control);
    return 0;
}

static int serve_classic_half_close(int control)
{
    grant_classic(control);
    script_write(control, "early", 5);
    shutdown(control, SHUT_WR);
    size_t amount = read_all(control);
    close(control);
    return amount == AMOUNT ? 0 : 5;
}

static int serve_classic_reset(int control)
{
    uint8_t octet;
    grant_classic(control);
    script_read(control, &octet, 1);
    script_reset(control);
    return 0;
}

static int serve_refusal(int control)
{
    script_read_request(control);
    script_answer(control, N1_REP_NOT_ALLOWED, NULL);
    script_read_end(control);
    return 0;
}

/* The target ends first; the upload goes on. */
static int serve_half_close(int control)
{
    int data = join(control);
    script_write(data, "early", 5);
    shutdown(data, SHUT_WR);
    size_t amount = read_all(data);
    close(data);
    close(control);
    return amount == AMOUNT ? 0 : 5;
}

/* Both ends pass, then N1, before the client has read anything of what is on its way. */
static int serve_and_leave(int control)
{
    static uint8_t block[200000];
    int data = join(control);
    read_all(data);
    script_write(data, block, sizeof(block));
    close(control);
    close(data);
    return 0;
}

/* ---- the local program
 * -----------------------------------------------------------------------------------------------
 */

/* A child that uploads and exits at once, as N1-END-030 wants it. */
static pid_t upload(const struct subject *subject, size_t amount)
{
    pid_t pid = fork_program(subject);
    if (pid == 0) {
        static uint8_t block[10000];
        for (size_t done = 0; done < amount; done += sizeof(block)) {
            if (write(subject->program, block, sizeof(block)) != (ssize_t)sizeof(block))
                _exit(1);
        }
        shutdown(subject->program, SHUT_WR);
        _exit(0);
    }
    return pid;
}

static void reap(pid_t pid)
{
    int status = -1;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
}

START_TEST(a_whole_transfer_is_complete)
{
    struct fixture fixture;
    uint8_t answer[5];
    size_t fds = script_count_fds();
    begin(&fixture);
    struct subject *subject = add(&fixture, serve_in_order);
    pid_t program = upload(subject, AMOUNT);
    loop_run(&fixture.loop);
    reap(program);
    ck_assert(subject->opened);
    ck_assert_msg(subject->result.complete, "%s", subject->result.failure.text);
    ck_assert_uint_eq(subject->result.up_bytes, AMOUNT);
    ck_assert_uint_eq(subject->result.down_bytes, 4);
    ck_assert_int_eq(recv(subject->program, answer, sizeof(answer), MSG_WAITALL), 4);
    ck_assert_mem_eq(answer, "done", 4);
    finish(&fixture);
    ck_assert_uint_eq(script_count_fds(), fds);
}
END_TEST

START_TEST(the_other_side_may_end_first)
{
    struct fixture fixture;
    uint8_t answer[6];
    begin(&fixture);
    struct subject *subject = add(&fixture, serve_half_close);
    pid_t program = fork_program(subject);
    if (program == 0) {
        /* Uploads only when the other direction has ended. */
        ssize_t got = recv(subject->program, answer, sizeof(answer), MSG_WAITALL);
        static uint8_t block[AMOUNT];
        _exit(got == 5 && send(subject->program, block, sizeof(block), MSG_NOSIGNAL) == AMOUNT &&
                      shutdown(subject->program, SHUT_WR) == 0
                  ? 0
                  : 1);
    }
    loop_run(&fixture.loop);
    ck_assert_msg(subject->result.complete, "%s", subject->result.failure.text);
    reap(program);
    finish(&fixture);
}
END_TEST

/* CONNECT and BIND: the data travels in N1, and its end is the end. */
START_TEST(a_classic_transfer_is_complete)
{
    static const uint8_t commands[] = {N1_CMD_CONNECT, N1_CMD_BIND};
    for (size_t i = 0; i < 2; i++) {
        struct fixture fixture;
        uint8_t answer[5];
        size_t fds = script_count_fds();
        begin(&fixture);
        struct subject *subject = add_command(&fixture, commands[i], serve_classic);
        pid_t program = upload(subject, AMOUNT);
        uint64_t begun_ms = net_now_ms();
        loop_run(&fixture.loop);
        reap(program);
        ck_assert_msg(subject->result.complete, "%s", subject->result.failure.text);
        ck_assert_uint_eq(subject->bound, commands[i] == N1_CMD_BIND ? 1 : 0);
        ck_assert_uint_eq(subject->result.up_bytes, AMOUNT);
        ck_assert_int_eq(recv(subject->program, answer, sizeof(answer), MSG_WAITALL), 4);
        ck_assert_uint_lt(net_now_ms() - begun_ms, SOCKST_LINGER_MS); /* nothing to wait for */
        finish(&fixture);
        ck_assert_uint_eq(script_count_fds(), fds);
    }
}
END_TEST

START_TEST(a_classic_target_may_end_first)
{
    struct fixture fixture;
    begin(&fixture);
    struct subject *subject = add_command(&fixture, N1_CMD_CONNECT, serve_classic_half_close);
    pid_t program = fork_program(subject);
    if (program == 0) {
        static uint8_t block[AMOUNT];
        uint8_t answer[6];
        ssize_t got = recv(subject->program, answer, sizeof(answer), MSG_WAITALL);
        _exit(got == 5 && send(subject->program, block, sizeof(block), MSG_NOSIGNAL) == AMOUNT &&
                      shutdown(subject->program, SHUT_WR) == 0
                  ? 0
                  : 1);
    }
    loop_run(&fixture.loop);
    ck_assert_msg(subject->result.complete, "%s", subject->result.failure.text);
    reap(program);
    finish(&fixture);
}
END_TEST

START_TEST(a_classic_reset_is_incomplete)
{
    struct fixture fixture;
    begin(&fixture);
    struct subject *subject = add_command(&fixture, N1_CMD_CONNECT, serve_classic_reset);
    ck_assert_int_eq(write(subject->program, "x", 1), 1);
    loop_run(&fixture.loop);
    ck_assert(!subject->result.complete);
    ck_assert_int_eq(subject->result.failure.error, SOCKST_E_DATA);
    finish(&fixture);
}
END_TEST

/* N1-END-030: both rules about the five seconds, side by side. */
START_TEST(n1_is_kept_after_the_end_and_waited_for_after_its_own)
{
    struct fixture fixture;
    begin(&fixture);
    struct subject *kept = add(&fixture, serve_and_keep);
    struct subject *dropped = add(&fixture, serve_and_drop);
    shutdown(kept->program, SHUT_WR);
    loop_run(&fixture.loop);
    ck_assert_msg(kept->result.complete, "%s", kept->result.failure.text);
    ck_assert(!dropped->result.complete);
    ck_assert_int_eq(dropped->result.failure.error, SOCKST_E_CLOSED);
    finish(&fixture);
}
END_TEST

START_TEST(what_was_on_its_way_still_arrives)
{
    static uint8_t block[200001];
    struct fixture fixture;
    begin(&fixture);
    struct subject *subject = add(&fixture, serve_and_leave);
    shutdown(subject->program, SHUT_WR);
    pid_t program = fork_program(subject);
    if (program == 0)
        _exit(recv(subject->program, block, sizeof(block), MSG_WAITALL) == 200000 ? 0 : 1);
    loop_run(&fixture.loop);
    ck_assert_msg(subject->result.complete, "%s", subject->result.failure.text);
    reap(program);
    finish(&fixture);
}
END_TEST

/* N1-END-040 */
START_TEST(a_reset_is_incomplete_and_passed_on)
{
    struct fixture fixture;
    uint8_t octet;
    begin(&fixture);
    struct subject *subject = add(&fixture, serve_and_reset);
    ck_assert_int_eq(write(subject->program, "x", 1), 1);
    loop_run(&fixture.loop);
    ck_assert(!subject->result.complete);
    ck_assert_int_eq(subject->result.failure.error, SOCKST_E_DATA);
    ck_assert_int_le(recv(subject->program, &octet, 1, 0), 0);
    finish(&fixture);
}
END_TEST

START_TEST(a_refusal_is_reported)
{
    struct fixture fixture;
    begin(&fixture);
    struct subject *subject = add(&fixture, serve_refusal);
    loop_run(&fixture.loop);
    ck_assert(!subject->opened);
    ck_assert(!subject->result.complete);
    ck_assert_int_eq(subject->result.failure.error, SOCKST_E_REPLY);
    ck_assert_uint_eq(subject->result.failure.reply, N1_REP_NOT_ALLOWED);
    finish(&fixture);
}
END_TEST

START_TEST(a_local_program_that_is_killed_is_no_whole_transfer)
{
    struct fixture fixture;
    begin(&fixture);
    struct subject *subject = add(&fixture, serve_and_drop);
    flow_free(subject->flow); /* as on SIGTERM, while it opens */
    subject->flow = NULL;
    kill(subject->server, SIGKILL);
    int status;
    waitpid(subject->server, &status, 0);
    close(subject->program);
    ck_assert(!subject->ended);
    loop_free(&fixture.loop);
}
END_TEST

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    TCase *tcase = tcase_create("flow");
    tcase_set_timeout(tcase, 40);
    tcase_add_test(tcase, a_whole_transfer_is_complete);
    tcase_add_test(tcase, the_other_side_may_end_first);
    tcase_add_test(tcase, a_classic_transfer_is_complete);
    tcase_add_test(tcase, a_classic_target_may_end_first);
    tcase_add_test(tcase, a_classic_reset_is_incomplete);
    tcase_add_test(tcase, n1_is_kept_after_the_end_and_waited_for_after_its_own);
    tcase_add_test(tcase, what_was_on_its_way_still_arrives);
    tcase_add_test(tcase, a_reset_is_incomplete_and_passed_on);
    tcase_add_test(tcase, a_refusal_is_reported);
    tcase_add_test(tcase, a_local_program_that_is_killed_is_no_whole_transfer);
    return run_tests(tcase);
}
