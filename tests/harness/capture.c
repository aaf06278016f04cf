#include "tests/harness/capture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "tests/harness/wait.h"

#define RECEIVE_BUFFER (256 * 1024 * 1024)
#define PACKET_MAX 65600
#define PACKETS_MAX (4u * 1024 * 1024)

struct capture {
    struct lab *lab;
    int fd;
    size_t count, room;
    struct packet *packets;
};

static void discard(void *user)
{
    capture_free(user);
}

struct capture *capture_start(struct lab *lab, enum lab_place place, const char *interface)
{
    struct capture *capture = calloc(1, sizeof(*capture));
    ck_assert_ptr_nonnull(capture);
    capture->lab = lab;
    /* Protocol 0 takes nothing until bind() names the interface. */
    capture->fd = lab_socket(lab, place, AF_PACKET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    const int size = RECEIVE_BUFFER;
    ck_assert_int_eq(setsockopt(capture->fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)), 0);
    struct ifreq request = {0};
    strncpy(request.ifr_name, interface, sizeof(request.ifr_name) - 1);
    ck_assert_msg(ioctl(capture->fd, SIOCGIFINDEX, &request) == 0, "interface %s: %s", interface,
                  strerror(errno));
    const struct sockaddr_ll address = {.sll_family = AF_PACKET,
                                        .sll_protocol = htons(ETH_P_ALL),
                                        .sll_ifindex = request.ifr_ifindex};
    ck_assert_int_eq(bind(capture->fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    lab_on_free(lab, discard, capture);
    return capture;
}

void capture_free(struct capture *capture)
{
    lab_forget(capture->lab, discard, capture);
    for (size_t i = 0; i < capture->count; i++) {
        free((void *)(uintptr_t)capture->packets[i].data);
    }
    free(capture->packets);
    close(capture->fd);
    free(capture);
}

static uint16_t read16(const uint8_t *data)
{
    return (uint16_t)(data[0] << 8 | data[1]);
}

/* Ports, flags and payload from the transport header at `offset`. */
static void parse_transport(struct packet *packet, size_t offset, size_t end)
{
    const uint8_t *data = packet->data + offset;
    const size_t left = end > offset ? end - offset : 0;
    packet->payload = data;
    packet->length = left;
    if (packet->protocol == IPPROTO_TCP && left >= 20) {
        const size_t header = (size_t)(data[12] >> 4) * 4;
        packet->source.port = read16(data);
        packet->destination.port = read16(data + 2);
        packet->tcp_flags = data[13];
        packet->tcp_sequence = (uint32_t)read16(data + 4) << 16 | read16(data + 6);
        packet->payload = data + header;
        packet->length = left > header ? left - header : 0;
    } else if (packet->protocol == IPPROTO_UDP && left >= 8) {
        packet->source.port = read16(data);
        packet->destination.port = read16(data + 2);
        packet->payload = data + 8;
        packet->length = left - 8;
    }
}

static void parse_v4(struct packet *packet)
{
    const uint8_t *data = packet->data;
    const size_t header = (size_t)(data[0] & 15) * 4;
    size_t end = read16(data + 2);
    if (end == 0 || end > packet->data_length) {
        end = packet->data_length;
    }
    packet->protocol = data[9];
    packet->source.address = ip_address_v4(data + 12);
    packet->destination.address = ip_address_v4(data + 16);
    if ((read16(data + 6) & 0x1fff) == 0) {
        parse_transport(packet, header, end);
    } else { /* not the first fragment: no ports */
        packet->payload = data + header;
        packet->length = end > header ? end - header : 0;
    }
}

static void parse_v6(struct packet *packet)
{
    const uint8_t *data = packet->data;
    packet->protocol = data[6];
    packet->source.address = ip_address_v6(data + 8);
    packet->destination.address = ip_address_v6(data + 24);
    size_t offset = 40;
    if (packet->protocol == IPPROTO_FRAGMENT && packet->data_length >= 48) {
        packet->protocol = data[40];
        offset = 48;
        if ((read16(data + 42) & 0xfff8) != 0) {
            packet->payload = data + offset;
            packet->length = packet->data_length - offset;
            return;
        }
    }
    parse_transport(packet, offset, packet->data_length);
}

static void store(struct capture *capture, const uint8_t *data, size_t length,
                  const struct sockaddr_ll *from)
{
    if (capture->count == capture->room) {
        capture->room = capture->room == 0 ? 256 : capture->room * 2;
        ck_assert_uint_le(capture->room, PACKETS_MAX);
        capture->packets = realloc(capture->packets, capture->room * sizeof(struct packet));
        ck_assert_ptr_nonnull(capture->packets);
    }
    uint8_t *copy = malloc(length + 1);
    ck_assert_ptr_nonnull(copy);
    memcpy(copy, data, length);
    struct packet *packet = &capture->packets[capture->count++];
    *packet = (struct packet){.outgoing = from->sll_pkttype == PACKET_OUTGOING,
                              .data = copy,
                              .data_length = length,
                              .payload = copy,
                              .length = length};
    if (from->sll_protocol == htons(ETH_P_IP) && length >= 20) {
        parse_v4(packet);
    } else if (from->sll_protocol == htons(ETH_P_IPV6) && length >= 40) {
        parse_v6(packet);
    }
}

/* Takes over what the kernel holds. */
static void drain(struct capture *capture)
{
    static uint8_t buffer[PACKET_MAX];
    for (;;) {
        struct sockaddr_ll from = {0};
        socklen_t from_length = sizeof(from);
        const ssize_t length = recvfrom(capture->fd, buffer, sizeof(buffer), 0,
                                        (struct sockaddr *)&from, &from_length);
        if (length < 0) {
            ck_assert_msg(errno == EAGAIN, "capture: %s", strerror(errno));
            break;
        }
        store(capture, buffer, (size_t)length, &from);
    }
    struct tpacket_stats stats = {0};
    socklen_t size = sizeof(stats);
    ck_assert_int_eq(getsockopt(capture->fd, SOL_PACKET, PACKET_STATISTICS, &stats, &size), 0);
    ck_assert_msg(stats.tp_drops == 0, "the capture lost %u packets", stats.tp_drops);
}

static bool endpoint_matches(const struct endpoint *wanted, const struct endpoint *got)
{
    return (wanted->address.family == IP_NONE ||
            ip_address_equal(&wanted->address, &got->address)) &&
           (wanted->port == 0 || wanted->port == got->port);
}

static bool matches(const struct packet *packet, void *user)
{
    const struct packet_match *match = user;
    return (match->protocol == 0 || match->protocol == packet->protocol) &&
           endpoint_matches(&match->source, &packet->source) &&
           endpoint_matches(&match->destination, &packet->destination) &&
           (packet->tcp_flags & match->tcp_flags) == match->tcp_flags &&
           !(match->only_outgoing && !packet->outgoing) &&
           !(match->only_incoming && packet->outgoing) &&
           !(match->only_with_payload && packet->length == 0);
}

size_t capture_count_if(struct capture *capture, packet_cb predicate, void *user)
{
    size_t count = 0;
    drain(capture);
    for (size_t i = 0; i < capture->count; i++) {
        count += predicate(&capture->packets[i], user);
    }
    return count;
}

size_t capture_count(struct capture *capture, const struct packet_match *match)
{
    return capture_count_if(capture, matches, (void *)(uintptr_t)match);
}

bool capture_get(struct capture *capture, const struct packet_match *match, size_t n,
                 struct packet *out)
{
    drain(capture);
    for (size_t i = 0; i < capture->count; i++) {
        if (matches(&capture->packets[i], (void *)(uintptr_t)match) && n-- == 0) {
            *out = capture->packets[i];
            return true;
        }
    }
    return false;
}

bool capture_contains(struct capture *capture, const struct packet_match *match, const void *bytes,
                      size_t length)
{
    drain(capture);
    for (size_t i = 0; i < capture->count; i++) {
        const struct packet *packet = &capture->packets[i];
        if (matches(packet, (void *)(uintptr_t)match) &&
            memmem(packet->data, packet->data_length, bytes, length) != NULL) {
            return true;
        }
    }
    return false;
}

size_t capture_stream(struct capture *capture, const struct packet_match *match, uint8_t *out,
                      size_t size)
{
    struct packet_match syn = *match;
    struct packet first;
    syn.tcp_flags |= CAPTURE_SYN;
    ck_assert_msg(capture_get(capture, &syn, 0, &first), "no SYN in the capture");
    size_t end = 0, seen = 0;
    for (size_t i = 0; i < capture->count; i++) {
        const struct packet *packet = &capture->packets[i];
        if (!matches(packet, (void *)(uintptr_t)match) || packet->length == 0) {
            continue;
        }
        const size_t offset = packet->tcp_sequence - first.tcp_sequence - 1;
        ck_assert_uint_le(offset, size);
        ck_assert_uint_le(packet->length, size - offset);
        memcpy(out + offset, packet->payload, packet->length);
        end = offset + packet->length > end ? offset + packet->length : end;
        seen += packet->length;
    }
    ck_assert_msg(seen >= end, "%zu of %zu octets of the stream are missing", end - seen, end);
    return end;
}

size_t capture_payload(struct capture *capture, const struct packet_match *match)
{
    size_t octets = 0;
    drain(capture);
    for (size_t i = 0; i < capture->count; i++) {
        if (matches(&capture->packets[i], (void *)(uintptr_t)match)) {
            octets += capture->packets[i].length;
        }
    }
    return octets;
}
