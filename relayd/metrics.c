#include "relayd/metrics.h"

#include <assert.h>
#include <string.h>

#define COUNTER(name_, help_)                                                                      \
    {                                                                                              \
        .name = (name_), .type = METRIC_COUNTER, .help = (help_)                                   \
    }
#define GAUGE(name_, help_)                                                                        \
    {                                                                                              \
        .name = (name_), .type = METRIC_GAUGE, .help = (help_)                                     \
    }
#define FAILED(error_, name_)                                                                      \
    [RELAYD_FAILED + (error_)] =                                                                   \
        COUNTER("relays_failed_" name_, "Orders refused or failed for this cause.")
#define CLOSED(reason_, name_)                                                                     \
    [RELAYD_CLOSED + (reason_)] = COUNTER("relays_closed_" name_, "Relays ended for this reason.")

#define OF_PLANE(plane_, nth_, name_)                                                              \
    [RELAYD_PLANE_TRAFFIC + 4 * ((plane_)-N2_PLANE_SOCKET) + (nth_)] =                             \
        COUNTER(name_, "Of the plane's relays that have ended.")

static const struct metric standard[RELAYD_METRIC_COUNT] = {
    [RELAYD_RELAYS] = GAUGE("relays", "Relays in the table."),
    [RELAYD_RELAYS_OPENING] = GAUGE("relays_opening", "Relays that are not answered yet."),
    [RELAYD_RELAYS_WAITING] = GAUGE("relays_waiting", "Relays whose client has not come yet."),
    [RELAYD_RELAYS_ACTIVE] = GAUGE("relays_active", "Relays whose client has come."),
    [RELAYD_RELAYS_CLOSING] = GAUGE("relays_closing", "Relays that are being taken down."),
    [RELAYD_RELAYS_ORPHANED] = GAUGE("relays_orphaned", "Relays of N2 peers that were lost."),
    [RELAYD_RELAYS_MAX] =
        GAUGE("relays_max",
              "limits.relays; clamped to the descriptors at hand where every relay needs some."),
    [RELAYD_RELAYS_PLANE] = GAUGE("relays_plane_socket", "Relays carried by sockets."),
    [RELAYD_RELAYS_PLANE + 1] = GAUGE("relays_plane_bpf", "Relays carried by the kernel."),
    [RELAYD_ORDERS] = COUNTER("orders", "OpenRelay messages."),
    [RELAYD_OPENED] = COUNTER("relays_opened", "Orders answered with RelayOpened."),
    [RELAYD_FAILED] = COUNTER("relays_failed", "Orders answered with RelayFailed."),
    FAILED(N2_ERROR_GENERAL, "general"),
    FAILED(N2_ERROR_NOT_ALLOWED, "not_allowed"),
    FAILED(N2_ERROR_NETWORK_UNREACHABLE, "network_unreachable"),
    FAILED(N2_ERROR_HOST_UNREACHABLE, "host_unreachable"),
    FAILED(N2_ERROR_REFUSED, "refused"),
    FAILED(N2_ERROR_TIMED_OUT, "timed_out"),
    FAILED(N2_ERROR_UNSUPPORTED, "unsupported"),
    FAILED(N2_ERROR_DRAINING, "draining"),
    [RELAYD_CLOSED] = COUNTER("relays_closed", "Relays that were open and have ended."),
    CLOSED(N2_REASON_FINISHED, "finished"),
    CLOSED(N2_REASON_CONTROL_CLOSED, "control_closed"),
    CLOSED(N2_REASON_CLIENT_RESET, "client_reset"),
    CLOSED(N2_REASON_TARGET_RESET, "target_reset"),
    CLOSED(N2_REASON_ACCEPT_TIMEOUT, "accept_timeout"),
    CLOSED(N2_REASON_FIN_TIMEOUT, "fin_timeout"),
    CLOSED(N2_REASON_IDLE_TIMEOUT, "idle_timeout"),
    CLOSED(N2_REASON_LIMIT, "limit"),
    CLOSED(N2_REASON_ADMIN, "admin"),
    CLOSED(N2_REASON_GUARD, "guard"),
    CLOSED(N2_REASON_PEER_LOST, "peer_lost"),
    CLOSED(N2_REASON_SHUTDOWN, "shutdown"),
    CLOSED(N2_REASON_PLANE_LOST, "plane_lost"),
    CLOSED(N2_REASON_POLICY, "policy"),
    CLOSED(N2_REASON_ERROR, "error"),
    [RELAYD_UP_PACKETS] = COUNTER("up_packets", "Client to target, of relays that have ended."),
    [RELAYD_UP_BYTES] = COUNTER("up_bytes", "Client to target, of relays that have ended."),
    [RELAYD_DOWN_PACKETS] = COUNTER("down_packets", "Target to client, of relays that have ended."),
    [RELAYD_DOWN_BYTES] = COUNTER("down_bytes", "Target to client, of relays that have ended."),
    OF_PLANE(N2_PLANE_SOCKET, 0, "up_packets_plane_socket"),
    OF_PLANE(N2_PLANE_SOCKET, 1, "up_bytes_plane_socket"),
    OF_PLANE(N2_PLANE_SOCKET, 2, "down_packets_plane_socket"),
    OF_PLANE(N2_PLANE_SOCKET, 3, "down_bytes_plane_socket"),
    OF_PLANE(N2_PLANE_BPF, 0, "up_packets_plane_bpf"),
    OF_PLANE(N2_PLANE_BPF, 1, "up_bytes_plane_bpf"),
    OF_PLANE(N2_PLANE_BPF, 2, "down_packets_plane_bpf"),
    OF_PLANE(N2_PLANE_BPF, 3, "down_bytes_plane_bpf"),
    [RELAYD_STRANGER_PACKETS] = COUNTER(
        "stranger_packets", "Dropped because they came from elsewhere than S; of ended relays."),
    [RELAYD_FLOODS] = COUNTER("floods", "Floods of packets from strangers, by guard."),
    [RELAYD_QUESTIONS] = COUNTER("questions", "Authorize messages."),
    [RELAYD_QUESTIONS_UNANSWERED] =
        COUNTER("questions_unanswered", "Authorize messages without an answer in time."),
    [RELAYD_N2_PEERS] = GAUGE("n2_peers", "N2 connections."),
    [RELAYD_N2_ACCEPTED] = COUNTER("n2_accepted", "N2 connections accepted."),
    [RELAYD_N2_REFUSED] =
        COUNTER("n2_refused", "N2 connections of foreign users or above the maximum."),
    [RELAYD_N2_LOST] = COUNTER("n2_lost", "N2 connections that ended."),
    [RELAYD_N2_BAD_MESSAGES] =
        COUNTER("n2_bad_messages", "Messages that were not valid or that no peer may send here."),
    [RELAYD_N2_UNKNOWN_RELAY] =
        COUNTER("n2_unknown_relay", "Messages about a relay that is not the sender's."),
    [RELAYD_N2_EVENTS_DROPPED] =
        COUNTER("n2_events_dropped", "RelayEvents not sent over a congested N2."),
};

_Static_assert(RELAYD_METRIC_COUNT <= ADMIN_COUNTERS_MAX, "a plane adds its own, too");

void relayd_metrics_init(struct relayd_metrics *metrics)
{
    memcpy(metrics->rows, standard, sizeof(metrics->rows));
}

void relayd_metrics_add(struct relayd_metrics *metrics, enum relayd_metric which, uint64_t value)
{
    metrics->rows[which].value += value;
}

void relayd_metrics_subtract(struct relayd_metrics *metrics, enum relayd_metric which,
                             uint64_t value)
{
    assert(metrics->rows[which].value >= value);
    metrics->rows[which].value -= value;
}

void relayd_metrics_set(struct relayd_metrics *metrics, enum relayd_metric which, uint64_t value)
{
    metrics->rows[which].value = value;
}

uint64_t relayd_metrics_get(const struct relayd_metrics *metrics, enum relayd_metric which)
{
    return metrics->rows[which].value;
}

void relayd_metrics_failed(struct relayd_metrics *metrics, enum n2_error error)
{
    relayd_metrics_add(metrics, RELAYD_FAILED, 1);
    relayd_metrics_add(metrics, RELAYD_FAILED + (unsigned)error, 1);
}

/* In the order of the rows: up packets, up bytes, down packets, down bytes. */
static void add_traffic(struct relayd_metrics *metrics, enum relayd_metric first,
                        const struct n2_counters *counters)
{
    relayd_metrics_add(metrics, first, counters->up_packets);
    relayd_metrics_add(metrics, first + 1, counters->up_bytes);
    relayd_metrics_add(metrics, first + 2, counters->down_packets);
    relayd_metrics_add(metrics, first + 3, counters->down_bytes);
}

void relayd_metrics_closed(struct relayd_metrics *metrics, enum n2_plane plane,
                           enum n2_reason reason, const struct n2_counters *counters)
{
    relayd_metrics_add(metrics, RELAYD_CLOSED, 1);
    relayd_metrics_add(metrics, RELAYD_CLOSED + (unsigned)reason, 1);
    add_traffic(metrics, RELAYD_UP_PACKETS, counters);
    add_traffic(metrics, RELAYD_PLANE_TRAFFIC + 4 * ((unsigned)plane - N2_PLANE_SOCKET), counters);
    relayd_metrics_add(metrics, RELAYD_STRANGER_PACKETS, counters->drops);
}

void relayd_metrics_plane(struct relayd_metrics *metrics, enum n2_plane plane, int difference)
{
    enum relayd_metric which = RELAYD_RELAYS_PLANE + (unsigned)plane - N2_PLANE_SOCKET;
    if (difference > 0) {
        relayd_metrics_add(metrics, which, 1);
    } else {
        relayd_metrics_subtract(metrics, which, 1);
    }
}
