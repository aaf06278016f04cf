/*
 * Packets that relayd sends on behalf of the program: ICMP errors (time exceeded, fragmentation
 * needed, packet too big) and the RST of an ended relay. By raw sockets that are opened while
 * CAP_NET_RAW is there and never receive anything.
 *
 * Each answer's source is the address that the packet was sent to (BND or egress), its destination
 * the packet's source; nothing in it is invented. The program limits the rate.
 */
#ifndef SOCKST_RELAYD_BPF_ANSWERS_H
#define SOCKST_RELAYD_BPF_ANSWERS_H

#include "proto/admin.h"
#include "relayd/bpf/abi.h"

struct answers;

/* Opens the sockets, of both families where the host has them. Returns 0 or -errno (-EPERM: no
 * CAP_NET_RAW). */
int answers_open(struct answers **out);
/* Sends it, or drops it: the record is checked as if it came from the network. Never blocks. NULL
 * for `answers`: dropped. */
void answers_send(struct answers *answers, const struct bpf_answer *answer);
/* Sent and dropped ones. NULL is allowed. */
void answers_status(const struct answers *answers, struct admin_status *out);
void answers_close(struct answers *answers); /* NULL is allowed */

#endif
