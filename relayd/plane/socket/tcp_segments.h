/*
 * How many packets a TCP connection has brought, as the kernel counts them.
 */
#ifndef SOCKST_RELAYD_TCP_SEGMENTS_H
#define SOCKST_RELAYD_TCP_SEGMENTS_H

#include <stdint.h>

/* Segments with data that the connection has received so far. `otherwise` when there is none (fd
 * -1) or the kernel does not tell. */
uint64_t tcp_data_segments_in(int fd, uint64_t otherwise);

#endif
