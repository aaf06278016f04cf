/*
 * Configuration: one row per option. The YAML loader, --print-config, --help-config, the manual and
 * the tests all follow from the rows; a further option is a further row and a member of the struct.
 *
 * The loader fills a plain struct of the daemon through the offsets. Memory for strings and lists
 * belongs to the configuration and goes with config_free(). Unknown keys, duplicate keys, values of
 * the wrong kind, trailing junk ("1080abc"), octal-looking numbers ("010"), values out of range,
 * anchors, aliases, tags, directives, several documents, NUL and octets that are no UTF-8 are
 * errors with file:line:column. Size and depth are limited, so that hostile input is refused in
 * milliseconds.
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
#define CONFIG_DEPTH_MAX 16               /* collections within collections */
#define CONFIG_OPTIONS_MAX 64             /* rows of one table */
#define CONFIG_LIST_MAX 65536             /* items, unless the row says less */
#define CONFIG_PAIRS_MAX 4096             /* likewise */
#define CONFIG_STRING_MAX 4096            /* octets, unless the row says otherwise */

enum config_type {
    CONFIG_BOOL,       /* bool; only true and false */
    CONFIG_UINT,       /* uint64_t, min … max; plain decimal */
    CONFIG_DURATION,   /* uint64_t milliseconds: 500ms, 10s, 5m, 2h; a bare 0 */
    CONFIG_SIZE,       /* uint64_t octets: 0, 512, 64KiB, 4MiB, 1GiB */
    CONFIG_RATE,       /* uint64_t bits per second: 500bit, 800kbit, 10Mbit, 1Gbit; a bare 0 */
    CONFIG_ENUM,       /* int, one of `values` */
    CONFIG_STRING,     /* char *; `null` gives NULL where the default is NULL, else an error */
    CONFIG_ADDRESS,    /* struct ip_address */
    CONFIG_PREFIX,     /* struct ip_prefix */
    CONFIG_PORT_RANGE, /* struct port_range: 80 or 1-65535 */
    CONFIG_SECTION,    /* a mapping; `children` with offsets into the same struct as this row's */
    CONFIG_LIST,       /* struct config_list of `element`, a type above; a single value stands for
                          a list of one */
    CONFIG_RECORDS,    /* struct config_list of structs: a sequence of mappings described by
                          `children` (offsets into the record) */
    CONFIG_PAIRS,      /* struct config_list of struct config_address_pair: a mapping
                          address: address */
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
    const char *name; /* lower case and '-'; NULL ends the table */
    enum config_type type;
    enum config_type element; /* CONFIG_LIST */
    size_t offset;            /* into the struct (or the record); not used by CONFIG_SECTION */
    /*
     * Of the number, the octets of a string, or the items of a list. A max of 0 means the type's
     * own maximum: UINT64_MAX (other numbers with a unit: INT64_MAX), CONFIG_STRING_MAX, …
     */
    uint64_t min, max;
    /*
     * Default, written as in YAML ("10s", "[tcp, udp]", "auto"); NULL: zero, false, NULL, the
     * empty list. An enum without one takes the value 0.
     */
    const char *standard;
    const struct config_keyword *values;  /* CONFIG_ENUM, or a list of it */
    const struct config_option *children; /* CONFIG_SECTION, CONFIG_RECORDS */
    size_t record_size;                   /* CONFIG_RECORDS */
    /*
     * Further judgement of one scalar's text (of a list: of each item's), or NULL. Returns false
     * and writes why not (without file and line: "no such protocol").
     */
    bool (*check)(const char *text, char *why, size_t size);
    unsigned flags;   /* enum config_flag */
    const char *help; /* one sentence, for --help-config and the manual */
};

struct config_error {
    char text[512]; /* "relayd.yaml:14:9: bind.ports: 70000 is above 65535" */
};

/*
 * Where an item of a list of records began (from 1), for errors found later across options. The
 * loader stores it at the start of every record none of whose options lies there: let it be the
 * first member of the struct.
 */
struct config_origin {
    uint32_t line, column;
};

/*
 * Loads from a file ("-": standard input) or from text (which need not be terminated). *config (of
 * config_size octets, zeroed by the call) is filled with the input, and the defaults for what it
 * does not name. An empty file is all defaults. Returns 0; or -EINVAL, -EFBIG, -ENOMEM, -ENOENT, …
 * with error->text set and *config zeroed (nothing to free).
 */
int config_load_file(const struct config_option *schema, void *config, size_t config_size,
                     const char *path, struct config_error *error);
int config_load_text(const struct config_option *schema, void *config, size_t config_size,
                     const char *name, const char *text, size_t length, struct config_error *error);

/* Writes the configuration as YAML that loads to the same values. */
void config_print(const struct config_option *schema, const void *config, FILE *to);

/* One paragraph per option: name, type, range, default, whether a reload suffices, help. */
void config_help(const struct config_option *schema, FILE *to);

/* Releases what loading allocated and zeroes those members. Idempotent. */
void config_free(const struct config_option *schema, void *config);

/*
 * Is the schema itself sound? Every row has a well-formed name that is unique in its table, help,
 * what its type needs, and a default that loads. For tests: returns false and writes what is wrong.
 */
bool config_schema_check(const struct config_option *schema, char *why, size_t size);

#endif
