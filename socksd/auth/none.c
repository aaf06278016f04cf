/*
 * X'00' NO AUTHENTICATION REQUIRED (RFC 1928 section 3): nothing is exchanged.
 */
#include "socksd/auth/auth.h"

static enum auth_result none_step(struct auth_step *step)
{
    (void)step;
    return AUTH_ACCEPTED;
}

const struct auth_method auth_none = {.number = N1_METHOD_NONE, .name = "none", .step = none_step};
