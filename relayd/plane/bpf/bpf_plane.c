#include "relayd/plane/bpf/bpf_plane.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/admin/status.h"
#include "common/log/log.h"
#include "relayd/plane/bpf/flow.h"
#include "relayd/plane/bpf/plane_parts.h"
#include "relayd/relay/control.h"

/* ---- operations --------------------------------------------------------------------------------
 */

static const char *bpf_plane_refuses(const struct plane *plane, const struct relay *relay)
{
    /* What it finds out is kept for open(), so it is not as constant as it looks. */
    return opening_refuses((struct bpf_plane *)plane, relay);
}

static void bpf_plane_open(struct plane *plane, struct relay *relay)
{
    opening_open(bpf_plane_of(plane), relay);
}

static void bpf_plane_close(struct plane *plane, struct relay *relay, bool abort)
{
    (void)abort; /* what both ends see is what they send each other; then come tombstones */
    flow_close(bpf_plane_of(plane), relay);
}

static void bpf_plane_counters(const struct plane *plane, const struct relay *relay,
                               struct n2_counters *out, uint64_t *idle_ms)
{
    *idle_ms = 0;
    *out = (struct n2_counters){.drops = 0};
    if (relay->flow != NULL)
        flow_counters((const struct bpf_plane *)plane, relay->flow, out, idle_ms);
}

static uint64_t bpf_plane_drops(const struct plane *plane, const struct relay *relay)
{
    return relay->flow != NULL ? flow_drops((const struct bpf_plane *)plane, relay->flow) : 0;
}

static void bpf_plane_peer_lost(struct plane *plane, const struct relay_peer *peer)
{
    /* The program compares it for every packet. */
    __atomic_fetch_add((uint32_t *)&bpf_plane_of(plane)->tables.globals->peers[peer->index], 1,
                       __ATOMIC_SEQ_CST);
}

/* ---- figures -----------------------------------------------------------------------------------
 */

static const char *const count_names[BPF_COUNT_END] = {
    [BPF_COUNT_SPOOFED] = "bpf_spoofed",
    [BPF_COUNT_STALE] = "bpf_stale",
    [BPF_COUNT_CLOSED] = "bpf_closed",
    [BPF_COUNT_STRANGERS] = "bpf_strangers",
    [BPF_COUNT_MALFORMED] = "bpf_malformed",
    [BPF_COUNT_TCP_FLAGS] = "bpf_tcp_flags",
    [BPF_COUNT_TCP_STATE] = "bpf_tcp_state",
    [BPF_COUNT_TTL] = "bpf_ttl",
    [BPF_COUNT_TOO_BIG] = "bpf_too_big",
    [BPF_COUNT_NO_WAY] = "bpf_no_way",
    [BPF_COUNT_RATE] = "bpf_rate",
    [BPF_COUNT_LIMIT] = "bpf_limit",
    [BPF_COUNT_FRAGMENTS] = "bpf_fragments",
    [BPF_COUNT_OPTIONS] = "bpf_options",
    [BPF_COUNT_TCP_LEFT] = "bpf_tcp_left",
    [BPF_COUNT_SOURCE_ROUTE] = "bpf_source_route",
    [BPF_COUNT_ICMP] = "bpf_icmp",
    [BPF_COUNT_ICMP_UNKNOWN] = "bpf_icmp_unknown",
    [BPF_COUNT_ICMP_MALFORMED] = "bpf_icmp_malformed",
    [BPF_COUNT_TOMBSTONE] = "bpf_tombstone",
    [BPF_COUNT_ANSWERS_LIMITED] = "bpf_answers_limited",
    [BPF_COUNT_FAILED] = "bpf_failed",
};

static void report_program(const struct bpf_plane *plane, struct admin_status *out)
{
    uint64_t counts[BPF_COUNT_END];

    if (plane->program == NULL)
        return;
    program_counters(plane->program, counts);
    for (int i = 0; i < BPF_COUNT_END; i++) {
        if (count_names[i] != NULL)
            admin_status_counter(out, count_names[i], counts[i]);
    }
    admin_status_counter(out, "bpf_tcx", program_mode(plane->program) == ATTACH_TCX);
    interfaces_status(plane->interfaces, out);
    answers_status(plane->answers, out);
}

static void bpf_plane_status(const struct plane *plane, struct admin_status *out)
{
    const struct bpf_plane *bpf_plane = (const struct bpf_plane *)plane;
    const struct slots *slots = &bpf_plane->slots;

    admin_status_counter(out, "bpf_slots", slots->count);
    admin_status_counter(out, "bpf_slots_in_use", slots->in_use);
    admin_status_counter(out, "bpf_slots_resting", slots->resting.count);
    admin_status_counter(out, "bpf_tombstones", slots->tombstones.count);
    admin_status_counter(out, "bpf_tombstones_evicted", bpf_plane->count.evicted);
    admin_status_counter(out, "bpf_rows", bpf_plane->rows.added - bpf_plane->rows.deleted);
    admin_status_counter(out, "bpf_opened", bpf_plane->count.opened);
    admin_status_counter(out, "bpf_refused_full", bpf_plane->count.refused_full);
    admin_status_counter(out, "bpf_open_failed", bpf_plane->count.failed);
    admin_status_counter(out, "bpf_port_conflicts", bpf_plane->count.tries);
    admin_status_counter(out, "bpf_event_sweeps", bpf_plane->count.sweeps);
    admin_status_counter(out, "bpf_ways_lost", bpf_plane->count.ways_lost);
    admin_status_counter(out, "bpf_slow_datagrams", bpf_plane->count.slow_packets);
    admin_status_counter(out, "bpf_slow_failed", bpf_plane->count.slow_failed);
    admin_status_counter(out, "bpf_slow_limited", bpf_plane->count.slow_limited);
    held_ports_status(bpf_plane->ports, out);
    ways_status(bpf_plane->ways, out);
    report_program(bpf_plane, out);
}

/* ---- life --------------------------------------------------------------------------------------
 */

static bool is_attached(void *user, uint32_t interface)
{
    const struct bpf_plane *plane = user;

    return plane->interfaces != NULL && interfaces_has(plane->interfaces, interface);
}

static void on_ways_changed(void *user)
{
    turns_pass(user, PASS_WAYS);
}

static void on_interfaces_changed(void *user)
{
    struct bpf_plane *plane = user;

    if (plane->ways != NULL)
        ways_refresh(plane->ways);
}

int bpf_plane_build_parts(struct bpf_plane *plane, uv_loop_t *loop,
                          const struct bpf_plane_config *config, const struct bpf_tables *tables)
{
    const struct ways_config ways = {.loop = loop,
                                     .hops = tables->hops,
                                     .protocol = (uint8_t)config->transport->socket_protocol,
                                     .attached = is_attached,
                                     .changed = on_ways_changed,
                                     .user = plane};

    plane->base.ops = &bpf_plane_ops;
    plane->loop = loop;
    plane->config = config->config;
    plane->endpoints = config->endpoints;
    plane->transport = config->transport;
    plane->tables = *tables;
    turns_start(plane);
    flow_list_init(&plane->closing);
    rows_init(&plane->rows, tables->flows_fd);
    plane->flows = calloc(tables->slot_count, sizeof(*plane->flows));
    if (plane->flows == NULL)
        return -ENOMEM;
    slots_init(&plane->slots, tables->slots, plane->flows, tables->slot_count, config->relays);
    deadlines_init(&plane->deadlines, plane->flows);
    const struct held_ports_config ports = {.loop = loop,
                                            .config = config->config,
                                            .endpoints = config->endpoints,
                                            .transport = config->transport,
                                            .tables = &plane->tables,
                                            .slow_path = &hints_slow_path,
                                            .user = plane,
                                            .flows = plane->flows};
    const int rc = held_ports_open(&plane->ports, &ports);
    return rc < 0 ? rc : ways_open(&plane->ways, &ways);
}

static void on_closed(uv_handle_t *handle)
{
    struct bpf_plane *plane = handle->data;

    if (--plane->handles != 0)
        return;
    free(plane->flows);
    free(plane);
}

static void put_tombstones(struct bpf_plane *plane)
{
    while (plane->slots.tombstones.first != FLOW_NONE)
        flow_evict(plane, plane->slots.tombstones.first);
}

void bpf_plane_close_parts(struct bpf_plane *plane)
{
    if (plane->ports != NULL)
        put_tombstones(plane);
    rows_flush(&plane->rows);
    if (plane->ways != NULL)
        opening_forget_prospect(plane);
    held_ports_close(plane->ports);
    ways_close(plane->ways);
    turns_stop(plane, on_closed);
}

static void bpf_plane_free(struct plane *plane)
{
    struct bpf_plane *bpf_plane = bpf_plane_of(plane);
    struct program *program = bpf_plane->program;

    /* First: nothing is carried any more, and nothing is asked of the program. */
    interfaces_close(bpf_plane->interfaces);
    bpf_plane->interfaces = NULL;
    answers_close(bpf_plane->answers);
    bpf_plane_close_parts(bpf_plane);
    program_free(program);
}

const struct plane_ops bpf_plane_ops = {
    .id = N2_PLANE_BPF,
    .refuses = bpf_plane_refuses,
    .open = bpf_plane_open,
    .close = bpf_plane_close,
    .counters = bpf_plane_counters,
    .tells_strangers = true,
    .drops = bpf_plane_drops,
    .peer_lost = bpf_plane_peer_lost,
    .status = bpf_plane_status,
    .free = bpf_plane_free,
};

/* Everything but the plane itself. Returns 0 or -errno with *why. */
static int set_up(struct bpf_plane *plane, uv_loop_t *loop, const struct bpf_plane_config *config,
                  const char **why)
{
    const struct program_config program = {
        .protocol = (uint8_t)config->transport->socket_protocol,
        .mode = config->mode,
        .slots = SLOTS_FOR(config->relays),
        .endpoints = held_ports_max(config->alone),
        .instance = config->instance,
    };
    int rc = program_load(&plane->program, &program, why);

    if (rc < 0)
        return rc;
    *why = "out of memory or descriptors";
    rc = bpf_plane_build_parts(plane, loop, config, program_tables(plane->program));
    if (rc < 0)
        return rc;
    *why = "its rings cannot be read";
    rc = program_listen(plane->program, loop, &hints_ops, plane);
    if (rc < 0)
        return rc;
    *why = "no permission to answer for it (CAP_NET_RAW)";
    rc = answers_open(&plane->answers);
    if (rc < 0)
        return rc;
    *why = "it cannot be attached to the interfaces";
    return interfaces_open(&plane->interfaces, loop, config->config, plane->program,
                           on_interfaces_changed, plane);
}

int bpf_plane_new(struct plane **out, uv_loop_t *loop, const struct bpf_plane_config *config,
                  const char **why)
{
    struct bpf_plane *plane = calloc(1, sizeof(*plane));

    *why = "out of memory";
    if (plane == NULL)
        return -ENOMEM;
    const int rc = set_up(plane, loop, config, why);
    if (rc < 0) {
        if (plane->base.ops != NULL)
            bpf_plane_free(&plane->base);
        else
            free(plane); /* the program was not loaded */
        return rc;
    }
    ways_refresh(plane->ways);
    *out = &plane->base;
    return 0;
}
