#include "relayd/n2/server.h"

#include <errno.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log/log.h"

#define ACCEPTS_PER_TURN 16
/* After accept() failed for want of descriptors or memory: a listener that stays readable would
 * turn the loop without end. */
#define ACCEPT_PAUSE_MS 200

struct n2_server {
    struct relay_context *context;
    struct n2_access access;
    struct n2_hello hello;
    struct n2_link_config link;
    int fd;     /* -1 once it is closed */
    char *path; /* NULL: inherited */
    struct n2_peer *peers[N2_PEERS_MAX];
    size_t peer_count;
    uv_poll_t poll;
    uv_timer_t pause;
    unsigned handles; /* of the listener, not yet closed */
    bool closed;      /* n2_server_close() */
};

/* Anybody who can reach the socket can make these. */
static struct log_limit refusals = LOG_LIMIT_INIT(10, 1000);

static void server_poll(uv_poll_t *poll, int status, int events);

/* ---- peers ---------------------------------------------------------------------------------- */

static void server_forget(struct n2_server *server, const struct n2_peer *peer)
{
    for (size_t i = 0; i < server->peer_count; i++) {
        if (server->peers[i] == peer) {
            server->peers[i] = server->peers[--server->peer_count];
            break;
        }
    }
    relayd_metrics_set(server->context->metrics, RELAYD_N2_PEERS, server->peer_count);
}

static void server_peer_gone(struct n2_peer *peer, void *user)
{
    server_forget(user, peer);
}

static void server_refuse(struct n2_server *server, int fd,
                          const struct peer_credentials *credentials, const char *why)
{
    LOG_LIMITED(&refusals, LOG_LEVEL_WARNING, "n2-refused", LOG_S("why", why),
                LOG_I("peer_pid", credentials->pid), LOG_U("peer_uid", credentials->uid));
    relayd_metrics_add(server->context->metrics, RELAYD_N2_REFUSED, 1);
    close(fd);
}

/* Consumes `fd`. */
static void server_take(struct n2_server *server, int fd)
{
    struct n2_peer_config config = {.link = server->link, .gone = server_peer_gone, .user = server};
    int result = peer_credentials_get(fd, &config.credentials);

    if (result < 0) {
        server_refuse(server, fd, &config.credentials, "no credentials");
        return;
    }
    if (!n2_access_allows(&server->access, config.credentials.uid)) {
        server_refuse(server, fd, &config.credentials, "the user is not in n2.allow-users");
        return;
    }
    if (server->peer_count == N2_PEERS_MAX) {
        server_refuse(server, fd, &config.credentials, "too many connections");
        return;
    }
    config.link.hello = server->hello;
    config.link.hello.draining = server->context->draining;
    struct n2_peer *peer;
    result = n2_peer_open(&peer, server->context, fd, &config);
    if (result < 0) {
        LOG_LIMITED(&refusals, LOG_LEVEL_ERROR, "n2-accept", LOG_ERRNO(result));
        return;
    }
    server->peers[server->peer_count++] = peer;
    relayd_metrics_add(server->context->metrics, RELAYD_N2_ACCEPTED, 1);
    relayd_metrics_set(server->context->metrics, RELAYD_N2_PEERS, server->peer_count);
}

/* ---- listener ------------------------------------------------------------------------------- */

static void server_resume(uv_timer_t *timer)
{
    struct n2_server *server = timer->data;
    uv_poll_start(&server->poll, UV_READABLE, server_poll);
}

static void server_accept_failed(struct n2_server *server, int error)
{
    LOG_LIMITED(&refusals, LOG_LEVEL_ERROR, "n2-accept", LOG_ERRNO(error));
    uv_poll_stop(&server->poll);
    uv_timer_start(&server->pause, server_resume, ACCEPT_PAUSE_MS, 0);
}

static void server_poll(uv_poll_t *poll, int status, int events)
{
    struct n2_server *server = poll->data;

    (void)events;
    if (status < 0) {
        server_accept_failed(server, status);
        return;
    }
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        int fd = accept4(server->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            server_take(server, fd);
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return;
        } else if (errno != EINTR && errno != ECONNABORTED) {
            server_accept_failed(server, errno);
            return;
        }
    }
}

/* socksd reaches the socket by the group of the directory. */
static void socket_give_to_group(const char *path)
{
    char *copy = strdup(path);
    struct stat directory, own;

    if (copy != NULL && stat(dirname(copy), &directory) == 0 && stat(path, &own) == 0 &&
        own.st_gid != directory.st_gid && lchown(path, (uid_t)-1, directory.st_gid) < 0) {
        LOG(LOG_LEVEL_WARNING, "n2-socket-group", LOG_S("path", path),
            LOG_U("group", directory.st_gid), LOG_ERRNO(errno));
    }
    free(copy);
}

static int listening_socket(const struct n2_server_config *config)
{
    if (config->fd >= 0) {
        return config->fd;
    }
    int fd = unix_listen(config->path, 0660);
    if (fd >= 0) {
        socket_give_to_group(config->path);
    }
    return fd;
}

int n2_server_open(struct n2_server **out, struct relay_context *context,
                   const struct n2_server_config *config)
{
    int fd = listening_socket(config);
    if (fd < 0) {
        return fd;
    }
    struct n2_server *server = calloc(1, sizeof(*server));
    char *path = config->fd < 0 ? strdup(config->path) : NULL;
    int result = server == NULL || (config->fd < 0 && path == NULL) ? -ENOMEM : 0;
    if (result == 0) {
        result = uv_poll_init(context->loop, &server->poll, fd);
    }
    if (result < 0) {
        if (config->fd < 0) {
            unlink(config->path);
        }
        close(fd);
        free(path);
        free(server);
        return result;
    }
    server->context = context;
    server->hello = config->hello;
    server->link = config->link;
    server->fd = fd;
    server->path = path;
    server->handles = 2;
    n2_access_init(&server->access, config->allow_users);
    uv_timer_init(context->loop, &server->pause);
    server->poll.data = server;
    server->pause.data = server;
    uv_poll_start(&server->poll, UV_READABLE, server_poll);
    *out = server;
    return 0;
}

void n2_server_announce(struct n2_server *server, const struct n2_hello *hello)
{
    server->hello = *hello;
}

static void server_free_if_closed(struct n2_server *server)
{
    if (server->handles == 0 && server->closed) {
        free(server->path);
        free(server);
    }
}

static void server_handle_closed(uv_handle_t *handle)
{
    struct n2_server *server = handle->data;
    server->handles--;
    server_free_if_closed(server);
}

void n2_server_stop_listening(struct n2_server *server)
{
    if (server->fd < 0) {
        return;
    }
    uv_close((uv_handle_t *)&server->poll, server_handle_closed);
    uv_close((uv_handle_t *)&server->pause, server_handle_closed);
    close(server->fd);
    server->fd = -1;
    if (server->path != NULL) {
        unlink(server->path);
    }
}

bool n2_server_takes_more(const struct n2_server *server)
{
    for (size_t i = 0; i < server->peer_count; i++) {
        if (!n2_peer_takes_more(server->peers[i])) {
            return false;
        }
    }
    return true;
}

bool n2_server_is_flushed(const struct n2_server *server)
{
    for (size_t i = 0; i < server->peer_count; i++) {
        if (!n2_peer_is_flushed(server->peers[i])) {
            return false;
        }
    }
    return true;
}

void n2_server_close(struct n2_server *server)
{
    if (server == NULL) {
        return;
    }
    n2_server_stop_listening(server);
    while (server->peer_count > 0) {
        struct n2_peer *peer = server->peers[server->peer_count - 1];
        server_forget(server, peer);
        n2_peer_close(peer);
    }
    server->closed = true;
    server_free_if_closed(server);
}
