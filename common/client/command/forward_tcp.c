#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/client/command/command.h"
#include "common/client/command/flow.h"
#include "common/client/net.h"
#include "proto/ptcl.h"

#define BACKLOG 128
#define PAUSE_MS 200 /* after accept() failed, out of descriptors most likely */

struct forwarder;

struct connection {
    struct forwarder *forwarder;
    struct connection *next, **previous;
    struct flow *flow;
    char peer[ENDPOINT_TEXT_MAX];
};

struct forwarder {
    struct loop loop;
    const struct options *options;
    const struct sockst_options *association;
    int listener;
    struct watch watch;
    struct timer pause;
    struct connection *connections;
    uint32_t count;
};

/* Full: whoever comes now waits in the kernel's queue. */
static void listen_if_room(struct forwarder *forwarder)
{
    bool room = forwarder->count < forwarder->options->max && forwarder->pause.previous == NULL;
    int error =
        loop_watch(&forwarder->loop, &forwarder->watch, forwarder->listener, room ? EPOLLIN : 0);
    if (error < 0)
        loop_arm(&forwarder->loop, &forwarder->pause, PAUSE_MS);
}

static void connection_free(struct connection *connection)
{
    *connection->previous = connection->next;
    if (connection->next != NULL)
        connection->next->previous = connection->previous;
    connection->forwarder->count--;
    flow_free(connection->flow);
    free(connection);
}

static void on_opened(struct flow *flow, const struct sockst_association *association, void *user)
{
    const struct connection *connection = user;
    (void)flow;
    command_show(connection->forwarder->options, association);
}

static void on_ended(struct flow *flow, const struct flow_result *result, void *user)
{
    struct connection *connection = user;
    struct forwarder *forwarder = connection->forwarder;
    (void)flow;
    if (!result->complete)
        command_say("%s: %s", connection->peer, result->failure.text);
    else if (forwarder->options->verbose)
        command_say("%s: sent %llu octets, received %llu", connection->peer,
                    (unsigned long long)result->up_bytes, (unsigned long long)result->down_bytes);
    connection_free(connection);
    listen_if_room(forwarder);
}

static const struct flow_ops ops = {.opened = on_opened, .ended = on_ended};

/* Consumes `fd`. */
static void open_connection(struct forwarder *forwarder, int fd,
                            const struct sockaddr_storage *address)
{
    struct endpoint peer = {0};
    int on = 1;
    struct connection *connection = calloc(1, sizeof(*connection));
    if (connection == NULL) {
        close(fd);
        return;
    }
    net_from_sockaddr(address, &peer);
    endpoint_format(&peer, connection->peer, sizeof(connection->peer));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    connection->forwarder = forwarder;
    connection->next = forwarder->connections;
    connection->previous = &forwarder->connections;
    if (connection->next != NULL)
        connection->next->previous = &connection->next;
    forwarder->connections = connection;
    forwarder->count++;
    int error = flow_open(&connection->flow, &forwarder->loop, forwarder->association,
                          forwarder->options->connect_timeout_ms, fd, fd, &ops, connection);
    if (error < 0) {
        command_say("%s: %s", connection->peer, strerror(-error));
        connection_free(connection);
    }
}

static void on_listener(struct watch *watch, uint32_t events)
{
    struct forwarder *forwarder = watch->user;
    struct sockaddr_storage address;
    socklen_t length = sizeof(address);
    (void)events;
    int fd = accept4(forwarder->listener, (struct sockaddr *)&address, &length,
                     SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
        open_connection(forwarder, fd, &address);
    } else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
        command_say("accept: %s", strerror(errno));
        loop_arm(&forwarder->loop, &forwarder->pause, PAUSE_MS);
    }
    listen_if_room(forwarder);
}

static void on_pause(struct timer *timer)
{
    listen_if_room(timer->user);
}

static int open_listener(const struct endpoint *local)
{
    struct sockaddr_storage address;
    int on = 1, error;
    socklen_t length = net_to_sockaddr(local, &address);
    int fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (address.ss_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    if (bind(fd, (struct sockaddr *)&address, length) < 0 || listen(fd, BACKLOG) < 0) {
        error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

static int run(struct forwarder *forwarder)
{
    char text[ENDPOINT_TEXT_MAX];
    struct endpoint local = forwarder->options->local;
    int error = loop_init(&forwarder->loop);
    if (error == 0)
        error = forwarder->listener = open_listener(&local);
    if (error < 0) {
        command_say("%s: %s", endpoint_format(&local, text, sizeof(text)), strerror(-error));
        return EXIT_INCOMPLETE;
    }
    listen_if_room(forwarder);
    net_local(forwarder->listener, &local);
    command_say("listening on %s (tcp)", endpoint_format(&local, text, sizeof(text)));
    loop_run(&forwarder->loop);
    while (forwarder->connections != NULL)
        connection_free(forwarder->connections);
    loop_unwatch(&forwarder->loop, &forwarder->watch);
    close(forwarder->listener);
    loop_free(&forwarder->loop);
    return EXIT_COMPLETE;
}

int forward_tcp(const struct options *options, const struct sockst_options *association)
{
    struct forwarder forwarder = {.options = options, .association = association, .listener = -1};
    forwarder.watch = (struct watch){.ready = on_listener, .user = &forwarder};
    forwarder.pause = (struct timer){.fire = on_pause, .user = &forwarder};
    return run(&forwarder);
}
