#include "admin_fake.h"

#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/admin.h"
#include "proto/frame.h"

static bool read_all(int fd, uint8_t *data, size_t length)
{
    while (length > 0) {
        ssize_t got = read(fd, data, length);

        if (got <= 0)
            return false;
        data += got;
        length -= (size_t)got;
    }
    return true;
}

static void write_all(int fd, const uint8_t *data, size_t length, bool bytewise)
{
    while (length > 0) {
        ssize_t sent = write(fd, data, bytewise ? 1 : length);

        if (sent <= 0)
            _exit(0);
        data += sent;
        length -= (size_t)sent;
    }
}

static void answer(int fd, const struct admin_answer *what, enum behaviour behaviour)
{
    static uint8_t frame[FRAME_MAX];
    size_t length = admin_answer_encode(what, frame, sizeof(frame));

    if (length == 0)
        abort();
    write_all(fd, frame, length, behaviour == BYTEWISE);
}

static void answer_end(int fd, uint64_t count, enum behaviour behaviour)
{
    struct admin_answer end = {.type = ADMIN_ANSWER_END, .count = count};

    answer(fd, &end, behaviour);
}

static void answer_error(int fd, const char *text, enum behaviour behaviour)
{
    struct admin_answer error = {.type = ADMIN_ANSWER_ERROR};

    strcpy(error.error, text);
    answer(fd, &error, behaviour);
}

static void fill_relay(struct admin_answer *out_answer, const char *instance, uint64_t number)
{
    struct admin_relay *relay = &out_answer->relay;

    *out_answer = (struct admin_answer){.type = ADMIN_ANSWER_RELAY};
    relay->relay = number;
    strcpy(relay->instance, instance);
    relay->kind = N2_KIND_TRANSPARENT;
    relay->ptcl = 6;
    strcpy(relay->state, "active");
    relay->plane = N2_PLANE_SOCKET;
    endpoint_parse("192.0.2.1:1000", &relay->source);
    endpoint_parse("[2001:db8::1]:80", &relay->destination);
    strcpy(relay->user, "alice \"A\"");
    relay->counters = (struct n2_counters){1, 2, 3, 4, 5};
    relay->age_ms = 60000;
}

static void answer_status(int fd, const char *instance, enum behaviour behaviour)
{
    struct admin_answer status = {.type = ADMIN_ANSWER_STATUS};

    strcpy(status.status.daemon, behaviour == SOCKSD ? "socksd" : "relayd");
    if (behaviour != SOCKSD)
        strcpy(status.status.instance, instance);
    strcpy(status.status.state, "running");
    strcpy(status.status.version, "9.9");
    status.status.pid = 42;
    status.status.ptcl = behaviour == SOCKSD ? 0 : 6;
    status.status.counter_count = 2;
    strcpy(status.status.counters[1].name, "relays_failed");
    strcpy(status.status.counters[0].name, "relays_opened");
    status.status.counters[0].value = 7;
    status.status.warning_count = 1;
    strcpy(status.status.warnings[0], "limits.relays was lowered");
    answer(fd, &status, behaviour);
    answer_end(fd, 1, behaviour);
}

static void answer_relays(int fd, const struct admin_request *request, const char *instance,
                          enum behaviour behaviour)
{
    struct admin_answer relay;
    uint64_t sent = 0;

    if (behaviour == SOCKSD) {
        answer_error(fd, "no relays here", behaviour);
        return;
    }
    for (uint64_t i = 1; i <= ADMIN_FAKE_RELAYS; i++) {
        fill_relay(&relay, instance, i);
        if (!admin_filter_matches(&request->filter, &relay.relay))
            continue;
        answer(fd, &relay, behaviour);
        sent++;
    }
    if (behaviour == CUT_OFF)
        write_all(fd, (const uint8_t *)"\0\0\0\x20half", 8, false);
    if (behaviour == CUT_OFF || behaviour == NO_END)
        _exit(0);
    answer_end(fd, behaviour == MISCOUNTS ? sent + 1 : sent, behaviour);
}

static void answer_one(int fd, const struct admin_request *request, const char *instance,
                       enum behaviour behaviour)
{
    struct admin_answer relay;

    if (behaviour == TERMINAL) {
        /* Answer { error { text: "\e[2J" } } */
        write_all(fd, (const uint8_t *)"\0\0\0\x08\x72\x06\x0a\x04\x1b[2J", 12, false);
        return;
    }
    if (request->relay > ADMIN_FAKE_RELAYS) {
        answer_error(fd, "no such relay", behaviour);
        return;
    }
    if (request->type == ADMIN_SHOW) {
        fill_relay(&relay, instance, request->relay + (behaviour == OTHER_RELAY));
        answer(fd, &relay, behaviour);
    }
    answer_end(fd, 1, behaviour);
}

static void serve_request(int fd, const struct admin_request *request, const char *instance,
                          enum behaviour behaviour)
{
    struct admin_answer record;

    switch (behaviour) {
    case SILENT:
        return;
    case HANGS_UP:
        _exit(0);
    case ENDLESS_LENGTH:
        write_all(fd, (const uint8_t *)"\xff\xff\xff\xff", 4, false);
        return;
    case OTHER_RECORD:
        if (request->type != ADMIN_STATUS) {
            answer_status(fd, instance, behaviour);
            return;
        }
        fill_relay(&record, instance, 1);
        answer(fd, &record, behaviour);
        answer_end(fd, 1, behaviour);
        return;
    default:
        break;
    }
    if (request->type == ADMIN_STATUS || behaviour == STATUS_AGAIN)
        answer_status(fd, instance, behaviour);
    else if (behaviour == GARBAGE)
        write_all(fd, (const uint8_t *)"\0\0\0\x04\xff\xff\xff\xff", 8, false);
    else if (request->type == ADMIN_RELAYS)
        answer_relays(fd, request, instance, behaviour);
    else
        answer_one(fd, request, instance, behaviour);
}

static void serve_connection(int fd, const char *instance, enum behaviour behaviour)
{
    static uint8_t frame[FRAME_MAX], memory[ADMIN_ARENA_SIZE];
    struct admin_request request;
    struct arena arena;
    const uint8_t *payload;
    size_t length, missing;

    arena_init(&arena, memory, sizeof(memory));
    while (read_all(fd, frame, FRAME_HEADER)) {
        if (frame_decode(frame, FRAME_HEADER, &payload, &length, &missing) != FRAME_NEED_MORE ||
            !read_all(fd, frame + FRAME_HEADER, missing) ||
            frame_decode(frame, FRAME_HEADER + missing, &payload, &length, &missing) != FRAME_OK ||
            admin_request_decode(payload, length, &arena, &request, NULL) != N2_OK ||
            request.version != ADMIN_VERSION)
            abort();
        serve_request(fd, &request, instance, behaviour);
    }
}

int admin_fake_listen(const char *directory, const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s.sock", directory, name);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    ck_assert_int_eq(listen(fd, 8), 0);
    return fd;
}

pid_t admin_fake_start(const char *directory, const char *name, const char *instance,
                       enum behaviour behaviour)
{
    int listener = admin_fake_listen(directory, name);
    pid_t pid = fork();

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;) {
            int fd = accept(listener, NULL, NULL);

            if (fd < 0)
                _exit(1);
            serve_connection(fd, instance, behaviour);
            close(fd);
        }
    }
    close(listener);
    return pid;
}
