/*
 * Tables by libsmartcols, which escapes what would act on a terminal.
 */
#include <errno.h>
#include <libsmartcols/libsmartcols.h>
#include <string.h>

#include "common/output/writer.h"

static int add_columns(struct output *output, struct libscols_table *table)
{
    for (size_t i = 0; i < output->column_count; i++) {
        const struct output_column *column = &output->columns[i];
        int flags = column->right ? SCOLS_FL_RIGHT : 0;

        if (!column->json_only && !scols_table_new_column(table, column->key, 0, flags))
            return -ENOMEM;
    }
    return 0;
}

static void table_begin(struct output *output)
{
    struct libscols_table *table = scols_new_table();

    if (!table || scols_table_set_stream(table, output->to) < 0 || add_columns(output, table) < 0) {
        output_fail(output, -ENOMEM);
        scols_unref_table(table);
        return;
    }
    scols_table_enable_noheadings(table, output->heading_shown);
    output->table = table;
    output->table_rows = 0;
}

static void print_table(struct output *output)
{
    if (!output->table)
        return;
    if (scols_print_table(output->table) < 0)
        output_fail(output, ferror(output->to) ? -EIO : -ENOMEM);
    scols_unref_table(output->table);
    output->table = NULL;
    output->line = NULL;
    output->heading_shown = true;
}

static void table_record(struct output *output)
{
    if (output->table && output->table_rows == OUTPUT_TABLE_MAX) {
        print_table(output);
        fputc('\n', output->to);
        table_begin(output);
    }
    output->line = NULL;
    if (!output->table)
        return;
    output->line = scols_table_new_line(output->table, NULL);
    if (!output->line)
        output_fail(output, -ENOMEM);
    output->table_rows++;
}

static void table_value(struct output *output, const char *key, const char *text, json_t *value)
{
    size_t shown = 0;

    (void)value;
    if (!output->line || output->nested)
        return;
    for (size_t i = 0; i < output->column_count; i++) {
        if (output->columns[i].json_only)
            continue;
        if (strcmp(output->columns[i].key, key) == 0) {
            if (scols_line_set_data(output->line, shown, text) < 0)
                output_fail(output, -ENOMEM);
            return;
        }
        shown++;
    }
}

static void nested_begin(struct output *output, const char *key)
{
    (void)output;
    (void)key;
}

static void nothing(struct output *output)
{
    (void)output;
}

static void table_end(struct output *output)
{
    bool empty = output->table && output->table_rows == 0;

    /* libsmartcols prints no heading for an empty table. */
    if (empty && !output->heading_shown) {
        const char *between = "";

        for (size_t i = 0; i < output->column_count; i++) {
            if (output->columns[i].json_only)
                continue;
            fprintf(output->to, "%s%s", between, output->columns[i].key);
            between = " ";
        }
        fputc('\n', output->to);
    }
    print_table(output);
}

const struct output_writer output_table_writer = {
    .begin = table_begin,
    .record = table_record,
    .value = table_value,
    .nested_begin = nested_begin,
    .nested_end = nothing,
    .record_end = nothing,
    .end = table_end,
};
