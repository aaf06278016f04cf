#include "relayd/plane/socket/udp_batch.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <string.h>

#include "relayd/plane/socket/sockets.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

#define MESSAGE_SIZE 65536 /* more than the largest datagram, and than the kernel joins */
#define RUNS_MAX (UDP_BATCH_MESSAGES * UDP_SEGMENTS_MAX)

/* Datagrams that leave with one message: all of `size` octets, except that the last one may be
 * smaller. */
struct run {
    uint32_t first_piece, piece_count;
    uint32_t size, octets, segments;
    bool ended; /* the last one is smaller: nothing may follow */
};

struct segment_control {
    _Alignas(struct cmsghdr) char space[CMSG_SPACE(sizeof(uint16_t))];
};

struct gro_control {
    _Alignas(struct cmsghdr) char space[CMSG_SPACE(sizeof(int)) * 2];
};

static struct {
    /* What was received. */
    char messages[UDP_BATCH_MESSAGES][MESSAGE_SIZE];
    struct mmsghdr in[UDP_BATCH_MESSAGES];
    struct iovec in_pieces[UDP_BATCH_MESSAGES];
    struct gro_control in_control[UDP_BATCH_MESSAGES];
    uint32_t lengths[UDP_BATCH_MESSAGES];
    uint32_t sizes[UDP_BATCH_MESSAGES]; /* of the datagrams in the message; 0 with an empty datagram
                                           alone */
    unsigned count;
    /* What is to be sent. */
    struct run runs[RUNS_MAX];
    struct iovec pieces[RUNS_MAX];
    struct mmsghdr out[RUNS_MAX];
    struct segment_control out_control[RUNS_MAX];
    unsigned run_count, piece_count;
} area;

void udp_batch_prepare(int fd)
{
    (void)sockets_set(fd, IPPROTO_UDP, UDP_GRO, 1);
}

/* ---- receiving ---------------------------------------------------------------------------------
 */

/* The size of the datagrams that the kernel joined, or the length of the single one. */
static uint32_t datagram_size(struct msghdr *header, uint32_t length)
{
    int size;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c != NULL; c = CMSG_NXTHDR(header, c)) {
        if (c->cmsg_level != IPPROTO_UDP || c->cmsg_type != UDP_GRO)
            continue;
        memcpy(&size, CMSG_DATA(c), sizeof(size));
        if (size > 0 && (uint32_t)size < length)
            return (uint32_t)size;
    }
    return length;
}

int udp_batch_receive(int fd)
{
    area.count = 0;
    for (unsigned i = 0; i < UDP_BATCH_MESSAGES; i++) {
        area.in_pieces[i] = (struct iovec){.iov_base = area.messages[i], .iov_len = MESSAGE_SIZE};
        area.in[i].msg_hdr = (struct msghdr){
            .msg_iov = &area.in_pieces[i],
            .msg_iovlen = 1,
            .msg_control = &area.in_control[i],
            .msg_controllen = sizeof(area.in_control[i]),
        };
    }
    const int n = recvmmsg(fd, area.in, UDP_BATCH_MESSAGES, MSG_DONTWAIT, NULL);
    if (n < 0)
        return -errno;
    for (int i = 0; i < n; i++) {
        area.lengths[i] = area.in[i].msg_len;
        area.sizes[i] = datagram_size(&area.in[i].msg_hdr, area.lengths[i]);
    }
    area.count = (unsigned)n;
    return n;
}

int udp_batch_receive_one(int fd, struct sockaddr_storage *from)
{
    socklen_t length = sizeof(*from);
    const ssize_t n = recvfrom(fd, area.messages[0], MESSAGE_SIZE, MSG_DONTWAIT,
                               (struct sockaddr *)from, &length);

    area.count = 0;
    if (n < 0)
        return -errno;
    area.lengths[0] = area.sizes[0] = (uint32_t)n;
    area.count = 1;
    return 1;
}

/* ---- joining -----------------------------------------------------------------------------------
 */

static void add_piece(struct run *run, char *octets, uint32_t length, uint32_t segments)
{
    area.pieces[area.piece_count++] = (struct iovec){.iov_base = octets, .iov_len = length};
    run->piece_count++;
    run->octets += length;
    run->segments += segments;
    run->ended = length == 0 || length % run->size != 0;
}

/* How many octets of `length`, in datagrams of `size`, still fit into the run. */
static uint32_t room_in(const struct run *run, uint32_t length, uint32_t size, bool may_join)
{
    const uint32_t last = length % size != 0 ? length % size : size;

    if (!may_join || run->ended)
        return 0;
    /* A smaller datagram may end a run of larger ones. */
    if (size != run->size && !(length == size && size < run->size))
        return 0;
    uint32_t segments = UDP_SEGMENTS_MAX - run->segments;
    const uint32_t by_octets = (UDP_PAYLOAD_MAX - run->octets) / size;
    if (segments > by_octets)
        segments = by_octets;
    const uint32_t wanted = (length - last) / size + 1;
    return segments >= wanted ? length : segments * size;
}

static struct run *new_run(uint32_t size)
{
    struct run *run = &area.runs[area.run_count++];

    *run = (struct run){.first_piece = area.piece_count, .size = size};
    return run;
}

/* One message becomes part of the run before it, or one or more new runs. */
static void add_message(char *octets, uint32_t length, uint32_t size, bool may_join)
{
    struct run *run = area.run_count != 0 ? &area.runs[area.run_count - 1] : NULL;

    if (length == 0) {
        add_piece(new_run(0), octets, 0, 1);
        return;
    }
    while (length != 0) {
        const uint32_t datagram = size < length ? size : length;
        uint32_t taken = run != NULL ? room_in(run, length, datagram, may_join) : 0;
        if (taken == 0) {
            run = new_run(datagram);
            taken = may_join ? room_in(run, length, datagram, true) : datagram;
            /* One larger than what IPv4 carries (IPv6 may bring it) stands alone. */
            if (taken == 0)
                taken = datagram;
        }
        add_piece(run, octets, taken, (taken + datagram - 1) / datagram);
        octets += taken;
        length -= taken;
    }
}

/* Returns false when max_bytes kept something out. */
static bool build_runs(const struct socket_plane *plane, const struct udp_direction *direction,
                       uint64_t max_bytes)
{
    area.run_count = area.piece_count = 0;
    for (unsigned i = 0; i < area.count; i++) {
        const bool may_join = !plane->gso_disabled && (direction->gso_refused == 0 ||
                                                       area.sizes[i] < direction->gso_refused);
        if (area.lengths[i] > max_bytes)
            return false;
        max_bytes -= area.lengths[i];
        add_message(area.messages[i], area.lengths[i], area.sizes[i], may_join);
    }
    return true;
}

/* ---- sending -----------------------------------------------------------------------------------
 */

static void fill_message(const struct run *run, struct mmsghdr *out,
                         struct segment_control *control)
{
    *out = (struct mmsghdr){.msg_hdr = {
                                .msg_iov = &area.pieces[run->first_piece],
                                .msg_iovlen = run->piece_count,
                            }};
    if (run->segments < 2)
        return;
    const uint16_t size = (uint16_t)run->size;
    out->msg_hdr.msg_control = control;
    out->msg_hdr.msg_controllen = sizeof(control->space);
    struct cmsghdr *c = CMSG_FIRSTHDR(&out->msg_hdr);
    c->cmsg_level = IPPROTO_UDP;
    c->cmsg_type = UDP_SEGMENT;
    c->cmsg_len = CMSG_LEN(sizeof(size));
    memcpy(CMSG_DATA(c), &size, sizeof(size));
}

static void count_sent(struct udp_direction *direction, uint32_t segments, uint32_t octets)
{
    direction->packets += segments;
    direction->bytes += octets;
}

static void count_dropped(struct socket_plane *plane, struct udp_direction *direction,
                          uint32_t segments)
{
    direction->send_drops += segments;
    plane->udp_send_drops += segments;
}

/* Errors that ICMP brought about an earlier datagram: reported once instead of sending, and of no
 * meaning for this one. */
static bool is_of_path(int error)
{
    return error == -ECONNREFUSED || error == -EHOSTUNREACH || error == -ENETUNREACH ||
           error == -EHOSTDOWN || error == -ENETDOWN || error == -ENOPROTOOPT || error == -EPROTO;
}

static bool is_out_of_buffers(int error)
{
    return error == -EAGAIN || error == -ENOBUFS || error == -ENOMEM;
}

/* Each datagram of the run by itself. */
static void send_singly(struct socket_plane *plane, int fd, struct udp_direction *direction,
                        const struct run *run, struct udp_batch_result *result)
{
    for (uint32_t i = 0; i < run->piece_count; i++) {
        const struct iovec *piece = &area.pieces[run->first_piece + i];
        const char *at = piece->iov_base;
        size_t left = piece->iov_len;
        do {
            const size_t length = left < run->size ? left : run->size;
            ssize_t n = send(fd, at, length, MSG_DONTWAIT | MSG_NOSIGNAL);
            if (n < 0 && is_of_path(-errno)) {
                result->error = -errno;
                n = send(fd, at, length, MSG_DONTWAIT | MSG_NOSIGNAL);
            }
            if (n < 0)
                count_dropped(plane, direction, 1);
            else
                count_sent(direction, 1, (uint32_t)length);
            at += length;
            left -= length;
        } while (left != 0);
    }
}

/* The kernel did not take the run. Returns whether the next one is worth an attempt. */
static bool run_failed(struct socket_plane *plane, int fd, struct udp_direction *direction,
                       const struct run *run, int error, struct udp_batch_result *result)
{
    if (is_out_of_buffers(error))
        return false;
    if (run->segments > 1 && error == -EIO)
        socket_plane_disable_gso(plane, error); /* no checksum offload on the way out */
    else if (run->segments > 1 && (error == -EINVAL || error == -EMSGSIZE))
        direction->gso_refused =
            run->size; /* more than the path's MTU, which one datagram may be */
    else if (!is_of_path(error)) {
        count_dropped(plane, direction, run->segments);
        return true;
    }
    if (is_of_path(error))
        result->error = error;
    send_singly(plane, fd, direction, run, result);
    return true;
}

static void send_runs(struct socket_plane *plane, int fd, struct udp_direction *direction,
                      struct udp_batch_result *result)
{
    unsigned at = 0;

    while (at < area.run_count) {
        const int n = sendmmsg(fd, area.out + at, area.run_count - at, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        for (int i = 0; i < n; i++, at++)
            count_sent(direction, area.runs[at].segments, area.runs[at].octets);
        if (n > 0)
            continue;
        if (!run_failed(plane, fd, direction, &area.runs[at], -errno, result))
            break;
        at++;
    }
    /* A datagram that finds the buffer full is lost, as it would be in a router: waiting would
     * delay all that come behind. */
    for (; at < area.run_count; at++)
        count_dropped(plane, direction, area.runs[at].segments);
}

void udp_batch_send(struct socket_plane *plane, int fd, struct udp_direction *direction,
                    uint64_t max_bytes, struct udp_batch_result *result)
{
    *result = (struct udp_batch_result){0};
    result->over_limit = !build_runs(plane, direction, max_bytes);
    for (unsigned i = 0; i < area.run_count; i++)
        fill_message(&area.runs[i], &area.out[i], &area.out_control[i]);
    send_runs(plane, fd, direction, result);
    area.count = 0;
}
