/*
 * Bulk TCP: the sending processes on processor 0, the receiving ones on processor 1, one of each
 * for a stream.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/net/sockaddr.h"
#include "tests/bench/load/control.h"

#define PIECE (256 * 1024)

struct end {
    int fd;
    volatile uint64_t octets;
};

static char piece[PIECE];

static void send_all(void *argument)
{
    const struct end *end = argument;

    while (send(end->fd, piece, sizeof(piece), MSG_NOSIGNAL) > 0)
        ;
}

static void receive_all(void *argument)
{
    struct end *end = argument;
    ssize_t n;

    while ((n = recv(end->fd, piece, sizeof(piece), 0)) > 0)
        end->octets += (uint64_t)n;
}

/* Stream i, connected: the client's socket and the target's. */
static void connect_stream(const struct load_options *options, int listener, unsigned i,
                           int *client, int *target)
{
    const struct endpoint from = port_plus(options->from, i);
    const struct timeval patience = {.tv_sec = 10};
    const struct endpoint to = control_path(options, i);

    *client = namespace_bound(options->client, SOCK_STREAM, &from, &to);
    setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    *target = accept(listener, NULL, NULL);
    if (*target < 0)
        die("stream %u did not arrive: %s", i, strerror(errno));
}

static uint64_t octets_of(const struct end *receivers, unsigned count)
{
    uint64_t octets = 0;

    for (unsigned i = 0; i < count; i++)
        octets += receivers[i].octets;
    return octets;
}

int load_tcp(const struct load_options *options)
{
    struct end *senders = shared_new(LOAD_STREAMS_MAX * sizeof(*senders));
    struct end *receivers = shared_new(LOAD_STREAMS_MAX * sizeof(*receivers));
    pid_t workers[2 * LOAD_STREAMS_MAX];
    const unsigned streams = options->streams;
    const int listener = namespace_bound(options->target, SOCK_STREAM, &options->at, NULL);

    if (listen(listener, LOAD_STREAMS_MAX) < 0)
        die("listen: %s", strerror(errno));
    for (unsigned i = 0; i < streams; i++) {
        int client, target;
        connect_stream(options, listener, i, &client, &target);
        senders[i].fd = options->reverse ? target : client;
        receivers[i].fd = options->reverse ? client : target;
    }
    for (unsigned i = 0; i < streams; i++) {
        workers[2 * i] = worker_start(1, options->realtime, receive_all, &receivers[i]);
        workers[2 * i + 1] = worker_start(0, options->realtime, send_all, &senders[i]);
    }
    sleep_seconds(options->warm_seconds);
    const uint64_t from_ns = now_ns(), before = octets_of(receivers, streams);
    sleep_seconds(options->seconds);
    const uint64_t after = octets_of(receivers, streams);
    const double seconds = (double)(now_ns() - from_ns) / 1e9;
    for (unsigned i = 0; i < 2 * streams; i++)
        worker_stop(workers[i]);
    return load_print(json_pack("{s:f, s:i, s:f}", "seconds", seconds, "streams", (int)streams,
                                "bits", (double)(after - before) * 8 / seconds));
}
