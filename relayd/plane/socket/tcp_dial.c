#include "relayd/plane/socket/tcp_dial.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/system/fd_budget.h"
#include "relayd/plane/socket/sockets.h"
#include "relayd/plane/socket/watched_socket.h"

struct attempt {
    struct watched_socket socket; /* open: under way */
    struct tcp_dial *dial;
    struct endpoint destination;
};

struct tcp_dial {
    struct socket_plane *plane;
    const struct relay *relay;
    tcp_dial_cb *done;
    void *owner;
    uv_timer_t timer; /* the next attempt, or the end of all */
    uint64_t until_ms;
    size_t count, started, pending;
    const struct attempt *told; /* whose error says most so far; NULL: none failed */
    int error;                  /* of it, negative errno */
    unsigned handles;
    struct attempt attempts[];
};

static void go_on(struct tcp_dial *dial);

/* ---- the end -----------------------------------------------------------------------------------
 */

static void on_handle_closed(struct tcp_dial *dial)
{
    if (--dial->handles == 0)
        free(dial);
}

static void on_timer_closed(uv_handle_t *handle)
{
    on_handle_closed(handle->data);
}

static void on_attempt_closed(uv_handle_t *handle)
{
    const struct attempt *attempt = handle->data;

    on_handle_closed(attempt->dial);
}

void tcp_dial_cancel(struct tcp_dial *dial)
{
    if (dial == NULL)
        return;
    for (size_t i = 0; i < dial->started; i++)
        watched_socket_close(&dial->attempts[i].socket, false, on_attempt_closed);
    uv_close((uv_handle_t *)&dial->timer, on_timer_closed);
}

static void succeed(struct tcp_dial *dial, const struct attempt *attempt, int fd)
{
    const struct tcp_dial_result result = {.fd = fd, .destination = attempt->destination};

    tcp_dial_cancel(dial);
    dial->done(dial->owner, &result);
}

static void give_up(struct tcp_dial *dial)
{
    char address[ENDPOINT_TEXT_MAX], text[N2_TEXT_MAX + 1];
    const struct tcp_dial_result result = {
        .fd = -1, .error = socket_plane_error(-dial->error), .text = text};

    snprintf(text, sizeof(text), "connect to %s: %s",
             endpoint_format(&dial->told->destination, address, sizeof(address)),
             strerror(-dial->error));
    tcp_dial_cancel(dial);
    dial->done(dial->owner, &result);
}

/* ---- attempts ----------------------------------------------------------------------------------
 */

/* Smaller says more: a host that answers tells more than one that is silent, and that more than a
 * route that is missing. */
static unsigned rank(int error)
{
    switch (socket_plane_error(-error)) {
    case N2_ERROR_REFUSED:
        return 0;
    case N2_ERROR_TIMED_OUT:
        return 1;
    case N2_ERROR_HOST_UNREACHABLE:
        return 2;
    case N2_ERROR_NETWORK_UNREACHABLE:
        return 3;
    case N2_ERROR_NOT_ALLOWED:
        return 4;
    default:
        return 5;
    }
}

static void note_failure(struct tcp_dial *dial, const struct attempt *attempt, int error)
{
    if (dial->told == NULL || rank(error) < rank(dial->error)) {
        dial->told = attempt;
        dial->error = error;
    }
}

static void on_attempt(uv_poll_t *poll, int status, int events)
{
    struct attempt *attempt = poll->data;
    struct tcp_dial *dial = attempt->dial;

    (void)events;
    watched_socket_reported(&attempt->socket, status);
    const int error = sockets_take_error(attempt->socket.fd);
    if (error == 0) {
        succeed(dial, attempt, watched_socket_release(&attempt->socket, on_attempt_closed));
        return;
    }
    watched_socket_close(&attempt->socket, false, on_attempt_closed);
    dial->pending--;
    note_failure(dial, attempt, error);
    go_on(dial);
}

/* One attempt is a relay's due; those beside it live on what is left. The reserve is what clients
 * that are handed over need: a descriptor that cannot be received ends N2, and all relays. */
static bool has_room_beside(const struct tcp_dial *dial)
{
    const int fd = fcntl(uv_backend_fd(dial->plane->loop), F_DUPFD_CLOEXEC, 0);
    const bool room = fd_budget_allows(fd);

    if (fd >= 0)
        close(fd);
    return room;
}

/* Returns 1 when it has connected at once, which ends the dial; 0: under way; or -errno. */
static int start_attempt(struct tcp_dial *dial, struct attempt *attempt)
{
    bool in_progress;
    const int fd =
        sockets_open_egress(dial->plane, dial->relay, &attempt->destination, &in_progress);

    if (fd < 0)
        return fd;
    if (!in_progress) {
        succeed(dial, attempt, fd);
        return 1;
    }
    const int rc = watched_socket_open(&attempt->socket, dial->plane->loop, fd, attempt);
    if (rc < 0)
        return rc;
    dial->handles++;
    dial->pending++;
    watched_socket_want(&attempt->socket, UV_WRITABLE, on_attempt);
    return 0;
}

/* ---- time --------------------------------------------------------------------------------------
 */

static void on_timer(uv_timer_t *timer)
{
    struct tcp_dial *dial = timer->data;

    if (uv_now(dial->plane->loop) < dial->until_ms) {
        go_on(dial);
        return;
    }
    for (size_t i = 0; i < dial->started; i++) {
        if (dial->attempts[i].socket.fd >= 0)
            note_failure(dial, &dial->attempts[i], -ETIMEDOUT);
    }
    give_up(dial);
}

static void arm_timer(struct tcp_dial *dial)
{
    const uint64_t now_ms = uv_now(dial->plane->loop);
    uint64_t sleep_ms = dial->until_ms > now_ms ? dial->until_ms - now_ms : 0;

    if (dial->started < dial->count && sleep_ms > TCP_DIAL_ATTEMPT_DELAY_MS)
        sleep_ms = TCP_DIAL_ATTEMPT_DELAY_MS;
    uv_timer_start(&dial->timer, on_timer, sleep_ms, 0);
}

/* Starts the next attempt; those that fail on the spot are passed over. Where there is no room for
 * one more it keeps its turn. The last thing that its callers do. */
static void go_on(struct tcp_dial *dial)
{
    while (dial->started < dial->count && (dial->pending == 0 || has_room_beside(dial))) {
        struct attempt *attempt = &dial->attempts[dial->started++];
        const int rc = start_attempt(dial, attempt);
        if (rc > 0)
            return;
        if (rc == 0)
            break;
        note_failure(dial, attempt, rc);
    }
    if (dial->pending == 0)
        give_up(dial);
    else
        arm_timer(dial);
}

int tcp_dial_start(struct tcp_dial **out, struct socket_plane *plane, const struct relay *relay,
                   const struct endpoint *candidates, size_t count, tcp_dial_cb *done, void *owner)
{
    struct tcp_dial *dial = calloc(1, sizeof(*dial) + count * sizeof(dial->attempts[0]));

    if (dial == NULL)
        return -ENOMEM;
    dial->plane = plane;
    dial->relay = relay;
    dial->done = done;
    dial->owner = owner;
    dial->until_ms = uv_now(plane->loop) + plane->config->tcp.connect_timeout_ms;
    dial->count = count;
    for (size_t i = 0; i < count; i++) {
        watched_socket_init(&dial->attempts[i].socket);
        dial->attempts[i].dial = dial;
        dial->attempts[i].destination = candidates[i];
    }
    uv_timer_init(plane->loop, &dial->timer); /* never fails: there is always a handle to free it */
    dial->timer.data = dial;
    dial->handles = 1;
    *out = dial;
    go_on(dial);
    return 0;
}
