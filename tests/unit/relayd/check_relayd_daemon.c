/*
 * The daemon as a whole, as a process with the socket plane, seen over N2: how it starts, how it
 * stops, and what it does when something runs out. N2-RELAY-010, N2-RELAY-040, N2-EOF-010.
 */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/ipc/peer.h"
#include "common/log/log.h"
#include "common/net/sockaddr.h"
#include "common/system/sanitizer.h"
#include "proto/frame.h"
#include "relayd/daemon.h"

#define PATIENCE_MS 20000

static char directory[64], path[128], admin_path[128];
static pid_t daemon_pid;
static bool without_standard_fds; /* the next one starts so, and logs */

/* ---- the daemon, in a process of its own ---------------------------------------------------- */

static int load(struct relayd_config *config, const char *more)
{
    struct config_error error;
    char text[1024];

    snprintf(text, sizeof(text),
             "n2: {directory: %s/n2}\nadmin: {directory: %s/admin}\n"
             "deny-floor: {open: [127.0.0.0/8]}\nlog: {level: error}\nplane: socket\n%s",
             directory, directory, more);
    int result = config_load_text(relayd_schema, config, sizeof(*config), "test", text,
                                  strlen(text), &error);
    ck_assert_msg(result == 0, "%s", error.text);
    return result;
}

static struct options options_for(uint8_t ptcl, int ready_fd)
{
    struct options options = {.action = OPTIONS_RUN,
                              .transport = transport_by_ptcl(ptcl),
                              .instance = "test",
                              .plane = -1,
                              .ready_fd = ready_fd};
    return options;
}

static void start(uint8_t ptcl, const char *more)
{
    struct relayd_config config;
    char ready[6];
    int channel[2];

    ck_assert_int_eq(pipe(channel), 0);
    load(&config, more);
    daemon_pid = fork();
    if (daemon_pid == 0) {
        struct options options = options_for(ptcl, channel[1]);
        struct daemon *daemon = NULL;
        close(channel[0]);
        log_setup("relayd", LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
        if (without_standard_fds) {
            options.ready_fd = fcntl(channel[1], F_DUPFD_CLOEXEC, 100);
            log_setup("relayd", LOG_LEVEL_DEBUG, LOG_FORMAT_TEXT);
            for (int fd = 0; fd < 100; fd++) {
                close(fd);
            }
        }
        int result = daemon_new(&daemon, &options, &config);
        if (result == 0) {
            result = daemon_run(daemon);
        }
        daemon_free(daemon);
        config_free(relayd_schema, &config);
        _exit(result == 0 ? 0 : 1);
    }
    close(channel[1]);
    ck_assert_int_eq(read(channel[0], ready, sizeof(ready)), sizeof(ready));
    ck_assert_mem_eq(ready, "READY\n", sizeof(ready));
    close(channel[0]);
    config_free(relayd_schema, &config);
}

static int wait_for_exit(void)
{
    int status = -1;
    ck_assert_int_eq(waitpid(daemon_pid, &status, 0), daemon_pid);
    daemon_pid = 0;
    ck_assert_msg(WIFEXITED(status), "ended by signal %d", WTERMSIG(status));
    return WEXITSTATUS(status);
}

static void setup(void)
{
    char sub[128];

    without_standard_fds = false;
    log_setup("check", LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
    snprintf(directory, sizeof(directory), "/tmp/check_relayd_daemon.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(sub, sizeof(sub), "%s/n2", directory);
    ck_assert_int_eq(mkdir(sub, 0700), 0);
    snprintf(sub, sizeof(sub), "%s/admin", directory);
    ck_assert_int_eq(mkdir(sub, 0700), 0);
    snprintf(path, sizeof(path), "%s/n2/test.sock", directory);
    snprintf(admin_path, sizeof(admin_path), "%s/admin/test.sock", directory);
}

static void teardown(void)
{
    char sub[128];

    if (daemon_pid > 0) {
        kill(daemon_pid, SIGTERM);
        ck_assert_int_eq(wait_for_exit(), 0);
    }
    ck_assert_int_eq(access(path, F_OK), -1);
    ck_assert_int_eq(access(admin_path, F_OK), -1);
    snprintf(sub, sizeof(sub), "%s/n2", directory);
    ck_assert_int_eq(rmdir(sub), 0);
    snprintf(sub, sizeof(sub), "%s/admin", directory);
    ck_assert_int_eq(rmdir(sub), 0);
    ck_assert_int_eq(rmdir(directory), 0);
}

/* ---- socksd's side -------------------------------------------------------------------------- */

struct peer {
    int fd;
    size_t length;
    uint8_t data[2 * FRAME_MAX];
};

static void wait_readable(int fd)
{
    struct pollfd poller = {.fd = fd, .events = POLLIN};
    ck_assert_msg(poll(&poller, 1, PATIENCE_MS) == 1, "relayd says nothing");
}

/* The next message that is neither Ping nor event; false at the end of the connection. */
static bool receive(struct peer *peer, struct n2_message *message)
{
    static uint8_t memory[N2_ARENA_SIZE];
    struct arena arena;
    const uint8_t *payload;
    size_t length, missing;

    arena_init(&arena, memory, sizeof(memory));
    for (;;) {
        if (frame_decode(peer->data, peer->length, &payload, &length, &missing) == FRAME_OK) {
            const char *problem = NULL;
            ck_assert_msg(n2_decode(payload, length, &arena, message, &problem) == N2_OK, "%s",
                          problem);
            peer->length -= FRAME_HEADER + length;
            memmove(peer->data, peer->data + FRAME_HEADER + length, peer->length);
            if (message->type != N2_PING && message->type != N2_RELAY_EVENT) {
                return true;
            }
            continue;
        }
        wait_readable(peer->fd);
        ssize_t got =
            recv(peer->fd, peer->data + peer->length, sizeof(peer->data) - peer->length, 0);
        if (got <= 0) {
            ck_assert_uint_eq(peer->length, 0); /* not inside of a frame */
            return false;
        }
        peer->length += (size_t)got;
    }
}

static void transmit(struct peer *peer, const struct n2_message *message)
{
    static uint8_t frame[N2_PAYLOAD_MAX + FRAME_HEADER];
    size_t length = n2_encode(message, frame, sizeof(frame));

    ck_assert_uint_gt(length, 0);
    for (size_t sent = 0; sent < length;) {
        ssize_t result = send(peer->fd, frame + sent, length - sent, MSG_NOSIGNAL);
        if (result < 0 && errno == EAGAIN) {
            struct pollfd poller = {.fd = peer->fd, .events = POLLOUT};
            ck_assert_int_eq(poll(&poller, 1, PATIENCE_MS), 1);
            continue;
        }
        ck_assert_int_gt(result, 0);
        sent += (size_t)result;
    }
}

static void come_up(struct peer *peer, struct n2_hello *hello)
{
    struct n2_message message = {.type = N2_HELLO};

    peer->length = 0;
    peer->fd = unix_connect(path);
    ck_assert_msg(peer->fd >= 0, "connect: %s", strerror(-peer->fd));
    message.hello.major = N2_VERSION_MAJOR;
    message.hello.boot_epoch = 1;
    snprintf(message.hello.build, sizeof(message.hello.build), "test");
    transmit(peer, &message);
    ck_assert(receive(peer, &message));
    ck_assert_int_eq(message.type, N2_HELLO_ACK);
    *hello = message.hello;
}

/* 127.0.0.1:port to 127.0.0.1:destination. */
static void order(struct peer *peer, uint64_t association, uint8_t ptcl, uint16_t destination)
{
    struct n2_message message = {.transaction = association, .type = N2_OPEN_RELAY};
    struct n2_open_relay *open = &message.open_relay;

    open->association = association;
    open->kind = N2_KIND_TRANSPARENT;
    open->ptcl = ptcl;
    ck_assert_int_eq(endpoint_parse("127.0.0.1:1", &open->source), 0);
    open->source.port = (uint16_t)(1024 + association);
    open->destination_count = 1;
    ck_assert_int_eq(endpoint_parse("127.0.0.1:1", &open->destinations[0]), 0);
    open->destinations[0].port = destination;
    snprintf(open->rule, sizeof(open->rule), "test");
    transmit(peer, &message);
}

static void close_relay(struct peer *peer, uint64_t relay)
{
    struct n2_message message = {
        .type = N2_CLOSE_RELAY,
        .close_relay = {.relay = relay, .reason = N2_REASON_CONTROL_CLOSED}};
    transmit(peer, &message);
}

/* Everything up to the end of the connection; counts RelayClosed with the reason. */
static unsigned closed_until_end(struct peer *peer, enum n2_reason reason)
{
    struct n2_message message;
    unsigned count = 0;

    while (receive(peer, &message)) {
        ck_assert_int_eq(message.type, N2_RELAY_CLOSED);
        ck_assert_str_eq(n2_reason_name(message.relay_closed.reason), n2_reason_name(reason));
        count++;
    }
    return count;
}

static const char one_address[] = "bind: {addresses: [127.0.0.1], ports: 21000-29999}\n";

/* ---- tests ---------------------------------------------------------------------------------- */

START_TEST(it_says_who_it_is)
{
    struct peer peer;
    struct n2_hello hello;

    start(PTCL_TCP, "bind: {addresses: [127.0.0.1]}\nlimits: {relays: 50}\n");
    come_up(&peer, &hello);
    ck_assert_str_eq(hello.instance, "test");
    ck_assert_str_eq(hello.build, SOCKST_VERSION);
    ck_assert_uint_eq(hello.ptcl, PTCL_TCP);
    ck_assert_uint_eq(hello.planes, 1u << N2_PLANE_SOCKET);
    ck_assert_uint_eq(hello.families, N2_FAMILY_V4);
    ck_assert_uint_eq(hello.capacity, 50);
    ck_assert(!hello.draining);
    ck_assert_uint_ne(hello.boot_epoch, 0);
    close(peer.fd);
}
END_TEST

/* _i: relays; the peer reads when all is over. */
START_TEST(a_signal_closes_every_relay_and_tells)
{
    static struct peer peer;
    struct n2_hello hello;
    struct n2_message message;

    start(PTCL_UDP, one_address);
    come_up(&peer, &hello);
    for (int i = 1; i <= _i; i++) {
        order(&peer, (uint64_t)i, PTCL_UDP, 9);
    }
    for (int i = 1; i <= _i; i++) {
        ck_assert(receive(&peer, &message));
        ck_assert_msg(message.type == N2_RELAY_OPENED, "%s", message.relay_failed.text);
    }
    kill(daemon_pid, _i % 2 == 0 ? SIGTERM : SIGINT);
    ck_assert_uint_eq(closed_until_end(&peer, N2_REASON_SHUTDOWN), (unsigned)_i);
    close(peer.fd);
    ck_assert_int_eq(wait_for_exit(), 0);
}
END_TEST

/* What the loop keeps for itself must not become standard error: the log would be written there. */
START_TEST(it_does_without_standard_descriptors)
{
    static struct peer peer;
    struct n2_hello hello;
    struct n2_message message;

    without_standard_fds = true;
    start(PTCL_UDP, one_address);
    come_up(&peer, &hello);
    order(&peer, 1, PTCL_UDP, 9);
    ck_assert(receive(&peer, &message));
    ck_assert_int_eq(message.type, N2_RELAY_OPENED);
    kill(daemon_pid, SIGTERM);
    ck_assert_uint_eq(closed_until_end(&peer, N2_REASON_SHUTDOWN), 1);
    close(peer.fd);
    ck_assert_int_eq(wait_for_exit(), 0);
}
END_TEST

START_TEST(hangup_changes_nothing)
{
    static struct peer peer;
    struct n2_hello hello;
    struct n2_message message;

    start(PTCL_UDP, one_address);
    come_up(&peer, &hello);
    kill(daemon_pid, SIGHUP);
    order(&peer, 1, PTCL_UDP, 9);
    ck_assert(receive(&peer, &message));
    ck_assert_int_eq(message.type, N2_RELAY_OPENED);
    close(peer.fd);
}
END_TEST

/* A target that refuses, dialled at OpenRelay. */
START_TEST(the_error_of_dialling_is_told)
{
    static struct peer peer;
    struct n2_hello hello;
    struct n2_message message;
    struct sockaddr_storage address;
    struct endpoint local;

    ck_assert_int_eq(endpoint_parse("127.0.0.1:1", &local), 0);
    local.port = 0;
    int fd = socket(AF_INET, SOCK_STREAM, 0); /* bound, not listening: refuses */
    socklen_t length = endpoint_to_sockaddr(&local, &address);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, length), 0);
    ck_assert_int_eq(endpoint_local(fd, &local), 0);
    start(PTCL_TCP, one_address);
    come_up(&peer, &hello);
    order(&peer, 1, PTCL_TCP, local.port);
    ck_assert(receive(&peer, &message));
    ck_assert_int_eq(message.type, N2_RELAY_FAILED);
    ck_assert_msg(message.relay_failed.error == N2_ERROR_REFUSED, "%s", message.relay_failed.text);
    ck_assert_int_eq(listen(fd, 5), 0);
    order(&peer, 2, PTCL_TCP, local.port);
    ck_assert(receive(&peer, &message));
    ck_assert_int_eq(message.type, N2_RELAY_OPENED);
    close(peer.fd);
    close(fd);
}
END_TEST

START_TEST(a_family_without_an_address_is_not_served)
{
    static struct peer peer;
    struct n2_hello hello;
    struct n2_message message = {.transaction = 1, .type = N2_OPEN_RELAY};

    start(PTCL_UDP, one_address);
    come_up(&peer, &hello);
    message.open_relay = (struct n2_open_relay){.association = 1,
                                                .kind = N2_KIND_TRANSPARENT,
                                                .ptcl = PTCL_UDP,
                                                .destination_count = 1,
                                                .rule = "test"};
    ck_assert_int_eq(endpoint_parse("[2001:db8::1]:5", &message.open_relay.source), 0);
    ck_assert_int_eq(endpoint_parse("127.0.0.1:9", &message.open_relay.destinations[0]), 0);
    transmit(&peer, &message);
    ck_assert(receive(&peer, &message));
    ck_assert_int_eq(message.type, N2_RELAY_FAILED);
    ck_assert_str_eq(n2_error_name(message.relay_failed.error),
                     n2_error_name(N2_ERROR_UNSUPPORTED));
    order(&peer, 2, PTCL_UDP, 9); /* the connection goes on */
    ck_assert(receive(&peer, &message));
    ck_assert_int_eq(message.type, N2_RELAY_OPENED);
    close(peer.fd);
}
END_TEST

START_TEST(out_of_ports_is_no_end)
{
    static struct peer peer;
    struct n2_hello hello;
    struct n2_message message;
    uint64_t relay = 0;

    start(PTCL_UDP, "bind: {addresses: [127.0.0.1], ports: 31998-31999}\n");
    come_up(&peer, &hello);
    for (uint64_t i = 1; i <= 2; i++) {
        order(&peer, i, PTCL_UDP, 9);
        ck_assert(receive(&peer, &message));
        ck_assert_int_eq(message.type, N2_RELAY_OPENED);
        relay = message.relay_opened.relay;
    }
    order(&peer, 3, PTCL_UDP, 9);
    ck_assert(receive(&peer, &message));
    ck_assert_int_eq(message.type, N2_RELAY_FAILED);
    ck_assert_int_eq(message.relay_failed.error, N2_ERROR_GENERAL);
    close_relay(&peer, relay);
    ck_assert(receive(&peer, &message));
    ck_assert_int_eq(message.type, N2_RELAY_CLOSED);
    order(&peer, 4, PTCL_UDP, 9);
    ck_assert(receive(&peer, &message));
    ck_assert_int_eq(message.type, N2_RELAY_OPENED);
    close(peer.fd);
}
END_TEST

/* With room for two, a peer that has gone makes room for the next one. */
START_TEST(a_peer_that_has_gone_leaves_room)
{
    static struct peer peer;
    struct n2_hello hello;
    struct n2_message message;

    start(PTCL_UDP, "bind: {addresses: [127.0.0.1]}\nlimits: {relays: 2}\n");
    for (int round = 0; round < 5; round++) {
        come_up(&peer, &hello);
        for (uint64_t i = 1; i <= 2;) {
            order(&peer, i, PTCL_UDP, 9);
            ck_assert(receive(&peer, &message));
            if (message.type == N2_RELAY_OPENED) {
                i++;
            } else { /* the end of the other connection has not been read yet */
                ck_assert_int_eq(message.relay_failed.error, N2_ERROR_GENERAL);
            }
        }
        close(peer.fd);
    }
}
END_TEST

/* Of the daemon; -1 where its process may not be looked at. */
static int descriptors(void)
{
    char name[64];
    int count = 0;

    snprintf(name, sizeof(name), "/proc/%d/fd", (int)daemon_pid);
    DIR *fds = opendir(name);
    if (fds == NULL) {
        return -1;
    }
    while (readdir(fds) != NULL) {
        count++;
    }
    closedir(fds);
    return count;
}

static long resident_pages(void)
{
    char name[64];
    long size = 0, resident = 0;

    snprintf(name, sizeof(name), "/proc/%d/statm", (int)daemon_pid);
    FILE *file = fopen(name, "r");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fscanf(file, "%ld %ld", &size, &resident), 2);
    fclose(file);
    return resident;
}

static void open_and_close(struct peer *peer, int count)
{
    static uint64_t ids[200];
    struct n2_message message;

    for (int i = 0; i < count; i++) {
        order(peer, (uint64_t)i + 1, PTCL_UDP, 9);
    }
    for (int i = 0; i < count; i++) {
        ck_assert(receive(peer, &message));
        ck_assert_int_eq(message.type, N2_RELAY_OPENED);
        ids[i] = message.relay_opened.relay;
    }
    for (int i = 0; i < count; i++) {
        close_relay(peer, ids[i]);
    }
    for (int i = 0; i < count; i++) {
        ck_assert(receive(peer, &message));
        ck_assert_int_eq(message.type, N2_RELAY_CLOSED);
    }
}

START_TEST(four_thousand_relays_leave_nothing)
{
    static struct peer peer;
    struct n2_hello hello;

    start(PTCL_UDP, one_address);
    come_up(&peer, &hello);
    open_and_close(&peer, 200); /* memory that is kept for the next ones */
    int before = descriptors();
    long pages = resident_pages();
    for (int round = 0; round < 20; round++) {
        open_and_close(&peer, 200);
    }
    ck_assert_int_eq(descriptors(), before);
    /* AddressSanitizer keeps freed memory back. */
    ck_assert_msg(SOCKST_SANITIZED || resident_pages() <= pages + pages / 20 + 16,
                  "%ld pages before, %ld after", pages, resident_pages());
    close(peer.fd);
}
END_TEST

/* ---- clients that are handed over ----------------------------------------------------------- */

static int listen_anywhere(struct endpoint *name)
{
    struct sockaddr_storage address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_eq(endpoint_parse("127.0.0.1:0", name), 0);
    socklen_t length = endpoint_to_sockaddr(name, &address);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, length), 0);
    ck_assert_int_eq(listen(fd, 1), 0);
    ck_assert_int_eq(endpoint_local(fd, name), 0);
    return fd;
}

static int connect_anywhere(const struct endpoint *to)
{
    struct sockaddr_storage address;
    socklen_t length = endpoint_to_sockaddr(to, &address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, length), 0);
    return fd;
}

/* A client, and the end of its connection that socksd has. */
static int new_client(int *socksd)
{
    struct endpoint name;
    int listener = listen_anywhere(&name), client = connect_anywhere(&name);

    *socksd = accept(listener, NULL, NULL);
    ck_assert_int_ge(*socksd, 0);
    close(listener);
    return client;
}

/* Consumes `fd`. */
static void attach(struct peer *peer, uint64_t relay, int fd, const char *early)
{
    struct n2_message message = {.type = N2_ATTACH_CLIENT, .fd_count = 1};
    static uint8_t frame[N2_PAYLOAD_MAX + FRAME_HEADER];
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};

    message.attach_client.relay = relay;
    message.attach_client.early_length = (uint16_t)strlen(early);
    memcpy(message.attach_client.early, early, strlen(early));
    struct iovec piece = {.iov_base = frame, .iov_len = n2_encode(&message, frame, sizeof(frame))};
    struct msghdr out = {.msg_iov = &piece,
                         .msg_iovlen = 1,
                         .msg_control = control.space,
                         .msg_controllen = sizeof(control.space)};
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(&control.header), &fd, sizeof(int));
    ck_assert_int_eq(sendmsg(peer->fd, &out, MSG_NOSIGNAL), (ssize_t)piece.iov_len);
    close(fd);
}

static void expect_text(int fd, const char *text)
{
    char buffer[64];
    size_t got = 0;

    while (got < strlen(text)) {
        wait_readable(fd);
        ssize_t n = recv(fd, buffer + got, sizeof(buffer) - got, 0);
        ck_assert_int_gt(n, 0);
        got += (size_t)n;
    }
    ck_assert_uint_eq(got, strlen(text));
    ck_assert_mem_eq(buffer, text, got);
}

static void expect_fin(int fd)
{
    char octet;

    wait_readable(fd);
    ck_assert_int_eq(recv(fd, &octet, 1, 0), 0);
}

static void order_kind(struct peer *peer, enum n2_kind kind, int client,
                       const struct endpoint *first, const struct endpoint *second)
{
    struct n2_message message = {.transaction = 1, .type = N2_OPEN_RELAY};
    struct n2_open_relay *open = &message.open_relay;

    open->association = 1;
    open->kind = kind;
    open->ptcl = PTCL_TCP;
    ck_assert_int_eq(endpoint_local(client, &open->source), 0);
    open->destination_count = second != NULL ? 2 : 1;
    open->destinations[0] = *first;
    if (second != NULL) {
        open->destinations[1] = *second;
    }
    transmit(peer, &message);
}

/* What both say arrives, both end in order, and the relay with them. */
static void talk_and_end(struct peer *peer, int client, int target)
{
    struct n2_message message;

    expect_text(target, "early");
    ck_assert_int_eq(send(client, "up", 2, 0), 2);
    expect_text(target, "up");
    ck_assert_int_eq(shutdown(client, SHUT_WR), 0);
    expect_fin(target);
    ck_assert_int_eq(send(target, "down", 4, 0), 4);
    close(target);
    expect_text(client, "down");
    expect_fin(client);
    close(client);
    ck_assert(receive(peer, &message));
    ck_assert_int_eq(message.type, N2_RELAY_CLOSED);
    ck_assert_str_eq(n2_reason_name(message.relay_closed.reason), "finished");
    ck_assert_uint_eq(message.relay_closed.counters.up_bytes, 7);
    ck_assert_uint_eq(message.relay_closed.counters.down_bytes, 4);
}

START_TEST(connect_from_order_to_end)
{
    struct peer peer;
    struct n2_hello hello;
    struct n2_message message;
    struct endpoint closed, open;
    int socksd, client = new_client(&socksd);

    close(listen_anywhere(&closed));
    int listener = listen_anywhere(&open);
    start(PTCL_TCP, one_address);
    come_up(&peer, &hello);
    order_kind(&peer, N2_KIND_CONNECT, client, &closed, &open);
    ck_assert(receive(&peer, &message));
    ck_assert_msg(message.type == N2_RELAY_OPENED, "%s", message.relay_failed.text);
    ck_assert(endpoint_equal(&message.relay_opened.destination, &open));
    ck_assert(endpoint_equal(&message.relay_opened.bound, &message.relay_opened.egress));
    attach(&peer, message.relay_opened.relay, socksd, "early");
    int target = accept(listener, NULL, NULL);
    struct endpoint seen;
    ck_assert_int_eq(endpoint_peer(target, &seen), 0);
    ck_assert(endpoint_equal(&seen, &message.relay_opened.egress));
    talk_and_end(&peer, client, target);
    close(listener);
    close(peer.fd);
}
END_TEST

START_TEST(bind_from_order_to_end)
{
    struct peer peer;
    struct n2_hello hello;
    struct n2_message message;
    struct endpoint expected, name;
    int socksd, client = new_client(&socksd);

    start(PTCL_TCP, one_address);
    come_up(&peer, &hello);
    ck_assert_int_eq(endpoint_parse("127.0.0.1:21", &expected), 0);
    order_kind(&peer, N2_KIND_BIND, client, &expected, NULL);
    ck_assert(receive(&peer, &message));
    ck_assert_msg(message.type == N2_RELAY_OPENED, "%s", message.relay_failed.text);
    const uint64_t relay = message.relay_opened.relay;
    int target = connect_anywhere(&message.relay_opened.bound);
    ck_assert(receive(&peer, &message));
    ck_assert_int_eq(message.type, N2_RELAY_CONNECTED);
    ck_assert_uint_eq(message.relay_connected.relay, relay);
    ck_assert_int_eq(endpoint_local(target, &name), 0);
    ck_assert(endpoint_equal(&message.relay_connected.peer, &name));
    attach(&peer, relay, socksd, "early");
    talk_and_end(&peer, client, target);
    close(peer.fd);
}
END_TEST

/* The end of N2 is the end of what was handed over, too: both sides are reset. */
START_TEST(a_client_that_was_handed_over_goes_with_its_peer)
{
    struct peer peer;
    struct n2_hello hello;
    struct n2_message message;
    struct endpoint open;
    char octet;

    start(PTCL_TCP, one_address); /* first: it must not inherit any of them */
    int socksd, client = new_client(&socksd), listener = listen_anywhere(&open);
    come_up(&peer, &hello);
    order_kind(&peer, N2_KIND_CONNECT, client, &open, NULL);
    ck_assert(receive(&peer, &message));
    attach(&peer, message.relay_opened.relay, socksd, "early");
    int target = accept(listener, NULL, NULL);
    expect_text(target, "early");
    close(peer.fd);
    wait_readable(target);
    ck_assert_int_eq(recv(target, &octet, 1, 0), -1);
    ck_assert_int_eq(errno, ECONNRESET);
    wait_readable(client);
    ck_assert_int_eq(recv(client, &octet, 1, 0), -1);
    ck_assert_int_eq(errno, ECONNRESET);
    close(target);
    close(client);
    close(listener);
}
END_TEST

static int try_to_start(const char *more)
{
    struct relayd_config config;
    struct options options = options_for(PTCL_UDP, -1);
    struct daemon *daemon = NULL;

    load(&config, more);
    log_setup("check", LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
    int result = daemon_new(&daemon, &options, &config);
    ck_assert_ptr_null(daemon);
    config_free(relayd_schema, &config);
    return result;
}

START_TEST(what_cannot_start_leaves_nothing)
{
    char sub[128];

    start(PTCL_UDP, one_address);
    ck_assert_int_eq(try_to_start(one_address), -EADDRINUSE);
    kill(daemon_pid, SIGTERM);
    ck_assert_int_eq(wait_for_exit(), 0);
    snprintf(sub, sizeof(sub), "%s/admin", directory);
    ck_assert_int_eq(rmdir(sub), 0);
    ck_assert_int_eq(try_to_start(one_address), -ENOENT); /* N2 is up by then, and goes */
    ck_assert_int_eq(access(path, F_OK), -1);
    ck_assert_int_eq(mkdir(sub, 0700), 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("relayd_daemon");
    TCase *tcase = tcase_create("relayd_daemon");
    static const int counts[] = {0, 1, 2, 300, 1501};

    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, it_says_who_it_is);
    tcase_add_test(tcase, it_does_without_standard_descriptors);
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        tcase_add_loop_test(tcase, a_signal_closes_every_relay_and_tells, counts[i], counts[i] + 1);
    }
    tcase_add_test(tcase, hangup_changes_nothing);
    tcase_add_test(tcase, the_error_of_dialling_is_told);
    tcase_add_test(tcase, a_family_without_an_address_is_not_served);
    tcase_add_test(tcase, out_of_ports_is_no_end);
    tcase_add_test(tcase, a_peer_that_has_gone_leaves_room);
    tcase_add_test(tcase, four_thousand_relays_leave_nothing);
    tcase_add_test(tcase, connect_from_order_to_end);
    tcase_add_test(tcase, bind_from_order_to_end);
    tcase_add_test(tcase, a_client_that_was_handed_over_goes_with_its_peer);
    tcase_add_test(tcase, what_cannot_start_leaves_nothing);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(suite());
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
