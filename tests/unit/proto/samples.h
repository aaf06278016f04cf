/*
 * One valid message of every type with extreme values, for the tests of the codecs and for the seed
 * corpora.
 */
#ifndef SOCKST_TESTS_UNIT_PROTO_SAMPLES_H
#define SOCKST_TESTS_UNIT_PROTO_SAMPLES_H

#include "proto/admin.h"

/* Fills *out with the message of that type whose every member is as large as it may be. */
void sample_n2(enum n2_type type, struct n2_message *out);

/* The same for the requests and answers of the admin protocol. */
void sample_admin_request(enum admin_request_type type, struct admin_request *out);
void sample_admin_answer(enum admin_answer_type type, struct admin_answer *out);

/* `text` becomes size - 1 octets of UTF-8. */
void sample_text(char *text, size_t size);

struct endpoint sample_endpoint_v4(uint16_t port);
struct endpoint sample_endpoint_v6(uint16_t port);
struct endpoint sample_endpoint_link_local(uint16_t port);

#endif
