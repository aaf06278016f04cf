/*
 * Records to a person or a program: the same calls write a table, lines or JSON, so that the
 * formats cannot diverge.
 *
 *     output_begin(out, columns, n);
 *     for each record:
 *         output_record(out); output_string(out, "key", …); …; output_record_end(out);
 *     output_end(out);
 *
 * JSON streams (an array of objects, one at a time); tables are collected for their widths, up to
 * OUTPUT_TABLE_MAX rows at a time. Values may come from strangers: whatever would act on a terminal
 * is escaped. Errors are remembered and returned by output_end().
 */
#ifndef SOCKST_COMMON_OUTPUT_OUTPUT_H
#define SOCKST_COMMON_OUTPUT_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "proto/endpoint.h"

enum output_format {
    OUTPUT_TABLE,
    OUTPUT_JSON,
    OUTPUT_LINES, /* "key: value" a line, an empty line between records: for `show` */
};

#define OUTPUT_TABLE_MAX 10000
#define OUTPUT_COLUMNS_MAX 64

struct output;

struct output_column {
    const char *key;
    bool right;     /* numbers stand at the right */
    bool json_only; /* not shown in tables */
};

/*
 * `to` is borrowed. With `single` JSON is one object (null when there was no record), not an array.
 * Returns NULL when out of memory.
 */
struct output *output_new(enum output_format format, FILE *to, bool single);

/*
 * Begins the records. `columns` is borrowed until output_end(); at most OUTPUT_COLUMNS_MAX. A table
 * shows the columns in their order and nothing else; the other formats show what is written.
 */
void output_begin(struct output *output, const struct output_column *columns, size_t count);

void output_record(struct output *output);
void output_string(struct output *output, const char *key,
                   const char *value); /* NULL: JSON null, otherwise "-" */
void output_uint(struct output *output, const char *key, uint64_t value);
void output_bool(struct output *output, const char *key, bool value); /* people see yes and no */
/* "address:port", IPv6 in brackets; IP_NONE: JSON null, otherwise "-". */
void output_endpoint(struct output *output, const char *key, const struct endpoint *value);
/* Milliseconds: a number in JSON, "1h02m" for people. */
void output_duration(struct output *output, const char *key, uint64_t value_ms);
/* Octets: a number in JSON, "1.2 GiB" for people. */
void output_size(struct output *output, const char *key, uint64_t octets);
/* An array in JSON, "a, b" for people; NULL with a count of 0 is the empty list. */
void output_strings(struct output *output, const char *key, const char *const *values,
                    size_t count);
/* A nested object; "key.name: value" in lines; not in tables. Not nested any deeper. */
void output_counters_begin(struct output *output, const char *key);
void output_counters_end(struct output *output);
void output_record_end(struct output *output);

/* Flushes. Returns 0, -EIO if writing failed, or -ENOMEM. */
int output_end(struct output *output);

/* NULL is allowed. */
void output_free(struct output *output);

#endif
