/*
 * A SOCKS server that does what a test says, over loopback: the other end of associations.
 */
#ifndef SOCKST_TESTS_CLIENT_SCRIPT_H
#define SOCKST_TESTS_CLIENT_SCRIPT_H

#include "common/client/sockst.h"

#define SCRIPT_TIMEOUT_MS 3000

/* A TCP listener or UDP socket on 127.0.0.1, any port; *local says which. */
int script_listen(int type, struct endpoint *local);
/* Takes the connection that waits, or that comes in time; blocking. */
int script_accept(int listener);
/* Reads exactly `length` octets, in time. */
void script_read(int fd, uint8_t *data, size_t length);
void script_write(int fd, const void *data, size_t length);
/* Reads method list and request of a client that offers NO AUTHENTICATION alone. */
struct n1_request script_read_request(int fd);
/* The same of a client that waits for 05 00 before it sends the request: it is told so. */
struct n1_request script_read_request_in_step(int fd);
/* The reply alone. */
void script_reply(int fd, uint8_t code, const struct endpoint *bound);
/* 05 00 and the reply. */
void script_answer(int fd, uint8_t code, const struct endpoint *bound);
/* Waits for the end: true for FIN, false for RST. Octets before it are discarded. */
bool script_read_end(int fd);
/* Ends with RST instead of FIN. */
void script_reset(int fd);
/* Open descriptors of this process. */
size_t script_count_fds(void);

#endif
