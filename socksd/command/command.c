#include "socksd/command/command.h"

static const struct command *const commands[] = {
    &command_connect,
    &command_bind,
    &command_udp_associate,
    &command_transparent,
};

const struct command *command_by_number(uint8_t number)
{
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        if (commands[i]->number == number)
            return commands[i];
    return NULL;
}

uint8_t command_reply_of(enum n2_error error)
{
    switch (error) {
    case N2_ERROR_NOT_ALLOWED:
        return N1_REP_NOT_ALLOWED;
    case N2_ERROR_NETWORK_UNREACHABLE:
        return N1_REP_NETWORK_UNREACHABLE;
    case N2_ERROR_HOST_UNREACHABLE:
        return N1_REP_HOST_UNREACHABLE;
    case N2_ERROR_REFUSED:
        return N1_REP_REFUSED;
    case N2_ERROR_TIMED_OUT:
        return N1_REP_TTL_EXPIRED;
    case N2_ERROR_GENERAL:
    case N2_ERROR_UNSUPPORTED:
    case N2_ERROR_DRAINING:
    case N2_ERROR_END:
        break;
    }
    return N1_REP_GENERAL_FAILURE;
}

uint8_t command_reply_of_end(enum n2_reason reason)
{
    /* Nobody came: as for a connection that nobody answered. */
    return reason == N2_REASON_ACCEPT_TIMEOUT ? N1_REP_TTL_EXPIRED : N1_REP_GENERAL_FAILURE;
}
