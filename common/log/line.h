/*
 * A log line in the making, in memory that the caller has (no allocation). Internal to common/log.
 */
#ifndef SOCKST_COMMON_LOG_LINE_H
#define SOCKST_COMMON_LOG_LINE_H

#include "common/log/log.h"

struct line {
    char *text; /* borrowed; never terminated */
    size_t size, used;
    bool cut; /* something did not fit; nothing is appended any more */
};

struct log_event {
    enum log_level level;
    const char *program, *name;
    const struct log_field *fields;
    size_t count;
    uint32_t suppressed; /* 0: not shown */
};

#define LOG_TIME_SIZE 25 /* "2026-01-02T03:04:05.678Z" and NUL */

/* Is there a value to show? */
bool log_field_is_present(const struct log_field *field);
/* Milliseconds since the epoch as UTC. */
void log_format_time(uint64_t epoch_ms, char text[static LOG_TIME_SIZE]);

void line_char(struct line *line, char c);
void line_raw(struct line *line, const char *text);
/* name key=value …: values quoted and escaped where they must be. */
void line_event_text(struct line *line, const struct log_event *event);
/* One JSON object; it stays valid JSON when it had to be cut: whole fields are left out. */
void line_event_json(struct line *line, const struct log_event *event, const char *time);
/* The plain value of a field, without quotes or escapes (journal). */
void line_value(struct line *line, const struct log_field *field);

const char *log_level_name(enum log_level level);

#endif
