#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/net/sockaddr.h"
#include "tests/bench/load/load.h"

void die(const char *format, ...)
{
    va_list arguments;

    fputs("bench_load: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

void *shared_new(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        die("no memory: %s", strerror(errno));
    return memory;
}

uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void sleep_seconds(double seconds)
{
    const struct timespec time = {(time_t)seconds,
                                  (long)((seconds - (double)(time_t)seconds) * 1e9)};

    while (nanosleep(&time, NULL) < 0 && errno == EINTR)
        ;
}

/* ---- namespaces --------------------------------------------------------------------------------
 */

void namespace_enter(const char *name)
{
    char path[256];

    if (name == NULL)
        return;
    snprintf(path, sizeof(path), "/run/netns/%s", name);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || setns(fd, CLONE_NEWNET) < 0)
        die("%s: %s", path, strerror(errno));
    close(fd);
}

/* The calling thread's own, for the way back. */
static int namespace_here(void)
{
    const int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        die("/proc/thread-self/ns/net: %s", strerror(errno));
    return fd;
}

static void namespace_back(int fd)
{
    if (setns(fd, CLONE_NEWNET) < 0)
        die("setns: %s", strerror(errno));
    close(fd);
}

int namespace_socket(const char *name, int domain, int type, int protocol)
{
    const int here = namespace_here();

    namespace_enter(name);
    const int fd = socket(domain, type | SOCK_CLOEXEC, protocol);
    if (fd < 0)
        die("socket: %s", strerror(errno));
    namespace_back(here);
    return fd;
}

unsigned namespace_device(const char *name, const char *device)
{
    const int here = namespace_here();

    if (device == NULL)
        die("a device is missing");
    namespace_enter(name);
    const unsigned index = if_nametoindex(device);
    if (index == 0)
        die("%s: %s", device, strerror(errno));
    namespace_back(here);
    return index;
}

int namespace_bound(const char *name, int type, const struct endpoint *from,
                    const struct endpoint *to)
{
    struct sockaddr_storage address;
    char text[ENDPOINT_TEXT_MAX];
    const int on = 1, buffer = 8 * 1024 * 1024;
    const int fd = namespace_socket(name, ip_address_af(&from->address), type, 0);

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (type == SOCK_DGRAM) {
        setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof(buffer));
        setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof(buffer));
    }
    socklen_t length = endpoint_to_sockaddr(from, &address);
    if (bind(fd, (struct sockaddr *)&address, length) < 0)
        die("bind %s: %s", endpoint_format(from, text, sizeof(text)), strerror(errno));
    if (to != NULL) {
        length = endpoint_to_sockaddr(to, &address);
        if (connect(fd, (struct sockaddr *)&address, length) < 0)
            die("connect %s: %s", endpoint_format(to, text, sizeof(text)), strerror(errno));
    }
    return fd;
}

struct endpoint port_plus(struct endpoint endpoint, unsigned i)
{
    endpoint.port = (uint16_t)(endpoint.port + i);
    return endpoint;
}

/* ---- processes ---------------------------------------------------------------------------------
 */

void run_on(int processor, bool realtime)
{
    /* Above ksoftirqd, which tests/bench/run puts at 10: the clock of a measurement must tick. */
    const struct sched_param priority = {.sched_priority = 20};
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET((unsigned)processor, &set);
    if (sched_setaffinity(0, sizeof(set), &set) < 0)
        die("processor %d: %s", processor, strerror(errno));
    if (realtime && sched_setscheduler(0, SCHED_FIFO, &priority) < 0)
        die("SCHED_FIFO: %s", strerror(errno));
}

pid_t worker_start(int processor, bool realtime, void (*run)(void *argument), void *argument)
{
    const pid_t parent = getpid();
    const pid_t pid = fork();

    if (pid < 0)
        die("fork: %s", strerror(errno));
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        run_on(processor, realtime);
        run(argument);
        _exit(0);
    }
    return pid;
}

void worker_stop(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

/* ---- output ------------------------------------------------------------------------------------
 */

int load_print(json_t *object)
{
    if (object == NULL || json_dumpf(object, stdout, JSON_COMPACT | JSON_REAL_PRECISION(10)) < 0)
        die("the result cannot be written");
    json_decref(object);
    putchar('\n');
    fflush(stdout);
    return 0;
}

static int by_size(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

json_t *load_percentiles(uint64_t *samples, size_t count)
{
    if (count == 0)
        die("nothing was measured");
    qsort(samples, count, sizeof(*samples), by_size);
    /* The smallest sample that is not below that share of all. */
    const size_t p50 = (count * 50 + 99) / 100, p90 = (count * 90 + 99) / 100,
                 p99 = (count * 99 + 99) / 100;
    return json_pack("{s:i, s:f, s:f, s:f, s:f}", "samples", (int)count, "p50",
                     (double)samples[p50 - 1] / 1e3, "p90", (double)samples[p90 - 1] / 1e3, "p99",
                     (double)samples[p99 - 1] / 1e3, "max", (double)samples[count - 1] / 1e3);
}
