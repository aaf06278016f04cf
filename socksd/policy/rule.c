#include "socksd/policy/rule.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "proto/ptcl.h"

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

int rule_target_parse(const char *text, struct rule_target *out, char *why, size_t size)
{
    memset(out, 0, sizeof(*out));
    if (ip_prefix_parse(text, &out->prefix) == 0) {
        out->is_prefix = true;
        return 0;
    }
    /* What looks like an address and is none must not become a name that never matches. */
    if (strpbrk(text, "/:") || text[strspn(text, "0123456789.")] == '\0') {
        snprintf(why, size, "%.64s is not a prefix (or has bits set below its length)", text);
        return -EINVAL;
    }
    out->is_suffix = text[0] == '.';
    const char *name = text + out->is_suffix;
    size_t length = strlen(name);
    if (length > N1_NAME_MAX || !n1_name_is_valid(name, length) || strchr(name, '*')) {
        snprintf(why, size, "%.64s is neither a prefix nor a domain name", text);
        return -EINVAL;
    }
    if (name[length - 1] == '.')
        length--;
    for (size_t i = 0; i < length; i++)
        out->name[i] = lower(name[i]);
    out->name_length = (uint8_t)length;
    return 0;
}

/* A copy of a list's items, or NULL for an empty one; *failed is set when out of memory. */
static void *copy_items(const struct config_list *list, size_t size, bool *failed)
{
    if (list->count == 0)
        return NULL;
    void *copy = calloc(list->count, size);
    if (!copy)
        *failed = true;
    else
        memcpy(copy, list->items, list->count * size);
    return copy;
}

static struct rule_target *compile_targets(const struct config_list *list, bool *failed)
{
    if (list->count == 0)
        return NULL;
    char *const *texts = list->items;
    char why[128];
    struct rule_target *targets = calloc(list->count, sizeof(*targets));
    if (!targets)
        *failed = true;
    for (size_t i = 0; targets && i < list->count; i++)
        if (rule_target_parse(texts[i], &targets[i], why, sizeof(why)) < 0)
            *failed = true; /* cannot be: the schema has judged the text */
    return targets;
}

int rule_compile(struct rule *out, const struct rule_config *from, size_t number)
{
    bool failed = false;
    memset(out, 0, sizeof(*out));
    if (from->name)
        snprintf(out->label, sizeof(out->label), "%s", from->name);
    else
        snprintf(out->label, sizeof(out->label), "rule-%zu", number);
    out->action = (enum rule_action)from->action;
    out->foreign_source = from->foreign_source;
    for (size_t i = 0; i < from->commands.count; i++)
        out->commands |= (uint8_t)(1u << ((const int *)from->commands.items)[i]);
    out->any_ptcl = from->ptcl.count == 0;
    for (size_t i = 0; i < from->ptcl.count; i++) {
        const struct ptcl *row = ptcl_by_name(((char *const *)from->ptcl.items)[i]);
        if (row)
            out->ptcl[row->number / 8] |= (uint8_t)(1u << row->number % 8);
    }
    out->from = copy_items(&from->from, sizeof(struct ip_prefix), &failed);
    out->from_count = from->from.count;
    out->ports = copy_items(&from->ports, sizeof(struct port_range), &failed);
    out->port_count = from->ports.count;
    out->to = compile_targets(&from->to, &failed);
    out->to_count = from->to.count;
    if (failed) {
        rule_free(out);
        return -ENOMEM;
    }
    return 0;
}

void rule_free(struct rule *rule)
{
    free(rule->from);
    free(rule->to);
    free(rule->ports);
    memset(rule, 0, sizeof(*rule));
}

bool rule_covers(const struct rule *rule, const struct ip_address *client, uint8_t command,
                 uint8_t ptcl)
{
    if (rule->commands && !(rule->commands & (1u << command)))
        return false;
    if (!rule->any_ptcl && !(rule->ptcl[ptcl / 8] & (1u << ptcl % 8)))
        return false;
    for (size_t i = 0; i < rule->from_count; i++)
        if (ip_prefix_contains(&rule->from[i], client))
            return true;
    return rule->from_count == 0;
}

static bool ports_match(const struct rule *rule, uint16_t port)
{
    for (size_t i = 0; i < rule->port_count; i++)
        if (port_range_contains(&rule->ports[i], port))
            return true;
    return rule->port_count == 0;
}

static bool name_matches(const struct rule_target *target, const char *name, size_t length)
{
    if (length > 0 && name[length - 1] == '.')
        length--;
    if (length < target->name_length)
        return false;
    const char *tail = name + (length - target->name_length);
    if (strncasecmp(tail, target->name, target->name_length) != 0)
        return false;
    return tail == name || (target->is_suffix && tail[-1] == '.');
}

enum rule_match rule_matches(const struct rule *rule, const struct policy_request *request)
{
    enum rule_match match = rule->to_count == 0 ? RULE_YES : RULE_NO;

    if (!rule_covers(rule, &request->client, request->command, request->ptcl) ||
        !ports_match(rule, request->port))
        return RULE_NO;
    for (size_t i = 0; i < rule->to_count; i++) {
        const struct rule_target *target = &rule->to[i];
        if (!target->is_prefix) {
            if (request->name && name_matches(target, request->name, request->name_length))
                return RULE_YES;
        } else if (!request->address) {
            match = RULE_DEPENDS;
        } else if (ip_prefix_contains(&target->prefix, request->address)) {
            return RULE_YES;
        }
    }
    return match;
}
