#include "tests/unit/socksd/requests.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void expect_reply(struct fixture *f, int fd, int reply)
{
    if (reply == CLOSES) {
        client_expect_end(f, fd);
    } else if (reply == N1_REP_SUCCEEDED) {
        client_expect(f, fd, "\x05\x00\0\x01\x7f\0\0\x01\x4e\x20", 10);
    } else {
        const uint8_t expected[10] = {5, (uint8_t)reply, 0, 1};
        client_expect(f, fd, expected, sizeof(expected));
        client_expect_end(f, fd);
    }
    close(fd);
}

/* Method list and request in one segment, as a client may send them. */
void ask_at_once(struct fixture *f, const uint8_t *request, size_t length, int reply)
{
    uint8_t all[3 + N1_REQUEST_MAX + 8] = {5, 1, 0};
    int fd = client_connect(f);

    memcpy(all + 3, request, length);
    client_send(fd, all, 3 + length);
    client_expect(f, fd, "\x05\x00", 2);
    expect_reply(f, fd, reply);
}

void ask_by_octets(struct fixture *f, const uint8_t *request, size_t length, int reply)
{
    int fd = client_connect(f);

    for (size_t i = 0; i < 3; i++) {
        client_send(fd, &"\x05\x01\x00"[i], 1);
        uv_run(&f->loop, UV_RUN_NOWAIT);
    }
    client_expect(f, fd, "\x05\x00", 2);
    for (size_t i = 0; i < length; i++) {
        if (send(fd, request + i, 1, MSG_NOSIGNAL) != 1)
            break; /* refused before its last octet */
        uv_run(&f->loop, UV_RUN_NOWAIT);
    }
    expect_reply(f, fd, reply);
}

void ask_both_ways(struct fixture *f, const uint8_t *request, size_t length, int reply)
{
    ask_at_once(f, request, length, reply);
    ask_by_octets(f, request, length, reply);
}

void ask(struct fixture *f, uint8_t ptcl, const char *destination, const char *source, int reply)
{
    uint8_t request[N1_REQUEST_MAX];
    ask_both_ways(f, request, request_encode(request, sizeof(request), ptcl, destination, source),
                  reply);
}
