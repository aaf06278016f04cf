#include "socksd/listener.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/log/log.h"
#include "common/net/sockaddr.h"
#include "common/system/fd_budget.h"
#include "common/system/service.h"

#define BACKLOG 4096         /* the kernel cuts it to net.core.somaxconn */
#define ACCEPTS_PER_EVENT 64 /* then the sessions that exist have their turn */
#define RETRY_MS 100         /* after EMFILE, when no session of ours ends */

struct listener {
    uv_poll_t poll;
    struct listeners *set;
    int fd;
    struct endpoint local;
};

struct listeners {
    uv_timer_t retry;
    struct counters *counters;
    listener_cb accepted;
    void *user;
    bool paused, closing;
    unsigned handles;
    size_t count;
    struct listener sockets[CONFIG_LISTEN_MAX];
};

/* ---- accepting ------------------------------------------------------------------------------- */

static void on_readable(uv_poll_t *poll, int status, int events);

static void set_paused(struct listeners *set, bool paused)
{
    if (set->paused == paused || set->closing)
        return;
    set->paused = paused;
    for (size_t i = 0; i < set->count; i++) {
        if (paused)
            uv_poll_stop(&set->sockets[i].poll);
        else
            uv_poll_start(&set->sockets[i].poll, UV_READABLE, on_readable);
    }
}

static void on_retry(uv_timer_t *timer)
{
    set_paused(timer->data, false);
}

static void pause_accepting(struct listeners *set, const char *why, bool retry)
{
    static struct log_limit limit = LOG_LIMIT_INIT(1, 10000);

    if (set->paused)
        return;
    set_paused(set, true);
    counter_add(set->counters, COUNTER_ACCEPT_PAUSES);
    LOG_LIMITED(&limit, LOG_LEVEL_WARNING, "accept-paused", LOG_S("why", why));
    if (retry)
        uv_timer_start(&set->retry, on_retry, RETRY_MS, 0);
}

/* What accept() failed with. False: there is no more to accept now. */
static bool survives(struct listeners *set, int error)
{
    static struct log_limit limit = LOG_LIMIT_INIT(5, 10000);

    switch (error) {
    case EAGAIN:
        return false;
    case EINTR:
    case ECONNABORTED:
        return true;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
        pause_accepting(set, strerror(error), true);
        return false;
    default: /* errors of the new connection: accept(2) */
        counter_add(set->counters, COUNTER_ACCEPT_ERRORS);
        LOG_LIMITED(&limit, LOG_LEVEL_WARNING, "accept-failed", LOG_ERRNO(error));
        return true;
    }
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct listener *listener = poll->data;
    struct listeners *set = listener->set;

    (void)status;
    (void)events;
    for (int i = 0; i < ACCEPTS_PER_EVENT && !set->paused && !set->closing; i++) {
        struct sockaddr_storage address;
        socklen_t length = sizeof(address);
        struct endpoint peer;
        const int fd = accept4(listener->fd, (struct sockaddr *)&address, &length,
                               SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (!survives(set, errno))
                return;
            continue;
        }
        const bool within_budget = fd_budget_allows(fd);
        if (endpoint_from_sockaddr((struct sockaddr *)&address, &peer) == 0)
            set->accepted(fd, &peer, set->user);
        else
            close(fd);
        /* This one lives on the reserve; the next waits in the backlog until a session has ended.
         */
        if (!within_budget)
            pause_accepting(set, "descriptors run short", false);
    }
}

void listeners_resume(struct listeners *listeners)
{
    set_paused(listeners, false);
}

/* ---- sockets --------------------------------------------------------------------------------- */

static int set_option(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof(value)) < 0 ? -errno : 0;
}

/* Accepted sockets inherit these. Without TCP_NODELAY the reply would wait for the ACK of the
 * method's answer. */
static int set_stream_options(int fd, const struct listener_keepalive *keepalive)
{
    int rc = set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    if (rc == 0)
        rc = set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, (int)keepalive->idle_s);
    if (rc == 0)
        rc = set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, (int)keepalive->interval_s);
    if (rc == 0)
        rc = set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, (int)keepalive->count);
    if (rc == 0)
        rc = set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    return rc;
}

/* "::" is for both families, unless an IPv4 address is to have the port. */
static bool is_v6_only(const struct listeners_config *config, const struct listen_config *listen_at)
{
    if (!ip_address_is_unspecified(&listen_at->address))
        return true;
    for (size_t i = 0; i < config->count; i++)
        if (config->addresses[i].port == listen_at->port &&
            config->addresses[i].address.family == IP_V4)
            return true;
    return false;
}

static int bind_and_listen(int fd, const struct listeners_config *config,
                           const struct listen_config *listen_at)
{
    struct sockaddr_storage address;
    const struct endpoint endpoint = {.address = listen_at->address,
                                      .port = (uint16_t)listen_at->port};
    const socklen_t length = endpoint_to_sockaddr(&endpoint, &address);

    int rc = set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (rc == 0 && endpoint.address.family == IP_V6)
        rc = set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, is_v6_only(config, listen_at));
    if (rc == 0 && (bind(fd, (struct sockaddr *)&address, length) < 0 || listen(fd, BACKLOG) < 0))
        rc = -errno;
    return rc;
}

/* Takes fd over, also on failure. */
static int add_socket(struct listeners *set, uv_loop_t *loop, int fd,
                      const struct listeners_config *config)
{
    if (set->count == CONFIG_LISTEN_MAX) {
        close(fd);
        return -ENOSPC;
    }
    struct listener *listener = &set->sockets[set->count];
    int rc = set_stream_options(fd, &config->keepalive);
    if (rc == 0)
        rc = endpoint_local(fd, &listener->local);
    if (rc == 0)
        rc = uv_poll_init(loop, &listener->poll, fd); /* makes it non-blocking */
    if (rc < 0) {
        close(fd);
        return rc;
    }
    listener->poll.data = listener;
    listener->set = set;
    listener->fd = fd;
    set->count++;
    set->handles++;
    uv_poll_start(&listener->poll, UV_READABLE, on_readable);
    LOG(LOG_LEVEL_NOTICE, "listening", LOG_E("address", &listener->local));
    return 0;
}

static int add_inherited(struct listeners *set, uv_loop_t *loop,
                         const struct listeners_config *config)
{
    for (;;) {
        const int fd = service_take_fd("socks");
        if (fd < 0)
            return 0;
        const int rc = add_socket(set, loop, fd, config);
        if (rc < 0) {
            LOG(LOG_LEVEL_ERROR, "listen-failed", LOG_S("socket", "inherited"), LOG_ERRNO(rc));
            return rc;
        }
    }
}

static int add_address(struct listeners *set, uv_loop_t *loop,
                       const struct listeners_config *config, const struct listen_config *listen_at)
{
    const struct endpoint endpoint = {.address = listen_at->address,
                                      .port = (uint16_t)listen_at->port};
    int rc;
    const int fd = socket(ip_address_af(&listen_at->address),
                          SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
    if (fd < 0) {
        rc = -errno;
    } else {
        rc = bind_and_listen(fd, config, listen_at);
        if (rc < 0)
            close(fd);
        else
            rc = add_socket(set, loop, fd, config);
    }
    if (rc < 0)
        LOG(LOG_LEVEL_ERROR, "listen-failed", LOG_E("address", &endpoint), LOG_ERRNO(rc));
    return rc;
}

static int add_all(struct listeners *set, uv_loop_t *loop, const struct listeners_config *config)
{
    int rc = add_inherited(set, loop, config);
    if (rc < 0 || set->count > 0)
        return rc;
    for (size_t i = 0; i < config->count && rc == 0; i++)
        rc = add_address(set, loop, config, &config->addresses[i]);
    if (rc == 0 && set->count == 0) {
        rc = -EADDRNOTAVAIL;
        LOG(LOG_LEVEL_ERROR, "listen-failed",
            LOG_S("why", "neither `listen` nor an inherited socket"));
    }
    return rc;
}

/* ---- life ------------------------------------------------------------------------------------ */

static void release(struct listeners *set)
{
    if (--set->handles == 0)
        free(set);
}

static void on_retry_closed(uv_handle_t *handle)
{
    release(handle->data);
}

static void on_poll_closed(uv_handle_t *handle)
{
    struct listener *listener = handle->data;
    release(listener->set);
}

int listeners_open(struct listeners **out, uv_loop_t *loop, const struct listeners_config *config,
                   struct counters *counters, listener_cb accepted, void *user)
{
    struct listeners *set = calloc(1, sizeof(*set));
    if (!set)
        return -ENOMEM;
    set->counters = counters;
    set->accepted = accepted;
    set->user = user;
    set->handles = 1;
    uv_timer_init(loop, &set->retry);
    set->retry.data = set;
    const int rc = add_all(set, loop, config);
    if (rc < 0) {
        listeners_close(set);
        return rc;
    }
    *out = set;
    return 0;
}

size_t listeners_count(const struct listeners *listeners)
{
    return listeners->count;
}

struct endpoint listeners_endpoint(const struct listeners *listeners, size_t index)
{
    return listeners->sockets[index].local;
}

void listeners_close(struct listeners *listeners)
{
    if (!listeners)
        return;
    listeners->closing = true;
    for (size_t i = 0; i < listeners->count; i++) {
        struct listener *listener = &listeners->sockets[i];
        uv_poll_stop(&listener->poll);
        uv_close((uv_handle_t *)&listener->poll, on_poll_closed);
        close(listener->fd);
    }
    uv_close((uv_handle_t *)&listeners->retry, on_retry_closed);
}
