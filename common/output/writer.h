/*
 * What a format has to do for output.c: one value at a time, with a text for people and a JSON
 * value for programs. Internal to common/output.
 */
#ifndef SOCKST_COMMON_OUTPUT_WRITER_H
#define SOCKST_COMMON_OUTPUT_WRITER_H

#include <jansson.h>

#include "common/output/output.h"

struct output_writer {
    void (*begin)(struct output *output);
    void (*record)(struct output *output);
    /*
     * `text` and `value` say the same; a format uses one of them. `value` is borrowed, and NULL
     * when there was no memory for it.
     */
    void (*value)(struct output *output, const char *key, const char *text, json_t *value);
    void (*nested_begin)(struct output *output, const char *key);
    void (*nested_end)(struct output *output);
    void (*record_end)(struct output *output);
    void (*end)(struct output *output);
    bool for_programs; /* uses `value`, otherwise `text` */
};

struct output {
    const struct output_writer *writer;
    FILE *to;
    bool single;
    int error; /* the first -errno */
    const struct output_column *columns;
    size_t column_count;
    uint64_t records;
    size_t fields;      /* of the record, or of the nested object */
    const char *nested; /* key of the open nested object */
    struct libscols_table *table;
    struct libscols_line *line;
    size_t table_rows;
    bool heading_shown;
};

extern const struct output_writer output_json_writer, output_table_writer, output_lines_writer;

/* Remembers the first error. */
void output_fail(struct output *output, int error);

/*
 * Prints with everything that would act on a terminal as \xHH. Strangers choose names.
 */
void output_print_safe(struct output *output, const char *text);

#endif
