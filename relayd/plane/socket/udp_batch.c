#include "relayd/plane/socket/udp_batch.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stddef.h>
#include <string.h>

#include "relayd/plane/socket/sockets.h"

#ifndef UDP_GRO
#define UDP_GRO 104
#endif

#define MESSAGE_SIZE 65536 /* more than the largest datagram, and than the kernel joins */

struct gro_control {
    _Alignas(struct cmsghdr) char space[CMSG_SPACE(sizeof(int)) * 2];
};

static struct {
    char octets[UDP_BATCH_MESSAGES][MESSAGE_SIZE];
    struct sockaddr_storage sources[UDP_BATCH_MESSAGES];
    struct mmsghdr in[UDP_BATCH_MESSAGES];
    struct iovec pieces[UDP_BATCH_MESSAGES];
    struct gro_control control[UDP_BATCH_MESSAGES];
    struct udp_message messages[UDP_BATCH_MESSAGES];
    unsigned count;
} area;

void udp_batch_prepare(int fd)
{
    (void)sockets_set(fd, IPPROTO_UDP, UDP_GRO, 1);
}

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

static void prepare_slot(unsigned i, bool with_source)
{
    struct msghdr *header = &area.in[i].msg_hdr;

    area.pieces[i] = (struct iovec){.iov_base = area.octets[i], .iov_len = MESSAGE_SIZE};
    *header = (struct msghdr){
        .msg_iov = &area.pieces[i],
        .msg_iovlen = 1,
        .msg_control = &area.control[i],
        .msg_controllen = sizeof(area.control[i]),
    };
    if (!with_source)
        return;
    /* The kernel writes as much as the family needs; what callers compare is all of it. */
    memset(&area.sources[i], 0, sizeof(struct sockaddr_in6));
    header->msg_name = &area.sources[i];
    header->msg_namelen = sizeof(area.sources[i]);
}

static int receive(int fd, bool with_sources)
{
    area.count = 0;
    for (unsigned i = 0; i < UDP_BATCH_MESSAGES; i++)
        prepare_slot(i, with_sources);
    const int n = recvmmsg(fd, area.in, UDP_BATCH_MESSAGES, MSG_DONTWAIT, NULL);
    if (n < 0)
        return -errno;
    for (int i = 0; i < n; i++)
        area.messages[i] = (struct udp_message){
            .octets = area.octets[i],
            .length = area.in[i].msg_len,
            .size = datagram_size(&area.in[i].msg_hdr, area.in[i].msg_len),
            .source = with_sources ? &area.sources[i] : NULL,
        };
    area.count = (unsigned)n;
    return n;
}

int udp_batch_receive(int fd)
{
    return receive(fd, false);
}

int udp_batch_receive_from(int fd)
{
    return receive(fd, true);
}

int udp_batch_receive_one(int fd)
{
    socklen_t length = sizeof(area.sources[0]);
    const ssize_t n = recvfrom(fd, area.octets[0], MESSAGE_SIZE, MSG_DONTWAIT,
                               (struct sockaddr *)&area.sources[0], &length);

    area.count = 0;
    if (n < 0)
        return -errno;
    area.messages[0] = (struct udp_message){.octets = area.octets[0],
                                            .length = (uint32_t)n,
                                            .size = (uint32_t)n,
                                            .source = &area.sources[0]};
    area.count = 1;
    return 1;
}

const struct udp_message *udp_batch_message(unsigned index)
{
    return index < area.count ? &area.messages[index] : NULL;
}
