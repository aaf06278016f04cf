/*
 * The relay's own cost for a packet. Processor 0 does nothing but send; RPS of the relay host's
 * ingress device hands each packet to processor 1, which relays it, takes it to the target's device
 * and drops it there. So that processor is the limit, and what it delivers is what is measured.
 *
 * Two figures. `delivered`: what the sink at the target's device counts. That device hands its
 * packets to the same processor's input queue, which the sender keeps full, so part of what was
 * relayed is lost there; the faster the relay, the fewer of the sender's packets are in the way.
 * `carried`: what the relay host gave to the device towards the target, lost behind it or not.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tests/bench/load/control.h"
#include "tests/bench/load/load.h"
#include "tests/bench/load/sender.h"
#include "tests/bench/load/sink.h"

#define PROCESSORS_MAX 256

struct reading {
    uint64_t at_ns, sent, delivered, carried;
};

/* Packets that the host of the calling thread's namespace gave to the device, dropped by it or not.
 */
static uint64_t given_to(const char *device)
{
    FILE *file = fopen("/proc/thread-self/net/dev", "re");
    char line[512], name[64];
    uint64_t packets, dropped;

    if (file == NULL)
        die("/proc/thread-self/net/dev: %s", strerror(errno));
    while (fgets(line, sizeof(line), file) != NULL) {
        if (sscanf(line, " %63[^:]: %*u %*u %*u %*u %*u %*u %*u %*u %*u %" SCNu64 " %*u %" SCNu64,
                   name, &packets, &dropped) == 3 &&
            strcmp(name, device) == 0) {
            fclose(file);
            return packets + dropped;
        }
    }
    die("%s is not there", device);
}

static struct reading read_now(const struct load_options *options, const struct sink *sink,
                               const volatile uint64_t *sent)
{
    return (struct reading){
        .at_ns = now_ns(),
        .sent = *sent,
        .delivered = sink_packets(sink),
        .carried = options->relay_device != NULL ? given_to(options->relay_device) : 0};
}

int load_one_core(const struct load_options *options)
{
    volatile uint64_t *sent = shared_new(sizeof(*sent));
    struct sink *sink =
        sink_open(options->target, options->target_device, options->at.port, false, PROCESSORS_MAX);
    struct load_options path = *options;

    path.to = control_path(options, 0);
    const pid_t sender = sender_start(&path, sent);
    namespace_enter(options->relay);
    run_on(1, options->realtime);
    sleep_seconds(options->warm_seconds);
    const struct reading from = read_now(options, sink, sent);
    sleep_seconds(options->seconds);
    const struct reading to = read_now(options, sink, sent);
    worker_stop(sender);
    const double seconds = (double)(to.at_ns - from.at_ns) / 1e9;
    return load_print(json_pack("{s:f, s:f, s:f, s:f}", "seconds", seconds, "sent",
                                (double)(to.sent - from.sent) / seconds, "delivered",
                                (double)(to.delivered - from.delivered) / seconds, "carried",
                                (double)(to.carried - from.carried) / seconds));
}
