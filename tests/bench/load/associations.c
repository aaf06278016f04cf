/*
 * Opens TRANSPARENT associations, some at a time, prints their BNDs and holds them until stdin
 * ends.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/bench/load/control.h"

#define AT_A_TIME 64u
#define PRINTED_MAX 64u

static void raise_descriptors(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int load_associations(const struct load_options *options)
{
    int pending[AT_A_TIME];
    json_t *bounds = json_array();
    char text[ENDPOINT_TEXT_MAX];
    struct endpoint bound;
    char octet;

    raise_descriptors();
    const uint64_t start = now_ns();
    for (unsigned i = 0; i < options->count + AT_A_TIME; i++) {
        if (i >= AT_A_TIME && i - AT_A_TIME < options->count) {
            control_answer(pending[i % AT_A_TIME], &bound);
            if (i - AT_A_TIME < PRINTED_MAX)
                json_array_append_new(bounds,
                                      json_string(endpoint_format(&bound, text, sizeof(text))));
        }
        if (i < options->count) {
            const struct endpoint source = control_source(options, i);
            pending[i % AT_A_TIME] = control_ask(options, &source);
        }
    }
    load_print(json_pack("{s:i, s:f, s:o}", "opened", (int)options->count, "seconds",
                         (double)(now_ns() - start) / 1e9, "bound", bounds));
    while (read(STDIN_FILENO, &octet, 1) > 0)
        ;
    return 0;
}
