/*
 * From the end of an N2 connection to the last packet of any of its relays: frames of all of them,
 * in random order, as fast as one processor can. Says "flowing"; then somebody else ends the
 * connection and knows when that was, and this program tells when the last packet arrived.
 */
#include "tests/bench/load/sender.h"
#include "tests/bench/load/sink.h"

#define FLOWING 1000u
#define QUIET_NS 300000000u
#define PATIENCE_NS 20000000000u

/* Ends the program when there are not that many packets in time. */
static void wait_for_packets(const struct sink *sink, uint64_t packets)
{
    for (const uint64_t begin = now_ns(); sink_packets(sink) < packets; sleep_seconds(0.001)) {
        if (now_ns() - begin > PATIENCE_NS)
            die("the relays do not carry packets");
    }
}

int load_loss(const struct load_options *options)
{
    struct load_options frames = *options;
    volatile uint64_t *sent = shared_new(sizeof(*sent));
    struct sink *sink =
        sink_open(options->target, options->target_device, options->at.port, true, 1);

    frames.plan = "frames";
    const pid_t sender = sender_start(&frames, sent);
    run_on(1, options->realtime);
    wait_for_packets(sink, FLOWING);
    const uint64_t from_ns = now_ns(), from = sink_packets(sink);
    sleep_seconds(options->warm_seconds);
    const double rate = (double)(sink_packets(sink) - from) * 1e9 / (double)(now_ns() - from_ns);
    load_print(json_pack("{s:f}", "flowing", rate));
    for (const uint64_t begin = now_ns(); now_ns() < sink_row(sink, 0).last_ns + QUIET_NS;) {
        if (now_ns() - begin > PATIENCE_NS)
            die("packets are still carried");
        sleep_seconds(0.001);
    }
    worker_stop(sender);
    return load_print(json_pack("{s:I}", "last_ns", (json_int_t)sink_row(sink, 0).last_ns));
}
