/*
 * May this order be carried out? Judged before anything is made for it, from nothing but the order
 * and the daemon's own configuration: whoever owns socksd gets no further than this.
 */
#ifndef SOCKST_RELAYD_ORDER_H
#define SOCKST_RELAYD_ORDER_H

#include "relayd/relay/control.h"

/* Why no relay may have the address for a destination, whatever its kind; NULL: it may. Static
 * text.
 */
const char *order_destination_problem(const struct relay_context *context,
                                      const struct ip_address *address);

/* True, or false with why->error and why->text set. */
bool order_judge(const struct relay_context *context, const struct relay_peer *peer,
                 const struct n2_open_relay *order, struct n2_relay_failed *why);

#endif
