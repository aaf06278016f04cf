#include "relayd/plane/bpf/libbpf_log.h"

#include <bpf/libbpf.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log/log.h"

static int print(enum libbpf_print_level level, const char *format, va_list arguments)
    __attribute__((format(printf, 2, 0)));

/* A verdict of the verifier comes as one text of many lines. */
static int print(enum libbpf_print_level level, const char *format, va_list arguments)
{
    char *text, *state = NULL;

    if (level > LIBBPF_INFO || !log_is_on(LOG_LEVEL_DEBUG))
        return 0;
    if (vasprintf(&text, format, arguments) < 0)
        return 0;
    for (const char *line = strtok_r(text, "\n", &state); line != NULL;
         line = strtok_r(NULL, "\n", &state))
        LOG(LOG_LEVEL_DEBUG, "libbpf", LOG_S("text", line));
    free(text);
    return 0;
}

void libbpf_log_setup(void)
{
    libbpf_set_print(print);
}
