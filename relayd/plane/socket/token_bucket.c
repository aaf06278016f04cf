#include "relayd/plane/socket/token_bucket.h"

#include <assert.h>

/* Octets per second; more than any host moves, and far from where products overflow. */
#define RATE_MAX (1ull << 40)
#define SEGMENT 1460

static uint64_t capacity(const struct token_bucket *bucket)
{
    return (bucket->rate > TOKEN_BUCKET_LEAST ? bucket->rate : TOKEN_BUCKET_LEAST) * 1000;
}

void token_bucket_init(struct token_bucket *bucket, uint64_t rate, uint64_t now_ms)
{
    *bucket = (struct token_bucket){.rate = rate < RATE_MAX ? rate : RATE_MAX, .filled_ms = now_ms};
    bucket->content = capacity(bucket);
}

uint64_t token_bucket_content(struct token_bucket *bucket, uint64_t now_ms)
{
    if (bucket->rate == 0)
        return UINT64_MAX;
    const uint64_t most = capacity(bucket), missing = most - bucket->content;
    const uint64_t passed_ms = now_ms - bucket->filled_ms;

    bucket->content =
        passed_ms > missing / bucket->rate ? most : bucket->content + passed_ms * bucket->rate;
    bucket->filled_ms = now_ms;
    return bucket->content / 1000;
}

void token_bucket_take(struct token_bucket *bucket, uint64_t octets)
{
    if (bucket->rate == 0)
        return;
    assert(octets <= bucket->content / 1000);
    bucket->content -= octets * 1000;
}

bool token_bucket_is_ready(struct token_bucket *bucket, uint64_t now_ms)
{
    const uint64_t tenth = bucket->rate / 10 + 1;

    return token_bucket_content(bucket, now_ms) >= (tenth < SEGMENT ? tenth : SEGMENT);
}
