#include "tests/bench/load/sender.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "tests/bench/load/frames.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

#define DATAGRAM_MAX 65507
#define SEGMENTS_MAX 64

struct sender {
    const struct load_options *options;
    volatile uint64_t *sent;
    int fd;
    struct frames *frames;
};

static void send_segments(void *argument)
{
    const struct sender *sender = argument;
    static const char payload[DATAGRAM_MAX];
    const int octets = (int)sender->options->octets;
    const unsigned segments =
        octets * SEGMENTS_MAX > DATAGRAM_MAX ? (unsigned)(DATAGRAM_MAX / octets) : SEGMENTS_MAX;

    if (setsockopt(sender->fd, IPPROTO_UDP, UDP_SEGMENT, &octets, sizeof(octets)) < 0)
        die("UDP_SEGMENT is not known here");
    for (;;) {
        if (send(sender->fd, payload, segments * (unsigned)octets, 0) > 0)
            *sender->sent += segments;
    }
}

static void send_frames(void *argument)
{
    const struct sender *sender = argument;

    for (;;)
        *sender->sent += frames_send(sender->frames);
}

pid_t sender_start(const struct load_options *options, volatile uint64_t *sent)
{
    struct sender *sender = calloc(1, sizeof(*sender)); /* the child's as well */
    const bool frames = strcmp(options->plan, "frames") == 0;

    if (sender == NULL)
        die("no memory");
    *sender = (struct sender){.options = options, .sent = sent};
    if (frames)
        sender->frames = frames_new(options);
    else
        sender->fd = namespace_bound(options->client, SOCK_DGRAM, &options->from, &options->to);
    return worker_start(0, options->realtime, frames ? send_frames : send_segments, sender);
}
