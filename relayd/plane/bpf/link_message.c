#include "relayd/plane/bpf/link_message.h"

#include <linux/if.h>
#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/ipv6.h>
#include <string.h>

#include "common/net/netlink.h"

enum link_layer link_layer_of(uint16_t hardware, size_t address_length)
{
    switch (hardware) {
    case ARPHRD_ETHER:
        return address_length == 6 ? LINK_ETHERNET : LINK_OTHER;
    case ARPHRD_TUNNEL:
    case ARPHRD_TUNNEL6:
    case ARPHRD_SIT:
    case ARPHRD_IPGRE:
    case ARPHRD_IP6GRE:
    case ARPHRD_NONE:
    case ARPHRD_RAWIP:
    case ARPHRD_PPP:
        return LINK_BARE;
    default:
        return LINK_OTHER;
    }
}

/* IFLA_INET6_CONF: an array of the interface's IPv6 settings. */
static void take_mtu_v6(const struct rtattr *settings, struct link_message *out)
{
    const struct rtattr *values =
        netlink_find_within(settings, 0, IFLA_INET6_CONF, (DEVCONF_MTU6 + 1) * sizeof(uint32_t));
    uint32_t mtu;

    if (!values)
        return;
    memcpy(&mtu, (const uint32_t *)RTA_DATA(values) + DEVCONF_MTU6, sizeof(mtu));
    if (mtu > 0 && mtu < out->mtu)
        out->mtu_v6 = mtu;
}

static void take_v6_settings(const struct nlmsghdr *message, uint8_t family,
                             struct link_message *out)
{
    const size_t header = sizeof(struct ifinfomsg);
    const struct rtattr *settings;

    if (family == AF_INET6) {
        settings = netlink_find(message, header, IFLA_PROTINFO, 0);
    } else {
        settings = netlink_find(message, header, IFLA_AF_SPEC, 0);
        if (settings)
            settings = netlink_find_within(settings, 0, AF_INET6, 0);
    }
    if (settings)
        take_mtu_v6(settings, out);
}

static void take_name(const struct nlmsghdr *message, struct link_message *out)
{
    const struct rtattr *name = netlink_find(message, sizeof(struct ifinfomsg), IFLA_IFNAME, 1);
    size_t length = name ? RTA_PAYLOAD(name) : 0;

    if (length >= sizeof(out->name))
        length = sizeof(out->name) - 1;
    if (name)
        memcpy(out->name, RTA_DATA(name), length);
}

/* Has it a master that takes its packets? Those of a VRF stay its own. */
static bool is_port(const struct nlmsghdr *message)
{
    const size_t header = sizeof(struct ifinfomsg);
    const struct rtattr *info = netlink_find(message, header, IFLA_LINKINFO, 0);
    const struct rtattr *kind =
        info ? netlink_find_within(info, 0, IFLA_INFO_SLAVE_KIND, sizeof("vrf")) : NULL;
    uint32_t master = 0;

    return netlink_u32(message, header, IFLA_MASTER, &master) && master != 0 &&
           (!kind || memcmp(RTA_DATA(kind), "vrf", sizeof("vrf")) != 0);
}

bool link_message_parse(const struct nlmsghdr *message, struct link_message *out)
{
    const struct ifinfomsg *link = NLMSG_DATA(message);
    const size_t header = sizeof(*link);
    const struct rtattr *address;
    size_t address_length = 0;

    memset(out, 0, sizeof(*out));
    if ((message->nlmsg_type != RTM_NEWLINK && message->nlmsg_type != RTM_DELLINK) ||
        message->nlmsg_len < NLMSG_LENGTH(header) || link->ifi_index <= 0)
        return false;
    out->interface = (uint32_t)link->ifi_index;
    out->gone = message->nlmsg_type == RTM_DELLINK;
    if (out->gone)
        return link->ifi_family == AF_UNSPEC; /* AF_INET6: without IPv6 from now on */
    if (link->ifi_family != AF_UNSPEC && link->ifi_family != AF_INET6)
        return false;
    if (!netlink_u32(message, header, IFLA_MTU, &out->mtu))
        return false;
    out->mtu_v6 = out->mtu;
    out->up = (link->ifi_flags & IFF_UP) && (link->ifi_flags & IFF_LOWER_UP);
    address = netlink_find(message, header, IFLA_ADDRESS, 1);
    if (address)
        address_length = RTA_PAYLOAD(address);
    out->layer = (uint8_t)link_layer_of(link->ifi_type, address_length);
    if (out->layer == LINK_ETHERNET && address)
        memcpy(out->mac, RTA_DATA(address), sizeof(out->mac));
    take_v6_settings(message, link->ifi_family, out);
    take_name(message, out);
    out->port = is_port(message);
    return true;
}
