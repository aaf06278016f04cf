#include "relayd/plane/bpf/answer_packet.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#define V4_HEADER 20
#define V6_HEADER 40
#define TCP_HEADER 20
#define ICMP_HEADER 8
#define TTL 64

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

/* An ICMP error has the precedence "internetwork control" and the TOS of the packet that provoked
 * it (RFC 1812, section 4.3.2.5), but no ECN. */
#define ICMP_PRECEDENCE 0xc0
#define TOS_MASK 0x1c

#define V4_MTU_MIN 68   /* RFC 791 */
#define V6_MTU_MIN 1280 /* RFC 8200, section 5 */

/* The recorded packet, once it was found to be one that may be answered. */
struct subject {
    const uint8_t *data; /* from the IP header on */
    size_t length;       /* of what there is of it */
    bool v6;
    uint8_t tos;
    uint8_t protocol;  /* IPPROTO_TCP or IPPROTO_UDP */
    size_t header;     /* where the transport header begins */
    size_t address_at; /* where the source address is; the destination follows it */
};

static uint16_t read16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static uint32_t read32(const uint8_t *at)
{
    return (uint32_t)read16(at) << 16 | read16(at + 2);
}

static void write16(uint8_t *at, uint16_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static void write32(uint8_t *at, uint32_t value)
{
    write16(at, (uint16_t)(value >> 16));
    write16(at + 2, (uint16_t)value);
}

/* ---- checksums (RFC 1071) -------------------------------------------------------------------- */

static uint32_t sum_more(uint32_t sum, const uint8_t *data, size_t length)
{
    for (size_t i = 0; i + 1 < length; i += 2)
        sum += read16(data + i);
    if (length % 2 != 0)
        sum += (uint32_t)data[length - 1] << 8;
    return sum;
}

static uint16_t sum_finish(uint32_t sum)
{
    while (sum >> 16 != 0)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

/* ---- what may be answered -------------------------------------------------------------------- */

/* One host: not "this network", loopback, multicast, class E or broadcast. */
static bool is_host_v4(const uint8_t *address)
{
    return address[0] != 0 && address[0] != 127 && address[0] < 224;
}

/* Not ::, ::1, IPv4 in any dress, or multicast. */
static bool is_host_v6(const uint8_t *address)
{
    static const uint8_t none[10] = {0};

    return address[0] != 0xff && memcmp(address, none, sizeof(none)) != 0;
}

/* The program does not look at the header's checksum: only the last one to see the packet has to,
 * and for what is answered that is us. */
static int read_v4(struct subject *subject)
{
    const uint8_t *data = subject->data;

    if (subject->length < V4_HEADER)
        return -EBADMSG;
    const size_t header = (size_t)(data[0] & 15) * 4, total = read16(data + 2);
    if (header < V4_HEADER || header > subject->length ||
        sum_finish(sum_more(0, data, header)) != 0)
        return -EBADMSG;
    subject->tos = data[1];
    subject->protocol = data[9];
    subject->header = header;
    subject->address_at = 12;
    /* Zero: a super-packet beyond 64 KiB, which only TCP has. */
    if (total == 0 ? subject->protocol != IPPROTO_TCP : total < header)
        return -EBADMSG;
    if (total != 0 && total < subject->length)
        subject->length = total;
    if ((read16(data + 6) & 0x1fff) != 0 || !is_host_v4(data + 12) || !is_host_v4(data + 16))
        return -EBADMSG;
    return 0;
}

/* Steps over one extension header; 1 when there is none any more. */
static int skip_extension(struct subject *subject)
{
    const uint8_t *at = subject->data + subject->header;
    const size_t left = subject->length - subject->header;

    switch (subject->protocol) {
    case IPPROTO_TCP:
    case IPPROTO_UDP:
        return 1;
    case IPPROTO_HOPOPTS:
    case IPPROTO_DSTOPTS:
    case IPPROTO_ROUTING:
        if (left < 8 || left < (size_t)(at[1] + 1) * 8)
            return -EBADMSG;
        subject->header += (size_t)(at[1] + 1) * 8;
        break;
    case IPPROTO_FRAGMENT:
        if (left < 8 || (read16(at + 2) & 0xfff8) != 0)
            return -EBADMSG;
        subject->header += 8;
        break;
    default:
        return -EBADMSG;
    }
    subject->protocol = at[0];
    return 0;
}

static int read_v6(struct subject *subject)
{
    const uint8_t *data = subject->data;

    if (subject->length < V6_HEADER || !is_host_v6(data + 8) || !is_host_v6(data + 24))
        return -EBADMSG;
    const size_t total = V6_HEADER + (size_t)read16(data + 4);
    /* Zero: a super-packet beyond 64 KiB. */
    if (total != V6_HEADER && total < subject->length)
        subject->length = total;
    subject->tos = (uint8_t)(read16(data) >> 4);
    subject->protocol = data[6];
    subject->header = V6_HEADER;
    subject->address_at = 8;
    int rc;
    do
        rc = skip_extension(subject);
    while (rc == 0); /* each step takes eight octets at least */
    return rc < 0 ? rc : 0;
}

/* The transport header as far as an answer needs it. */
static int read_transport(const struct subject *subject)
{
    const uint8_t *at = subject->data + subject->header;
    const size_t left = subject->length - subject->header;

    if (subject->protocol == IPPROTO_UDP)
        return left < 8 || read16(at + 4) < 8 ? -EBADMSG : 0;
    if (subject->protocol != IPPROTO_TCP || left < TCP_HEADER || at[12] >> 4 < TCP_HEADER / 4)
        return -EBADMSG;
    return (at[13] & TCP_RST) != 0 ? -EBADMSG : 0;
}

static int read_subject(const struct bpf_answer *record, struct subject *out)
{
    *out = (struct subject){.data = record->head, .length = record->length};
    if (record->length == 0 || record->length > BPF_ANSWER_HEAD)
        return -EBADMSG;
    const uint8_t version = record->head[0] >> 4;
    if (version != 4 && version != 6)
        return -EBADMSG;
    out->v6 = version == 6;
    int rc = out->v6 ? read_v6(out) : read_v4(out);
    if (rc == 0)
        rc = read_transport(out);
    if (rc < 0)
        return rc;
    /* Land: it came from where it went to. */
    const size_t size = out->v6 ? 16 : 4;
    const uint8_t *addresses = out->data + out->address_at;
    return memcmp(addresses, addresses + size, size) == 0 ? -EBADMSG : 0;
}

/* ---- the answer ------------------------------------------------------------------------------ */

/* The IP header of an answer of `length` octets with the subject's addresses exchanged. Returns the
 * header's length. */
static size_t put_header(const struct subject *subject, uint8_t protocol, size_t length,
                         struct answer_packet *out)
{
    const uint8_t *addresses = subject->data + subject->address_at;
    uint8_t *data = out->data;

    if (subject->v6) {
        out->source = ip_address_v6(addresses + 16);
        out->destination = ip_address_v6(addresses);
        data[0] = 0x60;
        write16(data + 4, (uint16_t)length);
        data[6] = protocol;
        data[7] = TTL;
        memcpy(data + 8, addresses + 16, 16);
        memcpy(data + 24, addresses, 16);
        out->length = V6_HEADER + length;
        return V6_HEADER;
    }
    out->source = ip_address_v4(addresses + 4);
    out->destination = ip_address_v4(addresses);
    data[0] = 0x45;
    if (protocol == IPPROTO_ICMP)
        data[1] = (uint8_t)((subject->tos & TOS_MASK) | ICMP_PRECEDENCE);
    write16(data + 2, (uint16_t)(V4_HEADER + length));
    data[8] = TTL;
    data[9] = protocol;
    memcpy(data + 12, addresses + 4, 4);
    memcpy(data + 16, addresses, 4);
    write16(data + 10, sum_finish(sum_more(0, data, V4_HEADER)));
    out->length = V4_HEADER + length;
    return V4_HEADER;
}

/* Over the pseudo header and what follows the IP header. */
static uint16_t transport_checksum(const struct answer_packet *packet, size_t header,
                                   uint8_t protocol)
{
    const size_t length = packet->length - header;
    const bool v6 = header == V6_HEADER;
    const uint32_t addresses = sum_more(0, packet->data + (v6 ? 8 : 12), v6 ? 32 : 8);

    return sum_finish(
        sum_more(addresses + protocol + (uint32_t)length, packet->data + header, length));
}

/* RFC 9293, section 3.10.7.1: a segment to a closed connection. */
static void make_reset(const struct subject *subject, uint32_t payload, struct answer_packet *out)
{
    const uint8_t *segment = subject->data + subject->header;
    const uint8_t flags = segment[13];
    const size_t header = put_header(subject, IPPROTO_TCP, TCP_HEADER, out);
    uint8_t *reset = out->data + header;

    memcpy(reset, segment + 2, 2);
    memcpy(reset + 2, segment, 2);
    reset[12] = TCP_HEADER / 4 << 4;
    if ((flags & TCP_ACK) != 0) {
        memcpy(reset + 4, segment + 8, 4);
        reset[13] = TCP_RST;
    } else {
        const uint32_t taken =
            payload + ((flags & TCP_SYN) != 0 ? 1 : 0) + ((flags & TCP_FIN) != 0 ? 1 : 0);
        write32(reset + 8, read32(segment + 4) + taken);
        reset[13] = TCP_RST | TCP_ACK;
    }
    write16(reset + 16, transport_checksum(out, header, IPPROTO_TCP));
}

/* The quote is all that the record has of the packet: never more than RFC 1812 (576 octets of
 * error) and RFC 4443 (1280) allow, and never less than RFC 792's header and 64 bits. */
static void make_error(const struct subject *subject, uint8_t type, uint8_t code, uint32_t rest,
                       struct answer_packet *out)
{
    const uint8_t protocol = subject->v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP;
    const size_t header = put_header(subject, protocol, ICMP_HEADER + subject->length, out);
    uint8_t *icmp = out->data + header;

    icmp[0] = type;
    icmp[1] = code;
    write32(icmp + 4, rest);
    memcpy(icmp + ICMP_HEADER, subject->data, subject->length);
    if (subject->v6)
        write16(icmp + 2, transport_checksum(out, header, IPPROTO_ICMPV6));
    else
        write16(icmp + 2, sum_finish(sum_more(0, icmp, ICMP_HEADER + subject->length)));
}

/* RFC 1191 has 16 bits for the MTU and zero for "unknown"; a sender must not be told of less than
 * what every IPv6 link carries. */
static int make_too_big(const struct subject *subject, uint32_t mtu, struct answer_packet *out)
{
    if (mtu < V4_MTU_MIN)
        return -EBADMSG;
    if (subject->v6)
        make_error(subject, 2, 0, mtu < V6_MTU_MIN ? V6_MTU_MIN : mtu, out);
    else
        make_error(subject, 3, 4, mtu > UINT16_MAX ? UINT16_MAX : mtu, out);
    return 0;
}

int answer_packet_make(const struct bpf_answer *record, struct answer_packet *out)
{
    struct subject subject;

    memset(out, 0, sizeof(*out));
    int rc = read_subject(record, &subject);
    if (rc < 0)
        return rc;
    switch (record->kind) {
    case BPF_ANSWER_TIME_EXCEEDED:
        make_error(&subject, subject.v6 ? 3 : 11, 0, 0, out);
        break;
    case BPF_ANSWER_TOO_BIG:
        rc = make_too_big(&subject, record->mtu, out);
        break;
    case BPF_ANSWER_RESET:
        if (subject.protocol != IPPROTO_TCP)
            return -EBADMSG;
        make_reset(&subject, record->payload, out);
        break;
    default:
        return -EBADMSG;
    }
    if (ip_address_is_link_local_v6(&out->destination))
        out->destination.scope_id = record->interface;
    return rc;
}
