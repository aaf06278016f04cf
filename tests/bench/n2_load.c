/*
 * Many relays over N2: connects to a relay daemon as a socksd does, orders relays with a bounded
 * number of orders unanswered, and says how fast they were opened, what they cost, and how long it
 * took to end them. No control connection and no packet is involved.
 *
 *     n2_load --socket /run/sockst/n2/udp.sock [OPTION…]
 *
 * Prints one "name value" a line. Figures of the daemon's memory and tables need its user, or root.
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "relayd/ctl/client.h"
#include "tests/bench/order_stream.h"
#include "tests/bench/usage.h"

#define CHUNKS 20
#define FIRST_PORT 1024
#define PORTS_MAX 64000
#define WAIT_MS 1000
#define STALLED_MAX 30 /* turns of WAIT_MS without an answer */
#define PATIENCE_NS 120000000000ull

static const char usage_text[] =
    "n2_load --socket PATH [OPTION...]\n"
    "  --admin PATH          relayd's admin socket: tells when the last relay has gone\n"
    "  --relays N            default 1000000\n"
    "  --window N            orders unanswered at a time, default 1024\n"
    "  --sources ADDRESS     the first S, default 10.1.0.2; further ones follow it\n"
    "  --ports N             of each S, default 50000\n"
    "  --targets ADDRESS     the first DST, default 10.2.0.2; further ones follow it\n"
    "  --destinations N      how many of them, default 25\n"
    "  --target-port N       default 9\n"
    "  --list FILE           write \"relay S BND egress DST plane\" of each\n"
    "  --hold                say \"held\" and wait for the end of standard input before the end\n"
    "  --end close|drop      CloseRelay for each (default), or the end of the connection\n";

struct load {
    const char *socket, *admin, *list_path;
    unsigned long relays, window, ports, destinations, target_port;
    struct ip_address sources, targets;
    bool hold, drop;
    struct order_stream *stream;
    FILE *list;
    uint64_t *ids; /* of opened relays, by order; 0: it failed */
    uint64_t ordered, answered, opened, failed, closing, closed;
    uint64_t per_plane[N2_PLANE_END];
    char failure[N2_TEXT_MAX + 1]; /* the first one */
    uint64_t chunk_at_ns[CHUNKS + 1];
    unsigned chunk;
};

/* ---- orders --------------------------------------------------------------------------------- */

static struct ip_address address_after(struct ip_address address, uint64_t distance)
{
    for (size_t i = ip_address_size(&address); i > 0 && distance > 0; i--) {
        distance += address.bytes[i - 1];
        address.bytes[i - 1] = (uint8_t)distance;
        distance >>= 8;
    }
    return address;
}

static struct endpoint source_of(const struct load *load, uint64_t nth)
{
    return (struct endpoint){address_after(load->sources, nth / load->ports),
                             (uint16_t)(FIRST_PORT + nth % load->ports)};
}

static struct endpoint target_of(const struct load *load, uint64_t nth)
{
    return (struct endpoint){address_after(load->targets, nth % load->destinations),
                             (uint16_t)load->target_port};
}

static void put_order(struct load *load, uint64_t nth)
{
    static struct n2_message message = {.type = N2_OPEN_RELAY};
    struct n2_open_relay *order = &message.open_relay;

    message.transaction = nth + 1;
    order->association = nth + 1;
    order->kind = N2_KIND_TRANSPARENT;
    order->ptcl = load->stream->hello.ptcl;
    order->source = source_of(load, nth);
    order->destination_count = 1;
    order->destinations[0] = target_of(load, nth);
    snprintf(order->user, sizeof(order->user), "load");
    snprintf(order->rule, sizeof(order->rule), "everything");
    order_stream_put(load->stream, &message);
}

static void put_close(struct load *load, uint64_t relay)
{
    static struct n2_message message = {.type = N2_CLOSE_RELAY};

    message.close_relay.relay = relay;
    message.close_relay.reason = N2_REASON_CONTROL_CLOSED;
    order_stream_put(load->stream, &message);
}

/* ---- answers -------------------------------------------------------------------------------- */

static void list_relay(const struct load *load, uint64_t nth, const struct n2_relay_opened *opened)
{
    char text[4][ENDPOINT_TEXT_MAX];
    struct endpoint source = source_of(load, nth), target = target_of(load, nth);

    fprintf(load->list, "%llu %s %s %s %s %s\n", (unsigned long long)opened->relay,
            endpoint_format(&source, text[0], sizeof(text[0])),
            endpoint_format(&opened->bound, text[1], sizeof(text[1])),
            endpoint_format(&opened->egress, text[2], sizeof(text[2])),
            endpoint_format(&target, text[3], sizeof(text[3])), n2_plane_name(opened->plane));
}

static void on_answer(struct load *load, const struct n2_message *message)
{
    load->answered++;
    if (message->type == N2_RELAY_OPENED) {
        load->opened++;
        load->per_plane[message->relay_opened.plane]++;
        load->ids[message->transaction - 1] = message->relay_opened.relay;
        if (load->list != NULL) {
            list_relay(load, message->transaction - 1, &message->relay_opened);
        }
    } else if (load->failed++ == 0) {
        snprintf(load->failure, sizeof(load->failure), "%s", message->relay_failed.text);
    }
    if (load->answered >= load->relays * (load->chunk + 1) / CHUNKS) {
        load->chunk_at_ns[++load->chunk] = uv_hrtime();
    }
}

static void on_message(void *user, const struct n2_message *message)
{
    struct load *load = user;

    switch (message->type) {
    case N2_RELAY_OPENED:
    case N2_RELAY_FAILED:
        if (message->transaction == 0 || message->transaction > load->ordered) {
            bench_fail("an answer to no order");
        }
        on_answer(load, message);
        break;
    case N2_RELAY_CLOSED:
        load->closed++;
        break;
    default:
        bench_fail("relayd sent %s", n2_type_name(message->type));
    }
}

/* A turn of the connection. Ends the program when nothing has come for long. */
static void turn(struct load *load, unsigned *stalled)
{
    uint64_t before = load->answered + load->closed;

    order_stream_turn(load->stream, WAIT_MS);
    *stalled = load->answered + load->closed > before ? 0 : *stalled + 1;
    if (*stalled == STALLED_MAX) {
        bench_fail("relayd does not answer: %llu of %llu orders, %llu of %llu ends",
                   (unsigned long long)load->answered, (unsigned long long)load->ordered,
                   (unsigned long long)load->closed, (unsigned long long)load->closing);
    }
}

/* ---- phases --------------------------------------------------------------------------------- */

static void open_all(struct load *load)
{
    unsigned stalled = 0;

    load->chunk_at_ns[0] = uv_hrtime();
    while (load->answered < load->relays) {
        while (load->ordered < load->relays && load->ordered - load->answered < load->window &&
               order_stream_has_room(load->stream)) {
            put_order(load, load->ordered++);
        }
        turn(load, &stalled);
    }
}

/* Returns the time that it took. */
static uint64_t close_all(struct load *load)
{
    unsigned stalled = 0;
    uint64_t next = 0, begin = uv_hrtime();

    while (load->closed < load->opened) {
        while (next < load->relays && load->closing - load->closed < load->window * 16 &&
               order_stream_has_room(load->stream)) {
            uint64_t relay = load->ids[next++];
            if (relay != 0) {
                put_close(load, relay);
                load->closing++;
            }
        }
        turn(load, &stalled);
    }
    return uv_hrtime() - begin;
}

static uint64_t counter_of(const struct admin_status *status, const char *name)
{
    for (uint32_t i = 0; i < status->counter_count; i++) {
        if (strcmp(status->counters[i].name, name) == 0) {
            return status->counters[i].value;
        }
    }
    bench_fail("relayd does not count %s", name);
}

/* Ends the connection and waits for the last relay's end. Also says how long relayd took to answer
 * anybody else meanwhile, at most. */
static void drop_all(struct load *load)
{
    static struct admin_status status;
    struct client *client;
    uint64_t longest = 0, now = uv_hrtime(), begin = now;
    int result = load->admin == NULL ? 0 : client_open(&client, load->admin, 60000);

    if (result < 0) {
        bench_fail("%s: %s", load->admin, strerror(-result));
    }
    printf("dropped_at_ns %llu\n", (unsigned long long)uv_hrtime());
    order_stream_close(load->stream);
    fflush(stdout);
    if (load->admin == NULL) {
        return;
    }
    do {
        uint64_t asked = now;
        if (client_status(client, &status) != CLIENT_END) {
            bench_fail("%s: %s", load->admin, client_error(client));
        }
        now = uv_hrtime();
        longest = now - asked > longest ? now - asked : longest;
    } while (counter_of(&status, "relays") > 0 && now - begin < PATIENCE_NS);
    printf("dropped_ms %.1f\nlongest_status_ms %.1f\nrelays_left %llu\n",
           (double)(now - begin) / 1e6, (double)longest / 1e6,
           (unsigned long long)counter_of(&status, "relays"));
    client_close(client);
}

/* ---- report --------------------------------------------------------------------------------- */

static int compare_numbers(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static void report_opening(const struct load *load)
{
    double rates[CHUNKS],
        total_s = (double)(load->chunk_at_ns[CHUNKS] - load->chunk_at_ns[0]) / 1e9;

    for (unsigned i = 0; i < CHUNKS; i++) {
        uint64_t orders = load->relays * (i + 1) / CHUNKS - load->relays * i / CHUNKS;
        rates[i] = (double)orders * 1e9 / (double)(load->chunk_at_ns[i + 1] - load->chunk_at_ns[i]);
    }
    qsort(rates, CHUNKS, sizeof(rates[0]), compare_numbers);
    printf("opened %llu\nfailed %llu\n", (unsigned long long)load->opened,
           (unsigned long long)load->failed);
    if (load->failed > 0) {
        printf("first_failure %s\n", load->failure);
    }
    for (unsigned plane = N2_PLANE_SOCKET; plane < N2_PLANE_END; plane++) {
        printf("opened_%s %llu\n", n2_plane_name((enum n2_plane)plane),
               (unsigned long long)load->per_plane[plane]);
    }
    printf("seconds %.3f\nanswers_per_second %.0f\n", total_s, (double)load->relays / total_s);
    printf("answers_per_second_median %.0f\nanswers_per_second_least %.0f\n",
           (rates[CHUNKS / 2 - 1] + rates[CHUNKS / 2]) / 2, rates[0]);
}

static void report_usage(const struct load *load, const struct usage *before,
                         const struct usage *after)
{
    double relays = (double)(load->opened > 0 ? load->opened : 1);

    printf("rss_before %llu\nrss_after %llu\n", (unsigned long long)before->rss,
           (unsigned long long)after->rss);
    printf("maps %u\nmaps_octets %llu\n", after->map_count, (unsigned long long)after->maps);
    printf("rss_per_relay %.1f\nmaps_per_relay %.1f\ntotal_per_relay %.1f\n",
           ((double)after->rss - (double)before->rss) / relays, (double)after->maps / relays,
           ((double)after->rss - (double)before->rss + (double)after->maps) / relays);
    printf("cpu_us_per_relay %.2f\n", (double)(after->cpu_us - before->cpu_us) / relays);
    fflush(stdout);
}

/* ---- the program ---------------------------------------------------------------------------- */

static unsigned long number(const char *text, unsigned long least, unsigned long most)
{
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (errno != 0 || *end != '\0' || text[0] == '-' || value < least || value > most) {
        bench_fail("%s: not a number from %lu to %lu", text, least, most);
    }
    return value;
}

static struct ip_address address(const char *text)
{
    struct ip_address out;
    if (ip_address_parse(text, &out) < 0) {
        bench_fail("%s: not an address", text);
    }
    return out;
}

static bool parse_text(struct load *load, int option)
{
    switch (option) {
    case 's':
        load->socket = optarg;
        return true;
    case 'a':
        load->admin = optarg;
        return true;
    case 'l':
        load->list_path = optarg;
        return true;
    case 'S':
        load->sources = address(optarg);
        return true;
    case 'T':
        load->targets = address(optarg);
        return true;
    case 'h':
        load->hold = true;
        return true;
    case 'e':
        load->drop = strcmp(optarg, "drop") == 0;
        return load->drop || strcmp(optarg, "close") == 0;
    default:
        return false;
    }
}

static bool parse_number(struct load *load, int option)
{
    switch (option) {
    case 'n':
        load->relays = number(optarg, CHUNKS, 100000000);
        return true;
    case 'w':
        load->window = number(optarg, 1, 1000000);
        return true;
    case 'p':
        load->ports = number(optarg, 1, PORTS_MAX);
        return true;
    case 'd':
        load->destinations = number(optarg, 1, 65536);
        return true;
    case 't':
        load->target_port = number(optarg, 1, 65535);
        return true;
    default:
        return false;
    }
}

static void parse(struct load *load, int argc, char **argv)
{
    static const struct option options[] = {
        {"socket", required_argument, NULL, 's'},
        {"admin", required_argument, NULL, 'a'},
        {"relays", required_argument, NULL, 'n'},
        {"window", required_argument, NULL, 'w'},
        {"sources", required_argument, NULL, 'S'},
        {"ports", required_argument, NULL, 'p'},
        {"targets", required_argument, NULL, 'T'},
        {"destinations", required_argument, NULL, 'd'},
        {"target-port", required_argument, NULL, 't'},
        {"list", required_argument, NULL, 'l'},
        {"hold", no_argument, NULL, 'h'},
        {"end", required_argument, NULL, 'e'},
        {NULL, 0, NULL, 0},
    };

    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (!parse_number(load, option) && !parse_text(load, option)) {
            bench_fail("%s", usage_text);
        }
    }
    if (load->socket == NULL || optind != argc) {
        bench_fail("%s", usage_text);
    }
}

/* Until standard input ends. Pings are answered. */
static void hold(struct load *load)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    char octets[64];

    printf("held\n");
    fflush(stdout);
    do {
        order_stream_turn(load->stream, 50);
    } while (poll(&input, 1, 0) == 0 || read(STDIN_FILENO, octets, sizeof(octets)) > 0);
}

int main(int argc, char **argv)
{
    struct load load = {.relays = 1000000,
                        .window = 1024,
                        .ports = 50000,
                        .destinations = 25,
                        .target_port = 9,
                        .sources = address("10.1.0.2"),
                        .targets = address("10.2.0.2")};

    parse(&load, argc, argv);
    load.ids = calloc(load.relays, sizeof(load.ids[0]));
    load.list = load.list_path == NULL ? NULL : fopen(load.list_path, "we");
    if (load.ids == NULL || (load.list_path != NULL && load.list == NULL)) {
        bench_fail("%s: %s", load.list_path == NULL ? "ids" : load.list_path, strerror(errno));
    }
    load.stream = order_stream_open(load.socket, on_message, &load);
    struct usage before = usage_of(load.stream->relayd);
    open_all(&load);
    struct usage after = usage_of(load.stream->relayd);
    if (load.list != NULL && fclose(load.list) != 0) {
        bench_fail("%s: %s", load.list_path, strerror(errno));
    }
    report_opening(&load);
    report_usage(&load, &before, &after);
    if (load.hold) {
        hold(&load);
    }
    if (load.drop) {
        drop_all(&load);
    } else {
        uint64_t took = close_all(&load);
        printf("closed_ms %.1f\nclosed_per_second %.0f\n", (double)took / 1e6,
               (double)load.closed * 1e9 / (double)took);
        order_stream_close(load.stream);
    }
    free(load.ids);
    return load.failed == 0 ? 0 : 1;
}
