/*
 * Reading a whole table of the kernel by rtnetlink. The kernel answers within the call.
 */
#ifndef SOCKST_COMMON_NET_NETLINK_DUMP_H
#define SOCKST_COMMON_NET_NETLINK_DUMP_H

#include <linux/netlink.h>

/* A socket for netlink_dump(). Returns the descriptor (to be closed) or -errno. */
int netlink_dump_open(void);

/* One message of the answer, borrowed. Returns 0 to go on, or -errno, which ends the dump. */
typedef int netlink_dump_cb(void *user, const struct nlmsghdr *message);

/*
 * Asks for the table that `request` names by its length, type and what follows the header; flags
 * and sequence number are set here. Returns 0; -EAGAIN when the table changed meanwhile, so that
 * what was seen may be incomplete; or another -errno, of the kernel, the socket or the callback.
 */
int netlink_dump(int fd, struct nlmsghdr *request, netlink_dump_cb *each, void *user);

#endif
