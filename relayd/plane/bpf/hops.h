/*
 * Hops: the rows of the program's table of next hops, one for each (interface, gateway, MTU) that
 * is in use.
 *
 *                      link down or gone          ┌──────┐
 *          ┌────────────────────────────────────► │ DOWN │ ◄───────┐
 *          │                     ┌──────────────► └──────┘         │ (a link without header)
 *          │                     │ link up            │            ▼
 *     ┌────┴────┐  neighbour  ┌──┴──┐ ◄───────────────┘        ┌──────┐
 *     │ DIRECT  │ ◄─── known ─┤ ASK │                          │ BARE │
 *     └─────────┘ ─── lost ──►└─────┘                          └──────┘
 *
 * A row that nobody uses any more rests for HOPS_REST_MS before it gets another meaning: relays
 * whose way has changed carry its number until their slots are written. Until then it is kept up to
 * date like the others, and comes back to life when the same hop is wanted again.
 */
#ifndef SOCKST_RELAYD_BPF_HOPS_H
#define SOCKST_RELAYD_BPF_HOPS_H

#include "proto/admin.h"
#include "relayd/bpf/abi.h"
#include "relayd/plane/bpf/links.h"

#define HOPS_REST_MS 2000

struct hops;

/* `rows` (BPF_HOPS_MAX, zeroed) and `kernel` are borrowed. Returns 0 or -ENOMEM. */
int hops_open(struct hops **out, struct bpf_hop *rows, struct kernel *kernel);
void hops_close(struct hops *hops); /* NULL is allowed */

/* The link, NULL when there is none (or the kernel did not answer). Valid until the loop's next
 * turn, and as long as it has hops. */
const struct link_message *hops_link(struct hops *hops, uint32_t interface);

/*
 * The row for packets of at most `mtu` octets that leave through the interface, with a reference.
 * `gateway` is the next hop, or the peer where it is on the link. Returns the row (at least 1);
 * -ENOSPC: the table is full; -ENODEV: there is no such link, or one that the plane cannot write
 * to; -ENOMEM.
 */
int hops_get(struct hops *hops, uint32_t interface, const struct ip_address *gateway, uint32_t mtu,
             uint64_t now_ms);
/* Gives the reference back. 0 is allowed. */
void hops_put(struct hops *hops, uint16_t row, uint64_t now_ms);

/* A notification: what it says of links and neighbours is written at once. Returns whether ways
 * have to be asked for again. */
bool hops_message(struct hops *hops, const struct nlmsghdr *message);

/* Notifications were lost: everything is to be asked for again, by hops_ask_again(). */
void hops_doubt(struct hops *hops);
/* Asks for the next few; true while more is left. */
bool hops_ask_again(struct hops *hops);

/* Hops in use, by state. */
void hops_status(const struct hops *hops, struct admin_status *out);

#endif
