#include "common/net/prefix.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Plain decimal without sign or leading zero, the whole of [text, end); -1 when it is not. */
static long parse_decimal(const char *text, const char *end, long max)
{
    long value = 0;

    if (text == end || (*text == '0' && end - text > 1))
        return -1;
    for (; text < end; text++) {
        if (*text < '0' || *text > '9')
            return -1;
        value = value * 10 + (*text - '0');
        if (value > max)
            return -1;
    }
    return value;
}

static bool host_bits_clear(const struct ip_address *address, unsigned length)
{
    size_t size = ip_address_size(address);

    for (size_t i = length / 8; i < size; i++) {
        unsigned kept = i == length / 8 ? length % 8 : 0;

        if (address->bytes[i] & (0xffu >> kept))
            return false;
    }
    return true;
}

int ip_prefix_parse(const char *text, struct ip_prefix *out)
{
    char address_text[ENDPOINT_TEXT_MAX];
    const char *slash = strchr(text, '/');
    size_t length = slash ? (size_t)(slash - text) : strlen(text);
    struct ip_prefix prefix = {0};
    long bits;

    if (length >= sizeof(address_text))
        return -EINVAL;
    memcpy(address_text, text, length);
    address_text[length] = '\0';
    if (ip_address_parse(address_text, &prefix.address) || prefix.address.scope_id != 0)
        return -EINVAL;
    bits = (long)ip_address_size(&prefix.address) * 8;
    if (slash) {
        /* "::ffff:10.0.0.0/104" and "::ffff:10.0.0.0/8" would be read differently by people. */
        if (prefix.address.family == IP_V4 && strchr(address_text, ':'))
            return -EINVAL;
        bits = parse_decimal(slash + 1, slash + 1 + strlen(slash + 1), bits);
        if (bits < 0)
            return -EINVAL;
    }
    prefix.length = (uint8_t)bits;
    if (!host_bits_clear(&prefix.address, prefix.length))
        return -EINVAL;
    *out = prefix;
    return 0;
}

const char *ip_prefix_format(const struct ip_prefix *prefix, char *text, size_t size)
{
    char address[ENDPOINT_TEXT_MAX];

    if (size > 0)
        snprintf(text, size, "%s/%u", ip_address_format(&prefix->address, address, sizeof(address)),
                 prefix->length);
    return text;
}

bool ip_prefix_contains(const struct ip_prefix *prefix, const struct ip_address *address)
{
    unsigned whole = prefix->length / 8, rest = prefix->length % 8;

    if (prefix->address.family == IP_NONE || prefix->address.family != address->family)
        return false;
    if (memcmp(prefix->address.bytes, address->bytes, whole) != 0)
        return false;
    return rest == 0 || ((prefix->address.bytes[whole] ^ address->bytes[whole]) >> (8 - rest)) == 0;
}

int port_range_parse(const char *text, struct port_range *out)
{
    const char *end = text + strlen(text), *dash = strchr(text, '-');
    long first = parse_decimal(text, dash ? dash : end, UINT16_MAX);
    long last = dash ? parse_decimal(dash + 1, end, UINT16_MAX) : first;

    if (first < 1 || last < first)
        return -EINVAL;
    *out = (struct port_range){.first = (uint16_t)first, .last = (uint16_t)last};
    return 0;
}

bool port_range_contains(const struct port_range *range, uint16_t port)
{
    return port >= range->first && port <= range->last;
}
