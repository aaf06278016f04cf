/*
 * What relayd answers relayctl: status, table, one relay, its end (ADMIN-REQ-040,
 * ADMIN-TABLE-030).
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/ipc/peer.h"
#include "common/log/log.h"
#include "proto/frame.h"
#include "relayd/admin.h"
#include "tests/unit/relayd/fake.h"

static struct fake fake;
static struct fake_peer peer;
static struct relayd_admin *admin;
static char directory[64], path[128];
static int client;
static uint8_t received[2 * FRAME_MAX];
static size_t received_length;

static void plane_status(const struct plane *plane, struct admin_status *out)
{
    struct admin_counter *counter = &out->counters[out->counter_count++];
    (void)plane;
    snprintf(counter->name, sizeof(counter->name), "planes_own");
    counter->value = 42;
}

static void setup(void)
{
    struct relayd_admin_config config = {.context = &fake.context, .instance = "tcp-2"};

    fake_setup(&fake, 500);
    fake_peer_init(&fake, &peer);
    fake.plane.in_open = fake_opened;
    fake.plane.in_close = fake_plane_closed;
    fake.plane.ops.status = plane_status;
    snprintf(directory, sizeof(directory), "/tmp/check_relayd_admin.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/tcp-2.sock", directory);
    admin_server_config_init(&config.server);
    config.server.fd = -1;
    config.server.path = path;
    config.server.group = (gid_t)-1;
    ck_assert_int_eq(relayd_admin_open(&admin, &config), 0);
    client = unix_connect(path);
    ck_assert_int_ge(client, 0);
    received_length = 0;
}

static void teardown(void)
{
    close(client);
    relayd_admin_close(admin);
    uv_run(&fake.loop, UV_RUN_DEFAULT);
    fake_teardown(&fake);
    ck_assert_int_eq(rmdir(directory), 0);
}

static void ask(struct admin_request request)
{
    static uint8_t frame[FRAME_MAX];
    request.version = ADMIN_VERSION;
    size_t length = admin_request_encode(&request, frame, sizeof(frame));
    ck_assert_uint_gt(length, 0);
    ck_assert_int_eq(send(client, frame, length, MSG_NOSIGNAL), (ssize_t)length);
}

static void answer(struct admin_answer *out)
{
    static uint8_t memory[ADMIN_ARENA_SIZE];
    struct arena arena;
    const uint8_t *payload;
    const char *problem = NULL;
    size_t length, missing;

    arena_init(&arena, memory, sizeof(memory));
    while (frame_decode(received, received_length, &payload, &length, &missing) != FRAME_OK) {
        ssize_t got = recv(client, received + received_length, sizeof(received) - received_length,
                           MSG_DONTWAIT);
        ck_assert_msg(got != 0, "the connection has ended");
        if (got > 0) {
            received_length += (size_t)got;
        } else {
            uv_run(&fake.loop, UV_RUN_NOWAIT);
        }
    }
    ck_assert_msg(admin_answer_decode(payload, length, &arena, out, &problem) == N2_OK, "%s",
                  problem);
    received_length -= FRAME_HEADER + length;
    memmove(received, received + FRAME_HEADER + length, received_length);
}

static struct relay *open_one(uint64_t association)
{
    struct n2_open_relay order = fake_order(association);
    struct relay *relay = fake_open(&fake, &peer, &order);
    ck_assert_ptr_nonnull(relay);
    return relay;
}

static uint64_t counter(const struct admin_status *status, const char *name)
{
    for (uint32_t i = 0; i < status->counter_count; i++) {
        if (strcmp(status->counters[i].name, name) == 0) {
            return status->counters[i].value;
        }
    }
    ck_abort_msg("no counter %s", name);
    return 0;
}

START_TEST(status)
{
    static struct admin_answer got;

    open_one(1);
    relayd_admin_warn(admin, "%d is too few", 3);
    for (int i = 1; i < 2 * ADMIN_WARNINGS_MAX; i++) {
        relayd_admin_warn(admin, "one more");
    }
    ask((struct admin_request){.type = ADMIN_STATUS});
    answer(&got);
    ck_assert_int_eq(got.type, ADMIN_ANSWER_STATUS);
    ck_assert_str_eq(got.status.daemon, "relayd");
    ck_assert_str_eq(got.status.instance, "tcp-2");
    ck_assert_str_eq(got.status.version, SOCKST_VERSION);
    ck_assert_str_eq(got.status.state, "running");
    ck_assert_uint_eq(got.status.ptcl, PTCL_TCP);
    ck_assert_uint_eq(got.status.pid, (uint32_t)getpid());
    ck_assert_uint_eq(counter(&got.status, "relays"), 1);
    ck_assert_uint_eq(counter(&got.status, "relays_opened"), 1);
    ck_assert_uint_eq(counter(&got.status, "relays_plane_socket"), 1);
    ck_assert_uint_eq(counter(&got.status, "planes_own"), 42);
    ck_assert_uint_eq(got.status.warning_count, ADMIN_WARNINGS_MAX);
    ck_assert_str_eq(got.status.warnings[0], "3 is too few");
    answer(&got);
    ck_assert_int_eq(got.type, ADMIN_ANSWER_END);
    fake.context.draining = true;
    ask((struct admin_request){.type = ADMIN_STATUS});
    answer(&got);
    ck_assert_str_eq(got.status.state, "stopping");
}
END_TEST

static void check_relay(const struct admin_relay *shown, const struct relay *relay)
{
    ck_assert_uint_eq(shown->relay, relay->id);
    ck_assert_str_eq(shown->instance, "tcp-2");
    ck_assert_int_eq(shown->kind, N2_KIND_TRANSPARENT);
    ck_assert_uint_eq(shown->ptcl, PTCL_TCP);
    ck_assert_str_eq(shown->state, relay_state_name(relay->state));
    ck_assert_int_eq(shown->plane, N2_PLANE_SOCKET);
    ck_assert_str_eq(shown->plane_reason, "only plane built");
    ck_assert(endpoint_equal(&shown->source, &relay->source));
    ck_assert(endpoint_equal(&shown->bound, &relay->bound));
    ck_assert(endpoint_equal(&shown->egress, &relay->egress));
    ck_assert(endpoint_equal(&shown->destination, &relay->destination));
    ck_assert_str_eq(shown->user, "alice");
    ck_assert_str_eq(shown->rule, "web");
    ck_assert_uint_eq(shown->idle_ms, 17);
    ck_assert_uint_eq(shown->counters.up_bytes, 2);
    ck_assert_uint_eq(shown->counters.drops, 5);
}

/* _i: state */
START_TEST(show)
{
    static struct admin_answer got;

    fake.plane.counters = (struct n2_counters){1, 2, 3, 4, 5};
    fake.plane.in_open = _i == RELAY_ST_OPENING ? NULL : fake_opened;
    fake.plane.in_close = NULL;
    struct relay *relay = open_one(1);
    if (_i >= RELAY_ST_ACTIVE) {
        relay_client_arrived(relay);
    }
    if (_i == RELAY_ST_CLOSING) {
        relay_close(relay, N2_REASON_ADMIN);
    }
    ask((struct admin_request){.type = ADMIN_SHOW, .relay = relay->id});
    answer(&got);
    ck_assert_int_eq(got.type, ADMIN_ANSWER_RELAY);
    check_relay(&got.relay, relay);
    answer(&got);
    ck_assert_int_eq(got.type, ADMIN_ANSWER_END);
    ask((struct admin_request){.type = ADMIN_SHOW, .relay = relay->id + 1});
    answer(&got);
    ck_assert_int_eq(got.type, ADMIN_ANSWER_ERROR);
}
END_TEST

START_TEST(close_ends_one_relay)
{
    static struct admin_answer got;
    struct relay *relay = open_one(1), *other = open_one(2);
    uint64_t id = relay->id;

    ask((struct admin_request){.type = ADMIN_CLOSE, .relay = id});
    answer(&got);
    ck_assert_int_eq(got.type, ADMIN_ANSWER_END);
    ck_assert_int_eq(fake_peer_last(&peer)->type, N2_RELAY_CLOSED);
    ck_assert_int_eq(fake_peer_last(&peer)->relay_closed.reason, N2_REASON_ADMIN);
    ck_assert_int_eq(other->state, RELAY_ST_WAITING);
    ask((struct admin_request){.type = ADMIN_CLOSE, .relay = id});
    answer(&got);
    ck_assert_int_eq(got.type, ADMIN_ANSWER_ERROR);
}
END_TEST

/* Relays come and go while the table is sent. */
START_TEST(the_table_while_it_changes)
{
    static struct admin_answer got;
    static uint8_t met[4096];
    static struct relay *stay[200], *go[200];
    uint64_t records = 0, next = 400;

    memset(met, 0, sizeof(met));
    for (uint64_t i = 0; i < 200; i++) {
        stay[i] = open_one(2 * i);
        go[i] = open_one(2 * i + 1);
    }
    ask((struct admin_request){.type = ADMIN_RELAYS});
    for (;;) {
        answer(&got);
        if (got.type != ADMIN_ANSWER_RELAY) {
            break;
        }
        ck_assert_uint_lt(got.relay.relay, sizeof(met));
        ck_assert_uint_eq(met[got.relay.relay]++, 0);
        if (records % 2 == 0 && records / 2 < 200) {
            relay_close(go[records / 2], N2_REASON_CONTROL_CLOSED);
            open_one(next++);
        }
        records++;
    }
    ck_assert_int_eq(got.type, ADMIN_ANSWER_END);
    ck_assert_uint_eq(got.count, records);
    for (size_t i = 0; i < 200; i++) {
        ck_assert_uint_eq(met[stay[i]->id], 1);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("relayd_admin");
    TCase *tcase = tcase_create("relayd_admin");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, status);
    tcase_add_loop_test(tcase, show, 0, 4);
    tcase_add_test(tcase, close_ends_one_relay);
    tcase_add_test(tcase, the_table_while_it_changes);
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
