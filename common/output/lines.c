/*
 * "key: value" lines, for one record or a few.
 */
#include "common/output/writer.h"

static void nothing(struct output *output)
{
    (void)output;
}

static void lines_record(struct output *output)
{
    if (output->records > 0)
        fputc('\n', output->to);
}

static void lines_value(struct output *output, const char *key, const char *text, json_t *value)
{
    (void)value;
    if (output->nested)
        fprintf(output->to, "%s.", output->nested);
    fprintf(output->to, "%s: ", key);
    output_print_safe(output, text);
    fputc('\n', output->to);
}

static void lines_nested_begin(struct output *output, const char *key)
{
    (void)output;
    (void)key;
}

const struct output_writer output_lines_writer = {
    .begin = nothing,
    .record = lines_record,
    .value = lines_value,
    .nested_begin = lines_nested_begin,
    .nested_end = nothing,
    .record_end = nothing,
    .end = nothing,
};
