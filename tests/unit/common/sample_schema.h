/*
 * A schema with every type, every flag and every nesting, for the tests and the fuzz harness of the
 * configuration.
 */
#ifndef SOCKST_TESTS_UNIT_COMMON_SAMPLE_SCHEMA_H
#define SOCKST_TESTS_UNIT_COMMON_SAMPLE_SCHEMA_H

#include <stddef.h>
#include <string.h>

#include "common/config/schema.h"

enum sample_color { SAMPLE_RED, SAMPLE_GREEN = 5, SAMPLE_BLUE = 9 };

struct sample_listen {
    struct config_origin origin;
    struct ip_address address;
    uint64_t port;
    struct {
        char *certificate;
        char *key;
    } tls;
};

struct sample_rule {
    int action; /* no origin: the first option lies here */
    struct config_list from, users, ports, colors;
    struct config_list nested; /* struct sample_nested */
};

struct sample_nested {
    struct config_origin origin;
    char *name;
};

struct sample {
    bool on, off;
    uint64_t number, wide, limited, delay, room, speed;
    int color;
    char *name, *nothing, *bounded;
    struct ip_address address;
    struct ip_prefix prefix;
    struct port_range range;
    struct {
        struct config_list words, automatic, delays, two;
        struct {
            uint64_t deep;
        } inner;
    } section;
    struct config_list listen, rules, pairs;
};

static inline bool sample_even(const char *text, char *why, size_t size)
{
    if (text[0] != '\0' && strchr("02468", text[strlen(text) - 1]))
        return true;
    snprintf(why, size, "%.20s is odd", text);
    return false;
}

static const struct config_keyword sample_colors[] = {
    {"red", SAMPLE_RED}, {"green", SAMPLE_GREEN}, {"blue", SAMPLE_BLUE}, {NULL, 0}};

static const struct config_option sample_tls[] = {
    {.name = "certificate",
     .type = CONFIG_STRING,
     .offset = offsetof(struct sample_listen, tls.certificate),
     .help = "Certificate."},
    {.name = "key",
     .type = CONFIG_STRING,
     .offset = offsetof(struct sample_listen, tls.key),
     .help = "Key."},
    {0},
};

static const struct config_option sample_listen_options[] = {
    {.name = "address",
     .type = CONFIG_ADDRESS,
     .offset = offsetof(struct sample_listen, address),
     .flags = CONFIG_REQUIRED,
     .help = "Where to listen."},
    {.name = "port",
     .type = CONFIG_UINT,
     .offset = offsetof(struct sample_listen, port),
     .min = 1,
     .max = 65535,
     .standard = "1080",
     .help = "Port."},
    {.name = "tls", .type = CONFIG_SECTION, .children = sample_tls, .help = "TLS."},
    {0},
};

static const struct config_option sample_nested_options[] = {
    {.name = "name",
     .type = CONFIG_STRING,
     .offset = offsetof(struct sample_nested, name),
     .standard = "nobody",
     .help = "Name."},
    {0},
};

static const struct config_option sample_rule_options[] = {
    {.name = "action",
     .type = CONFIG_ENUM,
     .offset = offsetof(struct sample_rule, action),
     .values = sample_colors,
     .flags = CONFIG_REQUIRED,
     .help = "Action."},
    {.name = "from",
     .type = CONFIG_LIST,
     .element = CONFIG_PREFIX,
     .offset = offsetof(struct sample_rule, from),
     .standard = "[0.0.0.0/0, \"::/0\"]",
     .help = "From."},
    {.name = "users",
     .type = CONFIG_LIST,
     .element = CONFIG_STRING,
     .offset = offsetof(struct sample_rule, users),
     .help = "Users."},
    {.name = "ports",
     .type = CONFIG_LIST,
     .element = CONFIG_PORT_RANGE,
     .offset = offsetof(struct sample_rule, ports),
     .standard = "1-65535",
     .help = "Ports."},
    {.name = "colors",
     .type = CONFIG_LIST,
     .element = CONFIG_ENUM,
     .values = sample_colors,
     .offset = offsetof(struct sample_rule, colors),
     .help = "Colors."},
    {.name = "nested",
     .type = CONFIG_RECORDS,
     .offset = offsetof(struct sample_rule, nested),
     .children = sample_nested_options,
     .record_size = sizeof(struct sample_nested),
     .help = "Nested records."},
    {0},
};

static const struct config_option sample_inner[] = {
    {.name = "deep",
     .type = CONFIG_UINT,
     .offset = offsetof(struct sample, section.inner.deep),
     .standard = "7",
     .help = "Deep."},
    {0},
};

static const struct config_option sample_section[] = {
    {.name = "words",
     .type = CONFIG_LIST,
     .element = CONFIG_STRING,
     .offset = offsetof(struct sample, section.words),
     .standard = "[tcp, udp]",
     .help = "Words."},
    {.name = "automatic",
     .type = CONFIG_LIST,
     .element = CONFIG_ADDRESS,
     .offset = offsetof(struct sample, section.automatic),
     .standard = "auto",
     .flags = CONFIG_AUTO,
     .help = "Addresses."},
    {.name = "delays",
     .type = CONFIG_LIST,
     .element = CONFIG_DURATION,
     .offset = offsetof(struct sample, section.delays),
     .help = "Delays."},
    {.name = "two",
     .type = CONFIG_LIST,
     .element = CONFIG_UINT,
     .offset = offsetof(struct sample, section.two),
     .min = 1,
     .max = 2,
     .standard = "[4]",
     .check = sample_even,
     .help = "One or two even numbers."},
    {.name = "inner", .type = CONFIG_SECTION, .children = sample_inner, .help = "Inner."},
    {0},
};

static const struct config_option sample_schema[] = {
    {.name = "on",
     .type = CONFIG_BOOL,
     .offset = offsetof(struct sample, on),
     .standard = "true",
     .flags = CONFIG_RELOADABLE,
     .help = "On by default."},
    {.name = "off", .type = CONFIG_BOOL, .offset = offsetof(struct sample, off), .help = "Off."},
    {.name = "number",
     .type = CONFIG_UINT,
     .offset = offsetof(struct sample, number),
     .standard = "42",
     .help = "Number."},
    {.name = "wide",
     .type = CONFIG_UINT,
     .offset = offsetof(struct sample, wide),
     .help = "Any number."},
    {.name = "limited",
     .type = CONFIG_UINT,
     .offset = offsetof(struct sample, limited),
     .min = 10,
     .max = 20,
     .standard = "10",
     .check = sample_even,
     .help = "An even number."},
    {.name = "delay",
     .type = CONFIG_DURATION,
     .offset = offsetof(struct sample, delay),
     .standard = "10s",
     .max = 3600000,
     .help = "Delay."},
    {.name = "room",
     .type = CONFIG_SIZE,
     .offset = offsetof(struct sample, room),
     .standard = "64KiB",
     .help = "Room."},
    {.name = "speed",
     .type = CONFIG_RATE,
     .offset = offsetof(struct sample, speed),
     .standard = "10Mbit",
     .help = "Speed."},
    {.name = "color",
     .type = CONFIG_ENUM,
     .offset = offsetof(struct sample, color),
     .values = sample_colors,
     .standard = "green",
     .help = "Color."},
    {.name = "name",
     .type = CONFIG_STRING,
     .offset = offsetof(struct sample, name),
     .standard = "anna",
     .help = "Name."},
    {.name = "nothing",
     .type = CONFIG_STRING,
     .offset = offsetof(struct sample, nothing),
     .help = "Nothing."},
    {.name = "bounded",
     .type = CONFIG_STRING,
     .offset = offsetof(struct sample, bounded),
     .min = 1,
     .max = 8,
     .standard = "x",
     .help = "One to eight octets."},
    {.name = "address",
     .type = CONFIG_ADDRESS,
     .offset = offsetof(struct sample, address),
     .standard = "127.0.0.1",
     .help = "Address."},
    {.name = "prefix",
     .type = CONFIG_PREFIX,
     .offset = offsetof(struct sample, prefix),
     .help = "Prefix."},
    {.name = "range",
     .type = CONFIG_PORT_RANGE,
     .offset = offsetof(struct sample, range),
     .standard = "20000-59999",
     .help = "Ports."},
    {.name = "section", .type = CONFIG_SECTION, .children = sample_section, .help = "Section."},
    {.name = "listen",
     .type = CONFIG_RECORDS,
     .offset = offsetof(struct sample, listen),
     .children = sample_listen_options,
     .record_size = sizeof(struct sample_listen),
     .help = "Listeners."},
    {.name = "rules",
     .type = CONFIG_RECORDS,
     .offset = offsetof(struct sample, rules),
     .children = sample_rule_options,
     .record_size = sizeof(struct sample_rule),
     .help = "Rules."},
    {.name = "pairs",
     .type = CONFIG_PAIRS,
     .offset = offsetof(struct sample, pairs),
     .help = "Private and public addresses."},
    {0},
};

#endif
