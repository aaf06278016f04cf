/*
 * relayd's command line.
 */
#ifndef SOCKST_RELAYD_OPTIONS_H
#define SOCKST_RELAYD_OPTIONS_H

#include <stdbool.h>

#include "proto/n2.h"
#include "relayd/transport/transport.h"

enum options_action {
    OPTIONS_RUN,
    OPTIONS_DETACH,       /* remove what a killed relayd of this instance left at interfaces */
    OPTIONS_CHECK,        /* load the configuration and say whether it is right */
    OPTIONS_PRINT_CONFIG, /* … and write it as it is understood */
    OPTIONS_HELP_CONFIG,
    OPTIONS_VERSION,
    OPTIONS_HELP,
};

struct options {
    enum options_action action;
    const char *config; /* borrowed from argv; NULL: the defaults; "-": standard input */
    const struct transport *transport; /* never NULL with OPTIONS_RUN and OPTIONS_DETACH */
    char instance[N2_LABEL_MAX + 1];   /* [a-z0-9-]+ */
    int plane;    /* enum plane_choice instead of the configuration's; -1: not given */
    int attach;   /* enum attach_mode of relayd/plane/bpf/program.h */
    int ready_fd; /* -1: none */
};

/* Returns 0, or -EINVAL after saying on standard error what is wrong. */
int options_parse(struct options *options, int argc, char **argv);

void options_help(void); /* to standard output */

#endif
