#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/system/service.h"

/* systemd's end of sd_notify, under an abstract name of our own. */
static int manager = -1;

static void become_manager(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char name[64];

    snprintf(name, sizeof(name), "@sockst-check-service-%d", (int)getpid());
    memcpy(address.sun_path + 1, name + 1, strlen(name) - 1);
    manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(manager, 0);
    ck_assert_int_eq(bind(manager, (struct sockaddr *)&address,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name))),
                     0);
    setenv("NOTIFY_SOCKET", name, 1);
}

static const char *notified(void)
{
    static char text[512];
    ssize_t length = recv(manager, text, sizeof(text) - 1, MSG_DONTWAIT);

    text[length > 0 ? length : 0] = '\0';
    return text;
}

static void quiet(void)
{
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

    dup2(null, STDERR_FILENO);
    close(null);
}

START_TEST(systemd_is_told)
{
    become_manager();
    quiet();
    service_ready("2 listeners");
    ck_assert_str_eq(notified(), "READY=1\nSTATUS=2 listeners");
    service_status("3 relays");
    ck_assert_str_eq(notified(), "STATUS=3 relays");
    service_reloading();
    ck_assert_int_eq(strncmp(notified(), "RELOADING=1\nMONOTONIC_USEC=", 27), 0);
    service_ready("again");
    ck_assert_str_eq(notified(), "READY=1\nSTATUS=again");
    service_stopping();
    ck_assert_str_eq(notified(), "STOPPING=1");
}
END_TEST

START_TEST(nothing_happens_without_systemd)
{
    uv_loop_t loop;

    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("LISTEN_FDS");
    quiet();
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    service_watchdog_start(&loop);
    service_ready("x");
    service_status("x");
    service_reloading();
    service_stopping();
    service_watchdog_stop();
    ck_assert_int_eq(service_listen_fds(), 0);
    ck_assert_int_eq(service_take_fd("n2"), -1);
    service_close_unused_fds();
    ck_assert_int_eq(uv_loop_close(&loop), 0);
}
END_TEST

START_TEST(ready_is_logged_once)
{
    char text[512];
    int pair[2];
    ssize_t length;

    unsetenv("NOTIFY_SOCKET");
    ck_assert_int_eq(pipe2(pair, O_CLOEXEC), 0);
    ck_assert_int_eq(dup2(pair[1], STDERR_FILENO), STDERR_FILENO);
    service_ready("all good");
    length = read(pair[0], text, sizeof(text) - 1);
    ck_assert_int_gt(length, 0);
    text[length] = '\0';
    ck_assert_ptr_nonnull(strstr(text, " notice ready status=\"all good\"\n"));
}
END_TEST

START_TEST(the_ready_fd_gets_a_line_and_the_end)
{
    char text[64];
    int pair[2];

    unsetenv("NOTIFY_SOCKET");
    quiet();
    ck_assert_int_eq(pipe2(pair, O_NONBLOCK), 0);
    ck_assert_int_eq(service_ready_fd(pair[1]), 0);
    ck_assert_int_eq(fcntl(pair[1], F_GETFD), FD_CLOEXEC);
    ck_assert_int_eq(read(pair[0], text, sizeof(text)), -1);
    service_ready("x");
    ck_assert_int_eq(read(pair[0], text, sizeof(text)), 6);
    ck_assert_mem_eq(text, "READY\n", 6);
    ck_assert_int_eq(read(pair[0], text, sizeof(text)), 0);
    service_ready("again");
    service_stopping();
    close(pair[0]);
}
END_TEST

START_TEST(a_daemon_that_never_gets_ready_closes_it)
{
    char text[64];
    int pair[2];

    unsetenv("NOTIFY_SOCKET");
    ck_assert_int_eq(pipe2(pair, O_NONBLOCK), 0);
    ck_assert_int_eq(service_ready_fd(pair[1]), 0);
    service_stopping();
    ck_assert_int_eq(read(pair[0], text, sizeof(text)), 0);
    service_stopping();
    ck_assert_int_eq(service_ready_fd(pair[1]), -EBADF);
    ck_assert_int_eq(service_ready_fd(-1), -EBADF);
    close(pair[0]);
}
END_TEST

static int watchdog_messages;

static void on_manager_readable(uv_poll_t *poll_handle, int status, int events)
{
    (void)status;
    (void)events;
    ck_assert_str_eq(notified(), "WATCHDOG=1");
    if (++watchdog_messages == 3) {
        service_watchdog_stop();
        service_watchdog_stop();
        uv_close((uv_handle_t *)poll_handle, NULL);
    }
}

START_TEST(the_watchdog_is_fed)
{
    uv_poll_t poll_handle;
    uv_loop_t loop;
    char pid[16];

    become_manager();
    snprintf(pid, sizeof(pid), "%d", (int)getpid());
    setenv("WATCHDOG_PID", pid, 1);
    setenv("WATCHDOG_USEC", "20000", 1);
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    service_watchdog_start(&loop);
    service_watchdog_start(&loop);
    ck_assert_msg(!uv_loop_alive(&loop), "the watchdog keeps the loop alive");
    ck_assert_int_eq(uv_poll_init(&loop, &poll_handle, manager), 0);
    ck_assert_int_eq(uv_poll_start(&poll_handle, UV_READABLE, on_manager_readable), 0);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(watchdog_messages, 3);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
}
END_TEST

START_TEST(another_processes_watchdog_is_not_ours)
{
    uv_loop_t loop;

    become_manager();
    setenv("WATCHDOG_PID", "1", 1);
    setenv("WATCHDOG_USEC", "20000", 1);
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    service_watchdog_start(&loop);
    ck_assert_str_eq(notified(), "");
    ck_assert_int_eq(uv_loop_close(&loop), 0);
}
END_TEST

/* Runs in a child of its own, because descriptors 3 and up are Check's. Returns the failed line. */
static int inherit_in_child(void)
{
    char pid[16];
    int first, second;

    for (int fd = 3; fd < 7; fd++) {
        int made = socket(AF_UNIX, SOCK_STREAM, 0);

        if (made != fd && (dup2(made, fd) != fd || close(made) < 0))
            return __LINE__;
    }
    snprintf(pid, sizeof(pid), "%d", (int)getpid());
    setenv("LISTEN_PID", pid, 1);
    setenv("LISTEN_FDS", "4", 1);
    setenv("LISTEN_FDNAMES", "n2:admin:n2:other", 1);
    quiet();
    if (service_listen_fds() != 4)
        return __LINE__;
    if (getenv("LISTEN_FDS"))
        return __LINE__;
    if (service_take_fd("socks") != -1)
        return __LINE__;
    first = service_take_fd("n2");
    second = service_take_fd("n2");
    if (first != 3 || second != 5 || service_take_fd("n2") != -1)
        return __LINE__;
    if (fcntl(first, F_GETFD) != FD_CLOEXEC || !(fcntl(first, F_GETFL) & O_NONBLOCK))
        return __LINE__;
    if (service_take_fd("admin") != 4)
        return __LINE__;
    service_close_unused_fds();
    service_close_unused_fds();
    if (fcntl(6, F_GETFD) != -1 || errno != EBADF)
        return __LINE__;
    if (fcntl(3, F_GETFD) < 0 || fcntl(4, F_GETFD) < 0 || fcntl(5, F_GETFD) < 0)
        return __LINE__;
    return service_take_fd("other") == -1 ? 0 : __LINE__;
}

/* Somebody else's LISTEN_PID: not for us. */
static int ignore_in_child(void)
{
    setenv("LISTEN_PID", "1", 1);
    setenv("LISTEN_FDS", "1", 1);
    return service_listen_fds() == 0 && service_take_fd("n2") == -1 ? 0 : __LINE__;
}

static int too_many_in_child(void)
{
    char pid[16];

    snprintf(pid, sizeof(pid), "%d", (int)getpid());
    setenv("LISTEN_PID", pid, 1);
    setenv("LISTEN_FDS", "9999999", 1);
    return service_listen_fds() < 0 ? 0 : __LINE__;
}

static void in_child(int (*body)(void))
{
    pid_t child = fork();
    int status = 0;

    if (child == 0) {
        int line = body();

        if (line)
            dprintf(STDOUT_FILENO, "check_service.c:%d\n", line);
        _exit(line ? 1 : 0);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", status);
}

START_TEST(sockets_are_inherited_by_name)
{
    in_child(inherit_in_child);
}
END_TEST

START_TEST(sockets_of_others_are_not)
{
    in_child(ignore_in_child);
    in_child(too_many_in_child);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("service");
    TCase *tcase = tcase_create("service");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_add_test(tcase, systemd_is_told);
    tcase_add_test(tcase, nothing_happens_without_systemd);
    tcase_add_test(tcase, ready_is_logged_once);
    tcase_add_test(tcase, the_ready_fd_gets_a_line_and_the_end);
    tcase_add_test(tcase, a_daemon_that_never_gets_ready_closes_it);
    tcase_add_test(tcase, the_watchdog_is_fed);
    tcase_add_test(tcase, another_processes_watchdog_is_not_ours);
    tcase_add_test(tcase, sockets_are_inherited_by_name);
    tcase_add_test(tcase, sockets_of_others_are_not);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
