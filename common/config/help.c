#include <inttypes.h>

#include "common/config/schema.h"
#include "common/config/values.h"

static void print_words(const struct config_option *option, FILE *to)
{
    for (const struct config_keyword *keyword = option->values; keyword->text; keyword++)
        fprintf(to, "%s%s", keyword == option->values ? "" : " | ", keyword->text);
}

static void print_type(const struct config_option *option, FILE *to)
{
    enum config_type type = option->type == CONFIG_LIST ? option->element : option->type;

    if (option->type == CONFIG_LIST)
        fputs("list of ", to);
    if (type == CONFIG_ENUM)
        print_words(option, to);
    else
        fputs(config_type_name(type), to);
    if (option->flags & CONFIG_AUTO)
        fputs(", or auto", to);
}

static bool is_number(enum config_type type)
{
    return type == CONFIG_UINT || type == CONFIG_DURATION || type == CONFIG_SIZE ||
           type == CONFIG_RATE;
}

static void print_range(const struct config_option *option, FILE *to)
{
    if (is_number(option->type) && option->max > 0) {
        fputs(", ", to);
        config_value_print(option, option->type, &option->min, to);
        fputs(" to ", to);
        config_value_print(option, option->type, &option->max, to);
    } else if (is_number(option->type) && option->min > 0) {
        fputs(", at least ", to);
        config_value_print(option, option->type, &option->min, to);
    } else if (!is_number(option->type) && option->max > 0) {
        fprintf(to, ", at most %" PRIu64 "%s", option->max,
                option->type == CONFIG_STRING ? " octets" : " items");
    }
}

static void print_default(const struct config_option *option, FILE *to)
{
    if (option->flags & CONFIG_REQUIRED)
        fputs("; required", to);
    else if (option->standard)
        fprintf(to, "; default %s", option->standard);
    else if (is_number(option->type))
        fputs("; default 0", to);
    else if (option->type == CONFIG_BOOL)
        fputs("; default false", to);
    else if (option->type == CONFIG_ENUM)
        fputs("; default ", to), config_value_print(option, CONFIG_ENUM, &(int){0}, to);
    else if (config_type_is_scalar(option->type))
        fputs("; default null", to);
    else
        fputs("; default empty", to);
}

static void print_help(const struct config_option *options, const char *path, FILE *to)
{
    for (const struct config_option *option = options; option->name; option++) {
        char name[256];

        snprintf(name, sizeof(name), "%s%s%s", path, path[0] ? "." : "", option->name);
        if (option->type != CONFIG_SECTION) {
            fprintf(to, "%s (", name);
            print_type(option, to);
            print_range(option, to);
            print_default(option, to);
            fprintf(to, "%s)\n", option->flags & CONFIG_RELOADABLE ? "; reloadable" : "");
            fprintf(to, "    %s\n\n", option->help);
        }
        if (option->type == CONFIG_RECORDS)
            snprintf(name, sizeof(name), "%s%s%s[]", path, path[0] ? "." : "", option->name);
        if (option->children)
            print_help(option->children, name, to);
    }
}

void config_help(const struct config_option *schema, FILE *to)
{
    print_help(schema, "", to);
}
