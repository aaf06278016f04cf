/*
 * PTCL: the transport protocols that can be relayed, by their assigned Internet protocol number
 * (draft, section 3.1), and what a port means in each of them. A further protocol is a further row.
 */
#ifndef SOCKST_PROTO_PTCL_H
#define SOCKST_PROTO_PTCL_H

#include <stddef.h>
#include <stdint.h>

enum ptcl_ports {
    PTCL_PORTS,    /* S.PORT and DST.PORT are ports of the flow, both non-zero */
    PTCL_NO_PORTS, /* both must be 0 */
    PTCL_ECHO_ID,  /* S.PORT is the echo identifier (0: any), DST.PORT must be 0 */
};

struct ptcl {
    uint8_t number;
    const char *name; /* lower case, as in configuration and output */
    enum ptcl_ports ports;
};

#define PTCL_TCP 6
#define PTCL_UDP 17

/* The row of a protocol number, or NULL when the product knows no such protocol. */
const struct ptcl *ptcl_by_number(uint8_t number);

/* The row of a name ("tcp") or of a decimal number ("6"); NULL when there is none. */
const struct ptcl *ptcl_by_name(const char *name);

/* The rows one by one, in the order of the numbers: NULL behind the last. */
const struct ptcl *ptcl_at(size_t index);

/* The name of a protocol, or "ptcl-N" written into `text` (at least 9 octets). */
const char *ptcl_format(uint8_t number, char text[static 9]);

#endif
