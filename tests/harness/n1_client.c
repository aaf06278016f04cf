#include "tests/harness/n1_client.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "proto/ptcl.h"
#include "tests/harness/wait.h"

int n1_connect(struct lab *lab, enum lab_place place, struct endpoint server)
{
    const int domain = server.address.family == IP_V4 ? AF_INET : AF_INET6;
    const int fd = lab_socket(lab, place, domain, SOCK_STREAM, 0);
    const int result = socket_connect(fd, server, PATIENCE_MS);
    ck_assert_msg(result == 0, "connect %s: %s", show(server), strerror(-result));
    return fd;
}

int n1_connect_ready(struct lab *lab, enum lab_place place, struct endpoint server)
{
    static const uint8_t methods[] = {N1_VERSION, 1, N1_METHOD_NONE};
    uint8_t answer[2];
    const int fd = n1_connect(lab, place, server);
    socket_send(fd, methods, sizeof(methods));
    socket_receive_all(fd, answer, sizeof(answer), PATIENCE_MS);
    ck_assert_uint_eq(answer[0], N1_VERSION);
    ck_assert_uint_eq(answer[1], N1_METHOD_NONE);
    return fd;
}

static size_t encode(uint8_t ptcl, struct endpoint source, const struct n1_host *destination,
                     uint8_t out[N1_REQUEST_MAX])
{
    const struct n1_request request = {.command = N1_CMD_TRANSPARENT,
                                       .destination = *destination,
                                       .ptcl = ptcl,
                                       .source = n1_host_from_endpoint(&source)};
    const size_t length = n1_request_encode(&request, out, N1_REQUEST_MAX);
    ck_assert_uint_gt(length, 0);
    return length;
}

size_t n1_transparent_bytes(uint8_t ptcl, struct endpoint source, struct endpoint destination,
                            uint8_t out[N1_REQUEST_MAX])
{
    const struct n1_host host = n1_host_from_endpoint(&destination);
    return encode(ptcl, source, &host, out);
}

size_t n1_transparent_name_bytes(uint8_t ptcl, struct endpoint source, const char *name,
                                 uint16_t port, uint8_t out[N1_REQUEST_MAX])
{
    struct n1_host host;
    ck_assert_msg(n1_host_from_name(name, port, &host) == 0, "name: %s", name);
    return encode(ptcl, source, &host, out);
}

int n1_read_reply(int fd, int timeout_ms, struct endpoint *bound)
{
    const int64_t end = now_ms() + timeout_ms;
    uint8_t octets[N1_REPLY_MAX];
    size_t length = 0;
    for (;;) {
        struct n1_reply reply;
        size_t consumed;
        const ssize_t got = socket_receive(fd, &octets[length], 1, (int)(end - now_ms()));
        ck_assert_msg(got != -ETIMEDOUT, "no reply within %d ms (%zu octets)", timeout_ms, length);
        if (got <= 0) {
            ck_assert_msg(length == 0, "the reply ended after %zu octets", length);
            return -1;
        }
        length++;
        const enum n1_result result = n1_reply_decode(octets, length, &reply, &consumed);
        if (result == N1_OK) {
            if (bound != NULL) {
                *bound =
                    (struct endpoint){.address = reply.bound.address, .port = reply.bound.port};
            }
            return reply.code;
        }
        ck_assert_msg(result == N1_NEED_MORE, "malformed reply: result %d after %zu octets",
                      (int)result, length);
    }
}

int n1_ask(struct lab *lab, const struct n1_question *question, int *control,
           struct endpoint *bound)
{
    uint8_t octets[N1_REQUEST_MAX];
    const struct endpoint server =
        question->server.address.family == IP_NONE ? at(LAB_RELAY_V4, 1080) : question->server;
    const size_t length =
        n1_transparent_bytes(question->ptcl, question->source, question->destination, octets);
    *control = n1_connect_ready(lab, question->place, server);
    socket_send(*control, octets, length);
    const int code = n1_read_reply(*control, 2 * PATIENCE_MS, bound);
    if (code != N1_REP_SUCCEEDED) {
        close(*control);
        *control = -1;
    }
    return code;
}

/* The request's octets after the defaults were filled in. */
static size_t association_request(const struct association *association, const char *name,
                                  uint8_t out[N1_REQUEST_MAX])
{
    return name != NULL ? n1_transparent_name_bytes(association->ptcl, association->source, name,
                                                    association->destination.port, out)
                        : n1_transparent_bytes(association->ptcl, association->source,
                                               association->destination, out);
}

int association_try(struct lab *lab, const struct association_spec *spec, struct association *out)
{
    uint8_t octets[N1_REQUEST_MAX];
    struct endpoint source = spec->source, server = spec->server;
    if (source.address.family == IP_NONE) {
        source = at(LAB_CLIENT_V4, source.port);
    }
    if (server.address.family == IP_NONE) {
        server = at(source.address.family == IP_V4 ? LAB_RELAY_V4 : LAB_RELAY_V6, 1080);
    }
    *out = (struct association){
        .lab = lab, .place = spec->place, .ptcl = spec->ptcl, .destination = spec->destination};
    out->data = socket_bound(lab, spec->place, spec->ptcl == PTCL_TCP ? SOCK_STREAM : SOCK_DGRAM,
                             source, &out->source);
    out->control = n1_connect_ready(lab, spec->place, server);
    const size_t length = association_request(out, spec->name, octets);
    socket_send(out->control, octets, length);
    const int code = n1_read_reply(out->control, 2 * PATIENCE_MS, &out->bound);
    if (code != N1_REP_SUCCEEDED) {
        association_close(out);
    }
    return code;
}

struct association association_open(struct lab *lab, const struct association_spec *spec)
{
    struct association association;
    const int code = association_try(lab, spec, &association);
    ck_assert_msg(code == N1_REP_SUCCEEDED, "TRANSPARENT to %s: reply %d (%s)",
                  spec->name != NULL ? spec->name : show(spec->destination), code,
                  code < 0 ? "closed" : n1_reply_text((uint8_t)code));
    if (spec->ptcl == PTCL_UDP) {
        ck_assert_int_eq(socket_connect(association.data, association.bound, PATIENCE_MS), 0);
    }
    return association;
}

static struct association_spec shorthand(uint8_t ptcl, struct endpoint destination)
{
    const bool v6 = destination.address.family == IP_V6;
    return (struct association_spec){.ptcl = ptcl,
                                     .source = at(v6 ? LAB_CLIENT_V6 : LAB_CLIENT_V4, 0),
                                     .destination = destination};
}

struct association association_tcp(struct lab *lab, struct endpoint destination)
{
    const struct association_spec spec = shorthand(PTCL_TCP, destination);
    struct association association = association_open(lab, &spec);
    association_connect(&association);
    return association;
}

struct association association_udp(struct lab *lab, struct endpoint destination)
{
    const struct association_spec spec = shorthand(PTCL_UDP, destination);
    return association_open(lab, &spec);
}

void association_connect(struct association *association)
{
    const int result = socket_connect(association->data, association->bound, PATIENCE_MS);
    ck_assert_msg(result == 0, "connect to BND %s: %s", show(association->bound),
                  strerror(-result));
}

void association_close(struct association *association)
{
    if (association->data >= 0) {
        close(association->data);
    }
    if (association->control >= 0) {
        close(association->control);
    }
    association->data = association->control = -1;
}

void association_check_echo(const struct association *association)
{
    char text[4];
    socket_send(association->data, "ping", 4);
    if (association->ptcl == PTCL_TCP) {
        socket_receive_all(association->data, text, 4, PATIENCE_MS);
    } else {
        ck_assert_int_eq(socket_receive(association->data, text, 4, PATIENCE_MS), 4);
    }
    ck_assert_mem_eq(text, "ping", 4);
}
