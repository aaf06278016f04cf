/*
 * The program attached to devices: what leaves on the other side, with the checksums that the
 * hardware still has to complete, with super-packets, and with neighbours that are not known.
 * proto/PLANE.md
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "relayd/plane/bpf/slot.h"
#include "tests/unit/relayd/bpf/program_fixture.h"
#include "tests/unit/relayd/bpf/suite.h"

#define ATTACH_TCX_INGRESS 46 /* BPF_TCX_INGRESS; not in every <linux/bpf.h> */
#define GSO_UDP 5             /* VIRTIO_NET_HDR_GSO_UDP_L4 */

static int links[BPF_ENDS];

static void attach(bool bare_client)
{
    for (int end = BPF_CLIENT; end < BPF_ENDS; end++) {
        links[end] = bpf_link_create(bench_program(end == BPF_CLIENT && bare_client),
                                     (int)bench.interface[end], ATTACH_TCX_INGRESS, NULL);
        ck_assert_msg(links[end] >= 0, "bpf_link_create: %s", strerror(-links[end]));
    }
}

static void refresh(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    for (int i = 1; i <= BPF_ENDS; i++)
        bench.hops[i].refreshed_ns = (__u64)now.tv_sec * 1000000000u + (__u64)now.tv_nsec;
}

/* A frame that comes in at the end's device. When this returns it has gone where it had to. */
static void put(enum bpf_end end, const struct frame *frame, struct virtio_net_hdr header)
{
    const struct iovec parts[] = {{&header, sizeof(header)},
                                  {(void *)frame->octets, frame->length}};

    ck_assert_int_eq(writev(bench.tap[end], parts, 2), (ssize_t)(sizeof(header) + frame->length));
}

static bool is_of_relay(const struct frame *frame)
{
    const uint8_t *ip = frame_ip(frame);

    return (ip[0] == 0x45 && ip[9] == bench.protocol) ||
           (ip[0] >> 4 == 6 && ip[6] == bench.protocol);
}

/* The next frame that leaves by the end's device, of the relay's protocol or, with `any`, whatever
 * it is. False: there is none. */
static bool get(enum bpf_end end, struct frame *frame, struct virtio_net_hdr *header, bool any)
{
    for (;;) {
        const struct iovec parts[] = {{header, sizeof(*header)}, {frame->octets, FRAME_MAX}};
        const ssize_t n = readv(bench.tap[end], parts, 2);
        if (n < 0 && errno == EAGAIN)
            return false;
        ck_assert_int_gt(n, (ssize_t)sizeof(*header));
        frame->length = (size_t)n - sizeof(*header);
        if (any || is_of_relay(frame))
            return true;
    }
}

static void offload(unsigned flags)
{
    for (int end = BPF_CLIENT; end < BPF_ENDS; end++)
        ck_assert_int_eq(ioctl(bench.tap[end], TUNSETOFFLOAD, flags), 0);
}

static void relay_over(int v6)
{
    bench_relay(v6 == 1);
    bench_establish();
    refresh();
    attach(false);
    offload(0);
}

static void expect_equal(const struct frame *frame, const struct packet_spec *spec)
{
    struct frame expected;

    craft(&expected, spec);
    ck_assert_uint_eq(frame->length, expected.length);
    for (size_t i = 0; i < expected.length; i++)
        ck_assert_msg(frame->octets[i] == expected.octets[i], "octet %zu is %02x, expected %02x", i,
                      frame->octets[i], expected.octets[i]);
}

/* PLANE-PKT-010, PLANE-PKT-080 */
START_TEST(packets_leave_on_the_other_side)
{
    struct virtio_net_hdr header;
    struct frame frame;

    relay_over(_i);
    for (int end = BPF_CLIENT; end < BPF_ENDS; end++) {
        const struct packet_spec in = bench_packet((enum bpf_end)end);
        const struct packet_spec out = bench_translated(&in, (enum bpf_end)end);
        craft(&frame, &in);
        put((enum bpf_end)end, &frame, (struct virtio_net_hdr){0});
        ck_assert(get(slot_other((enum bpf_end)end), &frame, &header, false));
        expect_equal(&frame, &out);
        ck_assert(!get(slot_other((enum bpf_end)end), &frame, &header, false));
        ck_assert(!get((enum bpf_end)end, &frame, &header, false));
    }
}
END_TEST

/* The frame as a sender with checksum offload makes it: the field holds the sum of the pseudo
 * header, and the rest is for the hardware. */
static struct virtio_net_hdr make_partial(struct frame *frame)
{
    uint8_t *ip = frame->octets + LINK_HEADER;
    const size_t header = bench.v6 ? 40 : 20, size = bench.v6 ? 32 : 8;
    const uint8_t *address = ip + (bench.v6 ? 8 : 12);
    const uint16_t place = bench.protocol == IPPROTO_TCP ? 16 : 6;
    uint32_t sum = bench.protocol + (uint32_t)(frame->length - LINK_HEADER - header);

    for (size_t i = 0; i < size; i += 2)
        sum += (uint32_t)(address[i] << 8 | address[i + 1]);
    while (sum > 0xffff)
        sum = (sum & 0xffff) + (sum >> 16);
    ip[header + place] = (uint8_t)(sum >> 8);
    ip[header + place + 1] = (uint8_t)sum;
    return (struct virtio_net_hdr){.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
                                   .csum_start = (uint16_t)(LINK_HEADER + header),
                                   .csum_offset = place};
}

/* What the hardware would do with it. */
static void complete(struct frame *frame, const struct virtio_net_hdr *header)
{
    uint8_t *place = frame->octets + header->csum_start + header->csum_offset;
    uint32_t sum = 0;

    for (size_t i = header->csum_start; i < frame->length; i++)
        sum +=
            (i - header->csum_start) % 2 == 0 ? (uint32_t)frame->octets[i] << 8 : frame->octets[i];
    while (sum > 0xffff)
        sum = (sum & 0xffff) + (sum >> 16);
    place[0] = (uint8_t)(~sum >> 8);
    place[1] = (uint8_t)~sum;
}

/* PLANE-CSUM-030. The way out completes the checksum itself, or the kernel does before it. */
START_TEST(partial_checksums_are_completed)
{
    const bool hardware = _i / 2 == 1;
    struct virtio_net_hdr header;
    struct frame frame;

    relay_over(_i % 2);
    offload(hardware ? TUN_F_CSUM : 0);
    for (size_t payload = 0; payload < 40; payload++) {
        struct packet_spec in = bench_packet(BPF_TARGET);
        in.payload = payload;
        in.seed = (uint32_t)payload * 31;
        craft(&frame, &in);
        header = make_partial(&frame);
        put(BPF_TARGET, &frame, header);
        ck_assert(get(BPF_CLIENT, &frame, &header, false));
        ck_assert_uint_eq(header.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM,
                          hardware ? VIRTIO_NET_HDR_F_NEEDS_CSUM : 0);
        if (hardware)
            complete(&frame, &header);
        const struct packet_spec out = bench_translated(&in, BPF_TARGET);
        expect_equal(&frame, &out);
    }
}
END_TEST

/* PLANE-PKT-060, PLANE-CSUM-030. Each segment is a packet of its own in the end. */
START_TEST(super_packets_are_segmented_on_the_way_out)
{
    const bool tcp = bench.protocol == IPPROTO_TCP;
    struct virtio_net_hdr header;
    struct packet_spec in;
    struct frame frame;
    size_t payload = 0, packets = 0;

    relay_over(_i);
    in = bench_packet(BPF_CLIENT);
    in.payload = 3500;
    in.fragment = 0x4000;
    craft(&frame, &in);
    header = make_partial(&frame);
    header.gso_size = 1000;
    header.gso_type =
        tcp ? (bench.v6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4) : GSO_UDP;
    header.hdr_len = (uint16_t)(LINK_HEADER + (bench.v6 ? 40 : 20) + (tcp ? 20 : 8));
    put(BPF_CLIENT, &frame, header);
    while (get(BPF_TARGET, &frame, &header, false)) {
        ck_assert_msg(frame_fault(&frame) == NULL, "segment %zu: %s", packets, frame_fault(&frame));
        ck_assert_mem_eq(frame_ip(&frame) + (bench.v6 ? 8 : 12), bench.egress.address.bytes,
                         ip_address_size(&bench.egress.address));
        payload += frame.length - LINK_HEADER - (bench.v6 ? 40 : 20) - (tcp ? 20 : 8);
        packets++;
    }
    ck_assert_uint_eq(packets, 4);
    ck_assert_uint_eq(payload, 3500);
    ck_assert_uint_eq(bench.slot->from[BPF_CLIENT].packets, 4);
    ck_assert_uint_eq(bench.slot->from[BPF_CLIENT].bytes, 3500);
}
END_TEST

/* PLANE-PKT-020 */
START_TEST(tagged_packets_are_not_the_devices)
{
    struct virtio_net_hdr header;
    struct packet_spec in;
    struct frame plain, tagged;

    relay_over(_i);
    in = bench_packet(BPF_CLIENT);
    craft(&plain, &in);
    tagged = plain;
    memcpy(tagged.octets + 12, (const uint8_t[]){0x81, 0x00, 0x00, 0x05}, 4);
    memcpy(tagged.octets + 16, plain.octets + 12, plain.length - 12);
    tagged.length += 4;
    put(BPF_CLIENT, &tagged, (struct virtio_net_hdr){0});
    ck_assert(!get(BPF_TARGET, &tagged, &header, false));
    put(BPF_CLIENT, &plain, (struct virtio_net_hdr){0});
    ck_assert(get(BPF_TARGET, &tagged, &header, false));
    ck_assert_uint_eq(bench.slot->from[BPF_CLIENT].packets, 1);
}
END_TEST

/* ---- neighbours --------------------------------------------------------------------------------
 */

static const uint8_t gateway_mac[6] = {2, 0, 0, 0, 7, 7};

/* The target's way leads through a gateway that the kernel has to ask for: another one in each
 * test, since it remembers. */
static void through_gateway(enum bpf_hop_state state, uint8_t which)
{
    struct bpf_hop *hop = &bench.hops[1 + BPF_TARGET];
    const uint8_t four[4] = {192, 0, 2, which};

    hop->family = AF_INET;
    memcpy(hop->gateway, four, 4);
    hop->state = state;
}

/* The kernel asks for the gateway; the answer lets wait what was waiting. */
static void answer_arp(void)
{
    struct virtio_net_hdr header;
    struct frame frame;
    uint8_t *arp = frame.octets + LINK_HEADER;

    do
        ck_assert_msg(get(BPF_TARGET, &frame, &header, true), "nobody asks for the gateway");
    while (frame.octets[12] != 0x08 || frame.octets[13] != 0x06);
    ck_assert_mem_eq(arp + 24, bench.hops[1 + BPF_TARGET].gateway, 4);
    memcpy(frame.octets, frame.octets + 6, 6);
    memcpy(frame.octets + 6, gateway_mac, 6);
    arp[7] = 2;
    memcpy(arp + 18, arp + 8, 6); /* the one who asks */
    memcpy(arp + 8, gateway_mac, 6);
    uint8_t asked[4];
    memcpy(asked, arp + 24, 4);
    memcpy(arp + 24, arp + 14, 4);
    memcpy(arp + 14, asked, 4);
    put(BPF_TARGET, &frame, (struct virtio_net_hdr){0});
}

static void give_address(void)
{
    struct ifreq request = {.ifr_name = "target"};
    struct sockaddr_in *address = (struct sockaddr_in *)&request.ifr_addr;
    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    address->sin_family = AF_INET;
    address->sin_addr.s_addr = htonl(0xc0000201); /* 192.0.2.1/24 */
    ck_assert_int_eq(ioctl(fd, SIOCSIFADDR, &request), 0);
    close(fd);
}

/* PLANE-PKT-080 */
START_TEST(the_kernel_finds_out_the_neighbour)
{
    struct packet_spec in, out;
    struct virtio_net_hdr header;
    struct frame frame;

    relay_over(0);
    give_address();
    through_gateway(BPF_HOP_ASK, 10);
    in = bench_packet(BPF_CLIENT);
    craft(&frame, &in);
    put(BPF_CLIENT, &frame, (struct virtio_net_hdr){0});
    answer_arp();
    ck_assert(get(BPF_TARGET, &frame, &header, false));
    out = bench_translated(&in, BPF_CLIENT);
    memcpy(out.destination_mac, gateway_mac, 6);
    expect_equal(&frame, &out);
}
END_TEST

/* PLANE-PKT-080. Once a second a packet takes the kernel's way, all others the program's. */
START_TEST(the_neighbour_is_kept_alive)
{
    struct packet_spec in, out;
    struct virtio_net_hdr header;
    struct frame frame;

    relay_over(0);
    give_address();
    through_gateway(BPF_HOP_DIRECT, 11);
    bench.hops[1 + BPF_TARGET].refreshed_ns -= BPF_HOP_REFRESH_NS;
    in = bench_packet(BPF_CLIENT);
    craft(&frame, &in);
    put(BPF_CLIENT, &frame, (struct virtio_net_hdr){0});
    answer_arp();
    out = bench_translated(&in, BPF_CLIENT);
    memcpy(out.destination_mac, gateway_mac, 6);
    ck_assert(get(BPF_TARGET, &frame, &header, false));
    expect_equal(&frame, &out);
    craft(&frame, &in);
    put(BPF_CLIENT, &frame, (struct virtio_net_hdr){0});
    out = bench_translated(&in, BPF_CLIENT);
    ck_assert(get(BPF_TARGET, &frame, &header, false));
    expect_equal(&frame, &out);
}
END_TEST

/* ---- devices without a link-layer header --------------------------------------------------------
 */

/* The end's device is a tun from now on. */
static void make_bare(enum bpf_end end)
{
    struct ifreq request = {.ifr_name = "bare", .ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR};
    const int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    const int inet = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    ck_assert_int_eq(ioctl(fd, TUNSETIFF, &request), 0);
    request.ifr_flags = IFF_UP;
    ck_assert_int_eq(ioctl(inet, SIOCSIFFLAGS, &request), 0);
    close(inet);
    bench.tap[end] = fd;
    bench.interface[end] = if_nametoindex("bare");
    bench.slot->side[end].interface = bench.hops[1 + end].interface = bench.interface[end];
    bench.hops[1 + end].state = BPF_HOP_BARE;
}

/* PLANE-PKT-080, PLANE-PKT-070 */
START_TEST(towards_a_bare_device_there_is_no_link_layer_header)
{
    struct packet_spec in, out;
    struct frame frame, expected;
    uint8_t octets[FRAME_MAX];
    ssize_t n;

    bench_relay(_i == 1);
    bench_establish();
    make_bare(BPF_TARGET);
    refresh();
    attach(false);
    in = bench_packet(BPF_CLIENT);
    in.payload = 1;
    in.padding = 3;
    craft(&frame, &in);
    put(BPF_CLIENT, &frame, (struct virtio_net_hdr){0});
    out = bench_translated(&in, BPF_CLIENT);
    out.padding = 0;
    craft(&expected, &out);
    do {
        n = read(bench.tap[BPF_TARGET], octets, sizeof(octets));
        ck_assert_msg(n > 0, "nothing leaves");
    } while (octets[10 + (bench.v6 ? 6 : 9)] != bench.protocol);
    ck_assert_int_eq(n, (ssize_t)(10 + expected.length - LINK_HEADER));
    ck_assert_mem_eq(octets + 10, frame_ip(&expected), expected.length - LINK_HEADER);
}
END_TEST

/* What comes in at the bare device of the client. */
static void put_bare(const struct frame *frame)
{
    struct virtio_net_hdr header = {0};
    const struct iovec parts[] = {
        {&header, sizeof(header)},
        {(void *)frame_ip(frame), frame->length - LINK_HEADER},
    };

    ck_assert_int_gt(writev(bench.tap[BPF_CLIENT], parts, 2), 0);
}

/* PLANE-PKT-080. From the program, or from the kernel where it has to ask. */
START_TEST(a_packet_without_a_header_gets_one)
{
    struct virtio_net_hdr header;
    struct packet_spec in, out;
    struct frame frame;

    bench_relay(_i % 2 == 1);
    bench_establish();
    make_bare(BPF_CLIENT);
    refresh();
    attach(true);
    in = bench_packet(BPF_CLIENT);
    out = bench_translated(&in, BPF_CLIENT);
    if (_i == 2) {
        give_address();
        through_gateway(BPF_HOP_ASK, 12);
        memcpy(out.destination_mac, gateway_mac, 6);
    }
    craft(&frame, &in);
    put_bare(&frame);
    if (_i == 2)
        answer_arp();
    ck_assert(get(BPF_TARGET, &frame, &header, false));
    expect_equal(&frame, &out);
}
END_TEST

static Suite *send_suite(void)
{
    Suite *suite = suite_create("bpf_send");

    for (int tcp = 0; tcp < 2; tcp++) {
        TCase *tests = bench_case(tcp ? "tcp" : "udp", tcp ? IPPROTO_TCP : IPPROTO_UDP);
        tcase_add_loop_test(tests, packets_leave_on_the_other_side, 0, 2);
        tcase_add_loop_test(tests, partial_checksums_are_completed, 0, 4);
        tcase_add_loop_test(tests, super_packets_are_segmented_on_the_way_out, 0, 2);
        tcase_add_loop_test(tests, tagged_packets_are_not_the_devices, 0, 2);
        tcase_add_test(tests, the_kernel_finds_out_the_neighbour);
        tcase_add_test(tests, the_neighbour_is_kept_alive);
        tcase_add_loop_test(tests, towards_a_bare_device_there_is_no_link_layer_header, 0, 2);
        tcase_add_loop_test(tests, a_packet_without_a_header_gets_one, 0, 3);
        suite_add_tcase(suite, tests);
    }
    return suite;
}

int main(void)
{
    return bench_main(send_suite);
}
