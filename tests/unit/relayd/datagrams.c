#include "tests/unit/relayd/datagrams.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

const uint8_t *payload(void)
{
    static uint8_t octets[65536];

    for (unsigned i = 0; octets[1] == 0 && i < sizeof(octets); i++)
        octets[i] = (uint8_t)(i * 7 + i / 256);
    return octets;
}

void send_datagram(int fd, size_t at, size_t length)
{
    ck_assert_msg(send(fd, payload() + at, length, 0) == (ssize_t)length, "send of %zu: %s", length,
                  strerror(errno));
}

void expect_datagram(struct plane_fixture *fixture, int fd, size_t at, size_t length)
{
    static uint8_t buffer[65536];
    ssize_t n;

    WAIT_FOR(fixture, (n = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT)) >= 0);
    ck_assert_int_eq(n, (ssize_t)length);
    ck_assert_msg(length == 0 || memcmp(buffer, payload() + at, length) == 0,
                  "a datagram of %zu octets has changed", length);
}

void expect_silence(struct plane_fixture *fixture, int fd)
{
    char octet;

    for (unsigned i = 0; i < 20; i++)
        plane_fixture_turn(fixture);
    ck_assert_int_eq(recv(fd, &octet, 1, MSG_DONTWAIT), -1);
    ck_assert_int_eq(errno, EAGAIN);
}

void enlarge_buffer(int fd)
{
    const int size = 8 * 1024 * 1024;

    network_privilege(true);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
    network_privilege(false);
}
