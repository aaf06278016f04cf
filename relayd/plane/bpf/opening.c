/*
 * How a relay gets onto the plane: may it be carried, by which addresses and ports, and its slot
 * and rows. Once ports are shared, that costs two system calls: those that write the rows.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/log/log.h"
#include "relayd/plane/bpf/flow.h"
#include "relayd/plane/bpf/plane_parts.h"
#include "relayd/plane/bpf/slot.h"
#include "relayd/relay/control.h"

_Static_assert(RELAY_PEERS_MAX <= BPF_PEERS_MAX, "each N2 peer has an epoch");

/* Pairs of ports that are tried for one relay. With nine of ten egress ports in use for its
 * destination one relay of a thousand finds none. */
#define PLACE_TRIES 64
/* Tombstones that make room for one relay which found none. */
#define EVICTIONS 16

/* ---- may it be carried? ------------------------------------------------------------------------
 */

void opening_forget_prospect(struct bpf_plane *plane)
{
    struct prospect *prospect = &plane->prospect;

    for (int end = BPF_CLIENT; end < BPF_ENDS; end++)
        ways_put(plane->ways, prospect->way[end]);
    *prospect = (struct prospect){.relay = 0};
}

/* The text says which end it speaks of. Texts are static, so each is made once. */
static const char *name_problem(struct bpf_plane *plane, enum bpf_end end, const char *problem)
{
    struct problem_texts *texts = plane->problems;
    uint32_t i = 0;

    while (i < plane->problem_count && texts[i].problem != problem)
        i++;
    if (i == PROBLEMS_MAX)
        return problem;
    if (i == plane->problem_count) {
        texts[i].problem = problem;
        snprintf(texts[i].text[BPF_CLIENT], sizeof(texts[i].text[0]), "S: %s", problem);
        snprintf(texts[i].text[BPF_TARGET], sizeof(texts[i].text[0]), "DST: %s", problem);
        plane->problem_count++;
    }
    return texts[i].text[end];
}

/* Finds the way of one end. Returns NULL, or why there is none. */
static const char *find_way(struct bpf_plane *plane, enum bpf_end end,
                            const struct ip_address *peer, struct ip_address *local)
{
    struct way **way = &plane->prospect.way[end];
    const int rc = ways_get(plane->ways, peer, local, way);

    if (rc < 0) {
        *way = NULL;
        return name_problem(plane, end, rc == -ENOSPC ? "too many next hops" : "no way was found");
    }
    if ((*way)->problem != NULL)
        return name_problem(plane, end, (*way)->problem);
    if (local->family == IP_NONE)
        *local = (*way)->local;
    return NULL;
}

static const char *find_ways(struct bpf_plane *plane, const struct relay *relay)
{
    struct prospect *prospect = &plane->prospect;
    const struct ip_address *source = &relay->source.address;
    const struct ip_address *destination = &relay->destination.address;

    if (endpoints_choose_bound(plane->endpoints, source, &relay->order->bound_hint,
                               &prospect->bound) < 0)
        return "no address here that S can reach";
    if (endpoints_choose_egress(plane->endpoints, destination, &relay->order->egress_hint,
                                &prospect->egress) < 0)
        return "no egress address for DST";
    const char *problem = find_way(plane, BPF_CLIENT, source, &prospect->bound);
    return problem != NULL ? problem : find_way(plane, BPF_TARGET, destination, &prospect->egress);
}

const char *opening_refuses(struct bpf_plane *plane, const struct relay *relay)
{
    if (relay->kind != N2_KIND_TRANSPARENT)
        return "the kernel carries TRANSPARENT alone";
    if (relay->learn_source_port || relay->source.port == 0)
        return "the port of S is to be learnt";
    if (relay->source.address.family != relay->destination.address.family)
        return "S and DST are of different families";
    if (!slots_have_one(&plane->slots, turns_now_ms(plane))) {
        plane->count.refused_full++;
        return "the kernel's tables are full";
    }
    opening_forget_prospect(plane);
    const char *problem = find_ways(plane, relay);
    if (problem != NULL)
        opening_forget_prospect(plane);
    else
        plane->prospect.relay = relay->id;
    return problem;
}

/* ---- a place in the tables ---------------------------------------------------------------------
 */

struct opening {
    struct bpf_plane *plane;
    struct relay *relay;
    uint32_t index;
    struct bpf_slot *slot;
    struct flow *flow;
    const char *what; /* where it failed */
};

static int take_port(struct opening *opening, enum bpf_end end)
{
    struct bpf_plane *plane = opening->plane;
    const struct prospect *prospect = &plane->prospect;
    const struct ip_address *address = end == BPF_CLIENT ? &prospect->bound : &prospect->egress;
    uint32_t *held = &opening->flow->held[end];

    if (*held != HELD_NONE)
        return 0;
    const int rc = held_ports_choose(plane->ports, end, address, turns_now_ms(plane), held);
    if (rc == 0)
        held_ports_use(plane->ports, *held, opening->index);
    else
        opening->what = end == BPF_CLIENT ? "BND" : "egress";
    return rc;
}

static void leave_port(struct opening *opening, enum bpf_end end)
{
    uint32_t *held = &opening->flow->held[end];

    if (*held != HELD_NONE)
        held_ports_leave(opening->plane->ports, *held, opening->index);
    *held = HELD_NONE;
}

static void write_slot(struct opening *opening)
{
    struct bpf_plane *plane = opening->plane;
    struct relay *relay = opening->relay;
    struct way *const *way = plane->prospect.way;
    const struct slot_side sides[BPF_ENDS] = {
        [BPF_CLIENT] = {.peer = &relay->source,
                        .local = &relay->bound,
                        .interface = way[BPF_CLIENT]->interface,
                        .hop = way[BPF_CLIENT]->hop},
        [BPF_TARGET] = {.peer = &relay->destination,
                        .local = &relay->egress,
                        .interface = way[BPF_TARGET]->interface,
                        .hop = way[BPF_TARGET]->hop},
    };

    relay->bound = held_ports_endpoint(plane->ports, opening->flow->held[BPF_CLIENT]);
    relay->egress = held_ports_endpoint(plane->ports, opening->flow->held[BPF_TARGET]);
    slot_put_sides(opening->slot, sides);
    opening->slot->peer = relay->peer->index;
    opening->slot->epoch = plane->tables.globals->peers[relay->peer->index];
    opening->slot->max_bytes = relay->limits.max_bytes;
    opening->slot->bytes_per_second = relay->limits.bytes_per_second;
}

/* Others have this one for the same peer. Returns -EEXIST with another, or -EADDRNOTAVAIL. */
static int change_port(struct opening *opening, enum bpf_end end)
{
    struct held_ports *ports = opening->plane->ports;
    const uint32_t other = held_ports_other(ports, opening->flow->held[end]);

    opening->plane->count.tries++;
    opening->what = end == BPF_CLIENT ? "BND" : "egress";
    if (other == opening->flow->held[end])
        return -EADDRNOTAVAIL;
    leave_port(opening, end);
    opening->flow->held[end] = other;
    held_ports_use(ports, other, opening->index);
    return -EEXIST;
}

/* One try with the ports that there are; those that are missing are chosen. Returns 0, -EEXIST (one
 * was changed for the next try), or -errno. */
static int try_place(struct opening *opening)
{
    struct bpf_plane *plane = opening->plane;
    int rc = take_port(opening, BPF_CLIENT);

    if (rc == 0)
        rc = take_port(opening, BPF_TARGET);
    if (rc < 0)
        return rc;
    write_slot(opening);
    switch (rows_add(&plane->rows, opening->slot, opening->index)) {
    case ROWS_OK:
        return 0;
    case ROWS_CLIENT_TAKEN:
        return change_port(opening, BPF_CLIENT);
    case ROWS_TARGET_TAKEN:
        return change_port(opening, BPF_TARGET);
    case ROWS_FULL:
        break;
    }
    opening->what = "flows";
    return -ENOSPC;
}

static int try_places(struct opening *opening)
{
    int rc = -EEXIST;

    for (unsigned tries = 0; rc == -EEXIST && tries < PLACE_TRIES; tries++)
        rc = try_place(opening);
    return rc;
}

/* Does the tombstone have the egress address and DST that the relay wants? */
static bool is_in_the_way(const struct opening *opening, uint32_t tombstone)
{
    const struct bpf_side *side = &opening->plane->tables.slots[tombstone].side[BPF_TARGET];
    const struct endpoint peer = slot_endpoint(side->peer, side->peer_port);
    const struct endpoint local = slot_endpoint(side->local, side->local_port);
    struct endpoint wanted = opening->relay->destination;

    wanted.address.scope_id = 0;
    return endpoint_equal(&peer, &wanted) &&
           memcmp(local.address.bytes, opening->plane->prospect.egress.bytes,
                  sizeof(local.address.bytes)) == 0;
}

/* No place was found: tombstones go, the oldest first. One that is in the way leaves its port to
 * the relay. */
static int try_after_evictions(struct opening *opening)
{
    struct bpf_plane *plane = opening->plane;
    int rc = -EADDRNOTAVAIL;

    for (unsigned i = 0; i < EVICTIONS; i++) {
        const uint32_t oldest = slots_oldest(&plane->slots);
        if (oldest == FLOW_NONE)
            break;
        if (is_in_the_way(opening, oldest)) {
            leave_port(opening, BPF_TARGET);
            opening->flow->held[BPF_TARGET] = plane->flows[oldest].held[BPF_TARGET];
            held_ports_use(plane->ports, opening->flow->held[BPF_TARGET], opening->index);
        }
        flow_evict(plane, oldest);
        rows_flush(&plane->rows);
        rc = try_place(opening);
        if (rc == 0)
            break;
    }
    return rc;
}

static void fail(struct opening *opening, int error)
{
    struct bpf_plane *plane = opening->plane;
    char text[N2_TEXT_MAX + 1];

    leave_port(opening, BPF_CLIENT);
    leave_port(opening, BPF_TARGET);
    slots_rest(&plane->slots, opening->index, turns_now_ms(plane));
    opening_forget_prospect(plane);
    plane->count.failed++;
    if (error == -EEXIST || error == -EADDRNOTAVAIL)
        snprintf(text, sizeof(text), "%s: no port is left", opening->what);
    else
        snprintf(text, sizeof(text), "%s: %s", opening->what, strerror(-error));
    relay_open_failed(opening->relay, N2_ERROR_GENERAL, text);
}

static void succeed(struct opening *opening)
{
    struct bpf_plane *plane = opening->plane;
    struct flow *flow = opening->flow;

    flow->relay = opening->relay;
    flow->way[BPF_CLIENT] = plane->prospect.way[BPF_CLIENT]; /* with their references */
    flow->way[BPF_TARGET] = plane->prospect.way[BPF_TARGET];
    plane->prospect = (struct prospect){.relay = 0};
    opening->relay->flow = flow;
    slot_set_state(opening->slot, BPF_SLOT_OPEN);
    plane->count.opened++;
    flow_start(plane, opening->index);
    relay_opened(opening->relay);
}

/* Tombstones give way before slots are used up: theirs have to rest first. */
static void keep_slots(struct bpf_plane *plane)
{
    const uint32_t now_ms = turns_now_ms(plane);

    for (int i = 0; i < 2; i++) {
        const uint32_t expired = slots_expired(&plane->slots, now_ms);
        if (expired == FLOW_NONE)
            return;
        flow_evict(plane, expired);
    }
}

void opening_open(struct bpf_plane *plane, struct relay *relay)
{
    const char *problem = NULL;

    if (plane->prospect.relay != relay->id)
        problem = opening_refuses(plane, relay);
    const uint32_t index =
        problem != NULL ? FLOW_NONE : slots_take(&plane->slots, turns_now_ms(plane));
    if (index == FLOW_NONE) {
        plane->count.failed++;
        relay_open_failed(relay, N2_ERROR_GENERAL,
                          problem != NULL ? problem : "the kernel's tables are full");
        return;
    }
    struct opening opening = {.plane = plane,
                              .relay = relay,
                              .index = index,
                              .slot = &plane->tables.slots[index],
                              .flow = &plane->flows[index]};
    opening.flow->held[BPF_CLIENT] = HELD_NONE;
    opening.flow->held[BPF_TARGET] = HELD_NONE;
    keep_slots(plane);
    int rc = try_places(&opening);
    if (rc == -EEXIST || rc == -EADDRNOTAVAIL || rc == -EMFILE)
        rc = try_after_evictions(&opening);
    if (rc < 0)
        fail(&opening, rc);
    else
        succeed(&opening);
}
