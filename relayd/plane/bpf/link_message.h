/*
 * What the kernel says of a network interface (RTM_NEWLINK, RTM_DELLINK), as far as packets that
 * are redirected to it are concerned. Pure.
 */
#ifndef SOCKST_RELAYD_BPF_LINK_MESSAGE_H
#define SOCKST_RELAYD_BPF_LINK_MESSAGE_H

#include <linux/netlink.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What stands before the IP header. */
enum link_layer {
    LINK_OTHER = 0, /* something that the plane does not know how to write; also loopback */
    LINK_ETHERNET,
    LINK_BARE, /* nothing: tun, wg, wwan, ppp, IP tunnels. bpf_redirect() takes these for such */
};

struct link_message {
    uint32_t interface; /* index */
    bool gone;          /* RTM_DELLINK: nothing below is set */
    bool up;            /* administratively up, and with a carrier */
    uint8_t layer;      /* enum link_layer */
    uint8_t mac[6];     /* its own address; LINK_ETHERNET */
    uint32_t mtu;       /* of IPv4 packets */
    uint32_t mtu_v6;    /* of IPv6 packets: router advertisements may lower it */
    char name[16];      /* IFNAMSIZ; empty where the message has none */
    bool port; /* of a bridge, a bond, …: that one's packets, not its own, come in here */
};

/*
 * False for every other message, a malformed one, and for what the kernel tells about an interface
 * in another role than its own (a port of a bridge: RTM_DELLINK then means that it has left it).
 */
bool link_message_parse(const struct nlmsghdr *message, struct link_message *out);

/* The same from an ARPHRD_… and the length of the interface's address in octets. */
enum link_layer link_layer_of(uint16_t hardware, size_t address_length);

#endif
