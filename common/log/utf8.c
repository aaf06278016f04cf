#include "common/log/utf8.h"

size_t utf8_next(const char *text, size_t left, uint32_t *code)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const uint8_t *octets = (const uint8_t *)text;
    size_t length;
    uint32_t value;

    if (octets[0] < 0x80) {
        *code = octets[0];
        return 1;
    }
    if (octets[0] >= 0xc2 && octets[0] <= 0xdf)
        length = 2;
    else if (octets[0] >= 0xe0 && octets[0] <= 0xef)
        length = 3;
    else if (octets[0] >= 0xf0 && octets[0] <= 0xf4)
        length = 4;
    else
        return 0;
    if (length > left)
        return 0;
    value = octets[0] & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((octets[i] & 0xc0) != 0x80)
            return 0;
        value = value << 6 | (octets[i] & 0x3fu);
    }
    if (value < least[length] || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff))
        return 0;
    *code = value;
    return length;
}

bool utf8_is_unsafe(uint32_t code)
{
    return code < 0x20 || (code >= 0x7f && code <= 0x9f) || code == 0x2028 || code == 0x2029 ||
           (code >= 0x200e && code <= 0x200f) || (code >= 0x202a && code <= 0x202e) ||
           (code >= 0x2066 && code <= 0x2069) || code == 0xfeff;
}
