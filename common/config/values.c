#include "common/config/values.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "common/log/utf8.h"

struct unit {
    const char *suffix;
    uint64_t factor;
};

/* From the largest: printing takes the first that divides. An empty suffix allows a bare number. */
static const struct unit duration_units[] = {
    {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}, {NULL, 0}};
static const struct unit size_units[] = {
    {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"", 1}, {NULL, 0}};
static const struct unit rate_units[] = {
    {"Gbit", 1000000000}, {"Mbit", 1000000}, {"kbit", 1000}, {"bit", 1}, {NULL, 0}};
static const struct unit plain_units[] = {{"", 1}, {NULL, 0}};

static const struct unit *units_of(enum config_type type)
{
    switch (type) {
    case CONFIG_DURATION:
        return duration_units;
    case CONFIG_SIZE:
        return size_units;
    case CONFIG_RATE:
        return rate_units;
    default:
        return plain_units;
    }
}

size_t config_value_size(enum config_type type)
{
    switch (type) {
    case CONFIG_BOOL:
        return sizeof(bool);
    case CONFIG_UINT:
    case CONFIG_DURATION:
    case CONFIG_SIZE:
    case CONFIG_RATE:
        return sizeof(uint64_t);
    case CONFIG_ENUM:
        return sizeof(int);
    case CONFIG_STRING:
        return sizeof(char *);
    case CONFIG_ADDRESS:
        return sizeof(struct ip_address);
    case CONFIG_PREFIX:
        return sizeof(struct ip_prefix);
    case CONFIG_PORT_RANGE:
        return sizeof(struct port_range);
    case CONFIG_PAIRS:
        return sizeof(struct config_address_pair);
    case CONFIG_SECTION:
    case CONFIG_LIST:
    case CONFIG_RECORDS:
        break;
    }
    return 0;
}

const char *config_type_name(enum config_type type)
{
    static const char *const names[] = {
        [CONFIG_BOOL] = "true or false",
        [CONFIG_UINT] = "number",
        [CONFIG_DURATION] = "duration",
        [CONFIG_SIZE] = "size",
        [CONFIG_RATE] = "rate",
        [CONFIG_ENUM] = "word",
        [CONFIG_STRING] = "text",
        [CONFIG_ADDRESS] = "address",
        [CONFIG_PREFIX] = "prefix",
        [CONFIG_PORT_RANGE] = "port or port range",
        [CONFIG_SECTION] = "section",
        [CONFIG_LIST] = "list",
        [CONFIG_RECORDS] = "list of records",
        [CONFIG_PAIRS] = "mapping from address to address",
    };

    return names[type];
}

bool config_type_is_scalar(enum config_type type)
{
    return type < CONFIG_SECTION;
}

void config_show_text(const char *text, char *shown, size_t size)
{
    static const char cut[] = "...";
    size_t left = strlen(text), used = 0;

    while (left > 0) {
        uint32_t code;
        size_t length = utf8_next(text, left, &code), step = length ? length : 1;
        bool safe = length > 0 && !utf8_is_unsafe(code);
        size_t needed = safe ? length : 1;

        if (used + needed + sizeof(cut) > size) {
            memcpy(shown + used, cut, sizeof(cut));
            return;
        }
        if (safe)
            memcpy(shown + used, text, length);
        else
            shown[used] = '?';
        used += needed;
        text += step;
        left -= step;
    }
    shown[used] = '\0';
}

__attribute__((format(printf, 2, 3))) static int refuse(char *why, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(why, CONFIG_WHY_MAX, format, arguments);
    va_end(arguments);
    return -EINVAL;
}

/* "ms, s, m or h", in the order of size. */
static void list_units(const struct unit *units, char *text, size_t size)
{
    size_t count = 0, used = 0;

    while (units[count].suffix)
        count++;
    text[0] = '\0';
    for (size_t i = count; i-- > 0 && used < size;) {
        if (units[i].suffix[0] == '\0')
            continue;
        used += (size_t)snprintf(text + used, size - used, "%s%s",
                                 used == 0 ? ""
                                 : i == 0  ? " or "
                                           : ", ",
                                 units[i].suffix);
    }
}

static const struct unit *find_unit(const struct unit *units, const char *suffix)
{
    for (; units->suffix; units++)
        if (strcmp(units->suffix, suffix) == 0)
            return units;
    return NULL;
}

static void format_number(enum config_type type, uint64_t value, char *text, size_t size)
{
    const struct unit *unit = units_of(type);

    while (value % unit->factor != 0)
        unit++;
    if (value == 0)
        snprintf(text, size, "0");
    else
        snprintf(text, size, "%" PRIu64 "%s", value / unit->factor, unit->suffix);
}

static int check_range(const struct config_option *option, enum config_type type, uint64_t value,
                       const char *shown, char *why)
{
    bool below = value<option->min, above = option->max> 0 && value > option->max;
    char limit[32];

    if (!below && !above)
        return 0;
    format_number(type, below ? option->min : option->max, limit, sizeof(limit));
    return refuse(why, "%s is %s %s", shown, below ? "below" : "above", limit);
}

/* A plain decimal number and a unit; nothing else, no sign, no leading zero, no fraction. */
static int parse_number(const struct config_option *option, enum config_type type, bool limited,
                        const char *text, uint64_t *out, char *why)
{
    const struct unit *units = units_of(type), *unit;
    uint64_t most = type == CONFIG_UINT ? UINT64_MAX : INT64_MAX, value = 0;
    size_t digits = strspn(text, "0123456789");
    const char *suffix = text + digits;
    char shown[64], names[64];

    config_show_text(text, shown, sizeof(shown));
    list_units(units, names, sizeof(names));
    if (digits == 0)
        return refuse(why, "\"%s\" is no %s", shown,
                      type == CONFIG_UINT ? "whole number" : config_type_name(type));
    if (digits > 1 && text[0] == '0')
        return refuse(why, "%s has a leading zero", shown);
    for (size_t i = 0; i < digits; i++) {
        uint64_t digit = (uint64_t)(text[i] - '0');

        if (value > (most - digit) / 10)
            return refuse(why, "%s is too large", shown);
        value = value * 10 + digit;
    }
    unit = find_unit(units, suffix);
    if (!unit && type == CONFIG_UINT)
        return refuse(why, "\"%s\" is no whole number", shown);
    if (!unit && (suffix[0] != '\0' || value != 0))
        return refuse(why, "%s needs a unit: %s", shown, names);
    if (unit && value > most / unit->factor)
        return refuse(why, "%s is too large", shown);
    value *= unit ? unit->factor : 1;
    if (limited && check_range(option, type, value, shown, why) < 0)
        return -EINVAL;
    *out = value;
    return 0;
}

static int parse_enum(const struct config_option *option, const char *text, int *out, char *why)
{
    char shown[64], known[CONFIG_WHY_MAX / 2];
    size_t used = 0;

    known[0] = '\0';
    for (const struct config_keyword *keyword = option->values; keyword->text; keyword++) {
        if (strcmp(keyword->text, text) == 0) {
            *out = keyword->value;
            return 0;
        }
        if (used < sizeof(known))
            used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s", used ? ", " : "",
                                     keyword->text);
    }
    config_show_text(text, shown, sizeof(shown));
    return refuse(why, "\"%s\" is not one of: %s", shown, known);
}

static int parse_string(const struct config_option *option, bool limited, const char *text,
                        char **out, char *why)
{
    uint64_t most = limited && option->max > 0 ? option->max : CONFIG_STRING_MAX;
    size_t length = strlen(text);
    char *copy;

    if (length > most)
        return refuse(why, "longer than %" PRIu64 " octets", most);
    if (limited && length < option->min)
        return length == 0 ? refuse(why, "must not be empty")
                           : refuse(why, "shorter than %" PRIu64 " octets", option->min);
    copy = strdup(text);
    if (!copy) {
        refuse(why, "out of memory");
        return -ENOMEM;
    }
    *out = copy;
    return 0;
}

/* The three that have parsers of their own: -EINVAL from those needs an explanation. */
static int explain(int r, enum config_type type, const char *text, char *why)
{
    char shown[64];

    if (r == 0)
        return 0;
    config_show_text(text, shown, sizeof(shown));
    if (type == CONFIG_PREFIX && strchr(text, '/'))
        return refuse(why, "\"%s\" is no prefix (or has bits behind its length)", shown);
    if (type == CONFIG_PORT_RANGE)
        return refuse(why, "\"%s\" is no port or port range within 1-65535", shown);
    return refuse(why, "\"%s\" is no %s", shown,
                  type == CONFIG_PREFIX ? "address or prefix" : "IP address");
}

int config_value_parse(const struct config_option *option, enum config_type type, bool limited,
                       const char *text, void *out, char *why)
{
    char shown[64];

    if (option->check && !option->check(text, why, CONFIG_WHY_MAX))
        return -EINVAL;
    switch (type) {
    case CONFIG_BOOL:
        if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0) {
            config_show_text(text, shown, sizeof(shown));
            return refuse(why, "\"%s\" is neither true nor false", shown);
        }
        *(bool *)out = text[0] == 't';
        return 0;
    case CONFIG_UINT:
    case CONFIG_DURATION:
    case CONFIG_SIZE:
    case CONFIG_RATE:
        return parse_number(option, type, limited, text, out, why);
    case CONFIG_ENUM:
        return parse_enum(option, text, out, why);
    case CONFIG_STRING:
        return parse_string(option, limited, text, out, why);
    case CONFIG_ADDRESS:
        return explain(ip_address_parse(text, out), type, text, why);
    case CONFIG_PREFIX:
        return explain(ip_prefix_parse(text, out), type, text, why);
    case CONFIG_PORT_RANGE:
        return explain(port_range_parse(text, out), type, text, why);
    case CONFIG_SECTION:
    case CONFIG_LIST:
    case CONFIG_RECORDS:
    case CONFIG_PAIRS:
        break;
    }
    return refuse(why, "a single value cannot be a %s", config_type_name(type));
}

/* Always in double quotes, so that no text can be taken for something else. */
static void print_string(const char *text, FILE *to)
{
    size_t left = strlen(text);

    fputc('"', to);
    while (left > 0) {
        uint32_t code;
        size_t length = utf8_next(text, left, &code), step = length ? length : 1;

        if (length == 0)
            fputs("\\uFFFD", to); /* cannot come from the loader */
        else if (code == '"' || code == '\\')
            fprintf(to, "\\%c", (int)code);
        else if (utf8_is_unsafe(code) || code == 0xfffe || code == 0xffff)
            fprintf(to, "\\u%04X", code);
        else
            fwrite(text, 1, length, to);
        text += step;
        left -= step;
    }
    fputc('"', to);
}

static void print_enum(const struct config_option *option, int value, FILE *to)
{
    for (const struct config_keyword *keyword = option->values; keyword->text; keyword++)
        if (keyword->value == value) {
            fputs(keyword->text, to);
            return;
        }
    fputs("null", to); /* a value that the schema has no word for */
}

void config_value_print(const struct config_option *option, enum config_type type,
                        const void *value, FILE *to)
{
    const struct port_range *range = value;
    const char *string;
    char text[ENDPOINT_TEXT_MAX + 8];

    switch (type) {
    case CONFIG_BOOL:
        fputs(*(const bool *)value ? "true" : "false", to);
        break;
    case CONFIG_UINT:
    case CONFIG_DURATION:
    case CONFIG_SIZE:
    case CONFIG_RATE:
        format_number(type, *(const uint64_t *)value, text, sizeof(text));
        fputs(text, to);
        break;
    case CONFIG_ENUM:
        print_enum(option, *(const int *)value, to);
        break;
    case CONFIG_STRING:
        string = *(char *const *)value;
        if (string)
            print_string(string, to);
        else
            fputs("null", to);
        break;
    case CONFIG_ADDRESS:
        if (((const struct ip_address *)value)->family == IP_NONE)
            fputs("null", to);
        else
            fprintf(to, "\"%s\"", ip_address_format(value, text, sizeof(text)));
        break;
    case CONFIG_PREFIX:
        if (((const struct ip_prefix *)value)->address.family == IP_NONE)
            fputs("null", to);
        else
            fprintf(to, "\"%s\"", ip_prefix_format(value, text, sizeof(text)));
        break;
    case CONFIG_PORT_RANGE:
        if (range->first == 0)
            fputs("null", to);
        else if (range->first == range->last)
            fprintf(to, "%u", range->first);
        else
            fprintf(to, "%u-%u", range->first, range->last);
        break;
    case CONFIG_SECTION:
    case CONFIG_LIST:
    case CONFIG_RECORDS:
    case CONFIG_PAIRS:
        break;
    }
}
