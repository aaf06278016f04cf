#include "common/log/log.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-journal.h>

#include "common/log/line.h"
#include "common/log/sink.h"

static struct {
    const char *program;
    enum log_level level;
    enum log_format format;
    bool to_journal_stream;
    uint64_t journal_lost;
} log_state = {.program = "sockst", .level = LOG_LEVEL_INFO, .format = LOG_FORMAT_TEXT};

/* From log_limit_take() to the log_emit() that follows it. */
static _Thread_local uint32_t pending_suppressed;

/* systemd.exec(5): the variable counts only if it names the very file that stderr is. */
static bool stderr_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    struct stat status;
    char expected[64];

    if (!stream || fstat(STDERR_FILENO, &status) < 0)
        return false;
    snprintf(expected, sizeof(expected), "%ju:%ju", (uintmax_t)status.st_dev,
             (uintmax_t)status.st_ino);
    return strcmp(stream, expected) == 0;
}

void log_setup(const char *program, enum log_level level, enum log_format format)
{
    struct sigaction action;

    log_state.program = program;
    log_state.level = level;
    log_state.format = format;
    log_state.to_journal_stream = stderr_is_journal();
    if (sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_DFL)
        signal(SIGPIPE, SIG_IGN);
}

bool log_is_on(enum log_level level)
{
    return level <= log_state.level;
}

static uint64_t clock_ms(clockid_t clock)
{
    struct timespec now = {0};

    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

bool log_limit_take(struct log_limit *limit)
{
    uint64_t now = clock_ms(CLOCK_MONOTONIC);

    if (limit->window_ms == 0 || now - limit->window_ms >= limit->interval_ms) {
        limit->window_ms = now;
        limit->used = 0;
    }
    if (limit->used >= limit->burst) {
        if (limit->suppressed < UINT32_MAX)
            limit->suppressed++;
        return false;
    }
    limit->used++;
    pending_suppressed = limit->suppressed;
    limit->suppressed = 0;
    return true;
}

static int priority_of(enum log_level level)
{
    return (int)level + 3; /* LOG_ERR of syslog(3) is 3, and so on in the same order */
}

static bool emit_line(const struct log_event *event)
{
    char text[LOG_LINE_MAX], time[LOG_TIME_SIZE];
    struct line line = {.text = text, .size = sizeof(text) - 1};

    log_format_time(clock_ms(CLOCK_REALTIME), time);
    if (log_state.to_journal_stream) {
        line_char(&line, '<');
        line_char(&line, (char)('0' + priority_of(event->level)));
        line_char(&line, '>');
    }
    if (log_state.format == LOG_FORMAT_JSON) {
        line_event_json(&line, event, time);
    } else {
        if (!log_state.to_journal_stream) {
            line_raw(&line, time);
            line_char(&line, ' ');
            line_raw(&line, log_level_name(event->level));
            line_char(&line, ' ');
        }
        line_event_text(&line, event);
    }
    text[line.used++] = '\n';
    return log_sink_put(text, line.used, event->level <= LOG_LEVEL_NOTICE);
}

static void journal_key(struct line *line, const char *key)
{
    line_raw(line, "SOCKST_");
    for (; *key; key++) {
        bool lower = *key >= 'a' && *key <= 'z';
        bool kept = (*key >= 'A' && *key <= 'Z') || (*key >= '0' && *key <= '9');

        line_char(line, lower ? (char)(*key - 'a' + 'A') : kept ? *key : '_');
    }
    line_char(line, '=');
}

/* Ends an item of the entry: everything since `start`. Nothing when it did not fit. */
static size_t journal_item(struct line *line, size_t start, struct iovec *items, size_t count)
{
    if (line->cut) {
        line->used = start;
        line->cut = false;
        return count;
    }
    items[count] = (struct iovec){.iov_base = line->text + start, .iov_len = line->used - start};
    return count + 1;
}

static bool emit_journal(const struct log_event *event)
{
    char text[2 * LOG_LINE_MAX], priority[] = "PRIORITY=6";
    struct iovec items[LOG_FIELDS_MAX + 4];
    struct line line = {.text = text, .size = LOG_LINE_MAX};
    size_t start = 0, count = 0;

    priority[sizeof(priority) - 2] = (char)('0' + priority_of(event->level));
    items[count++] = (struct iovec){.iov_base = priority, .iov_len = strlen(priority)};
    line_raw(&line, "MESSAGE=");
    line_event_text(&line, event);
    count = journal_item(&line, start, items, count);
    line.size = sizeof(text);
    start = line.used;
    line_raw(&line, "SYSLOG_IDENTIFIER=");
    line_raw(&line, event->program);
    count = journal_item(&line, start, items, count);
    start = line.used;
    line_raw(&line, "SOCKST_EVENT=");
    line_raw(&line, event->name);
    count = journal_item(&line, start, items, count);
    for (size_t i = 0; i < event->count && i < LOG_FIELDS_MAX; i++) {
        if (!log_field_is_present(&event->fields[i]))
            continue;
        start = line.used;
        journal_key(&line, event->fields[i].key);
        line_value(&line, &event->fields[i]);
        count = journal_item(&line, start, items, count);
    }
    return sd_journal_sendv(items, (int)count) >= 0;
}

/* A reader that was too slow is told what it has missed. */
static void tell_gap(void)
{
    uint64_t gap = log_sink_take_gap();

    if (gap != 0)
        LOG(LOG_LEVEL_WARNING, "log-lines-lost", LOG_U("lines", gap));
}

void log_emit(enum log_level level, const char *event_name, const struct log_field *fields,
              size_t count)
{
    const struct log_event event = {.level = level,
                                    .program = log_state.program,
                                    .name = event_name,
                                    .fields = fields,
                                    .count = count,
                                    .suppressed = pending_suppressed};

    pending_suppressed = 0;
    if (log_state.format == LOG_FORMAT_JOURNAL) {
        if (!emit_journal(&event))
            log_state.journal_lost++;
        return;
    }
    tell_gap();
    (void)emit_line(&event);
}

uint64_t log_lost(void)
{
    return log_sink_lost() + log_state.journal_lost;
}
