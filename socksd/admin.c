#include "socksd/admin.h"

#include <errno.h>
#include <grp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/admin/status.h"
#include "common/log/log.h"
#include "common/system/service.h"

struct admin {
    struct admin_server *server;
    struct admin_source source;
    uint64_t started_ms;
    const uv_loop_t *loop;
};

void admin_status_warn(struct admin_status *status, const char *format, ...)
{
    va_list arguments;

    if (status->warning_count == ADMIN_WARNINGS_MAX)
        return;
    va_start(arguments, format);
    vsnprintf(status->warnings[status->warning_count++], ADMIN_TEXT_MAX + 1, format, arguments);
    va_end(arguments);
}

static void on_status(void *user, struct admin_status *out)
{
    const struct admin *admin = user;

    snprintf(out->daemon, sizeof(out->daemon), "socksd");
    snprintf(out->version, sizeof(out->version), "%s", SOCKST_VERSION);
    snprintf(out->state, sizeof(out->state), "%s",
             *admin->source.stopping ? "stopping" : "running");
    out->pid = (uint32_t)getpid();
    out->uptime_ms = uv_now(admin->loop) - admin->started_ms;
    for (size_t i = 0; i < COUNTER_END; i++) {
        const struct metric *row = &admin->source.counters->rows[i];
        struct admin_counter *to = &out->counters[out->counter_count++];
        snprintf(to->name, sizeof(to->name), "%s", row->name);
        to->value = row->value;
    }
    admin_status_counter(out, "log_lines_lost", log_lost());
    if (admin->source.warn)
        admin->source.warn(out, admin->source.user);
}

static const struct admin_server_ops ops = {.status = on_status};

static int group_of(const char *name, gid_t *out)
{
    *out = (gid_t)-1;
    if (!name)
        return 0;
    const struct group *group = getgrnam(name);
    if (!group) {
        LOG(LOG_LEVEL_ERROR, "admin-failed", LOG_S("group", name), LOG_S("why", "no such group"));
        return -ENOENT;
    }
    *out = group->gr_gid;
    return 0;
}

int admin_open(struct admin **out, uv_loop_t *loop, const char *socket_path, const char *group,
               const struct admin_source *source)
{
    struct admin_server_config config;

    *out = NULL;
    admin_server_config_init(&config);
    config.fd = service_take_fd("admin");
    config.path = socket_path;
    if (config.fd < 0 && !socket_path)
        return 0;
    int rc = group_of(group, &config.group);
    struct admin *admin = rc == 0 ? calloc(1, sizeof(*admin)) : NULL;
    if (!admin) {
        if (config.fd >= 0)
            close(config.fd);
        return rc < 0 ? rc : -ENOMEM;
    }
    admin->source = *source;
    admin->loop = loop;
    admin->started_ms = uv_now(loop);
    rc = admin_server_open(&admin->server, loop, &config, &ops, admin);
    if (rc < 0) {
        LOG(LOG_LEVEL_ERROR, "admin-failed", LOG_S("socket", socket_path), LOG_ERRNO(rc));
        free(admin);
        return rc;
    }
    *out = admin;
    return 0;
}

void admin_close(struct admin *admin)
{
    if (!admin)
        return;
    admin_server_close(admin->server);
    free(admin);
}
