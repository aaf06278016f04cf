#include "tests/harness/n2_client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdalign.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/ipc/peer.h"
#include "proto/frame.h"
#include "tests/harness/sockets.h"
#include "tests/harness/wait.h"

#define FDS_MAX 4

int n2_client_connect(const char *path)
{
    const int fd = unix_connect(path);
    ck_assert_msg(fd >= 0, "connect %s: %s", path, strerror(-fd));
    ck_assert_int_eq(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK), 0);
    return fd;
}

struct n2_message n2_client_hello(void)
{
    struct n2_message message = {.type = N2_HELLO};
    message.hello.major = N2_VERSION_MAJOR;
    message.hello.minor = N2_VERSION_MINOR;
    message.hello.boot_epoch = 4711;
    strcpy(message.hello.build, "test");
    return message;
}

int n2_client_open(const char *path)
{
    const int fd = n2_client_connect(path);
    struct n2_message message = n2_client_hello();
    n2_client_send(fd, &message);
    ck_assert(n2_client_receive(fd, &message, PATIENCE_MS));
    ck_assert_int_eq(message.type, N2_HELLO_ACK);
    return fd;
}

struct n2_message n2_client_order(uint64_t number, uint8_t ptcl, struct endpoint source,
                                  struct endpoint destination)
{
    struct n2_message message = {.transaction = number, .type = N2_OPEN_RELAY};
    message.open_relay.association = number;
    message.open_relay.kind = N2_KIND_TRANSPARENT;
    message.open_relay.ptcl = ptcl;
    message.open_relay.source = source;
    message.open_relay.destination_count = 1;
    message.open_relay.destinations[0] = destination;
    message.open_relay.bound_hint = at(LAB_RELAY_V4, 0).address;
    message.open_relay.deadline_ms = PATIENCE_MS;
    return message;
}

void n2_client_send(int fd, const struct n2_message *message)
{
    uint8_t frame[FRAME_HEADER + N2_PAYLOAD_MAX];
    const size_t length = n2_encode(message, frame, sizeof(frame));
    ck_assert_msg(length > 0, "%s is not valid", n2_type_name(message->type));
    socket_send(fd, frame, length);
}

bool n2_client_send_fds(int fd, const void *data, size_t length, const int *fds, size_t fd_count)
{
    alignas(struct cmsghdr) char control[CMSG_SPACE(FDS_MAX * sizeof(int))] = {0};
    struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = length};
    struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
    ck_assert_uint_le(fd_count, FDS_MAX);
    if (fd_count > 0) {
        header.msg_control = control;
        header.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(&header);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
        memcpy(CMSG_DATA(cmsg), fds, fd_count * sizeof(int));
    }
    if (!wait_fd(fd, POLLOUT, PATIENCE_MS)) {
        ck_abort_msg("the peer does not read");
    }
    const ssize_t sent = sendmsg(fd, &header, MSG_NOSIGNAL);
    ck_assert_msg(sent >= 0 || errno == EPIPE || errno == ECONNRESET, "sendmsg: %s",
                  strerror(errno));
    return sent == (ssize_t)length;
}

/* Exactly `length` octets; false at the end of the connection. */
static bool read_all(int fd, uint8_t *out, size_t length, int64_t end)
{
    while (length > 0) {
        const ssize_t got = socket_receive(fd, out, length, (int)(end - now_ms()));
        ck_assert_msg(got != -ETIMEDOUT, "no message in time");
        if (got <= 0) {
            return false;
        }
        out += got;
        length -= (size_t)got;
    }
    return true;
}

bool n2_client_receive(int fd, struct n2_message *out, int timeout_ms)
{
    const int64_t end = now_ms() + timeout_ms;
    for (;;) {
        uint8_t header[FRAME_HEADER], payload[N2_PAYLOAD_MAX];
        alignas(max_align_t) uint8_t memory[N2_ARENA_SIZE];
        struct arena arena;
        if (!read_all(fd, header, sizeof(header), end)) {
            return false;
        }
        const size_t length = (size_t)header[2] << 8 | header[3];
        ck_assert_uint_le(length, sizeof(payload));
        if (!read_all(fd, payload, length, end)) {
            return false;
        }
        arena_init(&arena, memory, sizeof(memory));
        ck_assert_int_eq(n2_decode(payload, length, &arena, out, NULL), N2_OK);
        if (out->type == N2_PING) {
            out->type = N2_PONG;
            n2_client_send(fd, out);
        } else if (out->type != N2_RELAY_EVENT) {
            return true;
        }
    }
}

struct n2_message n2_client_ask(int fd, const struct n2_message *order)
{
    struct n2_message answer;
    n2_client_send(fd, order);
    ck_assert_msg(n2_client_receive(fd, &answer, 2 * PATIENCE_MS), "the connection has ended");
    ck_assert(answer.type == N2_RELAY_OPENED || answer.type == N2_RELAY_FAILED);
    ck_assert_uint_eq(answer.transaction, order->transaction);
    return answer;
}

void n2_client_expect_end(int fd, int timeout_ms)
{
    ck_assert_msg(socket_wait_end(fd, timeout_ms) != SOCKET_OPEN, "not closed within %d ms",
                  timeout_ms);
}
