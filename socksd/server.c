/*
 *     server_new ─▶ server_run: privileges dropped, READY, serving ── SIGTERM ──▶ stopping: no new
 * client, every relay is closed │ last session gone, or STOP_PATIENCE_MS, or asked twice ▼ closed:
 * the loop runs out ─▶ server_free
 */
#include "socksd/server.h"

#include <errno.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/log/log.h"
#include "common/log/log_loop.h"
#include "common/system/fd_budget.h"
#include "common/system/privileges.h"
#include "common/system/service.h"
#include "proto/ptcl.h"
#include "socksd/admin.h"
#include "socksd/listener.h"
#include "socksd/session.h"

/* More than SESSION_ENDING_MS, so that each access-log record is written. */
#define STOP_PATIENCE_MS 6000

struct server {
    uv_loop_t loop;
    const struct socksd_config *config;
    struct counters counters;
    struct policy *policy;
    struct local_routes *routes;
    struct deny_floor floor;
    struct resolver *resolver;
    struct relay_pool *relays;
    struct session_set sessions;
    struct listeners *listeners;
    struct admin *admin;
    uv_signal_t term, interrupt, hangup;
    uv_timer_t patience;
    bool handles_ready; /* the signals and the timer are initialised */
    bool closed;
};

static int setup_failed(const char *what, int error)
{
    LOG(LOG_LEVEL_ERROR, "start-failed", LOG_S("what", what), LOG_ERRNO(error));
    return error;
}

/* ---- the end --------------------------------------------------------------------------------- */

/* Whatever exists is closed; the loop then runs out. Also after a set-up that failed half-way. */
static void server_close(struct server *server)
{
    if (server->closed)
        return;
    server->closed = true;
    listeners_close(server->listeners);
    server->listeners = NULL;
    if (server->sessions.loop)
        session_set_kill(&server->sessions);
    relay_pool_close(server->relays);
    resolver_close(server->resolver);
    admin_close(server->admin);
    local_routes_close(server->routes);
    if (server->handles_ready) {
        uv_close((uv_handle_t *)&server->term, NULL);
        uv_close((uv_handle_t *)&server->interrupt, NULL);
        uv_close((uv_handle_t *)&server->hangup, NULL);
        uv_close((uv_handle_t *)&server->patience, NULL);
        service_watchdog_stop();
    }
}

static void on_patience(uv_timer_t *timer)
{
    struct server *server = timer->data;
    LOG(LOG_LEVEL_WARNING, "stop-overdue", LOG_U("sessions", server->sessions.count));
    server_close(server);
}

static void on_stop(uv_signal_t *handle, int number)
{
    struct server *server = handle->data;

    if (server->sessions.stopping) {
        server_close(server); /* asked twice: wait for nobody */
        return;
    }
    LOG(LOG_LEVEL_NOTICE, "stopping", LOG_S("signal", strsignal(number)),
        LOG_U("sessions", server->sessions.count));
    service_stopping();
    listeners_close(server->listeners);
    server->listeners = NULL;
    session_set_stop(&server->sessions);
    if (server->sessions.count == 0)
        server_close(server);
    else
        uv_timer_start(&server->patience, on_patience, STOP_PATIENCE_MS, 0);
}

static void on_hangup(uv_signal_t *handle, int number)
{
    (void)handle;
    LOG(LOG_LEVEL_NOTICE, "reload-needs-restart", LOG_S("signal", strsignal(number)),
        LOG_S("text", "the configuration is read at start only"));
}

/* ---- what the parts tell each other ---------------------------------------------------------- */

static void on_accepted(int fd, const struct endpoint *peer, void *user)
{
    struct server *server = user;
    session_set_accept(&server->sessions, fd, peer);
}

static void on_session_gone(void *user)
{
    struct server *server = user;

    if (server->listeners)
        listeners_resume(server->listeners);
    if (server->sessions.stopping && server->sessions.count == 0)
        server_close(server);
}

static void on_congestion(bool congested, void *user)
{
    struct server *server = user;
    static struct log_limit limit = LOG_LIMIT_INIT(1, 10000);

    if (congested)
        LOG_LIMITED(&limit, LOG_LEVEL_WARNING, "n2-congested",
                    LOG_U("sessions", server->sessions.count));
    session_set_update_reading(&server->sessions);
}

static void on_warn(struct admin_status *out, void *user)
{
    const struct server *server = user;
    const struct relay_config *relays = server->config->relays.items;

    for (size_t i = 0; i < server->config->relays.count; i++) {
        const struct ptcl *ptcl = ptcl_by_name(relays[i].ptcl);
        if (!relay_pool_reaches(server->relays, ptcl->number))
            admin_status_warn(out, "%s: no relay daemon is connected (%s)", ptcl->name,
                              relays[i].socket);
    }
}

/* ---- set-up ---------------------------------------------------------------------------------- */

static void setup_handles(struct server *server)
{
    uv_signal_init(&server->loop, &server->term);
    uv_signal_init(&server->loop, &server->interrupt);
    uv_signal_init(&server->loop, &server->hangup);
    uv_timer_init(&server->loop, &server->patience);
    server->term.data = server->interrupt.data = server->hangup.data = server->patience.data =
        server;
    uv_signal_start(&server->term, on_stop, SIGTERM);
    uv_signal_start(&server->interrupt, on_stop, SIGINT);
    uv_signal_start(&server->hangup, on_hangup, SIGHUP);
    service_watchdog_start(&server->loop);
    server->handles_ready = true;
}

static int setup_judgement(struct server *server)
{
    const struct socksd_config *config = server->config;
    const struct resolver_config resolver = {
        .servers = config->resolver.servers.items,
        .server_count = config->resolver.servers.count,
        .timeout_ms = config->resolver.timeout_ms,
        .tries = config->resolver.tries,
        .queries = config->resolver.queries,
        .queries_per_address = config->resolver.queries_per_address,
    };

    int rc = policy_new(&server->policy, &config->rules);
    if (rc < 0)
        return setup_failed("rules", rc);
    rc = local_routes_open(&server->routes, &server->loop, NULL, NULL);
    if (rc < 0)
        return setup_failed("routes of the host", rc);
    server->floor = (struct deny_floor){.routes = server->routes,
                                        .open = config->deny_floor.open.items,
                                        .open_count = config->deny_floor.open.count};
    rc = resolver_open(&server->resolver, &server->loop, &resolver, &server->counters);
    return rc < 0 ? setup_failed("resolver", rc) : 0;
}

/* The uid that relay daemons have besides 0 and ours. */
static int relays_uid(const char *name, uid_t *out)
{
    *out = (uid_t)-1;
    if (!name)
        return 0;
    const struct passwd *user = getpwnam(name);
    if (user)
        *out = user->pw_uid;
    if (!user && name[strspn(name, "0123456789")] == '\0' && strlen(name) < 10) {
        *out = (uid_t)strtoul(name, NULL, 10);
        return 0;
    }
    /* The default user is made by the package; a host without it runs both daemons as one user. */
    return user || strcmp(name, "relayd") == 0 ? 0 : -ENOENT;
}

static int setup_relays(struct server *server)
{
    const struct socksd_config *config = server->config;
    const struct relay_config *rows = config->relays.items;
    struct relay_daemon_config daemon;
    struct timespec now;

    int rc = relays_uid(config->relays_user, &daemon.peer_uid);
    if (rc < 0)
        return setup_failed("relays-user", rc);
    n2_link_config_init(&daemon.link, N2_ROLE_SOCKSD);
    clock_gettime(CLOCK_REALTIME, &now);
    daemon.link.hello.boot_epoch = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
    rc = relay_pool_open(&server->relays, &server->loop, &server->counters, on_congestion, server);
    for (size_t i = 0; i < config->relays.count && rc == 0; i++) {
        daemon.ptcl = ptcl_by_name(rows[i].ptcl)->number;
        daemon.socket = rows[i].socket;
        rc = relay_pool_add(server->relays, &daemon);
    }
    return rc < 0 ? setup_failed("relays", rc) : 0;
}

static int setup_clients(struct server *server)
{
    const struct socksd_config *config = server->config;
    struct session_set *sessions = &server->sessions;
    const struct listeners_config listeners = {
        .addresses = config->listen.items,
        .count = config->listen.count,
        .keepalive = {.idle_s = (unsigned)(config->keepalive.idle_ms / 1000),
                      .interval_s = (unsigned)(config->keepalive.interval_ms / 1000),
                      .count = (unsigned)config->keepalive.count},
    };

    sessions->loop = &server->loop;
    sessions->config = config;
    sessions->policy = server->policy;
    sessions->floor = &server->floor;
    sessions->resolver = server->resolver;
    sessions->relays = server->relays;
    sessions->counters = &server->counters;
    sessions->limit = fd_budget_clamp("limits.sessions", config->limits.sessions, 1);
    sessions->gone = on_session_gone;
    sessions->user = server;
    session_set_init(sessions);
    return listeners_open(&server->listeners, &server->loop, &listeners, &server->counters,
                          on_accepted, server);
}

static int setup_admin(struct server *server)
{
    const struct admin_source source = {.counters = &server->counters,
                                        .stopping = &server->sessions.stopping,
                                        .warn = on_warn,
                                        .user = server};
    return admin_open(&server->admin, &server->loop, server->config->admin.socket,
                      server->config->admin.group, &source);
}

static int setup_all(struct server *server)
{
    int rc = service_listen_fds();
    if (rc < 0)
        return setup_failed("inherited sockets", rc);
    (void)fd_budget_setup();
    rc = keyed_hash_setup();
    if (rc < 0)
        return setup_failed("random key", rc);
    counters_init(&server->counters);
    setup_handles(server);
    rc = setup_judgement(server);
    if (rc == 0)
        rc = setup_relays(server);
    if (rc == 0)
        rc = setup_clients(server);
    if (rc == 0)
        rc = setup_admin(server);
    service_close_unused_fds();
    return rc;
}

int server_new(struct server **out, const struct socksd_config *config)
{
    int rc = service_setup_standard_fds();
    *out = NULL;
    if (rc < 0)
        return setup_failed("/dev/null", rc);
    struct server *server = calloc(1, sizeof(*server));
    if (!server)
        return setup_failed("memory", -ENOMEM);
    rc = uv_loop_init(&server->loop);
    if (rc < 0) {
        free(server);
        return setup_failed("event loop", rc);
    }
    signal(SIGPIPE, SIG_IGN);
    server->config = config;
    *out = server;
    return setup_all(server);
}

/* ---- serving --------------------------------------------------------------------------------- */

static int drop_power(void)
{
    int rc = privileges_drop();
    if (rc < 0)
        return setup_failed("privileges", rc);
    rc = sandbox_enter(SANDBOX_SOCKSD);
    if (rc == -ENOSYS) {
        LOG(LOG_LEVEL_WARNING, "sandbox-unavailable", LOG_ERRNO(rc));
        return 0;
    }
    return rc < 0 ? setup_failed("sandbox", rc) : 0;
}

int server_run(struct server *server)
{
    const int rc = drop_power();
    if (rc < 0)
        return rc;
    char status[64];
    snprintf(status, sizeof(status), "serving up to %llu sessions",
             (unsigned long long)server->sessions.limit);
    service_ready(status);
    log_loop_start(&server->loop);
    uv_run(&server->loop, UV_RUN_DEFAULT);
    log_loop_stop();
    LOG(LOG_LEVEL_NOTICE, "stopped",
        LOG_U("sessions", counter_value(&server->counters, COUNTER_SESSIONS_ACCEPTED)));
    return 0;
}

void server_free(struct server *server)
{
    if (!server)
        return;
    server_close(server);
    uv_run(&server->loop, UV_RUN_DEFAULT);
    if (uv_loop_close(&server->loop) < 0)
        LOG(LOG_LEVEL_ERROR, "loop-not-empty", LOG_S("text", "a handle was left open"));
    policy_free(server->policy);
    free(server);
}
