/*
 * SipHash-2-4 (Aumasson, Bernstein: "SipHash: a fast short-input PRF", 2012).
 */
#include "common/keyed_hash.h"

#include <errno.h>
#include <sys/random.h>

struct sip_state {
    uint64_t v0, v1, v2, v3;
};

static uint8_t process_key[16];

static inline uint64_t rotate_left(uint64_t value, unsigned bits)
{
    return (value << bits) | (value >> (64 - bits));
}

static uint64_t load_le(const uint8_t *from, size_t octets)
{
    uint64_t value = 0;
    for (size_t i = 0; i < octets; i++)
        value |= (uint64_t)from[i] << (8 * i);
    return value;
}

static void sip_rounds(struct sip_state *s, int count)
{
    while (count-- > 0) {
        s->v0 += s->v1;
        s->v1 = rotate_left(s->v1, 13) ^ s->v0;
        s->v0 = rotate_left(s->v0, 32);
        s->v2 += s->v3;
        s->v3 = rotate_left(s->v3, 16) ^ s->v2;
        s->v0 += s->v3;
        s->v3 = rotate_left(s->v3, 21) ^ s->v0;
        s->v2 += s->v1;
        s->v1 = rotate_left(s->v1, 17) ^ s->v2;
        s->v2 = rotate_left(s->v2, 32);
    }
}

static void sip_word(struct sip_state *s, uint64_t word)
{
    s->v3 ^= word;
    sip_rounds(s, 2);
    s->v0 ^= word;
}

uint64_t siphash_2_4(const uint8_t key[16], const void *data, size_t length)
{
    const uint64_t k0 = load_le(key, 8), k1 = load_le(key + 8, 8);
    struct sip_state s = {
        .v0 = k0 ^ UINT64_C(0x736f6d6570736575),
        .v1 = k1 ^ UINT64_C(0x646f72616e646f6d),
        .v2 = k0 ^ UINT64_C(0x6c7967656e657261),
        .v3 = k1 ^ UINT64_C(0x7465646279746573),
    };
    const uint8_t *at = data;
    size_t left = length;
    for (; left >= 8; left -= 8, at += 8)
        sip_word(&s, load_le(at, 8));
    sip_word(&s, load_le(at, left) | (uint64_t)(length & 0xff) << 56);
    s.v2 ^= 0xff;
    sip_rounds(&s, 4);
    return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

int keyed_hash_setup(void)
{
    size_t have = 0;
    while (have < sizeof(process_key)) {
        ssize_t n = getrandom(process_key + have, sizeof(process_key) - have, 0);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0)
            have += (size_t)n;
    }
    return 0;
}

uint64_t keyed_hash(const void *data, size_t length)
{
    return siphash_2_4(process_key, data, length);
}
