/* Each test gives something up for good: Check forks a process for it, as the daemons are one. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/bpf.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/random.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>
#include <uv.h>

#include "common/system/privileges.h"
#include "common/system/sanitizer.h"

static void check_status(const char *key, const char *expected)
{
    FILE *status = fopen("/proc/self/status", "re");
    char line[256], *value = NULL;

    ck_assert_ptr_nonnull(status);
    while (fgets(line, sizeof(line), status)) {
        if (strncmp(line, key, strlen(key)) != 0 || line[strlen(key)] != ':')
            continue;
        line[strcspn(line, "\n")] = '\0';
        value = line + strlen(key) + 1 + strspn(line + strlen(key) + 1, "\t ");
        break;
    }
    fclose(status);
    ck_assert_msg(value, "no %s", key);
    ck_assert_msg(strcmp(value, expected) == 0, "%s: expected %s, got %s", key, expected, value);
}

static bool may(cap_value_t capability)
{
    cap_t now = cap_get_proc();
    cap_flag_value_t value = CAP_CLEAR;

    cap_get_flag(now, capability, CAP_EFFECTIVE, &value);
    cap_free(now);
    return value == CAP_SET;
}

static void become_nobody(void)
{
    ck_assert_int_eq(setgroups(0, NULL), 0);
    ck_assert_int_eq(setresgid(65534, 65534, 65534), 0);
    ck_assert_int_eq(setresuid(65534, 65534, 65534), 0);
}

static void check_nothing_left(void)
{
    check_status("CapInh", "0000000000000000");
    check_status("CapPrm", "0000000000000000");
    check_status("CapEff", "0000000000000000");
    check_status("CapAmb", "0000000000000000");
    check_status("NoNewPrivs", "1");
    ck_assert(privileges_none_left());
    ck_assert(SOCKST_SANITIZED || prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0);
}

START_TEST(root_drops_everything)
{
    if (geteuid() != 0 || !may(CAP_SETPCAP)) {
        fprintf(stderr, "skipped: needs root\n");
        return;
    }
    ck_assert(!privileges_none_left());
    ck_assert_int_eq(privileges_drop(), 0);
    check_nothing_left();
    check_status("CapBnd", "0000000000000000");
    ck_assert_uint_eq(geteuid(), 0);
    ck_assert_int_eq(mount("none", "/proc", "tmpfs", 0, NULL), -1);
    ck_assert_int_eq(errno, EPERM);
    /* Again: harmless. */
    ck_assert_int_eq(privileges_drop(), 0);
    check_nothing_left();
}
END_TEST

START_TEST(an_ordinary_user_may_call_it)
{
    if (geteuid() == 0)
        become_nobody();
    ck_assert_int_eq(privileges_drop(), 0);
    check_nothing_left();
}
END_TEST

/* As a unit with AmbientCapabilities= starts a daemon: some capabilities, and not CAP_SETPCAP. */
START_TEST(ambient_capabilities_are_dropped)
{
    cap_value_t some[] = {CAP_NET_ADMIN, CAP_NET_RAW};
    cap_t caps;

    if (geteuid() != 0 || !may(CAP_SETPCAP) || !may(CAP_NET_ADMIN) || !may(CAP_NET_RAW)) {
        fprintf(stderr, "skipped: needs root\n");
        return;
    }
    ck_assert_int_eq(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0), 0);
    become_nobody();
    caps = cap_init();
    cap_set_flag(caps, CAP_PERMITTED, 2, some, CAP_SET);
    cap_set_flag(caps, CAP_EFFECTIVE, 2, some, CAP_SET);
    cap_set_flag(caps, CAP_INHERITABLE, 2, some, CAP_SET);
    ck_assert_int_eq(cap_set_proc(caps), 0);
    cap_free(caps);
    ck_assert_int_eq(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_ADMIN, 0, 0), 0);
    ck_assert(!privileges_none_left());
    ck_assert_int_eq(privileges_drop(), 0);
    check_nothing_left();
    /* Whatever the bounding set still says, an exec brings nothing back. */
    if (fork() == 0) {
        execl("/bin/sh", "sh", "-c",
              "grep -q '^CapEff:[[:space:]]*0000000000000000$' "
              "/proc/self/status",
              (char *)NULL);
        _exit(127);
    }
    int status = -1;

    wait(&status);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", status);
}
END_TEST

/* False where this build or kernel has no sandbox. */
static bool enter(enum sandbox_profile profile)
{
    int r = sandbox_enter(profile);

    if (r == -ENOSYS) {
        fprintf(stderr, "skipped: no system-call filter in this build or kernel\n");
        return false;
    }
    ck_assert_int_eq(r, 0);
    return true;
}

static long denied_mount(void)
{
    return mount("none", "/proc", "tmpfs", 0, NULL);
}

static long denied_exec(void)
{
    char *const arguments[] = {(char *)"true", NULL};

    return execv("/bin/true", arguments);
}

static long denied_ptrace(void)
{
    return ptrace(PTRACE_TRACEME, 0, NULL, NULL);
}

static long denied_unshare(void)
{
    return unshare(CLONE_NEWUSER);
}

static long denied_bpf(void)
{
    return syscall(SYS_bpf, 0, NULL, 0);
}

static long denied_keyctl(void)
{
    return syscall(SYS_keyctl, 0, 0, 0, 0, 0);
}

static long denied_setuid(void)
{
    return syscall(SYS_setuid, getuid());
}

static long denied_module(void)
{
    return syscall(SYS_init_module, NULL, 0, "");
}

static long denied_userfaultfd(void)
{
    return syscall(SYS_userfaultfd, 0);
}

static long denied_clone(void)
{
    return syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL);
}

static const struct {
    const char *name;
    long (*call)(void);
} denied[] = {
    {"mount", denied_mount},
    {"exec", denied_exec},
    {"ptrace", denied_ptrace},
    {"unshare", denied_unshare},
    {"bpf", denied_bpf},
    {"keyctl", denied_keyctl},
    {"setuid", denied_setuid},
    {"init_module", denied_module},
    {"userfaultfd", denied_userfaultfd},
    {"clone", denied_clone},
};

START_TEST(the_sandbox_denies)
{
    if (!enter(_i % 2 ? SANDBOX_RELAYD : SANDBOX_SOCKSD))
        return;
    for (size_t i = 0; i < sizeof(denied) / sizeof(denied[0]); i++) {
        errno = 0;
        ck_assert_msg(denied[i].call() == -1, "%s works", denied[i].name);
        ck_assert_msg(errno == EPERM, "%s: expected EPERM, got %s", denied[i].name,
                      strerrorname_np(errno));
    }
    ck_assert_int_eq(syscall(SYS_io_uring_setup, 1, NULL), -1);
    ck_assert_int_eq(errno, ENOSYS);
    ck_assert_int_eq(syscall(SYS_clone3, NULL, 0), -1);
    ck_assert_int_eq(errno, ENOSYS);
    check_status("Seccomp", "2");
    check_status("NoNewPrivs", "1");
}
END_TEST

/* With nothing behind them: the kernel refuses each in its own way. */
static int bpf_errno(uint64_t command)
{
    errno = 0;
    ck_assert_int_eq(syscall(SYS_bpf, command, NULL, 0), -1);
    return errno;
}

/* PLANE-CAP-020. Root here, with its capabilities: EPERM is the sandbox's word. */
START_TEST(bpf_is_for_tables_and_links_of_relayd)
{
    static const uint64_t permitted[] = {
        BPF_MAP_LOOKUP_ELEM,  BPF_MAP_UPDATE_ELEM,  BPF_MAP_DELETE_ELEM,
        BPF_MAP_UPDATE_BATCH, BPF_MAP_DELETE_BATCH, BPF_LINK_CREATE,
    };
    const bool relayd = _i == 1;
    unsigned passed = 0;

    if (!enter(relayd ? SANDBOX_RELAYD : SANDBOX_SOCKSD))
        return;
    for (uint64_t command = 0; command < 200; command++) {
        bool is_permitted = false;

        for (size_t i = 0; i < sizeof(permitted) / sizeof(permitted[0]); i++)
            is_permitted |= relayd && command == permitted[i];
        ck_assert_msg(is_permitted == (bpf_errno(command) != EPERM), "command %u: %s",
                      (unsigned)command, strerrorname_np(errno));
        passed += is_permitted;
        /* The same for the kernel, which looks at half of it. */
        ck_assert_int_eq(bpf_errno(command | 1ull << 32), EPERM);
    }
    ck_assert_uint_eq(passed, relayd ? 6 : 0);
    ck_assert_int_eq(bpf_errno(UINT32_MAX), EPERM);
}
END_TEST

START_TEST(the_sandbox_denies_other_families)
{
    static const int others[] = {AF_PACKET, AF_ALG, AF_VSOCK, AF_BLUETOOTH, AF_KEY, AF_AX25};
    static const int ours[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK};

    if (!enter(SANDBOX_RELAYD))
        return;
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        ck_assert_int_eq(socket(others[i], SOCK_DGRAM, 0), -1);
        ck_assert_msg(errno == EAFNOSUPPORT, "family %d: %s", others[i], strerrorname_np(errno));
    }
    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++) {
        int fd = socket(ours[i], SOCK_DGRAM | SOCK_CLOEXEC, 0);

        ck_assert_msg(fd >= 0, "family %d: %s", ours[i], strerrorname_np(errno));
        close(fd);
    }
}
END_TEST

START_TEST(only_relayd_moves_data)
{
    bool relayd = _i == 1;
    int from[2], to[2], null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    ssize_t moved;

    ck_assert_int_eq(pipe2(from, O_CLOEXEC), 0);
    ck_assert_int_eq(pipe2(to, O_CLOEXEC), 0);
    ck_assert_int_eq(write(from[1], "abc", 3), 3);
    if (!enter(relayd ? SANDBOX_RELAYD : SANDBOX_SOCKSD))
        return;
    moved = tee(from[0], to[1], 3, 0);
    ck_assert_int_eq(moved, relayd ? 3 : -1);
    moved = splice(from[0], NULL, null, NULL, 3, 0);
    ck_assert_int_eq(moved, relayd ? 3 : -1);
    ck_assert(relayd || errno == EPERM);
    close(null);
}
END_TEST

static void send_fd(int socket_fd, int fd)
{
    char octet = 'x', control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec vector = {.iov_base = &octet, .iov_len = 1};
    struct msghdr message = {.msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);

    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &fd, sizeof(fd));
    ck_assert_int_eq(sendmsg(socket_fd, &message, 0), 1);
}

static int receive_fd(int socket_fd)
{
    char octet, control[CMSG_SPACE(sizeof(int))];
    struct iovec vector = {.iov_base = &octet, .iov_len = 1};
    struct msghdr message = {.msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};
    int fd = -1;

    ck_assert_int_eq(recvmsg(socket_fd, &message, MSG_CMSG_CLOEXEC), 1);
    if (CMSG_FIRSTHDR(&message))
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
    return fd;
}

static void *thread_main(void *argument)
{
    *(int *)argument = 1;
    return NULL;
}

static int worked, worked_after;

static void on_work(uv_work_t *work)
{
    (void)work;
    worked = 1;
}

static void on_worked(uv_work_t *work, int status)
{
    (void)work;
    worked_after = status == 0;
}

/* What a daemon lives on. */
START_TEST(the_sandbox_lets_a_daemon_work)
{
    struct sockaddr_in loopback = {.sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    uint8_t random[8];
    int pair[2], fd, ran = 0;
    pthread_t thread;
    uv_loop_t loop;
    uv_work_t work;

    ck_assert_int_eq(privileges_drop(), 0);
    if (!enter(_i ? SANDBOX_RELAYD : SANDBOX_SOCKSD))
        return;
    ck_assert_int_eq(getrandom(random, sizeof(random), 0), sizeof(random));
    fd = epoll_create1(EPOLL_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    close(fd);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    send_fd(pair[0], pair[1]);
    fd = receive_fd(pair[1]);
    ck_assert_int_ge(fd, 0);
    close(fd);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&loopback, sizeof(loopback)), 0);
    ck_assert_int_eq(listen(fd, 8), 0);
    close(fd);
    ck_assert_int_eq(pthread_create(&thread, NULL, thread_main, &ran), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_int_eq(ran, 1);
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    ck_assert_int_eq(uv_queue_work(&loop, &work, on_work, on_worked), 0);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert(worked && worked_after);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
    ck_assert_int_ge(sd_notify(0, "STATUS=x"), 0);
    fd = open("/etc/resolv.conf", O_RDONLY | O_CLOEXEC);
    ck_assert(fd >= 0 || errno == ENOENT);
    if (fd >= 0)
        close(fd);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("privileges");
    TCase *tcase = tcase_create("privileges");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_add_test(tcase, root_drops_everything);
    tcase_add_test(tcase, an_ordinary_user_may_call_it);
    tcase_add_test(tcase, ambient_capabilities_are_dropped);
    tcase_add_loop_test(tcase, the_sandbox_denies, 0, 2);
    tcase_add_loop_test(tcase, bpf_is_for_tables_and_links_of_relayd, 0, 2);
    tcase_add_test(tcase, the_sandbox_denies_other_families);
    tcase_add_loop_test(tcase, only_relayd_moves_data, 0, 2);
    tcase_add_loop_test(tcase, the_sandbox_lets_a_daemon_work, 0, 2);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
