#include "proto/endpoint.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

struct ip_address ip_address_v4(const uint8_t bytes[4])
{
    struct ip_address address = {.family = IP_V4};
    memcpy(address.bytes, bytes, 4);
    return address;
}

struct ip_address ip_address_v6(const uint8_t bytes[16])
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (memcmp(bytes, mapped, sizeof(mapped)) == 0)
        return ip_address_v4(bytes + sizeof(mapped));
    struct ip_address address = {.family = IP_V6};
    memcpy(address.bytes, bytes, 16);
    return address;
}

size_t ip_address_size(const struct ip_address *address)
{
    switch (address->family) {
    case IP_V4:
        return 4;
    case IP_V6:
        return 16;
    default:
        return 0;
    }
}

bool ip_address_equal(const struct ip_address *a, const struct ip_address *b)
{
    return a->family == b->family && a->scope_id == b->scope_id &&
           memcmp(a->bytes, b->bytes, ip_address_size(a)) == 0;
}

bool ip_address_is_unspecified(const struct ip_address *address)
{
    static const uint8_t zero[16];
    size_t size = ip_address_size(address);
    return size != 0 && memcmp(address->bytes, zero, size) == 0;
}

bool ip_address_is_link_local_v6(const struct ip_address *address)
{
    return address->family == IP_V6 && address->bytes[0] == 0xfe &&
           (address->bytes[1] & 0xc0) == 0x80;
}

bool endpoint_equal(const struct endpoint *a, const struct endpoint *b)
{
    return a->port == b->port && ip_address_equal(&a->address, &b->address);
}

/* A decimal number without sign, white space or leading zero, at most `max`. */
static int parse_number(const char *text, uint32_t max, uint32_t *out)
{
    uint64_t value = 0;
    if (*text == '\0' || (text[0] == '0' && text[1] != '\0'))
        return -EINVAL;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9')
            return -EINVAL;
        value = value * 10 + (uint64_t)(*text - '0');
        if (value > max)
            return -EINVAL;
    }
    *out = (uint32_t)value;
    return 0;
}

static int parse_v6(const char *text, struct ip_address *out)
{
    char digits[INET6_ADDRSTRLEN];
    uint8_t bytes[16];
    uint32_t scope = 0;
    size_t length = strcspn(text, "%");
    if (length >= sizeof(digits))
        return -EINVAL;
    memcpy(digits, text, length);
    digits[length] = '\0';
    if (inet_pton(AF_INET6, digits, bytes) != 1)
        return -EINVAL;
    struct ip_address address = ip_address_v6(bytes);
    if (text[length] == '%') {
        if (!ip_address_is_link_local_v6(&address) ||
            parse_number(text + length + 1, UINT32_MAX, &scope) < 0 || scope == 0)
            return -EINVAL;
        address.scope_id = scope;
    }
    *out = address;
    return 0;
}

int ip_address_parse(const char *text, struct ip_address *out)
{
    uint8_t bytes[4];
    if (strchr(text, ':') != NULL)
        return parse_v6(text, out);
    if (inet_pton(AF_INET, text, bytes) != 1)
        return -EINVAL;
    *out = ip_address_v4(bytes);
    return 0;
}

int endpoint_parse(const char *text, struct endpoint *out)
{
    char host[ENDPOINT_TEXT_MAX];
    struct ip_address address;
    uint32_t port;
    bool bracket = *text == '[';
    const char *start = text + (bracket ? 1 : 0);
    size_t length = strcspn(start, bracket ? "]" : ":");
    if (length >= sizeof(host))
        return -EINVAL;
    memcpy(host, start, length);
    host[length] = '\0';
    /* Brackets hold IPv6 and nothing else. */
    if (bracket != (strchr(host, ':') != NULL))
        return -EINVAL;
    const char *after = start + length;
    if (bracket && *after++ != ']')
        return -EINVAL;
    if (*after != ':' || parse_number(after + 1, UINT16_MAX, &port) < 0)
        return -EINVAL;
    if (ip_address_parse(host, &address) < 0)
        return -EINVAL;
    *out = (struct endpoint){.address = address, .port = (uint16_t)port};
    return 0;
}

/* Logs are full of these, hence no printf(). Returns the end of what it wrote, not terminated. */
static char *put_number(char *at, uint32_t value)
{
    char digits[10];
    size_t count = 0;

    do {
        digits[count++] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    while (count > 0)
        *at++ = digits[--count];
    return at;
}

/* Likewise; there is room for ENDPOINT_TEXT_MAX. */
static char *put_address(char *at, const struct ip_address *address)
{
    if (address->family == IP_V4) {
        for (int i = 0; i < 4; i++) {
            at = put_number(at, address->bytes[i]);
            *at++ = '.';
        }
        return at - 1;
    }
    if (address->family != IP_V6) {
        *at++ = '-';
        return at;
    }
    inet_ntop(AF_INET6, address->bytes, at, INET6_ADDRSTRLEN);
    at += strlen(at);
    if (address->scope_id != 0) {
        *at++ = '%';
        at = put_number(at, address->scope_id);
    }
    return at;
}

/* As much as fits, terminated. */
static const char *copy_text(char *text, size_t size, const char *from, size_t length)
{
    if (size == 0)
        return text;
    if (length > size - 1)
        length = size - 1;
    memcpy(text, from, length);
    text[length] = '\0';
    return text;
}

const char *ip_address_format(const struct ip_address *address, char *text, size_t size)
{
    char whole[ENDPOINT_TEXT_MAX];
    const char *end = put_address(whole, address);

    return copy_text(text, size, whole, (size_t)(end - whole));
}

const char *endpoint_format(const struct endpoint *endpoint, char *text, size_t size)
{
    char whole[ENDPOINT_TEXT_MAX], *at = whole;
    bool v6 = endpoint->address.family == IP_V6;

    if (v6)
        *at++ = '[';
    at = put_address(at, &endpoint->address);
    if (v6)
        *at++ = ']';
    if (v6 || endpoint->address.family == IP_V4) {
        *at++ = ':';
        at = put_number(at, endpoint->port);
    }
    return copy_text(text, size, whole, (size_t)(at - whole));
}
