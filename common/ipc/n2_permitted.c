#include "common/ipc/n2_permitted.h"

enum {
    NEW = 1, /* before Hello and HelloAck */
    UP = 2,
};

struct row {
    unsigned by_socksd, by_relayd; /* the states in which socksd, or relayd, receives it */
    enum n2_type answers;          /* the request that it answers, or 0 */
};

static const struct row rows[N2_TYPE_END] = {
    [N2_HELLO] = {.by_relayd = NEW},
    [N2_HELLO_ACK] = {.by_socksd = NEW},
    [N2_OPEN_RELAY] = {.by_relayd = UP},
    [N2_RELAY_OPENED] = {.by_socksd = UP, .answers = N2_OPEN_RELAY},
    [N2_RELAY_FAILED] = {.by_socksd = UP, .answers = N2_OPEN_RELAY},
    [N2_ATTACH_CLIENT] = {.by_relayd = UP},
    [N2_RELAY_CONNECTED] = {.by_socksd = UP},
    [N2_AUTHORIZE] = {.by_socksd = UP},
    [N2_AUTHORIZED] = {.by_relayd = UP, .answers = N2_AUTHORIZE},
    [N2_POLICY_CHANGED] = {.by_relayd = UP},
    [N2_RELAY_STATS] = {.by_socksd = UP},
    [N2_CLOSE_RELAY] = {.by_relayd = UP},
    [N2_RELAY_CLOSED] = {.by_socksd = UP},
    [N2_RELAY_EVENT] = {.by_socksd = UP},
    [N2_PING] = {.by_socksd = UP, .by_relayd = UP},
    [N2_PONG] = {.by_socksd = UP, .by_relayd = UP},
    [N2_DRAIN] = {.by_relayd = UP},
    [N2_CANCEL_ORDER] = {.by_relayd = UP},
};

bool n2_receives(enum n2_role role, bool up, enum n2_type type)
{
    if (type <= 0 || type >= N2_TYPE_END) {
        return false;
    }
    unsigned states = role == N2_ROLE_SOCKSD ? rows[type].by_socksd : rows[type].by_relayd;
    return (states & (up ? UP : NEW)) != 0;
}

bool n2_sends(enum n2_role role, bool up, enum n2_type type)
{
    return n2_receives(role == N2_ROLE_SOCKSD ? N2_ROLE_RELAYD : N2_ROLE_SOCKSD, up, type);
}

bool n2_is_request(enum n2_type type)
{
    return type == N2_OPEN_RELAY || type == N2_AUTHORIZE;
}

bool n2_is_answer(enum n2_type type)
{
    return type > 0 && type < N2_TYPE_END && rows[type].answers != 0;
}

bool n2_answers(enum n2_type answer, enum n2_type request)
{
    return n2_is_answer(answer) && rows[answer].answers == request;
}
