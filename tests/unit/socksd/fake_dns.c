#include "tests/unit/socksd/fake_dns.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <check.h>

#include "common/net/sockaddr.h"

#define HEADER 12
#define TYPE_A 1
#define TYPE_AAAA 28

/* Reads the question's name into `name`; returns where its type begins. */
static size_t read_name(const uint8_t *query, size_t length, char *name, size_t size)
{
    size_t at = HEADER, used = 0;
    while (at < length && query[at] != 0) {
        const size_t label = query[at++];
        ck_assert_uint_lt(used + label + 1, size);
        memcpy(name + used, query + at, label);
        used += label;
        name[used++] = '.';
        at += label;
    }
    name[used > 0 ? used - 1 : 0] = '\0';
    return at + 1;
}

static size_t add_answer(uint8_t *out, uint8_t type, uint32_t ttl, const struct ip_address *address)
{
    const uint8_t size = (uint8_t)ip_address_size(address);
    const uint8_t head[12] = {0xc0,
                              HEADER,
                              0,
                              type,
                              0,
                              1,
                              (uint8_t)(ttl >> 24),
                              (uint8_t)(ttl >> 16),
                              (uint8_t)(ttl >> 8),
                              (uint8_t)ttl,
                              0,
                              size};
    memcpy(out, head, sizeof(head));
    memcpy(out + sizeof(head), address->bytes, size);
    return sizeof(head) + size;
}

/* Returns the length of the answer; 0: there is none. */
static size_t answer(const struct fake_dns *dns, uint8_t *packet, size_t length)
{
    char name[256];
    const size_t type_at = read_name(packet, length, name, sizeof(name));
    const uint8_t type = packet[type_at + 1];
    if (type == dns->silent_about)
        return 0;
    size_t used = type_at + 4;
    bool exists = false;
    uint8_t count = 0;

    for (const struct fake_dns_record *record = dns->records; record->name; record++) {
        struct ip_address address;
        if (strcasecmp(record->name, name) != 0)
            continue;
        exists = true;
        ck_assert_int_eq(ip_address_parse(record->address, &address), 0);
        if (type == (address.family == IP_V4 ? TYPE_A : TYPE_AAAA)) {
            used += add_answer(packet + used, type, dns->ttl_s, &address);
            count++;
        }
    }
    packet[2] = 0x81;
    packet[3] = exists ? 0x80 : 0x83;
    memset(packet + 6, 0, 6);
    packet[7] = count;
    return used;
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct fake_dns *dns = poll->data;
    uint8_t packet[2048];
    struct sockaddr_storage from;
    socklen_t length = sizeof(from);

    (void)status;
    (void)events;
    const ssize_t n =
        recvfrom(dns->fd, packet, 512, MSG_DONTWAIT, (struct sockaddr *)&from, &length);
    if (n < HEADER)
        return;
    dns->queries++;
    const size_t size = dns->silent ? 0 : answer(dns, packet, (size_t)n);
    if (size > 0)
        (void)!sendto(dns->fd, packet, size, 0, (struct sockaddr *)&from, length);
}

void fake_dns_start(struct fake_dns *dns, uv_loop_t *loop, const struct fake_dns_record *records)
{
    struct endpoint endpoint;
    struct sockaddr_storage address;

    memset(dns, 0, sizeof(*dns));
    dns->records = records;
    dns->ttl_s = 60;
    ck_assert_int_eq(endpoint_parse("127.0.0.1:0", &endpoint), 0);
    dns->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(dns->fd, 0);
    const socklen_t length = endpoint_to_sockaddr(&endpoint, &address);
    ck_assert_int_eq(bind(dns->fd, (struct sockaddr *)&address, length), 0);
    ck_assert_int_eq(endpoint_local(dns->fd, &endpoint), 0);
    endpoint_format(&endpoint, dns->server, sizeof(dns->server));
    uv_poll_init(loop, &dns->poll, dns->fd);
    dns->poll.data = dns;
    uv_poll_start(&dns->poll, UV_READABLE, on_readable);
}

void fake_dns_stop(struct fake_dns *dns)
{
    uv_poll_stop(&dns->poll);
    uv_close((uv_handle_t *)&dns->poll, NULL);
    uv_run(dns->poll.loop, UV_RUN_NOWAIT);
    close(dns->fd);
}
