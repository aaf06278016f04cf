#include "relayd/plane/socket/tcp_segments.h"

/* The kernel's own header: the C library's struct tcp_info ends before the counters. It excludes
 * <netinet/tcp.h>, which <uv.h> brings. */
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>

uint64_t tcp_data_segments_in(int fd, uint64_t otherwise)
{
    struct tcp_info info;
    socklen_t length = sizeof(info);

    if (fd < 0 || getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) < 0 ||
        length < offsetof(struct tcp_info, tcpi_data_segs_in) + sizeof(info.tcpi_data_segs_in))
        return otherwise;
    return info.tcpi_data_segs_in;
}

uint64_t tcp_octets_acknowledged(int fd)
{
    struct tcp_info info;
    socklen_t length = sizeof(info);

    if (fd < 0 || getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) < 0 ||
        length < offsetof(struct tcp_info, tcpi_notsent_bytes) + sizeof(info.tcpi_notsent_bytes))
        return 0;
    return info.tcpi_unacked != 0 || info.tcpi_notsent_bytes != 0 ? info.tcpi_bytes_acked : 0;
}
