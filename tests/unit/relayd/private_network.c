#include "tests/unit/relayd/private_network.h"

#include <arpa/inet.h>
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/ipv6.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/net/sockaddr.h"

struct in6_ifreq_of_kernel {
    struct in6_addr address;
    uint32_t prefix_length;
    int index;
};

/* The kernel lets a new IPv6 address be used from a work queue. */
static void wait_until_usable(enum party party)
{
    const struct endpoint name = {.address = party_address(party, true)};
    struct sockaddr_storage address;
    const socklen_t length = endpoint_to_sockaddr(&name, &address);
    const int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    ck_assert_int_ge(fd, 0);
    for (unsigned tries = 0; bind(fd, (struct sockaddr *)&address, length) < 0; tries++) {
        ck_assert_msg(errno == EADDRNOTAVAIL && tries < 5000, "bind: %s", strerror(errno));
        usleep(1000);
    }
    close(fd);
}

void private_network_enter(void)
{
    struct ifreq request = {.ifr_name = "lo"};

    if (unshare(CLONE_NEWNET) < 0)
        ck_assert_msg(unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0, "unshare: %s", strerror(errno));
    const int v4 = socket(AF_INET, SOCK_DGRAM, 0), v6 = socket(AF_INET6, SOCK_DGRAM, 0);
    ck_assert_int_ge(v4, 0);
    ck_assert_int_ge(v6, 0);
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    ck_assert_int_eq(ioctl(v4, SIOCSIFFLAGS, &request), 0);
    for (int party = PARTY_CLIENT; party <= PARTY_STRANGER; party++) {
        struct in6_ifreq_of_kernel address = {.prefix_length = 64, .index = 1};
        const struct ip_address wanted = party_address(party, true);
        memcpy(&address.address, wanted.bytes, 16);
        ck_assert_msg(ioctl(v6, SIOCSIFADDR, &address) == 0, "SIOCSIFADDR: %s", strerror(errno));
    }
    close(v4);
    close(v6);
    for (int party = PARTY_CLIENT; party <= PARTY_STRANGER; party++)
        wait_until_usable(party);
}

void network_privilege(bool wanted)
{
    const cap_value_t values[] = {CAP_NET_ADMIN, CAP_BPF, CAP_PERFMON};
    cap_t capabilities = cap_get_proc();

    ck_assert_ptr_nonnull(capabilities);
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        cap_flag_value_t permitted = CAP_CLEAR;
        /* A capability that this kernel or this user has not got is not missed. */
        if (cap_get_flag(capabilities, values[i], CAP_PERMITTED, &permitted) == 0 &&
            permitted == CAP_SET)
            ck_assert_int_eq(cap_set_flag(capabilities, CAP_EFFECTIVE, 1, &values[i],
                                          wanted ? CAP_SET : CAP_CLEAR),
                             0);
    }
    ck_assert_int_eq(cap_set_proc(capabilities), 0);
    cap_free(capabilities);
}

void private_network_set_mtu(int octets)
{
    struct ifreq request = {.ifr_name = "lo"};
    const int fd = socket(AF_INET, SOCK_DGRAM, 0);

    request.ifr_mtu = octets;
    network_privilege(true);
    ck_assert_int_eq(ioctl(fd, SIOCSIFMTU, &request), 0);
    network_privilege(false);
    close(fd);
}

struct ip_address party_address(enum party party, bool v6)
{
    const uint8_t four[4] = {127, 0, 0, (uint8_t)party};
    const uint8_t sixteen[16] = {0xfd, [15] = (uint8_t)party};

    return v6 ? ip_address_v6(sixteen) : ip_address_v4(four);
}

int party_socket(enum party party, bool v6, int type, uint16_t port)
{
    const struct endpoint name = {.address = party_address(party, v6), .port = port};
    struct sockaddr_storage address;
    const socklen_t length = endpoint_to_sockaddr(&name, &address);
    const int fd = socket(v6 ? AF_INET6 : AF_INET, type | SOCK_CLOEXEC, 0);

    ck_assert_int_ge(fd, 0);
    ck_assert_msg(bind(fd, (struct sockaddr *)&address, length) == 0, "bind: %s", strerror(errno));
    return fd;
}

int party_listener(enum party party, bool v6, uint16_t port)
{
    const int fd = party_socket(party, v6, SOCK_STREAM, port);

    ck_assert_int_eq(listen(fd, 64), 0);
    return fd;
}

struct endpoint socket_name(int fd)
{
    struct endpoint name;

    ck_assert_int_eq(endpoint_local(fd, &name), 0);
    return name;
}

int connect_to(int fd, const struct endpoint *to)
{
    struct sockaddr_storage address;
    const socklen_t length = endpoint_to_sockaddr(to, &address);

    return connect(fd, (struct sockaddr *)&address, length) < 0 ? -errno : 0;
}

void set_blocking(int fd, bool blocking)
{
    const int flags = fcntl(fd, F_GETFL);

    ck_assert_int_eq(fcntl(fd, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK), 0);
}

int capture_open(void)
{
    const struct sockaddr_ll address = {
        .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = 1};
    const int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, htons(ETH_P_ALL));
    const int size = 4 * 1024 * 1024;

    ck_assert_int_ge(fd, 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    ck_assert_int_eq(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

/* Is the packet, from its IP header on, for the endpoint? */
static bool is_packet_to(const uint8_t *packet, size_t length, const struct endpoint *to)
{
    const bool v6 = to->address.family == IP_V6;
    const size_t address_at = v6 ? 24 : 16;
    const size_t header = v6 ? 40 : (size_t)(packet[0] & 15) * 4;

    if (length < header + 8 || packet[0] >> 4 != (v6 ? 6 : 4) ||
        memcmp(packet + address_at, to->address.bytes, ip_address_size(&to->address)) != 0)
        return false;
    const uint8_t protocol = packet[v6 ? 6 : 9];
    if (protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6)
        return true;
    return (packet[header + 2] << 8 | packet[header + 3]) == to->port;
}

unsigned capture_count_to(int capture, const struct endpoint *to)
{
    uint8_t packet[128];
    unsigned count = 0;

    for (;;) {
        struct sockaddr_ll from;
        socklen_t from_length = sizeof(from);
        const ssize_t n =
            recvfrom(capture, packet, sizeof(packet), 0, (struct sockaddr *)&from, &from_length);
        if (n < 0 && errno == EAGAIN)
            return count;
        ck_assert_msg(n >= 0, "capture: %s", strerror(errno));
        /* Loopback shows each packet on its way out and on its way in. */
        if (from.sll_pkttype != PACKET_OUTGOING && is_packet_to(packet, (size_t)n, to))
            count++;
    }
}

unsigned count_fds(void)
{
    DIR *directory = opendir("/proc/self/fd");
    unsigned count = 0;

    ck_assert_ptr_nonnull(directory);
    while (readdir(directory) != NULL)
        count++;
    closedir(directory);
    return count;
}
