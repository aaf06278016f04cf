#include "tests/unit/relayd/bpf/program_fixture.h"

#include <bpf/bpf.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <relay_program.skel.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "relayd/plane/bpf/slot.h"

#define RINGS 3

struct bench bench;

static struct relay_program *skeleton;
static uint64_t counted[BPF_COUNT_END]; /* when it was looked at last */

static const uint8_t device_mac[BPF_ENDS][6] = {{2, 0, 0, 0, 0, 0x0c}, {2, 0, 0, 0, 0, 0x0d}};
static const uint8_t neighbour_mac[BPF_ENDS][6] = {{2, 0, 0, 0, 1, 0xc0}, {2, 0, 0, 0, 1, 0xd0}};

/* ---- the machine ------------------------------------------------------------------------------
 */

static bool has_capability(cap_value_t value)
{
    cap_t capabilities = cap_get_proc();
    cap_flag_value_t effective = CAP_CLEAR;
    const bool known =
        capabilities != NULL && cap_get_flag(capabilities, value, CAP_EFFECTIVE, &effective) == 0;

    cap_free(capabilities);
    return known && effective == CAP_SET;
}

const char *bench_obstacle(void)
{
    if (!has_capability(CAP_BPF) && !has_capability(CAP_SYS_ADMIN))
        return "loading a program needs CAP_BPF";
    if (!has_capability(CAP_NET_ADMIN) || !has_capability(CAP_SYS_ADMIN))
        return "a network namespace needs CAP_SYS_ADMIN and CAP_NET_ADMIN";
    if (access("/dev/net/tun", R_OK | W_OK) != 0)
        return "there is no /dev/net/tun";
    return NULL;
}

/* ioctl() on a device, which has to work. */
static void configure(unsigned long what, struct ifreq *request)
{
    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    ck_assert_int_ge(fd, 0);
    ck_assert_msg(ioctl(fd, what, request) == 0, "ioctl %#lx: %s", what, strerror(errno));
    close(fd);
}

static void make_tap(enum bpf_end end, const char *name)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    const int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

    ck_assert_int_ge(fd, 0);
    strcpy(request.ifr_name, name);
    ck_assert_msg(ioctl(fd, TUNSETIFF, &request) == 0, "TUNSETIFF: %s", strerror(errno));
    request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
    memcpy(request.ifr_hwaddr.sa_data, device_mac[end], 6);
    configure(SIOCSIFHWADDR, &request);
    request.ifr_flags = IFF_UP;
    configure(SIOCSIFFLAGS, &request);
    bench.tap[end] = fd;
    bench.interface[end] = if_nametoindex(name);
}

/* ---- the program ------------------------------------------------------------------------------
 */

static void *map(const struct bpf_map *table, size_t rows, size_t size)
{
    void *area = mmap(NULL, rows * size, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(table), 0);

    ck_assert_msg(area != MAP_FAILED, "mmap: %s", strerror(errno));
    return area;
}

static void setup(uint8_t protocol)
{
    ck_assert_msg(unshare(CLONE_NEWNET) == 0, "unshare: %s", strerror(errno));
    make_tap(BPF_CLIENT, "client");
    make_tap(BPF_TARGET, "target");
    skeleton = relay_program__open();
    ck_assert_ptr_nonnull(skeleton);
    skeleton->rodata->settings.protocol = protocol;
    skeleton->rodata->settings.mark = BENCH_MARK;
    skeleton->rodata->settings.csum_ipv6_flag = 1u << 7;
    bpf_map__set_max_entries(skeleton->maps.slots, BENCH_SLOTS);
    bpf_map__set_max_entries(skeleton->maps.flows, BENCH_SLOTS * 2);
    bpf_map__set_max_entries(skeleton->maps.endpoints, BENCH_SLOTS);
    bpf_map__set_max_entries(skeleton->maps.strangers, BENCH_SLOTS);
    ck_assert_int_eq(relay_program__load(skeleton), 0);
    bench.protocol = protocol;
    bench.slots = map(skeleton->maps.slots, BENCH_SLOTS, sizeof(struct bpf_slot));
    bench.slot = &bench.slots[BENCH_SLOT];
    bench.hops = map(skeleton->maps.hops, BPF_HOPS_MAX, sizeof(struct bpf_hop));
    bench.strangers = map(skeleton->maps.strangers, BENCH_SLOTS, sizeof(struct bpf_strangers));
    bench.globals = &skeleton->data->globals;
    bench.flows_fd = bpf_map__fd(skeleton->maps.flows);
    bench.endpoints_fd = bpf_map__fd(skeleton->maps.endpoints);
}

void bench_setup_udp(void)
{
    setup(IPPROTO_UDP);
}

void bench_setup_tcp(void)
{
    setup(IPPROTO_TCP);
}

void bench_teardown(void)
{
    relay_program__destroy(skeleton);
    close(bench.tap[BPF_CLIENT]);
    close(bench.tap[BPF_TARGET]);
}

int bench_program(bool bare)
{
    return bpf_program__fd(bare ? skeleton->progs.relay_bare : skeleton->progs.relay);
}

/* ---- counters and rings ------------------------------------------------------------------------
 */

uint64_t bench_count(enum bpf_count which)
{
    const int processors = libbpf_num_possible_cpus();
    const __u32 key = which;
    uint64_t sum = 0;

    ck_assert_int_gt(processors, 0);
    uint64_t *values = calloc((size_t)processors, sizeof(*values));
    ck_assert_ptr_nonnull(values);
    ck_assert_int_eq(bpf_map_lookup_elem(bpf_map__fd(skeleton->maps.counters), &key, values), 0);
    for (int i = 0; i < processors; i++)
        sum += values[i];
    free(values);
    return sum;
}

static void look_at_counters(void)
{
    for (int i = 0; i < BPF_COUNT_END; i++)
        counted[i] = bench_count((enum bpf_count)i);
}

static void expect_counts(int which)
{
    for (int i = 0; i < BPF_COUNT_END; i++) {
        const uint64_t more = bench_count((enum bpf_count)i) - counted[i];
        ck_assert_msg(more == (i == which), "counter %d grew by %llu, only %d should, by 1", i,
                      (unsigned long long)more, which);
    }
    look_at_counters();
}

void bench_expect_count(enum bpf_count which)
{
    expect_counts((int)which);
}

void bench_expect_no_count(void)
{
    expect_counts(-1);
}

struct record {
    void *out;
    size_t size;
    bool there;
};

static int take_record(void *user, void *data, size_t size)
{
    struct record *record = user;

    ck_assert_uint_ge(size, record->size);
    if (record->out != NULL)
        memcpy(record->out, data, record->size);
    record->there = true;
    return -ECANCELED; /* one is enough */
}

/* Takes one record out of the ring. */
static bool next_record(const struct bpf_map *table, void *out, size_t size)
{
    struct record record = {out, size, false};
    struct ring_buffer *ring = ring_buffer__new(bpf_map__fd(table), take_record, &record, NULL);

    ck_assert_ptr_nonnull(ring);
    (void)ring_buffer__consume(ring);
    ring_buffer__free(ring);
    return record.there;
}

bool bench_event(struct bpf_event *out)
{
    return next_record(skeleton->maps.events, out, sizeof(*out));
}

bool bench_stranger(struct bpf_stranger_event *out)
{
    return next_record(skeleton->maps.strangers_ring, out, sizeof(*out));
}

bool bench_answer(struct bpf_answer *out)
{
    return next_record(skeleton->maps.answers, out, sizeof(*out));
}

/* ---- the relay ---------------------------------------------------------------------------------
 */

static void empty_hash(int fd, size_t key_size)
{
    uint8_t key[64];

    ck_assert_uint_le(key_size, sizeof(key));
    while (bpf_map_get_next_key(fd, NULL, key) == 0)
        ck_assert_int_eq(bpf_map_delete_elem(fd, key), 0);
}

static void empty_tables(void)
{
    empty_hash(bench.flows_fd, sizeof(struct bpf_flow_key));
    empty_hash(bench.endpoints_fd, sizeof(struct bpf_endpoint_key));
    memset(bench.slots, 0, BENCH_SLOTS * sizeof(struct bpf_slot));
    memset(bench.hops, 0, 8 * sizeof(struct bpf_hop));
    memset(bench.strangers, 0, BENCH_SLOTS * sizeof(struct bpf_strangers));
    memset((void *)bench.globals, 0, sizeof(*bench.globals));
    while (bench_event(&(struct bpf_event){0}) || bench_stranger(&(struct bpf_stranger_event){0}) ||
           bench_answer(&(struct bpf_answer){0}))
        ;
    look_at_counters();
}

static void put_hop(enum bpf_end end)
{
    struct bpf_hop *hop = &bench.hops[1 + end];

    hop->interface = bench.interface[end];
    hop->mtu = BENCH_MTU;
    hop->state = BPF_HOP_DIRECT;
    memcpy(hop->destination_mac, neighbour_mac[end], 6);
    memcpy(hop->source_mac, device_mac[end], 6);
}

static void put_endpoint(const struct endpoint *endpoint, __u32 row)
{
    struct bpf_endpoint_key key = {.port = htons(endpoint->port)};

    slot_put_address(key.address, &endpoint->address);
    ck_assert_int_eq(bpf_map_update_elem(bench.endpoints_fd, &key, &row, BPF_NOEXIST), 0);
}

static void put_row(enum bpf_end end)
{
    const struct bpf_flow_key key = slot_key(bench.slot, end);
    const struct bpf_flow value = slot_value(bench.slot, BENCH_SLOT, end);

    ck_assert_int_eq(bpf_map_update_elem(bench.flows_fd, &key, &value, BPF_NOEXIST), 0);
}

void bench_relay(bool v6)
{
    struct slot_side sides[BPF_ENDS] = {
        {&bench.client, &bench.bound, bench.interface[BPF_CLIENT], 1 + BPF_CLIENT},
        {&bench.target, &bench.egress, bench.interface[BPF_TARGET], 1 + BPF_TARGET},
    };

    bench.v6 = v6;
    bench.bare = false;
    /* For the program without link-layer header: see run(). */
    bench.client = endpoint_of(v6 ? "[2001:db8:86dd::10]:40001" : "8.0.1.10:40001");
    bench.bound = endpoint_of(v6 ? "[2001:db8:1::1]:20001" : "192.0.2.1:20001");
    bench.egress = endpoint_of(v6 ? "[2001:db8:2::1]:30001" : "198.51.100.1:30001");
    bench.target = endpoint_of(v6 ? "[2001:db8:86dd:3::99]:443" : "8.0.113.99:443");
    empty_tables();
    slot_put_sides(bench.slot, sides);
    bench.slot->generation = BENCH_GENERATION;
    bench.slot->peer = BENCH_PEER;
    bench.slot->epoch = BENCH_EPOCH;
    bench.globals->peers[BENCH_PEER] = BENCH_EPOCH;
    put_hop(BPF_CLIENT);
    put_hop(BPF_TARGET);
    put_endpoint(&bench.bound, BENCH_STRANGERS);
    put_endpoint(&bench.egress, BENCH_STRANGERS + 1);
    put_row(BPF_CLIENT);
    put_row(BPF_TARGET);
    slot_set_state(bench.slot, BPF_SLOT_OPEN);
}

void bench_establish(void)
{
    const uint32_t seen = BPF_SEEN_PACKET | BPF_SEEN_SYN | BPF_SEEN_ESTABLISHED;

    bench.slot->from[BPF_CLIENT].seen = bench.slot->from[BPF_TARGET].seen = seen;
}

/* ---- packets -----------------------------------------------------------------------------------
 */

struct packet_spec bench_packet(enum bpf_end from)
{
    struct packet_spec spec = {
        .source = from == BPF_CLIENT ? bench.client : bench.target,
        .destination = from == BPF_CLIENT ? bench.bound : bench.egress,
        .protocol = bench.protocol,
        .payload = 64,
        .seed = 1,
        .flags = FLAG_ACK,
        .sequence = from == BPF_CLIENT ? 0x10000000 : 0x20000000,
        .acknowledgment = from == BPF_CLIENT ? 0x20000000 : 0x10000000,
    };

    memcpy(spec.destination_mac, device_mac[from], 6);
    memcpy(spec.source_mac, neighbour_mac[from], 6);
    return spec;
}

struct packet_spec bench_translated(const struct packet_spec *in, enum bpf_end from)
{
    struct packet_spec out = *in;
    const enum bpf_end to = slot_other(from);

    out.source = from == BPF_CLIENT ? bench.egress : bench.bound;
    out.destination = from == BPF_CLIENT ? bench.target : bench.client;
    out.ttl = (uint8_t)((in->ttl == 0 ? 64 : in->ttl) - 1);
    memcpy(out.destination_mac, neighbour_mac[to], 6);
    memcpy(out.source_mac, device_mac[to], 6);
    return out;
}

/* A neighbour that need not be refreshed now. */
static void refresh_hops(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    for (int i = 1; i <= BPF_ENDS; i++)
        bench.hops[i].refreshed_ns = (__u64)now.tv_sec * 1000000000u + (__u64)now.tv_nsec;
}

/*
 * The kernel takes the first fourteen octets for a link-layer header in any case, and looks for the
 * protocol in its last two: without a header these are the source address's, which is why the ends
 * have such addresses.
 */
static uint32_t run(const struct frame *frame, const struct arrival *arrival, int repeat,
                    struct outcome *outcome)
{
    const size_t skipped = bench.bare ? LINK_HEADER : 0;
    struct __sk_buff in = {.ifindex = arrival->interface,
                           .mark = arrival->mark,
                           .gso_size = arrival->segment,
                           .gso_segs = arrival->segments};
    struct __sk_buff out = {0};
    LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame->octets + skipped,
                .data_size_in = (__u32)(frame->length - skipped),
                .data_out = outcome->frame.octets + skipped,
                .data_size_out = (__u32)(FRAME_MAX - skipped), .ctx_in = &in,
                .ctx_size_in = sizeof(in), .ctx_out = &out, .ctx_size_out = sizeof(out),
                .repeat = repeat);

    refresh_hops();
    const int error = bpf_prog_test_run_opts(bench_program(bench.bare), &options);
    ck_assert_msg(error == 0, "BPF_PROG_TEST_RUN: %s", strerror(-error));
    outcome->frame.length = options.data_size_out + skipped;
    if (bench.bare && (int)options.retval == SENT) { /* it has got a header */
        memmove(outcome->frame.octets, outcome->frame.octets + skipped, options.data_size_out);
        outcome->frame.length -= skipped;
    } else if (bench.bare) {
        memcpy(outcome->frame.octets, frame->octets, skipped);
    }
    outcome->verdict = (int)options.retval;
    outcome->mark = out.mark;
    return options.duration;
}

struct outcome bench_run(const struct frame *frame, const struct arrival *arrival)
{
    struct outcome outcome = {0};

    run(frame, arrival, 1, &outcome);
    return outcome;
}

struct outcome bench_run_from(const struct frame *frame, enum bpf_end end)
{
    return bench_run(frame, &(struct arrival){.interface = bench.interface[end]});
}

uint32_t bench_time(const struct frame *frame, enum bpf_end end, uint32_t repeat)
{
    struct outcome outcome;

    return run(frame, &(struct arrival){.interface = bench.interface[end]}, (int)repeat, &outcome);
}

/* Where two frames begin to differ; -1: nowhere. */
static long difference(const struct frame *a, const struct frame *b)
{
    const size_t length = a->length < b->length ? a->length : b->length;

    for (size_t i = 0; i < length; i++) {
        if (a->octets[i] != b->octets[i])
            return (long)i;
    }
    return a->length == b->length ? -1 : (long)length;
}

void bench_expect_carried(const struct packet_spec *in, enum bpf_end from)
{
    const struct packet_spec translated = bench_translated(in, from);
    struct frame frame, expected;

    craft(&frame, in);
    craft(&expected, &translated);
    const struct outcome outcome = bench_run_from(&frame, from);
    ck_assert_int_eq(outcome.verdict, SENT);
    ck_assert_uint_eq(outcome.frame.length, expected.length);
    const long at = difference(&outcome.frame, &expected);
    ck_assert_msg(at < 0, "octet %ld is %02x, expected %02x", at, outcome.frame.octets[at],
                  expected.octets[at]);
    ck_assert_uint_eq(outcome.mark, 0);
}

void bench_expect_verdict(const struct packet_spec *in, enum bpf_end from, int verdict)
{
    struct frame frame;

    craft(&frame, in);
    const struct outcome outcome = bench_run_from(&frame, from);
    ck_assert_int_eq(outcome.verdict, verdict);
    if (verdict != SENT)
        ck_assert_msg(difference(&outcome.frame, &frame) < 0, "a packet that stays was changed");
}

void bench_expect_dropped(const struct packet_spec *in, enum bpf_end from, enum bpf_count why)
{
    bench_expect_verdict(in, from, DROPPED);
    bench_expect_count(why);
}
