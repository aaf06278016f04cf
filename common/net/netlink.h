/*
 * rtnetlink: the attributes of a message, and following the kernel's tables.
 *
 * Messages come from the kernel alone, and are read as if they did not: nothing is looked at beyond
 * the length that the message says, which the caller has compared with what it received
 * (NLMSG_OK()).
 */
#ifndef SOCKST_COMMON_NET_NETLINK_H
#define SOCKST_COMMON_NET_NETLINK_H

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <uv.h>

#include "common/net/prefix.h"

/* ---- attributes ------------------------------------------------------------------------------ */

/*
 * The first attribute of that type with at least `minimum` octets of payload, after a header of
 * `header` octets that follows the message's own (sizeof(struct rtmsg), …); NULL: there is none.
 */
const struct rtattr *netlink_find(const struct nlmsghdr *message, size_t header,
                                  unsigned short type, size_t minimum);
/* The same among the attributes within another one, whose `header` first octets are none. */
const struct rtattr *netlink_find_within(const struct rtattr *nest, size_t header,
                                         unsigned short type, size_t minimum);

/* *out becomes the attribute's number, if there is such an attribute; otherwise it stays. */
bool netlink_u32(const struct nlmsghdr *message, size_t header, unsigned short type, uint32_t *out);

/* AF_INET or AF_INET6 from an attribute whose payload is long enough. Scope 0. */
struct ip_address netlink_address(uint8_t family, const struct rtattr *attribute);

/* The destination of a message with a struct rtmsg, IPv4 or IPv6. False for another family, and for
 * a malformed one. */
bool netlink_route_prefix(const struct nlmsghdr *message, struct ip_prefix *out);

/* ---- following the tables -------------------------------------------------------------------- */

struct netlink_listener;

struct netlink_listener_ops {
    /* A notification of the kernel, borrowed. */
    void (*message)(void *user, const struct nlmsghdr *message);
    /*
     * Notifications were lost: what is known has to be read again. Called when that is noticed and
     * once more when all that the socket still held has been read: until then the kernel drops
     * further ones without saying so again.
     */
    void (*lost)(void *user);
    /* After the notifications of one turn of the loop, or a loss. May be NULL. */
    void (*turn)(void *user);
};

/* Datagrams read in one turn of the loop. */
#define NETLINK_DATAGRAMS_PER_TURN 64

/*
 * Subscribes to groups (RTNLGRP_…) and reports what they say from the loop. The callbacks may close
 * the listener. Its handle does not keep the loop alive. Returns 0 or -errno.
 */
int netlink_listen(struct netlink_listener **out, uv_loop_t *loop, const int *groups, size_t count,
                   const struct netlink_listener_ops *ops, void *user);

/* No callback comes any more; memory goes with the last close callback. NULL is allowed. */
void netlink_listener_close(struct netlink_listener *listener);

#endif
