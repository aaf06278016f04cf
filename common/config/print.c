/*
 * The configuration as YAML in block style, every text in quotes, every option named.
 */
#include "common/config/schema.h"
#include "common/config/values.h"

static void print_options(const struct config_option *options, const void *base, unsigned indent,
                          bool in_item, FILE *to);

static void print_indent(unsigned indent, FILE *to)
{
    fprintf(to, "%*s", (int)indent, "");
}

static void print_list(const struct config_option *option, const struct config_list *list, FILE *to)
{
    size_t size = config_value_size(option->element);

    if (list->count == 0) {
        fputs(option->flags & CONFIG_AUTO ? " auto\n" : " []\n", to);
        return;
    }
    fputs(" [", to);
    for (size_t i = 0; i < list->count; i++) {
        fputs(i > 0 ? ", " : "", to);
        config_value_print(option, option->element, (const char *)list->items + i * size, to);
    }
    fputs("]\n", to);
}

static void print_records(const struct config_option *option, const struct config_list *list,
                          unsigned indent, FILE *to)
{
    if (list->count == 0) {
        fputs(" []\n", to);
        return;
    }
    fputc('\n', to);
    for (size_t i = 0; i < list->count; i++) {
        print_indent(indent, to);
        fputs("- ", to);
        print_options(option->children, (const char *)list->items + i * option->record_size,
                      indent + 2, true, to);
    }
}

static void print_pairs(const struct config_list *list, unsigned indent, FILE *to)
{
    const struct config_address_pair *pairs = list->items;
    const struct config_option option = {.name = ""};

    if (list->count == 0) {
        fputs(" {}\n", to);
        return;
    }
    fputc('\n', to);
    for (size_t i = 0; i < list->count; i++) {
        print_indent(indent, to);
        config_value_print(&option, CONFIG_ADDRESS, &pairs[i].key, to);
        fputs(": ", to);
        config_value_print(&option, CONFIG_ADDRESS, &pairs[i].value, to);
        fputc('\n', to);
    }
}

/* `in_item`: the first option stands behind the "- " of its record. */
static void print_options(const struct config_option *options, const void *base, unsigned indent,
                          bool in_item, FILE *to)
{
    for (const struct config_option *option = options; option->name; option++) {
        const void *value = (const char *)base + option->offset;

        if (!in_item)
            print_indent(indent, to);
        in_item = false;
        fprintf(to, "%s:", option->name);
        switch (option->type) {
        case CONFIG_SECTION:
            fputc('\n', to);
            print_options(option->children, base, indent + 2, false, to);
            break;
        case CONFIG_LIST:
            print_list(option, value, to);
            break;
        case CONFIG_RECORDS:
            print_records(option, value, indent + 2, to);
            break;
        case CONFIG_PAIRS:
            print_pairs(value, indent + 2, to);
            break;
        default:
            fputc(' ', to);
            config_value_print(option, option->type, value, to);
            fputc('\n', to);
            break;
        }
    }
}

void config_print(const struct config_option *schema, const void *config, FILE *to)
{
    print_options(schema, config, 0, false, to);
}
