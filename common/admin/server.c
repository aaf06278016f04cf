#include "common/admin/server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/admin/connection.h"
#include "common/ipc/peer.h"
#include "common/log/log.h"

#define SOCKET_MODE 0660
#define ACCEPTS_PER_TURN 16
#define ACCEPT_RETRY_MS 500 /* after accept() had no descriptor or memory left */

struct admin_server {
    uv_loop_t *loop;
    int fd;
    char *path; /* to unlink; NULL: the socket is not ours to remove */
    gid_t group;
    uint32_t max_connections;
    bool closed;
    unsigned handles;
    uv_poll_t listener;
    uv_timer_t retry;
    struct admin_connection_config connection;
    struct admin_server_stats stats;
    struct admin_connection *
        *connections; /* max_connections places; the first `count` are in use */
    uint32_t count;
};

static struct log_limit refused_limit = LOG_LIMIT_INIT(10, 10000);

/* --- clients --- */

static void on_connection_ended(struct admin_connection *connection, void *user)
{
    struct admin_server *server = user;
    for (uint32_t i = 0; i < server->count; i++) {
        if (server->connections[i] == connection) {
            server->connections[i] = server->connections[--server->count];
            return;
        }
    }
}

static bool may_ask(const struct admin_server *server, int fd, struct peer_credentials *who)
{
    if (peer_credentials_get(fd, who) < 0) {
        return false;
    }
    return who->uid == 0 || who->uid == geteuid() || peer_is_in_group(fd, server->group);
}

/* Consumes `fd`. */
static void refuse(struct admin_server *server, int fd, const struct peer_credentials *who,
                   const char *why)
{
    close(fd);
    server->stats.refused++;
    LOG_LIMITED(&refused_limit, LOG_LEVEL_WARNING, "admin-refused", LOG_S("reason", why),
                LOG_U("uid", who->uid), LOG_U("pid", (uint64_t)who->pid));
}

static void admit(struct admin_server *server, int fd)
{
    struct peer_credentials who = {0};
    if (!may_ask(server, fd, &who)) {
        refuse(server, fd, &who, "not permitted");
        return;
    }
    if (server->count == server->max_connections) {
        refuse(server, fd, &who, "too many connections");
        return;
    }
    struct admin_connection *connection;
    int result = admin_connection_open(&connection, server->loop, fd, &server->connection);
    if (result < 0) {
        LOG_LIMITED(&refused_limit, LOG_LEVEL_WARNING, "admin-refused", LOG_ERRNO(result));
        server->stats.refused++;
        return;
    }
    server->connections[server->count++] = connection;
    server->stats.connections++;
}

/* --- listener --- */

static void on_acceptable(uv_poll_t *listener, int status, int events);

static void on_retry(uv_timer_t *retry)
{
    struct admin_server *server = retry->data;
    uv_poll_start(&server->listener, UV_READABLE, on_acceptable);
}

static void on_acceptable(uv_poll_t *listener, int status, int events)
{
    (void)events;
    struct admin_server *server = listener->data;
    for (unsigned i = 0; status == 0 && i < ACCEPTS_PER_TURN; i++) {
        int fd = accept4(server->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            admit(server, fd);
        } else if (errno == EAGAIN) {
            return;
        } else if (errno != EINTR && errno != ECONNABORTED) {
            status = -errno;
        }
    }
    if (status < 0) {
        /* Out of descriptors: the client still waits, and the listener would be ready at once
         * again. */
        LOG_LIMITED(&refused_limit, LOG_LEVEL_ERROR, "admin-accept-failed", LOG_ERRNO(status));
        uv_poll_stop(listener);
        uv_timer_start(&server->retry, on_retry, ACCEPT_RETRY_MS, 0);
    }
}

/* --- lifecycle --- */

void admin_server_config_init(struct admin_server_config *config)
{
    *config = (struct admin_server_config){
        .fd = -1,
        .group = (gid_t)-1,
        .max_connections = 32,
        .idle_timeout_ms = 60000,
    };
}

/* Returns the listening descriptor or -errno. */
static int listen_at(struct admin_server *server, const char *path, gid_t group)
{
    server->path = strdup(path);
    if (server->path == NULL) {
        return -ENOMEM;
    }
    int fd = unix_listen(path, SOCKET_MODE);
    if (fd < 0) {
        free(server->path);
        server->path = NULL;
        return fd;
    }
    if (group != (gid_t)-1 && chown(path, (uid_t)-1, group) < 0) {
        /* Root and our own user can still ask. */
        LOG(LOG_LEVEL_WARNING, "admin-group-failed", LOG_S("path", path), LOG_U("group", group),
            LOG_ERRNO(errno));
    }
    return fd;
}

/* Takes over an inherited one. Returns it, or -errno; consumed also then. */
static int adopt(int fd)
{
    int listening = 0;
    socklen_t length = sizeof(listening);
    int result = 0;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) < 0) {
        result = -errno;
    } else if (!listening) {
        result = -EINVAL;
    } else if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
        result = -errno;
    }
    if (result < 0) {
        close(fd);
        return result;
    }
    return fd;
}

static void release(struct admin_server *server)
{
    free(server->connections);
    free(server->path);
    free(server);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct admin_server *server = handle->data;
    if (--server->handles == 0) {
        release(server);
    }
}

int admin_server_open(struct admin_server **out, uv_loop_t *loop,
                      const struct admin_server_config *config, const struct admin_server_ops *ops,
                      void *user)
{
    *out = NULL;
    struct admin_server *server = calloc(1, sizeof(*server));
    struct admin_connection **connections =
        calloc(config->max_connections, sizeof(struct admin_connection *));
    if (server == NULL || connections == NULL) {
        free(connections);
        free(server);
        if (config->fd >= 0) {
            close(config->fd);
        }
        return -ENOMEM;
    }
    server->loop = loop;
    server->connections = connections;
    server->group = config->group;
    server->max_connections = config->max_connections;
    server->connection = (struct admin_connection_config){
        .ops = ops,
        .ops_user = user,
        .stats = &server->stats,
        .idle_timeout_ms = config->idle_timeout_ms,
        .ended = on_connection_ended,
        .user = server,
    };
    int result =
        config->fd >= 0 ? adopt(config->fd) : listen_at(server, config->path, config->group);
    server->fd = result;
    if (result >= 0) {
        result = uv_poll_init(loop, &server->listener, server->fd); /* makes it non-blocking */
        if (result < 0) {
            close(server->fd);
        }
    }
    if (result < 0) {
        if (server->path != NULL) {
            unlink(server->path);
        }
        release(server);
        return result;
    }
    uv_timer_init(loop, &server->retry);
    server->listener.data = server->retry.data = server;
    server->handles = 2;
    uv_poll_start(&server->listener, UV_READABLE, on_acceptable);
    *out = server;
    return 0;
}

struct admin_server_stats admin_server_stats(const struct admin_server *server)
{
    return server->stats;
}

void admin_server_close(struct admin_server *server)
{
    if (server == NULL || server->closed) {
        return;
    }
    server->closed = true;
    if (server->path != NULL) {
        unlink(server->path); /* while we still hold the socket: whoever listens there next is not
                                 touched */
    }
    while (server->count > 0) {
        admin_connection_close(server->connections[--server->count]);
    }
    uv_close((uv_handle_t *)&server->listener, on_handle_closed);
    uv_close((uv_handle_t *)&server->retry, on_handle_closed);
    close(server->fd);
}
