#include "proto/frame.h"

enum frame_result frame_decode(const uint8_t *data, size_t length, const uint8_t **payload,
                               size_t *payload_length, size_t *missing)
{
    if (length < FRAME_HEADER) {
        *missing = FRAME_HEADER - length;
        return FRAME_NEED_MORE;
    }
    uint32_t size =
        (uint32_t)data[0] << 24 | (uint32_t)data[1] << 16 | (uint32_t)data[2] << 8 | data[3];

    if (size == 0 || size > FRAME_PAYLOAD_MAX)
        return FRAME_E_LENGTH;
    if (length - FRAME_HEADER < size) {
        *missing = size - (length - FRAME_HEADER);
        return FRAME_NEED_MORE;
    }
    *payload = data + FRAME_HEADER;
    *payload_length = size;
    return FRAME_OK;
}

void frame_header_encode(size_t payload_length, uint8_t out[FRAME_HEADER])
{
    out[0] = (uint8_t)(payload_length >> 24);
    out[1] = (uint8_t)(payload_length >> 16);
    out[2] = (uint8_t)(payload_length >> 8);
    out[3] = (uint8_t)payload_length;
}
