/*
 * A kernel that says what a test wants, in place of relayd/plane/bpf/kernel.c: one route that
 * serves every peer, one kind of link, one neighbour's address.
 */
#ifndef SOCKST_TESTS_RELAYD_FAKE_KERNEL_H
#define SOCKST_TESTS_RELAYD_FAKE_KERNEL_H

#include <linux/netlink.h>
#include <stdbool.h>

#include "proto/endpoint.h"
#include "relayd/plane/bpf/kernel.h"

struct fake_kernel {
    bool silent;
    /* Routes. */
    int route_error;
    uint32_t interface;
    uint32_t mtu;              /* 0: none */
    struct ip_address gateway; /* IP_NONE: on the link */
    /* Links; hardware is an ARPHRD_… */
    int link_error;
    uint16_t hardware;
    bool up;
    uint32_t link_mtu;
    uint8_t link_mac[6];
    /* Neighbours. */
    bool neighbour_known;
    uint8_t neighbour_mac[6];
    /* Questions so far. */
    unsigned routes, links, neighbours;
};
extern struct fake_kernel fake_kernel;

/* Interface 5, an Ethernet of 1500 octets that is up; neighbours are not known. */
void fake_kernel_reset(void);

/* Messages, valid until the next call of the same function. */
const struct nlmsghdr *link_message(uint16_t type, uint32_t interface);
const struct nlmsghdr *neighbour_message(uint16_t type, uint32_t interface,
                                         const struct ip_address *address, uint16_t state,
                                         const uint8_t mac[6]);

/* Adds an attribute to a message under construction, which has room. */
void message_add(struct nlmsghdr *message, uint16_t type, const void *data, size_t size);

#endif
