/*
 * "Did you mean …?" Internal to common/config.
 */
#ifndef SOCKST_COMMON_CONFIG_SUGGEST_H
#define SOCKST_COMMON_CONFIG_SUGGEST_H

#include "common/config/schema.h"

/* The option whose name is nearest to a key that does not exist; NULL when none is near. */
const char *config_suggest(const struct config_option *options, const char *key);

#endif
