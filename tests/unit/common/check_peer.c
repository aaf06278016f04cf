#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/ipc/peer.h"

#define NOBODY 65534

static char directory[] = "/tmp/check_peer.XXXXXX";
static char path[sizeof(directory) + 16];

static void setup(void)
{
    strcpy(directory + sizeof(directory) - 7, "XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    ck_assert_int_eq(chmod(directory, 0755), 0);
    snprintf(path, sizeof(path), "%s/s", directory);
}

static void teardown(void)
{
    unlink(path);
    ck_assert_int_eq(rmdir(directory), 0);
}

static int listen_ok(mode_t mode)
{
    int fd = unix_listen(path, mode);
    ck_assert_msg(fd >= 0, "unix_listen: %s", strerror(-fd));
    return fd;
}

START_TEST(credentials_of_ourselves)
{
    int pair[2];
    struct peer_credentials who;
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    ck_assert_int_eq(peer_credentials_get(pair[0], &who), 0);
    ck_assert_uint_eq(who.uid, geteuid());
    ck_assert_uint_eq(who.gid, getegid());
    ck_assert_int_eq(who.pid, getpid());
    ck_assert(peer_is_in_group(pair[0], getegid()));
    ck_assert(!peer_is_in_group(pair[0], 54321));
    ck_assert(!peer_is_in_group(pair[0], (gid_t)-1));
    close(pair[0]);
    close(pair[1]);
}
END_TEST

START_TEST(credentials_of_what_has_none)
{
    struct peer_credentials who;
    ck_assert_int_lt(peer_credentials_get(-1, &who), 0);
    int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
    ck_assert_int_lt(peer_credentials_get(file, &who), 0);
    ck_assert(!peer_is_in_group(file, getegid()));
    close(file);
    int lonely = socket(AF_UNIX, SOCK_STREAM, 0);
    ck_assert_int_lt(peer_credentials_get(lonely, &who), 0);
    close(lonely);
}
END_TEST

/* A peer with other credentials: a child that connects and waits for us to close. */
static pid_t connect_as(uid_t uid, gid_t gid, const gid_t *groups, size_t count)
{
    pid_t child = fork();
    if (child == 0) {
        if (setgroups(count, groups) < 0 || setresgid(gid, gid, gid) < 0 ||
            setresuid(uid, uid, uid) < 0) {
            _exit(1);
        }
        int fd = unix_connect(path);
        char octet;
        if (fd < 0 || fcntl(fd, F_SETFL, 0) < 0 || read(fd, &octet, 1) != 0) {
            _exit(2);
        }
        _exit(0);
    }
    return child;
}

static void expect_exit(pid_t child, int expected)
{
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), expected);
}

static int accept_one(int listener)
{
    ck_assert_int_eq(fcntl(listener, F_SETFL, 0), 0); /* blocking: the client is on its way */
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    return fd;
}

START_TEST(credentials_and_groups_of_another)
{
    gid_t groups[200];
    size_t count = _i ? 200 : 3; /* 200: more than fit at the first attempt */
    struct peer_credentials who;
    if (geteuid() != 0) {
        fprintf(stderr, "skipped: needs root\n");
        return;
    }
    for (size_t i = 0; i < count; i++) {
        groups[i] = (gid_t)(70000 + i);
    }
    int listener = listen_ok(0666);
    pid_t child = connect_as(NOBODY, 4242, groups, count);
    int fd = accept_one(listener);
    ck_assert_int_eq(peer_credentials_get(fd, &who), 0);
    ck_assert_uint_eq(who.uid, NOBODY);
    ck_assert_uint_eq(who.gid, 4242);
    ck_assert_int_eq(who.pid, child);
    ck_assert(peer_is_in_group(fd, 4242));
    ck_assert(peer_is_in_group(fd, 70000));
    ck_assert(peer_is_in_group(fd, (gid_t)(70000 + count - 1)));
    ck_assert(!peer_is_in_group(fd, (gid_t)(70000 + count)));
    ck_assert(!peer_is_in_group(fd, 0));
    close(fd);
    close(listener);
    expect_exit(child, 0);
}
END_TEST

START_TEST(listen_and_connect)
{
    struct stat status;
    mode_t before = umask(0077);
    int listener = listen_ok(0660);
    ck_assert_uint_eq(umask(before), 0077); /* left as it was */
    ck_assert_int_eq(lstat(path, &status), 0);
    ck_assert(S_ISSOCK(status.st_mode));
    ck_assert_uint_eq(status.st_mode & 0777, 0660);
    ck_assert_int_eq(fcntl(listener, F_GETFD), FD_CLOEXEC);
    ck_assert_int_ne(fcntl(listener, F_GETFL) & O_NONBLOCK, 0);
    ck_assert_int_lt(accept(listener, NULL, NULL), 0);
    ck_assert_int_eq(errno, EAGAIN);
    int client = unix_connect(path);
    ck_assert_int_ge(client, 0);
    ck_assert_int_eq(fcntl(client, F_GETFD), FD_CLOEXEC);
    ck_assert_int_ne(fcntl(client, F_GETFL) & O_NONBLOCK, 0);
    int server = accept(listener, NULL, NULL);
    ck_assert_int_ge(server, 0);
    close(server);
    close(client);
    close(listener);
}
END_TEST

START_TEST(mode_keeps_others_out)
{
    if (geteuid() != 0) {
        fprintf(stderr, "skipped: needs root\n");
        return;
    }
    int listener = listen_ok(0660);
    expect_exit(connect_as(NOBODY, NOBODY, NULL, 0), 2);
    close(listener);
}
END_TEST

START_TEST(socket_of_a_dead_process_is_replaced)
{
    close(listen_ok(0660));
    int listener = listen_ok(0600);
    int client = unix_connect(path);
    ck_assert_int_ge(client, 0);
    close(client);
    close(listener);
}
END_TEST

START_TEST(socket_in_use_is_not_replaced)
{
    int listener = listen_ok(0660);
    ck_assert_int_eq(unix_listen(path, 0660), -EADDRINUSE);
    int client = unix_connect(path);
    ck_assert_int_ge(client, 0);
    close(client);
    close(listener);
}
END_TEST

START_TEST(socket_with_a_full_backlog_is_not_replaced)
{
    static int clients[4096];
    int listener = listen_ok(0660), count = 0, fd;
    while ((fd = unix_connect(path)) >= 0) {
        clients[count++] = fd;
    }
    ck_assert_int_eq(fd, -EAGAIN);
    ck_assert_int_eq(unix_listen(path, 0660), -EADDRINUSE);
    while (count > 0) {
        close(clients[--count]);
    }
    close(listener);
}
END_TEST

START_TEST(file_that_is_no_socket_is_left_alone)
{
    struct stat status;
    close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
    ck_assert_int_eq(unix_listen(path, 0660), -EADDRINUSE);
    ck_assert_int_eq(lstat(path, &status), 0);
    ck_assert(S_ISREG(status.st_mode));
}
END_TEST

START_TEST(symbolic_link_is_left_alone)
{
    struct stat status;
    ck_assert_int_eq(symlink("/nowhere", path), 0);
    ck_assert_int_eq(unix_listen(path, 0660), -EADDRINUSE);
    ck_assert_int_eq(lstat(path, &status), 0);
    ck_assert(S_ISLNK(status.st_mode));
}
END_TEST

START_TEST(paths_that_cannot_be)
{
    char longest[sizeof(((struct sockaddr_un *)0)->sun_path) + 1];
    memset(longest, 'x', sizeof(longest));
    longest[0] = '/';
    longest[sizeof(longest) - 1] = '\0'; /* one octet too long */
    ck_assert_int_eq(unix_listen(longest, 0660), -ENAMETOOLONG);
    ck_assert_int_eq(unix_connect(longest), -ENAMETOOLONG);
    ck_assert_int_eq(unix_listen("", 0660), -EINVAL);
    ck_assert_int_eq(unix_connect(""), -EINVAL);
    ck_assert_int_eq(unix_connect(path), -ENOENT);
    ck_assert_int_eq(unix_listen("/nonexistent/directory/s", 0660), -ENOENT);
    close(listen_ok(0660));
    ck_assert_int_eq(unix_connect(path), -ECONNREFUSED);
}
END_TEST

START_TEST(longest_path)
{
    char longest[sizeof(((struct sockaddr_un *)0)->sun_path)];
    memset(longest, 'x', sizeof(longest));
    memcpy(longest, path, strlen(path));
    longest[sizeof(longest) - 1] = '\0';
    int listener = unix_listen(longest, 0660);
    ck_assert_int_ge(listener, 0);
    int client = unix_connect(longest);
    ck_assert_int_ge(client, 0);
    close(client);
    close(listener);
    ck_assert_int_eq(unlink(longest), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("peer");
    TCase *c = tcase_create("peer");
    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, credentials_of_ourselves);
    tcase_add_test(c, credentials_of_what_has_none);
    tcase_add_loop_test(c, credentials_and_groups_of_another, 0, 2);
    tcase_add_test(c, listen_and_connect);
    tcase_add_test(c, mode_keeps_others_out);
    tcase_add_test(c, socket_of_a_dead_process_is_replaced);
    tcase_add_test(c, socket_in_use_is_not_replaced);
    tcase_add_test(c, socket_with_a_full_backlog_is_not_replaced);
    tcase_add_test(c, file_that_is_no_socket_is_left_alone);
    tcase_add_test(c, symbolic_link_is_left_alone);
    tcase_add_test(c, paths_that_cannot_be);
    tcase_add_test(c, longest_path);
    suite_add_tcase(s, c);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
