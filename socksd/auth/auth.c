#include "socksd/auth/auth.h"

#include <string.h>

static const struct auth_method *const methods[] = {
    &auth_none,
};

const struct auth_method *auth_method_by_number(uint8_t number)
{
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
        if (methods[i]->number == number)
            return methods[i];
    return NULL;
}

const struct auth_method *auth_choose(const struct config_list *configured,
                                      const struct n1_methods *offered)
{
    const int *numbers = configured->items;
    for (size_t i = 0; i < configured->count; i++)
        if (memchr(offered->methods, numbers[i], offered->count))
            return auth_method_by_number((uint8_t)numbers[i]);
    return NULL;
}
