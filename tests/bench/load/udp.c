/*
 * UDP between two sockets: the sender on processor 0, the receiver on processor 1. On veth the
 * sender's processor pays for everything up to the receiver's socket.
 */
#include <errno.h>
#include <sys/socket.h>

#include "tests/bench/load/control.h"

#define BATCH 32
#define DATAGRAM_MAX 2048

struct end {
    int fd;
    unsigned octets;
    volatile uint64_t datagrams;
};

static void send_all(void *argument)
{
    struct end *end = argument;
    static char payload[DATAGRAM_MAX];
    struct iovec piece = {payload, end->octets};
    struct mmsghdr messages[BATCH] = {0};

    for (unsigned i = 0; i < BATCH; i++) {
        messages[i].msg_hdr.msg_iov = &piece;
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    for (;;) {
        const int n = sendmmsg(end->fd, messages, BATCH, 0);
        if (n > 0)
            end->datagrams += (uint64_t)n;
    }
}

static void receive_all(void *argument)
{
    struct end *end = argument;
    static char area[BATCH][DATAGRAM_MAX];
    struct iovec pieces[BATCH];
    struct mmsghdr messages[BATCH] = {0};

    for (unsigned i = 0; i < BATCH; i++) {
        pieces[i] = (struct iovec){area[i], sizeof(area[i])};
        messages[i].msg_hdr.msg_iov = &pieces[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    for (;;) {
        const int n = recvmmsg(end->fd, messages, BATCH, MSG_WAITFORONE, NULL);
        if (n > 0)
            end->datagrams += (uint64_t)n;
    }
}

int load_udp(const struct load_options *options)
{
    struct end *sender = shared_new(sizeof(*sender)), *receiver = shared_new(sizeof(*receiver));

    receiver->fd = namespace_bound(options->target, SOCK_DGRAM, &options->at, NULL);
    const struct endpoint to = control_path(options, 0);
    sender->fd = namespace_bound(options->client, SOCK_DGRAM, &options->from, &to);
    sender->octets = options->octets;
    const pid_t receiving = worker_start(1, options->realtime, receive_all, receiver);
    const pid_t sending = worker_start(0, options->realtime, send_all, sender);
    sleep_seconds(options->warm_seconds);
    const uint64_t from_ns = now_ns(), sent = sender->datagrams, arrived = receiver->datagrams;
    sleep_seconds(options->seconds);
    const double seconds = (double)(now_ns() - from_ns) / 1e9;
    const double rate = (double)(receiver->datagrams - arrived) / seconds;
    const double offered = (double)(sender->datagrams - sent) / seconds;
    worker_stop(sending);
    worker_stop(receiving);
    return load_print(
        json_pack("{s:f, s:f, s:f}", "seconds", seconds, "sent", offered, "delivered", rate));
}
