/*
 * One end that is a channel and one that is a plain socket (or a second channel), with sendmsg and
 * recvmsg that can be counted and shortened. Included by one file of a program.
 */
#ifndef SOCKST_TESTS_UNIT_COMMON_CHANNEL_SUPPORT_H
#define SOCKST_TESTS_UNIT_COMMON_CHANNEL_SUPPORT_H

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/ipc/channel.h"
#include "proto/frame.h"
#include "tests/unit/common/loop_support.h"

#define FRAMES_MAX 4096
#define WITH_FD 0x80000000u /* in a frame's number: it declares a descriptor */

/* --- the system calls, counted and shortened on demand: ours come before the C library's --- */

static size_t send_cap, recv_cap; /* octets a call may move; 0: as asked */
static unsigned sends;

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    struct msghdr copy = *message;
    struct iovec first = message->msg_iov[0];
    sends++;
    if (send_cap > 0) {
        first.iov_len = first.iov_len < send_cap ? first.iov_len : send_cap;
        copy.msg_iov = &first;
        copy.msg_iovlen = 1;
    }
    return syscall(SYS_sendmsg, fd, &copy, flags);
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    if (recv_cap > 0 && message->msg_iov[0].iov_len > recv_cap) {
        message->msg_iov[0].iov_len = recv_cap;
    }
    return syscall(SYS_recvmsg, fd, message, flags);
}

/* --- one end that is a channel, one that is a plain socket --- */

struct end {
    struct channel *channel;
    size_t frames;
    size_t octets;
    struct {
        size_t length;
        uint32_t number; /* the first four octets */
        off_t fd_size;   /* of the memory file that it declared; -1: it did not come */
    } got[FRAMES_MAX];
    bool inside;
    int closed, error, relieved;
    size_t act_at; /* with the frame of this number (from 1) */
    void (*act)(struct end *end);
};

static struct test_loop test;
static int raw;
static struct end near;
static const struct channel_limits limits = {
    .high_mark = 64 * 1024,
    .low_mark = 16 * 1024,
    .max_queued = 1024 * 1024,
    .max_payload = FRAME_PAYLOAD_MAX,
    .max_fds = 16,
};

static inline void on_frame(struct channel *channel, const uint8_t *payload, size_t length,
                            void *user)
{
    struct end *end = user;
    ck_assert_ptr_eq(channel, end->channel);
    ck_assert_int_eq(end->closed, 0);
    ck_assert_uint_lt(end->frames, FRAMES_MAX);
    ck_assert(!end->inside);
    end->inside = true;
    end->got[end->frames].length = length;
    end->got[end->frames].fd_size = -1;
    if (length >= 4) {
        memcpy(&end->got[end->frames].number, payload, 4);
    }
    size_t wrong = 0; /* an assertion for each octet would be slow */
    for (size_t i = 4; i < length; i++) {
        wrong += payload[i] != (uint8_t)i;
    }
    ck_assert_uint_eq(wrong, 0);
    if (end->got[end->frames].number & WITH_FD) {
        int fd = channel_take_fd(channel);
        if (fd >= 0) {
            struct stat status;
            ck_assert_int_eq(fstat(fd, &status), 0);
            end->got[end->frames].fd_size = status.st_size;
            close(fd);
        }
    }
    end->octets += length;
    if (++end->frames == end->act_at) {
        end->act(end);
    }
    end->inside = false;
}

static inline void on_closed(struct channel *channel, int error, void *user)
{
    struct end *end = user;
    ck_assert_ptr_eq(channel, end->channel);
    ck_assert_msg(!end->inside, "told of the end inside a call");
    end->closed++;
    end->error = error;
}

static inline void on_relieved(struct channel *channel, void *user)
{
    struct end *end = user;
    ck_assert(!channel_is_congested(channel));
    end->relieved++;
}

__attribute__((unused)) static const struct channel_ops ops = {on_frame, on_closed, on_relieved};

static inline void setup_with(const struct channel_limits *these)
{
    memset(&near, 0, sizeof(near));
    send_cap = recv_cap = 0;
    test_loop_start(&test);
    int pair[2];
    test_socketpair(pair);
    raw = pair[1];
    ck_assert_int_eq(channel_open(&near.channel, &test.loop, pair[0], &ops, these, &near), 0);
}

static inline void setup(void)
{
    setup_with(&limits);
}

static inline void finish(void)
{
    if (near.channel != NULL && near.closed == 0) {
        channel_close(near.channel);
    }
    if (raw >= 0) {
        close(raw);
    }
    test_loop_finish(&test);
}

static inline void expect_closed(int error)
{
    TEST_RUN_UNTIL(&test, near.closed > 0);
    test_turns(&test, 3);
    ck_assert_int_eq(near.closed, 1);
    ck_assert_msg(near.error == error, "closed with %d, expected %d", near.error, error);
}

/* A frame whose payload is a number and then its own positions. Returns its octets. */
static inline size_t make_frame(uint8_t *out, uint32_t number, size_t length)
{
    frame_header_encode(length, out);
    for (size_t i = 0; i < length; i++) {
        out[FRAME_HEADER + i] = (uint8_t)i;
    }
    if (length >= 4) {
        memcpy(out + FRAME_HEADER, &number, 4);
    }
    return FRAME_HEADER + length;
}

static inline int memory_file(off_t size)
{
    int fd = memfd_create("test", MFD_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, size), 0);
    return fd;
}

/* Sends octets with `count` descriptors on the plain side, as no channel of ours would. */
static inline void raw_send_fds(const void *data, size_t length, const int *fds, size_t count)
{
    char control[CMSG_SPACE(sizeof(int) * 64)] = {0};
    struct iovec iov = {(void *)(uintptr_t)data, length};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int) * count);
    memcpy(CMSG_DATA(c), fds, sizeof(int) * count);
    ck_assert_int_eq(syscall(SYS_sendmsg, raw, &message, MSG_NOSIGNAL), (long)length);
}

static inline void raw_send_with_files(const void *data, size_t length, size_t count)
{
    int fds[64];
    for (size_t i = 0; i < count; i++) {
        fds[i] = memory_file((off_t)i + 1);
    }
    raw_send_fds(data, length, fds, count);
    for (size_t i = 0; i < count; i++) {
        close(fds[i]);
    }
}

static inline void raw_write(const void *data, size_t length)
{
    ck_assert_int_eq(send(raw, data, length, MSG_NOSIGNAL), (ssize_t)length);
}

static struct end far_end;

/* Both ends are channels. */
static inline void setup_two(void)
{
    setup();
    memset(&far_end, 0, sizeof(far_end));
    ck_assert_int_eq(channel_open(&far_end.channel, &test.loop, raw, &ops, &limits, &far_end), 0);
    raw = -1;
}

static inline void finish_two(void)
{
    ck_assert_int_eq(near.closed, 0);
    channel_close(far_end.channel);
    expect_closed(0);
    finish();
}

/* Reads what there is on the plain side. */
static inline size_t raw_drain(size_t at_most)
{
    static uint8_t sink[65536];
    size_t total = 0;
    while (total < at_most) {
        size_t want = at_most - total < sizeof(sink) ? at_most - total : sizeof(sink);
        ssize_t n = recv(raw, sink, want, MSG_DONTWAIT);
        if (n <= 0) {
            break;
        }
        total += (size_t)n;
    }
    return total;
}

static inline void write_frames(uint32_t first, uint32_t count)
{
    uint8_t frame[FRAME_HEADER + 100];
    for (uint32_t n = first; n < first + count; n++) {
        raw_write(frame, make_frame(frame, n, 100));
    }
}

#endif
