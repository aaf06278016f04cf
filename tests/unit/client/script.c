#include "tests/unit/client/script.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/client/net.h"

static void wait_readable(int fd, int timeout_ms)
{
    struct pollfd pollfd = {.fd = fd, .events = POLLIN};
    ck_assert_msg(poll(&pollfd, 1, timeout_ms) == 1, "nothing came in %d ms", timeout_ms);
}

int script_listen(int type, struct endpoint *local)
{
    struct sockaddr_storage address;
    ck_assert_int_eq(endpoint_parse("127.0.0.1:0", local), 0);
    socklen_t length = net_to_sockaddr(local, &address);
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, length), 0);
    if (type == SOCK_STREAM)
        ck_assert_int_eq(listen(fd, 16), 0);
    ck_assert_int_eq(net_local(fd, local), 0);
    return fd;
}

int script_accept(int listener)
{
    wait_readable(listener, SCRIPT_TIMEOUT_MS);
    int on = 1, fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return fd;
}

void script_read(int fd, uint8_t *data, size_t length)
{
    for (size_t done = 0; done < length;) {
        wait_readable(fd, SCRIPT_TIMEOUT_MS);
        ssize_t got = read(fd, data + done, length - done);
        ck_assert_msg(got > 0, "end after %zu of %zu octets", done, length);
        done += (size_t)got;
    }
}

void script_write(int fd, const void *data, size_t length)
{
    ck_assert_int_eq(send(fd, data, length, MSG_NOSIGNAL), (ssize_t)length);
}

static void read_methods(int fd)
{
    uint8_t data[3];
    script_read(fd, data, sizeof(data));
    ck_assert_mem_eq(data, ((uint8_t[]){5, 1, 0}), 3);
}

static struct n1_request read_bare_request(int fd)
{
    uint8_t data[N1_REQUEST_MAX];
    struct n1_request request;
    size_t length = 0, used;
    do {
        ck_assert_uint_lt(length, sizeof(data));
        script_read(fd, data + length++, 1);
    } while (n1_request_decode(data, length, &request, &used) == N1_NEED_MORE);
    ck_assert_int_eq(n1_request_decode(data, length, &request, &used), N1_OK);
    return request;
}

struct n1_request script_read_request(int fd)
{
    read_methods(fd);
    return read_bare_request(fd);
}

struct n1_request script_read_request_in_step(int fd)
{
    struct pollfd pollfd = {.fd = fd, .events = POLLIN};
    read_methods(fd);
    ck_assert_msg(poll(&pollfd, 1, 30) == 0, "the request came with the method list");
    script_write(fd, (const uint8_t[]){5, 0}, 2);
    return read_bare_request(fd);
}

void script_reply(int fd, uint8_t code, const struct endpoint *bound)
{
    uint8_t data[N1_REPLY_MAX];
    size_t length = n1_reply_encode(code, bound, data, sizeof(data));
    ck_assert_uint_ne(length, 0);
    script_write(fd, data, length);
}

void script_answer(int fd, uint8_t code, const struct endpoint *bound)
{
    uint8_t data[2 + N1_REPLY_MAX] = {5, 0};
    size_t length = n1_reply_encode(code, bound, data + 2, N1_REPLY_MAX);
    ck_assert_uint_ne(length, 0);
    script_write(fd, data, 2 + length);
}

bool script_read_end(int fd)
{
    uint8_t data[65536];
    for (;;) {
        wait_readable(fd, 3 * SOCKST_LINGER_MS);
        ssize_t got = read(fd, data, sizeof(data));
        if (got == 0)
            return true;
        if (got < 0) {
            ck_assert_int_eq(errno, ECONNRESET);
            return false;
        }
    }
}

void script_reset(int fd)
{
    struct linger abort = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &abort, sizeof(abort));
    close(fd);
}

size_t script_count_fds(void)
{
    size_t count = 0;
    DIR *directory = opendir("/proc/self/fd");
    ck_assert_ptr_nonnull(directory);
    while (readdir(directory) != NULL)
        count++;
    closedir(directory);
    return count;
}
