/*
 * One socket for each family, of protocol IPPROTO_RAW: what is sent there brings its IP header
 * along. A raw socket of IPPROTO_TCP or IPPROTO_ICMP would do as well, but the kernel copies every
 * packet of its protocol to it, only for the filter to drop the copy; of IPPROTO_RAW there are
 * none. Sending takes no privilege once the sockets are open.
 */
#include "relayd/plane/bpf/answers.h"

#include <errno.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/admin/status.h"
#include "common/net/sockaddr.h"
#include "relayd/plane/bpf/answer_packet.h"

struct answers {
    int v4, v6; /* -1: the host has not got the family */
    uint64_t sent, dropped;
};

/* Nothing is received: what came before the filter was there is thrown away. */
static int close_ear(int fd)
{
    struct sock_filter nothing[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
    const struct sock_fprog filter = {.len = 1, .filter = nothing};
    char octet;

    if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)) < 0)
        return -errno;
    while (recv(fd, &octet, 1, MSG_DONTWAIT) >= 0)
        continue;
    return 0;
}

/* The socket, -1 where the host has not got the family, or -errno in *error. */
static int open_socket(int family, int *error)
{
    const int fd = socket(family, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_RAW);

    if (fd < 0) {
        if (errno != EAFNOSUPPORT)
            *error = -errno;
        return -1;
    }
    const int rc = close_ear(fd);
    if (rc < 0) {
        *error = rc;
        close(fd);
        return -1;
    }
    return fd;
}

int answers_open(struct answers **out)
{
    struct answers *answers = calloc(1, sizeof(*answers));
    int error = 0;

    if (answers == NULL)
        return -ENOMEM;
    answers->v4 = open_socket(AF_INET, &error);
    answers->v6 = open_socket(AF_INET6, &error);
    if (error < 0) {
        answers_close(answers);
        return error;
    }
    *out = answers;
    return 0;
}

/* Room for one control message, aligned for it. */
union control {
    struct cmsghdr header;
    char v4[CMSG_SPACE(sizeof(struct in_pktinfo))];
    char v6[CMSG_SPACE(sizeof(struct in6_pktinfo))];
};

/* Which interface to use; 0: the route tells. The source is for rules that look at it. With IPv6
 * the interface is no more than a wish once there is a source: then it is left out. */
static void put_packet_info(const struct answer_packet *packet, uint32_t interface,
                            struct msghdr *message, union control *control)
{
    struct in_pktinfo v4 = {.ipi_ifindex = (int)interface};
    struct in6_pktinfo v6 = {.ipi6_ifindex = interface};
    const bool is_v6 = packet->source.family == IP_V6;
    const size_t length = is_v6 ? sizeof(v6) : sizeof(v4);

    memset(control, 0, sizeof(*control));
    message->msg_control = control;
    message->msg_controllen = CMSG_SPACE(length);
    struct cmsghdr *header = CMSG_FIRSTHDR(message);
    header->cmsg_level = is_v6 ? IPPROTO_IPV6 : IPPROTO_IP;
    header->cmsg_type = is_v6 ? IPV6_PKTINFO : IP_PKTINFO;
    header->cmsg_len = CMSG_LEN(length);
    memcpy(&v4.ipi_spec_dst, packet->source.bytes, sizeof(v4.ipi_spec_dst));
    if (interface == 0)
        memcpy(&v6.ipi6_addr, packet->source.bytes, sizeof(v6.ipi6_addr));
    memcpy(CMSG_DATA(header), is_v6 ? (const void *)&v6 : (const void *)&v4, length);
}

static int send_packet(int fd, const struct answer_packet *packet, uint32_t interface)
{
    const struct endpoint to = {.address = packet->destination};
    struct sockaddr_storage address;
    struct iovec data = {.iov_base = (void *)(uintptr_t)packet->data, .iov_len = packet->length};
    struct msghdr message = {.msg_name = &address, .msg_iov = &data, .msg_iovlen = 1};
    union control control;

    message.msg_namelen = endpoint_to_sockaddr(&to, &address);
    put_packet_info(packet, interface, &message, &control);
    return sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* The way back is the way it came, unless the host's routes have changed meanwhile. */
static int send_back(int fd, const struct answer_packet *packet, uint32_t interface)
{
    const int rc = send_packet(fd, packet, interface);

    switch (rc) {
    case -ENODEV:
    case -ENXIO:
    case -ENETDOWN:
    case -ENETUNREACH:
    case -EHOSTUNREACH:
        return send_packet(fd, packet, 0);
    default:
        return rc;
    }
}

void answers_send(struct answers *answers, const struct bpf_answer *answer)
{
    struct answer_packet packet;

    if (answers == NULL)
        return;
    if (answer_packet_make(answer, &packet) < 0) {
        answers->dropped++;
        return;
    }
    const int fd = packet.source.family == IP_V6 ? answers->v6 : answers->v4;
    if (fd >= 0 && send_back(fd, &packet, answer->interface) == 0)
        answers->sent++;
    else
        answers->dropped++;
}

void answers_status(const struct answers *answers, struct admin_status *out)
{
    admin_status_counter(out, "bpf_answers_sent", answers != NULL ? answers->sent : 0);
    admin_status_counter(out, "bpf_answers_dropped", answers != NULL ? answers->dropped : 0);
}

void answers_close(struct answers *answers)
{
    if (answers == NULL)
        return;
    if (answers->v4 >= 0)
        close(answers->v4);
    if (answers->v6 >= 0)
        close(answers->v6);
    free(answers);
}
