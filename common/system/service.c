#include "common/system/service.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "common/log/log.h"

static int ready_fd = -1;

static struct {
    uv_timer_t timer;
    bool open; /* the loop knows the timer, perhaps still closing it */
    bool closing;
} watchdog;

static struct {
    int count;
    char **names; /* of libsystemd; as many as count */
    bool taken[SERVICE_FDS_MAX];
} inherited;

int service_setup_standard_fds(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd < 0)
        return -errno;
    close(fd);
    return 0;
}

int service_ready_fd(int fd)
{
    int flags = fcntl(fd, F_GETFD);

    if (flags < 0 || fcntl(fd, F_SETFD, flags | FD_CLOEXEC) < 0)
        return -errno;
    ready_fd = fd;
    return 0;
}

static void finish_ready_fd(const char *line)
{
    ssize_t written;

    if (ready_fd < 0)
        return;
    /* Whoever reads it sees at least the end of file. */
    do
        written = line ? write(ready_fd, line, strlen(line)) : 0;
    while (written < 0 && errno == EINTR);
    close(ready_fd);
    ready_fd = -1;
}

void service_ready(const char *status)
{
    (void)sd_notifyf(0, "READY=1\nSTATUS=%s", status);
    LOG(LOG_LEVEL_NOTICE, "ready", LOG_S("status", status));
    finish_ready_fd("READY\n");
}

void service_reloading(void)
{
    struct timespec now = {0};

    clock_gettime(CLOCK_MONOTONIC, &now);
    (void)sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
                     (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000);
}

void service_status(const char *status)
{
    (void)sd_notifyf(0, "STATUS=%s", status);
}

void service_stopping(void)
{
    (void)sd_notify(0, "STOPPING=1");
    finish_ready_fd(NULL);
}

static void on_watchdog(uv_timer_t *timer)
{
    (void)timer;
    (void)sd_notify(0, "WATCHDOG=1");
}

void service_watchdog_start(uv_loop_t *loop)
{
    uint64_t interval_us = 0, half_ms;

    if (watchdog.open || sd_watchdog_enabled(0, &interval_us) <= 0)
        return;
    half_ms = interval_us / 2000 > 0 ? interval_us / 2000 : 1;
    uv_timer_init(loop, &watchdog.timer);
    uv_timer_start(&watchdog.timer, on_watchdog, half_ms, half_ms);
    uv_unref((uv_handle_t *)&watchdog.timer);
    watchdog.open = true;
    (void)sd_notify(0, "WATCHDOG=1");
}

static void on_watchdog_closed(uv_handle_t *handle)
{
    (void)handle;
    watchdog.open = watchdog.closing = false;
}

void service_watchdog_stop(void)
{
    if (!watchdog.open || watchdog.closing)
        return;
    watchdog.closing = true;
    uv_close((uv_handle_t *)&watchdog.timer, on_watchdog_closed);
}

static void free_names(char **names)
{
    for (char **name = names; name && *name; name++)
        free(*name);
    free(names);
}

int service_listen_fds(void)
{
    char **names = NULL;
    int count = sd_listen_fds_with_names(1, &names);

    if (count > SERVICE_FDS_MAX) {
        free_names(names);
        return -E2BIG;
    }
    if (count <= 0)
        return count;
    inherited.names = names;
    inherited.count = count;
    return count;
}

int service_take_fd(const char *name)
{
    for (int i = 0; i < inherited.count; i++) {
        int flags, fd = SD_LISTEN_FDS_START + i;

        if (inherited.taken[i] || strcmp(inherited.names[i], name) != 0)
            continue;
        inherited.taken[i] = true;
        flags = fcntl(fd, F_GETFL);
        if (flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) >= 0)
            return fd;
        LOG(LOG_LEVEL_WARNING, "inherited-socket-unusable", LOG_S("name", name), LOG_I("fd", fd),
            LOG_ERRNO(errno));
    }
    return -1;
}

void service_close_unused_fds(void)
{
    for (int i = 0; i < inherited.count; i++) {
        int fd = SD_LISTEN_FDS_START + i;

        if (inherited.taken[i])
            continue;
        LOG(LOG_LEVEL_WARNING, "inherited-socket-unused", LOG_S("name", inherited.names[i]),
            LOG_I("fd", fd));
        close(fd);
    }
    free_names(inherited.names);
    inherited.names = NULL;
    inherited.count = 0;
}
