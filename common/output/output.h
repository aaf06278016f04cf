/*
 * Records to a person or a program: the same calls write a table, or JSON. The formats cannot diverge.
 *
 *     output_begin(out, columns, n);   for each record: output_record(out); output_…(out, "key", …)…; output_record_end(out);   output_end(out);
 *
 * JSON streams (an array of objects, one at a time); tables are collected for their widths, up to OUTPUT_TABLE_MAX rows at a time.
 */
#ifndef SOCKST_COMMON_OUTPUT_OUTPUT_H
#define SOCKST_COMMON_OUTPUT_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "proto/endpoint.h"

enum output_format { OUTPUT_TABLE, OUTPUT_JSON, OUTPUT_LINES /* "key: value" a line, an empty line between records: for `show` */ };

#define OUTPUT_TABLE_MAX 10000

struct output;

struct output_column {
    const char *key;
    bool right; /* numbers stand at the right */
    bool json_only; /* not shown in tables */
};

/* `to` is borrowed. With `single` JSON is one object, not an array. Returns NULL when out of memory. */
struct output *output_new(enum output_format format, FILE *to, bool single);
void output_begin(struct output *output, const struct output_column *columns, size_t count);
void output_record(struct output *output);
void output_string(struct output *output, const char *key, const char *value); /* NULL: JSON null, "-" */
void output_uint(struct output *output, const char *key, uint64_t value);
void output_bool(struct output *output, const char *key, bool value);
void output_endpoint(struct output *output, const char *key, const struct endpoint *value);
/* Milliseconds: a number in JSON, "1h02m" in tables. */
void output_duration(struct output *output, const char *key, uint64_t value_ms);
/* Octets: a number in JSON, "1.2 GiB" in tables. */
void output_size(struct output *output, const char *key, uint64_t octets);
void output_strings(struct output *output, const char *key, const char *const *values, size_t count);
void output_counters_begin(struct output *output, const char *key); /* a nested object of numbers */
void output_counters_end(struct output *output);
void output_record_end(struct output *output);
/* Flushes. Returns 0, or -EIO if writing failed. */
int output_end(struct output *output);
void output_free(struct output *output);

#endif
