/*
 * A name server for tests, on the test's loop: UDP on loopback, a table of names. What is not in
 * the table does not exist.
 */
#ifndef SOCKST_TESTS_UNIT_SOCKSD_FAKE_DNS_H
#define SOCKST_TESTS_UNIT_SOCKSD_FAKE_DNS_H

#include <stdbool.h>
#include <uv.h>

#include "proto/endpoint.h"

struct fake_dns_record {
    const char *name;    /* lower case, no final dot */
    const char *address; /* A or AAAA */
};

struct fake_dns {
    const struct fake_dns_record *records; /* a NULL name ends it */
    bool silent;                           /* never answers */
    uint16_t silent_about;                 /* nor questions of this type; 0: all are answered */
    unsigned queries;
    uint32_t ttl_s;                 /* of every record; 60 */
    char server[ENDPOINT_TEXT_MAX]; /* for resolver_config.servers */
    int fd;
    uv_poll_t poll;
};

void fake_dns_start(struct fake_dns *dns, uv_loop_t *loop, const struct fake_dns_record *records);
void fake_dns_stop(struct fake_dns *dns);

#endif
