/*
 * What the kernel has counted of a TCP connection.
 */
#ifndef SOCKST_RELAYD_TCP_SEGMENTS_H
#define SOCKST_RELAYD_TCP_SEGMENTS_H

#include <stdint.h>

/* Segments with data that the connection has received so far. `otherwise` when there is none (fd
 * -1) or the kernel does not tell. */
uint64_t tcp_data_segments_in(int fd, uint64_t otherwise);

/* Octets that the peer has acknowledged, while there are others that it has not; 0 when nothing is
 * on its way to it, and where there is no connection or the kernel does not tell. */
uint64_t tcp_octets_acknowledged(int fd);

#endif
