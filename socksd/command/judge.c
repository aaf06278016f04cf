#include "socksd/command/judge.h"

#include <string.h>

#include "socksd/session_fsm.h"

static struct policy_answer ask_policy(const struct session *session,
                                       const struct judged_host *host,
                                       const struct ip_address *address)
{
    const struct policy_request request = {
        .client = session->peer.address,
        .command = session->command,
        .ptcl = session->ptcl,
        .name = host->name,
        .name_length = host->name ? strlen(host->name) : 0,
        .address = address,
        .port = host->port,
    };
    return policy_judge(session->set->policy, &request);
}

static struct judgement denied(enum counter by, const char *why)
{
    return (struct judgement){.denial = why, .denied_by = by};
}

static struct judgement denied_by_rule(const struct policy_answer *answer)
{
    return denied(COUNTER_DENIED_RULE, answer->rule ? answer->rule->label : "no rule allows it");
}

struct judgement judge_name(const struct session *session, const struct judged_host *host)
{
    const struct policy_answer answer = ask_policy(session, host, NULL);

    return answer.verdict == POLICY_DENY ? denied_by_rule(&answer) : (struct judgement){0};
}

/* A source that is not the client's own needs a rule that says so (N1-SRC-020). */
static bool source_is_foreign(const struct session *session)
{
    return !ip_address_equal(&session->source.address, &session->peer.address);
}

struct judgement judge_rules(const struct session *session, const struct judged_host *host,
                             const struct ip_address *address)
{
    const struct policy_answer answer = ask_policy(session, host, address);

    if (answer.verdict != POLICY_ALLOW)
        return denied_by_rule(&answer);
    if (source_is_foreign(session) && !answer.rule->foreign_source)
        return denied(COUNTER_DENIED_RULE, "the rule does not allow a foreign source");
    return (struct judgement){.rule = answer.rule};
}

struct judgement judge_address(const struct session *session, const struct judged_host *host,
                               const struct ip_address *address)
{
    const struct judgement judgement = judge_rules(session, host, address);
    const char *forbidden =
        judgement.denial ? NULL : deny_floor_judge(session->set->floor, address);

    return forbidden ? denied(COUNTER_DENIED_FLOOR, forbidden) : judgement;
}

size_t judge_addresses(const struct session *session, const struct judged_host *host,
                       struct ip_address *addresses, size_t count, size_t max,
                       struct judgement *said)
{
    size_t kept = 0;

    for (size_t i = 0; i < count && kept < max; i++) {
        const struct judgement judgement = judge_address(session, host, &addresses[i]);
        if (i == 0 || (!judgement.denial && kept == 0))
            *said = judgement;
        if (!judgement.denial)
            addresses[kept++] = addresses[i];
    }
    return kept;
}

/* The addresses of the family (or of the other ones), in their order, to `out`. */
static size_t pick(const struct ip_address *addresses, size_t count, uint8_t family, bool wanted,
                   struct ip_address *out)
{
    size_t picked = 0;

    for (size_t i = 0; i < count; i++)
        if ((addresses[i].family == family) == wanted)
            out[picked++] = addresses[i];
    return picked;
}

void addresses_interleave(struct ip_address *addresses, size_t count)
{
    struct ip_address six[RESOLVER_ADDRESSES_MAX], four[RESOLVER_ADDRESSES_MAX];
    const size_t sixes = pick(addresses, count, IP_V6, true, six);
    const size_t fours = pick(addresses, count, IP_V6, false, four);
    size_t used = 0;

    for (size_t i = 0; i < sixes || i < fours; i++) {
        if (i < sixes)
            addresses[used++] = six[i];
        if (i < fours)
            addresses[used++] = four[i];
    }
}

void addresses_prefer(struct ip_address *addresses, size_t count, uint8_t family)
{
    struct ip_address ordered[RESOLVER_ADDRESSES_MAX];
    const size_t first = pick(addresses, count, family, true, ordered);

    (void)pick(addresses, count, family, false, ordered + first);
    memcpy(addresses, ordered, count * sizeof(addresses[0]));
}
