#include "proto/ptcl.h"

#include <stdio.h>
#include <string.h>

/* In the order of the protocol numbers; names as IANA has them, in lower case. */
static const struct ptcl protocols[] = {
    {1, "icmp", PTCL_ECHO_ID},    {PTCL_TCP, "tcp", PTCL_PORTS},   {PTCL_UDP, "udp", PTCL_PORTS},
    {33, "dccp", PTCL_PORTS},     {47, "gre", PTCL_NO_PORTS},      {50, "esp", PTCL_NO_PORTS},
    {51, "ah", PTCL_NO_PORTS},    {58, "ipv6-icmp", PTCL_ECHO_ID}, {132, "sctp", PTCL_PORTS},
    {136, "udplite", PTCL_PORTS},
};

#define PROTOCOL_COUNT (sizeof(protocols) / sizeof(protocols[0]))

const struct ptcl *ptcl_by_number(uint8_t number)
{
    for (size_t i = 0; i < PROTOCOL_COUNT; i++) {
        if (protocols[i].number == number)
            return &protocols[i];
    }
    return NULL;
}

const struct ptcl *ptcl_by_name(const char *name)
{
    char number[4];
    for (size_t i = 0; i < PROTOCOL_COUNT; i++) {
        snprintf(number, sizeof(number), "%u", protocols[i].number);
        if (strcmp(protocols[i].name, name) == 0 || strcmp(number, name) == 0)
            return &protocols[i];
    }
    return NULL;
}

const struct ptcl *ptcl_at(size_t index)
{
    return index < PROTOCOL_COUNT ? &protocols[index] : NULL;
}

const char *ptcl_format(uint8_t number, char text[static 9])
{
    const struct ptcl *row = ptcl_by_number(number);
    if (row != NULL)
        return row->name;
    snprintf(text, 9, "ptcl-%u", number);
    return text;
}
