#include "relayd/plane/socket/udp_runs.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <string.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

#define RUNS_MAX 1024
#define PIECES_MAX 4096

/* Datagrams that leave with one message: all of `size` octets, except that the last one may be
 * smaller. */
struct run {
    uint32_t first_piece, piece_count;
    uint32_t size, octets; /* with the heads */
    uint32_t payload;      /* without */
    uint32_t segments;
    bool headed; /* each datagram is a pair of pieces; otherwise a piece is one or more of them */
    bool ended;  /* the last one is smaller: nothing may follow */
    socklen_t to_length; /* 0: the socket is connected */
    struct sockaddr_in6 to;
};

struct segment_control {
    _Alignas(struct cmsghdr) char space[CMSG_SPACE(sizeof(uint16_t))];
};

static struct {
    struct socket_plane *plane;
    struct udp_direction *direction;
    uint64_t max_bytes;
    struct udp_runs_result result;
    int fd;
    struct run runs[RUNS_MAX];
    struct iovec pieces[PIECES_MAX];
    struct mmsghdr out[RUNS_MAX];
    struct segment_control control[RUNS_MAX];
    unsigned run_count, piece_count;
} area;

/* ---- sending -----------------------------------------------------------------------------------
 */

static void fill_message(struct run *run, struct mmsghdr *out, struct segment_control *control)
{
    *out = (struct mmsghdr){.msg_hdr = {
                                .msg_name = run->to_length != 0 ? &run->to : NULL,
                                .msg_namelen = run->to_length,
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

static void count_sent(uint32_t segments, uint32_t payload)
{
    area.direction->packets += segments;
    area.direction->bytes += payload;
}

static void count_dropped(uint32_t segments)
{
    area.direction->send_drops += segments;
    area.plane->udp_send_drops += segments;
}

static bool is_of_path(int error)
{
    return error == -ECONNREFUSED || error == -EHOSTUNREACH || error == -ENETUNREACH ||
           error == -EHOSTDOWN || error == -ENETDOWN || error == -ENOPROTOOPT || error == -EPROTO;
}

static bool is_out_of_buffers(int error)
{
    return error == -EAGAIN || error == -ENOBUFS || error == -ENOMEM;
}

/* One datagram of a run by itself. */
static void send_single(struct run *run, struct iovec *pieces, size_t count, uint32_t payload)
{
    const struct msghdr message = {.msg_name = run->to_length != 0 ? &run->to : NULL,
                                   .msg_namelen = run->to_length,
                                   .msg_iov = pieces,
                                   .msg_iovlen = count};
    ssize_t n = sendmsg(area.fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n < 0 && is_of_path(-errno)) {
        area.result.error = -errno;
        /* On a connected socket ICMP brought it about an earlier datagram: reported once instead of
         * sending, and of no meaning for this one. */
        if (run->to_length == 0)
            n = sendmsg(area.fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    if (n < 0)
        count_dropped(1);
    else
        count_sent(1, payload);
}

static void send_singly(struct run *run)
{
    struct iovec *pieces = &area.pieces[run->first_piece];

    for (uint32_t i = 0; run->headed && i < run->piece_count; i += 2)
        send_single(run, &pieces[i], 2, (uint32_t)pieces[i + 1].iov_len);
    for (uint32_t i = 0; !run->headed && i < run->piece_count; i++) {
        char *at = pieces[i].iov_base;
        size_t left = pieces[i].iov_len;
        do {
            struct iovec piece = {at, left < run->size ? left : run->size};
            send_single(run, &piece, 1, (uint32_t)piece.iov_len);
            at += piece.iov_len;
            left -= piece.iov_len;
        } while (left != 0);
    }
}

/* The kernel did not take the run. Returns whether the next one is worth an attempt. */
static bool run_failed(struct run *run, int error)
{
    if (is_out_of_buffers(error))
        return false;
    if (run->segments > 1 && error == -EIO)
        socket_plane_disable_gso(area.plane, error); /* no checksum offload on the way out */
    else if (run->segments > 1 && (error == -EINVAL || error == -EMSGSIZE))
        area.direction->gso_refused =
            run->size; /* more than the path's MTU, which one datagram may be */
    else if (!is_of_path(error) || run->to_length != 0) {
        if (is_of_path(error))
            area.result.error = error;
        count_dropped(run->segments);
        return true;
    }
    if (is_of_path(error))
        area.result.error = error;
    send_singly(run);
    return true;
}

static void send_pending(void)
{
    unsigned at = 0;

    for (unsigned i = 0; i < area.run_count; i++)
        fill_message(&area.runs[i], &area.out[i], &area.control[i]);
    while (at < area.run_count) {
        const int n =
            sendmmsg(area.fd, area.out + at, area.run_count - at, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        for (int i = 0; i < n; i++, at++)
            count_sent(area.runs[at].segments, area.runs[at].payload);
        if (n > 0)
            continue;
        if (!run_failed(&area.runs[at], -errno))
            break;
        at++;
    }
    /* A datagram that finds the buffer full is lost, as it would be in a router: waiting would
     * delay all that come behind. */
    for (; at < area.run_count; at++)
        count_dropped(area.runs[at].segments);
    area.run_count = area.piece_count = 0;
}

/* ---- joining -----------------------------------------------------------------------------------
 */

static bool may_join(uint32_t size)
{
    const uint32_t refused = area.direction->gso_refused;

    return !area.plane->gso_disabled && (refused == 0 || size < refused);
}

static bool is_same_way(const struct run *run, const struct udp_datagrams *datagrams)
{
    return run->headed == (datagrams->head != NULL) && run->to_length == datagrams->to_length &&
           (run->to_length == 0 || memcmp(&run->to, datagrams->to, run->to_length) == 0);
}

/* How many octets of payload still fit into the run: `length`, in datagrams of `size`. */
static uint32_t room_in(const struct run *run, const struct udp_datagrams *datagrams,
                        uint32_t length, uint32_t size)
{
    const uint32_t whole = datagrams->head_length + size;

    if (length == 0 || run->ended || run->octets >= UDP_PAYLOAD_MAX || !may_join(whole) ||
        !is_same_way(run, datagrams))
        return 0;
    /* A smaller datagram may end a run of larger ones. */
    if (whole != run->size && !(length == size && whole < run->size))
        return 0;
    uint32_t segments = UDP_SEGMENTS_MAX - run->segments;
    const uint32_t by_octets = (UDP_PAYLOAD_MAX - run->octets) / whole;
    if (segments > by_octets)
        segments = by_octets;
    const uint32_t wanted = (length + size - 1) / size;
    return segments >= wanted ? length : segments * size;
}

static void add_piece(struct run *run, const void *octets, uint32_t length)
{
    area.pieces[area.piece_count++] =
        (struct iovec){.iov_base = (void *)(uintptr_t)octets, .iov_len = length};
    run->piece_count++;
    run->octets += length;
}

/* Datagrams of `size`, the last one perhaps smaller, in so many octets; an empty one is one. */
static uint32_t count_of(uint32_t length, uint32_t size)
{
    return length == 0 ? 1 : (length + size - 1) / size;
}

/* Datagrams of `size`, the last one perhaps smaller, `length` octets in all, join the run. */
static void join(struct run *run, const struct udp_datagrams *datagrams, const char *octets,
                 uint32_t length, uint32_t size)
{
    const uint32_t count = count_of(length, size);
    const uint32_t last = length - (count - 1) * size;

    if (run->headed) {
        for (uint32_t i = 0; i < count; i++) {
            add_piece(run, datagrams->head, datagrams->head_length);
            add_piece(run, octets + (size_t)i * size, i == count - 1 ? last : size);
        }
    } else {
        add_piece(run, octets, length);
    }
    run->segments += count;
    run->payload += length;
    run->ended = datagrams->head_length + last != run->size || run->size == 0;
}

static struct run *new_run(const struct udp_datagrams *datagrams, uint32_t size)
{
    struct run *run = &area.runs[area.run_count++];

    *run = (struct run){.first_piece = area.piece_count,
                        .size = datagrams->head_length + size,
                        .headed = datagrams->head != NULL,
                        .to_length = datagrams->to_length};
    if (run->to_length != 0)
        memcpy(&run->to, datagrams->to, run->to_length);
    return run;
}

/* Room for a run of its own, whatever comes. */
static void make_room(void)
{
    if (area.run_count == RUNS_MAX || area.piece_count + 2 * UDP_SEGMENTS_MAX > PIECES_MAX)
        send_pending();
}

/* They become part of the run before them, or one or more new runs. Empty ones stand alone. */
static void add(const struct udp_datagrams *datagrams)
{
    const char *octets = datagrams->octets;
    uint32_t length = datagrams->length;

    do {
        const uint32_t size = datagrams->size < length ? datagrams->size : length;
        make_room();
        struct run *run = area.run_count != 0 ? &area.runs[area.run_count - 1] : NULL;
        uint32_t taken = run != NULL ? room_in(run, datagrams, length, size) : 0;
        if (taken == 0) {
            run = new_run(datagrams, size);
            taken = room_in(run, datagrams, length, size);
            /* One larger than what IPv4 carries (IPv6 may bring it), or not to be joined. */
            if (taken == 0)
                taken = size;
        }
        join(run, datagrams, octets, taken, size);
        octets += taken;
        length -= taken;
    } while (length != 0);
}

/* ---- interface ---------------------------------------------------------------------------------
 */

void udp_runs_begin(struct socket_plane *plane, struct udp_direction *direction, uint64_t max_bytes)
{
    area.plane = plane;
    area.direction = direction;
    area.max_bytes = max_bytes;
    area.result = (struct udp_runs_result){0};
    area.run_count = area.piece_count = 0;
    area.fd = -1;
}

/* Keeps of them those that the bucket lets through, the first ones: whole datagrams. Returns false
 * when none is left. */
static bool keep_to_rate(struct udp_datagrams *datagrams)
{
    struct token_bucket *bucket = &area.direction->bucket;
    const uint64_t content = token_bucket_content(bucket, uv_now(area.plane->loop));
    const uint32_t length = datagrams->length, size = datagrams->size;

    if (length > content) {
        datagrams->length = (uint32_t)content / size * size;
        area.plane->udp_rate_drops += count_of(length, size);
        if (datagrams->length == 0)
            return false;
        area.plane->udp_rate_drops -= count_of(datagrams->length, size);
    }
    token_bucket_take(bucket, datagrams->length);
    return true;
}

bool udp_runs_add(int fd, const struct udp_datagrams *datagrams)
{
    struct udp_datagrams kept = *datagrams;

    if (area.result.over_limit || datagrams->length > area.max_bytes) {
        area.result.over_limit = true;
        return false;
    }
    if (!keep_to_rate(&kept))
        return true;
    area.max_bytes -= kept.length;
    if (fd != area.fd)
        send_pending();
    area.fd = fd;
    add(&kept);
    return true;
}

void udp_runs_flush(struct udp_runs_result *result)
{
    send_pending();
    if (result != NULL)
        *result = area.result;
}
