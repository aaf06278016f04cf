/*
 * An N2 server over a fake plane, and socksd's end of connections to it, in the loop of the test.
 */
#ifndef SOCKST_TESTS_RELAYD_N2_SERVER_FIXTURE_H
#define SOCKST_TESTS_RELAYD_N2_SERVER_FIXTURE_H

#include "common/ipc/n2_link.h"
#include "relayd/n2/server.h"
#include "tests/unit/relayd/fake.h"

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

extern struct fake fake;
extern struct n2_server *server; /* NULL: closed */
extern char directory[64], path[128];
extern struct config_list no_users;

/* For every test: a directory of its own with a server in it. */
void n2_server_setup(void);
void n2_server_teardown(void);
/* At `path`, or with a listener that was inherited (-1: none). */
void server_start(int fd, const struct config_list *users);
uint64_t metric(enum relayd_metric which);
/* A turn of the loop; it ends. */
void run_once(void);

void client_connect(struct client *client);
/* … and waits for HelloAck. */
void client_come_up(struct client *client);
void client_leave(struct client *client);
void client_send(struct client *client, const struct n2_message *message);
/* Sends the order and waits for its answer. */
void client_order(struct client *client, const struct n2_open_relay *order);
void client_close_relay(struct client *client, uint64_t relay);
/* What was sent before has been dealt with: an order that is refused has been answered. */
void client_settle(struct client *client);

#endif
