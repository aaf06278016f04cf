#include "relayd/ctl/client.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/ipc/peer.h"
#include "proto/frame.h"

#define CONNECT_RETRY_MS 20 /* while the daemon's backlog is full */

struct client {
    int fd;
    unsigned timeout_ms;
    bool broken;
    struct admin_request request; /* asked last */
    uint64_t records;             /* of its answer so far */
    size_t start, end;            /* octets received and not yet used */
    struct arena arena;
    char error[ADMIN_TEXT_MAX + 64];
    uint8_t received[FRAME_MAX];
    uint8_t scratch[ADMIN_ARENA_SIZE];
};

__attribute__((format(printf, 2, 3))) static enum client_result broken(struct client *client,
                                                                       const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(client->error, sizeof(client->error), format, arguments);
    va_end(arguments);
    client->broken = true;
    return CLIENT_BROKEN;
}

static int connect_patiently(const char *path, unsigned timeout_ms)
{
    int fd = unix_connect(path);

    for (unsigned waited = 0; fd == -EAGAIN && waited < timeout_ms; waited += CONNECT_RETRY_MS) {
        poll(NULL, 0, CONNECT_RETRY_MS);
        fd = unix_connect(path);
    }
    return fd;
}

int client_open(struct client **out, const char *path, unsigned timeout_ms)
{
    int fd = connect_patiently(path, timeout_ms);

    if (fd < 0)
        return fd;
    struct client *client = calloc(1, sizeof(*client));

    if (!client) {
        close(fd);
        return -ENOMEM;
    }
    client->fd = fd;
    client->timeout_ms = timeout_ms;
    arena_init(&client->arena, client->scratch, sizeof(client->scratch));
    *out = client;
    return 0;
}

/* Returns whether the socket became ready; otherwise the client is broken. */
static bool wait_for(struct client *client, short events)
{
    struct pollfd poller = {.fd = client->fd, .events = events};
    int ready;

    do {
        ready = poll(&poller, 1, (int)client->timeout_ms);
    } while (ready < 0 && errno == EINTR);
    if (ready < 0)
        broken(client, "poll: %s", strerror(errno));
    else if (ready == 0)
        broken(client, "no answer within %u ms", client->timeout_ms);
    return ready > 0;
}

static void send_all(struct client *client, const uint8_t *data, size_t length)
{
    while (length > 0 && wait_for(client, POLLOUT)) {
        ssize_t sent = send(client->fd, data, length, MSG_NOSIGNAL);

        if (sent < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (sent < 0) {
            broken(client, "the daemon does not talk to us: %s", strerror(errno));
            return;
        }
        data += sent;
        length -= (size_t)sent;
    }
}

void client_ask(struct client *client, const struct admin_request *request)
{
    uint8_t frame[FRAME_HEADER + ADMIN_PAYLOAD_MAX];

    if (client->broken)
        return;
    client->request = *request;
    client->request.version = ADMIN_VERSION;
    client->records = 0;
    size_t length = admin_request_encode(&client->request, frame, sizeof(frame));

    if (length == 0)
        broken(client, "the request cannot be expressed");
    else
        send_all(client, frame, length);
}

/* Reads some octets more. False: the client is broken. */
static bool receive(struct client *client)
{
    if (client->start > 0) {
        memmove(client->received, client->received + client->start, client->end - client->start);
        client->end -= client->start;
        client->start = 0;
    }
    while (wait_for(client, POLLIN)) {
        ssize_t got = recv(client->fd, client->received + client->end,
                           sizeof(client->received) - client->end, 0);

        if (got > 0) {
            client->end += (size_t)got;
            return true;
        }
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (got == 0)
            broken(client, "the daemon closed the connection");
        else
            broken(client, "%s", strerror(errno));
        break;
    }
    return false;
}

static bool next_frame(struct client *client, const uint8_t **payload, size_t *length)
{
    for (;;) {
        size_t missing;
        enum frame_result result =
            frame_decode(client->received + client->start, client->end - client->start, payload,
                         length, &missing);

        if (result == FRAME_E_LENGTH) {
            broken(client, "the daemon sent a frame of impossible length");
            return false;
        }
        if (result == FRAME_OK) {
            client->start += FRAME_HEADER + *length;
            return true;
        }
        /* A whole frame fits: after receive() has moved what there is, there is always room. */
        if (!receive(client))
            return false;
    }
}

static bool is_expected(const struct client *client, const struct admin_answer *answer)
{
    switch (client->request.type) {
    case ADMIN_STATUS:
        return answer->type == ADMIN_ANSWER_STATUS && client->records == 0;
    case ADMIN_RELAYS:
        return answer->type == ADMIN_ANSWER_RELAY;
    case ADMIN_SHOW:
        return answer->type == ADMIN_ANSWER_RELAY && client->records == 0 &&
               answer->relay.relay == client->request.relay;
    default:
        return false;
    }
}

static enum client_result judge_end(struct client *client, uint64_t count)
{
    uint64_t expected = client->request.type == ADMIN_CLOSE ? 1 : client->records;
    bool one = client->request.type == ADMIN_STATUS || client->request.type == ADMIN_SHOW;

    if (count != expected || (one && count != 1))
        return broken(client, "the daemon's answer is not complete");
    return CLIENT_END;
}

enum client_result client_next(struct client *client, struct admin_answer *answer)
{
    const uint8_t *payload;
    size_t length;
    const char *problem = "";

    if (client->broken || !next_frame(client, &payload, &length))
        return CLIENT_BROKEN;
    if (admin_answer_decode(payload, length, &client->arena, answer, &problem) != N2_OK)
        return broken(client, "the daemon's answer is not valid (%s)", problem);
    switch (answer->type) {
    case ADMIN_ANSWER_ERROR:
        snprintf(client->error, sizeof(client->error), "%s", answer->error);
        return CLIENT_REFUSED;
    case ADMIN_ANSWER_END:
        return judge_end(client, answer->count);
    default:
        if (!is_expected(client, answer))
            return broken(client, "the daemon answered what was not asked");
        client->records++;
        return CLIENT_RECORD;
    }
}

enum client_result client_status(struct client *client, struct admin_status *out)
{
    struct admin_answer answer;
    struct admin_request request = {.type = ADMIN_STATUS};

    client_ask(client, &request);
    enum client_result result = client_next(client, &answer);

    if (result != CLIENT_RECORD)
        return result;
    *out = answer.status;
    return client_next(client, &answer);
}

const char *client_error(const struct client *client)
{
    return client->error;
}

void client_close(struct client *client)
{
    if (!client)
        return;
    close(client->fd);
    free(client);
}
