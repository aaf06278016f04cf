/*
 * relayd: carries the packets of one transport protocol for socksd.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "relayd/daemon.h"
#include "relayd/plane/bpf/program.h"

static int load(struct relayd_config *config, const struct options *options)
{
    struct config_error error;
    int result =
        options->config == NULL
            ? config_load_text(relayd_schema, config, sizeof(*config), "defaults", "{}", 2, &error)
            : config_load_file(relayd_schema, config, sizeof(*config), options->config, &error);
    if (result < 0) {
        fprintf(stderr, "relayd: %s\n", error.text);
    }
    return result;
}

static int serve(const struct options *options, const struct relayd_config *config)
{
    struct daemon *daemon = NULL;

    log_setup("relayd", (enum log_level)config->log.level, (enum log_format)config->log.format);
    int result = daemon_new(&daemon, options, config);
    if (result == 0) {
        result = daemon_run(daemon);
    }
    daemon_free(daemon);
    return result;
}

/* What ExecStopPost= does. */
static int detach(const struct options *options)
{
    log_setup("relayd", LOG_LEVEL_NOTICE, LOG_FORMAT_TEXT);
    int result = program_remove_stubs(options->instance);
    if (result < 0) {
        fprintf(stderr, "relayd: --detach: %s\n", strerror(-result));
    }
    return result;
}

int main(int argc, char **argv)
{
    struct options options;
    struct relayd_config config = {0};
    int result = options_parse(&options, argc, argv);

    if (result == 0 && options.action == OPTIONS_HELP) {
        options_help();
    } else if (result == 0 && options.action == OPTIONS_VERSION) {
        puts("relayd " SOCKST_VERSION);
    } else if (result == 0 && options.action == OPTIONS_HELP_CONFIG) {
        config_help(relayd_schema, stdout);
    } else if (result == 0 && options.action == OPTIONS_DETACH) {
        result = detach(&options);
    } else if (result == 0 && (result = load(&config, &options)) == 0) {
        if (options.action == OPTIONS_PRINT_CONFIG) {
            config_print(relayd_schema, &config, stdout);
        } else if (options.action == OPTIONS_RUN) {
            result = serve(&options, &config);
        }
        config_free(relayd_schema, &config);
    }
    return result < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
