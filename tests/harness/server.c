#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/net/sockaddr.h"
#include "tests/harness/sockets.h"
#include "tests/harness/traffic.h"
#include "tests/harness/wait.h"

#define CHUNK 65536

struct server {
    struct lab *lab;
    pid_t pid;
    struct endpoint endpoint;
    struct server_seen *seen; /* shared with the child, its only writer */
};

struct connection {
    int fd;
    bool read_ended, write_ended;
    size_t pending, offset; /* octets of `buffer` still to be sent */
    uint8_t *buffer;
    struct pattern pattern;
    uint64_t to_send; /* SERVER_SOURCE */
};

/* The child's view. */
struct worker {
    const struct server_spec *spec;
    struct server_seen *seen;
    int listener;
    nfds_t count;
    struct pollfd polls[1 + SERVER_CONNECTIONS_MAX];
    struct connection connections[SERVER_CONNECTIONS_MAX];
};

/* The counters are read by another process while they change: octets last, so that whoever sees
 * the number also sees the hash. */
static void note(struct worker *worker, const void *data, size_t length)
{
    worker->seen->hash = pattern_hash_more(worker->seen->hash, data, length);
    worker->seen->messages++;
    __atomic_add_fetch(&worker->seen->octets, length, __ATOMIC_RELEASE);
}

static void connection_end(struct worker *worker, nfds_t index)
{
    close(worker->connections[index].fd);
    free(worker->connections[index].buffer);
    worker->count--;
    worker->connections[index] = worker->connections[worker->count];
    worker->polls[1 + index] = worker->polls[1 + worker->count];
}

static void accept_one(struct worker *worker)
{
    const int fd = accept4(worker->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        return;
    }
    if (worker->count == SERVER_CONNECTIONS_MAX) {
        close(fd);
        return;
    }
    worker->connections[worker->count] =
        (struct connection){.fd = fd,
                            .buffer = malloc(CHUNK),
                            .pattern = pattern_start(worker->spec->seed),
                            .to_send = worker->spec->octets};
    worker->polls[1 + worker->count++] = (struct pollfd){.fd = fd};
    endpoint_peer(fd, &worker->seen->peer);
    __atomic_add_fetch(&worker->seen->connections, 1, __ATOMIC_RELEASE);
}

/* Reads into the buffer; false when the connection is no more. */
static bool connection_read(struct worker *worker, struct connection *connection)
{
    const ssize_t got = recv(connection->fd, connection->buffer, CHUNK, 0);
    if (got > 0) {
        note(worker, connection->buffer, (size_t)got);
        if (worker->spec->kind == SERVER_ECHO) {
            connection->pending = (size_t)got;
            connection->offset = 0;
        }
    } else if (got == 0) {
        connection->read_ended = true;
        __atomic_add_fetch(&worker->seen->ended, 1, __ATOMIC_RELEASE);
    } else if (errno != EAGAIN) {
        __atomic_add_fetch(&worker->seen->reset, 1, __ATOMIC_RELEASE);
        return false;
    }
    return true;
}

static bool connection_write(struct connection *connection)
{
    const ssize_t sent = send(connection->fd, connection->buffer + connection->offset,
                              connection->pending, MSG_NOSIGNAL);
    if (sent < 0) {
        return errno == EAGAIN;
    }
    connection->offset += (size_t)sent;
    connection->pending -= (size_t)sent;
    return true;
}

static void connection_refill(struct connection *connection)
{
    connection->pending = connection->to_send < CHUNK ? (size_t)connection->to_send : CHUNK;
    connection->offset = 0;
    connection->to_send -= connection->pending;
    pattern_next(&connection->pattern, connection->buffer, connection->pending);
}

/* Both directions as far as they go now; false when the connection is over. */
static bool connection_step(struct worker *worker, struct connection *connection, short events)
{
    const bool source = worker->spec->kind == SERVER_SOURCE;
    if ((events & (POLLIN | POLLHUP | POLLERR)) != 0 && !connection->read_ended &&
        (source || connection->pending == 0)) {
        /* A source's buffer holds what it sends; what it gets ends up in another. */
        static uint8_t scratch[CHUNK];
        uint8_t *buffer = connection->buffer;
        connection->buffer = source ? scratch : buffer;
        const bool alive = connection_read(worker, connection);
        connection->buffer = buffer;
        if (!alive) {
            return false;
        }
    }
    if (source && connection->pending == 0 && connection->to_send > 0) {
        connection_refill(connection);
    }
    if (connection->pending > 0 && !connection_write(connection)) {
        __atomic_add_fetch(&worker->seen->reset, 1, __ATOMIC_RELEASE);
        return false;
    }
    const bool all_sent = connection->pending == 0 && connection->to_send == 0;
    if (!connection->write_ended && all_sent && (source || connection->read_ended)) {
        shutdown(connection->fd, SHUT_WR);
        connection->write_ended = true;
    }
    return !(connection->read_ended && connection->write_ended);
}

static short connection_events(const struct worker *worker, const struct connection *connection)
{
    short events = 0;
    if (!connection->read_ended &&
        (connection->pending == 0 || worker->spec->kind == SERVER_SOURCE)) {
        events |= POLLIN;
    }
    if (connection->pending > 0 || connection->to_send > 0) {
        events |= POLLOUT;
    }
    return events;
}

static _Noreturn void serve_streams(struct worker *worker)
{
    worker->polls[0] = (struct pollfd){.fd = worker->listener, .events = POLLIN};
    for (;;) {
        for (nfds_t i = 0; i < worker->count; i++) {
            worker->polls[1 + i].events = connection_events(worker, &worker->connections[i]);
        }
        if (poll(worker->polls, 1 + worker->count, -1) < 0) {
            _exit(1);
        }
        for (nfds_t i = worker->count; i-- > 0;) {
            const short events = worker->polls[1 + i].revents;
            if (events != 0 && !connection_step(worker, &worker->connections[i], events)) {
                connection_end(worker, i);
            }
        }
        if (worker->polls[0].revents != 0) {
            accept_one(worker);
        }
    }
}

static _Noreturn void serve_datagrams(struct worker *worker)
{
    static uint8_t buffer[CHUNK];
    for (;;) {
        struct sockaddr_storage from;
        socklen_t length = sizeof(from);
        const ssize_t got = recvfrom(worker->listener, buffer, sizeof(buffer), 0,
                                     (struct sockaddr *)&from, &length);
        if (got < 0) {
            continue; /* an ICMP error for what was sent before */
        }
        endpoint_from_sockaddr((const struct sockaddr *)&from, &worker->seen->peer);
        note(worker, buffer, (size_t)got);
        if (worker->spec->kind == SERVER_ECHO) {
            sendto(worker->listener, buffer, (size_t)got, MSG_NOSIGNAL,
                   (const struct sockaddr *)&from, length);
        }
    }
}

static void discard(void *user)
{
    server_free(user);
}

struct server *server_start(struct lab *lab, enum lab_place place, const struct server_spec *spec)
{
    struct server *server = calloc(1, sizeof(*server));
    ck_assert_ptr_nonnull(server);
    server->lab = lab;
    server->seen = mmap(NULL, sizeof(*server->seen), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(server->seen, MAP_FAILED);
    server->seen->hash = PATTERN_HASH_START;
    const int fd = spec->type == SOCK_STREAM
                       ? socket_listen(lab, place, spec->address, &server->endpoint)
                       : socket_bound(lab, place, spec->type, spec->address, &server->endpoint);
    const int size = 16 * 1024 * 1024;
    if (spec->type == SOCK_DGRAM) {
        setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
    } else {
        ck_assert_int_eq(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    }
    server->pid = lab_fork(lab, place);
    if (server->pid == 0) {
        struct worker *worker = calloc(1, sizeof(*worker));
        worker->spec = spec;
        worker->seen = server->seen;
        worker->listener = fd;
        if (spec->type == SOCK_STREAM) {
            serve_streams(worker);
        }
        serve_datagrams(worker);
    }
    close(fd);
    lab_on_free(lab, discard, server);
    return server;
}

static struct server *at_target(struct lab *lab, enum server_kind kind, int type)
{
    const struct server_spec spec = {.kind = kind, .type = type, .address = at(LAB_TARGET_V4, 0)};
    return server_start(lab, LAB_TARGET, &spec);
}

struct server *server_echo(struct lab *lab, int type)
{
    return at_target(lab, SERVER_ECHO, type);
}

struct server *server_sink(struct lab *lab, int type)
{
    return at_target(lab, SERVER_SINK, type);
}

void server_free(struct server *server)
{
    lab_forget(server->lab, discard, server);
    kill(server->pid, SIGKILL);
    waitpid(server->pid, NULL, 0);
    munmap(server->seen, sizeof(*server->seen));
    free(server);
}

struct endpoint server_endpoint(const struct server *server)
{
    return server->endpoint;
}

struct server_seen server_seen(const struct server *server)
{
    struct server_seen seen;
    const uint64_t octets = __atomic_load_n(&server->seen->octets, __ATOMIC_ACQUIRE);
    seen = *server->seen;
    seen.octets = octets;
    return seen;
}
