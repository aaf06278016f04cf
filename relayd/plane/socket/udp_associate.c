/*
 * UDP ASSOCIATE (RFC 1928 section 7): a datagram flow whose client says in a header of each
 * datagram where it has to go, and is told in the same way where one came from. There is one egress
 * socket for each family, unconnected, opened when it is first needed.
 *
 * Whatever is malformed, denied or unknown is dropped and counted; the association stays.
 */
#include <errno.h>
#include <string.h>

#include "common/net/sockaddr.h"
#include "proto/n1.h"
#include "relayd/plane/socket/associate_destinations.h"
#include "relayd/plane/socket/associate_fragments.h"
#include "relayd/plane/socket/datagram_flow.h"
#include "relayd/plane/socket/sockets.h"
#include "relayd/plane/socket/udp_batch.h"

/* RSV, FRAG, ATYP, an address, a port. */
#define HEAD_MAX (N1_UDP_HEADER_PREFIX + 1 + 16 + 2)

struct udp_associate {
    struct datagram_flow base; /* first */
    struct watched_socket egress_v4, egress_v6;
    struct ip_address egress_hint; /* of the order */
    struct associate_destinations *destinations;
    struct associate_fragments fragments;
    bool released;
};

static void on_egress_v4(uv_poll_t *poll, int status, int events);
static void on_egress_v6(uv_poll_t *poll, int status, int events);

/* ---- from the client to targets ----------------------------------------------------------------
 */

/* The socket for the family, opened now if need be. Returns its descriptor or -errno. */
static int egress_fd(struct udp_associate *flow, enum ip_family family)
{
    const bool v6 = family == IP_V6;
    struct watched_socket *egress = v6 ? &flow->egress_v6 : &flow->egress_v4;
    struct relay *relay = flow->base.relay;

    if (egress->fd >= 0)
        return egress->fd;
    /* A handle whose close callback is still to come cannot be used again. */
    const int rc = datagram_flow_open_socket(
        &flow->base, egress,
        sockets_open_unconnected(flow->base.plane, relay, family, &flow->egress_hint));
    if (rc < 0)
        return rc;
    watched_socket_want(egress, UV_READABLE, v6 ? on_egress_v6 : on_egress_v4);
    if (relay->egress.port == 0)
        (void)endpoint_local(egress->fd, &relay->egress);
    return egress->fd;
}

static bool reaches(void *user, const struct ip_address *address)
{
    struct udp_associate *flow = user;
    struct ip_address ignored;
    int rc = egress_fd(flow, address->family);

    if (rc >= 0) /* many hosts have IPv6 and no route for it */
        rc = sockets_route_source(flow->base.plane, address, &ignored);
    /* Out of descriptors now, it may be reached later. */
    return rc >= 0 || rc == -EMFILE || rc == -ENFILE || rc == -ENOMEM || rc == -ENOBUFS;
}

/* Between udp_runs_begin() and udp_runs_flush(). */
static void send_to(struct udp_associate *flow, const struct associate_target *target,
                    const void *payload, uint32_t length)
{
    const int fd = egress_fd(flow, target->family);
    const struct udp_datagrams datagrams = {.octets = payload,
                                            .length = length,
                                            .size = length,
                                            .to = (const struct sockaddr *)&target->address,
                                            .to_length = target->length};

    if (fd < 0) {
        flow->base.up.send_drops++;
        flow->base.plane->udp_send_drops++;
        return;
    }
    (void)udp_runs_add(fd, &datagrams);
}

static void take_datagram(struct udp_associate *flow, const uint8_t *header, size_t header_length,
                          const void *payload, uint32_t length)
{
    const struct associate_target *target =
        associate_destinations_judge(flow->destinations, header, header_length, payload, length);

    if (target != NULL)
        send_to(flow, target, payload, length);
}

static void take_fragment(struct udp_associate *flow, uint8_t fragment, const uint8_t *header,
                          size_t header_length, const void *payload, uint32_t length)
{
    struct associate_fragments *fragments = &flow->fragments;

    if (flow->base.plane->config->udp.fragments == FRAGMENTS_DROP) {
        flow->base.plane->associate.fragment_drops++;
        return;
    }
    if (!associate_fragments_add(fragments, fragment, header, header_length, payload, length))
        return;
    take_datagram(flow, fragments->header, fragments->header_length, fragments->octets,
                  fragments->length);
    /* What is pending may lie in there. */
    udp_runs_flush(NULL);
    associate_fragments_done(fragments);
}

/* One datagram as it came. */
static void take(struct udp_associate *flow, const uint8_t *octets, uint32_t length)
{
    uint8_t fragment;
    size_t used;

    if (n1_udp_header_measure(octets, length, &fragment, &used) != N1_OK) {
        flow->base.plane->associate.malformed++;
        return;
    }
    const uint8_t *payload = octets + used;
    const uint32_t payload_length = length - (uint32_t)used;
    if (fragment != 0) {
        take_fragment(flow, fragment, octets, used, payload, payload_length);
        return;
    }
    associate_fragments_abandon(&flow->fragments);
    take_datagram(flow, octets, used, payload, payload_length);
}

static void begin_up(struct udp_associate *flow)
{
    datagram_flow_touch(&flow->base);
    udp_runs_begin(flow->base.plane, &flow->base.up, datagram_flow_allowance(&flow->base));
}

/* Returns false when that ended the flow. */
static bool finish_up(struct udp_associate *flow)
{
    struct udp_runs_result result;

    udp_runs_flush(&result);
    if (result.error < 0)
        datagram_flow_unreachable(&flow->base);
    return datagram_flow_sent(&flow->base, &result);
}

static bool associate_from_client(struct datagram_flow *base)
{
    struct udp_associate *flow = (struct udp_associate *)base;
    const struct udp_message *message;

    begin_up(flow);
    for (unsigned i = 0; (message = udp_batch_message(i)) != NULL; i++) {
        const uint8_t *at = (const uint8_t *)message->octets;
        uint32_t left = message->length;
        do {
            const uint32_t length = message->size < left ? message->size : left;
            take(flow, at, length);
            at += length;
            left -= length;
        } while (left != 0);
    }
    return finish_up(flow);
}

static void deliver(void *user, const struct associate_target *target,
                    const struct associate_datagrams *datagrams)
{
    struct udp_associate *flow = user;
    const struct associate_datagram *datagram;

    begin_up(flow);
    STAILQ_FOREACH(datagram, datagrams, next)
    send_to(flow, target, datagram->octets, datagram->length);
    (void)finish_up(flow);
}

static const struct associate_destinations_ops destinations_ops = {
    .reaches = reaches,
    .deliver = deliver,
};

/* ---- from targets to the client ----------------------------------------------------------------
 */

/* May the client hear it? */
static bool is_awaited(struct udp_associate *flow, const struct ip_address *source)
{
    if (associate_destinations_know(flow->destinations, source))
        return true;
    return flow->base.plane->config->udp.full_cone &&
           relay_forbids(flow->base.relay, source) == NULL;
}

/* Returns the octets written to `head`, HEAD_MAX at most. */
static uint32_t write_head(const struct endpoint *source, uint8_t *head)
{
    const size_t size = ip_address_size(&source->address);

    memset(head, 0, N1_UDP_HEADER_PREFIX);
    head += N1_UDP_HEADER_PREFIX;
    *head++ = source->address.family == IP_V4 ? N1_ATYP_V4 : N1_ATYP_V6;
    memcpy(head, source->address.bytes, size);
    head[size] = (uint8_t)(source->port >> 8);
    head[size + 1] = (uint8_t)source->port;
    return (uint32_t)(N1_UDP_HEADER_PREFIX + 1 + size + 2);
}

static uint64_t count_datagrams(const struct udp_message *message)
{
    return message->size == 0 ? 1 : (message->length + message->size - 1) / message->size;
}

/* What an egress socket has received. Returns false when that ended the flow. */
static bool to_client(struct udp_associate *flow)
{
    static uint8_t heads[UDP_BATCH_MESSAGES][HEAD_MAX];
    struct datagram_flow *base = &flow->base;
    const struct udp_message *message;
    struct udp_runs_result result;
    struct endpoint source;

    udp_runs_begin(base->plane, &base->down, datagram_flow_allowance(base));
    for (unsigned i = 0; (message = udp_batch_message(i)) != NULL; i++) {
        if (endpoint_from_sockaddr((const struct sockaddr *)message->source, &source) < 0 ||
            !is_awaited(flow, &source.address)) {
            base->plane->associate.unsolicited += count_datagrams(message);
            continue;
        }
        const struct udp_datagrams datagrams = {.head = heads[i],
                                                .head_length = write_head(&source, heads[i]),
                                                .octets = message->octets,
                                                .length = message->length,
                                                .size = message->size};
        datagram_flow_touch(base);
        (void)udp_runs_add(base->data.fd, &datagrams);
    }
    /* A client that has gone is told by its control connection. */
    udp_runs_flush(&result);
    return datagram_flow_sent(base, &result);
}

static void on_egress(uv_poll_t *poll, struct watched_socket *egress, int status, uv_poll_cb again)
{
    struct udp_associate *flow = poll->data;

    watched_socket_reported(egress, status);
    if (udp_batch_receive_from(egress->fd) > 0 && !to_client(flow))
        return;
    watched_socket_want(egress, UV_READABLE, again);
}

static void on_egress_v4(uv_poll_t *poll, int status, int events)
{
    (void)events;
    on_egress(poll, &((struct udp_associate *)poll->data)->egress_v4, status, on_egress_v4);
}

static void on_egress_v6(uv_poll_t *poll, int status, int events)
{
    (void)events;
    on_egress(poll, &((struct udp_associate *)poll->data)->egress_v6, status, on_egress_v6);
}

/* ---- life --------------------------------------------------------------------------------------
 */

static void associate_release(struct datagram_flow *base)
{
    struct udp_associate *flow = (struct udp_associate *)base;

    if (flow->released)
        return;
    flow->released = true;
    associate_destinations_free(flow->destinations);
    flow->destinations = NULL;
    associate_fragments_close(&flow->fragments, datagram_flow_closed);
    watched_socket_close(&flow->egress_v4, false, datagram_flow_closed);
    watched_socket_close(&flow->egress_v6, false, datagram_flow_closed);
}

static const struct datagram_flow_ops associate_datagram_ops = {
    .from_client = associate_from_client,
    .release = associate_release,
};

static void associate_open(struct socket_plane *plane, struct relay *relay)
{
    struct udp_associate *flow = (struct udp_associate *)datagram_flow_new(
        plane, relay, &associate_datagram_ops, sizeof(*flow));

    if (flow == NULL) {
        relay_open_failed(relay, N2_ERROR_GENERAL, "out of memory");
        return;
    }
    watched_socket_init(&flow->egress_v4);
    watched_socket_init(&flow->egress_v6);
    flow->egress_hint = relay->order->egress_hint;
    associate_fragments_init(&flow->fragments, plane, flow);
    flow->base.handles++;
    flow->destinations = associate_destinations_new(plane, relay, &destinations_ops, flow);
    if (flow->destinations == NULL) {
        datagram_flow_fail(&flow->base, -ENOMEM, "destinations");
        return;
    }
    const int rc = datagram_flow_open_bound(&flow->base);
    if (rc < 0)
        datagram_flow_fail(&flow->base, rc, "BND");
    else
        datagram_flow_opened(&flow->base);
}

const struct flow_ops udp_associate_ops = {
    .open = associate_open,
    .close = datagram_flow_close,
    .counters = datagram_flow_counters,
    .drops = datagram_flow_drops,
};
