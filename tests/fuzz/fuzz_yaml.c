/*
 * The configuration's loader over any bytes, with a schema that has every type. What must hold:
 * - an error leaves a message with the file's name in it, and a configuration that is all zero;
 * - what loads can be printed, the print loads, and is the same when printed again.
 */
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "tests/unit/common/sample_schema.h"

static char *print(const struct sample *config, size_t *length)
{
    char *text = NULL;
    FILE *memory = open_memstream(&text, length);

    FUZZ_CHECK(memory);
    config_print(sample_schema, config, memory);
    FUZZ_CHECK(fclose(memory) == 0);
    return text;
}

/* Loads; what comes out is printed, and the configuration released. NULL when it did not load. */
static char *load_and_print(const char *text, size_t size, size_t *length)
{
    static const struct sample zero;
    struct config_error error = {0};
    struct sample config;
    char *printed;

    memset(&config, 0xa5, sizeof(config));
    if (config_load_text(sample_schema, &config, sizeof(config), "fuzz", text, size, &error) < 0) {
        FUZZ_CHECK(strncmp(error.text, "fuzz:", 5) == 0);
        FUZZ_CHECK(memcmp(&config, &zero, sizeof(config)) == 0);
        return NULL;
    }
    printed = print(&config, length);
    config_free(sample_schema, &config);
    return printed;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t first_length = 0, second_length = 0;
    char *first = load_and_print((const char *)data, size, &first_length), *second;

    if (!first)
        return 0;
    second = load_and_print(first, first_length, &second_length);
    FUZZ_CHECK(second);
    FUZZ_CHECK(first_length == second_length && memcmp(first, second, first_length) == 0);
    free(first);
    free(second);
    return 0;
}
