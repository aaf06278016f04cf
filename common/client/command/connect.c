/*
 * sockst connect and sockst bind: standard input and output over one TCP association.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/client/command/command.h"
#include "common/client/command/flow.h"
#include "proto/ptcl.h"

struct connection {
    struct loop loop;
    const struct options *options;
    bool opened;
    int status;
};

/*
 * Takes over a standard descriptor: /dev/null stands in its place, so that closing ours is the end
 * that the other program sees. Pipes and terminals are opened anew where that is permitted, because
 * O_NONBLOCK would otherwise also hit the programs that share them.
 */
static int take_over(int standard, int flags)
{
    char path[32];
    struct stat status;
    int fd = -1;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", standard);
    if (fstat(standard, &status) == 0 && (S_ISFIFO(status.st_mode) || S_ISCHR(status.st_mode)))
        fd = open(path, flags | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        fd = fcntl(standard, F_DUPFD_CLOEXEC, 3);
    if (fd < 0)
        return -errno;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null >= 0) {
        dup2(null, standard);
        close(null);
    }
    return fd;
}

static void on_bound(struct flow *flow, const struct endpoint *bound, void *user)
{
    char text[ENDPOINT_TEXT_MAX];
    (void)flow;
    (void)user;
    command_say("listening on %s (tcp)", endpoint_format(bound, text, sizeof(text)));
}

static void on_opened(struct flow *flow, const struct sockst_association *association, void *user)
{
    struct connection *connection = user;
    (void)flow;
    connection->opened = true;
    command_show(connection->options, association);
}

static void on_ended(struct flow *flow, const struct flow_result *result, void *user)
{
    struct connection *connection = user;
    (void)flow;
    connection->status = EXIT_COMPLETE;
    if (!result->complete) {
        connection->status = command_failed(&result->failure);
        /* Once the association stands, the failure is one of the transfer. */
        if (connection->opened)
            connection->status = EXIT_INCOMPLETE;
    }
    if (connection->options->verbose)
        command_say("sent %llu octets, received %llu", (unsigned long long)result->up_bytes,
                    (unsigned long long)result->down_bytes);
    loop_stop(&connection->loop);
}

static const struct flow_ops ops = {.bound = on_bound, .opened = on_opened, .ended = on_ended};

static int run(struct connection *connection, const struct sockst_options *association)
{
    struct flow *flow = NULL;
    int in = take_over(STDIN_FILENO, O_RDONLY);
    int out = in < 0 ? in : take_over(STDOUT_FILENO, O_WRONLY);
    int error = out;
    if (error >= 0)
        error = flow_open(&flow, &connection->loop, association,
                          connection->options->connect_timeout_ms, in, out, &ops, connection);
    else if (in >= 0)
        close(in);
    if (error < 0) {
        command_say("%s", strerror(-error));
        return EXIT_INCOMPLETE;
    }
    loop_run(&connection->loop);
    flow_free(flow);
    return connection->loop.signal != 0 ? command_interrupted(connection->loop.signal)
                                        : connection->status;
}

int command_connect(const struct options *options)
{
    struct endpoint proxies[SOCKST_PROXY_ADDRESSES_MAX];
    struct connection connection = {.options = options};
    struct sockst_options association;
    int status = command_resolve(options, PTCL_TCP, proxies, &association);
    if (status != 0)
        return status;
    int error = loop_init(&connection.loop);
    if (error < 0) {
        command_say("%s", strerror(-error));
        return EXIT_INCOMPLETE;
    }
    status = run(&connection, &association);
    loop_free(&connection.loop);
    return status;
}
