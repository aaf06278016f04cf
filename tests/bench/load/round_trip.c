/*
 * How long a datagram takes there and back: one in flight, the client on processor 0, the echo on
 * processor 1. With `spin` neither of them sleeps, so that what is measured is the path and not how
 * fast the machine wakes a process.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "tests/bench/load/control.h"

#define DATAGRAM_MAX 2048
#define LOST_NS 200000000u
#define WARM_UP 200u

struct echo {
    int fd, flags;
};

static void answer_all(void *argument)
{
    const struct echo *echo = argument;
    static char payload[DATAGRAM_MAX];
    struct sockaddr_storage from;

    for (;;) {
        socklen_t length = sizeof(from);
        const ssize_t n = recvfrom(echo->fd, payload, sizeof(payload), echo->flags,
                                   (struct sockaddr *)&from, &length);
        if (n >= 0)
            sendto(echo->fd, payload, (size_t)n, 0, (struct sockaddr *)&from, length);
    }
}

/* Nanoseconds, or 0: lost. */
static uint64_t round_trip(int fd, unsigned octets, uint64_t number, int flags)
{
    static char payload[DATAGRAM_MAX];
    uint64_t answer;
    const uint64_t start = now_ns();

    memcpy(payload, &number, sizeof(number));
    if (send(fd, payload, octets, 0) < 0)
        return 0;
    while (now_ns() - start < LOST_NS) {
        if (recv(fd, &answer, sizeof(answer), flags) >= (ssize_t)sizeof(answer) && answer == number)
            return now_ns() - start;
    }
    return 0;
}

int load_round_trip(const struct load_options *options)
{
    struct echo echo = {.flags = options->spin ? MSG_DONTWAIT : 0};
    uint64_t *samples = shared_new(options->count * sizeof(*samples));
    const struct timeval patience = {.tv_usec = LOST_NS / 1000};
    unsigned count = 0, lost = 0;

    if (options->octets < sizeof(uint64_t))
        die("at least 8 octets");
    echo.fd = namespace_bound(options->target, SOCK_DGRAM, &options->at, NULL);
    const struct endpoint to = control_path(options, 0);
    const int fd = namespace_bound(options->client, SOCK_DGRAM, &options->from, &to);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    const pid_t worker = worker_start(1, options->realtime, answer_all, &echo);
    run_on(0, options->realtime);
    for (uint64_t i = 0; i < options->count + WARM_UP; i++) {
        const uint64_t took = round_trip(fd, options->octets, i, echo.flags);
        if (took == 0 && ++lost > 20)
            die("%u datagrams were lost", lost);
        if (i >= WARM_UP && took != 0)
            samples[count++] = took;
    }
    worker_stop(worker);
    json_t *result = load_percentiles(samples, count);
    json_object_set_new(result, "lost", json_integer(lost));
    return load_print(result);
}
