#include "tests/harness/lab.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/ipv6_route.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/harness/undertaker.h"
#include "tests/harness/wait.h"

#define CLEANUPS_MAX 256
#define TEXTS 8

struct cleanup {
    lab_cleanup_cb call;
    void *user;
};

struct lab {
    char directory[64];
    int home; /* the namespace that the test program was started in */
    int netns[LAB_PLACES];
    struct undertaker *undertaker;
    size_t cleanup_count;
    struct cleanup cleanups[CLEANUPS_MAX];
};

/* One `ip -batch` each; PID and fd of the neighbours' namespaces are filled in. */
static const char relay_links[] = //
    "link set lo up\n"
    "link add client0 type veth peer name relay0 netns /proc/%d/fd/%d\n"
    "link add target0 type veth peer name relay0 netns /proc/%d/fd/%d\n"
    "link add stranger0 type veth peer name relay0 netns /proc/%d/fd/%d\n"
    "address add 10.77.1.1/24 dev client0\n"
    "address add 10.77.2.1/24 dev target0\n"
    "address add 10.77.3.1/24 dev stranger0\n"
    "address add fd77:1::1/64 dev client0 nodad\n"
    "address add fd77:2::1/64 dev target0 nodad\n"
    "address add fd77:3::1/64 dev stranger0 nodad\n"
    "link set client0 up\n"
    "link set target0 up\n"
    "link set stranger0 up\n";

static const char *const edge_links[LAB_PLACES] = {
    [LAB_CLIENT] =
        "link set lo up\n"
        "address add 10.77.1.2/24 dev relay0\n"
        "address add 10.77.1.3/24 dev relay0\n"
        "address add fd77:1::3/64 dev relay0 nodad\n"
        "address add fd77:1::2/64 dev relay0 nodad\n"
        "link set relay0 up\n",
    [LAB_TARGET] =
        "link set lo up\n"
        "address add 10.77.2.2/24 dev relay0\n"
        "address add 10.77.2.3/24 dev relay0\n"
        "address add fd77:2::3/64 dev relay0 nodad\n"
        "address add fd77:2::2/64 dev relay0 nodad\n"
        "link set relay0 up\n",
    [LAB_STRANGER] =
        "link set lo up\n"
        "address add 10.77.3.2/24 dev relay0\n"
        "address add fd77:3::2/64 dev relay0 nodad\n"
        "link set relay0 up\n"
        "route add 10.77.1.0/24 via 10.77.3.1\n"
        "route add fd77:1::/64 via fd77:3::1\n",
};

void lab_require(void)
{
    const pid_t child = fork();
    if (child == 0) {
        _exit(unshare(CLONE_NEWNET) == 0 ? 0 : 1);
    }
    int status = 1;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
        printf("skipped: this test makes network namespaces, which needs root\n");
        exit(77);
    }
}

static int open_own_netns(void)
{
    const int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    ck_assert_msg(fd >= 0, "own network namespace: %s", strerror(errno));
    return fd;
}

static void enter(int netns)
{
    ck_assert_msg(setns(netns, CLONE_NEWNET) == 0, "setns: %s", strerror(errno));
}

/* The sysctls of a fresh namespace may come from the first one: say what the lab relies on. */
static void set_sysctls(void)
{
    static const char *const settings[][2] = {
        {"/proc/sys/net/ipv4/ip_forward", "0"},
        {"/proc/sys/net/ipv6/conf/all/forwarding", "0"},
        {"/proc/sys/net/ipv6/conf/default/accept_dad", "0"},
        {"/proc/sys/net/ipv6/conf/all/disable_ipv6", "0"},
        {"/proc/sys/net/ipv6/conf/default/disable_ipv6", "0"},
        {"/proc/sys/net/ipv4/conf/all/rp_filter", "0"},
        {"/proc/sys/net/ipv4/conf/default/rp_filter", "0"},
        {"/proc/sys/net/ipv4/icmp_ratelimit", "0"},
    };
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
        const int fd = open(settings[i][0], O_WRONLY | O_CLOEXEC);
        ck_assert_msg(fd >= 0, "%s: %s", settings[i][0], strerror(errno));
        ck_assert_msg(write(fd, settings[i][1], 1) == 1, "%s: %s", settings[i][0], strerror(errno));
        close(fd);
    }
}

static void make_namespaces(struct lab *lab)
{
    for (int place = 0; place < LAB_PLACES; place++) {
        ck_assert_msg(unshare(CLONE_NEWNET) == 0, "unshare: %s", strerror(errno));
        lab->netns[place] = open_own_netns();
        set_sysctls();
    }
    enter(lab->home);
}

static void make_links(struct lab *lab)
{
    char text[sizeof(relay_links) + 64];
    const int pid = (int)getpid();
    snprintf(text, sizeof(text), relay_links, pid, lab->netns[LAB_CLIENT], pid,
             lab->netns[LAB_TARGET], pid, lab->netns[LAB_STRANGER]);
    lab_write_file(lab, "links", text);
    lab_run(lab, LAB_RELAY, "ip -batch %s", lab_path(lab, "links"));
    for (int place = 0; place < LAB_PLACES; place++) {
        if (edge_links[place] != NULL) {
            lab_write_file(lab, "links", edge_links[place]);
            lab_run(lab, (enum lab_place)place, "ip -batch %s", lab_path(lab, "links"));
        }
    }
}

static size_t count(const char *text, const char *part)
{
    size_t found = 0;
    for (const char *at = text; (at = strstr(at, part)) != NULL; at++) {
        found++;
    }
    return found;
}

/* Addresses of the lab that the kernel delivers to, in that place. */
static size_t deliverable_v6(const struct lab *lab, enum lab_place place)
{
    char line[512], destination[33];
    unsigned length, flags;
    size_t found = 0;
    FILE *routes = lab_open_proc(lab, place, "ipv6_route");
    while (fgets(line, sizeof(line), routes) != NULL) {
        found +=
            sscanf(line, "%32s %x %*s %*s %*s %*s %*s %*s %x", destination, &length, &flags) == 3 &&
            strncmp(destination, "fd77", 4) == 0 && length == 128 && (flags & RTF_LOCAL) != 0;
    }
    fclose(routes);
    return found;
}

/* The kernel takes IPv6 addresses into use from a work queue, some time after `ip` has returned. */
static void wait_for_addresses(const struct lab *lab)
{
    for (int place = 0; place < LAB_PLACES; place++) {
        const char *links = place == LAB_RELAY ? relay_links : edge_links[place];
        const size_t wanted = count(links, "address add fd77:");
        WAIT_UNTIL(deliverable_v6(lab, (enum lab_place)place) >= wanted, PATIENCE_MS);
    }
}

struct lab *lab_new(void)
{
    struct lab *lab = calloc(1, sizeof(*lab));
    ck_assert_ptr_nonnull(lab);
    undertaker_sweep();
    snprintf(lab->directory, sizeof(lab->directory), "%s%d-XXXXXX", UNDERTAKER_PREFIX,
             (int)getpid());
    ck_assert_msg(mkdtemp(lab->directory) != NULL, "%s: %s", lab->directory, strerror(errno));
    ck_assert_int_eq(chmod(lab->directory, 0755), 0);
    lab->undertaker = undertaker_start(lab->directory);
    lab->home = open_own_netns();
    make_namespaces(lab);
    make_links(lab);
    wait_for_addresses(lab);
    return lab;
}

void lab_free(struct lab *lab)
{
    if (lab == NULL) {
        return;
    }
    while (lab->cleanup_count > 0) {
        const struct cleanup last = lab->cleanups[--lab->cleanup_count];
        last.call(last.user);
    }
    for (int place = 0; place < LAB_PLACES; place++) {
        close(lab->netns[place]);
    }
    close(lab->home);
    undertaker_dismiss(lab->undertaker);
    free(lab);
}

const char *lab_directory(const struct lab *lab)
{
    return lab->directory;
}

static char *next_text(size_t *size)
{
    static char texts[TEXTS][PATH_MAX];
    static size_t next;
    *size = PATH_MAX;
    return texts[next++ % TEXTS];
}

const char *lab_path(const struct lab *lab, const char *name)
{
    size_t size;
    char *text = next_text(&size);
    snprintf(text, size, "%s/%s", lab->directory, name);
    return text;
}

const char *show(struct endpoint endpoint)
{
    size_t size;
    char *text = next_text(&size);
    return endpoint_format(&endpoint, text, size);
}

struct endpoint at(const char *address, uint16_t port)
{
    struct endpoint endpoint = {.port = port};
    ck_assert_msg(ip_address_parse(address, &endpoint.address) == 0, "address: %s", address);
    return endpoint;
}

bool same_address(struct endpoint a, struct endpoint b)
{
    return ip_address_equal(&a.address, &b.address);
}

bool same_endpoint(struct endpoint a, struct endpoint b)
{
    return endpoint_equal(&a, &b);
}

void lab_write_file(const struct lab *lab, const char *name, const char *text)
{
    FILE *file = fopen(lab_path(lab, name), "we");
    ck_assert_msg(file != NULL, "%s: %s", name, strerror(errno));
    ck_assert_int_ge(fputs(text, file), 0);
    ck_assert_int_eq(fclose(file), 0);
}

int lab_netns(const struct lab *lab, enum lab_place place)
{
    return lab->netns[place];
}

FILE *lab_open_proc(const struct lab *lab, enum lab_place place, const char *name)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/thread-self/net/%s", name);
    enter(lab->netns[place]);
    FILE *file = fopen(path, "re");
    const int error = errno;
    enter(lab->home);
    ck_assert_msg(file != NULL, "%s: %s", path, strerror(error));
    return file;
}

int lab_socket(const struct lab *lab, enum lab_place place, int domain, int type, int protocol)
{
    enter(lab->netns[place]);
    const int fd = socket(domain, type | SOCK_CLOEXEC, protocol);
    const int error = errno;
    enter(lab->home);
    ck_assert_msg(fd >= 0, "socket: %s", strerror(error));
    return fd;
}

pid_t lab_fork(const struct lab *lab, enum lab_place place)
{
    const pid_t parent = getpid();
    fflush(NULL);
    const pid_t child = fork();
    ck_assert_msg(child >= 0, "fork: %s", strerror(errno));
    if (child > 0) {
        return child;
    }
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent ||
        setns(lab->netns[place], CLONE_NEWNET) != 0) {
        _exit(126);
    }
    return 0;
}

void lab_run(struct lab *lab, enum lab_place place, const char *format, ...)
{
    char command[4096];
    va_list arguments;
    va_start(arguments, format);
    const int length = vsnprintf(command, sizeof(command), format, arguments);
    va_end(arguments);
    ck_assert_int_lt(length, (int)sizeof(command));
    const pid_t child = lab_fork(lab, place);
    if (child == 0) {
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(status == 0, "status %#x of: %s", (unsigned)status, command);
}

void lab_on_free(struct lab *lab, lab_cleanup_cb cleanup, void *user)
{
    ck_assert_msg(lab->cleanup_count < CLEANUPS_MAX, "too many objects in one lab");
    lab->cleanups[lab->cleanup_count++] = (struct cleanup){.call = cleanup, .user = user};
}

void lab_forget(struct lab *lab, lab_cleanup_cb cleanup, void *user)
{
    for (size_t i = lab->cleanup_count; i-- > 0;) {
        if (lab->cleanups[i].call == cleanup && lab->cleanups[i].user == user) {
            memmove(&lab->cleanups[i], &lab->cleanups[i + 1],
                    (lab->cleanup_count - i - 1) * sizeof(lab->cleanups[0]));
            lab->cleanup_count--;
            return;
        }
    }
}
