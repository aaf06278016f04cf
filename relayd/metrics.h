/*
 * relayd's own counters. What a plane counts it adds itself (plane->ops->status).
 */
#ifndef SOCKST_RELAYD_METRICS_H
#define SOCKST_RELAYD_METRICS_H

#include "common/metrics.h"
#include "proto/admin.h"

enum relayd_metric {
    RELAYD_RELAYS, /* all of them, then by state, as enum relay_state */
    RELAYD_RELAYS_OPENING,
    RELAYD_RELAYS_WAITING,
    RELAYD_RELAYS_ACTIVE,
    RELAYD_RELAYS_CLOSING,
    RELAYD_RELAYS_ORPHANED,
    RELAYD_RELAYS_MAX,
    RELAYD_RELAYS_PLANE, /* one for each plane, from N2_PLANE_SOCKET on */
    RELAYD_RELAYS_PLANE_LAST = RELAYD_RELAYS_PLANE + N2_PLANE_END - 2,
    RELAYD_ORDERS,
    RELAYD_OPENED,
    RELAYD_FAILED, /* all of them, then by enum n2_error */
    RELAYD_FAILED_LAST = RELAYD_FAILED + N2_ERROR_END - 1,
    RELAYD_CLOSED, /* all of them, then by enum n2_reason */
    RELAYD_CLOSED_LAST = RELAYD_CLOSED + N2_REASON_END - 1,
    RELAYD_UP_PACKETS, /* of relays that have ended */
    RELAYD_UP_BYTES,
    RELAYD_DOWN_PACKETS,
    RELAYD_DOWN_BYTES,
    RELAYD_PLANE_TRAFFIC, /* the same four for each plane */
    RELAYD_PLANE_TRAFFIC_LAST = RELAYD_PLANE_TRAFFIC + 4 * (N2_PLANE_END - N2_PLANE_SOCKET) - 1,
    RELAYD_STRANGER_PACKETS,
    RELAYD_FLOODS,
    RELAYD_QUESTIONS, /* Authorize */
    RELAYD_QUESTIONS_UNANSWERED,
    RELAYD_N2_PEERS,
    RELAYD_N2_ACCEPTED,
    RELAYD_N2_REFUSED,
    RELAYD_N2_LOST,
    RELAYD_N2_BAD_MESSAGES,
    RELAYD_N2_UNKNOWN_RELAY,
    RELAYD_N2_EVENTS_DROPPED,
    RELAYD_METRIC_COUNT,
};

struct relayd_metrics {
    struct metric rows[RELAYD_METRIC_COUNT];
};

void relayd_metrics_init(struct relayd_metrics *metrics);
void relayd_metrics_add(struct relayd_metrics *metrics, enum relayd_metric which, uint64_t value);
void relayd_metrics_subtract(struct relayd_metrics *metrics, enum relayd_metric which,
                             uint64_t value);
void relayd_metrics_set(struct relayd_metrics *metrics, enum relayd_metric which, uint64_t value);
uint64_t relayd_metrics_get(const struct relayd_metrics *metrics, enum relayd_metric which);

/* Counts a failure, a closure: in all, and by its cause. */
void relayd_metrics_failed(struct relayd_metrics *metrics, enum n2_error error);
void relayd_metrics_closed(struct relayd_metrics *metrics, enum n2_plane plane,
                           enum n2_reason reason, const struct n2_counters *counters);
/* A relay came to a plane (1) or left it (-1). */
void relayd_metrics_plane(struct relayd_metrics *metrics, enum n2_plane plane, int difference);

#endif
