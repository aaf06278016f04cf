#include "tests/bench/load/control.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/net/sockaddr.h"
#include "proto/n1.h"

/* Ports of one address that are used as S. */
#define PORTS_OF_ADDRESS 20000u
#define PATIENCE_S 10

struct endpoint control_source(const struct load_options *options, unsigned i)
{
    struct endpoint source = port_plus(options->from, i % PORTS_OF_ADDRESS);
    const size_t last = ip_address_size(&source.address) - 1;

    source.address.bytes[last] = (uint8_t)(source.address.bytes[last] + i / PORTS_OF_ADDRESS);
    return source;
}

int control_ask(const struct load_options *options, const struct endpoint *source)
{
    static const uint8_t methods[] = {N1_VERSION, 1, N1_METHOD_NONE};
    const struct n1_request request = {.command = N1_CMD_TRANSPARENT,
                                       .destination = n1_host_from_endpoint(&options->at),
                                       .ptcl = options->ptcl,
                                       .source = n1_host_from_endpoint(source)};
    const struct endpoint anywhere = {.address = source->address};
    const struct timeval patience = {.tv_sec = PATIENCE_S};
    uint8_t octets[sizeof(methods) + N1_REQUEST_MAX];

    memcpy(octets, methods, sizeof(methods));
    const size_t length =
        sizeof(methods) + n1_request_encode(&request, octets + sizeof(methods), N1_REQUEST_MAX);
    const int fd = namespace_bound(options->client, SOCK_STREAM, &anywhere, &options->server);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    if (send(fd, octets, length, MSG_NOSIGNAL) != (ssize_t)length)
        die("socksd: %s", strerror(errno));
    return fd;
}

void control_answer(int fd, struct endpoint *bound)
{
    uint8_t octets[2 + N1_REPLY_MAX];
    size_t length = 0, consumed;
    struct n1_reply reply;

    for (;;) {
        const ssize_t n = recv(fd, octets + length, sizeof(octets) - length, 0);
        if (n <= 0)
            die("socksd has not answered: %s", n < 0 ? strerror(errno) : "it has closed");
        length += (size_t)n;
        if (length <= 2)
            continue;
        const enum n1_result result = n1_reply_decode(octets + 2, length - 2, &reply, &consumed);
        if (result == N1_NEED_MORE)
            continue;
        if (result != N1_OK || reply.code != N1_REP_SUCCEEDED)
            die("the association was refused: %s", n1_reply_text(reply.code));
        *bound = (struct endpoint){.address = reply.bound.address, .port = reply.bound.port};
        return;
    }
}

int control_open(const struct load_options *options, const struct endpoint *source,
                 struct endpoint *bound)
{
    const int fd = control_ask(options, source);

    control_answer(fd, bound);
    return fd;
}

struct endpoint control_path(const struct load_options *options, unsigned i)
{
    const struct endpoint source = port_plus(options->from, i);
    struct endpoint bound;

    if (options->server.address.family == IP_NONE)
        return options->to;
    control_open(options, &source, &bound);
    return bound;
}
