/*
 * The rules as a whole: first match wins, nothing matches: deny. Evaluated per (name, address).
 */
#ifndef SOCKST_SOCKSD_POLICY_POLICY_H
#define SOCKST_SOCKSD_POLICY_POLICY_H

#include "socksd/policy/rule.h"

struct policy;

enum policy_verdict {
    POLICY_DENY,
    POLICY_ALLOW,
    POLICY_UNDECIDED, /* without an address only: look the name up and ask again for each address */
};

struct policy_answer {
    enum policy_verdict verdict;
    const struct rule *rule; /* that decided; NULL: none matched, or undecided */
};

/* Compiles the rules of a configuration. Returns 0 or -ENOMEM. */
int policy_new(struct policy **out, const struct config_list *rules);
struct policy *policy_free(struct policy *policy); /* NULL is allowed; returns NULL */

/* With request->address NULL the answer is POLICY_DENY only if no address could make it another
 * one. */
struct policy_answer policy_judge(const struct policy *policy,
                                  const struct policy_request *request);

/* The first rule that may allow this client some destination, NULL: none can. The rules on the
 * destinations themselves have still to be asked. */
const struct rule *policy_may_allow(const struct policy *policy, const struct ip_address *client,
                                    uint8_t command, uint8_t ptcl);

/* Differs from that of every policy made before: what verdicts are marked with. Not 0. */
uint64_t policy_generation(const struct policy *policy);

/* Could any rule allow this client another source address than its own? */
bool policy_may_use_foreign_source(const struct policy *policy, const struct ip_address *client,
                                   uint8_t command, uint8_t ptcl);

#endif
