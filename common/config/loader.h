/*
 * The reader of YAML under config_load_*(): a stream of events with a position, a path for messages
 * and limits. Internal to common/config.
 */
#ifndef SOCKST_COMMON_CONFIG_LOADER_H
#define SOCKST_COMMON_CONFIG_LOADER_H

#include <yaml.h>

#include "common/config/schema.h"

struct loader {
    yaml_parser_t parser;
    yaml_event_t event; /* the current one; valid while has_event */
    bool has_event;
    unsigned depth; /* open collections */
    const char *name, *text;
    size_t length;
    struct config_error *error;
    int result; /* 0 or the first -errno */
    char path[256];
    size_t path_used;
};

/*
 * Takes over nothing; everything is borrowed. Judges the whole text first: size, NUL, UTF-8.
 * Returns 0 or -errno with error->text written; loader_close() must follow in either case.
 */
int loader_open(struct loader *loader, const char *name, const char *text, size_t length,
                struct config_error *error);
void loader_close(struct loader *loader);

/* Advances to the next event. Returns 0, or loader_fail()'s value for whatever is not allowed. */
int loader_next(struct loader *loader);

/* Advances and demands this event. */
int loader_expect(struct loader *loader, yaml_event_type_t type, const char *otherwise);

/* Writes "name:line:column: path: message" and returns -EINVAL. `mark` NULL: without a position. */
__attribute__((format(printf, 3, 4))) int
loader_fail(struct loader *loader, const yaml_mark_t *mark, const char *format, ...);
int loader_fail_memory(struct loader *loader);

/* The path of the option that messages are about. push returns what pop needs. */
size_t loader_push(struct loader *loader, const char *name);
size_t loader_push_index(struct loader *loader, size_t index);
void loader_pop(struct loader *loader, size_t used);

/* The current event as a scalar: terminated text, and whether it has no quotes. */
const char *loader_scalar(const struct loader *loader);
bool loader_is_plain(const struct loader *loader);
/* A plain `null`, `~` or nothing at all. */
bool loader_is_null(const struct loader *loader);

#endif
