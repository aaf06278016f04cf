#include "common/log/line.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/log/utf8.h"

#define CUT_MARK "\xe2\x80\xa6" /* … */

const char *log_level_name(enum log_level level)
{
    static const char *const names[] = {"error", "warning", "notice", "info", "debug"};

    return names[level];
}

bool log_field_is_present(const struct log_field *field)
{
    switch (field->type) {
    case LOG_FIELD_STRING:
        return field->string;
    case LOG_FIELD_ENDPOINT:
        return field->endpoint && field->endpoint->address.family != IP_NONE;
    case LOG_FIELD_ADDRESS:
        return field->address && field->address->family != IP_NONE;
    case LOG_FIELD_ERRNO:
        return field->error != 0;
    case LOG_FIELD_UINT:
    case LOG_FIELD_INT:
        break;
    }
    return true;
}

#define SECONDS_SIZE sizeof("2026-01-02T03:04:05")

/* Many events fall into the same second. */
static const char *format_seconds(time_t seconds)
{
    static _Thread_local char text[SECONDS_SIZE];
    static _Thread_local time_t formatted = -1;
    struct tm tm;

    if (seconds != formatted) {
        gmtime_r(&seconds, &tm);
        strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
        formatted = seconds;
    }
    return text;
}

void log_format_time(uint64_t epoch_ms, char text[static LOG_TIME_SIZE])
{
    unsigned ms = (unsigned)(epoch_ms % 1000);
    char *at = text + SECONDS_SIZE - 1;

    memcpy(text, format_seconds((time_t)(epoch_ms / 1000)), SECONDS_SIZE - 1);
    *at++ = '.';
    *at++ = (char)('0' + ms / 100);
    *at++ = (char)('0' + ms / 10 % 10);
    *at++ = (char)('0' + ms % 10);
    *at++ = 'Z';
    *at = '\0';
}

/* All or nothing. */
static void line_append(struct line *line, const char *text, size_t length)
{
    if (line->cut || line->size - line->used < length) {
        line->cut = true;
        return;
    }
    memcpy(line->text + line->used, text, length);
    line->used += length;
}

void line_char(struct line *line, char c)
{
    line_append(line, &c, 1);
}

void line_raw(struct line *line, const char *text)
{
    line_append(line, text, strlen(text));
}

/* Into the end of `buffer`; returns where it begins. */
static const char *format_uint(uint64_t value, char *buffer, size_t size)
{
    char *at = buffer + size - 1;

    *at = '\0';
    do {
        *--at = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    return at;
}

/* The value's text: the string itself, or written into `buffer`. */
static const char *value_text(const struct log_field *field, char *buffer, size_t size)
{
    switch (field->type) {
    case LOG_FIELD_STRING:
        return field->string;
    case LOG_FIELD_UINT:
        return format_uint(field->uint, buffer, size);
    case LOG_FIELD_INT:
        snprintf(buffer, size, "%" PRId64, field->sint);
        return buffer;
    case LOG_FIELD_ENDPOINT:
        return endpoint_format(field->endpoint, buffer, size);
    case LOG_FIELD_ADDRESS:
        return ip_address_format(field->address, buffer, size);
    case LOG_FIELD_ERRNO: {
        unsigned number = field->error < 0 ? 0u - (unsigned)field->error : (unsigned)field->error;
        const char *name = strerrorname_np((int)number);

        if (name)
            return name;
        snprintf(buffer, size, "%u", number);
        return buffer;
    }
    }
    return "";
}

/* How a format writes the characters that it cannot write as they are. */
typedef void escape_function(struct line *line, const char *text, size_t length, uint32_t code);

static void escape_text(struct line *line, const char *text, size_t length, uint32_t code)
{
    char escaped[32];
    size_t used = 0;

    if (length == 0)
        length = 1; /* not UTF-8: this octet */
    if (code == '\n' || code == '\r' || code == '\t') {
        line_raw(line, code == '\n' ? "\\n" : code == '\r' ? "\\r" : "\\t");
        return;
    }
    for (size_t i = 0; i < length; i++)
        used += (size_t)snprintf(escaped + used, sizeof(escaped) - used, "\\x%02x",
                                 (unsigned)(uint8_t)text[i]);
    line_append(line, escaped, used);
}

static void escape_json(struct line *line, const char *text, size_t length, uint32_t code)
{
    char escaped[8];

    (void)text;
    /* Every unsafe character lies in the basic plane; what is not UTF-8 becomes U+FFFD. */
    snprintf(escaped, sizeof(escaped), "\\u%04x", length == 0 ? 0xfffdu : (unsigned)(uint16_t)code);
    line_raw(line, escaped);
}

static void line_quoted(struct line *line, const char *text, escape_function *escape)
{
    size_t left = strnlen(text, LOG_VALUE_MAX);
    bool long_value = text[left] != '\0';

    line_char(line, '"');
    while (left > 0) {
        uint32_t code = 0;
        size_t length = utf8_next(text, left, &code);
        size_t step = length ? length : 1;

        if (length == 0 && long_value && left < 4 && ((uint8_t)*text & 0xc0) == 0xc0)
            break; /* a character that the cut has split */
        if (length == 0 || utf8_is_unsafe(code))
            escape(line, text, length, code);
        else {
            if (code == '"' || code == '\\')
                line_char(line, '\\');
            line_append(line, text, length);
        }
        text += step;
        left -= step;
    }
    if (long_value)
        line_raw(line, CUT_MARK);
    line_char(line, '"');
}

/* Can the value stand without quotes, so that it ends at the next space? */
static bool is_plain(const struct log_field *field, const char *text)
{
    if (field->type != LOG_FIELD_STRING)
        return true; /* our own text */
    size_t left = strnlen(text, LOG_VALUE_MAX);

    if (left == 0 || text[left] != '\0')
        return false;
    /* Nearly all are words. */
    while (left > 0 && ((*text >= 'a' && *text <= 'z') || (*text >= '0' && *text <= '9') ||
                        *text == '-' || *text == '.')) {
        text++;
        left--;
    }
    while (left > 0) {
        uint32_t code;
        size_t length = utf8_next(text, left, &code);

        if (length == 0 || utf8_is_unsafe(code) || code == ' ' || code == '"' || code == '\\' ||
            code == '=')
            return false;
        text += length;
        left -= length;
    }
    return true;
}

static void line_field_text(struct line *line, const struct log_field *field)
{
    char buffer[ENDPOINT_TEXT_MAX];
    const char *value = value_text(field, buffer, sizeof(buffer));

    line_char(line, ' ');
    line_raw(line, field->key);
    line_char(line, '=');
    if (is_plain(field, value))
        line_raw(line, value);
    else
        line_quoted(line, value, escape_text);
}

static void line_field_json(struct line *line, const struct log_field *field)
{
    char buffer[ENDPOINT_TEXT_MAX];
    const char *value = value_text(field, buffer, sizeof(buffer));

    line_char(line, ',');
    line_quoted(line, field->key, escape_json);
    line_char(line, ':');
    if (field->type == LOG_FIELD_UINT || field->type == LOG_FIELD_INT)
        line_raw(line, value);
    else
        line_quoted(line, value, escape_json);
}

typedef void field_function(struct line *line, const struct log_field *field);

/* Whole fields, as many as fit while `reserve` octets stay free for the end of the line. */
static void line_fields(struct line *line, const struct log_event *event, field_function *append,
                        size_t reserve)
{
    const struct log_field suppressed = LOG_U("suppressed", event->suppressed);

    line->size -= reserve;
    for (size_t i = 0; i <= event->count && !line->cut; i++) {
        const struct log_field *field = i < event->count ? &event->fields[i] : &suppressed;
        size_t before = line->used;

        if (i == event->count ? event->suppressed == 0
                              : i >= LOG_FIELDS_MAX || !log_field_is_present(field))
            continue;
        append(line, field);
        if (line->cut)
            line->used = before;
    }
    line->size += reserve;
}

void line_event_text(struct line *line, const struct log_event *event)
{
    line_raw(line, event->name);
    line_fields(line, event, line_field_text, sizeof(" " CUT_MARK));
    if (line->cut) {
        line->cut = false;
        line_raw(line, " " CUT_MARK);
    }
}

void line_event_json(struct line *line, const struct log_event *event, const char *time)
{
    static const char cut_field[] = ",\"cut\":true";

    line_raw(line, "{\"time\":\"");
    line_raw(line, time);
    line_raw(line, "\",\"level\":\"");
    line_raw(line, log_level_name(event->level));
    line_raw(line, "\",\"program\":");
    line_quoted(line, event->program, escape_json);
    line_raw(line, ",\"event\":");
    line_quoted(line, event->name, escape_json);
    line_fields(line, event, line_field_json, sizeof(cut_field) + sizeof("}"));
    if (line->cut) {
        line->cut = false;
        line_raw(line, cut_field);
    }
    line_char(line, '}');
}

void line_value(struct line *line, const struct log_field *field)
{
    char buffer[ENDPOINT_TEXT_MAX];
    const char *value = value_text(field, buffer, sizeof(buffer));

    line_append(line, value, strnlen(value, LOG_VALUE_MAX));
}
