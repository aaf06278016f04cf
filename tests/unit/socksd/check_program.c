/*
 * The program: its options, READY, inherited sockets, signals, and what it keeps open.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <check.h>

#include "common/net/sockaddr.h"

#define PATIENCE_MS 20000

static char directory[64], path[128];
static pid_t child;

static void setup(void)
{
    snprintf(directory, sizeof(directory), "/tmp/sockst-socksd-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/socksd.yaml", directory);
}

static void teardown(void)
{
    char admin[128];
    if (child > 0) {
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    unlink(path);
    snprintf(admin, sizeof(admin), "%s/admin.sock", directory);
    unlink(admin);
    ck_assert_int_eq(rmdir(directory), 0);
}

static void write_config(const char *text)
{
    FILE *to = fopen(path, "w");
    ck_assert_ptr_nonnull(to);
    fputs(text, to);
    fclose(to);
}

/* Starts the program with its standard output and error into `out`, and these descriptors kept as
 * 3, 4, … */
static void start(const char *const *arguments, int out, const int *keep, int keep_count,
                  const char *names)
{
    const char *argv[16] = {PROGRAM};
    for (int i = 0; arguments[i]; i++)
        argv[i + 1] = arguments[i];
    child = fork();
    ck_assert_int_ge(child, 0);
    if (child > 0)
        return;
    dup2(out, STDOUT_FILENO);
    dup2(out, STDERR_FILENO);
    int high[8]; /* out of the way first */
    for (int i = 0; i < keep_count; i++)
        high[i] = fcntl(keep[i], F_DUPFD_CLOEXEC, 100);
    for (int i = 0; i < keep_count; i++)
        dup2(high[i], 3 + i);
    if (names) {
        char text[32];
        snprintf(text, sizeof(text), "%d", (int)getpid());
        setenv("LISTEN_PID", text, 1);
        snprintf(text, sizeof(text), "%d", keep_count - 1);
        setenv("LISTEN_FDS", text, 1);
        setenv("LISTEN_FDNAMES", names, 1);
    }
    execv(PROGRAM, (char *const *)argv);
    _exit(127);
}

/* Reads until the end or until `wanted` is in it; returns what was read. */
static const char *read_output(int fd, const char *wanted)
{
    static char text[65536];
    size_t have = 0;
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    text[0] = '\0';
    while (poll(&readable, 1, PATIENCE_MS) == 1) {
        const ssize_t n = read(fd, text + have, sizeof(text) - 1 - have);
        if (n <= 0)
            break;
        have += (size_t)n;
        text[have] = '\0';
        if (wanted && strstr(text, wanted))
            break;
    }
    return text;
}

static int wait_exit(void)
{
    int status = 0;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    child = 0;
    ck_assert_msg(WIFEXITED(status), "killed by signal %d", WTERMSIG(status));
    return WEXITSTATUS(status);
}

/* Runs to the end; returns the exit status and the output. */
static int run(const char *const *arguments, const char **output)
{
    int out[2];
    ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
    start(arguments, out[1], NULL, 0, NULL);
    close(out[1]);
    *output = read_output(out[0], NULL);
    close(out[0]);
    return wait_exit();
}

#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

START_TEST(test_check)
{
    const char *output;
    write_config("relays: [{ptcl: tcp, socket: /x}]\n");
    ck_assert_int_eq(run(ARGS("-c", path, "--check"), &output), 0);
    ck_assert_str_eq(output, "");
    write_config("relays:\n  - {ptcl: tcp, socket: /x}\nlisten: [{address: \"::\", port: 108O}]\n");
    ck_assert_int_eq(run(ARGS("-c", path, "--check"), &output), 1);
    char begins[256];
    snprintf(begins, sizeof(begins), "socksd: %s:3:32: ", path);
    ck_assert_msg(strncmp(output, begins, strlen(begins)) == 0, "%s", output);
    ck_assert_int_eq(run(ARGS("--check"), &output), 0);
    ck_assert_int_eq(run(ARGS("-c", "/nonexistent/x.yaml", "--check"), &output), 1);
    ck_assert_ptr_nonnull(strstr(output, "/nonexistent/x.yaml"));
}
END_TEST

START_TEST(test_what_options_print)
{
    const char *output;
    ck_assert_int_eq(run(ARGS("--version"), &output), 0);
    ck_assert_str_eq(output, "socksd " SOCKST_VERSION "\n");
    ck_assert_int_eq(run(ARGS("--help"), &output), 0);
    ck_assert_ptr_nonnull(strstr(output, "--ready-fd"));
    ck_assert_int_eq(run(ARGS("--help-config"), &output), 0);
    ck_assert_ptr_nonnull(strstr(output, "learn-source-port"));
    ck_assert_int_eq(run(ARGS("--print-config"), &output), 0);
    ck_assert_ptr_nonnull(strstr(output, "/run/sockst/n2/tcp.sock"));
}
END_TEST

START_TEST(test_wrong_options)
{
    const char *output;
    ck_assert_int_eq(run(ARGS("--nonsense"), &output), 1);
    ck_assert_int_eq(run(ARGS("nonsense"), &output), 1);
    ck_assert_int_eq(run(ARGS("--ready-fd", "3x"), &output), 1);
    ck_assert_int_eq(run(ARGS("--ready-fd", "-1"), &output), 1);
    ck_assert_int_eq(run(ARGS("-c"), &output), 1);
    ck_assert_int_eq(run(ARGS("--ready-fd", "99"), &output), 1); /* not open */
}
END_TEST

static int listening_socket(struct endpoint *at)
{
    struct sockaddr_storage address;
    ck_assert_int_eq(endpoint_parse("127.0.0.1:0", at), 0);
    const socklen_t length = endpoint_to_sockaddr(at, &address);
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, length), 0);
    ck_assert_int_eq(listen(fd, 16), 0);
    ck_assert_int_eq(endpoint_local(fd, at), 0);
    return fd;
}

static int connect_to(const struct endpoint *endpoint)
{
    struct sockaddr_storage address;
    const socklen_t length = endpoint_to_sockaddr(endpoint, &address);
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, length), 0);
    return fd;
}

/* Serves on an inherited socket; returns the end of its log. */
static int start_serving(struct endpoint *at, int *log)
{
    char text[512];
    int out[2], ready[2];
    snprintf(text, sizeof(text),
             "relays: [{ptcl: tcp, socket: %s/n2.sock}]\nrules: [{action: allow}]\n"
             "admin: {socket: %s/admin.sock}\n",
             directory, directory);
    write_config(text);
    ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
    ck_assert_int_eq(pipe2(ready, O_CLOEXEC), 0);
    const int socket_fd = listening_socket(at);
    const int keep[] = {socket_fd, ready[1]};
    start(ARGS("-c", path, "--ready-fd", "4"), out[1], keep, 2, "socks");
    close(out[1]);
    close(ready[1]);
    close(socket_fd);
    const char *line = read_output(ready[0], NULL); /* to its end: the program has closed it */
    ck_assert_str_eq(line, "READY\n");
    close(ready[0]);
    *log = out[0];
    return 0;
}

START_TEST(test_serves_on_an_inherited_socket_until_a_signal)
{
    static const int signals[] = {SIGTERM, SIGINT};
    struct endpoint at;
    char octets[2];
    int log;
    start_serving(&at, &log);
    const int fd = connect_to(&at);
    ck_assert_int_eq(send(fd, "\x05\x01\x00", 3, 0), 3);
    ck_assert_int_eq(recv(fd, octets, 2, MSG_WAITALL), 2);
    ck_assert_mem_eq(octets, "\x05\x00", 2);
    kill(child, SIGHUP);
    ck_assert_ptr_nonnull(strstr(read_output(log, "reload-needs-restart"), "reload-needs-restart"));
    kill(child, signals[_i]);
    ck_assert_int_eq(recv(fd, octets, 1, 0), 0);
    ck_assert_int_eq(wait_exit(), 0);
    close(fd);
    close(log);
}
END_TEST

/* No relayd is there: the request gets its answer all the same, and status is told. */
START_TEST(test_without_a_relayd)
{
    static const uint8_t all[] = {5, 1,  0, 5, 4, 0, 1, 192, 0,    2,   80,
                                  0, 80, 6, 1, 0, 0, 0, 0,   0x9c, 0x40};
    static const uint8_t expected[] = {5, 0, 5, 1, 0, 1, 0, 0, 0, 0, 0, 0};
    struct endpoint at;
    uint8_t octets[sizeof(expected)];
    int log;
    start_serving(&at, &log);
    const int fd = connect_to(&at);
    ck_assert_int_eq(send(fd, all, sizeof(all), 0), sizeof(all));
    ck_assert_int_eq(recv(fd, octets, sizeof(octets), MSG_WAITALL), sizeof(octets));
    ck_assert_mem_eq(octets, expected, sizeof(expected));
    ck_assert_int_eq(recv(fd, octets, 1, 0), 0);
    close(fd);
    kill(child, SIGTERM);
    ck_assert_int_eq(wait_exit(), 0);
    close(log);
}
END_TEST

START_TEST(test_no_capability_is_left)
{
    struct endpoint at;
    char name[64], text[4096];
    int log;
    start_serving(&at, &log);
    snprintf(name, sizeof(name), "/proc/%d/status", (int)child);
    FILE *from = fopen(name, "r");
    ck_assert_ptr_nonnull(from);
    const size_t length = fread(text, 1, sizeof(text) - 1, from);
    text[length] = '\0';
    fclose(from);
    ck_assert_ptr_nonnull(strstr(text, "CapEff:\t0000000000000000"));
    ck_assert_ptr_nonnull(strstr(text, "CapPrm:\t0000000000000000"));
    ck_assert_ptr_nonnull(strstr(text, "NoNewPrivs:\t1"));
    kill(child, SIGTERM);
    ck_assert_int_eq(wait_exit(), 0);
    close(log);
}
END_TEST

START_TEST(test_address_in_use_is_an_error)
{
    struct endpoint at;
    char text[512];
    const char *output;
    const int taken = listening_socket(&at);
    snprintf(text, sizeof(text),
             "listen: [{address: 127.0.0.1, port: %u}]\nrelays: [{ptcl: tcp, socket: %s/n2.sock}]\n"
             "admin: {socket: %s/admin.sock}\n",
             at.port, directory, directory);
    write_config(text);
    ck_assert_int_eq(run(ARGS("-c", path), &output), 1);
    ck_assert_ptr_nonnull(strstr(output, "listen-failed"));
    close(taken);
}
END_TEST

static Suite *program_suite(void)
{
    Suite *suite = suite_create("program");
    TCase *tests = tcase_create("program");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, test_check);
    tcase_add_test(tests, test_what_options_print);
    tcase_add_test(tests, test_wrong_options);
    tcase_add_loop_test(tests, test_serves_on_an_inherited_socket_until_a_signal, 0, 2);
    tcase_add_test(tests, test_without_a_relayd);
    tcase_add_test(tests, test_no_capability_is_left);
    tcase_add_test(tests, test_address_in_use_is_an_error);
    suite_add_tcase(suite, tests);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(program_suite());
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
