/*
 * From events to the struct, driven by the rows of the schema. Each load_…() is entered with the
 * first event of its value current, and leaves with the last one current. What has been stored is
 * reachable from the configuration at every moment, so that an error anywhere is followed by one
 * config_free().
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/config/loader.h"
#include "common/config/suggest.h"
#include "common/config/values.h"

static int load_value(struct loader *loader, const struct config_option *option, void *base);
static int load_defaults(struct loader *loader, const struct config_option *options, uint64_t given,
                         void *base, const yaml_mark_t *mark);

static void *member(const struct config_option *option, void *base)
{
    return (char *)base + option->offset;
}

static int fail_kind(struct loader *loader, const char *expected)
{
    const yaml_event_t *event = &loader->event;
    const char *got = event->type == YAML_MAPPING_START_EVENT    ? "a mapping"
                      : event->type == YAML_SEQUENCE_START_EVENT ? "a list"
                                                                 : "a single value";

    return loader_fail(loader, &event->start_mark, "%s is expected here, not %s", expected, got);
}

/* Makes room for one more item of `size` octets, zeroed, and counts it. NULL: an error is set. */
static void *append_item(struct loader *loader, struct config_list *list, size_t size, size_t most,
                         const yaml_mark_t *mark)
{
    if (list->count >= most) {
        loader_fail(loader, mark, "more than %zu items", most);
        return NULL;
    }
    /* The capacity is the next power of two: nothing but the count has to be kept. */
    if ((list->count & (list->count - 1)) == 0) {
        size_t capacity = list->count ? list->count * 2 : 1;
        void *items = reallocarray(list->items, capacity, size);

        if (!items) {
            loader_fail_memory(loader);
            return NULL;
        }
        list->items = items;
    }
    return memset((char *)list->items + size * list->count++, 0, size);
}

static int load_scalar(struct loader *loader, const struct config_option *option,
                       enum config_type type, bool limited, void *out)
{
    yaml_mark_t mark = loader->event.start_mark;
    bool may_be_null =
        limited && !option->standard && !(option->flags & CONFIG_REQUIRED) && type >= CONFIG_STRING;
    char why[CONFIG_WHY_MAX] = "";
    int r;

    if (loader->event.type != YAML_SCALAR_EVENT)
        return fail_kind(loader, config_type_name(type));
    if (loader_is_null(loader)) {
        if (loader_scalar(loader)[0] == '\0')
            return loader_fail(loader, &mark, "has no value");
        if (!may_be_null)
            return loader_fail(loader, &mark, "must not be null");
        return 0; /* zeroed already */
    }
    if (!loader_is_plain(loader) && (type == CONFIG_BOOL || type == CONFIG_UINT))
        return loader_fail(loader, &mark, "%s is expected here, not a text in quotes",
                           config_type_name(type));
    r = config_value_parse(option, type, limited, loader_scalar(loader), out, why);
    if (r == -ENOMEM)
        return loader_fail_memory(loader);
    return r < 0 ? loader_fail(loader, &mark, "%s", why) : 0;
}

static size_t list_max(const struct config_option *option, size_t most)
{
    return option->max > 0 && option->max < most ? (size_t)option->max : most;
}

static int check_count(struct loader *loader, const struct config_option *option,
                       const struct config_list *list, const yaml_mark_t *mark)
{
    if (list->count < option->min)
        return loader_fail(loader, mark, "needs at least %zu item%s", (size_t)option->min,
                           option->min == 1 ? "" : "s");
    return 0;
}

static int load_list_item(struct loader *loader, const struct config_option *option,
                          struct config_list *list)
{
    void *item = append_item(loader, list, config_value_size(option->element),
                             list_max(option, CONFIG_LIST_MAX), &loader->event.start_mark);

    return item ? load_scalar(loader, option, option->element, false, item) : loader->result;
}

static int load_list(struct loader *loader, const struct config_option *option,
                     struct config_list *list)
{
    yaml_mark_t mark = loader->event.start_mark;
    int r = 0;

    if (loader->event.type == YAML_SCALAR_EVENT) {
        if ((option->flags & CONFIG_AUTO) && loader_is_plain(loader) &&
            strcmp(loader_scalar(loader), "auto") == 0)
            return 0;
        if (!loader_is_null(loader))
            r = load_list_item(loader, option, list);
        return r < 0 ? r : check_count(loader, option, list, &mark);
    }
    if (loader->event.type != YAML_SEQUENCE_START_EVENT)
        return fail_kind(loader, "a list");
    while ((r = loader_next(loader)) == 0 && loader->event.type != YAML_SEQUENCE_END_EVENT) {
        size_t path = loader_push_index(loader, list->count);

        r = load_list_item(loader, option, list);
        if (r < 0)
            return r;
        loader_pop(loader, path);
    }
    return r < 0 ? r : check_count(loader, option, list, &mark);
}

static int load_address(struct loader *loader, struct ip_address *out)
{
    char why[CONFIG_WHY_MAX];
    int r;

    if (loader->event.type != YAML_SCALAR_EVENT)
        return fail_kind(loader, "an address");
    r = config_value_parse(&(const struct config_option){.name = ""}, CONFIG_ADDRESS, false,
                           loader_scalar(loader), out, why);
    return r < 0 ? loader_fail(loader, &loader->event.start_mark, "%s", why) : 0;
}

static int load_pair(struct loader *loader, const struct config_option *option,
                     struct config_list *list)
{
    yaml_mark_t mark = loader->event.start_mark;
    struct config_address_pair pair = {0}, *item;
    int r = load_address(loader, &pair.key);

    if (r < 0)
        return r;
    for (size_t i = 0; i < list->count; i++)
        if (ip_address_equal(&((struct config_address_pair *)list->items)[i].key, &pair.key))
            return loader_fail(loader, &mark, "\"%s\" is given twice", loader_scalar(loader));
    r = loader_next(loader);
    if (r == 0)
        r = load_address(loader, &pair.value);
    if (r < 0)
        return r;
    item = append_item(loader, list, sizeof(pair), list_max(option, CONFIG_PAIRS_MAX), &mark);
    if (!item)
        return loader->result;
    *item = pair;
    return 0;
}

static int load_pairs(struct loader *loader, const struct config_option *option,
                      struct config_list *list)
{
    yaml_mark_t mark = loader->event.start_mark;
    int r = 0;

    if (loader_is_null(loader))
        return check_count(loader, option, list, &mark);
    if (loader->event.type != YAML_MAPPING_START_EVENT)
        return fail_kind(loader, "a mapping from address to address");
    while ((r = loader_next(loader)) == 0 && loader->event.type != YAML_MAPPING_END_EVENT) {
        r = load_pair(loader, option, list);
        if (r < 0)
            return r;
    }
    return r < 0 ? r : check_count(loader, option, list, &mark);
}

static int fail_unknown(struct loader *loader, const struct config_option *options)
{
    const char *key = loader_scalar(loader), *nearest = config_suggest(options, key);
    yaml_mark_t *mark = &loader->event.start_mark;
    char shown[64];

    config_show_text(key, shown, sizeof(shown));
    if (nearest)
        return loader_fail(loader, mark, "unknown key \"%s\"; did you mean \"%s\"?", shown,
                           nearest);
    return loader_fail(loader, mark, "unknown key \"%s\"", shown);
}

static int load_entry(struct loader *loader, const struct config_option *options, uint64_t *given,
                      void *base)
{
    yaml_mark_t mark = loader->event.start_mark;
    size_t index = 0, path;
    int r;

    if (loader->event.type != YAML_SCALAR_EVENT)
        return loader_fail(loader, &mark, "a key must be a single word");
    while (options[index].name && strcmp(options[index].name, loader_scalar(loader)) != 0)
        index++;
    if (!options[index].name)
        return fail_unknown(loader, options);
    path = loader_push(loader, options[index].name);
    if (*given >> index & 1)
        return loader_fail(loader, &mark, "given twice");
    *given |= UINT64_C(1) << index;
    r = loader_next(loader);
    if (r == 0)
        r = load_value(loader, &options[index], base);
    if (r < 0)
        return r;
    loader_pop(loader, path);
    return 0;
}

/* A mapping of options; a null stands for an empty one. */
static int load_mapping(struct loader *loader, const struct config_option *options, void *base)
{
    yaml_mark_t mark = loader->event.start_mark;
    uint64_t given = 0;
    int r = 0;

    if (loader->event.type == YAML_SCALAR_EVENT && loader_is_null(loader))
        return load_defaults(loader, options, 0, base, &mark);
    if (loader->event.type != YAML_MAPPING_START_EVENT)
        return fail_kind(loader, "a mapping");
    while ((r = loader_next(loader)) == 0 && loader->event.type != YAML_MAPPING_END_EVENT) {
        r = load_entry(loader, options, &given, base);
        if (r < 0)
            return r;
    }
    return r < 0 ? r : load_defaults(loader, options, given, base, &mark);
}

/* Is the start of the record free for a struct config_origin? */
static bool has_origin(const struct config_option *options, size_t record_size)
{
    for (; options->name; options++) {
        if (options->type == CONFIG_SECTION ? !has_origin(options->children, record_size)
                                            : options->offset < sizeof(struct config_origin))
            return false;
    }
    return record_size >= sizeof(struct config_origin);
}

static int load_records(struct loader *loader, const struct config_option *option,
                        struct config_list *list)
{
    yaml_mark_t mark = loader->event.start_mark;
    int r = 0;

    if (loader->event.type == YAML_SCALAR_EVENT && loader_is_null(loader))
        return check_count(loader, option, list, &mark);
    if (loader->event.type != YAML_SEQUENCE_START_EVENT)
        return fail_kind(loader, "a list");
    while ((r = loader_next(loader)) == 0 && loader->event.type != YAML_SEQUENCE_END_EVENT) {
        size_t path = loader_push_index(loader, list->count);
        yaml_mark_t at = loader->event.start_mark;
        void *record =
            append_item(loader, list, option->record_size, list_max(option, CONFIG_LIST_MAX), &at);

        if (!record)
            return loader->result;
        if (has_origin(option->children, option->record_size))
            *(struct config_origin *)record = (struct config_origin){
                .line = (uint32_t)at.line + 1, .column = (uint32_t)at.column + 1};
        if (loader->event.type != YAML_MAPPING_START_EVENT)
            return fail_kind(loader, "a mapping");
        r = load_mapping(loader, option->children, record);
        if (r < 0)
            return r;
        loader_pop(loader, path);
    }
    return r < 0 ? r : check_count(loader, option, list, &mark);
}

static int load_value(struct loader *loader, const struct config_option *option, void *base)
{
    switch (option->type) {
    case CONFIG_SECTION:
        return load_mapping(loader, option->children, base);
    case CONFIG_LIST:
        return load_list(loader, option, member(option, base));
    case CONFIG_RECORDS:
        return load_records(loader, option, member(option, base));
    case CONFIG_PAIRS:
        return load_pairs(loader, option, member(option, base));
    default:
        return load_scalar(loader, option, option->type, true, member(option, base));
    }
}

/* One document, which is one value. */
static int load_document(struct loader *loader, const struct config_option *option, void *base)
{
    yaml_mark_t mark = {0};
    int r = loader_expect(loader, YAML_STREAM_START_EVENT, "no stream");

    if (r == 0)
        r = loader_next(loader);
    if (r == 0 && loader->event.type == YAML_STREAM_END_EVENT)
        return option->type == CONFIG_SECTION
                   ? load_defaults(loader, option->children, 0, base, &mark)
                   : loader_fail(loader, NULL, "has no value");
    if (r == 0)
        r = loader_next(loader);
    if (r == 0)
        r = load_value(loader, option, base);
    if (r == 0)
        r = loader_expect(loader, YAML_DOCUMENT_END_EVENT, "one value is expected");
    if (r == 0)
        r = loader_expect(loader, YAML_STREAM_END_EVENT, "a second document is not allowed");
    return r;
}

#define WORD_MAX 64

/* The next item of a list that reads the same with and without YAML: "[tcp, \"::/0\"]". `at` is
 * behind the bracket. Returns 1, 0 at the end, -1 when it takes YAML to tell. */
static int next_word(const char **at, bool quotes, char word[WORD_MAX])
{
    const char *begin = *at + strspn(*at, " ");
    const bool quoted = quotes && *begin == '"';
    const size_t length =
        strspn(begin += quoted, quoted ? "0123456789abcdefghijklmnopqrstuvwxyz-./:"
                                       : "0123456789abcdefghijklmnopqrstuvwxyz-./");
    const char *end = begin + length + quoted;

    if (length == 0 && !quoted && strcmp(begin, "]") == 0)
        return 0;
    if (length == 0 || length >= WORD_MAX || *begin == '-' || (quoted && begin[length] != '"') ||
        (*end != ',' && strcmp(end, "]") != 0))
        return -1;
    memcpy(word, begin, length);
    word[length] = '\0';
    *at = *end == ',' ? end + 1 : end;
    return strcmp(word, "null") != 0 ? 1 : -1;
}

/* Every record without the option has its default: a short cut past YAML for lists of words.
 * Returns 1 when it cannot be taken, otherwise 0 or -errno. */
static int load_words(struct loader *loader, const struct config_option *option,
                      struct config_list *list)
{
    const bool quotes = option->element != CONFIG_BOOL && option->element != CONFIG_UINT;
    const size_t size = config_value_size(option->element);
    const yaml_mark_t mark = {0};
    const char *at = option->standard;
    char word[WORD_MAX], why[CONFIG_WHY_MAX] = "";
    int r;

    if (*at++ != '[')
        return 1;
    for (const char *ahead = at; (r = next_word(&ahead, quotes, word)) != 0;)
        if (r < 0)
            return 1;
    while (next_word(&at, quotes, word) == 1) {
        void *item = append_item(loader, list, size, list_max(option, CONFIG_LIST_MAX), &mark);

        if (!item)
            return loader->result;
        r = config_value_parse(option, option->element, false, word, item, why);
        if (r == -ENOMEM)
            return loader_fail_memory(loader);
        if (r < 0)
            return loader_fail(loader, NULL, "bad default: %s", why);
    }
    return check_count(loader, option, list, &mark);
}

/* Through the same parser as input. */
static int load_standard(struct loader *outer, const struct config_option *option, void *base)
{
    struct config_error error = {0};
    struct loader loader;
    char why[CONFIG_WHY_MAX] = "";
    int r;

    /* Short cut: a scalar needs no YAML, and a record of many options has many of them. */
    if (config_type_is_scalar(option->type)) {
        r = config_value_parse(option, option->type, true, option->standard, member(option, base),
                               why);
        if (r == -ENOMEM)
            return loader_fail_memory(outer);
        return r < 0 ? loader_fail(outer, NULL, "bad default: %s", why) : 0;
    }
    if (option->type == CONFIG_LIST && (r = load_words(outer, option, member(option, base))) <= 0)
        return r;
    r = loader_open(&loader, "default", option->standard, strlen(option->standard), &error);
    if (r == 0)
        r = load_document(&loader, option, base);
    loader_close(&loader);
    if (r == -ENOMEM)
        return loader_fail_memory(outer);
    return r < 0 ? loader_fail(outer, NULL, "bad default: %s", error.text) : 0;
}

static int load_default(struct loader *loader, const struct config_option *option, void *base,
                        const yaml_mark_t *mark)
{
    if (option->flags & CONFIG_REQUIRED)
        return loader_fail(loader, mark, "is missing");
    if (option->type == CONFIG_SECTION)
        return load_defaults(loader, option->children, 0, base, mark);
    return option->standard ? load_standard(loader, option, base) : 0;
}

/* Everything whose bit is not set in `given`. `mark`: where something missing is missing. */
static int load_defaults(struct loader *loader, const struct config_option *options, uint64_t given,
                         void *base, const yaml_mark_t *mark)
{
    for (size_t i = 0; options[i].name; i++) {
        size_t path;
        int r;

        if (given >> i & 1)
            continue;
        path = loader_push(loader, options[i].name);
        r = load_default(loader, &options[i], base, mark);
        if (r < 0)
            return r;
        loader_pop(loader, path);
    }
    return 0;
}

int config_load_text(const struct config_option *schema, void *config, size_t config_size,
                     const char *name, const char *text, size_t length, struct config_error *error)
{
    const struct config_option root = {.name = "", .type = CONFIG_SECTION, .children = schema};
    struct loader loader;
    int r;

    memset(config, 0, config_size);
    r = loader_open(&loader, name, text, length, error);
    if (r == 0)
        r = load_document(&loader, &root, config);
    loader_close(&loader);
    if (r < 0) {
        config_free(schema, config);
        memset(config, 0, config_size);
    }
    return r;
}

/* At most one octet more than allowed, which the loader then refuses. -errno on failure. */
static ssize_t read_all(int fd, char *text, size_t size)
{
    size_t used = 0;

    while (used < size) {
        ssize_t length = read(fd, text + used, size - used);

        if (length < 0 && errno != EINTR)
            return -errno;
        if (length == 0)
            break;
        used += length > 0 ? (size_t)length : 0;
    }
    return (ssize_t)used;
}

int config_load_file(const struct config_option *schema, void *config, size_t config_size,
                     const char *path, struct config_error *error)
{
    bool standard_input = strcmp(path, "-") == 0;
    const char *name = standard_input ? "(standard input)" : path;
    int fd = standard_input ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -errno : -ENOMEM;
    char *text = NULL;

    memset(config, 0, config_size);
    if (fd >= 0)
        text = malloc(CONFIG_SIZE_MAX + 1);
    if (text)
        length = read_all(fd, text, CONFIG_SIZE_MAX + 1);
    if (fd >= 0 && !standard_input)
        close(fd);
    if (length < 0) {
        snprintf(error->text, sizeof(error->text), "%s: %s", name, strerror((int)-length));
        free(text);
        return (int)length;
    }
    length = config_load_text(schema, config, config_size, name, text, (size_t)length, error);
    free(text);
    return (int)length;
}
