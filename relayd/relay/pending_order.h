/*
 * Orders that are not answered yet: what is kept of them, so that they can be cancelled and have
 * their deadline. An order begins on the stack of relay_order(); only one that its plane does not
 * answer at once is kept.
 */
#ifndef SOCKST_RELAYD_PENDING_ORDER_H
#define SOCKST_RELAYD_PENDING_ORDER_H

#include "relayd/relay/relay.h"

/*
 * Of an OpenRelay for `relay`: *order, which is the caller's until pending_order_keep(), is
 * relay->order from now on. The candidates are copied. Returns 0, or -ENOMEM with nothing done.
 */
int pending_order_begin(struct relay_order *order, struct relay *relay, uint64_t transaction,
                        const struct n2_open_relay *wanted);

/*
 * The relay is still OPENING: moves its order to the heap, where a CancelOrder finds it, and starts
 * the deadline. Returns 0; or -ENOMEM, and the order stays what and where it was.
 */
int pending_order_keep(struct relay *relay, void (*deadline_passed)(struct relay *relay));

/* The order is answered: relay->order is NULL afterwards. Idempotent. */
void pending_order_end(struct relay *relay);

/* The relay whose order has this transaction, or NULL. */
struct relay *pending_order_find(const struct relay_peer *peer, uint64_t transaction);

#endif
