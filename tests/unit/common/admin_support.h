/*
 * An admin server over a table of made-up relays, and clients of it. Included by one file of a
 * program.
 */
#ifndef SOCKST_TESTS_UNIT_COMMON_ADMIN_SUPPORT_H
#define SOCKST_TESTS_UNIT_COMMON_ADMIN_SUPPORT_H

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/admin/server.h"
#include "common/ipc/peer.h"
#include "common/log/log.h"
#include "proto/frame.h"
#include "tests/unit/common/loop_support.h"

static struct test_loop test;
static struct admin_server *server;
static char directory[32], path[64];
static uint64_t relays; /* 1 … relays exist */
static uint64_t looked; /* how often the server asked for one */
static uint64_t closed_relay;

static inline void fill_relay(uint64_t relay, struct admin_relay *out)
{
    const uint8_t address[4] = {10, 0, (uint8_t)(relay >> 8), (uint8_t)relay};
    out->relay = relay;
    out->kind = relay % 10 == 0 ? N2_KIND_CONNECT : N2_KIND_TRANSPARENT;
    out->plane = N2_PLANE_SOCKET;
    out->ptcl = 6;
    out->source.address = ip_address_v4(address);
    out->source.port = 1000;
    strcpy(out->instance, "tcp");
    strcpy(out->state, "open");
    snprintf(out->user, sizeof(out->user), "user%u", (unsigned)(relay % 7));
    out->counters.up_bytes = relay * 3;
}

static inline void op_status(void *user, struct admin_status *out)
{
    ck_assert_ptr_eq(user, &relays);
    strcpy(out->daemon, "relayd");
    strcpy(out->state, "running");
    strcpy(out->version, SOCKST_VERSION);
    out->counter_count = 1;
    strcpy(out->counters[0].name, "relays_opened");
    out->counters[0].value = relays;
}

static inline bool op_next_relay(void *user, uint64_t *cursor, struct admin_relay *out)
{
    ck_assert_ptr_eq(user, &relays);
    looked++;
    if (*cursor >= relays) {
        return false;
    }
    fill_relay(++*cursor, out);
    return true;
}

static inline bool op_show_relay(void *user, uint64_t relay, struct admin_relay *out)
{
    ck_assert_ptr_eq(user, &relays);
    if (relay > relays) {
        return false;
    }
    fill_relay(relay, out);
    return true;
}

static inline int op_close_relay(void *user, uint64_t relay)
{
    ck_assert_ptr_eq(user, &relays);
    if (relay > relays) {
        return -ENOENT;
    }
    closed_relay = relay;
    return 0;
}

static const struct admin_server_ops all_ops = {op_status, op_next_relay, op_show_relay,
                                                op_close_relay};

static inline void start_with(const struct admin_server_config *config,
                              const struct admin_server_ops *ops)
{
    relays = looked = closed_relay = 0;
    log_setup("test", LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
    strcpy(directory, "/tmp/check_admin.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    ck_assert_int_eq(chmod(directory, 0755), 0);
    snprintf(path, sizeof(path), "%s/admin.sock", directory);
    test_loop_start(&test);
    struct admin_server_config with_path = *config;
    with_path.path = path;
    int result = admin_server_open(&server, &test.loop, &with_path, ops, &relays);
    ck_assert_msg(result == 0, "admin_server_open: %s", strerror(-result));
}

static inline struct admin_server_config standard(void)
{
    struct admin_server_config config;
    admin_server_config_init(&config);
    return config;
}

static inline void start(void)
{
    struct admin_server_config config = standard();
    start_with(&config, &all_ops);
}

static inline void finish(void)
{
    admin_server_close(server);
    test_loop_finish(&test);
    ck_assert_int_lt(access(path, F_OK), 0); /* the server removed what it made */
    ck_assert_int_eq(rmdir(directory), 0);
}

static inline int client(void)
{
    int fd = unix_connect(path);
    ck_assert_msg(fd >= 0, "unix_connect: %s", strerror(-fd));
    return fd;
}

static inline size_t encode(enum admin_request_type type, uint64_t relay, uint8_t *out, size_t size)
{
    struct admin_request request = {.version = ADMIN_VERSION, .type = type, .relay = relay};
    size_t length = admin_request_encode(&request, out, size);
    ck_assert_uint_gt(length, 0);
    return length;
}

static inline void ask(int fd, enum admin_request_type type, uint64_t relay)
{
    uint8_t frame[1024];
    size_t length = encode(type, relay, frame, sizeof(frame));
    ck_assert_int_eq(send(fd, frame, length, MSG_NOSIGNAL), (ssize_t)length);
}

/* The next whole answer, if it has come. */
static inline bool hear(int fd, struct admin_answer *out)
{
    static uint8_t buffer[FRAME_MAX];
    uint8_t header[FRAME_HEADER];
    int available = 0;
    if (recv(fd, header, sizeof(header), MSG_PEEK) != FRAME_HEADER) {
        return false;
    }
    size_t length = FRAME_HEADER + ((size_t)header[2] << 8 | header[3]);
    ck_assert_int_eq(ioctl(fd, FIONREAD, &available), 0);
    if ((size_t)available < length) {
        return false;
    }
    ck_assert_int_eq(recv(fd, buffer, length, 0), (ssize_t)length);
    alignas(max_align_t) static uint8_t memory[ADMIN_ARENA_SIZE];
    struct arena arena;
    arena_init(&arena, memory, sizeof(memory));
    ck_assert_int_eq(
        admin_answer_decode(buffer + FRAME_HEADER, length - FRAME_HEADER, &arena, out, NULL),
        N2_OK);
    return true;
}

static struct admin_answer heard;

static inline void expect_answer(int fd, enum admin_answer_type type)
{
    TEST_RUN_UNTIL(&test, hear(fd, &heard));
    ck_assert_msg(heard.type == type, "answer of type %d, expected %d", heard.type, type);
}

static inline void expect_end(int fd, uint64_t count)
{
    expect_answer(fd, ADMIN_ANSWER_END);
    ck_assert_uint_eq(heard.count, count);
}

static inline void expect_error(int fd, const char *word)
{
    expect_answer(fd, ADMIN_ANSWER_ERROR);
    ck_assert_msg(strstr(heard.error, word) != NULL, "error \"%s\", expected \"%s\"", heard.error,
                  word);
}

static inline bool is_at_eof(int fd)
{
    uint8_t octet;
    ssize_t n = recv(fd, &octet, 1, MSG_PEEK);
    return n == 0 || (n < 0 && errno != EAGAIN);
}

static inline void expect_eof(int fd)
{
    TEST_RUN_UNTIL(&test, is_at_eof(fd));
}

static inline int run_suite(Suite *s)
{
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}

#endif
