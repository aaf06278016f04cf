#include "tests/harness/far_network.h"

#include <unistd.h>

void far_network_add(struct lab *lab)
{
    lab_run(lab, LAB_STRANGER,
            "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 &&"
            "ip link add far0 mtu %d type veth peer name far0 netns /proc/%d/fd/%d &&"
            "ip address add " FAR_ROUTER_V4
            "/24 dev far0 &&"
            "ip address add fd77:4::1/64 dev far0 nodad && ip link set far0 up",
            FAR_MTU, (int)getpid(), lab_netns(lab, LAB_TARGET));
    lab_run(lab, LAB_TARGET,
            "ip address add " FAR_TARGET_V4
            "/24 dev far0 &&"
            "ip address add " FAR_TARGET_V6
            "/64 dev far0 nodad && ip link set far0 up &&"
            "ip route add 10.77.3.0/24 via " FAR_ROUTER_V4
            " &&"
            "ip route add fd77:3::/64 via fd77:4::1");
    lab_run(lab, LAB_RELAY,
            "ip route add 10.77.4.0/24 via 10.77.3.2 &&"
            "ip route add fd77:4::/64 via fd77:3::2");
}
