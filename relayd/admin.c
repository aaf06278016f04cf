#include "relayd/admin.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/admin/status.h"
#include "common/log/log.h"

struct relayd_admin {
    struct relay_context *context;
    struct admin_server *server;
    char instance[N2_LABEL_MAX + 1];
    uint64_t started_at_ms;
    size_t warning_count;
    char warnings[ADMIN_WARNINGS_MAX][ADMIN_TEXT_MAX + 1];
};

/* ---- status --------------------------------------------------------------------------------- */

static void admin_status(void *user, struct admin_status *out)
{
    const struct relayd_admin *admin = user;
    const struct relay_context *context = admin->context;

    *out = (struct admin_status){
        .pid = (uint32_t)getpid(),
        .ptcl = context->transport->ptcl,
        .uptime_ms = uv_now(context->loop) - admin->started_at_ms,
    };
    snprintf(out->daemon, sizeof(out->daemon), "relayd");
    snprintf(out->instance, sizeof(out->instance), "%s", admin->instance);
    snprintf(out->version, sizeof(out->version), "%s", SOCKST_VERSION);
    snprintf(out->state, sizeof(out->state), "%s", context->draining ? "stopping" : "running");
    for (size_t i = 0; i < RELAYD_METRIC_COUNT; i++) {
        admin_status_counter(out, context->metrics->rows[i].name, context->metrics->rows[i].value);
    }
    admin_status_counter(out, "log_lines_lost", log_lost());
    out->warning_count = (uint32_t)admin->warning_count;
    memcpy(out->warnings, admin->warnings, sizeof(out->warnings));
    for (size_t i = 0; i < context->planes->count; i++) {
        const struct plane *plane = context->planes->list[i];
        plane->ops->status(plane, out);
    }
}

void relayd_admin_warn(struct relayd_admin *admin, const char *format, ...)
{
    if (admin->warning_count == ADMIN_WARNINGS_MAX) {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(admin->warnings[admin->warning_count++], sizeof(admin->warnings[0]), format,
              arguments);
    va_end(arguments);
}

/* ---- relays --------------------------------------------------------------------------------- */

void relayd_admin_describe(const struct relay *relay, const char *instance, struct admin_relay *out)
{
    *out = (struct admin_relay){
        .relay = relay->id,
        .kind = relay->kind,
        .ptcl = relay->peer->context->transport->ptcl,
        .plane = relay->plane->ops->id,
        .source = relay->source,
        .bound = relay->bound,
        .egress = relay->egress,
        .destination = relay->destination,
        .age_ms = uv_now(relay->peer->context->loop) - relay->opened_at_ms,
    };
    snprintf(out->instance, sizeof(out->instance), "%s", instance);
    snprintf(out->state, sizeof(out->state), "%s", relay_state_name(relay->state));
    snprintf(out->plane_reason, sizeof(out->plane_reason), "%s", relay->plane_reason);
    snprintf(out->user, sizeof(out->user), "%s", label_text(relay->user));
    snprintf(out->rule, sizeof(out->rule), "%s", label_text(relay->rule));
    relay->plane->ops->counters(relay->plane, relay, &out->counters, &out->idle_ms);
}

static bool admin_next_relay(void *user, uint64_t *cursor, struct admin_relay *out)
{
    const struct relayd_admin *admin = user;
    const struct relay *relay = relay_table_next(admin->context->table, cursor);
    if (relay == NULL) {
        return false;
    }
    relayd_admin_describe(relay, admin->instance, out);
    return true;
}

static bool admin_show_relay(void *user, uint64_t id, struct admin_relay *out)
{
    const struct relayd_admin *admin = user;
    const struct relay *relay = relay_table_find(admin->context->table, id);
    if (relay == NULL) {
        return false;
    }
    relayd_admin_describe(relay, admin->instance, out);
    return true;
}

static int admin_close_relay(void *user, uint64_t id)
{
    const struct relayd_admin *admin = user;
    struct relay *relay = relay_table_find(admin->context->table, id);
    if (relay == NULL) {
        return -ENOENT;
    }
    LOG(LOG_LEVEL_NOTICE, "relay-closed-by-admin", LOG_U("relay", id));
    relay_close(relay, N2_REASON_ADMIN);
    return 0;
}

static const struct admin_server_ops server_ops = {
    .status = admin_status,
    .next_relay = admin_next_relay,
    .show_relay = admin_show_relay,
    .close_relay = admin_close_relay,
};

/* ---- lifecycle ------------------------------------------------------------------------------ */

int relayd_admin_open(struct relayd_admin **out, const struct relayd_admin_config *config)
{
    struct relayd_admin *admin = calloc(1, sizeof(*admin));
    if (admin == NULL) {
        if (config->server.fd >= 0) {
            close(config->server.fd);
        }
        return -ENOMEM;
    }
    admin->context = config->context;
    admin->started_at_ms = uv_now(config->context->loop);
    snprintf(admin->instance, sizeof(admin->instance), "%s", config->instance);
    int result = admin_server_open(&admin->server, config->context->loop, &config->server,
                                   &server_ops, admin);
    if (result < 0) {
        free(admin);
        return result;
    }
    *out = admin;
    return 0;
}

void relayd_admin_close(struct relayd_admin *admin)
{
    if (admin == NULL) {
        return;
    }
    admin_server_close(admin->server); /* calls nobody any more */
    free(admin);
}
