/*
 * N2 as relayd serves it: who may connect, what a peer may send, whose relays are whose, and what
 * is left when a peer has gone. N2-PEER-010, N2-EOF-010, N2-EOF-030, N2-STATE-010, N2-STATE-020,
 * N2-ID-020, N2-ID-030, N2-RELAY-010, N2-RELAY-020, N2-RELAY-040.
 */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/ipc/channel.h"
#include "common/log/log.h"
#include "proto/frame.h"
#include "relayd/n2/server.h"
#include "tests/unit/relayd/fake.h"

#define NOBODY 65534

/* socksd's end of a connection. */
struct client {
    struct n2_link *link; /* NULL: down */
    bool up;
    char why[256];
    struct n2_hello hello;
    struct n2_message last;
    unsigned opened, failed, closed, events, connected;
    uint64_t relay; /* of the last RelayOpened */
};

static struct fake fake;
static struct n2_server *server;
static char directory[64], path[128];
static struct config_list no_users;

/* ---- the client ----------------------------------------------------------------------------- */

static void client_up(struct n2_link *link, const struct n2_hello *hello, void *user)
{
    struct client *client = user;
    (void)link;
    client->up = true;
    client->hello = *hello;
}

static void client_message(struct n2_link *link, const struct n2_message *message, int fd,
                           bool stray, void *user)
{
    struct client *client = user;

    (void)link;
    (void)stray; /* orders are sent without n2_link_request(), so every answer is one */
    ck_assert_int_lt(fd, 0);
    client->last = *message;
    client->connected += message->type == N2_RELAY_CONNECTED;
    client->opened += message->type == N2_RELAY_OPENED;
    client->failed += message->type == N2_RELAY_FAILED;
    client->closed += message->type == N2_RELAY_CLOSED;
    client->events += message->type == N2_RELAY_EVENT;
    if (message->type == N2_RELAY_OPENED) {
        client->relay = message->relay_opened.relay;
    }
}

static void client_down(struct n2_link *link, const char *text, void *user)
{
    struct client *client = user;
    (void)link;
    client->link = NULL;
    client->up = false;
    snprintf(client->why, sizeof(client->why), "%s", text);
}

static const struct n2_link_ops client_ops = {
    .up = client_up, .message = client_message, .down = client_down};

static void run_once(void)
{
    uv_run(&fake.loop, UV_RUN_ONCE);
}

static void client_connect(struct client *client)
{
    struct n2_link_config config;

    *client = (struct client){0};
    n2_link_config_init(&config, N2_ROLE_SOCKSD);
    config.hello.major = N2_VERSION_MAJOR;
    config.hello.minor = N2_VERSION_MINOR;
    config.hello.boot_epoch = 1;
    snprintf(config.hello.build, sizeof(config.hello.build), "test");
    int fd = unix_connect(path);
    ck_assert_msg(fd >= 0, "connect: %s", strerror(-fd));
    ck_assert_int_eq(n2_link_open(&client->link, &fake.loop, fd, &config, &client_ops, client), 0);
}

static void client_come_up(struct client *client)
{
    client_connect(client);
    while (!client->up && client->link != NULL) {
        run_once();
    }
    ck_assert_msg(client->up, "did not come up: %s", client->why);
}

static void client_leave(struct client *client)
{
    if (client->link != NULL) {
        n2_link_close(client->link);
        client->link = NULL;
    }
}

static void client_send(struct client *client, const struct n2_message *message)
{
    ck_assert_int_eq(n2_link_send(client->link, message, -1), 0);
}

static void client_order(struct client *client, const struct n2_open_relay *order)
{
    unsigned before = client->opened + client->failed;
    struct n2_message message = {
        .transaction = 1000 + order->association, .type = N2_OPEN_RELAY, .open_relay = *order};
    client_send(client, &message);
    while (client->opened + client->failed == before && client->link != NULL) {
        run_once();
    }
    ck_assert_msg(client->link != NULL, "the order ended the connection: %s", client->why);
}

static void client_close_relay(struct client *client, uint64_t relay)
{
    struct n2_message message = {
        .type = N2_CLOSE_RELAY,
        .close_relay = {.relay = relay, .reason = N2_REASON_CONTROL_CLOSED}};
    client_send(client, &message);
}

/* Hands the end of a pipe over; returns the other one, which says what has become of it. */
static int client_attach(struct client *client, uint64_t relay, const char *early)
{
    struct n2_message message = {.type = N2_ATTACH_CLIENT, .fd_count = 1};
    int ends[2];

    message.attach_client.relay = relay;
    message.attach_client.early_length = (uint16_t)strlen(early);
    memcpy(message.attach_client.early, early, strlen(early));
    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_eq(n2_link_send(client->link, &message, ends[1]), 0);
    return ends[0];
}

/* Nobody holds the other end any more. */
static void expect_closed(int fd)
{
    char octet;

    ck_assert_int_eq(read(fd, &octet, 1), 0);
    close(fd);
}

/* What was sent before has been dealt with: an order that is refused has been answered. */
static void client_settle(struct client *client)
{
    struct n2_open_relay order = fake_order(1);
    order.kind = N2_KIND_UDP_ASSOCIATE;
    order.destination_count = 0;
    client_order(client, &order);
    ck_assert_int_eq(client->last.type, N2_RELAY_FAILED);
}

/* ---- fixture -------------------------------------------------------------------------------- */

static void server_start(int fd, const struct config_list *users)
{
    struct n2_server_config config = {.fd = fd, .path = path, .allow_users = users};

    config.hello = (struct n2_hello){.major = N2_VERSION_MAJOR,
                                     .minor = N2_VERSION_MINOR,
                                     .boot_epoch = 7,
                                     .ptcl = PTCL_TCP,
                                     .planes = 1u << N2_PLANE_SOCKET,
                                     .families = N2_FAMILY_V4,
                                     .capacity = 2000};
    snprintf(config.hello.build, sizeof(config.hello.build), "1.2.3");
    snprintf(config.hello.instance, sizeof(config.hello.instance), "tcp-2");
    n2_link_config_init(&config.link, N2_ROLE_RELAYD);
    ck_assert_int_eq(n2_server_open(&server, &fake.context, &config), 0);
}

static void setup(void)
{
    fake_setup(&fake, 2000);
    fake.plane.in_open = fake_opened;
    fake.plane.in_close = fake_plane_closed;
    snprintf(directory, sizeof(directory), "/tmp/check_n2_server.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/tcp.sock", directory);
    server_start(-1, &no_users);
}

static void teardown(void)
{
    n2_server_close(server);
    server = NULL;
    uv_run(&fake.loop, UV_RUN_DEFAULT);
    fake_teardown(&fake);
    ck_assert_msg(rmdir(directory) == 0, "left in the directory: %s", strerror(errno));
}

static unsigned descriptors(void)
{
    unsigned count = 0;
    DIR *fds = opendir("/proc/self/fd");
    while (readdir(fds) != NULL) {
        count++;
    }
    closedir(fds);
    return count;
}

static uint64_t metric(enum relayd_metric which)
{
    return relayd_metrics_get(&fake.metrics, which);
}

/* ---- the socket ----------------------------------------------------------------------------- */

START_TEST(the_socket_is_for_its_group)
{
    struct stat file, parent;

    ck_assert_int_eq(stat(path, &file), 0);
    ck_assert_int_eq(stat(directory, &parent), 0);
    ck_assert(S_ISSOCK(file.st_mode));
    ck_assert_int_eq(file.st_mode & 07777, 0660);
    ck_assert_int_eq(file.st_gid, parent.st_gid);
    n2_server_stop_listening(server);
    ck_assert_int_eq(access(path, F_OK), -1);
    ck_assert_int_eq(unix_connect(path), -ENOENT);
    n2_server_stop_listening(server);
}
END_TEST

START_TEST(the_socket_gets_the_directorys_group)
{
    struct stat file;

    if (geteuid() != 0) {
        return;
    }
    n2_server_close(server);
    ck_assert_int_eq(chown(directory, (uid_t)-1, NOBODY), 0);
    server_start(-1, &no_users);
    ck_assert_int_eq(stat(path, &file), 0);
    ck_assert_uint_eq(file.st_gid, NOBODY);
}
END_TEST

START_TEST(a_second_server_does_not_take_the_socket)
{
    struct n2_server *second = NULL;
    struct n2_server_config config = {.fd = -1, .path = path, .allow_users = &no_users};
    n2_link_config_init(&config.link, N2_ROLE_RELAYD);

    ck_assert_int_eq(n2_server_open(&second, &fake.context, &config), -EADDRINUSE);
    config.path = "/nonexistent/tcp.sock";
    ck_assert_int_eq(n2_server_open(&second, &fake.context, &config), -ENOENT);
    ck_assert_ptr_null(second);
    struct client client;
    client_come_up(&client); /* the first one is untouched */
    client_leave(&client);
}
END_TEST

START_TEST(an_inherited_socket_is_served_and_kept)
{
    struct client client;

    n2_server_close(server);
    int fd = unix_listen(path, 0660);
    ck_assert_int_ge(fd, 0);
    server_start(fd, &no_users);
    client_come_up(&client);
    client_leave(&client);
    n2_server_stop_listening(server);
    ck_assert_int_eq(access(path, F_OK), 0); /* the service manager's */
    ck_assert_int_eq(unlink(path), 0);
}
END_TEST

START_TEST(hello_says_who_this_is)
{
    struct client client;

    client_come_up(&client);
    ck_assert_str_eq(client.hello.instance, "tcp-2");
    ck_assert_str_eq(client.hello.build, "1.2.3");
    ck_assert_uint_eq(client.hello.ptcl, PTCL_TCP);
    ck_assert_uint_eq(client.hello.capacity, 2000);
    ck_assert(!client.hello.draining);
    client_leave(&client);
    fake.context.draining = true;
    client_come_up(&client);
    ck_assert(client.hello.draining);
    client_leave(&client);
}
END_TEST

/* ---- who may connect ------------------------------------------------------------------------ */

/* In a child process of another user: 0 when HelloAck came, 1 for EOF. */
static pid_t connect_as(uid_t uid)
{
    pid_t child = fork();
    if (child != 0) {
        return child;
    }
    uint8_t frame[N2_PAYLOAD_MAX], octet;
    struct n2_message hello = {.type = N2_HELLO};
    hello.hello.major = N2_VERSION_MAJOR;
    snprintf(hello.hello.build, sizeof(hello.hello.build), "test");
    hello.hello.boot_epoch = 1;
    size_t length = n2_encode(&hello, frame, sizeof(frame));
    if (length == 0 || setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0) {
        _exit(2);
    }
    int fd = unix_connect(path);
    if (fd < 0) {
        _exit(3);
    }
    (void)send(fd, frame, length, MSG_NOSIGNAL);
    ssize_t got;
    do {
        struct timeval patience = {.tv_sec = 1};
        fd_set readable;
        FD_ZERO(&readable);
        FD_SET(fd, &readable);
        (void)select(fd + 1, &readable, NULL, NULL, &patience);
        got = recv(fd, &octet, 1, 0);
    } while (got < 0 && errno == EAGAIN);
    _exit(got > 0 ? 0 : 1);
}

static int serve_until_exit(pid_t child)
{
    int status;
    while (waitpid(child, &status, WNOHANG) == 0) {
        uv_run(&fake.loop, UV_RUN_NOWAIT);
        usleep(1000);
    }
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

START_TEST(another_user_is_refused)
{
    if (geteuid() != 0) {
        return;
    }
    ck_assert_int_eq(chmod(directory, 0755), 0);
    ck_assert_int_eq(chmod(path, 0666), 0); /* access to the file is not enough */
    ck_assert_int_eq(serve_until_exit(connect_as(NOBODY)), 1);
    ck_assert_uint_eq(metric(RELAYD_N2_REFUSED), 1);
    ck_assert_uint_eq(metric(RELAYD_N2_ACCEPTED), 0);
}
END_TEST

/* _i: by name, or by number */
START_TEST(a_user_of_the_list_is_served)
{
    char *names[] = {_i == 0 ? "nobody" : "65534"};
    struct config_list users = {.items = names, .count = 1};

    if (geteuid() != 0) {
        return;
    }
    n2_server_close(server);
    server_start(-1, &users);
    ck_assert_int_eq(chmod(directory, 0755), 0);
    ck_assert_int_eq(chmod(path, 0666), 0);
    ck_assert_int_eq(serve_until_exit(connect_as(NOBODY)), 0);
    ck_assert_uint_eq(metric(RELAYD_N2_REFUSED), 0);
    ck_assert_uint_eq(metric(RELAYD_N2_ACCEPTED), 1);
}
END_TEST

START_TEST(the_list_of_users)
{
    char *names[] = {"root", "no-such-user-here", "12x", "4294967295", "-1", "77"};
    struct config_list users = {.items = names, .count = sizeof(names) / sizeof(names[0])};
    struct n2_access access;

    n2_access_init(&access, &users);
    ck_assert_uint_eq(access.count, 2); /* root, 77 */
    ck_assert(n2_access_allows(&access, 0));
    ck_assert(n2_access_allows(&access, 77));
    ck_assert(n2_access_allows(&access, geteuid()));
    ck_assert(!n2_access_allows(&access, 78));
    ck_assert(!n2_access_allows(&access, 12));
    ck_assert(!n2_access_allows(&access, (uid_t)-1));
}
END_TEST

START_TEST(the_number_of_peers_is_bounded)
{
    static struct client clients[N2_PEERS_MAX + 1];

    for (size_t i = 0; i < N2_PEERS_MAX; i++) {
        client_come_up(&clients[i]);
    }
    ck_assert_uint_eq(metric(RELAYD_N2_PEERS), N2_PEERS_MAX);
    client_connect(&clients[N2_PEERS_MAX]);
    while (clients[N2_PEERS_MAX].link != NULL) {
        run_once();
    }
    ck_assert_uint_eq(metric(RELAYD_N2_REFUSED), 1);
    client_leave(&clients[3]);
    while (metric(RELAYD_N2_PEERS) == N2_PEERS_MAX) {
        run_once();
    }
    client_come_up(&clients[3]);
    for (size_t i = 0; i < N2_PEERS_MAX; i++) {
        client_leave(&clients[i]);
    }
}
END_TEST

/* ---- relays --------------------------------------------------------------------------------- */

START_TEST(a_relay_from_order_to_end)
{
    struct client client;
    struct n2_open_relay order = fake_order(5);

    fake.plane.counters = (struct n2_counters){1, 2, 3, 4, 5};
    client_come_up(&client);
    client_order(&client, &order);
    ck_assert_uint_eq(client.opened, 1);
    ck_assert_uint_eq(client.last.transaction, 1005);
    ck_assert_uint_eq(client.last.relay_opened.association, 5);
    client_close_relay(&client, client.relay);
    client_close_relay(&client, client.relay); /* crosses RelayClosed on the way */
    while (client.closed == 0) {
        run_once();
    }
    ck_assert_int_eq(client.last.relay_closed.reason, N2_REASON_CONTROL_CLOSED);
    ck_assert_uint_eq(client.last.relay_closed.counters.drops, 5);
    ck_assert_uint_eq(relay_table_count(fake.context.table), 0);
    client_settle(&client);
    ck_assert_uint_eq(client.closed, 1);
    ck_assert_uint_eq(metric(RELAYD_N2_UNKNOWN_RELAY), 1);
    client_leave(&client);
}
END_TEST

/* N2-TRANS-045 */
START_TEST(an_order_is_cancelled_while_it_opens)
{
    struct client client, other;
    struct n2_message order = {
        .transaction = 1005, .type = N2_OPEN_RELAY, .open_relay = fake_order(5)};
    const struct n2_message cancel = {.type = N2_CANCEL_ORDER, .cancelled = 1005};

    fake.plane.in_open = NULL;
    client_come_up(&client);
    client_come_up(&other);
    client_send(&client, &order);
    while (fake.plane.opens == 0) {
        run_once();
    }
    client_send(&other, &cancel); /* another's order does not exist for it */
    while (relayd_metrics_get(&fake.metrics, RELAYD_N2_UNKNOWN_RELAY) == 0) {
        run_once();
    }
    ck_assert_uint_eq(fake.plane.closes, 0);
    client_send(&client, &cancel);
    while (client.failed == 0) {
        run_once();
    }
    ck_assert_uint_eq(client.last.transaction, 1005);
    ck_assert_uint_eq(fake.plane.closes, 1);
    client_send(&client, &cancel); /* too late: counted, no more */
    while (relayd_metrics_get(&fake.metrics, RELAYD_N2_UNKNOWN_RELAY) == 1) {
        run_once();
    }
    ck_assert_uint_eq(client.failed, 1);
    client_settle(&client);
    ck_assert(client.up);
    ck_assert_uint_eq(client.opened, 0);
    ck_assert_uint_eq(client.closed, 0);
}
END_TEST

/* N2-TRANS-045 */
START_TEST(an_order_that_was_answered_is_not_cancelled)
{
    struct client client;
    struct n2_message order = {
        .transaction = 1005, .type = N2_OPEN_RELAY, .open_relay = fake_order(5)};
    const struct n2_message cancel = {.type = N2_CANCEL_ORDER, .cancelled = 1005};

    client_come_up(&client);
    client_send(&client, &order);
    while (client.opened == 0) {
        run_once();
    }
    client_send(&client, &cancel);
    while (relayd_metrics_get(&fake.metrics, RELAYD_N2_UNKNOWN_RELAY) == 0) {
        run_once();
    }
    ck_assert_uint_eq(fake.plane.closes, 0);
}
END_TEST

/* A peer cannot know the id yet, but it can guess one. */
START_TEST(close_relay_while_it_opens)
{
    struct client client;
    struct n2_message order = {
        .transaction = 1005, .type = N2_OPEN_RELAY, .open_relay = fake_order(5)};

    fake.plane.in_open = NULL;
    client_come_up(&client);
    client_send(&client, &order);
    while (fake.plane.opens == 0) {
        run_once();
    }
    client_close_relay(&client, fake.plane.flows->relay->id);
    while (client.failed == 0) {
        run_once();
    }
    ck_assert_uint_eq(client.last.transaction, 1005);
    client_settle(&client);
    ck_assert_uint_eq(client.opened + client.closed, 0);
    ck_assert_uint_eq(relay_table_count(fake.context.table), 0);
    client_leave(&client);
}
END_TEST

START_TEST(anothers_relay_does_not_exist)
{
    struct client owner, other;
    struct n2_open_relay order = fake_order(5);

    client_come_up(&owner);
    client_come_up(&other);
    client_order(&owner, &order);
    for (uint64_t id = owner.relay > 5 ? owner.relay - 5 : 1; id < owner.relay + 5; id++) {
        client_close_relay(&other, id);
    }
    client_close_relay(&other, UINT64_MAX);
    client_settle(&other);
    ck_assert_uint_eq(relay_table_count(fake.context.table), 1);
    ck_assert_uint_ge(metric(RELAYD_N2_UNKNOWN_RELAY), 6);
    ck_assert_uint_eq(other.closed + owner.closed, 0);
    /* Its owner may. */
    client_close_relay(&owner, owner.relay);
    while (owner.closed == 0) {
        run_once();
    }
    client_leave(&owner);
    client_leave(&other);
}
END_TEST

START_TEST(an_id_of_an_ended_connection_means_nothing)
{
    struct client client;
    struct n2_open_relay order = fake_order(5);

    client_come_up(&client);
    client_order(&client, &order);
    uint64_t old = client.relay;
    client_leave(&client);
    client_come_up(&client);
    client_order(&client, &order);
    ck_assert_uint_ne(client.relay, old);
    client_close_relay(&client, old);
    client_settle(&client);
    ck_assert_uint_eq(relay_table_count(fake.context.table), 1);
    client_leave(&client);
}
END_TEST

static void open_every_second(struct relay *relay)
{
    if (relay->association % 2 == 0) {
        fake_opened(relay);
    }
}

/* _i: the connection is closed, or breaks the rules. */
START_TEST(a_lost_peer_leaves_no_relay)
{
    struct client client, other;
    unsigned before = descriptors();

    client_come_up(&client);
    client_come_up(&other);
    fake.plane.in_open = open_every_second;
    for (uint64_t i = 0; i < 1000; i++) {
        struct n2_message order = {
            .transaction = 1 + i, .type = N2_OPEN_RELAY, .open_relay = fake_order(i)};
        client_send(&client, &order);
        if (i % 50 == 49) {
            while (fake.plane.opens < i + 1) {
                run_once();
            }
        }
    }
    fake.plane.in_open = fake_opened;
    struct n2_open_relay order = fake_order(1);
    client_order(&other, &order);
    ck_assert_uint_eq(relay_table_count(fake.context.table), 1001);
    if (_i == 0) {
        client_leave(&client);
    } else {
        struct n2_message attach = {.type = N2_ATTACH_CLIENT, .fd_count = 1};
        attach.attach_client.relay = 1;
        (void)n2_link_send(client.link, &attach, dup(0));
        while (client.link != NULL) {
            run_once();
        }
    }
    while (metric(RELAYD_N2_LOST) == 0) {
        run_once();
    }
    ck_assert_uint_eq(relay_table_count(fake.context.table), 1);
    ck_assert_uint_eq(metric(RELAYD_CLOSED + N2_REASON_PEER_LOST), 500);
    client_settle(&other);
    ck_assert_uint_eq(other.closed, 0);
    client_leave(&other);
    while (metric(RELAYD_N2_PEERS) != 0) {
        run_once();
    }
    uv_run(&fake.loop, UV_RUN_NOWAIT);
    ck_assert_uint_eq(descriptors(), before);
}
END_TEST

/* ---- AttachClient --------------------------------------------------------------------------- */

static struct relay *open_kind(struct client *client, uint64_t association, enum n2_kind kind)
{
    struct n2_open_relay order = fake_order(association);

    order.kind = kind;
    fake.plane.in_open = fake_opened;
    client_order(client, &order);
    ck_assert_int_eq(client->last.type, N2_RELAY_OPENED);
    return relay_table_find(fake.context.table, client->relay);
}

START_TEST(a_client_is_handed_over)
{
    struct client client;
    unsigned before = descriptors();

    client_come_up(&client);
    struct relay *relay = open_kind(&client, 2, _i == 0 ? N2_KIND_CONNECT : N2_KIND_BIND);
    if (_i == 1) {
        relay->destination = fake_endpoint("203.0.113.5:20");
        relay_peer_connected(relay);
        while (client.connected == 0) {
            run_once();
        }
        ck_assert_uint_eq(client.last.relay_connected.relay, relay->id);
        ck_assert_uint_eq(client.last.relay_connected.peer.port, 20);
    }
    int fd = client_attach(&client, relay->id, "early");
    client_settle(&client);
    expect_closed(fd); /* the plane did */
    ck_assert_uint_eq(fake.plane.attaches, 1);
    ck_assert_uint_eq(fake.plane.early_length, 5);
    ck_assert_mem_eq(fake.plane.early, "early", 5);
    ck_assert_uint_eq(metric(RELAYD_N2_UNKNOWN_RELAY), 0);
    client_leave(&client);
    while (metric(RELAYD_N2_PEERS) != 0) {
        run_once();
    }
    uv_run(&fake.loop, UV_RUN_NOWAIT);
    ck_assert_uint_eq(descriptors(), before);
}
END_TEST

/* For a relay that never was, has ended, is about to, or is another's: dropped, counted, no more.
 */
START_TEST(a_client_for_nobody_is_dropped)
{
    struct client client, other;

    client_come_up(&client);
    client_come_up(&other);
    fake.plane.in_close = NULL;
    struct relay *others = open_kind(&other, 2, N2_KIND_CONNECT);
    struct relay *closing = open_kind(&client, 3, N2_KIND_CONNECT);
    const uint64_t ids[] = {4711, UINT64_MAX, others->id, closing->id};
    relay_close(closing, N2_REASON_ADMIN);
    for (unsigned i = 0; i < 4; i++) {
        int fd = client_attach(&client, ids[i], "early");
        client_settle(&client);
        expect_closed(fd);
        ck_assert_uint_eq(metric(RELAYD_N2_UNKNOWN_RELAY), i + 1);
    }
    ck_assert_uint_eq(fake.plane.attaches, 0);
    ck_assert_int_eq(others->state, RELAY_ST_WAITING);
    client_leave(&client);
    client_leave(&other);
}
END_TEST

enum not_awaited { NOT_OF_THIS_KIND, NOT_TWICE, NOT_ONCE_ACTIVE, NOT_WITHOUT_PEER, NOT_COUNT };

/* _i: why. The connection ends, and the descriptor with it. */
START_TEST(a_client_that_is_not_awaited_ends_the_connection)
{
    struct client client;
    const enum n2_kind kind = _i == NOT_OF_THIS_KIND   ? N2_KIND_TRANSPARENT
                              : _i == NOT_WITHOUT_PEER ? N2_KIND_BIND
                                                       : N2_KIND_CONNECT;

    client_come_up(&client);
    struct relay *relay = open_kind(&client, 2, kind);
    const uint64_t id = relay->id;
    if (_i == NOT_TWICE || _i == NOT_ONCE_ACTIVE) {
        fake.plane.in_attach = _i == NOT_ONCE_ACTIVE ? relay_client_arrived : NULL;
        int fd = client_attach(&client, id, "");
        client_settle(&client);
        expect_closed(fd);
    }
    const unsigned attaches = fake.plane.attaches;
    int fd = client_attach(&client, id, "early");
    while (client.link != NULL) {
        run_once();
    }
    expect_closed(fd);
    ck_assert_uint_eq(fake.plane.attaches, attaches);
    ck_assert_uint_eq(relay_table_count(fake.context.table), 0);
    ck_assert_uint_eq(metric(RELAYD_N2_BAD_MESSAGES), 1);
}
END_TEST

START_TEST(above_the_limit_orders_fail_until_there_is_room)
{
    struct client client;

    relay_table_free(fake.context.table);
    ck_assert_int_eq(relay_table_new(&fake.context.table, 2), 0);
    client_come_up(&client);
    for (uint64_t i = 0; i < 3; i++) {
        struct n2_open_relay order = fake_order(i);
        client_order(&client, &order);
    }
    ck_assert_uint_eq(client.opened, 2);
    ck_assert_uint_eq(client.failed, 1);
    ck_assert_int_eq(client.last.relay_failed.error, N2_ERROR_GENERAL);
    client_close_relay(&client, client.relay);
    struct n2_open_relay order = fake_order(4);
    client_order(&client, &order);
    ck_assert_uint_eq(client.opened, 3);
    client_leave(&client);
}
END_TEST

START_TEST(drain_keeps_what_there_is)
{
    struct client client, other;
    struct n2_open_relay order = fake_order(5);

    client_come_up(&client);
    client_come_up(&other);
    client_order(&client, &order);
    client_send(&client, &(struct n2_message){.type = N2_DRAIN});
    order.association = 6;
    client_order(&client, &order);
    ck_assert_int_eq(client.last.type, N2_RELAY_FAILED);
    ck_assert_int_eq(client.last.relay_failed.error, N2_ERROR_DRAINING);
    ck_assert_uint_eq(relay_table_count(fake.context.table), 1);
    client_order(&other, &order); /* whose orders are its own affair */
    ck_assert_uint_eq(other.opened, 1);
    client_leave(&client);
    client_leave(&other);
}
END_TEST

START_TEST(policy_changed_is_taken)
{
    struct client client;

    client_come_up(&client);
    client_send(&client, &(struct n2_message){.type = N2_POLICY_CHANGED, .policy_generation = 3});
    client_settle(&client);
    client_leave(&client);
}
END_TEST

/* ---- the deny floor ------------------------------------------------------------------------- */

static const char *const forbidden[] = {
    /* 0/8, loopback */
    "0.0.0.0:80",
    "0.1.2.3:80",
    "0.255.255.255:80",
    "127.0.0.1:80",
    "127.255.255.254:80",
    "[::]:80",
    "[::1]:80",
    /* link-local, multicast, 240/4, broadcast */
    "169.254.0.1:80",
    "169.254.169.254:80",
    "[fe80::1%1]:80",
    "[febf::1%1]:80",
    "224.0.0.1:80",
    "239.255.255.255:80",
    "[ff02::1]:80",
    "[ff0e::1]:80",
    "240.0.0.1:80",
    "254.1.2.3:80",
    "255.255.255.255:80",
    /* embedded: IPv4-compatible, NAT64, 6to4 */
    "[::127.0.0.1]:80",
    "[::169.254.169.254]:80",
    "[64:ff9b::127.0.0.1]:80",
    "[64:ff9b::7f00:1]:80",
    "[64:ff9b::224.0.0.1]:80",
    "[64:ff9b::0.0.0.0]:80",
    "[2002:7f00:1::1]:80",
    "[2002:a9fe:a9fe::]:80",
    "[2002:e000:1::1]:80",
};

static void order_forbidden(struct client *client, uint64_t association,
                            const struct endpoint *destination, const char *what)
{
    struct n2_open_relay order = fake_order(association);

    order.destinations[0] = *destination;
    client_order(client, &order);
    ck_assert_msg(client->last.type == N2_RELAY_FAILED, "reached: %s", what);
    ck_assert_msg(client->last.relay_failed.error == N2_ERROR_NOT_ALLOWED,
                  "%s: expected not-allowed, got %s", what,
                  n2_error_name(client->last.relay_failed.error));
    ck_assert_msg(client->last.relay_failed.text[0] != '\0', "%s: no reason", what);
    ck_assert_uint_eq(fake.plane.opens, 0);
}

START_TEST(the_floor_holds_for_every_class)
{
    struct client client;
    uint64_t association = 1;

    client_come_up(&client);
    for (size_t i = 0; i < sizeof(forbidden) / sizeof(forbidden[0]); i++) {
        struct endpoint destination = fake_endpoint(forbidden[i]);
        order_forbidden(&client, association++, &destination, forbidden[i]);
    }
    client_leave(&client);
}
END_TEST

struct own {
    struct client *client;
    unsigned count;
};

static void order_own(const struct ip_address *address, bool loopback, void *user)
{
    struct own *own = user;
    struct endpoint destination = {.address = *address, .port = 80};
    char text[ENDPOINT_TEXT_MAX];

    (void)loopback;
    ip_address_format(address, text, sizeof(text));
    order_forbidden(own->client, 100 + own->count++, &destination, text);
}

START_TEST(the_floor_holds_for_the_hosts_own_addresses)
{
    struct client client;
    struct own own = {.client = &client};
    struct local_routes *routes = NULL;

    ck_assert_int_eq(local_routes_open(&routes, &fake.loop, NULL, NULL), 0);
    fake.floor.routes = routes;
    client_come_up(&client);
    local_routes_each_address(routes, order_own, &own);
    ck_assert_uint_gt(own.count, 0); /* at least loopback's */
    client_leave(&client);
    fake.floor.routes = NULL;
    local_routes_close(routes);
}
END_TEST

START_TEST(the_floor_can_be_opened_by_configuration_alone)
{
    struct client client;
    struct ip_prefix open;
    struct n2_open_relay order = fake_order(1);

    ck_assert_int_eq(ip_prefix_parse("127.0.0.2/32", &open), 0);
    fake.floor.open = &open;
    fake.floor.open_count = 1;
    client_come_up(&client);
    struct endpoint other = fake_endpoint("127.0.0.3:80");
    order_forbidden(&client, 2, &other, "127.0.0.3");
    order.destinations[0] = fake_endpoint("127.0.0.2:80");
    client_order(&client, &order);
    ck_assert_uint_eq(client.opened, 1);
    struct n2_open_relay any = fake_order(3);
    any.destinations[0] = fake_endpoint("0.0.0.0:80");
    client_order(&client, &any);
    ck_assert_int_eq(client.last.relay_failed.error, N2_ERROR_NOT_ALLOWED);
    any.association = 4;
    any.destinations[0] = fake_endpoint("[::]:80");
    client_order(&client, &any);
    ck_assert_int_eq(client.last.relay_failed.error, N2_ERROR_NOT_ALLOWED);
    client_leave(&client);
}
END_TEST

START_TEST(public_addresses_are_reached)
{
    static const char *const allowed[] = {"203.0.113.5:80", "10.1.2.3:1", "[2001:db8::5]:65535",
                                          "[64:ff9b::203.0.113.5]:80", "[2002:cb00:7105::1]:80"};
    struct client client;

    client_come_up(&client);
    for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]); i++) {
        struct n2_open_relay order = fake_order(i);
        order.destinations[0] = fake_endpoint(allowed[i]);
        client_order(&client, &order);
        ck_assert_msg(client.last.type == N2_RELAY_OPENED, "%s: %s", allowed[i],
                      client.last.relay_failed.text);
    }
    client_leave(&client);
}
END_TEST

/* ---- hostile peers -------------------------------------------------------------------------- */

/* A connection without a link: any octet may be sent. */
static int raw_connect(bool up)
{
    uint8_t frame[N2_PAYLOAD_MAX];
    struct n2_message hello = {.type = N2_HELLO};
    uint64_t accepted = metric(RELAYD_N2_ACCEPTED);
    int fd = unix_connect(path);

    ck_assert_int_ge(fd, 0);
    while (metric(RELAYD_N2_ACCEPTED) == accepted) {
        run_once();
    }
    if (!up) {
        return fd;
    }
    hello.hello.major = N2_VERSION_MAJOR;
    hello.hello.boot_epoch = 1;
    snprintf(hello.hello.build, sizeof(hello.hello.build), "test");
    size_t length = n2_encode(&hello, frame, sizeof(frame));
    ck_assert_int_eq(send(fd, frame, length, MSG_NOSIGNAL), (ssize_t)length);
    while (recv(fd, frame, sizeof(frame), MSG_DONTWAIT) <= 0) {
        uv_run(&fake.loop, UV_RUN_NOWAIT);
    }
    return fd;
}

static void raw_send(int fd, const void *data, size_t length)
{
    (void)send(fd, data, length, MSG_NOSIGNAL);
}

/* Until relayd has ended the connection. */
static void raw_expect_end(int fd)
{
    uint64_t lost = metric(RELAYD_N2_LOST);
    uint8_t octets[4096];
    for (;;) {
        ssize_t got = recv(fd, octets, sizeof(octets), MSG_DONTWAIT);
        if (got == 0 || (got < 0 && errno != EAGAIN)) {
            break;
        }
        if (got < 0) {
            uv_run(&fake.loop, UV_RUN_NOWAIT);
        }
    }
    while (metric(RELAYD_N2_PEERS) != 0) {
        run_once();
    }
    ck_assert_uint_ge(metric(RELAYD_N2_LOST), lost);
    close(fd);
}

static struct n2_message sample(enum n2_type type)
{
    struct n2_message message = {.type = type};

    switch (type) {
    case N2_HELLO:
    case N2_HELLO_ACK:
        message.hello.major = N2_VERSION_MAJOR;
        message.hello.boot_epoch = 1;
        message.hello.ptcl = type == N2_HELLO ? 0 : PTCL_TCP;
        message.hello.planes = type == N2_HELLO ? 0 : 1u << N2_PLANE_SOCKET;
        message.hello.families = type == N2_HELLO ? 0 : N2_FAMILY_V4;
        message.hello.capacity = 1;
        snprintf(message.hello.build, sizeof(message.hello.build), "b");
        snprintf(message.hello.instance, sizeof(message.hello.instance), "%s",
                 type == N2_HELLO ? "" : "i");
        break;
    case N2_OPEN_RELAY:
        message.transaction = 9;
        message.open_relay = fake_order(1);
        break;
    case N2_RELAY_OPENED:
        message.transaction = 9;
        message.relay_opened = (struct n2_relay_opened){
            .association = 1, .relay = 1, .plane = N2_PLANE_SOCKET, .plane_reason = "r"};
        message.relay_opened.bound = fake_endpoint("192.0.2.1:1");
        message.relay_opened.egress = fake_endpoint("192.0.2.1:1");
        break;
    case N2_RELAY_FAILED:
        message.transaction = 9;
        message.relay_failed = (struct n2_relay_failed){.association = 1, .error = 1, .text = "t"};
        break;
    case N2_ATTACH_CLIENT:
        message.fd_count = 1;
        message.attach_client.relay = 1;
        break;
    case N2_RELAY_CONNECTED:
        message.relay_connected.relay = 1;
        message.relay_connected.peer = fake_endpoint("192.0.2.1:1");
        break;
    case N2_AUTHORIZE:
        message.transaction = 9;
        message.authorize = (struct n2_authorize){.relay = 1, .name = "a.example", .port = 1};
        break;
    case N2_AUTHORIZED:
        message.transaction = 9;
        message.authorized = (struct n2_authorized){.relay = 1, .allowed = false};
        break;
    case N2_RELAY_STATS:
        message.relay_stats.relay = 1;
        break;
    case N2_CLOSE_RELAY:
        message.close_relay = (struct n2_close_relay){.relay = 1, .reason = 1};
        break;
    case N2_RELAY_CLOSED:
        message.relay_closed = (struct n2_relay_closed){.relay = 1, .association = 1, .reason = 1};
        break;
    case N2_RELAY_EVENT:
        message.relay_event = (struct n2_relay_event){.relay = 1, .event = 1};
        break;
    case N2_CANCEL_ORDER:
        message.cancelled = 1;
        break;
    case N2_POLICY_CHANGED:
    case N2_PING:
    case N2_PONG:
    case N2_DRAIN:
    case N2_TYPE_END:
        break;
    }
    return message;
}

static size_t sample_frame(enum n2_type type, uint8_t *frame, size_t size)
{
    struct n2_message message = sample(type);
    size_t length = n2_encode(&message, frame, size);
    ck_assert_msg(length > 0, "%s does not encode", n2_type_name(type));
    return length;
}

static bool permitted(enum n2_type type)
{
    return type == N2_OPEN_RELAY || type == N2_CLOSE_RELAY || type == N2_DRAIN ||
           type == N2_CANCEL_ORDER || type == N2_POLICY_CHANGED || type == N2_PING ||
           type == N2_PONG;
}

/* _i: the type of the message, which comes when the connection is up. */
START_TEST(what_nobody_may_send_ends_the_connection)
{
    static uint8_t frame[N2_PAYLOAD_MAX + FRAME_HEADER];
    enum n2_type type = (enum n2_type)_i;

    if (permitted(type) || type == N2_AUTHORIZED) {
        return; /* a stray answer: the next test */
    }
    int fd = raw_connect(true);
    struct client other;
    raw_send(fd, frame, sample_frame(N2_OPEN_RELAY, frame, sizeof(frame)));
    raw_send(fd, frame, sample_frame(type, frame, sizeof(frame)));
    raw_expect_end(fd);
    ck_assert_uint_eq(relay_table_count(fake.context.table), 0);
    client_come_up(&other); /* the next one is served */
    client_leave(&other);
}
END_TEST

START_TEST(stray_verdicts_are_dropped)
{
    struct client client;
    struct n2_message message = sample(N2_AUTHORIZED);

    client_come_up(&client);
    client_send(&client, &message);
    client_settle(&client);
    client_leave(&client);
}
END_TEST

/* _i: the type of the message, which comes before Hello. */
START_TEST(nothing_counts_before_hello)
{
    static uint8_t frame[N2_PAYLOAD_MAX + FRAME_HEADER];

    if (_i == N2_HELLO) {
        return;
    }
    int fd = raw_connect(false);
    raw_send(fd, frame, sample_frame((enum n2_type)_i, frame, sizeof(frame)));
    raw_expect_end(fd);
    ck_assert_uint_eq(fake.plane.opens, 0);
}
END_TEST

/* _i: seed. Valid messages of every kind, cut, changed and repeated. */
START_TEST(random_messages_harm_nobody)
{
    static uint8_t frame[N2_PAYLOAD_MAX + FRAME_HEADER];
    struct client honest;
    struct n2_open_relay order = fake_order(1);

    srand((unsigned)_i + 1);
    client_come_up(&honest);
    client_order(&honest, &order);
    for (int round = 0; round < 20; round++) {
        int fd = raw_connect(rand() % 4 > 0);
        for (int i = rand() % 20; i >= 0; i--) {
            size_t length =
                sample_frame((enum n2_type)(1 + rand() % (N2_TYPE_END - 1)), frame, sizeof(frame));
            if (rand() % 3 == 0) {
                frame[(size_t)rand() % length] ^= (uint8_t)(1 << rand() % 8);
            }
            if (rand() % 10 == 0) {
                length = (size_t)rand() % length + 1;
            }
            raw_send(fd, frame, length);
            uv_run(&fake.loop, UV_RUN_NOWAIT);
        }
        close(fd);
        while (metric(RELAYD_N2_PEERS) != 1) {
            run_once();
        }
        ck_assert_uint_eq(relay_table_count(fake.context.table), 1);
    }
    client_close_relay(&honest, honest.relay);
    while (honest.closed == 0) {
        run_once();
    }
    client_leave(&honest);
}
END_TEST

/* ---- the end -------------------------------------------------------------------------------- */

START_TEST(closing_the_server_ends_its_peers)
{
    struct client client;
    struct n2_open_relay order = fake_order(1);

    client_come_up(&client);
    client_order(&client, &order);
    n2_server_stop_listening(server);
    ck_assert(n2_server_takes_more(server));
    relay_close(LIST_FIRST(&fake.plane.flows->relay->peer->relays), N2_REASON_SHUTDOWN);
    while (!n2_server_is_flushed(server)) {
        run_once();
    }
    n2_server_close(server);
    server = NULL;
    while (client.link != NULL) {
        run_once();
    }
    ck_assert_uint_eq(client.closed, 1); /* arrived before the end of the connection */
    ck_assert_int_eq(client.last.relay_closed.reason, N2_REASON_SHUTDOWN);
}
END_TEST

START_TEST(closing_the_server_closes_what_is_left)
{
    struct client client;
    struct n2_open_relay order = fake_order(1);

    client_come_up(&client);
    client_order(&client, &order);
    n2_server_close(server);
    server = NULL;
    ck_assert_uint_eq(relay_table_count(fake.context.table), 0);
    while (client.link != NULL) {
        run_once();
    }
    ck_assert_uint_eq(client.closed, 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("n2_server");
    TCase *tcase = tcase_create("n2_server");

    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, the_socket_is_for_its_group);
    tcase_add_test(tcase, the_socket_gets_the_directorys_group);
    tcase_add_test(tcase, a_second_server_does_not_take_the_socket);
    tcase_add_test(tcase, an_inherited_socket_is_served_and_kept);
    tcase_add_test(tcase, hello_says_who_this_is);
    tcase_add_test(tcase, another_user_is_refused);
    tcase_add_loop_test(tcase, a_user_of_the_list_is_served, 0, 2);
    tcase_add_test(tcase, the_list_of_users);
    tcase_add_test(tcase, the_number_of_peers_is_bounded);
    tcase_add_test(tcase, a_relay_from_order_to_end);
    tcase_add_test(tcase, an_order_is_cancelled_while_it_opens);
    tcase_add_test(tcase, an_order_that_was_answered_is_not_cancelled);
    tcase_add_test(tcase, close_relay_while_it_opens);
    tcase_add_test(tcase, anothers_relay_does_not_exist);
    tcase_add_test(tcase, an_id_of_an_ended_connection_means_nothing);
    tcase_add_loop_test(tcase, a_lost_peer_leaves_no_relay, 0, 2);
    tcase_add_loop_test(tcase, a_client_is_handed_over, 0, 2);
    tcase_add_test(tcase, a_client_for_nobody_is_dropped);
    tcase_add_loop_test(tcase, a_client_that_is_not_awaited_ends_the_connection, 0, NOT_COUNT);
    tcase_add_test(tcase, above_the_limit_orders_fail_until_there_is_room);
    tcase_add_test(tcase, drain_keeps_what_there_is);
    tcase_add_test(tcase, policy_changed_is_taken);
    tcase_add_test(tcase, the_floor_holds_for_every_class);
    tcase_add_test(tcase, the_floor_holds_for_the_hosts_own_addresses);
    tcase_add_test(tcase, the_floor_can_be_opened_by_configuration_alone);
    tcase_add_test(tcase, public_addresses_are_reached);
    tcase_add_loop_test(tcase, what_nobody_may_send_ends_the_connection, 1, N2_TYPE_END);
    tcase_add_test(tcase, stray_verdicts_are_dropped);
    tcase_add_loop_test(tcase, nothing_counts_before_hello, 1, N2_TYPE_END);
    tcase_add_loop_test(tcase, random_messages_harm_nobody, 0, 8);
    tcase_add_test(tcase, closing_the_server_ends_its_peers);
    tcase_add_test(tcase, closing_the_server_closes_what_is_left);
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
