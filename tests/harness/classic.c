#include "tests/harness/classic.h"

#include <string.h>
#include <unistd.h>

#include "tests/harness/wait.h"

#define DATAGRAM_MAX 65535

static size_t encode(uint8_t command, const struct n1_host *destination,
                     uint8_t out[N1_REQUEST_MAX])
{
    const struct n1_request request = {.command = command, .destination = *destination};
    const size_t length = n1_request_encode(&request, out, N1_REQUEST_MAX);
    ck_assert_uint_gt(length, 0);
    return length;
}

size_t classic_bytes(uint8_t command, struct endpoint destination, uint8_t out[N1_REQUEST_MAX])
{
    const struct n1_host host = n1_host_from_endpoint(&destination);
    return encode(command, &host, out);
}

size_t classic_name_bytes(uint8_t command, const char *name, uint16_t port,
                          uint8_t out[N1_REQUEST_MAX])
{
    struct n1_host host;
    ck_assert_msg(n1_host_from_name(name, port, &host) == 0, "name: %s", name);
    return encode(command, &host, out);
}

int classic_try(struct lab *lab, const struct classic_spec *spec, int *fd, struct endpoint *bound)
{
    uint8_t octets[N1_REQUEST_MAX];
    const size_t length =
        spec->name != NULL
            ? classic_name_bytes(spec->command, spec->name, spec->destination.port, octets)
            : classic_bytes(spec->command, spec->destination, octets);
    *fd =
        n1_connect_ready(lab, LAB_CLIENT, at(spec->server_v6 ? LAB_RELAY_V6 : LAB_RELAY_V4, 1080));
    socket_send(*fd, octets, length);
    const int code = n1_read_reply(*fd, 2 * PATIENCE_MS, bound);
    if (code != N1_REP_SUCCEEDED) {
        close(*fd);
        *fd = -1;
    }
    return code;
}

int classic_connect(struct lab *lab, struct endpoint destination)
{
    const struct classic_spec spec = {.command = N1_CMD_CONNECT, .destination = destination};
    int fd;
    const int code = classic_try(lab, &spec, &fd, NULL);
    ck_assert_msg(code == N1_REP_SUCCEEDED, "CONNECT to %s: %02X", show(destination),
                  (unsigned)code);
    return fd;
}

struct classic_udp classic_associate(struct lab *lab, struct endpoint hint)
{
    const struct classic_spec spec = {.command = N1_CMD_UDP_ASSOCIATE, .destination = hint};
    const uint16_t port = same_address(hint, at(LAB_CLIENT_V4, 0)) ? hint.port : 0;
    struct classic_udp udp;
    udp.data = socket_bound(lab, LAB_CLIENT, SOCK_DGRAM, at(LAB_CLIENT_V4, port), &udp.source);
    const int code = classic_try(lab, &spec, &udp.control, &udp.bound);
    ck_assert_msg(code == N1_REP_SUCCEEDED, "UDP ASSOCIATE: %02X", (unsigned)code);
    ck_assert_int_eq(socket_connect(udp.data, udp.bound, PATIENCE_MS), 0);
    return udp;
}

void classic_udp_close(struct classic_udp *udp)
{
    close(udp->data);
    close(udp->control);
    udp->data = udp->control = -1;
}

size_t classic_wrap(const struct n1_udp_header *header, const void *payload, size_t length,
                    uint8_t *out, size_t size)
{
    const size_t used = n1_udp_header_encode(header, out, size);
    ck_assert_uint_gt(used, 0);
    ck_assert_uint_le(used + length, size);
    if (length != 0) {
        memcpy(out + used, payload, length);
    }
    return used + length;
}

void classic_send(const struct classic_udp *udp, struct endpoint to, const void *payload,
                  size_t length)
{
    static uint8_t datagram[DATAGRAM_MAX];
    const struct n1_udp_header header = {.destination = n1_host_from_endpoint(&to)};
    socket_send(udp->data, datagram,
                classic_wrap(&header, payload, length, datagram, sizeof(datagram)));
}

ssize_t classic_receive(const struct classic_udp *udp, void *out, size_t size, int timeout_ms,
                        struct endpoint *from)
{
    static uint8_t datagram[DATAGRAM_MAX];
    struct n1_udp_header header;
    size_t used = 0;
    const ssize_t got = socket_receive(udp->data, datagram, sizeof(datagram), timeout_ms);
    if (got < 0) {
        return got;
    }
    ck_assert_int_eq(n1_udp_header_decode(datagram, (size_t)got, &header, &used), N1_OK);
    ck_assert_uint_eq(header.fragment, 0);
    ck_assert_uint_ne(header.destination.atyp, N1_ATYP_DOMAIN);
    ck_assert_uint_le((size_t)got - used, size);
    memcpy(out, datagram + used, (size_t)got - used);
    *from =
        (struct endpoint){.address = header.destination.address, .port = header.destination.port};
    return got - (ssize_t)used;
}

void classic_check_echo(const struct classic_udp *udp, struct endpoint to, const void *payload,
                        size_t length)
{
    static uint8_t answer[DATAGRAM_MAX];
    struct endpoint from;
    classic_send(udp, to, payload, length);
    const ssize_t got = classic_receive(udp, answer, sizeof(answer), PATIENCE_MS, &from);
    ck_assert_msg(got == (ssize_t)length, "%zu octets to %s: %zd came back", length, show(to), got);
    ck_assert_mem_eq(answer, payload, length);
    ck_assert_msg(same_endpoint(from, to), "sent to %s, answered by %s", show(to), show(from));
}
