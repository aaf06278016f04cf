/*
 * One destination's datagrams on a socket that is connected to BND: as they are, or behind the
 * header of UDP ASSOCIATE (RFC 1928 section 7). Internal to libsockst.
 */
#ifndef SOCKST_CLIENT_DATAGRAM_H
#define SOCKST_CLIENT_DATAGRAM_H

#include <sys/types.h>

#include "proto/n1.h"

struct datagram_form {
    struct n1_host destination;
    uint8_t header[N1_UDP_HEADER_MAX]; /* in front of each that is sent */
    size_t header_length;              /* 0: TRANSPARENT, no header in either direction */
};

/* `command` is TRANSPARENT or UDP ASSOCIATE. The destination was encoded before, in the request or
 * by whoever read it, and is valid. */
void datagram_form(struct datagram_form *form, uint8_t command, const struct n1_host *destination);
/* As send() and recv() with MSG_DONTWAIT. Received: what is no answer of the destination, or longer
 * than `size`, is dropped and shows as EAGAIN. */
ssize_t datagram_send(const struct datagram_form *form, int fd, const void *data, size_t length);
ssize_t datagram_receive(const struct datagram_form *form, int fd, void *data, size_t size);

#endif
