#include "tests/harness/fake_relayd.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <check.h>

#include "common/ipc/peer.h"

void fake_relayd_init(struct fake_relayd *fake, uv_loop_t *loop, const char *path, uint8_t ptcl)
{
    memset(fake, 0, sizeof(*fake));
    fake->loop = loop;
    fake->path = path;
    fake->ptcl = ptcl;
    fake->instance = "fake";
    fake->answer = FAKE_OPENS;
    fake->error = N2_ERROR_REFUSED;
    fake->next_relay = 1;
    fake->fd = -1;
    ck_assert_int_eq(endpoint_parse("127.0.0.1:20000", &fake->bound), 0);
}

/* ---- orders ---------------------------------------------------------------------------------- */

static void answer_one(struct fake_relayd *fake, const struct fake_held *order)
{
    struct n2_message message = {.transaction = order->transaction};

    if (fake->answer == FAKE_FAILS) {
        message.type = N2_RELAY_FAILED;
        message.relay_failed.association = order->association;
        message.relay_failed.error = fake->error;
        snprintf(message.relay_failed.text, sizeof(message.relay_failed.text), "as told");
    } else {
        message.type = N2_RELAY_OPENED;
        message.relay_opened.association = order->association;
        message.relay_opened.relay = fake->next_relay++;
        message.relay_opened.bound = fake->bound;
        message.relay_opened.egress = fake->bound;
        message.relay_opened.destination = order->destination;
        message.relay_opened.plane = N2_PLANE_SOCKET;
        snprintf(message.relay_opened.plane_reason, sizeof(message.relay_opened.plane_reason),
                 "test");
    }
    (void)n2_link_send(order->link, &message, -1);
}

void fake_relayd_answer_held(struct fake_relayd *fake)
{
    ck_assert_uint_gt(fake->held_count, 0);
    const struct fake_held order = fake->held[0];
    memmove(&fake->held[0], &fake->held[1], --fake->held_count * sizeof(fake->held[0]));
    answer_one(fake, &order);
}

static struct n2_message closed_message(const struct fake_relayd *fake, uint64_t relay,
                                        enum n2_reason reason)
{
    struct n2_message message = {.type = N2_RELAY_CLOSED};
    message.relay_closed.relay = relay;
    message.relay_closed.association = 1;
    message.relay_closed.reason = reason;
    message.relay_closed.counters = fake->counters;
    message.relay_closed.duration_ms = 5;
    return message;
}

/* ---- the link -------------------------------------------------------------------------------- */

static void on_up(struct n2_link *link, const struct n2_hello *peer, void *user)
{
    (void)link;
    (void)peer;
    (void)user;
}

static void on_order(struct fake_relayd *fake, struct n2_link *link,
                     const struct n2_message *message)
{
    struct fake_held order = {
        .link = link,
        .transaction = message->transaction,
        .association = message->open_relay.association,
    };

    fake->orders++;
    fake->last_order = message->open_relay;
    if (message->open_relay.kind == N2_KIND_CONNECT)
        order.destination = message->open_relay.destinations[fake->winner];
    if (fake->answer != FAKE_HOLDS) {
        answer_one(fake, &order);
        return;
    }
    ck_assert_uint_lt(fake->held_count, FAKE_RELAYD_HELD_MAX);
    fake->held[fake->held_count++] = order;
}

static void on_attach(struct fake_relayd *fake, const struct n2_attach_client *attach, int fd)
{
    ck_assert_int_ge(fd, 0);
    ck_assert_uint_lt(fake->attached_count, FAKE_RELAYD_ATTACHED_MAX);
    struct fake_attached *to = &fake->attached[fake->attached_count++];
    to->relay = attach->relay;
    to->fd = fd;
    to->early_length = attach->early_length;
    memcpy(to->early, attach->early, attach->early_length);
}

static void on_message(struct n2_link *link, const struct n2_message *message, int fd, bool stray,
                       void *user)
{
    struct fake_relayd *fake = user;

    ck_assert(!stray);
    if (message->type == N2_ATTACH_CLIENT) {
        on_attach(fake, &message->attach_client, fd);
        return;
    }
    ck_assert_int_eq(fd, -1);
    if (message->type == N2_OPEN_RELAY) {
        on_order(fake, link, message);
    } else if (message->type == N2_CANCEL_ORDER) {
        fake->cancels++;
        fake->last_cancelled = message->cancelled;
    } else if (message->type == N2_CLOSE_RELAY) {
        fake->closes++;
        fake->last_close = message->close_relay;
        const struct n2_message closed =
            closed_message(fake, message->close_relay.relay, message->close_relay.reason);
        if (!fake->keeps_closed)
            (void)n2_link_send(link, &closed, -1);
    } else {
        ck_abort_msg("socksd sent %s", n2_type_name(message->type));
    }
}

static void forget(struct fake_relayd *fake, const struct n2_link *link)
{
    size_t kept = 0;
    for (size_t i = 0; i < fake->held_count; i++)
        if (fake->held[i].link != link)
            fake->held[kept++] = fake->held[i];
    fake->held_count = kept;
    for (size_t i = 0; i < FAKE_RELAYD_LINKS_MAX; i++)
        if (fake->links[i] == link)
            fake->links[i] = NULL;
}

static void on_down(struct n2_link *link, const char *text, void *user)
{
    (void)text;
    forget(user, link);
}

static const struct n2_link_ops ops = {.up = on_up, .message = on_message, .down = on_down};

static void on_acceptable(uv_poll_t *poll, int status, int events)
{
    struct fake_relayd *fake = poll->data;
    struct n2_link_config config;
    size_t place = 0;

    (void)status;
    (void)events;
    int fd = accept4(fake->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    fake->accepted++;
    while (place < FAKE_RELAYD_LINKS_MAX && fake->links[place])
        place++;
    ck_assert_uint_lt(place, FAKE_RELAYD_LINKS_MAX);
    n2_link_config_init(&config, N2_ROLE_RELAYD);
    config.hello.ptcl = fake->ptcl;
    config.hello.boot_epoch = 1;
    config.hello.planes = 1u << N2_PLANE_SOCKET;
    config.hello.families = N2_FAMILY_V4 | N2_FAMILY_V6;
    config.hello.capacity = 1000;
    snprintf(config.hello.instance, sizeof(config.hello.instance), "%s", fake->instance);
    ck_assert_int_eq(n2_link_open(&fake->links[place], fake->loop, fd, &config, &ops, fake), 0);
}

/* ---- for the test ---------------------------------------------------------------------------- */

void fake_relayd_start(struct fake_relayd *fake)
{
    fake->fd = unix_listen(fake->path, 0600);
    ck_assert_int_ge(fake->fd, 0);
    uv_poll_init(fake->loop, &fake->poll, fake->fd);
    fake->poll.data = fake;
    uv_poll_start(&fake->poll, UV_READABLE, on_acceptable);
    fake->listening = true;
}

void fake_relayd_send(struct fake_relayd *fake, const struct n2_message *message)
{
    for (size_t i = 0; i < FAKE_RELAYD_LINKS_MAX; i++)
        if (fake->links[i]) {
            ck_assert_int_eq(n2_link_send(fake->links[i], message, -1), 0);
            return;
        }
    ck_abort_msg("no link");
}

void fake_relayd_send_closed(struct fake_relayd *fake, uint64_t relay, enum n2_reason reason)
{
    const struct n2_message message = closed_message(fake, relay, reason);
    fake_relayd_send(fake, &message);
}

void fake_relayd_send_connected(struct fake_relayd *fake, uint64_t relay, const char *peer)
{
    struct n2_message message = {.type = N2_RELAY_CONNECTED, .relay_connected = {.relay = relay}};

    ck_assert_int_eq(endpoint_parse(peer, &message.relay_connected.peer), 0);
    fake_relayd_send(fake, &message);
}

static void on_verdict(struct n2_link *link, const struct n2_message *answer, void *user)
{
    struct fake_relayd *fake = user;

    (void)link;
    if (!answer) {
        fake->unanswered++;
        return;
    }
    fake->verdicts++;
    fake->last_verdict = answer->authorized;
}

void fake_relayd_ask(struct fake_relayd *fake, uint64_t relay, const char *destination)
{
    struct n2_message message = {.type = N2_AUTHORIZE, .authorize = {.relay = relay}};
    struct n2_authorize *asked = &message.authorize;
    struct endpoint endpoint;
    const char *colon = strrchr(destination, ':');
    size_t place = 0;

    ck_assert_ptr_nonnull(colon);
    if (endpoint_parse(destination, &endpoint) == 0) {
        asked->address = endpoint.address;
        asked->port = endpoint.port;
    } else {
        snprintf(asked->name, sizeof(asked->name), "%.*s", (int)(colon - destination), destination);
        asked->port = (uint16_t)atoi(colon + 1);
    }
    while (place < FAKE_RELAYD_LINKS_MAX && !fake->links[place])
        place++;
    ck_assert_uint_lt(place, FAKE_RELAYD_LINKS_MAX);
    ck_assert_int_eq(n2_link_request(fake->links[place], &message, -1, 0, on_verdict, fake, NULL),
                     0);
}

void fake_relayd_drop_links(struct fake_relayd *fake)
{
    for (size_t i = 0; i < FAKE_RELAYD_LINKS_MAX; i++) {
        struct n2_link *link = fake->links[i];
        if (!link)
            continue;
        forget(fake, link);
        n2_link_close(link);
    }
}

void fake_relayd_stop(struct fake_relayd *fake)
{
    fake_relayd_drop_links(fake);
    for (size_t i = 0; i < fake->attached_count; i++)
        if (fake->attached[i].fd >= 0)
            close(fake->attached[i].fd);
    fake->attached_count = 0;
    if (!fake->listening)
        return;
    fake->listening = false;
    uv_close((uv_handle_t *)&fake->poll, NULL);
    uv_run(fake->loop, UV_RUN_NOWAIT);
    close(fake->fd);
    unlink(fake->path);
}

size_t fake_relayd_connected(const struct fake_relayd *fake)
{
    size_t count = 0;
    for (size_t i = 0; i < FAKE_RELAYD_LINKS_MAX; i++)
        count += fake->links[i] && n2_link_is_up(fake->links[i]);
    return count;
}
