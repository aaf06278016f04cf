#include "tests/unit/relayd/bpf_fixture.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "relayd/plane/bpf/slot.h"
#include "relayd/plane/socket/stranger_filter.h"

/* ---- ways --------------------------------------------------------------------------------------
 */

#define WAYS_MAX 4096

static struct way ways[WAYS_MAX];
static unsigned way_users[WAYS_MAX], way_count;
static const char *way_problem;
static void (*ways_changed)(void *user);

int ways_open(struct ways **out, const struct ways_config *config)
{
    ways_changed = config->changed;
    way_problem = NULL;
    *out = (struct ways *)ways;
    return 0;
}

int ways_get(struct ways *all, const struct ip_address *peer, const struct ip_address *local,
             struct way **out)
{
    (void)all;
    for (unsigned i = 0; i < way_count; i++) {
        if (ip_address_equal(&ways[i].peer, peer)) {
            way_users[i]++;
            *out = &ways[i];
            return 0;
        }
    }
    ck_assert_uint_lt(way_count, WAYS_MAX);
    way_users[way_count] = 1;
    *out = &ways[way_count++];
    **out = (struct way){.peer = *peer,
                         .local = local->family != IP_NONE
                                      ? *local
                                      : party_address(PARTY_RELAY, peer->family == IP_V6),
                         .interface = way_problem == NULL ? FIXTURE_INTERFACE : 0,
                         .hop = way_problem == NULL ? FIXTURE_HOP : 0,
                         .problem = way_problem};
    return 0;
}

void ways_put(struct ways *all, struct way *way)
{
    (void)all;
    if (way == NULL)
        return;
    ck_assert_uint_ne(way_users[way - ways], 0);
    if (--way_users[way - ways] == 0)
        way->peer = (struct ip_address){.family = IP_NONE};
}

void ways_refresh(struct ways *all)
{
    (void)all;
}

void ways_status(const struct ways *all, struct admin_status *out)
{
    (void)all;
    (void)out;
}

void ways_close(struct ways *all)
{
    (void)all;
    ck_assert_uint_eq(bpf_fixture_ways(), 0);
    way_count = 0;
}

unsigned bpf_fixture_ways(void)
{
    unsigned sum = 0;

    for (unsigned i = 0; i < way_count; i++)
        sum += way_users[i];
    return sum;
}

void bpf_fixture_way_problem(const char *problem)
{
    way_problem = problem;
}

void bpf_fixture_ways_change(struct bpf_fixture *fixture, uint32_t interface, const char *problem)
{
    for (unsigned i = 0; i < way_count; i++) {
        ways[i].interface = interface;
        ways[i].hop = problem == NULL ? FIXTURE_HOP : 0;
        ways[i].problem = problem;
    }
    ways_changed(fixture->plane);
}

/* ---- what the plane has besides ----------------------------------------------------------------
 */

int program_load(struct program **out, const struct program_config *config, const char **why)
{
    (void)out;
    (void)config;
    *why = "a test";
    return -ENOSYS;
}

const struct bpf_tables *program_tables(const struct program *program)
{
    (void)program;
    return NULL;
}

enum attach_mode program_mode(const struct program *program)
{
    (void)program;
    return ATTACH_AUTO;
}

int program_listen(struct program *program, uv_loop_t *loop, const struct program_ops *ops,
                   void *user)
{
    (void)program;
    (void)loop;
    (void)ops;
    (void)user;
    return -ENOSYS;
}

void program_counters(const struct program *program, uint64_t out[BPF_COUNT_END])
{
    (void)program;
    memset(out, 0, BPF_COUNT_END * sizeof(out[0]));
}

void program_free(struct program *program)
{
    (void)program;
}

int interfaces_open(struct interfaces **out, uv_loop_t *loop, const struct relayd_config *config,
                    struct program *program, void (*changed)(void *user), void *user)
{
    (void)out;
    (void)loop;
    (void)config;
    (void)program;
    (void)changed;
    (void)user;
    return -ENOSYS;
}

bool interfaces_has(const struct interfaces *interfaces, uint32_t interface)
{
    (void)interfaces;
    (void)interface;
    return true;
}

void interfaces_status(const struct interfaces *interfaces, struct admin_status *out)
{
    (void)interfaces;
    (void)out;
}

void interfaces_close(struct interfaces *interfaces)
{
    (void)interfaces;
}

int answers_open(struct answers **out)
{
    (void)out;
    return -ENOSYS;
}

void answers_send(struct answers *answers, const struct bpf_answer *answer)
{
    (void)answers;
    (void)answer;
}

void answers_status(const struct answers *answers, struct admin_status *out)
{
    (void)answers;
    (void)out;
}

void answers_close(struct answers *answers)
{
    (void)answers;
}

/* What is left to relayd is told by the tests themselves. */
int slow_path_prepare(int fd, uint32_t mark)
{
    ck_assert_uint_eq(mark, 0x5eed);
    return stranger_filter_drop_all(fd);
}

int slow_path_read(int fd, const struct endpoint *local, const struct slow_path_ops *ops,
                   void *user)
{
    (void)fd;
    (void)local;
    (void)ops;
    (void)user;
    return 0;
}

/* ---- upcalls -----------------------------------------------------------------------------------
 */

static struct watched_relay *watched(struct relay *relay)
{
    return (struct watched_relay *)relay;
}

void relay_opened(struct relay *relay)
{
    watched(relay)->opened++;
    relay->order = NULL;
    ck_assert_uint_ne(relay->bound.port, 0);
    ck_assert_uint_ne(relay->egress.port, 0);
}

void relay_open_failed(struct relay *relay, enum n2_error error, const char *text)
{
    watched(relay)->failed++;
    watched(relay)->error = error;
    snprintf(watched(relay)->text, sizeof(watched(relay)->text), "%s", text);
    ck_assert(watched(relay)->in_open);
}

void relay_client_arrived(struct relay *relay)
{
    watched(relay)->arrived++;
}

void relay_notify(struct relay *relay, enum n2_event event, uint64_t value)
{
    (void)value;
    ck_assert_uint_eq(watched(relay)->ended, 0);
    watched(relay)->events[event]++;
}

void relay_strangers(struct relay *relay, uint64_t total)
{
    watched(relay)->strangers = total;
}

void relay_ended(struct relay *relay, enum n2_reason reason)
{
    watched(relay)->ended++;
    watched(relay)->reason = reason;
    ck_assert_uint_eq(watched(relay)->ended, 1);
    watched_relay_close(watched(relay));
}

void relay_plane_closed(struct relay *relay, const struct n2_counters *counters)
{
    watched(relay)->closed++;
    watched(relay)->final = *counters;
    watched(relay)->closed_ms = bpf_fixture_now_ms();
    ck_assert_ptr_null(relay->flow);
}

/* ---- relays ------------------------------------------------------------------------------------
 */

void watched_relay_init(struct watched_relay *relay, struct bpf_fixture *fixture, uint16_t s,
                        uint16_t dst)
{
    memset(relay, 0, sizeof(*relay));
    relay->relay.id = ++fixture->next_relay;
    relay->relay.order = &relay->order;
    relay->relay.kind = N2_KIND_TRANSPARENT;
    relay->relay.plane = &fixture->plane->base;
    relay->relay.peer = &fixture->peer;
    relay->relay.opened_at_ms = uv_now(&fixture->loop);
    relay->relay.source = (struct endpoint){party_address(PARTY_CLIENT, false), s};
    relay->relay.destination = (struct endpoint){party_address(PARTY_TARGET, false), dst};
}

const char *watched_relay_try(struct watched_relay *relay)
{
    struct plane *plane = relay->relay.plane;
    const char *refusal = plane->ops->refuses(plane, &relay->relay);

    if (refusal != NULL)
        return refusal;
    relay->in_open = true;
    plane->ops->open(plane, &relay->relay);
    relay->in_open = false;
    ck_assert_uint_eq(relay->opened + relay->failed, 1);
    if (relay->failed != 0)
        watched_relay_close(relay);
    return NULL;
}

void watched_relay_open(struct watched_relay *relay)
{
    const char *refusal = watched_relay_try(relay);

    ck_assert_msg(refusal == NULL, "refused: %s", refusal);
    ck_assert_msg(relay->opened == 1, "open: %s", relay->text);
}

void watched_relay_close(struct watched_relay *relay)
{
    relay->relay.plane->ops->close(relay->relay.plane, &relay->relay, true);
}

void watched_relay_finish(struct watched_relay *relay, struct bpf_fixture *fixture)
{
    if (relay->ended + relay->failed + relay->closed == 0)
        watched_relay_close(relay);
    WAIT_FOR(fixture, relay->closed != 0);
    ck_assert_uint_eq(relay->closed, 1);
}

uint32_t watched_relay_index(const struct watched_relay *relay, const struct bpf_fixture *fixture)
{
    return (uint32_t)((struct flow *)relay->relay.flow - fixture->plane->flows);
}

/* ---- the program -------------------------------------------------------------------------------
 */

struct bpf_slot *bpf_fixture_slot(const struct bpf_fixture *fixture, const struct relay *relay)
{
    return &fixture->tables.slots[(struct flow *)relay->flow - fixture->plane->flows];
}

void bpf_fixture_see(struct bpf_fixture *fixture, struct relay *relay, enum bpf_end end,
                     uint32_t seen, bool hint)
{
    struct bpf_slot *slot = bpf_fixture_slot(fixture, relay);
    const struct bpf_event event = {.slot = (uint32_t)(slot - fixture->tables.slots),
                                    .generation = slot->generation,
                                    .end = end,
                                    .seen = slot->from[end].seen | seen};

    slot->from[end].seen |= seen;
    if (hint)
        hints_ops.event(fixture->plane, &event);
}

void bpf_fixture_carry(struct bpf_fixture *fixture, struct relay *relay, enum bpf_end end,
                       uint32_t octets, uint64_t ago_ms)
{
    struct bpf_direction *from = &bpf_fixture_slot(fixture, relay)->from[end];

    from->packets++;
    from->bytes += octets;
    from->last_ns = (bpf_fixture_now_ms() - ago_ms) * 1000000;
}

static unsigned count_keys(int fd, size_t size)
{
    uint8_t key[64], next[64];
    unsigned count = 0;

    for (const void *at = NULL; bpf_map_get_next_key(fd, at, next) == 0; at = key) {
        memcpy(key, next, size);
        count++;
    }
    return count;
}

unsigned bpf_fixture_rows(const struct bpf_fixture *fixture)
{
    return count_keys(fixture->tables.flows_fd, sizeof(struct bpf_flow_key));
}

unsigned bpf_fixture_endpoints(const struct bpf_fixture *fixture)
{
    return count_keys(fixture->tables.endpoints_fd, sizeof(struct bpf_endpoint_key));
}

/* ---- the whole ---------------------------------------------------------------------------------
 */

static int make_map(uint32_t key, uint32_t value, uint32_t rows)
{
    return bpf_map_create(BPF_MAP_TYPE_HASH, "test", key, value, rows, NULL);
}

void bpf_fixture_require(void)
{
    const int fd = make_map(4, 4, 1);

    if (fd < 0) {
        printf("no map can be made: %s\n", strerror(errno));
        exit(77);
    }
    close(fd);
}

uint64_t bpf_fixture_now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void on_tick(uv_timer_t *timer)
{
    (void)timer;
}

void bpf_fixture_turn(struct bpf_fixture *fixture)
{
    uv_run(&fixture->loop, UV_RUN_ONCE);
}

void bpf_fixture_advance(struct bpf_fixture *fixture, uint32_t ms)
{
    fixture->plane->started_ms -= ms;
    turns_within(fixture->plane, 0);
    for (int i = 0; i < 5; i++)
        bpf_fixture_turn(fixture);
}

struct bpf_fixture_options bpf_fixture_standard(void)
{
    return (struct bpf_fixture_options){.ptcl = PTCL_TCP,
                                        .slots = 64,
                                        .relays = 32,
                                        .endpoints = 64,
                                        .bind_ports = {20000, 20999},
                                        .egress_ports = {30000, 30999}};
}

/* Not those of transport.c: they bring the socket plane along. */
static const struct transport transports[] = {
    {.ptcl = PTCL_TCP,
     .socket_type = SOCK_STREAM,
     .socket_protocol = IPPROTO_TCP,
     .stateful = true},
    {.ptcl = PTCL_UDP, .socket_type = SOCK_DGRAM, .socket_protocol = IPPROTO_UDP},
};

static void make_tables(struct bpf_fixture *fixture, const struct bpf_fixture_options *options)
{
    struct bpf_tables *tables = &fixture->tables;

    tables->slots = calloc(options->slots, sizeof(*tables->slots));
    tables->strangers = calloc(options->endpoints, sizeof(*tables->strangers));
    tables->slot_count = options->slots;
    tables->endpoint_count = options->endpoints;
    tables->globals = &fixture->globals;
    tables->mark = 0x5eed;
    tables->flows_fd = make_map(sizeof(struct bpf_flow_key), sizeof(struct bpf_flow),
                                options->rows != 0 ? options->rows : options->slots * 2);
    tables->endpoints_fd =
        make_map(sizeof(struct bpf_endpoint_key), sizeof(uint32_t), options->endpoints);
    ck_assert_int_ge(tables->flows_fd, 0);
    ck_assert_int_ge(tables->endpoints_fd, 0);
}

void bpf_fixture_setup(struct bpf_fixture *fixture, const struct bpf_fixture_options *options)
{
    memset(fixture, 0, sizeof(*fixture));
    private_network_enter();
    make_tables(fixture, options);
    network_privilege(false); /* what relayd has not got */
    ck_assert_int_eq(uv_loop_init(&fixture->loop), 0);
    uv_timer_init(&fixture->loop, &fixture->tick);
    uv_timer_start(&fixture->tick, on_tick, 2, 2);

    struct relayd_config *config = &fixture->config;
    fixture->bind_ports = options->bind_ports;
    fixture->egress_ports = options->egress_ports;
    for (int i = 0; i < 2; i++) {
        fixture->bind_addresses[i] = party_address(PARTY_RELAY, i == 1);
        fixture->egress_addresses[i] = party_address(PARTY_RELAY, i == 1);
    }
    config->bind.addresses = (struct config_list){fixture->bind_addresses, 2};
    config->bind.ports = (struct config_list){&fixture->bind_ports, 1};
    config->egress.addresses = (struct config_list){fixture->egress_addresses, 2};
    config->egress.ports = (struct config_list){&fixture->egress_ports, 1};
    config->tcp.connect_timeout_ms = 10000;
    config->tcp.accept_timeout_ms = 10000;
    config->tcp.fin_timeout_ms = 60000;
    ck_assert_int_eq(endpoints_new(&fixture->endpoints, config, NULL, 1), 0);

    const struct bpf_plane_config plane_config = {.config = config,
                                                  .endpoints = fixture->endpoints,
                                                  .transport =
                                                      &transports[options->ptcl == PTCL_UDP],
                                                  .instance = "test",
                                                  .relays = options->relays};
    fixture->plane = calloc(1, sizeof(*fixture->plane));
    ck_assert_int_eq(
        bpf_plane_build_parts(fixture->plane, &fixture->loop, &plane_config, &fixture->tables), 0);
    fixture->peer.index = 3;
    fixture->globals.peers[3] = 77;
}

void bpf_fixture_teardown(struct bpf_fixture *fixture)
{
    WAIT_FOR(fixture, fixture->plane->closing.count == 0);
    bpf_plane_close_parts(fixture->plane);
    ck_assert_uint_eq(bpf_fixture_rows(fixture), 0);
    ck_assert_uint_eq(bpf_fixture_endpoints(fixture), 0);
    ck_assert_uint_eq(bpf_fixture_ways(), 0);
    for (int i = 0; i < 2; i++)
        ck_assert_uint_eq(endpoints_free_ports(fixture->endpoints, &fixture->bind_addresses[i]),
                          (uint32_t)(fixture->bind_ports.last - fixture->bind_ports.first + 1));
    endpoints_free(fixture->endpoints);
    uv_close((uv_handle_t *)&fixture->tick, NULL);
    uv_run(&fixture->loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&fixture->loop), 0);
    free(fixture->tables.slots);
    free(fixture->tables.strangers);
    close(fixture->tables.flows_fd);
    close(fixture->tables.endpoints_fd);
}
