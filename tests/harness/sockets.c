#include "tests/harness/sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/net/sockaddr.h"
#include "tests/harness/wait.h"

#define BACKLOG 4096

static socklen_t to_sockaddr(struct endpoint endpoint, struct sockaddr_storage *out)
{
    const socklen_t length = endpoint_to_sockaddr(&endpoint, out);
    ck_assert_int_gt(length, 0);
    return length;
}

int socket_bound(struct lab *lab, enum lab_place place, int type, struct endpoint wanted,
                 struct endpoint *local)
{
    const int one = 1;
    struct sockaddr_storage address;
    const socklen_t length = to_sockaddr(wanted, &address);
    const int fd = lab_socket(lab, place, address.ss_family, type, 0);
    ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)), 0);
    if (type == SOCK_STREAM) {
        ck_assert_int_eq(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)), 0);
    }
    ck_assert_msg(bind(fd, (const struct sockaddr *)&address, length) == 0, "bind %s: %s",
                  show(wanted), strerror(errno));
    if (local != NULL) {
        *local = socket_local(fd);
    }
    return fd;
}

int socket_listen(struct lab *lab, enum lab_place place, struct endpoint wanted,
                  struct endpoint *local)
{
    const int fd = socket_bound(lab, place, SOCK_STREAM, wanted, local);
    ck_assert_int_eq(listen(fd, BACKLOG), 0);
    return fd;
}

int socket_accept(int listener, int timeout_ms, struct endpoint *peer)
{
    ck_assert_msg(wait_fd(listener, POLLIN, timeout_ms), "no connection at %s within %d ms",
                  show(socket_local(listener)), timeout_ms);
    const int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    ck_assert_msg(fd >= 0, "accept: %s", strerror(errno));
    if (peer != NULL) {
        *peer = socket_peer(fd);
    }
    return fd;
}

int socket_connect(int fd, struct endpoint to, int timeout_ms)
{
    struct sockaddr_storage address;
    const socklen_t length = to_sockaddr(to, &address);
    const int flags = fcntl(fd, F_GETFL);
    ck_assert_int_eq(fcntl(fd, F_SETFL, flags | O_NONBLOCK), 0);
    int error = connect(fd, (const struct sockaddr *)&address, length) == 0 ? 0 : errno;
    if (error == EINPROGRESS) {
        socklen_t size = sizeof(error);
        if (!wait_fd(fd, POLLOUT, timeout_ms)) {
            return -ETIMEDOUT;
        }
        ck_assert_int_eq(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size), 0);
    }
    ck_assert_int_eq(fcntl(fd, F_SETFL, flags), 0);
    return -error;
}

struct endpoint socket_local(int fd)
{
    struct endpoint endpoint;
    ck_assert_int_eq(endpoint_local(fd, &endpoint), 0);
    return endpoint;
}

struct endpoint socket_peer(int fd)
{
    struct endpoint endpoint = {0};
    endpoint_peer(fd, &endpoint); /* a peer that is gone again: "-" */
    return endpoint;
}

void socket_abort_on_close(int fd)
{
    const struct linger linger = {.l_onoff = 1};
    ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
}

void socket_send(int fd, const void *data, size_t length)
{
    const uint8_t *next = data;
    while (length > 0) {
        ck_assert_msg(wait_fd(fd, POLLOUT, PATIENCE_MS), "send: blocked with %zu octets left",
                      length);
        const ssize_t sent = send(fd, next, length, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EAGAIN) {
            continue;
        }
        ck_assert_msg(sent >= 0, "send: %s", strerror(errno));
        next += sent;
        length -= (size_t)sent;
    }
}

/* A connection that was reset keeps what it could not deliver. */
static bool acknowledged(int fd)
{
    int queued = 0;
    return ioctl(fd, SIOCOUTQ, &queued) != 0 || queued == 0 || wait_fd(fd, POLLRDHUP, 0);
}

size_t socket_send_slowly(int fd, const void *data, size_t length)
{
    const uint8_t *octets = data;
    const int one = 1;
    ck_assert_int_eq(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)), 0);
    for (size_t i = 0; i < length; i++) {
        if (wait_fd(fd, POLLRDHUP, 0) || send(fd, &octets[i], 1, MSG_NOSIGNAL) != 1) {
            return i;
        }
        WAIT_UNTIL(acknowledged(fd), PATIENCE_MS);
    }
    return length;
}

void socket_send_to(int fd, struct endpoint to, const void *data, size_t length)
{
    struct sockaddr_storage address;
    const socklen_t address_length = to_sockaddr(to, &address);
    const ssize_t sent =
        sendto(fd, data, length, MSG_NOSIGNAL, (const struct sockaddr *)&address, address_length);
    ck_assert_msg(sent == (ssize_t)length, "send to %s: %s", show(to), strerror(errno));
}

ssize_t socket_receive_from(int fd, void *data, size_t length, int timeout_ms,
                            struct endpoint *from)
{
    struct sockaddr_storage address = {0};
    socklen_t address_length = sizeof(address);
    if (!wait_fd(fd, POLLIN, timeout_ms)) {
        return -ETIMEDOUT;
    }
    const ssize_t got =
        recvfrom(fd, data, length, MSG_DONTWAIT, (struct sockaddr *)&address, &address_length);
    if (got < 0) {
        return errno == EAGAIN ? -ETIMEDOUT : -errno;
    }
    if (from != NULL && endpoint_from_sockaddr((const struct sockaddr *)&address, from) != 0) {
        *from = (struct endpoint){0};
    }
    return got;
}

ssize_t socket_receive(int fd, void *data, size_t length, int timeout_ms)
{
    return socket_receive_from(fd, data, length, timeout_ms, NULL);
}

void socket_receive_all(int fd, void *data, size_t length, int timeout_ms)
{
    const int64_t end = now_ms() + timeout_ms;
    uint8_t *next = data;
    for (size_t left = length; left > 0;) {
        const ssize_t got = socket_receive(fd, next, left, (int)(end - now_ms()));
        ck_assert_msg(got > 0, "%zu of %zu octets received, then: %s", length - left, length,
                      got == 0 ? "end" : strerror((int)-got));
        next += got;
        left -= (size_t)got;
    }
}

enum socket_end socket_wait_end(int fd, int timeout_ms)
{
    static uint8_t dropped[65536];
    const int64_t end = now_ms() + timeout_ms;
    for (;;) {
        const ssize_t got = socket_receive(fd, dropped, sizeof(dropped), (int)(end - now_ms()));
        if (got == 0) {
            return SOCKET_FIN;
        }
        if (got == -ETIMEDOUT) {
            return SOCKET_OPEN;
        }
        if (got < 0) {
            return SOCKET_RST;
        }
    }
}
