/*
 * Configuration: one row per option. The YAML loader, --print-config, --help-config, the manual and the tests all follow from the rows; a
 * further option is a further row and a member of the struct.
 *
 * The loader fills a plain struct of the daemon through the offsets. Memory for strings and lists belongs to the
 * configuration and goes with config_free(). Unknown keys, duplicate keys, values of the wrong kind, trailing junk ("1080abc"), octal-looking numbers, values
 * out of range, anchors, aliases, tags and several documents are errors with file:line:column. Input is limited in size and depth before libyaml sees it all.
 */
#ifndef SOCKST_COMMON_CONFIG_SCHEMA_H
#define SOCKST_COMMON_CONFIG_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/net/prefix.h"
#include "proto/endpoint.h"

#define CONFIG_SIZE_MAX (4 * 1024 * 1024) /* octets of a file */
#define CONFIG_DEPTH_MAX 16

enum config_type {
    CONFIG_BOOL,       /* bool; only true and false */
    CONFIG_UINT,       /* uint64_t, min … max */
    CONFIG_DURATION,   /* uint64_t milliseconds: 500ms, 10s, 5m, 2h; a bare 0 */
    CONFIG_SIZE,       /* uint64_t octets: 0, 512, 64KiB, 4MiB, 1GiB */
    CONFIG_RATE,       /* uint64_t bits per second: 0, 800kbit, 10Mbit, 1Gbit */
    CONFIG_ENUM,       /* int, one of `values` */
    CONFIG_STRING,     /* char *; never NULL after loading unless the default is NULL; `null` gives NULL */
    CONFIG_ADDRESS,    /* struct ip_address */
    CONFIG_PREFIX,     /* struct ip_prefix */
    CONFIG_PORT_RANGE, /* struct port_range: 80 or 1-65535 */
    CONFIG_SECTION,    /* a mapping; `children` with offsets into the same struct as the parent row */
    CONFIG_LIST,       /* struct config_list of `element` type; a single value stands for a list of one */
    CONFIG_RECORDS,    /* struct config_list of structs: a sequence of mappings described by `children` (offsets into the record) */
    CONFIG_PAIRS,      /* struct config_list of struct config_address_pair: a mapping address: address */
};

struct config_list {
    void *items; /* array of the element's C type; NULL when count is 0 */
    size_t count;
};

struct config_address_pair {
    struct ip_address key, value;
};

struct config_keyword {
    const char *text; /* NULL ends the table */
    int value;
};

enum config_flag {
    CONFIG_REQUIRED = 1,   /* must be given (in a record) */
    CONFIG_RELOADABLE = 2, /* takes effect on SIGHUP; others need a restart, and a reload says so */
    CONFIG_AUTO = 4,       /* for lists: the word `auto` gives the empty list */
};

struct config_option {
    const char *name; /* NULL ends the table */
    enum config_type type;
    enum config_type element; /* CONFIG_LIST */
    size_t offset;            /* into the struct (or the record) */
    uint64_t min, max;        /* of the number, the octets of a string, or the items of a list; max 0: the type's own maximum, lists 65536, strings 4096 */
    const char *standard;     /* default, written as in YAML ("10s", "[tcp, udp]", "auto"); NULL: zero, false, NULL, the empty list */
    const struct config_keyword *values;  /* CONFIG_ENUM, or a list of it */
    const struct config_option *children; /* CONFIG_SECTION, CONFIG_RECORDS */
    size_t record_size;                   /* CONFIG_RECORDS */
    /* Further judgement of one scalar's text, or NULL. Writes why not (without file and line) and returns false. */
    bool (*check)(const char *text, char *why, size_t size);
    unsigned flags;   /* enum config_flag */
    const char *help; /* one sentence, for --help-config and the manual */
};

struct config_error {
    char text[512]; /* "relayd.yaml:14:9: bind.ports: 70000 is above 65535" */
};

/*
 * Loads from a file ("-": standard input) or from text. *config (of config_size octets, zeroed by the call) is filled with the defaults and then the
 * input. Returns 0; or -EINVAL, -EFBIG, -ENOENT, … with error->text set and *config empty (nothing to free).
 */
int config_load_file(const struct config_option *schema, void *config, size_t config_size, const char *path,
                     struct config_error *error);
int config_load_text(const struct config_option *schema, void *config, size_t config_size, const char *name,
                     const char *text, size_t length, struct config_error *error);

/* Where an item of a list of records began ("line:column"), for errors found later across options: the loader stores it when a record has
 * this as its first member. */
struct config_origin {
    uint32_t line, column;
};

/* Writes the configuration as YAML that loads to the same values. */
void config_print(const struct config_option *schema, const void *config, FILE *to);
/* One paragraph per option: name, type, range, default, help. */
void config_help(const struct config_option *schema, FILE *to);
/* Releases what loading allocated. Idempotent. */
void config_free(const struct config_option *schema, void *config);

#endif
