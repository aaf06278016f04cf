#include "socksd/policy/policy.h"

#include <errno.h>
#include <stdlib.h>

struct policy {
    uint64_t generation;
    size_t count;
    struct rule rules[];
};

static uint64_t last_generation;

int policy_new(struct policy **out, const struct config_list *rules)
{
    struct policy *policy = calloc(1, sizeof(*policy) + rules->count * sizeof(struct rule));
    if (!policy)
        return -ENOMEM;
    policy->generation = ++last_generation;
    for (; policy->count < rules->count; policy->count++) {
        const struct rule_config *from = (const struct rule_config *)rules->items + policy->count;
        int rc = rule_compile(&policy->rules[policy->count], from, policy->count + 1);
        if (rc < 0) {
            policy_free(policy);
            return rc;
        }
    }
    *out = policy;
    return 0;
}

struct policy *policy_free(struct policy *policy)
{
    for (size_t i = 0; policy && i < policy->count; i++)
        rule_free(&policy->rules[i]);
    free(policy);
    return NULL;
}

struct policy_answer policy_judge(const struct policy *policy, const struct policy_request *request)
{
    /* Rules passed on the way that an address might make match, by what they would say then. */
    bool may_allow = false;

    for (size_t i = 0; i < policy->count; i++) {
        const struct rule *rule = &policy->rules[i];
        switch (rule_matches(rule, request)) {
        case RULE_NO:
            continue;
        case RULE_DEPENDS:
            may_allow = may_allow || rule->action == RULE_ALLOW;
            continue;
        case RULE_YES:
            break;
        }
        if (rule->action == RULE_ALLOW && request->address)
            return (struct policy_answer){POLICY_ALLOW, rule};
        if (rule->action == RULE_ALLOW || may_allow)
            return (struct policy_answer){POLICY_UNDECIDED, NULL};
        return (struct policy_answer){POLICY_DENY, rule};
    }
    return (struct policy_answer){may_allow ? POLICY_UNDECIDED : POLICY_DENY, NULL};
}

const struct rule *policy_may_allow(const struct policy *policy, const struct ip_address *client,
                                    uint8_t command, uint8_t ptcl)
{
    for (size_t i = 0; i < policy->count; i++) {
        const struct rule *rule = &policy->rules[i];
        if (!rule_covers(rule, client, command, ptcl))
            continue;
        if (rule->action == RULE_ALLOW)
            return rule;
        if (rule->to_count == 0 && rule->port_count == 0)
            return NULL; /* denies everything that is left */
    }
    return NULL;
}

uint64_t policy_generation(const struct policy *policy)
{
    return policy->generation;
}

bool policy_may_use_foreign_source(const struct policy *policy, const struct ip_address *client,
                                   uint8_t command, uint8_t ptcl)
{
    for (size_t i = 0; i < policy->count; i++)
        if (policy->rules[i].action == RULE_ALLOW && policy->rules[i].foreign_source &&
            rule_covers(&policy->rules[i], client, command, ptcl))
            return true;
    return false;
}
