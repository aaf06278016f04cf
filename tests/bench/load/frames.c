#include "tests/bench/load/frames.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "relayd/bpf/abi.h"

#define BATCH 64
#define FRAME_MAX 1518
#define V4_HEADER 20
#define V6_HEADER 40
#define UDP_HEADER 8
#define HOP_LIMIT 64

struct frames {
    int fd;
    bool v6;
    unsigned length, octets;    /* of a frame, of a payload */
    struct bpf_flow_key *flows; /* in random order */
    size_t count, next;
    uint8_t frame[BATCH][FRAME_MAX];
    struct iovec pieces[BATCH];
    struct mmsghdr messages[BATCH];
};

/* ---- the flows ---------------------------------------------------------------------------------
 */

/* An address as sixteen octets, IPv4 mapped: as abi.h has them. */
static void map_address(const struct ip_address *address, __u32 out[4])
{
    memset(out, 0, 16);
    if (address->family == IP_V4) {
        out[2] = htonl(0xffff);
        memcpy(&out[3], address->bytes, 4);
    } else {
        memcpy(out, address->bytes, 16);
    }
}

static void put_flow(struct bpf_flow_key *out, const struct endpoint *from,
                     const struct endpoint *to)
{
    map_address(&from->address, out->source);
    map_address(&to->address, out->destination);
    out->source_port = htons(from->port);
    out->destination_port = htons(to->port);
}

static void one_flow(struct frames *frames, const struct load_options *options)
{
    frames->flows = calloc(1, sizeof(*frames->flows));
    if (frames->flows == NULL)
        die("no memory");
    put_flow(frames->flows, &options->from, &options->to);
    frames->count = 1;
}

/* The same order in every run. */
static void shuffle(struct bpf_flow_key *flows, size_t count)
{
    uint64_t state = 88172645463325252u; /* xorshift64 */

    for (size_t i = count - 1; i > 0; i--) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        const size_t other = (size_t)(state % (i + 1));
        const struct bpf_flow_key key = flows[i];
        flows[i] = flows[other];
        flows[other] = key;
    }
}

/* A line is "relay S BND egress DST plane". */
static void many_flows(struct frames *frames, const char *path)
{
    FILE *file = fopen(path, "re");
    char source[ENDPOINT_TEXT_MAX], bound[ENDPOINT_TEXT_MAX];
    struct endpoint from, to;
    size_t room = 0;

    if (file == NULL)
        die("%s: %s", path, strerror(errno));
    while (fscanf(file, "%*s %79s %79s %*[^\n]", source, bound) == 2) {
        if (frames->count == room) {
            room = room == 0 ? 1024 : 2 * room;
            frames->flows = realloc(frames->flows, room * sizeof(*frames->flows));
        }
        if (frames->flows == NULL || endpoint_parse(source, &from) < 0 ||
            endpoint_parse(bound, &to) < 0)
            die("%s: no list of relays", path);
        put_flow(&frames->flows[frames->count++], &from, &to);
    }
    fclose(file);
    if (frames->count == 0)
        die("%s: no relay", path);
    shuffle(frames->flows, frames->count);
}

/* ---- a frame -----------------------------------------------------------------------------------
 */

/* The ones-complement sum of whole 16-bit words, in network order. */
static uint64_t sum(const void *data, size_t length, uint64_t start)
{
    const uint8_t *octets = data;
    uint16_t word;

    for (size_t i = 0; i + 1 < length; i += 2) {
        memcpy(&word, octets + i, 2);
        start += word;
    }
    return start;
}

static uint16_t fold(uint64_t total)
{
    while (total >> 16 != 0)
        total = (total & 0xffff) + (total >> 16);
    return (uint16_t)~total;
}

static void put16(uint8_t *at, unsigned number)
{
    at[0] = (uint8_t)(number >> 8);
    at[1] = (uint8_t)number;
}

/* Everything that is the same in all flows. */
static void template(struct frames *frames, uint8_t *frame, const uint8_t own[6],
                     const uint8_t hop[6])
{
    uint8_t *ip = frame + ETH_HLEN;
    uint8_t *udp = ip + (frames->v6 ? V6_HEADER : V4_HEADER);

    memcpy(frame, hop, 6);
    memcpy(frame + 6, own, 6);
    put16(frame + 12, frames->v6 ? ETHERTYPE_IPV6 : ETHERTYPE_IP);
    if (frames->v6) {
        ip[0] = 0x60;
        put16(ip + 4, UDP_HEADER + frames->octets);
        ip[6] = IPPROTO_UDP;
        ip[7] = HOP_LIMIT;
    } else {
        ip[0] = 0x45;
        put16(ip + 2, V4_HEADER + UDP_HEADER + frames->octets);
        ip[6] = 0x40; /* DF */
        ip[8] = HOP_LIMIT;
        ip[9] = IPPROTO_UDP;
    }
    put16(udp + 4, UDP_HEADER + frames->octets);
}

/* Addresses, ports and checksums of one flow. The payload is zero. */
static void fill(const struct frames *frames, uint8_t *frame, const struct bpf_flow_key *flow)
{
    uint8_t *ip = frame + ETH_HLEN;
    uint8_t *udp = ip + (frames->v6 ? V6_HEADER : V4_HEADER);
    const unsigned udp_octets = UDP_HEADER + frames->octets;

    memcpy(udp, &flow->source_port, 2);
    memcpy(udp + 2, &flow->destination_port, 2);
    memset(udp + 6, 0, 2);
    uint64_t total = sum(udp, UDP_HEADER, htons((uint16_t)udp_octets) + htons(IPPROTO_UDP));
    if (frames->v6) {
        memcpy(ip + 8, flow->source, 16);
        memcpy(ip + 24, flow->destination, 16);
        total = sum(ip + 8, 32, total);
    } else {
        memcpy(ip + 12, &flow->source[3], 4);
        memcpy(ip + 16, &flow->destination[3], 4);
        memset(ip + 10, 0, 2);
        const uint16_t header = fold(sum(ip, V4_HEADER, 0));
        memcpy(ip + 10, &header, 2);
        total = sum(ip + 12, 8, total);
    }
    uint16_t checksum = fold(total);
    if (checksum == 0)
        checksum = 0xffff;
    memcpy(udp + 6, &checksum, 2);
}

/* ---- the socket --------------------------------------------------------------------------------
 */

static void own_address(int fd, const char *device, uint8_t out[6])
{
    struct ifreq request = {0};

    strncpy(request.ifr_name, device, IFNAMSIZ - 1);
    if (ioctl(fd, SIOCGIFHWADDR, &request) < 0)
        die("%s: %s", device, strerror(errno));
    memcpy(out, request.ifr_hwaddr.sa_data, 6);
}

struct frames *frames_new(const struct load_options *options)
{
    struct frames *frames = calloc(1, sizeof(*frames));
    const int on = 1, buffer = 16 * 1024 * 1024;
    uint8_t own[6];

    if (frames == NULL)
        die("no memory");
    if (options->flows != NULL)
        many_flows(frames, options->flows);
    else
        one_flow(frames, options);
    static const __u32 mapped[3] = {0, 0, 0};
    frames->v6 = memcmp(frames->flows->source, mapped, 8) != 0;
    frames->octets = options->octets;
    frames->length = ETH_HLEN + (frames->v6 ? V6_HEADER : V4_HEADER) + UDP_HEADER + options->octets;
    const struct sockaddr_ll device = {
        .sll_family = AF_PACKET,
        .sll_protocol = htons(frames->v6 ? ETHERTYPE_IPV6 : ETHERTYPE_IP),
        .sll_ifindex = (int)namespace_device(options->client, options->client_device)};
    frames->fd = namespace_socket(options->client, AF_PACKET, SOCK_RAW, 0);
    /* No queueing discipline: the device itself says whether it takes the frame. */
    if (setsockopt(frames->fd, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof(on)) < 0 ||
        bind(frames->fd, (const struct sockaddr *)&device, sizeof(device)) < 0)
        die("%s: %s", options->client_device, strerror(errno));
    setsockopt(frames->fd, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof(buffer));
    own_address(frames->fd, options->client_device, own);
    for (unsigned i = 0; i < BATCH; i++) {
        template(frames, frames->frame[i], own, options->hop);
        fill(frames, frames->frame[i], &frames->flows[0]);
        frames->pieces[i] = (struct iovec){frames->frame[i], frames->length};
        frames->messages[i].msg_hdr.msg_iov = &frames->pieces[i];
        frames->messages[i].msg_hdr.msg_iovlen = 1;
    }
    return frames;
}

unsigned frames_send(struct frames *frames)
{
    unsigned taken = 0, tried = 0;

    if (frames->count > 1) {
        for (unsigned i = 0; i < BATCH; i++) {
            fill(frames, frames->frame[i], &frames->flows[frames->next]);
            if (++frames->next == frames->count)
                frames->next = 0;
        }
    }
    while (tried < BATCH) {
        const int n = sendmmsg(frames->fd, frames->messages + tried, BATCH - tried, 0);
        if (n > 0) {
            taken += (unsigned)n;
            tried += (unsigned)n;
        } else if (errno == ENOBUFS) {
            tried++; /* the relay host's queue is full; this one is lost, as on any wire */
        } else {
            die("send: %s", strerror(errno));
        }
    }
    return taken;
}
