/*
 * What each N2 message consists of: the one table that decoder, encoder and validation share.
 * Private to proto/.
 */
#ifndef SOCKST_PROTO_N2_TABLE_H
#define SOCKST_PROTO_N2_TABLE_H

#include "proto/n2.h"
#include "proto/pb_fields.h"

struct n2_row {
    struct pb_message body;
    bool transaction; /* a request or an answer: transaction is not 0; otherwise it is 0 */
    uint8_t fd_count; /* descriptors that the frame has to declare */
};

/* Field number of a body in Envelope: N2_BODY_FIRST + type - 1. */
#define N2_BODY_FIRST 11
#define N2_BODY_LAST (N2_BODY_FIRST + N2_TYPE_END - 2)

/* NULL for a value outside the enumeration. */
const struct n2_row *n2_row(enum n2_type type);

/* What no single field can tell: the rules between fields. NULL, or the path of the field refused.
 */
const char *n2_check(const struct n2_message *message);

#endif
