/*
 * Where the lines go: standard error, which this process may share with others.
 *
 * By itself each line is written at once, and may wait a moment for its reader. In batches (a
 * daemon with an event loop) it never waits: lines collect in a buffer, leave with one write, and
 * what finds the buffer full is lost and counted. Internal to common/log.
 */
#ifndef SOCKST_COMMON_LOG_SINK_H
#define SOCKST_COMMON_LOG_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A burst that a reader may be behind: some thousand lines. */
#define LOG_SINK_SIZE (1024 * 1024)

/* Writes or keeps one line, LOG_LINE_MAX octets at most, newline included. `urgent`: it leaves now
 * if the reader takes it. False when the line is lost. */
bool log_sink_put(const char *line, size_t length, bool urgent);

/* Batches from now on; or no longer, after what is kept was given a moment to leave. */
void log_sink_batch(bool on);

/* Writes what is kept, without waiting. False when some is left. */
bool log_sink_flush(void);

/* Lines that were lost since the last call of this, if there is room to tell; else 0. */
uint64_t log_sink_take_gap(void);

/* Lines that were lost, in all. */
uint64_t log_sink_lost(void);

#endif
