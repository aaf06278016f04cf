/*
 * Sockets of the test itself, in any place of the lab, and bounded reads and writes on them. Plain
 * descriptors: the caller closes them. Blocking, but none of these functions waits longer than
 * told.
 */
#ifndef SOCKST_TESTS_HARNESS_SOCKETS_H
#define SOCKST_TESTS_HARNESS_SOCKETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/harness/lab.h"

/* A socket bound to the endpoint (port 0: the kernel chooses; *local, may be NULL, tells).
 * SO_REUSEADDR is set. type: SOCK_STREAM or SOCK_DGRAM. */
int socket_bound(struct lab *lab, enum lab_place place, int type, struct endpoint wanted,
                 struct endpoint *local);
/* socket_bound() and listen(). */
int socket_listen(struct lab *lab, enum lab_place place, struct endpoint wanted,
                  struct endpoint *local);
/* One connection, close-on-exec; fails the test after the time. *peer may be NULL. */
int socket_accept(int listener, int timeout_ms, struct endpoint *peer);
/* connect() with a deadline: 0 or a negative errno; -ETIMEDOUT when the deadline came first (the
 * attempt is then still under way and the descriptor non-blocking). */
int socket_connect(int fd, struct endpoint to, int timeout_ms);

struct endpoint socket_local(int fd);
struct endpoint socket_peer(int fd);
/* The next close() sends RST. */
void socket_abort_on_close(int fd);

/* All of it, or the test fails. */
void socket_send(int fd, const void *data, size_t length);
/* Every octet in a segment of its own: the next is sent when the last was acknowledged. Stops when
 * the peer has closed; returns the octets sent. */
size_t socket_send_slowly(int fd, const void *data, size_t length);
void socket_send_to(int fd, struct endpoint to, const void *data, size_t length);
/* Up to `length` octets, as they come: octets read, 0 at the end of the stream, -ETIMEDOUT, or
 * another negative errno. */
ssize_t socket_receive(int fd, void *data, size_t length, int timeout_ms);
/* One datagram and where it came from. */
ssize_t socket_receive_from(int fd, void *data, size_t length, int timeout_ms,
                            struct endpoint *from);
/* Exactly `length` octets; fails the test otherwise. */
void socket_receive_all(int fd, void *data, size_t length, int timeout_ms);

/* How a connection has ended. Data that comes before the end is read and dropped. */
enum socket_end { SOCKET_FIN, SOCKET_RST, SOCKET_OPEN /* not within the time */ };
enum socket_end socket_wait_end(int fd, int timeout_ms);

#endif
