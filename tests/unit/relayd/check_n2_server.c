/*
 * N2 as relayd serves it: who may connect, whose relays are whose, and what is left when a peer has
 * gone. N2-PEER-010, N2-EOF-010, N2-EOF-030, N2-STATE-020, N2-ID-020, N2-ID-030, N2-RELAY-010,
 * N2-RELAY-040, N2-MARK-030.
 */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/ipc/channel.h"
#include "tests/unit/relayd/n2_server_fixture.h"

#define NOBODY 65534

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

/* N2-MARK-030: of what a peer does not read events alone are left out. */
START_TEST(events_give_way_to_the_rest)
{
    const uint64_t many = 40000;
    struct client client;
    struct n2_open_relay order = fake_order(5);

    client_come_up(&client);
    client_order(&client, &order);
    struct relay *relay = relay_table_find(fake.context.table, client.relay);
    ck_assert_ptr_nonnull(relay);
    relay_notify(relay, N2_EVENT_TARGET_UNREACHABLE, 0);
    while (client.events == 0) {
        run_once();
    }
    ck_assert_uint_eq(metric(RELAYD_N2_EVENTS_DROPPED), 0);
    for (uint64_t i = 0; i < many; i++) { /* in one turn of the loop: nobody reads */
        relay_notify(relay, N2_EVENT_TARGET_UNREACHABLE, 0);
    }
    ck_assert_uint_gt(metric(RELAYD_N2_EVENTS_DROPPED), 0);
    relay_close(relay, N2_REASON_ADMIN);
    while (client.closed == 0) {
        run_once();
    }
    client_settle(&client);
    ck_assert_uint_eq(client.closed, 1);
    ck_assert_uint_eq(client.events + metric(RELAYD_N2_EVENTS_DROPPED), many + 1);
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
    client_leave(&client);
    client_leave(&other);
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
    client_leave(&client);
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
    while (metric(RELAYD_N2_LOST) == 0 || metric(RELAYD_RELAYS_ORPHANED) != 0) {
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
/* Of a TCP connection over loopback: one end for relayd, one that says what has become of it. */
static void make_connection(int ends[2])
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(name);
    const int listener = socket(AF_INET, SOCK_STREAM, 0);

    ck_assert_int_eq(bind(listener, (struct sockaddr *)&name, sizeof(name)), 0);
    ck_assert_int_eq(listen(listener, 1), 0);
    ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&name, &length), 0);
    ends[0] = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(connect(ends[0], (struct sockaddr *)&name, sizeof(name)), 0);
    ends[1] = accept(listener, NULL, NULL);
    ck_assert_int_ge(ends[1], 0);
    close(listener);
}

/* N2-ATTACH-010: what has ended meanwhile is not to look like an end in order. _i: has the relay's
 * RelayClosed been sent? */
START_TEST(a_client_that_comes_too_late_is_reset)
{
    struct client client;
    struct n2_message message = {.type = N2_ATTACH_CLIENT, .fd_count = 1};
    int ends[2];
    char octet;

    client_come_up(&client);
    if (_i == 0) {
        fake.plane.in_close = NULL;
    }
    struct relay *relay = open_kind(&client, 3, N2_KIND_CONNECT);
    message.attach_client.relay = relay->id;
    relay_close(relay, N2_REASON_TARGET_RESET);
    make_connection(ends);
    ck_assert_int_eq(n2_link_send(client.link, &message, ends[1]), 0);
    client_settle(&client);
    ck_assert_int_eq(recv(ends[0], &octet, 1, 0), -1);
    ck_assert_int_eq(errno, ECONNRESET);
    ck_assert_uint_eq(metric(RELAYD_N2_UNKNOWN_RELAY), 1);
    close(ends[0]);
    client_leave(&client);
}
END_TEST

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
    tcase_add_checked_fixture(tcase, n2_server_setup, n2_server_teardown);
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
    tcase_add_test(tcase, events_give_way_to_the_rest);
    tcase_add_test(tcase, an_order_is_cancelled_while_it_opens);
    tcase_add_test(tcase, an_order_that_was_answered_is_not_cancelled);
    tcase_add_test(tcase, close_relay_while_it_opens);
    tcase_add_test(tcase, anothers_relay_does_not_exist);
    tcase_add_test(tcase, an_id_of_an_ended_connection_means_nothing);
    tcase_add_loop_test(tcase, a_lost_peer_leaves_no_relay, 0, 2);
    tcase_add_loop_test(tcase, a_client_is_handed_over, 0, 2);
    tcase_add_test(tcase, a_client_for_nobody_is_dropped);
    tcase_add_loop_test(tcase, a_client_that_comes_too_late_is_reset, 0, 2);
    tcase_add_loop_test(tcase, a_client_that_is_not_awaited_ends_the_connection, 0, NOT_COUNT);
    tcase_add_test(tcase, above_the_limit_orders_fail_until_there_is_room);
    tcase_add_test(tcase, drain_keeps_what_there_is);
    tcase_add_test(tcase, policy_changed_is_taken);
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
