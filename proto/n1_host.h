/*
 * The address field that requests, replies and UDP headers share: ATYP, address or name, port.
 * Internal to the N1 codec.
 */
#ifndef SOCKST_PROTO_N1_HOST_H
#define SOCKST_PROTO_N1_HOST_H

#include "proto/n1.h"
#include "proto/wire.h"

/* Fills *host. ATYP is judged as soon as it is there. Returns N1_OK, N1_NEED_MORE or N1_E_ATYP. */
enum n1_result n1_host_read(struct wire_reader *reader, struct n1_host *host);

/* Fails the writer when the host is absent, its name not valid or its address of another family
 * than its ATYP says. */
void n1_host_write(struct wire_writer *writer, const struct n1_host *host);

#endif
