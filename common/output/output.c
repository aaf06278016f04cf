#include "common/output/output.h"

#include <errno.h>
#include <inttypes.h>
#include <libsmartcols/libsmartcols.h>
#include <stdlib.h>
#include <string.h>

#include "common/log/utf8.h"
#include "common/output/writer.h"

#define VALUE_TEXT_SIZE 96
#define LIST_TEXT_MAX 4096 /* octets of a list shown to people */

struct output *output_new(enum output_format format, FILE *to, bool single)
{
    static const struct output_writer *const writers[] = {
        [OUTPUT_TABLE] = &output_table_writer,
        [OUTPUT_JSON] = &output_json_writer,
        [OUTPUT_LINES] = &output_lines_writer,
    };
    struct output *output = calloc(1, sizeof(*output));

    if (!output)
        return NULL;
    output->writer = writers[format];
    output->to = to;
    output->single = single;
    return output;
}

void output_fail(struct output *output, int error)
{
    if (output->error == 0)
        output->error = error;
}

void output_print_safe(struct output *output, const char *text)
{
    size_t left = strlen(text);

    while (left > 0) {
        uint32_t code;
        size_t length = utf8_next(text, left, &code), step = length ? length : 1;

        if (length > 0 && !utf8_is_unsafe(code))
            fwrite(text, 1, length, output->to);
        else
            for (size_t i = 0; i < step; i++)
                fprintf(output->to, "\\x%02x", (unsigned)(uint8_t)text[i]);
        text += step;
        left -= step;
    }
}

void output_begin(struct output *output, const struct output_column *columns, size_t count)
{
    output->columns = columns;
    output->column_count = count < OUTPUT_COLUMNS_MAX ? count : OUTPUT_COLUMNS_MAX;
    output->records = 0;
    output->heading_shown = false;
    output->writer->begin(output);
}

void output_record(struct output *output)
{
    output->fields = 0;
    output->nested = NULL;
    output->writer->record(output);
    output->records++;
}

/* Consumes `value`. */
static void write_value(struct output *output, const char *key, const char *text, json_t *value)
{
    if (output->writer->for_programs && !value)
        output_fail(output, -ENOMEM);
    output->writer->value(output, key, text, value);
    output->fields++;
    json_decref(value);
}

/* JSON text must be UTF-8: an octet that is none becomes U+FFFD. */
static json_t *json_from_text(const char *text)
{
    static const char replacement[] = "\xef\xbf\xbd";
    size_t left = strlen(text), used = 0;
    char *clean;
    json_t *value = json_stringn(text, left);

    if (value)
        return value;
    clean = calloc(left + 1, sizeof(replacement) - 1);
    if (!clean)
        return NULL;
    while (left > 0) {
        uint32_t code;
        size_t length = utf8_next(text, left, &code), step = length ? length : 1;

        if (length > 0)
            memcpy(clean + used, text, length);
        else
            memcpy(clean + used, replacement, sizeof(replacement) - 1);
        used += length ? length : sizeof(replacement) - 1;
        text += step;
        left -= step;
    }
    value = json_stringn(clean, used);
    free(clean);
    return value;
}

static json_t *json_for(const struct output *output, const char *text)
{
    if (!output->writer->for_programs)
        return NULL;
    return text ? json_from_text(text) : json_null();
}

/* JSON's integers here are signed; a counter that has passed them is written as a real. */
static json_t *json_from_uint(const struct output *output, uint64_t number)
{
    if (!output->writer->for_programs)
        return NULL;
    return number <= INT64_MAX ? json_integer((json_int_t)number) : json_real((double)number);
}

void output_string(struct output *output, const char *key, const char *value)
{
    write_value(output, key, value ? value : "-", json_for(output, value));
}

void output_uint(struct output *output, const char *key, uint64_t value)
{
    char text[VALUE_TEXT_SIZE];

    snprintf(text, sizeof(text), "%" PRIu64, value);
    write_value(output, key, text, json_from_uint(output, value));
}

void output_bool(struct output *output, const char *key, bool value)
{
    write_value(output, key, value ? "yes" : "no",
                output->writer->for_programs ? json_boolean(value) : NULL);
}

void output_endpoint(struct output *output, const char *key, const struct endpoint *value)
{
    char text[ENDPOINT_TEXT_MAX];

    if (!value || value->address.family == IP_NONE) {
        output_string(output, key, NULL);
        return;
    }
    output_string(output, key, endpoint_format(value, text, sizeof(text)));
}

void output_duration(struct output *output, const char *key, uint64_t value_ms)
{
    uint64_t seconds = value_ms / 1000;
    char text[VALUE_TEXT_SIZE];

    if (seconds == 0)
        snprintf(text, sizeof(text), "%" PRIu64 "ms", value_ms);
    else if (seconds < 60)
        snprintf(text, sizeof(text), "%" PRIu64 "s", seconds);
    else if (seconds < 3600)
        snprintf(text, sizeof(text), "%" PRIu64 "m%02us", seconds / 60, (unsigned)(seconds % 60));
    else if (seconds < 86400)
        snprintf(text, sizeof(text), "%" PRIu64 "h%02um", seconds / 3600,
                 (unsigned)(seconds / 60 % 60));
    else
        snprintf(text, sizeof(text), "%" PRIu64 "d%02uh", seconds / 86400,
                 (unsigned)(seconds / 3600 % 24));
    write_value(output, key, text, json_from_uint(output, value_ms));
}

void output_size(struct output *output, const char *key, uint64_t octets)
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    char text[VALUE_TEXT_SIZE];
    double scaled = (double)octets / 1024;
    size_t unit = 0;

    /* 1023.95 would be printed as "1024.0". */
    while (scaled >= 1023.95 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        scaled /= 1024;
        unit++;
    }
    if (octets < 1024)
        snprintf(text, sizeof(text), "%" PRIu64 " B", octets);
    else
        snprintf(text, sizeof(text), "%.1f %s", scaled, units[unit]);
    write_value(output, key, text, json_from_uint(output, octets));
}

static json_t *json_from_texts(const char *const *values, size_t count)
{
    json_t *array = json_array();

    for (size_t i = 0; i < count && array; i++)
        if (json_array_append_new(array, json_from_text(values[i])) < 0) {
            json_decref(array);
            array = NULL;
        }
    return array;
}

void output_strings(struct output *output, const char *key, const char *const *values, size_t count)
{
    char text[LIST_TEXT_MAX];
    size_t used = 0;

    if (output->writer->for_programs) {
        write_value(output, key, "", json_from_texts(values, count));
        return;
    }
    text[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        int r = snprintf(text + used, sizeof(text) - used, "%s%s", used > 0 ? ", " : "", values[i]);

        if ((size_t)r >= sizeof(text) - used) {
            memcpy(text + sizeof(text) - sizeof("..."), "...", sizeof("..."));
            break;
        }
        used += (size_t)r;
    }
    write_value(output, key, count > 0 ? text : "-", NULL);
}

void output_counters_begin(struct output *output, const char *key)
{
    output->writer->nested_begin(output, key);
    output->nested = key;
    output->fields = 0;
}

void output_counters_end(struct output *output)
{
    output->writer->nested_end(output);
    output->nested = NULL;
    output->fields = 1; /* the nested object itself: the record is not empty */
}

void output_record_end(struct output *output)
{
    output->writer->record_end(output);
}

int output_end(struct output *output)
{
    output->writer->end(output);
    if (fflush(output->to) != 0 || ferror(output->to))
        output_fail(output, -EIO);
    return output->error;
}

void output_free(struct output *output)
{
    if (!output)
        return;
    scols_unref_table(output->table);
    free(output);
}
