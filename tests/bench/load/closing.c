/*
 * From the end of a control connection to the last packet of its relay that arrives. One
 * association after the other: its packets are sent without a pause, the control connection is
 * closed, and the sink tells when it saw the last one.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/bench/load/control.h"
#include "tests/bench/load/sink.h"

#define DATAGRAM_MAX 2048
#define FLOWING 50u        /* packets after which the relay is known to work */
#define QUIET_NS 30000000u /* without a packet: it has ended */
#define PATIENCE_NS 2000000000u

static void send_one(int fd, const struct load_options *options, uint32_t tag)
{
    static char payload[DATAGRAM_MAX];

    memcpy(payload, &tag, sizeof(tag));
    /* After the end the relay host may answer with errors: of no interest here. */
    (void)send(fd, payload, options->octets, MSG_DONTWAIT);
}

static uint64_t sample(const struct load_options *options, const struct sink *sink, uint32_t tag)
{
    const struct endpoint source = control_source(options, tag);
    struct endpoint bound;
    const int control = control_open(options, &source, &bound);
    const int data = namespace_bound(options->client, SOCK_DGRAM, &source, &bound);
    const uint64_t begin = now_ns();

    while (sink_row(sink, tag).packets < FLOWING) {
        send_one(data, options, tag);
        if (now_ns() - begin > PATIENCE_NS)
            die("association %u does not carry packets", tag);
    }
    const uint64_t closed = now_ns();
    close(control);
    uint64_t last = closed;
    for (uint64_t now = closed; now - last < QUIET_NS; now = now_ns()) {
        if (now - closed > PATIENCE_NS)
            die("association %u still carries packets", tag);
        send_one(data, options, tag);
        const struct sink_row row = sink_row(sink, tag);
        if (row.last_ns > last)
            last = row.last_ns;
    }
    close(data);
    return last - closed;
}

int load_closing(const struct load_options *options)
{
    uint64_t *samples = shared_new(options->count * sizeof(*samples));
    struct sink *sink =
        sink_open(options->target, options->target_device, options->at.port, true, options->count);

    run_on(0, options->realtime);
    for (unsigned i = 0; i < options->count; i++)
        samples[i] = sample(options, sink, i);
    return load_print(load_percentiles(samples, options->count));
}
