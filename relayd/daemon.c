#include "relayd/daemon.h"

#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/keyed_hash.h"
#include "common/log/log_loop.h"
#include "common/system/fd_budget.h"
#include "common/system/privileges.h"
#include "common/system/service.h"
#include "relayd/admin.h"
#include "relayd/guard.h"
#include "relayd/n2/server.h"
#include "relayd/plane/bpf/bpf_plane.h"
#include "relayd/plane/socket/socket_plane.h"

#define PATH_TEXT_MAX 4224 /* a configured directory (4096), an instance, ".sock" */

/* While it stops: for how long relays are closed in one turn of the loop (the clock is read once
 * for each STOP_STRIDE), the turns' distance, and how long peers may take to read what they are
 * owed. */
#define STOP_SLICE_NS 2000000
#define STOP_STRIDE 8
#define STOP_INTERVAL_MS 1
#define STOP_PATIENCE_MS 5000

struct daemon {
    uv_loop_t loop;
    const struct options *options;
    const struct relayd_config *config;
    struct local_routes *routes;
    struct deny_floor floor;
    struct endpoints *endpoints;
    struct planes planes;
    struct relayd_metrics metrics;
    struct relay_table *table;
    struct relay_context context;
    struct n2_server *n2;
    struct relayd_admin *admin;
    struct guard *guard;
    uv_signal_t term, interrupt, hangup;
    uv_timer_t stop;
    uint32_t socket_relays; /* that the socket plane may carry; 0: there is none */
    bool handles_ready;     /* the signals and the timer are initialised */
    uint64_t stop_at_ms;    /* when patience ends */
    uint64_t stop_cursor;
};

static int setup_failed(const char *what, int error)
{
    LOG(LOG_LEVEL_ERROR, "start-failed", LOG_S("what", what), LOG_ERRNO(error));
    return error;
}

/* ---- the end -------------------------------------------------------------------------------- */

/* Whatever exists is closed; the loop then runs out. Also after a set-up that failed half-way. */
static void daemon_close(struct daemon *daemon)
{
    guard_stop(daemon->guard);
    relayd_admin_close(daemon->admin);
    n2_server_close(daemon->n2);
    for (size_t i = 0; i < daemon->planes.count; i++) {
        daemon->planes.list[i]->ops->free(daemon->planes.list[i]);
    }
    local_routes_close(daemon->routes);
    if (daemon->handles_ready) {
        uv_close((uv_handle_t *)&daemon->term, NULL);
        uv_close((uv_handle_t *)&daemon->interrupt, NULL);
        uv_close((uv_handle_t *)&daemon->hangup, NULL);
        uv_close((uv_handle_t *)&daemon->stop, NULL);
        service_watchdog_stop();
    }
    daemon->guard = NULL;
    daemon->admin = NULL;
    daemon->n2 = NULL;
    daemon->planes.count = 0;
    daemon->routes = NULL;
    daemon->handles_ready = false;
}

/* Closes up to STOP_STRIDE relays. False: there are no more, or the peers do not read; their queues
 * are bounded, and each RelayClosed is owed. */
static bool daemon_close_some(struct daemon *daemon, bool overdue)
{
    for (int i = 0; i < STOP_STRIDE; i++) {
        struct relay *relay = overdue || n2_server_takes_more(daemon->n2)
                                  ? relay_table_next(daemon->table, &daemon->stop_cursor)
                                  : NULL;
        if (relay == NULL) {
            return false;
        }
        relay_close(relay, N2_REASON_SHUTDOWN);
    }
    return true;
}

static void daemon_stop_tick(uv_timer_t *timer)
{
    struct daemon *daemon = timer->data;
    bool overdue = uv_now(&daemon->loop) >= daemon->stop_at_ms;
    uint64_t slice_end = uv_hrtime() + STOP_SLICE_NS;

    while (daemon_close_some(daemon, overdue) && uv_hrtime() < slice_end) {
    }
    if (relay_table_count(daemon->table) == 0 && (overdue || n2_server_is_flushed(daemon->n2))) {
        daemon_close(daemon);
    }
}

static void daemon_stop(uv_signal_t *handle, int number)
{
    struct daemon *daemon = handle->data;

    if (daemon->context.draining) {
        daemon->stop_at_ms = uv_now(&daemon->loop); /* asked twice: wait for no peer */
        return;
    }
    LOG(LOG_LEVEL_NOTICE, "stopping", LOG_S("signal", strsignal(number)),
        LOG_U("relays", relay_table_count(daemon->table)));
    service_stopping();
    daemon->context.draining = true;
    guard_stop(daemon->guard);
    daemon->guard = NULL;
    n2_server_stop_listening(daemon->n2);
    daemon->stop_at_ms = uv_now(&daemon->loop) + STOP_PATIENCE_MS;
    uv_timer_start(&daemon->stop, daemon_stop_tick, 0, STOP_INTERVAL_MS);
}

static void daemon_hangup(uv_signal_t *handle, int number)
{
    (void)handle;
    (void)number;
    LOG(LOG_LEVEL_NOTICE, "reload-needs-restart",
        LOG_S("text", "the configuration is read at start only"));
}

/* ---- set-up --------------------------------------------------------------------------------- */

static void setup_handles(struct daemon *daemon)
{
    uv_signal_init(&daemon->loop, &daemon->term);
    uv_signal_init(&daemon->loop, &daemon->interrupt);
    uv_signal_init(&daemon->loop, &daemon->hangup);
    uv_timer_init(&daemon->loop, &daemon->stop);
    daemon->term.data = daemon;
    daemon->interrupt.data = daemon;
    daemon->hangup.data = daemon;
    daemon->stop.data = daemon;
    uv_signal_start(&daemon->term, daemon_stop, SIGTERM);
    uv_signal_start(&daemon->interrupt, daemon_stop, SIGINT);
    uv_signal_start(&daemon->hangup, daemon_hangup, SIGHUP);
    service_watchdog_start(&daemon->loop);
    daemon->handles_ready = true;
}

static enum plane_choice chosen_plane(const struct daemon *daemon)
{
    return daemon->options->plane >= 0 ? (enum plane_choice)daemon->options->plane
                                       : (enum plane_choice)daemon->config->plane;
}

/* Relays that sockets may carry: limits.relays, as far as there are descriptors for. A faster plane
 * has half of them for the ports that it holds. */
static uint32_t socket_relays(const struct daemon *daemon)
{
    unsigned fds = daemon->options->transport->fds_per_relay;
    uint64_t wanted = daemon->config->limits.relays, relays;

    if (daemon->planes.count == 0) {
        relays = fd_budget_clamp("limits.relays", wanted, fds);
    } else {
        relays = fd_budget_total() / 2 / fds;
    }
    relays = relays < wanted ? relays : wanted;
    return relays == 0 ? 1 : (uint32_t)relays;
}

/* A relayd of this name that was killed may have left stubs: they do nothing, but add up. */
static void remove_stubs(const struct daemon *daemon)
{
    int removed = program_remove_stubs(daemon->options->instance);
    if (removed > 0) {
        LOG(LOG_LEVEL_NOTICE, "stubs-removed", LOG_I("count", removed));
    } else if (removed < 0) {
        LOG(LOG_LEVEL_NOTICE, "stubs-left", LOG_ERRNO(removed));
    }
}

static int setup_bpf_plane(struct daemon *daemon)
{
    const char *why = NULL;
    struct plane *plane;
    const struct bpf_plane_config config = {
        .config = daemon->config,
        .endpoints = daemon->endpoints,
        .transport = daemon->options->transport,
        .mode = (enum attach_mode)daemon->options->attach,
        .instance = daemon->options->instance,
        .relays = (uint32_t)daemon->config->limits.relays,
        .alone = chosen_plane(daemon) == PLANE_BPF,
    };

    remove_stubs(daemon);
    int result = bpf_plane_new(&plane, &daemon->loop, &config, &why);
    if (result == 0) {
        planes_add(&daemon->planes, plane);
        return 0;
    }
    if (chosen_plane(daemon) == PLANE_BPF) {
        LOG(LOG_LEVEL_ERROR, "start-failed", LOG_S("what", "BPF plane"), LOG_S("why", why),
            LOG_ERRNO(result));
        return result;
    }
    daemon->planes.missing = why;
    LOG(LOG_LEVEL_NOTICE, "no-bpf-plane", LOG_S("why", why), LOG_ERRNO(result));
    return 0;
}

static int setup_socket_plane(struct daemon *daemon)
{
    struct plane *plane;

    daemon->socket_relays = socket_relays(daemon);
    int result = socket_plane_new(&plane, &daemon->loop, daemon->config, daemon->endpoints,
                                  daemon->socket_relays);
    if (result < 0) {
        return setup_failed("socket plane", result);
    }
    planes_add(&daemon->planes, plane);
    return 0;
}

/* The fastest first. */
static int setup_planes(struct daemon *daemon)
{
    int result = 0;

    daemon->planes.configured = chosen_plane(daemon) != PLANE_AUTO;
    if (chosen_plane(daemon) != PLANE_SOCKET) {
        result = setup_bpf_plane(daemon);
    }
    if (result == 0 && chosen_plane(daemon) != PLANE_BPF) {
        result = setup_socket_plane(daemon);
    }
    return result;
}

static int setup_relays(struct daemon *daemon)
{
    const struct relayd_config *config = daemon->config;
    const struct transport *transport = daemon->options->transport;

    int result = local_routes_open(&daemon->routes, &daemon->loop, NULL, NULL);
    if (result < 0) {
        return setup_failed("routes of the host", result);
    }
    daemon->floor = (struct deny_floor){.routes = daemon->routes,
                                        .open = config->deny_floor.open.items,
                                        .open_count = config->deny_floor.open.count};
    result = endpoints_new(&daemon->endpoints, config, daemon->routes, 0);
    if (result < 0) {
        return setup_failed("addresses and ports", result);
    }
    result = setup_planes(daemon);
    if (result < 0) {
        return result;
    }
    uint32_t relays = planes_need_descriptors(&daemon->planes) ? daemon->socket_relays
                                                               : (uint32_t)config->limits.relays;
    result = relay_table_new(&daemon->table, relays);
    if (result < 0) {
        return setup_failed("table of relays", result);
    }
    relayd_metrics_init(&daemon->metrics);
    relayd_metrics_set(&daemon->metrics, RELAYD_RELAYS_MAX, relay_table_max(daemon->table));
    daemon->context = (struct relay_context){.loop = &daemon->loop,
                                             .transport = transport,
                                             .floor = &daemon->floor,
                                             .endpoints = daemon->endpoints,
                                             .planes = &daemon->planes,
                                             .table = daemon->table,
                                             .metrics = &daemon->metrics};
    result = guard_start(&daemon->guard, config, &daemon->context);
    return result < 0 ? setup_failed("guard", result) : 0;
}

/* Would a client of this address get a BND? */
static bool serves_client(const struct daemon *daemon, const char *text)
{
    struct ip_address client, bound, none = {.family = IP_NONE};

    return ip_address_parse(text, &client) == 0 &&
           endpoints_choose_bound(daemon->endpoints, &client, &none, &bound) == 0;
}

static uint32_t bound_families(const struct daemon *daemon)
{
    uint32_t families = 0;

    if (serves_client(daemon, "192.0.2.1") || serves_client(daemon, "127.0.0.1")) {
        families |= N2_FAMILY_V4;
    }
    if (serves_client(daemon, "2001:db8::1") || serves_client(daemon, "::1")) {
        families |= N2_FAMILY_V6;
    }
    return families;
}

static struct n2_hello hello_of(const struct daemon *daemon)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct n2_hello hello = {
        .major = N2_VERSION_MAJOR,
        .minor = N2_VERSION_MINOR,
        .boot_epoch = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec,
        .ptcl = daemon->options->transport->ptcl,
        .planes = planes_bits(&daemon->planes),
        .families = bound_families(daemon),
        .capacity = relay_table_max(daemon->table),
    };
    snprintf(hello.build, sizeof(hello.build), "%s", SOCKST_VERSION);
    snprintf(hello.instance, sizeof(hello.instance), "%s", daemon->options->instance);
    return hello;
}

/* Before anything is attached: whoever is started twice under one name ends here, and has not
 * touched what the first one lives on. */
static int setup_n2(struct daemon *daemon)
{
    char path[PATH_TEXT_MAX];
    snprintf(path, sizeof(path), "%s/%s.sock", daemon->config->n2.directory,
             daemon->options->instance);
    struct n2_server_config config = {
        .fd = service_take_fd("n2"), .path = path, .allow_users = &daemon->config->n2.allow_users};
    n2_link_config_init(&config.link, N2_ROLE_RELAYD);
    daemon->context.loop = &daemon->loop; /* the rest follows before the first connection */
    int result = n2_server_open(&daemon->n2, &daemon->context, &config);
    return result < 0 ? setup_failed(config.fd >= 0 ? "inherited N2 socket" : path, result) : 0;
}

static void announce(struct daemon *daemon)
{
    const struct n2_hello hello = hello_of(daemon);

    if (hello.families == 0) {
        LOG(LOG_LEVEL_WARNING, "no-bind-address",
            LOG_S("text", "bind.addresses has none that a client could reach"));
    }
    n2_server_announce(daemon->n2, &hello);
}

static gid_t admin_group(const char *name)
{
    if (name == NULL) {
        return (gid_t)-1;
    }
    const struct group *group = getgrnam(name);
    if (group == NULL) {
        LOG(LOG_LEVEL_WARNING, "unknown-group", LOG_S("option", "admin.group"),
            LOG_S("group", name));
        return (gid_t)-1;
    }
    return group->gr_gid;
}

static void warn_about_descriptors(const struct daemon *daemon)
{
    unsigned long long wanted = daemon->config->limits.relays;

    if (daemon->socket_relays == 0 || daemon->socket_relays >= wanted) {
        return;
    }
    if (planes_need_descriptors(&daemon->planes)) {
        relayd_admin_warn(daemon->admin,
                          "limits.relays is %llu, but the limit of open files allows only %u",
                          wanted, daemon->socket_relays);
    } else {
        relayd_admin_warn(daemon->admin,
                          "sockets carry only %u of the %llu relays of limits.relays: the limit "
                          "of open files",
                          daemon->socket_relays, wanted);
    }
}

static int setup_admin(struct daemon *daemon)
{
    char path[PATH_TEXT_MAX];
    snprintf(path, sizeof(path), "%s/%s.sock", daemon->config->admin.directory,
             daemon->options->instance);
    struct relayd_admin_config config = {.context = &daemon->context,
                                         .instance = daemon->options->instance};
    admin_server_config_init(&config.server);
    config.server.fd = service_take_fd("admin");
    config.server.path = path;
    config.server.group = admin_group(daemon->config->admin.group);
    int result = relayd_admin_open(&daemon->admin, &config);
    if (result < 0) {
        return setup_failed(config.server.fd >= 0 ? "inherited admin socket" : path, result);
    }
    warn_about_descriptors(daemon);
    if (daemon->planes.missing != NULL) {
        relayd_admin_warn(daemon->admin, "the BPF plane is not used: %s; sockets carry all relays",
                          daemon->planes.missing);
    }
    return 0;
}

static int setup_confinement(struct daemon *daemon)
{
    int result = privileges_drop();
    if (result < 0) {
        return setup_failed("dropping privileges", result);
    }
    result = sandbox_enter(SANDBOX_RELAYD);
    if (result == -ENOSYS) {
        LOG(LOG_LEVEL_WARNING, "no-sandbox", LOG_ERRNO(result));
        relayd_admin_warn(daemon->admin, "this kernel has no seccomp: there is no sandbox");
        return 0;
    }
    return result < 0 ? setup_failed("sandbox", result) : 0;
}

static void say_ready(const struct daemon *daemon)
{
    char status[128];

    snprintf(status, sizeof(status), "relaying %s", daemon->options->instance);
    LOG(LOG_LEVEL_NOTICE, "started", LOG_S("instance", daemon->options->instance),
        LOG_S("version", SOCKST_VERSION), LOG_U("relays_max", relay_table_max(daemon->table)));
    service_ready(status);
    if (daemon->options->ready_fd >= 0) {
        if (write(daemon->options->ready_fd, "READY\n", 6) != 6) {
            LOG(LOG_LEVEL_WARNING, "ready-fd", LOG_ERRNO(errno));
        }
        close(daemon->options->ready_fd);
    }
}

static int daemon_setup(struct daemon *daemon)
{
    signal(SIGPIPE, SIG_IGN);
    fd_budget_setup();
    int result = keyed_hash_setup();
    if (result < 0) {
        return setup_failed("random numbers", result);
    }
    result = service_listen_fds();
    if (result < 0) {
        return setup_failed("inherited sockets", result);
    }
    setup_handles(daemon);
    if ((result = setup_n2(daemon)) < 0 || (result = setup_relays(daemon)) < 0 ||
        (result = setup_admin(daemon)) < 0) {
        return result;
    }
    announce(daemon);
    service_close_unused_fds();
    return setup_confinement(daemon);
}

/* ---- lifecycle ------------------------------------------------------------------------------ */

int daemon_new(struct daemon **out, const struct options *options,
               const struct relayd_config *config)
{
    int result = service_setup_standard_fds();
    if (result < 0) {
        return setup_failed("/dev/null", result);
    }
    struct daemon *daemon = calloc(1, sizeof(*daemon));
    if (daemon == NULL) {
        return -ENOMEM;
    }
    daemon->options = options;
    daemon->config = config;
    result = uv_loop_init(&daemon->loop);
    if (result < 0) {
        free(daemon);
        return setup_failed("event loop", result);
    }
    result = daemon_setup(daemon);
    if (result < 0) {
        daemon_free(daemon);
        return result;
    }
    *out = daemon;
    return 0;
}

int daemon_run(struct daemon *daemon)
{
    log_loop_start(&daemon->loop);
    say_ready(daemon);
    uv_run(&daemon->loop, UV_RUN_DEFAULT);
    log_loop_stop();
    LOG(LOG_LEVEL_NOTICE, "stopped", LOG_S("instance", daemon->options->instance));
    return 0;
}

void daemon_free(struct daemon *daemon)
{
    if (daemon == NULL) {
        return;
    }
    daemon_close(daemon);
    uv_run(&daemon->loop, UV_RUN_DEFAULT); /* the last close callbacks */
    if (uv_loop_close(&daemon->loop) < 0) {
        LOG(LOG_LEVEL_ERROR, "loop-busy", LOG_S("text", "a handle was not closed"));
    }
    relay_table_free(daemon->table);
    endpoints_free(daemon->endpoints);
    free(daemon);
}
