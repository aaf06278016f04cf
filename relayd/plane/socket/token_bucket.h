/*
 * limits.bytes_per_second of one direction: octets come in at the rate and are taken out by what
 * passes. A bucket begins full and holds what comes in a second, TOKEN_BUCKET_LEAST at least, so
 * that every datagram fits.
 */
#ifndef SOCKST_RELAYD_TOKEN_BUCKET_H
#define SOCKST_RELAYD_TOKEN_BUCKET_H

#include <stdbool.h>
#include <stdint.h>

#define TOKEN_BUCKET_LEAST 65536 /* octets */

struct token_bucket {
    uint64_t rate;    /* octets per second; 0: no limit */
    uint64_t content; /* thousandths of an octet */
    uint64_t filled_ms;
};

void token_bucket_init(struct token_bucket *bucket, uint64_t rate, uint64_t now_ms);

/* Octets that may pass now; UINT64_MAX without a limit. */
uint64_t token_bucket_content(struct token_bucket *bucket, uint64_t now_ms);

/* So many have passed; at most as many as there were. */
void token_bucket_take(struct token_bucket *bucket, uint64_t octets);

/* Is there enough for a read to be worth its while: what comes in a tenth of a second, or a segment
 * of TCP? */
bool token_bucket_is_ready(struct token_bucket *bucket, uint64_t now_ms);

#endif
