#include "tests/harness/far_network.h"

#include <unistd.h>

/* The kernel takes IPv6 addresses into use from a work queue. */
#define WAIT_FOR                                                                                   \
    "timeout 10 sh -c 'until ip -6 route show table local exact fd77:%d::%d | grep -q .;"          \
    " do sleep 0.01; done'"

static void add(struct lab *lab, enum lab_place place, const char *router_end, int number)
{
    lab_run(lab, LAB_STRANGER,
            "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 &&"
            "ip link add %s mtu %d type veth peer name far0 netns /proc/%d/fd/%d &&"
            "ip address add 10.77.%d.1/24 dev %s && ip address add fd77:%d::1/64 dev %s nodad &&"
            "ip link set %s up",
            router_end, FAR_MTU, (int)getpid(), lab_netns(lab, place), number, router_end, number,
            router_end, router_end);
    lab_run(lab, place,
            "ip address add 10.77.%d.2/24 dev far0 &&"
            "ip address add fd77:%d::2/64 dev far0 nodad && ip link set far0 up &&"
            "ip route add 10.77.3.0/24 via 10.77.%d.1 &&"
            "ip route add fd77:3::/64 via fd77:%d::1",
            number, number, number, number);
    lab_run(lab, LAB_STRANGER, WAIT_FOR, number, 1);
    lab_run(lab, place, WAIT_FOR, number, 2);
    lab_run(lab, LAB_RELAY,
            "ip route add 10.77.%d.0/24 via " LAB_STRANGER_V4
            " && ip route add fd77:%d::/64 via " LAB_STRANGER_V6,
            number, number);
}

void far_network_add(struct lab *lab)
{
    add(lab, LAB_TARGET, "far0", 4);
}

void far_network_add_client(struct lab *lab)
{
    add(lab, LAB_CLIENT, "farclient0", 6);
}
