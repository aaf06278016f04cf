#include <stdarg.h>
#include <string.h>

#include "common/config/schema.h"
#include "common/config/values.h"

struct judge {
    char *why;
    size_t size;
    unsigned depth;
};

__attribute__((format(printf, 3, 4))) static bool
reject(struct judge *judge, const struct config_option *option, const char *format, ...)
{
    va_list arguments;
    int used = snprintf(judge->why, judge->size, "%s: ", option->name);

    va_start(arguments, format);
    if ((size_t)used < judge->size)
        vsnprintf(judge->why + used, judge->size - (size_t)used, format, arguments);
    va_end(arguments);
    return false;
}

static bool check_name(struct judge *judge, const struct config_option *table,
                       const struct config_option *option)
{
    if (option->name[0] < 'a' || option->name[0] > 'z' ||
        option->name[strspn(option->name, "abcdefghijklmnopqrstuvwxyz0123456789-")] != '\0')
        return reject(judge, option, "a name is lower case, digits and '-'");
    for (const struct config_option *other = table; other < option; other++)
        if (strcmp(other->name, option->name) == 0)
            return reject(judge, option, "named twice");
    if (option - table >= CONFIG_OPTIONS_MAX)
        return reject(judge, option, "more than %d options in one table", CONFIG_OPTIONS_MAX);
    if (!option->help || option->help[0] == '\0')
        return reject(judge, option, "no help");
    return true;
}

static bool has_zero(const struct config_keyword *values)
{
    for (; values->text; values++)
        if (values->value == 0)
            return true;
    return false;
}

static bool check_parts(struct judge *judge, const struct config_option *option)
{
    bool with_words = option->type == CONFIG_ENUM ||
                      (option->type == CONFIG_LIST && option->element == CONFIG_ENUM);
    bool with_children = option->type == CONFIG_SECTION || option->type == CONFIG_RECORDS;

    if (with_words != (option->values != NULL))
        return reject(judge, option, "words are for enums, and enums need them");
    if (option->type == CONFIG_ENUM && !option->standard && !(option->flags & CONFIG_REQUIRED) &&
        !has_zero(option->values))
        return reject(judge, option, "no default, and no word for 0");
    if (with_children != (option->children != NULL))
        return reject(judge, option, "children are for sections and records, which need them");
    if (with_children && !option->children->name)
        return reject(judge, option, "no children");
    if ((option->type == CONFIG_RECORDS) != (option->record_size > 0))
        return reject(judge, option, "a record size is for records, which need it");
    if (option->type == CONFIG_LIST && !config_type_is_scalar(option->element))
        return reject(judge, option, "an element must be a scalar");
    if ((option->flags & CONFIG_AUTO) && option->type != CONFIG_LIST)
        return reject(judge, option, "auto is for lists");
    if ((option->flags & CONFIG_REQUIRED) && option->standard)
        return reject(judge, option, "required, and yet a default");
    if (with_children && option->standard)
        return reject(judge, option, "a default belongs to the children");
    if (option->max > 0 && option->min > option->max)
        return reject(judge, option, "min is above max");
    return true;
}

/* Loads the default into a value of its own. */
static bool check_default(struct judge *judge, const struct config_option *option)
{
    struct config_option table[2] = {*option, {0}};
    union {
        uint64_t number;
        char *string;
        struct ip_address address;
        struct ip_prefix prefix;
        struct port_range range;
        struct config_list list;
    } value;
    struct config_error error;

    if (option->flags & CONFIG_REQUIRED)
        return true;
    table[0].offset = 0;
    if (config_load_text(table, &value, sizeof(value), "schema", "", 0, &error) < 0)
        return reject(judge, option, "%s", error.text);
    config_free(table, &value);
    return true;
}

static bool check_table(struct judge *judge, const struct config_option *table)
{
    if (++judge->depth > CONFIG_DEPTH_MAX)
        return reject(judge, table, "nested too deep");
    for (const struct config_option *option = table; option->name; option++) {
        if (!check_name(judge, table, option) || !check_parts(judge, option))
            return false;
        if (option->children ? !check_table(judge, option->children)
                             : !check_default(judge, option))
            return false;
        /* A record's size bounds its options. */
        for (const struct config_option *child = option->children;
             child && child->name && option->type == CONFIG_RECORDS; child++)
            if (child->type != CONFIG_SECTION && child->offset >= option->record_size)
                return reject(judge, child, "lies outside its record");
    }
    judge->depth--;
    return true;
}

bool config_schema_check(const struct config_option *schema, char *why, size_t size)
{
    struct judge judge = {.why = why, .size = size};

    return check_table(&judge, schema);
}
