/*
 * A socksd that says what a test says: frames, valid or not, on the N2 socket of a relay daemon.
 * Blocking descriptors, which the caller closes.
 */
#ifndef SOCKST_TESTS_HARNESS_N2_CLIENT_H
#define SOCKST_TESTS_HARNESS_N2_CLIENT_H

#include "proto/n2.h"
#include "tests/harness/lab.h"

/* Connects to a Unix socket; says nothing. */
int n2_client_connect(const char *path);
/* Connects, sends Hello and takes HelloAck. */
int n2_client_open(const char *path);

/* A Hello that is in order. */
struct n2_message n2_client_hello(void);
/* OpenRelay for a TRANSPARENT association, transaction and association `number`. */
struct n2_message n2_client_order(uint64_t number, uint8_t ptcl, struct endpoint source,
                                  struct endpoint destination);

/* The message must be valid. */
void n2_client_send(int fd, const struct n2_message *message);
/* Octets with descriptors (at most 4), in one sendmsg(); the descriptors stay the caller's. False
 * when the peer has closed. */
bool n2_client_send_fds(int fd, const void *data, size_t length, const int *fds, size_t fd_count);
/* The next message that is neither Ping (answered) nor RelayEvent. False at the end of the
 * connection; fails the test after the time. */
bool n2_client_receive(int fd, struct n2_message *out, int timeout_ms);
/* Sends the order and returns its answer. */
struct n2_message n2_client_ask(int fd, const struct n2_message *order);
/* Reads to the end of the connection, which must come in time. */
void n2_client_expect_end(int fd, int timeout_ms);

#endif
