#include "relayd/relay/order.h"

#include <stdarg.h>
#include <stdio.h>

static bool order_refuse(struct n2_relay_failed *why, enum n2_error error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static bool order_refuse(struct n2_relay_failed *why, enum n2_error error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    why->error = error;
    vsnprintf(why->text, sizeof(why->text), format, arguments);
    va_end(arguments);
    return false;
}

/* Nobody sends from such an address, so a relay for it could only answer somebody else. */
static const char *source_problem(const struct ip_address *address)
{
    const uint8_t *bytes = address->bytes;
    if (address->family == IP_V4) {
        if (bytes[0] == 0) {
            return "the source is unspecified";
        }
        return bytes[0] >= 224 ? "the source is multicast or reserved" : NULL;
    }
    if (ip_address_is_unspecified(address)) {
        return "the source is unspecified";
    }
    if (bytes[0] == 0xff) {
        return "the source is multicast";
    }
    if (ip_address_is_link_local_v6(address) && address->scope_id == 0) {
        return "the source is link-local and has no scope";
    }
    return NULL;
}

/* What this relayd serves at all. */
static bool judge_service(const struct relay_context *context, const struct relay_peer *peer,
                          const struct n2_open_relay *order, struct n2_relay_failed *why)
{
    char name[9];

    if (context->draining || peer->draining) {
        return order_refuse(why, N2_ERROR_DRAINING, "no new relays are taken");
    }
    /* What only sockets can do, and these do not; the planes judge TRANSPARENT. */
    if (order->kind != N2_KIND_TRANSPARENT && context->transport->flows[order->kind] == NULL) {
        return order_refuse(why, N2_ERROR_UNSUPPORTED, "kind %s is not served",
                            n2_kind_name(order->kind));
    }
    if (order->ptcl != context->transport->ptcl) {
        return order_refuse(why, N2_ERROR_UNSUPPORTED, "%s is not served here",
                            ptcl_format(order->ptcl, name));
    }
    return true;
}

static bool judge_source(const struct relay_context *context, const struct n2_open_relay *order,
                         struct n2_relay_failed *why)
{
    const struct ptcl *ptcl = ptcl_by_number(context->transport->ptcl);

    if (order->source.address.family == IP_NONE) {
        return order_refuse(why, N2_ERROR_GENERAL, "no source");
    }
    const char *problem = source_problem(&order->source.address);
    if (problem != NULL) {
        return order_refuse(why, N2_ERROR_GENERAL, "%s", problem);
    }
    bool has_port = order->source.port != 0;
    if (ptcl->ports == PTCL_PORTS && has_port == order->learn_source_port) {
        return order_refuse(why, N2_ERROR_GENERAL,
                            has_port ? "a source port that is to be learnt is given"
                                     : "the source has no port");
    }
    if (ptcl->ports == PTCL_NO_PORTS && (has_port || order->learn_source_port)) {
        return order_refuse(why, N2_ERROR_GENERAL, "%s has no ports", ptcl->name);
    }
    /* The client of the others does not come to an address of ours, it is handed over. */
    if (order->kind != N2_KIND_TRANSPARENT && order->kind != N2_KIND_UDP_ASSOCIATE) {
        return true;
    }
    struct ip_address bound;
    if (endpoints_choose_bound(context->endpoints, &order->source.address, &order->bound_hint,
                               &bound) < 0) {
        return order_refuse(why, N2_ERROR_UNSUPPORTED, "no address here that the source can reach");
    }
    return true;
}

const char *order_destination_problem(const struct relay_context *context,
                                      const struct ip_address *address)
{
    /* connect() to it reaches this host, so no exception to the floor can mean it. */
    if (ip_address_is_unspecified(address)) {
        return "unspecified";
    }
    return deny_floor_judge(context->floor, address);
}

static bool judge_address(const struct relay_context *context, const struct ip_address *address,
                          struct n2_relay_failed *why)
{
    const char *problem = order_destination_problem(context, address);
    char text[ENDPOINT_TEXT_MAX];

    if (problem != NULL) {
        return order_refuse(why, N2_ERROR_NOT_ALLOWED, "%s: %s",
                            ip_address_format(address, text, sizeof(text)), problem);
    }
    return true;
}

static bool judge_port(const struct relay_context *context, const struct endpoint *destination,
                       struct n2_relay_failed *why)
{
    const struct ptcl *ptcl = ptcl_by_number(context->transport->ptcl);

    if ((destination->port != 0) != (ptcl->ports == PTCL_PORTS)) {
        return order_refuse(why, N2_ERROR_GENERAL, "destination port %u does not fit %s",
                            destination->port, ptcl->name);
    }
    return true;
}

/* CONNECT: candidates that the floor forbids are left out, as long as there are others. */
static bool judge_candidates(const struct relay_context *context, const struct n2_open_relay *order,
                             struct n2_relay_failed *why)
{
    bool any = false;

    for (size_t i = 0; i < order->destination_count; i++) {
        if (!judge_port(context, &order->destinations[i], why)) {
            return false;
        }
        any = any || order_destination_problem(context, &order->destinations[i].address) == NULL;
    }
    return any || judge_address(context, &order->destinations[0].address, why);
}

static bool judge_destination(const struct relay_context *context,
                              const struct n2_open_relay *order, struct n2_relay_failed *why)
{
    const struct endpoint *destination = &order->destinations[0];

    switch (order->kind) {
    case N2_KIND_UDP_ASSOCIATE: /* asks for each, later */
        return true;
    case N2_KIND_CONNECT:
        return judge_candidates(context, order, why);
    default:
        break;
    }
    if (order->destination_count != 1 || destination->address.family == IP_NONE) {
        return order_refuse(why, N2_ERROR_GENERAL, "not exactly one destination");
    }
    if (order->kind == N2_KIND_BIND) { /* unspecified: anybody; its port tells nothing */
        return ip_address_is_unspecified(&destination->address) ||
               judge_address(context, &destination->address, why);
    }
    return judge_address(context, &destination->address, why) &&
           judge_port(context, destination, why);
}

bool order_judge(const struct relay_context *context, const struct relay_peer *peer,
                 const struct n2_open_relay *order, struct n2_relay_failed *why)
{
    if (!judge_service(context, peer, order, why) || !judge_source(context, order, why) ||
        !judge_destination(context, order, why)) {
        return false;
    }
    if (relay_table_is_full(context->table)) {
        return order_refuse(why, N2_ERROR_GENERAL, "limits.relays (%u) is reached",
                            relay_table_max(context->table));
    }
    return true;
}
