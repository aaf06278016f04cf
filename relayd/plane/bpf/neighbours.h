/*
 * The neighbours that hops lead to: the link-layer address of each, as the kernel's neighbour table
 * has it. Asked for when the first hop needs it, followed from then on.
 */
#ifndef SOCKST_RELAYD_BPF_NEIGHBOURS_H
#define SOCKST_RELAYD_BPF_NEIGHBOURS_H

#include "common/keyed_hash.h"
#include "proto/endpoint.h"
#include "relayd/plane/bpf/kernel.h"

struct neighbour_key {
    uint32_t interface;
    uint32_t family; /* AF_INET, AF_INET6; AF_UNSPEC: the far end of a link without addresses */
    uint8_t address[16];
};

struct neighbour {
    struct neighbour_key key;
    bool known; /* the kernel has an address that it would use */
    uint8_t mac[6];
    uint16_t hops; /* the first of its hops, their owner's; 0: none */
    UT_hash_handle hh;
};

/* Zeroed: empty. Their number is bounded by that of the hops. */
struct neighbours {
    struct neighbour *table;
};

/* What the kernel says of one. */
struct neighbour_message {
    struct neighbour_key key;
    bool known;
    uint8_t mac[6];
};

/* IP_NONE: the far end. */
struct neighbour_key neighbour_key(uint32_t interface, const struct ip_address *address);

/*
 * RTM_NEWNEIGH and RTM_DELNEIGH of an IP neighbour. False for every other message, a malformed one,
 * a bridge's forwarding table, and an address that the host answers for (proxies). Pure.
 */
bool neighbour_message_parse(const struct nlmsghdr *message, struct neighbour_message *out);

/* The neighbour, asked for where it is new; NULL: no memory. */
struct neighbour *neighbours_get(struct neighbours *neighbours, struct kernel *kernel,
                                 const struct neighbour_key *key);

/* Takes a message; the neighbour if it is one of ours and has changed, else NULL. */
struct neighbour *neighbours_take(struct neighbours *neighbours,
                                  const struct neighbour_message *message);

/* Asks for up to KERNEL_BATCH of them again; changed[i] becomes whether that one has changed. One
 * that the kernel gives no answer for is as if it had gone: then the kernel resolves it. */
void neighbours_ask(struct kernel *kernel, struct neighbour *const *neighbours, size_t count,
                    bool *changed);

/* It has no hops any more. */
void neighbours_release(struct neighbours *neighbours, struct neighbour *neighbour);

void neighbours_clear(struct neighbours *neighbours);

#endif
