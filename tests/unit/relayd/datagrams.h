/*
 * Datagrams with a known content, sent and awaited while the loop of a fixture runs.
 */
#ifndef SOCKST_TESTS_DATAGRAMS_H
#define SOCKST_TESTS_DATAGRAMS_H

#include "tests/unit/relayd/plane_fixture.h"

/* 64 KiB that look different everywhere. */
const uint8_t *payload(void);
/* `length` octets that begin at `at` of the payload, over a connected socket. */
void send_datagram(int fd, size_t at, size_t length);
/* Exactly this one comes next. */
void expect_datagram(struct plane_fixture *fixture, int fd, size_t at, size_t length);
/* Nothing comes for a while. */
void expect_silence(struct plane_fixture *fixture, int fd);
/* As large as the kernel lets: bursts are not to be lost in a test's own socket. */
void enlarge_buffer(int fd);

#endif
