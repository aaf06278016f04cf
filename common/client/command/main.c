/*
 * sockst: the client. See sockst(1).
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/client/command/command.h"

static int command_help(const struct options *options)
{
    (void)options;
    fputs(options_help, stdout);
    return EXIT_COMPLETE;
}

static int command_version(const struct options *options)
{
    (void)options;
    puts("sockst " SOCKST_VERSION);
    return EXIT_COMPLETE;
}

static int (*const commands[COMMAND_END])(const struct options *options) = {
    [COMMAND_HELP] = command_help,       [COMMAND_VERSION] = command_version,
    [COMMAND_CONNECT] = command_connect, [COMMAND_BIND] = command_connect,
    [COMMAND_UDP] = command_udp,         [COMMAND_FORWARD] = command_forward,
    [COMMAND_PROBE] = command_probe,
};

int main(int argc, char **argv)
{
    struct options options;
    char why[OPTIONS_WHY_MAX];
    if (options_parse(argc, argv, getenv("SOCKST_PROXY"), &options, why) < 0) {
        command_say("%s", why);
        return EXIT_USAGE;
    }
    signal(SIGPIPE, SIG_IGN);
    return commands[options.command](&options);
}
