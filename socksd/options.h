/*
 * socksd's command line.
 */
#ifndef SOCKST_SOCKSD_OPTIONS_H
#define SOCKST_SOCKSD_OPTIONS_H

enum options_action {
    OPTIONS_RUN,
    OPTIONS_CHECK,        /* load the configuration and say whether it is right */
    OPTIONS_PRINT_CONFIG, /* … and write it as it is understood */
    OPTIONS_HELP_CONFIG,
    OPTIONS_VERSION,
    OPTIONS_HELP,
};

struct options {
    enum options_action action;
    const char *config; /* borrowed from argv; NULL: the embedded default; "-": standard input */
    int ready_fd;       /* -1: none */
};

/* Returns 0, or -EINVAL after saying on standard error what is wrong. */
int options_parse(struct options *options, int argc, char **argv);

void options_help(void); /* to standard output */

#endif
