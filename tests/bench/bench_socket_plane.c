/*
 * How fast the socket plane moves data, without socksd and N2: a client and a target process on
 * loopback, the relay between them in this process.
 *
 *     bench_socket_plane tcp [SECONDS [STREAMS]]
 *     bench_socket_plane udp [SECONDS [OCTETS [gso]]]
 *     bench_socket_plane associate [SECONDS [OCTETS [gso]]]
 *
 * `associate` is UDP ASSOCIATE: OCTETS of payload and a header, to the target (up) and back (down).
 * Prints one line. Figures of different machines do not compare; the direct connection is measured
 * beside it, in the same way.
 */
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/ptcl.h"
#include "tests/unit/relayd/association.h"

#define STREAMS_MAX 64
#define BATCH 32
#define SEGMENT_OPTION 103 /* UDP_SEGMENT, which older headers lack */

struct shared {
    uint64_t received; /* octets (TCP) or datagrams (UDP) at the target */
};

static struct plane_fixture fixture;
static struct shared *shared;
static bool tcp, associate, gso;
static double seconds;
static int option; /* streams, or octets of a datagram */
static char octets[256 * 1024];

/* ---- the two ends, each a process --------------------------------------------------------------
 */

static pid_t start(void (*run)(int fd, int size), int fd, int size)
{
    const pid_t pid = fork();

    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        run(fd, size);
        _exit(0);
    }
    return pid;
}

static void write_stream(int fd, int size)
{
    (void)size;
    while (send(fd, octets, sizeof(octets), MSG_NOSIGNAL) > 0)
        ;
}

static void read_stream(int fd, int size)
{
    ssize_t n;

    (void)size;
    while ((n = recv(fd, octets, sizeof(octets), 0)) > 0)
        __atomic_add_fetch(&shared->received, (uint64_t)n, __ATOMIC_RELAXED);
}

static void write_datagrams(int fd, int size)
{
    struct iovec piece = {octets, (size_t)size};
    struct mmsghdr messages[BATCH];

    memset(messages, 0, sizeof(messages));
    for (unsigned i = 0; i < BATCH; i++) {
        messages[i].msg_hdr.msg_iov = &piece;
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    while (sendmmsg(fd, messages, BATCH, 0) > 0 || errno == ECONNREFUSED)
        ;
}

/* As many datagrams in one send as fit. */
static void write_segments(int fd, int size)
{
    const int whole = 65507 / size < 64 ? 65507 / size * size : 64 * size;

    /* Each datagram begins as the first one does: UDP ASSOCIATE's have a header. */
    for (int at = size; at < whole; at += size)
        memcpy(octets + at, octets, size < N1_UDP_HEADER_MAX ? (size_t)size : N1_UDP_HEADER_MAX);
    setsockopt(fd, IPPROTO_UDP, SEGMENT_OPTION, &size, sizeof(size));
    while (send(fd, octets, (size_t)whole, 0) > 0 || errno == ECONNREFUSED)
        ;
}

static void read_datagrams(int fd, int size)
{
    static char area[BATCH][2048];
    struct iovec pieces[BATCH];
    struct mmsghdr messages[BATCH];
    int n;

    (void)size;
    memset(messages, 0, sizeof(messages));
    for (unsigned i = 0; i < BATCH; i++) {
        pieces[i] = (struct iovec){area[i], sizeof(area[i])};
        messages[i].msg_hdr.msg_iov = &pieces[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    while ((n = recvmmsg(fd, messages, BATCH, MSG_WAITFORONE, NULL)) > 0)
        __atomic_add_fetch(&shared->received, (uint64_t)n, __ATOMIC_RELAXED);
}

/* ---- measuring ---------------------------------------------------------------------------------
 */

static double cpu_seconds(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* What arrives at the target each second, after a moment to get going. *cpu: of this process, as a
 * share of one core. */
static double measure(double *cpu)
{
    uint64_t until = monotonic_ms() + 300;

    while (monotonic_ms() < until)
        plane_fixture_turn(&fixture);
    const uint64_t from = __atomic_load_n(&shared->received, __ATOMIC_RELAXED);
    const uint64_t start_ms = monotonic_ms();
    const double cpu_before = cpu_seconds();
    until = start_ms + (uint64_t)(seconds * 1000);
    while (monotonic_ms() < until)
        plane_fixture_turn(&fixture);
    const double passed = (double)(monotonic_ms() - start_ms) / 1000;
    *cpu = (cpu_seconds() - cpu_before) / passed;
    return (double)(__atomic_load_n(&shared->received, __ATOMIC_RELAXED) - from) / passed;
}

static void stop(const pid_t *pids, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        kill(pids[i], SIGKILL);
        waitpid(pids[i], NULL, 0);
    }
}

/* Streams through relays, or without. Octets a second. */
static double bench_tcp(unsigned streams, bool direct, double *cpu)
{
    static struct fake_relay relays[STREAMS_MAX];
    pid_t pids[2 * STREAMS_MAX];
    const int listener = party_listener(PARTY_TARGET, false, 0);
    const struct endpoint target_name = socket_name(listener);

    for (unsigned i = 0; i < streams; i++) {
        const int client = party_socket(PARTY_CLIENT, false, SOCK_STREAM, 0);
        const struct endpoint source = socket_name(client);
        fake_relay_init(&relays[i], &fixture, PTCL_TCP, &source, &target_name);
        if (!direct)
            fake_relay_open_wait(&relays[i], &fixture);
        if (connect_to(client, direct ? &target_name : &relays[i].relay.bound) < 0)
            abort();
        const int target = accept(listener, NULL, NULL);
        if (!direct)
            WAIT_FOR(&fixture, relays[i].arrived == 1);
        pids[2 * i] = start(read_stream, target, 0);
        pids[2 * i + 1] = start(write_stream, client, 0);
        close(target);
        close(client);
    }
    const double rate = measure(cpu);
    stop(pids, 2 * streams);
    for (unsigned i = 0; !direct && i < streams; i++)
        fake_relay_finish(&relays[i], &fixture);
    close(listener);
    return rate;
}

/* Datagrams a second. */
static double bench_udp(int size, bool direct, double *cpu)
{
    static struct fake_relay relay;
    const int target = party_socket(PARTY_TARGET, false, SOCK_DGRAM, 0);
    const int client = party_socket(PARTY_CLIENT, false, SOCK_DGRAM, 0);
    const struct endpoint target_name = socket_name(target), source = socket_name(client);
    pid_t pids[2];

    fake_relay_init(&relay, &fixture, PTCL_UDP, &source, &target_name);
    if (!direct)
        fake_relay_open_wait(&relay, &fixture);
    if (connect_to(client, direct ? &target_name : &relay.relay.bound) < 0)
        abort();
    pids[0] = start(read_datagrams, target, 0);
    pids[1] = start(gso ? write_segments : write_datagrams, client, size);
    const double rate = measure(cpu);
    stop(pids, 2);
    close(target);
    close(client);
    if (!direct)
        fake_relay_finish(&relay, &fixture);
    return rate;
}

/* Datagrams a second through an association, in one of the directions. */
static double bench_associate(int size, bool up, double *cpu)
{
    static struct association a;
    struct endpoint egress;
    pid_t pids[2];

    association_init(&a, &fixture, false);
    association_open(&a);
    const int target = target_open(PARTY_TARGET, false);
    const struct endpoint name = socket_name(target);
    const struct n1_udp_header header = {.destination = host_of(&name)};
    association_send(&a, &header.destination, 0, 1);
    target_expect(&fixture, target, 0, 1, &egress);
    if (connect_to(target, &egress) < 0)
        abort();
    set_blocking(a.client, true);
    set_blocking(target, true);
    const int head = (int)n1_udp_header_encode(&header, (uint8_t *)octets, N1_UDP_HEADER_MAX);
    pids[0] = start(read_datagrams, up ? target : a.client, 0);
    pids[1] = start(gso ? write_segments : write_datagrams, up ? a.client : target,
                    up ? head + size : size);
    const double rate = measure(cpu);
    stop(pids, 2);
    close(target);
    association_dispose(&a);
    return rate;
}

START_TEST(bench)
{
    double cpu, down_cpu, ignored;

    plane_fixture_setup(&fixture);
    if (associate) {
        const double up = bench_associate(option, true, &cpu);
        const double down = bench_associate(option, false, &down_cpu);
        const double direct = bench_udp(option, true, &ignored);
        printf("associate octets=%d gso=%d up=%.0f/s cpu=%.2f down=%.0f/s cpu=%.2f direct=%.0f/s\n",
               option, gso, up, cpu, down, down_cpu, direct);
    } else if (tcp) {
        const double relayed = bench_tcp((unsigned)option, false, &cpu);
        const double direct = bench_tcp((unsigned)option, true, &ignored);
        printf("tcp streams=%d relayed=%.2f Gbit/s cpu=%.2f direct=%.2f Gbit/s\n", option,
               relayed * 8e-9, cpu, direct * 8e-9);
    } else {
        const double relayed = bench_udp(option, false, &cpu);
        const double direct = bench_udp(option, true, &ignored);
        printf("udp octets=%d gso=%d relayed=%.0f/s cpu=%.2f direct=%.0f/s\n", option, gso, relayed,
               cpu, direct);
    }
    plane_fixture_teardown(&fixture);
}
END_TEST

int main(int argc, char **argv)
{
    Suite *suite = suite_create("bench_socket_plane");
    TCase *tests = tcase_create("bench");
    SRunner *runner = srunner_create(suite);

    tcp = argc > 1 && strcmp(argv[1], "tcp") == 0;
    associate = argc > 1 && strcmp(argv[1], "associate") == 0;
    seconds = argc > 2 ? atof(argv[2]) : 3;
    option = argc > 3 ? atoi(argv[3]) : tcp ? 1 : 64;
    gso = argc > 4 && strcmp(argv[4], "gso") == 0;
    if ((!tcp && !associate && (argc < 2 || strcmp(argv[1], "udp") != 0)) || seconds <= 0 ||
        option < 1 || option > (tcp ? STREAMS_MAX : 1462)) {
        fprintf(stderr,
                "usage: %s tcp [SECONDS [STREAMS]] | udp|associate [SECONDS [OCTETS [gso]]]\n",
                argv[0]);
        return 2;
    }
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return 1;
    /* Check alone can tell what went wrong in the fixture. */
    tcase_add_test(tests, bench);
    suite_add_tcase(suite, tests);
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, CK_SILENT);
    const int failed = srunner_ntests_failed(runner);
    srunner_print(runner, CK_ENV);
    srunner_free(runner);
    return failed;
}
