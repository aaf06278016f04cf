#include "relayd/relay/pending_order.h"

#include <errno.h>
#include <stdlib.h>

#include "relayd/relay/control.h"
#include "relayd/relay/deadline.h"
#include "relayd/relay/order.h"

/* Those that the floor lets through, in order. */
static int keep_candidates(struct relay_order *order, const struct n2_open_relay *wanted)
{
    struct relay *relay = order->relay;

    order->candidates = calloc(wanted->destination_count, sizeof(order->candidates[0]));
    if (order->candidates == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < wanted->destination_count; i++) {
        const struct endpoint *destination = &wanted->destinations[i];
        if (order_destination_problem(relay->peer->context, &destination->address) == NULL) {
            order->candidates[order->candidate_count++] = *destination;
        }
    }
    relay->destination = order->candidates[0]; /* there is one: the order was judged */
    return 0;
}

int pending_order_begin(struct relay_order *order, struct relay *relay, uint64_t transaction,
                        const struct n2_open_relay *wanted)
{
    *order = (struct relay_order){.bound_hint = wanted->bound_hint,
                                  .egress_hint = wanted->egress_hint,
                                  .deadline_ms = wanted->deadline_ms,
                                  .transaction = transaction,
                                  .relay = relay};
    if (wanted->kind == N2_KIND_CONNECT && keep_candidates(order, wanted) < 0) {
        return -ENOMEM;
    }
    relay->order = order;
    return 0;
}

int pending_order_keep(struct relay *relay, void (*deadline_passed)(struct relay *relay))
{
    struct relay_order *order = malloc(sizeof(*order));

    if (order == NULL) {
        return -ENOMEM;
    }
    *order = *relay->order;
    if (order->deadline_ms != 0) {
        order->deadline = relay_deadline_start(relay->peer->context->loop, relay,
                                               order->deadline_ms, deadline_passed);
        if (order->deadline == NULL) {
            free(order);
            return -ENOMEM;
        }
    }
    order->on_heap = true;
    relay->order = order;
    /* Without memory for that it cannot be cancelled and lives until it is answered. */
    HASH_ADD(hh, relay->peer->orders, transaction, sizeof(order->transaction), order);
    return 0;
}

void pending_order_end(struct relay *relay)
{
    struct relay_order *order = relay->order;

    if (order == NULL) {
        return;
    }
    relay->order = NULL;
    relay_deadline_stop(order->deadline);
    free(order->candidates);
    if (order->hh.tbl != NULL) {
        HASH_DELETE(hh, relay->peer->orders, order);
    }
    if (order->on_heap) {
        free(order);
    }
}

struct relay *pending_order_find(const struct relay_peer *peer, uint64_t transaction)
{
    struct relay_order *order;

    HASH_FIND(hh, peer->orders, &transaction, sizeof(transaction), order);
    return order == NULL ? NULL : order->relay;
}
