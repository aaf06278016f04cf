#include "relayd/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "relayd/config.h"
#include "relayd/plane/bpf/program.h"

enum { OPT_PTCL = 256, OPT_INSTANCE, OPT_PLANE, OPT_ATTACH, OPT_READY_FD };

static const struct option long_options[] = {
    {"config", required_argument, NULL, 'c'},
    {"ptcl", required_argument, NULL, OPT_PTCL},
    {"instance", required_argument, NULL, OPT_INSTANCE},
    {"plane", required_argument, NULL, OPT_PLANE},
    {"attach", required_argument, NULL, OPT_ATTACH},
    {"ready-fd", required_argument, NULL, OPT_READY_FD},
    {"detach", no_argument, NULL, OPTIONS_DETACH},
    {"check", no_argument, NULL, OPTIONS_CHECK},
    {"print-config", no_argument, NULL, OPTIONS_PRINT_CONFIG},
    {"help-config", no_argument, NULL, OPTIONS_HELP_CONFIG},
    {"version", no_argument, NULL, OPTIONS_VERSION},
    {"help", no_argument, NULL, OPTIONS_HELP},
    {NULL, 0, NULL, 0},
};

static int options_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

static int options_error(const char *format, ...)
{
    va_list arguments;
    fputs("relayd: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    return -EINVAL;
}

void options_help(void)
{
    puts(
        "usage: relayd [-c FILE] --ptcl NAME|NUMBER [--instance NAME] [--plane PLANE]\n"
        "              [--attach MODE]\n"
        "\n"
        "Relays one transport protocol for socksd.\n"
        "\n"
        "  -c, --config FILE   configuration (YAML); - is standard input; none: the defaults\n"
        "  --ptcl PTCL         the protocol: tcp, udp, or its number\n"
        "  --instance NAME     this relayd's name, [a-z0-9-]; the protocol's name if not given.\n"
        "                      It may stand for --ptcl: tcp, or tcp-2\n"
        "  --plane PLANE       instead of the configuration's `plane`: auto, socket, bpf\n"
        "  --attach MODE       how the BPF plane is attached to interfaces: tcx, clsact; auto is "
        "tcx\n"
        "                      where the kernel has it\n"
        "  --ready-fd N        writes READY to descriptor N when relays can be ordered\n"
        "  --detach            only removes what a killed relayd of this name left at interfaces\n"
        "  --check             only judges the configuration; exit status 0 or 1\n"
        "  --print-config      writes the configuration as it is understood\n"
        "  --help-config       explains every option of the configuration\n"
        "  --version, --help");
}

/* ---- values --------------------------------------------------------------------------------- */

static int parse_ptcl(struct options *options, const char *text)
{
    const struct ptcl *ptcl = ptcl_by_name(text);
    if (ptcl == NULL) {
        return options_error("--ptcl %s: no such transport protocol", text);
    }
    options->transport = transport_by_ptcl(ptcl->number);
    if (options->transport == NULL) {
        return options_error("--ptcl %s: not served by this version", text);
    }
    return 0;
}

static int parse_instance(struct options *options, const char *text)
{
    size_t length = strlen(text);
    if (length == 0 || length >= sizeof(options->instance) ||
        strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-") != length) {
        return options_error("--instance %s: a name is 1 to %d of a-z, 0-9 and -", text,
                             N2_LABEL_MAX);
    }
    if (strcmp(text, "socksd") == 0) { /* the name of another admin socket */
        return options_error("--instance %s: the name is taken", text);
    }
    memcpy(options->instance, text, length + 1);
    return 0;
}

static int parse_keyword(int *out, const struct config_keyword *words, const char *text)
{
    for (const struct config_keyword *word = words; word->text != NULL; word++) {
        if (strcmp(word->text, text) == 0) {
            *out = word->value;
            return 0;
        }
    }
    return -EINVAL;
}

static int parse_plane(struct options *options, const char *text)
{
    return parse_keyword(&options->plane, relayd_plane_keywords, text) == 0
               ? 0
               : options_error("--plane %s: no such plane", text);
}

static int parse_attach(struct options *options, const char *text)
{
    static const struct config_keyword modes[] = {
        {"auto", ATTACH_AUTO}, {"tcx", ATTACH_TCX}, {"clsact", ATTACH_CLSACT}, {NULL, 0}};

    return parse_keyword(&options->attach, modes, text) == 0
               ? 0
               : options_error("--attach %s: no such way to attach", text);
}

static int parse_ready_fd(struct options *options, const char *text)
{
    char *end;
    errno = 0;
    long number = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || number < 0 || number > 1 << 20) {
        return options_error("--ready-fd %s: not a descriptor", text);
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
    case OPT_PTCL:
        return parse_ptcl(options, value);
    case OPT_INSTANCE:
        return parse_instance(options, value);
    case OPT_PLANE:
        return parse_plane(options, value);
    case OPT_ATTACH:
        return parse_attach(options, value);
    case OPT_READY_FD:
        return parse_ready_fd(options, value);
    case OPTIONS_DETACH:
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

/* ---- the whole ------------------------------------------------------------------------------ */

/* Instances of one protocol are called tcp, tcp-2, …: the name says which protocol it is. */
static int ptcl_from_instance(struct options *options)
{
    char name[sizeof(options->instance)];

    memcpy(name, options->instance, sizeof(name));
    name[strcspn(name, "-")] = '\0';
    if (ptcl_by_name(name) == NULL) {
        return options_error(
            "--instance %s does not begin with a transport protocol; say which "
            "by --ptcl",
            options->instance);
    }
    return parse_ptcl(options, name);
}

static int options_complete(struct options *options)
{
    if (options->transport == NULL && options->instance[0] != '\0') {
        return ptcl_from_instance(options);
    }
    if (options->transport == NULL) {
        return options->action == OPTIONS_RUN || options->action == OPTIONS_DETACH
                   ? options_error("--ptcl is missing (see --help)")
                   : 0;
    }
    if (options->instance[0] == '\0') {
        snprintf(options->instance, sizeof(options->instance), "%s",
                 ptcl_by_number(options->transport->ptcl)->name);
    }
    return 0;
}

int options_parse(struct options *options, int argc, char **argv)
{
    int option;

    *options =
        (struct options){.action = OPTIONS_RUN, .plane = -1, .attach = ATTACH_AUTO, .ready_fd = -1};
    optind = 0; /* a whole new scan, also a second time (glibc) */
    while ((option = getopt_long(argc, argv, "c:", long_options, NULL)) != -1) {
        int result = parse_option(options, option, optarg);
        if (result < 0) {
            return result;
        }
    }
    if (optind < argc) {
        return options_error("%s: not an option (see --help)", argv[optind]);
    }
    return options_complete(options);
}
