/*
 * socksd: the control daemon. It judges what clients ask for and orders relays from relayd; it
 * never sees a packet of theirs.
 */
#include <stdio.h>
#include <stdlib.h>

#include "common/log/log.h"
#include "common/system/service.h"
#include "socksd/config.h"
#include "socksd/options.h"
#include "socksd/server.h"

static int load(struct socksd_config *config, const struct options *options)
{
    struct config_error error;
    const int rc = socksd_config_load(config, options->config, &error);

    if (rc < 0)
        fprintf(stderr, "socksd: %s\n", error.text);
    return rc;
}

static int serve(const struct options *options, const struct socksd_config *config)
{
    struct server *server = NULL;

    log_setup("socksd", (enum log_level)config->log.level, (enum log_format)config->log.format);
    int rc = options->ready_fd < 0 ? 0 : service_ready_fd(options->ready_fd);
    if (rc < 0)
        LOG(LOG_LEVEL_ERROR, "start-failed", LOG_S("what", "--ready-fd"), LOG_ERRNO(rc));
    if (rc == 0)
        rc = server_new(&server, config);
    if (rc == 0)
        rc = server_run(server);
    server_free(server);
    return rc;
}

int main(int argc, char **argv)
{
    struct options options;
    struct socksd_config config = {0};
    int rc = options_parse(&options, argc, argv);

    if (rc == 0 && options.action == OPTIONS_HELP) {
        options_help();
    } else if (rc == 0 && options.action == OPTIONS_VERSION) {
        puts("socksd " SOCKST_VERSION);
    } else if (rc == 0 && options.action == OPTIONS_HELP_CONFIG) {
        config_help(socksd_schema, stdout);
    } else if (rc == 0 && (rc = load(&config, &options)) == 0) {
        if (options.action == OPTIONS_PRINT_CONFIG)
            config_print(socksd_schema, &config, stdout);
        else if (options.action == OPTIONS_RUN)
            rc = serve(&options, &config);
        socksd_config_free(&config);
    }
    return rc < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
