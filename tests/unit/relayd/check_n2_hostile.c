/*
 * N2 as relayd serves it to a socksd that an attacker owns: the deny floor holds, and what nobody
 * may send ends the connection. N2-STATE-010, N2-RELAY-020.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/ipc/channel.h"
#include "proto/frame.h"
#include "tests/unit/relayd/n2_server_fixture.h"

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

static Suite *suite(void)
{
    Suite *suite = suite_create("n2_hostile");
    TCase *tcase = tcase_create("n2_hostile");

    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, n2_server_setup, n2_server_teardown);
    tcase_add_test(tcase, the_floor_holds_for_every_class);
    tcase_add_test(tcase, the_floor_holds_for_the_hosts_own_addresses);
    tcase_add_test(tcase, the_floor_can_be_opened_by_configuration_alone);
    tcase_add_test(tcase, public_addresses_are_reached);
    tcase_add_loop_test(tcase, what_nobody_may_send_ends_the_connection, 1, N2_TYPE_END);
    tcase_add_test(tcase, stray_verdicts_are_dropped);
    tcase_add_loop_test(tcase, nothing_counts_before_hello, 1, N2_TYPE_END);
    tcase_add_loop_test(tcase, random_messages_harm_nobody, 0, 8);
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
