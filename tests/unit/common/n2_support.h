/*
 * Links for the tests: one against a plain socket that can say anything, or one against another.
 * Included by one file of a program.
 */
#ifndef SOCKST_TESTS_UNIT_COMMON_N2_SUPPORT_H
#define SOCKST_TESTS_UNIT_COMMON_N2_SUPPORT_H

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/ipc/n2_link.h"
#include "common/log/log.h"
#include "proto/frame.h"
#include "proto/ptcl.h"
#include "tests/unit/common/loop_support.h"

struct end {
    struct n2_link *link;
    int up, down, messages, strays, relieved, completed, completed_null;
    bool act_in_up, act_in_message, act_in_done, act_in_down, act_in_relieved;
    char why[256];
    struct n2_hello peer;
    struct n2_message last;
    void (*act)(struct end *end);
};

static struct test_loop test;
static struct end near, far_end;
static int raw;

static inline void on_up(struct n2_link *link, const struct n2_hello *peer, void *user)
{
    struct end *end = user;
    ck_assert(n2_link_is_up(link));
    ck_assert_int_eq(end->up++, 0);
    end->peer = *peer;
    if (end->act_in_up) {
        end->act(end);
    }
}

static inline void on_message(struct n2_link *link, const struct n2_message *message, int fd,
                              bool stray, void *user)
{
    struct end *end = user;
    ck_assert(n2_link_is_up(link));
    end->messages++;
    end->strays += stray;
    end->last = *message;
    ck_assert_int_eq(fd >= 0, message->fd_count);
    if (fd >= 0) {
        close(fd);
    }
    if (end->act_in_message) {
        end->act(end);
    }
}

static inline void on_down(struct n2_link *link, const char *text, void *user)
{
    struct end *end = user;
    ck_assert(!n2_link_is_up(link));
    ck_assert_int_eq(end->down++, 0);
    snprintf(end->why, sizeof(end->why), "%s", text);
    if (end->act_in_down) {
        end->act(end);
    }
    end->link = NULL;
}

static inline void on_relieved(struct n2_link *link, void *user)
{
    struct end *end = user;
    ck_assert(!n2_link_is_congested(link));
    end->relieved++;
    if (end->act_in_relieved) {
        end->act(end);
    }
}

static inline void on_done(struct n2_link *link, const struct n2_message *answer, void *user)
{
    struct end *end = user;
    (void)link;
    ck_assert_int_eq(end->down, 0);
    end->completed++;
    end->completed_null += answer == NULL;
    if (answer != NULL) {
        end->last = *answer;
    }
    if (end->act_in_done) {
        end->act(end);
    }
}

static const struct n2_link_ops ops = {on_up, on_message, on_down, on_relieved};

static inline void close_it(struct end *end)
{
    if (end->link != NULL) {
        n2_link_close(end->link);
        end->link = NULL;
    }
}

static inline struct n2_link_config standard(enum n2_role role)
{
    struct n2_link_config config;
    n2_link_config_init(&config, role);
    config.hello.boot_epoch = role == N2_ROLE_RELAYD ? 77 : 66;
    if (role == N2_ROLE_RELAYD) {
        config.hello.ptcl = 6;
        config.hello.planes = 1u << N2_PLANE_SOCKET;
        config.hello.families = N2_FAMILY_V4;
        config.hello.capacity = 1000;
        snprintf(config.hello.instance, sizeof(config.hello.instance), "tcp");
    }
    return config;
}

static inline void start(void)
{
    memset(&near, 0, sizeof(near));
    memset(&far_end, 0, sizeof(far_end));
    raw = -1;
    log_setup("test", LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
    test_loop_start(&test);
}

/* A link against a plain socket. */
static inline void start_raw(const struct n2_link_config *config)
{
    int pair[2];
    start();
    test_socketpair(pair);
    raw = pair[1];
    ck_assert_int_eq(n2_link_open(&near.link, &test.loop, pair[0], config, &ops, &near), 0);
}

/* Two links: near is socksd's, far_end relayd's. */
static inline void start_two_with(const struct n2_link_config *socksd,
                                  const struct n2_link_config *relayd)
{
    int pair[2];
    start();
    test_socketpair(pair);
    ck_assert_int_eq(n2_link_open(&near.link, &test.loop, pair[0], socksd, &ops, &near), 0);
    ck_assert_int_eq(n2_link_open(&far_end.link, &test.loop, pair[1], relayd, &ops, &far_end), 0);
    TEST_RUN_UNTIL(&test, near.up && far_end.up);
}

static inline void start_two(void)
{
    struct n2_link_config socksd = standard(N2_ROLE_SOCKSD), relayd = standard(N2_ROLE_RELAYD);
    start_two_with(&socksd, &relayd);
}

static inline void finish(void)
{
    close_it(&near);
    close_it(&far_end);
    if (raw >= 0) {
        close(raw);
    }
    test_loop_finish(&test);
}

static inline void expect_down(struct end *end, const char *word)
{
    TEST_RUN_UNTIL(&test, end->down == 1);
    test_turns(&test, 3);
    ck_assert_int_eq(end->down, 1);
    ck_assert_msg(strstr(end->why, word) != NULL, "down because \"%s\", expected \"%s\"", end->why,
                  word);
}

/* Says it on the plain side; the descriptor, if any, stays the caller's. */
static inline void raw_say_with(const struct n2_message *message, int fd)
{
    uint8_t frame[FRAME_HEADER + N2_PAYLOAD_MAX];
    size_t length = n2_encode(message, frame, sizeof(frame));
    ck_assert_msg(length > 0, "%s is not valid", n2_type_name(message->type));
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec iov = {frame, length};
    struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fd >= 0) {
        header.msg_control = control;
        header.msg_controllen = sizeof(control);
        struct cmsghdr *c = CMSG_FIRSTHDR(&header);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &fd, sizeof(int));
    }
    ck_assert_int_eq(sendmsg(raw, &header, MSG_NOSIGNAL), (ssize_t)length);
}

static inline void raw_say(const struct n2_message *message)
{
    raw_say_with(message, -1);
}

/* The next message on the plain side, if there is one. */
static inline bool raw_hear(struct n2_message *out)
{
    static uint8_t buffer[1 << 20];
    uint8_t header[FRAME_HEADER];
    if (recv(raw, header, sizeof(header), MSG_PEEK) != FRAME_HEADER) {
        return false;
    }
    size_t length = FRAME_HEADER + ((size_t)header[2] << 8 | header[3]);
    int available = 0;
    ck_assert_int_eq(ioctl(raw, FIONREAD, &available), 0);
    if ((size_t)available < length) {
        return false; /* the rest is on its way */
    }
    ck_assert_int_eq(recv(raw, buffer, length, 0), (ssize_t)length);
    alignas(max_align_t) uint8_t memory[N2_ARENA_SIZE];
    struct arena arena;
    arena_init(&arena, memory, sizeof(memory));
    ck_assert_int_eq(n2_decode(buffer + FRAME_HEADER, length - FRAME_HEADER, &arena, out, NULL),
                     N2_OK);
    return true;
}

static inline struct n2_message hello_message(enum n2_type type, uint32_t major, uint32_t minor)
{
    struct n2_link_config config = standard(N2_ROLE_RELAYD);
    struct n2_message message = {.type = type, .hello = config.hello};
    message.hello.major = major;
    message.hello.minor = minor;
    return message;
}

/* What the peer of a link of this role has to say first. */
static inline void raw_greet(enum n2_role role)
{
    struct n2_message message =
        hello_message(role == N2_ROLE_SOCKSD ? N2_HELLO_ACK : N2_HELLO, N2_VERSION_MAJOR, 0);
    raw_say(&message);
    TEST_RUN_UNTIL(&test, near.up);
    struct n2_message heard;
    TEST_RUN_UNTIL(&test, raw_hear(&heard));
}

/* A link that is up, with a plain socket as its peer. */
static inline void start_raw_up(enum n2_role role)
{
    struct n2_link_config config = standard(role);
    start_raw(&config);
    raw_greet(role);
}

/* A valid message of each type. */
static inline struct n2_message sample(enum n2_type type)
{
    struct n2_message m = {.type = type};
    const uint8_t address[4] = {192, 0, 2, 1};
    struct endpoint endpoint = {ip_address_v4(address), 80};
    switch (type) {
    case N2_HELLO:
    case N2_HELLO_ACK:
        return hello_message(type, N2_VERSION_MAJOR, N2_VERSION_MINOR);
    case N2_OPEN_RELAY:
        m.transaction = 4711;
        m.open_relay = (struct n2_open_relay){.association = 1,
                                              .kind = N2_KIND_TRANSPARENT,
                                              .ptcl = 6,
                                              .source = endpoint,
                                              .destination_count = 1,
                                              .destinations = {endpoint}};
        break;
    case N2_RELAY_OPENED:
        m.transaction = 4711;
        m.relay_opened = (struct n2_relay_opened){.association = 1,
                                                  .relay = 5,
                                                  .bound = endpoint,
                                                  .egress = endpoint,
                                                  .plane = N2_PLANE_SOCKET};
        break;
    case N2_RELAY_FAILED:
        m.transaction = 4711;
        m.relay_failed = (struct n2_relay_failed){.association = 1, .error = N2_ERROR_REFUSED};
        break;
    case N2_ATTACH_CLIENT:
        m.fd_count = 1;
        m.attach_client.relay = 5;
        break;
    case N2_RELAY_CONNECTED:
        m.relay_connected = (struct n2_relay_connected){.relay = 5, .peer = endpoint};
        break;
    case N2_AUTHORIZE:
        m.transaction = 4711;
        m.authorize = (struct n2_authorize){.relay = 5, .address = endpoint.address, .port = 53};
        break;
    case N2_AUTHORIZED:
        m.transaction = 4711;
        m.authorized = (struct n2_authorized){.relay = 5, .allowed = false};
        break;
    case N2_POLICY_CHANGED:
        m.policy_generation = 2;
        break;
    case N2_RELAY_STATS:
        m.relay_stats.relay = 5;
        break;
    case N2_CLOSE_RELAY:
        m.close_relay = (struct n2_close_relay){.relay = 5, .reason = N2_REASON_CONTROL_CLOSED};
        break;
    case N2_RELAY_CLOSED:
        m.relay_closed =
            (struct n2_relay_closed){.relay = 5, .association = 1, .reason = N2_REASON_FINISHED};
        break;
    case N2_RELAY_EVENT:
        m.relay_event = (struct n2_relay_event){.relay = 5, .event = N2_EVENT_TARGET_FIN};
        break;
    case N2_PING:
    case N2_PONG:
        m.nonce = 99;
        break;
    case N2_CANCEL_ORDER:
        m.cancelled = 7;
        break;
    case N2_DRAIN:
    case N2_TYPE_END:
        break;
    }
    return m;
}

static inline int some_descriptor(void)
{
    int fd = memfd_create("test", MFD_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    return fd;
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
