#include "tests/unit/relayd/n2_server_fixture.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/ipc/channel.h"

struct fake fake;
struct n2_server *server;
char directory[64], path[128];
struct config_list no_users;

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

void run_once(void)
{
    uv_run(&fake.loop, UV_RUN_ONCE);
}

void client_connect(struct client *client)
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

void client_come_up(struct client *client)
{
    client_connect(client);
    while (!client->up && client->link != NULL) {
        run_once();
    }
    ck_assert_msg(client->up, "did not come up: %s", client->why);
}

void client_leave(struct client *client)
{
    if (client->link != NULL) {
        n2_link_close(client->link);
        client->link = NULL;
    }
}

void client_send(struct client *client, const struct n2_message *message)
{
    ck_assert_int_eq(n2_link_send(client->link, message, -1), 0);
}

void client_order(struct client *client, const struct n2_open_relay *order)
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

void client_close_relay(struct client *client, uint64_t relay)
{
    struct n2_message message = {
        .type = N2_CLOSE_RELAY,
        .close_relay = {.relay = relay, .reason = N2_REASON_CONTROL_CLOSED}};
    client_send(client, &message);
}

void client_settle(struct client *client)
{
    struct n2_open_relay order = fake_order(1);
    order.kind = N2_KIND_UDP_ASSOCIATE;
    order.destination_count = 0;
    client_order(client, &order);
    ck_assert_int_eq(client->last.type, N2_RELAY_FAILED);
}

/* ---- fixture -------------------------------------------------------------------------------- */

void server_start(int fd, const struct config_list *users)
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

void n2_server_setup(void)
{
    fake_setup(&fake, 2000);
    fake.plane.in_open = fake_opened;
    fake.plane.in_close = fake_plane_closed;
    snprintf(directory, sizeof(directory), "/tmp/check_n2_server.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/tcp.sock", directory);
    server_start(-1, &no_users);
}

void n2_server_teardown(void)
{
    n2_server_close(server);
    server = NULL;
    uv_run(&fake.loop, UV_RUN_DEFAULT);
    fake_teardown(&fake);
    ck_assert_msg(rmdir(directory) == 0, "left in the directory: %s", strerror(errno));
}

uint64_t metric(enum relayd_metric which)
{
    return relayd_metrics_get(&fake.metrics, which);
}
