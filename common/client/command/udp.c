/*
 * sockst udp: standard input and output as datagrams of one UDP association.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/client/command/command.h"
#include "common/client/command/opener.h"
#include "proto/ptcl.h"

#define DATAGRAM_MAX 65507 /* octets of payload over IPv4 */

struct exchange {
    struct loop loop;
    const struct options *options;
    struct opener opener;
    struct sockst_association *association;
    int data; /* borrowed from the association */
    struct watch in_watch, data_watch, control_watch;
    struct timer timer;
    uint8_t input[DATAGRAM_MAX + 1]; /* with --lines one more, for the end of the line */
    size_t input_length;
    size_t next_length; /* octets of `input` that wait to be sent as one datagram */
    size_t next_used;   /* octets that go with them: the datagram, and its end of line */
    bool next_waits, input_ended;
    uint32_t received;
    int status;
};

static void finish(struct exchange *exchange, int status)
{
    exchange->status = status;
    loop_stop(&exchange->loop);
}

static int watch_wants(struct exchange *exchange)
{
    bool reads = !exchange->next_waits && !exchange->input_ended;
    int error = loop_watch(&exchange->loop, &exchange->in_watch, STDIN_FILENO, reads ? EPOLLIN : 0);
    if (error == 0)
        error = loop_watch(&exchange->loop, &exchange->data_watch, exchange->data,
                           exchange->next_waits ? EPOLLIN | EPOLLOUT : EPOLLIN);
    return error;
}

static void go_on(struct exchange *exchange)
{
    int error = watch_wants(exchange);
    if (error < 0) {
        command_say("epoll: %s", strerror(-error));
        finish(exchange, EXIT_INCOMPLETE);
    } else if (exchange->input_ended && !exchange->next_waits) {
        loop_arm(&exchange->loop, &exchange->timer, exchange->options->timeout_ms);
    }
}

/* Is there a whole datagram in the input? */
static bool find_next(struct exchange *exchange)
{
    const uint8_t *end = NULL;
    if (exchange->input_length == 0)
        return false;
    exchange->next_length = exchange->next_used = exchange->input_length;
    if (!exchange->options->lines)
        return true;
    end = memchr(exchange->input, '\n', exchange->input_length);
    if (end != NULL) {
        exchange->next_length = (size_t)(end - exchange->input);
        exchange->next_used = exchange->next_length + 1;
    }
    return end != NULL || exchange->input_ended ||
           exchange->input_length == sizeof(exchange->input);
}

/* Sends what is there; what the socket does not take now stays. False when the command has to end.
 */
static bool send_input(struct exchange *exchange)
{
    exchange->next_waits = false;
    while (find_next(exchange)) {
        ssize_t sent =
            sockst_association_send(exchange->association, exchange->input, exchange->next_length);
        if (sent < 0 && errno == EAGAIN) {
            exchange->next_waits = true;
            return true;
        }
        /* ECONNREFUSED tells of an earlier datagram; whether the relay is gone, N1 tells. */
        if (sent < 0 && errno != ECONNREFUSED) {
            command_say("datagram of %zu octets: %s", exchange->next_length, strerror(errno));
            finish(exchange, EXIT_INCOMPLETE);
            return false;
        }
        exchange->input_length -= exchange->next_used;
        memmove(exchange->input, exchange->input + exchange->next_used, exchange->input_length);
    }
    return true;
}

static void on_input(struct watch *watch, uint32_t events)
{
    struct exchange *exchange = watch->user;
    (void)events;
    /* Without --lines a datagram is what one read() gives. */
    size_t room =
        (exchange->options->lines ? DATAGRAM_MAX + 1 : DATAGRAM_MAX) - exchange->input_length;
    ssize_t got = read(STDIN_FILENO, exchange->input + exchange->input_length, room);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got < 0) {
        command_say("input: %s", strerror(errno));
        finish(exchange, EXIT_INCOMPLETE);
        return;
    }
    exchange->input_ended = got == 0;
    exchange->input_length += (size_t)got;
    if (send_input(exchange))
        go_on(exchange);
}

static bool write_all(const uint8_t *data, size_t length)
{
    while (length != 0) {
        ssize_t written = write(STDOUT_FILENO, data, length);
        if (written < 0 && errno != EINTR)
            return false;
        if (written > 0) {
            data += written;
            length -= (size_t)written;
        }
    }
    return true;
}

/* One datagram to the output. False when the command has to end. */
static bool deliver(struct exchange *exchange, uint8_t *datagram, size_t length)
{
    if (exchange->options->lines)
        datagram[length++] = '\n';
    if (!write_all(datagram, length)) {
        command_say("output: %s", strerror(errno));
        finish(exchange, EXIT_INCOMPLETE);
        return false;
    }
    exchange->received++;
    if (exchange->options->count != 0 && exchange->received == exchange->options->count) {
        finish(exchange, EXIT_COMPLETE);
        return false;
    }
    return true;
}

static void on_data(struct watch *watch, uint32_t events)
{
    struct exchange *exchange = watch->user;
    uint8_t datagram[UINT16_MAX + 2];
    if ((events & (EPOLLIN | EPOLLERR)) != 0) {
        ssize_t got = sockst_association_receive(exchange->association, datagram, UINT16_MAX);
        if (got >= 0 && !deliver(exchange, datagram, (size_t)got))
            return;
    }
    if (exchange->next_waits && !send_input(exchange))
        return;
    go_on(exchange);
}

static void on_control(struct watch *watch, uint32_t events)
{
    struct exchange *exchange = watch->user;
    (void)events;
    if (sockst_association_is_alive(exchange->association))
        return;
    command_say("the server ended the association");
    finish(exchange, EXIT_INCOMPLETE);
}

static void on_timer(struct timer *timer)
{
    struct exchange *exchange = timer->user;
    if (exchange->options->count == 0) {
        finish(exchange, EXIT_COMPLETE);
        return;
    }
    command_say("%u of %u answers came in time", exchange->received, exchange->options->count);
    finish(exchange, EXIT_INCOMPLETE);
}

static void on_opened(struct opener *opener, struct sockst_association *association,
                      const struct sockst_failure *failure)
{
    struct exchange *exchange = opener->user;
    if (association == NULL) {
        finish(exchange, command_failed(failure));
        return;
    }
    command_show(exchange->options, association);
    exchange->association = association;
    exchange->data = sockst_association_data_fd(association);
    loop_watch(&exchange->loop, &exchange->control_watch,
               sockst_association_control_fd(association), EPOLLIN);
    go_on(exchange);
}

static int run(struct exchange *exchange, const struct sockst_options *association)
{
    int error = loop_init(&exchange->loop);
    if (error == 0)
        error = opener_start(&exchange->opener, &exchange->loop, association,
                             exchange->options->connect_timeout_ms);
    if (error < 0) {
        command_say("%s", strerror(-error));
        return EXIT_INCOMPLETE;
    }
    loop_run(&exchange->loop);
    opener_cancel(&exchange->opener);
    sockst_association_close(exchange->association);
    loop_free(&exchange->loop);
    return exchange->loop.signal != 0 ? command_interrupted(exchange->loop.signal)
                                      : exchange->status;
}

int command_udp(const struct options *options)
{
    static struct exchange exchange; /* large */
    struct endpoint proxies[SOCKST_PROXY_ADDRESSES_MAX];
    struct sockst_options association;
    int status = command_resolve(options, PTCL_UDP, proxies, &association);
    if (status != 0)
        return status;
    exchange.options = options;
    exchange.opener = (struct opener){.done = on_opened, .user = &exchange};
    exchange.in_watch = (struct watch){.ready = on_input, .user = &exchange};
    exchange.data_watch = (struct watch){.ready = on_data, .user = &exchange};
    exchange.control_watch = (struct watch){.ready = on_control, .user = &exchange};
    exchange.timer = (struct timer){.fire = on_timer, .user = &exchange};
    return run(&exchange, &association);
}
