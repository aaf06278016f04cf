/*
 * Rows, slots and ports that are used again and again under full traffic: no packet ever leaves
 * with another relay's addresses. proto/PLANE.md
 *
 * Every client sends all the time, from its one socket, datagrams that name the relay that its
 * socket believes to have: the number of the order, and DST's port. The relays are opened and
 * closed underneath, each time to another of the target's sockets. What arrives at a socket of the
 * target must name that socket, and come from the egress port that its relay was opened with.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/ptcl.h"
#include "tests/harness/daemons.h"
#include "tests/harness/n1_client.h"
#include "tests/harness/n2_client.h"
#include "tests/harness/traffic.h"
#include "tests/harness/wait.h"

#define CLIENTS 16
#define TARGETS 16
#define ORDERS_MAX 200000
#define DURATION_MS 5000
#define BURST 2 /* datagrams of a client between two looks at the rest */

struct stamp {
    uint64_t order;
    uint16_t target, client;
};

struct churn {
    int n2, clients[CLIENTS], targets[TARGETS];
    struct endpoint target[TARGETS];
    struct {
        uint64_t relay, order;
        uint16_t target;
        bool open;
    } of[CLIENTS];
    uint64_t orders, arrived, back;
};

static struct lab *lab;
static struct daemons daemons;
static struct churn churn;
/* Of every order: the egress port, and S's. */
static uint16_t egress_of[ORDERS_MAX], source_of[ORDERS_MAX];

static void setup(void)
{
    const struct daemons_options options = {
        /* Few ports and slots, so that all are used again soon. */
        .relayd = {"plane: bpf", "bind: {addresses: auto, ports: 20000-20003}",
                   "egress: {addresses: auto, ports: 30000-30007}", "limits: {relays: 64}",
                   "log: {level: warning}"},
        .no_socksd = true,
        .no_tcp = true};

    lab = lab_new();
    daemons = daemons_start(lab, &options);
    memset(&churn, 0, sizeof(churn));
    churn.n2 = n2_client_open(lab_path(lab, "n2/udp.sock"));
    for (uint16_t i = 0; i < CLIENTS; i++)
        churn.clients[i] =
            socket_bound(lab, LAB_CLIENT, SOCK_DGRAM, at(LAB_CLIENT_V4, 5000 + i), NULL);
    for (uint16_t i = 0; i < TARGETS; i++)
        churn.targets[i] =
            socket_bound(lab, LAB_TARGET, SOCK_DGRAM, at(LAB_TARGET_V4, 0), &churn.target[i]);
}

static void teardown(void)
{
    close(churn.n2);
    for (size_t i = 0; i < CLIENTS; i++)
        close(churn.clients[i]);
    for (size_t i = 0; i < TARGETS; i++)
        close(churn.targets[i]);
    daemons_stop(&daemons);
    lab_free(lab);
}

static void open_relay(uint16_t client)
{
    const uint64_t number = ++churn.orders;
    const uint16_t target = (uint16_t)((number * 7 + client) % TARGETS);
    const struct n2_message order = n2_client_order(
        number, PTCL_UDP, at(LAB_CLIENT_V4, (uint16_t)(5000 + client)), churn.target[target]);
    struct n2_message answer;

    ck_assert_uint_lt(number, ORDERS_MAX);
    n2_client_send(churn.n2, &order);
    do { /* RelayClosed of others may come between */
        ck_assert(n2_client_receive(churn.n2, &answer, PATIENCE_MS));
    } while (answer.type == N2_RELAY_CLOSED);
    if (answer.type == N2_RELAY_FAILED)
        return; /* all pairs are taken, or slots rest: the next time */
    ck_assert_int_eq(answer.type, N2_RELAY_OPENED);
    egress_of[number] = answer.relay_opened.egress.port;
    source_of[number] = (uint16_t)(5000 + client);
    churn.of[client].relay = answer.relay_opened.relay;
    churn.of[client].order = number;
    churn.of[client].target = target;
    churn.of[client].open = true;
    ck_assert_int_eq(socket_connect(churn.clients[client], answer.relay_opened.bound, 0), 0);
}

static void close_relay(uint16_t client)
{
    const struct n2_message end = {
        .type = N2_CLOSE_RELAY,
        .close_relay = {.relay = churn.of[client].relay, .reason = N2_REASON_CONTROL_CLOSED}};
    n2_client_send(churn.n2, &end);
    churn.of[client].open = false;
}

static void send_burst(uint16_t client)
{
    const struct stamp stamp = {
        .order = churn.of[client].order, .target = churn.of[client].target, .client = client};

    for (int i = 0; i < BURST && churn.of[client].order != 0; i++)
        (void)send(churn.clients[client], &stamp, sizeof(stamp), MSG_DONTWAIT);
}

/*
 * What arrives at the target. A client goes on sending the old stamp for a relay that is closed; if
 * BND's port and S are a new relay's by then, the datagram is that one's, so it is the addresses
 * that have to fit together: the socket, and the egress port of the last order of the client to
 * that target. Echoed, so that the other direction is under load, too.
 */
static void look_at_target(uint16_t target)
{
    struct stamp stamp;
    struct endpoint from;
    ssize_t length;

    while ((length = socket_receive_from(churn.targets[target], &stamp, sizeof(stamp), 0, &from)) >
           0) {
        ck_assert_int_eq(length, sizeof(stamp));
        ck_assert_uint_lt(stamp.client, CLIENTS);
        bool known = false;
        for (uint64_t order = stamp.order; order <= churn.orders && !known; order++)
            known = source_of[order] == 5000 + stamp.client && egress_of[order] == from.port &&
                    (order * 7 + stamp.client) % TARGETS == target;
        ck_assert_msg(known, "target %u got client %u's datagram of order %lu from port %u", target,
                      stamp.client, (unsigned long)stamp.order, from.port);
        churn.arrived++;
        socket_send_to(churn.targets[target], from, &stamp, sizeof(stamp));
    }
}

/* What comes back to a client is its own. */
static void look_at_client(uint16_t client)
{
    struct stamp stamp;
    ssize_t length;

    while ((length = socket_receive(churn.clients[client], &stamp, sizeof(stamp), 0)) > 0) {
        ck_assert_uint_eq(stamp.client, client);
        churn.back++;
    }
}

/* PLANE-SLOT-090 */
START_TEST(no_packet_leaves_with_another_relay_s_addresses)
{
    const int64_t end = now_ms() + DURATION_MS;

    for (uint64_t turn = 0; now_ms() < end; turn++) {
        const uint16_t client = (uint16_t)(turn % CLIENTS);
        if (churn.of[client].open)
            close_relay(client);
        else
            open_relay(client);
        for (uint16_t i = 0; i < CLIENTS; i++)
            send_burst(i);
        for (uint16_t i = 0; i < TARGETS; i++)
            look_at_target(i);
        for (uint16_t i = 0; i < CLIENTS; i++)
            look_at_client(i);
    }
    printf("%lu relays, %lu datagrams at the target, %lu back\n", (unsigned long)churn.orders,
           (unsigned long)churn.arrived, (unsigned long)churn.back);
    ck_assert_uint_gt(churn.orders, 300);
    ck_assert_uint_gt(churn.arrived, 2000);
    ck_assert_uint_gt(churn.back, 1000);
}
END_TEST

int main(void)
{
    lab_require();
    TCase *churning = tcase_create("churn");
    tcase_set_timeout(churning, 60);
    tcase_add_checked_fixture(churning, setup, teardown);
    tcase_add_test(churning, no_packet_leaves_with_another_relay_s_addresses);
    Suite *suite = suite_create("bpf_churn");
    suite_add_tcase(suite, churning);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
