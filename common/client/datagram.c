#include "common/client/datagram.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

void datagram_form(struct datagram_form *form, uint8_t command, const struct n1_host *destination)
{
    struct n1_udp_header header = {.destination = *destination};
    *form = (struct datagram_form){.destination = *destination};
    if (command == N1_CMD_UDP_ASSOCIATE)
        form->header_length = n1_udp_header_encode(&header, form->header, sizeof(form->header));
}

ssize_t datagram_send(const struct datagram_form *form, int fd, const void *data, size_t length)
{
    struct iovec parts[2] = {{(void *)form->header, form->header_length}, {(void *)data, length}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    ssize_t sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    return sent < 0 ? sent : (ssize_t)length; /* a datagram goes whole or not at all */
}

/*
 * Is it from whom we send to? A server answers with an address also where it was given a name: then
 * the port is all that can be compared.
 */
static bool is_answer(const struct datagram_form *form, const struct n1_udp_header *header)
{
    const struct n1_host *to = &form->destination, *from = &header->destination;
    if (header->fragment != 0 || from->port != to->port)
        return false;
    return to->atyp == N1_ATYP_DOMAIN || from->atyp == N1_ATYP_DOMAIN ||
           ip_address_equal(&from->address, &to->address);
}

ssize_t datagram_receive(const struct datagram_form *form, int fd, void *data, size_t size)
{
    uint8_t datagram[UINT16_MAX];
    struct n1_udp_header header;
    size_t used = 0;
    ssize_t got = recv(fd, datagram, sizeof(datagram), MSG_DONTWAIT);
    if (got < 0)
        return got;
    if (form->header_length != 0 &&
        (n1_udp_header_decode(datagram, (size_t)got, &header, &used) != N1_OK ||
         !is_answer(form, &header))) {
        errno = EAGAIN;
        return -1;
    }
    if ((size_t)got - used > size) {
        errno = EAGAIN;
        return -1;
    }
    memcpy(data, datagram + used, (size_t)got - used);
    return got - (ssize_t)used;
}
