#include "socksd/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

enum { OPT_READY_FD = 256 };

static const struct option long_options[] = {
    {"config", required_argument, NULL, 'c'},
    {"ready-fd", required_argument, NULL, OPT_READY_FD},
    {"check", no_argument, NULL, OPTIONS_CHECK},
    {"print-config", no_argument, NULL, OPTIONS_PRINT_CONFIG},
    {"help-config", no_argument, NULL, OPTIONS_HELP_CONFIG},
    {"version", no_argument, NULL, OPTIONS_VERSION},
    {"help", no_argument, NULL, OPTIONS_HELP},
    {NULL, 0, NULL, 0},
};

void options_help(void)
{
    puts(
        "usage: socksd [-c FILE] [--check | --print-config] [--ready-fd N]\n"
        "\n"
        "Serves SOCKS 5 clients: judges their requests and orders relays from relayd.\n"
        "\n"
        "  -c, --config FILE   configuration (YAML); - is standard input; none: 127.0.0.1:1080,\n"
        "                      clients of this host, relayd of TCP and UDP in /run/sockst/n2\n"
        "  --ready-fd N        writes READY to descriptor N when clients are served\n"
        "  --check             only judges the configuration; exit status 0 or 1\n"
        "  --print-config      writes the configuration as it is understood\n"
        "  --help-config       explains every option of the configuration\n"
        "  --version, --help");
}

static int parse_ready_fd(struct options *options, const char *text)
{
    char *end;

    errno = 0;
    const long number = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || number < 0 || number > 1 << 20) {
        fprintf(stderr, "socksd: --ready-fd %s: not a descriptor\n", text);
        return -EINVAL;
    }
    options->ready_fd = (int)number;
    return 0;
}

static int parse_option(struct options *options, int option, const char *value)
{
    switch (option) {
    case 'c':
        options->config = value;
        return 0;
    case OPT_READY_FD:
        return parse_ready_fd(options, value);
    case OPTIONS_CHECK:
    case OPTIONS_PRINT_CONFIG:
    case OPTIONS_HELP_CONFIG:
    case OPTIONS_VERSION:
    case OPTIONS_HELP:
        options->action = (enum options_action)option;
        return 0;
    default: /* getopt has said why */
        return -EINVAL;
    }
}

int options_parse(struct options *options, int argc, char **argv)
{
    int option;

    *options = (struct options){.action = OPTIONS_RUN, .ready_fd = -1};
    optind = 0; /* a whole new scan, also a second time (glibc) */
    while ((option = getopt_long(argc, argv, "c:", long_options, NULL)) != -1) {
        const int rc = parse_option(options, option, optarg);
        if (rc < 0)
            return rc;
    }
    if (optind < argc) {
        fprintf(stderr, "socksd: %s: not an option (see --help)\n", argv[optind]);
        return -EINVAL;
    }
    return 0;
}
