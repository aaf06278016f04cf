#include "relayd/plane/socket/socket_plane.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "common/admin/status.h"
#include "common/log/log.h"
#include "relayd/plane/socket/flow.h"

static struct socket_plane *from_plane(struct plane *plane)
{
    return (struct socket_plane *)plane;
}

enum n2_error socket_plane_error(int error)
{
    switch (error) {
    case ECONNREFUSED:
    case ECONNRESET:
        return N2_ERROR_REFUSED;
    case ENETUNREACH:
    case ENETDOWN:
        return N2_ERROR_NETWORK_UNREACHABLE;
    case EHOSTUNREACH:
    case EHOSTDOWN:
        return N2_ERROR_HOST_UNREACHABLE;
    case ETIMEDOUT:
        return N2_ERROR_TIMED_OUT;
    case EACCES:
    case EPERM:
        return N2_ERROR_NOT_ALLOWED;
    default:
        return N2_ERROR_GENERAL;
    }
}

static const struct flow_ops *flow_of(const struct relay *relay)
{
    return relay_transport(relay)->flows[relay->kind];
}

void socket_plane_log_error(const struct relay *relay, const char *what, int error)
{
    static struct log_limit errors = LOG_LIMIT_INIT(100, 1000);

    LOG_LIMITED(&errors, LOG_LEVEL_WARNING, "relay-socket-error", LOG_U("relay", relay->id),
                LOG_S("what", what), LOG_E("destination", &relay->destination), LOG_ERRNO(error));
}

void socket_plane_disable_gso(struct socket_plane *plane, int error)
{
    if (plane->gso_disabled)
        return;
    plane->gso_disabled = true;
    LOG(LOG_LEVEL_NOTICE, "udp-segmentation-disabled", LOG_ERRNO(error));
}

static const char *socket_plane_refuses(const struct plane *plane, const struct relay *relay)
{
    (void)plane;
    return flow_of(relay) == NULL ? "sockets do not serve this kind for the protocol" : NULL;
}

static void socket_plane_open(struct plane *plane, struct relay *relay)
{
    struct socket_plane *socket_plane = from_plane(plane);

    if (socket_plane->flows >= socket_plane->flows_max) {
        socket_plane->flows_refused++;
        relay_open_failed(relay, N2_ERROR_GENERAL, "no descriptors left");
        return;
    }
    flow_of(relay)->open(socket_plane, relay);
}

static void socket_plane_close(struct plane *plane, struct relay *relay, bool abort)
{
    flow_of(relay)->close(from_plane(plane), relay, abort);
}

static void socket_plane_attach(struct plane *plane, struct relay *relay, int fd,
                                const uint8_t *early, size_t length)
{
    flow_of(relay)->attach(from_plane(plane), relay, fd, early, length);
}

static void socket_plane_counters(const struct plane *plane, const struct relay *relay,
                                  struct n2_counters *out, uint64_t *idle_ms)
{
    (void)plane;
    flow_of(relay)->counters(relay, out, idle_ms);
}

static uint64_t socket_plane_drops(const struct plane *plane, const struct relay *relay)
{
    (void)plane;
    return flow_of(relay)->drops(relay);
}

/* Addresses shown by themselves; the others are in the total alone. */
#define POOLS_SHOWN_MAX 16

struct pool_report {
    struct admin_status *status;
    unsigned shown;
    uint64_t total;
};

static void report_pool(const struct ip_address *address, uint32_t free_ports, void *user)
{
    struct pool_report *report = user;
    char text[ENDPOINT_TEXT_MAX], name[N2_LABEL_MAX + 1];

    report->total += free_ports;
    if (report->shown++ >= POOLS_SHOWN_MAX)
        return;
    snprintf(name, sizeof(name), "ports_free_%.50s",
             ip_address_format(address, text, sizeof(text)));
    admin_status_counter(report->status, name, free_ports);
}

static void report_associate(const struct associate_figures *figures, struct admin_status *out)
{
    admin_status_counter(out, "udp_malformed", figures->malformed);
    admin_status_counter(out, "udp_denied", figures->denied);
    admin_status_counter(out, "udp_unanswered", figures->unanswered);
    admin_status_counter(out, "udp_fragment_drops", figures->fragment_drops);
    admin_status_counter(out, "udp_unsolicited", figures->unsolicited);
    admin_status_counter(out, "udp_held_octets", figures->held_octets);
}

static void socket_plane_status(const struct plane *plane, struct admin_status *out)
{
    const struct socket_plane *socket_plane = (const struct socket_plane *)plane;
    struct pool_report report = {.status = out};
    struct pipe_pool_figures pipes;

    pipe_pool_figures(socket_plane->pipes, &pipes);
    admin_status_counter(out, "flows_open", socket_plane->flows);
    admin_status_counter(out, "flows_max", socket_plane->flows_max);
    admin_status_counter(out, "flows_refused", socket_plane->flows_refused);
    admin_status_counter(out, "pipes_open", pipes.open);
    admin_status_counter(out, "pipes_idle", pipes.idle);
    admin_status_counter(out, "pipes_shrunk", pipes.shrunk);
    admin_status_counter(out, "pipes_refused", pipes.refused);
    admin_status_counter(out, "tcp_copies", socket_plane->tcp_copies);
    admin_status_counter(out, "clients_refused", socket_plane->clients_refused);
    admin_status_counter(out, "udp_gso_disabled", socket_plane->gso_disabled);
    admin_status_counter(out, "udp_send_drops", socket_plane->udp_send_drops);
    admin_status_counter(out, "udp_rate_drops", socket_plane->udp_rate_drops);
    report_associate(&socket_plane->associate, out);
    endpoints_each_pool(socket_plane->endpoints, report_pool, &report);
    admin_status_counter(out, "ports_free", report.total);
    if (pipes.shrunk != 0)
        admin_status_warning(out,
                             "pipes are smaller than tcp.pipe-size: raise fs.pipe-user-pages-soft "
                             "or fs.pipe-max-size");
    if (socket_plane->gso_disabled)
        admin_status_warning(out,
                             "UDP segmentation offload is off: this kernel or device refuses it");
}

static void on_throttle_closed(uv_handle_t *handle)
{
    struct throttle *throttle = handle->data;

    free((char *)throttle - offsetof(struct socket_plane, throttle));
}

static void socket_plane_free(struct plane *plane)
{
    struct socket_plane *socket_plane = from_plane(plane);

    pipe_pool_free(socket_plane->pipes);
    throttle_close(&socket_plane->throttle, on_throttle_closed);
}

static const struct plane_ops socket_plane_ops = {
    .id = N2_PLANE_SOCKET,
    .needs_descriptors = true,
    .refuses = socket_plane_refuses,
    .open = socket_plane_open,
    .close = socket_plane_close,
    .counters = socket_plane_counters,
    .attach = socket_plane_attach,
    .drops = socket_plane_drops,
    .status = socket_plane_status,
    .free = socket_plane_free,
};

/* Linux 7.0 to 7.1.4 sends some batches of UDP_SEGMENT mangled. */
static bool kernel_mangles_gso(void)
{
    struct utsname name;
    unsigned major = 0, minor = 0, patch = 0;

    if (uname(&name) < 0 || sscanf(name.release, "%u.%u.%u", &major, &minor, &patch) < 2)
        return false;
    return major == 7 && (minor == 0 || (minor == 1 && patch <= 4));
}

int socket_plane_new(struct plane **out, uv_loop_t *loop, const struct relayd_config *config,
                     struct endpoints *endpoints, uint32_t relays_max)
{
    struct socket_plane *plane = calloc(1, sizeof(*plane));

    if (plane == NULL)
        return -ENOMEM;
    const int rc = pipe_pool_new(&plane->pipes, (size_t)config->tcp.pipe_size);
    if (rc < 0) {
        free(plane);
        return rc;
    }
    plane->base.ops = &socket_plane_ops;
    plane->loop = loop;
    plane->config = config;
    plane->endpoints = endpoints;
    plane->flows_max = relays_max;
    throttle_init(&plane->throttle, loop);
    if (kernel_mangles_gso())
        socket_plane_disable_gso(plane, EOPNOTSUPP);
    signal(SIGPIPE, SIG_IGN);
    *out = &plane->base;
    return 0;
}
