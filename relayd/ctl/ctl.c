#include "relayd/ctl/ctl.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define DIRECTORY_DEFAULT "/run/sockst/admin"
#define TIMEOUT_DEFAULT_S 5
#define TIMEOUT_MAX_S 3600

static const struct command {
    const char *name, *arguments, *help;
    int min, max;
    int (*run)(const struct ctl *ctl, char **arguments, int count);
} commands[] = {
    {"status", "", "what each daemon is and how it does", 0, 0, ctl_status},
    {"relays", "[FILTER...]", "every relay, or those that match every filter", 0, 5, ctl_relays},
    {"show", "ID", "one relay, with everything that is known of it", 1, 1, ctl_show},
    {"close", "ID", "end a relay; its control connection closes", 1, 1, ctl_close},
};

#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

void ctl_error(const struct ctl *ctl, const char *format, ...)
{
    va_list arguments;

    fputs("relayctl: ", ctl->err);
    va_start(arguments, format);
    vfprintf(ctl->err, format, arguments);
    va_end(arguments);
    fputc('\n', ctl->err);
}

static void print_help(FILE *to)
{
    fputs("usage: relayctl [--json] [--dir DIR] [--timeout SECONDS] COMMAND\n\ncommands:\n", to);
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(to, "  %-6s %-11s  %s\n", commands[i].name, commands[i].arguments,
                commands[i].help);
    fprintf(to,
            "\nfilters: kind=KIND plane=PLANE source=ADDRESS destination=ADDRESS user=NAME\n\n"
            "options:\n"
            "  --json             one JSON array (show, close: one object)\n"
            "  --dir DIR          where the admin sockets are; default $SOCKST_ADMIN_DIR,\n"
            "                     else %s\n"
            "  --timeout SECONDS  for each read, 1-%d, default %d\n"
            "  --help, --version\n\n"
            "exit status: 0 done; 1 not found or refused; 2 a daemon could not be reached;\n"
            "64 usage\n",
            DIRECTORY_DEFAULT, TIMEOUT_MAX_S, TIMEOUT_DEFAULT_S);
}

static bool parse_timeout(const char *text, unsigned *out_ms)
{
    size_t length = strlen(text);
    bool digits = length > 0 && length < 5 && strspn(text, "0123456789") == length;
    unsigned seconds = digits ? (unsigned)strtoul(text, NULL, 10) : 0;

    *out_ms = seconds * 1000;
    return seconds > 0 && seconds <= TIMEOUT_MAX_S;
}

enum outcome { GO_ON, STOP_OK, STOP_USAGE };

static enum outcome parse_option(struct ctl *ctl, int option, const char *argument)
{
    switch (option) {
    case 'j':
        ctl->json = true;
        return GO_ON;
    case 'd':
        ctl->directory = optarg;
        return GO_ON;
    case 't':
        if (parse_timeout(optarg, &ctl->timeout_ms))
            return GO_ON;
        ctl_error(ctl, "--timeout %s: expected 1-%d seconds", optarg, TIMEOUT_MAX_S);
        return STOP_USAGE;
    case 'h':
        print_help(ctl->out);
        return STOP_OK;
    case 'v':
        fprintf(ctl->out, "relayctl %s\n", SOCKST_VERSION);
        return STOP_OK;
    case ':':
        ctl_error(ctl, "%s needs a value", argument);
        return STOP_USAGE;
    default:
        ctl_error(ctl, "%s: no such option; see --help", argument);
        return STOP_USAGE;
    }
}

static enum outcome parse_options(struct ctl *ctl, int argc, char **argv)
{
    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'},          {"dir", required_argument, NULL, 'd'},
        {"timeout", required_argument, NULL, 't'}, {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},       {0},
    };
    enum outcome outcome = GO_ON;
    int option;

    optind = 0; /* start afresh, also in a process that ran us before */
    opterr = 0;
    while (outcome == GO_ON && (option = getopt_long(argc, argv, ":", options, NULL)) != -1)
        outcome = parse_option(ctl, option, argv[optind - 1]);
    return outcome;
}

static int run_command(const struct ctl *ctl, char **words, int count)
{
    for (size_t i = 0; count > 0 && i < COMMANDS; i++) {
        const struct command *command = &commands[i];

        if (strcmp(words[0], command->name) != 0)
            continue;
        if (count - 1 >= command->min && count - 1 <= command->max)
            return command->run(ctl, words + 1, count - 1);
        ctl_error(ctl, "usage: relayctl %s %s", command->name, command->arguments);
        return CTL_USAGE;
    }
    if (count > 0)
        ctl_error(ctl, "%s: no such command; see --help", words[0]);
    else
        ctl_error(ctl, "no command given; see --help");
    return CTL_USAGE;
}

int ctl_run(int argc, char **argv, FILE *out, FILE *err)
{
    const char *directory = getenv("SOCKST_ADMIN_DIR");
    struct ctl ctl = {
        .directory = directory && directory[0] ? directory : DIRECTORY_DEFAULT,
        .timeout_ms = TIMEOUT_DEFAULT_S * 1000,
        .out = out,
        .err = err,
    };

    switch (parse_options(&ctl, argc, argv)) {
    case STOP_OK:
        return fflush(out) == 0 ? CTL_OK : CTL_FAILED;
    case STOP_USAGE:
        return CTL_USAGE;
    default:
        return run_command(&ctl, argv + optind, argc - optind);
    }
}
