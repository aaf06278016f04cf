/*
 * Fragments on the way out. A datagram that came in fragments leaves in fragments, cut by this
 * host's kernel, without DF: its sender has not asked for path MTU discovery, would not understand
 * an ICMP error about a fragment it never made, and routers may cut IPv4 again. IP_PMTUDISC_DONT
 * does that. Unlike IP_PMTUDISC_OMIT it heeds the MTU of the route and what the kernel has learnt
 * of the path, and with IPv6, where routers do not cut, it lets the kernel learn it.
 */
#include "relayd/plane/bpf/slow_path.h"

#include <errno.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "common/net/sockaddr.h"

/* Wanted for a socket: a batch of the largest datagrams, with what their fragments cost the kernel
 * beside the octets. net.core.rmem_max may allow less. */
#define RECEIVE_BUFFER (SLOW_PATH_BATCH * 2 * SLOW_PATH_DATAGRAM_MAX)

/* Traffic class and hop limit: two control messages of one int each. */
#define CONTROL_SIZE (2 * CMSG_SPACE(sizeof(int)))

/* All that a batch needs. One for the process: nothing is kept from call to call. */
static struct {
    struct mmsghdr messages[SLOW_PATH_BATCH];
    struct iovec data[SLOW_PATH_BATCH];
    struct sockaddr_storage names[SLOW_PATH_BATCH];
    _Alignas(struct cmsghdr) char controls[SLOW_PATH_BATCH][CONTROL_SIZE];
    uint8_t octets[SLOW_PATH_BATCH][SLOW_PATH_DATAGRAM_MAX];
} batch;

static int set(int fd, int level, int option, int value)
{
    return setsockopt(fd, level, option, &value, sizeof(value)) < 0 ? -errno : 0;
}

static int filter_by_mark(int fd, uint32_t mark)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_MARK)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, mark, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    const struct sock_fprog filter = {.len = sizeof(code) / sizeof(code[0]), .filter = code};

    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)) < 0 ? -errno : 0;
}

int slow_path_prepare(int fd, uint32_t mark)
{
    int family = 0;
    socklen_t length = sizeof(family);

    if (mark == 0)
        return -EINVAL; /* what every packet has that nobody marked */
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &length) < 0)
        return -errno;
    const bool v6 = family == AF_INET6;
    const int level = v6 ? IPPROTO_IPV6 : IPPROTO_IP;
    int rc = filter_by_mark(fd, mark);
    if (rc == 0)
        rc = set(fd, level, v6 ? IPV6_MTU_DISCOVER : IP_MTU_DISCOVER,
                 v6 ? IPV6_PMTUDISC_DONT : IP_PMTUDISC_DONT);
    if (rc == 0)
        rc = set(fd, level, v6 ? IPV6_RECVTCLASS : IP_RECVTOS, 1);
    if (rc == 0)
        rc = set(fd, level, v6 ? IPV6_RECVHOPLIMIT : IP_RECVTTL, 1);
    if (rc == 0)
        rc = set(fd, SOL_SOCKET, SO_RCVBUF, RECEIVE_BUFFER);
    return rc;
}

/* ---- header fields that a router keeps ------------------------------------------------------- */

struct fields {
    int traffic_class, hop_limit; /* -1: not told */
};

static struct fields read_fields(struct msghdr *message)
{
    struct fields fields = {.traffic_class = -1, .hop_limit = -1};

    for (struct cmsghdr *at = CMSG_FIRSTHDR(message); at != NULL; at = CMSG_NXTHDR(message, at)) {
        const bool v6 = at->cmsg_level == IPPROTO_IPV6;
        if (at->cmsg_type == (v6 ? IPV6_HOPLIMIT : IP_TTL))
            memcpy(&fields.hop_limit, CMSG_DATA(at), sizeof(int));
        else if (v6 && at->cmsg_type == IPV6_TCLASS)
            memcpy(&fields.traffic_class, CMSG_DATA(at), sizeof(int));
        else if (!v6 && at->cmsg_type == IP_TOS) /* an octet, unlike all others */
            fields.traffic_class = *CMSG_DATA(at);
    }
    return fields;
}

static void put_field(struct msghdr *message, int level, int type, int value)
{
    struct cmsghdr *header =
        (struct cmsghdr *)((char *)message->msg_control + message->msg_controllen);

    header->cmsg_level = level;
    header->cmsg_type = type;
    header->cmsg_len = CMSG_LEN(sizeof(value));
    memcpy(CMSG_DATA(header), &value, sizeof(value));
    message->msg_controllen += CMSG_SPACE(sizeof(value));
}

/* DSCP and ECN as they came, the hop limit one less: what the program does for the others. */
static void put_fields(struct msghdr *message, bool v6, const struct fields *fields)
{
    const int level = v6 ? IPPROTO_IPV6 : IPPROTO_IP;

    message->msg_controllen = 0;
    if (fields->traffic_class >= 0)
        put_field(message, level, v6 ? IPV6_TCLASS : IP_TOS, fields->traffic_class);
    if (fields->hop_limit > 1)
        put_field(message, level, v6 ? IPV6_HOPLIMIT : IP_TTL, fields->hop_limit - 1);
}

/* ---- datagrams ------------------------------------------------------------------------------- */

/* 0 or -errno; -EHOSTUNREACH is what an ICMP "time exceeded" is to a socket. */
static int send_on(struct msghdr *message, const struct slow_path_way *way)
{
    const bool v6 = way->peer.address.family == IP_V6;
    const struct fields fields = read_fields(message);
    struct sockaddr_storage name;

    if (fields.hop_limit == 0 || fields.hop_limit == 1)
        return -EHOSTUNREACH;
    message->msg_name = &name;
    message->msg_namelen = endpoint_to_sockaddr(&way->peer, &name);
    message->msg_flags = 0;
    put_fields(message, v6, &fields);
    return sendmsg(way->fd, message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static void relay_one(struct mmsghdr *received, const struct endpoint *local,
                      const struct slow_path_ops *ops, void *user)
{
    struct msghdr *message = &received->msg_hdr;
    struct endpoint peer;
    struct slow_path_way way;

    if (endpoint_from_sockaddr(message->msg_name, &peer) < 0 ||
        !ops->find(user, &peer, local, received->msg_len, &way))
        return;
    message->msg_iov->iov_len = received->msg_len;
    ops->sent(user, received->msg_len, send_on(message, &way));
}

static void make_room(void)
{
    for (size_t i = 0; i < SLOW_PATH_BATCH; i++) {
        batch.data[i] =
            (struct iovec){.iov_base = batch.octets[i], .iov_len = sizeof(batch.octets[i])};
        batch.messages[i].msg_hdr = (struct msghdr){.msg_name = &batch.names[i],
                                                    .msg_namelen = sizeof(batch.names[i]),
                                                    .msg_iov = &batch.data[i],
                                                    .msg_iovlen = 1,
                                                    .msg_control = batch.controls[i],
                                                    .msg_controllen = CONTROL_SIZE};
    }
}

int slow_path_read(int fd, const struct endpoint *local, const struct slow_path_ops *ops,
                   void *user)
{
    make_room();
    const int count = recvmmsg(fd, batch.messages, SLOW_PATH_BATCH, MSG_DONTWAIT, NULL);
    if (count < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    for (int i = 0; i < count; i++)
        relay_one(&batch.messages[i], local, ops, user);
    return count;
}
