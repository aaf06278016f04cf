/*
 * Framing of N2 and of the admin protocol: u32 big-endian length of what follows, then that many
 * octets of protobuf. The length is judged before anything is stored.
 */
#ifndef SOCKST_PROTO_FRAME_H
#define SOCKST_PROTO_FRAME_H

#include <stddef.h>
#include <stdint.h>

#define FRAME_HEADER 4
#define FRAME_PAYLOAD_MAX (64 * 1024)
#define FRAME_MAX (FRAME_HEADER + FRAME_PAYLOAD_MAX)

enum frame_result {
    FRAME_OK = 0,
    FRAME_NEED_MORE,
    FRAME_E_LENGTH, /* 0, or above FRAME_PAYLOAD_MAX: the connection has to end */
};

/*
 * Looks for one frame at the start of `data`. FRAME_OK: *payload points into data, *payload_length
 * octets, and the frame takes FRAME_HEADER + *payload_length. FRAME_NEED_MORE: *missing says how
 * many octets at least.
 */
enum frame_result frame_decode(const uint8_t *data, size_t length, const uint8_t **payload,
                               size_t *payload_length, size_t *missing);

/* Writes the header of a frame whose payload has `payload_length` octets (1 … FRAME_PAYLOAD_MAX).
 */
void frame_header_encode(size_t payload_length, uint8_t out[FRAME_HEADER]);

#endif
