#include "common/config/loader.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "common/config/values.h"
#include "common/log/utf8.h"

/* Counts from 1, characters as a person does. */
static yaml_mark_t mark_at(const char *text, size_t length, size_t offset)
{
    yaml_mark_t mark = {0};

    for (size_t i = 0; i < offset && i < length; i++) {
        if (text[i] == '\n') {
            mark.line++;
            mark.column = 0;
        } else if (((uint8_t)text[i] & 0xc0) != 0x80) {
            mark.column++;
        }
    }
    return mark;
}

int loader_fail(struct loader *loader, const yaml_mark_t *mark, const char *format, ...)
{
    char *text = loader->error->text;
    size_t size = sizeof(loader->error->text), used;
    va_list arguments;

    if (loader->result < 0)
        return loader->result; /* the first error is the cause */
    if (mark)
        snprintf(text, size, "%s:%zu:%zu: ", loader->name, mark->line + 1, mark->column + 1);
    else
        snprintf(text, size, "%s: ", loader->name);
    used = strlen(text);
    if (loader->path_used > 0) {
        snprintf(text + used, size - used, "%s: ", loader->path);
        used = strlen(text);
    }
    va_start(arguments, format);
    vsnprintf(text + used, size - used, format, arguments);
    va_end(arguments);
    return loader->result = -EINVAL;
}

int loader_fail_memory(struct loader *loader)
{
    loader_fail(loader, NULL, "out of memory");
    return loader->result = -ENOMEM;
}

static int check_octets(struct loader *loader)
{
    const char *text = loader->text;

    if (loader->length > CONFIG_SIZE_MAX) {
        loader_fail(loader, NULL, "larger than %d octets", CONFIG_SIZE_MAX);
        return loader->result = -EFBIG;
    }
    for (size_t at = 0; at < loader->length;) {
        uint32_t code = 0;
        size_t step = utf8_next(text + at, loader->length - at, &code);

        if (step == 0 || code == 0) {
            yaml_mark_t mark = mark_at(text, loader->length, at);

            return loader_fail(loader, &mark, step == 0 ? "not UTF-8" : "a NUL character");
        }
        at += step;
    }
    return 0;
}

int loader_open(struct loader *loader, const char *name, const char *text, size_t length,
                struct config_error *error)
{
    memset(loader, 0, sizeof(*loader));
    loader->name = name;
    loader->text = text;
    loader->length = length;
    loader->error = error;
    if (!yaml_parser_initialize(&loader->parser)) {
        memset(&loader->parser, 0, sizeof(loader->parser));
        return loader_fail_memory(loader);
    }
    if (check_octets(loader) < 0)
        return loader->result;
    /* Said, not guessed: a byte-order mark would choose UTF-16. */
    yaml_parser_set_encoding(&loader->parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&loader->parser, (const unsigned char *)text, length);
    return 0;
}

static void drop_event(struct loader *loader)
{
    if (loader->has_event)
        yaml_event_delete(&loader->event);
    loader->has_event = false;
}

void loader_close(struct loader *loader)
{
    drop_event(loader);
    yaml_parser_delete(&loader->parser);
}

/* The octet that a mark points at; 0 at the end. */
static char octet_at(const struct loader *loader, const yaml_mark_t *mark)
{
    size_t index = 0;

    for (size_t at = 0; at < loader->length; at++) {
        if (((uint8_t)loader->text[at] & 0xc0) == 0x80)
            continue;
        if (index++ == mark->index)
            return loader->text[at];
    }
    return '\0';
}

static int fail_syntax(struct loader *loader)
{
    const yaml_parser_t *parser = &loader->parser;
    const char *problem = parser->problem ? parser->problem : "syntax error";
    yaml_mark_t mark = parser->problem_mark;

    loader->path_used = 0;
    switch (parser->error) {
    case YAML_MEMORY_ERROR:
        return loader_fail_memory(loader);
    case YAML_READER_ERROR:
        mark = mark_at(loader->text, loader->length, parser->problem_offset);
        return loader_fail(loader, &mark, "%s", problem);
    default:
        if (octet_at(loader, &mark) == '\t')
            return loader_fail(loader, &mark, "a tab: YAML indents with spaces");
        if (parser->context)
            return loader_fail(loader, &mark, "%s (%s)", problem, parser->context);
        return loader_fail(loader, &mark, "%s", problem);
    }
}

/* Parts of YAML that hide what a file says. */
static int check_event(struct loader *loader)
{
    const yaml_event_t *event = &loader->event;
    const yaml_char_t *anchor = NULL, *tag = NULL;

    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (event->data.document_start.version_directive ||
            event->data.document_start.tag_directives.start !=
                event->data.document_start.tag_directives.end)
            return loader_fail(loader, &event->start_mark, "directives are not allowed");
        return 0;
    case YAML_ALIAS_EVENT:
        return loader_fail(loader, &event->start_mark, "aliases are not allowed");
    case YAML_SCALAR_EVENT:
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
        break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
        loader->depth++;
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
        loader->depth++;
        break;
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        loader->depth--;
        return 0;
    default:
        return 0;
    }
    if (anchor)
        return loader_fail(loader, &event->start_mark, "anchors are not allowed");
    if (tag)
        return loader_fail(loader, &event->start_mark, "tags are not allowed");
    if (loader->depth > CONFIG_DEPTH_MAX)
        return loader_fail(loader, &event->start_mark, "nested deeper than %d", CONFIG_DEPTH_MAX);
    /* "\0" in double quotes: the only way that is left for a NUL. */
    if (event->type == YAML_SCALAR_EVENT &&
        memchr(event->data.scalar.value, 0, event->data.scalar.length))
        return loader_fail(loader, &event->start_mark, "a NUL character");
    return 0;
}

int loader_next(struct loader *loader)
{
    if (loader->result < 0)
        return loader->result;
    drop_event(loader);
    if (!yaml_parser_parse(&loader->parser, &loader->event))
        return fail_syntax(loader);
    loader->has_event = true;
    return check_event(loader);
}

int loader_expect(struct loader *loader, yaml_event_type_t type, const char *otherwise)
{
    int r = loader_next(loader);

    if (r < 0)
        return r;
    if (loader->event.type != type)
        return loader_fail(loader, &loader->event.start_mark, "%s", otherwise);
    return 0;
}

size_t loader_push(struct loader *loader, const char *name)
{
    size_t before = loader->path_used, left = sizeof(loader->path) - before;
    int length = snprintf(loader->path + before, left, "%s%s", before > 0 ? "." : "", name);

    loader->path_used += (size_t)length < left ? (size_t)length : left - 1;
    return before;
}

size_t loader_push_index(struct loader *loader, size_t index)
{
    size_t before = loader->path_used, left = sizeof(loader->path) - before;
    int length = snprintf(loader->path + before, left, "[%zu]", index);

    loader->path_used += (size_t)length < left ? (size_t)length : left - 1;
    return before;
}

void loader_pop(struct loader *loader, size_t used)
{
    loader->path_used = used;
    loader->path[used] = '\0';
}

const char *loader_scalar(const struct loader *loader)
{
    return (const char *)loader->event.data.scalar.value;
}

bool loader_is_plain(const struct loader *loader)
{
    return loader->event.type == YAML_SCALAR_EVENT &&
           loader->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

bool loader_is_null(const struct loader *loader)
{
    const char *text = loader_scalar(loader);

    return loader_is_plain(loader) &&
           (text[0] == '\0' || strcmp(text, "null") == 0 || strcmp(text, "~") == 0);
}
