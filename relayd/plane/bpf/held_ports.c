#include "relayd/plane/bpf/held_ports.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/admin/status.h"
#include "common/system/fd_budget.h"
#include "relayd/plane/bpf/flow.h"
#include "relayd/plane/bpf/held_socket.h"
#include "relayd/plane/bpf/slot.h"
#include "relayd/plane/port_pool.h"
#include "relayd/plane/socket/stranger_filter.h"

/* Descriptors are worth more to egress: its ports bound the number of relays to one destination. Of
 * eight it gets five. */
#define SHARE_OF_CLIENTS 3
#define SHARE_OF_ALL 8
/* The last eighth is for addresses that have few ports yet. */
#define FEW_PORTS 4
/* In groups up to here every port is tried. */
#define SMALL_GROUP 64
#define HELD_PORTS_MAX (1u << 20)

/* Datagrams are read for so many ports in one turn of the loop. */
#define READY_MAX 32

/* The ports of one address for BND or for egress. */
struct group {
    struct ip_address address;
    enum bpf_end end;
    struct port_pool *pool; /* egress; those for BND are in `endpoints` */
    uint32_t *open;         /* ports in use, in no order */
    uint32_t open_count, open_room;
    uint32_t failed_ms; /* when a fresh port was wanted in vain; has_failed */
    bool has_failed;
};

#define GROUPS_MAX (2 * ENDPOINTS_POOLS_MAX)

/* A port in use; its index is its row of `strangers`. */
struct held_port {
    struct ip_address address;
    uint16_t port;
    int fd;
    uint32_t group, place; /* place: in group->open */
    uint32_t next_free;    /* while it is not in use */
    uint32_t users;
    uint32_t all_users; /* exclusive or of their indexes: of one, its index */
    uint64_t base;      /* strangers before the only user was alone */
    struct drop_counter drops;
};

struct held_ports {
    struct held_ports_config config;
    struct bpf_tables tables;
    struct random_source random;
    struct held_port *list; /* tables.endpoint_count */
    uint32_t fresh, free;   /* never used from here on; used before: a list */
    uint32_t count[BPF_ENDS];
    uint64_t opened, failed; /* sockets */
    size_t group_count;
    size_t last_group[BPF_ENDS]; /* that was asked for */
    struct group groups[GROUPS_MAX];
    int epoll; /* UDP: watches all sockets, and is itself watched by the loop; else -1 */
    uv_poll_t poll;
};

uint32_t held_ports_max(bool alone)
{
    const uint64_t all = fd_budget_total();
    const uint64_t some = alone ? all - all / 16 : all / 2;

    return some < HELD_PORTS_MAX ? (uint32_t)some : HELD_PORTS_MAX;
}

/* ---- strangers ---------------------------------------------------------------------------------
 */

/* Those that the program has dropped and those that came another way. */
static uint64_t strangers_of(struct held_ports *ports, uint32_t index)
{
    struct held_port *port = &ports->list[index];

    return __atomic_load_n(&ports->tables.strangers[index].packets, __ATOMIC_RELAXED) +
           drop_counter_update(&port->drops, port->fd);
}

static bool is_bound(const struct held_ports *ports, const struct held_port *port)
{
    return ports->groups[port->group].end == BPF_CLIENT;
}

/* What came while the only user was alone is that one's. */
static void settle_strangers(struct held_ports *ports, uint32_t index)
{
    struct held_port *port = &ports->list[index];

    if (!is_bound(ports, port) || port->users != 1)
        return;
    const uint64_t total = strangers_of(ports, index);
    ports->config.flows[port->all_users].drops += total - port->base;
    port->base = total;
}

void held_ports_use(struct held_ports *ports, uint32_t index, uint32_t flow)
{
    struct held_port *port = &ports->list[index];

    settle_strangers(ports, index);
    port->users++;
    port->all_users ^= flow;
}

uint64_t held_ports_strangers(struct held_ports *ports, uint32_t index, uint32_t flow)
{
    const struct held_port *port = &ports->list[index];

    if (!is_bound(ports, port) || port->users != 1 || port->all_users != flow)
        return 0;
    return strangers_of(ports, index) - port->base;
}

uint32_t held_ports_only_user(const struct held_ports *ports, uint32_t row)
{
    const struct held_port *port;

    if (row >= ports->fresh)
        return FLOW_NONE;
    port = &ports->list[row];
    return port->users == 1 && is_bound(ports, port) ? port->all_users : FLOW_NONE;
}

/* ---- groups ------------------------------------------------------------------------------------
 */

static bool group_is(const struct group *group, enum bpf_end end, const struct ip_address *address)
{
    return group->end == end && ip_address_equal(&group->address, address);
}

/* A new one, or one without ports that makes room. */
static struct group *vacant_group(struct held_ports *ports)
{
    if (ports->group_count < GROUPS_MAX)
        return &ports->groups[ports->group_count++];
    for (size_t i = 0; i < GROUPS_MAX; i++) {
        if (ports->groups[i].open_count == 0)
            return &ports->groups[i];
    }
    return NULL;
}

static int egress_pool(struct held_ports *ports, struct port_pool **out)
{
    static const struct port_range standard = {.first = HELD_EGRESS_FIRST,
                                               .last = HELD_EGRESS_LAST};
    const struct config_list *configured = &ports->config.config->egress.ports;

    return configured->count != 0 ? port_pool_new(out, configured->items, configured->count)
                                  : port_pool_new(out, &standard, 1);
}

static struct group *find_group(struct held_ports *ports, enum bpf_end end,
                                const struct ip_address *address)
{
    struct port_pool *pool = NULL;

    if (ports->last_group[end] < ports->group_count &&
        group_is(&ports->groups[ports->last_group[end]], end, address))
        return &ports->groups[ports->last_group[end]];
    for (size_t i = 0; i < ports->group_count; i++) {
        if (group_is(&ports->groups[i], end, address)) {
            ports->last_group[end] = i;
            return &ports->groups[i];
        }
    }
    if (end == BPF_TARGET && egress_pool(ports, &pool) < 0)
        return NULL;
    struct group *group = vacant_group(ports);
    if (group == NULL) {
        port_pool_free(pool);
        return NULL;
    }
    port_pool_free(group->pool);
    free(group->open);
    *group = (struct group){.address = *address, .end = end, .pool = pool};
    return group;
}

static uint16_t draw(struct held_ports *ports, struct group *group)
{
    return group->end == BPF_TARGET ? port_pool_draw(group->pool, &ports->random)
                                    : endpoints_draw_port(ports->config.endpoints, &group->address);
}

static void give_back(struct held_ports *ports, struct group *group, uint16_t port)
{
    if (group->end == BPF_TARGET)
        port_pool_return(group->pool, port);
    else
        endpoints_return_port(ports->config.endpoints, &group->address, port);
}

static bool group_has_room(struct group *group)
{
    if (group->open_count < group->open_room)
        return true;
    const uint32_t room = group->open_room == 0 ? 16 : group->open_room * 2;
    uint32_t *open = realloc(group->open, room * sizeof(*open));
    if (open == NULL)
        return false;
    group->open = open;
    group->open_room = room;
    return true;
}

/* ---- opening and closing -----------------------------------------------------------------------
 */

static bool may_open(const struct held_ports *ports, const struct group *group)
{
    const uint32_t max = ports->tables.endpoint_count;
    const uint32_t most = max - max / SHARE_OF_ALL;
    const uint32_t clients = (uint32_t)((uint64_t)most * SHARE_OF_CLIENTS / SHARE_OF_ALL);
    const uint32_t share = group->end == BPF_CLIENT ? clients : most - clients;

    if (ports->count[BPF_CLIENT] + ports->count[BPF_TARGET] >= max)
        return false;
    return ports->count[group->end] < share || group->open_count < FEW_PORTS;
}

static struct bpf_endpoint_key endpoint_key(const struct endpoint *local)
{
    struct bpf_endpoint_key key = {.port = htons(local->port)};

    slot_put_address(key.address, &local->address);
    return key;
}

/* Makes the port known to the program. */
static int tell_program(struct held_ports *ports, uint32_t index, const struct endpoint *local)
{
    const struct bpf_endpoint_key key = endpoint_key(local);

    ports->tables.strangers[index] = (struct bpf_strangers){.packets = 0};
    return bpf_map_update_elem(ports->tables.endpoints_fd, &key, &index, BPF_NOEXIST) < 0 ? -errno
                                                                                          : 0;
}

static void forget(struct held_ports *ports, const struct endpoint *local)
{
    const struct bpf_endpoint_key key = endpoint_key(local);

    (void)bpf_map_delete_elem(ports->tables.endpoints_fd, &key);
}

static int watch(const struct held_ports *ports, uint32_t index, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = index};

    if (ports->epoll < 0)
        return 0;
    return epoll_ctl(ports->epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static uint32_t vacant_row(struct held_ports *ports)
{
    const uint32_t index = ports->free;

    if (index == HELD_NONE)
        return ports->fresh < ports->tables.endpoint_count ? ports->fresh++ : HELD_NONE;
    ports->free = ports->list[index].next_free;
    return index;
}

static void vacate_row(struct held_ports *ports, uint32_t index)
{
    ports->list[index] = (struct held_port){.fd = -1, .next_free = ports->free};
    ports->free = index;
}

/* Holds the port as `index`. Returns 0 or -errno. */
static int hold(struct held_ports *ports, struct group *group, uint32_t index, uint16_t number)
{
    const struct endpoint local = {.address = group->address, .port = number};
    const int fd = held_socket_open(ports->config.transport, &local, ports->tables.mark);
    int rc;

    if (fd < 0)
        return fd;
    rc = tell_program(ports, index, &local);
    if (rc == 0) {
        rc = watch(ports, index, fd);
        if (rc < 0)
            forget(ports, &local);
    }
    if (rc < 0) {
        close(fd);
        return rc == -EEXIST ? -EADDRINUSE : rc; /* the same address on another link */
    }
    ports->list[index] = (struct held_port){.address = group->address,
                                            .port = number,
                                            .fd = fd,
                                            .group = (uint32_t)(group - ports->groups),
                                            .place = group->open_count};
    group->open[group->open_count++] = index;
    ports->count[group->end]++;
    ports->opened++;
    return 0;
}

/* Returns 0 with *out or -errno. */
static int open_fresh(struct held_ports *ports, struct group *group, uint32_t *out)
{
    int rc = -EADDRNOTAVAIL;

    if (!group_has_room(group))
        return -ENOMEM;
    const uint32_t index = vacant_row(ports);
    if (index == HELD_NONE)
        return -EMFILE;
    for (unsigned tries = 0; tries < ENDPOINTS_BIND_TRIES; tries++) {
        const uint16_t number = draw(ports, group);
        if (number == 0)
            break;
        rc = hold(ports, group, index, number);
        if (rc == 0) {
            *out = index;
            return 0;
        }
        give_back(ports, group, number);
        if (rc != -EADDRINUSE && rc != -EACCES)
            break;
        rc = -EADDRNOTAVAIL;
    }
    vacate_row(ports, index);
    ports->failed++;
    return rc;
}

static void close_port(struct held_ports *ports, uint32_t index)
{
    struct held_port *port = &ports->list[index];
    struct group *group = &ports->groups[port->group];
    const struct endpoint local = held_ports_endpoint(ports, index);
    const uint32_t last = group->open[--group->open_count];

    group->open[port->place] = last;
    ports->list[last].place = port->place;
    group->has_failed = false;
    ports->count[group->end]--;
    forget(ports, &local); /* first: until it is closed the socket keeps quiet */
    close(port->fd);
    give_back(ports, group, port->port);
    vacate_row(ports, index);
}

void held_ports_leave(struct held_ports *ports, uint32_t index, uint32_t flow)
{
    struct held_port *port = &ports->list[index];

    settle_strangers(ports, index);
    port->users--;
    port->all_users ^= flow;
    if (port->users == 0)
        close_port(ports, index);
    else if (port->users == 1 && is_bound(ports, port))
        port->base = strangers_of(ports, index);
}

static bool is_worth_trying(const struct group *group, uint32_t now_ms)
{
    return !group->has_failed || now_ms - group->failed_ms >= HELD_RETRY_MS;
}

int held_ports_choose(struct held_ports *ports, enum bpf_end end, const struct ip_address *address,
                      uint32_t now_ms, uint32_t *out)
{
    struct group *group = find_group(ports, end, address);
    int rc = -EADDRNOTAVAIL;

    if (group == NULL)
        return -ENOMEM;
    if (may_open(ports, group) && is_worth_trying(group, now_ms)) {
        rc = open_fresh(ports, group, out);
        if (rc == 0)
            return 0;
        group->has_failed = true;
        group->failed_ms = now_ms;
    }
    if (group->open_count == 0)
        return rc;
    *out = group->open[random_source_below(&ports->random, group->open_count)];
    return 0;
}

uint32_t held_ports_other(struct held_ports *ports, uint32_t index)
{
    const struct held_port *port = &ports->list[index];
    const struct group *group = &ports->groups[port->group];
    uint32_t further = 1;

    if (group->open_count > SMALL_GROUP)
        further += random_source_below(&ports->random, group->open_count - 1);
    return group->open[(port->place + further) % group->open_count];
}

struct endpoint held_ports_endpoint(const struct held_ports *ports, uint32_t index)
{
    const struct held_port *port = &ports->list[index];

    return (struct endpoint){.address = port->address, .port = port->port};
}

int held_ports_fd(const struct held_ports *ports, uint32_t index)
{
    return ports->list[index].fd;
}

/* ---- datagrams that the program leaves to us ---------------------------------------------------
 */

static void on_ready(uv_poll_t *poll, int status, int events)
{
    struct held_ports *ports = poll->data;
    struct epoll_event ready[READY_MAX];
    const int count = epoll_wait(ports->epoll, ready, READY_MAX, 0);

    (void)status;
    (void)events;
    for (int i = 0; i < count; i++) {
        const uint32_t index = ready[i].data.u32;
        if (ports->list[index].fd < 0)
            continue; /* closed by what was just read */
        const struct endpoint local = held_ports_endpoint(ports, index);
        (void)slow_path_read(ports->list[index].fd, &local, ports->config.slow_path,
                             ports->config.user);
    }
}

/* ---- life --------------------------------------------------------------------------------------
 */

static int watch_all(struct held_ports *ports)
{
    ports->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (ports->epoll < 0)
        return -errno;
    const int rc = uv_poll_init(ports->config.loop, &ports->poll, ports->epoll);
    if (rc < 0) {
        close(ports->epoll);
        return rc;
    }
    ports->poll.data = ports;
    return uv_poll_start(&ports->poll, UV_READABLE, on_ready);
}

int held_ports_open(struct held_ports **out, const struct held_ports_config *config)
{
    struct held_ports *ports = calloc(1, sizeof(*ports));
    int rc;

    if (ports == NULL)
        return -ENOMEM;
    ports->config = *config;
    ports->tables = *config->tables;
    ports->free = HELD_NONE;
    ports->epoll = -1;
    ports->list = calloc(ports->tables.endpoint_count, sizeof(*ports->list));
    rc = ports->list == NULL ? -ENOMEM : random_source_init(&ports->random, 0);
    if (rc == 0 && config->transport->socket_type == SOCK_DGRAM)
        rc = watch_all(ports);
    if (rc < 0) {
        free(ports->list);
        free(ports);
        return rc;
    }
    *out = ports;
    return 0;
}

void held_ports_status(const struct held_ports *ports, struct admin_status *out)
{
    admin_status_counter(out, "bpf_bound_ports", ports->count[BPF_CLIENT]);
    admin_status_counter(out, "bpf_egress_ports", ports->count[BPF_TARGET]);
    admin_status_counter(out, "bpf_ports_max", ports->tables.endpoint_count);
    admin_status_counter(out, "bpf_ports_opened", ports->opened);
    admin_status_counter(out, "bpf_ports_failed", ports->failed);
}

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void held_ports_close(struct held_ports *ports)
{
    if (ports == NULL)
        return;
    for (uint32_t i = 0; i < ports->fresh; i++) {
        if (ports->list[i].fd >= 0)
            close_port(ports, i);
    }
    for (size_t i = 0; i < ports->group_count; i++) {
        port_pool_free(ports->groups[i].pool);
        free(ports->groups[i].open);
    }
    free(ports->list);
    if (ports->epoll < 0) {
        free(ports);
        return;
    }
    uv_close((uv_handle_t *)&ports->poll, on_closed);
    close(ports->epoll);
}
