#include "relayd/plane/socket/watched_socket.h"

#include <string.h>
#include <unistd.h>

#include "relayd/plane/socket/sockets.h"

void watched_socket_init(struct watched_socket *socket)
{
    memset(socket, 0, sizeof(*socket));
    socket->fd = -1;
}

int watched_socket_open(struct watched_socket *socket, uv_loop_t *loop, int fd, void *data)
{
    const int rc = uv_poll_init(loop, &socket->poll, fd);

    if (rc < 0) {
        close(fd);
        return rc;
    }
    socket->fd = fd;
    socket->has_handle = true;
    socket->poll.data = data;
    return 0;
}

void watched_socket_want(struct watched_socket *socket, int interest, uv_poll_cb callback)
{
    if (!socket->has_handle || interest == socket->interest)
        return;
    /* Neither can fail for a descriptor that uv_poll_init() has taken. */
    if (interest == 0)
        (void)uv_poll_stop(&socket->poll);
    else
        (void)uv_poll_start(&socket->poll, interest, callback);
    socket->interest = interest;
}

void watched_socket_reported(struct watched_socket *socket, int status)
{
    if (status < 0)
        socket->interest = 0;
}

bool watched_socket_close(struct watched_socket *socket, bool abort, uv_close_cb closed)
{
    const bool had_handle = socket->has_handle;

    if (had_handle) {
        /* Takes the descriptor out of epoll at once, so that it may be closed, and its number used
         * again, before the callback. */
        uv_close((uv_handle_t *)&socket->poll, closed);
        socket->has_handle = false;
        socket->interest = 0;
    }
    if (socket->fd >= 0)
        sockets_close(socket->fd, abort);
    socket->fd = -1;
    return had_handle;
}

int watched_socket_release(struct watched_socket *socket, uv_close_cb closed)
{
    const int fd = socket->fd;

    socket->fd = -1;
    (void)watched_socket_close(socket, false, closed);
    return fd;
}
