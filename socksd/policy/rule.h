/*
 * One compiled rule. It owns its lists; nothing in it points into the configuration it was made
 * from, so that a policy can outlive one.
 */
#ifndef SOCKST_SOCKSD_POLICY_RULE_H
#define SOCKST_SOCKSD_POLICY_RULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/net/prefix.h"
#include "proto/n1.h"
#include "proto/n2.h"
#include "socksd/config.h"

/* One entry of `to`. */
struct rule_target {
    bool is_prefix;
    bool is_suffix;          /* the domain `name` and everything below it */
    struct ip_prefix prefix; /* is_prefix */
    uint8_t name_length;
    char name[N1_NAME_MAX + 1]; /* otherwise: lower case, without the final dot */
};

/* What a rule is asked about. */
struct policy_request {
    struct ip_address client; /* the control connection's peer */
    uint8_t command;          /* enum n1_command */
    uint8_t ptcl;
    const char *name; /* the name that was asked for (n1_name_is_valid()), or NULL */
    size_t name_length;
    const struct ip_address *address; /* that would be used; NULL: not looked up yet */
    uint16_t port;
};

struct rule {
    char label[N2_LABEL_MAX + 1];
    enum rule_action action;
    bool foreign_source;
    uint8_t commands; /* bit 1 << command; 0: all */
    uint8_t ptcl[32]; /* a bit for each number */
    bool any_ptcl;
    struct ip_prefix *from;
    struct rule_target *to;
    struct port_range *ports;
    size_t from_count, to_count, port_count;
};

enum rule_match {
    RULE_NO,
    RULE_YES,
    RULE_DEPENDS, /* on the address, which is not known yet */
};

/* "10.0.0.0/8", "192.0.2.1", "www.example.org", ".example.org". Returns 0, or -EINVAL with the
 * reason in `why`. */
int rule_target_parse(const char *text, struct rule_target *out, char *why, size_t size);

/* Compiles; `number` counts from 1 and names a rule without a name. Returns 0 or -ENOMEM (nothing
 * to free then). */
int rule_compile(struct rule *out, const struct rule_config *from, size_t number);
void rule_free(struct rule *rule);

enum rule_match rule_matches(const struct rule *rule, const struct policy_request *request);

/* Do client, command and ptcl match, whatever the destination may be? */
bool rule_covers(const struct rule *rule, const struct ip_address *client, uint8_t command,
                 uint8_t ptcl);

#endif
