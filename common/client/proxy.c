/*
 * Where the proxy is: socks5t://[USER[:PASSWORD]@]HOST[:PORT].
 */
#include <errno.h>
#include <netdb.h>
#include <string.h>

#include "common/client/net.h"
#include "common/client/sockst.h"

static const char scheme[] = "socks5t://";

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Percent-decodes text[0 … length) into out[256]. Returns the octets, or -1. */
static int decode(const char *text, size_t length, char *out)
{
    int used = 0;
    for (size_t i = 0; i < length; i++) {
        char octet = text[i];
        if (octet == '%') {
            int high = i + 2 < length ? hex_digit(text[i + 1]) : -1;
            int low = i + 2 < length ? hex_digit(text[i + 2]) : -1;
            if (high < 0 || low < 0)
                return -1;
            octet = (char)(high << 4 | low);
            i += 2;
        }
        if (used == 255)
            return -1;
        out[used++] = octet;
    }
    out[used] = '\0';
    return used;
}

static const char *parse_user(const char *text, size_t length, struct sockst_proxy *out)
{
    const char *colon = memchr(text, ':', length);
    size_t user_length = colon != NULL ? (size_t)(colon - text) : length;
    int user = decode(text, user_length, out->userpass.user);
    int password =
        colon != NULL ? decode(colon + 1, length - user_length - 1, out->userpass.password) : 0;
    if (user < 0 || password < 0)
        return "user name or password is longer than 255 octets or badly percent-encoded";
    if (user == 0)
        return "the user name is empty";
    out->has_user = true;
    out->userpass.user_length = (uint8_t)user;
    out->userpass.password_length = (uint8_t)password;
    return NULL;
}

static const char *parse_port(const char *text, uint16_t *out)
{
    unsigned value = 0;
    if (*text == '\0')
        return "the port is empty";
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9')
            return "the port is not a number";
        value = value * 10 + (unsigned)(*text - '0');
        if (value > UINT16_MAX)
            return "the port is above 65535";
    }
    if (value == 0)
        return "the port is 0";
    *out = (uint16_t)value;
    return NULL;
}

static const char *parse_host(const char *text, struct sockst_proxy *out)
{
    bool bracket = *text == '[';
    const char *start = text + (bracket ? 1 : 0);
    size_t length = strcspn(start, bracket ? "]" : ":");
    const char *after = start + length;
    if (bracket && *after++ != ']')
        return "the bracket is not closed";
    if (length == 0)
        return "the host is missing";
    if (length >= sizeof(out->host))
        return "the host is too long";
    memcpy(out->host, start, length);
    out->host[length] = '\0';
    if (bracket && strchr(out->host, ':') == NULL)
        return "only IPv6 addresses stand in brackets";
    if (*after == ':')
        return parse_port(after + 1, &out->port);
    return *after == '\0' ? NULL : "something follows the host";
}

static const char *parse(const char *url, struct sockst_proxy *out)
{
    char authority[2048];
    if (strncmp(url, scheme, sizeof(scheme) - 1) != 0)
        return "it does not begin with socks5t://";
    url += sizeof(scheme) - 1;
    size_t length = strlen(url);
    if (length != 0 && url[length - 1] == '/')
        length--;
    if (length >= sizeof(authority))
        return "it is too long";
    memcpy(authority, url, length);
    authority[length] = '\0';
    /* The last @: an unencoded one in a password is common. */
    char *at = strrchr(authority, '@');
    const char *problem = NULL;
    if (at != NULL)
        problem = parse_user(authority, (size_t)(at - authority), out);
    if (problem == NULL)
        problem = parse_host(at != NULL ? at + 1 : authority, out);
    if (problem == NULL &&
        (!n1_name_is_valid(out->host, strlen(out->host)) || strpbrk(out->host, "/?#[]") != NULL))
        problem = "the host is neither a name nor an address";
    explicit_bzero(authority, sizeof(authority));
    return problem;
}

int sockst_proxy_parse(const char *url, struct sockst_proxy *out, const char **why)
{
    struct sockst_proxy proxy = {.port = SOCKST_PORT};
    *why = parse(url, &proxy);
    if (*why == NULL)
        *out = proxy;
    explicit_bzero(&proxy, sizeof(proxy));
    return *why == NULL ? 0 : -EINVAL;
}

int sockst_proxy_resolve(const struct sockst_proxy *proxy, struct endpoint *out, size_t max,
                         struct sockst_failure *failure)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    int error = getaddrinfo(proxy->host, NULL, &hints, &list);
    if (error != 0)
        return sockst_fail(failure, SOCKST_E_PROXY, "proxy %s: %s", proxy->host,
                           error == EAI_SYSTEM ? strerror(errno) : gai_strerror(error));
    size_t count = 0;
    for (struct addrinfo *entry = list; entry != NULL && count < max; entry = entry->ai_next) {
        struct sockaddr_storage address = {0};
        if (entry->ai_addrlen > sizeof(address))
            continue;
        memcpy(&address, entry->ai_addr, entry->ai_addrlen);
        if (net_from_sockaddr(&address, &out[count]) < 0)
            continue;
        out[count++].port = proxy->port;
    }
    freeaddrinfo(list);
    if (count == 0)
        return sockst_fail(failure, SOCKST_E_PROXY, "proxy %s: it has no address", proxy->host);
    return (int)count;
}
