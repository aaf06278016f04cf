/*
 * Questions of relays to their peers, and what answers may say: the deny floor is judged here, on
 * both ways.
 */
#include <errno.h>

#include "common/log/log.h"
#include "relayd/relay/control.h"

/* Whoever owns socksd can answer as he likes. */
static struct log_limit floor_limit = LOG_LIMIT_INIT(10, 1000);

int relay_authorize(struct relay_question *question, struct n2_authorize *what)
{
    struct relay *relay = question->relay;

    if (what->address.family != IP_NONE && relay_forbids(relay, &what->address) != NULL) {
        return -EACCES;
    }
    if (relay->peer->lost || relay->peer->ask == NULL) {
        return -ENOTCONN;
    }
    what->relay = relay->id;
    struct n2_message message = {.type = N2_AUTHORIZE, .authorize = *what};
    int result = relay->peer->ask(relay->peer, &message, question);
    if (result == 0) {
        relayd_metrics_add(relay->peer->context->metrics, RELAYD_QUESTIONS, 1);
    }
    return result;
}

void relay_authorize_cancel(struct relay_question *question)
{
    if (question->transaction != 0 && !question->relay->peer->lost) {
        question->relay->peer->cancel(question->relay->peer, question->transaction);
    }
    question->transaction = 0;
}

/* Leaves out what the floor forbids. */
static void keep_permitted(const struct relay *relay, struct n2_authorized *answer)
{
    uint8_t kept = 0;

    for (uint8_t i = 0; i < answer->address_count; i++) {
        const char *problem = relay_forbids(relay, &answer->addresses[i]);
        if (problem == NULL) {
            answer->addresses[kept++] = answer->addresses[i];
            continue;
        }
        LOG_LIMITED(&floor_limit, LOG_LEVEL_NOTICE, "address-forbidden", LOG_U("relay", relay->id),
                    LOG_A("address", &answer->addresses[i]), LOG_S("why", problem));
    }
    answer->address_count = kept;
}

void relay_answered(struct relay_question *question, const struct n2_authorized *answer)
{
    const struct relay *relay = question->relay;
    struct n2_authorized permitted;

    question->transaction = 0;
    /* An answer about another relay is none. */
    if (answer == NULL || answer->relay != relay->id) {
        relayd_metrics_add(relay->peer->context->metrics, RELAYD_QUESTIONS_UNANSWERED, 1);
        question->answered(question, NULL);
        return;
    }
    permitted = *answer;
    keep_permitted(relay, &permitted);
    question->answered(question, &permitted);
}

bool relay_verdict_holds(const struct relay *relay, uint64_t generation)
{
    return relay->peer->lost || generation >= relay->peer->policy_generation;
}

void relay_policy_changed(struct relay_peer *peer, uint64_t generation)
{
    if (generation > peer->policy_generation) {
        peer->policy_generation = generation;
    }
}
