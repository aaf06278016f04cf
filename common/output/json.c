/*
 * JSON, streamed: jansson writes the values, the array and the objects are our own, so that a
 * table of a million records takes the memory of one value.
 */
#include <errno.h>
#include <stdlib.h>

#include "common/output/writer.h"

static void json_begin(struct output *output)
{
    if (!output->single)
        fputc('[', output->to);
}

static void json_record(struct output *output)
{
    if (!output->single)
        fputs(output->records > 0 ? ",\n" : "\n", output->to);
    fputc('{', output->to);
}

static void print(struct output *output, json_t *value)
{
    if (json_dumpf(value, output->to, JSON_ENCODE_ANY | JSON_COMPACT | JSON_ENSURE_ASCII) < 0)
        output_fail(output, ferror(output->to) ? -EIO : -ENOMEM);
}

static void print_key(struct output *output, const char *key)
{
    json_t *value = json_string(key);

    if (output->fields > 0)
        fputc(',', output->to);
    if (value)
        print(output, value);
    else
        output_fail(output, -ENOMEM);
    json_decref(value);
    fputc(':', output->to);
}

static void json_value(struct output *output, const char *key, const char *text, json_t *value)
{
    (void)text;
    print_key(output, key);
    if (value)
        print(output, value);
    else
        fputs("null", output->to);
}

static void json_nested_begin(struct output *output, const char *key)
{
    print_key(output, key);
    fputc('{', output->to);
}

static void json_close(struct output *output)
{
    fputc('}', output->to);
}

static void json_end(struct output *output)
{
    if (output->single)
        fputs(output->records > 0 ? "\n" : "null\n", output->to);
    else
        fputs(output->records > 0 ? "\n]\n" : "]\n", output->to);
}

const struct output_writer output_json_writer = {
    .begin = json_begin,
    .record = json_record,
    .value = json_value,
    .nested_begin = json_nested_begin,
    .nested_end = json_close,
    .record_end = json_close,
    .end = json_end,
    .for_programs = true,
};
