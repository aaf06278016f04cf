#include "tests/harness/traffic.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "tests/harness/sockets.h"
#include "tests/harness/wait.h"

#define CHUNK 65536

struct pattern pattern_start(uint64_t seed)
{
    return (struct pattern){.state = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15) | 1};
}

void pattern_next(struct pattern *pattern, void *out, size_t length)
{
    uint8_t *octets = out;
    for (size_t i = 0; i < length; i++) {
        if (pattern->left == 0) { /* xorshift64 */
            pattern->state ^= pattern->state << 13;
            pattern->state ^= pattern->state >> 7;
            pattern->state ^= pattern->state << 17;
            pattern->word = pattern->state;
            pattern->left = 8;
        }
        octets[i] = (uint8_t)pattern->word;
        pattern->word >>= 8;
        pattern->left--;
    }
}

uint64_t pattern_hash_more(uint64_t hash, const void *data, size_t length)
{
    const uint8_t *octets = data;
    for (size_t i = 0; i < length; i++) {
        hash = (hash ^ octets[i]) * UINT64_C(0x100000001b3);
    }
    return hash;
}

uint64_t pattern_hash(uint64_t seed, uint64_t octets)
{
    uint8_t chunk[CHUNK];
    struct pattern pattern = pattern_start(seed);
    uint64_t hash = PATTERN_HASH_START;
    while (octets > 0) {
        const size_t now = octets < CHUNK ? (size_t)octets : CHUNK;
        pattern_next(&pattern, chunk, now);
        hash = pattern_hash_more(hash, chunk, now);
        octets -= now;
    }
    return hash;
}

void stream_send_pattern(int fd, uint64_t seed, uint64_t octets)
{
    uint8_t chunk[CHUNK];
    struct pattern pattern = pattern_start(seed);
    while (octets > 0) {
        const size_t now = octets < CHUNK ? (size_t)octets : CHUNK;
        pattern_next(&pattern, chunk, now);
        socket_send(fd, chunk, now);
        octets -= now;
    }
}

uint64_t stream_receive_to_end(int fd, uint64_t *hash)
{
    uint8_t chunk[CHUNK];
    uint64_t octets = 0;
    *hash = PATTERN_HASH_START;
    for (;;) {
        const ssize_t got = socket_receive(fd, chunk, sizeof(chunk), PATIENCE_MS);
        if (got == 0) {
            return octets;
        }
        ck_assert_msg(got > 0, "stream: %s after %llu octets", strerror((int)-got),
                      (unsigned long long)octets);
        *hash = pattern_hash_more(*hash, chunk, (size_t)got);
        octets += (uint64_t)got;
    }
}
