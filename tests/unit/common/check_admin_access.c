/* Who may use the admin socket, for how long, and where it comes from. */
#include "tests/unit/common/admin_support.h"

#include <grp.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define NOBODY 65534
#define GROUP 4243

static unsigned accepts;

/* Comes before the C library's. */
int accept4(int fd, __SOCKADDR_ARG address, socklen_t *length, int flags)
{
    accepts++;
    return (int)syscall(SYS_accept4, fd, address.__sockaddr__, length, flags);
}

/* A client with other credentials in a process of its own. Exits with 0 when it was answered, 3
 * when it was closed. */
static pid_t client_as(uid_t uid, gid_t gid, gid_t supplementary)
{
    pid_t child = fork();
    if (child != 0) {
        return child;
    }
    if (setgroups(1, &supplementary) < 0 || setresgid(gid, gid, gid) < 0 ||
        setresuid(uid, uid, uid) < 0) {
        _exit(1);
    }
    uint8_t frame[1024];
    int fd = unix_connect(path);
    if (fd < 0 || fcntl(fd, F_SETFL, 0) < 0) {
        _exit(2);
    }
    struct admin_request request = {.version = ADMIN_VERSION, .type = ADMIN_STATUS};
    size_t length = admin_request_encode(&request, frame, sizeof(frame));
    (void)!send(fd, frame, length, MSG_NOSIGNAL);
    _exit(recv(fd, frame, sizeof(frame), 0) > 0 ? 0 : 3);
}

static int status_of(pid_t child)
{
    int status = 0;
    TEST_RUN_UNTIL(&test,
                   (uv_run(&test.loop, UV_RUN_NOWAIT), waitpid(child, &status, WNOHANG) != 0));
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* Ends TEST_RUN_UNTIL's sleep now and then: a child's exit is no event of the loop. */
static uv_timer_t tick;

static void on_tick(uv_timer_t *timer)
{
    (void)timer;
}

static void start_open_to_all(gid_t group)
{
    struct admin_server_config config = standard();
    config.group = group;
    start_with(&config, &all_ops);
    ck_assert_int_eq(chmod(path, 0666), 0); /* so that the credentials alone decide */
    uv_timer_init(&test.loop, &tick);
    uv_timer_start(&tick, on_tick, 1, 2);
}

static void finish_open_to_all(void)
{
    uv_close((uv_handle_t *)&tick, NULL);
    finish();
}

static bool is_root(void)
{
    if (geteuid() != 0) {
        fprintf(stderr, "skipped: needs root\n");
    }
    return geteuid() == 0;
}

START_TEST(strangers_are_closed_and_counted)
{
    if (!is_root()) {
        return;
    }
    start_open_to_all(_i ? GROUP : (gid_t)-1);
    ck_assert_int_eq(status_of(client_as(NOBODY, NOBODY, NOBODY)), 3);
    ck_assert_uint_eq(admin_server_stats(server).refused, 1);
    ck_assert_uint_eq(admin_server_stats(server).connections, 0);
    ck_assert_uint_eq(admin_server_stats(server).requests, 0);
    finish_open_to_all();
}
END_TEST

START_TEST(members_of_the_group_are_answered)
{
    if (!is_root()) {
        return;
    }
    start_open_to_all(GROUP);
    ck_assert_int_eq(status_of(client_as(NOBODY, GROUP, NOBODY)), 0);
    ck_assert_int_eq(status_of(client_as(NOBODY, NOBODY, GROUP)), 0);
    ck_assert_int_eq(status_of(client_as(0, 0, 0)), 0);
    ck_assert_uint_eq(admin_server_stats(server).refused, 0);
    ck_assert_uint_eq(admin_server_stats(server).requests, 3);
    finish_open_to_all();
}
END_TEST

START_TEST(own_user_is_answered)
{
    if (!is_root()) {
        return;
    }
    start_open_to_all((gid_t)-1);
    pid_t same = client_as(NOBODY, NOBODY, NOBODY), root = client_as(0, 0, 0),
          other = client_as(NOBODY - 1, NOBODY, NOBODY);
    ck_assert_int_eq(seteuid(NOBODY), 0); /* as a daemon that gave root up */
    ck_assert_int_eq(status_of(same), 0);
    ck_assert_int_eq(status_of(root), 0);
    ck_assert_int_eq(status_of(other), 3);
    ck_assert_int_eq(seteuid(0), 0);
    finish_open_to_all();
}
END_TEST

START_TEST(socket_file_is_for_the_group)
{
    struct stat status;
    struct admin_server_config config = standard();
    config.group = is_root() ? GROUP : getegid();
    start_with(&config, &all_ops);
    ck_assert_int_eq(stat(path, &status), 0);
    ck_assert_uint_eq(status.st_mode & 0777, 0660);
    ck_assert_uint_eq(status.st_gid, config.group);
    finish();
}
END_TEST

/* ADMIN-CONN-010 */
START_TEST(at_most_so_many_connections)
{
    struct admin_server_config config = standard();
    config.max_connections = 2;
    start_with(&config, &all_ops);
    int a = client(), b = client(), c = client();
    expect_eof(c);
    ck_assert_uint_eq(admin_server_stats(server).refused, 1);
    ask(a, ADMIN_STATUS, 0);
    expect_answer(a, ADMIN_ANSWER_STATUS);
    close(c);
    close(b);
    test_turns(&test, 3);
    int d = client();
    ask(d, ADMIN_STATUS, 0);
    expect_answer(d, ADMIN_ANSWER_STATUS);
    ck_assert_uint_eq(admin_server_stats(server).connections, 3);
    close(a);
    close(d);
    finish();
}
END_TEST

/* ADMIN-CONN-020 */
START_TEST(client_that_asks_nothing)
{
    struct admin_server_config config = standard();
    config.idle_timeout_ms = 20;
    start_with(&config, &all_ops);
    uint64_t begin = uv_now(&test.loop);
    int fd = client();
    expect_eof(fd);
    ck_assert_uint_ge(uv_now(&test.loop) - begin, 20);
    close(fd);
    finish();
}
END_TEST

/* ADMIN-CONN-020 */
START_TEST(client_that_does_not_read)
{
    struct admin_server_config config = standard();
    config.idle_timeout_ms = 30;
    start_with(&config, &all_ops);
    relays = 100000;
    int fd = client();
    ask(fd, ADMIN_RELAYS, 0);
    uv_timer_init(&test.loop, &tick);
    uv_timer_start(&tick, on_tick, 1, 2);
    /* The peer of a closed socket cannot send. */
    TEST_RUN_UNTIL(&test, send(fd, "", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE);
    uv_close((uv_handle_t *)&tick, NULL);
    ck_assert_uint_lt(looked, 10000);
    close(fd);
    finish();
}
END_TEST

START_TEST(client_that_asks_again_and_again)
{
    struct admin_server_config config = standard();
    config.idle_timeout_ms = 200;
    start_with(&config, &all_ops);
    int fd = client();
    uint64_t begin = uv_now(&test.loop);
    while (uv_now(&test.loop) - begin < 500) {
        ask(fd, ADMIN_STATUS, 0);
        expect_answer(fd, ADMIN_ANSWER_STATUS);
        expect_end(fd, 1);
    }
    close(fd);
    finish();
}
END_TEST

START_TEST(inherited_socket)
{
    char other[80];
    start();
    snprintf(other, sizeof(other), "%s/inherited", directory);
    struct admin_server_config config = standard();
    config.fd = unix_listen(other, 0600);
    ck_assert_int_ge(config.fd, 0);
    struct admin_server *second;
    ck_assert_int_eq(admin_server_open(&second, &test.loop, &config, &all_ops, &relays), 0);
    int fd = unix_connect(other);
    ask(fd, ADMIN_STATUS, 0);
    expect_answer(fd, ADMIN_ANSWER_STATUS);
    close(fd);
    admin_server_close(second);
    ck_assert_int_eq(access(other, F_OK), 0); /* the service manager's, not ours to remove */
    unlink(other);
    finish();
}
END_TEST

START_TEST(inherited_socket_that_does_not_listen)
{
    int pair[2];
    struct admin_server_config config = standard();
    start();
    test_socketpair(pair);
    config.fd = pair[0];
    struct admin_server *second;
    ck_assert_int_eq(admin_server_open(&second, &test.loop, &config, &all_ops, &relays), -EINVAL);
    ck_assert_ptr_null(second);
    ck_assert_int_lt(fcntl(pair[0], F_GETFD), 0); /* consumed */
    close(pair[1]);
    admin_server_close(second);
    finish();
}
END_TEST

START_TEST(path_in_use)
{
    struct admin_server_config config = standard();
    start();
    config.path = path;
    struct admin_server *second;
    ck_assert_int_eq(admin_server_open(&second, &test.loop, &config, &all_ops, &relays),
                     -EADDRINUSE);
    int fd = client(); /* the first goes on */
    ask(fd, ADMIN_STATUS, 0);
    expect_answer(fd, ADMIN_ANSWER_STATUS);
    close(fd);
    finish();
}
END_TEST

START_TEST(out_of_descriptors_and_back)
{
    struct rlimit before, none;
    start();
    int fd = client(); /* waits in the backlog */
    ask(fd, ADMIN_STATUS, 0);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 3;
    accepts = 0;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    test_turns(&test, 20);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
    ck_assert_uint_eq(accepts, 1); /* it does not try in every turn */
    ck_assert_uint_eq(admin_server_stats(server).connections, 0);
    expect_answer(fd, ADMIN_ANSWER_STATUS);
    close(fd);
    finish();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("admin server: access");
    TCase *c = tcase_create("who");
    tcase_set_timeout(c, 60);
    tcase_add_loop_test(c, strangers_are_closed_and_counted, 0, 2);
    tcase_add_test(c, members_of_the_group_are_answered);
    tcase_add_test(c, own_user_is_answered);
    tcase_add_test(c, socket_file_is_for_the_group);
    suite_add_tcase(s, c);
    c = tcase_create("how long");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, at_most_so_many_connections);
    tcase_add_test(c, client_that_asks_nothing);
    tcase_add_test(c, client_that_does_not_read);
    tcase_add_test(c, client_that_asks_again_and_again);
    suite_add_tcase(s, c);
    c = tcase_create("where");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, inherited_socket);
    tcase_add_test(c, inherited_socket_that_does_not_listen);
    tcase_add_test(c, path_in_use);
    tcase_add_test(c, out_of_descriptors_and_back);
    suite_add_tcase(s, c);
    return run_suite(s);
}
