#include "relayd/plane/socket/stranger_filter.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/sock_diag.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

/* TCP and UDP hand a filter the packet from the transport header on, which begins with the source
 * port in both; what lies before is found relative to the network header. */
#define SOURCE_PORT 0
#define SOURCE_V4 (SKF_NET_OFF + 12)
#define SOURCE_V6 (SKF_NET_OFF + 8)

#define PROGRAM_MAX 12 /* four words of an address, a port, two returns */

static int attach(int fd, struct sock_filter *program, size_t length)
{
    const struct sock_fprog filter = {.len = (unsigned short)length, .filter = program};

    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)) < 0 ? -errno : 0;
}

int stranger_filter_accept(int fd, const struct endpoint *source)
{
    const size_t words = ip_address_size(&source->address) / 4;
    const uint32_t first = source->address.family == IP_V4 ? SOURCE_V4 : SOURCE_V6;
    const size_t drop =
        2 * words + (source->port != 0 ? 2 : 0) + 1; /* index of the return that drops */
    struct sock_filter program[PROGRAM_MAX];
    size_t at = 0;

    if (words == 0)
        return -EAFNOSUPPORT;
    for (size_t i = 0; i < words; i++) {
        const uint8_t *octets = source->address.bytes + 4 * i;
        const uint32_t word = (uint32_t)octets[0] << 24 | (uint32_t)octets[1] << 16 |
                              (uint32_t)octets[2] << 8 | octets[3];
        program[at++] =
            (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, first + 4 * (uint32_t)i);
        program[at] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, word, 0, 0);
        program[at].jf = (uint8_t)(drop - at - 1);
        at++;
    }
    if (source->port != 0) {
        program[at++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_H | BPF_ABS, SOURCE_PORT);
        program[at] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, source->port, 0, 0);
        program[at].jf = (uint8_t)(drop - at - 1);
        at++;
    }
    program[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, UINT32_MAX);
    program[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0);
    return attach(fd, program, at);
}

int stranger_filter_drop_all(int fd)
{
    struct sock_filter program[] = {BPF_STMT(BPF_RET | BPF_K, 0)};

    return attach(fd, program, 1);
}

int stranger_filter_detach(int fd)
{
    const int ignored = 0;

    if (setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &ignored, sizeof(ignored)) < 0 &&
        errno != ENOENT)
        return -errno;
    return 0;
}

int stranger_filter_read_drops(int fd, uint32_t *out)
{
    uint32_t info[SK_MEMINFO_VARS];
    socklen_t length = sizeof(info);

    if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &length) < 0)
        return -errno;
    if (length <= SK_MEMINFO_DROPS * sizeof(info[0]))
        return -ENOPROTOOPT;
    *out = info[SK_MEMINFO_DROPS];
    return 0;
}

uint64_t drop_counter_update(struct drop_counter *counter, int fd)
{
    uint32_t now;

    if (fd >= 0 && stranger_filter_read_drops(fd, &now) == 0) {
        counter->total += (uint32_t)(now - counter->last);
        counter->last = now;
    }
    return counter->total;
}
