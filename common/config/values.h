/*
 * One scalar of the configuration: from text to its C type, and back. Internal to common/config.
 */
#ifndef SOCKST_COMMON_CONFIG_VALUES_H
#define SOCKST_COMMON_CONFIG_VALUES_H

#include "common/config/schema.h"

#define CONFIG_WHY_MAX 256

/* Octets of the C type of a scalar. */
size_t config_value_size(enum config_type type);

/* "number", "duration", …: for help and errors. */
const char *config_type_name(enum config_type type);

/* Does the type have a value of one scalar, that is, can it be the element of a list? */
bool config_type_is_scalar(enum config_type type);

/*
 * Parses `text` as `type`, which is the option's type or its element type, into *out. `limited`:
 * the option's min and max apply (not to items of a list). A string is allocated. Returns 0,
 * -EINVAL or -ENOMEM with `why` written (CONFIG_WHY_MAX octets) and *out as it was.
 */
int config_value_parse(const struct config_option *option, enum config_type type, bool limited,
                       const char *text, void *out, char *why);

/* Writes a value so that config_value_parse() reads the same one. NULL strings as `null`. */
void config_value_print(const struct config_option *option, enum config_type type,
                        const void *value, FILE *to);

/* Writes the text for a message: at most `size` octets, unprintable characters as '?'. */
void config_show_text(const char *text, char *shown, size_t size);

#endif
